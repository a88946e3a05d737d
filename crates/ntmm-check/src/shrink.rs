//! Making a failing list short.
//!
//! A shorter list counts as the same failure when it breaks the same rule. First the part of
//! the list behind the failure goes, then chunks of halving length down to single operations;
//! then numbers become smaller and the machine simpler. A change of the list also changes how
//! threads interleave, so while the list is long a few other seeds of the machine are tried
//! too. All of it ends when the time is up.

use std::time::Instant;

use crate::failure::Failure;
use crate::operation::{Action, Burst, Extent, Frames, Operation};
use crate::runner::run;
use crate::scenario::Scenario;
use crate::setup::{Conduct, Setup};

/// Seeds of the machine tried for each shorter list.
const SEEDS: u64 = 3;

/// A failing list made as short as time allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The list.
    pub scenario: Scenario,
    /// How it fails.
    pub failure: Failure,
    /// Runs made to find it.
    pub runs: u64,
}

/// Makes the list of `failure` short, until `deadline`.
#[must_use]
pub fn shrink(scenario: &Scenario, failure: &Failure, deadline: Instant) -> Shrunk {
    let best = Shrunk { scenario: scenario.clone(), failure: failure.clone(), runs: 0 };
    let mut search = Search { best, deadline };
    loop {
        let before = search.best.scenario.clone();
        search.drop_operations();
        search.simplify_operations();
        search.simplify_setup();
        if search.best.scenario == before || search.is_late() {
            return search.best;
        }
    }
}

struct Search {
    best: Shrunk,
    deadline: Instant,
}

impl Search {
    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Takes a simpler list if it fails in the same way.
    fn try_list(&mut self, candidate: &Scenario) {
        for seed in 0..SEEDS {
            if self.is_late() {
                return;
            }
            let mut candidate = candidate.clone();
            candidate.setup.seed = match seed {
                0 => candidate.setup.seed,
                seed => seed,
            };
            self.best.runs += 1;
            if let Some(failure) = run(&candidate).failure
                && failure.rule == self.best.failure.rule
            {
                self.best.scenario = candidate;
                self.best.failure = failure;
                return;
            }
        }
    }

    fn drop_operations(&mut self) {
        let mut chunk = self.best.scenario.operations.len().div_ceil(2);
        while chunk > 0 {
            let mut at = self.best.scenario.operations.len();
            while at > 0 {
                let from = at.saturating_sub(chunk);
                let mut candidate = self.best.scenario.clone();
                candidate.operations.drain(from..at.min(candidate.operations.len()));
                self.try_list(&candidate);
                at = from;
            }
            if self.is_late() {
                return;
            }
            chunk /= 2;
        }
    }

    fn simplify_operations(&mut self) {
        for index in 0..self.best.scenario.operations.len() {
            for simpler in simpler_operations(self.best.scenario.operations[index]) {
                let mut candidate = self.best.scenario.clone();
                candidate.operations[index] = simpler;
                if candidate != self.best.scenario {
                    self.try_list(&candidate);
                }
            }
        }
    }

    fn simplify_setup(&mut self) {
        for change in SIMPLER_SETUPS {
            let mut candidate = self.best.scenario.clone();
            change(&mut candidate.setup);
            if candidate != self.best.scenario {
                self.try_list(&candidate);
            }
        }
    }
}

/// Changes that make a machine simpler.
const SIMPLER_SETUPS: [fn(&mut Setup); 16] = [
    |setup| setup.conduct = Conduct::Plain,
    |setup| setup.cpus = 1,
    |setup| setup.cpus = setup.cpus.min(2),
    |setup| chances(setup, |chances| *chances[0] = 0),
    |setup| chances(setup, |chances| *chances[1] = 0),
    |setup| chances(setup, |chances| *chances[2] = 0),
    |setup| chances(setup, |chances| *chances[3] = 0),
    |setup| chances(setup, |chances| *chances[4] = 0),
    |setup| setup.read_errors = 0,
    |setup| setup.write_errors = 0,
    |setup| setup.allocation_errors = 0,
    |setup| setup.withheld = 0,
    |setup| setup.read_cluster = 1,
    |setup| setup.write_cluster = 1,
    |setup| setup.modified_maximum = 0,
    |setup| setup.quantum = 8,
];

