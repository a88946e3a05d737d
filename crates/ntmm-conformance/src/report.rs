//! Many cases, counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::case::Entry;
use crate::runner::{self, Failure, Outcome};
use crate::system::Systems;
use crate::version::{Paging, Profile};
use crate::windows::Machines;

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The paging mode of the machines.
    pub paging: Paging,
    /// The version of Windows.
    pub profile: Profile,
    /// Only cases whose id, api or call holds this text.
    pub filter: Option<String>,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// As expected.
    pub passed: u64,
    /// Otherwise.
    pub failed: u64,
    /// Not run.
    pub skipped: u64,
}

impl Totals {
    /// All of them.
    #[must_use]
    pub const fn cases(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    const fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Skipped { .. } => self.skipped += 1,
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A case and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Id of the case.
    pub id: String,
    /// The call or behaviour it is about.
    pub api: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The paging mode of the machines.
    #[serde(serialize_with = "name")]
    pub paging: Paging,
    /// The version of Windows.
    #[serde(serialize_with = "name")]
    pub profile: Profile,
    /// All cases.
    pub totals: Totals,
    /// The cases of each call.
    pub apis: BTreeMap<String, Totals>,
    /// Skipped cases by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Each case, in order.
    pub cases: Vec<Line>,
}

/// Writes what has a name as that name.
fn name<S: Serializer>(named: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(named)
}

impl Report {
    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&Line, &Failure)> {
        self.cases.iter().filter_map(|line| match &line.outcome {
            Outcome::Failed(failure) => Some((line, failure)),
            Outcome::Passed | Outcome::Skipped { .. } => None,
        })
    }
}

/// Failing cases, reasons for skips, a table of the calls, and the totals as the last line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, failure) in self.failures() {
            writeln!(f, "{} {}: {}", line.id, line.api, failure.at)?;
            writeln!(f, "    expected {}", failure.expected)?;
            writeln!(f, "    found    {}", failure.found)?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "skipped {count:>4}: {reason}")?;
        }
        let widest = self.apis.keys().map(String::len).max().unwrap_or(0);
        writeln!(f, "{:widest$}  passed  failed  skipped", "call")?;
        for (api, Totals { passed, failed, skipped }) in &self.apis {
            writeln!(f, "{api:widest$}  {passed:>6}  {failed:>6}  {skipped:>7}")?;
        }
        writeln!(f, "{}", self.totals)
    }
}

/// Runs cases on simulated machines, each on one of its own.
#[must_use]
pub fn run(entries: &[Entry], options: &Options) -> Report {
    run_on(entries, options, &Machines::new(options.paging, options.profile))
}

/// Runs cases on systems of any kind.
#[must_use]
pub fn run_on(entries: &[Entry], options: &Options, systems: &dyn Systems) -> Report {
    let Options { paging, profile, ref filter } = *options;
    let mut report = Report {
        paging,
        profile,
        totals: Totals::default(),
        apis: BTreeMap::new(),
        skipped: BTreeMap::new(),
        cases: Vec::new(),
    };
    let wanted = |entry: &&Entry| filter.as_ref().is_none_or(|text| entry.matches(text));
    for entry in entries.iter().filter(wanted) {
        let outcome = match entry {
            Entry::Case(case) => runner::run(case, paging, profile, systems),
            Entry::Malformed(malformed) => Outcome::Failed(Failure {
                at: "the case".to_owned(),
                expected: "a case that can be read".to_owned(),
                found: malformed.reason.clone(),
            }),
        };
        report.totals.count(&outcome);
        report.apis.entry(entry.api().to_owned()).or_default().count(&outcome);
        if let Outcome::Skipped { reason } = &outcome {
            *report.skipped.entry(reason.clone()).or_default() += 1;
        }
        let (id, api) = (entry.id().to_owned(), entry.api().to_owned());
        report.cases.push(Line { id, api, outcome });
    }
    report
}
