//! The machine a case runs on, and how operations and references are brought to their end on it.

use ntmm::operation::Operation;
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, Engine, EngineStep, NtStatus};
use ntmm_check::audit::{Baseline, Depth, Scratch, audit, audit_teardown};
use ntmm_machine::{
    Clock, Config, Halt, Hardware, Machine, MemoryDisk, NoTrace, Privilege, Simulation,
};
use ntmm_pte::Pages;

use super::processor::{Reference, Referenced, Referrer};
use crate::system::Refusal;

/// Frames of a machine: 16 MiB, a few times what any case commits.
const FRAMES: u64 = 4096;

/// Pages of its paging file: 64 MiB.
const PAGING_FILE: u64 = 16_384;

/// The limits of a process's working set, those of a machine with plenty of memory.
const LIMITS: WorkingSetLimits = WorkingSetLimits::for_memory(u32::MAX);

/// The platform of the manager.
pub type Platform<M> = Machine<M, NoTrace>;

/// A machine with a manager and a paging file.
#[derive(Debug)]
pub struct Host<M: Hardware> {
    simulation: Simulation<M, NoTrace>,
    baseline: Baseline,
}

impl<M: Hardware> Host<M> {
    /// Switches a machine on.
    ///
    /// # Errors
    /// The manager does not boot.
    pub fn boot() -> Result<Self, Refusal> {
        let stopped = |why: String| Refusal::Stopped(why);
        let config = Config::plain(Pages::new(FRAMES));
        let machine = Machine::<M, NoTrace>::new(config, Clock::new(), NoTrace);
        let size = Pages::new(PAGING_FILE);
        let file = machine.attach(Box::new(MemoryDisk::new(size)));
        let simulation = Simulation::new(machine, ntmm::Config::default())
            .map_err(|error| stopped(error.to_string()))?;
        simulation
            .manager()
            .create_paging_file(file, size, size)
            .map_err(|status| stopped(format!("no paging file: {status}")))?;
        let baseline = Baseline::of(simulation.manager());
        Ok(Self { simulation, baseline })
    }

    /// The manager.
    pub fn manager(&self) -> &ntmm::Manager<Platform<M>> {
        self.simulation.manager()
    }

    /// An empty address space.
    ///
    /// # Errors
    /// Memory is short.
    pub fn create_space(&self) -> Result<AddressSpaceId, NtStatus> {
        self.manager().create_address_space(LIMITS)
    }

    /// Steps an operation to its end.
    ///
    /// # Errors
    /// The machine stopped; inside, the status the operation failed with.
    pub fn complete<O: Operation<Platform<M>>>(
        &mut self,
        mut operation: O,
    ) -> Result<Result<O::Output, NtStatus>, Refusal> {
        self.simulation.complete(&mut operation).map_err(stopped)
    }

    /// Steps an operation that never raises to its end.
    ///
    /// # Errors
    /// The machine stopped, or the operation raised nevertheless.
    pub fn complete_call<O: Operation<Platform<M>>>(
        &mut self,
        operation: O,
    ) -> Result<O::Output, Refusal> {
        let raised = |status| Refusal::Stopped(format!("the call raised {status}"));
        self.complete(operation)?.map_err(raised)
    }

    /// Makes references in an address space.
    ///
    /// # Errors
    /// The machine stopped.
    pub fn refer(
        &mut self,
        space: AddressSpaceId,
        references: impl IntoIterator<Item = Reference>,
        privilege: Privilege,
    ) -> Result<Referenced, Refusal> {
        let (referrer, came) = Referrer::new(references, privilege);
        let thread = self.simulation.spawn(Some(space), Box::new(referrer));
        while !self.simulation.has_ended(thread) {
            self.simulation.step().map_err(stopped)?;
        }
        let came = came.borrow().clone();
        Ok(came)
    }

    /// Checks the manager's records.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn audit(&self) -> Result<(), Refusal> {
        audit(self.manager(), &mut Scratch::new(Depth::Sample))
            .map_err(|defect| Refusal::Stopped(defect.to_string()))
    }

    /// Checks that everything was given back, all address spaces having been deleted, handles
    /// closed and files purged from memory.
    ///
    /// # Errors
    /// What was not.
    pub fn audit_teardown(&self) -> Result<(), Refusal> {
        let worked = |engine| self.manager().step_engine(engine) == EngineStep::Worked;
        while worked(Engine::Retire) || worked(Engine::Dereference) {}
        audit_teardown(self.manager(), &self.baseline)
            .map_err(|defect| Refusal::Stopped(defect.to_string()))
    }
}

fn stopped(halt: Halt) -> Refusal {
    Refusal::Stopped(halt.to_string())
}
