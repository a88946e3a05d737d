//! The headers of an image: the checks from the first byte of the file to the section table, in
//! NT's order (spec API 15.1, 15.2), and what is left of the headers when all of them hold.
//!
//! An optional header may be shorter than its structure, because its own length says so or
//! because the file ends; what is missing counts as zero, so a directory that is not there is an
//! empty one.

use ntmm_pte::{ALLOCATION_GRANULARITY, PAGE_SIZE};
use object::LittleEndian as LE;
use object::pe::{
    DllFlags, FileFlags, IMAGE_DIRECTORY_ENTRY_BASERELOC, IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR,
    IMAGE_DOS_SIGNATURE, IMAGE_FILE_EXECUTABLE_IMAGE, IMAGE_FILE_MACHINE_AMD64,
    IMAGE_FILE_MACHINE_I386, IMAGE_NT_OPTIONAL_HDR32_MAGIC, IMAGE_NT_OPTIONAL_HDR64_MAGIC,
    IMAGE_NT_SIGNATURE, IMAGE_NUMBEROF_DIRECTORY_ENTRIES, IMAGE_OS2_SIGNATURE,
    IMAGE_OS2_SIGNATURE_LE, IMAGE_SIZEOF_SECTION_HEADER, ImageDataDirectory, ImageDosHeader,
    ImageFileHeader, ImageOptionalHeader32, ImageOptionalHeader64, ImageOs2Header, Machine,
    Subsystem,
};
use object::pod;
use object::read::pe::ImageOptionalHeader;
use object::{U16, U32};

use crate::error::{ImageError, ParseError};
use crate::file::ImageFile;
use crate::host::{Host, HostMachine, Profile};
use crate::information::Version;

/// Sections an image may have.
pub(crate) const MOST_SECTIONS: u16 = 96;

/// Bytes of the longest optional header that means anything: PE32+ with all its directories.
const OPTIONAL_HEADER: usize = size_of::<ImageOptionalHeader64>()
    + IMAGE_NUMBEROF_DIRECTORY_ENTRIES * size_of::<ImageDataDirectory>();

/// Where the checksum lies in an optional header of either format; what an old system needs of
/// one ends here.
const CHECKSUM_OFFSET: usize = 64;

/// The unit of `FileAlignment`.
const SECTOR: u32 = 512;

/// NE target systems (`ne_exetyp`) that have statuses of their own.
const NE_WINDOWS: u8 = 2;
const NE_OS_5: u8 = 5;

/// The two formats of a PE image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit addresses, magic 0x10B.
    Pe32,
    /// 64-bit addresses, magic 0x20B.
    Pe32Plus,
}

/// A range of an image that the header names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataDirectory {
    /// Where it starts, relative to the start of the image.
    pub rva: u32,
    /// Its bytes.
    pub size: u32,
}

impl DataDirectory {
    pub(crate) const fn is_present(self) -> bool {
        self.rva != 0 && self.size != 0
    }
}

/// Headers that passed the checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    pub(crate) format: Format,
    pub(crate) machine: Machine,
    pub(crate) characteristics: FileFlags,
    pub(crate) dll_characteristics: DllFlags,
    /// At most [`MOST_SECTIONS`].
    pub(crate) sections: u16,
    /// Position of the section table, in the file and in memory.
    pub(crate) section_table: u32,
    pub(crate) image_base: u64,
    pub(crate) entry_point: u32,
    pub(crate) size_of_code: u32,
    pub(crate) section_alignment: u32,
    pub(crate) file_alignment: u32,
    /// Not zero, and it can be rounded up to a page.
    pub(crate) size_of_image: u32,
    /// Covers the section table.
    pub(crate) size_of_headers: u32,
    pub(crate) check_sum: u32,
    pub(crate) subsystem: Subsystem,
    pub(crate) subsystem_version: Version,
    pub(crate) operating_system_version: Version,
    pub(crate) stack_reserve: u64,
    pub(crate) stack_commit: u64,
    pub(crate) relocations: DataDirectory,
    pub(crate) clr: DataDirectory,
}

