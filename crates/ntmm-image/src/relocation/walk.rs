//! Walking a relocation table through a small window.

use core::ops::Range;

use ntmm_pte::PAGE_SIZE;
use object::LittleEndian as LE;
use object::pe::{
    BaseRelocationType, IMAGE_REL_BASED_ABSOLUTE, IMAGE_REL_BASED_DIR64, IMAGE_REL_BASED_HIGH,
    IMAGE_REL_BASED_HIGHLOW, IMAGE_REL_BASED_LOW, ImageBaseRelocation,
};
use object::pod;

use crate::file::LONGEST_READ;

use super::{
    BlockPosition, Order, Relocation, RelocationDefect, RelocationError, RelocationKind,
    RelocationTable, WIDEST,
};

/// Bytes of the table that are kept at hand.
const WINDOW: usize = LONGEST_READ;

/// Bytes of a block's header, and of each entry that follows.
const HEADER: u32 = size_of::<ImageBaseRelocation>() as u32;
const ENTRY: u32 = size_of::<u16>() as u32;

/// How far beyond a block's RVA the bytes of its places may end.
const REACH: u64 = PAGE_SIZE - 1 + WIDEST as u64;

/// The longest block: a place at every offset of a page, and one entry to fill it up.
const LONGEST_BLOCK: u32 = HEADER + ENTRY * (PAGE_SIZE as u32 + 1);

/// A block of the table.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The RVA its places are counted from.
    pub(crate) base: u32,
    /// The RVA of the block itself.
    pub(crate) at: u32,
    /// The RVA after it.
    pub(crate) end: u32,
}

impl Block {
    pub(crate) const fn entries(&self) -> u32 {
        (self.end - self.at - HEADER) / ENTRY
    }

    /// The RVAs its places may have bytes at.
    const fn reach(&self) -> Range<u64> {
        self.base as u64..self.base as u64 + REACH
    }
}

/// A position in a table and the bytes around it.
pub(crate) struct Walk<R> {
    at: u32,
    end: u32,
    image_end: u32,
    window: [u8; WINDOW],
    window_at: u32,
    window_length: u32,
    read: R,
}

impl<R> Walk<R> {
    pub(crate) const fn new(table: &RelocationTable, at: u32, read: R) -> Self {
        Self {
            at,
            end: table.end,
            image_end: table.image_end,
            window: [0; WINDOW],
            window_at: at,
            window_length: 0,
            read,
        }
    }

    /// Fills `buffer` with the image's bytes at `rva`, page by page.
    pub(crate) fn read_image<E>(
        &mut self,
        rva: u32,
        buffer: &mut [u8],
    ) -> Result<(), RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let in_page = PAGE_SIZE as usize - rva as usize % PAGE_SIZE as usize;
        let (front, back) = buffer.split_at_mut(in_page.min(buffer.len()));
        (self.read)(rva, front).map_err(RelocationError::Read)?;
        if back.is_empty() {
            return Ok(());
        }
        (self.read)(rva + front.len() as u32, back).map_err(RelocationError::Read)
    }

    /// The `N` bytes of the table at `rva`, which lie inside it.
    fn bytes<E, const N: usize>(&mut self, rva: u32) -> Result<[u8; N], RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let inside =
            rva.checked_sub(self.window_at).filter(|at| at + N as u32 <= self.window_length);
        let skip = match inside {
            Some(skip) => skip,
            None => {
                let mut fresh = [0; WINDOW];
                let length = (WINDOW as u32).min(self.end.saturating_sub(rva));
                let (front, _) = fresh.split_at_mut(length as usize);
                self.read_image(rva, front)?;
                (self.window, self.window_at, self.window_length) = (fresh, rva, length);
                0
            }
        };
        let bytes = self.window.get(skip as usize..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or(RelocationDefect::BlockLength.into())
    }

    /// The block at the position, which moves on to the next; `None` at the end of the table.
    pub(crate) fn next_block<E>(&mut self) -> Result<Option<Block>, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let at = self.at;
        let left = self.end.saturating_sub(at);
        if left < HEADER {
            return Ok(None);
        }
        let bytes = self.bytes::<E, { HEADER as usize }>(at)?;
        let Ok((header, _)) = pod::from_bytes::<ImageBaseRelocation>(&bytes) else {
            return Err(RelocationDefect::BlockLength.into());
        };
        let length = header.size_of_block.get(LE);
        if length == 0 {
            return Ok(None);
        }
        if length < HEADER
            || length > left
            || length > LONGEST_BLOCK
            || !length.is_multiple_of(ENTRY)
        {
            return Err(RelocationDefect::BlockLength.into());
        }
        self.at = at + length;
        Ok(Some(Block { base: header.virtual_address.get(LE), at, end: at + length }))
    }

    /// The place an entry of a block names, if it names one.
    pub(crate) fn relocation<E>(
        &mut self,
        block: &Block,
        index: u32,
    ) -> Result<Option<Relocation>, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let entry = u16::from_le_bytes(self.bytes(block.at + HEADER + index * ENTRY)?);
        let kind = match BaseRelocationType(entry >> 12) {
            IMAGE_REL_BASED_ABSOLUTE => return Ok(None),
            IMAGE_REL_BASED_HIGH => RelocationKind::High,
            IMAGE_REL_BASED_LOW => RelocationKind::Low,
            IMAGE_REL_BASED_HIGHLOW => RelocationKind::HighLow,
            IMAGE_REL_BASED_DIR64 => RelocationKind::Dir64,
            BaseRelocationType(unknown) => {
                return Err(RelocationDefect::Kind(unknown as u8).into());
            }
        };
        let rva = block.base.saturating_add(u32::from(entry & 0xFFF));
        let relocation = Relocation { rva, kind };
        if relocation.bytes().end > self.image_end.into() {
            return Err(RelocationDefect::Place(rva).into());
        }
        Ok(Some(relocation))
    }
}

