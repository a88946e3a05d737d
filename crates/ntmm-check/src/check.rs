//! Many runs: seed after seed until steps or time are used up or a run fails.
//!
//! Run `i` has seed `first + i / modes` and takes the paging modes in turn, so that the seed
//! printed first and the mode reproduce any of them. Runs are independent: threads of the host
//! take them one after the other, and what they yield is added up in the order of the runs.
//! The sums, and which failure is the first, therefore do not depend on the number of threads.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::generate::generate;
use crate::runner::{Coverage, RunReport, run};
use crate::scenario::{BadScenario, Scenario};
use crate::setup::Paging;
use crate::shrink::shrink;

/// Steps made when neither steps nor time are limited.
const USUAL_STEPS: u64 = 2_000_000;

/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// First seed; without one it is drawn.
    pub seed: Option<u64>,
    /// Steps of the simulation after which no run begins. Two million when `time` is not
    /// limited either.
    pub steps: Option<u64>,
    /// Time after which no run begins.
    pub time: Option<Duration>,
    /// The paging mode; all of them in turn without one.
    pub paging: Option<Paging>,
    /// Operations of each run.
    pub operations: u32,
    /// Threads of the host, at least one.
    pub threads: u32,
    /// Time to make a failing list short.
    pub shrinking: Duration,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            seed: None,
            steps: None,
            time: None,
            paging: None,
            operations: 200,
            threads: 2,
            shrinking: Duration::from_secs(60),
        }
    }
}

/// What the runs so far have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// Steps after which the whole machine was audited.
    pub audits: u64,
    /// Memory references.
    pub references: u64,
    /// Which ways the runs went.
    pub coverage: Coverage,
}

impl Totals {
    fn add(&mut self, report: &RunReport) {
        self.runs += 1;
        self.steps += report.steps;
        self.audits += report.audits;
        self.references += report.references;
        self.coverage.add(&report.coverage);
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Runs are made.
    Running,
    /// A run has failed; its list is made short.
    Shrinking,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// First seed: what to print before anything else.
    pub first_seed: u64,
    /// What is being done.
    pub stage: Stage,
    /// What the runs have done.
    pub totals: Totals,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Seeds run in a paging mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The mode.
    pub paging: Paging,
    /// First seed.
    pub first: u64,
    /// Number of seeds from it on.
    pub count: u64,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Its seed.
    pub seed: u64,
    /// Its paging mode.
    pub paging: Paging,
    /// How it failed.
    pub failure: Failure,
    /// The shortest list found that fails in the same way.
    pub shrunk: Scenario,
    /// How the short list fails.
    pub shrunk_failure: Failure,
}

impl FailedRun {
    /// The list as it is kept in a file: with the failure as a comment.
    #[must_use]
    pub fn regression(&self) -> String {
        let Self { seed, paging, shrunk, shrunk_failure, .. } = self;
        let reason = shrunk_failure.to_string().replace('\n', " ");
        format!("# From seed {seed} ({paging}).\n# {reason}\n{shrunk}")
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    /// First seed.
    pub first_seed: u64,
    /// Seeds run, for each paging mode.
    pub seeds: Vec<Seeds>,
    /// What the runs did.
    pub totals: Totals,
    /// Time the runs took, without shrinking.
    pub elapsed: Duration,
    /// The first run that failed.
    pub failure: Option<FailedRun>,
}

impl CheckOutcome {
    /// Audited steps a second.
    #[must_use]
    pub fn audits_per_second(&self) -> f64 {
        self.totals.audits as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// The runs of a check.
#[derive(Clone, Copy, Debug)]
struct Plan {
    first_seed: u64,
    paging: Option<Paging>,
    operations: u32,
}

impl Plan {
    fn modes(&self) -> &[Paging] {
        self.paging.as_ref().map_or(&Paging::ALL, std::slice::from_ref)
    }

    fn seed(&self, number: u64) -> u64 {
        self.first_seed.wrapping_add(number / self.modes().len() as u64)
    }

    fn paging(&self, number: u64) -> Paging {
        self.modes()[(number % self.modes().len() as u64) as usize]
    }

    fn scenario(&self, number: u64) -> Scenario {
        generate(self.seed(number), self.paging(number), self.operations)
    }

    /// Seeds of the first so many runs.
    fn seeds(&self, runs: u64) -> Vec<Seeds> {
        let modes = self.modes();
        (0..)
            .zip(modes)
            .map(|(place, paging)| Seeds {
                paging: *paging,
                first: self.first_seed,
                count: (runs + modes.len() as u64 - 1 - place) / modes.len() as u64,
            })
            .collect()
    }
}

/// Makes runs until the limits are reached or one fails, and makes the list of that one short.
/// `progress` hears of the start, several times a second, and of the end.
pub fn check(options: &CheckOptions, progress: &mut dyn FnMut(&Progress)) -> CheckOutcome {
    let plan = Plan {
        first_seed: options.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32),
        paging: options.paging,
        operations: options.operations,
    };
    let began = Instant::now();
    let mut tell = |stage, totals| {
        let first_seed = plan.first_seed;
        progress(&Progress { first_seed, stage, totals, elapsed: began.elapsed() });
    };
    let (totals, failed) = make_runs(plan, options, began, &mut |totals| {
        tell(Stage::Running, totals);
    });
    let elapsed = began.elapsed();
    let failure = failed.map(|failure| {
        tell(Stage::Shrinking, totals);
        let number = totals.runs - 1;
        let deadline = Instant::now() + options.shrinking;
        let shrunk = shrink(&plan.scenario(number), &failure, deadline);
        FailedRun {
            seed: plan.seed(number),
            paging: plan.paging(number),
            failure,
            shrunk: shrunk.scenario,
            shrunk_failure: shrunk.failure,
        }
    });
    CheckOutcome {
        first_seed: plan.first_seed,
        seeds: plan.seeds(totals.runs),
        totals,
        elapsed,
        failure,
    }
}

/// Makes the runs on several threads. The last one counted has failed if there is a failure.
fn make_runs(
    plan: Plan,
    options: &CheckOptions,
    began: Instant,
    tell: &mut dyn FnMut(Totals),
) -> (Totals, Option<Failure>) {
    let steps = options.steps.or(options.time.is_none().then_some(USUAL_STEPS));
    let is_late = || options.time.is_some_and(|time| began.elapsed() >= time);
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let (sender, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let sender = sender.clone();
            let (next, enough) = (&next, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let report = run(&plan.scenario(number));
                    if sender.send((number, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut totals = Totals::default();
        let mut early = BTreeMap::new();
        tell(totals);
        let mut told = Instant::now();
        let failure = 'counting: loop {
            match reports.recv_timeout(TICK) {
                Ok((number, report)) => {
                    early.insert(number, report);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every thread has seen that it is enough, and all it did is counted.
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            while let Some(report) = early.remove(&totals.runs) {
                totals.add(&report);
                if report.failure.is_some() {
                    break 'counting report.failure;
                }
                if steps.is_some_and(|steps| totals.steps >= steps) {
                    break 'counting None;
                }
            }
            if is_late() {
                enough.store(true, Ordering::Relaxed);
            }
            if told.elapsed() >= TICK {
                told = Instant::now();
                tell(totals);
            }
        };
        enough.store(true, Ordering::Relaxed);
        tell(totals);
        (totals, failure)
    })
}

/// Runs a kept list.
///
/// # Errors
/// The line that cannot be read.
pub fn replay(text: &str) -> Result<RunReport, BadScenario> {
    Ok(run(&Scenario::parse(text)?))
}
