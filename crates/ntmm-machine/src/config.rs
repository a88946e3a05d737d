//! How a machine is built: its memory, processors, costs, disks and adversary.

use ntmm::platform::FrameRange;
use ntmm::status::NtStatus;
use ntmm_pte::{Pages, Pfn};

use crate::clock::Nanoseconds;
use crate::random::Chance;
use crate::sabotage::Sabotage;
use crate::walker::Reach;

/// Most processors a machine may have.
pub const MAXIMUM_CPUS: u32 = 32;

/// A machine to be built.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ranges of memory, ascending, without overlap.
    pub memory: Vec<FrameRange>,
    /// The part of it that the manager gets at boot; none for all of it.
    pub lent_at_boot: Option<Vec<FrameRange>>,
    /// Page colours of the second-level cache.
    pub cache_colors: u32,
    /// Processors, 1 to [`MAXIMUM_CPUS`].
    pub cpus: u32,
    /// Everything that is left to chance follows from this.
    pub seed: u64,
    /// What work costs in virtual time.
    pub costs: Costs,
    /// Most references a thread makes before another may run on its processor.
    pub quantum: u32,
    /// Speed of the disks.
    pub disk: DiskTiming,
    /// Failures of the disks.
    pub disk_faults: DiskFaults,
    /// Chance that an allocation inside the manager fails when it asks
    /// ([`Executive::fail_allocation`](ntmm::platform::Executive::fail_allocation)).
    pub allocation_failure: Chance,
    /// Whether the machine uses every liberty that hardware has.
    pub behaviour: Behaviour,
    /// What is broken in it on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Config {
    /// A machine that behaves plainly, with one processor, so many frames from frame 0 on, and
    /// the default costs.
    #[must_use]
    pub fn plain(frames: Pages) -> Self {
        Self {
            memory: vec![FrameRange { start: Pfn::new(0), count: frames }],
            lent_at_boot: None,
            cache_colors: 8,
            cpus: 1,
            seed: 0,
            costs: Costs::default(),
            quantum: 10_000,
            disk: DiskTiming::default(),
            disk_faults: DiskFaults::default(),
            allocation_failure: Chance::NEVER,
            behaviour: Behaviour::Plain,
            sabotage: None,
        }
    }
}

/// Virtual time that work costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// A memory reference. Default 10 ns.
    pub reference: Nanoseconds,
    /// A step of an operation or an engine. Default 500 ns.
    pub step: Nanoseconds,
}

impl Default for Costs {
    fn default() -> Self {
        Self { reference: Nanoseconds(10), step: Nanoseconds(500) }
    }
}

/// Virtual time that a transfer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskTiming {
    /// Each request. Default 100 us.
    pub request: Nanoseconds,
    /// Each page of it. Default 20 us.
    pub page: Nanoseconds,
}

impl Default for DiskTiming {
    fn default() -> Self {
        Self { request: Nanoseconds::from_micros(100), page: Nanoseconds::from_micros(20) }
    }
}

/// Which transfers fail. A failed read leaves its frames partly filled, a failed write is torn:
/// a part of it may have reached the disk.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    /// Chance that a read fails.
    pub read_error: Chance,
    /// Chance that a write fails.
    pub write_error: Chance,
    /// Requests that fail with a given status, by their number in order of submission from 0.
    pub schedule: Vec<(u64, NtStatus)>,
}

/// Whether the machine uses every liberty that hardware has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Translations are forgotten on a switch of address spaces, flushes are acknowledged at
    /// once, disks work in order, threads change at the end of a turn only.
    Plain,
    /// The seed decides.
    Adversarial(Adversary),
}

/// Liberties of an adversarial machine. Besides these, transfers take any time up to the
/// configured one and complete in any order, writes pick up a page's contents at any time
/// until they complete, and flushes are acknowledged when the processor next runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adversary {
    /// When processors change in the middle of the manager.
    pub preemption: Preemption,
    /// Chance that a held translation is passed over and the tables are walked again.
    pub forget: Chance,
    /// Chance, at each reference, that a translation nobody asked for is taken up.
    pub speculate: Chance,
    /// Which translations are taken up unasked.
    pub reach: Reach,
    /// Chance that a held translation that denies an access raises the fault although the tables
    /// would allow it by now.
    pub spurious: Chance,
    /// Chance that the translations of an address space outlive a switch to another one.
    pub retain: Chance,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            preemption: Preemption::AtPoints { mean: 20 },
            forget: Chance::one_in(4),
            speculate: Chance::one_in(50),
            reach: Reach::Everything,
            spurious: Chance::one_in(2),
            retain: Chance::one_in(2),
        }
    }
}

/// When processors change in the middle of the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Never: a processor runs to the end of its turn.
    Never,
    /// After so many points where interference matters, on average; at least 1.
    AtPoints {
        /// Average number of points between changes.
        mean: u32,
    },
}
