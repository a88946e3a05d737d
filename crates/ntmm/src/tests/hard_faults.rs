//! Faults on pages in a paging file: clustering, collisions, errors, waiters (spec 4.11-4.14).

use ntmm_pte::{AccessKind, PAGE_SIZE, PagingMode, Protection, PteState, Va};

use super::host::{EAGER, Host, page_at};
use crate::frames::PageLocation;
use crate::frames::available::Thresholds;
use crate::platform::Direction;
use crate::virtual_memory::FreeType;
use crate::{AddressSpaceId, Config, Fault, FaultKind, NtStatus, ProcessorMode, Step, WaitKey};

fn read_fault(space: AddressSpaceId, va: Va) -> Fault {
    Fault::new(space, va, AccessKind::Read, ProcessorMode::User)
}

/// `count` pages from `va` on hold their numbers plus 100 and are in the paging file, in a row.
fn paged_out<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va, count: u64) {
    for page in 0..count {
        host.write(space, page_at(va, page), 100 + page);
    }
    host.page_out_run(space, va, count);
    for page in 0..count {
        assert!(matches!(host.state(space, page_at(va, page)), PteState::PageFile { .. }));
    }
}

/// Starts a read of the page and says how many pages the transfer has.
fn pages_read_with<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va) -> usize {
    let mut fault = read_fault(space, va);
    assert!(matches!(host.step(&mut fault), Step::Wait(_)));
    let transfers = host.pending();
    assert_eq!(transfers.len(), 1, "one read");
    assert_eq!(transfers[0].0, Direction::Read);
    host.audit();
    assert!(host.complete_next());
    assert_eq!(host.step(&mut fault), Step::Done(FaultKind::PageFile));
    transfers[0].1
}

