//! Going through the entries of a range.
//!
//! A [`RangeWalk`] is the cursor an operation keeps between steps. A stretch
//! ([`WorkingSetGuard::walk_stretch`]) takes it on: it makes the tables on the way valid, by reading them
//! from a paging file if need be, hands each entry to a visitor, and flushes what the visitor put
//! into the batch before anything else can happen to those frames. What has to be waited for
//! before the next stretch is in [`Pending`].

use ntmm_pte::{Bytes, Level, PAGE_SIZE, Pages, PagingMode, Slot, Va, Vpn};

use crate::fault::{Blocked, Holds};
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Epoch, Pause, Wait, WaitKey};
use crate::platform::{FlushTicket, Platform};
use crate::tables::{EntryRef, Walk};
use crate::working_set::WorkingSetGuard;

/// Visits in one stretch, and zero entries in one visit.
const STRETCH: usize = 48;

/// Room a visitor may need in the batch: its page and the tables it empties.
const BATCH_ROOM: usize = 4;

/// A cursor over a range of pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeWalk {
    next: Vpn,
    end: Vpn,
    finished: Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    No,
    Yes,
}

/// What an operation on ranges waits for between its stretches: a flush, and reads of tables.
#[derive(Debug)]
pub(crate) struct Pending {
    flush: Option<FlushTicket>,
    pub(crate) holds: Holds,
}

impl Pending {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { flush: None, holds: Holds::new() }
    }

    /// Remembers a flush that has to be acknowledged before the operation goes on, and says what
    /// to wait for.
    pub(crate) const fn await_flush(&mut self, ticket: FlushTicket) -> Wait {
        self.flush = Some(ticket);
        flush_wait(ticket)
    }

    /// Looks whether what was waited for has happened.
    #[inline]
    pub(crate) fn check<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        if let Some(ticket) = self.flush {
            if !manager.platform().acknowledged(ticket) {
                return Err(flush_wait(ticket).into());
            }
            self.flush = None;
        }
        self.holds.check(manager)
    }
}

/// What is done where a table is missing and has never existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingTables {
    /// The visitor is told how many pages have no entry, and they are passed over.
    Skip,
    /// The table is made.
    Create,
}

/// What a visitor is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visited {
    /// The entry of one page.
    Entry {
        /// Its entry.
        entry: EntryRef,
        /// What the entry holds. Hardware may set bits of a valid one, and one in transition
        /// form may change until the frame it names is locked.
        word: u64,
        /// The page.
        page: Vpn,
    },
    /// A run of pages that have no entry, or, where missing tables are skipped, a zero one.
    Nothing {
        /// First page.
        first: Vpn,
        /// Last page.
        last: Vpn,
    },
}

impl RangeWalk {
    /// The pages from `start` to `end`, both included.
    pub(crate) const fn new(start: Vpn, end: Vpn) -> Self {
        Self { next: start, end, finished: Finished::No }
    }

    fn advance_past(&mut self, last: Vpn) {
        match last.checked_add(Pages::new(1)) {
            Some(next) if last < self.end => self.next = next,
            _ => self.finished = Finished::Yes,
        }
    }
}

/// What a walk hands each stretch to.
pub(crate) trait Visitor<P: Platform> {
    /// Visits one entry or one run without entries.
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked>;

    /// The longest run of pages without entries that is handed over at once.
    fn longest_run(&self) -> Pages {
        Pages::new(u64::MAX)
    }

