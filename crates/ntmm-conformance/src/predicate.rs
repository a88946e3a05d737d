//! What must hold of outputs, and checks that are made when the call is over.
//!
//! The key of an expectation names an output of the call (`BaseAddress`,
//! `ImageFlags.ImageMappedFlat`), or a check that is run afterwards (`query.Protect`,
//! `mem.read8($base)`). Its value is what is expected: exactly that, `@unchanged`, or relations
//! such as `{"align": 65536, "lt": 1342177280}`.

use std::fmt;

use serde_json::Value as Json;

use crate::expression::{BadExpression, Expression};
use crate::value::Value;
use crate::version::Width;

/// Something that is expected.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Of what.
    pub subject: Subject,
    /// What must hold.
    pub predicate: Predicate,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An output of the call.
    Output(String),
    /// A field that a query of the memory or the section tells afterwards.
    Query(String),
    /// What mapping the section afterwards answers: `status`, or an output.
    Map(String),
    /// The first byte of a view of the section.
    FirstByte,
    /// A field of the thread's environment block.
    Teb(String),
    /// What another call yields.
    Call(String, Expression),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(name) => f.write_str(name),
            Self::Query(field) => write!(f, "query.{field}"),
            Self::Map(field) => write!(f, "map.{field}"),
            Self::FirstByte => f.write_str("first_byte"),
            Self::Teb(field) => write!(f, "teb.{field}"),
            Self::Call(call, argument) => write!(f, "{call}({argument})"),
        }
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// The value is this.
    Is(Expression),
    /// The call did not touch it.
    Unchanged,
    /// All of these hold.
    Relations(Vec<(Relation, Expression)>),
}

/// A relation to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A multiple of it.
    Aligned,
    /// Below it.
    Below,
    /// At or below it.
    AtMost,
    /// At or above it.
    AtLeast,
    /// Above it.
    Above,
    /// Another value.
    Not,
}

impl Relation {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "align" => Self::Aligned,
            "lt" => Self::Below,
            "le" => Self::AtMost,
            "ge" => Self::AtLeast,
            "gt" => Self::Above,
            "ne" => Self::Not,
            _ => return None,
        })
    }

    /// Whether `found` stands in the relation to `bound`.
    #[must_use]
    pub fn holds(self, found: &Value, bound: &Value, width: Width) -> bool {
        if self == Self::Not {
            return !found.same(bound, width);
        }
        let (Value::Integer(found), Value::Integer(bound)) = (found, bound) else {
            return false;
        };
        match self {
            Self::Aligned => *bound != 0 && found % bound == 0,
            Self::Below => found < bound,
            Self::AtMost => found <= bound,
            Self::AtLeast => found >= bound,
            Self::Above => found > bound,
            Self::Not => found != bound,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aligned => "a multiple of",
            Self::Below => "below",
            Self::AtMost => "at most",
            Self::AtLeast => "at least",
            Self::Above => "above",
            Self::Not => "other than",
        })
    }
}

/// An expectation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExpectation {
    /// A value that is none.
    #[error("{0}")]
    Expression(#[from] BadExpression),
    /// A relation that nobody knows.
    #[error("`{0}` is no predicate")]
    Relation(String),
    /// A key with a call in it that is not one.
    #[error("`{0}` is no check")]
    Check(String),
}

impl Expectation {
    /// Parses an entry of `expect.outputs`.
    ///
    /// # Errors
    /// The key or the value means nothing.
    pub fn from_json(key: &str, value: &Json) -> Result<Self, BadExpectation> {
        Ok(Self { subject: Subject::parse(key)?, predicate: Predicate::from_json(value)? })
    }
}

impl Subject {
    fn parse(key: &str) -> Result<Self, BadExpectation> {
        if let Some((call, rest)) = key.split_once('(') {
            let argument =
                rest.strip_suffix(')').ok_or_else(|| BadExpectation::Check(key.to_owned()))?;
            return Ok(Self::Call(call.to_owned(), Expression::parse(argument)?));
        }
        let field = |field: &str| field.to_owned();
        Ok(match key.split_once('.') {
            Some(("query", name)) => Self::Query(field(name)),
            Some(("map", name)) => Self::Map(field(name)),
            Some(("teb", name)) => Self::Teb(field(name)),
            None if key == "first_byte" => Self::FirstByte,
            _ => Self::Output(field(key)),
        })
    }
}

impl Predicate {
    fn from_json(value: &Json) -> Result<Self, BadExpectation> {
        let Json::Object(fields) = value else {
            return Ok(match Expression::from_json(value)? {
                Expression::Name(name) if name == "unchanged" => Self::Unchanged,
                expression => Self::Is(expression),
            });
        };
        let mut relations = Vec::new();
        for (name, bound) in fields {
            let relation =
                Relation::parse(name).ok_or_else(|| BadExpectation::Relation(name.clone()))?;
            relations.push((relation, Expression::from_json(bound)?));
        }
        Ok(Self::Relations(relations))
    }
}
