//! The fields of a PE file's headers: their names, where they lie, and what they are by default.

use core::fmt;
use std::borrow::ToOwned;
use std::string::String;

use super::{Architecture, CLR_HEADER, NEW_HEADER, PeBuilder, SECTION_HEADER};

/// A name that is no field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField(
    /// The name.
    pub String,
);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a PE file has no field {}", self.0)
    }
}

impl core::error::Error for UnknownField {}

/// Declares the fields of one header: name in code, name in cases, place, bytes.
macro_rules! fields {
    ($(#[$doc:meta])* $enum:ident { $($field:ident $name:literal $offset:literal $width:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the fields have the names of the PE format")]
        pub enum $enum { $($field,)* }

        impl $enum {
            const ALL: &[Self] = &[$(Self::$field,)*];

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)*
                    _ => None,
                }
            }

            /// Offset in the header and bytes.
            pub(super) const fn place(self) -> (usize, usize) {
                match self {
                    $(Self::$field => ($offset, $width),)*
                }
            }
        }
    };
}

fields! {
    /// Of the DOS header.
    DosField {
        Magic "e_magic" 0x00 2;
        LastPageBytes "e_cblp" 0x02 2;
        RelocationTable "e_lfarlc" 0x18 2;
        NewHeader "e_lfanew" 0x3C 4;
    }
}

fields! {
    /// Of the new header, up to the optional header; and of an NE header at its place.
    NewField {
        Signature "Signature" 0x00 4;
        Machine "Machine" 0x04 2;
        NumberOfSections "NumberOfSections" 0x06 2;
        TimeDateStamp "TimeDateStamp" 0x08 4;
        PointerToSymbolTable "PointerToSymbolTable" 0x0C 4;
        NumberOfSymbols "NumberOfSymbols" 0x10 4;
        SizeOfOptionalHeader "SizeOfOptionalHeader" 0x14 2;
        Characteristics "Characteristics" 0x16 2;
        NeTargetSystem "exetyp" 0x36 1;
    }
}

/// Declares the fields of the optional header, whose places depend on its format.
macro_rules! optional_fields {
    ($($field:ident $name:literal $offset:literal $width:literal, $offset64:literal $width64:literal;)*) => {
        /// Of the optional header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the fields have the names of the PE format")]
        pub enum OptionalField { $($field,)* }

        impl OptionalField {
            const ALL: &[Self] = &[$(Self::$field,)*];

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)*
                    _ => None,
                }
            }

            /// Offset in the header and bytes.
            pub(super) const fn place(self, architecture: Architecture) -> (usize, usize) {
                match (self, architecture) {
                    $(
                        (Self::$field, Architecture::I386) => ($offset, $width),
                        (Self::$field, Architecture::Amd64) => ($offset64, $width64),
                    )*
                }
            }
        }
    };
}

optional_fields! {
    Magic "Magic" 0 2, 0 2;
    SizeOfCode "SizeOfCode" 4 4, 4 4;
    SizeOfInitializedData "SizeOfInitializedData" 8 4, 8 4;
    SizeOfUninitializedData "SizeOfUninitializedData" 12 4, 12 4;
    AddressOfEntryPoint "AddressOfEntryPoint" 16 4, 16 4;
    BaseOfCode "BaseOfCode" 20 4, 20 4;
    ImageBase "ImageBase" 28 4, 24 8;
    SectionAlignment "SectionAlignment" 32 4, 32 4;
    FileAlignment "FileAlignment" 36 4, 36 4;
    MajorOperatingSystemVersion "MajorOperatingSystemVersion" 40 2, 40 2;
    MinorOperatingSystemVersion "MinorOperatingSystemVersion" 42 2, 42 2;
    MajorImageVersion "MajorImageVersion" 44 2, 44 2;
    MinorImageVersion "MinorImageVersion" 46 2, 46 2;
    MajorSubsystemVersion "MajorSubsystemVersion" 48 2, 48 2;
    MinorSubsystemVersion "MinorSubsystemVersion" 50 2, 50 2;
    Win32VersionValue "Win32VersionValue" 52 4, 52 4;
    SizeOfImage "SizeOfImage" 56 4, 56 4;
    SizeOfHeaders "SizeOfHeaders" 60 4, 60 4;
    CheckSum "CheckSum" 64 4, 64 4;
    Subsystem "Subsystem" 68 2, 68 2;
    DllCharacteristics "DllCharacteristics" 70 2, 70 2;
    SizeOfStackReserve "SizeOfStackReserve" 72 4, 72 8;
    SizeOfStackCommit "SizeOfStackCommit" 76 4, 80 8;
    SizeOfHeapReserve "SizeOfHeapReserve" 80 4, 88 8;
    SizeOfHeapCommit "SizeOfHeapCommit" 84 4, 96 8;
    LoaderFlags "LoaderFlags" 88 4, 104 4;
    NumberOfRvaAndSizes "NumberOfRvaAndSizes" 92 4, 108 4;
}