fn chances(setup: &mut Setup, change: impl FnOnce([&mut u32; 5])) {
    if let Conduct::Adversarial { preempt, forget, speculate, spurious, retain } =
        &mut setup.conduct
    {
        change([preempt, forget, speculate, spurious, retain]);
    }
}

/// Simpler forms of an operation, the simplest first.
fn simpler_operations(operation: Operation) -> Vec<Operation> {
    match operation {
        Operation::Create { .. } | Operation::Delete { .. } => Vec::new(),
        Operation::Pass { milliseconds } => {
            numbers(milliseconds, 0).map(|milliseconds| Operation::Pass { milliseconds }).collect()
        }
        Operation::Kill { thread, steps } => {
            numbers(steps, 0).map(|steps| Operation::Kill { thread, steps }).collect()
        }
        Operation::Act { thread, action } => simpler_actions(action)
            .into_iter()
            .map(|action| Operation::Act { thread, action })
            .collect(),
    }
}

fn simpler_actions(action: Action) -> Vec<Action> {
    match action {
        Action::Allocate { region, pages, rights, backing, place } => numbers(pages, 1)
            .map(|pages| Action::Allocate { region, pages, rights, backing, place })
            .collect(),
        Action::Commit(extent, rights) => {
            extents(extent).map(|extent| Action::Commit(extent, rights)).collect()
        }
        Action::Protect(extent, rights) => {
            extents(extent).map(|extent| Action::Protect(extent, rights)).collect()
        }
        Action::Decommit(extent) => extents(extent).map(Action::Decommit).collect(),
        Action::Reset(extent) => extents(extent).map(Action::Reset).collect(),
        Action::UndoReset(extent) => extents(extent).map(Action::UndoReset).collect(),
        Action::Release(extent) => extents(extent).map(Action::Release).collect(),
        Action::Touch(burst) => extents(burst.extent)
            .map(|extent| Burst { extent, ..burst })
            .chain(numbers(burst.offset, 0).map(|offset| Burst { offset, ..burst }))
            .chain(numbers(burst.size, 1).map(|size| Burst { size, ..burst }))
            .map(Action::Touch)
            .collect(),
        Action::TouchAlone(burst) => extents(burst.extent)
            .map(|extent| Action::TouchAlone(Burst { extent, ..burst }))
            .chain([Action::Touch(burst)])
            .collect(),
        Action::CreateSection { section, pages } => {
            numbers(pages, 1).map(|pages| Action::CreateSection { section, pages }).collect()
        }
        Action::MapView { region, section, first, pages, showing } => numbers(pages, 0)
            .map(|pages| Action::MapView { region, section, first, pages, showing })
            .chain(numbers(first, 0).map(|first| Action::MapView {
                region,
                section,
                first,
                pages,
                showing,
            }))
            .collect(),
        Action::Unmap { region, page } => {
            numbers(page, 0).map(|page| Action::Unmap { region, page }).collect()
        }
        Action::CloseSection { .. } => Vec::new(),
        Action::Lend(frames) => fewer_frames(frames).map(Action::Lend).collect(),
        Action::TakeBack(frames) => fewer_frames(frames).map(Action::TakeBack).collect(),
        Action::FailTransfers { count } => {
            numbers(count, 1).map(|count| Action::FailTransfers { count }).collect()
        }
        Action::FailAllocations { after, count } => numbers(after, 0)
            .map(|after| Action::FailAllocations { after, count })
            .chain(numbers(count, 1).map(|count| Action::FailAllocations { after, count }))
            .collect(),
        Action::Query { region, page } => {
            numbers(page, 0).map(|page| Action::Query { region, page }).collect()
        }
        Action::Empty => Vec::new(),
    }
}

fn fewer_frames(frames: Frames) -> impl Iterator<Item = Frames> {
    let pages = numbers(frames.pages, 1).map(move |pages| Frames { pages, ..frames });
    numbers(frames.first, 0).map(move |first| Frames { first, ..frames }).chain(pages)
}

fn extents(extent: Extent) -> impl Iterator<Item = Extent> {
    let pages = numbers(extent.pages, 1).map(move |pages| Extent { pages, ..extent });
    numbers(extent.first, 0).map(move |first| Extent { first, ..extent }).chain(pages)
}

/// The smallest number, half and one less, if they are smaller.
fn numbers(value: u32, smallest: u32) -> impl Iterator<Item = u32> {
    [smallest, value / 2, value.saturating_sub(1)]
        .into_iter()
        .filter(move |number| (smallest..value).contains(number))
}
