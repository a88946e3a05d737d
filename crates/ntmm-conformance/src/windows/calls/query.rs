//! NtQueryVirtualMemory.

use ntmm::nt::{Information, QueryOutcome, QueryParameters, QueryVirtualMemory};
use ntmm_machine::Hardware;

use super::super::Windows;
use super::super::parameters::{optional_out, out};
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Value, unfit};

/// The information classes, by number.
const CLASSES: [&str; 11] = [
    "MemoryBasicInformation",
    "MemoryWorkingSetInformation",
    "MemoryMappedFilenameInformation",
    "MemoryRegionInformation",
    "MemoryWorkingSetExInformation",
    "MemorySharedCommitInformation",
    "MemoryImageInformation",
    "MemoryRegionInformationEx",
    "MemoryPrivilegedBasicInformation",
    "MemoryEnclaveImageInformation",
    "MemoryBasicInformationCapped",
];

/// Most words a case's buffer is taken to have.
const BUFFER_WORDS: u64 = 0x10000;

impl<M: Hardware> Windows<M> {
    pub(super) fn query(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let class = class_of(arguments)?;
        let length = arguments.word("MemoryInformationLength")?;
        let mut words = words_of(class, length, arguments)?;
        let parameters = QueryParameters {
            process: self.process(arguments)?,
            address: arguments.word("BaseAddress")?,
            class,
            buffer: out(arguments, "MemoryInformation")?,
            length,
            return_length: optional_out(arguments, "ReturnLength")?,
        };
        let call = QueryVirtualMemory::new(self.caller(arguments), parameters, &mut words);
        let outcome = self.host.complete_call(call)?;
        Ok(answer_of(outcome, &words))
    }
}

fn class_of(arguments: &Arguments) -> Result<u32, Refusal> {
    const NAME: &str = "MemoryInformationClass";
    match arguments.value(NAME)? {
        Value::Text(text) => {
            let number = CLASSES.iter().position(|class| class == text);
            let unknown = || unfit(NAME, &Value::Text(text.clone()));
            Ok(number.ok_or_else(unknown)? as u32)
        }
        _ => arguments.ulong(NAME),
    }
}

/// The words of the buffer that hold a list: entries of a working set behind the count, or
/// addresses and attributes in turn.
fn words_of(class: u32, length: u64, arguments: &Arguments) -> Result<Vec<u64>, Refusal> {
    const WORKING_SET: u32 = 1;
    const WORKING_SET_EX: u32 = 4;
    const NAME: &str = "VirtualAddresses";
    let room = (length / arguments.width.bytes()).min(BUFFER_WORDS) as usize;
    match class {
        WORKING_SET => Ok(vec![0; room.saturating_sub(1)]),
        WORKING_SET_EX => {
            let Value::List(addresses) = arguments.value(NAME)? else {
                return Err(unfit(NAME, arguments.value(NAME)?));
            };
            let mut words = Vec::new();
            for address in addresses {
                let Value::Integer(address) = address else {
                    return Err(unfit(NAME, address));
                };
                words.extend([arguments.width.truncate(*address), 0]);
            }
            words.truncate(room / 2 * 2);
            Ok(words)
        }
        _ => Ok(Vec::new()),
    }
}

fn answer_of(outcome: QueryOutcome, words: &[u64]) -> Answer {
    let answer = Answer::returned(outcome.status);
    let answer = match outcome.return_length {
        Some(length) => answer.with("ReturnLength", length),
        None => answer,
    };
    let Some(information) = outcome.information else {
        return answer;
    };
    match information {
        Information::Basic(basic) => answer
            .with("BaseAddress", basic.base)
            .with("AllocationBase", basic.allocation_base)
            .with("AllocationProtect", basic.allocation_protection)
            .with("RegionSize", basic.size)
            .with("State", basic.state)
            .with("Protect", basic.protection)
            .with("Type", basic.kind),
        Information::Region(region) => answer
            .with("AllocationBase", region.allocation_base)
            .with("AllocationProtect", region.allocation_protection)
            .with("RegionType", region.kind)
            .with("RegionSize", region.size)
            .with("CommitSize", region.committed),
        Information::Image(image) => answer
            .with("ImageBase", image.base)
            .with("SizeOfImage", image.size)
            .with("ImageFlags", image.flags)
            .with("ImagePartialMap", image.flags & 1)
            .with("ImageNotExecutable", image.flags >> 1 & 1),
        Information::SharedCommit(bytes) => answer.with("CommitSize", bytes),
        Information::WorkingSet { count, stored } => {
            let entries = words.iter().take(stored as usize).copied().map(Value::from);
            answer.with("NumberOfEntries", count).with("Entries", Value::List(entries.collect()))
        }
        Information::WorkingSetEx => attributes(answer, words),
    }
}

/// The fields of the attributes of pages, each as a list (spec API 7.4).
fn attributes(mut answer: Answer, words: &[u64]) -> Answer {
    for (name, shift, bits) in [
        ("Valid", 0, 1),
        ("ShareCount", 1, 3),
        ("Win32Protection", 4, 11),
        ("Shared", 15, 1),
        ("Node", 16, 6),
        ("Locked", 22, 1),
        ("LargePage", 23, 1),
        ("Bad", 31, 1),
    ] {
        let field = |pair: &[u64]| pair.get(1).map_or(0, |word| word >> shift & ((1 << bits) - 1));
        let values = words.chunks(2).map(|pair| Value::from(field(pair)));
        answer = answer.with(name, Value::List(values.collect()));
    }
    answer
}
