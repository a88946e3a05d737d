//! Threads and who runs them (the dispatcher database).
//!
//! A thread is ready, running, parked or ended; only [`SCHEDULER`]'s lock holder changes that. Its
//! place in the table is also the number of its kernel stack. The first places are the idle
//! threads, one a processor.
//!
//! | State | Where | Leaves it |
//! |---|---|---|
//! | ready | in the queue of its priority | a processor chooses it |
//! | running | `Processor::thread` | it parks, ends, or is preempted |
//! | parked | nowhere; says what it waits for | the wake-up of that, or its killing |
//! | ended | nowhere, until the place is used again | |
//!
//! **No wake-up is lost.** Whoever parks counts itself in [`PARKED`], then asks under the lock
//! whether the wait is still on ([`ntmm::Manager::still_pending`]); whoever wakes has changed the
//! state the question looks at before, and takes the lock if anybody is counted.
//!
//! Switching happens at DISPATCH_LEVEL with the lock held; the thread that is switched to releases
//! it. A thread that is killed wakes from whatever it waits for, and its waiting fails from then
//! on, so that it finds its way to the edge of its program and ends there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use ntmm::AddressSpaceId;
use ntmm::operation::{Wait, WaitKey};
use ntmm::platform::{Engine, Irql, SystemTime};
use ntmm::virtual_memory::UserStack;
use ntmm_pte::Pfn;
use x86_64::instructions::interrupts;

use crate::processor::{self, Processor, pending};
use crate::sync::{Once, SpinLock};
use crate::{apic, kernel, mapping, shootdown, time};

/// Most threads, idle ones included.
pub const LIMIT: usize = 64;

/// Ticks a thread runs before another of its priority may.
const QUANTUM: u32 = 2;

/// Which thread.
pub type ThreadId = usize;

/// A thread that was made; another one may have its place by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    place: ThreadId,
    generation: u32,
}

impl Name {
    /// As a number for programs.
    pub const fn to_number(self) -> u64 {
        self.place as u64 | (self.generation as u64) << 32
    }

    /// What a program says a thread's number is.
    pub const fn from_number(number: u64) -> Self {
        Self { place: number as u32 as ThreadId, generation: (number >> 32) as u32 }
    }
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Priority {
    /// Nothing else to do.
    Idle = 0,
    /// Zeroing pages.
    Low,
    /// Programs.
    Normal,
    /// Engines that make room.
    High,
}

/// Priorities that have a queue.
const QUEUES: usize = 3;

/// What a parked thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something of the memory manager's.
    Manager(WaitKey),
    /// Work for an engine.
    Work(Engine),
    /// A moment.
    Until(SystemTime),
    /// The end of a thread.
    End(Name),
    /// A process to take down.
    Reaper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Parked(Reason),
    Ended,
}

/// The thread has been killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// What a thread is.
#[derive(Debug)]
struct Thread {
    state: State,
    priority: Priority,
    /// Its process and that one's address space and root table.
    home: Option<Home>,
    /// The stack it has in its program; its own concern.
    stack: Option<UserStack>,
    killed: bool,
    /// How many threads have had this place before.
    generation: u32,
    /// Its stack pointer while it does not run.
    context: u64,
    ticks: u32,
}

/// Where a program's threads live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The process.
    pub process: usize,
    /// Its address space.
    pub space: AddressSpaceId,
    /// The root of it.
    pub root: Pfn,
}

/// Everything the lock protects.
#[derive(Debug)]
pub struct Scheduler {
    threads: Vec<Thread>,
    queues: [VecDeque<ThreadId>; QUEUES],
}

static SCHEDULER: Once<SpinLock<Scheduler>> = Once::new();

/// Threads that are parked, or about to be, for the memory manager.
static PARKED: AtomicU32 = AtomicU32::new(0);
/// Engines that have been asked for.
static REQUESTED: AtomicU32 = AtomicU32::new(0);
/// Threads in the queues that a program gives way to.
static READY: AtomicU32 = AtomicU32::new(0);
/// Switches to threads of programs so far: a sign of life.
static SWITCHES: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn switch_context(save: *mut u64, load: u64);
    fn thread_start();
}