/// Iterator over the places of a table that have bytes in a range of the image.
///
/// It ends after the first error.
pub struct Relocations<R> {
    walk: Walk<R>,
    order: Order,
    range: Range<u64>,
    /// The block at hand and the next of its entries.
    block: Option<(Block, u32)>,
    /// The first block that could not be passed over.
    found: BlockPosition,
    stage: Stage,
}

/// How far a walk has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// All blocks so far lie below the range.
    Below,
    /// At or behind the first that does not.
    Inside,
    /// Nothing more to come.
    Over,
}

impl<R> Relocations<R> {
    pub(crate) fn new(
        table: &RelocationTable,
        from: BlockPosition,
        range: Range<u64>,
        read: R,
    ) -> Self {
        let usable = table.order == Order::Ascending
            && from.settled <= range.start
            && (table.start..=table.end).contains(&from.at);
        let found = if usable { from } else { table.start() };
        Self {
            walk: Walk::new(table, found.at, read),
            order: table.order,
            range,
            block: None,
            found,
            stage: Stage::Below,
        }
    }

    /// Where the first block was that reaches the page or lies above it; for finding this page or
    /// one above it later. Final once an item has been returned or the walk is over.
    #[must_use]
    pub const fn position(&self) -> BlockPosition {
        self.found
    }

    /// Reads bytes of the image through the reader that the table is read through.
    pub(crate) fn read_image<E>(
        &mut self,
        rva: u32,
        buffer: &mut [u8],
    ) -> Result<(), RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        self.walk.read_image(rva, buffer)
    }

    /// The next block that has places in the range, perhaps.
    fn next_block<E>(&mut self) -> Result<Option<Block>, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        while let Some(block) = self.walk.next_block()? {
            let reach = block.reach();
            let is_below = reach.end <= self.range.start;
            if self.stage == Stage::Below {
                if is_below {
                    self.found = BlockPosition { at: block.end, settled: reach.end };
                } else {
                    self.stage = Stage::Inside;
                }
            }
            if is_below {
                continue;
            }
            if reach.start < self.range.end {
                return Ok(Some(block));
            }
            if self.order == Order::Ascending {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn advance<E>(&mut self) -> Result<Option<Relocation>, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        loop {
            let Some((block, index)) = self.block else {
                let Some(block) = self.next_block()? else { return Ok(None) };
                self.block = Some((block, 0));
                continue;
            };
            if index == block.entries() {
                self.block = None;
                continue;
            }
            self.block = Some((block, index + 1));
            if let Some(relocation) = self.walk.relocation(&block, index)? {
                let bytes = relocation.bytes();
                if bytes.start < self.range.end && bytes.end > self.range.start {
                    return Ok(Some(relocation));
                }
            }
        }
    }
}

impl<E, R> Iterator for Relocations<R>
where
    R: FnMut(u32, &mut [u8]) -> Result<(), E>,
{
    type Item = Result<Relocation, RelocationError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stage == Stage::Over {
            return None;
        }
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.stage = Stage::Over;
        }
        item
    }
}
