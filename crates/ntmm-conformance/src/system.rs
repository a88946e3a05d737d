//! What a case runs on.
//!
//! The runner knows nothing of machines: it makes calls by name on a [`System`] and compares what
//! they answer. Memory accesses, files and processes are calls too (`mem.read8`, `process.spawn`).
//! A fresh system for every case comes from [`Systems`].

use std::collections::BTreeMap;

use ntmm::NtStatus;

use crate::value::{Arguments, Value};
use crate::version::Layout;
use crate::vocabulary::Knowledge;

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, or the code of the exception.
    pub status: NtStatus,
    /// How it came.
    pub manner: Manner,
    /// What the call stored, by the names of its parameters. What is not here was left as it was.
    pub outputs: BTreeMap<String, Value>,
}

/// How a status came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The call returned it.
    Returned,
    /// It was raised as an exception.
    Raised,
}

impl Answer {
    /// The call returned a status and stored nothing.
    #[must_use]
    pub const fn returned(status: NtStatus) -> Self {
        Self { status, manner: Manner::Returned, outputs: BTreeMap::new() }
    }

    /// The call raised an exception.
    #[must_use]
    pub const fn raised(status: NtStatus) -> Self {
        Self { status, manner: Manner::Raised, outputs: BTreeMap::new() }
    }

    /// Adds something the call stored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.outputs.insert(name.to_owned(), value.into());
        self
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is known, and comes later.
    #[error("{0}")]
    Later(String),
    /// The harness cannot make it: the call, an argument or a name is unknown to it.
    #[error("{0}")]
    Unknown(String),
    /// The machine is dead.
    #[error("the machine stopped: {0}")]
    Stopped(String),
}

/// Something that answers calls.
pub trait System {
    /// Makes a call.
    ///
    /// # Errors
    /// Why there is no answer.
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<Answer, Refusal>;

    /// Ends the case and looks for what the calls may have broken behind its back.
    ///
    /// # Errors
    /// What they have.
    fn finish(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Where systems come from.
pub trait Systems {
    /// The addresses of the systems.
    fn layout(&self) -> Layout;

    /// Whether the systems know a call.
    fn knows(&self, call: &str) -> Knowledge;

    /// A fresh system.
    ///
    /// # Errors
    /// Why there is none.
    fn fresh(&self) -> Result<Box<dyn System + '_>, Refusal>;
}
