//! Making and closing sections, mapping and unmapping views of them.

use std::cell::RefCell;

use ntmm::operation::{Operation, Step};
use ntmm::platform::Platform;
use ntmm::section::{
    CreateSection, Holder, Inherit, MapView, MappedView, SectionId, SectionKind, SectionRequest,
    UnmapView, ViewRequest,
};
use ntmm::status::NtStatus;
use ntmm::vad::ProtectionChange;
use ntmm::virtual_memory::{Placement, Region};
use ntmm::{AddressSpaceId, Manager};
use ntmm_machine::Hardware;
use ntmm_pte::{Bytes, Protection, Va};

use crate::model::views::SectionKey;
use crate::model::{Mismatch, PAGE_BYTES, Range, mismatch};
use crate::operation::{Action, Showing, Thread};
use crate::worker::{Processor, judge};
use crate::world::{Prediction, Window, World};

/// Pages that views begin at.
const GRANULARITY: u64 = 16;

/// A section that threads name by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Somebody is making it.
    Making,
    /// It is there.
    Open { id: SectionId, key: SectionKey, pages: u64 },
}

/// A call on sections or views.
#[derive(Debug)]
pub(crate) enum Viewing {
    Create { section: u8, pages: u64, charge: u64, call: CreateSection },
    Close { key: SectionKey, call: Close },
    Map { request: Mapping, call: MapView },
    Unmap { window: Window, view: Option<Range>, call: UnmapView },
}

/// A view that is to be mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    window: Window,
    section: u8,
    of: Named,
    key: SectionKey,
    first: u64,
    pages: u64,
    showing: Showing,
    charge: u64,
    /// What must come of it.
    due: Result<Range, NtStatus>,
}

/// Closing, as an operation that never waits.
#[derive(Debug)]
pub(crate) struct Close(SectionId);

impl<P: Platform> Operation<P> for Close {
    type Output = Result<(), NtStatus>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        Step::Done(manager.close_section(self.0))
    }

    fn abandon(self, _manager: &Manager<P>) {}
}

const fn protection_of(showing: Showing) -> Protection {
    match showing {
        Showing::ReadOnly => Protection::READONLY,
        Showing::ReadWrite => Protection::READWRITE,
        Showing::WriteCopy => Protection::WRITECOPY,
    }
}

fn range_of(region: Region) -> Range {
    Range { first: region.base.get() / PAGE_BYTES, pages: region.size.get() / PAGE_BYTES }
}

/// A section of the paging files.
pub(crate) const fn request(pages: u64) -> SectionRequest {
    SectionRequest {
        kind: SectionKind::Committed,
        size: pages * PAGE_BYTES,
        protection: Protection::READWRITE,
        attributes: 0x800_0000,
        holder: Holder::User,
    }
}

impl Viewing {
    /// The call an action comes to; none when there is nothing to do.
    pub(crate) fn new(
        world: &mut World,
        (thread, space, caller): (Thread, AddressSpaceId, u32),
        action: Action,
    ) -> Option<Self> {
        match action {
            Action::CreateSection { section, pages } => {
                let pages = u64::from(pages).min(world.stride());
                if world.sections.contains_key(&section) {
                    return None;
                }
                world.sections.insert(section, Named::Making);
                let charge = world.model.making_section(caller, pages);
                let call = CreateSection::new(request(pages));
                Some(Self::Create { section, pages, charge, call })
            }
            Action::CloseSection { section } => match world.sections.get(&section) {
                Some(&Named::Open { id, key, .. }) => {
                    world.sections.remove(&section);
                    Some(Self::Close { key, call: Close(id) })
                }
                _ => None,
            },
            Action::MapView { region, section, first, pages, showing } => {
                let window = world.window(thread, region)?;
                let of = *world.sections.get(&section)?;
                let Named::Open { id, key, pages: all } = of else { return None };
                if window.prediction != Prediction::Full {
                    return None;
                }
                let (first, pages) = (u64::from(first), u64::from(pages));
                let shown = if pages == 0 { all.saturating_sub(first) } else { pages };
                let range = Range { first: window.range.first, pages: shown };
                let occupied = world.model.space(thread.process).view_range(range.first);
                let due = if !first.is_multiple_of(GRANULARITY) {
                    Err(NtStatus::MAPPED_ALIGNMENT)
                } else if first >= all || first + pages > all {
                    Err(NtStatus::INVALID_VIEW_SIZE)
                } else if occupied.is_some() {
                    Err(NtStatus::CONFLICTING_ADDRESSES)
                } else {
                    Ok(range)
                };
                let charge = world.model.mapping_view(caller, showing, shown);
                let call = MapView::new(
                    space,
                    ViewRequest {
                        section: id,
                        placement: Placement::At(Va::new(range.first * PAGE_BYTES)),
                        offset: first * PAGE_BYTES,
                        size: Bytes::new(pages * PAGE_BYTES),
                        protection: protection_of(showing),
                        protection_change: ProtectionChange::Allowed,
                        inherit: Inherit::Unmap,
                    },
                );
                let request =
                    Mapping { window, section, of, key, first, pages, showing, charge, due };
                Some(Self::Map { request, call })
            }
            Action::Unmap { region, page } => {
                let window = world.window(thread, region)?;
                let page = window.range.first + u64::from(page).min(window.range.pages - 1);
                let view = world.model.space(thread.process).view_range(page);
                let call = UnmapView::new(space, Va::new(page * PAGE_BYTES));
                Some(Self::Unmap { window, view, call })
            }
            _ => None,
        }
    }

