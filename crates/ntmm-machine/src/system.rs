//! What all processors share: the manager with its machine, and the threads.
//!
//! [`System::turn`] is the code a processor runs: it takes its interrupts and does one piece of
//! work. It holds no borrow of anything while it is inside the manager or a program, because
//! another processor may run there.

use std::cell::{Cell, RefCell};

use ntmm::Manager;
use ntmm::address_space::AddressSpaceId;
use ntmm::operation::{Wait, WaitKey};
use ntmm::platform::{Engine, EngineStep, Trace};

use crate::clock::Nanoseconds;
use crate::config::Behaviour;
use crate::context::Cpu;
use crate::cpu::{ActiveSpace, CpuId};
use crate::format::Hardware;
use crate::machine::{Machine, tag_of};
use crate::program::{Program, ProgramStep};
use crate::scheduler::{Announcement, ThreadId};

/// Most steps of an engine in a turn.
const ENGINE_STEPS: u32 = 64;

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A piece of work.
    Worked,
    /// There was no work besides interrupts.
    Idle,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Completion,
    Engine(Engine),
    /// The thread at this place of the ready queue.
    Thread(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Living,
    /// To be abandoned when it next would run.
    Killed,
    Ended,
}

struct Thread<M: Hardware, T: Trace> {
    space: Option<AddressSpaceId>,
    /// Away while the thread runs, gone when it has ended.
    program: Option<Box<dyn Program<M, T>>>,
    /// What the thread waits for, or is about to.
    waits: Option<WaitKey>,
    life: Life,
}

impl<M: Hardware, T: Trace> std::fmt::Debug for Thread<M, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread")
            .field("space", &self.space)
            .field("waits", &self.waits)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// What all processors share.
#[derive(Debug)]
pub(crate) struct System<M: Hardware, T: Trace> {
    manager: Manager<Machine<M, T>>,
    threads: RefCell<Vec<Thread<M, T>>>,
    /// For each processor, the thread it is running.
    running: RefCell<Vec<Option<ThreadId>>>,
    live: Cell<usize>,
    next_balance: Cell<Nanoseconds>,
}

impl<M: Hardware, T: Trace> System<M, T> {
    pub fn new(manager: Manager<Machine<M, T>>) -> Self {
        let cpus = manager.platform().processors.len();
        Self {
            manager,
            threads: RefCell::default(),
            running: RefCell::new(vec![None; cpus]),
            live: Cell::new(0),
            next_balance: Cell::new(Nanoseconds::SECOND),
        }
    }

    pub const fn manager(&self) -> &Manager<Machine<M, T>> {
        &self.manager
    }

    pub fn machine(&self) -> &Machine<M, T> {
        self.manager.platform()
    }

    pub fn spawn(
        &self,
        space: Option<AddressSpaceId>,
        program: Box<dyn Program<M, T>>,
    ) -> ThreadId {
        let mut threads = self.threads.borrow_mut();
        let id = ThreadId(threads.len() as u32);
        threads.push(Thread { space, program: Some(program), waits: None, life: Life::Living });
        self.live.set(self.live.get() + 1);
        self.machine().scheduler.borrow_mut().make_ready(id);
        id
    }

    pub fn kill(&self, id: ThreadId) {
        let mut threads = self.threads.borrow_mut();
        let thread = &mut threads[id.0 as usize];
        if thread.life != Life::Living {
            return;
        }
        thread.life = Life::Killed;
        if let Some(key) = thread.waits {
            let mut scheduler = self.machine().scheduler.borrow_mut();
            if scheduler.unpark(id, key) == Announcement::Stood {
                scheduler.make_ready(id);
            }
        }
    }

    pub fn live_threads(&self) -> usize {
        self.live.get()
    }

    pub fn has_ended(&self, id: ThreadId) -> bool {
        self.threads.borrow()[id.0 as usize].life == Life::Ended
    }

    pub fn next_balance(&self) -> Nanoseconds {
        self.next_balance.get()
    }

