//! Going through the entries of a range.
//!
//! A [`RangeWalk`] is the cursor an operation keeps between steps. [`Manager::walk_range`] takes
//! it through one stretch after the other: it makes the tables on the way valid, by reading them
//! from a paging file if need be, hands each entry to a visitor, and flushes what the visitor put
//! into the batch before anything else can happen to those frames.

use ntmm_pte::{Bytes, Level, PAGE_SIZE, Pages, PagingMode, Va, Vpn};
use ntmm_sync::level::{Token, Unlocked};

use crate::address_space::AddressSpaceId;
use crate::fault::{Blocked, Holds};
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Epoch, Pause, Wait, WaitKey};
use crate::platform::{FlushTicket, Platform};
use crate::status::NtStatus;
use crate::tables::{EntryRef, Walk};
use crate::working_set::WorkingSetGuard;

/// Entries visited in one stretch.
const STRETCH: usize = 48;

/// Room a visitor may need in the batch: its page and the tables it empties.
const BATCH_ROOM: usize = 4;

/// A cursor over a range of pages.
#[derive(Debug)]
pub(crate) struct RangeWalk {
    next: Vpn,
    end: Vpn,
    finished: Finished,
    flush: Option<FlushTicket>,
    pub(crate) holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    No,
    Yes,
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
        /// The page.
        page: Vpn,
    },
    /// A run of pages that have no entry.
    Nothing {
        /// First page.
        first: Vpn,
        /// Last page.
        last: Vpn,
    },
}

impl RangeWalk {
    /// The pages from `start` to `end`, both included.
    pub(crate) fn new(start: Vpn, end: Vpn) -> Self {
        Self { next: start, end, finished: Finished::No, flush: None, holds: Holds::default() }
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

    /// Called at the end of a stretch, under the same lock: `next` is the first page not
    /// visited, or none when the range is finished.
    fn end_stretch(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, next: Option<Vpn>) {
        let _ = (set, next);
    }
}

impl<P: Platform> Manager<P> {
    /// Takes `walk` to its end, or says why it cannot go on now.
    pub(crate) fn walk_range(
        &self,
        space: AddressSpaceId,
        walk: &mut RangeWalk,
        missing: MissingTables,
        visitor: &mut impl Visitor<P>,
    ) -> Result<(), Pause> {
        loop {
            if let Some(ticket) = walk.flush {
                if !self.platform().acknowledged(ticket) {
                    return Err(flush_wait(ticket).into());
                }
                walk.flush = None;
            }
            if walk.finished == Finished::Yes {
                walk.holds.release(self);
                return Ok(());
            }
            let outcome = {
                let mut entry = self.enter();
                self.walk_stretch(entry.token(), space, walk, missing, visitor)
            };
            if let Err(blocked) = outcome
                && let Some(pause) = walk.holds.absorb(self, blocked)
            {
                return Err(pause);
            }
        }
    }

    fn walk_stretch(
        &self,
        token: &mut Token<'_, Unlocked>,
        space: AddressSpaceId,
        walk: &mut RangeWalk,
        missing: MissingTables,
        visitor: &mut impl Visitor<P>,
    ) -> Result<(), Blocked> {
        walk.holds.check(self)?;
        let mut batch = self.begin_flush(space)?;
        let mut set = self.lock_space(token, space).ok_or(NtStatus::INVALID_HANDLE)?;
        let mut outcome = Ok(());
        for _ in 0..STRETCH {
            if walk.finished == Finished::Yes || batch.room() < BATCH_ROOM {
                break;
            }
            outcome = visit_next(&mut set, &mut batch, walk, missing, visitor);
            if outcome.is_err() {
                break;
            }
        }
        let next = (walk.finished == Finished::No).then_some(walk.next);
        visitor.end_stretch(&mut set, next);
        walk.flush = batch.finish(set.token());
        outcome
    }
}

fn visit_next<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    walk: &mut RangeWalk,
    missing: MissingTables,
    visitor: &mut impl Visitor<P>,
) -> Result<(), Blocked> {
    let manager = set.manager();
    let va = P::Paging::va_of_vpn(walk.next);
    let page = walk.next;
    let (level, entry) = match manager.walk(set.root(), va, Level::Table) {
        Walk::Found(entry) => {
            visitor.visit(set, batch, Visited::Entry { entry, page })?;
            walk.advance_past(page);
            return Ok(());
        }
        Walk::Missing { level, entry } => (level, entry),
    };
    if manager.load_entry(entry) != 0 {
        // What lies below is seen when the table is back.
        return set.bring_table(va, level, entry, &mut walk.holds);
    }
    match missing {
        MissingTables::Skip => {
            let last = last_page_of(P::Paging::span_base(va, level), P::Paging::span(level));
            let last = last.min(walk.end);
            visitor.visit(set, batch, Visited::Nothing { first: page, last })?;
            walk.advance_past(last);
        }
        MissingTables::Create => {
            // The visitor gives the new table its first entry before the lock is dropped.
            let entry = set.descend(va, &mut walk.holds, &mut None, |_| Ok(()))?;
            visitor.visit(set, batch, Visited::Entry { entry, page })?;
            walk.advance_past(page);
        }
    }
    Ok(())
}

fn last_page_of(base: Va, span: Bytes) -> Vpn {
    let first = base.vpn();
    let pages = span.get() / PAGE_SIZE;
    first.checked_add(Pages::new(pages - 1)).unwrap_or(first)
}

/// Waiting for a flush to be acknowledged.
pub(crate) const fn flush_wait(ticket: FlushTicket) -> Wait {
    Wait { key: WaitKey::Flush(ticket), epoch: Epoch(0) }
}
