//! The working-set lock of an address space, as a value.
//!
//! While a [`WorkingSetGuard`] exists, valid entries of the space stay valid and invalid ones
//! stay invalid, and the VAD tree does not change under its holder.

use ntmm_pte::{PagingMode, Pfn, PteWord, Slot, Va};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{WordIndex, word};
use ntmm_sync::level::{self, Level, Outside, Token};

use super::entry::WorkingSetEntry;
use super::header::{ADDRESS_CREATION, DELETING, HEADER_WORDS, Header, LOCK};
use crate::address_space::AddressSpaceId;
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
    list: Pfn,
    header: Header<'m>,
    flags: u64,
    token: Token<'t, level::WorkingSet>,
}

impl<P: Platform> Manager<P> {
    pub(crate) fn header_at(&self, list: Pfn) -> Header<'_> {
        Header::new(self.platform().frame(list), WordIndex::wrapping(0))
    }

    /// Locks the working set of a space; none when the space does not exist.
    pub(crate) fn lock_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
    ) -> Option<WorkingSetGuard<'m, 't, P>> {
        self.platform().interleave();
        loop {
            let list = self.find_space(space)?;
            let header = self.header_at(list);
            if let Some(flags) = LOCK.try_acquire(header.view().word(0)) {
                let guard = WorkingSetGuard {
                    manager: self,
                    space,
                    list,
                    header,
                    flags,
                    token: token.descend(),
                };
                // The space may have been withdrawn, and its list's frame reused, before the
                // lock was taken.
                if self.find_space(space) == Some(list) {
                    return Some(guard);
                }
                return None;
            }
            self.platform().relax();
        }
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

    /// A guard over the lock of a space that was published with its lock held.
    pub(crate) fn adopt_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
        list: Pfn,
        flags: u64,
    ) -> WorkingSetGuard<'m, 't, P> {
        let header = self.header_at(list);
        WorkingSetGuard { manager: self, space, list, header, flags, token: token.descend() }
    }

    /// Locks the working set of a space if nobody holds it.
    pub(crate) fn try_lock_space<'m, 't, L: Level + Outside<level::WorkingSet>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        space: AddressSpaceId,
    ) -> Option<WorkingSetGuard<'m, 't, P>> {
        let list = self.find_space(space)?;
        let header = self.header_at(list);
        let flags = LOCK.try_acquire(header.view().word(0))?;
        let guard =
            WorkingSetGuard { manager: self, space, list, header, flags, token: token.descend() };
        (self.find_space(space) == Some(list)).then_some(guard)
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

    /// Takes ownership of address creation, which lasts across waits, or says what to wait for.
    pub(crate) fn own_address_creation(&mut self) -> Result<(), Wait> {
        if self.flags & ADDRESS_CREATION != 0 {
            return Err(Wait {
                key: WaitKey::AddressCreation(self.space),
                epoch: Epoch(self.header.creation_epoch()),
            });
        }
        self.flags |= ADDRESS_CREATION;
        Ok(())
    }

    /// Gives ownership of address creation up and wakes those that want it.
    pub(crate) fn disown_address_creation(&mut self) {
        self.flags &= !ADDRESS_CREATION;
        self.header.set_creation_epoch(self.header.creation_epoch() + 1);
        self.manager.platform().wake(WaitKey::AddressCreation(self.space));
    }

    /// Marks the space as being deleted: faults and calls fail from now on.
    pub(crate) const fn begin_deletion(&mut self) {
        self.flags |= DELETING;
    }

    /// The word of entry `index`, which exists.
    fn entry_word(&self, index: u32) -> &'m AtomicU64 {
        let number = (HEADER_WORDS + index) as usize;
        let frame = match number / 512 {
            0 => self.list,
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
        LOCK.release(self.header.view().word(0), self.flags);
    }
}
