//! The figures of a run: what the table, `--json` and the report say.
//!
//! A run on the simulated machine fills in all of them. A kernel that was booted reports most of
//! them on its console; what only a simulation knows is absent then, and `null` in JSON.

use std::borrow::Cow;

use ntmm::Manager;
use ntmm::frames::PageLocation;
use ntmm::status::NtStatus;
use ntmm_machine::{Hardware, Machine};
use serde::{Deserialize, Serialize};

use super::observer::Observer;
use super::process::Process;

/// The result of a run. Faults, transfers and lists are those at the end of the replay, before
/// the sweep over all pages.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// References of the traces that were replayed.
    pub references: u64,
    /// Host time the replay took.
    pub seconds: f64,
    /// Virtual time the replay took, on a machine with a clock of its own.
    pub virtual_seconds: Option<f64>,
    /// Bytes that were compared and found right, the sweep included.
    pub verified: u64,
    /// Faults of all processes.
    pub faults: MachineFaults,
    /// Transfers to and from the paging file.
    pub paging_file: PagingFile,
    /// The machine and its page lists.
    pub machine: MachineFigures,
    /// The sweep over all pages at the end, when there was one.
    pub sweep: Option<SweepFigures>,
    /// Each process.
    pub processes: Vec<ProcessFigures>,
}

/// Faults by kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Faults {
    /// Pages of zeroes.
    pub demand_zero: u64,
    /// Pages still in memory.
    pub transition: u64,
    /// Pages that were read from a paging file.
    pub page_file: u64,
}

/// Faults of a machine.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct MachineFaults {
    /// By kind.
    #[serde(flatten)]
    pub kinds: Faults,
    /// Of those with a read, the ones that met another thread's read of their page.
    pub collided: u64,
    /// All faults, those included that found their page valid already.
    pub total: u64,
}

/// Transfers to and from the paging file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct PagingFile {
    /// Read transfers.
    pub reads: u64,
    /// Pages read.
    pub pages_read: u64,
    /// Write transfers.
    pub writes: u64,
    /// Pages written.
    pub pages_written: u64,
    /// Most slots in use at a time.
    pub peak_slots: u64,
    /// Slots there are.
    pub slots: u64,
}

/// A machine and its page lists.
#[derive(Clone, Debug, Serialize)]
pub struct MachineFigures {
    /// Paging mode.
    pub paging: Cow<'static, str>,
    /// Processors.
    pub cpus: u32,
    /// Threads of each process, when all have the same number.
    pub threads: Option<u32>,
    /// What was left to chance followed from this number, when nothing else was chance.
    pub seed: Option<u64>,
    /// Frames, those of the manager included.
    pub frames: u64,
    /// Frames on each list and in use.
    #[serde(flatten)]
    pub lists: Lists,
    /// Frames that a kernel has kept to itself.
    pub kernel: u64,
    /// Pages committed.
    pub committed: u64,
    /// Pages that could be committed.
    pub commit_limit: u64,
}

/// How many frames are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lists {
    /// Filled with zeroes.
    pub zeroed: u64,
    /// Free.
    pub free: u64,
    /// Clean, and still holding the page they held.
    pub standby: u64,
    /// Waiting to be written.
    pub modified: u64,
    /// Not to be written yet.
    pub modified_no_write: u64,
    /// Never used again.
    pub bad: u64,
    /// In use.
    pub active: u64,
    /// Held by a transfer or a flush.
    pub transition: u64,
}

/// The sweep over all pages.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SweepFigures {
    /// Pages compared whole.
    pub pages: u64,
    /// Pages that had to be read from the paging file for it.
    pub pages_read: u64,
}

/// A process.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessFigures {
    /// The program.
    pub name: String,
    /// The trace it is recorded in.
    pub trace: Option<String>,
    /// References it made.
    pub references: u64,
    /// Records of the trace they were in.
    pub records: Option<u64>,
    /// Pages committed for it.
    pub pages: u64,
    /// Its faults.
    pub faults: Faults,
    /// Most pages in its working set at a time.
    pub working_set_peak: u64,
    /// Pages in its working set.
    pub working_set: u64,
    /// Bytes compared and found right, the sweep included.
    pub verified: u64,
    /// The status the program ended with; 0 when all went well.
    pub status: u32,
    /// NT's name of it, if it is one that ntmm knows.
    pub status_name: Option<String>,
}

impl Lists {
    /// The frames of a machine, each counted once.
    pub fn of<M: Hardware>(manager: &Manager<Machine<M, Observer>>) -> Self {
        let figures = manager.memory_figures();
        let listed = [
            figures.zeroed,
            figures.free,
            figures.standby,
            figures.modified,
            figures.modified_no_write,
            figures.bad,
        ]
        .map(u64::from);
        let [zeroed, free, standby, modified, modified_no_write, bad] = listed;
        let in_location = |wanted: PageLocation| {
            let there = manager.frame_views().filter(|view| view.location == wanted);
            there.filter(|view| view.usage != ntmm::frames::FrameUse::Absent).count() as u64
        };
        Self {
            zeroed,
            free,
            standby,
            modified,
            modified_no_write,
            bad,
            active: in_location(PageLocation::Active),
            transition: in_location(PageLocation::Transition),
        }
    }
}

impl Faults {
    /// All faults of a machine.
    pub fn of<M: Hardware>(manager: &Manager<Machine<M, Observer>>) -> Self {
        let counters = manager.counters();
        Self {
            demand_zero: counters.demand_zero.get(),
            transition: counters.transition.get(),
            page_file: counters.page_file.get(),
        }
    }
}

impl MachineFaults {
    /// The faults of a machine so far.
    pub fn of<M: Hardware>(manager: &Manager<Machine<M, Observer>>) -> Self {
        let counters = manager.counters();
        Self {
            kinds: Faults::of(manager),
            collided: counters.collided.get(),
            total: counters.page_faults.get(),
        }
    }
}

impl PagingFile {
    /// The transfers of a machine so far.
    pub fn of<M: Hardware>(manager: &Manager<Machine<M, Observer>>) -> Self {
        let counters = manager.counters();
        let files = manager.paging_file_figures();
        let (peak_slots, slots) = files.fold((0, 0), |(peak, slots), file| {
            (peak + file.peak.get(), slots + file.size.get() - 1)
        });
        Self {
            reads: counters.page_read_ios.get(),
            pages_read: counters.pages_read.get(),
            writes: counters.page_write_ios.get(),
            pages_written: counters.pages_written.get(),
            peak_slots,
            slots,
        }
    }
}

impl ProcessFigures {
    /// A process so far.
    pub fn of<M: Hardware>(manager: &Manager<Machine<M, Observer>>, process: &Process) -> Self {
        let view = manager.space_view(process.space);
        let header = view.as_ref().map(|view| view.header());
        let faults = manager.platform().tracer().faults_of(process.space);
        Self {
            name: process.name.program.clone(),
            trace: Some(process.trace.clone()),
            references: process.references,
            records: Some(process.records),
            pages: u64::from(process.placement.pages()),
            faults,
            working_set_peak: header.map_or(0, |header| header.peak().into()),
            working_set: header.map_or(0, |header| header.size().into()),
            verified: process.shadow.verified(),
            status: NtStatus::SUCCESS.code(),
            status_name: status_name(NtStatus::SUCCESS),
        }
    }
}

/// NT's name of a status.
#[must_use]
pub fn status_name(status: NtStatus) -> Option<String> {
    status.name().map(|name| format!("STATUS_{name}"))
}
