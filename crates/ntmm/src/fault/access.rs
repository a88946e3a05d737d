//! The fault operation and its decision tree (MmAccessFault, spec 4.3, 4.5).

use ntmm_pte::{AccessKind, Level, PagingMode, Protection, PteFormat, PteWord, Va};
use ntmm_sync::level::{Token, Unlocked};

use super::in_page::Holds;
use super::{Blocked, Target};
use crate::address_space::AddressSpaceId;
use crate::events::{Event, FaultKind};
use crate::frames::PageReservation;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::{EntryRef, Walk};
use crate::vad::{Commitment, VadAttributes, VadKind};
use crate::working_set::WorkingSetGuard;

/// Mode of the processor when it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessorMode {
    /// A program.
    User,
    /// The kernel, on behalf of a program.
    Kernel,
}

/// A page fault being resolved.
///
/// Done: the access may be retried. Raised: [`NtStatus::ACCESS_VIOLATION`],
/// [`NtStatus::GUARD_PAGE_VIOLATION`] or [`NtStatus::IN_PAGE_ERROR`] for the thread;
/// [`NtStatus::PROCESS_IS_TERMINATING`] or [`NtStatus::INVALID_HANDLE`] when the address space
/// is going or gone; [`NtStatus::NO_MEMORY`] when the working-set list can neither grow nor give
/// up a page.
#[derive(Debug)]
#[must_use]
pub struct Fault {
    space: AddressSpaceId,
    va: Va,
    access: AccessKind,
    mode: ProcessorMode,
    holds: Holds,
}

impl Fault {
    /// The fault of an access to `va` in `space`.
    pub fn new(space: AddressSpaceId, va: Va, access: AccessKind, mode: ProcessorMode) -> Self {
        Self { space, va, access, mode, holds: Holds::new() }
    }

    /// Faulting address.
    #[must_use]
    pub const fn va(&self) -> Va {
        self.va
    }

    /// Access that faulted.
    #[must_use]
    pub const fn access(&self) -> AccessKind {
        self.access
    }

    /// Mode of the processor.
    #[must_use]
    pub const fn mode(&self) -> ProcessorMode {
        self.mode
    }
}

/// What is accessed, how, and in which mode.
pub(crate) type Access = (Va, AccessKind, ProcessorMode);

