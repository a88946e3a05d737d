//! Physical pages of a process: Address Windowing Extensions (NtAllocateUserPhysicalPages and its
//! relatives, spec 16.3; API 18).
//!
//! A process that may lock memory can own physical pages apart from any address. It names them by
//! frame number, and maps them into windows: ranges reserved for the purpose
//! ([`MemoryUse::AddressWindow`](super::MemoryUse)). Such pages are never paged and are in no
//! working set. They stay the process's own, with what they hold, until it gives them back or
//! ends.
//!
//! What is kept of such a page is in its PFN entry (see [`entry`](crate::frames::entry)):
//!
//! * u1 names the owner by the first frame of its working-set list, and the word of the original
//!   entry chains the pages of one owner, from the header on;
//! * the container is the entry that maps the page, or nowhere. A page is mapped at one address at
//!   most. Its share count is one for the owner and one for that mapping;
//! * a claim says that a call which is under way has named the page, so that no list names one
//!   twice. Claims belong to the owner of address creation and are gone when the call has ended.
//!
//! All of it changes under the owner's working-set lock. The entry of a page that has been unmapped
//! again is in the decommitted form, so that taking pages out of a window empties no page table:
//! tables go with the window.
//!
//! Translations are flushed once for a whole call. A call that is given up before that leaves a mark
//! with the space, be it one that maps pages or one that takes a window away: some processor may
//! reach pages where they no longer are. The next such call then flushes the whole space before it
//! is done, so that what is written through a new mapping goes to the new page. A page that is
//! given back always waits for a flush of the whole space before its frame is used again.
//!
//! The pages are charged to the machine and not to the process's commitment.

mod allocate;
mod free;
mod map;

pub use allocate::AllocatePhysicalPages;
pub use free::FreePhysicalPages;
pub use map::MapPhysicalPages;

use ntmm_pte::{Dirtiness, Level, Pages, PagingMode, Pfn, Protection, PteWord, Slot, Va};

use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::entry::{FrameFlags, Links, NO_FRAME, NOWHERE};
use crate::frames::guard::FrameGuard;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::virtual_memory::range::Pending;
use crate::working_set::WorkingSetGuard;
use crate::working_set::header::Header;

/// Pages dealt with under one hold of the working-set lock.
const STRETCH: usize = 48;

/// A list of frame numbers that a caller names.
pub trait FrameNumbers {
    /// Their number.
    fn count(&self) -> usize;

    /// The frame at a place of the list; none for a number that no frame has.
    fn frame(&self, place: usize) -> Option<Pfn>;
}

impl FrameNumbers for &[Pfn] {
    fn count(&self) -> usize {
        self.len()
    }

    fn frame(&self, place: usize) -> Option<Pfn> {
        self.get(place).copied()
    }
}

/// A list of addresses in windows.
pub trait WindowAddresses {
    /// Their number.
    fn count(&self) -> usize;

    /// The address at a place of the list.
    fn address(&self, place: usize) -> Option<Va>;
}

impl WindowAddresses for &[Va] {
    fn count(&self) -> usize {
        self.len()
    }

    fn address(&self, place: usize) -> Option<Va> {
        self.get(place).copied()
    }
}

