//! How a run fails.

use std::any::Any;
use std::fmt;

use ntmm_machine::Halt;

use crate::model::Mismatch;

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was broken, in a form that stays the same when the run is made shorter.
    pub rule: String,
    /// What happened.
    pub message: String,
    /// Steps of the simulation made before.
    pub step: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} steps: {}: {}", self.step, self.rule, self.message)
    }
}

impl std::error::Error for Failure {}

/// The name of an enum's variant, from its debug form.
fn variant(debug: &str) -> &str {
    debug.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or(debug)
}

impl Failure {
    pub(crate) fn new(rule: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { rule: rule.into(), message: message.to_string(), step: 0 }
    }

    pub(crate) fn of_model(mismatch: &Mismatch) -> Self {
        Self::new(format!("model: {}", mismatch.rule), &mismatch.detail)
    }

    pub(crate) fn of_audit(defect: &crate::audit::Defect) -> Self {
        Self::new(format!("audit: {}", variant(&format!("{defect:?}"))), defect)
    }

    /// Of code that was called outside the simulation.
    pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        Self::of_halt(&Halt::from_payload(payload))
    }

    pub(crate) fn of_halt(halt: &Halt) -> Self {
        let rule = match halt {
            Halt::BugCheck(check) => {
                format!("bug check {:#x} {:#x}", check.code as u32, check.parameters[0])
            }
            Halt::Violation(violation) => {
                format!("violation: {}", variant(&format!("{violation:?}")))
            }
            Halt::Stuck(_) => "stuck".to_owned(),
            Halt::Panic(_) => "panic".to_owned(),
        };
        Self::new(rule, halt)
    }
}
