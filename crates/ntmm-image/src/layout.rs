//! The layout of an image: everything an image section is made from (spec API 12, 15).

use arrayvec::ArrayVec;
use ntmm_pte::{Bytes, PAGE_SHIFT, PAGE_SIZE, Pages, Va};
use object::pe::{IMAGE_FILE_RELOCS_STRIPPED, IMAGE_SIZEOF_SECTION_HEADER, ImageCor20Header};

use crate::error::{ImageError, ParseError};
use crate::file::ImageFile;
use crate::headers::{DataDirectory, Format, Headers, MOST_SECTIONS};
use crate::host::Host;
use crate::information::ImageInformation;
use crate::sections::{self, Sections};
use crate::subsection::Subsection;

/// Subsections an image may have: its headers and 96 sections.
pub const SUBSECTIONS: usize = MOST_SECTIONS as usize + 1;

/// Where `PointerToRawData` lies in a section header.
const POINTER_TO_RAW_DATA: u32 = 20;

/// How a file becomes an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// Headers and each section apart.
    BySection,
    /// The file as it is, because its sections are aligned to less than a page.
    Flat,
}

impl Mapping {
    pub(crate) const fn of(headers: &Headers) -> Self {
        if headers.is_flat() { Self::Flat } else { Self::BySection }
    }
}

/// Four bytes of the headers that are zero in memory, whatever the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderPatch {
    rva: u32,
}

impl HeaderPatch {
    /// Bytes that are zero.
    pub const LENGTH: u32 = 4;

    /// Distance of the first of them from the start of the image. They may lie in two pages.
    #[must_use]
    pub const fn rva(self) -> u32 {
        self.rva
    }
}

/// What an image section is made from.
///
/// Its subsections start at the image's first page, follow each other without a gap and end at
/// its last; the first holds the headers, unless the image is flat and has just one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    format: Format,
    mapping: Mapping,
    base: Va,
    size: u32,
    subsections: ArrayVec<Subsection, SUBSECTIONS>,
    section_table: u32,
    cleared_pointers: u128,
    movable: bool,
    relocations: DataDirectory,
    information: ImageInformation,
}