impl<P: Platform> Manager<P> {
    /// Makes the page of an access accessible, as far as one step goes.
    pub(crate) fn resolve_access(
        &self,
        token: &mut Token<'_, Unlocked>,
        space: AddressSpaceId,
        (va, access, _): Access,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        holds.check(self)?;
        let mut set = self.lock_live_space(token, space)?;
        if !P::Paging::is_user(va) {
            return Err(NtStatus::ACCESS_VIOLATION.into());
        }
        // Without a no-execute bit the hardware fetches whatever it may read.
        let access = match access {
            AccessKind::Execute if !P::Paging::HAS_NO_EXECUTE => AccessKind::Read,
            access => access,
        };
        let mut reservation = None;
        // A table is made for a page of a view only when the page is there: while its prototype is
        // held in memory.
        let mut _held = None;
        let entry = match self.walk(set.root(), va, Level::Table) {
            Walk::Found(entry) => entry,
            Walk::Large(entry) => {
                let word = self.load_entry(entry);
                if !P::Paging::is_valid(word) {
                    return Err(NtStatus::ACCESS_VIOLATION.into());
                }
                // A large page that is mapped never faults but for its protection.
                let kind = set.check_valid(word, access, holds)?;
                set.count_fault(kind);
                return Ok(kind);
            }
            // An address that is nobody's gets no tables.
            Walk::Missing { .. } => {
                _held = set.hold_shared(va)?;
                set.descend(va, holds, &mut reservation, |set| {
                    if set.protection_of(va).permits(access) {
                        Ok(())
                    } else {
                        Err(NtStatus::ACCESS_VIOLATION)
                    }
                })?
            }
        };
        let word = self.load_entry(entry);
        if P::Paging::is_valid(word) {
            let copies = access == AccessKind::Write && P::Paging::is_copy_on_write(word);
            let kind = if copies {
                set.copy_on_write((entry, word), va, holds)?
            } else {
                set.check_valid(word, access, holds)?
            };
            set.count_fault(kind);
            return Ok(kind);
        }
        let protection =
            if word == 0 { set.protection_of(va) } else { P::Paging::software_protection(word) };
        // Neither a decommitted nor a no-access page permits anything.
        if !protection.permits(access) {
            return Err(NtStatus::ACCESS_VIOLATION.into());
        }
        if protection.is_guard() {
            set.remove_guard(entry, word, (va, protection))?;
            self.counters.guard_pages.add(1);
            return Err(NtStatus::GUARD_PAGE_VIOLATION.into());
        }
        let mut reservation = match reservation {
            Some(reservation) => reservation,
            None => set.prepare(va, Level::Table.number())?,
        };
        let target = set.page_target(entry, va);
        let kind = if set.is_shared(word, va) {
            set.resolve_shared(target, word, (protection, access), &mut reservation, holds)?
        } else {
            set.resolve(target, word, protection, &mut reservation, holds)?
        };
        set.count_fault(kind);
        Ok(kind)
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// A valid entry: another thread was faster, the translation was stale, or the access is
    /// not allowed.
    fn check_valid(
        &self,
        word: u64,
        access: AccessKind,
        holds: &Holds,
    ) -> Result<FaultKind, NtStatus> {
        let allowed = match access {
            AccessKind::Read => true,
            AccessKind::Write => P::Paging::is_writable(word),
            AccessKind::Execute => P::Paging::is_executable(word),
        };
        if allowed {
            Ok(holds.finished(FaultKind::Spurious))
        } else {
            Err(NtStatus::ACCESS_VIOLATION)
        }
    }

    /// The page at `va`, whose entry is `entry`.
    fn page_target(&self, entry: EntryRef, va: Va) -> Target {
        if self.manager().system_space() == Some(self.space()) {
            Target::prototypes(entry, va)
        } else {
            Target::page(entry, va)
        }
    }

    /// Whether the page of an entry that is not valid has a prototype.
    fn is_shared(&self, word: u64, va: Va) -> bool {
        if word == 0 {
            self.find_vad(va.vpn()).is_some_and(|vad| vad.attributes.view.is_some())
        } else {
            P::Paging::is_prototype(word)
        }
    }

    /// What a zero entry at `va` means (MiCheckVirtualAddress). Large pages are there from the
    /// beginning: where one is missing, its allocation is under way.
    pub(crate) fn protection_of(&self, va: Va) -> Protection {
        let page = va.vpn();
        let vad = self.find_vad(page);
        if let Some(vad) = vad.filter(|vad| vad.attributes.view.is_some()) {
            // Whether a page of a view is committed, its prototype knows.
            return self.protection_in_view(&vad, page);
        }
        match vad.map(|vad| vad.attributes) {
            Some(VadAttributes { kind: VadKind::LargePages, .. }) => Protection::NO_ACCESS,
            Some(VadAttributes { commitment: Commitment::Committed, protection, .. }) => protection,
            _ => Protection::NO_ACCESS,
        }
    }

    /// Counts a resolved fault by its kind, for the space and for the machine.
    #[inline]
    fn count_fault(&self, kind: FaultKind) {
        let header = self.header();
        let counters = &self.manager().counters;
        if kind == FaultKind::DemandZero {
            header.set_demand_zero_faults(header.demand_zero_faults() + 1);
            counters.demand_zero.add(1);
        } else if kind == FaultKind::Transition {
            header.set_transition_faults(header.transition_faults() + 1);
            counters.transition.add(1);
        } else if kind == FaultKind::PageFile {
            header.set_page_file_faults(header.page_file_faults() + 1);
            counters.page_file.add(1);
        }
    }

    /// Takes the guard off a page that is not valid; the page stays not valid.
    #[cold]
    fn remove_guard(
        &mut self,
        entry: EntryRef,
        word: u64,
        (va, protection): (Va, Protection),
    ) -> Result<(), Blocked> {
        let manager = self.manager();
        let open = protection.without_guard();
        if word == 0 {
            let opened = if self.is_shared(word, va) {
                P::Paging::prototype_lookup(open)
            } else {
                P::Paging::demand_zero(open)
            };
            manager.store_software(entry, word, opened);
            return Ok(());
        }
        if self.change_software_protection(entry, open) { Ok(()) } else { Err(Blocked::Restart) }
    }

    /// Makes `target` valid, whose entry holds `word`.
    #[inline]
    pub(crate) fn resolve(
        &mut self,
        target: Target,
        word: u64,
        protection: Protection,
        reservation: &mut PageReservation<'m, P>,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        let kind = if P::Paging::is_transition(word) {
            self.resolve_transition(target, word, reservation)?
        } else if P::Paging::is_page_file(word) {
            return Err(self.resolve_page_file(target, word, reservation));
        } else {
            self.resolve_demand_zero(target, word, protection, reservation)?
        };
        Ok(holds.finished(kind))
    }
}

impl<P: Platform> Operation<P> for Fault {
    type Output = FaultKind;

    fn step(&mut self, manager: &Manager<P>) -> Step<FaultKind> {
        let outcome = loop {
            let blocked = {
                let mut entry = manager.enter();
                let access = (self.va, self.access, self.mode);
                match manager.resolve_access(entry.token(), self.space, access, &mut self.holds) {
                    Ok(kind) => break Ok(kind),
                    Err(blocked) => blocked,
                }
            };
            match self.holds.absorb(manager, blocked) {
                None => {}
                Some(Pause::Wait(wait)) => return Step::Wait(wait),
                Some(Pause::Raise(status)) => break Err(status),
            }
        };
        self.holds.release(manager);
        manager.counters.page_faults.add(1);
        if P::ENABLED {
            let Self { space, va, access, .. } = *self;
            manager.platform().event(&Event::Fault { space, va, access, outcome });
        }
        outcome.map_err(Pause::Raise).into()
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.holds.release(manager);
    }
}
