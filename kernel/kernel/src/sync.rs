//! The kernel's own spin lock.
//!
//! It is held for short, bounded work with interrupts off on the holder's processor, so that
//! interrupt handlers may take it too. It lies inside all locks of the memory manager: whoever
//! holds it does not call the manager's operations.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts;

use crate::bug_check;

/// Looks at a lock that is held, after which it is not given back any more: many seconds.
const PATIENCE: u64 = 5_000_000_000;

/// A value behind a spin lock.
pub struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, of which there is one at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Turns interrupts off and waits until the lock is free.
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let interrupts = interrupts::are_enabled();
        interrupts::disable();
        let mut patience = PATIENCE;
        while self.held.swap(true, Ordering::Acquire) {
            while self.held.load(Ordering::Relaxed) {
                crate::processor::relax();
                patience -= 1;
                if patience == 0 {
                    let lock = core::ptr::from_ref(self) as u64;
                    bug_check::stop(bug_check::DPC_WATCHDOG_VIOLATION, [2, lock, 0, 0]);
                }
            }
        }
        SpinGuard { lock: self, interrupts }
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let interrupts = interrupts::are_enabled();
        interrupts::disable();
        if self.held.swap(true, Ordering::Acquire) {
            if interrupts {
                interrupts::enable();
            }
            return None;
        }
        Some(SpinGuard { lock: self, interrupts })
    }

    /// Frees the lock though its guard has been forgotten: the thread that took it has switched
    /// to this one. Interrupts stay as they are.
    ///
    /// # Safety
    /// The lock is held by this processor and its guard will not be used any more.
    pub unsafe fn release_forgotten(&self) {
        self.held.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// The lock, held.
pub struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
    /// Whether interrupts were on before.
    interrupts: bool,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and by this guard alone.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and by this guard alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
        if self.interrupts {
            interrupts::enable();
        }
    }
}

/// A value that is made once, during boot, and read ever after.
pub struct Once<T> {
    made: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: it is written before `made` is set and only read afterwards.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// Not made yet.
    pub const fn new() -> Self {
        Self { made: AtomicBool::new(false), value: UnsafeCell::new(None) }
    }

    /// Makes the value.
    ///
    /// # Safety
    /// Called once, while no other processor runs.
    pub unsafe fn set(&self, value: T) -> &T {
        // SAFETY: nobody reads the value before `made` is set.
        unsafe { *self.value.get() = Some(value) };
        self.made.store(true, Ordering::Release);
        self.get()
    }

    /// The value, if it has been made.
    pub fn try_get(&self) -> Option<&T> {
        if self.made.load(Ordering::Acquire) {
            // SAFETY: it is not written any more.
            unsafe { (*self.value.get()).as_ref() }
        } else {
            None
        }
    }

    /// The value.
    ///
    /// # Panics
    /// When it has not been made.
    pub fn get(&self) -> &T {
        self.try_get().expect("made during boot")
    }
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}
