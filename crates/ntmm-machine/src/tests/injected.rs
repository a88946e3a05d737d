//! Injected allocation failures, and each way a machine may be broken.

use ntmm::operation::WaitKey;
use ntmm::platform::{Direction, Executive, FileId};
use ntmm_pte::{AccessKind, Amd64, I386, Pages, Pfn, Va};

use super::tables::{AMD64, D, FIRST, I386 as I386_TABLES, P, Tables, U, VA, W, memory};
use crate::clock::{Clock, Nanoseconds};
use crate::config::{Adversary, Behaviour, Config, DiskFaults, DiskTiming, Preemption};
use crate::cpu::{ActiveSpace, CpuId};
use crate::disk::MemoryDisk;
use crate::machine::{Machine, NoTrace};
use crate::ram::{FRAME_BYTES, Ram};
use crate::random::{Chance, Random, Stream};
use crate::retained::SpaceTag;
use crate::sabotage::{Defect, Sabotage};
use crate::scheduler::ThreadId;
use crate::transfers::{Order, Transfer, TransferFrames, Transfers};
use crate::walker::{Marking, Privilege, Purpose, Table, WalkHook, walk};

const SPACE: SpaceTag = SpaceTag(1);

/// Two processors in the same space, adversarial but calm, with a defect that always shows.
fn machine(defect: Option<Defect>) -> Machine<Amd64> {
    let behaviour = Behaviour::Adversarial(Adversary {
        preemption: Preemption::Never,
        forget: Chance::NEVER,
        speculate: Chance::NEVER,
        ..Adversary::default()
    });
    let sabotage = defect.map(|defect| Sabotage { defect, chance: Chance::ALWAYS });
    let memory = vec![memory()];
    let config = Config { memory, cpus: 2, behaviour, sabotage, ..Config::plain(Pages::new(0)) };
    let machine = Machine::new(config, Clock::new(), NoTrace);
    Tables::new(machine.ram(), AMD64).map(VA.get(), &[P | W | U; 4], 9);
    for cpu in 0..2 {
        let root = machine.ram().slot(Pfn::new(FIRST)).expect("memory");
        machine.activate(CpuId(cpu), Some(ActiveSpace { tag: SPACE, root }));
    }
    machine
}

fn touch(machine: &Machine<Amd64>, cpu: u32, access: AccessKind) -> bool {
    machine.translate(CpuId(cpu), VA, access, Privilege::User).is_ok()
}

/// Lets both processors touch the page, takes it away and flushes; says whether the flush is
/// acknowledged and which processors still reach the page.
fn flush(defect: Option<Defect>) -> (bool, [bool; 2]) {
    let machine = machine(defect);
    assert!((0..2).all(|cpu| touch(&machine, cpu, AccessKind::Read)));
    Tables::new(machine.ram(), AMD64).set(3, 3, VA.get(), 0);
    let ticket = machine.begin_flush(SPACE, Some(&[VA]));
    let acknowledged = machine.is_acknowledged(ticket);
    (acknowledged, [0, 1].map(|cpu| touch(&machine, cpu, AccessKind::Read)))
}

#[test]
fn flushes_are_skipped_or_acknowledged_early() {
    assert_eq!(flush(None), (false, [false, true]));
    assert_eq!(flush(Some(Defect::SkippedFlush)), (true, [true, true]));
    assert_eq!(flush(Some(Defect::EarlyAcknowledgement)), (true, [false, true]));
}

#[test]
fn dirty_is_lost() {
    for (defect, dirty) in [(None, D), (Some(Defect::LostDirty), 0)] {
        let machine = machine(defect);
        assert!(touch(&machine, 0, AccessKind::Write));
        let entry = Tables::new(machine.ram(), AMD64).get(3, 3, VA.get());
        assert_eq!(entry & D, dirty);
    }
}

/// Unmaps the leaf between the walker's load and its store.
struct Overwritten<'a> {
    tables: &'a Tables<'a>,
    pauses: u32,
}

impl WalkHook for Overwritten<'_> {
    fn pause(&mut self) {
        self.pauses += 1;
        if self.pauses == 3 {
            self.tables.set(1, 1, VA.get(), 0);
        }
    }

    fn marking(&mut self) -> Marking {
        Marking::Overwriting
    }
}

#[test]
fn an_overwriting_walk_revives_an_entry() {
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, I386_TABLES);
    const ACCESSED: u64 = 1 << 5;
    tables.map(VA.get(), &[P | W | ACCESSED, P | W], 9);
    let mut hook = Overwritten { tables: &tables, pauses: 0 };
    let write = Purpose::Access(AccessKind::Write, Privilege::Supervisor);
    let root = Table::root(tables.slot(0));
    assert!(walk::<I386>(&ram, root, Va::new(VA.get()), write, &mut hook).is_ok());
    assert_ne!(tables.get(1, 1, VA.get()) & P, 0);
}

#[test]
fn an_early_read_fills_its_frame_after_it_is_complete() {
    let ram = Ram::new(&[memory()]);
    let random = Random::new(1, Stream::Disk);
    let (timing, faults) = (DiskTiming::default(), DiskFaults::default());
    let mut queue = Transfers::new(timing, faults, Order::Submission, random, Chance::ALWAYS);
    queue.storage_mut().attach(Box::new(MemoryDisk::new(Pages::new(4))));
    let slot = ram.slot(Pfn::new(FIRST)).expect("memory");
    ram.write(slot, 0, &[7; FRAME_BYTES]);
    let transfer = Transfer {
        direction: Direction::Read,
        file: FileId(0),
        offset: 0,
        length: FRAME_BYTES,
        frames: TransferFrames::from_iter([slot]),
    };
    queue.submit(5_u64, transfer, Nanoseconds(0), &ram);
    let far = Nanoseconds(u64::MAX / 2);
    assert_eq!(queue.complete_due(far, &ram), Some((5, Ok(()))));
    assert_eq!((queue.under_way(), ram.load(slot, 0, 1)), (1, 7));
    assert_eq!(queue.complete_due(Nanoseconds(u64::MAX), &ram), None, "it was reported before");
    assert_eq!((queue.under_way(), ram.load(slot, 0, 1)), (0, 0));
}

#[test]
fn allocations_fail_as_told_and_waiting_threads_are_woken() {
    let machine = machine(None);
    machine.fail_allocations(2, 3);
    let failed: Vec<bool> = (0..7).map(|_| machine.fail_allocation()).collect();
    assert_eq!(failed, [false, false, true, true, true, false, false]);
    assert_eq!(machine.statistics().refused_allocations, 3);
    machine.scheduler.borrow_mut().park(ThreadId(1), WaitKey::AvailablePages);
    machine.scheduler.borrow_mut().park(ThreadId(2), WaitKey::Records);
    machine.current.set(CpuId(1));
    machine.wake_refused();
    assert_eq!(machine.scheduler.borrow().ready(), 0, "another processor was refused");
    machine.current.set(CpuId(0));
    machine.wake_refused();
    assert_eq!(machine.scheduler.borrow().ready(), 2);
}
