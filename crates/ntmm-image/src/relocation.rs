//! Base relocations: what has to change in an image that does not lie at its preferred address.
//!
//! The table is a row of blocks, each for one page of the image: the page's RVA, the length of the
//! block, and one word for every place, its kind in the high four bits and its offset in the low
//! twelve. Whoever maps an image elsewhere walks the whole table once; whoever brings in one page
//! at a time wants the places of that page, and those of the page before that reach into it.
//!
//! The table comes from a file that anybody may have written. [`RelocationTable::survey`] reads it
//! from end to end before it is used, so that a bad table is known when a section is created, not
//! at some later fault. What it lets through has an end, names only places inside the image, and
//! has at most two blocks for each page of the image.
//!
//! | kind       | changes                             |
//! |------------|-------------------------------------|
//! | 0 ABSOLUTE | nothing; fills a block up           |
//! | 1 HIGH     | 16 bits, by bits 16-31 of the delta |
//! | 2 LOW      | 16 bits, by bits 0-15               |
//! | 3 HIGHLOW  | 32 bits                             |
//! | 10 DIR64   | 64 bits                             |

mod apply;
mod walk;

use core::fmt;
use core::ops::Range;

use ntmm_pte::{Bytes, PAGE_SHIFT, Pages};

pub use apply::RelocatedPage;
pub use walk::Relocations;

use crate::headers::DataDirectory;
use walk::Walk;

/// How a place changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocationKind {
    /// The high half of a 32-bit address.
    High,
    /// The low half of a 32-bit address.
    Low,
    /// A 32-bit address.
    HighLow,
    /// A 64-bit address.
    Dir64,
}

impl RelocationKind {
    /// Bytes that change.
    #[must_use]
    pub const fn width(self) -> u32 {
        match self {
            Self::High | Self::Low => 2,
            Self::HighLow => 4,
            Self::Dir64 => 8,
        }
    }
}

/// Bytes of the widest kind.
pub(crate) const WIDEST: usize = 8;

/// A place in an image that changes with the image's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Relocation {
    /// Its distance from the start of the image. It may be of any alignment.
    pub rva: u32,
    /// How it changes.
    pub kind: RelocationKind,
}

impl Relocation {
    /// The RVAs of its bytes.
    #[must_use]
    pub const fn bytes(self) -> Range<u64> {
        self.rva as u64..self.rva as u64 + self.kind.width() as u64
    }
}

/// What is wrong with a relocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocationDefect {
    /// The directory is not inside the image.
    OutsideImage,
    /// A block that is shorter than its header, of odd length, longer than a page could need, or
    /// that ends beyond the table.
    BlockLength,
    /// More blocks than two for each page of the image.
    TooManyBlocks,
    /// A kind that x86 images do not have.
    Kind(u8),
    /// A place that is not inside the image.
    Place(u32),
}

impl RelocationDefect {
    /// The NTSTATUS code for an image that has to be relocated and cannot be:
    /// `STATUS_INVALID_IMAGE_FORMAT`.
    #[must_use]
    pub const fn status(self) -> u32 {
        0xC000_007B
    }
}

impl fmt::Display for RelocationDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideImage => f.write_str("the relocation table is not inside the image"),
            Self::BlockLength => f.write_str("a relocation block of impossible length"),
            Self::TooManyBlocks => f.write_str("more relocation blocks than pages could need"),
            Self::Kind(kind) => write!(f, "relocations of unknown kind {kind}"),
            Self::Place(rva) => write!(f, "a relocation at {rva:#x}, outside the image"),
        }
    }
}

impl core::error::Error for RelocationDefect {}

/// Why relocations cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationError<E> {
    /// The table is no good.
    Defect(RelocationDefect),
    /// The reader failed.
    Read(E),
}

impl<E> From<RelocationDefect> for RelocationError<E> {
    fn from(defect: RelocationDefect) -> Self {
        Self::Defect(defect)
    }
}

impl<E: fmt::Display> fmt::Display for RelocationError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defect(defect) => defect.fmt(f),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for RelocationError<E> {}

/// Whether blocks come in the order of their pages, as linkers write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Ascending,
    Mixed,
}

/// A place in a table to start looking from, so that pages taken in their order do not walk the
/// table from its start each time. It changes how much is read and never what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockPosition {
    /// The RVA of a block, or of the table's end.
    pub(crate) at: u32,
    /// Every block before it ends at or below this RVA.
    pub(crate) settled: u64,
}

/// A relocation table that has been read from end to end and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelocationTable {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) order: Order,
    pub(crate) image_end: u32,
    places: u32,
}

impl RelocationTable {
    /// Reads the table of `directory` in an image of `size` pages, through `read`, which fills a
    /// buffer with the bytes at an RVA of the image as it is in the file. No piece it is asked for
    /// crosses a page boundary, ends outside the image or is longer than
    /// [`LONGEST_READ`](crate::LONGEST_READ).
    ///
    /// A block of length zero ends the table early.
    ///
    /// # Errors
    /// The first thing wrong with the table; or what `read` fails with.
    pub fn survey<E, R>(
        directory: DataDirectory,
        size: Pages,
        read: R,
    ) -> Result<Self, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let end = directory.rva.checked_add(directory.size);
        let image_end = u32::try_from(size.to_bytes().get());
        let (Some(end), Ok(image_end)) = (end, image_end) else {
            return Err(RelocationDefect::OutsideImage.into());
        };
        if end > image_end {
            return Err(RelocationDefect::OutsideImage.into());
        }
        let mut table =
            Self { start: directory.rva, end, order: Order::Ascending, image_end, places: 0 };
        let mut walk = Walk::new(&table, table.start, read);
        let most_blocks = size.get() * 2;
        let mut last = 0;
        let mut blocks = 0;
        while let Some(block) = walk.next_block()? {
            blocks += 1;
            if blocks > most_blocks {
                return Err(RelocationDefect::TooManyBlocks.into());
            }
            if block.base < last {
                table.order = Order::Mixed;
            }
            last = block.base;
            table.end = block.end;
            for index in 0..block.entries() {
                table.places += u32::from(walk.relocation(&block, index)?.is_some());
            }
        }
        if blocks == 0 {
            table.end = table.start;
        }
        Ok(table)
    }

    /// Places it names.
    #[must_use]
    pub const fn places(&self) -> u32 {
        self.places
    }

    /// Bytes of it that mean something.
    #[must_use]
    pub const fn length(&self) -> Bytes {
        Bytes::new(self.end as u64 - self.start as u64)
    }

    /// Where to start looking when nothing is known.
    #[must_use]
    pub const fn start(&self) -> BlockPosition {
        BlockPosition { at: self.start, settled: 0 }
    }

    /// All its places, in the order of the table.
    pub fn relocations<E, R>(&self, read: R) -> Relocations<R>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        Relocations::new(self, self.start(), 0..u64::from(self.image_end), read)
    }

    /// The places that have bytes in a page of the image, in the order of the table, looking from
    /// `from` on: [`start`](Self::start), or where an earlier walk of this table found its page.
    pub fn relocations_of_page<E, R>(
        &self,
        page: Pages,
        from: BlockPosition,
        read: R,
    ) -> Relocations<R>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let start = page.get().saturating_mul(1 << PAGE_SHIFT);
        Relocations::new(self, from, start..start.saturating_add(1 << PAGE_SHIFT), read)
    }
}
