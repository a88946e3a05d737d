//! Decommit and release (spec 7.6, 14.1-14.4).

use ntmm_pte::{Bytes, PAGE_SIZE, Pages, PagingMode, Protection, PteState, Va};
use std::vec::Vec;

use super::host::{Host, page_at};
use crate::virtual_memory::{Free, FreeType, MemoryState};
use crate::{AddressSpaceId, NtStatus};

const RW: Protection = Protection::READWRITE;

/// First page and number of pages.
type Range = (u64, u64);

/// Start, pages and charge of each allocation.
fn vads<M: PagingMode>(host: &Host<M>, space: AddressSpaceId) -> Vec<(Va, u64, u64)> {
    let mut found = Vec::new();
    host.manager.space_view(space).expect("it lives").for_each_vad(|vad| {
        let pages = vad.end.get() - vad.start.get() + 1;
        found.push((M::va_of_vpn(vad.start), pages, vad.attributes.commit_charge.get()));
    });
    found
}

fn commit_of<M: PagingMode>(host: &Host<M>, space: AddressSpaceId) -> u64 {
    host.manager.space_view(space).expect("it lives").header().commit()
}

in_every_mode! {
    fn decommit_of_each_kind_of_entry<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 8);
        // 0 zero, 1 demand zero, 2 valid, 3 modified, 4 standby, 5 page file, 6 decommitted.
        host.protect(space, page_at(va, 1), 1, Protection::READONLY).expect("protected");
        for page in 2..6 {
            host.write(space, page_at(va, page), 1);
        }
        host.page_out(space, page_at(va, 5));
        host.trim(space, page_at(va, 4));
        host.write_modified();
        host.trim(space, page_at(va, 3));
        host.free(space, page_at(va, 6), 1, FreeType::Decommit).expect("decommitted");
        let table = host.entry(space, va).table;
        let before = host.view(table);
        assert_eq!(host.manager.space_view(space).expect("it lives").header().private_pages(), 4);
        let charged = commit_of(&host, space);
        host.free(space, va, 7, FreeType::Decommit).expect("decommitted");
        for page in 0..7 {
            assert_eq!(host.word(space, page_at(va, page)), M::DECOMMITTED, "page {page}");
        }
        assert_eq!(commit_of(&host, space), charged - 6, "one was decommitted already");
        assert_eq!(vads(&host, space), [(va, 8, 1)]);
        let after = host.view(table);
        assert_eq!(after.used_entries, before.used_entries + 1, "the zero word");
        assert_eq!(after.share, before.share - 3, "valid and transition ones");
        assert_eq!(host.slots_in_use(), 0);
        assert_eq!(host.manager.space_view(space).expect("it lives").header().private_pages(), 0);
        host.settle();
        host.audit_at_rest();
    }

    fn zero_word_of_a_reserved_range_stays_zero<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.reserve_at(space, Va::new(0x10_0000), 16).base;
        host.commit(space, va, 1, RW).expect("committed");
        let charged = commit_of(&host, space);
        host.free(space, va, 16, FreeType::Decommit).expect("decommitted");
        assert_eq!(host.word(space, va), M::DECOMMITTED);
        assert_eq!(host.state(space, page_at(va, 1)), PteState::Zero);
        assert_eq!(commit_of(&host, space), charged - 1);
        host.audit_at_rest();
    }

    fn recommitted_memory_is_zero<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        for page in 0..3 {
            host.write(space, page_at(va, page), 7);
        }
        host.page_out(space, page_at(va, 1));
        host.trim(space, page_at(va, 2));
        host.free(space, va, 3, FreeType::Decommit).expect("decommitted");
        host.commit(space, va, 3, RW).expect("committed");
        for page in 0..3 {
            assert_eq!(host.read(space, page_at(va, page)), 0);
        }
        host.audit_at_rest();
    }

    fn decommit_of_everything_takes_size_zero<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        host.write(space, va, 7);
        let inside = host.free(space, page_at(va, 1), 0, FreeType::Decommit);
        assert_eq!(inside, Err(NtStatus::FREE_VM_NOT_AT_BASE));
        let region = host.free(space, va, 0, FreeType::Decommit).expect("decommitted");
        assert_eq!((region.base, region.size), (va, Pages::new(3).to_bytes()));
        assert_eq!(vads(&host, space), [(va, 3, 0)], "the range stays reserved");
        assert_eq!(host.query(space, va).state, MemoryState::Reserved);
        host.audit_at_rest();
    }

    fn release_of_the_whole_front_back_and_middle<M>() {
        // What is released of eight pages, and what is left: start, pages.
        let cases: [(u64, u64, &[Range]); 4] = [
            (0, 8, &[]),
            (0, 3, &[(3, 5)]),
            (5, 3, &[(0, 5)]),
            (2, 3, &[(0, 2), (5, 3)]),
        ];
        for committed in [false, true] {
            for (first, count, left) in cases {
                let host = Host::<M>::new(128);
                let space = host.space();
                let before = host.manager.memory_figures();
                let va = if committed {
                    host.allocate(space, 8)
                } else {
                    let va = host.reserve_at(space, Va::new(0x10_0000), 8).base;
                    // Every other page.
                    for page in [0, 2, 4, 6] {
                        host.commit(space, page_at(va, page), 1, RW).expect("committed");
                    }
                    va
                };
                for page in [0, 2, 4, 6] {
                    host.write(space, page_at(va, page), page + 1);
                }
                host.page_out(space, page_at(va, 2));
                host.trim(space, page_at(va, 4));
                let at = page_at(va, first);
                let region = host.free(space, at, count, FreeType::Release).expect("released");
                assert_eq!((region.base, region.size), (at, Pages::new(count).to_bytes()));
                let charge = |first: u64, count: u64| match committed {
                    true => count,
                    false => (first..first + count).filter(|page| page % 2 == 0).count() as u64,
                };
                let expected: Vec<_> = left
                    .iter()
                    .map(|&(first, count)| (page_at(va, first), count, charge(first, count)))
                    .collect();
                assert_eq!(vads(&host, space), expected);
                for page in [0, 2, 4, 6] {
                    let gone = (first..first + count).contains(&page);
                    if gone {
                        assert_eq!(host.query(space, page_at(va, page)).state, MemoryState::Free);
                    } else {
                        assert_eq!(host.read(space, page_at(va, page)), page + 1);
                    }
                }
                host.settle();
                host.audit_at_rest();
                for &(first, _) in left {
                    host.free(space, page_at(va, first), 0, FreeType::Release).expect("released");
                }
                host.settle();
                let after = host.manager.memory_figures();
                assert_eq!(after.available, before.available);
                assert_eq!(after.committed, before.committed);
                assert_eq!(host.slots_in_use(), 0);
                host.audit_at_rest();
            }
        }
    }

    fn parts_of_an_allocation_are_allocations_of_their_own<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 8);
        host.free(space, page_at(va, 3), 2, FreeType::Release).expect("released");
        let across = host.protect(space, va, 8, Protection::READONLY).map(|_| ());
        assert_eq!(across, Err(NtStatus::CONFLICTING_ADDRESSES));
        assert_eq!(host.free(space, va, 8, FreeType::Release), Err(NtStatus::UNABLE_TO_FREE_VM));
        let back = host.query(space, page_at(va, 5));
        assert_eq!(back.allocation, Some((page_at(va, 5), RW)));
        assert!(host.free(space, page_at(va, 5), 0, FreeType::Release).is_ok());
        host.audit_at_rest();
    }

    fn wrong_parameters_have_their_statuses<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 4);
        let beyond = Va::new(M::HIGHEST_USER_ADDRESS.get() + 1);
        for kind in [FreeType::Decommit, FreeType::Release] {
            let free = |base, bytes| {
                host.run(Free::new(space, base, Bytes::new(bytes), kind)).map(|_| ())
            };
            assert_eq!(free(beyond, 1), Err(NtStatus::INVALID_PARAMETER_2));
            assert_eq!(free(va, u64::MAX), Err(NtStatus::INVALID_PARAMETER_3));
            assert_eq!(free(page_at(va, 4), 1), Err(NtStatus::MEMORY_NOT_ALLOCATED));
            assert_eq!(free(page_at(va, 3), 2 * PAGE_SIZE), Err(NtStatus::UNABLE_TO_FREE_VM));
            assert_eq!(free(page_at(va, 1), 0), Err(NtStatus::FREE_VM_NOT_AT_BASE));
        }
        assert_eq!(vads(&host, space), [(va, 4, 4)]);
        host.audit_at_rest();
    }

    fn release_goes_over_many_tables_and_their_gaps<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        let before = host.manager.memory_figures();
        let span = M::ENTRIES as u64;
        let va = Va::new(0x1000_0000);
        host.reserve_at(space, va, span * 12);
        for number in [0, 1, 5, 11] {
            let at = page_at(va, number * span + number);
            host.commit(space, at, 2, RW).expect("committed");
            host.write(space, at, number);
        }
        host.audit_at_rest();
        host.free(space, va, 0, FreeType::Release).expect("released");
        host.settle();
        let after = host.manager.memory_figures();
        assert_eq!((after.available, after.committed), (before.available, before.committed));
        host.audit_at_rest();
    }

    fn frames_are_not_reused_before_the_flush_is_acknowledged<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 2);
        host.write(space, va, 7);
        host.write(space, page_at(va, 1), 7);
        let pfn = host.frame_of(space, va);
        host.machine().hold_flushes.set(true);
        let size = Pages::new(1).to_bytes();
        let mut free = Free::new(space, va, size, FreeType::Decommit);
        let crate::Step::Wait(wait) = host.step(&mut free) else { panic!("the flush") };
        let view = host.view(pfn);
        assert_eq!((view.references, view.location), (1, crate::frames::PageLocation::Transition));
        host.audit();
        host.machine().acknowledge();
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(matches!(host.step(&mut free), crate::Step::Done(_)), "only now it returns");
        assert_eq!(host.engine(crate::Engine::Retire), crate::EngineStep::Worked);
        assert_eq!(host.location(pfn), crate::frames::PageLocation::Free);
        host.audit_at_rest();
    }
}
