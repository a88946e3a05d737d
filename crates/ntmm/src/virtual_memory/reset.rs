//! Contents that are no longer wanted (MEM_RESET of NtAllocateVirtualMemory, spec 7.4; API 3.4).
//!
//! The pages of the range stay committed, with their protection and their charge, and what they
//! hold may be forgotten. Here it is, at once: a page that is in memory or in a paging file
//! becomes one that was never touched, so that the modified-page writer never writes it and its
//! slot is free. A locked page stays what it is, since it may not leave memory.
//!
//! A reset can be undone (MEM_RESET_UNDO): that succeeds when every committed page of the range
//! still holds something, or again. A page that has never been touched counts as one whose
//! contents are lost, for nothing tells the two apart.

use ntmm_pte::{Bytes, PagingMode, PteWord, Va, Vpn};

use super::allocate::{Region, is_committed};
use super::delete::Remains;
use super::protect::{page_protection, page_range};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::{Placeholder, Vad, VadKind};
use crate::working_set::WorkingSetGuard;

/// The call. Yields the range in whole pages.
#[derive(Debug)]
#[must_use]
pub struct Reset {
    call: Call,
    base: Va,
    size: Bytes,
    direction: Direction,
    walk: Option<(RangeWalk, Vad)>,
}

impl Reset {
    /// Gives up what the pages hold that `size` bytes at `base` touch.
    ///
    /// Raises [`NtStatus::CONFLICTING_ADDRESSES`] unless they lie in one allocation of private
    /// memory or in one view.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        Self { call: Call::new(space), base, size, direction: Direction::Forget, walk: None }
    }

    /// Wants back what a reset of these pages has given up.
    ///
    /// Raises as [`new`](Self::new) does, and [`NtStatus::UNSUCCESSFUL`] when a page has lost what
    /// it held; nothing changes either way.
    pub const fn undoing(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        Self { call: Call::new(space), base, size, direction: Direction::Undo, walk: None }
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_4)
    }
}

/// What is to become of the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forget,
    Undo,
}

/// Whether memory of this kind can be reset; in a view that has no effect.
fn can_be_reset(vad: &Vad) -> bool {
    let kind =
        matches!(vad.attributes.kind, VadKind::Private | VadKind::WriteWatch | VadKind::View);
    kind && vad.attributes.placeholder != Placeholder::Empty
}

/// Forgets the contents of pages.
struct Forget {
    vad: Vad,
}

impl<P: Platform> Visitor<P> for Forget {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        if !holds_something::<P>(word) || !is_committed::<P>(&self.vad, word) {
            return Ok(());
        }
        let va = P::Paging::va_of_vpn(page);
        if P::Paging::is_valid(word) {
            set.capture_write(va, word);
            let hint = set.manager().entry(P::Paging::valid_pfn(word)).u1();
            if set.locate(va, hint).is_some_and(|index| set.entry(index).is_locked()) {
                return Ok(());
            }
        }
        let protection = page_protection(set, &self.vad, word);
        set.delete_page(batch, (entry, word), va, Remains::Untouched(protection))
    }
}

/// Whether the page of an entry that holds `word` has been touched and not been forgotten since.
fn holds_something<P: Platform>(word: u64) -> bool {
    P::Paging::is_valid(word) || P::Paging::is_transition(word) || P::Paging::is_page_file(word)
}

/// Looks for pages that have lost what they held.
struct Survey {
    vad: Vad,
}

impl<P: Platform> Visitor<P> for Survey {
    fn visit(
        &mut self,
        _set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let word = match visited {
            Visited::Entry { word, .. } => word,
            Visited::Nothing { .. } => 0,
        };
        if is_committed::<P>(&self.vad, word) && !holds_something::<P>(word) {
            return Err(NtStatus::UNSUCCESSFUL.into());
        }
        Ok(())
    }
}

impl<P: Platform> Stages<P> for Reset {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        self.range::<P::Paging>().map(|_| ())
    }

    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        let (start, end) = self.range::<P::Paging>()?;
        let inside = |vad: &Vad| vad.end >= end && can_be_reset(vad);
        let (walk, vad) = match &mut self.walk {
            Some(walk) => walk,
            none => {
                let vad =
                    set.find_vad(start).filter(inside).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
                none.insert((RangeWalk::new(start, end), vad))
            }
        };
        if vad.attributes.kind != VadKind::View {
            let (vad, pending, missing) = (*vad, &mut self.call.pending, MissingTables::Skip);
            match self.direction {
                Direction::Forget => {
                    set.walk_stretch(pending, walk, missing, &mut Forget { vad })?;
                }
                Direction::Undo => set.walk_stretch(pending, walk, missing, &mut Survey { vad })?,
            }
        }
        Ok(Region::of_pages::<P::Paging>(start, end))
    }
}

impl<P: Platform> Operation<P> for Reset {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
