//! Growth and replacement at fault (spec 6.8, 6.10).
//!
//! Below its minimum a set always grows. Between minimum and maximum it grows while memory is
//! not short; beyond the maximum only while memory is plenty. Otherwise the incoming page
//! replaces one of the set's own: the oldest found among a stretch of entries from NextSlot on,
//! not accessed before accessed.

use ntmm_pte::{Level, PagingMode, PteWord, Va};

use super::entry::Age;
use super::evict::Eviction;
use super::guard::WorkingSetGuard;
use super::header::MAXIMUM_HARD;
use crate::flush::FlushBatch;
use crate::platform::Platform;

/// Entries looked at for one victim before the best seen is taken.
const SEARCH: u32 = 64;

/// Pages an instruction may need at once: its own two and two for each of three operands. A set
/// with no more pages to choose from than this grows, whatever its maximum: else the pages of
/// one instruction would replace each other for ever. Its page tables may fill the rest.
const INSTRUCTION_PAGES: u32 = 8;

/// How a set makes room for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Grow,
    Replace,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Whether `more` pages are added to the set or replace some of its own.
    pub(crate) fn room_for(&self, more: u32) -> Room {
        let header = self.header();
        let available = &self.manager().available;
        let thresholds = available.thresholds();
        let size = header.size() + more;
        let enough = if size <= header.minimum() {
            true
        } else if size <= header.maximum() {
            available.unreserved() > thresholds.minimum + more
        } else {
            !self.has_flag(MAXIMUM_HARD) && available.unreserved() > thresholds.plenty
        };
        if enough { Room::Grow } else { Room::Replace }
    }

    /// Evicts one page to make room for the page at `faulting`, whose page tables stay. Returns
    /// whether there was one to evict.
    pub(crate) fn replace_one(&mut self, faulting: Va, batch: &mut FlushBatch<'_, P>) -> bool {
        let header = self.header();
        let (first, last) = (header.first_dynamic(), header.last_entry());
        if last < first {
            return false;
        }
        let mut best: Option<(Age, u32)> = None;
        let mut candidates = 0;
        let mut slot = header.next_slot().clamp(first, last);
        for seen in 0..=(last - first) {
            if seen >= SEARCH && candidates > INSTRUCTION_PAGES {
                break;
            }
            if let Some(age) = self.victim_age(slot, faulting) {
                candidates += 1;
                if best.is_none_or(|(oldest, _)| age > oldest) {
                    best = Some((age, slot));
                }
            }
            if candidates > INSTRUCTION_PAGES && best.is_some_and(|(age, _)| age == Age::OLD) {
                break;
            }
            slot = if slot >= last { first } else { slot + 1 };
        }
        let Some((_, victim)) = best.filter(|_| candidates > INSTRUCTION_PAGES) else {
            return false;
        };
        header.set_next_slot(if victim >= last { first } else { victim + 1 });
        let done = self.evict(victim, batch) == Eviction::Done;
        if done {
            self.manager().counters.replaced.add(1);
        }
        done
    }

    /// The age a victim counts as, or none when the entry may not be taken. An access since the
    /// last pass makes the page young and is forgotten here, as the clock does.
    fn victim_age(&self, index: u32, faulting: Va) -> Option<Age> {
        let entry = self.entry(index);
        if !entry.is_valid() || entry.is_locked() {
            return None;
        }
        let manager = self.manager();
        let va = P::Paging::va_of_vpn(entry.page());
        if P::Paging::is_page_table_address(va) {
            if self.is_table_of(va, faulting) {
                return None;
            }
            let pfn = manager.resident_frame(self.root(), va);
            return (manager.entry(pfn).share() <= 1).then_some(Age::OLD);
        }
        let at = self.entry_of_valid(va);
        let word = manager.load_entry(at);
        if P::Paging::is_accessed(word) {
            // Another processor may have set the dirty bit since: then the bit stays as it is.
            let _ = manager.exchange_entry(at, word, P::Paging::clear_accessed(word));
            self.set_entry(index, entry.with_age(Age::YOUNG));
            return Some(Age::YOUNG);
        }
        Some(entry.age().max(Age::of_passes(1)))
    }

    fn is_table_of(&self, table: Va, faulting: Va) -> bool {
        let mut level = Some(Level::Table);
        while let Some(at) = level {
            if P::Paging::table_address(faulting, at) == table {
                return true;
            }
            level = if at == P::Paging::TOP { None } else { at.up() };
        }
        false
    }
}
