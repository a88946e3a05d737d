//! Many runs, seed after seed, and a short list of calls when one fails.
//!
//! Run `i` has seed `first + i / n` and takes the `n` combinations of paging mode and version in
//! turn. The runs of one thread and paging mode share a machine; each has a process of its own.
//! After so many of them, and at the end, the machine is audited, and another one takes its place.
//! A failing audit does not say which run did it: each of them is made again on a machine of its
//! own, which is audited when it ends. When all of those pass, all calls of these runs are taken
//! for one list.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ntmm_check::setup::Paging;
use ntmm_machine::Hardware;
use ntmm_pte::{Amd64, I386, Pae};

use crate::call::Call;
use crate::rules::Rules;
use crate::run::{Counts, Disagreement, run_list, run_seed};
use crate::sabotage::Sabotage;
use crate::subject::Host;

/// Calls of a run.
const RUN: usize = 512;

/// Runs after which a machine is audited and another one takes its place.
const RUNS_OF_A_MACHINE: usize = 32;

/// Time between two reports of progress.
const TICK: Duration = Duration::from_millis(200);

/// Calls made when neither their number nor a time is given.
const USUAL_CALLS: u64 = 10_000_000;

/// What to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// First seed; drawn without one.
    pub seed: Option<u64>,
    /// Calls after which no run begins.
    pub calls: Option<u64>,
    /// Time after which no run begins.
    pub time: Option<Duration>,
    /// The paging mode; all of them in turn without one.
    pub paging: Option<Paging>,
    /// Threads of the host; one when zero.
    pub threads: u32,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// A run in which the sides disagreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Its seed.
    pub seed: u64,
    /// Whose rules held.
    pub rules: Rules,
    /// The shortest list of calls found that the sides disagree about.
    pub calls: Vec<Call>,
    /// What about.
    pub disagreement: Disagreement,
}

impl fmt::Display for FailedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, rules, calls, disagreement } = self;
        writeln!(f, "seed {seed}, {}, {}:", rules.paging, rules.version.name())?;
        for call in calls {
            writeln!(f, "  {call}")?;
        }
        write!(f, "disagreement about {disagreement}")
    }
}

/// How far a check has come, or how it ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// First seed.
    pub first_seed: u64,
    /// Last seed that was run.
    pub last_seed: u64,
    /// What was done.
    pub counts: Counts,
    /// Time it took, without the shortening of a list.
    pub elapsed: Duration,
    /// The run that failed.
    pub failure: Option<FailedRun>,
}

