//! A toy system: registers instead of memory.
//!
//! `toy.get` and `toy.set` read and write a register, `toy.fail` answers a status it is told,
//! `toy.later` comes later, `toy.stop` kills the machine, `toy.lie` breaks something that only
//! the end of the case finds.

use std::cell::Cell;
use std::collections::BTreeMap;

use ntmm::NtStatus;
use ntmm_conformance::system::{Answer, Refusal, System, Systems};
use ntmm_conformance::value::{Arguments, Value};
use ntmm_conformance::version::{Layout, Paging};
use ntmm_conformance::vocabulary::Knowledge;

/// Makes toys, and counts them.
pub struct Toys {
    pub made: Cell<u32>,
}

impl Toys {
    pub fn new() -> Self {
        Self { made: Cell::new(0) }
    }
}

impl Systems for Toys {
    fn layout(&self) -> Layout {
        Layout::new(Paging::Amd64)
    }

    fn knows(&self, call: &str) -> Knowledge {
        match call {
            "toy.later" => Knowledge::Later("later calls come later"),
            _ if call.starts_with("toy.") || call.starts_with("mem.") => Knowledge::Known,
            _ => Knowledge::Unknown,
        }
    }

    fn fresh(&self) -> Result<Box<dyn System + '_>, Refusal> {
        self.made.set(self.made.get() + 1);
        Ok(Box::new(Toy { registers: BTreeMap::new(), lied: false }))
    }
}

pub struct Toy {
    registers: BTreeMap<i128, i128>,
    lied: bool,
}

impl System for Toy {
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<Answer, Refusal> {
        let success = Answer::returned(NtStatus::SUCCESS);
        match name {
            "toy.set" => {
                let (at, value) = (arguments.integer("At")?, arguments.integer("Value")?);
                let before = self.registers.insert(at, value).unwrap_or(0);
                Ok(success.with("Before", Value::Integer(before)))
            }
            "toy.get" | "mem.read8" => {
                let at = arguments.integer(if name == "toy.get" { "At" } else { "addr" })?;
                match self.registers.get(&at) {
                    Some(value) => Ok(success.with("value", Value::Integer(*value))),
                    None => Ok(Answer::raised(NtStatus::ACCESS_VIOLATION)),
                }
            }
            "toy.fail" => Ok(Answer::returned(NtStatus::new(arguments.ulong("Status")?))),
            "toy.stop" => Err(Refusal::Stopped("a toy breaks".to_owned())),
            "toy.lie" => {
                self.lied = true;
                Ok(success)
            }
            "teb.read" => Ok(success.with("value", 0x7000_u64)),
            "module.base" => Err(Refusal::Later("toys have no modules".to_owned())),
            _ => Err(Refusal::Unknown(format!("no toy does {name}"))),
        }
    }

    fn finish(&mut self) -> Result<(), Refusal> {
        if self.lied { Err(Refusal::Stopped("a toy lied".to_owned())) } else { Ok(()) }
    }
}
