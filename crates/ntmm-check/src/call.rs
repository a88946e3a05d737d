//! Calls on virtual memory as a thread makes them: planned for the model, carried out by the
//! manager.

use ntmm::address_space::AddressSpaceId;
use ntmm::operation::Step;
use ntmm::virtual_memory::{
    Allocate, AllocationType, Free, FreeType, MemoryInformation, MemoryState, Placement, Protect,
    Query, Region as ManagerRegion, Reset,
};
use ntmm_machine::Hardware;
use ntmm_pte::{Bytes, Va};

use crate::model::calls::{Answer, Call, Information};
use crate::model::page::State;
use crate::model::{PAGE_BYTES, Range};
use crate::operation::{Action, Backing, Class, Extent, Place, Thread};
use crate::rights::{Guard, Rights};
use crate::worker::Processor;
use crate::world::{Prediction, Window, World};

/// A call and the region it is made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) window: Window,
    pub(crate) call: Call,
}

impl Planned {
    /// What an action comes to; none when it cannot be judged where the region is now.
    pub(crate) fn new(world: &mut World, thread: Thread, action: Action) -> Option<Self> {
        let region = match action {
            Action::Query { region, .. } => region,
            action => action.restructures()?,
        };
        if region.class == Class::View {
            return None;
        }
        let window = world.window(thread, region)?;
        let call = call_for(world, thread, window, action)?;
        if window.prediction != Prediction::Full {
            let end = match call {
                Call::Allocate { range, .. } | Call::Commit { range, .. } => range.end(),
                _ => window.range.first,
            };
            let pages = end - window.range.first;
            world.model.space(thread.process).may_be_charged(window.range.first, pages);
        }
        Some(Self { window, call })
    }

    /// Whether the manager chooses the address.
    pub(crate) fn chooses_place(&self) -> bool {
        matches!(self.call, Call::Allocate { place: Place::Lowest | Place::Highest, .. })
    }

    pub(crate) const fn releases(&self) -> bool {
        matches!(self.call, Call::Release { .. })
    }
}

fn call_for(world: &mut World, thread: Thread, window: Window, action: Action) -> Option<Call> {
    match action {
        Action::Allocate { region, pages, rights, backing, place } => {
            let pages = u64::from(pages).min(window.range.pages);
            let range = Range { first: window.range.first, pages };
            if !suits(region.class, rights) {
                return None;
            }
            let chosen = place != Place::Slot;
            let occupied = world.model.space(thread.process).overlap(window.range).is_some();
            if chosen
                && (occupied || region.class != Class::Own || window.prediction != Prediction::Full)
            {
                return None;
            }
            Some(Call::Allocate { range, place, rights, backing })
        }
        Action::Commit(extent, rights) => {
            suits(extent.region.class, rights).then_some(())?;
            Some(Call::Commit { range: within(window, extent)?, rights })
        }
        Action::Decommit(extent) => Some(Call::Decommit { range: within(window, extent)? }),
        Action::Reset(extent) => Some(Call::Reset { range: within(window, extent)? }),
        Action::UndoReset(extent) => Some(Call::UndoReset { range: within(window, extent)? }),
        Action::Release(extent) => {
            // The rest of an allocation somewhere else could not be told from what comes into
            // the hole.
            let whole = extent.first == 0 && extent.pages == 0;
            (whole || window.place == Place::Slot).then_some(())?;
            Some(Call::Release { range: within(window, extent)? })
        }
        Action::Protect(extent, rights) => {
            suits(extent.region.class, rights).then_some(())?;
            Some(Call::Protect { range: within(window, extent)?, rights })
        }
        Action::Query { region, page } => {
            let range = within(window, Extent { region, first: page, pages: 1 })?;
            Some(Call::Query { page: range.first })
        }
        _ => None,
    }
}

/// Whether a protection may be given to regions of a class: two threads that meet a guard at
/// once could not be judged.
fn suits(class: Class, rights: Rights) -> bool {
    class != Class::Shared || rights.guard == Guard::Off
}

/// The pages of an extent that lie in the window.
fn within(window: Window, extent: Extent) -> Option<Range> {
    let first = u64::from(extent.first);
    let left = window.range.pages.checked_sub(first).filter(|left| *left > 0)?;
    Some(Range { first: window.range.first + first, pages: u64::from(extent.pages).min(left) })
}