    /// Whether all threads have ended and the disks are at rest.
    pub fn is_over(&self) -> bool {
        self.live.get() == 0 && self.machine().transfers.borrow().under_way() == 0
    }

    fn is_balance_due(&self) -> bool {
        self.machine().clock.nanoseconds() >= self.next_balance.get()
    }

    fn is_completion_due(&self) -> bool {
        let machine = self.machine();
        let next = machine.transfers.borrow().next_due();
        next.is_some_and(|due| due <= machine.clock.nanoseconds())
    }

    /// Whether a turn of this processor would find something to do.
    pub fn has_work(&self, cpu: CpuId) -> bool {
        let machine = self.machine();
        !machine.processor(cpu).shootdowns.borrow().is_empty()
            || machine.processor(cpu).refused.get()
            || self.is_balance_due()
            || self.is_completion_due()
            || {
                let scheduler = machine.scheduler.borrow();
                scheduler.ready() > 0 || scheduler.due_engines().next().is_some()
            }
    }

    /// One turn of a processor.
    pub fn turn(&self, cpu: CpuId) -> Turn {
        let machine = self.machine();
        machine.current.set(cpu);
        machine.deliver_shootdowns();
        machine.wake_refused();
        if self.is_balance_due() {
            let second = Nanoseconds::SECOND.0;
            let now = machine.clock.nanoseconds().0;
            self.next_balance.set(Nanoseconds((now / second + 1) * second));
            machine.scheduler.borrow_mut().request(Engine::Balance);
        }
        match self.choose() {
            None => return Turn::Idle,
            Some(Work::Completion) => self.complete_transfer(),
            Some(Work::Engine(engine)) => self.run_engine(engine),
            Some(Work::Thread(place)) => self.run_thread(cpu, place),
        }
        Turn::Worked
    }

    /// What to do next. Plainly completions come first, then the engines that make room, then
    /// threads, and zeroing when nobody wants to run; otherwise the seed decides.
    fn choose(&self) -> Option<Work> {
        let machine = self.machine();
        let completion = self.is_completion_due().then_some(Work::Completion);
        let scheduler = machine.scheduler.borrow();
        match machine.config.behaviour {
            Behaviour::Plain => {
                let due = |wanted| {
                    scheduler
                        .due_engines()
                        .any(|engine| engine == wanted)
                        .then_some(Work::Engine(wanted))
                };
                completion
                    .or_else(|| due(Engine::Retire))
                    .or_else(|| due(Engine::ModifiedWriter))
                    .or_else(|| due(Engine::Dereference))
                    .or_else(|| due(Engine::Balance))
                    .or_else(|| due(Engine::Dereference))
                    .or_else(|| (scheduler.ready() > 0).then_some(Work::Thread(0)))
                    .or_else(|| due(Engine::Zeroing))
            }
            Behaviour::Adversarial(_) => {
                let random = &machine.scheduler_random;
                let mut choices: Vec<Work> = completion.into_iter().collect();
                choices.extend(scheduler.due_engines().map(Work::Engine));
                if scheduler.ready() > 0 {
                    choices.push(Work::Thread(random.index(scheduler.ready())));
                }
                (!choices.is_empty()).then(|| choices[random.index(choices.len())])
            }
        }
    }

    /// Up to how much a turn does of something.
    fn up_to(&self, limit: u32) -> u32 {
        match self.machine().config.behaviour {
            Behaviour::Plain => limit,
            Behaviour::Adversarial(_) => {
                1 + self.machine().scheduler_random.below(u64::from(limit.max(1))) as u32
            }
        }
    }

    fn complete_transfer(&self) {
        if let Some((token, result)) = self.machine().complete_due_transfer() {
            self.manager.complete_io(token, result);
            self.machine().check_passive();
        }
    }

