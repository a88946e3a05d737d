//! Makes PE files for tests: the default image of the conformance cases, with any field of its
//! headers overridden, and their two presets (spec API 22).
//!
//! A [`PeBuilder`] knows every field by the name the cases use: `dos.e_lfanew`, `nt.Signature`,
//! `ne.exetyp`, `file.Machine`, `opt.SizeOfImage`, `dir[5].VirtualAddress`,
//! `section[2].PointerToRawData`. A field of the optional header may go without its `opt.`. What
//! is not overridden follows from the rest, as it would in a file that a linker wrote; what is
//! overridden is written as it is, however wrong, after everything else.
//!
//! ```
//! use ntmm_image::build::{Architecture, PeBuilder};
//!
//! let mut image = PeBuilder::new(Architecture::Amd64);
//! image.set("opt.AddressOfEntryPoint", 0x1234)?;
//! let file = image.build();
//! assert_eq!(file[..2], *b"MZ");
//! # Ok::<(), ntmm_image::build::UnknownField>(())
//! ```
#![allow(clippy::indexing_slicing, reason = "the builder writes to buffers it has sized itself")]

mod fields;
mod hostile;
mod invariants;
mod presets;

use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

pub use fields::{
    DirectoryField, DosField, Field, NewField, OptionalField, SectionField, UnknownField,
};
pub use hostile::hostile;
pub use invariants::{Broken, check};
pub use presets::Preset;

/// What a file is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// A PE32 image.
    I386,
    /// A PE32+ image.
    Amd64,
}

impl Architecture {
    /// The architecture the cases call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "i386" => Some(Self::I386),
            "amd64" => Some(Self::Amd64),
            _ => None,
        }
    }

    const fn machine(self) -> u64 {
        match self {
            Self::I386 => 0x14C,
            Self::Amd64 => 0x8664,
        }
    }

    const fn magic(self) -> u64 {
        match self {
            Self::I386 => 0x10B,
            Self::Amd64 => 0x20B,
        }
    }

    /// Bytes of the optional header with its sixteen directories.
    const fn optional_header(self) -> u64 {
        match self {
            Self::I386 => 224,
            Self::Amd64 => 240,
        }
    }

    /// `EXECUTABLE_IMAGE` and `DLL`, and `32BIT_MACHINE` or `LARGE_ADDRESS_AWARE`.
    const fn characteristics(self) -> u64 {
        match self {
            Self::I386 => 0x2102,
            Self::Amd64 => 0x2022,
        }
    }
}

/// A section to be. The default is the default image's `.rodata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Up to eight bytes of name.
    pub name: String,
    /// `VirtualSize`.
    pub virtual_size: u32,
    /// `VirtualAddress`.
    pub virtual_address: u32,
    /// `SizeOfRawData`.
    pub size_of_raw_data: u32,
    /// `PointerToRawData`.
    pub pointer_to_raw_data: u32,
    /// `Characteristics`.
    pub characteristics: u32,
    /// Bytes to write at `pointer_to_raw_data`; the rest of the raw data is zero.
    pub data: Vec<u8>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            name: String::from(".rodata"),
            virtual_size: 0x1000,
            virtual_address: 0x1000,
            size_of_raw_data: 0x10,
            pointer_to_raw_data: 0x1000,
            characteristics: 0x4000_0040,
            data: Vec::new(),
        }
    }
}

/// A base relocation table: for each block the RVA its places are counted from, and its entries,
/// `kind << 12 | offset`. Blocks are filled up to a multiple of four bytes.
#[must_use]
pub fn relocation_table(blocks: &[(u32, &[u16])]) -> Vec<u8> {
    let mut table = Vec::new();
    for &(base, entries) in blocks {
        let padded = entries.len().next_multiple_of(2);
        table.extend(base.to_le_bytes());
        table.extend((8 + 2 * padded as u32).to_le_bytes());
        table.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
        table.resize(table.len() + 2 * (padded - entries.len()), 0);
    }
    table
}

/// A CLR header to put at the start of the first section, which grows to hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clr {
    /// `MajorRuntimeVersion`.
    pub major: u16,
    /// `MinorRuntimeVersion`.
    pub minor: u16,
    /// `Flags`.
    pub flags: u32,
}

/// Bytes of a CLR header.
const CLR_HEADER: usize = 72;

/// Where the new header goes when `e_lfanew` is not overridden with something sensible.
const NEW_HEADER: u64 = 0x40;

/// New headers further into the file than this are only claimed, not written.
const FURTHEST_NEW_HEADER: u64 = 0x1_0000;

/// Raw data that ends further into the file than this is only claimed, not written.
const FURTHEST_DATA: u64 = 0x400_0000;

/// Bytes of a DOS header, of what precedes the optional header, and of a section header.
const DOS_HEADER: usize = 0x40;
const BEFORE_OPTIONAL: u64 = 24;
const SECTION_HEADER: u64 = 40;

/// A PE file in the making.
#[derive(Clone, Debug)]
pub struct PeBuilder {
    architecture: Architecture,
    overrides: BTreeMap<Field, u64>,
    sections: Vec<Section>,
    clr: Option<Clr>,
}

impl PeBuilder {
    /// The default image: one read-only section of a page.
    #[must_use]
    pub fn new(architecture: Architecture) -> Self {
        Self {
            architecture,
            overrides: BTreeMap::new(),
            sections: vec![Section::default()],
            clr: None,
        }
    }

