//! Images: files that are built as such, and what NT makes of them (`pe.`).
//!
//! The headers of a file are read when a section is made of it as an image, as far as
//! `ntmm-image` asks for them; the manager gets the layout, and what a query of the section will
//! report is kept beside the section. Who asks about fields of an image (`@pe.F`) means the one
//! that was made or opened last.

use std::collections::BTreeMap;

use ntmm::NtStatus;
use ntmm::nt::section::{CapturedImage, FileAccess, SectionImageInformation};
use ntmm::platform::{FileId, PagingIo};
use ntmm::section::{Image, ImagePart};
use ntmm_image::build::{Architecture, Clr, Field, PeBuilder, Preset, Section};
use ntmm_image::{Host, HostMachine, ImageLayout, ParseError, Profile as ImageProfile, Version};
use ntmm_machine::Hardware;
use ntmm_pte::PAGE_SIZE;

use super::Windows;
use super::handles::OpenFile;
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Value, unfit};
use crate::version::{Profile, Width};

/// SEC_IMAGE.
const IMAGE: u32 = 0x100_0000;

/// What SEC_IMAGE_NO_EXECUTE has beside it.
const NO_EXECUTE: u32 = 0x1000_0000;

/// Distance of section headers.
const SECTION_HEADER: u32 = 40;

/// An image as a call captures it.
#[derive(Debug)]
pub enum ParsedImage {
    /// The call asks for none, or its file is none.
    None,
    /// What the headers deserve.
    Refused(NtStatus),
    /// The layout.
    Layout {
        /// Its file.
        file: FileId,
        /// The layout.
        layout: Box<ImageLayout>,
        /// Its parts as the manager takes them.
        parts: Vec<ImagePart>,
    },
}

impl ParsedImage {
    /// The image as a call takes it.
    pub fn borrow(&self) -> CapturedImage<'_> {
        match self {
            Self::None => Err(NtStatus::INVALID_FILE_FOR_SECTION),
            Self::Refused(status) => Err(*status),
            Self::Layout { file, layout, parts } => Ok(Image {
                file: *file,
                base: layout.base().get(),
                pages: layout.pages().get() as u32,
                parts,
                cleared_fields: cleared_fields(layout),
            }),
        }
    }

    /// What a query of a section of it reports.
    pub fn information(&self) -> Option<SectionImageInformation> {
        let Self::Layout { layout, .. } = self else { return None };
        let known = layout.information();
        let version = |version: Version| [version.minor, version.major];
        Some(SectionImageInformation {
            transfer_address: known.transfer_address,
            maximum_stack_size: known.maximum_stack_size,
            committed_stack_size: known.committed_stack_size,
            subsystem: known.subsystem.into(),
            subsystem_version: version(known.subsystem_version),
            system_version: version(known.operating_system_version),
            characteristics: known.image_characteristics,
            dll_characteristics: known.dll_characteristics,
            machine: known.machine,
            contains_code: known.contains_code,
            flags: known.flags.bits(),
            loader_flags: known.loader_flags,
            file_size: known.image_file_size,
            check_sum: known.check_sum,
        })
    }
}

/// The fields of the headers that read as zero, from the first to the last of them. Those between
/// belong to sections that have data, and stay.
fn cleared_fields(layout: &ImageLayout) -> Option<(u32, u32)> {
    let mut patches = layout.header_patches().map(|patch| patch.rva());
    let first = patches.next()?;
    let last = patches.last().unwrap_or(first);
    Some((first, (last - first) / SECTION_HEADER + 1))
}

fn parts_of(layout: &ImageLayout, attributes: u32) -> Vec<ImagePart> {
    let used = layout.subsections().iter().filter(|part| !part.used_pages().is_zero());
    used.map(|part| ImagePart {
        first_page: part.first_page().get() as u32,
        pages: part.used_pages().get() as u32,
        offset: part.data().offset().get(),
        bytes: part.data().length().get(),
        protection: if attributes & NO_EXECUTE == 0 {
            part.protection()
        } else {
            part.protection_without_execute()
        },
    })
    .collect()
}