    fn run_engine(&self, engine: Engine) {
        let machine = self.machine();
        machine.scheduler.borrow_mut().start(engine);
        let mut left = self.up_to(ENGINE_STEPS);
        loop {
            machine.clock.charge(1, machine.config.costs.step, self.parallel());
            let step = self.manager.step_engine(engine);
            machine.check_passive();
            left -= 1;
            match step {
                EngineStep::Idle => break,
                EngineStep::Worked if left > 0 => {}
                EngineStep::Worked => {
                    machine.scheduler.borrow_mut().request(engine);
                    break;
                }
            }
        }
        machine.scheduler.borrow_mut().finish(engine);
    }

    /// How many processors have work now, this one included.
    fn parallel(&self) -> u32 {
        let machine = self.machine();
        let ready = machine.scheduler.borrow().ready() as u32;
        machine.config.cpus.min(ready + 1)
    }

    /// What CR3 is to hold for an address space; nothing when it has been deleted.
    fn tables_of(&self, space: AddressSpaceId) -> Option<ActiveSpace> {
        let root = self.manager.root(space)?;
        Some(ActiveSpace { tag: tag_of(space), root: self.machine().slot(root) })
    }

    fn run_thread(&self, cpu: CpuId, place: usize) {
        let machine = self.machine();
        let Some(id) = machine.scheduler.borrow_mut().take_ready(place) else {
            return;
        };
        let (space, life, program) = {
            let mut threads = self.threads.borrow_mut();
            let thread = &mut threads[id.0 as usize];
            thread.waits = None;
            (thread.space, thread.life, thread.program.take())
        };
        let Some(mut program) = program else {
            return;
        };
        self.running.borrow_mut()[cpu.index()] = Some(id);
        machine.activate(cpu, space.and_then(|space| self.tables_of(space)));
        let limit = self.up_to(machine.config.quantum);
        let mut context = Cpu::new(&self.manager, cpu, space, limit, self.parallel());
        let step = match life {
            Life::Killed | Life::Ended => {
                program.abandon(&mut context);
                ProgramStep::Exit
            }
            Life::Living => program.run(&mut context),
        };
        context.charge_references();
        machine.check_passive();
        self.running.borrow_mut()[cpu.index()] = None;
        match step {
            ProgramStep::Continue => {
                self.threads.borrow_mut()[id.0 as usize].program = Some(program);
                machine.scheduler.borrow_mut().make_ready(id);
            }
            ProgramStep::Wait(wait) => {
                machine.activate(cpu, None);
                self.park(id, wait, program);
            }
            ProgramStep::Exit => self.end(id, space),
        }
    }

    /// Parks a thread unless what it waits for has happened meanwhile.
    fn park(&self, id: ThreadId, wait: Wait, program: Box<dyn Program<M, T>>) {
        let machine = self.machine();
        let killed = {
            let mut threads = self.threads.borrow_mut();
            let thread = &mut threads[id.0 as usize];
            thread.program = Some(program);
            thread.waits = Some(wait.key);
            thread.life == Life::Killed
        };
        machine.scheduler.borrow_mut().park(id, wait.key);
        if killed || !self.manager.still_pending(wait.key, wait.epoch) {
            let mut scheduler = machine.scheduler.borrow_mut();
            if scheduler.unpark(id, wait.key) == Announcement::Stood {
                scheduler.make_ready(id);
            }
        }
    }

    /// Ends a thread. No processor stays in an address space that may be deleted now.
    fn end(&self, id: ThreadId, space: Option<AddressSpaceId>) {
        self.threads.borrow_mut()[id.0 as usize].life = Life::Ended;
        self.live.set(self.live.get() - 1);
        let machine = self.machine();
        let running = self.running.borrow();
        for (number, _) in running.iter().enumerate().filter(|(_, thread)| thread.is_none()) {
            let cpu = CpuId(number as u32);
            let active = machine.processor(cpu).active();
            if active.map(|active| active.tag) == space.map(tag_of) {
                machine.activate(cpu, None);
            }
        }
    }
}
