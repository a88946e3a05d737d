//! NtGetWriteWatch and NtResetWriteWatch.

use ntmm::nt::{GetWriteWatchCall, ResetWriteWatchCall, WriteWatchParameters};
use ntmm_machine::Hardware;

use super::super::Windows;
use super::super::parameters::{in_out, out};
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Value};

const ARRAY: &str = "UserAddressArray";
const COUNT: &str = "EntriesInUserAddressArray";
const GRANULARITY: &str = "Granularity";

/// Entries a case's array has at most.
const LONGEST: u64 = 4096;

impl<M: Hardware> Windows<M> {
    pub(super) fn get_write_watch(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = WriteWatchParameters {
            process: self.process(arguments)?,
            flags: arguments.ulong("Flags")?,
            base: arguments.word("BaseAddress")?,
            size: arguments.word("RegionSize")?,
            // A case gives the entries of an array that can be written.
            array: out(arguments, ARRAY)?,
            count: in_out(arguments, COUNT)?,
            granularity: out(arguments, GRANULARITY)?,
        };
        let mut pages = vec![0; parameters.count.unwrap_or(0).min(LONGEST) as usize];
        let call = GetWriteWatchCall::new(self.caller(arguments), parameters, &mut pages);
        let outcome = self.host.complete_call(call)?;
        let answer = Answer::returned(outcome.status);
        let Some(written) = outcome.output else { return Ok(answer) };
        pages.truncate(written.count as usize);
        let list = pages.into_iter().map(Value::from).collect();
        Ok(answer
            .with(COUNT, written.count)
            .with(ARRAY, Value::List(list))
            .with(GRANULARITY, written.granularity))
    }

    pub(super) fn reset_write_watch(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let process = self.process(arguments)?;
        let (base, size) = (arguments.word("BaseAddress")?, arguments.word("RegionSize")?);
        let call = ResetWriteWatchCall::new(self.caller(arguments), process, base, size);
        Ok(Answer::returned(self.host.complete_call(call)?))
    }
}
