//! One run: calls made on both sides, answers and address spaces compared.

use std::fmt;

use ntmm_machine::Hardware;

use crate::call::{Answer, Call, GROUPS, Handle, Written};
use crate::generate::Generator;
use crate::model::numbers::PAGE;
use crate::model::{Choice, Model, Verdict};
use crate::rules::Rules;
use crate::sabotage::Sabotage;
use crate::subject::{Host, Stopped, Subject};

/// Calls after which the whole of the address space is compared.
const PERIOD: usize = 64;

/// What the two sides disagree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// The answer to a call.
    Answer(Box<Difference>),
    /// The manager's records are not in order, or its machine has stopped.
    Stopped(Stopped),
}

/// Two answers to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The call: the last of the list, or one of the comparison that follows it.
    pub call: Call,
    /// What the model answers; each of several will do.
    pub model: Vec<Answer>,
    /// What the manager answers.
    pub manager: Answer,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(difference) => {
                let Difference { call, model, manager } = &**difference;
                writeln!(f, "{call}")?;
                for answer in model {
                    writeln!(f, "  model:   {answer}")?;
                }
                write!(f, "  manager: {manager}")
            }
            Self::Stopped(why) => f.write_str(why),
        }
    }
}

impl From<Stopped> for Disagreement {
    fn from(why: Stopped) -> Self {
        Self::Stopped(why)
    }
}

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of each group made on both sides, and how many of them succeeded.
    pub groups: [(u64, u64); GROUPS.len()],
    /// Queries that compared whole address spaces.
    pub comparisons: u64,
    /// Answers that the rules left open, of which the manager gave the first: what was given up
    /// is still there, pages are locked.
    pub open_first: u64,
    /// Those of which it gave the other: contents are lost, there is no room for locked pages.
    pub open_other: u64,
}

impl Counts {
    /// Calls made on both sides, comparisons apart.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.groups.iter().map(|(made, _)| made).sum()
    }

    /// Adds what another run has done.
    pub(crate) fn add(&mut self, other: &Self) {
        for (group, other) in self.groups.iter_mut().zip(other.groups) {
            group.0 += other.0;
            group.1 += other.1;
        }
        self.comparisons += other.comparisons;
        self.open_first += other.open_first;
        self.open_other += other.open_other;
    }
}

/// The two sides of a process.
struct Sides<'h, M: Hardware> {
    model: Model,
    subject: Subject<'h, M>,
    counts: Counts,
}

impl<'h, M: Hardware> Sides<'h, M> {
    fn new(
        host: &'h mut Host<M>,
        rules: Rules,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, Disagreement> {
        let subject = host.process(rules.version, sabotage)?;
        Ok(Self { model: Model::new(rules), subject, counts: Counts::default() })
    }

    /// Makes a call; says whether it has been made.
    fn call(&mut self, call: &Call) -> Result<Option<Answer>, Disagreement> {
        let verdict = self.model.call(call);
        if matches!(verdict, Verdict::TooMuch) {
            return Ok(None);
        }
        let manager = self.subject.call(call)?;
        if !verdict.answers().contains(&manager) {
            let model = verdict.answers().to_vec();
            let difference = Difference { call: *call, model, manager };
            return Err(Disagreement::Answer(Box::new(difference)));
        }
        if let Verdict::Open(open) = &verdict {
            match open.choice(&manager) {
                Choice::First => self.counts.open_first += 1,
                Choice::Other => self.counts.open_other += 1,
            }
            self.model.settle(open, &manager);
        }
        Ok(Some(manager))
    }

    fn call_counted(&mut self, call: &Call) -> Result<bool, Disagreement> {
        let answer = self.call(call)?;
        if let Some(answer) = &answer {
            let group = &mut self.counts.groups[call.group()];
            group.0 += 1;
            group.1 += u64::from(answer.is_success());
        }
        Ok(answer.is_some())
    }

    /// Compares all of the address space, region by region, and what is written of it.
    fn compare(&mut self, rules: Rules) -> Result<(), Disagreement> {
        let handle = Handle::Current;
        let mut address = 0;
        let mut allocation = None;
        while address <= rules.highest_allocated_address() {
            let query = Call::Query { handle, address };
            self.counts.comparisons += 1;
            let Some(Answer { written: Written::Basic(basic), .. }) = self.call(&query)? else {
                return Err(Disagreement::Stopped(format!("{query} tells nothing")));
            };
            if basic.kind != 0 && allocation != Some(basic.allocation_base) {
                allocation = Some(basic.allocation_base);
                self.call(&Call::QueryRegion { handle, address })?;
            }
            let watched = Call::GetWriteWatch {
                handle,
                flags: 0,
                base: address,
                size: basic.size,
                count: Some(basic.size / PAGE),
            };
            if basic.kind != 0 {
                self.call(&watched)?;
            }
            address = basic.base + basic.size;
        }
        Ok(())
    }
}

/// Makes `calls` random calls. Returns the calls that were made, and what was done or what the
/// sides disagree about.
pub(crate) fn run_seed<M: Hardware>(
    host: &mut Host<M>,
    seed: u64,
    rules: Rules,
    calls: usize,
    sabotage: Option<Sabotage>,
) -> Result<(Vec<Call>, Counts), (Vec<Call>, Disagreement)> {
    let mut made = Vec::with_capacity(calls);
    let mut generator = Generator::new(seed, rules);
    let mut sides = match Sides::new(host, rules, sabotage) {
        Ok(sides) => sides,
        Err(why) => return Err((made, why)),
    };
    while made.len() < calls {
        let call = generator.next(&sides.model);
        made.push(call);
        match sides.call_counted(&call) {
            Ok(true) if made.len() % PERIOD != 0 => {}
            Ok(true) => {
                if let Err(why) = sides.compare(rules) {
                    return Err((made, why));
                }
            }
            Ok(false) => {
                made.pop();
            }
            Err(why) => return Err((made, why)),
        }
    }
    let counts = sides.counts;
    match sides.compare(rules).and_then(|()| Ok(sides.subject.end()?)) {
        Ok(()) => Ok((made, counts)),
        Err(why) => Err((made, why)),
    }
}

/// Makes the calls of a list on a fresh machine, and compares the address spaces after each.
pub(crate) fn run_list<M: Hardware>(
    rules: Rules,
    calls: &[Call],
    sabotage: Option<Sabotage>,
) -> Result<(), Disagreement> {
    let mut host = Host::<M>::boot()?;
    let mut sides = Sides::new(&mut host, rules, sabotage)?;
    for call in calls {
        sides.call_counted(call)?;
    }
    sides.compare(rules)?;
    sides.subject.audit()?;
    sides.subject.end()?;
    Ok(host.audit()?)
}
