//! The Nt calls: arguments captured, handles resolved, outcomes as answers.

mod physical_pages;
mod query;
mod sections;
mod set_information;
mod transfer;
mod write_watch;

use ntmm::nt::{
    AllocateParameters, AllocateVirtualMemory, Caller, FlushParameters, FlushVirtualMemory,
    FreeParameters, FreeVirtualMemory, LockParameters, LockVirtualMemory, Outcome, PointerWidth,
    Process, ProtectParameters, ProtectVirtualMemory, Target, UnlockVirtualMemory,
};
use ntmm::{NtStatus, ProcessorMode};
use ntmm_machine::Hardware;

use super::Windows;
use super::handles::Object;
use super::parameters::{extended, in_out, out};
use crate::case::CallerMode;
use crate::system::{Answer, Refusal};
use crate::value::Arguments;

impl<M: Hardware> Windows<M> {
    pub(super) fn nt_call(&mut self, name: &str, arguments: &Arguments) -> Result<Answer, Refusal> {
        match name {
            "NtAllocateUserPhysicalPages" => self.allocate_physical_pages(arguments),
            "NtAllocateVirtualMemory" => self.allocate(arguments),
            "NtAllocateVirtualMemoryEx" => self.allocate_extended(arguments),
            "NtClose" => self.close(arguments),
            "NtFlushVirtualMemory" => self.flush(arguments),
            "NtFreeUserPhysicalPages" => self.free_physical_pages(arguments),
            "NtFreeVirtualMemory" => self.free(arguments),
            "NtGetWriteWatch" => self.get_write_watch(arguments),
            "NtLockVirtualMemory" => self.lock(arguments),
            "NtMapUserPhysicalPages" => self.map_physical_pages(arguments),
            "NtMapUserPhysicalPagesScatter" => self.scatter_physical_pages(arguments),
            "NtProtectVirtualMemory" => self.protect(arguments),
            "NtQueryVirtualMemory" => self.query(arguments),
            "NtReadVirtualMemory" => self.read(arguments),
            "NtResetWriteWatch" => self.reset_write_watch(arguments),
            "NtSetInformationVirtualMemory" => self.set_information(arguments),
            "NtUnlockVirtualMemory" => self.unlock(arguments),
            "NtWriteVirtualMemory" => self.write(arguments),
            _ => Err(Refusal::Unknown(format!("nobody makes the call {name}"))),
        }
    }

    pub(super) fn caller(&self, arguments: &Arguments) -> Caller {
        Caller {
            profile: self.profile,
            mode: match arguments.mode {
                CallerMode::User => ProcessorMode::User,
                CallerMode::Kernel => ProcessorMode::Kernel,
            },
            privileges: self.privileges,
            width: PointerWidth::native::<M>(),
        }
    }

    /// The process that the argument ProcessHandle names; -1 is the caller's own.
    pub(super) fn process(&self, arguments: &Arguments) -> Result<Process, Refusal> {
        let handle = arguments.word("ProcessHandle")?;
        if handle == arguments.width.truncate(-1) {
            return Ok(Ok(Target::current(self.processes.current())));
        }
        Ok(self.handles.process(handle))
    }

    fn close(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let closed = self.close_handle(arguments.word("Handle")?);
        Ok(Answer::returned(closed.err().unwrap_or(NtStatus::SUCCESS)))
    }

    /// Closes a handle. A section goes with the last one, and so does its name.
    pub(super) fn close_handle(&mut self, handle: u64) -> Result<(), NtStatus> {
        if let Object::Section(target) = self.handles.close(handle)?
            && !self.handles.name_section(target.section)
        {
            self.names.forget(target.section);
            self.host.manager().close_section(target.section)?;
        }
        Ok(())
    }

