//! The fault operation and its decision tree (MmAccessFault, spec 4.3, 4.5).

use ntmm_pte::{AccessKind, Level, PagingMode, Protection, PteWord, Va};
use ntmm_sync::level::{Token, Unlocked};

use super::in_page::Holds;
use super::{Blocked, Target};
use crate::address_space::AddressSpaceId;
use crate::events::{Event, FaultKind};
use crate::frames::PageReservation;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::{EntryRef, Walk};
use crate::vad::Commitment;
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
/// is going or gone.
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
        Self { space, va, access, mode, holds: Holds::default() }
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

    fn attempt<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        token: &mut Token<'_, Unlocked>,
    ) -> Result<FaultKind, Blocked> {
        self.holds.check(manager)?;
        let mut set = manager
            .lock_space(token, self.space)
            .ok_or(Blocked::Raise(NtStatus::INVALID_HANDLE))?;
        if set.is_deleting() {
            return Err(Blocked::Raise(NtStatus::PROCESS_IS_TERMINATING));
        }
        if !P::Paging::is_user(self.va) {
            return Err(Blocked::Raise(NtStatus::ACCESS_VIOLATION));
        }
        let mut reservation = None;
        let entry = self.way_down(&mut set, &mut reservation)?;
        let word = manager.load_entry(entry);
        if P::Paging::is_valid(word) {
            return self.check_valid::<P>(word);
        }
        let protection = if word == 0 {
            set.protection_of(self.va)
        } else {
            P::Paging::software_protection(word)
        };
        if protection.is_decommitted()
            || protection.is_no_access()
            || !protection.permits(self.access)
        {
            return Err(Blocked::Raise(NtStatus::ACCESS_VIOLATION));
        }
        if protection.is_guard() {
            set.remove_guard(entry, protection)?;
            manager.counters.guard_pages.add(1);
            return Err(Blocked::Raise(NtStatus::GUARD_PAGE_VIOLATION));
        }
        let mut reservation = match reservation {
            Some(reservation) => reservation,
            None => set.prepare(self.va, Level::Table.number())?,
        };
        set.resolve(Target::page(entry, self.va), protection, &mut reservation, &mut self.holds)
    }

    /// Makes the tables above the page valid, unless the address is nobody's. Returns the
    /// page's entry, and what is left of the reservation if one was made.
    fn way_down<'m, P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'m, '_, P>,
        reservation: &mut Option<PageReservation<'m, P>>,
    ) -> Result<EntryRef, Blocked> {
        let manager = set.manager();
        loop {
            let (level, entry) = match manager.walk(set.root(), self.va, Level::Table) {
                Walk::Found(entry) => return Ok(entry),
                Walk::Missing { level, entry } => (level, entry),
            };
            if manager.load_entry(entry) == 0 {
                let protection = set.protection_of(self.va);
                if protection.is_no_access() || !protection.permits(self.access) {
                    return Err(Blocked::Raise(NtStatus::ACCESS_VIOLATION));
                }
            }
            let reserved = match &mut *reservation {
                Some(reserved) => reserved,
                none => none.insert(set.prepare(self.va, level.number())?),
            };
            let target = Target::table::<P::Paging>(entry, self.va, level);
            set.resolve(target, Protection::EXECUTE_READWRITE, reserved, &mut self.holds)?;
        }
    }

    /// A valid entry: another thread was faster, the translation was stale, or the access is
    /// not allowed.
    fn check_valid<P: Platform>(&self, word: u64) -> Result<FaultKind, Blocked> {
        let allowed = match self.access {
            AccessKind::Read => true,
            AccessKind::Write => P::Paging::is_writable(word),
            AccessKind::Execute => P::Paging::is_executable(word),
        };
        if allowed {
            Ok(self.holds.finished(FaultKind::Spurious))
        } else {
            Err(Blocked::Raise(NtStatus::ACCESS_VIOLATION))
        }
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// What a zero entry at `va` means (MiCheckVirtualAddress).
    pub(crate) fn protection_of(&self, va: Va) -> Protection {
        match self.find_vad(va.vpn()) {
            Some(vad) if vad.attributes.commitment == Commitment::Committed => {
                vad.attributes.protection
            }
            _ => Protection::NO_ACCESS,
        }
    }

    /// Takes the guard off a page that is not valid; the page stays not valid.
    fn remove_guard(&mut self, entry: EntryRef, protection: Protection) -> Result<(), Blocked> {
        let manager = self.manager();
        let word = manager.load_entry(entry);
        let open = protection.without_guard();
        if word == 0 {
            manager.store_software(entry, word, P::Paging::demand_zero(open));
            return Ok(());
        }
        if self.change_software_protection(entry, open) { Ok(()) } else { Err(Blocked::Restart) }
    }

    /// Makes `target` valid, whatever form its entry has.
    pub(crate) fn resolve(
        &mut self,
        target: Target,
        protection: Protection,
        reservation: &mut PageReservation<'m, P>,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        let word = self.manager().load_entry(target.entry);
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
        loop {
            let outcome = {
                let mut entry = manager.enter();
                self.attempt(manager, entry.token())
            };
            let outcome = match outcome {
                Ok(kind) => Ok(kind),
                Err(blocked) => match self.holds.absorb(manager, blocked) {
                    None => continue,
                    Some(Ok(wait)) => return Step::Wait(wait),
                    Some(Err(status)) => Err(status),
                },
            };
            self.holds.release(manager);
            manager.count_fault(outcome);
            if P::ENABLED {
                manager.platform().event(&Event::Fault {
                    space: self.space,
                    va: self.va,
                    access: self.access,
                    outcome,
                });
            }
            return match outcome {
                Ok(kind) => Step::Done(kind),
                Err(status) => Step::Raise(status),
            };
        }
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.holds.release(manager);
    }
}

impl<P: Platform> Manager<P> {
    fn count_fault(&self, outcome: Result<FaultKind, NtStatus>) {
        self.counters.page_faults.add(1);
        match outcome {
            Ok(FaultKind::DemandZero) => self.counters.demand_zero.add(1),
            Ok(FaultKind::Transition) => self.counters.transition.add(1),
            Ok(FaultKind::PageFile) => self.counters.page_file.add(1),
            Ok(FaultKind::Spurious) | Err(_) => {}
        }
    }
}
