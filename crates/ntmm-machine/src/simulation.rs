//! A manager on a simulated machine, running programs.
//!
//! Time goes by in *turns*: a processor takes its interrupts and then does one piece of work,
//! the completion of a transfer, some steps of an engine, or a quantum of a thread. Plainly the
//! processors take turns one after the other and each turn runs to its end. In a preemptive
//! machine each processor's turns run in a fiber of its own that may be suspended in the middle
//! of the manager, and the seed decides which goes on.
//!
//! When no processor has work the clock jumps to the next event: a transfer that completes or
//! the balance set manager's second. When threads wait and nothing of that can help them the
//! simulation is [`Stuck`].
//!
//! An auditor that wants the manager's records at rest calls [`Simulation::settle`] first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ntmm::address_space::AddressSpaceId;
use ntmm::operation::{Operation, Step};
use ntmm::platform::Trace;
use ntmm::status::NtStatus;
use ntmm::{BootError, Manager};

use crate::config::{Behaviour, Preemption};
use crate::cpu::CpuId;
use crate::format::Hardware;
use crate::halt::{Halt, Stuck, Violation};
use crate::machine::Machine;
use crate::program::Program;
use crate::scheduler::ThreadId;
use crate::switch::{Fiber, Pause, Resumption};
use crate::system::{System, Turn};

/// Balance-set-manager seconds without any thread woken after which waiting threads are taken
/// for stuck.
const PATIENCE: u32 = 16;

/// Pauses in a row, per processor, in which every processor waited for a lock.
const SPINNING: u32 = 10_000;

/// What a step of the simulation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A processor did some work.
    Worked(CpuId),
    /// Nothing could run; the clock jumped to the next event.
    Waited,
    /// All threads have ended, and nothing is left to do.
    Ended,
}

/// Where a processor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Between two turns, outside the manager.
    BetweenTurns,
    /// Suspended in the middle of a turn.
    Within,
}

#[derive(Debug)]
struct Preempted {
    fiber: Fiber,
    position: Position,
}

/// A manager on a simulated machine, running programs.
#[derive(Debug)]
pub struct Simulation<M: Hardware, T: Trace + 'static> {
    system: Rc<System<M, T>>,
    /// One per processor in a preemptive machine, otherwise none.
    fibers: Vec<Preempted>,
    next: u32,
    idle_seconds: u32,
    wakeups: u64,
    spinning: u32,
    halted: Option<Halt>,
}

