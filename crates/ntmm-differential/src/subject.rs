//! The manager as the one who answers, on a simulated machine with a process.

mod squeeze;

use ntmm::nt::{
    AddressRequirements, AllocateParameters, AllocateVirtualMemory, Caller, ExtendedParameter,
    FlushParameters, FlushVirtualMemory, FreeParameters, FreeVirtualMemory, GetWriteWatchCall,
    Information, LockParameters, LockVirtualMemory, Outcome, Privileges, Process, ProcessAccess,
    Profile, ProtectParameters, ProtectVirtualMemory, QueryParameters, QueryVirtualMemory,
    ResetWriteWatchCall, Target, UnlockVirtualMemory, WriteWatchParameters,
};
use ntmm::operation::Operation;
use ntmm::virtual_memory::{ReadMemory, WriteMemory};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, DeleteAddressSpace, Engine, EngineStep, Manager, NtStatus};
use ntmm_check::audit::{Baseline, Depth, Scratch, audit, audit_teardown};
use ntmm_machine::{Clock, Config, Hardware, Machine, MemoryDisk, NoTrace, Simulation};
use ntmm_pte::{Pages, Va};

use crate::call::{
    Answer, Basic, Call, Handle, Pointer, Privilege, Region, Requirements, Touch, Written,
};
use crate::model::numbers::{COMMIT, DECOMMIT, GUARD, NOCACHE, PAGE, READWRITE, RELEASE};
use crate::rules::Version;
use crate::sabotage::Sabotage;

/// Frames of the machine: many times what the processes of a run touch.
const FRAMES: u64 = 4096;

/// Pages of its paging file, which is there for the commitment.
const PAGING_FILE: u64 = 65_536;

/// Most addresses of written pages that are asked for at once.
const MOST_WRITTEN: usize = 4096;

/// The platform of the manager.
pub(crate) type Platform<M> = Machine<M, NoTrace>;

/// Why a machine cannot go on.
pub(crate) type Stopped = String;

/// A machine with a manager.
#[derive(Debug)]
pub(crate) struct Host<M: Hardware> {
    simulation: Simulation<M, NoTrace>,
    baseline: Baseline,
    words: Vec<u64>,
}

/// A process on it, which makes calls.
#[derive(Debug)]
pub(crate) struct Subject<'h, M: Hardware> {
    host: &'h mut Host<M>,
    space: AddressSpaceId,
    caller: Caller,
    sabotage: Option<Sabotage>,
    has_leaked: bool,
}

impl<M: Hardware> Host<M> {
    /// Switches a machine on.
    pub(crate) fn boot() -> Result<Self, Stopped> {
        let config = Config::plain(Pages::new(FRAMES));
        let machine = Machine::<M, NoTrace>::new(config, Clock::new(), NoTrace);
        let size = Pages::new(PAGING_FILE);
        let file = machine.attach(Box::new(MemoryDisk::new(size)));
        let simulation =
            Simulation::new(machine, ntmm::Config::default()).map_err(|error| error.to_string())?;
        simulation
            .manager()
            .create_paging_file(file, size, size)
            .map_err(|status| format!("no paging file: {status}"))?;
        let baseline = Baseline::of(simulation.manager());
        Ok(Self { simulation, baseline, words: vec![0; MOST_WRITTEN] })
    }

