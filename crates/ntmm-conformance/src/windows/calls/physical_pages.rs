//! The calls on physical pages of a process.

use ntmm::nt::{
    AllocatePagesParameters, AllocateUserPhysicalPages, FreePagesParameters, FreeUserPhysicalPages,
    MapAddresses, MapPagesParameters, MapUserPhysicalPages,
};
use ntmm_machine::Hardware;
use ntmm_pte::Pfn;

use super::super::Windows;
use super::super::parameters::{array, in_out, out, present};
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Value};

const COUNT: &str = "NumberOfPages";
const FRAMES: &str = "UserPfnArray";

/// Entries a case's array has at most.
const LONGEST: u64 = 4096;

impl<M: Hardware> Windows<M> {
    pub(super) fn allocate_physical_pages(
        &mut self,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        let parameters = AllocatePagesParameters {
            process: self.process(arguments)?,
            count: in_out(arguments, COUNT)?,
            array: out(arguments, FRAMES)?,
        };
        let mut room = vec![Pfn::new(0); parameters.count.unwrap_or(0).min(LONGEST) as usize];
        let call = AllocateUserPhysicalPages::new(self.caller(arguments), parameters, &mut room);
        let outcome = self.host.complete_call(call)?;
        let answer = Answer::returned(outcome.status);
        let Some(granted) = outcome.output else { return Ok(answer) };
        let numbers = room.iter().take(granted as usize).map(|pfn| Value::from(pfn.get()));
        Ok(answer.with(COUNT, granted).with(FRAMES, Value::List(numbers.collect())))
    }

    pub(super) fn free_physical_pages(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let frames = present(array(arguments, FRAMES)?);
        let parameters = FreePagesParameters {
            process: self.process(arguments)?,
            count: in_out(arguments, COUNT)?,
            array: frames.as_deref().map_err(|&status| status),
        };
        let call = FreeUserPhysicalPages::new(self.caller(arguments), parameters);
        let outcome = self.host.complete_call(call)?;
        let answer = Answer::returned(outcome.status);
        Ok(match outcome.output {
            Some(freed) => answer.with(COUNT, freed),
            None => answer,
        })
    }

    pub(super) fn map_physical_pages(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let addresses = MapAddresses::From(arguments.word("VirtualAddress")?);
        self.map_at(arguments, addresses)
    }

    pub(super) fn scatter_physical_pages(
        &mut self,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        let addresses = present(array(arguments, "VirtualAddresses")?);
        let addresses = addresses.as_deref().map_err(|&status| status);
        self.map_at(arguments, MapAddresses::Scattered(addresses))
    }

    fn map_at(
        &mut self,
        arguments: &Arguments,
        addresses: MapAddresses<'_>,
    ) -> Result<Answer, Refusal> {
        let frames = array(arguments, FRAMES)?;
        let frames = frames.as_ref().map(Option::as_deref).map_err(|&status| status);
        let parameters = MapPagesParameters { addresses, count: arguments.word(COUNT)?, frames };
        let space = self.processes.current();
        let call = MapUserPhysicalPages::new(self.caller(arguments), space, parameters);
        Ok(Answer::returned(self.host.complete_call(call)?))
    }
}
