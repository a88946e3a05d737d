//! The program of a simulated thread: the actions of one phase.
//!
//! It steps one operation of the manager, or makes one access, at a time, and tells the model
//! how each ended. The shared [`World`] is never borrowed while the manager runs, because other
//! threads may run there.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ntmm::address_space::{AddressSpaceId, DeleteAddressSpace};
use ntmm::operation::{Operation, Step};
use ntmm::platform::{FrameRange, Platform};
use ntmm::status::NtStatus;
use ntmm::working_set::limits::EmptyWorkingSet;
use ntmm::{AddMemoryError, Manager, RemoveMemory};
use ntmm_machine::{Cpu, Hardware, Machine, NoTrace, Program, ProgramStep};

use crate::call::{ManagerCall, Planned};
use crate::failure::Failure;
use crate::model::Mismatch;
use crate::model::calls::{Aftermath, Answer};
use crate::operation::{Action, Company, Place, Thread};
use crate::sabotage::Saboteur;
use crate::touching::{Touched, Touching};
use crate::viewing::Viewing;
use crate::world::{Prediction, World};

/// A processor in a run.
pub(crate) type Processor<'a, M> = Cpu<'a, M, NoTrace>;

/// Ends the run.
pub(crate) fn fail(world: &RefCell<World>, failure: Failure) -> ! {
    let message = failure.to_string();
    world.borrow_mut().failure.get_or_insert(failure);
    // Unwinds to the simulation without the message of a panic.
    std::panic::resume_unwind(Box::new(message))
}

/// Ends the run when the model is contradicted.
pub(crate) fn judge<T>(world: &RefCell<World>, judged: Result<T, Mismatch>) -> T {
    match judged {
        Ok(value) => value,
        Err(mismatch) => fail(world, Failure::of_model(&mismatch)),
    }
}

/// What the worker is at.
#[derive(Debug)]
enum Running {
    Call(Planned, ManagerCall),
    Touch(Touching),
    View(Viewing),
    Empty(EmptyWorkingSet),
    Lend(Lend),
    TakeBack(FrameRange, RemoveMemory),
}

/// The host's lending of memory, as an operation that never waits.
#[derive(Debug)]
struct Lend(FrameRange);

impl<P: Platform> Operation<P> for Lend {
    type Output = Result<(), AddMemoryError>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        Step::Done(manager.add_memory(self.0))
    }

    fn abandon(self, _manager: &Manager<P>) {}
}

/// How far a piece of work came.
enum Reached {
    End,
    Stop(ProgramStep),
}

/// The program of a thread.
#[derive(Debug)]
pub(crate) struct Worker {
    world: Rc<RefCell<World>>,
    thread: Thread,
    space: AddressSpaceId,
    queue: VecDeque<Action>,
    running: Option<Running>,
    /// Allocations that had been refused when the action began.
    refused: u64,
}

impl Worker {
    pub(crate) fn new(
        world: Rc<RefCell<World>>,
        thread: Thread,
        space: AddressSpaceId,
        actions: impl IntoIterator<Item = Action>,
    ) -> Self {
        Self {
            world,
            thread,
            space,
            queue: actions.into_iter().collect(),
            running: None,
            refused: 0,
        }
    }

    /// Whether operations are not abandoned when the thread is killed.
    fn forgets(&self) -> bool {
        let sabotage = self.world.borrow().sabotage;
        sabotage.is_some_and(|sabotage| sabotage.saboteur == Saboteur::ForgottenOperation)
    }

    /// Tells calls under way apart.
    fn caller(&self) -> u32 {
        u32::from(self.thread.process) << 8 | u32::from(self.thread.number)
    }

    /// What an action comes to now; none when there is nothing to do.
    fn begin<M: Hardware>(&mut self, action: Action, machine: &Machine<M>) -> Option<Running> {
        self.refused = machine.statistics().refused_allocations;
        let mut world = self.world.borrow_mut();
        match action {
            Action::Empty => return Some(Running::Empty(EmptyWorkingSet::new(self.space))),
            Action::Lend(frames) => {
                let range = world.memory.range(frames.first, frames.pages)?;
                return Some(Running::Lend(Lend(range)));
            }
            Action::TakeBack(frames) => {
                let range = world.memory.range(frames.first, frames.pages)?;
                let begins = world.begins_to_take_back(range);
                return begins.then(|| Running::TakeBack(range, RemoveMemory::new(range)));
            }
            Action::FailTransfers { count } => {
                world.paging_file.fail_next(count);
                return None;
            }
            Action::FailAllocations { after, count } => {
                machine.fail_allocations(after, count);
                return None;
            }
            Action::Touch(burst) => {
                let touching = Touching::new(&world, self.thread, burst, Company::Others);
                return touching.map(Running::Touch);
            }
            Action::TouchAlone(burst) => {
                let touching = Touching::new(&world, self.thread, burst, Company::Alone);
                return touching.map(Running::Touch);
            }
            Action::CreateSection { .. }
            | Action::CloseSection { .. }
            | Action::MapView { .. }
            | Action::Unmap { .. } => {
                let who = (self.thread, self.space, self.caller());
                return Viewing::new(&mut world, who, action).map(Running::View);
            }
            _ => {}
        }
        let planned = Planned::new(&mut world, self.thread, action)?;
        let call = planned.call;
        world.model.begins(self.thread.process, self.caller(), call);
        Some(Running::Call(planned, ManagerCall::new(self.space, call)))
    }