/// What mapping a page replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    /// Nothing that a processor may remember.
    Nothing,
    /// Another page.
    Page,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes a page off the list of the process.
    fn unlink_physical(&mut self, pfn: Pfn) {
        let (manager, header) = (self.manager(), self.header());
        let (forward, backward) = manager.entry(pfn).links(Links::Color);
        if backward == NO_FRAME {
            header.set_first_physical(forward);
        } else {
            let neighbour = manager.entry(Pfn::new(backward));
            neighbour.set_links(Links::Color, forward, neighbour.links(Links::Color).1);
        }
        if forward != NO_FRAME {
            let neighbour = manager.entry(Pfn::new(forward));
            neighbour.set_links(Links::Color, neighbour.links(Links::Color).0, backward);
        }
        header.set_physical_pages(header.physical_pages().saturating_sub(1));
    }

    /// Claims a page of the process for a call.
    ///
    /// # Errors
    /// [`NtStatus::CONFLICTING_ADDRESSES`] when the frame is none of the process's, or claimed
    /// already.
    fn claim_physical(&mut self, frame: Option<Pfn>) -> Result<Pfn, NtStatus> {
        let (manager, owner) = (self.manager(), self.list());
        let known = frame.filter(|&pfn| manager.frame_exists(pfn));
        let pfn = known.ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        let frame = manager.lock_frame(self.token(), pfn);
        let owned = frame.state().usage() == FrameUse::UserPhysical
            && !frame.has(FrameFlags::DELETED)
            && frame.entry().u1() == owner.get();
        if !owned || frame.entry().is_claimed() {
            return Err(NtStatus::CONFLICTING_ADDRESSES);
        }
        frame.entry().claim();
        Ok(pfn)
    }

    /// Takes back the claims on the pages in some places of a list, which the caller's call has
    /// claimed.
    fn disclaim<F: FrameNumbers>(&mut self, frames: &F, places: core::ops::Range<usize>) {
        for pfn in places.filter_map(|place| frames.frame(place)) {
            self.manager().entry(pfn).disclaim();
        }
    }

    /// The entry that maps a page of the process, if there is one.
    fn physical_mapping(&self, pfn: Pfn) -> Option<EntryRef> {
        let (table, slot) = self.manager().entry(pfn).container();
        (table != NOWHERE).then_some(EntryRef { table, slot })
    }

    /// The address that an entry of a page maps, whose tables are valid.
    fn address_of(&self, entry: EntryRef) -> Va {
        let (mut at, mut level, mut va) = (entry, Level::Table, 0);
        loop {
            va |= u64::from(at.slot.get()) << P::Paging::shift(level);
            let Some(above) = level.up().filter(|_| at.table != self.root()) else {
                return Va::new(va);
            };
            let (table, slot) = self.manager().entry(at.table).container();
            (at, level) = (EntryRef { table, slot }, above);
        }
    }

    /// Maps a page of the process, which is mapped nowhere or here, by an entry of a window.
    fn map_physical(&mut self, entry: EntryRef, pfn: Pfn) -> Replaced {
        let manager = self.manager();
        let old = manager.load_entry(entry);
        let was_valid = P::Paging::is_valid(old);
        if was_valid && P::Paging::valid_pfn(old) == pfn {
            manager.entry(pfn).disclaim();
            return Replaced::Nothing;
        }
        {
            let frame = manager.lock_frame(self.token(), pfn);
            frame.entry().add_share(1);
            frame.entry().set_container(entry.table, entry.slot);
        }
        let valid = P::Paging::valid_user(pfn, Protection::READWRITE, Dirtiness::Dirty);
        if was_valid {
            let old = manager.swap_entry(entry, valid);
            self.forget_mapping(P::Paging::valid_pfn(old));
            self.set_windows_stale();
            return Replaced::Page;
        }
        manager.store_software(entry, old, valid);
        manager.entry(entry.table).add_share(1);
        Replaced::Nothing
    }

    /// Takes a page out of the entry that maps it, which becomes `new`.
    pub(crate) fn unmap_physical(&mut self, entry: EntryRef, new: u64) {
        let manager = self.manager();
        let old = manager.swap_entry(entry, new);
        let table = manager.entry(entry.table);
        if new == 0 {
            table.set_used_entries(table.used_entries().saturating_sub(1));
        }
        table.drop_share();
        self.forget_mapping(P::Paging::valid_pfn(old));
        self.set_windows_stale();
    }

    /// A page of the process is no longer mapped. A claim on it stays.
    fn forget_mapping(&mut self, pfn: Pfn) {
        let manager = self.manager();
        let frame = manager.lock_frame(self.token(), pfn);
        let entry = frame.entry();
        let claimed = entry.is_claimed();
        entry.drop_share();
        entry.set_container(NOWHERE, Slot::from_low_bits(0));
        if claimed {
            entry.claim();
        }
    }

    /// Gives a page of the process back, which is not mapped: its frame goes to the batch, which
    /// has a record and is not full.
    fn give_back_physical(&mut self, batch: &mut FlushBatch<'_, P>, pfn: Pfn) {
        let manager = self.manager();
        self.unlink_physical(pfn);
        {
            let mut frame = manager.lock_frame(self.token(), pfn);
            frame.entry().set_u1_and_share(0, 0);
            frame.entry().set_original(0);
            frame.set_location(PageLocation::Transition);
            frame.insert(FrameFlags::DELETED);
        }
        batch.push_unmapped_frame(pfn);
        manager.return_commitment(Pages::ONE);
    }

    /// Gives back some pages of a process that no processor can reach any more; says whether
    /// there are more.
    pub(crate) fn free_physical_pages(&mut self) -> Rest {
        let manager = self.manager();
        for _ in 0..STRETCH {
            let header = self.header();
            if header.physical_pages() == 0 {
                return Rest::None;
            }
            let pfn = Pfn::new(header.first_physical());
            self.unlink_physical(pfn);
            let mut frame = manager.lock_frame(self.token(), pfn);
            frame.entry().set_u1_and_share(0, 0);
            frame.entry().set_original(0);
            frame.insert(FrameFlags::DELETED);
            manager.drop_reference(&mut frame);
            drop(frame);
            manager.return_commitment(Pages::ONE);
        }
        Rest::Some
    }
}

/// Whether something is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    None,
    /// Some pages.
    Some,
}

/// How far a call that takes a window away is with what calls before it have taken out of windows:
/// no processor may reach it through addresses that somebody else gets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// The call has not looked yet.
    Unknown,
    /// There are none, or their flush has been started.
    Flushed,
}

impl Leftovers {
    /// Flushes the whole space if it is marked, and says what to wait for. Called by the owner of
    /// address creation, or in the call's first hold, before the call takes out anything itself.
    /// When all that it takes out is flushed too, the call takes the mark away.
    pub(super) fn flush<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        pending: &mut Pending,
    ) -> Result<(), Blocked> {
        if core::mem::replace(self, Self::Flushed) == Self::Flushed || !set.windows_are_stale() {
            return Ok(());
        }
        let mut batch = FlushBatch::new(set.manager(), set.space());
        batch.push_space();
        match batch.finish(set.token()) {
            Some(ticket) => Err(pending.await_flush(ticket).into()),
            None => Ok(()),
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Enters a page, which has just been taken, among those of the process whose working-set
    /// list begins at `owner`. Nobody sees the page before it names its owner.
    fn adopt_physical(
        &self,
        header: Header<'_>,
        owner: Pfn,
        mut frame: FrameGuard<'_, '_, P>,
    ) -> Pfn {
        let (pfn, next) = (frame.pfn(), header.first_physical());
        frame.map_first(owner.get());
        frame.entry().set_container(NOWHERE, Slot::from_low_bits(0));
        frame.entry().set_links(Links::Color, next, NO_FRAME);
        if header.physical_pages() > 0 {
            let neighbour = self.entry(Pfn::new(next));
            neighbour.set_links(Links::Color, neighbour.links(Links::Color).0, pfn.get());
        }
        header.set_first_physical(pfn.get());
        header.set_physical_pages(header.physical_pages() + 1);
        pfn
    }
}