    /// Starts a process.
    pub(crate) fn process(
        &mut self,
        version: Version,
        sabotage: Option<Sabotage>,
    ) -> Result<Subject<'_, M>, Stopped> {
        let space = self.create_space()?;
        let caller = Caller::program::<M>(version.profile());
        Ok(Subject { host: self, space, caller, sabotage, has_leaked: false })
    }

    /// An empty address space.
    pub(crate) fn create_space(&self) -> Result<AddressSpaceId, Stopped> {
        const LIMITS: WorkingSetLimits = WorkingSetLimits::for_memory(u32::MAX);
        let space = self.manager().create_address_space(LIMITS);
        space.map_err(|status| format!("no process: {status}"))
    }

    /// The manager.
    pub(crate) fn manager(&self) -> &Manager<Platform<M>> {
        self.simulation.manager()
    }

    /// Steps an operation that does not raise to its end.
    pub(crate) fn complete<O: Operation<Platform<M>>>(
        &mut self,
        mut operation: O,
    ) -> Result<O::Output, Stopped> {
        self.simulation
            .complete(&mut operation)
            .map_err(|halt| halt.to_string())?
            .map_err(|status| format!("the call raised {status}"))
    }

    /// Checks the manager's records as they are.
    pub(crate) fn audit_records(&self) -> Result<(), Stopped> {
        let mut scratch = Scratch::new(Depth::Sample);
        audit(self.manager(), &mut scratch).map_err(|defect| defect.to_string())
    }

    /// Checks the manager's records, and that all memory has come back.
    pub(crate) fn audit(&mut self) -> Result<(), Stopped> {
        // Frames of processes that have ended are free when their transfers have.
        self.simulation.run().map_err(|halt| halt.to_string())?;
        let manager = self.manager();
        while manager.step_engine(Engine::Retire) == EngineStep::Worked {}
        self.audit_records()?;
        audit_teardown(manager, &self.baseline).map_err(|defect| defect.to_string())
    }
}

fn captured(pointer: Pointer) -> Result<u64, NtStatus> {
    pointer.ok_or(NtStatus::ACCESS_VIOLATION)
}

