//! The workload that every host can run, on simulated machines.
//!
//! [`run_on_simulator`] carries out the requests of [`ntmm_workload`] as a process would see them
//! done: calls are the Nt calls of [`ntmm::nt`], loads and stores go through translation buffer,
//! walker and page faults. A kernel that runs the same seeds must come to the same outcomes, as must any other
//! simulated machine.

use std::cell::RefCell;
use std::rc::Rc;

use ntmm::address_space::AddressSpaceId;
use ntmm::fault::Fault;
use ntmm::nt::{
    AllocateParameters, AllocateVirtualMemory, BasicInformation, Caller, FreeParameters,
    FreeVirtualMemory, Profile, ProtectParameters, ProtectVirtualMemory, QueryParameters,
    QueryVirtualMemory, Range, Target,
};
use ntmm::operation::{Operation, Step};
use ntmm::status::NtStatus;
use ntmm::working_set::limits::EmptyWorkingSet;
use ntmm_machine::{
    Clock, Cpu, Hardware, Machine, NoTrace, Program, ProgramStep, Progress, Simulation,
};
use ntmm_pte::{AccessKind, Amd64, I386, Pae, Pages, Va};
use ntmm_workload::{Access, Exception, Information, Outcome, Request, Response, Width, Workload};

use crate::disk::{PagingDisk, PagingFile};
use crate::failure::Failure;
use crate::runner::{boot_minimum, machine_config, manager_config};
use crate::setup::{Paging, Setup};
use crate::worker::Processor;

/// Steps of the simulation, for each step of a workload, after which it is taken for endless.
const ENDLESS: u64 = 100_000;

/// A workload to be run in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Seed of the workload.
    pub seed: u64,
    /// Its steps.
    pub steps: u32,
}

/// What the machine did while it ran workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedRun {
    /// What each process saw, in the order of the jobs.
    pub outcomes: Vec<Outcome>,
    /// Faults resolved with a page of zeroes.
    pub demand_zero: u64,
    /// Faults resolved with a page that was still in memory.
    pub transition: u64,
    /// Faults resolved from the paging file.
    pub page_file: u64,
}

/// What a workload sees on a host that has plenty of everything: what it must see on any.
///
/// # Errors
/// How the machine failed.
pub fn expected(job: Job) -> Result<Outcome, Failure> {
    let run = run_on_simulator(&ample(), &[job])?;
    run.outcomes.into_iter().next().ok_or_else(|| Failure::new("workload", "it has no outcome"))
}

/// A machine on which no workload ever waits for memory.
#[must_use]
pub fn ample() -> Setup {
    Setup {
        frames: 8 * ntmm_workload::arena::MOST_PAGES as u32,
        paging_file: 8 * ntmm_workload::arena::MOST_PAGES as u32,
        quantum: 10_000,
        minimum: 200,
        maximum: 4 * ntmm_workload::arena::MOST_PAGES as u32,
        ..Setup::default()
    }
}

/// Runs each job in a process of its own, all at once. Of `setup` everything counts but what
/// concerns the regions, failures and audits of random runs.
///
/// # Errors
/// How the machine failed, or that the workloads did not end.
pub fn run_on_simulator(setup: &Setup, jobs: &[Job]) -> Result<SimulatedRun, Failure> {
    match setup.paging {
        Paging::I386 => run_mode::<I386>(setup, jobs),
        Paging::Pae => run_mode::<Pae>(setup, jobs),
        Paging::Amd64 => run_mode::<Amd64>(setup, jobs),
    }
}

fn run_mode<M: Hardware>(setup: &Setup, jobs: &[Job]) -> Result<SimulatedRun, Failure> {
    let frames = boot_minimum::<M>(setup) + setup.frames;
    let machine = Machine::<M>::new(machine_config(setup, frames), Clock::new(), NoTrace);
    let file = machine.attach(Box::new(PagingDisk(PagingFile::new(setup))));
    let mut simulation = Simulation::new(machine, manager_config(setup))
        .map_err(|error| Failure::new("boot", error))?;
    if setup.paging_file > 0 {
        let size = Pages::new(u64::from(setup.paging_file));
        let created = simulation.manager().create_paging_file(file, size, size);
        created.map_err(|error| Failure::new("paging file", format!("{error:?}")))?;
    }
    let mut results = Vec::new();
    for job in jobs {
        let space = simulation
            .manager()
            .create_address_space(setup.limits())
            .map_err(|status| Failure::new("address space", status))?;
        let result = Rc::new(RefCell::new(None));
        let process = Process::new(*job, space, Rc::clone(&result));
        simulation.spawn(Some(space), Box::new(process));
        results.push(result);
    }
    let total: u64 = jobs.iter().map(|job| u64::from(job.steps)).sum();
    run_to_end(&mut simulation, ENDLESS * (total + 1))?;
    let counters = simulation.manager().counters();
    Ok(SimulatedRun {
        outcomes: results.iter().filter_map(|result| result.borrow_mut().take()).collect(),
        demand_zero: counters.demand_zero.get(),
        transition: counters.transition.get(),
        page_file: counters.page_file.get(),
    })
}

