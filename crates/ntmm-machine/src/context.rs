//! A processor as a program sees it for the length of a turn: memory references and calls into
//! the manager.
//!
//! References are counted here and charged to the clock when the program enters the manager or
//! its turn ends, so that a reference that hits the translation buffer costs the host little.

use ntmm::Manager;
use ntmm::address_space::AddressSpaceId;
use ntmm::fault::ProcessorMode;
use ntmm::operation::{Operation, Step};
use ntmm::platform::Trace;
use ntmm_pte::{AccessKind, Va};

use crate::cpu::{CpuId, Processor};
use crate::format::Hardware;
use crate::machine::Machine;
use crate::ram::{FRAME_BYTES, FrameSlot, Ram};
use crate::walker::{PageFault, Privilege};

/// A processor during a turn.
#[derive(Debug)]
pub struct Cpu<'a, M: Hardware, T: Trace> {
    manager: &'a Manager<Machine<M, T>>,
    machine: &'a Machine<M, T>,
    processor: &'a Processor,
    id: CpuId,
    space: Option<AddressSpaceId>,
    privilege: Privilege,
    /// References left in this turn; below zero when the program goes on nevertheless.
    left: i64,
    /// References that were left when the clock was last charged.
    charged: i64,
    /// References the turn began with.
    quantum: i64,
    /// Processors that work at the same time.
    parallel: u32,
}

/// Where one reference, or the part of it on one page, lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The frame.
    pub slot: FrameSlot,
    /// First byte in it.
    pub offset: usize,
}

impl<'a, M: Hardware, T: Trace> Cpu<'a, M, T> {
    pub(crate) fn new(
        manager: &'a Manager<Machine<M, T>>,
        id: CpuId,
        space: Option<AddressSpaceId>,
        quantum: u32,
        parallel: u32,
    ) -> Self {
        let machine = manager.platform();
        Self {
            manager,
            machine,
            processor: machine.processor(id),
            id,
            space,
            privilege: Privilege::User,
            left: i64::from(quantum),
            charged: i64::from(quantum),
            quantum: i64::from(quantum),
            parallel,
        }
    }

    /// The processor's number.
    #[must_use]
    pub const fn id(&self) -> CpuId {
        self.id
    }

