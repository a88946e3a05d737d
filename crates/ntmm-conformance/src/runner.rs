//! One case from its first step to its outcome.
//!
//! A case is skipped before anything runs when it holds elsewhere or makes a call that comes
//! later, and afterwards only when it names something that comes later, such as a loaded image.
//! Whatever the harness does not know fails the case.

use ntmm::NtStatus;
use serde::Serialize;

use crate::case::{Case, Expected, Step};
use crate::environment::{Environment, Place};
use crate::predicate::{Expectation, Predicate, Subject};
use crate::system::{Answer, Manner, Refusal, System, Systems};
use crate::value::{Arguments, Value};
use crate::version::{Architecture, Paging, Profile};
use crate::vocabulary::Knowledge;
use crate::win32;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed(Failure),
    /// The case does not apply here, or not yet.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// What was not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Where: a step of the setup by its number and call, the call itself, or what was looked at
    /// afterwards.
    pub at: String,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub found: String,
}

/// Why a case ends early.
enum End {
    Failed(Failure),
    Skipped(String),
}

/// Runs a case on a fresh system.
pub fn run(case: &Case, paging: Paging, profile: Profile, systems: &dyn Systems) -> Outcome {
    let outcome = match inapplicable(case, paging, profile, systems) {
        Some(end) => Err(end),
        None => attempt(case, systems),
    };
    match outcome {
        Ok(()) => Outcome::Passed,
        Err(End::Failed(failure)) => Outcome::Failed(failure),
        Err(End::Skipped(reason)) => Outcome::Skipped { reason },
    }
}

/// Why a case cannot be run at all.
fn inapplicable(
    case: &Case,
    paging: Paging,
    profile: Profile,
    systems: &dyn Systems,
) -> Option<End> {
    if let Some(unknown) = case.calls().find(|call| systems.knows(call) == Knowledge::Unknown) {
        return Some(End::Failed(Failure {
            at: unknown.to_owned(),
            expected: "a call that the harness knows".to_owned(),
            found: "an unknown call".to_owned(),
        }));
    }
    let reason = if case.architecture == Architecture::Wow64 {
        "there is no 32-bit subsystem (wow64)".to_owned()
    } else if !case.architecture.includes(paging) {
        format!("holds on {}, not on {paging}", case.architecture)
    } else if !case.os.includes(profile) {
        format!("holds on {}, not in the {profile} profile", case.os)
    } else {
        case.calls().find_map(|call| match systems.knows(call) {
            Knowledge::Later(why) => Some(format!("{call}: {why}")),
            Knowledge::Known | Knowledge::Unknown => None,
        })?
    };
    Some(End::Skipped(reason))
}

fn attempt(case: &Case, systems: &dyn Systems) -> Result<(), End> {
    let refused = |at: &str, refusal| refused(at, "an answer", refusal);
    let mut system = systems.fresh().map_err(|refusal| refused("a fresh machine", refusal))?;
    let system = system.as_mut();
    let mut environment = Environment::new(systems.layout(), case.mode);
    for (number, step) in case.setup.iter().enumerate() {
        prepare(number, step, &mut environment, system)?;
    }
    let call = &case.call;
    let arguments = environment.arguments(call, system);
    let arguments = arguments.map_err(|refusal| refused(&call.name, refusal))?;
    let answer = system.call(&call.name, &arguments);
    let answer = answer.map_err(|refusal| refused(&call.name, refusal))?;
    check_status(&call.name, &case.expect, &answer)?;
    // An alternative that fails where the preferred status succeeds promises no outputs.
    if answer.status.is_success() == case.expect.status.is_success() {
        let mut afterwards = Afterwards {
            environment: &environment,
            place: Place::expectation(call, &arguments, &answer),
            arguments: &arguments,
            answer: &answer,
            system,
        };
        for expectation in &case.expect.outputs {
            afterwards.check(expectation)?;
        }
    }
    system.finish().map_err(|refusal| refused("afterwards", refusal))
}