/// The manager's operation for a call.
#[derive(Debug)]
pub(crate) enum ManagerCall {
    Allocate(Allocate),
    Free(Free),
    Reset(Reset),
    Protect(Protect),
    Query(Query),
}

fn address(page: u64) -> Va {
    Va::new(page * PAGE_BYTES)
}

fn bytes(pages: u64) -> Bytes {
    Bytes::new(pages * PAGE_BYTES)
}

fn range_of(region: ManagerRegion) -> Range {
    Range { first: region.base.get() / PAGE_BYTES, pages: region.size.get() / PAGE_BYTES }
}

impl ManagerCall {
    pub(crate) fn new(space: AddressSpaceId, call: Call) -> Self {
        match call {
            Call::Allocate { range, place, rights, backing } => {
                let placement = match place {
                    Place::Slot => Placement::At(address(range.first)),
                    Place::Lowest => Placement::Lowest,
                    Place::Highest => Placement::Highest,
                };
                let kind = match backing {
                    Backing::Reserved => AllocationType::Reserve,
                    Backing::Committed => AllocationType::ReserveAndCommit,
                };
                let size = bytes(range.pages);
                let protection = rights.to_protection();
                Self::Allocate(Allocate::new(space, placement, size, kind, protection))
            }
            Call::Commit { range, rights } => Self::Allocate(Allocate::new(
                space,
                Placement::At(address(range.first)),
                bytes(range.pages),
                AllocationType::Commit,
                rights.to_protection(),
            )),
            Call::Decommit { range } | Call::Release { range } => {
                let kind = match call {
                    Call::Release { .. } => FreeType::Release,
                    _ => FreeType::Decommit,
                };
                Self::Free(Free::new(space, address(range.first), bytes(range.pages), kind))
            }
            Call::Reset { range } => {
                Self::Reset(Reset::new(space, address(range.first), bytes(range.pages)))
            }
            Call::UndoReset { range } => {
                Self::Reset(Reset::undoing(space, address(range.first), bytes(range.pages)))
            }
            Call::Protect { range, rights } => Self::Protect(Protect::new(
                space,
                address(range.first),
                bytes(range.pages),
                rights.to_protection(),
            )),
            Call::Query { page } => Self::Query(Query::new(space, address(page))),
        }
    }

    pub(crate) fn step<M: Hardware>(&mut self, cpu: &mut Processor<'_, M>) -> Step<Answer> {
        match self {
            Self::Allocate(call) => answered(cpu.step(call), |it| Answer::Range(range_of(it))),
            Self::Free(call) => answered(cpu.step(call), |it| Answer::Range(range_of(it))),
            Self::Reset(call) => answered(cpu.step(call), |it| Answer::Range(range_of(it))),
            Self::Protect(call) => answered(cpu.step(call), |it| {
                Answer::Protected(range_of(it.region), Rights::from_protection(it.old))
            }),
            Self::Query(call) => {
                answered(cpu.step(call), |it| Answer::Information(information_of(it)))
            }
        }
    }

    pub(crate) fn abandon<M: Hardware>(self, cpu: &mut Processor<'_, M>) {
        match self {
            Self::Allocate(call) => cpu.abandon(call),
            Self::Free(call) => cpu.abandon(call),
            Self::Reset(call) => cpu.abandon(call),
            Self::Protect(call) => cpu.abandon(call),
            Self::Query(call) => cpu.abandon(call),
        }
    }
}

fn answered<T>(step: Step<T>, answer: impl FnOnce(T) -> Answer) -> Step<Answer> {
    match step {
        Step::Done(value) => Step::Done(answer(value)),
        Step::Wait(wait) => Step::Wait(wait),
        Step::Raise(status) => Step::Raise(status),
    }
}

fn information_of(found: MemoryInformation) -> Information {
    let rights = found.protection.and_then(Rights::from_protection);
    Information {
        range: range_of(ManagerRegion { base: found.base, size: found.size }),
        state: match (found.state, rights) {
            (MemoryState::Committed, Some(rights)) => State::Committed(rights),
            (MemoryState::Committed | MemoryState::Reserved, _) => State::Reserved,
            (MemoryState::Free, _) => State::Free,
        },
        allocation: found.allocation.and_then(|(base, protection)| {
            Some((base.get() / PAGE_BYTES, Rights::from_protection(protection)?))
        }),
    }
}