impl<M: Hardware> Subject<'_, M> {
    /// Makes a call.
    pub(crate) fn call(&mut self, call: &Call) -> Result<Answer, Stopped> {
        let mut answer = self.answer(call)?;
        if let Some(sabotage) = self.sabotage {
            self.break_it(sabotage, call, &mut answer)?;
        }
        Ok(answer)
    }

    /// Checks the manager's records as they are.
    pub(crate) fn audit(&self) -> Result<(), Stopped> {
        self.host.audit_records()
    }

    /// Ends the process.
    pub(crate) fn end(mut self) -> Result<(), Stopped> {
        let space = self.space;
        self.complete(DeleteAddressSpace::new(space)).map(|_| ())
    }

    fn complete<O: Operation<Platform<M>>>(&mut self, operation: O) -> Result<O::Output, Stopped> {
        self.host.complete(operation)
    }

    fn process(&self, handle: Handle) -> Process {
        match handle {
            Handle::Current => Ok(Target::current(self.space)),
            Handle::WithoutRights => {
                Ok(Target { space: self.space, access: ProcessAccess::empty() })
            }
            Handle::Closed => Err(NtStatus::INVALID_HANDLE),
            Handle::NoProcess => Err(NtStatus::OBJECT_TYPE_MISMATCH),
            Handle::Ended => Err(NtStatus::PROCESS_IS_TERMINATING),
        }
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Stopped> {
        match *call {
            Call::Allocate { handle, base, zero_bits, size, kind, protection } => {
                let parameters = self.allocation(handle, base, size, kind, protection);
                let parameters = AllocateParameters { zero_bits, ..parameters };
                let call = AllocateVirtualMemory::new(self.caller, parameters);
                self.complete(call).map(of_range)
            }
            Call::AllocateExtended { handle, base, size, kind, protection, requirements } => {
                let parameters = self.allocation(handle, base, size, kind, protection);
                let extended: Vec<_> = requirements.iter().map(extended).collect();
                let count = extended.len() as u64;
                let given = Some(&extended[..]);
                let call = AllocateVirtualMemory::extended(self.caller, parameters, given, count);
                self.complete(call).map(of_range)
            }
            Call::Free { handle, base, size, kind } => {
                let process = self.process(handle);
                let (base, size) = (captured(base), captured(size));
                let parameters = FreeParameters { process, base, size, kind };
                self.complete(FreeVirtualMemory::new(self.caller, parameters)).map(of_range)
            }
            Call::Protect { handle, base, size, protection } => {
                self.protect(handle, base, size, protection)
            }
            Call::Query { handle, address } => self.query(handle, address, Class::Basic),
            Call::QueryRegion { handle, address } => self.query(handle, address, Class::Region),
            Call::GetWriteWatch { handle, flags, base, size, count } => {
                self.get_write_watch(handle, flags, base, size, count)
            }
            Call::ResetWriteWatch { handle, base, size } => {
                let call = ResetWriteWatchCall::new(self.caller, self.process(handle), base, size);
                self.complete(call).map(|status| Answer::status(status.code()))
            }
            Call::Lock { handle, base, size, kind, privilege } => {
                let parameters = self.lock_parameters(handle, base, size, kind);
                let call = LockVirtualMemory::new(self.caller_with(privilege), parameters);
                self.complete(call).map(of_range)
            }
            Call::Unlock { handle, base, size, kind, privilege } => {
                let parameters = self.lock_parameters(handle, base, size, kind);
                let call = UnlockVirtualMemory::new(self.caller_with(privilege), parameters);
                self.complete(call).map(of_range)
            }
            Call::Flush { handle, base, size } => {
                let process = self.process(handle);
                let (base, size, io_status) = (captured(base), captured(size), Ok(()));
                let parameters = FlushParameters { process, base, size, io_status };
                self.complete(FlushVirtualMemory::new(self.caller, parameters)).map(of_range)
            }
            Call::Touch { address, how } => self.touch(address, how),
            Call::Squeeze => self.host.squeeze(self.space).map(|()| Answer::status(0)),
        }
    }

    fn allocation(
        &self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
        protection: u32,
    ) -> AllocateParameters {
        let process = self.process(handle);
        let (base, size) = (captured(base), captured(size));
        AllocateParameters { process, base, zero_bits: 0, size, kind, protection }
    }

    fn lock_parameters(
        &self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
    ) -> LockParameters {
        let process = self.process(handle);
        LockParameters { process, base: captured(base), size: captured(size), kind }
    }

    fn caller_with(&self, privilege: Privilege) -> Caller {
        let privileges = match privilege {
            Privilege::Held => Privileges::LOCK_MEMORY,
            Privilege::Missing => Privileges::empty(),
        };
        Caller { privileges, ..self.caller }
    }

    fn protect(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        protection: u32,
    ) -> Result<Answer, Stopped> {
        let parameters = ProtectParameters {
            process: self.process(handle),
            base: captured(base),
            size: captured(size),
            protection,
            old: Ok(()),
        };
        let ended = self.complete(ProtectVirtualMemory::new(self.caller, parameters))?;
        let written = match (ended.output, ended.old) {
            (Some(range), Some(old)) => Written::Protected(range.base, range.size, old),
            (Some(range), None) => Written::Range(range.base, range.size),
            (None, Some(old)) => Written::OldProtection(old),
            (None, None) => Written::Nothing,
        };
        Ok(Answer { status: ended.status.code(), written })
    }

    fn query(&mut self, handle: Handle, address: u64, class: Class) -> Result<Answer, Stopped> {
        let parameters = QueryParameters {
            process: self.process(handle),
            address,
            class: class as u32,
            buffer: Ok(()),
            length: 0x100,
            return_length: Ok(()),
        };
        let call = QueryVirtualMemory::new(self.caller, parameters, &mut []);
        let outcome = self.complete(call)?;
        let written = match outcome.information {
            None => Written::Nothing,
            Some(Information::Basic(basic)) => Written::Basic(Basic {
                base: basic.base,
                allocation_base: basic.allocation_base,
                allocation_protection: basic.allocation_protection,
                size: basic.size,
                state: basic.state,
                protection: basic.protection,
                kind: basic.kind,
            }),
            Some(Information::Region(region)) => Written::Region(Region {
                base: region.allocation_base,
                protection: region.allocation_protection,
                kind: region.kind,
                size: region.size,
                committed: region.committed,
            }),
            Some(other) => return Err(format!("the query tells {other:?}")),
        };
        Ok(Answer { status: outcome.status.code(), written })
    }

    fn get_write_watch(
        &mut self,
        handle: Handle,
        flags: u32,
        base: u64,
        size: u64,
        count: Pointer,
    ) -> Result<Answer, Stopped> {
        let parameters = WriteWatchParameters {
            process: self.process(handle),
            flags,
            base,
            size,
            array: Ok(()),
            count: captured(count),
            granularity: Ok(()),
        };
        let mut words = std::mem::take(&mut self.host.words);
        let call = GetWriteWatchCall::new(self.caller, parameters, &mut words);
        let Outcome { status, output } = self.complete(call)?;
        let written = match output {
            None => Written::Nothing,
            Some(pages) => Written::Pages(words[..pages.count as usize].to_vec()),
        };
        self.host.words = words;
        Ok(Answer { status: status.code(), written })
    }

    fn touch(&mut self, address: u64, how: Touch) -> Result<Answer, Stopped> {
        let (space, at) = (self.space, Va::new(address));
        let mut byte = [0];
        let accessed = match how {
            Touch::Read => self.complete(ReadMemory::new(space, at, &mut byte))?,
            Touch::Write => self.complete(WriteMemory::new(space, at, &[1]))?,
        };
        let status = accessed.status.code();
        let written = match how {
            Touch::Read if status == 0 => Written::Byte(byte[0]),
            _ => Written::Nothing,
        };
        Ok(Answer { status, written })
    }

    /// Breaks something behind a call that has been answered.
    fn break_it(
        &mut self,
        sabotage: Sabotage,
        call: &Call,
        answer: &mut Answer,
    ) -> Result<(), Stopped> {
        let handle = Handle::Current;
        let silent = match (sabotage, *call, &answer.written) {
            (Sabotage::KeptPage, Call::Free { kind: DECOMMIT, .. }, Written::Range(base, size))
                if *size > PAGE =>
            {
                let base = Some(base + size - PAGE);
                let (zero_bits, kind, protection) = (0, COMMIT, READWRITE);
                let size = Some(PAGE);
                Call::Allocate { handle, base, zero_bits, size, kind, protection }
            }
            (Sabotage::StickyGuard, Call::Touch { address, .. }, _)
                if answer.status == NtStatus::GUARD_PAGE_VIOLATION.code() =>
            {
                let Answer { written: Written::Basic(basic), .. } =
                    self.query(handle, address, Class::Basic)?
                else {
                    return Ok(());
                };
                let protection = basic.protection & !NOCACHE | GUARD;
                Call::Protect { handle, base: Some(address), size: Some(1), protection }
            }
            (Sabotage::LostWrite, Call::Touch { address, how: Touch::Write }, _) => {
                Call::ResetWriteWatch { handle, base: address, size: 1 }
            }
            (Sabotage::LostStore, Call::Touch { address, how: Touch::Write }, _)
                if answer.status == 0 =>
            {
                let store = WriteMemory::new(self.space, Va::new(address), &[0]);
                return self.complete(store).map(drop);
            }
            (Sabotage::LostLock, Call::Lock { kind, .. }, Written::Range(base, _)) => {
                let (base, size, privilege) = (Some(*base), Some(PAGE), Privilege::Held);
                Call::Unlock { handle, base, size, kind, privilege }
            }
            (Sabotage::LostBack, Call::Free { kind: RELEASE, .. }, Written::Range(base, size)) => {
                Call::Free { handle, base: Some(base + size), size: Some(0), kind: RELEASE }
            }
            (Sabotage::LeakedProcess, Call::Free { kind: RELEASE, .. }, Written::Range(..))
                if !self.has_leaked =>
            {
                self.has_leaked = true;
                return self.host.create_space().map(drop);
            }
            (Sabotage::WrongStatus, _, _)
                if answer.status == NtStatus::FREE_VM_NOT_AT_BASE.code() =>
            {
                answer.status = NtStatus::UNABLE_TO_FREE_VM.code();
                return Ok(());
            }
            (Sabotage::ForgottenOldProtection, _, Written::OldProtection(_)) => {
                answer.written = Written::Nothing;
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.answer(&silent).map(|_| ())
    }
}

impl Version {
    /// The manager's name for it.
    pub(crate) const fn profile(self) -> Profile {
        match self {
            Self::Legacy => Profile::Legacy,
            Self::Modern => Profile::Modern,
        }
    }
}

/// Information classes.
#[derive(Clone, Copy)]
enum Class {
    Basic = 0,
    Region = 3,
}

fn extended(requirements: &Requirements) -> ExtendedParameter {
    let Requirements { lowest, highest, alignment } = *requirements;
    ExtendedParameter {
        kind: 1,
        requirements: Ok(AddressRequirements { lowest, highest, alignment }),
    }
}

fn of_range(outcome: Outcome) -> Answer {
    let written = match outcome.output {
        Some(range) => Written::Range(range.base, range.size),
        None => Written::Nothing,
    };
    Answer { status: outcome.status.code(), written }
}
