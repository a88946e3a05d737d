//! How a reference finds its frame: what the processor holds, then the tables.

use ntmm::platform::{Irql, Trace};
use ntmm::status::{BugCheck, BugCheckCode};
use ntmm_pte::{AccessKind, Va};

use crate::config::{Adversary, Behaviour};
use crate::cpu::{ActiveSpace, CpuId, Processor};
use crate::format::Hardware;
use crate::halt::{Halt, Violation};
use crate::machine::Machine;
use crate::ram::FrameSlot;
use crate::retained::Found;
use crate::sabotage::Defect;
use crate::tlb::Grants;
use crate::walker::{
    ErrorCode, Marking, PageFault, Privilege, Purpose, Table, Translation, WalkFault, WalkHook,
    guess, walk,
};

/// Points that pass between the load and the store of a walk that overwrites entries, so that
/// they meet changes.
const SLOW: u32 = 64;

/// Remembers the last table a walk went down to.
#[derive(Default)]
struct LastTable(Option<Table>);

impl WalkHook for LastTable {
    #[inline]
    fn entered(&mut self, table: Table) {
        self.0 = Some(table);
    }
}

/// Remembers all tables of a walk and lets other processors run in the middle of it.
struct AdversarialWalk<'a, M: Hardware, T: Trace> {
    machine: &'a Machine<M, T>,
    tables: Vec<Table>,
}

impl<M: Hardware, T: Trace> WalkHook for AdversarialWalk<'_, M, T> {
    fn pause(&mut self) {
        self.machine.pause_instruction();
    }

    fn entered(&mut self, table: Table) {
        self.tables.push(table);
    }

    fn marking(&mut self) -> Marking {
        if self.machine.sabotaged(Defect::LostDirty) {
            Marking::WithoutDirty
        } else if self.machine.sabotaged(Defect::OverwritingWalk) {
            (0..SLOW).for_each(|_| self.machine.pause_instruction());
            Marking::Overwriting
        } else {
            Marking::Sound
        }
    }
}

impl<M: Hardware, T: Trace> Machine<M, T> {
    /// Translates an address as a processor does for an access.
    ///
    /// # Errors
    /// The page fault that the processor raises.
    #[inline]
    pub fn translate(
        &self,
        cpu: CpuId,
        va: Va,
        access: AccessKind,
        privilege: Privilege,
    ) -> Result<FrameSlot, PageFault> {
        self.translate_on(cpu, self.processor(cpu), va, access, privilege)
    }

    #[inline]
    pub(crate) fn translate_on(
        &self,
        cpu: CpuId,
        processor: &Processor,
        va: Va,
        access: AccessKind,
        privilege: Privilege,
    ) -> Result<FrameSlot, PageFault> {
        if processor.irql.get() < Irql::DISPATCH
            && let Some(slot) = processor.tlb.lookup(va, Grants::of(access, privilege))
        {
            return Ok(slot);
        }
        self.miss(cpu, processor, va, access, privilege)
    }

    #[inline(never)]
    fn miss(
        &self,
        cpu: CpuId,
        processor: &Processor,
        va: Va,
        access: AccessKind,
        privilege: Privilege,
    ) -> Result<FrameSlot, PageFault> {
        let irql = processor.irql.get();
        if irql >= Irql::DISPATCH {
            let write = u64::from(access == AccessKind::Write);
            Halt::BugCheck(BugCheck {
                code: BugCheckCode::IrqlNotLessOrEqual,
                parameters: [va.get(), u64::from(irql.0), write, 0],
            })
            .raise();
        }
        let Some(active) = processor.active.get() else {
            Violation::NoAddressSpace { cpu, va }.raise();
        };
        self.count(|statistics| statistics.misses += 1);
        match self.config.behaviour {
            Behaviour::Plain => self.miss_plain(processor, active, va, access, privilege),
            Behaviour::Adversarial(adversary) => {
                self.miss_adversarial(processor, active, adversary, va, access, privilege)
            }
        }
    }