/// What the fields of SECTION_IMAGE_INFORMATION are called in cases.
pub fn answer_of_image(answer: Answer, image: &SectionImageInformation) -> Answer {
    let flag = |bit: u8| u32::from(image.flags >> bit & 1);
    let [subsystem_minor, subsystem_major] = image.subsystem_version.map(u32::from);
    answer
        .with("TransferAddress", image.transfer_address)
        .with("ZeroBits", 0_u32)
        .with("MaximumStackSize", image.maximum_stack_size)
        .with("CommittedStackSize", image.committed_stack_size)
        .with("SubSystemType", image.subsystem)
        .with("SubSystemMinorVersion", subsystem_minor)
        .with("SubSystemMajorVersion", subsystem_major)
        .with("ImageCharacteristics", u32::from(image.characteristics))
        .with("DllCharacteristics", u32::from(image.dll_characteristics))
        .with("Machine", u32::from(image.machine))
        .with("ImageContainsCode", u32::from(image.contains_code))
        .with("ImageFlags", u32::from(image.flags))
        .with("ImageFlags.ComPlusNativeReady", flag(0))
        .with("ImageFlags.ComPlusILOnly", flag(1))
        .with("ImageFlags.ImageDynamicallyRelocated", flag(2))
        .with("ImageFlags.ImageMappedFlat", flag(3))
        .with("ImageFlags.BaseBelow4gb", flag(4))
        .with("ImageFlags.ComPlusPrefer32bit", flag(5))
        .with("LoaderFlags", image.loader_flags)
        .with("ImageFileSize", image.file_size)
        .with("CheckSum", image.check_sum)
}

const fn native(width: Width) -> Architecture {
    match width {
        Width::Bits32 => Architecture::I386,
        Width::Bits64 => Architecture::Amd64,
    }
}

/// An image that comes with the system: code, data and resources, 96 KiB in all.
pub fn system_image<M: Hardware>() -> PeBuilder {
    let section = |name: &str, start: u32, size: u32, characteristics: u32| Section {
        name: name.to_owned(),
        virtual_size: size,
        virtual_address: start,
        size_of_raw_data: size,
        pointer_to_raw_data: start,
        characteristics,
        data: Vec::new(),
    };
    let width = if M::ADDRESS_BITS == 32 { Width::Bits32 } else { Width::Bits64 };
    let mut image = PeBuilder::new(native(width));
    image.sections(vec![
        section(".text", 0x1000, 0x8000, 0x6000_0020),
        section(".data", 0x9000, 0x2000, 0xC000_0040),
        section(".rsrc", 0xB000, 0xD000, 0x4000_0040),
    ]);
    if let Ok(size) = Field::parse("opt.SizeOfImage") {
        image.set_field(size, 0x1_8000);
    }
    image
}

fn number(name: &str, value: &Value) -> Result<u64, Refusal> {
    match value {
        Value::Integer(number) => Ok(*number as u64),
        other => Err(unfit(name, other)),
    }
}

fn section_of(fields: &BTreeMap<String, Value>) -> Result<Section, Refusal> {
    let mut section = Section::default();
    for (name, value) in fields {
        if let ("name", Value::Text(text)) = (name.as_str(), value) {
            section.name.clone_from(text);
            continue;
        }
        let number = number(name, value)? as u32;
        match name.as_str() {
            "VirtualSize" => section.virtual_size = number,
            "VirtualAddress" => section.virtual_address = number,
            "SizeOfRawData" => section.size_of_raw_data = number,
            "PointerToRawData" => section.pointer_to_raw_data = number,
            "Characteristics" => section.characteristics = number,
            _ => return Err(unfit(name, value)),
        }
    }
    Ok(section)
}

fn clr_of(value: &Value) -> Result<Clr, Refusal> {
    let Value::Structure(fields) = value else { return Err(unfit("clr", value)) };
    let field = |name: &str| number(name, fields.get(name).unwrap_or(&Value::Nothing));
    Ok(Clr {
        major: field("Major")? as u16,
        minor: field("Minor")? as u16,
        flags: field("Flags")? as u32,
    })
}

/// The image that the arguments of `pe.build` describe.
fn build(arguments: &Arguments) -> Result<PeBuilder, Refusal> {
    let text = |name: &str| match arguments.get(name) {
        Some(_) => arguments.text(name).map(Some),
        None => Ok(None),
    };
    let unknown = |name: &str| Refusal::Unknown(format!("nobody builds images for {name}"));
    let architecture = match text("arch")? {
        Some(name) => Architecture::from_name(name).ok_or_else(|| unknown(name))?,
        None => native(arguments.width),
    };
    let mut image = match text("preset")? {
        Some(name) => Preset::from_name(name).ok_or_else(|| unknown(name))?.builder(),
        None => PeBuilder::new(architecture),
    };
    for (name, value) in arguments.iter() {
        match (name, value) {
            ("arch" | "preset", _) => {}
            ("sections", Value::List(sections)) => {
                let sections = sections.iter().map(|section| match section {
                    Value::Structure(fields) => section_of(fields),
                    other => Err(unfit(name, other)),
                });
                image.sections(sections.collect::<Result<_, _>>()?);
            }
            ("clr", value) => {
                image.clr(clr_of(value)?);
            }
            (name, value) => {
                let set = image.set(name, number(name, value)?);
                set.map_err(|error| Refusal::Unknown(error.to_string()))?;
            }
        }
    }
    Ok(image)
}

