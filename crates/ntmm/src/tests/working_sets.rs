//! Working sets: entries, growth, locking, replacement, ageing, trimming, limits (spec 6).

use ntmm_pte::{AccessKind, Level, PagingMode, Protection, Va};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use crate::frames::PageLocation;
use crate::frames::available::Thresholds;
use crate::virtual_memory::FreeType;
use crate::working_set::balance::PERIOD;
use crate::working_set::entry::Age;
use crate::working_set::insert::{FIRST_PAGE_ENTRIES, PAGE_ENTRIES};
use crate::working_set::limits::{EmptyWorkingSet, Hardness, WorkingSetLimits};
use crate::{AddressSpaceId, Config, Engine, EngineStep, NtStatus};

/// Plenty of memory from the manager's point of view, however few frames there are.
const RICH: Config =
    Config { thresholds: Some(Thresholds { minimum: 1, plenty: 2, low: 2, high: 4 }), ..EAGER };

/// Never enough memory to grow beyond a minimum.
const POOR: Config = Config {
    thresholds: Some(Thresholds { minimum: 1000, plenty: 2000, low: 1, high: 2 }),
    ..EAGER
};

fn header<M: PagingMode>(
    host: &Host<M>,
    space: AddressSpaceId,
) -> crate::working_set::header::Header<'_> {
    host.manager.space_view(space).expect("it lives").header()
}

/// Sweeps until the balance engine rests.
fn sweep<M: PagingMode>(host: &Host<M>) {
    host.machine().advance(PERIOD.0);
    while host.engine(Engine::Balance) == EngineStep::Worked {}
}

fn age<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va) -> u8 {
    let index = host.index_of(space, va);
    host.manager.space_view(space).expect("it lives").entry(index).age().passes()
}