    fn advance<M: Hardware>(&mut self, cpu: &mut Processor<'_, M>) -> Reached {
        let caller = self.caller();
        match &mut self.running {
            None => Reached::End,
            Some(Running::Touch(touching)) => {
                match touching.advance(&self.world, cpu, self.refused) {
                    Touched::End => Reached::End,
                    Touched::Stop(step) => Reached::Stop(step),
                }
            }
            Some(Running::View(viewing)) => {
                let who = (self.thread, caller, self.refused);
                match viewing.advance(&self.world, cpu, who) {
                    Some(wait) => Reached::Stop(ProgramStep::Wait(wait)),
                    None => Reached::End,
                }
            }
            Some(Running::Empty(operation)) => match cpu.step(operation) {
                Step::Wait(wait) => Reached::Stop(ProgramStep::Wait(wait)),
                Step::Done(()) => Reached::End,
                Step::Raise(status) => fail(
                    &self.world,
                    Failure::new("model: status", format!("emptying a working set: {status}")),
                ),
            },
            Some(Running::Lend(lend)) => {
                lend_memory(&self.world, cpu, lend);
                Reached::End
            }
            Some(Running::TakeBack(range, removal)) => match cpu.step(removal) {
                Step::Wait(wait) => Reached::Stop(ProgramStep::Wait(wait)),
                Step::Done(outcome) => {
                    let took = self.world.borrow_mut().took_back(cpu.machine(), *range, outcome);
                    passed(&self.world, took);
                    Reached::End
                }
                Step::Raise(status) => fail(
                    &self.world,
                    Failure::new("model: status", format!("taking memory back: {status}")),
                ),
            },
            Some(Running::Call(planned, operation)) => {
                cpu.count_references(1);
                let outcome = match operation.step(cpu) {
                    Step::Wait(wait) => return Reached::Stop(ProgramStep::Wait(wait)),
                    Step::Done(answer) => Ok(answer),
                    Step::Raise(status) => Err(status),
                };
                let planned = *planned;
                let machine = cpu.machine();
                self.world.borrow_mut().note_disturbances(machine, self.refused);
                finish(&self.world, self.thread, caller, planned, outcome);
                Reached::End
            }
        }
    }
}

/// Ends the run when the host has found something wrong.
fn passed<T>(world: &RefCell<World>, outcome: Result<T, Failure>) -> T {
    match outcome {
        Ok(value) => value,
        Err(failure) => fail(world, failure),
    }
}

/// The host lends memory to the manager.
fn lend_memory<M: Hardware>(world: &RefCell<World>, cpu: &mut Processor<'_, M>, lend: &mut Lend) {
    let range = lend.0;
    let begun = world.borrow_mut().memory.begins_to_lend(cpu.machine(), range);
    let whose = passed(world, begun);
    if let Step::Done(outcome) = cpu.step(lend) {
        let ended = world.borrow_mut().lent(cpu.machine(), (range, whose), outcome);
        passed(world, ended);
    }
}

/// Tells the model how a call ended.
fn finish(
    world: &RefCell<World>,
    thread: Thread,
    caller: u32,
    planned: Planned,
    outcome: Result<Answer, NtStatus>,
) {
    let Planned { window, call } = planned;
    let judged = {
        let mut world = world.borrow_mut();
        match window.prediction {
            Prediction::Full => world.model.ended(thread.process, caller, call, outcome),
            Prediction::Stamped | Prediction::Nothing => {
                world.model.forgets(thread.process, caller);
                Ok(Aftermath::Known)
            }
        }
    };
    let aftermath = judge(world, judged);
    let mut world = world.borrow_mut();
    if aftermath == Aftermath::Lost {
        world.lose(window.key);
    } else if let Ok(Answer::Range(range)) = outcome
        && window.prediction == Prediction::Full
    {
        if planned.chooses_place() {
            world.chose(window.key, range);
        } else if planned.releases() && window.place != Place::Slot {
            world.returns_to_slot(window.key);
        }
    }
}

impl<M: Hardware> Program<M, NoTrace> for Worker {
    fn run(&mut self, cpu: &mut Processor<'_, M>) -> ProgramStep {
        loop {
            if self.running.is_none() {
                let Some(action) = self.queue.pop_front() else {
                    return ProgramStep::Exit;
                };
                self.running = self.begin(action, cpu.machine());
            }
            match self.advance(cpu) {
                Reached::End => self.running = None,
                Reached::Stop(step) => return step,
            }
            if !cpu.may_continue() {
                return ProgramStep::Continue;
            }
        }
    }