/// Makes a step of the setup.
fn prepare(
    number: usize,
    step: &Step,
    environment: &mut Environment,
    system: &mut dyn System,
) -> Result<(), End> {
    let at = format!("setup step {}, {}", number + 1, step.call.name);
    let expected = match step.status {
        Some(status) => status.to_string(),
        None => "any success".to_owned(),
    };
    let arguments = environment.arguments(&step.call, system);
    let arguments = arguments.map_err(|refusal| refused(&at, &expected, refusal))?;
    let answer = system.call(&step.call.name, &arguments);
    let answer = answer.map_err(|refusal| refused(&at, &expected, refusal))?;
    let fits = match step.status {
        Some(status) => answer.status == status,
        None => answer.status.is_success(),
    };
    if !fits {
        return Err(End::Failed(Failure { at, expected, found: answer.status.to_string() }));
    }
    for (output, variable) in &step.bind {
        match stored(output, &arguments, &answer) {
            Some(value) => environment.bind(variable, value.clone()),
            None => {
                let expected = format!("{output}, to be bound to ${variable}");
                let found = format!("nothing stored in {output}");
                return Err(End::Failed(Failure { at, expected, found }));
            }
        }
    }
    Ok(())
}

fn refused(at: &str, expected: &str, refusal: Refusal) -> End {
    match refusal {
        Refusal::Later(reason) => End::Skipped(reason),
        Refusal::Unknown(_) | Refusal::Stopped(_) => End::Failed(Failure {
            at: at.to_owned(),
            expected: expected.to_owned(),
            found: refusal.to_string(),
        }),
    }
}

/// What a variable passed for a parameter holds when the call is over.
fn stored<'a>(name: &str, arguments: &'a Arguments, answer: &'a Answer) -> Option<&'a Value> {
    answer.outputs.get(name).or_else(|| arguments.get(name))
}

impl Expected {
    /// Whether a status is acceptable.
    #[must_use]
    pub fn accepts(&self, status: NtStatus) -> bool {
        let same_error = || match self.win32_error {
            Some(error) => !status.is_success() && win32::error_of(status) == Some(error),
            None => false,
        };
        status == self.status || self.status_any.contains(&status) || same_error()
    }

    fn describe(&self) -> String {
        let mut text = self.status.to_string();
        for status in self.status_any.iter().filter(|status| **status != self.status) {
            text += &format!(" or {status}");
        }
        if let Some(error) = self.win32_error {
            text += &format!(" or any status for Win32 error {error}");
        }
        text
    }
}

fn check_status(call: &str, expected: &Expected, answer: &Answer) -> Result<(), End> {
    let fail = |expected: String, found: String| {
        Err(End::Failed(Failure { at: call.to_owned(), expected, found }))
    };
    if !expected.accepts(answer.status) {
        return fail(expected.describe(), answer.status.to_string());
    }
    // What a memory access meets is always an exception, and so is the end of a stack.
    let manner = if expected.raised { Manner::Raised } else { Manner::Returned };
    if answer.manner != manner && !["mem.", "stack."].iter().any(|space| call.starts_with(space)) {
        let how = |manner| match manner {
            Manner::Returned => "returned",
            Manner::Raised => "raised",
        };
        return fail(
            format!("{} {}", expected.status, how(manner)),
            format!("{} {}", answer.status, how(answer.manner)),
        );
    }
    Ok(())
}

/// What is looked at when the call is over.
struct Afterwards<'a> {
    environment: &'a Environment,
    place: Place<'a>,
    arguments: &'a Arguments,
    answer: &'a Answer,
    system: &'a mut dyn System,
}

