//! Who hears the manager's events: faults are counted for each process, `--events` has them in
//! a file, `--watch` those of a page.
//!
//! The manager reports events with its locks held, so they are only written down here. What
//! cannot be written is remembered and ends the run at its next step.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};

use ntmm::AddressSpaceId;
use ntmm::events::{Event, FaultKind};
use ntmm::platform::Trace;
use ntmm_machine::{Clock, Nanoseconds};
use ntmm_pte::{AccessKind, Pfn, Va};

use super::figures::Faults;
use crate::failure::Failure;
use crate::output::NewFile;

/// The first line of an events file.
const HEADING: &str = "time_ns,event,process,va,access,outcome,pfn,from,to,pages";

/// An observer of a machine.
#[derive(Debug)]
pub struct Observer {
    clock: Clock,
    /// The address spaces of the processes, in order, and their faults.
    spaces: RefCell<Vec<(AddressSpaceId, Faults)>>,
    file: RefCell<Option<NewFile>>,
    error: RefCell<Option<io::Error>>,
    watched: Option<Va>,
    /// The frame the watched page was last seen in.
    frame: Cell<Option<Pfn>>,
    seen: RefCell<Vec<(Nanoseconds, Event)>>,
}

impl Observer {
    /// An observer that may write events to a file and note those of a page.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(clock: Clock, file: Option<NewFile>, watched: Option<Va>) -> Result<Self, Failure> {
        let mut file = file;
        if let Some(file) = &mut file {
            writeln!(file, "{HEADING}").map_err(|error| file.failure(error))?;
        }
        Ok(Self {
            clock,
            spaces: RefCell::default(),
            file: RefCell::new(file),
            error: RefCell::default(),
            watched: watched.map(Va::page_base),
            frame: Cell::new(None),
            seen: RefCell::default(),
        })
    }

    /// The next process has this address space.
    pub fn add_space(&self, space: AddressSpaceId) {
        self.spaces.borrow_mut().push((space, Faults::default()));
    }

    /// The faults of a process so far.
    #[must_use]
    pub fn faults_of(&self, space: AddressSpaceId) -> Faults {
        let spaces = self.spaces.borrow();
        let found = spaces.iter().find(|(known, _)| *known == space);
        found.map_or_else(Faults::default, |(_, faults)| *faults)
    }

    fn count(&self, space: AddressSpaceId, kind: FaultKind) {
        let mut spaces = self.spaces.borrow_mut();
        if let Some((_, faults)) = spaces.iter_mut().find(|(known, _)| *known == space) {
            match kind {
                FaultKind::Spurious => {}
                FaultKind::DemandZero => faults.demand_zero += 1,
                FaultKind::Transition => faults.transition += 1,
                FaultKind::PageFile => faults.page_file += 1,
                // No program of a trace has views.
                FaultKind::CopyOnWrite => {}
            }
        }
    }

    /// Whether the file could be written so far.
    ///
    /// # Errors
    /// It could not.
    pub fn check(&self) -> Result<(), Failure> {
        match (self.error.take(), &*self.file.borrow()) {
            (Some(error), Some(file)) => Err(file.failure(error)),
            _ => Ok(()),
        }
    }

    /// Gives the file its name: the run is over.
    ///
    /// # Errors
    /// The rest of it cannot be written.
    pub fn keep(&self) -> Result<(), Failure> {
        self.check()?;
        self.file.take().map_or(Ok(()), NewFile::keep)
    }

    /// The watched page lies in this frame now.
    pub fn watch_frame(&self, frame: Option<Pfn>) {
        self.frame.set(frame);
    }

    /// The events that concern the watched page since the last call.
    #[must_use]
    pub fn take_seen(&self) -> Vec<(Nanoseconds, Event)> {
        self.seen.take()
    }

    /// Whether an event concerns the watched page.
    fn concerns_watched(&self, event: &Event) -> bool {
        match event {
            Event::Fault { va, .. } | Event::Trimmed { va, .. } => {
                Some(va.page_base()) == self.watched
            }
            Event::Moved { pfn, .. } => Some(*pfn) == self.frame.get(),
            Event::PageRead { .. } | Event::PageWrite { .. } => false,
        }
    }

    fn write(&self, file: &mut NewFile, event: &Event) -> io::Result<()> {
        let time = self.clock.nanoseconds().0;
        let process = |space: &AddressSpaceId| {
            let place = self.spaces.borrow().iter().position(|(known, _)| known == space);
            place.map_or_else(String::new, |place| (place + 1).to_string())
        };
        match event {
            Event::Fault { space, va, access, outcome } => {
                let outcome = match outcome {
                    Ok(kind) => fault_name(*kind).to_owned(),
                    Err(status) => status.to_string(),
                };
                let (process, access) = (process(space), access_name(*access));
                writeln!(file, "{time},fault,{process},{:#x},{access},{outcome},,,,", va.get())
            }
            Event::Moved { pfn, from, to } => {
                let (from, to) = (from.name(), to.name());
                writeln!(file, "{time},move,,,,,{:#x},{from},{to},", pfn.get())
            }
            Event::PageRead { pages } => writeln!(file, "{time},read,,,,,,,,{pages}"),
            Event::PageWrite { pages } => writeln!(file, "{time},write,,,,,,,,{pages}"),
            Event::Trimmed { space, va, pfn } => {
                let process = process(space);
                writeln!(file, "{time},trim,{process},{:#x},,,{:#x},,,", va.get(), pfn.get())
            }
        }
    }
}

impl Trace for Observer {
    const ENABLED: bool = true;

    fn event(&self, event: &Event) {
        if let Event::Fault { space, outcome: Ok(kind), .. } = event {
            self.count(*space, *kind);
        }
        if self.watched.is_some() && self.concerns_watched(event) {
            self.seen.borrow_mut().push((self.clock.nanoseconds(), *event));
        }
        if let Some(file) = &mut *self.file.borrow_mut()
            && self.error.borrow().is_none()
            && let Err(error) = self.write(file, event)
        {
            *self.error.borrow_mut() = Some(error);
        }
    }
}

/// What a kind of fault is called.
#[must_use]
pub const fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Spurious => "spurious",
        FaultKind::DemandZero => "demand-zero",
        FaultKind::Transition => "transition",
        FaultKind::PageFile => "page-file",
        FaultKind::CopyOnWrite => "copy-on-write",
    }
}

/// What an access is called.
#[must_use]
pub const fn access_name(access: AccessKind) -> &'static str {
    match access {
        AccessKind::Read => "read",
        AccessKind::Write => "write",
        AccessKind::Execute => "execute",
    }
}
