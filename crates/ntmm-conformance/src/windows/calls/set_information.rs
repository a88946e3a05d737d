//! NtSetInformationVirtualMemory.

use ntmm::NtStatus;
use ntmm::nt::{Captured, MemoryRange, SetInformationParameters, SetInformationVirtualMemory};
use ntmm_machine::Hardware;

use super::super::Windows;
use super::super::parameters::probe;
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Pointer, Value, unfit};

const CLASS: &str = "VmInformationClass";
const RANGES: &str = "VirtualAddresses";
const INFORMATION: &str = "VmInformation";

impl<M: Hardware> Windows<M> {
    pub(super) fn set_information(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let ranges = ranges(arguments)?;
        let parameters = SetInformationParameters {
            process: self.process(arguments)?,
            class: match arguments.value(CLASS)? {
                Value::Text(name) if name == "VmPrefetchInformation" => 0,
                _ => arguments.ulong(CLASS)?,
            },
            count: arguments.word("NumberOfEntries")?,
            ranges: ranges.as_deref().map_err(|&status| status),
            information: information(arguments)?,
            length: arguments.ulong("VmInformationLength")?.into(),
        };
        let call = SetInformationVirtualMemory::new(self.caller(arguments), parameters);
        Ok(Answer::returned(self.host.complete_call(call)?))
    }
}

/// The information: a ULONG, or the pointer to one.
fn information(arguments: &Arguments) -> Result<Option<Captured<u32>>, Refusal> {
    match arguments.value(INFORMATION)? {
        Value::Pointer(Pointer::Null) => Ok(None),
        Value::Pointer(Pointer::Number(number)) => Ok(Some(Ok(*number))),
        Value::Pointer(pointer) => Ok(Some(probe(*pointer).map(|()| 0))),
        _ => arguments.ulong(INFORMATION).map(|number| Some(Ok(number))),
    }
}

/// The ranges, each a list of its address and its size.
fn ranges(arguments: &Arguments) -> Result<Captured<Vec<MemoryRange>>, Refusal> {
    let word = |number: &i128| arguments.width.truncate(*number);
    let range = |item: &Value| match item {
        Value::List(pair) => match pair.as_slice() {
            [Value::Integer(base), Value::Integer(size)] => Ok((word(base), word(size))),
            _ => Err(unfit(RANGES, item)),
        },
        _ => Err(unfit(RANGES, item)),
    };
    match arguments.value(RANGES)? {
        Value::List(items) => Ok(Ok(items.iter().map(range).collect::<Result<_, _>>()?)),
        Value::Pointer(pointer) => Ok(probe(*pointer).map(|()| Vec::new())),
        Value::Nothing => Ok(Err(NtStatus::ACCESS_VIOLATION)),
        other => Err(unfit(RANGES, other)),
    }
}
