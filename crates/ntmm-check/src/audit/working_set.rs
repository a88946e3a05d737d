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

use super::decode::WORDS;
use super::defect::{Defect, Figure};
use super::tables::Census;

/// A link that names no entry (WSLE_NULL_INDEX).
const END: u32 = u32::MAX;

/// A working-set list, read through the frames the tables have for it.
#[derive(Debug)]
pub(super) struct List {
    /// Frame of the table that maps it.
    pub(super) table: Pfn,
    /// Its frames.
    pub(super) pages: Vec<Pfn>,
    /// Pages of the hash, at the end of the table.
    pub(super) hash_pages: u32,
    pub(super) entries: u32,
    pub(super) first_dynamic: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { table: Pfn::new(0), pages: Vec::new(), hash_pages: 0, entries: 0, first_dynamic: 0 }
    }
}

impl List {
    /// Entry `index`, if it exists.
    #[inline]
    pub(super) fn entry<P: Platform>(
        &self,
        manager: &Manager<P>,
        index: u32,
    ) -> Option<WorkingSetEntry> {
        if index >= self.entries {
            return None;
        }
        let number = (HEADER_WORDS + index) as usize;
        let frame = manager.platform().frame(*self.pages.get(number / WORDS)?);
        Some(WorkingSetEntry::from_word(frame[number % WORDS].load(Ordering::Relaxed)))
    }
}

/// Checks the list of a space whose tables have been walked.
pub(super) fn check<P: Platform>(
    manager: &Manager<P>,
    space: &SpaceView<'_, P>,
    list: &List,
    census: &Census,
) -> Result<(), Defect> {
    let header = space.header();
    let id = space.space();
    for index in 0..list.first_dynamic {
        let entry = list.entry(manager, index);
        if entry.is_none_or(|entry| !entry.is_valid() || !entry.is_locked()) {
            return Err(Defect::PermanentEntry { space: id, index });
        }
    }
    let free = count_free(manager, space, list)?;
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

/// Follows the free list; returns its length.
///
/// Most of a free list are entries that link to the one behind them. A run of these is read
/// without waiting for each link before the next is loaded.
fn count_free<P: Platform>(
    manager: &Manager<P>,
    space: &SpaceView<'_, P>,
    list: &List,
) -> Result<u32, Defect> {
    let id = space.space();
    let mut index = space.header().first_free();
    let mut length = 0;
    while index != END {
        let number = (HEADER_WORDS + index) as usize;
        let page = list.pages.get(number / WORDS);
        // A list longer than there are entries runs in a ring.
        let Some(&page) = page.filter(|_| index < list.entries && length < list.entries) else {
            return Err(Defect::FreeEntry { space: id, index });
        };
        let words = manager.platform().frame(page);
        for word in &words[number % WORDS..] {
            let entry = WorkingSetEntry::from_word(word.load(Ordering::Relaxed));
            if entry.is_valid() {
                return Err(Defect::FreeEntry { space: id, index });
            }
            length += 1;
            let next = entry.next_free().unwrap_or(END);
            let run = next == index + 1;
            index = next;
            if !run {
                break;
            }
        }
    }
    Ok(length)
}
