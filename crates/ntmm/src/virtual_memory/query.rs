//! What is where (NtQueryVirtualMemory with MemoryBasicInformation, spec 7.11; API 7).

use ntmm_pte::mode::SHARED_USER_DATA;
use ntmm_pte::{Bytes, Level, PAGE_SIZE, Pages, PagingMode, Protection, Va, Vpn};

use super::allocate::{Region, is_committed};
use super::protect::page_protection;
use crate::address_space::AddressSpaceId;
use crate::fault::{Blocked, Holds};
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::Walk;
use crate::vad::shared_data::among_descriptors;
use crate::vad::{Commitment, Placeholder, Vad, VadKind};
use crate::working_set::WorkingSetGuard;

/// State of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryState {
    /// MEM_FREE: no allocation.
    Free,
    /// MEM_RESERVE: allocated, not committed.
    Reserved,
    /// MEM_COMMIT.
    Committed,
}

/// A region of pages with the same state and protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInformation {
    /// First address of the region: the page of the address asked for.
    pub base: Va,
    /// Size from there on.
    pub size: Bytes,
    /// State.
    pub state: MemoryState,
    /// Protection of the pages; none unless committed.
    pub protection: Option<Protection>,
    /// Start of the allocation and the protection it was made with; none for free regions.
    pub allocation: Option<(Va, Protection)>,
    /// What the allocation is; none for free regions.
    pub kind: Option<VadKind>,
}

/// The page of times and counters, which every process has without having allocated it.
const SHARED_DATA: MemoryInformation = MemoryInformation {
    base: SHARED_USER_DATA,
    size: Bytes::new(PAGE_SIZE),
    state: MemoryState::Committed,
    protection: Some(Protection::READONLY),
    allocation: Some((SHARED_USER_DATA, Protection::READONLY)),
    kind: Some(VadKind::Private),
};

/// What is known of an allocation as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationInformation {
    /// All of its pages.
    pub region: Region,
    /// The protection it was made with.
    pub protection: Protection,
    /// What it is.
    pub kind: VadKind,
    /// Whether it is a placeholder.
    pub placeholder: Placeholder,
    /// What is committed of it.
    pub committed: Bytes,
}

impl AllocationInformation {
    /// What is known of the page of shared data, where it has a descriptor.
    const SHARED_DATA: Self = Self {
        region: Region { base: SHARED_USER_DATA, size: Bytes::new(PAGE_SIZE) },
        protection: Protection::READONLY,
        kind: VadKind::Private,
        placeholder: Placeholder::Never,
        committed: Bytes::new(PAGE_SIZE),
    };
}

/// Asks about the allocation at an address. Yields none where nothing is allocated.
#[derive(Debug)]
#[must_use]
pub struct QueryAllocation {
    space: AddressSpaceId,
    address: Va,
}

impl QueryAllocation {
    /// Asks about the allocation at `address` in `space`.
    pub const fn new(space: AddressSpaceId, address: Va) -> Self {
        Self { space, address }
    }
}

impl<P: Platform> Operation<P> for QueryAllocation {
    type Output = Option<AllocationInformation>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Option<AllocationInformation>> {
        let mut entry = manager.enter();
        let set = match manager.lock_live_space(entry.token(), self.space) {
            Ok(set) => set,
            Err(status) => return Step::Raise(status),
        };
        let user = P::Paging::is_user(self.address);
        let page = self.address.vpn();
        if among_descriptors::<P::Paging>() == Some(page) {
            return Step::Done(Some(AllocationInformation::SHARED_DATA));
        }
        let vad = set.find_vad(page).filter(|_| user);
        Step::Done(vad.map(|vad| AllocationInformation {
            region: Region::of_pages::<P::Paging>(vad.start, vad.end),
            protection: vad.attributes.protection,
            kind: vad.attributes.kind,
            placeholder: vad.attributes.placeholder,
            committed: vad.attributes.commit_charge.to_bytes(),
        }))
    }

    fn abandon(self, _manager: &Manager<P>) {}
}

/// The query call.
#[derive(Debug)]
#[must_use]
pub struct Query {
    space: AddressSpaceId,
    address: Va,
    holds: Holds,
}