fn run_to_end<M: Hardware>(
    simulation: &mut Simulation<M, NoTrace>,
    endless: u64,
) -> Result<(), Failure> {
    for step in 0..endless {
        match simulation.step() {
            Ok(Progress::Ended) => return Ok(()),
            Ok(Progress::Worked(_) | Progress::Waited) => {}
            Err(halt) => return Err(Failure { step, ..Failure::of_halt(&halt) }),
        }
    }
    Err(Failure { step: endless, ..Failure::new("endless", "a workload goes on and on") })
}

/// The program of a process: a workload, and the request being carried out.
#[derive(Debug)]
struct Process {
    /// Away when its outcome has been handed over.
    workload: Option<Workload>,
    space: AddressSpaceId,
    running: Option<Running>,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

/// A request being carried out.
#[derive(Debug)]
enum Running {
    Allocate(AllocateVirtualMemory),
    Free(FreeVirtualMemory),
    Protect(ProtectVirtualMemory),
    Query(QueryVirtualMemory<'static>),
    Empty(EmptyWorkingSet),
    Reference(Reference),
}

/// A load or a store.
#[derive(Debug)]
struct Reference {
    space: AddressSpaceId,
    touch: Touch,
    address: Va,
    width: Width,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum Touch {
    Load,
    Store(u64),
}

impl Process {
    fn new(job: Job, space: AddressSpaceId, outcome: Rc<RefCell<Option<Outcome>>>) -> Self {
        let workload = Some(Workload::new(job.seed, job.steps));
        Self { workload, space, running: None, outcome }
    }
}

impl<M: Hardware> Program<M, NoTrace> for Process {
    fn run(&mut self, cpu: &mut Processor<'_, M>) -> ProgramStep {
        let Some(workload) = &mut self.workload else { return ProgramStep::Exit };
        while let Some(request) = workload.request() {
            cpu.count_references(1);
            let running = match &mut self.running {
                Some(running) => running,
                idle => idle.insert(begin::<M>(self.space, request)),
            };
            match running.advance(cpu) {
                Err(stop) => return stop,
                Ok(response) => {
                    self.running = None;
                    workload.answer(response);
                }
            }
            if !cpu.may_continue() {
                return ProgramStep::Continue;
            }
        }
        *self.outcome.borrow_mut() = Some(workload.outcome().clone());
        self.workload = None;
        ProgramStep::Exit
    }

