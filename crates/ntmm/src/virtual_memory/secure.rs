//! Memory that has to stay accessible (MmSecureVirtualMemory, MmUnsecureVirtualMemory, spec 7.8).
//!
//! What the system itself asks for: for the environment block of a process, or for a buffer that
//! a driver uses without locking it. A page that is secured may leave memory; it may not be freed,
//! nor protected so that the access is lost.

use ntmm_pte::{Bytes, Pages, PagingMode, Va, Vpn};

use super::allocate::is_committed;
use super::protect::{is_run_committed, longest_run_in, page_protection, page_range};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::{Placeholder, SecuredAccess, SecuredHandle, Vad, VadKind};
use crate::working_set::WorkingSetGuard;

/// Secures the pages of a range. Yields a handle to end that with.
///
/// Raises [`NtStatus::CONFLICTING_ADDRESSES`] unless they lie in one allocation of private memory;
/// [`NtStatus::ACCESS_VIOLATION`] when one of them does not give the access now: because it is
/// not committed, not accessible that way, or guarded; and [`NtStatus::INSUFFICIENT_RESOURCES`]
/// when the space has [`SECURED_RANGES_LIMIT`](crate::vad::SECURED_RANGES_LIMIT) ranges already.
#[derive(Debug)]
#[must_use]
pub struct SecureMemory {
    call: Call,
    base: Va,
    size: Bytes,
    access: SecuredAccess,
    walk: Option<(RangeWalk, Vad)>,
}

impl SecureMemory {
    /// Secures the pages that `size` bytes at `base` touch.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, access: SecuredAccess) -> Self {
        Self { call: Call::new(space), base, size, access, walk: None }
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER)
    }
}

/// Whether memory of this kind can be secured.
fn can_be_secured(vad: &Vad) -> bool {
    matches!(vad.attributes.kind, VadKind::Private | VadKind::WriteWatch)
        && vad.attributes.placeholder != Placeholder::Empty
}

/// Checks that pages give an access.
struct Probe {
    vad: Vad,
    access: SecuredAccess,
}

impl<P: Platform> Visitor<P> for Probe {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let (word, page, last) = match visited {
            Visited::Entry { word, page, .. } => (word, page, page),
            Visited::Nothing { first, last } => (0, first, last),
        };
        let committed = if word == 0 {
            is_run_committed(set, &self.vad, (page, last))?
        } else {
            is_committed::<P>(&self.vad, word)
        };
        let given =
            committed && self.access.is_given_by(page_protection(set, &self.vad, page, word));
        if given { Ok(()) } else { Err(NtStatus::ACCESS_VIOLATION.into()) }
    }

    fn longest_run(&self) -> Pages {
        longest_run_in(&self.vad)
    }
}

impl<P: Platform> Stages<P> for SecureMemory {
    type Output = SecuredHandle;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        self.range::<P::Paging>().map(drop)
    }

    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<SecuredHandle, Blocked> {
        let (start, end) = self.range::<P::Paging>()?;
        let inside = |vad: &Vad| vad.end >= end && can_be_secured(vad);
        let (walk, vad) = match &mut self.walk {
            Some(walk) => walk,
            none => {
                let vad =
                    set.find_vad(start).filter(inside).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
                none.insert((RangeWalk::new(start, end), vad))
            }
        };
        let mut probe = Probe { vad: *vad, access: self.access };
        set.walk_stretch(&mut self.call.pending, walk, MissingTables::Skip, &mut probe)?;
        Ok(set.add_secured(vad, (start, end), self.access)?)
    }
}

impl<P: Platform> Operation<P> for SecureMemory {
    type Output = SecuredHandle;

    fn step(&mut self, manager: &Manager<P>) -> Step<SecuredHandle> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}

/// Ends a secured range.
///
/// Raises [`NtStatus::INVALID_HANDLE`] when the handle names none of the space.
#[derive(Debug)]
#[must_use]
pub struct UnsecureMemory {
    call: Call,
    handle: SecuredHandle,
}

impl UnsecureMemory {
    /// Ends the range that securing it gave this handle.
    pub const fn new(space: AddressSpaceId, handle: SecuredHandle) -> Self {
        Self { call: Call::new(space), handle }
    }
}

impl<P: Platform> Stages<P> for UnsecureMemory {
    type Output = ();

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        false
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        Ok(set.remove_secured(self.handle)?)
    }
}

impl<P: Platform> Operation<P> for UnsecureMemory {
    type Output = ();

    fn step(&mut self, manager: &Manager<P>) -> Step<()> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
