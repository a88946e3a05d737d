//! How expressions come to values.
//!
//! The environment of a case holds its variables. What else an expression may name depends on the
//! call it stands in ([`Place`]) and on the system: where images and stacks are is asked of the
//! system by the pseudo-calls `module.base`, `module.function`, `stack.address` and `teb.read`.

use std::collections::BTreeMap;

use crate::case::{Call, CallerMode};
use crate::expression::Expression;
use crate::structure::{entries_of, size_of, structure_of};
use crate::system::{Answer, Refusal, System};
use crate::value::{Arguments, Pointer, Value};
use crate::version::Layout;

/// Size of a page.
const PAGE: i128 = 0x1000;

/// The variables of a case, and the machine it runs on.
#[derive(Clone, Debug)]
pub struct Environment {
    layout: Layout,
    mode: CallerMode,
    variables: BTreeMap<String, Value>,
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    call: &'a Call,
    arguments: Option<&'a Arguments>,
    answer: Option<&'a Answer>,
}

impl<'a> Place<'a> {
    /// Among the arguments of a call.
    #[must_use]
    pub const fn argument(call: &'a Call) -> Self {
        Self { call, arguments: None, answer: None }
    }

    /// Among the expectations of a call that was made with `arguments`.
    #[must_use]
    pub const fn expectation(call: &'a Call, arguments: &'a Arguments, answer: &'a Answer) -> Self {
        Self { call, arguments: Some(arguments), answer: Some(answer) }
    }
}

impl Environment {
    /// No variables.
    #[must_use]
    pub const fn new(layout: Layout, mode: CallerMode) -> Self {
        Self { layout, mode, variables: BTreeMap::new() }
    }

    /// The addresses of the machine.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// No arguments yet, for a call of this case.
    #[must_use]
    pub const fn no_arguments(&self) -> Arguments {
        Arguments::new(self.mode, self.layout.width)
    }

    /// Gives a variable a value.
    pub fn bind(&mut self, variable: &str, value: Value) {
        self.variables.insert(variable.to_owned(), value);
    }

    /// The arguments of a call.
    ///
    /// # Errors
    /// One of them comes to nothing.
    pub fn arguments(&self, call: &Call, system: &mut dyn System) -> Result<Arguments, Refusal> {
        let mut arguments = self.no_arguments();
        for (name, expression) in &call.arguments {
            arguments.insert(name, self.evaluate(expression, Place::argument(call), system)?);
        }
        Ok(arguments)
    }