    #[inline]
    fn miss_plain(
        &self,
        processor: &Processor,
        active: ActiveSpace,
        va: Va,
        access: AccessKind,
        privilege: Privilege,
    ) -> Result<FrameSlot, PageFault> {
        let start = processor.tlb.table(va).unwrap_or(Table::root(active.root));
        let mut last = LastTable(None);
        let purpose = Purpose::Access(access, privilege);
        match walk::<M>(&self.ram, start, va, purpose, &mut last) {
            Ok(translation) => {
                let leaf =
                    last.0.filter(|table| usize::from(table.level) + 1 == M::WALK_LEVELS.len());
                processor.tlb.fill(va, &translation, leaf);
                Ok(translation.slot)
            }
            Err(WalkFault::Page(fault)) => {
                // As on hardware, a fault drops what is held for its address.
                processor.tlb.flush_page(va);
                Err(fault)
            }
            Err(WalkFault::NoMemory { frame, .. }) => Violation::NoMemory(frame).raise(),
        }
    }

    fn miss_adversarial(
        &self,
        processor: &Processor,
        active: ActiveSpace,
        adversary: Adversary,
        va: Va,
        access: AccessKind,
        privilege: Privilege,
    ) -> Result<FrameSlot, PageFault> {
        let random = &self.translation_random;
        if random.happens(adversary.speculate) {
            self.speculate(processor, active, adversary);
        }
        let found = processor.retained.borrow().find(active.tag, va, access, privilege);
        match found {
            Found::Granted(slots) if !random.happens(adversary.forget) => {
                let slot = slots[random.index(slots.len())];
                self.pause_instruction();
                return Ok(slot);
            }
            Found::Denied if random.happens(adversary.spurious) => {
                processor.retained.borrow_mut().flush_page(active.tag, va, &self.references);
                let code = ErrorCode::for_access::<M>(access, privilege, ErrorCode::PROTECTION);
                return Err(PageFault { va, code });
            }
            Found::Granted(_) | Found::Denied | Found::Nothing => {}
        }
        let purpose = Purpose::Access(access, privilege);
        match self.walk_adversarial(processor, active, va, purpose) {
            Ok(translation) => {
                self.pause_instruction();
                Ok(translation.slot)
            }
            Err(fault) => {
                processor.retained.borrow_mut().flush_page(active.tag, va, &self.references);
                Err(fault)
            }
        }
    }

    /// Walks from the root or from any table held on the way, and holds all that was found.
    fn walk_adversarial(
        &self,
        processor: &Processor,
        active: ActiveSpace,
        va: Va,
        purpose: Purpose,
    ) -> Result<Translation, PageFault> {
        let tables = processor.retained.borrow().tables(active.tag, va);
        let start = match self.translation_random.index(tables.len() + 1) {
            0 => Table::root(active.root),
            number => tables[number - 1],
        };
        let mut hook = AdversarialWalk { machine: self, tables: Vec::new() };
        let outcome = walk::<M>(&self.ram, start, va, purpose, &mut hook);
        let mut retained = processor.retained.borrow_mut();
        for table in hook.tables {
            retained.hold_table(active.tag, va, table, &self.references);
        }
        match outcome {
            Ok(translation) => {
                retained.hold_page(active.tag, va, &translation, &self.references);
                Ok(translation)
            }
            Err(WalkFault::Page(fault)) => Err(fault),
            Err(WalkFault::NoMemory { frame, .. }) => Violation::NoMemory(frame).raise(),
        }
    }

    /// Takes up a translation nobody asked for. A guess that leads nowhere has no effect.
    fn speculate(&self, processor: &Processor, active: ActiveSpace, adversary: Adversary) {
        let random = &self.translation_random;
        let guessed =
            guess::<M>(&self.ram, active.root, adversary.reach, |limit| random.index(limit));
        if let Some(va) = guessed
            && self.walk_adversarial(processor, active, va, Purpose::Speculation).is_ok()
        {
            self.count(|statistics| statistics.speculations += 1);
        }
    }
}