impl ImageLayout {
    /// Reads the headers of a file of `file_size` bytes through `read`, which fills a buffer with
    /// the bytes at an offset.
    ///
    /// It is asked for at most [`MOST_READS`](crate::MOST_READS) pieces, none longer than
    /// [`LONGEST_READ`](crate::LONGEST_READ) bytes, and for none that is not wholly inside the
    /// file.
    ///
    /// # Errors
    /// The first check that fails, in the order of spec API 15; or what `read` fails with, at
    /// once.
    pub fn parse<E, R>(file_size: u64, host: Host, read: R) -> Result<Self, ParseError<E>>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), E>,
    {
        let mut file = ImageFile::new(file_size, read);
        let headers = Headers::parse(&mut file, host)?;
        let mapping = Mapping::of(&headers);
        let Sections { subsections, cleared_pointers } = match mapping {
            Mapping::BySection => sections::by_section(&mut file, &headers)?,
            Mapping::Flat => sections::flat(&mut file, &headers)?,
        };
        let clr = clr_header(&mut file, &headers, &subsections)?;
        let information =
            ImageInformation::new(&headers, host.profile, file_size, &subsections, clr);
        Ok(Self {
            format: headers.format,
            mapping,
            base: Va::new(headers.image_base),
            size: headers.size_of_image,
            subsections,
            section_table: headers.section_table,
            cleared_pointers,
            movable: headers.characteristics.0 & IMAGE_FILE_RELOCS_STRIPPED.0 == 0,
            relocations: headers.relocations,
            information,
        })
    }

    /// PE32 or PE32+.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether its sections are mapped apart.
    #[must_use]
    pub const fn mapping(&self) -> Mapping {
        self.mapping
    }

    /// The address it prefers, a multiple of 64 KiB.
    #[must_use]
    pub const fn base(&self) -> Va {
        self.base
    }

    /// `SizeOfImage` as the header has it.
    #[must_use]
    pub const fn size_of_image(&self) -> Bytes {
        Bytes::new(self.size as u64)
    }

    /// `SizeOfImage` in whole pages, at least one and less than 2^20. A section may not be larger.
    #[must_use]
    pub const fn pages(&self) -> Pages {
        self.size_of_image().to_pages_rounded_up()
    }

    /// Its parts in the order of their addresses.
    #[must_use]
    pub fn subsections(&self) -> &[Subsection] {
        &self.subsections
    }

    /// The subsection that a page of the image lies in.
    #[must_use]
    pub fn subsection_of(&self, page: Pages) -> Option<&Subsection> {
        let after = self.subsections.partition_point(|part| part.first_page() <= page);
        let part = self.subsections.get(after.checked_sub(1)?)?;
        (page < part.first_page().saturating_add(part.pages())).then_some(part)
    }

    /// Pages of it that can come to need memory or room in a paging file: those that a write
    /// copies, and writable shared ones. The segment's `ImageCommitment`.
    #[must_use]
    pub fn commitment(&self) -> Pages {
        self.count(|part| part.protection().is_writable())
    }

    /// Pages that a write copies: what a view of the image is charged for.
    #[must_use]
    pub fn write_copy_pages(&self) -> Pages {
        self.count(|part| part.protection().is_write_copy())
    }

    fn count(&self, counts: impl Fn(&Subsection) -> bool) -> Pages {
        let parts = self.subsections.iter().filter(|part| counts(part));
        parts.fold(Pages::ZERO, |sum, part| sum.saturating_add(part.used_pages()))
    }

    /// Section headers whose `PointerToRawData` is zero in memory, because there is no raw data
    /// that it could point to (spec API 15.4).
    pub fn header_patches(&self) -> impl Iterator<Item = HeaderPatch> + '_ {
        (0..u32::from(MOST_SECTIONS)).filter(|index| self.cleared_pointers >> index & 1 != 0).map(
            |index| HeaderPatch {
                rva: self.section_table
                    + index * IMAGE_SIZEOF_SECTION_HEADER as u32
                    + POINTER_TO_RAW_DATA,
            },
        )
    }

    /// Makes the [`header_patches`](Self::header_patches) that lie in a page of the image to
    /// `bytes`, what the file has for that page.
    pub fn patch_headers(&self, page: Pages, bytes: &mut [u8; PAGE_SIZE as usize]) {
        let start = page.get() << PAGE_SHIFT;
        for patch in self.header_patches() {
            for at in patch.rva..patch.rva + HeaderPatch::LENGTH {
                let inside = u64::from(at).checked_sub(start).map(usize::try_from);
                if let Some(Ok(inside)) = inside
                    && let Some(byte) = bytes.get_mut(inside)
                {
                    *byte = 0;
                }
            }
        }
    }

    /// Whether it may lie at another address than [`base`](Self::base) at all: relocations were
    /// not stripped. If it names none, nothing in it has to change.
    #[must_use]
    pub const fn is_movable(&self) -> bool {
        self.movable
    }

    /// The base relocation directory as the header has it, if it has one. Where it points is
    /// checked by [`RelocationTable::survey`](crate::RelocationTable::survey).
    #[must_use]
    pub const fn relocations(&self) -> Option<DataDirectory> {
        if self.movable && self.relocations.is_present() { Some(self.relocations) } else { None }
    }

    /// What a query reports.
    #[must_use]
    pub const fn information(&self) -> &ImageInformation {
        &self.information
    }
}

/// The CLR header, when the image names one and all of it is in the file.
fn clr_header<E, R>(
    file: &mut ImageFile<R>,
    headers: &Headers,
    subsections: &[Subsection],
) -> Result<Option<ImageCor20Header>, ParseError<E>>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    let length = size_of::<ImageCor20Header>() as u64;
    if !headers.clr.is_present() || u64::from(headers.clr.size) < length {
        return Ok(None);
    }
    let position = subsections.iter().find_map(|part| part.file_position(headers.clr.rva));
    match position {
        Some((position, left)) if left >= length => {
            file.record(position, ImageError::SectionData).map(Some)
        }
        _ => Ok(None),
    }
}
