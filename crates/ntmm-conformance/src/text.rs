//! How numbers, lists and structures are written in reports, whatever they are made of.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

/// A number: small ones as they are said, others in hexadecimal.
pub fn write_number(f: &mut Formatter<'_>, number: i128) -> Result {
    match number {
        -9..=9 => write!(f, "{number}"),
        ..-9 => write!(f, "-{:#x}", number.unsigned_abs()),
        _ => write!(f, "{number:#x}"),
    }
}

/// Items one after the other, with commas between them.
pub fn write_separated(f: &mut Formatter<'_>, items: &[impl Display]) -> Result {
    for (index, item) in items.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}

/// Items in brackets.
pub fn write_list(f: &mut Formatter<'_>, items: &[impl Display]) -> Result {
    f.write_str("[")?;
    write_separated(f, items)?;
    f.write_str("]")
}

/// Fields in braces.
pub fn write_structure(f: &mut Formatter<'_>, fields: &BTreeMap<String, impl Display>) -> Result {
    f.write_str("{")?;
    for (index, (name, value)) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{name}: {value}")?;
    }
    f.write_str("}")
}
