//! The system space: a hidden address space in whose memory the prototype entries lie (NT: paged
//! pool and the system working set, spec 8.5, 11.4).
//!
//! It is an address space like any other, made when the first section is, in which no processor
//! ever runs. Its user half plays paged pool: what NT has at `MmPagedPoolStart + x` lies there at
//! [`LOWEST_USER_ADDRESS`] `+ x`. The prototypes of a section are an allocation in it, so they
//! are charged, touched, trimmed and paged as all memory is, and its tables go when they are empty.
//!
//! A page of prototypes differs from a private page in two ways, as a page table does: every
//! valid or transition entry in it counts as a mapping of it, and with more than its own it stays;
//! and as the manager writes it by way of its frame it counts as dirty whenever it is taken out.

use ntmm_pte::mode::LOWEST_USER_ADDRESS;
use ntmm_pte::{ALLOCATION_GRANULARITY, AccessKind, Bytes, PagingMode, Protection, Va};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::level::{Token, Unlocked};

use crate::address_space::AddressSpaceId;
use crate::fault::{Blocked, Holds, ProcessorMode};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Allocate, AllocationType, Direction, Placement, Window};
use crate::working_set::WorkingSetLimits;

/// Somebody is making the system space.
const MAKING: u64 = 1;

/// Where a prototype entry, or the first of several, lies in the pool: bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolOffset(pub(crate) u64);

impl PoolOffset {
    /// The offset in bytes from MmPagedPoolStart.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Where it is in the system space.
    pub(crate) const fn va(self) -> Va {
        Va::new(LOWEST_USER_ADDRESS.get() + self.0)
    }

    pub(crate) const fn of_va(va: Va) -> Self {
        Self(va.get() - LOWEST_USER_ADDRESS.get())
    }

    /// The prototype `index` entries further on.
    pub(crate) const fn entry<M: PagingMode>(self, index: u64) -> Self {
        Self(self.0 + index * M::ENTRY_BYTES as u64)
    }
}

/// Bytes of pool whose addresses entries of the mode can hold (spec 2.5).
fn pool_bytes<M: PagingMode>() -> u64 {
    if M::ADDRESS_BITS == 32 { (1 << 32) - M::PAGED_POOL_START.get() } else { 1 << 37 }
}

impl<P: Platform> Manager<P> {
    /// The system space, if there is one.
    pub(crate) fn system_space(&self) -> Option<AddressSpaceId> {
        AddressSpaceId::from_word(self.sections.space.load(Ordering::Acquire))
    }

    /// The system space, made if need be.
    pub(super) fn make_system_space(
        &self,
        token: &mut Token<'_, Unlocked>,
    ) -> Result<AddressSpaceId, NtStatus> {
        loop {
            if let Some(space) = self.system_space() {
                return Ok(space);
            }
            let word = &self.sections.space;
            if word.compare_exchange(0, MAKING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let frames = self.memory.lent();
                let made = self.build_address_space(token, WorkingSetLimits::for_memory(frames));
                word.store(made.map_or(0, AddressSpaceId::to_word), Ordering::Release);
                return made;
            }
            self.platform().relax();
        }
    }

    /// The allocation of pool for `bytes` of prototypes. Its address says where they are.
    pub(super) fn allocate_pool(space: AddressSpaceId, bytes: Bytes) -> Allocate {
        let window = Window {
            lowest: LOWEST_USER_ADDRESS,
            highest: Va::new(LOWEST_USER_ADDRESS.get() + pool_bytes::<P::Paging>() - 1),
            alignment: Bytes::new(ALLOCATION_GRANULARITY),
            direction: Direction::Up,
        };
        let kind = AllocationType::ReserveAndCommit;
        Allocate::new(space, Placement::Within(window), bytes, kind, Protection::READWRITE)
    }

    /// Brings a page of prototypes into memory.
    pub(crate) fn fault_in_prototypes(
        &self,
        at: PoolOffset,
        holds: &mut Holds,
    ) -> Result<(), Blocked> {
        let Some(space) = self.system_space() else { return Ok(()) };
        let mut entry = self.enter();
        let access = (at.va(), AccessKind::Write, ProcessorMode::Kernel);
        self.resolve_access(entry.token(), space, access, holds)?;
        Ok(())
    }
}