impl Outcome {
    /// Calls a second.
    #[must_use]
    pub fn calls_per_second(&self) -> f64 {
        self.counts.calls() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A machine, and the runs it has made.
struct Used<M: Hardware> {
    host: Host<M>,
    runs: Vec<(u64, Rules)>,
}

/// The machine of a thread and a paging mode.
type Place<M> = Option<Used<M>>;

/// The machines of a thread.
#[derive(Default)]
struct Machines {
    i386: Place<I386>,
    pae: Place<Pae>,
    amd64: Place<Amd64>,
}

type RunResult = Result<Counts, FailedRun>;

fn run_on<M: Hardware>(
    place: &mut Place<M>,
    seed: u64,
    rules: Rules,
    sabotage: Option<Sabotage>,
) -> RunResult {
    let failed = |(calls, disagreement)| FailedRun { seed, rules, calls, disagreement };
    let mut used = match place.take() {
        Some(used) => used,
        None => {
            let host = Host::boot().map_err(|why| failed((Vec::new(), why.into())))?;
            Used { host, runs: Vec::with_capacity(RUNS_OF_A_MACHINE) }
        }
    };
    used.runs.push((seed, rules));
    let (_, counts) = run_seed(&mut used.host, seed, rules, RUN, sabotage).map_err(failed)?;
    if used.runs.len() == RUNS_OF_A_MACHINE {
        used.end(sabotage)?;
    } else {
        *place = Some(used);
    }
    Ok(counts)
}

impl<M: Hardware> Used<M> {
    /// Audits the machine; a defect is put down to one of its runs.
    fn end(mut self, sabotage: Option<Sabotage>) -> Result<(), FailedRun> {
        let Err(why) = self.host.audit() else { return Ok(()) };
        let mut all = Vec::new();
        for &(seed, rules) in &self.runs {
            let calls = match made_again::<M>(seed, rules, sabotage) {
                Ok(calls) | Err((calls, _)) => calls,
            };
            if let Err(disagreement) = replay(rules, &calls, sabotage) {
                return Err(FailedRun { seed, rules, calls, disagreement });
            }
            all.extend(calls);
        }
        let (seed, rules) = self.runs[self.runs.len() - 1];
        let disagreement =
            Disagreement::Stopped(format!("the machine after {} runs: {why}", self.runs.len()));
        Err(FailedRun { seed, rules, calls: all, disagreement })
    }
}

/// The calls of a run.
fn made_again<M: Hardware>(
    seed: u64,
    rules: Rules,
    sabotage: Option<Sabotage>,
) -> Result<Vec<Call>, (Vec<Call>, Disagreement)> {
    let mut host = Host::<M>::boot().map_err(|why| (Vec::new(), why.into()))?;
    run_seed(&mut host, seed, rules, RUN, sabotage).map(|(calls, _)| calls)
}

impl Machines {
    fn run(&mut self, seed: u64, rules: Rules, sabotage: Option<Sabotage>) -> RunResult {
        match rules.paging {
            Paging::I386 => run_on(&mut self.i386, seed, rules, sabotage),
            Paging::Pae => run_on(&mut self.pae, seed, rules, sabotage),
            Paging::Amd64 => run_on(&mut self.amd64, seed, rules, sabotage),
        }
    }

    /// Audits what is left of them.
    fn end(self, sabotage: Option<Sabotage>) -> Result<(), FailedRun> {
        self.i386.map_or(Ok(()), |used| used.end(sabotage))?;
        self.pae.map_or(Ok(()), |used| used.end(sabotage))?;
        self.amd64.map_or(Ok(()), |used| used.end(sabotage))
    }
}

/// Makes the calls of a list and says what the sides disagree about.
///
/// # Errors
/// What they disagree about.
pub fn replay(
    rules: Rules,
    calls: &[Call],
    sabotage: Option<Sabotage>,
) -> Result<(), Disagreement> {
    match rules.paging {
        Paging::I386 => run_list::<I386>(rules, calls, sabotage),
        Paging::Pae => run_list::<Pae>(rules, calls, sabotage),
        Paging::Amd64 => run_list::<Amd64>(rules, calls, sabotage),
    }
}

/// Makes runs until calls or time are used up or one fails, whose list is made short. `progress`
/// hears of the start, several times a second, and of the end.
pub fn check(options: &Options, progress: &mut dyn FnMut(&Outcome)) -> Outcome {
    let first_seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let check = Check {
        options: *options,
        rules: Rules::all()
            .into_iter()
            .filter(|rules| options.paging.is_none_or(|paging| paging == rules.paging))
            .collect(),
        began: Instant::now(),
        next: AtomicU64::new(0),
        enough: AtomicBool::new(false),
        outcome: Mutex::new(Outcome { first_seed, ..Outcome::default() }),
    };
    progress(&check.outcome());
    std::thread::scope(|scope| {
        let teller = std::thread::current();
        let threads: Vec<_> = (0..options.threads.max(1))
            .map(|_| {
                let (check, teller) = (&check, teller.clone());
                scope.spawn(move || {
                    check.make_runs();
                    teller.unpark();
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(TICK);
            progress(&check.outcome());
        }
    });
    let mut outcome = check.outcome();
    outcome.failure = outcome.failure.map(|failed| shortened(failed, options.sabotage));
    outcome
}

/// A check under way.
struct Check {
    options: Options,
    rules: Vec<Rules>,
    began: Instant,
    next: AtomicU64,
    enough: AtomicBool,
    outcome: Mutex<Outcome>,
}

impl Check {
    fn outcome(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes runs until it is enough.
    fn make_runs(&self) {
        let mut machines = Machines::default();
        while !self.enough.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let modes = self.rules.len() as u64;
            let rules = self.rules[(number % modes) as usize];
            let first = self.outcome().first_seed;
            let seed = first.wrapping_add(number / modes);
            let result = machines.run(seed, rules, self.options.sabotage);
            self.count(seed, result);
        }
        if let Err(failed) = machines.end(self.options.sabotage) {
            self.fail(failed);
        }
    }

    /// Keeps the first run that failed.
    fn fail(&self, failed: FailedRun) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.failure.get_or_insert(failed);
    }

    /// Takes account of a run, and finds out whether it is enough.
    fn count(&self, seed: u64, result: RunResult) {
        let Options { calls, time, .. } = self.options;
        let most = calls.or(time.is_none().then_some(USUAL_CALLS));
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.elapsed = self.began.elapsed();
        outcome.last_seed = outcome.last_seed.max(seed);
        match result {
            Ok(counts) => outcome.counts.add(&counts),
            Err(failed) => {
                outcome.failure.get_or_insert(failed);
            }
        }
        let late = time.is_some_and(|time| outcome.elapsed >= time);
        let made = most.is_some_and(|most| outcome.counts.calls() >= most);
        if late || made || outcome.failure.is_some() {
            self.enough.store(true, Ordering::Relaxed);
        }
    }
}

/// Drops calls as long as the sides still disagree: chunks of halving length, then single ones.
fn shortened(failed: FailedRun, sabotage: Option<Sabotage>) -> FailedRun {
    let mut best = failed;
    let mut chunk = best.calls.len().div_ceil(2);
    while chunk > 0 {
        let before = best.calls.len();
        let mut end = best.calls.len();
        while end > 0 {
            let start = end.saturating_sub(chunk);
            let mut calls = best.calls.clone();
            calls.drain(start..end);
            if let Err(disagreement) = replay(best.rules, &calls, sabotage) {
                (best.calls, best.disagreement) = (calls, disagreement);
            }
            end = start;
        }
        if chunk > 1 || best.calls.len() == before {
            chunk /= 2;
        }
    }
    best
}
