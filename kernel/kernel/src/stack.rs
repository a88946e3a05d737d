//! Stacks of programs (RtlCreateUserStack, MiCheckForUserStackOverflow; spec API 6).
//!
//! A stack is a reservation whose top is committed, with two guard pages below that. Where it ends
//! is kept with its thread, which alone reads and changes it: there is no environment block in the
//! program's memory.

use ntmm::nt::{Caller, Range};
use ntmm::virtual_memory::{
    Allocate, AllocationType, GrowStack, Placement, StackGrowth, UserStack,
};
use ntmm::{AddressSpaceId, NtStatus};
use ntmm_pte::protection::PAGE_GUARD;
use ntmm_pte::{Access, Bytes, Modifier, Protection, Va};

use crate::memory::PAGE;
use crate::scheduler;
use crate::wait::complete;

/// Bytes reserved for the stack of a first thread.
const RESERVED: u64 = 1 << 20;

/// Bytes committed at first.
const COMMITTED: u64 = 64 << 10;

/// Bytes of guard pages.
const GUARD: u64 = 2 * PAGE;

/// Makes the stack of the first thread of a program.
///
/// # Errors
/// There is no memory for it.
pub fn create(space: AddressSpaceId) -> Result<UserStack, NtStatus> {
    let allocate = |place, size, kind, protection| {
        complete(Allocate::new(space, place, Bytes::new(size), kind, protection))
    };
    let writable = Protection::READWRITE;
    let guarded = Protection::new(Access::ReadWrite, Modifier::Guard);
    let whole = allocate(Placement::Lowest, RESERVED, AllocationType::Reserve, writable)?;
    let base = whole.base.get() + RESERVED;
    let limit = base - COMMITTED;
    for (start, size, protection) in [(limit, COMMITTED, writable), (limit - GUARD, GUARD, guarded)]
    {
        allocate(Placement::At(Va::new(start)), size, AllocationType::Commit, protection)?;
    }
    Ok(described(base, limit, whole.base.get()))
}

/// A stack that a program has made, by its own account. What it says is used for nothing but
/// calls the program could make itself.
pub const fn described(base: u64, limit: u64, deallocation: u64) -> UserStack {
    UserStack {
        base: Va::new(base),
        limit: Va::new(limit),
        deallocation: Va::new(deallocation),
        guaranteed: Bytes::new(GUARD),
    }
}

/// Lets the stack of the running thread grow, which has touched the guard page at `va`.
///
/// # Errors
/// GUARD_PAGE_VIOLATION when the page is not of its stack; STACK_OVERFLOW when the stack cannot
/// grow any more.
pub fn grow(va: Va) -> Result<(), NtStatus> {
    let home = scheduler::home().ok_or(NtStatus::GUARD_PAGE_VIOLATION)?;
    let stack = scheduler::stack().ok_or(NtStatus::GUARD_PAGE_VIOLATION)?;
    match complete(GrowStack::new(home.space, stack, va))? {
        StackGrowth::NoStack => Err(NtStatus::GUARD_PAGE_VIOLATION),
        StackGrowth::Grown { limit } => {
            scheduler::set_stack(UserStack { limit, ..stack });
            Ok(())
        }
        StackGrowth::Overflow { limit } => {
            scheduler::set_stack(UserStack { limit, ..stack });
            Err(NtStatus::STACK_OVERFLOW)
        }
    }
}

/// Notes that the running thread has given `range` of its own process a protection.
pub fn note_protection(caller: &Caller, range: Range, protection: u32) {
    if protection & PAGE_GUARD != 0
        && let Some(stack) = scheduler::stack()
    {
        let limit = caller.stack_limit_after(&stack, range, protection);
        if limit != stack.limit {
            scheduler::set_stack(UserStack { limit, ..stack });
        }
    }
}
