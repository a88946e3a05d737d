//! The working-set lock of an address space, as a value.
//!
//! While a `WorkingSetGuard` exists, valid entries of the space stay valid and invalid ones
//! stay invalid, and the VAD tree does not change under its holder.

use ntmm_pte::{PagingMode, Pfn, PteWord, Slot, Va};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{WordIndex, word};
use ntmm_sync::level::{self, Level, Outside, Token};

use super::entry::WorkingSetEntry;
use super::header::{ADDRESS_CREATION, DELETING, HEADER_WORDS, Header, WINDOWS_STALE};
use crate::address_space::{AddressSpaceId, LOCK};
use crate::manager::Manager;
use crate::operation::{Epoch, Wait, WaitKey};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;

/// Exclusive access to one address space.
#[derive(Debug)]
pub(crate) struct WorkingSetGuard<'m, 't, P: Platform> {
    manager: &'m Manager<P>,
    space: AddressSpaceId,
    /// The space's word in the table, where the lock is, and what releasing leaves in it.
    word: &'m AtomicU64,
    value: u64,
    header: Header<'m>,
    flags: u64,
    token: Token<'t, level::WorkingSet>,
}

impl<P: Platform> Manager<P> {
    pub(crate) fn header_at(&self, list: Pfn) -> Header<'_> {
        Header::new(self.platform().frame(list), 0)
    }

    /// Locks the working set of a space; none when the space does not exist.
    pub(crate) fn lock_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
    ) -> Option<WorkingSetGuard<'m, 't, P>> {
        loop {
            let (word, value) = self.live_space_word(space)?;
            self.platform().interleave();
            // The exchange fails when the space has been withdrawn since.
            if LOCK.try_acquire_from(word, value) {
                return Some(self.adopt_space(token, space, word, value));
            }
            self.platform().relax();
        }
    }

    /// Locks the working set of a space if nobody holds it.
    pub(crate) fn try_lock_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
    ) -> Option<WorkingSetGuard<'m, 't, P>> {
        let (word, value) = self.live_space_word(space)?;
        self.platform().interleave();
        LOCK.try_acquire_from(word, value).then(|| self.adopt_space(token, space, word, value))
    }

    /// Locks the working set of a space that exists and is not being deleted.
    pub(crate) fn lock_live_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
    ) -> Result<WorkingSetGuard<'m, 't, P>, NtStatus> {
        let set = self.lock_space(token, space).ok_or(NtStatus::INVALID_HANDLE)?;
        if set.is_deleting() { Err(NtStatus::PROCESS_IS_TERMINATING) } else { Ok(set) }
    }

    /// A guard over a lock that is held: `word` is the space's, `value` what it holds without
    /// the lock bit.
    pub(crate) fn adopt_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
        word: &'m AtomicU64,
        value: u64,
    ) -> WorkingSetGuard<'m, 't, P> {
        let header = self.header_at(Pfn::new(value as u32));
        let flags = header.view().word(0).load(Ordering::Relaxed);
        WorkingSetGuard { manager: self, space, word, value, header, flags, token: token.descend() }
    }
}

