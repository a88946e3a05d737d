//! Page lists: the order frames are taken in, available pages and their events, reservations,
//! the zeroing engine (spec 3.5-3.10).

use ntmm_pte::{Amd64, PagingMode, Pfn};
use proptest::prelude::*;
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use super::machine::Machine;
use crate::frames::available::Thresholds;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageLocation};
use crate::virtual_memory::FreeType;
use crate::{Config, Engine, EngineStep, Notification, WaitKey};

const EVENTS: Config =
    Config { thresholds: Some(Thresholds { minimum: 2, plenty: 10, low: 10, high: 20 }), ..EAGER };

/// A machine with one standby frame and two frames each zeroed and free, of colours 0 and 1:
/// free 0, free 1, zeroed 0, zeroed 1, standby.
fn one_of_each<M: PagingMode>() -> (Host<M>, [Pfn; 5]) {
    let (host, space, va) = Host::<M>::with_pages(96, 1);
    host.write(space, va, 7);
    let standby = host.frame_of(space, va);
    host.trim(space, va);
    host.write_modified();
    let frames = host.hoard(1);
    assert_eq!(host.list(PageLocation::Standby), [standby]);
    let of_color = |color| {
        let mut frames = frames.iter().copied().filter(move |pfn| pfn.get() % 8 == color);
        [frames.next().expect("a frame"), frames.next().expect("another")]
    };
    let ([free_0, zeroed_0], [free_1, zeroed_1]) = (of_color(0), of_color(1));
    host.give_back(&[zeroed_0, zeroed_1]);
    while host.engine(Engine::Zeroing) == EngineStep::Worked {}
    host.give_back(&[free_1, free_0]);
    host.audit_at_rest();
    (host, [free_0, free_1, zeroed_0, zeroed_1, standby])
}

