//! From section headers to subsections: the checks of each section in table order (spec API 15.3)
//! and what its pages hold (15.4).
//!
//! Sections follow each other in memory without a gap, each from a multiple of the section
//! alignment on. The headers come first; they may claim more than there is room for.

use arrayvec::ArrayVec;
use ntmm_pte::{PAGE_SIZE, Protection};
use object::LittleEndian as LE;
use object::pe::{IMAGE_SIZEOF_SECTION_HEADER, ImageSectionHeader};

use crate::error::{ImageError, ParseError};
use crate::file::ImageFile;
use crate::headers::Headers;
use crate::layout::SUBSECTIONS;
use crate::protection::{protection, sharing};
use crate::subsection::{FileData, Sharing, Subsection};

/// Positions in a file round down to a multiple of this.
const SECTOR: u64 = 512;

/// The subsections of an image, and which sections' data pointers read as zero in memory.
pub(crate) struct Sections {
    pub(crate) subsections: ArrayVec<Subsection, SUBSECTIONS>,
    /// Bit `n`: section `n` has a `PointerToRawData` but no raw data.
    pub(crate) cleared_pointers: u128,
}

/// What counts of a section header.
struct Section {
    address: u64,
    size: u64,
    raw_pointer: u64,
    raw_size: u64,
    header: ImageSectionHeader,
}

impl Section {
    /// Checks what can be said of a section alone.
    fn new(header: ImageSectionHeader, file_size: u64) -> Result<Self, ImageError> {
        let raw_pointer = header.pointer_to_raw_data.get(LE);
        let raw_size = header.size_of_raw_data.get(LE);
        let Some(raw_end) = raw_pointer.checked_add(raw_size) else {
            return Err(ImageError::SectionData);
        };
        let size = match header.virtual_size.get(LE) {
            0 => raw_size,
            size => size,
        };
        if size == 0 {
            return Err(ImageError::SectionSize);
        }
        let section = Self {
            address: header.virtual_address.get(LE).into(),
            size: size.into(),
            raw_pointer: raw_pointer.into(),
            raw_size: raw_size.into(),
            header,
        };
        if section.has_data() && u64::from(raw_end) > file_size {
            return Err(ImageError::SectionData);
        }
        Ok(section)
    }

    /// Whether any of it comes from the file.
    const fn has_data(&self) -> bool {
        self.raw_pointer != 0 && self.raw_size != 0
    }

    /// Whether its data pointer leads nowhere.
    const fn has_empty_data(&self) -> bool {
        self.raw_pointer != 0 && self.raw_size == 0
    }

    /// The bytes of the file in its pages: from the sector its data starts in, up to the end of
    /// the last page.
    fn data(&self, headers: &Headers, file_size: u64) -> FileData {
        if !self.has_data() {
            return FileData::default();
        }
        let start = self.raw_pointer - self.raw_pointer % SECTOR;
        let aligned = self.raw_size.next_multiple_of(headers.file_alignment.into());
        let end = (start + aligned).min(file_size);
        let memory = self.size.next_multiple_of(PAGE_SIZE);
        FileData { offset: start as u32, length: end.saturating_sub(start).min(memory) as u32 }
    }
}

fn section<E, R>(
    file: &mut ImageFile<R>,
    headers: &Headers,
    index: u16,
) -> Result<Section, ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    let offset = u64::from(index) * IMAGE_SIZEOF_SECTION_HEADER as u64;
    let at = u64::from(headers.section_table) + offset;
    let header = file.record(at, ImageError::SectionTable)?;
    Ok(Section::new(header, file.size())?)
}

const fn pages(bytes: u64) -> u32 {
    bytes.div_ceil(PAGE_SIZE) as u32
}

/// The subsections of an image whose sections are aligned to pages.
pub(crate) fn by_section<E, R>(
    file: &mut ImageFile<R>,
    headers: &Headers,
) -> Result<Sections, ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    let alignment = u64::from(headers.section_alignment);
    let image_end = headers.rounded_size();
    let mut result = Sections { subsections: ArrayVec::new(), cleared_pointers: 0 };
    let mut next = u64::from(headers.size_of_headers).next_multiple_of(alignment);
    result.subsections.extend([header_subsection(headers, file.size(), next.min(image_end))]);
    for index in 0..headers.sections {
        let section = section(file, headers, index)?;
        if index == 0 && (alignment..next).contains(&section.address) {
            next = section.address;
            result.subsections.clear();
            result.subsections.extend([header_subsection(headers, file.size(), next)]);
        }
        if section.address != next || !section.address.is_multiple_of(alignment) {
            return Err(ImageError::SectionAddress.into());
        }
        if section.address + section.size > image_end {
            return Err(ImageError::SectionOutsideImage.into());
        }
        next = (section.address + section.size).next_multiple_of(alignment);
        result.subsections.extend([Subsection {
            first_page: pages(section.address),
            pages: pages(next.min(image_end) - section.address),
            used_pages: pages(section.size),
            data: section.data(headers, file.size()),
            protection: protection(section.header.characteristics.get(LE)),
            sharing: sharing(section.header.characteristics.get(LE)),
        }]);
        result.cleared_pointers |= u128::from(section.has_empty_data()) << index;
    }
    if let Some(last) = result.subsections.last_mut() {
        last.pages = pages(image_end) - last.first_page;
    }
    Ok(result)
}

/// The headers, up to `end` in memory.
fn header_subsection(headers: &Headers, file_size: u64, end: u64) -> Subsection {
    let length = u64::from(headers.size_of_headers).min(end);
    Subsection {
        first_page: 0,
        pages: pages(end),
        used_pages: pages(length),
        data: FileData { offset: 0, length: length.min(file_size) as u32 },
        protection: Protection::READONLY,
        sharing: Sharing::Private,
    }
}

/// The one subsection of an image whose sections are aligned to less than a page: the file as it
/// is.
pub(crate) fn flat<E, R>(
    file: &mut ImageFile<R>,
    headers: &Headers,
) -> Result<Sections, ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    let alignment = u64::from(headers.section_alignment);
    let image_end = headers.rounded_size();
    let mut next = 0;
    for index in 0..headers.sections {
        let section = section(file, headers, index)?;
        if section.address < next || !section.address.is_multiple_of(alignment) {
            return Err(ImageError::SectionAddress.into());
        }
        if section.has_data() && section.address != section.raw_pointer {
            return Err(ImageError::FlatSection.into());
        }
        next = section.address + section.size;
        if next > image_end {
            return Err(ImageError::SectionOutsideImage.into());
        }
    }
    let whole = Subsection {
        first_page: 0,
        pages: pages(image_end),
        used_pages: pages(image_end),
        data: FileData { offset: 0, length: file.size().min(image_end) as u32 },
        protection: Protection::EXECUTE_WRITECOPY,
        sharing: Sharing::Private,
    };
    Ok(Sections { subsections: ArrayVec::from_iter([whole]), cleared_pointers: 0 })
}