impl Headers {
    /// Checks and reads the headers of a file.
    pub(crate) fn parse<E, R>(file: &mut ImageFile<R>, host: Host) -> Result<Self, ParseError<E>>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), E>,
    {
        let new_header = find_new_header(file)?;
        check_signature(file, new_header)?;
        let file_header_at = new_header + size_of::<U32<LE>>() as u64;
        let file_header: ImageFileHeader = file.record(file_header_at, ImageError::NoNewHeader)?;

        let optional_at = file_header_at + size_of::<ImageFileHeader>() as u64;
        let claimed = file_header.size_of_optional_header.get(LE);
        let mut buffer = [0; OPTIONAL_HEADER];
        let (bytes, _) = buffer.split_at_mut(OPTIONAL_HEADER.min(claimed.into()));
        let length = file.read_available(optional_at, bytes)?;
        let place = Place {
            host,
            file_header,
            length,
            section_table: optional_at + u64::from(claimed),
            file_size: file.size(),
        };
        Ok(match format_of(&buffer, length, host)? {
            Format::Pe32 => place.check::<ImageOptionalHeader32>(&buffer, Format::Pe32)?,
            Format::Pe32Plus => place.check::<ImageOptionalHeader64>(&buffer, Format::Pe32Plus)?,
        })
    }

    /// Whether the whole file is mapped as it is, because sections are aligned to less than a
    /// page.
    pub(crate) const fn is_flat(&self) -> bool {
        (self.section_alignment as u64) < PAGE_SIZE
    }

    /// `SizeOfImage` up to the end of its last page.
    pub(crate) fn rounded_size(&self) -> u64 {
        u64::from(self.size_of_image).next_multiple_of(PAGE_SIZE)
    }
}

/// The position of the new header that the DOS header names.
fn find_new_header<E, R>(file: &mut ImageFile<R>) -> Result<u64, ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    if file.size() == 0 {
        return Err(ImageError::EmptyFile.into());
    }
    let dos: ImageDosHeader = file.record(0, ImageError::NotMz)?;
    if dos.e_magic.get(LE) != IMAGE_DOS_SIGNATURE {
        return Err(ImageError::NotMz.into());
    }
    let new_header = dos.e_lfanew.get(LE);
    if new_header == 0 || new_header > i32::MAX as u32 {
        return Err(ImageError::NoNewHeader.into());
    }
    Ok(new_header.into())
}

fn check_signature<E, R>(file: &mut ImageFile<R>, at: u64) -> Result<(), ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    let signature = file.record::<U32<LE>, E>(at, ImageError::NoNewHeader)?.get(LE);
    if signature == IMAGE_NT_SIGNATURE {
        return Ok(());
    }
    let error = match signature as u16 {
        IMAGE_OS2_SIGNATURE => {
            let header: ImageOs2Header = file.record(at, ImageError::Signature)?;
            match header.ne_exetyp {
                NE_WINDOWS => ImageError::Windows16,
                NE_OS_5 => ImageError::Signature,
                _ => ImageError::NewExecutable,
            }
        }
        IMAGE_OS2_SIGNATURE_LE => ImageError::LinearExecutable,
        _ => ImageError::Signature,
    };
    Err(error.into())
}

/// The format the magic number names, if the system knows it.
fn format_of(buffer: &[u8], length: usize, host: Host) -> Result<Format, ImageError> {
    if length < size_of::<U16<LE>>() {
        return Err(ImageError::OptionalHeader);
    }
    let (magic, _) = pod::from_bytes::<U16<LE>>(buffer).map_err(|()| ImageError::OptionalHeader)?;
    match (magic.get(LE), host.machine) {
        (IMAGE_NT_OPTIONAL_HDR32_MAGIC, _) => Ok(Format::Pe32),
        (IMAGE_NT_OPTIONAL_HDR64_MAGIC, HostMachine::Amd64) => Ok(Format::Pe32Plus),
        (IMAGE_NT_OPTIONAL_HDR64_MAGIC, HostMachine::I386) => Err(ImageError::Windows64),
        _ => Err(ImageError::Magic),
    }
}

/// The machine that images of a format are for.
const fn machine_of(format: Format) -> Machine {
    match format {
        Format::Pe32 => IMAGE_FILE_MACHINE_I386,
        Format::Pe32Plus => IMAGE_FILE_MACHINE_AMD64,
    }
}

/// What surrounds an optional header.
struct Place {
    host: Host,
    file_header: ImageFileHeader,
    /// Bytes of the optional header that are there.
    length: usize,
    /// Position of the section table in the file.
    section_table: u64,
    file_size: u64,
}