in_every_mode! {
    fn any_page_prefers_free_then_colour_and_takes_standby_last<M>() {
        let (host, [free_0, free_1, zeroed_0, zeroed_1, standby]) = one_of_each::<M>();
        let color = host.manager.color(0);
        let taken: Vec<_> = (0..5).map(|_| host.take(color, Want::Any)).collect();
        assert_eq!(taken, [free_0, zeroed_0, free_1, zeroed_1, standby]);
    }

    fn zeroed_page_prefers_zeroed_then_colour_and_is_zero_wherever_it_comes_from<M>() {
        let (host, [free_0, free_1, zeroed_0, zeroed_1, standby]) = one_of_each::<M>();
        let color = host.manager.color(0);
        let taken: Vec<_> = (0..5).map(|_| host.take(color, Want::Zeroed)).collect();
        assert_eq!(taken, [zeroed_0, zeroed_1, free_0, free_1, standby]);
        for pfn in taken {
            assert!(host.machine().contents(pfn).iter().all(|&word| word == 0), "{pfn:?}");
        }
    }

    fn colour_of_a_space_moves_on_with_each_page<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        let colors = [0, 1, 2].map(|page| {
            host.write(space, page_at(va, page), 1);
            host.frame_of(space, page_at(va, page)).get() % 8
        });
        assert_eq!([(colors[0] + 1) % 8, (colors[1] + 1) % 8], [colors[1], colors[2]]);
    }

    fn memory_events_fire_once_when_a_threshold_is_crossed_in_each_direction<M>() {
        let host = Host::<M>::bare(96, EVENTS);
        let up = [Notification::LowMemoryOver, Notification::HighMemory];
        assert_eq!(host.machine().news(), up, "memory appears at boot");
        let mut frames = host.hoard(20);
        assert_eq!(host.machine().news(), []);
        frames.extend(host.hoard(19));
        assert_eq!(host.machine().news(), [Notification::HighMemoryOver]);
        frames.extend(host.hoard(10));
        assert_eq!(host.machine().news(), []);
        frames.extend(host.hoard(9));
        assert_eq!(host.machine().news(), [Notification::LowMemory]);
        frames.extend(host.hoard(0));
        assert_eq!(host.machine().news(), []);
        host.give_back(&frames[..9]);
        assert_eq!(host.machine().news(), []);
        host.give_back(&frames[9..10]);
        assert_eq!(host.machine().news(), [Notification::LowMemoryOver]);
        host.give_back(&frames[10..19]);
        assert_eq!(host.machine().news(), []);
        host.give_back(&frames[19..20]);
        assert_eq!(host.machine().news(), [Notification::HighMemory]);
        host.give_back(&frames[20..]);
        assert_eq!(host.machine().news(), []);
    }

    fn zeroing_a_page_is_no_memory_event<M>() {
        let host = Host::<M>::bare(96, EVENTS);
        for rest in [20, 10] {
            host.hoard(rest);
            host.machine().news();
            host.machine().requests.take();
            assert_eq!(host.engine(Engine::Zeroing), EngineStep::Worked);
            assert_eq!(host.machine().news(), [], "{rest} pages stayed available");
        }
    }

    fn freeing_a_standby_page_is_no_memory_event<M>() {
        for rest in [20, 10] {
            let host = Host::<M>::bare(96, EVENTS);
            host.paging_file(256);
            let space = host.space();
            let va = host.allocate(space, 1);
            host.write(space, va, 7);
            host.trim(space, va);
            host.write_modified();
            host.hoard(rest);
            host.machine().news();
            host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
            assert_eq!(host.machine().news(), [], "{rest} pages stayed available");
        }
    }

    fn shortage_asks_the_writer_and_the_balance_engine<M>() {
        let host = Host::<M>::bare(96, EVENTS);
        host.hoard(2);
        host.machine().requests.take();
        host.hoard(1);
        assert_eq!(*host.machine().requests.borrow(), [Engine::Balance, Engine::ModifiedWriter]);
    }

    fn reservation_promises_frames_and_gives_back_what_is_left<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let all = host.manager.memory_figures().available;
        let some = host.manager.try_reserve_pages(all - 1).expect("there are as many");
        assert!(host.manager.try_reserve_pages(2).is_none(), "one is left");
        assert_eq!(host.manager.memory_figures().reserved, all - 1);
        drop(some);
        assert_eq!(host.manager.memory_figures().reserved, 0);
        assert!(host.manager.try_reserve_pages(all + 1).is_none());
    }

    fn waiter_for_pages_is_woken_by_a_freed_page_and_misses_no_wake_up<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let frames = host.hoard(0);
        let wait = host.manager.reserve_pages(1).expect_err("there is none");
        assert_eq!(wait.key, WaitKey::AvailablePages);
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        host.give_back(&frames[..1]);
        assert!(host.machine().wakes.borrow().contains(&WaitKey::AvailablePages));
        assert!(!host.manager.still_pending(wait.key, wait.epoch), "parking would miss it");
        host.machine().wakes.take();
        host.give_back(&frames[1..2]);
        assert_eq!(*host.machine().wakes.borrow(), [], "nobody waits any more");
    }

    fn reservation_given_back_wakes_the_waiter_too<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let all = host.manager.memory_figures().available;
        let everything = host.manager.try_reserve_pages(all).expect("all of them");
        let wait = host.manager.reserve_pages(1).expect_err("all are promised");
        drop(everything);
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&WaitKey::AvailablePages));
    }

    fn zeroing_engine_is_asked_for_at_eight_free_pages_and_stops_when_none_is_free<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let frames = host.hoard(0);
        host.machine().requests.take();
        host.give_back(&frames[..7]);
        assert!(!host.machine().requests.borrow().contains(&Engine::Zeroing));
        host.give_back(&frames[7..8]);
        assert!(host.machine().requests.borrow().contains(&Engine::Zeroing));
        for _ in 0..8 {
            assert_eq!(host.engine(Engine::Zeroing), EngineStep::Worked);
        }
        assert_eq!(host.engine(Engine::Zeroing), EngineStep::Idle);
        let zeroed = host.list(PageLocation::Zeroed);
        let newest_first: Vec<_> = frames[..8].iter().rev().copied().collect();
        assert_eq!(zeroed, newest_first, "zeroed pages go to the head");
        assert_eq!(host.manager.counters().zeroed.get(), 8);
        host.audit_at_rest();
    }

    fn zeroing_leaves_promised_pages_alone<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let all = host.manager.memory_figures().available;
        let reservation = host.manager.try_reserve_pages(all).expect("all of them");
        assert_eq!(host.engine(Engine::Zeroing), EngineStep::Idle);
        drop(reservation);
        assert_eq!(host.engine(Engine::Zeroing), EngineStep::Worked);
    }

    fn holes_in_memory_are_never_touched<M>() {
        // The machine panics when a frame outside these ranges is used.
        let host = Host::<M>::of(Machine::new(&[(3, 30), (64, 60), (200, 50)], 8), EAGER);
        host.paging_file(256);
        let absent = host.manager.frame_views().filter(|view| !view.location.is_list());
        assert!(absent.count() >= (64 - 33) + (200 - 124));
        let space = host.space();
        let va = host.allocate(space, 60);
        for page in 0..60 {
            host.write(space, page_at(va, page), page);
        }
        for page in 0..60 {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        host.settle();
        host.audit_at_rest();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn takers_with_a_reservation_always_succeed(
        actions in proptest::collection::vec((0_u8..4, 1_u32..12), 1..60)
    ) {
        let host = Host::<Amd64>::bare(96, EAGER);
        let all = host.manager.memory_figures().available;
        let (mut held, mut promised, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for (action, count) in actions {
            let free = all - taken.len() as u32 - promised.iter().sum::<u32>();
            match action {
                0 => match host.manager.try_reserve_pages(count) {
                    Some(reservation) => {
                        prop_assert!(count <= free);
                        held.push(reservation);
                        promised.push(count);
                    }
                    None => prop_assert!(count > free),
                },
                1 => if let Some((reservation, left)) = held.last_mut().zip(promised.last_mut()) {
                    let usage = FrameUse::Manager;
                    let mut entry = host.manager.enter();
                    for _ in 0..count.min(*left) {
                        let color = host.manager.color(count);
                        let mut frame = host.manager.take_frame(
                            entry.token(), reservation, color, Want::Any, usage,
                        );
                        frame.add_mapping();
                        taken.push(frame.pfn());
                        *left -= 1;
                    }
                },
                2 => {
                    held.pop();
                    promised.pop();
                }
                _ => {
                    let keep = taken.len().saturating_sub(count as usize);
                    host.give_back(&taken.split_off(keep));
                }
            }
            let figures = host.manager.memory_figures();
            prop_assert_eq!(figures.available, all - taken.len() as u32);
            prop_assert_eq!(figures.reserved, promised.iter().sum::<u32>());
        }
        drop(held);
        host.audit_at_rest();
    }

    #[test]
    fn pages_join_the_modified_list_at_its_tail_and_leave_it_from_anywhere(
        actions in proptest::collection::vec(0_u64..10, 1..80)
    ) {
        let host = Host::<Amd64>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 10);
        for page in 0..10 {
            host.write(space, page_at(va, page), page);
        }
        let mut listed: Vec<u64> = Vec::new();
        for page in actions {
            match listed.iter().position(|&other| other == page) {
                Some(at) => {
                    listed.remove(at);
                    prop_assert_eq!(host.read(space, page_at(va, page)), page);
                }
                None => {
                    listed.push(page);
                    host.trim(space, page_at(va, page));
                }
            }
            let frames: Vec<_> = listed
                .iter()
                .map(|&page| host.frame_of(space, page_at(va, page)))
                .collect();
            prop_assert_eq!(host.list(PageLocation::Modified), frames);
        }
        host.audit_at_rest();
    }
}