impl<M: Hardware> Windows<M> {
    pub(super) fn image_call(
        &mut self,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        match name {
            "pe.build" => {
                let path = format!("image{}", self.files.records.len());
                let file = self.add_image(&path, build(arguments)?);
                let (access, share) = (FileAccess::all(), 7);
                Ok(self.opened(OpenFile { file, access, share }))
            }
            "pe.header_field" => self.read_field(arguments),
            "pe.field" => {
                let value = self.field_of_image(arguments.text("field")?)?;
                Ok(Answer::returned(NtStatus::SUCCESS).with("value", value))
            }
            _ => Err(Refusal::Unknown(format!("nobody makes the call {name}"))),
        }
    }

    /// The image that was made or opened last.
    fn last_image(&self) -> Result<(FileId, &PeBuilder), Refusal> {
        let last = self.files.last.map(|file| &self.files.records[file]);
        last.and_then(|record| Some((record.id, record.image.as_ref()?)))
            .ok_or_else(|| Refusal::Unknown("no image was made or opened".to_owned()))
    }

    fn field_of_image(&self, name: &str) -> Result<u64, Refusal> {
        let (file, image) = self.last_image()?;
        let field =
            |name: &str| image.value_of(name).map_err(|error| Refusal::Unknown(error.to_string()));
        match name {
            "filesize" => {
                let size = self.host.manager().platform().file_size(file);
                size.map_err(|status| Refusal::Stopped(format!("a file has no size: {status}")))
            }
            "imagesize" => field("opt.SizeOfImage").map(|size| size.next_multiple_of(PAGE_SIZE)),
            "to_page_end" => field("opt.SizeOfHeaders").map(|size| PAGE_SIZE - size % PAGE_SIZE),
            // The machine that images are made for when nothing is said.
            "template" => field("file.Machine"),
            _ => field(&format!("opt.{name}")),
        }
    }

    /// A field of the headers as they are mapped.
    fn read_field(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let view = arguments.word("view")?;
        let field = Field::parse(arguments.text("field")?)
            .map_err(|error| Refusal::Unknown(error.to_string()))?;
        let (offset, width) = self.last_image()?.1.location(field);
        let address = Value::from(view + offset as u64);
        let read = Arguments::new(arguments.mode, arguments.width).with("addr", address);
        self.pseudo_call(&format!("mem.read{}", 8 * width), &read)
    }

    /// What the headers of the file of a call say, if it asks for an image.
    pub(super) fn capture_image(
        &self,
        arguments: &Arguments,
        attributes: u32,
    ) -> Result<ParsedImage, Refusal> {
        let Some(Ok(open)) = self.file_argument(arguments, "FileHandle")? else {
            return Ok(ParsedImage::None);
        };
        let (Ok(file), true) = (open.file, attributes & IMAGE != 0) else {
            return Ok(ParsedImage::None);
        };
        let machine = self.host.manager().platform();
        let size = match machine.file_size(file) {
            Ok(size) => size,
            Err(status) => return Ok(ParsedImage::Refused(status)),
        };
        let host = Host {
            machine: match arguments.width {
                Width::Bits32 => HostMachine::I386,
                Width::Bits64 => HostMachine::Amd64,
            },
            profile: match self.profile {
                Profile::Legacy => ImageProfile::Legacy,
                Profile::Modern => ImageProfile::Modern,
            },
        };
        let read = |offset, buffer: &mut [u8]| machine.read_file(file, offset, buffer).map(drop);
        Ok(match ImageLayout::parse(size, host, read) {
            Ok(layout) => {
                let parts = parts_of(&layout, attributes);
                ParsedImage::Layout { file, layout: Box::new(layout), parts }
            }
            Err(ParseError::Image(error)) => ParsedImage::Refused(NtStatus::new(error.status())),
            Err(ParseError::Read(status)) => ParsedImage::Refused(status),
        })
    }
}
