//! Who may run: ready and waiting threads, and the engines that were asked for.
//!
//! A thread is ready, running on a processor, parked on a wait key, or gone. Parking is
//! announced before the manager is asked whether the wait still holds, so a wake-up in between
//! finds the thread and is not lost; the thread is then taken back.
//!
//! The manager wakes threads and requests engines with locks held, so nothing here calls it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use ntmm::operation::WaitKey;
use ntmm::platform::Engine;

/// Number of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.0)
    }
}

/// A set of engines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Engines(u8);

impl Engines {
    const fn bit(engine: Engine) -> u8 {
        match engine {
            Engine::Zeroing => 1,
            Engine::ModifiedWriter => 2,
            Engine::Balance => 4,
            Engine::Retire => 8,
            Engine::Dereference => 16,
        }
    }

    const fn with(self, engine: Engine) -> Self {
        Self(self.0 | Self::bit(engine))
    }

    const fn without(self, engine: Engine) -> Self {
        Self(self.0 & !Self::bit(engine))
    }

    const fn contains(self, engine: Engine) -> bool {
        self.0 & Self::bit(engine) != 0
    }
}

/// The scheduler's lists.
#[derive(Debug, Default)]
pub struct Scheduler {
    ready: VecDeque<ThreadId>,
    waiting: BTreeMap<WaitKey, Vec<ThreadId>>,
    requested: Engines,
    /// Each engine is one system thread: it runs on one processor at a time.
    running: Engines,
    wakeups: u64,
}

impl Scheduler {
    /// Lets a thread run when its turn comes.
    pub fn make_ready(&mut self, thread: ThreadId) {
        self.ready.push_back(thread);
    }

    /// How many threads are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes the ready thread at a place in the queue.
    pub fn take_ready(&mut self, place: usize) -> Option<ThreadId> {
        self.ready.remove(place)
    }

    /// Announces that a thread waits.
    pub fn park(&mut self, thread: ThreadId, key: WaitKey) {
        self.waiting.entry(key).or_default().push(thread);
    }

    /// Takes back the announcement; says whether it still stood.
    pub fn unpark(&mut self, thread: ThreadId, key: WaitKey) -> Announcement {
        let Some(threads) = self.waiting.get_mut(&key) else {
            return Announcement::Woken;
        };
        let Some(place) = threads.iter().position(|waiting| *waiting == thread) else {
            return Announcement::Woken;
        };
        threads.remove(place);
        if threads.is_empty() {
            self.waiting.remove(&key);
        }
        Announcement::Stood
    }

    /// Makes every thread that waits for a key ready.
    pub fn wake(&mut self, key: WaitKey) {
        if let Some(threads) = self.waiting.remove(&key) {
            self.wakeups += threads.len() as u64;
            self.ready.extend(threads);
        }
    }

    /// Threads woken so far.
    #[must_use]
    pub const fn wakeups(&self) -> u64 {
        self.wakeups
    }

    /// Every waiting thread and its key.
    pub fn waiters(&self) -> impl Iterator<Item = (ThreadId, WaitKey)> {
        self.waiting.iter().flat_map(|(key, threads)| threads.iter().map(|thread| (*thread, *key)))
    }

    /// Asks for an engine to be stepped.
    pub fn request(&mut self, engine: Engine) {
        self.requested = self.requested.with(engine);
    }

    /// The engines that were asked for and do not run already.
    pub fn due_engines(&self) -> impl Iterator<Item = Engine> {
        let (requested, running) = (self.requested, self.running);
        Engine::ALL
            .into_iter()
            .filter(move |engine| requested.contains(*engine) && !running.contains(*engine))
    }

    /// An engine is about to be stepped; a request from now on asks for another step.
    pub fn start(&mut self, engine: Engine) {
        self.requested = self.requested.without(engine);
        self.running = self.running.with(engine);
    }

    /// The engine has been stepped.
    pub fn finish(&mut self, engine: Engine) {
        self.running = self.running.without(engine);
    }
}

/// Whether a thread was still announced as waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// It was.
    Stood,
    /// It had been woken and is ready.
    Woken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_a_key_readies_its_threads_in_order() {
        let mut scheduler = Scheduler::default();
        scheduler.park(ThreadId(3), WaitKey::AvailablePages);
        scheduler.park(ThreadId(1), WaitKey::Records);
        scheduler.park(ThreadId(2), WaitKey::AvailablePages);
        scheduler.wake(WaitKey::AvailablePages);
        assert_eq!(scheduler.take_ready(0), Some(ThreadId(3)));
        assert_eq!(scheduler.take_ready(0), Some(ThreadId(2)));
        assert_eq!(scheduler.take_ready(0), None);
        assert_eq!(scheduler.waiters().collect::<Vec<_>>(), [(ThreadId(1), WaitKey::Records)]);
    }

    #[test]
    fn a_wakeup_after_the_announcement_is_not_lost() {
        let mut scheduler = Scheduler::default();
        scheduler.park(ThreadId(1), WaitKey::Records);
        scheduler.wake(WaitKey::Records);
        assert_eq!(scheduler.unpark(ThreadId(1), WaitKey::Records), Announcement::Woken);
        assert_eq!(scheduler.take_ready(0), Some(ThreadId(1)));
        scheduler.park(ThreadId(1), WaitKey::Records);
        assert_eq!(scheduler.unpark(ThreadId(1), WaitKey::Records), Announcement::Stood);
        assert_eq!(scheduler.ready(), 0);
    }

    #[test]
    fn an_engine_runs_once_at_a_time_and_remembers_requests() {
        let mut scheduler = Scheduler::default();
        scheduler.request(Engine::Retire);
        scheduler.start(Engine::Retire);
        scheduler.request(Engine::Retire);
        assert_eq!(scheduler.due_engines().count(), 0);
        scheduler.finish(Engine::Retire);
        assert_eq!(scheduler.due_engines().collect::<Vec<_>>(), [Engine::Retire]);
    }
}