    /// Called at the end of a stretch, under the same lock: `next` is the first page not
    /// visited, or none when the range is finished.
    fn end_stretch(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, next: Option<Vpn>) {
        let _ = (set, next);
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes `walk` on by a stretch. Fine when that was the last one and every processor has
    /// acknowledged its flush; otherwise what has to be done before the next.
    pub(crate) fn walk_stretch(
        &mut self,
        pending: &mut Pending,
        walk: &mut RangeWalk,
        missing: MissingTables,
        visitor: &mut impl Visitor<P>,
    ) -> Result<(), Blocked> {
        if walk.finished == Finished::Yes {
            return Ok(());
        }
        let mut batch = FlushBatch::new(self.manager(), self.space());
        let mut blocked = None;
        let mut known = None;
        for _ in 0..STRETCH {
            if let Err(why) =
                self.visit_next(&mut batch, pending, walk, &mut known, missing, visitor)
            {
                blocked = Some(why);
                break;
            }
            if walk.finished == Finished::Yes || batch.room() < BATCH_ROOM {
                break;
            }
        }
        let next = (walk.finished == Finished::No).then_some(walk.next);
        visitor.end_stretch(self, next);
        pending.flush = batch.finish(self.token());
        match (blocked, pending.flush) {
            (Some(blocked), _) => Err(blocked),
            (None, Some(ticket)) => Err(flush_wait(ticket).into()),
            (None, None) if walk.finished == Finished::No => Err(Blocked::Restart),
            (None, None) => Ok(()),
        }
    }

    /// Visits the next page or run of pages. `known` is the entry of that page, when its table
    /// is known to be there.
    #[inline]
    fn visit_next(
        &mut self,
        batch: &mut FlushBatch<'_, P>,
        pending: &mut Pending,
        walk: &mut RangeWalk,
        known: &mut Option<EntryRef>,
        missing: MissingTables,
        visitor: &mut impl Visitor<P>,
    ) -> Result<(), Blocked> {
        let manager = self.manager();
        let page = walk.next;
        let entry = match known.take() {
            Some(entry) => entry,
            None => {
                let va = P::Paging::va_of_vpn(page);
                match manager.walk(self.root(), va, Level::Table) {
                    Walk::Found(entry) => entry,
                    // Large pages are freed in another way, and nothing else is done to them.
                    Walk::Large(_) => manager.corrupt_entry(va),
                    Walk::Missing { level, entry } => {
                        if manager.load_entry(entry) != 0 {
                            // What lies below is seen when the table is back.
                            return self.bring_table(va, level, entry, &mut pending.holds);
                        }
                        if missing == MissingTables::Skip {
                            let base = P::Paging::span_base(va, level);
                            let last = last_page_of(base, P::Paging::span(level)).min(walk.end);
                            let longest = visitor.longest_run().saturating_sub(Pages::ONE);
                            let last = page.checked_add(longest).map_or(last, |end| last.min(end));
                            visitor.visit(self, batch, Visited::Nothing { first: page, last })?;
                            walk.advance_past(last);
                            return Ok(());
                        }
                        // The visitor gives the new table its first entry before the lock is
                        // dropped.
                        self.descend(va, &mut pending.holds, &mut None, |_| Ok(()))?
                    }
                }
            }
        };
        let word = manager.load_entry(entry);
        if word == 0 && missing == MissingTables::Skip {
            let (last, next) = self.zero_run(entry, page, walk.end);
            visitor.visit(self, batch, Visited::Nothing { first: page, last })?;
            walk.advance_past(last);
            *known = next;
            return Ok(());
        }
        visitor.visit(self, batch, Visited::Entry { entry, word, page })?;
        walk.advance_past(page);
        // The visitor may have emptied the table, which is gone then.
        if walk.finished == Finished::No && manager.entry(entry.table).used_entries() > 0 {
            *known = next_in_table::<P>(entry);
        }
        Ok(())
    }

    /// The last page of the run of zero entries that `entry`, which is zero and belongs to
    /// `page`, begins in its table, up to `end`; and the entry after it, if the table has one.
    #[inline]
    fn zero_run(&self, entry: EntryRef, page: Vpn, end: Vpn) -> (Vpn, Option<EntryRef>) {
        let first = entry.slot.index() as u64;
        let more = (end.get() - page.get())
            .min(P::Paging::ENTRIES as u64 - 1 - first)
            .min(STRETCH as u64 - 1);
        let at = |slot| EntryRef { table: entry.table, slot: Slot::from_low_bits(slot) };
        let run = (first + 1..=first + more)
            .take_while(|&slot| self.manager().load_entry(at(slot)) == 0)
            .count() as u64;
        (Vpn::new(page.get() + run), next_in_table::<P>(at(first + run)))
    }
}

/// The entry after `entry` in its table.
#[inline]
fn next_in_table<P: Platform>(entry: EntryRef) -> Option<EntryRef> {
    let next = entry.slot.index() + 1;
    (next < P::Paging::ENTRIES)
        .then(|| EntryRef { table: entry.table, slot: Slot::from_low_bits(next as u64) })
}

/// The last page of a span of addresses.
pub(crate) fn last_page_of(base: Va, span: Bytes) -> Vpn {
    let first = base.vpn();
    let pages = span.get() / PAGE_SIZE;
    first.checked_add(Pages::new(pages - 1)).unwrap_or(first)
}

/// Waiting for a flush to be acknowledged.
pub(crate) const fn flush_wait(ticket: FlushTicket) -> Wait {
    Wait { key: WaitKey::Flush(ticket), epoch: Epoch(0) }
}
