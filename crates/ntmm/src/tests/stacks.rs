//! Growth of stacks and their overflow (spec 4.6; API 6).

use ntmm_pte::{Access, AccessKind, Bytes, Modifier, PAGE_SIZE, PagingMode, Protection, Va};

use super::host::{Host, page_at};
use crate::virtual_memory::{GrowStack, Region, StackGrowth, UserStack};
use crate::{AddressSpaceId, NtStatus};

const RW: Protection = Protection::READWRITE;
const GUARD: Protection = Protection::new(Access::ReadWrite, Modifier::Guard);

/// A stack of 16 pages, of which the highest is committed, with a guard of some pages.
fn stack<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, guard: u64) -> UserStack {
    let bottom = host.reserve_at(space, Va::new(0x10_0000), 16).base;
    host.commit(space, page_at(bottom, 15), 1, RW).expect("committed");
    host.commit(space, page_at(bottom, 15 - guard), guard, GUARD).expect("committed");
    UserStack {
        base: page_at(bottom, 16),
        limit: page_at(bottom, 15),
        deallocation: bottom,
        guaranteed: Bytes::new(guard * PAGE_SIZE),
    }
}

/// Touches an address as the thread of this stack does.
fn touch<M: PagingMode>(
    host: &Host<M>,
    space: AddressSpaceId,
    stack: &mut UserStack,
    va: Va,
) -> Result<(), NtStatus> {
    loop {
        match host.touch(space, va, AccessKind::Write) {
            Err(NtStatus::GUARD_PAGE_VIOLATION) => {}
            other => return other.map(|_| ()),
        }
        match host.run(GrowStack::new(space, *stack, va)).expect("it never raises") {
            StackGrowth::NoStack => return Err(NtStatus::GUARD_PAGE_VIOLATION),
            StackGrowth::Grown { limit } => stack.limit = limit,
            StackGrowth::Overflow { limit } => {
                stack.limit = limit;
                return Err(NtStatus::STACK_OVERFLOW);
            }
        }
    }
}

in_every_mode! {
    fn stack_grows_page_by_page_until_three_are_left<M>() {
        for guard in [1, 2] {
            let host = Host::<M>::new(128);
            let space = host.space();
            let mut stack = stack(&host, space, guard);
            let bottom = stack.deallocation;
            for page in (guard + 2..15).rev() {
                let va = page_at(bottom, page);
                assert_eq!(touch(&host, space, &mut stack, va), Ok(()), "page {page}");
                assert_eq!(stack.limit, va);
                let below = host.query(space, page_at(bottom, page - 1));
                assert_eq!(below.protection, Some(GUARD), "below page {page}");
                assert_eq!(host.query(space, va).protection, Some(RW));
            }
            let last = page_at(bottom, guard + 1);
            let overflow = touch(&host, space, &mut stack, last);
            assert_eq!(overflow, Err(NtStatus::STACK_OVERFLOW));
            assert_eq!(stack.limit, page_at(bottom, 1));
            for page in 1..16 {
                assert_eq!(touch(&host, space, &mut stack, page_at(bottom, page)), Ok(()));
            }
            let beyond = touch(&host, space, &mut stack, bottom);
            assert_eq!(beyond, Err(NtStatus::ACCESS_VIOLATION), "the lowest page");
            host.audit_at_rest();
        }
    }

    fn skipped_guards_become_part_of_the_stack<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let mut stack = stack(&host, space, 2);
        let lower = page_at(stack.deallocation, 13);
        assert_eq!(touch(&host, space, &mut stack, lower), Ok(()));
        assert_eq!(stack.limit, lower);
        assert_eq!(host.query(space, page_at(lower, 1)).protection, Some(RW));
        assert_eq!(host.query(space, page_at(stack.deallocation, 11)).protection, Some(GUARD));
        let skipped = page_at(stack.deallocation, 5);
        assert_eq!(touch(&host, space, &mut stack, skipped), Err(NtStatus::ACCESS_VIOLATION));
        host.audit_at_rest();
    }

    fn guards_elsewhere_are_no_stack<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let mut stack = stack(&host, space, 1);
        let other = host.allocate_with(space, 1, GUARD);
        let outcome = touch(&host, space, &mut stack, other);
        assert_eq!(outcome, Err(NtStatus::GUARD_PAGE_VIOLATION));
        assert_eq!(touch(&host, space, &mut stack, other), Ok(()), "it fired once");
    }

    fn failing_to_move_the_guard_is_an_overflow<M>() {
        for allocation in 0.. {
            let host = Host::<M>::new(128);
            let space = host.space();
            let stack = stack(&host, space, 1);
            let va = page_at(stack.deallocation, 14);
            let guarded = host.touch(space, va, AccessKind::Write);
            assert_eq!(guarded, Err(NtStatus::GUARD_PAGE_VIOLATION));
            host.machine().fail_after.set(Some(allocation));
            let grown = host.run(GrowStack::new(space, stack, va)).expect("it never raises");
            let failed = host.machine().fail_after.take().is_none();
            let overflow = StackGrowth::Overflow { limit: page_at(stack.deallocation, 1) };
            assert!(grown == overflow || grown == StackGrowth::Grown { limit: va });
            host.audit_at_rest();
            if !failed {
                assert!(allocation > 0, "something was allocated");
                break;
            }
        }
    }

    fn guard_of_its_own_making_ends_the_stack_in_use<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let stack = stack(&host, space, 1);
        let at = |page, pages: u64| Region {
            base: page_at(stack.deallocation, page),
            size: Bytes::new(pages * PAGE_SIZE),
        };
        assert_eq!(stack.limit_after_guard(at(15, 1)), stack.base);
        assert_eq!(stack.limit_after_guard(at(3, 1)), stack.limit);
        assert_eq!(stack.limit_after_guard(at(15, 2)), stack.limit);
    }

    fn any_description_of_a_stack_does_no_harm<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let memory = stack(&host, space, 2);
        let touched = page_at(memory.deallocation, 14);
        let inside = memory.deallocation.get();
        let numbers =
            [0, 1, PAGE_SIZE, inside - 1, inside, inside + 5 * PAGE_SIZE + 3, touched.get(),
             memory.base.get(), M::HIGHEST_USER_ADDRESS.get(), u64::MAX - 4096, u64::MAX];
        for [base, limit, deallocation, guaranteed] in combinations(numbers) {
            let described = UserStack {
                base: Va::new(base),
                limit: Va::new(limit),
                deallocation: Va::new(deallocation),
                guaranteed: Bytes::new(guaranteed),
            };
            host.run(GrowStack::new(space, described, touched)).expect("it never raises");
            let region = Region { base: touched, size: Bytes::new(PAGE_SIZE) };
            let after = described.limit_after_guard(region);
            assert!(after == described.limit || after == page_at(touched, 1));
        }
        host.audit_at_rest();
    }
}

/// All ways to choose four of the numbers.
fn combinations<const N: usize>(numbers: [u64; N]) -> impl Iterator<Item = [u64; 4]> {
    let count = N.pow(4);
    (0..count)
        .map(move |index| core::array::from_fn(|place| numbers[index / N.pow(place as u32) % N]))
}
