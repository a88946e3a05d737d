//! What processors hold, and when they may still use it.

use ntmm::platform::Irql;
use ntmm_pte::{AccessKind, Amd64, Va};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::tables::{A, AMD64, D, NX, P, Tables, U, VA, W, memory};
use crate::clock::Clock;
use crate::config::{Adversary, Behaviour, Config, Preemption};
use crate::cpu::{ActiveSpace, CpuId};
use crate::halt::{Halt, Violation};
use crate::machine::{Machine, NoTrace};
use crate::ram::FrameSlot;
use crate::random::Chance;
use crate::retained::SpaceTag;
use crate::walker::{Privilege, Reach};

const CPU: CpuId = CpuId(0);
const SPACE: SpaceTag = SpaceTag(3);

fn adversary() -> Adversary {
    Adversary {
        preemption: Preemption::Never,
        forget: Chance::NEVER,
        speculate: Chance::NEVER,
        reach: Reach::Everything,
        spurious: Chance::NEVER,
        retain: Chance::ALWAYS,
    }
}

fn machine(behaviour: Behaviour, seed: u64) -> Machine<Amd64> {
    let config = Config {
        memory: vec![memory()],
        behaviour,
        seed,
        ..Config::plain(ntmm_pte::Pages::new(0))
    };
    let machine = Machine::new(config, Clock::new(), NoTrace);
    let root = machine.ram().slot(memory().start).expect("memory");
    machine.activate(CPU, Some(ActiveSpace { tag: SPACE, root }));
    machine
}

fn find(machine: &Machine<Amd64>, access: AccessKind) -> Result<FrameSlot, u8> {
    machine.translate(CPU, VA, access, Privilege::User).map_err(|fault| fault.code.bits())
}

const READABLE: [u64; 4] = [P | W | U, P | W | U, P | W | U, P | U];
const WRITABLE: [u64; 4] = [P | W | U; 4];

#[test]
fn a_stale_translation_is_usable_until_it_is_flushed() {
    for behaviour in [Behaviour::Plain, Behaviour::Adversarial(adversary())] {
        let machine = machine(behaviour, 1);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &READABLE, 9);
        assert_eq!(find(&machine, AccessKind::Read), Ok(tables.slot(9)));
        tables.set(3, 3, VA.get(), 0);
        assert_eq!(find(&machine, AccessKind::Read), Ok(tables.slot(9)));
        let pfn = machine.ram().pfn(tables.slot(9));
        assert_eq!(machine.tlb_references(pfn), 1);
        assert_eq!(
            machine.stale_translations(pfn).collect::<Vec<_>>(),
            [(CPU, SPACE, VA.page_base())]
        );
        assert_eq!(
            machine.check_unreachable(pfn),
            Err(Violation::Reachable { pfn, references: 1 })
        );
        let ticket = machine.begin_flush(SPACE, Some(&[VA]));
        assert!(machine.is_acknowledged(ticket));
        assert_eq!(machine.check_unreachable(pfn), Ok(()));
        assert_eq!(find(&machine, AccessKind::Read), Err(4));
    }
}

#[test]
fn tables_on_the_way_are_held_too_until_flushed() {
    for behaviour in [Behaviour::Plain, Behaviour::Adversarial(adversary())] {
        let machine = machine(behaviour, 1);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &READABLE, 9);
        assert_eq!(find(&machine, AccessKind::Read), Ok(tables.slot(9)));
        let table = machine.ram().pfn(tables.slot(3));
        assert_eq!(machine.tlb_references(table), 1);
        machine.begin_flush(SPACE, Some(&[VA]));
        assert_eq!(machine.tlb_references(table), 0);
    }
}

#[test]
fn an_adversarial_processor_may_walk_from_a_table_it_holds() {
    // The neighbouring page is reached through the held table although the directory no longer
    // names it, with some draw of the seed.
    let neighbour = Va::new(VA.get() + 0x1000);
    let reached = (0..32).any(|seed| {
        let machine = machine(Behaviour::Adversarial(adversary()), seed);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &READABLE, 9);
        tables.set(3, 3, neighbour.get(), tables.get(3, 3, VA.get()));
        assert!(find(&machine, AccessKind::Read).is_ok());
        tables.set(2, 2, VA.get(), 0);
        machine.translate(CPU, neighbour, AccessKind::Read, Privilege::User).is_ok()
    });
    assert!(reached);
}

#[test]
fn a_write_through_a_clean_translation_sets_dirty() {
    for behaviour in [Behaviour::Plain, Behaviour::Adversarial(adversary())] {
        let machine = machine(behaviour, 1);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &WRITABLE, 9);
        assert!(find(&machine, AccessKind::Read).is_ok());
        assert_eq!(tables.get(3, 3, VA.get()) & (A | D), A);
        assert!(find(&machine, AccessKind::Write).is_ok());
        assert_eq!(tables.get(3, 3, VA.get()) & (A | D), A | D);
        // From now on the entry is not looked at: Dirty stays away once it is cleared.
        tables.map(VA.get(), &WRITABLE, 9);
        assert!(find(&machine, AccessKind::Write).is_ok());
        assert_eq!(tables.get(3, 3, VA.get()) & (A | D), 0);
    }
}

