//! The model by which records are coded: what writer and reader both remember of the records before.
//!
//! A trace has few pages and returns to them in similar order with similar bytes. So each page gets a number when it
//! first occurs, remembers which page came after it last time, and remembers for each kind the last byte range and
//! count. A record then says in its first byte which of these guesses hold, and spells out only what does not.
//!
//! First byte of a record, from the low end: kind (2 bits), page code (2), low same (1), size same (1), count code (2).

use crate::reference::AccessKind;

/// How a record names its page (bits 2-3).
pub(super) const PAGE_SAME: u8 = 0;
/// The page that followed the last record's page the last time.
pub(super) const PAGE_FOLLOWER: u8 = 1;
/// A page seen before, by its number.
pub(super) const PAGE_NUMBER: u8 = 2;
/// A page not seen before, by its distance from the last new one.
pub(super) const PAGE_NEW: u8 = 3;

/// The range starts where that of the last record of this page and kind did.
pub(super) const LOW_SAME: u8 = 1 << 4;
/// The range is as long as that of the last record of this page and kind.
pub(super) const SIZE_SAME: u8 = 1 << 5;

/// The count (bits 6-7): one,
pub(super) const COUNT_ONE: u8 = 0;
/// that of the last record of this page and kind,
pub(super) const COUNT_SAME: u8 = 1;
/// or spelled out.
pub(super) const COUNT_NUMBER: u8 = 2;

/// Longest encoded record: first byte, page distance, low, size, count.
pub(super) const MAX_RECORD: usize = 1 + 10 + 2 + 2 + 5;

/// The last record of a page and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) low: u16,
    /// Size less one, so that it fits 12 bits.
    pub(super) size_less_one: u16,
    pub(super) count: u32,
}

/// What is remembered of one page.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) page: u64,
    /// Number of the page that came after this one last time; its own if none did.
    pub(super) follower: u32,
    pub(super) last: [Last; 4],
}

/// The pages seen so far, by number, and the position among them.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) known: Vec<Known>,
    /// Number of the last record's page.
    pub(super) current: u32,
    /// The last page that was new.
    pub(super) newest: u64,
}

impl Model {
    /// Adds a page and returns its number; `None` when there are too many pages for the format.
    pub(super) fn add(&mut self, page: u64) -> Option<u32> {
        let number = u32::try_from(self.known.len()).ok()?;
        self.known.push(Known {
            page,
            follower: number,
            last: [Last { low: 0, size_less_one: 0, count: 0 }; 4],
        });
        self.newest = page;
        Some(number)
    }

    /// Goes from the current page to another, which becomes the current one's follower.
    pub(super) fn move_to(&mut self, number: u32) {
        if let Some(current) = self.known.get_mut(self.current as usize) {
            current.follower = number;
        }
        self.current = number;
    }

    /// What is remembered of the current page for a kind.
    pub(super) fn last(&mut self, kind: AccessKind) -> Option<&mut Last> {
        Some(&mut self.known.get_mut(self.current as usize)?.last[kind as usize])
    }
}

/// Appends an unsigned number, seven bits a byte, low ones first, high bit set on all but the last.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Distances of either sign as unsigned numbers: 0, -1, 1, -2, …
pub(super) fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