fields! {
    /// Of a data directory.
    DirectoryField {
        VirtualAddress "VirtualAddress" 0 4;
        Size "Size" 4 4;
    }
}

fields! {
    /// Of a section header.
    SectionField {
        Name "Name" 0 8;
        VirtualSize "VirtualSize" 8 4;
        VirtualAddress "VirtualAddress" 12 4;
        SizeOfRawData "SizeOfRawData" 16 4;
        PointerToRawData "PointerToRawData" 20 4;
        Characteristics "Characteristics" 36 4;
    }
}

/// Directories an optional header has.
const DIRECTORIES: usize = 16;

/// The CLR header's directory.
const CLR_DIRECTORY: usize = 14;

/// A field of a PE file's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Of the DOS header.
    Dos(DosField),
    /// Of what is between it and the optional header.
    New(NewField),
    /// Of the optional header.
    Optional(OptionalField),
    /// Of the data directory of an index.
    Directory(usize, DirectoryField),
    /// Of the header of the section of an index.
    Section(usize, SectionField),
}

impl Field {
    /// The field the cases call `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(name: &str) -> Result<Self, UnknownField> {
        let field = match name.split_once('.') {
            None => OptionalField::from_name(name).map(Self::Optional),
            Some(("dos", field)) => DosField::from_name(field).map(Self::Dos),
            Some(("nt" | "ne" | "file", field)) => NewField::from_name(field).map(Self::New),
            Some(("opt", field)) => OptionalField::from_name(field).map(Self::Optional),
            Some((record, field)) => Self::parse_indexed(record, field),
        };
        field.ok_or_else(|| UnknownField(name.to_owned()))
    }

    fn parse_indexed(record: &str, field: &str) -> Option<Self> {
        let (kind, index) = record.strip_suffix(']')?.split_once('[')?;
        let index = index.parse().ok()?;
        match kind {
            "dir" if index < DIRECTORIES => {
                DirectoryField::from_name(field).map(|field| Self::Directory(index, field))
            }
            "section" => SectionField::from_name(field).map(|field| Self::Section(index, field)),
            _ => None,
        }
    }

    /// Every field of a file with so many sections, but those that lie where others are: the target
    /// system of an NE header, and names, which are not numbers.
    pub(super) fn all(sections: usize) -> impl Iterator<Item = Self> {
        let dos = DosField::ALL.iter().map(|&field| Self::Dos(field));
        let new = NewField::ALL.iter().filter(|field| **field != NewField::NeTargetSystem);
        let directories = (0..DIRECTORIES).flat_map(|index| {
            DirectoryField::ALL.iter().map(move |&field| Self::Directory(index, field))
        });
        let sections = (0..sections).flat_map(|index| {
            let numbers = SectionField::ALL.iter().filter(|field| **field != SectionField::Name);
            numbers.map(move |&field| Self::Section(index, field))
        });
        let optional = OptionalField::ALL.iter().map(|&field| Self::Optional(field));
        // The DOS header's fields come last: headers that overlap must not hide `e_lfanew`.
        (new.map(|&field| Self::New(field)))
            .chain(optional)
            .chain(directories)
            .chain(sections)
            .chain(dos)
    }
}

