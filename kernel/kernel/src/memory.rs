//! Where things are: physical memory as the loader describes it, and the kernel's address space.
//!
//! | Addresses | Entries of the root | What |
//! |---|---|---|
//! | `0` to `0x7FFF_FFFF_FFFF` | 0 to 255 | the program |
//! | [`DIRECT_MAP`] | 0x110 | the first 512 GiB of physical memory, devices included |
//! | [`STACKS`] | 0x1C0 | kernel stacks, each with a hole below it |
//! | `0xFFFF_F680_0000_0000` | 0x1ED | the manager's self-map |
//! | `0xFFFF_F700_0000_0000` | 0x1EE | the manager's hyperspace |
//! | [`KERNEL_BASE`] | 0x1FF | the kernel |
//!
//! Physical memory below 1 MiB, the kernel, its heap and stacks, and the archive stay the
//! kernel's; the rest is handed to the manager.

use arrayvec::ArrayVec;
use ntmm::platform::FrameRange;
use ntmm_pte::{Pages, Pfn};

/// Size of a page.
pub const PAGE: u64 = 4096;
/// Physical memory.
pub const DIRECT_MAP: u64 = 0xFFFF_8800_0000_0000;
/// Kernel stacks.
pub const STACKS: u64 = 0xFFFF_E000_0000_0000;
/// The kernel, plus where it is loaded.
pub const KERNEL_BASE: u64 = 0xFFFF_FFFF_8000_0000;
/// First address that is not a program's.
pub const USER_END: u64 = 0x7FFF_FFFF_0000;

/// Most ranges of memory.
const RANGES: usize = 16;

/// Physical memory at its virtual address.
pub const fn direct(physical: u64) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}

/// Physical address of something in the direct map.
pub fn physical_of(pointer: *const u8) -> u64 {
    pointer as u64 - DIRECT_MAP
}

/// Runs of free physical memory, in pages, ascending.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    ranges: ArrayVec<(u64, u64), RANGES>,
}

impl MemoryMap {
    /// Adds the whole pages between two addresses.
    pub fn add(&mut self, start: u64, end: u64) {
        let (start, end) = (start.div_ceil(PAGE), end / PAGE);
        if start < end && !self.ranges.is_full() {
            let place = self.ranges.partition_point(|range| range.0 < start);
            self.ranges.insert(place, (start, end));
        }
    }

    /// Takes out all pages that have a byte between two addresses.
    pub fn remove(&mut self, start: u64, end: u64) {
        let (start, end) = (start / PAGE, end.div_ceil(PAGE));
        let before = core::mem::take(&mut self.ranges);
        for (first, last) in before {
            for (first, last) in [(first, last.min(start)), (first.max(end), last)] {
                if first < last && !self.ranges.is_full() {
                    self.ranges.push((first, last));
                }
            }
        }
    }

    /// Takes `pages` pages from the beginning of the first range that has as many.
    pub fn take(&mut self, pages: u64) -> Option<u64> {
        let range = self.ranges.iter_mut().find(|range| range.1 - range.0 >= pages)?;
        let first = range.0;
        range.0 += pages;
        Some(first * PAGE)
    }

    /// Keeps the first `pages` pages only.
    pub fn truncate(&mut self, pages: u64) {
        let mut left = pages;
        for range in &mut self.ranges {
            range.1 = range.1.min(range.0 + left);
            left -= range.1 - range.0;
        }
    }

    /// Takes `pages` pages from the end of the longest range, if it has more.
    pub fn take_last(&mut self, pages: u64) -> Option<FrameRange> {
        let range = self.ranges.iter_mut().max_by_key(|range| range.1 - range.0)?;
        if pages == 0 || range.1 - range.0 <= pages {
            return None;
        }
        range.1 -= pages;
        Some(FrameRange { start: Pfn::new(range.1 as u32), count: Pages::new(pages) })
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.ranges.iter().map(|range| range.1 - range.0).sum()
    }

    /// End of the highest range.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.1 * PAGE)
    }

    /// The ranges, as the manager wants them.
    pub fn frame_ranges(&self) -> impl Iterator<Item = FrameRange> {
        self.ranges.iter().filter(|range| range.0 < range.1).map(|&(start, end)| FrameRange {
            start: Pfn::new(start as u32),
            count: Pages::new(end - start),
        })
    }
}
