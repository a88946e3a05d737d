//! NtReadVirtualMemory and NtWriteVirtualMemory.

use ntmm::nt::{TransferParameters, TransferVirtualMemory};
use ntmm::virtual_memory::{AllocationType, Placement};
use ntmm_machine::Hardware;
use ntmm_pte::Protection;

use super::super::Windows;
use super::super::parameters::optional_out;
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Pointer, Value, unfit};

/// The parameter that takes the number of bytes.
const DONE: &str = "NumberOfBytesTransferred";

impl<M: Hardware> Windows<M> {
    pub(super) fn read(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.transfer(arguments)?;
        let call = TransferVirtualMemory::read(self.caller(arguments), parameters);
        self.transferred(arguments, call)
    }

    pub(super) fn write(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.transfer(arguments)?;
        let call = TransferVirtualMemory::write(self.caller(arguments), parameters);
        self.transferred(arguments, call)
    }

    fn transfer(&mut self, arguments: &Arguments) -> Result<TransferParameters, Refusal> {
        Ok(TransferParameters {
            process: self.process(arguments)?,
            base: arguments.word("BaseAddress")?,
            local: self.processes.current(),
            buffer: self.buffer(arguments, "Buffer")?,
            size: arguments.word("Size")?,
            done: optional_out(arguments, DONE)?,
        })
    }

    /// The address of a buffer: a number, or one that is made for the call.
    fn buffer(&mut self, arguments: &Arguments, name: &str) -> Result<u64, Refusal> {
        match arguments.value(name)? {
            Value::Integer(address) => Ok(arguments.width.truncate(*address)),
            Value::Pointer(Pointer::Null) => Ok(0),
            Value::Pointer(Pointer::Bad) => Ok(arguments.width.truncate(-1)),
            Value::Pointer(Pointer::Buffer(bytes)) => self.own_memory(
                Placement::Highest,
                *bytes,
                AllocationType::ReserveAndCommit,
                Protection::READWRITE,
            ),
            other => Err(unfit(name, other)),
        }
    }

    fn transferred(
        &mut self,
        arguments: &Arguments,
        call: TransferVirtualMemory,
    ) -> Result<Answer, Refusal> {
        let outcome = self.host.complete_call(call)?;
        let answer = Answer::returned(outcome.status);
        let is_wanted = arguments.get(DONE) != Some(&Value::Pointer(Pointer::Null));
        Ok(match outcome.done {
            Some(bytes) if is_wanted => answer.with(DONE, bytes),
            _ => answer,
        })
    }
}