impl PeBuilder {
    /// What a field is when nobody overrides it (spec API 22).
    pub(super) fn default_value(&self, field: Field) -> u64 {
        match field {
            Field::Dos(DosField::Magic) => 0x5A4D,
            Field::Dos(DosField::LastPageBytes) => 0,
            Field::Dos(DosField::RelocationTable | DosField::NewHeader) => NEW_HEADER,
            Field::New(field) => self.default_new(field),
            Field::Optional(field) => self.default_optional(field),
            Field::Directory(CLR_DIRECTORY, field) => match (self.clr, field) {
                (None, _) => 0,
                (Some(_), DirectoryField::VirtualAddress) => {
                    self.sections.first().map_or(0, |section| section.virtual_address.into())
                }
                (Some(_), DirectoryField::Size) => CLR_HEADER as u64,
            },
            Field::Directory(..) => 0,
            Field::Section(index, field) => self.default_section(index, field),
        }
    }

    fn default_new(&self, field: NewField) -> u64 {
        match field {
            NewField::Signature => 0x4550,
            NewField::Machine => self.architecture.machine(),
            NewField::NumberOfSections => self.sections.len() as u64,
            NewField::SizeOfOptionalHeader => self.architecture.optional_header(),
            NewField::Characteristics => self.architecture.characteristics(),
            NewField::TimeDateStamp
            | NewField::PointerToSymbolTable
            | NewField::NumberOfSymbols
            | NewField::NeTargetSystem => 0,
        }
    }

    fn default_optional(&self, field: OptionalField) -> u64 {
        match field {
            OptionalField::Magic => self.architecture.magic(),
            OptionalField::ImageBase => 0x1000_0000,
            OptionalField::SectionAlignment | OptionalField::FileAlignment => 0x1000,
            OptionalField::MajorOperatingSystemVersion | OptionalField::MajorSubsystemVersion => 4,
            OptionalField::SizeOfHeaders => {
                self.section_table() + self.sections.len() as u64 * SECTION_HEADER
            }
            OptionalField::SizeOfImage => {
                self.value(Field::Optional(OptionalField::SizeOfHeaders)) + 0x1000
            }
            OptionalField::Subsystem => 3,
            OptionalField::DllCharacteristics => 0x140,
            OptionalField::SizeOfStackReserve | OptionalField::SizeOfHeapReserve => 0x10_0000,
            OptionalField::SizeOfStackCommit | OptionalField::SizeOfHeapCommit => 0x1000,
            OptionalField::NumberOfRvaAndSizes => DIRECTORIES as u64,
            OptionalField::SizeOfCode
            | OptionalField::SizeOfInitializedData
            | OptionalField::SizeOfUninitializedData
            | OptionalField::AddressOfEntryPoint
            | OptionalField::BaseOfCode
            | OptionalField::MajorImageVersion
            | OptionalField::MinorImageVersion
            | OptionalField::MinorOperatingSystemVersion
            | OptionalField::MinorSubsystemVersion
            | OptionalField::Win32VersionValue
            | OptionalField::CheckSum
            | OptionalField::LoaderFlags => 0,
        }
    }

    fn default_section(&self, index: usize, field: SectionField) -> u64 {
        let Some(section) = self.sections.get(index) else { return 0 };
        match field {
            SectionField::Name => 0,
            SectionField::VirtualSize => section.virtual_size.into(),
            SectionField::VirtualAddress => section.virtual_address.into(),
            SectionField::SizeOfRawData => self.size_of_raw_data(index).into(),
            SectionField::PointerToRawData => section.pointer_to_raw_data.into(),
            SectionField::Characteristics => section.characteristics.into(),
        }
    }
}
