//! A lock hands what it protects from one holder to the next, whatever the schedule.
//!
//! `cargo test -p ntmm-sync --test handover` runs the protocols on threads;
//! `RUSTFLAGS="--cfg loom" cargo test -p ntmm-sync --test handover --release` explores every
//! schedule of two threads.

#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(not(loom))]
use std::{sync::Arc, thread};

use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::Half;
use ntmm_sync::lock::{BitLock, WordLock};

/// Explores `body` under loom; runs it many times otherwise.
fn explore(body: impl Fn() + Sync + Send + 'static) {
    #[cfg(loom)]
    loom::model(body);
    #[cfg(not(loom))]
    (0..200).for_each(|_| body());
}

/// Turns each thread takes.
const TURNS: u64 = if cfg!(loom) { 1 } else { 50 };

/// Runs `turn` on two threads and waits for both.
fn on_two_threads<T: Send + Sync + 'static>(shared: &Arc<T>, turn: fn(&T, u64)) {
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let shared = Arc::clone(shared);
            thread::spawn(move || (0..TURNS).for_each(|_| turn(&shared, number)))
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread ends");
    }
}

/// A number that is only changed under the lock; relaxed, so that only the lock orders it.
fn add_one(data: &AtomicU64) {
    data.store(data.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

const LOCK: BitLock = BitLock::new(0);

#[test]
fn bit_lock_hands_over_its_word_and_what_it_protects() {
    explore(|| {
        let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        on_two_threads(&shared, |(word, data), _| {
            let value = LOCK.acquire(word, thread::yield_now);
            add_one(data);
            LOCK.release(word, value + 2);
        });
        let (word, data) = &*shared;
        assert_eq!(word.load(Ordering::Relaxed), 2 * 2 * TURNS);
        assert_eq!(data.load(Ordering::Relaxed), 2 * TURNS);
    });
}

#[test]
fn word_lock_hands_over_what_it_protects() {
    explore(|| {
        let shared = Arc::new((WordLock::new(), AtomicU64::new(0)));
        on_two_threads(&shared, |(lock, data), _| {
            lock.acquire(thread::yield_now);
            add_one(data);
            lock.release();
        });
        assert!(!shared.0.is_held());
        assert_eq!(shared.1.load(Ordering::Relaxed), 2 * TURNS);
    });
}

#[test]
fn trying_succeeds_for_at_most_one() {
    explore(|| {
        let shared = Arc::new((AtomicU64::new(6), AtomicU64::new(0)));
        on_two_threads(&shared, |(word, holders), _| {
            if let Some(value) = LOCK.try_acquire(word) {
                assert_eq!(value, 6, "the other bits, without the lock");
                assert_eq!(holders.fetch_add(1, Ordering::Relaxed), 0);
                holders.fetch_sub(1, Ordering::Relaxed);
                LOCK.release(word, value);
            }
        });
        assert_eq!(shared.0.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn halves_of_a_word_change_side_by_side() {
    explore(|| {
        let word = Arc::new(AtomicU64::new(0));
        on_two_threads(&word, |word, number| {
            let half = if number == 0 { Half::Low } else { Half::High };
            let seen = half.of(word.load(Ordering::Relaxed));
            assert_eq!(half.compare_exchange(word, seen, seen + 1), Ok(seen));
            assert_eq!(half.swap(word, seen + 2), seen + 1);
        });
        let turns = 2 * TURNS;
        assert_eq!(word.load(Ordering::Relaxed), turns | (turns << 32));
    });
}
