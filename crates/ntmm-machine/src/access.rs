//! A memory access that is carried through its page faults.
//!
//! The processor raises a fault; the trap handler makes a [`Fault`] of it and steps that; when
//! it is resolved the instruction runs again. [`MemoryAccess`] is that loop for a program, which keeps
//! one and calls the same method with the same arguments until it no longer stops.

use ntmm::fault::Fault;
use ntmm::operation::Step;
use ntmm::platform::Trace;
use ntmm::status::NtStatus;
use ntmm_pte::{AccessKind, Va};

use crate::context::{Cpu, Place};
use crate::format::Hardware;
use crate::halt::Violation;
use crate::program::ProgramStep;
use crate::walker::PageFault;

/// Faults in a row after which an access that still faults is taken for endless.
const ENDLESS: u32 = 10_000;

/// How far an access came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<R> {
    /// It was made.
    Done(R),
    /// Return this from the program and make the same access again when it runs next.
    Stop(ProgramStep),
    /// The manager raised this status in the thread; the access was not made.
    Raise(NtStatus),
}

/// The access a program is making, with its fault in flight.
#[derive(Debug, Default)]
pub struct MemoryAccess {
    fault: Option<Fault>,
    /// Faults this access has met; none when no access is in flight.
    faults: u32,
    /// Where the last access that was refused had its fault.
    refused: Option<Va>,
}

impl MemoryAccess {
    /// No access in flight.
    #[must_use]
    pub const fn new() -> Self {
        Self { fault: None, faults: 0, refused: None }
    }

    /// Reads from `va`, as [`Cpu::load`].
    #[inline]
    pub fn load<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        buffer: &mut [u8],
    ) -> Outcome<()> {
        self.carry(cpu, |cpu| cpu.load(va, buffer))
    }

    /// Writes at `va`, as [`Cpu::store`].
    #[inline]
    pub fn store<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        bytes: &[u8],
    ) -> Outcome<()> {
        self.carry(cpu, |cpu| cpu.store(va, bytes))
    }

    /// Reads a number, as [`Cpu::load_number`].
    #[inline]
    pub fn load_number<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        size: usize,
    ) -> Outcome<u64> {
        self.carry(cpu, |cpu| cpu.load_number(va, size))
    }

    /// Writes a number, as [`Cpu::store_number`].
    #[inline]
    pub fn store_number<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        size: usize,
        value: u64,
    ) -> Outcome<()> {
        self.carry(cpu, |cpu| cpu.store_number(va, size, value))
    }

    /// Fetches an instruction, as [`Cpu::fetch`].
    #[inline]
    pub fn fetch<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        length: usize,
    ) -> Outcome<()> {
        self.carry(cpu, |cpu| cpu.fetch(va, length))
    }

    /// Makes a reference without moving data, as [`Cpu::translate`].
    #[inline]
    pub fn translate<M: Hardware, T: Trace>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        va: Va,
        access: AccessKind,
    ) -> Outcome<Place> {
        self.carry(cpu, |cpu| cpu.translate(va, access))
    }

    /// The address at which the last access that raised a status could not go on: the second
    /// parameter of the exception.
    #[must_use]
    pub const fn refused_at(&self) -> Option<Va> {
        self.refused
    }

    /// Gives back the fault in flight.
    pub fn abandon<M: Hardware, T: Trace>(&mut self, cpu: &mut Cpu<'_, M, T>) {
        if let Some(fault) = self.fault.take() {
            cpu.abandon(fault);
        }
        self.faults = 0;
    }

    #[inline]
    fn carry<M: Hardware, T: Trace, R>(
        &mut self,
        cpu: &mut Cpu<'_, M, T>,
        mut instruction: impl FnMut(&mut Cpu<'_, M, T>) -> Result<R, PageFault>,
    ) -> Outcome<R> {
        loop {
            if self.faults != 0 {
                match self.handle(cpu) {
                    Handled::Resolved => {}
                    Handled::Stop(step) => return Outcome::Stop(step),
                    Handled::Raise(status) => return Outcome::Raise(status),
                }
            }
            match instruction(cpu) {
                Ok(result) => {
                    self.faults = 0;
                    return Outcome::Done(result);
                }
                Err(fault) => self.trap(cpu, fault),
            }
        }
    }

    #[cold]
    fn trap<M: Hardware, T: Trace>(&mut self, cpu: &Cpu<'_, M, T>, fault: PageFault) {
        self.faults += 1;
        if self.faults > ENDLESS {
            Violation::EndlessFault { cpu: cpu.id(), va: fault.va }.raise();
        }
        if let Some(space) = cpu.space() {
            self.fault = Some(Fault::new(space, fault.va, fault.code.access(), cpu.mode()));
        }
    }

    /// Steps the fault in flight. There is none when the last one was resolved at the end of a
    /// turn.
    #[cold]
    fn handle<M: Hardware, T: Trace>(&mut self, cpu: &mut Cpu<'_, M, T>) -> Handled {
        let Some(fault) = &mut self.fault else {
            return Handled::Resolved;
        };
        match cpu.step(fault) {
            Step::Done(_) => {
                self.fault = None;
                if cpu.may_continue() {
                    Handled::Resolved
                } else {
                    Handled::Stop(ProgramStep::Continue)
                }
            }
            Step::Wait(wait) => Handled::Stop(ProgramStep::Wait(wait)),
            Step::Raise(status) => {
                self.refused = Some(fault.va());
                self.fault = None;
                self.faults = 0;
                Handled::Raise(status)
            }
        }
    }
}

enum Handled {
    Resolved,
    Stop(ProgramStep),
    Raise(NtStatus),
}