    fn abandon(&mut self, cpu: &mut Processor<'_, M>) {
        let caller = self.caller();
        match self.running.take() {
            None => {}
            Some(Running::Call(planned, operation)) => {
                if self.forgets() {
                    std::mem::forget(operation);
                } else {
                    operation.abandon(cpu);
                }
                let mut world = self.world.borrow_mut();
                let model = &mut world.model;
                match planned.window.prediction {
                    Prediction::Full => {
                        let aftermath = model.abandoned(self.thread.process, caller, planned.call);
                        if aftermath == Aftermath::Lost {
                            world.lose(planned.window.key);
                        }
                    }
                    Prediction::Stamped | Prediction::Nothing => {
                        model.forgets(self.thread.process, caller);
                    }
                }
            }
            Some(running) if self.forgets() => std::mem::forget(running),
            Some(Running::Touch(mut touching)) => touching.abandon(&self.world, cpu),
            Some(Running::View(viewing)) => {
                viewing.abandon(&self.world, cpu, (self.thread, caller));
            }
            Some(Running::Empty(operation)) => cpu.abandon(operation),
            Some(Running::Lend(lend)) => cpu.abandon(lend),
            Some(Running::TakeBack(range, removal)) => {
                cpu.abandon(removal);
                self.world.borrow_mut().leaves_memory(range);
            }
        }
    }
}

/// The program of a system thread that deletes a process.
#[derive(Debug)]
pub(crate) struct Deleter {
    world: Rc<RefCell<World>>,
    process: u8,
    operation: DeleteAddressSpace,
}

impl Deleter {
    pub(crate) fn new(world: Rc<RefCell<World>>, process: u8, space: AddressSpaceId) -> Self {
        Self { world, process, operation: DeleteAddressSpace::new(space) }
    }
}

impl<M: Hardware> Program<M, NoTrace> for Deleter {
    fn run(&mut self, cpu: &mut Processor<'_, M>) -> ProgramStep {
        match cpu.step(&mut self.operation) {
            Step::Wait(wait) => ProgramStep::Wait(wait),
            Step::Done(()) => {
                self.world.borrow_mut().model.end_deletion(self.process);
                ProgramStep::Exit
            }
            Step::Raise(status) => {
                let judged = {
                    let mut world = self.world.borrow_mut();
                    world.note_disturbances(cpu.machine(), 0);
                    world.model.excuse(status, 0)
                };
                judge(&self.world, judged);
                // Nothing but another try can free what is left.
                ProgramStep::Continue
            }
        }
    }

    fn abandon(&mut self, cpu: &mut Processor<'_, M>) {
        // System threads are not killed.
        let _ = cpu;
    }
}

/// The program of a system thread that makes the machine's memory what it was at boot.
#[derive(Debug)]
pub(crate) struct Restorer {
    world: Rc<RefCell<World>>,
    lend: Vec<FrameRange>,
    take: Vec<FrameRange>,
    removal: Option<(FrameRange, RemoveMemory)>,
}

impl Restorer {
    /// The program; none when memory is what it was.
    pub(crate) fn new(world: Rc<RefCell<World>>) -> Option<Self> {
        let (lend, take) = world.borrow().memory.differences();
        let differs = !(lend.is_empty() && take.is_empty());
        differs.then_some(Self { world, lend, take, removal: None })
    }
}

impl<M: Hardware> Program<M, NoTrace> for Restorer {
    fn run(&mut self, cpu: &mut Processor<'_, M>) -> ProgramStep {
        if let Some(range) = self.lend.pop() {
            lend_memory(&self.world, cpu, &mut Lend(range));
            return ProgramStep::Continue;
        }
        if self.removal.is_none() {
            let Some(range) = self.take.pop() else { return ProgramStep::Exit };
            self.world.borrow_mut().begins_to_take_back(range);
            self.removal = Some((range, RemoveMemory::new(range)));
        }
        let Some((range, removal)) = &mut self.removal else { return ProgramStep::Exit };
        match cpu.step(removal) {
            Step::Wait(wait) => ProgramStep::Wait(wait),
            Step::Done(outcome) => {
                let took = self.world.borrow_mut().took_back(cpu.machine(), *range, outcome);
                passed(&self.world, took);
                if let Err(error) = outcome {
                    fail(&self.world, Failure::new("memory does not come back", error));
                }
                self.removal = None;
                ProgramStep::Continue
            }
            Step::Raise(status) => {
                fail(&self.world, Failure::new("memory does not come back", status))
            }
        }
    }

    fn abandon(&mut self, cpu: &mut Processor<'_, M>) {
        // System threads are not killed.
        let _ = cpu;
    }
}

/// The program of a system thread that lets time pass.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) references: u64,
}

impl<M: Hardware> Program<M, NoTrace> for Sleeper {
    fn run(&mut self, cpu: &mut Processor<'_, M>) -> ProgramStep {
        let now = u32::try_from(self.references).unwrap_or(u32::MAX);
        cpu.count_references(now);
        self.references -= u64::from(now);
        if self.references == 0 { ProgramStep::Exit } else { ProgramStep::Continue }
    }

    fn abandon(&mut self, cpu: &mut Processor<'_, M>) {
        let _ = cpu;
    }
}