    fn abandon(&mut self, cpu: &mut Processor<'_, M>) {
        match self.running.take() {
            None => {}
            Some(Running::Allocate(call)) => cpu.abandon(call),
            Some(Running::Free(call)) => cpu.abandon(call),
            Some(Running::Protect(call)) => cpu.abandon(call),
            Some(Running::Query(call)) => cpu.abandon(call),
            Some(Running::Empty(call)) => cpu.abandon(call),
            Some(Running::Reference(Reference { fault, .. })) => {
                fault.into_iter().for_each(|fault| cpu.abandon(fault));
            }
        }
    }
}

/// Class of the basic information, and bytes of it at most.
const BASIC: u32 = 0;
const BASIC_LENGTH: u64 = 48;

/// The call for a request, made by a program all of whose pointers are good.
fn begin<M: Hardware>(space: AddressSpaceId, request: Request) -> Running {
    let caller = Caller::program::<M>(Profile::Legacy);
    let process = Ok(Target::current(space));
    match request {
        Request::Allocate { base, size, allocation_type, protect } => {
            Running::Allocate(AllocateVirtualMemory::new(
                caller,
                AllocateParameters {
                    process,
                    base: Ok(base),
                    zero_bits: 0,
                    size: Ok(size),
                    kind: allocation_type,
                    protection: protect,
                },
            ))
        }
        Request::Free { base, size, free_type } => {
            let (base, size) = (Ok(base), Ok(size));
            let parameters = FreeParameters { process, base, size, kind: free_type };
            Running::Free(FreeVirtualMemory::new(caller, parameters))
        }
        Request::Protect { base, size, protect } => Running::Protect(ProtectVirtualMemory::new(
            caller,
            ProtectParameters {
                process,
                base: Ok(base),
                size: Ok(size),
                protection: protect,
                old: Ok(()),
            },
        )),
        Request::Query { address } => Running::Query(QueryVirtualMemory::new(
            caller,
            QueryParameters {
                process,
                address,
                class: BASIC,
                buffer: Ok(()),
                length: BASIC_LENGTH,
                return_length: Ok(()),
            },
            &mut [],
        )),
        Request::Load { address, width } => {
            Running::Reference(Reference::new(space, Touch::Load, address, width))
        }
        Request::Store { address, width, value } => {
            Running::Reference(Reference::new(space, Touch::Store(value), address, width))
        }
        Request::EmptyWorkingSet => Running::Empty(EmptyWorkingSet::new(space)),
    }
}

impl Running {
    /// Goes on; what came of it, or how the program has to stop.
    fn advance<M: Hardware>(
        &mut self,
        cpu: &mut Processor<'_, M>,
    ) -> Result<Response, ProgramStep> {
        Ok(match self {
            Self::Allocate(call) => {
                let outcome = finish(cpu, call)?;
                range(outcome.status, outcome.output)
            }
            Self::Free(call) => {
                let outcome = finish(cpu, call)?;
                range(outcome.status, outcome.output)
            }
            Self::Protect(call) => {
                let outcome = finish(cpu, call)?;
                let Range { base, size } = outcome.output.unwrap_or(NOTHING);
                let old_protect = outcome.old.unwrap_or_default();
                Response::Protected { status: outcome.status.code(), base, size, old_protect }
            }
            Self::Query(call) => {
                let outcome = finish(cpu, call)?;
                let information = match outcome.information {
                    Some(ntmm::nt::Information::Basic(found)) => information_of(found),
                    _ => Information::default(),
                };
                Response::Information { status: outcome.status.code(), information }
            }
            Self::Empty(call) => {
                let status = NtStatus::from(step(cpu, call)?);
                Response::Emptied { status: status.code() }
            }
            Self::Reference(reference) => reference.advance(cpu)?,
        })
    }
}

/// Steps an operation; how it ended, or how the program has to stop.
fn step<M: Hardware, O: Operation<Machine<M, NoTrace>>>(
    cpu: &mut Cpu<'_, M, NoTrace>,
    operation: &mut O,
) -> Result<Result<O::Output, NtStatus>, ProgramStep> {
    match cpu.step(operation) {
        Step::Done(output) => Ok(Ok(output)),
        Step::Raise(status) => Ok(Err(status)),
        Step::Wait(wait) => Err(ProgramStep::Wait(wait)),
    }
}

/// Steps an Nt call, whose status is in its outcome.
fn finish<M: Hardware, O: Operation<Machine<M, NoTrace>>>(
    cpu: &mut Cpu<'_, M, NoTrace>,
    call: &mut O,
) -> Result<O::Output, ProgramStep> {
    step(cpu, call)?.map_or_else(|status| unreachable!("an Nt call raises {status}"), Ok)
}

/// What a request learns of a range that is not written back.
const NOTHING: Range = Range { base: 0, size: 0 };

fn range(status: NtStatus, output: Option<Range>) -> Response {
    let Range { base, size } = output.unwrap_or(NOTHING);
    Response::Range { status: status.code(), base, size }
}

const fn information_of(found: BasicInformation) -> Information {
    Information {
        base: found.base,
        allocation_base: found.allocation_base,
        allocation_protect: found.allocation_protection,
        size: found.size,
        state: found.state,
        protect: found.protection,
        kind: found.kind,
    }
}

impl Reference {
    const fn new(space: AddressSpaceId, touch: Touch, address: u64, width: Width) -> Self {
        Self { space, touch, address: Va::new(address), width, fault: None }
    }

    /// Goes on with the fault in flight, then with the instruction.
    fn advance<M: Hardware>(
        &mut self,
        cpu: &mut Processor<'_, M>,
    ) -> Result<Response, ProgramStep> {
        loop {
            if let Some(fault) = &mut self.fault {
                if let Err(status) = step(cpu, fault)? {
                    return Ok(Response::Exception(Exception {
                        code: status.code(),
                        access: match fault.access() {
                            AccessKind::Read => Access::Read,
                            AccessKind::Write => Access::Write,
                            AccessKind::Execute => Access::Other,
                        },
                        address: fault.va().get(),
                    }));
                }
                self.fault = None;
                if !cpu.may_continue() {
                    return Err(ProgramStep::Continue);
                }
            }
            let size = self.width.bytes() as usize;
            let made = match self.touch {
                Touch::Load => {
                    cpu.load_number(self.address, size).map(|value| Response::Loaded { value })
                }
                Touch::Store(value) => {
                    cpu.store_number(self.address, size, value).map(|()| Response::Stored)
                }
            };
            match made {
                Ok(response) => return Ok(response),
                Err(page) => {
                    let fault = Fault::new(self.space, page.va, page.code.access(), cpu.mode());
                    self.fault = Some(fault);
                }
            }
        }
    }
}
