//! Paging structures built by hand, word by word, for tests: the shifts and bits are written
//! here once more, from the manual.

use ntmm::platform::FrameRange;
use ntmm_pte::{Pages, Pfn, Va};
use ntmm_sync::atomic::Ordering;

use crate::ram::{FrameSlot, Ram};

pub const P: u64 = 1;
pub const W: u64 = 2;
pub const U: u64 = 4;
pub const A: u64 = 0x20;
pub const D: u64 = 0x40;
pub const PS: u64 = 0x80;
pub const NX: u64 = 1 << 63;

/// First frame of the test memory, so that frame numbers and slots differ.
pub const FIRST: u32 = 0x10;
/// Frames of the test memory.
pub const FRAMES: u64 = 64;

/// The memory every test uses.
pub fn memory() -> FrameRange {
    FrameRange { start: Pfn::new(FIRST), count: Pages::new(FRAMES) }
}

/// How a mode's tables look.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Lowest address bit each level selects by, root first.
    pub shifts: &'static [u32],
    /// Bytes of an entry.
    pub entry: usize,
    /// Entries of the root.
    pub root_entries: usize,
}

pub const I386: Shape = Shape { shifts: &[22, 12], entry: 4, root_entries: 1024 };
pub const PAE: Shape = Shape { shifts: &[30, 21, 12], entry: 8, root_entries: 4 };
pub const AMD64: Shape = Shape { shifts: &[39, 30, 21, 12], entry: 8, root_entries: 512 };

impl Shape {
    /// Byte offset of the entry for `va` at a level.
    pub fn offset(self, level: usize, va: u64) -> usize {
        let entries = if level == 0 { self.root_entries } else { 4096 / self.entry };
        ((va >> self.shifts[level]) as usize % entries) * self.entry
    }
}

/// Writes and reads entries of tables that lie one after the other from frame [`FIRST`] on.
#[derive(Debug)]
pub struct Tables<'a> {
    pub ram: &'a Ram,
    pub shape: Shape,
}

impl<'a> Tables<'a> {
    pub fn new(ram: &'a Ram, shape: Shape) -> Self {
        Self { ram, shape }
    }

    /// The slot of the `number`th frame.
    pub fn slot(&self, number: u32) -> FrameSlot {
        self.ram.slot(Pfn::new(FIRST + number)).expect("inside memory")
    }

    pub fn get(&self, table: u32, level: usize, va: u64) -> u64 {
        self.ram.load(self.slot(table), self.shape.offset(level, va), self.shape.entry)
    }

    pub fn set(&self, table: u32, level: usize, va: u64, entry: u64) {
        self.ram.store(self.slot(table), self.shape.offset(level, va), self.shape.entry, entry);
    }

    /// Chains tables 0, 1, ... to map `va` to the `page`th frame, with the given flags in the
    /// entries from the root down.
    pub fn map(&self, va: u64, flags: &[u64], page: u32) {
        for (level, flags) in flags.iter().enumerate() {
            let last = level + 1 == flags_len(self.shape);
            let target = if last { page } else { level as u32 + 1 };
            let frame = u64::from(FIRST + target) << 12;
            self.set(level as u32, level, va, frame | flags);
        }
    }

    /// The entries from the root down.
    pub fn entries(&self, va: u64) -> Vec<u64> {
        (0..self.shape.shifts.len()).map(|level| self.get(level as u32, level, va)).collect()
    }
}

fn flags_len(shape: Shape) -> usize {
    shape.shifts.len()
}

/// All words of the memory, to see what a walk changed.
pub fn snapshot(ram: &Ram) -> Vec<u64> {
    (0..FRAMES as u32)
        .filter_map(|number| ram.slot(Pfn::new(FIRST + number)))
        .flat_map(|slot| ram.words(slot).iter().map(|word| word.load(Ordering::Relaxed)))
        .collect()
}

/// A user address that selects a different entry at each level of each mode.
pub const VA: Va = Va::new(0x40C0_5000);
