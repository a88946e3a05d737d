//! The two images the cases know by name (spec API 22).

use std::string::String;
use std::vec::Vec;
use std::{iter, vec};

use super::{Architecture, DosField, Field, OptionalField, PeBuilder, Section};

/// An image with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// `rawsize`: raw data that is longer, shorter and emptier than its sections.
    RawSize,
    /// `dataimage`: an image that is looked at as data too.
    DataImage,
}

/// Characteristics of sections: code; initialised data, read-only and writable; writable zeros.
const CODE: u32 = 0x6000_0020;
const READ_ONLY: u32 = 0x4000_0040;
const WRITABLE: u32 = 0xC000_0040;
const ZEROS: u32 = 0xC000_0080;

impl Preset {
    /// The preset the cases call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "rawsize" => Some(Self::RawSize),
            "dataimage" => Some(Self::DataImage),
            _ => None,
        }
    }

    /// The image, ready to be overridden further.
    #[must_use]
    pub fn builder(self) -> PeBuilder {
        let mut image = PeBuilder::new(Architecture::I386);
        let (size, fields) = match self {
            Self::RawSize => {
                image.sections(raw_size_sections());
                (0x6000, [(OptionalField::ImageBase, 0x0E40_0000)].as_slice())
            }
            Self::DataImage => {
                image.sections(data_image_sections());
                (0x8_1000, [].as_slice())
            }
        };
        let common = [
            (OptionalField::FileAlignment, 0x200),
            (OptionalField::SizeOfHeaders, 0x400),
            (OptionalField::SizeOfImage, size),
        ];
        let all = common.iter().chain(fields);
        image.overrides.extend(all.map(|&(field, value)| (Field::Optional(field), value)));
        if self == Self::DataImage {
            // Linkers write 0x90 for the bytes on the DOS program's last page.
            image.overrides.insert(Field::Dos(DosField::LastPageBytes), 0x90);
        }
        image
    }
}

fn section(
    name: &str,
    (virtual_size, virtual_address): (u32, u32),
    (size_of_raw_data, pointer_to_raw_data): (u32, u32),
    characteristics: u32,
    data: Vec<u8>,
) -> Section {
    Section {
        name: String::from(name),
        virtual_size,
        virtual_address,
        size_of_raw_data,
        pointer_to_raw_data,
        characteristics,
        data,
    }
}

/// Runs of equal bytes.
fn runs(runs: &[(u8, usize)]) -> Vec<u8> {
    runs.iter().flat_map(|&(byte, count)| iter::repeat_n(byte, count)).collect()
}

fn raw_size_sections() -> Vec<Section> {
    let text = runs(&[
        (0xC3, 1),
        (0x00, 7),
        (0x01, 8),
        (0x02, 16),
        (0x03, 32),
        (0x04, 64),
        (0x05, 128),
        (0x06, 256),
        (0x07, 512),
        (0x08, 1024),
        (0x09, 1024),
        (0x0A, 1024),
        (0x0B, 512),
    ]);
    let mut data = vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];
    data.extend(runs(&[
        (0xAA, 8),
        (0xBB, 16),
        (0xCC, 32),
        (0xDD, 64),
        (0xEE, 128),
        (0xFF, 256),
        (0xEE, 512),
        (0xDD, 1024),
        (0xCC, 1024),
        (0xBB, 1024),
        (0xAA, 512),
    ]));
    let mut resources =
        runs(&[(0xFF, 256), (0xEE, 128), (0xDD, 64), (0xCC, 32), (0xBB, 16), (0xAA, 8)]);
    resources.extend([0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01]);
    vec![
        section(".text", (0x1000, 0x1000), (0x1200, 0x400), CODE, text),
        section(".data", (0x100, 0x2000), (0x1200, 0x1600), WRITABLE, data),
        section(".zdata", (0x100, 0x3000), (0, 0x2800), WRITABLE, Vec::new()),
        section(".rsrc", (0x300, 0x4000), (0x200, 0x2800), READ_ONLY, resources),
        section(".bss", (0x400, 0x5000), (0x600, 0), ZEROS, Vec::new()),
    ]
}

/// A section of code fills the address space up to `.data`.
fn data_image_sections() -> Vec<Section> {
    vec![
        section(".text", (0x7_F000, 0x1000), (0x400, 0x400), CODE, vec![0xC3]),
        section(".data", (0x1000, 0x8_0000), (0x200, 0x800), WRITABLE, Vec::new()),
    ]
}