in_every_mode! {
    fn pages_take_the_free_entry_released_last<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 4);
        for page in 0..3 {
            host.write(space, page_at(va, page), 1);
        }
        let indexes = [0, 1, 2].map(|page| host.index_of(space, page_at(va, page)));
        assert_eq!(indexes[1..], [indexes[0] + 1, indexes[0] + 2]);
        assert_eq!(header(&host, space).last_entry(), indexes[2]);
        host.trim(space, page_at(va, 1));
        assert_eq!(header(&host, space).last_entry(), indexes[2]);
        assert_eq!(header(&host, space).first_free(), indexes[1]);
        host.write(space, page_at(va, 3), 1);
        assert_eq!(host.index_of(space, page_at(va, 3)), indexes[1]);
        host.trim(space, page_at(va, 3));
        host.trim(space, page_at(va, 2));
        assert_eq!(header(&host, space).last_entry(), indexes[0], "LastEntry passes over holes");
        host.audit_at_rest();
    }

    fn peak_is_the_largest_size_so_far<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        for page in 0..3 {
            host.write(space, page_at(va, page), 1);
        }
        let largest = header(&host, space).size();
        host.trim(space, va);
        let header = header(&host, space);
        assert_eq!((header.size(), header.peak()), (largest - 1, largest));
    }

    fn own_pages_of_a_space_are_permanent<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let own = match M::LEVELS { 2 => 3, 3 => 4 + 2, _ => 5 };
        assert_eq!(host.size(space), own);
        assert_eq!(header(&host, space).first_dynamic(), own);
        host.run(EmptyWorkingSet::new(space)).expect("emptied");
        assert_eq!(host.size(space), own);
        host.audit_at_rest();
    }

    fn list_grows_by_a_page_with_a_permanent_entry<M>() {
        let host = Host::<M>::bare(1400, RICH);
        let space = host.space_of(1000, 2000);
        let pages = u64::from(FIRST_PAGE_ENTRIES) + u64::from(PAGE_ENTRIES);
        let va = host.allocate(space, pages);
        let permanent = header(&host, space).first_dynamic();
        let mut grown = Vec::new();
        for page in 0..pages {
            host.write(space, page_at(va, page), page);
            let entries = header(&host, space).initialized();
            if grown.last() != Some(&entries) {
                grown.push(entries);
            }
        }
        let first = FIRST_PAGE_ENTRIES;
        assert_eq!(first, 480);
        assert_eq!(grown, [first, first + PAGE_ENTRIES, first + 2 * PAGE_ENTRIES]);
        assert_eq!(header(&host, space).first_dynamic(), permanent + 2);
        host.audit_at_rest();
        for page in 0..pages {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        let list = M::WORKING_SET_LIST;
        assert!(host.walk(space, page_at(list, 2), AccessKind::Read).is_some());
        host.delete(space);
        assert_eq!(host.manager.memory_figures().committed.get(), 0);
        host.audit_at_rest();
    }

    fn list_that_may_not_be_charged_replaces_instead<M>() {
        let host = Host::<M>::bare(1400, RICH);
        let space = host.space_of(1000, 2000);
        let va = host.allocate(space, 600);
        // Commit all that is left.
        let figures = host.manager.memory_figures();
        let rest = figures.commit_limit.get() - figures.committed.get();
        host.reserve_at(space, Va::new(0x4000_0000), 4096);
        let at = Va::new(0x4000_0000);
        let left = host.manager.memory_figures();
        let left = left.commit_limit.get() - left.committed.get();
        assert!(left <= rest);
        host.commit(space, at, left, Protection::READWRITE).expect("fits exactly");
        for page in 0..600 {
            host.write(space, page_at(va, page), page);
        }
        assert_eq!(header(&host, space).initialized(), FIRST_PAGE_ENTRIES);
        assert!(host.manager.counters().replaced.get() > 0);
        for page in 0..600 {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        host.audit();
    }

    fn locked_entries_move_below_first_dynamic_and_back<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 4);
        for page in 0..4 {
            host.write(space, page_at(va, page), page);
        }
        let first = header(&host, space).first_dynamic();
        let index = host.index_of(space, page_at(va, 2));
        assert_eq!(host.locked(space, |set| set.lock_entry(index)), first);
        assert_eq!(host.index_of(space, page_at(va, 2)), first);
        assert_eq!(header(&host, space).first_dynamic(), first + 1);
        host.audit_at_rest();
        let again = host.locked(space, |set| set.lock_entry(first));
        assert_eq!((again, header(&host, space).first_dynamic()), (first, first + 1));
        let other = host.index_of(space, page_at(va, 3));
        assert_eq!(host.locked(space, |set| set.lock_entry(other)), first + 1);
        host.audit_at_rest();
        // A locked page stays when the set is emptied.
        host.run(EmptyWorkingSet::new(space)).expect("emptied");
        assert!(M::is_valid(host.word(space, page_at(va, 2))));
        assert!(M::is_transition(host.word(space, page_at(va, 0))));
        assert_eq!(host.locked(space, |set| set.unlock_entry(first)), first + 1);
        assert_eq!(host.index_of(space, page_at(va, 3)), first, "the last locked fills the hole");
        host.audit_at_rest();
        // Deleting a locked page unlocks it first.
        host.free(space, page_at(va, 3), 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(header(&host, space).first_dynamic(), first);
        host.audit_at_rest();
    }

    fn set_grows_below_its_minimum_even_when_memory_is_short<M>() {
        let host = Host::<M>::bare(96, POOR);
        host.paging_file(256);
        let space = host.space_of(20, 30);
        let va = host.allocate(space, 40);
        for page in 0..40 {
            host.write(space, page_at(va, page), page);
        }
        assert_eq!(host.size(space), 20);
        assert!(host.manager.counters().replaced.get() > 0);
        host.audit();
    }

    fn set_stops_at_its_maximum_unless_memory_is_plenty<M>() {
        let plenty = Thresholds { minimum: 1, plenty: 20, low: 2, high: 4 };
        for (rest, hardness, expected) in [
            (60, Hardness::Soft, 40),
            (60, Hardness::Hard, 30),
        ] {
            let host = Host::<M>::bare(128, Config { thresholds: Some(plenty), ..EAGER });
            host.paging_file(256);
            let limits = WorkingSetLimits::new(20, 30, hardness).expect("in order");
            let space = host.manager.create_address_space(limits).expect("made");
            host.hoard(rest);
            let va = host.allocate(space, 40);
            let mut largest = 0;
            for page in 0..40 {
                host.write(space, page_at(va, page), page);
                largest = largest.max(host.size(space));
            }
            match hardness {
                Hardness::Soft => assert!(largest >= expected, "{largest}"),
                Hardness::Hard => assert_eq!(largest, expected),
            }
            for page in 0..40 {
                assert_eq!(host.read(space, page_at(va, page)), page);
            }
            host.audit();
        }
    }

    fn replacement_prefers_a_page_that_was_not_accessed<M>() {
        let host = Host::<M>::bare(96, RICH);
        let limits = WorkingSetLimits::new(12, 20, Hardness::Hard).expect("in order");
        let space = host.manager.create_address_space(limits).expect("made");
        let va = host.allocate(space, 24);
        let mut page = 0;
        while host.size(space) < 20 {
            host.write(space, page_at(va, page), page);
            page += 1;
        }
        // All resident pages are accessed, but for one.
        let idle = page_at(va, page / 2);
        let entry = host.entry(space, idle);
        host.store_raw(entry, M::clear_accessed(host.manager.raw_entry(entry)));
        host.write(space, page_at(va, page), page);
        assert!(M::is_transition(host.word(space, idle)), "the idle page left");
        assert_eq!(host.size(space), 20);
        host.audit_at_rest();
    }

    fn replacement_never_takes_the_tables_of_the_faulting_address<M>() {
        let host = Host::<M>::bare(160, RICH);
        host.paging_file(256);
        let limits = WorkingSetLimits::new(12, 14, Hardness::Hard).expect("in order");
        let space = host.manager.create_address_space(limits).expect("made");
        // Pages far apart: each needs a table of its own.
        let span = M::ENTRIES as u64;
        let base = Va::new(0x1000_0000);
        host.reserve_at(space, base, span * 8);
        for number in 0..8 {
            let at = page_at(base, number * span);
            host.commit(space, at, 1, Protection::READWRITE).expect("committed");
        }
        for round in 0..3 {
            for number in 0..8 {
                host.write(space, page_at(base, number * span), round + number);
            }
        }
        for number in 0..8 {
            assert_eq!(host.read(space, page_at(base, number * span)), 2 + number);
        }
        host.audit();
    }

    fn ageing_counts_the_sweeps_without_an_access<M>() {
        let host = Host::<M>::bare(96, RICH);
        let space = host.space();
        let va = host.allocate(space, 2);
        host.write(space, va, 1);
        host.write(space, page_at(va, 1), 1);
        host.machine().flushes.take();
        sweep(&host);
        assert_eq!(age(&host, space, va), 0, "accessed since it came");
        assert!(!M::is_accessed(host.word(space, va)), "the bit is cleared");
        assert!(!host.machine().flushes.borrow().is_empty(), "so that the next access is seen");
        for expected in [1, 2, 3, 3] {
            host.read(space, page_at(va, 1));
            sweep(&host);
            assert_eq!((age(&host, space, va), age(&host, space, page_at(va, 1))), (expected, 0));
        }
        host.read(space, va);
        sweep(&host);
        assert_eq!(age(&host, space, va), 0);
        assert_eq!(host.manager.counters().trimmed.get(), 0, "memory is plenty");
        host.audit_at_rest();
    }

    fn balance_engine_rests_until_its_period_is_over<M>() {
        let host = Host::<M>::bare(96, RICH);
        host.space();
        sweep(&host);
        assert_eq!(host.engine(Engine::Balance), EngineStep::Idle);
        host.machine().advance(PERIOD.0 - 1);
        assert_eq!(host.engine(Engine::Balance), EngineStep::Idle);
        host.machine().advance(1);
        assert_eq!(host.engine(Engine::Balance), EngineStep::Worked);
    }

    fn shortage_trims_old_pages_first_and_stops_when_there_are_enough<M>() {
        let thresholds = Thresholds { minimum: 2, plenty: 12, low: 2, high: 4 };
        let host = Host::<M>::bare(128, Config { thresholds: Some(thresholds), ..EAGER });
        let space = host.space_of(12, 100);
        let va = host.allocate(space, 20);
        for page in 0..20 {
            host.write(space, page_at(va, page), page);
        }
        for _ in 0..4 {
            for page in 10..20 {
                host.read(space, page_at(va, page));
            }
            sweep(&host);
        }
        let frames = host.hoard(8);
        for page in 10..20 {
            host.read(space, page_at(va, page));
        }
        sweep(&host);
        let is_gone = |page: &u64| !M::is_valid(host.word(space, page_at(va, *page)));
        let gone: Vec<_> = (0..20).filter(is_gone).collect();
        assert_eq!(gone, [0, 1, 2, 3], "four were missing, four of the oldest left");
        assert_eq!(host.list(PageLocation::Modified).len(), 4);
        host.give_back(&frames);
        host.audit_at_rest();
    }

    fn trimming_stops_at_the_minimum_while_another_pass_can_do<M>() {
        let thresholds = Thresholds { minimum: 2, plenty: 12, low: 2, high: 4 };
        let host = Host::<M>::bare(128, Config { thresholds: Some(thresholds), ..EAGER });
        let large = host.space_of(12, 100);
        let small = host.space_of(60, 100);
        let (va, own) = (host.allocate(large, 30), host.allocate(small, 10));
        for page in 0..30 {
            host.write(large, page_at(va, page), page);
        }
        for page in 0..10 {
            host.write(small, page_at(own, page), page);
        }
        let before = host.size(small);
        host.hoard(6);
        sweep(&host);
        assert!(host.manager.counters().trimmed.get() > 0);
        assert_eq!(host.size(small), before, "a set below its minimum is left alone");
        host.audit();
    }

    fn last_pass_goes_below_the_minimum<M>() {
        let thresholds = Thresholds { minimum: 2, plenty: 40, low: 2, high: 4 };
        let host = Host::<M>::bare(128, Config { thresholds: Some(thresholds), ..EAGER });
        let space = host.space_of(60, 100);
        let va = host.allocate(space, 30);
        for page in 0..30 {
            host.write(space, page_at(va, page), page);
        }
        host.hoard(2);
        let before = host.size(space);
        sweep(&host);
        assert!(host.size(space) < before);
        assert!(header(&host, space).last_trim_time() > 0);
        host.audit();
    }

    fn emptied_set_keeps_its_pages_soft_faultable<M>() {
        let host = Host::<M>::bare(256, RICH);
        let space = host.space();
        let va = host.allocate(space, 70);
        for page in 0..70 {
            host.write(space, page_at(va, page), page);
        }
        host.run(EmptyWorkingSet::new(space)).expect("emptied");
        host.settle();
        assert_eq!(host.manager.memory_figures().modified, 70, "more than one flush batch holds");
        let reads = host.manager.counters().page_file.get();
        for page in 0..70 {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        assert_eq!(host.manager.counters().page_file.get(), reads);
        assert_eq!(host.manager.counters().transition.get(), 70);
        host.audit_at_rest();
    }
}

#[test]
fn limits_are_checked_and_raised_to_what_a_space_needs() {
    let refused = WorkingSetLimits::new(30, 20, Hardness::Soft);
    assert_eq!(refused, Err(NtStatus::BAD_WORKING_SET_LIMIT));
    let raised = WorkingSetLimits::new(0, 1, Hardness::Soft).expect("in order");
    assert_eq!((raised.minimum(), raised.maximum()), (12, 12));
    let limits = [4864, 8192, 8193].map(WorkingSetLimits::for_memory);
    assert_eq!(
        limits.map(|limit| (limit.minimum(), limit.maximum())),
        [(20, 45), (30, 145), (50, 345)]
    );
    assert_eq!(Age::of_passes(9), Age::OLD);
}

fn is_resident<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va) -> bool {
    let entry = host.entry_at(space, va, Level::Table);
    entry.is_some_and(|entry| M::is_valid(host.manager.raw_entry(entry)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn locking_and_deleting_in_any_order_keeps_the_list_in_order(
        actions in proptest::collection::vec((0_u8..5, 0_u64..12), 1..80)
    ) {
        let host = Host::<ntmm_pte::Pae>::bare(128, RICH);
        let space = host.space();
        let va = host.allocate(space, 12);
        let permanent = header(&host, space).first_dynamic();
        let mut locked = BTreeSet::new();
        for (action, page) in actions {
            let at = page_at(va, page);
            match action {
                0 | 1 => host.write(space, at, page),
                2 if is_resident(&host, space, at) => {
                    let index = host.index_of(space, at);
                    if locked.insert(page) {
                        host.locked(space, |set| set.lock_entry(index));
                    } else {
                        locked.remove(&page);
                        host.locked(space, |set| set.unlock_entry(index));
                    }
                }
                3 => {
                    host.free(space, at, 1, FreeType::Decommit).expect("decommitted");
                    host.commit(space, at, 1, Protection::READWRITE).expect("committed");
                    locked.remove(&page);
                }
                _ => host.run(EmptyWorkingSet::new(space)).expect("emptied"),
            }
            prop_assert_eq!(header(&host, space).first_dynamic() - permanent, locked.len() as u32);
            for &page in &locked {
                prop_assert!(host.walk(space, page_at(va, page), AccessKind::Read).is_some());
            }
            host.audit_at_rest();
        }
    }
}
