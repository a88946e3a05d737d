//! Reserve and commit (spec 7.4, 7.5): places, statuses, charges, and what failure leaves.

use ntmm_pte::{Access, Bytes, Modifier, PAGE_SIZE, Pages, PagingMode, Protection, PteState, Va};
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use crate::virtual_memory::{Allocate, AllocationType, FreeType, MemoryState, Placement, Query};
use crate::{AddressSpaceId, Notification, NtStatus, Step};

const RW: Protection = Protection::READWRITE;

/// Pages charged to the machine and to the space.
fn charges<M: PagingMode>(host: &Host<M>, space: AddressSpaceId) -> (u64, u64) {
    let header = host.manager.space_view(space).expect("it lives").header();
    (host.manager.memory_figures().committed.get(), header.commit())
}

fn vad_charges<M: PagingMode>(host: &Host<M>, space: AddressSpaceId) -> Vec<u64> {
    let mut charges = Vec::new();
    let view = host.manager.space_view(space).expect("it lives");
    view.for_each_vad(|vad| charges.push(vad.attributes.commit_charge.get()));
    charges
}

fn allocate<M: PagingMode>(
    host: &Host<M>,
    space: AddressSpaceId,
    placement: Placement,
    bytes: u64,
    kind: AllocationType,
) -> Result<(u64, u64), NtStatus> {
    let call = Allocate::new(space, placement, Bytes::new(bytes), kind, RW);
    host.run(call).map(|region| (region.base.get(), region.size.get()))
}

/// Leaf tables and those above them that one page needs.
fn tables_of_a_page<M: PagingMode>() -> u64 {
    match M::LEVELS {
        2 | 3 => 1,
        _ => 3,
    }
}

