//! Several operations of several processes at once, in an order a seed decides, with slow
//! flushes, failing transfers, failing allocations and operations given up half-way; an audit
//! after every step.

use ntmm::virtual_memory::{
    Allocate, AllocationType, Free, FreeType, Placement, Protect, Query, Region, Reset,
};
use ntmm::working_set::WorkingSetLimits;
use ntmm::working_set::limits::{EmptyWorkingSet, Hardness};
use ntmm::{
    AddressSpaceId, DeleteAddressSpace, Engine, Fault, NtStatus, Operation, ProcessorMode, Step,
};
use ntmm_pte::{Access, AccessKind, Bytes, Modifier, PAGE_SIZE, PagingMode, Protection, Va};

use crate::machine::{Machine, Toy, every_mode, page};

every_mode! {
    interleaved_operations_leave_the_machine_in_order
}

mod run {
    use super::*;

    pub fn interleaved_operations_leave_the_machine_in_order<M: PagingMode>() {
        let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
        let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
        for seed in first..first + seeds {
            println!("seed {seed}");
            Run::<M>::new(seed).steps(1500);
        }
    }
}

/// An operation under way.
enum Running {
    Fault(Fault),
    Allocate(Allocate),
    Free(Free),
    Reset(Reset),
    Protect(Protect),
    Empty(EmptyWorkingSet),
    Query(Query),
    Delete(DeleteAddressSpace),
}

impl Running {
    fn step<M: PagingMode>(&mut self, machine: &Machine<M>) -> Step<()> {
        fn plain<M: PagingMode, O: Operation<Toy<M>>>(
            machine: &Machine<M>,
            operation: &mut O,
        ) -> Step<()> {
            match machine.step(operation) {
                Step::Done(_) => Step::Done(()),
                Step::Wait(wait) => Step::Wait(wait),
                Step::Raise(status) => Step::Raise(status),
            }
        }
        match self {
            Self::Fault(operation) => plain(machine, operation),
            Self::Allocate(operation) => plain(machine, operation),
            Self::Free(operation) => plain(machine, operation),
            Self::Reset(operation) => plain(machine, operation),
            Self::Protect(operation) => plain(machine, operation),
            Self::Empty(operation) => plain(machine, operation),
            Self::Query(operation) => plain(machine, operation),
            Self::Delete(operation) => plain(machine, operation),
        }
    }

    fn abandon<M: PagingMode>(self, machine: &Machine<M>) {
        match self {
            Self::Fault(operation) => machine.manager.abandon(operation),
            Self::Allocate(operation) => machine.manager.abandon(operation),
            Self::Free(operation) => machine.manager.abandon(operation),
            Self::Reset(operation) => machine.manager.abandon(operation),
            Self::Protect(operation) => machine.manager.abandon(operation),
            Self::Empty(operation) => machine.manager.abandon(operation),
            Self::Query(operation) => machine.manager.abandon(operation),
            Self::Delete(operation) => machine.manager.abandon(operation),
        }
        machine.check();
    }
}

struct Process {
    space: AddressSpaceId,
    regions: Vec<Region>,
}

struct Run<M: PagingMode> {
    machine: Machine<M>,
    random: u64,
    processes: Vec<Process>,
    running: Vec<(AddressSpaceId, Running)>,
}