    /// What an expression comes to.
    ///
    /// # Errors
    /// It names something that nobody knows or that comes later, or is no arithmetic.
    pub fn evaluate(
        &self,
        expression: &Expression,
        place: Place<'_>,
        system: &mut dyn System,
    ) -> Result<Value, Refusal> {
        Ok(match expression {
            Expression::Integer(number) => Value::Integer(*number),
            Expression::Text(text) => Value::Text(text.clone()),
            Expression::Boolean(value) => Value::Boolean(*value),
            Expression::Nothing => Value::Nothing,
            Expression::Variable(name) => {
                let unbound = || Refusal::Unknown(format!("${name} is not bound"));
                self.variables.get(name).cloned().ok_or_else(unbound)?
            }
            Expression::Name(name) => self.named(name, place, system)?,
            Expression::Module(module) => {
                let name = Value::Text(module.clone());
                self.ask(system, "module.base", "name", name)?
            }
            Expression::Export(function) => {
                let name = Value::Text(function.clone());
                self.ask(system, "module.function", "name", name)?
            }
            Expression::Function(name, arguments) => {
                let mut numbers = Vec::new();
                for argument in arguments {
                    numbers.push(self.number(argument, place, system)?);
                }
                Value::Integer(function(name, &numbers)?)
            }
            Expression::Arithmetic(left, operator, right) => {
                let left = self.number(left, place, system)?;
                let right = self.number(right, place, system)?;
                let impossible = || Refusal::Unknown(format!("{expression} cannot be computed"));
                Value::Integer(operator.apply(left, right).ok_or_else(impossible)?)
            }
            Expression::List(items) => {
                let items = items.iter().map(|item| self.evaluate(item, place, system));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Expression::Structure(fields) => {
                let mut values = BTreeMap::new();
                for (name, field) in fields {
                    values.insert(name.clone(), self.evaluate(field, place, system)?);
                }
                Value::Structure(values)
            }
        })
    }

    fn number(
        &self,
        expression: &Expression,
        place: Place<'_>,
        system: &mut dyn System,
    ) -> Result<i128, Refusal> {
        match self.evaluate(expression, place, system)? {
            Value::Integer(number) => Ok(number),
            _ => Err(Refusal::Unknown(format!("{expression} is no number"))),
        }
    }

    /// The value of `@name`.
    fn named(
        &self,
        name: &str,
        place: Place<'_>,
        system: &mut dyn System,
    ) -> Result<Value, Refusal> {
        let layout = &self.layout;
        let size = || structure_of(place.call).and_then(|name| size_of(name, layout.width));
        let known = match name {
            "null" => Some(Value::Pointer(Pointer::Null)),
            "bad" => Some(Value::Pointer(Pointer::Bad)),
            "misaligned" => Some(Value::Pointer(Pointer::Misaligned)),
            "out" => Some(Value::Pointer(Pointer::Good)),
            "sizeof" | "required" => size().map(Value::from),
            // A name of its own only inside `@n*sizeof`.
            "n" => entries_of(place.call).map(Value::from),
            "MaxAppAddress" | "HighestUserAddress" => Some(layout.highest_user.into()),
            "HighestUserPage" => Some(Value::Integer(i128::from(layout.highest_user) + 1 - PAGE)),
            "LowestUserAddress" => Some(layout.lowest_user.into()),
            // Paths of files; the system knows which.
            "file" | "exe" => Some(Value::Text(format!("@{name}"))),
            "MmSystemRangeStart" => Some(layout.system_range_start.into()),
            "stack_address" => {
                return self.ask(system, "stack.address", "name", Value::Nothing);
            }
            "return" => place.answer.and_then(|answer| answer.outputs.get("return")).cloned(),
            _ => match name.split_once('.') {
                Some(("teb", field)) => return self.teb(field, system),
                Some(("arg", argument)) => {
                    place.arguments.and_then(|arguments| arguments.get(argument)).cloned()
                }
                _ => numbered(name),
            },
        };
        known.ok_or_else(|| Refusal::Unknown(format!("nobody knows @{name} here")))
    }

    /// A field of the thread's environment block.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn teb(&self, field: &str, system: &mut dyn System) -> Result<Value, Refusal> {
        self.ask(system, "teb.read", "field", Value::Text(field.to_owned()))
    }

    /// The `value` that a pseudo-call with one argument yields.
    ///
    /// # Errors
    /// It yields none.
    pub fn ask(
        &self,
        system: &mut dyn System,
        call: &str,
        argument: &str,
        value: Value,
    ) -> Result<Value, Refusal> {
        let answer = system.call(call, &self.no_arguments().with(argument, value))?;
        match answer.outputs.get("value") {
            Some(value) if answer.status.is_success() => Ok(value.clone()),
            _ => Err(Refusal::Unknown(format!("{call} answers {}", answer.status))),
        }
    }
}

/// `@buf12`, a buffer of twelve bytes, and `@ulong0`, a pointer to a ULONG that is zero.
fn numbered(name: &str) -> Option<Value> {
    if let Some(bytes) = name.strip_prefix("buf") {
        return Some(Value::Pointer(Pointer::Buffer(bytes.parse().ok()?)));
    }
    let number = name.strip_prefix("ulong")?.parse().ok()?;
    Some(Value::Pointer(Pointer::Number(number)))
}

fn function(name: &str, numbers: &[i128]) -> Result<i128, Refusal> {
    let result = match (name, numbers) {
        ("zero_bits", [number]) => Some(zero_bits(*number)),
        ("align_up", [number, unit]) => align_up(*number, *unit),
        _ => None,
    };
    result.ok_or_else(|| Refusal::Unknown(format!("nobody knows @{name} of {numbers:?}")))
}

/// Leading zero bits of a number, counted from bit 31; none when it has higher bits.
fn zero_bits(number: i128) -> i128 {
    u32::try_from(number).map_or(0, u32::leading_zeros).into()
}

/// The next multiple of `unit` at or above `number`.
fn align_up(number: i128, unit: i128) -> Option<i128> {
    let up = number.checked_add(unit.checked_sub(1)?)?;
    up.checked_div_euclid(unit)?.checked_mul(unit)
}
