//! The life of one page: `--watch`.
//!
//! After each step of the simulation the page's entry is read; what happened to the page within
//! the step is told by the manager's events, so that no fault and no move between lists is
//! missed however long a step is.

use std::fmt::Write;

use ntmm::AddressSpaceId;
use ntmm::Manager;
use ntmm::events::Event;
use ntmm::frames::entry::FrameFlags;
use ntmm_machine::{Hardware, Machine, Nanoseconds};
use ntmm_pte::{Pfn, PteState, Va};

use super::observer::{Observer, access_name, fault_name};

/// A page of a process being watched.
#[derive(Debug)]
pub struct Watch {
    process: String,
    space: AddressSpaceId,
    va: Va,
    /// The state that was last told.
    told: Option<String>,
}

/// What is known of the page now.
struct Glance {
    state: String,
    frame: Option<Pfn>,
}

impl Watch {
    /// Watches the page at `va`.
    #[must_use]
    pub const fn new(process: String, space: AddressSpaceId, va: Va) -> Self {
        Self { process, space, va, told: None }
    }

    /// What has become of the page since the last call, one line each.
    pub fn look<M: Hardware>(&mut self, manager: &Manager<Machine<M, Observer>>) -> String {
        let machine = manager.platform();
        let mut text = String::new();
        for (time, event) in machine.tracer().take_seen() {
            if let Some(what) = self.describe(&event) {
                self.line(&mut text, time, &what);
            }
        }
        let glance = glance(manager, self.space, self.va);
        machine.tracer().watch_frame(glance.frame);
        if self.told.as_ref() != Some(&glance.state) {
            self.line(&mut text, machine.clock().nanoseconds(), &glance.state);
            self.told = Some(glance.state);
        }
        text
    }

    fn line(&self, text: &mut String, time: Nanoseconds, what: &str) {
        let (seconds, nanoseconds) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{seconds:>4}.{nanoseconds:09} s  process {}  {}  {what}",
            self.process, self.va
        );
    }

    /// An event in words; none for one of another process.
    fn describe(&self, event: &Event) -> Option<String> {
        match event {
            Event::Fault { space, access, outcome, .. } if *space == self.space => {
                Some(match outcome {
                    Ok(kind) => format!("* {} fault ({})", fault_name(*kind), access_name(*access)),
                    Err(status) => format!("* fault ({}): {status}", access_name(*access)),
                })
            }
            Event::Trimmed { space, pfn, .. } if *space == self.space => {
                Some(format!("* leaves the working set, frame {:#x}", pfn.get()))
            }
            Event::Moved { pfn, from, to } => {
                Some(format!("* frame {:#x} goes from {} to {}", pfn.get(), from.name(), to.name()))
            }
            _ => None,
        }
    }
}

/// The state of a page, from its entry and its frame's.
fn glance<M: Hardware>(
    manager: &Manager<Machine<M, Observer>>,
    space: AddressSpaceId,
    va: Va,
) -> Glance {
    let Some(entry) = manager.page_entry(space, va) else {
        return Glance { state: "no page table in memory".to_owned(), frame: None };
    };
    let (mut state, frame) = match M::decode(manager.raw_entry(entry)) {
        PteState::Zero => ("nothing".to_owned(), None),
        PteState::DemandZero { protection } => (format!("demand zero, {protection:?}"), None),
        PteState::PageFile { file, offset, .. } => {
            (format!("in paging file {}, slot {:#x}", file.get(), offset.get()), None)
        }
        PteState::Valid(valid) => {
            let dirty = if valid.dirty { ", dirty" } else { "" };
            (format!("valid, frame {:#x}{dirty}", valid.pfn.get()), Some(valid.pfn))
        }
        PteState::Transition(transition) => {
            (format!("in transition, frame {:#x}", transition.pfn.get()), Some(transition.pfn))
        }
        PteState::PrototypePointer(_) | PteState::PrototypeLookup { .. } => {
            ("mapped through a prototype".to_owned(), None)
        }
    };
    if let Some(view) = frame.and_then(|pfn| manager.frame_view(pfn)) {
        let flags: Vec<String> = view.flags.iter_names().map(|(name, _)| spelled(name)).collect();
        let flags = if flags.is_empty() { "no flags".to_owned() } else { flags.join(", ") };
        // Writing to a string does not fail.
        let _ = write!(state, "; frame is {}, {flags}", view.location.name());
        let original = M::decode(view.original);
        if let PteState::PageFile { offset, .. } = original
            && !view.flags.contains(FrameFlags::MODIFIED)
        {
            let _ = write!(state, ", copy in slot {:#x}", offset.get());
        }
    }
    Glance { state, frame }
}

/// The name of a flag in words.
fn spelled(name: &str) -> String {
    name.to_lowercase().replace('_', " ")
}
