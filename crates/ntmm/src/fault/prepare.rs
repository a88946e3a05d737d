//! Making room before a fault changes anything: frames, working-set entries, and the way down
//! the tables.

use ntmm_pte::{Level, Pages, Protection, Va};

use super::in_page::Holds;
use super::{Blocked, Target};
use crate::frames::PageReservation;
use crate::frames::contents::Wanted;
use crate::operation::{Pause, Wait};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::{EntryRef, Walk};
use crate::working_set::WorkingSetGuard;
use crate::working_set::replace::Room;

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Reserves frames and working-set entries for up to `pages` pages that are to become valid
    /// on the way to `va`, by replacing or by growing the set. The tables of `va` stay.
    #[inline(always)]
    pub(crate) fn prepare(&mut self, va: Va, pages: u32) -> Result<PageReservation<'m, P>, Pause> {
        if self.room_for(pages) == Room::Replace {
            self.replace(va, pages)?;
        }
        if self.free_entries() < pages {
            return self.prepare_growing(va, pages);
        }
        Ok(self.manager().reserve_pages(pages)?)
    }

    /// As [`prepare`](Self::prepare), when the list has too few free entries.
    #[cold]
    fn prepare_growing(&mut self, va: Va, pages: u32) -> Result<PageReservation<'m, P>, Pause> {
        let mut reservation = self.manager().reserve_pages(pages + 1)?;
        if !self.grow_list(&mut reservation) {
            self.replace(va, pages)?;
            if self.free_entries() < pages {
                return Err(NtStatus::NO_MEMORY.into());
            }
        }
        Ok(reservation)
    }

    #[cold]
    fn replace(&mut self, va: Va, pages: u32) -> Result<(), Wait> {
        let mut batch = self.manager().begin_flush(self.space())?;
        for _ in 0..pages {
            if !self.replace_one(va, &mut batch) {
                break;
            }
        }
        batch.finish(self.token());
        Ok(())
    }

    /// Makes the table valid that `entry`, which is of `level`, not valid and not zero, names on
    /// the way to `va`.
    pub(crate) fn bring_table(
        &mut self,
        va: Va,
        level: Level,
        entry: EntryRef,
        holds: &mut Holds,
    ) -> Result<(), Blocked> {
        let mut reservation = self.prepare(va, 1)?;
        let target = Target::table::<P::Paging>(entry, va, level);
        self.resolve_table(target, &mut reservation, holds)
    }

    /// Makes the tables on the way to `va` valid and returns the entry of its page. Before a
    /// table is made that has never existed, `may_create` is asked. The reservation made on the
    /// way covers the page too.
    #[inline(never)]
    pub(crate) fn descend(
        &mut self,
        va: Va,
        holds: &mut Holds,
        reservation: &mut Option<PageReservation<'m, P>>,
        may_create: impl Fn(&Self) -> Result<(), NtStatus>,
    ) -> Result<EntryRef, Blocked> {
        self.descend_to(Level::Table, va, holds, reservation, may_create)
    }

    /// As [`descend`](Self::descend), to the entry of `target`; the page is not large if that is
    /// further down than the directory.
    #[inline]
    pub(crate) fn descend_to(
        &mut self,
        target: Level,
        va: Va,
        holds: &mut Holds,
        reservation: &mut Option<PageReservation<'m, P>>,
        may_create: impl Fn(&Self) -> Result<(), NtStatus>,
    ) -> Result<EntryRef, Blocked> {
        let manager = self.manager();
        loop {
            let (level, entry) = match manager.walk(self.root(), va, target) {
                Walk::Found(entry) => return Ok(entry),
                Walk::Missing { level, entry } => (level, entry),
                Walk::Large(_) => manager.corrupt_entry(va),
            };
            if manager.load_entry(entry) == 0 {
                may_create(self)?;
            }
            let reserved = match &mut *reservation {
                Some(reserved) => reserved,
                none => none.insert(self.prepare(va, level.number())?),
            };
            let target = Target::table::<P::Paging>(entry, va, level);
            self.resolve_table(target, reserved, holds)?;
        }
    }

    #[inline(never)]
    fn resolve_table(
        &mut self,
        target: Target,
        reservation: &mut PageReservation<'m, P>,
        holds: &mut Holds,
    ) -> Result<(), Blocked> {
        let word = self.manager().load_entry(target.entry);
        self.resolve(target, word, Protection::EXECUTE_READWRITE, reservation, holds)?;
        Ok(())
    }

    /// Counts pages of the space whose contents have come to be wanted, or not any more.
    pub(crate) fn count_wanted(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Unchanged => {}
            Wanted::Again => self.count_private(Pages::new(1), Pages::new(0)),
            Wanted::NoLonger => self.count_private(Pages::new(0), Pages::new(1)),
        }
    }

    /// Counts pages the space has in memory or in paging files. A page whose contents have been
    /// reset does not count until it is found to have been written again.
    pub(crate) fn count_private(&mut self, added: Pages, removed: Pages) {
        let header = self.header();
        header.set_private_pages(
            (header.private_pages() + added.get()).saturating_sub(removed.get()),
        );
    }
}
