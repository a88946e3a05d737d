//! A run as a list: a setup and operations, and the file they are kept in.
//!
//! The file has the setup's lines, an empty line, and one operation a line. `#` begins a
//! comment. Running the same list always makes the same run.

use std::fmt;

use crate::operation::{BadOperation, Operation};
use crate::setup::{BadSetting, Setup};

/// Everything that determines a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// Machine and processes.
    pub setup: Setup,
    /// What happens.
    pub operations: Vec<Operation>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// An operation.
    #[error(transparent)]
    Operation(#[from] BadOperation),
}

/// A list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadScenario {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: BadLine,
}

impl Scenario {
    /// Reads a list.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, BadScenario> {
        let mut scenario = Self::default();
        let mut part = Part::Setup;
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split('#').next().unwrap_or_default().trim();
            if code.is_empty() {
                if line.trim().is_empty() && part == Part::Settings {
                    part = Part::Operations;
                }
                continue;
            }
            let outcome = match part {
                Part::Setup | Part::Settings => {
                    part = Part::Settings;
                    scenario.setup.set(code).map_err(BadLine::from)
                }
                Part::Operations => code
                    .parse()
                    .map(|operation| scenario.operations.push(operation))
                    .map_err(BadLine::from),
            };
            outcome.map_err(|reason| BadScenario { line: number, reason })?;
        }
        Ok(scenario)
    }
}

/// Which part of the file a line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Before the first setting.
    Setup,
    Settings,
    Operations,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.setup)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}
