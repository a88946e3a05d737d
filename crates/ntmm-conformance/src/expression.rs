//! Values as cases write them (spec API 22).
//!
//! A string that begins with `$`, `@`, a digit or a minus sign, or with `MmSystemRangeStart`, is
//! an expression; any other is text that the call itself understands, a class or a path.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = factor { ("*" | "/") factor }
//! factor  = number | "-" factor | "$" name | [ "@" ] name [ "(" sum { "," sum } ")" ]
//!         | "@module(" text ")" | "@function(" text ")"
//! ```
//!
//! A name is letters, digits, `_` and `.`. Names are looked up only when a case runs: a case that
//! comes later may use names that come with it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use crate::text::{write_list, write_number, write_separated, write_structure};

/// Bytes an expression may have, so that one cannot nest deeper than the stack bears.
const LONGEST: usize = 256;

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A number.
    Integer(i128),
    /// `$x`: what an earlier step bound.
    Variable(String),
    /// `@x`, or `x` inside an expression.
    Name(String),
    /// `@f(a, b)`.
    Function(String, Vec<Expression>),
    /// `@module(ntdll)`: where an image is loaded.
    Module(String),
    /// `@function(ntdll!NtClose)`: where a function of an image is.
    Export(String),
    /// Arithmetic.
    Arithmetic(Box<Expression>, Operator, Box<Expression>),
    /// Text for the call.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// `null`.
    Nothing,
    /// A list.
    List(Vec<Expression>),
    /// A structure by its fields.
    Structure(BTreeMap<String, Expression>),
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    /// The result, unless it does not exist.
    #[must_use]
    pub const fn apply(self, left: i128, right: i128) -> Option<i128> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
        }
    }

    const fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write_number(f, *number),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Name(name) => write!(f, "@{name}"),
            Self::Function(name, arguments) => {
                write!(f, "@{name}(")?;
                write_separated(f, arguments)?;
                f.write_str(")")
            }
            Self::Module(name) => write!(f, "@module({name})"),
            Self::Export(name) => write!(f, "@function({name})"),
            Self::Arithmetic(left, operator, right) => {
                write!(f, "{left}{}{right}", operator.sign())
            }
            Self::Text(text) => f.write_str(text),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Nothing => f.write_str("null"),
            Self::List(items) => write_list(f, items),
            Self::Structure(fields) => write_structure(f, fields),
        }
    }
}

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct BadExpression {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Expression {
    /// Parses a value of a case.
    ///
    /// # Errors
    /// A fraction, a number beyond 64 bits, or a string that begins as an expression and is none.
    pub fn from_json(value: &Json) -> Result<Self, BadExpression> {
        Ok(match value {
            Json::Null => Self::Nothing,
            Json::Bool(value) => Self::Boolean(*value),
            Json::Number(number) => match number.as_i128() {
                Some(number) => Self::Integer(number),
                None => {
                    return Err(BadExpression {
                        text: number.to_string(),
                        reason: "not a whole number",
                    });
                }
            },
            Json::String(text) => Self::from_text(text)?,
            Json::Array(items) => {
                Self::List(items.iter().map(Self::from_json).collect::<Result<_, _>>()?)
            }
            Json::Object(fields) => {
                let parsed = fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::from_json(value)?)))
                    .collect::<Result<_, _>>()?;
                Self::Structure(parsed)
            }
        })
    }

    /// Parses a string of a case: an expression, or text for the call.
    ///
    /// # Errors
    /// It begins as an expression and is none.
    pub fn from_text(text: &str) -> Result<Self, BadExpression> {
        let begins = text.starts_with(['$', '@', '-']) || text.starts_with("MmSystemRangeStart");
        if begins || text.starts_with(|first: char| first.is_ascii_digit()) {
            Self::parse(text)
        } else {
            Ok(Self::Text(text.to_owned()))
        }
    }

    /// Parses an expression.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, BadExpression> {
        let mut parser = Parser { rest: text };
        let outcome = if text.len() > LONGEST {
            Err("longer than any expression")
        } else {
            parser.sum().and_then(|parsed| match parser.rest.trim_start() {
                "" => Ok(parsed),
                _ => Err("something follows it"),
            })
        };
        outcome.map_err(|reason| BadExpression { text: text.to_owned(), reason })
    }
}

struct Parser<'a> {
    rest: &'a str,
}

type Parsed = Result<Expression, &'static str>;

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some(operator) = self.operator(&[('+', Operator::Add), ('-', Operator::Subtract)])
        {
            let right = self.product()?;
            left = Expression::Arithmetic(Box::new(left), operator, Box::new(right));
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.factor()?;
        while let Some(operator) =
            self.operator(&[('*', Operator::Multiply), ('/', Operator::Divide)])
        {
            let right = self.factor()?;
            left = Expression::Arithmetic(Box::new(left), operator, Box::new(right));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Parsed {
        self.rest = self.rest.trim_start();
        if self.eat('-') {
            return match self.factor()? {
                Expression::Integer(number) => Ok(Expression::Integer(-number)),
                _ => Err("only a number may be negative"),
            };
        }
        if self.eat('$') {
            return match self.word() {
                "" => Err("a variable has no name"),
                name => Ok(Expression::Variable(name.to_owned())),
            };
        }
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return self.number();
        }
        self.eat('@');
        let name = self.word();
        if name.is_empty() {
            return Err("a value is missing");
        }
        if !self.eat('(') {
            return Ok(Expression::Name(name.to_owned()));
        }
        match name {
            "module" => Ok(Expression::Module(self.until_parenthesis()?)),
            "function" => Ok(Expression::Export(self.until_parenthesis()?)),
            _ => {
                let mut arguments = vec![self.sum()?];
                while self.operator(&[(',', ())]).is_some() {
                    arguments.push(self.sum()?);
                }
                self.rest = self.rest.trim_start();
                if !self.eat(')') {
                    return Err("a parenthesis is not closed");
                }
                Ok(Expression::Function(name.to_owned(), arguments))
            }
        }
    }

    fn number(&mut self) -> Parsed {
        let word = self.word();
        let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        let number = parsed.map_err(|_| "not a number of 64 bits")?;
        Ok(Expression::Integer(number.into()))
    }

    /// What stands before the next closing parenthesis.
    fn until_parenthesis(&mut self) -> Result<String, &'static str> {
        let (inside, rest) = self.rest.split_once(')').ok_or("a parenthesis is not closed")?;
        self.rest = rest;
        Ok(inside.trim().to_owned())
    }

    fn operator<T: Copy>(&mut self, choices: &[(char, T)]) -> Option<T> {
        let rest = self.rest.trim_start();
        let (sign, operator) = choices.iter().find(|(sign, _)| rest.starts_with(*sign))?;
        self.rest = rest.strip_prefix(*sign)?;
        Some(*operator)
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let is_part = |part: char| part.is_ascii_alphanumeric() || part == '_' || part == '.';
        let length = self.rest.find(|part| !is_part(part)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }
}