    /// The manager.
    #[must_use]
    pub const fn manager(&self) -> &'a Manager<Machine<M, T>> {
        self.manager
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &'a Machine<M, T> {
        self.machine
    }

    /// Memory.
    #[must_use]
    pub const fn ram(&self) -> &'a Ram {
        &self.machine.ram
    }

    /// The thread's address space; none for a system thread.
    #[must_use]
    pub const fn space(&self) -> Option<AddressSpaceId> {
        self.space
    }

    /// The privilege of the references that follow: user mode unless changed.
    pub const fn set_privilege(&mut self, privilege: Privilege) {
        self.privilege = privilege;
    }

    /// The mode of the references, as the manager calls it.
    #[must_use]
    pub const fn mode(&self) -> ProcessorMode {
        match self.privilege {
            Privilege::User => ProcessorMode::User,
            Privilege::Supervisor => ProcessorMode::Kernel,
        }
    }

    /// References made in this turn.
    #[must_use]
    pub const fn references(&self) -> u64 {
        self.quantum.abs_diff(self.left)
    }

    /// Whether the turn goes on. A program that finds it does not returns
    /// [`ProgramStep::Continue`](crate::program::ProgramStep::Continue).
    #[inline]
    #[must_use]
    pub const fn may_continue(&self) -> bool {
        self.left > 0
    }

    /// Makes a reference to the page of `va`, counted as one, and says where it lies. The place
    /// is good until the program next makes a reference or enters the manager.
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn translate(&mut self, va: Va, access: AccessKind) -> Result<Place, PageFault> {
        self.left -= 1;
        let slot =
            self.machine.translate_on(self.id, self.processor, va, access, self.privilege)?;
        Ok(Place { slot, offset: va.get() as usize % FRAME_BYTES })
    }

    /// Counts `count` references more, of a run within one page that one translation served.
    #[inline]
    pub const fn count_references(&mut self, count: u32) {
        self.left -= count as i64;
    }

    /// Reads from `va`. When the bytes lie on several pages all of them are translated before
    /// the first is read.
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn load(&mut self, va: Va, buffer: &mut [u8]) -> Result<(), PageFault> {
        let place = self.translate(va, AccessKind::Read)?;
        if place.offset + buffer.len() <= FRAME_BYTES {
            self.machine.ram.read(place.slot, place.offset, buffer);
            return Ok(());
        }
        self.load_across(va, place, buffer)
    }

    /// Writes at `va`. When the bytes lie on several pages all of them are translated before the
    /// first is written.
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn store(&mut self, va: Va, bytes: &[u8]) -> Result<(), PageFault> {
        let place = self.translate(va, AccessKind::Write)?;
        if place.offset + bytes.len() <= FRAME_BYTES {
            self.machine.ram.write(place.slot, place.offset, bytes);
            return Ok(());
        }
        self.store_across(va, place, bytes)
    }

    /// Reads `size` bytes (1 to 8) from `va` as a little-endian number, as [`Cpu::load`].
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn load_number(&mut self, va: Va, size: usize) -> Result<u64, PageFault> {
        let place = self.translate(va, AccessKind::Read)?;
        if place.offset + size <= FRAME_BYTES {
            return Ok(self.machine.ram.load(place.slot, place.offset, size));
        }
        let mut bytes = [0; 8];
        self.load_across(va, place, &mut bytes[..size])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes the low `size` bytes (1 to 8) of a number at `va`, as [`Cpu::store`].
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn store_number(&mut self, va: Va, size: usize, value: u64) -> Result<(), PageFault> {
        let place = self.translate(va, AccessKind::Write)?;
        if place.offset + size <= FRAME_BYTES {
            self.machine.ram.store(place.slot, place.offset, size, value);
            return Ok(());
        }
        self.store_across(va, place, &value.to_le_bytes()[..size])
    }

    /// Fetches an instruction of `length` bytes at `va`.
    ///
    /// # Errors
    /// The page fault the processor raises.
    #[inline]
    pub fn fetch(&mut self, va: Va, length: usize) -> Result<(), PageFault> {
        let place = self.translate(va, AccessKind::Execute)?;
        if place.offset + length > FRAME_BYTES {
            self.places(va, place, length, AccessKind::Execute)?;
        }
        Ok(())
    }

    #[cold]
    fn load_across(&mut self, va: Va, first: Place, buffer: &mut [u8]) -> Result<(), PageFault> {
        let places = self.places(va, first, buffer.len(), AccessKind::Read)?;
        let mut rest = buffer;
        for place in places {
            let count = rest.len().min(FRAME_BYTES - place.offset);
            let (now, later) = rest.split_at_mut(count);
            self.machine.ram.read(place.slot, place.offset, now);
            rest = later;
        }
        Ok(())
    }

    #[cold]
    fn store_across(&mut self, va: Va, first: Place, bytes: &[u8]) -> Result<(), PageFault> {
        let places = self.places(va, first, bytes.len(), AccessKind::Write)?;
        let mut rest = bytes;
        for place in places {
            let (now, later) = rest.split_at(rest.len().min(FRAME_BYTES - place.offset));
            self.machine.ram.write(place.slot, place.offset, now);
            rest = later;
        }
        Ok(())
    }

    /// Translates the other pages of a reference whose first page is at `first`. Nothing is
    /// flushed meanwhile: the processor is in the middle of an instruction.
    fn places(
        &mut self,
        va: Va,
        first: Place,
        length: usize,
        access: AccessKind,
    ) -> Result<Vec<Place>, PageFault> {
        let mut places = vec![first];
        let mut done = FRAME_BYTES - first.offset;
        while done < length {
            let next = Va::new(va.get().wrapping_add(done as u64));
            places.push(self.translate(next, access)?);
            done += FRAME_BYTES;
        }
        Ok(places)
    }

    /// Steps an operation of the manager.
    pub fn step<O: Operation<Machine<M, T>>>(&mut self, operation: &mut O) -> Step<O::Output> {
        self.enter_manager();
        let step = self.manager.step(operation);
        self.machine.check_passive();
        step
    }

    /// Gives an operation back that will not be stepped again.
    pub fn abandon<O: Operation<Machine<M, T>>>(&mut self, operation: O) {
        self.enter_manager();
        self.manager.abandon(operation);
        self.machine.check_passive();
    }

    /// Charges the references made so far and one step of the manager.
    pub(crate) fn enter_manager(&mut self) {
        self.charge_references();
        self.machine.clock.charge(1, self.machine.config.costs.step, self.parallel);
    }

    /// Charges the references that the clock does not know of.
    pub(crate) fn charge_references(&mut self) {
        let count = self.charged.abs_diff(self.left);
        self.charged = self.left;
        self.machine.clock.charge(count, self.machine.config.costs.reference, self.parallel);
        self.machine.count_references(count);
    }
}
