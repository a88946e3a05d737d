//! The stack of the calling thread, laid out as NT lays out a user stack (spec API 6).
//!
//! A reservation of 1 MiB whose top pages are committed, with guard pages below them. It is made
//! when a case first asks for it.

use ntmm::virtual_memory::{AllocationType, Placement};
use ntmm_machine::Hardware;
use ntmm_pte::protection::{Access, Modifier};
use ntmm_pte::{PAGE_SIZE, Protection, Va};

use super::Windows;
use crate::system::Refusal;

/// Bytes reserved for a stack.
const RESERVED: u64 = 0x10_0000;

/// Bytes committed at first.
const COMMITTED: u64 = 2 * PAGE_SIZE;

/// A stack, by the fields of the thread's environment block.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// DeallocationStack: lowest address of the reservation.
    pub deallocation: u64,
    /// StackLimit: lowest committed address above the guard pages.
    pub limit: u64,
    /// StackBase: first address above the stack.
    pub base: u64,
}

impl Stack {
    /// A field of the thread's environment block.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<u64> {
        match name {
            "DeallocationStack" => Some(self.deallocation),
            "StackBase" => Some(self.base),
            "StackLimit" => Some(self.limit),
            _ => None,
        }
    }
}

impl<M: Hardware> Windows<M> {
    /// The stack of the calling thread.
    pub(super) fn stack(&mut self) -> Result<Stack, Refusal> {
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
        let stack = Stack { deallocation, limit, base };
        self.stack = Some(stack);
        Ok(stack)
    }
}
