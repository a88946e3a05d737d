//! Flushes, tickets and shootdowns on one to four processors.

use ntmm::operation::WaitKey;
use ntmm::platform::Engine;
use ntmm_pte::{AccessKind, Amd64, Pages};
use proptest::prelude::*;

use super::tables::{AMD64, P, Tables, U, VA, memory};
use crate::clock::Clock;
use crate::config::{Adversary, Behaviour, Config, Preemption};
use crate::cpu::{ActiveSpace, CpuId};
use crate::machine::{Machine, NoTrace};
use crate::random::Chance;
use crate::retained::SpaceTag;
use crate::scheduler::ThreadId;
use crate::walker::Privilege;

const SPACE: SpaceTag = SpaceTag(1);
const OTHER: SpaceTag = SpaceTag(2);

fn machine(cpus: u32, behaviour: Behaviour) -> Machine<Amd64> {
    let config = Config { memory: vec![memory()], cpus, behaviour, ..Config::plain(Pages::new(0)) };
    let machine = Machine::new(config, Clock::new(), NoTrace);
    Tables::new(machine.ram(), AMD64).map(VA.get(), &[P | U; 4], 9);
    machine
}

fn adversarial() -> Behaviour {
    Behaviour::Adversarial(Adversary {
        preemption: Preemption::Never,
        forget: Chance::NEVER,
        speculate: Chance::NEVER,
        retain: Chance::ALWAYS,
        ..Adversary::default()
    })
}

fn enter(machine: &Machine<Amd64>, cpu: u32, tag: SpaceTag) {
    let root = machine.ram().slot(memory().start).expect("memory");
    machine.activate(CpuId(cpu), Some(ActiveSpace { tag, root }));
}

fn touch(machine: &Machine<Amd64>, cpu: u32) -> bool {
    machine.translate(CpuId(cpu), VA, AccessKind::Read, Privilege::User).is_ok()
}

fn run(machine: &Machine<Amd64>, cpu: u32) {
    machine.current.set(CpuId(cpu));
    machine.deliver_shootdowns();
}

#[test]
fn one_processor_acknowledges_at_once() {
    for behaviour in [Behaviour::Plain, adversarial()] {
        let machine = machine(1, behaviour);
        enter(&machine, 0, SPACE);
        assert!(touch(&machine, 0));
        let ticket = machine.begin_flush(SPACE, None);
        assert!(machine.is_acknowledged(ticket));
        assert_eq!(
            machine.tlb_references(machine.ram().pfn(Tables::new(machine.ram(), AMD64).slot(9))),
            0
        );
    }
}

#[test]
fn plain_processors_flush_at_once_everywhere() {
    let machine = machine(4, Behaviour::Plain);
    for cpu in 0..4 {
        enter(&machine, cpu, SPACE);
        assert!(touch(&machine, cpu));
    }
    Tables::new(machine.ram(), AMD64).set(3, 3, VA.get(), 0);
    let ticket = machine.begin_flush(SPACE, Some(&[VA]));
    assert!(machine.is_acknowledged(ticket));
    assert!((0..4).all(|cpu| !touch(&machine, cpu)));
}

#[test]
fn a_ticket_waits_for_every_processor_that_may_hold_the_space() {
    for cpus in 2..=4 {
        let machine = machine(cpus, adversarial());
        for cpu in 0..cpus {
            enter(&machine, cpu, SPACE);
            assert!(touch(&machine, cpu));
        }
        // The last one holds translations of the space but runs in another.
        enter(&machine, cpus - 1, OTHER);
        Tables::new(machine.ram(), AMD64).set(3, 3, VA.get(), 0);
        machine.current.set(CpuId(0));
        let ticket = machine.begin_flush(SPACE, Some(&[VA]));
        machine.scheduler.borrow_mut().park(ThreadId(7), WaitKey::Flush(ticket));
        assert!(!touch(&machine, 0), "the flushing processor has forgotten");
        for cpu in 1..cpus {
            assert!(!machine.is_acknowledged(ticket));
            if cpu < cpus - 1 {
                assert!(touch(&machine, cpu), "still held");
            }
            assert_eq!(machine.scheduler.borrow().ready(), 0);
            run(&machine, cpu);
        }
        assert!(machine.is_acknowledged(ticket));
        let pfn = machine.ram().pfn(Tables::new(machine.ram(), AMD64).slot(9));
        assert_eq!(machine.check_unreachable(pfn), Ok(()));
        let mut scheduler = machine.scheduler.borrow_mut();
        assert_eq!(scheduler.take_ready(0), Some(ThreadId(7)), "the waiter is woken");
        assert_eq!(scheduler.due_engines().collect::<Vec<_>>(), [Engine::Retire]);
    }
}

#[test]
fn processors_that_never_saw_the_space_are_not_told() {
    let machine = machine(4, adversarial());
    enter(&machine, 0, SPACE);
    enter(&machine, 1, OTHER);
    let ticket = machine.begin_flush(SPACE, None);
    assert!(machine.is_acknowledged(ticket));
    assert_eq!(machine.statistics().shootdowns, 0);
}

proptest! {
    /// Against a model: a ticket is acknowledged when each processor told of it has run, and
    /// once it is nothing reaches the page.
    #[test]
    fn tickets_count_every_processor(
        cpus in 1_u32..=4,
        steps in prop::collection::vec((0_u32..4, 0_u32..4), 1..60),
    ) {
        let machine = machine(cpus, adversarial());
        let mut owed: Vec<(ntmm::platform::FlushTicket, Vec<u32>)> = Vec::new();
        let mut last = None;
        for (action, cpu) in steps {
            let cpu = cpu % cpus;
            match action {
                0 => {
                    run(&machine, cpu);
                    owed.iter_mut().for_each(|(_, cpus)| cpus.retain(|other| *other != cpu));
                }
                1 => {
                    enter(&machine, cpu, SPACE);
                    prop_assert!(touch(&machine, cpu));
                }
                2 => enter(&machine, cpu, OTHER),
                _ => {
                    machine.current.set(CpuId(cpu));
                    let holders: Vec<u32> = (0..cpus)
                        .filter(|other| *other != cpu)
                        .filter(|other| {
                            let other = machine.processor(CpuId(*other));
                            other.is_in(SPACE) || other.retained.borrow().holds(SPACE)
                        })
                        .collect();
                    let ticket = machine.begin_flush(SPACE, None);
                    prop_assert!(Some(ticket) > last, "tickets grow");
                    last = Some(ticket);
                    owed.push((ticket, holders));
                }
            }
            for (ticket, cpus) in &owed {
                prop_assert_eq!(machine.is_acknowledged(*ticket), cpus.is_empty());
            }
        }
    }
}
