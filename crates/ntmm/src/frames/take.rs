//! Taking frames off the lists of available pages (MiRemoveAnyPage, MiRemoveZeroPage, spec 3.7).
//!
//! The head of a list is found under the list's lock, but a frame's lock comes first in the
//! order. So the head's lock is only tried; when somebody holds it that frame is about to leave
//! the list anyway and the next source is tried, until one yields. The reservation the caller
//! holds guarantees that one does.
//!
//! A standby frame is repurposed: the entry that named it gets its original contents back.

use ntmm_pte::{Pfn, PteWord};
use ntmm_sync::level::{self, Level, Outside, Token};

use super::available::PageReservation;
use super::colors::Color;
use super::entry::{FrameFlags, FrameState, FrameUse, LOCK, PageLocation, PfnEntry};
use super::guard::FrameGuard;
use super::lists::{Chain, Position, WRONG_STATE};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::tables::EntryRef;

/// What the taker does with the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// It must read as zeroes.
    Zeroed,
    /// It will be overwritten whole.
    Any,
}

/// What is in a frame just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Zeroes,
    Unknown,
}

/// The head of a chain, locked but not unlinked yet.
type Head<'m> = (Pfn, PfnEntry<'m>, FrameState);

impl<P: Platform> Manager<P> {
    /// Takes a frame for `usage`, by preference of `color`, out of `reservation`. The frame
    /// comes locked, active, with no flags, references or mappings, and with zeroes in it when
    /// they were wanted.
    pub(crate) fn take_frame<'m, 't, L: Level + Outside<level::Frame> + Outside<level::List>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        reservation: &mut PageReservation<'_, P>,
        color: Color,
        want: Want,
        usage: FrameUse,
    ) -> FrameGuard<'m, 't, P> {
        let (pfn, entry, state) = loop {
            if let Some(taken) = self.unlink_unused(token, want, color) {
                break taken;
            }
            if let Some(taken) = self.unlink_first(token, PageLocation::Standby) {
                break taken;
            }
            self.platform().relax();
        };
        self.begin_taken(token, reservation, (pfn, entry, state), want, usage)
    }

    /// As [`take_frame`](Self::take_frame), but zeroed and off the zeroed or free list only: no
    /// page leaves memory for it. None when both lists are empty or busy, which
    /// [`has_unused_frames`](Self::has_unused_frames) tells apart.
    pub(crate) fn take_unused_frame<
        'm,
        't,
        L: Level + Outside<level::Frame> + Outside<level::List>,
    >(
        &'m self,
        token: &'t mut Token<'_, L>,
        reservation: &mut PageReservation<'_, P>,
        color: Color,
        usage: FrameUse,
    ) -> Option<FrameGuard<'m, 't, P>> {
        let head = self.unlink_unused(token, Want::Zeroed, color)?;
        Some(self.begin_taken(token, reservation, head, Want::Zeroed, usage))
    }

    /// Whether there are frames on the zeroed or the free list at the moment.
    pub(crate) fn has_unused_frames(&self) -> bool {
        [PageLocation::Zeroed, PageLocation::Free]
            .into_iter()
            .any(|location| self.lists.total(location) > 0)
    }

    /// Begins the new life of a frame that has been unlinked from its list.
    #[inline]
    fn begin_taken<'m, 't, L: Level + Outside<level::Frame>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        reservation: &mut PageReservation<'_, P>,
        (pfn, entry, state): Head<'m>,
        want: Want,
        usage: FrameUse,
    ) -> FrameGuard<'m, 't, P> {
        reservation.consume();
        let mut frame = FrameGuard::adopt(self, pfn, entry, state, token.descend());
        let contents = match frame.location() {
            PageLocation::Zeroed => Contents::Zeroes,
            PageLocation::Standby => {
                self.restore_entry(&frame);
                Contents::Unknown
            }
            _ => Contents::Unknown,
        };
        frame.begin(usage);
        frame.entry().set_u1_and_share(0, 0);
        frame.entry().set_original(0);
        if want == Want::Zeroed && contents == Contents::Unknown {
            self.platform().zero(pfn);
        }
        frame
    }

    /// Takes a frame off the standby list for its own page: a soft fault (MiUnlinkPageFromList).
    pub(crate) fn unlink_standby(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        reservation: &mut PageReservation<'_, P>,
    ) {
        let (pfn, entry) = (frame.pfn(), frame.entry());
        let list = self.lock_list(frame.token(), PageLocation::Standby);
        self.unlink_all(&list, PageLocation::Standby, pfn, entry);
        reservation.consume();
    }

    /// Puts a standby frame at the head of its list: it is the next to be taken. It stays
    /// available.
    pub(crate) fn put_first_on_standby(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let (pfn, entry) = (frame.pfn(), frame.entry());
        {
            let list = self.lock_list(frame.token(), PageLocation::Standby);
            self.unlink_all(&list, PageLocation::Standby, pfn, entry);
        }
        self.link_on_list(frame, PageLocation::Standby, Position::Head);
    }

    /// Turns a standby frame whose page is being deleted into a free one. It stays available.
    pub(crate) fn free_standby(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let (pfn, entry) = (frame.pfn(), frame.entry());
        {
            let list = self.lock_list(frame.token(), PageLocation::Standby);
            self.unlink_all(&list, PageLocation::Standby, pfn, entry);
        }
        self.release_original_slot(frame);
        if !frame.leaving().is_empty() {
            self.available_fell_by_one();
            self.free_frame(frame);
        } else {
            frame.end();
            self.link_on_list(frame, PageLocation::Free, Position::Tail);
            self.free_list_grew();
        }
    }

    /// Takes a frame that is on a list of available pages out of use: to the bad list, because
    /// its memory is being removed.
    pub(crate) fn set_aside(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        mut reservation: PageReservation<'_, P>,
    ) {
        self.unlink_available(frame, &mut reservation);
        frame.insert(FrameFlags::REMOVAL_REQUESTED);
        self.free_frame(frame);
    }

    /// Takes a frame that is on a list of available pages for `usage`: this one and no other. It
    /// is active then, with zeroes in it and with no flags, references or mappings.
    pub(crate) fn take_named(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        reservation: &mut PageReservation<'_, P>,
        usage: FrameUse,
    ) {
        let zeroed = frame.location() == PageLocation::Zeroed;
        self.unlink_available(frame, reservation);
        frame.begin(usage);
        frame.entry().set_u1_and_share(0, 0);
        frame.entry().set_original(0);
        if !zeroed {
            self.platform().zero(frame.pfn());
        }
    }

    /// Takes a frame off the list of available pages that it is on. Its page, if it holds one,
    /// leaves memory.
    fn unlink_available(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        reservation: &mut PageReservation<'_, P>,
    ) {
        let (pfn, entry, location) = (frame.pfn(), frame.entry(), frame.location());
        {
            let list = self.lock_list(frame.token(), location);
            self.unlink_all(&list, location, pfn, entry);
        }
        reservation.consume();
        if location == PageLocation::Standby {
            self.restore_entry(frame);
        }
    }

    /// Takes the head of the free list to be zeroed; it stays available. None when the list is
    /// empty or busy.
    pub(super) fn take_free_for_zeroing<'m, 't, L>(
        &'m self,
        token: &'t mut Token<'_, L>,
    ) -> Option<FrameGuard<'m, 't, P>>
    where
        L: Level + Outside<level::Frame> + Outside<level::List>,
    {
        let (pfn, entry, state) = self.unlink_first(token, PageLocation::Free)?;
        let mut frame = FrameGuard::adopt(self, pfn, entry, state, token.descend());
        frame.begin(FrameUse::None);
        Some(frame)
    }

    /// Unlinks the first unused frame that serves `want`, by preference of `color`, and locks
    /// it, without counting it as taken.
    #[inline]
    fn unlink_unused<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        want: Want,
        color: Color,
    ) -> Option<Head<'_>> {
        use PageLocation::{Free, Zeroed};
        let head = |location, chain: Option<_>| Some((location, self.lock_head(chain?)?));
        let colored = |location| head(location, self.chain_of_color(location, color));
        let any = |location| head(location, self.lists.chain(location));
        // The zeroed and the free list have one lock.
        let list = self.lock_list(token, Free);
        let (location, (pfn, entry, state)) = match want {
            Want::Zeroed => colored(Zeroed)
                .or_else(|| any(Zeroed))
                .or_else(|| colored(Free))
                .or_else(|| any(Free))?,
            Want::Any => colored(Free)
                .or_else(|| colored(Zeroed))
                .or_else(|| any(Free))
                .or_else(|| any(Zeroed))?,
        };
        self.unlink_all(&list, location, pfn, entry);
        Some((pfn, entry, state))
    }

    /// Unlinks the first frame of a list and locks it, without counting it as taken.
    fn unlink_first<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        location: PageLocation,
    ) -> Option<Head<'_>> {
        let list = self.lock_list(token, location);
        let (pfn, entry, state) = self.lock_head(self.lists.chain(location)?)?;
        self.unlink_all(&list, location, pfn, entry);
        Some((pfn, entry, state))
    }

    /// Locks the first frame of a chain; none when there is none or somebody else has locked it.
    #[inline]
    fn lock_head(&self, chain: Chain<'_>) -> Option<Head<'_>> {
        let pfn = chain.first()?;
        let entry = self.entry(pfn);
        let word = LOCK.try_acquire(entry.state_word())?;
        Some((pfn, entry, FrameState::from_word(word)))
    }

    /// Gives the entry that names a standby frame its original contents back: the page leaves
    /// memory (row 4).
    pub(super) fn restore_entry(&self, frame: &FrameGuard<'_, '_, P>) {
        let (table, slot) = frame.entry().container();
        let entry = EntryRef { table, slot };
        let word = self.load_entry(entry);
        let names_frame =
            P::Paging::is_transition(word) && P::Paging::transition_pfn(word) == frame.pfn();
        if !names_frame || self.exchange_entry(entry, word, frame.entry().original()).is_err() {
            self.corrupt_frame(WRONG_STATE, frame.pfn());
        }
        self.discount_file_page(frame);
        self.entry(table).drop_share();
    }

    /// A failed read's frames give their entries back in the same way as a repurposed one.
    pub(crate) fn restore_failed_entry(&self, frame: &FrameGuard<'_, '_, P>) {
        self.restore_entry(frame);
    }
}
