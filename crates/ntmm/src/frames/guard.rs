//! The lock on one frame's entry, as a value (NT: the PFN lock, split per frame).
//!
//! A [`FrameGuard`] holds the bit lock and works on its own copy of word 0; dropping it
//! publishes the copy and releases the lock in one store.

use ntmm_pte::Pfn;
use ntmm_sync::level::{self, Level, Outside, Token};

use super::entry::{FrameFlags, FrameState, FrameUse, LOCK, PageLocation, PfnEntry};
use crate::events::Event;
use crate::manager::Manager;
use crate::platform::Platform;

/// Exclusive access to the entry of one frame.
#[derive(Debug)]
pub struct FrameGuard<'m, 't, P: Platform> {
    manager: &'m Manager<P>,
    pfn: Pfn,
    entry: PfnEntry<'m>,
    state: FrameState,
    token: Token<'t, level::Frame>,
}

impl<P: Platform> Manager<P> {
    /// Locks the entry of `pfn`.
    pub(crate) fn lock_frame<'m, 't, L: Level + Outside<level::Frame>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        pfn: Pfn,
    ) -> FrameGuard<'m, 't, P> {
        self.platform().interleave();
        let entry = self.entry(pfn);
        let word = LOCK.acquire(entry.state_word(), || self.platform().relax());
        FrameGuard {
            manager: self,
            pfn,
            entry,
            state: FrameState::from_word(word),
            token: token.descend(),
        }
    }
}

impl<'m, 't, P: Platform> FrameGuard<'m, 't, P> {
    /// A guard over a lock that [`LOCK`] has already taken, with the state it found.
    pub(super) const fn adopt(
        manager: &'m Manager<P>,
        pfn: Pfn,
        entry: PfnEntry<'m>,
        state: FrameState,
        token: Token<'t, level::Frame>,
    ) -> Self {
        Self { manager, pfn, entry, state, token }
    }

    /// The frame.
    pub(crate) const fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The fields outside word 0.
    pub(crate) const fn entry(&self) -> PfnEntry<'m> {
        self.entry
    }

    /// The state as this guard has changed it so far.
    pub(crate) const fn state(&self) -> FrameState {
        self.state
    }

    /// The token for locks further in.
    pub(crate) const fn token(&mut self) -> &mut Token<'t, level::Frame> {
        &mut self.token
    }

    /// Where the frame is.
    pub(crate) const fn location(&self) -> PageLocation {
        self.state.location()
    }

    /// Whether all of `flags` are set.
    pub(crate) const fn has(&self, flags: FrameFlags) -> bool {
        self.state.has(flags)
    }

    /// Why the frame is to leave the system: to the bad list, once nobody refers to it and its
    /// page is somewhere else. Nothing when it is to stay.
    pub(crate) const fn leaving(&self) -> FrameFlags {
        let reasons = FrameFlags::REMOVAL_REQUESTED.union(FrameFlags::PARITY_ERROR);
        self.state.flags().intersection(reasons)
    }

    pub(crate) const fn insert(&mut self, flags: FrameFlags) {
        self.state.insert(flags);
    }

    pub(crate) const fn remove(&mut self, flags: FrameFlags) {
        self.state.remove(flags);
    }

    /// Moves the frame to `location`; joining and leaving lists is the caller's.
    pub(crate) fn set_location(&mut self, location: PageLocation) {
        if P::ENABLED && self.state.location() != location {
            self.manager.platform().event(&Event::Moved {
                pfn: self.pfn,
                from: self.state.location(),
                to: location,
            });
        }
        self.state.set_location(location);
    }

    /// Starts a new life of the frame: active, no flags, no references.
    pub(crate) fn begin(&mut self, usage: FrameUse) {
        self.set_location(PageLocation::Active);
        self.state = FrameState::taken(usage);
    }

    /// Ends the life of the frame: it goes to a list for use by anybody.
    pub(crate) const fn end(&mut self) {
        self.state.set_usage(FrameUse::None);
        self.state.clear_flags();
    }

    /// Adds a reference.
    pub(crate) const fn add_reference(&mut self) {
        self.state.set_references(self.state.references() + 1);
    }

    /// Takes a reference away and returns how many are left.
    pub(crate) fn take_reference(&mut self) -> u16 {
        match self.state.references().checked_sub(1) {
            Some(left) => {
                self.state.set_references(left);
                left
            }
            None => self.manager.corrupt_frame(super::lists::REFERENCE_DROP, self.pfn),
        }
    }

    /// Gives a frame that no other entry names its first mapping, with the reference that this
    /// brings, and its u1.
    pub(crate) fn map_first(&mut self, u1: u32) {
        self.entry.set_u1_and_share(u1, 1);
        self.add_reference();
    }

    /// Adds a mapping; the first one brings a reference of its own.
    pub(crate) fn add_mapping(&mut self) {
        if self.entry.add_share(1) == 1 {
            self.add_reference();
        }
    }
}

impl<P: Platform> Drop for FrameGuard<'_, '_, P> {
    fn drop(&mut self) {
        LOCK.release(self.entry.state_word(), self.state.to_word());
    }
}