impl Scheduler {
    fn enqueue(&mut self, id: ThreadId) {
        let priority = self.threads[id].priority;
        if priority != Priority::Idle {
            self.queues[priority as usize - 1].push_back(id);
            if priority >= Priority::Normal {
                READY.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The first thread of the highest priority, which is at least `lowest`.
    fn dequeue(&mut self, lowest: Priority) -> Option<ThreadId> {
        let first = (lowest as usize).saturating_sub(1);
        let next = self.queues[first..].iter_mut().rev().find_map(VecDeque::pop_front)?;
        if self.threads[next].priority >= Priority::Normal {
            READY.fetch_sub(1, Ordering::Relaxed);
        }
        Some(next)
    }

    /// Whether a thread of a process has ended.
    pub fn has_ended(&self, name: Name, process: usize) -> bool {
        self.threads.get(name.place).is_none_or(|thread| {
            thread.state == State::Ended
                || thread.generation != name.generation
                || thread.home.is_none_or(|home| home.process != process)
        })
    }

    /// Whether waiting for the end of a thread would be for ever, because that thread waits for
    /// the running one, if only through others.
    pub fn closes_circle(&self, name: Name) -> bool {
        let own = self.name(processor::current_thread());
        let mut next = name;
        // Nobody has closed a circle before, so this ends.
        while next != own {
            match self.threads.get(next.place) {
                Some(thread) if thread.generation == next.generation => match thread.state {
                    State::Parked(Reason::End(further)) => next = further,
                    _ => return false,
                },
                _ => return false,
            }
        }
        true
    }

    fn name(&self, place: ThreadId) -> Name {
        Name { place, generation: self.threads[place].generation }
    }

    /// Makes a parked thread ready, and sees to it that a processor looks.
    fn unpark(&mut self, id: ThreadId) {
        if let State::Parked(Reason::Manager(_)) = self.threads[id].state {
            PARKED.fetch_sub(1, Ordering::Relaxed);
        }
        self.threads[id].state = State::Ready;
        self.enqueue(id);
        self.find_processor(self.threads[id].priority);
    }

    fn unpark_all(&mut self, wakes: impl Fn(Reason) -> bool) {
        for id in 0..self.threads.len() {
            if let State::Parked(reason) = self.threads[id].state
                && wakes(reason)
            {
                self.unpark(id);
            }
        }
    }

    /// Tells the processor with the least important thread, when that is less important.
    fn find_processor(&self, priority: Priority) {
        let running = |processor: &&Processor| {
            self.threads[processor.thread.load(Ordering::Relaxed)].priority
        };
        let own = processor::current();
        // One that has been told already will be busy.
        let is_told = |processor: &&Processor| {
            processor.pending.load(Ordering::Relaxed) & pending::RESCHEDULE != 0
        };
        let untold = processor::online().filter(|processor| !is_told(processor));
        let Some(target) = untold.min_by_key(running) else { return };
        if running(&target) >= priority {
            return;
        }
        // Rather this processor than another one with the same.
        let prefers_own = !is_told(&own) && running(&own) == running(&target);
        let target = if prefers_own { own } else { target };
        target.pending.fetch_or(pending::RESCHEDULE, Ordering::SeqCst);
        if !core::ptr::eq(target, own) {
            apic::interrupt(
                target.number.load(Ordering::Relaxed) as usize,
                apic::RESCHEDULE_VECTOR,
            );
        }
    }
}

/// Makes the scheduler, with the idle thread of each processor, whose numbers are the first.
///
/// # Safety
/// Called once, before other processors are started.
pub unsafe fn initialize(processors: usize) {
    let mut threads = Vec::with_capacity(LIMIT);
    threads.extend((0..processors).map(|_| Thread {
        state: State::Running,
        priority: Priority::Idle,
        home: None,
        stack: None,
        killed: false,
        generation: 0,
        context: 0,
        ticks: 0,
    }));
    let queues = core::array::from_fn(|_| VecDeque::with_capacity(LIMIT));
    // SAFETY: as the caller says.
    unsafe { SCHEDULER.set(SpinLock::new(Scheduler { threads, queues })) };
}

/// Starts a thread that runs `function(argument)` in the kernel; none when there are too many.
pub fn spawn(
    priority: Priority,
    home: Option<Home>,
    function: extern "C" fn(u64) -> !,
    argument: u64,
) -> Option<Name> {
    let before = processor::raise();
    let mut scheduler = SCHEDULER.get().lock();
    let reusable = scheduler.threads.iter().position(|thread| thread.state == State::Ended);
    let id = reusable.unwrap_or(scheduler.threads.len());
    let created = if id < LIMIT {
        // A thread that a killed one makes is killed: they live in one process.
        let killed = home.is_some() && scheduler.threads[processor::current_thread()].killed;
        let generation = scheduler.threads.get(id).map_or(0, |thread| thread.generation + 1);
        let (_, top) = mapping::stack(id as u64);
        let thread = Thread {
            state: State::Ready,
            priority,
            home,
            stack: None,
            killed,
            generation,
            context: new_context(top, function, argument),
            ticks: QUANTUM,
        };
        match scheduler.threads.get_mut(id) {
            Some(place) => *place = thread,
            None => scheduler.threads.push(thread),
        }
        scheduler.enqueue(id);
        scheduler.find_processor(priority);
        Some(Name { place: id, generation })
    } else {
        None
    };
    drop(scheduler);
    processor::lower(before);
    created
}

/// The context of a thread that has not run: what `switch_context` pops, and where it returns to.
fn new_context(top: u64, function: extern "C" fn(u64) -> !, argument: u64) -> u64 {
    const MXCSR: u64 = 0x1F80;
    const CONTROL: u64 = 0x037F;
    let words: [u64; 10] = [
        MXCSR | CONTROL << 32,
        0,                               // r15
        argument,                        // r14
        function as *const () as u64,    // r13
        thread_main as *const () as u64, // r12
        0,                               // rbx
        0,                               // rbp
        thread_start as *const () as u64,
        0,
        0,
    ];
    let context = top - size_of_val(&words) as u64;
    // SAFETY: the stack is mapped and nobody's: its last thread has ended.
    unsafe { (context as *mut [u64; 10]).write(words) };
    context
}

/// First Rust code of a thread, in the state a switch leaves.
extern "C" fn thread_main(function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    // SAFETY: the thread that switched to this one took the lock on this processor.
    unsafe { SCHEDULER.get().release_forgotten() };
    interrupts::enable();
    processor::lower(Irql::PASSIVE);
    function(argument)
}

/// Gives the processor to another thread, if one is ready that may have it: any, or when this
/// thread stays ready one that is as important.
///
/// The scheduler's lock is held, the level is DISPATCH_LEVEL, and this thread's state is what it
/// is to be. Returns when the thread runs again, without the lock.
fn switch(mut scheduler: crate::sync::SpinGuard<'_, Scheduler>) {
    let processor = processor::current();
    let own = processor.thread.load(Ordering::Relaxed);
    let stays = scheduler.threads[own].state == State::Running;
    let lowest = if stays { scheduler.threads[own].priority } else { Priority::Idle };
    let next = scheduler.dequeue(lowest);
    let idle = processor.number.load(Ordering::Relaxed) as usize;
    let next = match next {
        Some(next) => next,
        None if stays => return,
        None => idle,
    };
    if stays {
        scheduler.threads[own].state = State::Ready;
        scheduler.enqueue(own);
    }
    let thread = &mut scheduler.threads[next];
    if thread.priority == Priority::Normal {
        SWITCHES.fetch_add(1, Ordering::Relaxed);
    }
    thread.state = State::Running;
    thread.ticks = QUANTUM;
    processor.thread.store(next, Ordering::Relaxed);
    processor.home.store(&raw mut thread.home, Ordering::Relaxed);
    processor.attention.store(thread.killed.into(), Ordering::Relaxed);
    if next != idle {
        let (low, high) = mapping::stack(next as u64);
        processor.kernel_stack.store(high, Ordering::Relaxed);
        processor.stack_limit.store(low, Ordering::Relaxed);
    } else {
        processor.stack_limit.store(crate::smp::idle_stack_limit(idle), Ordering::Relaxed);
    }
    let wanted = thread.home.map_or(0, |home| shootdown::tag(home.space));
    if processor.space.load(Ordering::Relaxed) != wanted {
        processor.space.store(wanted, Ordering::SeqCst);
        // SAFETY: the root of a live address space has the kernel's entries.
        unsafe {
            match thread.home {
                Some(home) => mapping::activate(home.root),
                None => mapping::activate_kernel(),
            }
        }
    }
    let load = thread.context;
    let save = &raw mut scheduler.threads[own].context;
    core::mem::forget(scheduler);
    // SAFETY: `load` is what a switch or `new_context` saved, and the table of threads does not
    // move. The lock stays held until the other thread has left this one's stack.
    unsafe {
        switch_context(save, load);
        SCHEDULER.get().release_forgotten();
    }
    interrupts::enable();
}

/// Whether a thread waits for a processor that a program gives way to.
#[inline]
pub fn others_are_ready() -> bool {
    READY.load(Ordering::Relaxed) > 0
}

/// Lets another thread run.
pub fn yield_now() {
    let before = processor::raise();
    switch(SCHEDULER.get().lock());
    processor::lower(before);
}

/// Parks this thread for `reason`, unless `is_over` says under the lock that there is nothing to
/// wait for.
///
/// # Errors
/// The thread has been killed.
pub fn park(reason: Reason, is_over: impl FnOnce(&Scheduler) -> bool) -> Result<(), Killed> {
    let before = processor::raise();
    if let Reason::Manager(_) = reason {
        PARKED.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
    let mut scheduler = SCHEDULER.get().lock();
    let own = processor::current_thread();
    if scheduler.threads[own].killed || is_over(&scheduler) {
        if let Reason::Manager(_) = reason {
            PARKED.fetch_sub(1, Ordering::Relaxed);
        }
        drop(scheduler);
    } else {
        scheduler.threads[own].state = State::Parked(reason);
        switch(scheduler);
    }
    let killed = SCHEDULER.get().lock().threads[processor::current_thread()].killed;
    processor::lower(before);
    if killed { Err(Killed) } else { Ok(()) }
}

/// Parks this thread until the manager's wait is over.
///
/// # Errors
/// The thread has been killed.
pub fn wait(wait: Wait) -> Result<(), Killed> {
    park(Reason::Manager(wait.key), |_| !kernel().manager.still_pending(wait.key, wait.epoch))
}

/// Wakes who waits for a key of the manager's. At any level up to DISPATCH_LEVEL, under any lock
/// of the manager.
pub fn wake(key: WaitKey) {
    fence(Ordering::SeqCst);
    if PARKED.load(Ordering::SeqCst) > 0 {
        SCHEDULER.get().lock().unpark_all(|reason| reason == Reason::Manager(key));
    }
}

/// Wakes who waits for a flush, of whatever ticket: each looks for itself.
pub fn wake_flush_waiters() {
    if PARKED.load(Ordering::SeqCst) > 0 {
        let is_flush = |reason| matches!(reason, Reason::Manager(WaitKey::Flush(_)));
        SCHEDULER.get().lock().unpark_all(is_flush);
    }
}

/// Asks for an engine.
pub fn request(engine: Engine) {
    let bit = 1 << engine as u32;
    // What the engine is to see has been written before its request is looked at.
    fence(Ordering::SeqCst);
    if REQUESTED.load(Ordering::Relaxed) & bit == 0
        && REQUESTED.fetch_or(bit, Ordering::SeqCst) & bit == 0
        && let Some(scheduler) = SCHEDULER.try_get()
    {
        scheduler.lock().unpark_all(|reason| reason == Reason::Work(engine));
    }
}

/// Takes the request for an engine; false when there was none.
pub fn take_request(engine: Engine) -> bool {
    let bit = 1 << engine as u32;
    REQUESTED.fetch_and(!bit, Ordering::SeqCst) & bit != 0
}

/// Parks the thread of an engine until it is asked for.
pub fn wait_for_work(engine: Engine) {
    let bit = 1 << engine as u32;
    // Engines are not killed.
    let _ = park(Reason::Work(engine), |_| REQUESTED.load(Ordering::SeqCst) & bit != 0);
}

/// Where the running thread lives.
#[inline]
pub fn home() -> Option<Home> {
    let home = processor::current_home();
    // SAFETY: it points to the running thread's record, which stays where it is, or is null; that
    // field is not changed while the thread lives.
    unsafe { home.as_ref().copied().flatten() }
}

/// The stack the running thread has in its program.
pub fn stack() -> Option<UserStack> {
    let own = processor::current_thread();
    SCHEDULER.get().lock().threads[own].stack
}

/// Says which stack the running thread has in its program.
pub fn set_stack(stack: UserStack) {
    let own = processor::current_thread();
    SCHEDULER.get().lock().threads[own].stack = Some(stack);
}

/// Whether a thread of this name has ever been.
pub fn has_been(name: Name) -> bool {
    let scheduler = SCHEDULER.get().lock();
    scheduler.threads.get(name.place).is_some_and(|thread| thread.generation >= name.generation)
}

/// Whether the running thread has been killed.
pub fn is_killed() -> bool {
    let own = processor::current_thread();
    SCHEDULER.get().lock().threads[own].killed
}

/// Kills the threads of a process.
pub fn kill_process(process: usize) {
    let before = processor::raise();
    let mut scheduler = SCHEDULER.get().lock();
    for id in 0..scheduler.threads.len() {
        let thread = &mut scheduler.threads[id];
        if thread.home.is_none_or(|home| home.process != process) || thread.state == State::Ended {
            continue;
        }
        thread.killed = true;
        match thread.state {
            State::Parked(_) => scheduler.unpark(id),
            State::Running => {
                let its = |processor: &&Processor| processor.thread.load(Ordering::Relaxed) == id;
                if let Some(processor) = processor::online().find(its) {
                    processor.attention.store(1, Ordering::SeqCst);
                    if !core::ptr::eq(processor, processor::current()) {
                        let number = processor.number.load(Ordering::Relaxed) as usize;
                        apic::interrupt(number, apic::RESCHEDULE_VECTOR);
                    }
                }
            }
            State::Ready | State::Ended => {}
        }
    }
    drop(scheduler);
    processor::lower(before);
}

/// Ends the running thread. Its process is told by the caller, before.
pub fn end() -> ! {
    processor::raise();
    let mut scheduler = SCHEDULER.get().lock();
    let own = processor::current_thread();
    scheduler.threads[own].state = State::Ended;
    let name = scheduler.name(own);
    scheduler.unpark_all(|reason| reason == Reason::End(name) || reason == Reason::Reaper);
    switch(scheduler);
    unreachable!("an ended thread runs")
}

/// Whether all threads of a process have left their stacks.
pub fn process_has_ended(process: usize) -> bool {
    let scheduler = SCHEDULER.get().lock();
    scheduler.threads.iter().all(|thread| {
        thread.state == State::Ended || thread.home.is_none_or(|home| home.process != process)
    })
}

/// The timer's part: wakes sleepers, ends turns, and once a second asks for the balance set
/// manager.
pub fn tick() {
    let now = time::now();
    let processor = processor::current();
    if processor.number.load(Ordering::Relaxed) == 0 && time::is_new_second() {
        request(Engine::Balance);
    }
    let mut scheduler = SCHEDULER.get().lock();
    scheduler.unpark_all(|reason| matches!(reason, Reason::Until(moment) if moment <= now));
    let own = processor.thread.load(Ordering::Relaxed);
    let thread = &mut scheduler.threads[own];
    thread.ticks = thread.ticks.saturating_sub(1);
    if thread.ticks == 0 {
        thread.ticks = QUANTUM;
        processor.pending.fetch_or(pending::RESCHEDULE, Ordering::Relaxed);
    }
}

/// The life of an idle thread: runs what is ready, otherwise halts.
pub fn idle() -> ! {
    interrupts::enable();
    processor::lower(Irql::PASSIVE);
    loop {
        yield_now();
        interrupts::disable();
        let processor = processor::current();
        if processor.pending.load(Ordering::SeqCst) == 0 {
            processor.halted_since.store(time::cycles(), Ordering::Relaxed);
            interrupts::enable_and_hlt();
        }
        interrupts::enable();
    }
}

/// Notes that this processor has left its halt: called first by every interrupt.
pub fn note_wakeup() {
    let processor = processor::current();
    let since = processor.halted_since.swap(0, Ordering::Relaxed);
    if since != 0 {
        processor.halted.fetch_add(time::cycles() - since, Ordering::Relaxed);
    }
}

/// Sign of life: threads of programs, and of the reaper, switched to so far.
pub fn switches() -> u64 {
    SWITCHES.load(Ordering::Relaxed)
}

/// Says what every thread does, for a machine that hangs; nothing, when the lock is what hangs.
pub fn describe() {
    let Some(scheduler) = SCHEDULER.try_get().and_then(SpinLock::try_lock) else { return };
    for (id, thread) in scheduler.threads.iter().enumerate() {
        if thread.state != State::Ended && thread.priority != Priority::Idle {
            // Processes are reported by numbers from 1 on.
            let state = &thread.state;
            match thread.home.map(|home| home.process + 1) {
                Some(process) => crate::console::write_at_the_end(format_args!(
                    "thread {id} of process {process}: {state:?}\n"
                )),
                None => crate::console::write_at_the_end(format_args!(
                    "thread {id} of the kernel: {state:?}\n"
                )),
            }
        }
    }
}

/// Whether a program, or the reaper, waits for the manager and none of them runs or sleeps. The
/// engines do not count: they may be busy without getting anywhere.
pub fn is_stuck() -> bool {
    let scheduler = SCHEDULER.get().lock();
    let threads = scheduler.threads.iter().filter(|thread| thread.priority == Priority::Normal);
    let mut waiting = false;
    for thread in threads {
        match thread.state {
            State::Ready | State::Running | State::Parked(Reason::Until(_)) => return false,
            State::Parked(Reason::Manager(_)) => waiting = true,
            State::Parked(_) | State::Ended => {}
        }
    }
    waiting
}
