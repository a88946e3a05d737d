//! What may be broken on purpose in a run, to prove that the checks notice.

use std::fmt;
use std::str::FromStr;

use ntmm_machine::{Chance, Defect};

/// Something that does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saboteur {
    /// Hardware.
    Machine(Defect),
    /// A write is reported good and a page of it is dropped.
    DroppedWrite,
    /// A read yields what a page held before it was last written.
    StaleRead,
    /// The operation of a killed thread is not abandoned: what it holds leaks.
    ForgottenOperation,
}

impl Saboteur {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Machine(Defect::SkippedFlush),
        Self::Machine(Defect::EarlyAcknowledgement),
        Self::Machine(Defect::LostDirty),
        Self::Machine(Defect::OverwritingWalk),
        Self::Machine(Defect::EarlyCompletion),
        Self::DroppedWrite,
        Self::StaleRead,
        Self::ForgottenOperation,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Machine(Defect::SkippedFlush) => "skipped-flush",
            Self::Machine(Defect::EarlyAcknowledgement) => "early-acknowledgement",
            Self::Machine(Defect::LostDirty) => "lost-dirty",
            Self::Machine(Defect::OverwritingWalk) => "overwriting-walk",
            Self::Machine(Defect::EarlyCompletion) => "early-completion",
            Self::DroppedWrite => "dropped-write",
            Self::StaleRead => "stale-read",
            Self::ForgottenOperation => "forgotten-operation",
        }
    }
}

impl fmt::Display for Saboteur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Saboteur {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|saboteur| saboteur.name() == text).ok_or(())
    }
}

/// What is broken, and how often it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    /// What is broken.
    pub saboteur: Saboteur,
    /// Chance at each opportunity, in parts per million.
    pub chance: u32,
}

impl Sabotage {
    /// The hardware's part.
    pub(crate) fn of_machine(self) -> Option<ntmm_machine::Sabotage> {
        match self.saboteur {
            Saboteur::Machine(defect) => {
                Some(ntmm_machine::Sabotage { defect, chance: Chance::per_million(self.chance) })
            }
            _ => None,
        }
    }
}
