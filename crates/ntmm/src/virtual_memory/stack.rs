//! Growth of a thread's stack (MiCheckForUserStackOverflow, spec 4.6; API 6).
//!
//! A stack is a reservation whose top is committed, with guard pages below. When the thread that
//! owns it touches a guard page, the fault ends as for any guard page, with the guard taken off;
//! then the host steps a [`GrowStack`], which moves the guard down and says that the thread may
//! go on. When there is no room for a guard any more, all but the lowest page is committed for
//! the handler of the overflow. The fields of the thread's environment block are the host's.

use ntmm_pte::{Access, Bytes, Modifier, PAGE_SIZE, Protection, Va};

use super::{Allocate, AllocationType, Placement, Region};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;

/// A stack, as the environment block of its thread describes it. The program can write there: any
/// numbers will do, and do no more than calls of the program's own could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserStack {
    /// StackBase: the first address above it.
    pub base: Va,
    /// StackLimit: the lowest address that can be used without a fault that grows it.
    pub limit: Va,
    /// DeallocationStack: the lowest address reserved for it.
    pub deallocation: Va,
    /// GuaranteedStackBytes, in whole pages: the size of the guard. Zero counts as one page.
    pub guaranteed: Bytes,
}

impl UserStack {
    /// Where StackLimit is after pages of `region` have become guard pages by a call of the
    /// thread itself: a guard in the middle of the stack in use ends what can be used.
    #[must_use]
    pub fn limit_after_guard(&self, region: Region) -> Va {
        let end = Va::new(region.base.get().saturating_add(region.size.get()));
        if region.base >= self.limit && end <= self.base { end } else { self.limit }
    }
}

/// What came of a touched guard page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackGrowth {
    /// The page is no guard of this stack: the thread gets
    /// [`NtStatus::GUARD_PAGE_VIOLATION`](crate::NtStatus::GUARD_PAGE_VIOLATION).
    NoStack,
    /// The thread goes on.
    Grown {
        /// The new StackLimit.
        limit: Va,
    },
    /// The thread gets [`NtStatus::STACK_OVERFLOW`](crate::NtStatus::STACK_OVERFLOW).
    Overflow {
        /// The new StackLimit.
        limit: Va,
    },
}

/// Grows a stack after its owner has touched a guard page of it.
#[derive(Debug)]
#[must_use]
pub struct GrowStack {
    space: AddressSpaceId,
    stack: UserStack,
    page: Va,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The pages from the touched one to those in use lose their guards.
    Opening(Allocate),
    /// The pages below become the guard.
    Guarding(Allocate),
    /// All pages but the lowest become ordinary ones.
    Overflowing(Allocate),
}

impl GrowStack {
    /// Grows `stack` in `space`, whose owner has touched the guard page at `va`.
    pub fn new(space: AddressSpaceId, stack: UserStack, va: Va) -> Self {
        Self { space, stack, page: va.page_base(), stage: Stage::Start }
    }

    /// Commits the pages from `start` to `end`, which is above them.
    fn commit(&self, start: Va, end: Va, protection: Protection) -> Allocate {
        let size = Bytes::new(end.get().saturating_sub(start.get()));
        let place = Placement::At(start);
        Allocate::new(self.space, place, size, AllocationType::Commit, protection)
    }

    const fn lowest_usable(&self) -> Va {
        Va::new(self.stack.deallocation.get().saturating_add(PAGE_SIZE))
    }

    /// The lowest page of the new guard; none when it would leave no page below it.
    fn guard_start(&self) -> Option<Va> {
        let guard = self.stack.guaranteed.to_pages_rounded_up().to_bytes();
        let size = guard.get().max(PAGE_SIZE);
        let start = self.page.get().checked_sub(size)?;
        let room = start.checked_sub(PAGE_SIZE)?;
        (room > self.stack.deallocation.get()).then_some(Va::new(start))
    }

    fn start(&self) -> Option<Stage> {
        let UserStack { base, limit, deallocation, .. } = self.stack;
        if self.page < deallocation || self.page >= base {
            return None;
        }
        if self.guard_start().is_none() {
            let end = Va::new(self.page.get() + PAGE_SIZE).max(limit);
            let rest = self.commit(self.lowest_usable(), end, Protection::READWRITE);
            return Some(Stage::Overflowing(rest));
        }
        let end = Va::new(self.page.get() + PAGE_SIZE).max(limit.min(base));
        Some(Stage::Opening(self.commit(self.page, end, Protection::READWRITE)))
    }
}

impl<P: Platform> Operation<P> for GrowStack {
    type Output = StackGrowth;

    fn step(&mut self, manager: &Manager<P>) -> Step<StackGrowth> {
        let overflow = StackGrowth::Overflow { limit: self.lowest_usable() };
        loop {
            let next = match &mut self.stage {
                Stage::Start => match self.start() {
                    Some(stage) => stage,
                    None => return Step::Done(StackGrowth::NoStack),
                },
                Stage::Opening(call) => match call.step(manager) {
                    Step::Wait(wait) => return Step::Wait(wait),
                    Step::Raise(_) => return Step::Done(overflow),
                    Step::Done(_) => {
                        let Some(start) = self.guard_start() else {
                            return Step::Done(overflow);
                        };
                        let guard = Protection::new(Access::ReadWrite, Modifier::Guard);
                        Stage::Guarding(self.commit(start, self.page, guard))
                    }
                },
                Stage::Guarding(call) => match call.step(manager) {
                    Step::Wait(wait) => return Step::Wait(wait),
                    Step::Raise(_) => return Step::Done(overflow),
                    Step::Done(_) => return Step::Done(StackGrowth::Grown { limit: self.page }),
                },
                Stage::Overflowing(call) => match call.step(manager) {
                    Step::Wait(wait) => return Step::Wait(wait),
                    // The thread learns of the overflow whether or not the pages can be had.
                    Step::Raise(_) | Step::Done(_) => return Step::Done(overflow),
                },
            };
            self.stage = next;
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        match self.stage {
            Stage::Opening(call) | Stage::Guarding(call) | Stage::Overflowing(call) => {
                call.abandon(manager);
            }
            Stage::Start => {}
        }
    }
}