    fn allocation(
        &self,
        arguments: &Arguments,
        zero_bits: u64,
        protection: &str,
    ) -> Result<AllocateParameters, Refusal> {
        Ok(AllocateParameters {
            process: self.process(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            zero_bits,
            size: in_out(arguments, "RegionSize")?,
            kind: arguments.ulong("AllocationType")?,
            protection: arguments.ulong(protection)?,
        })
    }

    fn allocate(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let zero_bits = arguments.word("ZeroBits")?;
        let parameters = self.allocation(arguments, zero_bits, "Protect")?;
        let call = AllocateVirtualMemory::new(self.caller(arguments), parameters);
        let outcome = self.host.complete_call(call)?;
        self.note_protection(arguments, outcome.output, parameters.protection)?;
        Ok(range_answer(outcome, "RegionSize"))
    }

    fn allocate_extended(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.allocation(arguments, 0, "PageProtection")?;
        let extended = extended(arguments)?;
        let count = arguments.ulong("ExtendedParameterCount")?;
        let call = AllocateVirtualMemory::extended(
            self.caller(arguments),
            parameters,
            extended.as_deref(),
            count.into(),
        );
        let outcome = self.host.complete_call(call)?;
        self.note_protection(arguments, outcome.output, parameters.protection)?;
        Ok(range_answer(outcome, "RegionSize"))
    }

    fn free(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = FreeParameters {
            process: self.process(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            size: in_out(arguments, "RegionSize")?,
            kind: arguments.ulong("FreeType")?,
        };
        let call = FreeVirtualMemory::new(self.caller(arguments), parameters);
        Ok(range_answer(self.host.complete_call(call)?, "RegionSize"))
    }

    fn protect(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const SIZE: &str = "NumberOfBytesToProtect";
        let parameters = ProtectParameters {
            process: self.process(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            size: in_out(arguments, SIZE)?,
            protection: arguments.ulong("NewAccessProtection")?,
            old: out(arguments, "OldAccessProtection")?,
        };
        let call = ProtectVirtualMemory::new(self.caller(arguments), parameters);
        let ended = self.host.complete_call(call)?;
        self.note_protection(arguments, ended.output, parameters.protection)?;
        let mut answer = Answer::returned(ended.status);
        if let Some(range) = ended.output {
            answer = answer.with("BaseAddress", range.base).with(SIZE, range.size);
        }
        if let Some(old) = ended.old {
            answer = answer.with("OldAccessProtection", old);
        }
        Ok(answer)
    }
}

impl<M: Hardware> Windows<M> {
    fn locking(&self, arguments: &Arguments, size: &str) -> Result<LockParameters, Refusal> {
        Ok(LockParameters {
            process: self.process(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            size: in_out(arguments, size)?,
            kind: arguments.ulong("MapType")?,
        })
    }

    fn lock(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const SIZE: &str = "NumberOfBytesToLock";
        let parameters = self.locking(arguments, SIZE)?;
        let call = LockVirtualMemory::new(self.caller(arguments), parameters);
        Ok(range_answer(self.host.complete_call(call)?, SIZE))
    }

    fn unlock(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const SIZE: &str = "NumberOfBytesToUnlock";
        let parameters = self.locking(arguments, SIZE)?;
        let call = UnlockVirtualMemory::new(self.caller(arguments), parameters);
        Ok(range_answer(self.host.complete_call(call)?, SIZE))
    }

    fn flush(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = FlushParameters {
            process: self.process(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            size: in_out(arguments, "RegionSize")?,
            io_status: out(arguments, "IoStatus")?,
        };
        let call = FlushVirtualMemory::new(self.caller(arguments), parameters);
        Ok(range_answer(self.host.complete_call(call)?, "RegionSize"))
    }
}

/// The answer of a call that writes a range back.
fn range_answer(outcome: Outcome, size: &str) -> Answer {
    let answer = Answer::returned(outcome.status);
    match outcome.output {
        Some(range) => answer.with("BaseAddress", range.base).with(size, range.size),
        None => answer,
    }
}
