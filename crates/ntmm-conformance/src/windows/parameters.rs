//! Arguments of a case as a call captures them.
//!
//! A pointer parameter that cannot be read or written is captured as the status its probe gives.
//! Addresses and sizes are as wide as a pointer of the machine, flags are ULONGs.

use std::collections::BTreeMap;

use ntmm::NtStatus;
use ntmm::nt::{AddressRequirements, Captured, ExtendedParameter};

use crate::system::Refusal;
use crate::value::{Arguments, Pointer, Value, unfit};
use crate::version::Width;

/// An in/out parameter of a pointer's width.
pub fn in_out(arguments: &Arguments, name: &str) -> Result<Captured, Refusal> {
    match arguments.value(name)? {
        Value::Integer(number) => Ok(Ok(arguments.width.truncate(*number))),
        Value::Pointer(pointer) => Ok(probe(*pointer).map(|()| 0)),
        other => Err(unfit(name, other)),
    }
}

/// An in/out parameter of 64 bits; none for a null pointer.
pub fn wide(arguments: &Arguments, name: &str) -> Result<Captured<Option<u64>>, Refusal> {
    match arguments.get(name) {
        None | Some(Value::Nothing | Value::Pointer(Pointer::Null)) => Ok(Ok(None)),
        Some(Value::Integer(number)) => Ok(Ok(Some(*number as u64))),
        Some(Value::Pointer(pointer)) => Ok(probe(*pointer).map(|()| Some(0))),
        Some(other) => Err(unfit(name, other)),
    }
}

/// A parameter that is only written. A case that says nothing of it passes a good pointer.
pub fn out(arguments: &Arguments, name: &str) -> Result<Captured<()>, Refusal> {
    match arguments.get(name) {
        None | Some(Value::Integer(_)) => Ok(Ok(())),
        Some(Value::Pointer(pointer)) => Ok(probe(*pointer)),
        Some(other) => Err(unfit(name, other)),
    }
}

/// A parameter that is only written and may be null, which is as good as a good pointer.
pub fn optional_out(arguments: &Arguments, name: &str) -> Result<Captured<()>, Refusal> {
    match arguments.get(name) {
        Some(Value::Pointer(Pointer::Null)) => Ok(Ok(())),
        _ => out(arguments, name),
    }
}

/// An array of numbers of a pointer's width; none for a null pointer.
pub fn array(arguments: &Arguments, name: &str) -> Result<Captured<Option<Vec<u64>>>, Refusal> {
    let number = |item: &Value| match item {
        Value::Integer(number) => Ok(arguments.width.truncate(*number)),
        other => Err(unfit(name, other)),
    };
    match arguments.value(name)? {
        Value::Nothing | Value::Pointer(Pointer::Null) => Ok(Ok(None)),
        Value::List(items) => Ok(Ok(Some(items.iter().map(number).collect::<Result<_, _>>()?))),
        Value::Pointer(pointer) => Ok(probe(*pointer).map(|()| Some(Vec::new()))),
        other => Err(unfit(name, other)),
    }
}

/// An array that has to be there: a null pointer is as bad as any other.
pub fn present<T>(array: Captured<Option<T>>) -> Captured<T> {
    array.and_then(|array| array.ok_or(NtStatus::ACCESS_VIOLATION))
}

/// What probing a pointer gives.
pub const fn probe(pointer: Pointer) -> Captured<()> {
    match pointer {
        Pointer::Null | Pointer::Bad => Err(NtStatus::ACCESS_VIOLATION),
        Pointer::Misaligned => Err(NtStatus::new(0x8000_0002)),
        Pointer::Good | Pointer::Buffer(_) | Pointer::Number(_) => Ok(()),
    }
}

/// The types of extended parameters, by number.
const EXTENDED_TYPES: [&str; 8] = [
    "InvalidType",
    "AddressRequirements",
    "NumaNode",
    "PartitionHandle",
    "UserPhysicalHandle",
    "AttributeFlags",
    "ImageMachine",
    "Max",
];

/// The extended parameters of a call; none for a null pointer.
pub fn extended(arguments: &Arguments) -> Result<Option<Vec<ExtendedParameter>>, Refusal> {
    const NAME: &str = "ExtendedParameters";
    match arguments.value(NAME)? {
        Value::Nothing | Value::Pointer(Pointer::Null) => Ok(None),
        Value::List(items) => {
            let parameters = items.iter().map(|item| match item {
                Value::Structure(fields) => extended_parameter(fields, arguments.width),
                other => Err(unfit(NAME, other)),
            });
            parameters.collect::<Result<_, _>>().map(Some)
        }
        other => Err(unfit(NAME, other)),
    }
}

fn extended_parameter(
    fields: &BTreeMap<String, Value>,
    width: Width,
) -> Result<ExtendedParameter, Refusal> {
    let kind = match fields.get("Type") {
        Some(Value::Integer(number)) => *number as u64,
        Some(Value::Text(name)) => {
            let known = name.strip_prefix("MemExtendedParameter");
            let number = EXTENDED_TYPES.iter().position(|kind| Some(*kind) == known);
            number.ok_or_else(|| unfit("Type", &Value::Text(name.clone())))? as u64
        }
        other => return Err(unfit("Type", other.unwrap_or(&Value::Nothing))),
    };
    let field = |name| match fields.get(name) {
        None => Ok(0),
        Some(Value::Integer(number)) => Ok(width.truncate(*number)),
        Some(other) => Err(unfit(name, other)),
    };
    let requirements = AddressRequirements {
        lowest: field("Low")?,
        highest: field("High")?,
        alignment: field("Alignment")?,
    };
    Ok(ExtendedParameter { kind, requirements: Ok(requirements) })
}