impl<M: Hardware, T: Trace + 'static> Simulation<M, T> {
    /// Boots a manager on a machine.
    ///
    /// # Errors
    /// Why the manager does not boot.
    pub fn new(machine: Machine<M, T>, config: ntmm::Config) -> Result<Self, BootError> {
        let behaviour = machine.config.behaviour;
        let cpus = machine.config.cpus;
        let switch = Rc::clone(&machine.switch);
        let system = Rc::new(System::new(Manager::new(machine, config)?));
        let preemptive = match behaviour {
            Behaviour::Plain => false,
            Behaviour::Adversarial(adversary) => adversary.preemption != Preemption::Never,
        };
        let fibers = (0..if preemptive { cpus } else { 0 })
            .map(|number| {
                let (system, inner) = (Rc::clone(&system), Rc::clone(&switch));
                let fiber = Fiber::new(&switch, move || {
                    loop {
                        system.turn(CpuId(number));
                        inner.suspend(Pause::TurnOver);
                    }
                });
                Preempted { fiber, position: Position::BetweenTurns }
            })
            .collect();
        Ok(Self { system, fibers, next: 0, idle_seconds: 0, wakeups: 0, spinning: 0, halted: None })
    }

    /// The manager. In a preemptive machine call it only when the machine is
    /// [settled](Self::settle).
    #[must_use]
    pub fn manager(&self) -> &Manager<Machine<M, T>> {
        self.system.manager()
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Machine<M, T> {
        self.system.machine()
    }

    /// Starts a thread in an address space, or a system thread in none.
    pub fn spawn(
        &mut self,
        space: Option<AddressSpaceId>,
        program: Box<dyn Program<M, T>>,
    ) -> ThreadId {
        self.system.spawn(space, program)
    }

    /// Kills a thread: when it next would run its program is abandoned instead. A thread that
    /// waits does not wait any longer.
    pub fn kill(&mut self, thread: ThreadId) {
        self.system.kill(thread);
    }

    /// Threads that have not ended.
    #[must_use]
    pub fn live_threads(&self) -> usize {
        self.system.live_threads()
    }

    /// Whether a thread has ended.
    #[must_use]
    pub fn has_ended(&self, thread: ThreadId) -> bool {
        self.system.has_ended(thread)
    }

    /// Whether every processor is between two turns, with no lock held.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.fibers.iter().all(|cpu| cpu.position == Position::BetweenTurns)
    }

    /// Runs until all threads have ended.
    ///
    /// # Errors
    /// Why the machine ended before.
    pub fn run(&mut self) -> Result<(), Halt> {
        while self.step()? != Progress::Ended {}
        Ok(())
    }

    /// Runs one processor up to its next pause, or lets time pass when none can run.
    ///
    /// # Errors
    /// Why the machine ended.
    pub fn step(&mut self) -> Result<Progress, Halt> {
        match self.try_work()? {
            Some(cpu) => Ok(Progress::Worked(cpu)),
            None if self.system.is_over() => Ok(Progress::Ended),
            None => {
                self.let_time_pass()?;
                Ok(Progress::Waited)
            }
        }
    }

    /// Lets every processor that is in the middle of a turn finish it, so that no lock is held.
    ///
    /// # Errors
    /// Why the machine ended.
    pub fn settle(&mut self) -> Result<(), Halt> {
        while !self.is_settled() {
            let within: Vec<u32> = self.numbers(|cpu| cpu.position == Position::Within);
            let number = within[self.machine().scheduler_random.index(within.len())];
            self.resume(number)?;
        }
        Ok(())
    }

    /// Steps an operation of the host's own to its end while the machine runs.
    ///
    /// # Errors
    /// Why the machine ended before; inside, the status the operation failed with.
    pub fn complete<O: Operation<Machine<M, T>>>(
        &mut self,
        operation: &mut O,
    ) -> Result<Result<O::Output, NtStatus>, Halt> {
        loop {
            self.settle()?;
            let system = Rc::clone(&self.system);
            let step = self.guarded(|| {
                let step = system.manager().step(operation);
                system.machine().check_passive();
                step
            })?;
            match step {
                Step::Done(output) => return Ok(Ok(output)),
                Step::Raise(status) => return Ok(Err(status)),
                Step::Wait(wait) => {
                    while self.manager().still_pending(wait.key, wait.epoch) {
                        if self.try_work()?.is_none() {
                            self.let_time_pass()?;
                        }
                        self.settle()?;
                    }
                }
            }
        }
    }

    /// Lets some processor with work go on; none when no processor has any.
    fn try_work(&mut self) -> Result<Option<CpuId>, Halt> {
        if let Some(halt) = &self.halted {
            return Err(halt.clone());
        }
        let machine = self.system.machine();
        let cpus = machine.config.cpus;
        let able: Vec<u32> = (0..cpus)
            .filter(|number| {
                let within = self
                    .fibers
                    .get(*number as usize)
                    .is_some_and(|cpu| cpu.position == Position::Within);
                within || self.system.has_work(CpuId(*number))
            })
            .collect();
        if able.is_empty() {
            return Ok(None);
        }
        let number = match machine.config.behaviour {
            Behaviour::Plain => {
                let number =
                    able.iter().copied().find(|number| *number >= self.next).unwrap_or(able[0]);
                self.next = (number + 1) % cpus;
                number
            }
            Behaviour::Adversarial(_) => able[machine.scheduler_random.index(able.len())],
        };
        self.resume(number)?;
        Ok(Some(CpuId(number)))
    }

    fn numbers(&self, wanted: impl Fn(&Preempted) -> bool) -> Vec<u32> {
        (0..).zip(&self.fibers).filter(|(_, cpu)| wanted(cpu)).map(|(number, _)| number).collect()
    }

    /// Runs a processor up to its next pause.
    fn resume(&mut self, number: u32) -> Result<(), Halt> {
        let system = Rc::clone(&self.system);
        let pause = match self.fibers.get_mut(number as usize) {
            None => {
                let _: Turn = self.guarded(|| system.turn(CpuId(number)))?;
                Pause::TurnOver
            }
            Some(cpu) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| cpu.fiber.resume()));
                match outcome {
                    Ok(Resumption::Paused(pause)) => {
                        cpu.position = match pause {
                            Pause::TurnOver => Position::BetweenTurns,
                            Pause::Preempted | Pause::Spinning => Position::Within,
                        };
                        pause
                    }
                    Ok(Resumption::Finished) => Pause::TurnOver,
                    Err(payload) => return Err(self.halt(Halt::from_payload(payload))),
                }
            }
        };
        self.spinning = if pause == Pause::Spinning { self.spinning + 1 } else { 0 };
        if self.spinning > SPINNING * self.system.machine().config.cpus {
            let halt = Halt::Violation(Violation::Deadlock { cpu: CpuId(number) });
            return Err(self.halt(halt));
        }
        Ok(())
    }

    /// Lets the clock jump to the next event.
    fn let_time_pass(&mut self) -> Result<(), Halt> {
        let machine = self.system.machine();
        let transfer = machine.transfers.borrow().next_due();
        let wakeups = machine.scheduler.borrow().wakeups();
        if transfer.is_some() || wakeups != self.wakeups {
            self.wakeups = wakeups;
            self.idle_seconds = 0;
        } else {
            self.idle_seconds += 1;
        }
        if self.idle_seconds > PATIENCE {
            let waiters = machine.scheduler.borrow().waiters().collect();
            return Err(self.halt(Halt::Stuck(Stuck { waiters })));
        }
        let balance = self.system.next_balance();
        machine.clock.advance_to(transfer.map_or(balance, |due| due.min(balance)));
        Ok(())
    }

    /// Runs code that may end the machine.
    fn guarded<R>(&mut self, code: impl FnOnce() -> R) -> Result<R, Halt> {
        if let Some(halt) = &self.halted {
            return Err(halt.clone());
        }
        catch_unwind(AssertUnwindSafe(code))
            .map_err(|payload| self.halt(Halt::from_payload(payload)))
    }

    fn halt(&mut self, halt: Halt) -> Halt {
        self.halted = Some(halt.clone());
        halt
    }
}
