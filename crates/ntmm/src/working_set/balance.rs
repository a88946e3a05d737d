//! The balance engine: which sets are trimmed, and how hard (MmWorkingSetManager and the balance
//! set manager, spec 6.11, 6.14).
//!
//! Once a second of the host's time, and whenever memory runs short, the engine makes a sweep
//! over all sets. A sweep is a number of passes; each later pass takes younger pages, and the
//! last ones go below the minimum of a set. A sweep ends as soon as there are enough available
//! and modified pages, so with plenty of memory it only ages. A step visits a bounded stretch of
//! one set, under that set's lock, which it only tries to take.

use ntmm_sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use ntmm_sync::level::{Token, Unlocked};

use super::entry::Age;
use super::trim::{Ageing, TrimOrder};
use crate::frames::PageLocation;
use crate::manager::Manager;
use crate::platform::{Engine, EngineStep, Platform, SystemTime};

/// Time between two sweeps that nobody asked for.
pub const PERIOD: SystemTime = SystemTime(10_000_000);

/// Entries visited in one step.
const STRETCH: u32 = 64;

/// Where the sweep stands. Only the engine changes it, and the engine is stepped by one
/// processor at a time ([`Balance::busy`]).
#[derive(Debug, Default)]
pub(crate) struct Balance {
    busy: AtomicBool,
    last_sweep: AtomicU64,
    sweeping: AtomicBool,
    pass: AtomicU32,
    space: AtomicU32,
    entry: AtomicU32,
}

/// Passes of a sweep: from which age on pages leave, and how small a set may become.
const PASSES: [(Age, Floor); 6] = [
    (Age::OLD, Floor::Maximum),
    (Age::OLD, Floor::Minimum),
    (Age::of_passes(2), Floor::Minimum),
    (Age::of_passes(1), Floor::Minimum),
    (Age::YOUNG, Floor::Minimum),
    (Age::YOUNG, Floor::Nothing),
];

#[derive(Clone, Copy)]
enum Floor {
    Maximum,
    Minimum,
    Nothing,
}

impl<P: Platform> Manager<P> {
    /// Pages that should be available and are not, counting those on their way.
    fn page_shortage(&self) -> u32 {
        let thresholds = self.available.thresholds();
        let coming = self.lists.total(PageLocation::Modified);
        let want = if self.pages_are_awaited() {
            // Whoever waits may need several; modified pages are not there yet.
            return (thresholds.plenty + 1).saturating_sub(self.available.unreserved());
        } else {
            thresholds.plenty
        };
        want.saturating_sub(self.available.unreserved() + coming)
    }

    /// The balance engine.
    pub(crate) fn step_balance(&self, token: &mut Token<'_, Unlocked>) -> EngineStep {
        let balance = &self.balance;
        if balance.busy.swap(true, Ordering::Acquire) {
            return EngineStep::Idle;
        }
        let outcome = self.balance_step(token);
        balance.busy.store(false, Ordering::Release);
        outcome
    }

    fn balance_step(&self, token: &mut Token<'_, Unlocked>) -> EngineStep {
        self.remind_removal();
        if self.dereference_is_due() {
            self.platform().request(Engine::Dereference);
        }
        let balance = &self.balance;
        if !balance.sweeping.load(Ordering::Relaxed) {
            let now = self.platform().now().0;
            let due = now.saturating_sub(balance.last_sweep.load(Ordering::Relaxed)) >= PERIOD.0;
            if !due && self.page_shortage() == 0 {
                return EngineStep::Idle;
            }
            balance.last_sweep.store(now, Ordering::Relaxed);
            balance.sweeping.store(true, Ordering::Relaxed);
            balance.pass.store(0, Ordering::Relaxed);
            balance.space.store(0, Ordering::Relaxed);
            balance.entry.store(0, Ordering::Relaxed);
        }
        let pass = balance.pass.load(Ordering::Relaxed);
        let shortage = self.page_shortage();
        let stage = PASSES.get(pass as usize);
        let Some(&(age, floor)) = stage.filter(|_| shortage > 0 || pass == 0) else {
            balance.sweeping.store(false, Ordering::Relaxed);
            // What the sweep made modified, and what an earlier write left so, is written now.
            self.platform().request(Engine::ModifiedWriter);
            return EngineStep::Idle;
        };
        self.visit_next_set(
            token,
            age,
            floor,
            shortage,
            if pass == 0 { Ageing::Yes } else { Ageing::No },
        );
        EngineStep::Worked
    }

    fn visit_next_set(
        &self,
        token: &mut Token<'_, Unlocked>,
        age: Age,
        floor: Floor,
        shortage: u32,
        ageing: Ageing,
    ) {
        let balance = &self.balance;
        let from = balance.space.load(Ordering::Relaxed);
        let space = (from..self.spaces.high()).find_map(|index| self.space_at(index));
        let Some(space) = space else {
            balance.pass.fetch_add(1, Ordering::Relaxed);
            balance.space.store(0, Ordering::Relaxed);
            balance.entry.store(0, Ordering::Relaxed);
            return;
        };
        if space.index() != from {
            balance.space.store(space.index(), Ordering::Relaxed);
            balance.entry.store(0, Ordering::Relaxed);
        }
        let next = self.try_begin_flush(space).and_then(|mut batch| {
            let mut set = self.try_lock_space(token, space)?;
            let header = set.header();
            let order = TrimOrder {
                age,
                pages: shortage,
                floor: match floor {
                    Floor::Maximum => header.maximum(),
                    Floor::Minimum => header.minimum(),
                    Floor::Nothing => 0,
                },
                ageing,
            };
            let from = balance.entry.load(Ordering::Relaxed);
            let visit = set.visit(from, STRETCH, order, &mut batch);
            if visit.trimmed > 0 {
                header.set_last_trim_time(self.platform().now().0);
            }
            batch.finish(set.token());
            visit.next
        });
        match next {
            Some(next) => balance.entry.store(next, Ordering::Relaxed),
            None => {
                balance.space.store(space.index() + 1, Ordering::Relaxed);
                balance.entry.store(0, Ordering::Relaxed);
            }
        }
    }
}
