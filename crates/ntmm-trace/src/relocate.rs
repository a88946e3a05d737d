//! Moving a trace's regions into the address window of the simulated process.
//!
//! The rule (also in `docs/trace-format.md`): if every region lies inside the window, nothing moves. Otherwise all
//! regions move, in ascending order, packed from the window's bottom: each starts in a fresh 64 KiB block, keeps its
//! offset within the block, and leaves one free block after its last. So page offsets and distances inside a region
//! stay, and the same trace always lands at the same addresses.
//!
//! [`Relocation`] is immutable and shared; each replaying thread has its own [`Relocator`] over it, a small cache
//! that makes the mapping of an address one compare and one add.

use crate::reference::PAGE_SIZE;
use crate::regions::{BLOCK_PAGES, Region, Regions};

const BLOCK: u64 = BLOCK_PAGES * PAGE_SIZE;

/// The addresses a process may use: `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressWindow {
    /// The first usable address.
    pub low: u64,
    /// The address after the last usable one.
    pub high: u64,
}

impl AddressWindow {
    /// User space of an amd64 process: 64 KiB to 8 TiB less the no-access area.
    pub const AMD64: AddressWindow = AddressWindow { low: 0x1_0000, high: 0x7FF_FFFE_0000 };

    /// User space of an i386 or PAE process: 64 KiB to 2 GiB less the shared data page and the no-access area.
    pub const X86: AddressWindow = AddressWindow { low: 0x1_0000, high: 0x7FFE_0000 };
}

/// The regions of a trace do not fit into the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the trace's regions need {needed} bytes of address space, the process has {available} bytes"
)]
pub struct DoesNotFit {
    /// Bytes the packed regions take.
    pub needed: u64,
    /// Bytes in the window.
    pub available: u64,
}

/// Where each region of a trace goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// Each region as recorded, and the address its first byte moves to; ascending in both.
    moves: Vec<(Region, u64)>,
}

impl Relocation {
    /// Applies the rule.
    ///
    /// # Errors
    /// [`DoesNotFit`] if the packed regions reach beyond the window.
    pub fn new(regions: &Regions, window: AddressWindow) -> Result<Self, DoesNotFit> {
        let inside = |region: &Region| region.start() >= window.low && region.end() <= window.high;
        if regions.as_slice().iter().all(inside) {
            let stay = |region: &Region| (*region, region.start());
            return Ok(Relocation { moves: regions.as_slice().iter().map(stay).collect() });
        }
        let bottom = window.low.next_multiple_of(BLOCK);
        let mut next = bottom;
        let mut moves = Vec::with_capacity(regions.as_slice().len());
        for region in regions.as_slice() {
            let start = next + region.start() % BLOCK;
            moves.push((*region, start));
            next = (start + region.bytes()).next_multiple_of(BLOCK) + BLOCK;
        }
        let end = moves.last().map_or(bottom, |(region, start)| start + region.bytes());
        if end > window.high {
            return Err(DoesNotFit {
                needed: end - bottom,
                available: window.high.saturating_sub(bottom),
            });
        }
        Ok(Relocation { moves })
    }

    /// The regions where they go, in ascending order.
    pub fn regions(&self) -> impl ExactSizeIterator<Item = Region> {
        self.moves.iter().map(|(region, start)| Region { first_page: start / PAGE_SIZE, ..*region })
    }

    /// Whether any region moves.
    #[must_use]
    pub fn moves_anything(&self) -> bool {
        self.moves.iter().any(|(region, start)| region.start() != *start)
    }

    /// Where a recorded address goes; `None` outside every region.
    #[must_use]
    pub fn map(&self, va: u64) -> Option<u64> {
        Some(va.wrapping_add(self.distance(va)?))
    }

    /// Where a relocated address came from; `None` outside every region.
    #[must_use]
    pub fn origin(&self, va: u64) -> Option<u64> {
        let after = self.moves.partition_point(|(_, start)| *start <= va);
        let (region, start) = self.moves[after.checked_sub(1)?];
        (va - start < region.bytes()).then(|| region.start() + (va - start))
    }

    /// A mapper with a cache, one for each thread that replays.
    #[must_use]
    pub fn relocator(&self) -> Relocator<'_> {
        Relocator { relocation: self, lines: [Line::UNUSED; LINES] }
    }

    /// What to add (wrapping) to a recorded address.
    fn distance(&self, va: u64) -> Option<u64> {
        let after = self.moves.partition_point(|(region, _)| region.start() <= va);
        let (region, start) = self.moves[after.checked_sub(1)?];
        (va < region.end()).then(|| start.wrapping_sub(region.start()))
    }
}

/// Cache lines of a [`Relocator`]: a program's code, stack and heap pages alternate at every reference.
const LINES: usize = 64;

/// One page whose distance is known.
#[derive(Debug, Clone, Copy)]
struct Line {
    page: u64,
    distance: u64,
}

impl Line {
    /// No address has this page number.
    const UNUSED: Line = Line { page: u64::MAX, distance: 0 };
}

/// Maps recorded addresses through a [`Relocation`], fast. Owned by one thread.
#[derive(Debug, Clone)]
pub struct Relocator<'a> {
    relocation: &'a Relocation,
    lines: [Line; LINES],
}

impl Relocator<'_> {
    /// Where a recorded address goes; `None` outside every region.
    #[inline]
    pub fn map(&mut self, va: u64) -> Option<u64> {
        let page = va / PAGE_SIZE;
        let line = &mut self.lines[page as usize % LINES];
        if line.page != page {
            let distance = self.relocation.distance(va)?;
            *line = Line { page, distance };
        }
        Some(va.wrapping_add(line.distance))
    }
}