impl Afterwards<'_> {
    fn check(&mut self, expectation: &Expectation) -> Result<(), End> {
        let Expectation { subject, predicate } = expectation;
        let at = subject.to_string();
        let attempt = self.judge(subject, predicate);
        match attempt.map_err(|refusal| refused(&at, "a value", refusal))? {
            None => Ok(()),
            Some((expected, found)) => Err(End::Failed(Failure { at, expected, found })),
        }
    }

    /// What was expected and what was found, when they are not the same.
    fn judge(
        &mut self,
        subject: &Subject,
        predicate: &Predicate,
    ) -> Result<Option<(String, String)>, Refusal> {
        let width = self.environment.layout().width;
        if *predicate == Predicate::Unchanged {
            return Ok(match subject {
                Subject::Output(name) => self.changed(name),
                _ => Some(("an output, to be unchanged".to_owned(), "a check".to_owned())),
            });
        }
        let Some(found) = self.look(subject)? else {
            return Ok(Some(("a value".to_owned(), "nothing was stored".to_owned())));
        };
        match predicate {
            Predicate::Unchanged => {}
            Predicate::Is(expression) => {
                let expected = self.environment.evaluate(expression, self.place, self.system)?;
                if !found.same(&expected, width) {
                    return Ok(Some((expected.to_string(), found.to_string())));
                }
            }
            Predicate::Relations(relations) => {
                for (relation, bound) in relations {
                    let bound = self.environment.evaluate(bound, self.place, self.system)?;
                    if !relation.holds(&found, &bound, width) {
                        return Ok(Some((format!("{relation} {bound}"), found.to_string())));
                    }
                }
            }
        }
        Ok(None)
    }

    /// How an output has changed, if it has.
    fn changed(&self, name: &str) -> Option<(String, String)> {
        let now = self.answer.outputs.get(name)?;
        let before = self.arguments.get(name);
        if before.is_some_and(|before| before.same(now, self.environment.layout().width)) {
            return None;
        }
        let before = before.map_or("what it held".to_owned(), Value::to_string);
        Some((format!("{before}, unchanged"), now.to_string()))
    }

    /// The value of what is looked at; none when nothing was stored in it.
    fn look(&mut self, subject: &Subject) -> Result<Option<Value>, Refusal> {
        match subject {
            Subject::Output(name) => Ok(stored(name, self.arguments, self.answer).cloned()),
            Subject::Teb(field) => self.environment.teb(field, self.system).map(Some),
            Subject::Call(call, argument) => {
                let value = self.environment.evaluate(argument, self.place, self.system)?;
                let parameter = if call.starts_with("mem.") { "addr" } else { "Handle" };
                self.environment.ask(self.system, call, parameter, value).map(Some)
            }
            Subject::Query(field) => self.query(field),
            Subject::Map(field) => {
                let answer = self.map()?;
                if field == "status" {
                    return Ok(Some(answer.status.code().into()));
                }
                Ok(answer.outputs.get(field).cloned())
            }
            Subject::FirstByte => {
                let Some(view) = self.map()?.outputs.get("BaseAddress").cloned() else {
                    return Ok(None);
                };
                self.environment.ask(self.system, "mem.read8", "addr", view).map(Some)
            }
        }
    }

    /// A field of the query that belongs to the call: of the section it made, or of the memory
    /// at its base.
    fn query(&mut self, field: &str) -> Result<Option<Value>, Refusal> {
        let class = |text: &str| Value::Text(text.to_owned());
        let arguments = self.environment.no_arguments();
        let section = ["SectionHandle", "SectionObject"]
            .into_iter()
            .find_map(|name| Some((name, stored(name, self.arguments, self.answer)?.clone())));
        let (call, arguments) = match section {
            Some((name, section)) => {
                let class = class("SectionBasicInformation");
                (
                    "NtQuerySection",
                    arguments.with(name, section).with("SectionInformationClass", class),
                )
            }
            None => {
                let Some(base) = stored("BaseAddress", self.arguments, self.answer) else {
                    return Ok(None);
                };
                let size = crate::structure::size_of("MemoryBasicInformation", arguments.width);
                let arguments = arguments
                    .with("ProcessHandle", Value::Integer(-1))
                    .with("BaseAddress", base.clone())
                    .with("MemoryInformationClass", class("MemoryBasicInformation"))
                    .with("MemoryInformationLength", size.map_or(Value::Nothing, Value::from));
                ("NtQueryVirtualMemory", arguments)
            }
        };
        Ok(self.system.call(call, &arguments)?.outputs.get(field).cloned())
    }

    /// Maps the section the call made.
    fn map(&mut self) -> Result<Answer, Refusal> {
        let mut arguments = self.environment.no_arguments();
        for name in ["SectionHandle", "SectionObject"] {
            if let Some(section) = stored(name, self.arguments, self.answer) {
                arguments.insert(name, section.clone());
            }
        }
        self.system.call("section.map", &arguments)
    }
}