    /// Steps the call; the wait, if it has to.
    pub(crate) fn advance<M: Hardware>(
        &mut self,
        world: &RefCell<World>,
        cpu: &mut Processor<'_, M>,
        (thread, caller, refused): (Thread, u32, u64),
    ) -> Option<ntmm::operation::Wait> {
        cpu.count_references(1);
        let judged = match self {
            Self::Create { section, pages, charge, call } => {
                let outcome = match cpu.step(call) {
                    Step::Wait(wait) => return Some(wait),
                    Step::Done(id) => Ok(id),
                    Step::Raise(status) => Err(status),
                };
                let mut world = world.borrow_mut();
                world.note_disturbances(cpu.machine(), refused);
                created(&mut world, (*section, *pages, *charge), outcome)
            }
            Self::Close { key, call } => {
                let outcome = match cpu.step(call) {
                    Step::Wait(wait) => return Some(wait),
                    Step::Done(outcome) => outcome,
                    Step::Raise(status) => Err(status),
                };
                world.borrow_mut().model.closed_section(*key);
                outcome.or_else(|status| mismatch("status", format!("{status}: closing")))
            }
            Self::Map { request, call } => {
                let outcome = match cpu.step(call) {
                    Step::Wait(wait) => return Some(wait),
                    Step::Done(view) => Ok(view),
                    Step::Raise(status) => Err(status),
                };
                let mut world = world.borrow_mut();
                world.note_disturbances(cpu.machine(), refused);
                mapped(&mut world, thread, *request, outcome)
            }
            Self::Unmap { window, view, call } => {
                let outcome = match cpu.step(call) {
                    Step::Wait(wait) => return Some(wait),
                    Step::Done(region) => Ok(range_of(region)),
                    Step::Raise(status) => Err(status),
                };
                let mut world = world.borrow_mut();
                world.note_disturbances(cpu.machine(), refused);
                unmapped(&mut world, thread, (*window, *view), outcome)
            }
        };
        world.borrow_mut().model.section_call_ended(caller);
        judge(world, judged);
        None
    }

    /// Gives the call up.
    pub(crate) fn abandon<M: Hardware>(
        self,
        world: &RefCell<World>,
        cpu: &mut Processor<'_, M>,
        (thread, caller): (Thread, u32),
    ) {
        match self {
            Self::Create { section, call, .. } => {
                cpu.abandon(call);
                world.borrow_mut().sections.remove(&section);
            }
            Self::Close { key, mut call } => {
                // Nobody else would close it.
                let _ = cpu.step(&mut call);
                world.borrow_mut().model.closed_section(key);
            }
            Self::Map { request, call } => {
                cpu.abandon(call);
                lose(&mut world.borrow_mut(), thread, request.window, request.due.ok());
            }
            Self::Unmap { window, view, call } => {
                cpu.abandon(call);
                lose(&mut world.borrow_mut(), thread, window, view);
            }
        }
        world.borrow_mut().model.section_call_ended(caller);
    }
}

/// Nobody knows what is left of a view, if there was to be one.
fn lose(world: &mut World, thread: Thread, window: Window, view: Option<Range>) {
    let Some(view) = view else { return };
    let space = world.model.space(thread.process);
    space.unmapped_view(view);
    space.may_be_charged(view.first, view.pages);
    world.lose(window.key);
}

fn created(
    world: &mut World,
    (section, pages, charge): (u8, u64, u64),
    outcome: Result<SectionId, NtStatus>,
) -> Result<(), Mismatch> {
    world.sections.remove(&section);
    match outcome {
        Ok(id) if pages > 0 => {
            let key = world.model.made_section(pages);
            world.sections.insert(section, Named::Open { id, key, pages });
            Ok(())
        }
        Ok(_) => mismatch("status", "a section without pages".to_owned()),
        Err(NtStatus::INVALID_PARAMETER_4) if pages == 0 => Ok(()),
        // Frames that are merely not available now are a good reason.
        Err(NtStatus::INSUFFICIENT_RESOURCES) => Ok(()),
        Err(status) => world.model.excuse(status, charge),
    }
}

fn mapped(
    world: &mut World,
    thread: Thread,
    request: Mapping,
    outcome: Result<MappedView, NtStatus>,
) -> Result<(), Mismatch> {
    let Mapping { window, section, of, key, first, showing, charge, due, .. } = request;
    let closed = world.sections.get(&section) != Some(&of);
    let judged = match (due, outcome) {
        (_, Err(NtStatus::INVALID_HANDLE)) if closed => Ok(()),
        (Ok(range), Ok(view)) if range_of(view.region) == range => {
            world.model.mapped_view(thread.process, range, (key, first), showing);
            Ok(())
        }
        (Err(due), Err(status)) if due == status => Ok(()),
        (Ok(_), Err(status)) => world.model.excuse(status, charge),
        (due, found) => mismatch("status", format!("{found:x?} where {due:x?} is due")),
    };
    judged.map_err(|mismatch| Mismatch {
        detail: format!(
            "{} (mapping {} pages of section {section} at {:#x})",
            mismatch.detail, request.pages, window.range.first
        ),
        ..mismatch
    })
}

fn unmapped(
    world: &mut World,
    thread: Thread,
    (window, view): (Window, Option<Range>),
    outcome: Result<Range, NtStatus>,
) -> Result<(), Mismatch> {
    let lost = window.prediction != Prediction::Full;
    match (view, outcome) {
        _ if lost => Ok(()),
        (Some(view), Ok(range)) if view == range => {
            world.model.space(thread.process).unmapped_view(view);
            Ok(())
        }
        (None, Err(NtStatus::NOT_MAPPED_VIEW)) => Ok(()),
        (Some(view), Err(status)) => {
            lose(world, thread, window, Some(view));
            world.model.excuse(status, 0)
        }
        (due, found) => mismatch("status", format!("unmapping: {found:x?} where {due:x?} is due")),
    }
}