#[test]
fn each_access_needs_its_own_right() {
    for behaviour in [Behaviour::Plain, Behaviour::Adversarial(adversary())] {
        let machine = machine(behaviour, 1);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &[P | W | U, P | W | U, P | W | U, P | U | NX], 9);
        assert!(find(&machine, AccessKind::Read).is_ok());
        assert_eq!(find(&machine, AccessKind::Write), Err(7));
        assert_eq!(find(&machine, AccessKind::Execute), Err(0x15));
    }
}

#[test]
fn a_plain_switch_forgets_and_an_adversarial_one_need_not() {
    let other = |machine: &Machine<Amd64>| {
        let root = machine.ram().slot(memory().start).expect("memory");
        Some(ActiveSpace { tag: SpaceTag(4), root })
    };
    for (behaviour, kept) in
        [(Behaviour::Plain, false), (Behaviour::Adversarial(adversary()), true)]
    {
        let machine = machine(behaviour, 1);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &READABLE, 9);
        assert!(find(&machine, AccessKind::Read).is_ok());
        let home = machine.processor(CPU).active();
        tables.set(3, 3, VA.get(), 0);
        machine.activate(CPU, other(&machine));
        assert_eq!(find(&machine, AccessKind::Read), Err(4), "another space's are out of reach");
        machine.activate(CPU, home);
        assert_eq!(find(&machine, AccessKind::Read).is_ok(), kept);
    }
}

#[test]
fn conflicting_translations_are_all_held() {
    // A frame exchanged without a flush: both translations are used, as the seed says.
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..32 {
        let adversary = Adversary { forget: Chance::one_in(2), ..adversary() };
        let machine = machine(Behaviour::Adversarial(adversary), seed);
        let tables = Tables::new(machine.ram(), AMD64);
        tables.map(VA.get(), &READABLE, 9);
        assert!(find(&machine, AccessKind::Read).is_ok());
        tables.map(VA.get(), &READABLE, 10);
        for _ in 0..8 {
            let slot = find(&machine, AccessKind::Read).expect("mapped");
            seen.insert(slot);
        }
        let old = machine.ram().pfn(tables.slot(9));
        assert_eq!(machine.tlb_references(old), 1);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn speculation_holds_pages_nobody_touched() {
    let adversary = Adversary { speculate: Chance::ALWAYS, ..adversary() };
    let machine = machine(Behaviour::Adversarial(adversary), 1);
    let tables = Tables::new(machine.ram(), AMD64);
    tables.map(VA.get(), &READABLE, 9);
    // Half of all guesses at the last level lead there.
    let neighbour = Va::new(VA.get() + 0x10_0000);
    tables.set(3, 3, neighbour.get(), tables.get(3, 3, VA.get()) + 0x1000);
    for _ in 0..64 {
        assert!(find(&machine, AccessKind::Read).is_ok());
    }
    let pfn = machine.ram().pfn(tables.slot(10));
    assert_eq!(machine.tlb_references(pfn), 1);
    assert_eq!(tables.get(3, 3, neighbour.get()) & (A | D), A);
}

#[test]
fn a_translation_with_too_few_rights_may_fault_once() {
    let adversary = Adversary { spurious: Chance::ALWAYS, ..adversary() };
    let machine = machine(Behaviour::Adversarial(adversary), 1);
    let tables = Tables::new(machine.ram(), AMD64);
    tables.map(VA.get(), &READABLE, 9);
    assert!(find(&machine, AccessKind::Read).is_ok());
    tables.map(VA.get(), &WRITABLE, 9);
    assert_eq!(find(&machine, AccessKind::Write), Err(7), "the old rights are still held");
    assert!(find(&machine, AccessKind::Write).is_ok(), "the fault dropped them");
}

#[test]
fn touching_memory_at_dispatch_level_is_bug_check_0a() {
    let machine = machine(Behaviour::Plain, 1);
    let tables = Tables::new(machine.ram(), AMD64);
    tables.map(VA.get(), &READABLE, 9);
    assert!(find(&machine, AccessKind::Read).is_ok());
    machine.processor(CPU).irql.set(Irql::DISPATCH);
    let payload = catch_unwind(AssertUnwindSafe(|| find(&machine, AccessKind::Read)));
    let Err(payload) = payload else { panic!("the access went through") };
    match Halt::from_payload(payload) {
        Halt::BugCheck(bug_check) => {
            assert_eq!(bug_check.code as u32, 0x0A);
            assert_eq!(bug_check.parameters, [VA.get(), 2, 0, 0]);
        }
        other => panic!("{other}"),
    }
}
