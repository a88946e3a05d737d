//! A process of a run: a trace, the address space it is replayed in, and what its memory must
//! hold.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ntmm::AddressSpaceId;
use ntmm::status::NtStatus;
use ntmm_pte::Va;
use ntmm_trace::TraceError;

use super::feed::{Feed, Slice};
use super::placement::Placement;
use super::shadow::{Mismatch, Shadow};
use crate::failure::Failure;

/// A process. Its threads and the host share it.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages.
    pub name: ProcessName,
    /// The trace it replays.
    pub trace: String,
    /// Its address space.
    pub space: AddressSpaceId,
    /// Where its regions lie.
    pub placement: Arc<Placement>,
    /// What its memory must hold.
    pub shadow: Shadow,
    /// What is left of its trace.
    pub feed: Feed,
    /// References of the trace that were made.
    pub references: u64,
    /// Records of the trace that were replayed.
    pub records: u64,
    /// Where to say that the run has failed.
    pub verdict: Verdict,
}

/// A process as its threads and the host hold it.
pub type SharedProcess = Rc<RefCell<Process>>;

/// Number and program of a process.
#[derive(Clone, Debug)]
pub struct ProcessName {
    /// Number, from 1.
    pub number: usize,
    /// The program.
    pub program: String,
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.program)
    }
}

/// Why the run has failed, if it has; the first reason stands.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Rc<RefCell<Option<Failure>>>);

impl Verdict {
    /// The run has failed.
    pub fn fail(&self, failure: Failure) {
        self.0.borrow_mut().get_or_insert(failure);
    }

    /// Whether the run has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Takes the reason.
    ///
    /// # Errors
    /// The reason, if the run has failed.
    pub fn into_result(self) -> Result<(), Failure> {
        self.0.take().map_or(Ok(()), Err)
    }
}

impl Process {
    /// The next slice of the trace; none when there is no more or the run has failed.
    pub fn next_slice(&mut self) -> Option<Slice> {
        match self.feed.next_slice() {
            Ok(slice) => slice,
            Err(error) => {
                self.unreadable(error);
                None
            }
        }
    }

    fn unreadable(&self, error: TraceError) {
        self.verdict.fail(error.into());
    }

    /// The bytes of the page at `page` were wrong.
    pub fn wrong(&self, page: Va, mismatch: Mismatch, during: &str) {
        let during = format!("{during}, after {} references", self.references);
        self.verdict.fail(Failure::WrongData {
            process: self.name.to_string(),
            va: page.page_base().get() + mismatch.offset as u64,
            mismatch,
            during,
        });
    }

    /// The manager raised a status in a thread.
    pub fn raised(&self, va: Va, during: &str, status: NtStatus) {
        self.verdict.fail(Failure::Refused {
            process: self.name.to_string(),
            what: format!("{during} at {va}"),
            status,
        });
    }
}