impl<M: PagingMode> Run<M> {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(90 + seed as usize % 3 * 30);
        machine.pending.set(1 << 20);
        let random = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { machine, random, processes: Vec::new(), running: Vec::new() }
    }

    /// A number below `bound` (xorshift*).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn steps(mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
        }
        self.machine.manager.platform().slow_flushes.set(false);
        self.machine.manager.platform().failing.set(0);
        for (_, operation) in std::mem::take(&mut self.running) {
            match operation {
                Running::Delete(delete) => self.machine.run(delete).expect("a deletion"),
                other => other.abandon(&self.machine),
            }
        }
        for process in std::mem::take(&mut self.processes) {
            self.machine.delete(process.space);
        }
        self.machine.pending.set(0);
        self.machine.check();
        self.machine.check_teardown();
    }

    fn step(&mut self) {
        let what = self.below(20);
        let platform = self.machine.manager.platform();
        match what {
            0 => platform.slow_flushes.set(!platform.slow_flushes.get()),
            1 | 2 => self.machine.acknowledge(),
            3 => {
                let engine = Engine::ALL[self.below(4) as usize];
                self.machine.step_engine(engine);
            }
            4 | 5 => {
                let fails = self.below(6) == 0;
                let result = if fails { Err(NtStatus::IN_PAGE_ERROR) } else { Ok(()) };
                self.machine.complete_transfer(result);
            }
            6 if self.below(3) == 0 && !self.running.is_empty() => {
                let index = self.below(self.running.len() as u64) as usize;
                let (space, operation) = self.running.swap_remove(index);
                // A deletion is not given up: the space would be of no use.
                if matches!(operation, Running::Delete(_)) {
                    self.running.push((space, operation));
                } else {
                    operation.abandon(&self.machine);
                }
            }
            7 => {
                let failing = if self.below(3) == 0 { 3 + self.below(8) as u32 } else { 0 };
                self.machine.manager.platform().failing.set(failing);
            }
            8..=13 if !self.running.is_empty() => self.advance(),
            _ if self.running.len() < 4 => self.start(),
            _ => self.advance(),
        }
    }

    fn advance(&mut self) {
        let index = self.below(self.running.len() as u64) as usize;
        let (space, operation) = &mut self.running[index];
        let (space, outcome) = (*space, operation.step(&self.machine));
        if !matches!(outcome, Step::Wait(_)) {
            let (_, operation) = self.running.swap_remove(index);
            if matches!(operation, Running::Delete(_)) {
                self.machine.owners.borrow_mut().retain(|&owner| owner != space);
            }
        }
    }

    fn start(&mut self) {
        if self.processes.len() < 3 {
            let pages = 12 + self.below(30) as u32;
            let limits = WorkingSetLimits::new(pages, pages, Hardness::Hard).expect("limits");
            if let Ok(space) = self.machine.manager.create_address_space(limits) {
                self.machine.owners.borrow_mut().push(space);
                self.processes.push(Process { space, regions: Vec::new() });
            }
            self.machine.check();
            return;
        }
        let who = self.below(self.processes.len() as u64) as usize;
        let space = self.processes[who].space;
        let what = self.below(40);
        let many = self.processes[who].regions.len() as u64;
        if many == 0 || what == 0 {
            return self.reserve(who);
        }
        let chosen = self.below(many) as usize;
        let region = self.processes[who].regions[chosen];
        let pages = region.size.get() / PAGE_SIZE;
        let first = self.below(pages);
        let size = Bytes::new((1 + self.below(pages - first)) * PAGE_SIZE);
        let va = page(region, first);
        let operation = match what {
            1 => {
                let commit = AllocationType::Commit;
                let protection = self.protection();
                Running::Allocate(Allocate::new(space, Placement::At(va), size, commit, protection))
            }
            2 => Running::Free(Free::new(space, va, size, FreeType::Decommit)),
            3 => {
                self.processes[who].regions.swap_remove(chosen);
                Running::Free(Free::new(space, region.base, Bytes::new(0), FreeType::Release))
            }
            4 => Running::Free(Free::new(space, va, size, FreeType::Release)),
            5 => {
                let protection = self.protection();
                Running::Protect(Protect::new(space, va, size, protection))
            }
            6 => Running::Empty(EmptyWorkingSet::new(space)),
            7 => Running::Query(Query::new(space, va)),
            9 => Running::Reset(Reset::new(space, va, size)),
            10 => Running::Reset(Reset::undoing(space, va, size)),
            8 if self.below(4) == 0 => {
                self.processes.swap_remove(who);
                let gone = |(owner, _): &mut (_, Running)| *owner == space;
                for (_, operation) in self.running.extract_if(.., gone).collect::<Vec<_>>() {
                    operation.abandon(&self.machine);
                }
                Running::Delete(DeleteAddressSpace::new(space))
            }
            _ => return self.touch(space, va),
        };
        self.running.push((space, operation));
    }

    fn touch(&mut self, space: AddressSpaceId, va: Va) {
        let write = self.below(2) == 0;
        let kind = if write { AccessKind::Write } else { AccessKind::Read };
        if self.machine.translate(space, va, kind).is_none() {
            let fault = Fault::new(space, va, kind, ProcessorMode::User);
            self.running.push((space, Running::Fault(fault)));
        }
        self.machine.check();
    }

    fn reserve(&mut self, who: usize) {
        let space = self.processes[who].space;
        let pages = if self.below(4) == 0 { 3000 } else { 1 + self.below(100) };
        let kind = if pages == 3000 || self.below(3) == 0 {
            AllocationType::Reserve
        } else {
            AllocationType::ReserveAndCommit
        };
        let placement = if self.below(2) == 0 { Placement::Lowest } else { Placement::Highest };
        let size = Bytes::new(pages * PAGE_SIZE);
        let mut allocate = Allocate::new(space, placement, size, kind, Protection::READWRITE);
        // A reservation is done in one step or not at all.
        match self.machine.step(&mut allocate) {
            Step::Done(region) => self.processes[who].regions.push(region),
            Step::Wait(_) | Step::Raise(_) => self.machine.manager.abandon(allocate),
        }
        self.machine.check();
    }

    fn protection(&mut self) -> Protection {
        match self.below(6) {
            0 => Protection::NO_ACCESS,
            1 => Protection::new(Access::ReadWrite, Modifier::Guard),
            2 => Protection::READONLY,
            _ => Protection::READWRITE,
        }
    }
}
