//! The stack of the calling thread, laid out as NT lays out a user stack (spec API 6).
//!
//! A reservation of 1 MiB whose top pages are committed, with guard pages below them: one in
//! 32-bit programs, two in 64-bit ones. It is made when a case first asks for it. It grows when
//! the thread, or the kernel on its behalf, touches its guard.

use ntmm::NtStatus;
use ntmm::nt::Range;
use ntmm::virtual_memory::{AllocationType, GrowStack, Placement, StackGrowth, UserStack};
use ntmm_machine::{Hardware, Privilege};
use ntmm_pte::protection::{Access, Modifier};
use ntmm_pte::{Bytes, PAGE_SIZE, Protection, Va};

use super::Windows;
use super::processor::{Reference, Referenced};
use crate::system::{Answer, Refusal};
use crate::value::Arguments;

/// Bytes reserved for a stack.
const RESERVED: u64 = 0x10_0000;

/// Bytes committed at first.
const COMMITTED: u64 = 2 * PAGE_SIZE;

/// Distance of the stack pointer of a thread that waits for its call from the stack's base.
const IN_USE: u64 = PAGE_SIZE / 2;

/// A field of the thread's environment block.
#[must_use]
pub fn field(stack: &UserStack, name: &str) -> Option<u64> {
    match name {
        "DeallocationStack" => Some(stack.deallocation.get()),
        "StackBase" => Some(stack.base.get()),
        "StackLimit" => Some(stack.limit.get()),
        _ => None,
    }
}

/// The stack pointer of the calling thread.
#[must_use]
pub const fn pointer(stack: &UserStack) -> u64 {
    stack.base.get() - IN_USE
}

impl<M: Hardware> Windows<M> {
    /// The stack of the calling thread.
    pub(super) fn stack(&mut self) -> Result<UserStack, Refusal> {
        if let Some(stack) = self.stack {
            return Ok(stack);
        }
        let deallocation = self.own_memory(
            Placement::Highest,
            RESERVED,
            AllocationType::Reserve,
            Protection::READWRITE,
        )?;
        let base = deallocation + RESERVED;
        let limit = base - COMMITTED;
        let guard = if M::ADDRESS_BITS == 32 { PAGE_SIZE } else { 2 * PAGE_SIZE };
        for (start, size, protection) in [
            (limit, COMMITTED, Protection::READWRITE),
            (limit - guard, guard, Protection::new(Access::ReadWrite, Modifier::Guard)),
        ] {
            let place = Placement::At(Va::new(start));
            self.own_memory(place, size, AllocationType::Commit, protection)?;
        }
        let stack = UserStack {
            base: Va::new(base),
            limit: Va::new(limit),
            deallocation: Va::new(deallocation),
            guaranteed: Bytes::new(guard),
        };
        self.stack = Some(stack);
        Ok(stack)
    }

    /// Makes references as the calling process's thread, whose stack grows when it has to.
    pub(super) fn refer(
        &mut self,
        references: impl IntoIterator<Item = Reference>,
        privilege: Privilege,
    ) -> Result<Referenced, Refusal> {
        let space = self.processes.current();
        let mut came = self.host.refer(space, references, privilege)?;
        while let Some(raised) = came.raised
            && raised.status == NtStatus::GUARD_PAGE_VIOLATION
            && let Some(overflow) = self.grow(raised.va)?
        {
            if let Some(status) = overflow {
                came.raised = Some(super::processor::Raised { status, ..raised });
                break;
            }
            let more = self.host.refer(space, came.rest, privilege)?;
            came.loaded.extend(more.loaded);
            (came.raised, came.rest) = (more.raised, more.rest);
        }
        Ok(came)
    }

    /// Lets the stack grow whose guard page was touched. None when it is no page of the stack;
    /// inside, the status that is raised when it cannot grow.
    fn grow(&mut self, va: Va) -> Result<Option<Option<NtStatus>>, Refusal> {
        let Some(stack) = self.stack else { return Ok(None) };
        let call = GrowStack::new(self.processes.current(), stack, va);
        let (limit, overflow) = match self.host.complete_call(call)? {
            StackGrowth::NoStack => return Ok(None),
            StackGrowth::Grown { limit } => (limit, None),
            StackGrowth::Overflow { limit } => (limit, Some(NtStatus::STACK_OVERFLOW)),
        };
        self.stack = Some(UserStack { limit, ..stack });
        Ok(Some(overflow))
    }

    /// Notes that the calling thread has given a range of its own process a protection.
    pub(super) fn note_protection(
        &mut self,
        arguments: &Arguments,
        range: Option<Range>,
        protection: u32,
    ) -> Result<(), Refusal> {
        let own = self.process(arguments)?.map(|target| target.space);
        if let (Some(stack), Some(range)) = (self.stack, range)
            && own == Ok(self.processes.current())
        {
            let limit = self.caller(arguments).stack_limit_after(&stack, range, protection);
            self.stack = Some(UserStack { limit, ..stack });
        }
        Ok(())
    }

    /// Touches the stack page by page from its pointer down, over so many bytes.
    pub(super) fn grow_stack(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let bytes = arguments.word("bytes")?;
        self.descend(bytes)
    }

    /// Calls without end.
    pub(super) fn overflow_stack(&mut self) -> Result<Answer, Refusal> {
        self.descend(RESERVED)
    }

    fn descend(&mut self, bytes: u64) -> Result<Answer, Refusal> {
        let start = pointer(&self.stack()?);
        // Beyond the end of the stack there is nothing that could be touched.
        let end = start - bytes.min(RESERVED);
        let pages = std::iter::successors(Some(start), |&at| {
            (at > end).then(|| at.saturating_sub(PAGE_SIZE).max(end))
        });
        let stores = pages.map(|at| Reference::Store(Va::new(at), vec![0]));
        let came = self.refer(stores.collect::<Vec<_>>(), Privilege::User)?;
        Ok(super::pseudo::answer_of(&came))
    }
}