impl Place {
    /// Checks an optional header that is padded with zeros.
    fn check<O: ImageOptionalHeader>(
        &self,
        buffer: &[u8; OPTIONAL_HEADER],
        format: Format,
    ) -> Result<Headers, ImageError> {
        let machine = self.file_header.machine.get(LE);
        if machine != machine_of(format) {
            return Err(ImageError::Machine);
        }
        let (optional, directories) =
            pod::from_bytes::<O>(buffer).map_err(|()| ImageError::OptionalHeader)?;
        let needed = match self.host.profile {
            Profile::Legacy => CHECKSUM_OFFSET,
            Profile::Modern => size_of::<O>(),
        };
        if self.length < needed {
            return Err(ImageError::OptionalHeader);
        }
        let characteristics = self.file_header.characteristics.get(LE);
        if characteristics.0 & IMAGE_FILE_EXECUTABLE_IMAGE.0 == 0 {
            return Err(ImageError::NotExecutable);
        }
        check_alignments(optional.section_alignment(), optional.file_alignment())?;
        if !optional.image_base().is_multiple_of(ALLOCATION_GRANULARITY) {
            return Err(ImageError::ImageBase);
        }
        let size_of_image = optional.size_of_image();
        if size_of_image == 0 || size_of_image.checked_next_multiple_of(PAGE_SIZE as u32).is_none()
        {
            return Err(ImageError::SizeOfImage);
        }
        let directory = |index| directory(directories, optional.number_of_rva_and_sizes(), index);
        let headers = Headers {
            format,
            machine,
            characteristics,
            dll_characteristics: optional.dll_characteristics(),
            sections: self.file_header.number_of_sections.get(LE),
            section_table: u32::try_from(self.section_table)
                .map_err(|_| ImageError::SectionTable)?,
            image_base: optional.image_base(),
            entry_point: optional.address_of_entry_point(),
            size_of_code: optional.size_of_code(),
            section_alignment: optional.section_alignment(),
            file_alignment: optional.file_alignment(),
            size_of_image,
            size_of_headers: optional.size_of_headers(),
            check_sum: optional.check_sum(),
            subsystem: optional.subsystem(),
            subsystem_version: Version {
                major: optional.major_subsystem_version(),
                minor: optional.minor_subsystem_version(),
            },
            operating_system_version: Version {
                major: optional.major_operating_system_version(),
                minor: optional.minor_operating_system_version(),
            },
            stack_reserve: optional.size_of_stack_reserve(),
            stack_commit: optional.size_of_stack_commit(),
            relocations: directory(IMAGE_DIRECTORY_ENTRY_BASERELOC),
            clr: directory(IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR),
        };
        self.check_extents(&headers)?;
        Ok(headers)
    }

    /// Checks that headers, section table, file and image contain each other.
    fn check_extents(&self, headers: &Headers) -> Result<(), ImageError> {
        if headers.sections > MOST_SECTIONS {
            return Err(ImageError::NumberOfSections);
        }
        let table_end =
            self.section_table + u64::from(headers.sections) * IMAGE_SIZEOF_SECTION_HEADER as u64;
        let size_of_headers = u64::from(headers.size_of_headers);
        if size_of_headers < table_end || size_of_headers >= headers.rounded_size() {
            return Err(ImageError::SizeOfHeaders);
        }
        if headers.sections > 0 && table_end > self.file_size {
            return Err(ImageError::SectionTable);
        }
        Ok(())
    }
}

fn check_alignments(section: u32, file: u32) -> Result<(), ImageError> {
    let fits = if u64::from(section) < PAGE_SIZE {
        section == file
    } else {
        section >= file && file.is_multiple_of(SECTOR)
    };
    if section.is_power_of_two() && file.is_power_of_two() && fits {
        Ok(())
    } else {
        Err(ImageError::Alignment)
    }
}

/// The data directory of an index; empty when the header has no such directory.
fn directory(bytes: &[u8], count: u32, index: usize) -> DataDirectory {
    let all = bytes.as_chunks::<{ size_of::<ImageDataDirectory>() }>().0;
    match all.iter().take(count as usize).nth(index) {
        Some(bytes) => match pod::from_bytes::<ImageDataDirectory>(bytes) {
            Ok((entry, _)) => {
                DataDirectory { rva: entry.virtual_address.get(LE), size: entry.size.get(LE) }
            }
            Err(()) => DataDirectory::default(),
        },
        None => DataDirectory::default(),
    }
}

const _: () = assert!(size_of::<ImageOptionalHeader32>() < OPTIONAL_HEADER);
const _: () = assert!(align_of::<ImageOptionalHeader64>() == 1);
