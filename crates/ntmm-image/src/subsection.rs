//! A run of an image's pages that come from one place in the file and have one protection: NT's
//! `SUBSECTION` (spec internals 8.4).
//!
//! The headers are one, and every section of the file. The pages of an image lie in its
//! subsections without a gap, so that one array of prototype entries covers them all. Inside a
//! subsection come, in this order: pages that hold file data, pages that are zero at first, and,
//! where sections are aligned to more than a page or the image is larger than its sections, pages
//! that belong to the image but hold nothing ([`Subsection::unused_pages`]).

use ntmm_pte::{Bytes, PAGE_SHIFT, Pages, Protection};

use crate::protection::without_execute;

/// Bytes of a sector, the unit of positions in an image file (spec internals 8.4).
const SECTOR_SHIFT: u32 = 9;

/// Who sees what is written to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// The writer, in its private copy.
    Private,
    /// Every process that maps the image: `IMAGE_SCN_MEM_SHARED`, NT's global memory. Written
    /// pages go to a paging file, never back to the image.
    Shared,
}

/// The bytes of the file that a subsection's pages begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileData {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl FileData {
    /// Position in the file, a multiple of 512.
    #[must_use]
    pub const fn offset(self) -> Bytes {
        Bytes::new(self.offset as u64)
    }

    /// How many bytes, all of them inside the file. What follows in the last page is zero.
    #[must_use]
    pub const fn length(self) -> Bytes {
        Bytes::new(self.length as u64)
    }

    /// NT's `StartingSector`, in units of 512 bytes.
    #[must_use]
    pub const fn starting_sector(self) -> u32 {
        self.offset >> SECTOR_SHIFT
    }

    /// NT's `NumberOfFullSectors`, in units of 512 bytes.
    #[must_use]
    pub const fn full_sectors(self) -> u32 {
        self.length >> SECTOR_SHIFT
    }

    /// NT's `SectorEndOffset`: bytes in the sector after the full ones, 0 to 511.
    #[must_use]
    pub const fn sector_end_offset(self) -> u32 {
        self.length & ((1 << SECTOR_SHIFT) - 1)
    }
}

/// Pages of an image that come from one place and have one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsection {
    pub(crate) first_page: u32,
    pub(crate) pages: u32,
    pub(crate) used_pages: u32,
    pub(crate) data: FileData,
    pub(crate) protection: Protection,
    pub(crate) sharing: Sharing,
}

impl Subsection {
    /// Distance of its first page from the start of the image.
    #[must_use]
    pub const fn first_page(&self) -> Pages {
        Pages::new(self.first_page as u64)
    }

    /// All its pages: the next subsection, or the end of the image, follows.
    #[must_use]
    pub const fn pages(&self) -> Pages {
        Pages::new(self.pages as u64)
    }

    /// Pages with contents: of the file or zero.
    #[must_use]
    pub const fn used_pages(&self) -> Pages {
        Pages::new(self.used_pages as u64)
    }

    /// Pages at its end that have no contents; every access to them is a violation.
    #[must_use]
    pub const fn unused_pages(&self) -> Pages {
        self.pages().saturating_sub(self.used_pages())
    }

    /// Pages that hold file data, the last of them perhaps in part.
    #[must_use]
    pub const fn file_pages(&self) -> Pages {
        self.data.length().to_pages_rounded_up()
    }

    /// Where the file data is; of no length when all its pages are zero at first.
    #[must_use]
    pub const fn data(&self) -> FileData {
        self.data
    }

    /// The file data of the page `page` pages after the subsection's first; of no length for a
    /// page that is zero at first. The rest of the page is zero.
    #[must_use]
    pub const fn data_of_page(&self, page: Pages) -> FileData {
        let start = page.to_bytes().get();
        if page.get() >= self.pages as u64 || start >= self.data.length as u64 {
            return FileData { offset: 0, length: 0 };
        }
        let left = self.data.length as u64 - start;
        let length = if left < 1 << PAGE_SHIFT { left } else { 1 << PAGE_SHIFT };
        FileData { offset: self.data.offset + start as u32, length: length as u32 }
    }

    /// What may be done with its pages.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// What may be done with them in a section with `SEC_IMAGE_NO_EXECUTE`.
    #[must_use]
    pub const fn protection_without_execute(&self) -> Protection {
        without_execute(self.protection)
    }

    /// Who sees what is written.
    #[must_use]
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Position in the file of the byte at `rva`, and how many bytes of file data follow there;
    /// `None` when no file data is there.
    pub(crate) const fn file_position(&self, rva: u32) -> Option<(u64, u64)> {
        let start = (self.first_page as u64) << PAGE_SHIFT;
        let Some(inside) = (rva as u64).checked_sub(start) else { return None };
        match (self.data.length as u64).checked_sub(inside) {
            Some(left) if left > 0 => Some((self.data.offset as u64 + inside, left)),
            _ => None,
        }
    }
}
