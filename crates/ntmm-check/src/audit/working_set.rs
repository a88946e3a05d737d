//! Working sets: invariant 5 of spec 3.13, and the figures of 6.3.
//!
//! While the tables are walked each valid page finds its entry through its frame. Different
//! pages find different entries, because an entry names its page. The free list reaches
//! different entries too, none of them in use. So when the two together are as many as there
//! are entries, no entry is left that maps nothing, and none maps what another maps.

use ntmm::Manager;
use ntmm::inspect::SpaceView;
use ntmm::platform::Platform;
use ntmm::working_set::entry::WorkingSetEntry;
use ntmm::working_set::header::HEADER_WORDS;
use ntmm_pte::Pfn;
use ntmm_sync::atomic::Ordering;

use super::defect::{Defect, Figure};
use super::tables::Census;

/// A link that names no entry (WSLE_NULL_INDEX).
const END: u32 = u32::MAX;

/// Bit of an entry that is in the hash, and the bits of a slot of it that hold an index, plus one.
const HASHED: u64 = 1 << 8;
const INDEX_BITS: u32 = 28;

/// Free entries compared at a time.
const RUN: usize = 16;

/// A working-set list, read through the frames the tables have for it.
#[derive(Debug)]
pub(super) struct List {
    /// Frame of the table that maps it.
    pub(super) table: Pfn,
    /// Its frames.
    pub(super) pages: Vec<Pfn>,
    /// A picture of its entries.
    pub(super) words: Vec<u64>,
    /// Pages of the hash, at the end of the table.
    pub(super) hash_pages: u32,
    /// A picture of its slots.
    pub(super) hash: Vec<u64>,
    pub(super) entries: u32,
    pub(super) first_dynamic: u32,
}

impl Default for List {
    fn default() -> Self {
        let (pages, words) = (Vec::new(), Vec::new());
        Self {
            table: Pfn::new(0),
            pages,
            words,
            hash_pages: 0,
            hash: Vec::new(),
            entries: 0,
            first_dynamic: 0,
        }
    }
}

impl List {
    /// Takes the picture of the entries from the pages.
    pub(super) fn read<P: Platform>(&mut self, manager: &Manager<P>) {
        let mut skipped = HEADER_WORDS as usize;
        for &page in &self.pages {
            let words = &manager.platform().frame(page)[skipped..];
            let wanted = words.len().min(self.entries as usize - self.words.len());
            self.words.extend(words[..wanted].iter().map(|word| word.load(Ordering::Relaxed)));
            skipped = 0;
        }
    }

    /// Entry `index`, if it exists.
    #[inline]
    pub(super) fn entry(&self, index: u32) -> Option<WorkingSetEntry> {
        self.words.get(index as usize).map(|&word| WorkingSetEntry::from_word(word))
    }
}

/// Checks the list of a space whose tables have been walked.
pub(super) fn check<P: Platform>(
    space: &SpaceView<'_, P>,
    list: &List,
    census: &Census,
) -> Result<(), Defect> {
    let header = space.header();
    let id = space.space();
    for index in 0..list.first_dynamic {
        let entry = list.entry(index);
        if entry.is_none_or(|entry| !entry.is_valid() || !entry.is_locked()) {
            return Err(Defect::PermanentEntry { space: id, index });
        }
    }
    let free = count_free(space, list)?;
    check_hash(space, list)?;
    let figures = [
        (Figure::WorkingSetSize, census.in_use, header.size()),
        (Figure::Entries, census.in_use + free, list.entries),
        (Figure::LastEntry, census.last, header.last_entry()),
        (Figure::FirstDynamic, census.locked, list.first_dynamic),
        (Figure::NonDirect, census.indirect, header.non_direct()),
    ];
    for (figure, expected, found) in figures {
        if expected != found {
            let (expected, found) = (u64::from(expected), u64::from(found));
            return Err(Defect::Figure { space: id, figure, expected, found });
        }
    }
    Ok(())
}

/// Checks that the hash has the entries that say they are in it, each where its page is looked for
/// (spec 6.6): from the slot of its address on there is none free before it.
fn check_hash<P: Platform>(space: &SpaceView<'_, P>, list: &List) -> Result<(), Defect> {
    let size = list.hash.len() as u64;
    let id = space.space();
    let mut used = 0;
    for (number, &word) in list.hash.iter().enumerate().filter(|(_, word)| **word != 0) {
        let wrong = Err(Defect::HashSlot { space: id, slot: Some(number as u32) });
        used += 1;
        let (page, index) = (word >> INDEX_BITS, word & ((1 << INDEX_BITS) - 1));
        let entry = index.checked_sub(1).and_then(|index| list.entry(index as u32));
        let fits = entry.is_some_and(|entry| {
            entry.is_valid()
                && !entry.is_direct()
                && entry.to_word() & HASHED != 0
                && entry.page().get() == page
        });
        if !fits {
            return wrong;
        }
        let mut slot = page * 4 % (size - 1);
        while slot != number as u64 {
            if list.hash[slot as usize] == 0 {
                return wrong;
            }
            slot = (slot + 1) % size;
        }
    }
    let hashed = list.words.iter().filter(|&&word| word & (HASHED | 1) == HASHED | 1).count();
    if hashed == used { Ok(()) } else { Err(Defect::HashSlot { space: id, slot: None }) }
}

/// Follows the free list; returns its length.
///
/// Most of a free list are entries that link to the one behind them, which are passed over
/// several at a time.
fn count_free<P: Platform>(space: &SpaceView<'_, P>, list: &List) -> Result<u32, Defect> {
    let id = space.space();
    let mut index = space.header().first_free();
    let mut length = 0;
    while index != END {
        // A list longer than there are entries runs in a ring.
        let entry = list.entry(index).filter(|entry| length < list.entries && !entry.is_valid());
        let Some(entry) = entry else {
            return Err(Defect::FreeEntry { space: id, index });
        };
        length += 1;
        let next = entry.next_free().unwrap_or(END);
        let run = if next == index + 1 { run_length(list, next) } else { 0 };
        length += run;
        index = next + run;
    }
    Ok(length)
}

/// A number of entries from `first` on that each are free and link to the one behind them.
fn run_length(list: &List, first: u32) -> u32 {
    let words = list.words.get(first as usize..).unwrap_or_default();
    let mut length = 0;
    for several in words.chunks_exact(RUN) {
        let links = (first + length + 1..).zip(several);
        let differences = links
            .fold(0, |bits, (next, &word)| bits | (word ^ WorkingSetEntry::free(next).to_word()));
        if differences != 0 {
            break;
        }
        length += RUN as u32;
    }
    length
}