impl<'m, 't, P: Platform> WorkingSetGuard<'m, 't, P> {
    pub(crate) const fn manager(&self) -> &'m Manager<P> {
        self.manager
    }

    /// The address space.
    pub(crate) const fn space(&self) -> AddressSpaceId {
        self.space
    }

    /// The header.
    pub(crate) const fn header(&self) -> Header<'m> {
        self.header
    }

    /// First frame of the working-set list, by which frames name their owner.
    pub(crate) const fn list(&self) -> Pfn {
        Pfn::new(self.value as u32)
    }

    /// Frame of the root table.
    pub(crate) fn root(&self) -> Pfn {
        Pfn::new(self.header.root())
    }

    /// The token for locks further in.
    pub(crate) const fn token(&mut self) -> &mut Token<'t, level::WorkingSet> {
        &mut self.token
    }

    /// Whether the space is being deleted.
    pub(crate) const fn is_deleting(&self) -> bool {
        self.flags & DELETING != 0
    }

    pub(super) const fn has_flag(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Looks whether an operation owns address creation, and says what to wait for if so.
    pub(crate) fn address_creation_is_free(&self) -> Result<(), Wait> {
        if self.flags & ADDRESS_CREATION == 0 {
            return Ok(());
        }
        Err(Wait {
            key: WaitKey::AddressCreation(self.space),
            epoch: Epoch(self.header.creation_epoch()),
        })
    }

    /// Takes ownership of address creation, which is free and from now on not. It lasts when
    /// the lock is released, across waits.
    pub(crate) fn own_address_creation(&mut self) {
        self.set_flags(self.flags | ADDRESS_CREATION);
    }

    /// Gives ownership of address creation up and wakes those that want it.
    pub(crate) fn disown_address_creation(&mut self) {
        self.set_flags(self.flags & !ADDRESS_CREATION);
        self.header.set_creation_epoch(self.header.creation_epoch() + 1);
        self.manager.platform().wake(WaitKey::AddressCreation(self.space));
    }

    /// Marks the space as being deleted: faults and calls fail from now on.
    pub(crate) fn begin_deletion(&mut self) {
        self.set_flags(self.flags | DELETING);
    }

    /// Whether a processor may remember pages in windows that are no longer there, and not only
    /// because of a call that will see to it.
    pub(crate) const fn windows_are_stale(&self) -> bool {
        self.has_flag(WINDOWS_STALE)
    }

    /// A page has been taken out of a window.
    pub(crate) fn set_windows_stale(&mut self) {
        self.set_flags(self.flags | WINDOWS_STALE);
    }

    /// Every processor has forgotten all that was taken out of windows.
    pub(crate) fn set_windows_flushed(&mut self) {
        self.set_flags(self.flags & !WINDOWS_STALE);
    }

    /// A wait, for the owner of address creation, that is over as soon as it begins: the call
    /// returns to its caller, who may give it up, and goes on with its next step.
    pub(crate) fn wait_for_nothing(&self) -> Wait {
        let past = self.header.creation_epoch().wrapping_sub(1);
        Wait { key: WaitKey::AddressCreation(self.space), epoch: Epoch(past) }
    }

    /// Ends the space: with the lock its word gives up the id, and nobody finds it any more.
    pub(crate) fn withdraw(mut self) {
        self.value = self.space.withdrawn();
    }

    fn set_flags(&mut self, flags: u64) {
        self.flags = flags;
        self.header.view().word(0).store(flags, Ordering::Relaxed);
    }

    /// The word of entry `index`, which exists.
    #[inline]
    pub(super) fn entry_word(&self, index: u32) -> &'m AtomicU64 {
        let number = (HEADER_WORDS + index) as usize;
        let frame = match number / 512 {
            0 => self.list(),
            page => self.manager.list_frame(self.header, page),
        };
        word(self.manager.platform().frame(frame), WordIndex::wrapping(number))
    }

    /// Entry `index`, which exists.
    pub(crate) fn entry(&self, index: u32) -> WorkingSetEntry {
        WorkingSetEntry::from_word(self.entry_word(index).load(Ordering::Relaxed))
    }

    /// Writes entry `index`, which exists.
    pub(crate) fn set_entry(&self, index: u32, entry: WorkingSetEntry) {
        self.entry_word(index).store(entry.to_word(), Ordering::Relaxed);
    }

    /// Entries that exist and are not in use.
    pub(crate) fn free_entries(&self) -> u32 {
        self.header.initialized().saturating_sub(self.header.size())
    }
}

impl<P: Platform> Manager<P> {
    /// Entry of the hyperspace table that maps page `page` of a working-set list.
    pub(crate) fn list_entry(&self, header: Header<'_>, page: usize) -> EntryRef {
        let first = P::Paging::slot(Self::list_address(0), ntmm_pte::Level::Table);
        EntryRef {
            table: Pfn::new(header.list_table()),
            slot: Slot::from_low_bits(first.index() as u64 + page as u64),
        }
    }

    fn list_frame(&self, header: Header<'_>, page: usize) -> Pfn {
        P::Paging::valid_pfn(self.load_entry(self.list_entry(header, page)))
    }

    /// Address of page `page` of a working-set list.
    pub(crate) fn list_address(page: usize) -> Va {
        Va::new(P::Paging::WORKING_SET_LIST.get() + ((page as u64) << ntmm_pte::PAGE_SHIFT))
    }

    /// Pages a working-set list may have: what its hyperspace table maps.
    pub(crate) fn list_pages_limit() -> usize {
        let first = P::Paging::slot(Self::list_address(0), ntmm_pte::Level::Table).index();
        P::Paging::ENTRIES - first
    }
}

impl<P: Platform> Drop for WorkingSetGuard<'_, '_, P> {
    fn drop(&mut self) {
        LOCK.release(self.word, self.value);
    }
}
