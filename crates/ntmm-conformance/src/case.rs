//! Cases as they are written, one JSON object to a line (spec API 22).
//!
//! [`read`] parses everything there is to parse, so that a case that runs holds no text that
//! might turn out to mean nothing. A line that is not a case at all ends the reading; a case with
//! a value that cannot be read becomes a [`Malformed`] entry, which counts as a failing case.
//! Unknown fields are errors.

use std::collections::BTreeMap;

use ntmm::NtStatus;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::expression::{BadExpression, Expression};
use crate::predicate::{BadExpectation, Expectation};
use crate::version::{Architecture, OsRange};

/// A fact that holds on real Windows.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, unique among the cases.
    pub id: String,
    /// Who established the fact.
    pub source: String,
    /// The call or the behaviour it is about.
    pub api: String,
    /// Where it holds.
    pub architecture: Architecture,
    /// On which versions it holds.
    pub os: OsRange,
    /// Who calls.
    pub mode: CallerMode,
    /// What prepares the scene.
    pub setup: Vec<Step>,
    /// The call itself.
    pub call: Call,
    /// What comes of it.
    pub expect: Expected,
    /// Remarks.
    pub notes: String,
}

/// Who makes the calls of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerMode {
    /// A program: pointers are probed, handles checked for access.
    User,
    /// The kernel.
    Kernel,
}

/// A call with its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// Name of the Nt call, or of the pseudo-call.
    pub name: String,
    /// Arguments by their NT names.
    pub arguments: BTreeMap<String, Expression>,
}

/// A call that prepares the scene.
#[derive(Clone, Debug)]
pub struct Step {
    /// The call.
    pub call: Call,
    /// The status it must answer; any success when none is given.
    pub status: Option<NtStatus>,
    /// Variables that take its outputs: output, then variable.
    pub bind: BTreeMap<String, String>,
}

/// What the call of a case must answer.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The preferred status.
    pub status: NtStatus,
    /// Other acceptable ones.
    pub status_any: Vec<NtStatus>,
    /// When only this Win32 error was observed: any status that maps to it is acceptable.
    pub win32_error: Option<u32>,
    /// Whether the status comes as an exception.
    pub raised: bool,
    /// What must hold of outputs and of checks made afterwards.
    pub outputs: Vec<Expectation>,
}

/// A line of a file of cases.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A case.
    Case(Box<Case>),
    /// A case that cannot be read.
    Malformed(Malformed),
}

impl Entry {
    /// The id of the case.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Case(case) => &case.id,
            Self::Malformed(malformed) => &malformed.id,
        }
    }

    /// The call or behaviour the case is about.
    #[must_use]
    pub fn api(&self) -> &str {
        match self {
            Self::Case(case) => &case.api,
            Self::Malformed(malformed) => &malformed.api,
        }
    }

    /// Whether the id, the api or the call holds `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let call = match self {
            Self::Case(case) => case.call.name.as_str(),
            Self::Malformed(_) => "",
        };
        [self.id(), self.api(), call].iter().any(|field| field.contains(text))
    }
}

/// A case that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("case {id}: {reason}")]
pub struct Malformed {
    /// Its id.
    pub id: String,
    /// The call it is about, when that can be read.
    pub api: String,
    /// What is wrong, with the text that is.
    pub reason: String,
}

/// A file that holds something other than cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no case: {reason}")]
pub struct ReadError {
    /// Number of the line, from 1.
    pub line: usize,
    /// Why.
    pub reason: String,
}

/// Reads cases, one to a line. Empty lines are passed over.
///
/// # Errors
/// A line is not a JSON object with an id.
pub fn read(text: &str) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |reason| ReadError { line: number + 1, reason };
        let json: Json = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        let field = |name| json.get(name).and_then(Json::as_str).map(str::to_owned);
        let id = field("id").ok_or_else(|| fail("it has no id".to_owned()))?;
        let api = field("api").unwrap_or_default();
        entries.push(match Case::from_json(json) {
            Ok(case) => Entry::Case(Box::new(case)),
            Err(reason) => Entry::Malformed(Malformed { id, api, reason: reason.to_string() }),
        });
    }
    Ok(entries)
}

/// What is wrong with a case.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Expression(#[from] BadExpression),
    #[error("{0}")]
    Expectation(#[from] BadExpectation),
    #[error("`{0}` is no status")]
    Status(String),
    #[error("`{0}` is no variable")]
    Variable(String),
    #[error("`{0}` is no range of versions")]
    Os(String),
    #[error("`{0}` is no architecture")]
    Architecture(String),
}

type Fields = BTreeMap<String, Json>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    id: String,
    source: String,
    api: String,
    arch: String,
    os: String,
    mode: CallerMode,
    setup: Vec<WrittenStep>,
    call: String,
    args: Fields,
    expect: WrittenExpected,
    #[serde(default)]
    notes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    call: String,
    args: Fields,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    bind: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExpected {
    status: String,
    #[serde(default)]
    status_any: Vec<String>,
    #[serde(default)]
    win32_error: Option<u32>,
    #[serde(default)]
    raised: bool,
    #[serde(default)]
    outputs: Fields,
}

impl Case {
    fn from_json(json: Json) -> Result<Self, Problem> {
        let written: WrittenCase = serde_json::from_value(json)?;
        let architecture = Architecture::parse(&written.arch);
        let os = OsRange::parse(&written.os);
        Ok(Self {
            id: written.id,
            source: written.source,
            api: written.api,
            architecture: architecture.ok_or(Problem::Architecture(written.arch))?,
            os: os.ok_or(Problem::Os(written.os))?,
            mode: written.mode,
            setup: written.setup.into_iter().map(step).collect::<Result<_, _>>()?,
            call: call(written.call, &written.args)?,
            expect: expected(written.expect)?,
            notes: written.notes,
        })
    }

    /// The names of all calls of the case, in order.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        let last = std::iter::once(self.call.name.as_str());
        self.setup.iter().map(|step| step.call.name.as_str()).chain(last)
    }
}

fn call(name: String, written: &Fields) -> Result<Call, Problem> {
    let mut arguments = BTreeMap::new();
    for (argument, value) in written {
        arguments.insert(argument.clone(), Expression::from_json(value)?);
    }
    Ok(Call { name, arguments })
}

fn step(written: WrittenStep) -> Result<Step, Problem> {
    let mut bind = BTreeMap::new();
    for (output, variable) in written.bind.unwrap_or_default() {
        match Expression::from_text(&variable) {
            Ok(Expression::Variable(name)) => bind.insert(output, name),
            _ => return Err(Problem::Variable(variable)),
        };
    }
    Ok(Step {
        call: call(written.call, &written.args)?,
        status: written.status.as_deref().map(status).transpose()?,
        bind,
    })
}

fn expected(written: WrittenExpected) -> Result<Expected, Problem> {
    let mut outputs = Vec::new();
    for (name, value) in &written.outputs {
        outputs.push(Expectation::from_json(name, value)?);
    }
    Ok(Expected {
        status: status(&written.status)?,
        status_any: written.status_any.iter().map(|text| status(text)).collect::<Result<_, _>>()?,
        win32_error: written.win32_error,
        raised: written.raised,
        outputs,
    })
}

fn status(text: &str) -> Result<NtStatus, Problem> {
    let code = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    code.map(NtStatus::new).ok_or_else(|| Problem::Status(text.to_owned()))
}
