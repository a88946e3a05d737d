//! Switching between simulated processors in the middle of the manager's code.
//!
//! In a preemptive machine each processor runs in a [`Fiber`], a coroutine with a stack of its
//! own. Code deep inside the manager suspends the running fiber through the machine's
//! [`Switch`], and the simulation resumes another one. All fibers live on one thread of the host.
//!
//! The one `unsafe` block of the crate is here: a `Switch` keeps a pointer to the running fiber's
//! yielder, because the manager's code cannot pass a reference to it down to the platform hooks.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use corosensei::{Coroutine, CoroutineResult, Yielder};

/// Why a fiber gave up the host's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Its turn is over: it is outside the manager.
    TurnOver,
    /// It was preempted.
    Preempted,
    /// It waits for a lock that another processor holds.
    Spinning,
}

type ProcessorYielder = Yielder<(), Pause>;

/// The way out of whichever fiber runs.
#[derive(Debug, Default)]
pub struct Switch {
    /// The yielder of the running fiber; nothing while no fiber runs.
    running: Cell<Option<NonNull<ProcessorYielder>>>,
}

/// Whether a suspension took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// The fiber was suspended and has been resumed.
    Resumed,
    /// No fiber runs.
    NoFiber,
}

impl Switch {
    /// Suspends the running fiber until it is resumed.
    #[expect(unsafe_code)]
    pub fn suspend(&self, why: Pause) -> Suspension {
        let Some(yielder) = self.running.get() else {
            return Suspension::NoFiber;
        };
        // SAFETY: `running` is set by a fiber when it starts and by `Fiber::resume` when it
        // switches to one, to the yielder of the fiber that runs from then on; it is put back
        // when the switch returns and withdrawn when the body ends or unwinds. So whoever finds
        // it set runs on that fiber's stack. A yielder lives at a fixed place on its fiber's
        // stack until the body has ended, and the body, which is below us on that stack, has
        // not. `Fiber` is not `Send` and `Switch` not `Sync`, so no other thread sees the pointer.
        unsafe { yielder.as_ref() }.suspend(why);
        Suspension::Resumed
    }
}

/// What a fiber did when it was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// It gave up the thread.
    Paused(Pause),
    /// Its body returned.
    Finished,
}

/// A coroutine that runs a processor.
pub struct Fiber {
    coroutine: Coroutine<(), Pause, ()>,
    /// The coroutine's yielder, from its first instruction to its last.
    yielder: Rc<Cell<Option<NonNull<ProcessorYielder>>>>,
    switch: Rc<Switch>,
}

/// Withdraws a yielder when the body of its fiber ends, by returning or by unwinding.
struct Published {
    yielder: Rc<Cell<Option<NonNull<ProcessorYielder>>>>,
    switch: Rc<Switch>,
}

impl Drop for Published {
    fn drop(&mut self) {
        let gone = self.yielder.take();
        if self.switch.running.get() == gone {
            self.switch.running.set(None);
        }
    }
}

impl Fiber {
    /// A fiber that has not started.
    pub fn new(switch: &Rc<Switch>, body: impl FnOnce() + 'static) -> Self {
        let yielder = Rc::new(Cell::new(None));
        let published = Published { yielder: Rc::clone(&yielder), switch: Rc::clone(switch) };
        let coroutine = Coroutine::new(move |yielder: &ProcessorYielder, ()| {
            let published = published;
            let pointer = Some(NonNull::from(yielder));
            published.yielder.set(pointer);
            published.switch.running.set(pointer);
            body();
        });
        Self { coroutine, yielder, switch: Rc::clone(switch) }
    }

    /// Runs the fiber until it pauses or finishes. It has not finished yet. A panic of its body
    /// goes on here.
    pub fn resume(&mut self) -> Resumption {
        let before = self.switch.running.replace(self.yielder.get());
        let result = self.coroutine.resume(());
        self.switch.running.set(before);
        match result {
            CoroutineResult::Yield(pause) => Resumption::Paused(pause),
            CoroutineResult::Return(()) => Resumption::Finished,
        }
    }
}

impl std::fmt::Debug for Fiber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fiber").field("done", &self.coroutine.done()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn deep(switch: &Switch, depth: u32, log: &RefCell<Vec<(u32, u32)>>, name: u32) {
        if depth == 0 {
            assert_eq!(switch.suspend(Pause::Preempted), Suspension::Resumed);
        } else {
            deep(switch, depth - 1, log, name);
            log.borrow_mut().push((name, depth));
        }
    }

    #[test]
    fn fibers_interleave_at_any_depth() {
        let switch = Rc::new(Switch::default());
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut fibers: Vec<Fiber> = (0..3)
            .map(|name| {
                let (inner, log) = (Rc::clone(&switch), Rc::clone(&log));
                Fiber::new(&switch, move || {
                    deep(&inner, name, &log, name);
                })
            })
            .collect();
        for fiber in &mut fibers {
            assert_eq!(fiber.resume(), Resumption::Paused(Pause::Preempted));
        }
        assert_eq!(switch.suspend(Pause::Preempted), Suspension::NoFiber);
        for name in [2, 0, 1] {
            assert_eq!(fibers[name as usize].resume(), Resumption::Finished);
        }
        assert_eq!(*log.borrow(), [(2, 1), (2, 2), (1, 1)]);
    }

    #[test]
    fn dropping_a_suspended_fiber_unwinds_it() {
        let switch = Rc::new(Switch::default());
        let dropped = Rc::new(Cell::new(false));
        struct Guard(Rc<Cell<bool>>, Rc<Switch>);
        impl Drop for Guard {
            fn drop(&mut self) {
                // Code that runs while a fiber is torn down finds no fiber to suspend.
                assert_eq!(self.1.suspend(Pause::Preempted), Suspension::NoFiber);
                self.0.set(true);
            }
        }
        let guard = Guard(Rc::clone(&dropped), Rc::clone(&switch));
        let inner = Rc::clone(&switch);
        let mut fiber = Fiber::new(&switch, move || {
            let _guard = guard;
            inner.suspend(Pause::TurnOver);
        });
        assert_eq!(fiber.resume(), Resumption::Paused(Pause::TurnOver));
        drop(fiber);
        assert!(dropped.get());
    }
}