    /// Overrides a field. What does not fit in it is cut off.
    ///
    /// # Errors
    /// There is no field of that name.
    pub fn set(&mut self, name: &str, value: u64) -> Result<&mut Self, UnknownField> {
        Ok(self.set_field(Field::parse(name)?, value))
    }

    /// Overrides a field. What does not fit in it is cut off.
    pub fn set_field(&mut self, field: Field, value: u64) -> &mut Self {
        let (_, width) = self.location(field);
        self.overrides.insert(field, value & (u64::MAX >> (64 - 8 * width)));
        self
    }

    /// Replaces the sections.
    pub fn sections(&mut self, sections: Vec<Section>) -> &mut Self {
        self.sections = sections;
        self
    }

    /// Puts a CLR header into the image.
    pub fn clr(&mut self, clr: Clr) -> &mut Self {
        self.clr = Some(clr);
        self
    }

    /// The value a field has in the file.
    #[must_use]
    pub fn value(&self, field: Field) -> u64 {
        self.overrides.get(&field).copied().unwrap_or_else(|| self.default_value(field))
    }

    /// The value of the field called `name`.
    ///
    /// # Errors
    /// There is no field of that name.
    pub fn value_of(&self, name: &str) -> Result<u64, UnknownField> {
        Field::parse(name).map(|field| self.value(field))
    }

    /// Where a field lies, in the file and in the mapped headers: its offset and its bytes.
    #[must_use]
    pub fn location(&self, field: Field) -> (usize, usize) {
        let at = |base: u64, (offset, width): (usize, usize)| (base as usize + offset, width);
        match field {
            Field::Dos(name) => at(0, name.place()),
            Field::New(name) => at(self.new_header(), name.place()),
            Field::Optional(name) => at(self.optional_header(), name.place(self.architecture)),
            Field::Directory(index, name) => {
                let table = self.optional_header() + self.architecture.optional_header() - 128;
                at(table + index as u64 * 8, name.place())
            }
            Field::Section(index, name) => {
                at(self.section_table() + index as u64 * SECTION_HEADER, name.place())
            }
        }
    }

    /// The file's bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let headers = self.section_table() + self.sections.len() as u64 * SECTION_HEADER;
        let length = self.sections.iter().filter_map(written_end).fold(headers, u64::max);
        let mut file = vec![0; length.max(DOS_HEADER as u64) as usize];
        for field in Field::all(self.sections.len()) {
            self.write(&mut file, field, self.default_value(field));
        }
        for (index, section) in self.sections.iter().enumerate() {
            let name = self.location(Field::Section(index, SectionField::Name)).0;
            let length = section.name.len().min(8);
            file[name..name + length].copy_from_slice(&section.name.as_bytes()[..length]);
        }
        for (&field, &value) in &self.overrides {
            self.write(&mut file, field, value);
        }
        for section in self.sections.iter().filter(|section| written_end(section).is_some()) {
            let start = section.pointer_to_raw_data as usize;
            file[start..start + section.data.len()].copy_from_slice(&section.data);
        }
        if let Some(clr) = self.clr {
            self.write_clr(&mut file, clr);
        }
        file
    }

    fn write(&self, file: &mut Vec<u8>, field: Field, value: u64) {
        let (offset, width) = self.location(field);
        if file.len() < offset + width {
            file.resize(offset + width, 0);
        }
        file[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    fn write_clr(&self, file: &mut Vec<u8>, clr: Clr) {
        let mut header = vec![0; CLR_HEADER];
        header[0..4].copy_from_slice(&(CLR_HEADER as u32).to_le_bytes());
        header[4..6].copy_from_slice(&clr.major.to_le_bytes());
        header[6..8].copy_from_slice(&clr.minor.to_le_bytes());
        header[16..20].copy_from_slice(&clr.flags.to_le_bytes());
        let start = self.sections.first().map_or(0, |section| section.pointer_to_raw_data as usize);
        if file.len() < start + CLR_HEADER {
            file.resize(start + CLR_HEADER, 0);
        }
        file[start..start + CLR_HEADER].copy_from_slice(&header);
    }

    /// Where the new header is written.
    fn new_header(&self) -> u64 {
        let claimed = self.overrides.get(&Field::Dos(DosField::NewHeader));
        let sensible = claimed.filter(|at| (0x10..=FURTHEST_NEW_HEADER).contains(*at));
        sensible.copied().unwrap_or(NEW_HEADER)
    }

    fn optional_header(&self) -> u64 {
        self.new_header() + BEFORE_OPTIONAL
    }

    fn section_table(&self) -> u64 {
        self.optional_header() + self.value(Field::New(NewField::SizeOfOptionalHeader))
    }

    /// The raw data of the first section has room for the CLR header.
    fn size_of_raw_data(&self, index: usize) -> u32 {
        let size = self.sections[index].size_of_raw_data;
        if index == 0 && self.clr.is_some() { size.max(CLR_HEADER as u32) } else { size }
    }
}

/// Where a section's raw data ends in the file, if it is written at all.
fn written_end(section: &Section) -> Option<u64> {
    let start = u64::from(section.pointer_to_raw_data);
    let length = (section.data.len() as u64).max(section.size_of_raw_data.into());
    let end = start + length;
    (start != 0 && length != 0 && end <= FURTHEST_DATA).then_some(end)
}
