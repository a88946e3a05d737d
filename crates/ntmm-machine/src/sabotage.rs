//! Hardware that is broken on purpose.
//!
//! A check that never fails proves nothing. A machine can be built with one defect, of a kind
//! that real machines or careless managers have, which shows itself with some chance; a check
//! worth its time then fails. Nothing but such proofs of checks uses this.

use crate::random::Chance;

/// A defect of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A flush is acknowledged and nothing is flushed.
    SkippedFlush,
    /// A flush is acknowledged before the other processors have made it; they make it later. In
    /// adversarial machines only: plainly all flush at once.
    EarlyAcknowledgement,
    /// The walker of an adversarial processor leaves Dirty clear for a write.
    LostDirty,
    /// The walker of an adversarial processor stores Accessed and Dirty together with the rest of
    /// the entry as it read it before, whatever the entry has become since.
    OverwritingWalk,
    /// A transfer is reported complete before its pages have moved.
    EarlyCompletion,
}

/// A defect and how often it shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    /// The defect.
    pub defect: Defect,
    /// Chance at each opportunity.
    pub chance: Chance,
}

impl Sabotage {
    /// Chance that a machine with this sabotage, or none, shows a defect.
    pub(crate) fn chance_of(sabotage: Option<Self>, defect: Defect) -> Chance {
        match sabotage {
            Some(sabotage) if sabotage.defect == defect => sabotage.chance,
            _ => Chance::NEVER,
        }
    }
}