in_every_mode! {
    fn reservations_start_at_64_kib_and_end_at_a_page<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let kind = AllocationType::Reserve;
        let region = allocate(&host, space, Placement::At(Va::new(0x12_3456)), 0x1234, kind);
        assert_eq!(region, Ok((0x12_0000, 0x5000)), "from 0x120000 to the page of 0x124689");
        let lowest = allocate(&host, space, Placement::Lowest, 1, kind);
        assert_eq!(lowest, Ok((0x1_0000, PAGE_SIZE)));
        let next = allocate(&host, space, Placement::Lowest, 0x1_0001, kind);
        assert_eq!(next, Ok((0x2_0000, 0x1_1000)));
        let after = allocate(&host, space, Placement::Lowest, 1, kind);
        assert_eq!(after, Ok((0x4_0000, PAGE_SIZE)), "the next granule");
        let last = M::HIGHEST_VAD_ADDRESS.get();
        let highest = allocate(&host, space, Placement::Highest, PAGE_SIZE, kind);
        assert_eq!(highest, Ok((last & !0xFFFF, PAGE_SIZE)));
        let below = allocate(&host, space, Placement::Highest, 0x1_1000, kind);
        assert_eq!(below, Ok(((last & !0xFFFF) - 0x2_0000, 0x1_1000)));
        host.audit_at_rest();
    }

    fn wrong_parameters_have_their_statuses<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let taken = host.allocate(space, 17);
        let highest = M::HIGHEST_VAD_ADDRESS.get();
        let at = |address| Placement::At(Va::new(address));
        let cases = [
            (at(0x10_0000), 0, NtStatus::INVALID_PARAMETER_4),
            (at(0x10_0000), u64::MAX, NtStatus::INVALID_PARAMETER_4),
            (at(highest), 2, NtStatus::INVALID_PARAMETER_4),
            (at(highest + 1), 1, NtStatus::INVALID_PARAMETER_2),
            (at(0xFFFF), 1, NtStatus::INVALID_PARAMETER_2),
            (Placement::Lowest, highest + 1, NtStatus::NO_MEMORY),
            (Placement::Highest, highest + 1, NtStatus::NO_MEMORY),
            (Placement::At(page_at(taken, 16)), 1, NtStatus::CONFLICTING_ADDRESSES),
            (Placement::At(taken), 1, NtStatus::CONFLICTING_ADDRESSES),
        ];
        let before = (charges(&host, space), host.size(space));
        for (placement, bytes, status) in cases {
            let outcome = allocate(&host, space, placement, bytes, AllocationType::Reserve);
            assert_eq!(outcome, Err(status), "{placement:?} {bytes:#x}");
        }
        let refused =
            [Protection::WRITECOPY, Protection::EXECUTE_WRITECOPY, Protection::DECOMMIT];
        for protection in refused {
            let bytes = Bytes::new(PAGE_SIZE);
            let kind = AllocationType::Reserve;
            let call = Allocate::new(space, Placement::Lowest, bytes, kind, protection);
            assert_eq!(host.run(call), Err(NtStatus::INVALID_PAGE_PROTECTION));
        }
        assert_eq!((charges(&host, space), host.size(space)), before);
        host.audit_at_rest();
    }

    fn commit_must_lie_in_one_allocation<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        host.reserve_at(space, Va::new(0x10_0000), 16);
        host.reserve_at(space, Va::new(0x11_0000), 16);
        let commit = |at: u64, pages| host.commit(space, Va::new(at), pages, RW).map(|_| ());
        let conflict = Err(NtStatus::CONFLICTING_ADDRESSES);
        assert_eq!(commit(0x30_0000, 1), conflict);
        assert_eq!(commit(0x10_F000, 2), conflict, "two allocations");
        assert_eq!(commit(0x0F_F000, 2), conflict);
        assert_eq!(commit(0x11_F000, 2), conflict);
        assert_eq!(commit(0x10_F000, 1), Ok(()));
        let region = allocate(
            &host, space, Placement::At(Va::new(0x10_2FFF)), 2, AllocationType::Commit,
        );
        assert_eq!(region, Ok((0x10_2000, 0x2000)), "every page that is touched");
        host.audit_at_rest();
    }

    fn commit_with_no_address_reserves_too<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let region = allocate(&host, space, Placement::Lowest, 1, AllocationType::Commit);
        assert_eq!(region, Ok((0x1_0000, PAGE_SIZE)));
        host.write(space, Va::new(0x1_0000), 7);
        assert_eq!(vad_charges(&host, space), [1]);
    }

    fn pages_and_the_tables_no_neighbour_needs_are_charged<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let (system, own) = charges(&host, space);
        let grown = |pages| (system + pages, own + pages);
        let tables = tables_of_a_page::<M>();
        // The first descriptor also takes a node of the tree.
        host.reserve_at(space, Va::new(0x10_0000), 16);
        assert_eq!(charges(&host, space), grown(tables + 1));
        host.reserve_at(space, Va::new(0x11_0000), 16);
        assert_eq!(charges(&host, space), grown(tables + 1), "its tables are there");
        host.commit(space, Va::new(0x11_0000), 3, RW).expect("committed");
        assert_eq!(charges(&host, space), grown(tables + 1 + 3));
        let span = M::span(ntmm_pte::Level::Directory).get();
        let base = Va::new(8 * span - 0x1_0000);
        host.reserve_at(space, base, 32);
        assert_eq!(charges(&host, space), grown(tables + 1 + 3 + 2), "two more leaf tables");
        host.audit_at_rest();
        host.free(space, base, 0, FreeType::Release).expect("released");
        assert_eq!(charges(&host, space), grown(tables + 1 + 3));
        host.free(space, Va::new(0x10_0000), 0, FreeType::Release).expect("released");
        assert_eq!(charges(&host, space), grown(tables + 1 + 3), "the neighbour needs the tables");
        host.free(space, Va::new(0x11_0000), 0, FreeType::Release).expect("released");
        assert_eq!(charges(&host, space), (system, own));
        host.audit_at_rest();
    }

    fn commit_charges_only_what_was_not_committed<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = Va::new(0x10_0000);
        host.reserve_at(space, va, 16);
        let (system, own) = charges(&host, space);
        let expect = |pages: u64| {
            assert_eq!(charges(&host, space), (system + pages, own + pages));
            assert_eq!(vad_charges(&host, space), [pages]);
            host.audit_at_rest();
        };
        host.commit(space, page_at(va, 2), 4, RW).expect("committed");
        expect(4);
        host.commit(space, va, 4, RW).expect("committed");
        expect(6);
        host.write(space, va, 1);
        host.commit(space, va, 16, Protection::READONLY).expect("committed");
        expect(16);
        assert_eq!(host.read(space, va), 1, "a committed page keeps its contents");
        let denied = host.fault(space, va, ntmm_pte::AccessKind::Write);
        assert_eq!(denied, Err(NtStatus::ACCESS_VIOLATION), "and gets the protection");
    }

    fn commit_of_each_kind_of_entry<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let demand_zero = |protection| PteState::DemandZero { protection };
        // A zero word in an allocation that was only reserved.
        let reserved = host.reserve_at(space, Va::new(0x10_0000), 2).base;
        host.commit(space, reserved, 1, Protection::READONLY).expect("committed");
        assert_eq!(host.state(space, reserved), demand_zero(Protection::READONLY));
        // A zero word in a committed one: nothing to do but for another protection.
        let committed = host.allocate(space, 3);
        host.write(space, page_at(committed, 2), 1);
        let table = host.entry(space, committed).table;
        let used = host.view(table).used_entries;
        host.commit(space, committed, 1, RW).expect("committed");
        assert_eq!(host.state(space, committed), PteState::Zero);
        host.commit(space, committed, 1, Protection::READONLY).expect("committed");
        assert_eq!(host.state(space, committed), demand_zero(Protection::READONLY));
        assert_eq!(host.view(table).used_entries, used + 1);
        // A decommitted word.
        host.free(space, page_at(committed, 1), 1, FreeType::Decommit).expect("decommitted");
        let before = charges(&host, space).1;
        host.commit(space, page_at(committed, 1), 1, RW).expect("committed");
        assert_eq!(host.state(space, page_at(committed, 1)), demand_zero(RW));
        assert_eq!(charges(&host, space).1, before + 1);
        host.audit_at_rest();
    }

    fn allocation_beyond_the_limit_is_refused_whole<M>() {
        let host = Host::<M>::bare(128, EAGER);
        let space = host.space();
        let va = host.reserve_at(space, Va::new(0x10_0000), 512).base;
        host.commit(space, va, 2, RW).expect("committed");
        host.machine().news();
        let figures = host.manager.memory_figures();
        let left = figures.commit_limit.get() - figures.committed.get();
        let before = (charges(&host, space), vad_charges(&host, space));
        let refused = NtStatus::COMMITMENT_LIMIT;
        assert_eq!(host.commit(space, va, left + 3, RW), Err(refused));
        assert_eq!(host.machine().news(), [Notification::CommitLimit]);
        assert!(!host.manager.space_view(space).expect("it lives").address_creation_is_owned());
        let bytes = (left + 1) * PAGE_SIZE;
        let kind = AllocationType::ReserveAndCommit;
        let outcome = allocate(&host, space, Placement::Lowest, bytes, kind);
        assert_eq!(outcome, Err(refused));
        assert_eq!((charges(&host, space), vad_charges(&host, space)), before);
        assert_eq!(host.query(space, page_at(va, 2)).state, MemoryState::Reserved);
        host.audit_at_rest();
        assert!(host.commit(space, va, left + 2, RW).is_ok(), "to the last page");
        host.audit_at_rest();
    }

    fn reservation_without_a_frame_for_its_record_waits_and_holds_nothing<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let before = charges(&host, space);
        let frames = host.hoard(0);
        let bytes = Pages::new(1).to_bytes();
        let kind = AllocationType::Reserve;
        let mut call = Allocate::new(space, Placement::Lowest, bytes, kind, RW);
        assert!(matches!(host.step(&mut call), Step::Wait(_)));
        assert_eq!(charges(&host, space), before);
        host.audit_at_rest();
        host.give_back(&frames);
        assert!(matches!(host.step(&mut call), Step::Done(_)));
        host.audit_at_rest();
    }

    fn failing_allocation_leaves_nothing_changed<M>() {
        for kind in [AllocationType::Reserve, AllocationType::ReserveAndCommit] {
            let mut failures = 0;
            for allocation in 0.. {
                let host = Host::<M>::new(96);
                let space = host.space();
                let before = (charges(&host, space), host.manager.memory_figures().available);
                host.machine().fail_after.set(Some(allocation));
                let outcome = allocate(&host, space, Placement::Lowest, 0x2_0000, kind);
                let failed = host.machine().fail_after.take().is_none();
                host.audit_at_rest();
                if outcome.is_err() {
                    failures += 1;
                    assert_eq!(outcome, Err(NtStatus::COMMITMENT_LIMIT));
                    let after = (charges(&host, space), host.manager.memory_figures().available);
                    assert_eq!(after, before);
                }
                if !failed {
                    break;
                }
            }
            assert!(failures >= 2, "the pages and the record are charged");
        }
    }

    fn failing_commit_leaves_nothing_changed<M>() {
        for allocation in 0.. {
            let host = Host::<M>::new(96);
            let space = host.space();
            let va = host.reserve_at(space, Va::new(0x10_0000), 16).base;
            let before = charges(&host, space);
            host.machine().fail_after.set(Some(allocation));
            let outcome = host.commit(space, va, 16, RW);
            let failed = host.machine().fail_after.take().is_none();
            host.audit_at_rest();
            if outcome.is_err() {
                assert_eq!(outcome, Err(NtStatus::COMMITMENT_LIMIT));
                assert_eq!(charges(&host, space), before);
                assert_eq!(host.query(space, va).state, MemoryState::Reserved);
            }
            if !failed {
                break;
            }
        }
    }

    fn calls_on_a_space_that_is_owned_wait_their_turn<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 4);
        for page in 0..4 {
            host.write(space, page_at(va, page), 1);
        }
        host.machine().hold_flushes.set(true);
        let size = Pages::new(4).to_bytes();
        let mut free = crate::virtual_memory::Free::new(space, va, size, FreeType::Decommit);
        assert!(matches!(host.step(&mut free), Step::Wait(_)), "the flush");
        let kind = AllocationType::Reserve;
        let mut other = Allocate::new(space, Placement::Lowest, size, kind, RW);
        let Step::Wait(wait) = host.step(&mut other) else { panic!("creation is owned") };
        assert_eq!(wait.key, crate::WaitKey::AddressCreation(space));
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        host.machine().acknowledge();
        assert!(matches!(host.step(&mut free), Step::Done(_)));
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&wait.key));
        assert!(matches!(host.step(&mut other), Step::Done(_)));
        host.settle();
        host.audit_at_rest();
    }

    fn query_tells_regions_of_one_state_and_protection<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = Va::new(0x10_0000);
        host.reserve_at(space, va, 10);
        host.commit(space, page_at(va, 2), 5, RW).expect("committed");
        host.protect(space, page_at(va, 4), 1, Protection::READONLY).expect("protected");
        host.write(space, page_at(va, 2), 1);
        host.write(space, page_at(va, 3), 1);
        host.page_out(space, page_at(va, 3));
        let committed = MemoryState::Committed;
        for (page, pages, state, protection) in [
            (0, 2, MemoryState::Reserved, None),
            (1, 1, MemoryState::Reserved, None),
            (2, 2, committed, Some(RW)),
            (3, 1, committed, Some(RW)),
            (4, 1, committed, Some(Protection::READONLY)),
            (5, 2, committed, Some(RW)),
            (7, 3, MemoryState::Reserved, None),
        ] {
            let found = host.query(space, page_at(va, page));
            assert_eq!(found.base, page_at(va, page));
            assert_eq!(found.size, Pages::new(pages).to_bytes(), "from page {page}");
            assert_eq!((found.state, found.protection), (state, protection));
            assert_eq!(found.allocation, Some((va, RW)));
        }
        let free = host.query(space, Va::new(0x1234));
        assert_eq!((free.state, free.base), (MemoryState::Free, Va::new(0x1000)));
        assert_eq!(free.size.get(), 0x10_0000 - 0x1000);
        assert_eq!((free.protection, free.allocation), (None, None));
        // On amd64 the page of shared data ends the run.
        let last = M::HIGHEST_VAD_ADDRESS.min(Va::new(0x7FFD_FFFF));
        let rest = host.query(space, page_at(va, 10));
        assert_eq!(rest.base.get() + rest.size.get(), last.get() + 1);
        let beyond = Va::new(M::HIGHEST_USER_ADDRESS.get() + 1);
        assert_eq!(host.run(Query::new(space, beyond)), Err(NtStatus::INVALID_PARAMETER));
    }

    fn guarded_and_closed_memory_can_be_allocated<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let guard = Protection::new(Access::ReadWrite, Modifier::Guard);
        for protection in [guard, Protection::NO_ACCESS] {
            let va = host.allocate_with(space, 2, protection);
            assert_eq!(host.query(space, va).protection, Some(protection));
        }
        host.audit_at_rest();
    }
}
