//! Ageing and trimming one set (spec 6.11 step 4).
//!
//! A visit passes over a stretch of entries. A page accessed since the last visit becomes
//! young, any other one pass older; pages of the asked age or older leave, up to the asked
//! number. Clearing an accessed bit flushes the translation, so that the next access is seen.

use ntmm_pte::{PagingMode, PteWord};

use super::entry::Age;
use super::evict::Eviction;
use super::guard::WorkingSetGuard;
use crate::flush::FlushBatch;
use crate::platform::Platform;

/// What a visit is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrimOrder {
    /// Pages at least this old leave.
    pub(crate) age: Age,
    /// At most this many leave.
    pub(crate) pages: u32,
    /// The set is not made smaller than this.
    pub(crate) floor: u32,
    /// Whether the pages that stay grow older.
    pub(crate) ageing: Ageing,
}

/// Whether a visit ages what it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ageing {
    Yes,
    No,
}

/// How far a visit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Pages that left.
    pub(crate) trimmed: u32,
    /// The entry to go on with, or none when the end of the list was reached.
    pub(crate) next: Option<u32>,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Visits up to `entries` entries from `from` on.
    pub(crate) fn visit(
        &mut self,
        from: u32,
        entries: u32,
        order: TrimOrder,
        batch: &mut FlushBatch<'_, P>,
    ) -> Visit {
        let header = self.header();
        let first = from.max(header.first_dynamic());
        let mut trimmed = 0;
        let mut index = first;
        while index <= header.last_entry() {
            if index - first >= entries || batch.is_full() {
                return Visit { trimmed, next: Some(index) };
            }
            let enough = trimmed >= order.pages || header.size() <= order.floor;
            if enough && order.ageing == Ageing::No {
                break;
            }
            if !enough && self.trim_if_old(index, order.age, batch) {
                trimmed += 1;
            } else if order.ageing == Ageing::Yes {
                self.age_entry(index, batch);
            }
            index += 1;
        }
        Visit { trimmed, next: None }
    }

    /// Evicts the page of an entry that has reached `age`; says whether it did.
    fn trim_if_old(&mut self, index: u32, age: Age, batch: &mut FlushBatch<'_, P>) -> bool {
        let entry = self.entry(index);
        if !entry.is_valid() || entry.is_locked() {
            return false;
        }
        let at = self.entry_of_valid(P::Paging::va_of_vpn(entry.page()));
        let accessed = P::Paging::is_accessed(self.manager().load_entry(at));
        let now = if accessed { Age::YOUNG } else { entry.age() };
        let trimmed = now >= age && self.evict(index, batch) == Eviction::Done;
        if trimmed {
            self.manager().counters.trimmed.add(1);
        }
        trimmed
    }

    fn age_entry(&mut self, index: u32, batch: &mut FlushBatch<'_, P>) {
        let entry = self.entry(index);
        if !entry.is_valid() || entry.is_locked() {
            return;
        }
        let va = P::Paging::va_of_vpn(entry.page());
        let at = self.entry_of_valid(va);
        let word = self.manager().load_entry(at);
        if !P::Paging::is_accessed(word) {
            self.set_entry(index, entry.with_age(entry.age().older()));
            return;
        }
        // A dirty bit set in between makes the exchange fail; the page stays accessed.
        if self.manager().exchange_entry(at, word, P::Paging::clear_accessed(word)).is_ok() {
            batch.push_page(va);
        }
        self.set_entry(index, entry.with_age(Age::YOUNG));
    }
}
