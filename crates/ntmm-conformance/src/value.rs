//! What expressions come to, and the arguments of a call.
//!
//! Cases give in/out parameters by value; the system that makes the call passes a pointer to a
//! variable that holds it. A [`Pointer`] stands where the pointer itself matters.

use std::collections::BTreeMap;
use std::fmt;

use crate::case::CallerMode;
use crate::system::Refusal;
use crate::text::{write_list, write_number, write_structure};
use crate::version::Width;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number: an address, a size, flags, a handle.
    Integer(i128),
    /// A pointer whose quality matters.
    Pointer(Pointer),
    /// Text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// An argument that is not given.
    Nothing,
    /// A list.
    List(Vec<Value>),
    /// A structure by its fields.
    Structure(BTreeMap<String, Value>),
}

/// A pointer argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// NULL.
    Null,
    /// Neither readable nor writable.
    Bad,
    /// Valid, but not a multiple of what it points to.
    Misaligned,
    /// To a variable.
    Good,
    /// To a buffer of so many bytes.
    Buffer(u64),
    /// To a ULONG that holds this.
    Number(u32),
}

impl Value {
    /// Whether both mean the same in a variable of a pointer's width.
    #[must_use]
    pub fn same(&self, other: &Self, width: Width) -> bool {
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => {
                // All ones are written as -1.
                let wraps = *one < 0 || *two < 0;
                one == two || (wraps && width.truncate(*one) == width.truncate(*two))
            }
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.same(two, width))
            }
            _ => self == other,
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write_number(f, *number),
            Self::Pointer(pointer) => write!(f, "{pointer:?} pointer"),
            Self::Text(text) => f.write_str(text),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Nothing => f.write_str("null"),
            Self::List(items) => write_list(f, items),
            Self::Structure(fields) => write_structure(f, fields),
        }
    }
}

/// The arguments of a call, by name.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Who calls.
    pub mode: CallerMode,
    /// Width of a pointer.
    pub width: Width,
    values: BTreeMap<String, Value>,
}

impl Arguments {
    /// No arguments yet.
    #[must_use]
    pub const fn new(mode: CallerMode, width: Width) -> Self {
        Self { mode, width, values: BTreeMap::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.insert(name, value);
        self
    }

    /// Adds an argument.
    pub fn insert(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// All arguments by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of an argument, if it is given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The value of an argument.
    ///
    /// # Errors
    /// The argument is not given.
    pub fn value(&self, name: &str) -> Result<&Value, Refusal> {
        let missing = || Refusal::Unknown(format!("the argument {name} is missing"));
        self.get(name).ok_or_else(missing)
    }

    /// A number.
    ///
    /// # Errors
    /// The argument is not given or is no number.
    pub fn integer(&self, name: &str) -> Result<i128, Refusal> {
        match self.value(name)? {
            Value::Integer(number) => Ok(*number),
            other => Err(unfit(name, other)),
        }
    }

    /// A number in a variable of a pointer's width.
    ///
    /// # Errors
    /// As [`Arguments::integer`].
    pub fn word(&self, name: &str) -> Result<u64, Refusal> {
        self.integer(name).map(|number| self.width.truncate(number))
    }

    /// A number in a ULONG.
    ///
    /// # Errors
    /// As [`Arguments::integer`].
    pub fn ulong(&self, name: &str) -> Result<u32, Refusal> {
        self.integer(name).map(|number| number as u32)
    }

    /// Text.
    ///
    /// # Errors
    /// The argument is not given or is no text.
    pub fn text(&self, name: &str) -> Result<&str, Refusal> {
        match self.value(name)? {
            Value::Text(text) => Ok(text),
            other => Err(unfit(name, other)),
        }
    }
}

/// An argument has a form that the call does not know.
#[must_use]
pub fn unfit(name: &str, value: &Value) -> Refusal {
    Refusal::Unknown(format!("the argument {name} cannot be {value}"))
}