in_every_mode! {
    fn neighbours_in_table_file_and_allocation_are_read_with_the_page<M>() {
        for (first, expected) in [(0, 8), (3, 8), (5, 8)] {
            let (host, space, va) = Host::<M>::with_pages(128, 10);
            paged_out(&host, space, va, 10);
            assert_eq!(pages_read_with(&host, space, page_at(va, first)), expected);
            assert_eq!(host.manager.counters().pages_read.get(), expected as u64);
            // Forward first, then backward: the neighbours are on standby and soft-fault.
            let from = if first + 8 <= 10 { first } else { 2 };
            for page in from..from + 8 {
                let kind = host.fault(space, page_at(va, page), AccessKind::Read);
                let soft = if page == first { FaultKind::Spurious } else { FaultKind::Transition };
                assert_eq!(kind, Ok(soft), "page {page}");
            }
            for page in 0..10 {
                assert_eq!(host.read(space, page_at(va, page)), 100 + page);
            }
            host.audit_at_rest();
        }
    }

    fn cluster_is_as_long_as_the_host_chose<M>() {
        for (chosen, expected) in [(0, 1), (1, 1), (4, 4), (16, 16), (99, 16)] {
            let host = Host::<M>::bare(128, Config { read_cluster: chosen, ..EAGER });
            host.paging_file(256);
            let space = host.space();
            let va = host.allocate(space, 16);
            paged_out(&host, space, va, 16);
            assert_eq!(pages_read_with(&host, space, va), expected, "{chosen} chosen");
        }
    }

    fn cluster_ends_at_the_allocation<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 16);
        let next = host.allocate(space, 4);
        assert_eq!(next, page_at(va, 16), "allocations touch");
        paged_out(&host, space, page_at(va, 12), 8);
        assert_eq!(pages_read_with(&host, space, page_at(va, 13)), 4);
        host.audit_at_rest();
    }

    fn cluster_ends_at_the_page_table<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let span = M::ENTRIES as u64 * PAGE_SIZE;
        let base = Va::new(16 * span - 4 * PAGE_SIZE);
        let granule = Va::new(16 * span - 16 * PAGE_SIZE);
        host.reserve_at(space, granule, 32);
        host.commit(space, granule, 32, Protection::READWRITE).expect("committed");
        paged_out(&host, space, base, 8);
        assert_eq!(pages_read_with(&host, space, page_at(base, 1)), 4);
        host.audit_at_rest();
    }

    fn cluster_takes_only_pages_that_lie_beside_each_other_in_the_file<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 6);
        for page in 0..6 {
            host.write(space, page_at(va, page), 100 + page);
        }
        // Slots 1, 2 for pages 0, 1; slot 3 for page 5; slots 4 to 6 for pages 2 to 4.
        for run in [(0, 2), (5, 1), (2, 3)] {
            host.page_out_run(space, page_at(va, run.0), run.1);
        }
        assert_eq!(pages_read_with(&host, space, va), 2);
        assert_eq!(pages_read_with(&host, space, page_at(va, 5)), 1);
        assert_eq!(pages_read_with(&host, space, page_at(va, 3)), 3);
    }

    fn cluster_leaves_out_guarded_and_closed_pages<M>() {
        for closed in [Protection::NO_ACCESS, guard()] {
            let (host, space, va) = Host::<M>::with_pages(128, 6);
            paged_out(&host, space, va, 6);
            host.protect(space, page_at(va, 3), 1, closed).expect("protected");
            assert_eq!(pages_read_with(&host, space, page_at(va, 1)), 3);
            assert_eq!(pages_read_with(&host, space, page_at(va, 5)), 2);
        }
    }

    fn cluster_leaves_out_pages_that_are_in_memory<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 6);
        paged_out(&host, space, va, 6);
        let frames = host.hoard(10);
        assert_eq!(host.read(space, page_at(va, 3)), 103);
        host.give_back(&frames);
        let frames = host.hoard(0);
        host.give_back(&frames);
        assert_eq!(pages_read_with(&host, space, page_at(va, 1)), 3);
        assert_eq!(pages_read_with(&host, space, page_at(va, 5)), 2);
    }

    fn short_of_pages_only_the_page_itself_is_read<M>() {
        let thresholds = Thresholds { minimum: 5, plenty: 10, low: 10, high: 20 };
        let host =
            Host::<M>::bare(128, Config { thresholds: Some(thresholds), ..EAGER });
        host.paging_file(256);
        let space = host.space();
        let va = host.allocate(space, 4);
        paged_out(&host, space, va, 4);
        // Four to read: one is reserved for the page, three more leave the minimum alone.
        let frames = host.hoard(9);
        assert_eq!(pages_read_with(&host, space, va), 1);
        host.give_back(&frames);
        assert_eq!(pages_read_with(&host, space, page_at(va, 1)), 3);
        host.audit_at_rest();
    }

    fn two_faults_on_one_page_share_one_read<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        let (mut first, mut second) = (read_fault(space, va), read_fault(space, va));
        let Step::Wait(wait) = host.step(&mut first) else { panic!("a read is needed") };
        let Step::Wait(collided) = host.step(&mut second) else { panic!("the read goes on") };
        assert_eq!(wait, collided);
        assert_eq!(host.pending().len(), 1);
        assert_eq!(host.manager.counters().collided.get(), 1);
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        assert_eq!(host.step(&mut second), Step::Wait(wait), "stepped for nothing, it waits on");
        assert!(host.complete_next());
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&wait.key));
        let pfn = host.frame_of(space, va);
        assert_eq!(host.step(&mut second), Step::Done(FaultKind::PageFile));
        assert_eq!(host.view(pfn).references, 2, "the first still holds the read");
        assert_eq!(host.step(&mut first), Step::Done(FaultKind::PageFile));
        assert_eq!(host.view(pfn).references, 1);
        assert_eq!(host.read(space, va), 100);
        host.audit_at_rest();
    }

    fn fault_on_a_neighbour_of_a_read_waits_for_the_same_read<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        paged_out(&host, space, va, 3);
        let (mut first, mut second) = (read_fault(space, va), read_fault(space, page_at(va, 2)));
        assert!(matches!(host.step(&mut first), Step::Wait(_)));
        assert!(matches!(host.step(&mut second), Step::Wait(_)));
        assert_eq!(host.pending(), [(Direction::Read, 3)]);
        assert!(host.complete_next());
        // While someone holds the read none of its pages can be repurposed.
        let pinned = host.frame_of(space, page_at(va, 1));
        let frames = host.hoard(2);
        assert_eq!(host.location(pinned), PageLocation::Transition);
        assert_eq!(host.step(&mut first), Step::Done(FaultKind::PageFile));
        assert_eq!(host.step(&mut second), Step::Done(FaultKind::PageFile));
        assert_eq!(host.list(PageLocation::Standby), [pinned]);
        host.give_back(&frames);
        host.audit_at_rest();
    }

    fn every_collider_gets_the_error_and_the_next_fault_reads_again<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        paged_out(&host, space, va, 3);
        let word = host.word(space, va);
        let (mut first, mut second) = (read_fault(space, va), read_fault(space, page_at(va, 2)));
        assert!(matches!(host.step(&mut first), Step::Wait(_)));
        assert!(matches!(host.step(&mut second), Step::Wait(_)));
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert_eq!(host.step(&mut first), Step::Raise(NtStatus::IN_PAGE_ERROR));
        // The second still holds the block; a third finds the frame in error.
        let mut third = read_fault(space, page_at(va, 1));
        assert_eq!(host.step(&mut third), Step::Raise(NtStatus::IN_PAGE_ERROR));
        host.audit();
        assert_eq!(host.step(&mut second), Step::Raise(NtStatus::IN_PAGE_ERROR));
        assert_eq!(host.word(space, va), word);
        assert_eq!(host.manager.counters().failed_reads.get(), 1);
        host.audit_at_rest();
        for page in 0..3 {
            assert_eq!(host.read(space, page_at(va, page)), 100 + page);
        }
    }

    fn failed_read_of_a_page_that_was_protected_meanwhile_keeps_the_protection<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        host.protect(space, va, 1, Protection::READONLY).expect("protected");
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert_eq!(host.step(&mut fault), Step::Raise(NtStatus::IN_PAGE_ERROR));
        let denied = host.fault(space, va, AccessKind::Write);
        assert_eq!(denied, Err(NtStatus::ACCESS_VIOLATION));
        assert_eq!(host.read(space, va), 100);
        host.audit_at_rest();
    }

    fn abandoned_collider_leaves_the_read_to_the_other<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        let (mut first, mut second) = (read_fault(space, va), read_fault(space, va));
        assert!(matches!(host.step(&mut first), Step::Wait(_)));
        assert!(matches!(host.step(&mut second), Step::Wait(_)));
        host.abandon(first);
        assert!(host.complete_next());
        assert_eq!(host.step(&mut second), Step::Done(FaultKind::PageFile));
        host.audit_at_rest();
    }

    fn read_abandoned_before_it_fails_gives_the_entry_back<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        let word = host.word(space, va);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        host.abandon(fault);
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert_eq!(host.word(space, va), word);
        host.audit_at_rest();
    }

    fn page_deleted_while_it_is_read_is_freed_when_the_read_ends<M>() {
        for result in [Ok(()), Err(NtStatus::IO_DEVICE_ERROR)] {
            let (host, space, va) = Host::<M>::with_pages(96, 2);
            paged_out(&host, space, va, 2);
            let mut fault = read_fault(space, va);
            assert!(matches!(host.step(&mut fault), Step::Wait(_)));
            let pfn = host.frame_of(space, va);
            host.machine().wakes.take();
            let mut free = crate::virtual_memory::Free::new(
                space, va, ntmm_pte::Bytes::new(PAGE_SIZE), FreeType::Decommit,
            );
            assert!(matches!(host.step(&mut free), Step::Done(_)), "decommit waits for no read");
            host.audit();
            host.complete_next_with(result).expect("a read");
            assert!(matches!(host.step(&mut fault), Step::Raise(_)));
            assert_eq!(host.location(pfn), PageLocation::Free);
            assert_eq!(host.read(space, page_at(va, 1)), 101);
            host.audit_at_rest();
            assert_eq!(host.slots_in_use(), 1);
        }
    }

    fn fault_waits_when_every_in_page_block_is_in_use<M>() {
        let host = Host::<M>::bare(256, Config { read_cluster: 1, ..EAGER });
        host.paging_file(256);
        let space = host.space();
        let va = host.allocate(space, 33);
        paged_out(&host, space, va, 33);
        let mut faults: std::vec::Vec<_> =
            (0..33).map(|page| read_fault(space, page_at(va, page))).collect();
        for fault in &mut faults[..32] {
            let Step::Wait(wait) = host.step(fault) else { panic!("a read is needed") };
            assert!(matches!(wait.key, WaitKey::InPage(_)));
        }
        let Step::Wait(wait) = host.step(&mut faults[32]) else { panic!("no block is left") };
        assert_eq!(wait.key, WaitKey::Records);
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        host.audit();
        assert!(host.complete_next());
        assert_eq!(host.step(&mut faults[0]), Step::Done(FaultKind::PageFile));
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&WaitKey::Records));
        assert!(matches!(host.step(&mut faults[32]), Step::Wait(_)));
        while host.complete_next() {}
        for fault in &mut faults[1..] {
            assert_eq!(host.step(fault), Step::Done(FaultKind::PageFile));
        }
        host.audit_at_rest();
    }

    fn hard_faults_are_counted_for_the_space<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        assert_eq!(host.read(space, va), 100);
        assert_eq!(host.manager.counters().page_file.get(), 1);
        let header = host.manager.space_view(space).expect("it lives").header();
        assert_eq!(header.page_file_faults(), 1);
        assert_eq!(header.transition_faults(), 0, "the read is what it waited for");
    }

    #[should_panic(expected = "MemoryManagement")]
    fn transfer_reported_twice_stops_the_machine<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        paged_out(&host, space, va, 1);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        let transfer = host.complete_next_with(Ok(())).expect("a read");
        host.manager.complete_io(transfer.token, Ok(()));
    }
}

fn guard() -> Protection {
    Protection::new(ntmm_pte::Access::ReadWrite, ntmm_pte::Modifier::Guard)
}