impl Query {
    /// Asks what is at `address` in `space`.
    pub fn new(space: AddressSpaceId, address: Va) -> Self {
        Self { space, address, holds: Holds::new() }
    }

    fn attempt<P: Platform>(&mut self, manager: &Manager<P>) -> Result<MemoryInformation, Blocked> {
        self.holds.check(manager)?;
        if self.address > P::Paging::HIGHEST_USER_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        let page = self.address.vpn();
        let mut entry = manager.enter();
        let mut set =
            manager.lock_space(entry.token(), self.space).ok_or(NtStatus::INVALID_HANDLE)?;
        let base = P::Paging::va_of_vpn(page);
        let Some(vad) = set.find_vad(page) else {
            if page == SHARED_USER_DATA.vpn() {
                return Ok(SHARED_DATA);
            }
            return Ok(MemoryInformation {
                base,
                size: Bytes::new((set.end_of_vacancy(page) - page.get()) * PAGE_SIZE),
                state: MemoryState::Free,
                protection: None,
                allocation: None,
                kind: None,
            });
        };
        let first = self.look_at(&mut set, &vad, page)?;
        let mut last = first.last;
        while last < vad.end {
            let Some(next) = last.checked_add(Pages::new(1)) else { break };
            let more = self.look_at(&mut set, &vad, next)?;
            if more.protection != first.protection {
                break;
            }
            last = more.last;
        }
        Ok(MemoryInformation {
            base,
            size: Bytes::new((last.get() - page.get() + 1) * PAGE_SIZE),
            state: match first.protection {
                Some(_) => MemoryState::Committed,
                None => MemoryState::Reserved,
            },
            protection: first.protection,
            allocation: Some((P::Paging::va_of_vpn(vad.start), vad.attributes.protection)),
            kind: Some(vad.attributes.kind),
        })
    }

    /// The protection of `page`, if it is committed, and the last page of which that is known
    /// to hold.
    fn look_at<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        vad: &Vad,
        page: Vpn,
    ) -> Result<Look, Blocked> {
        let manager = set.manager();
        let va = P::Paging::va_of_vpn(page);
        let (level, entry) = loop {
            let (level, entry) = match manager.walk(set.root(), va, Level::Table) {
                Walk::Found(entry) => break (Level::Table, entry),
                Walk::Missing { level, entry } => (level, entry),
                // It has the protection of its allocation, as all of it has.
                Walk::Large(entry) => break (Level::Directory, entry),
            };
            if manager.load_entry(entry) == 0 {
                break (level, entry);
            }
            set.bring_table(va, level, entry, &mut self.holds)?;
        };
        if level != Level::Table {
            let base = P::Paging::span_base(va, level).vpn();
            let pages = P::Paging::span(level).to_pages_rounded_down().get();
            let last = Vpn::new(base.get() + pages - 1).min(vad.end);
            return look_at_zero(set, vad, (page, last));
        }
        let word = manager.load_entry(entry);
        if word == 0 {
            return look_at_zero(set, vad, (page, page));
        }
        let committed = is_committed::<P>(vad, word);
        let protection = committed.then(|| page_protection(set, vad, page, word));
        Ok(Look { protection, last: page })
    }
}

/// Looks at pages without entries.
fn look_at_zero<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    vad: &Vad,
    (page, last): (Vpn, Vpn),
) -> Result<Look, Blocked> {
    let run = set.committed_run(vad, page, last)?;
    let committed = run.commitment == Commitment::Committed;
    let protection = committed.then(|| set.protection_in_view(vad, page));
    Ok(Look { protection, last: set.end_of_subsection(vad, page, run.last) })
}

struct Look {
    protection: Option<Protection>,
    last: Vpn,
}

impl<P: Platform> Operation<P> for Query {
    type Output = MemoryInformation;

    fn step(&mut self, manager: &Manager<P>) -> Step<MemoryInformation> {
        let outcome = loop {
            match self.attempt(manager) {
                Ok(information) => break Ok(information),
                Err(blocked) => match self.holds.absorb(manager, blocked) {
                    None => {}
                    Some(Pause::Wait(wait)) => return Step::Wait(wait),
                    Some(pause) => break Err(pause),
                },
            }
        };
        self.holds.release(manager);
        outcome.into()
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.holds.release(manager);
    }
}
