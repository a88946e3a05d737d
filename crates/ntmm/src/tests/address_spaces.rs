//! Address spaces come and go without leaving anything behind.

use ntmm_pte::{AccessKind, Level, PagingMode};

use super::host::{Host, page_at, table_of};
use crate::inspect::MemoryFigures;
use crate::working_set::limits::{EmptyWorkingSet, WorkingSetLimits};
use crate::{
    AddressSpaceId, DeleteAddressSpace, Engine, EngineStep, Fault, NtStatus, ProcessorMode, Step,
    WaitKey,
};

/// What must be the same after a space has come and gone.
fn whole(figures: MemoryFigures) -> (u32, u32, ntmm_pte::Pages) {
    (figures.available, figures.modified, figures.committed)
}

/// Runs `live` in a new space and deletes it; everything is as it was.
fn leaves_nothing<M: PagingMode>(live: impl FnOnce(&Host<M>, AddressSpaceId)) {
    let host = Host::<M>::new(96);
    let before = whole(host.manager.memory_figures());
    let space = host.space();
    live(&host, space);
    host.delete(space);
    assert_eq!(whole(host.manager.memory_figures()), before);
    assert_eq!(host.slots_in_use(), 0);
    assert_eq!(host.manager.spaces().count(), 0);
    host.audit_at_rest();
}

fn read_fault(space: AddressSpaceId, va: ntmm_pte::Va) -> Fault {
    Fault::new(space, va, AccessKind::Read, ProcessorMode::User)
}

in_every_mode! {
    fn unused_space_returns_every_frame<M>() {
        leaves_nothing::<M>(|_, _| {});
    }

    fn space_returns_pages_in_every_state<M>() {
        leaves_nothing::<M>(|host, space| {
            let va = host.allocate(space, 8);
            for page in 0..6 {
                host.write(space, page_at(va, page), 1);
            }
            host.page_out(space, va);
            host.trim(space, page_at(va, 1));
            host.write_modified();
            host.trim(space, page_at(va, 2));
            host.machine().hold_flushes.set(true);
            host.trim(space, page_at(va, 3));
            host.audit();
        });
    }

    fn space_returns_tables_in_the_paging_file_and_the_slots_their_pages_own<M>() {
        leaves_nothing::<M>(|host, space| {
            let va = host.allocate(space, 2);
            host.write(space, va, 1);
            host.write(space, page_at(va, 1), 1);
            host.page_out_run(space, va, 2);
            let mut level = Level::Table;
            while level < M::SELF_MAP_LEVEL {
                host.page_out(space, table_of::<M>(va, level));
                level = level.up().expect("below the top");
            }
            assert!(host.slots_in_use() > 2);
        });
    }

    fn space_deleted_while_a_page_is_read_returns_it_when_the_read_ends<M>() {
        let host = Host::<M>::new(96);
        let before = whole(host.manager.memory_figures());
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 1);
        host.page_out(space, va);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        let mut delete = DeleteAddressSpace::new(space);
        assert_eq!(host.step(&mut delete), Step::Done(()), "deletion waits for no read");
        assert!(host.complete_next());
        assert_eq!(host.step(&mut fault), Step::Raise(NtStatus::INVALID_HANDLE));
        assert_eq!(whole(host.manager.memory_figures()), before);
        assert_eq!(host.slots_in_use(), 0);
        host.audit_at_rest();
    }

    fn space_deleted_while_pages_are_written_returns_them_when_the_write_ends<M>() {
        for result in [Ok(()), Err(NtStatus::IO_DEVICE_ERROR)] {
            let host = Host::<M>::new(96);
            let before = whole(host.manager.memory_figures());
            let space = host.space();
            let va = host.allocate(space, 3);
            for page in 0..3 {
                host.write(space, page_at(va, page), 1);
                host.trim(space, page_at(va, page));
            }
            assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
            // One of the pages is mapped again meanwhile.
            host.write(space, page_at(va, 1), 2);
            assert_eq!(host.step(&mut DeleteAddressSpace::new(space)), Step::Done(()));
            host.audit();
            host.complete_next_with(result).expect("a write");
            assert_eq!(whole(host.manager.memory_figures()), before);
            assert_eq!(host.slots_in_use(), 0);
            host.audit_at_rest();
        }
    }

    fn deletion_waits_until_every_processor_has_forgotten_the_space<M>() {
        let host = Host::<M>::new(96);
        let before = whole(host.manager.memory_figures());
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 1);
        let root = host.manager.root(space).expect("it lives");
        host.machine().hold_flushes.set(true);
        let mut delete = DeleteAddressSpace::new(space);
        for _ in 0..2 {
            let Step::Wait(wait) = host.step(&mut delete) else { panic!("nothing to wait for") };
            assert!(matches!(wait.key, WaitKey::Flush(_)));
            assert!(host.manager.still_pending(wait.key, wait.epoch));
            host.audit();
            assert_eq!(host.view(root).references, 1, "the root is still in use");
            host.machine().acknowledge();
            assert!(!host.manager.still_pending(wait.key, wait.epoch));
        }
        assert_eq!(host.step(&mut delete), Step::Done(()));
        host.settle();
        assert_eq!(whole(host.manager.memory_figures()), before);
        host.audit_at_rest();
    }

    fn deletion_of_a_table_that_cannot_be_read_is_tried_again<M>() {
        let host = Host::<M>::new(96);
        let before = whole(host.manager.memory_figures());
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 1);
        host.page_out(space, va);
        host.page_out(space, table_of::<M>(va, Level::Table));
        let mut delete = DeleteAddressSpace::new(space);
        assert!(matches!(host.step(&mut delete), Step::Wait(_)));
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert_eq!(host.step(&mut delete), Step::Raise(NtStatus::IN_PAGE_ERROR));
        host.audit();
        assert_eq!(host.run(delete), Ok(()));
        host.settle();
        assert_eq!(whole(host.manager.memory_figures()), before);
        host.audit_at_rest();
    }

    fn abandoned_deletion_can_be_taken_up_by_another<M>() {
        let host = Host::<M>::new(96);
        let before = whole(host.manager.memory_figures());
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 1);
        host.page_out(space, va);
        host.page_out(space, table_of::<M>(va, Level::Table));
        let mut delete = DeleteAddressSpace::new(space);
        assert!(matches!(host.step(&mut delete), Step::Wait(_)));
        host.abandon(delete);
        assert_eq!(host.fault(space, va, AccessKind::Read), Err(NtStatus::PROCESS_IS_TERMINATING));
        host.delete(space);
        assert_eq!(whole(host.manager.memory_figures()), before);
        host.audit_at_rest();
    }

    fn second_deletion_is_woken_when_the_first_ends<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        host.machine().hold_flushes.set(true);
        let mut first = DeleteAddressSpace::new(space);
        assert!(matches!(host.step(&mut first), Step::Wait(_)));
        let mut second = DeleteAddressSpace::new(space);
        let Step::Wait(wait) = host.step(&mut second) else { panic!("the first goes on") };
        assert_eq!(wait.key, WaitKey::AddressCreation(space));
        host.machine().wakes.take();
        host.machine().acknowledge();
        assert_eq!(host.step(&mut first), Step::Done(()));
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&wait.key), "a parked thread sleeps on");
        assert_eq!(host.step(&mut second), Step::Raise(NtStatus::INVALID_HANDLE));
    }

    fn ids_of_deleted_and_forged_spaces_name_nothing<M>() {
        let host = Host::<M>::new(96);
        let old = host.space();
        host.delete(old);
        let new = host.space();
        assert_ne!(old, new);
        assert_eq!(old.index(), new.index(), "the place is used again");
        let va = host.allocate(new, 1);
        for id in [old, AddressSpaceId::forged(77, 0), AddressSpaceId::forged(u32::MAX, 1)] {
            assert_eq!(host.fault(id, va, AccessKind::Read), Err(NtStatus::INVALID_HANDLE));
            assert_eq!(host.run(DeleteAddressSpace::new(id)), Err(NtStatus::INVALID_HANDLE));
            assert_eq!(host.run(EmptyWorkingSet::new(id)), Err(NtStatus::INVALID_HANDLE));
            assert!(host.manager.root(id).is_none());
        }
        host.audit_at_rest();
    }

    fn failing_creation_leaves_nothing_behind<M>() {
        let host = Host::<M>::new(96);
        let before = host.manager.memory_figures();
        let limits = WorkingSetLimits::for_memory(96);
        let mut failures = 0;
        for allocation in 0.. {
            host.machine().fail_after.set(Some(allocation));
            match host.manager.create_address_space(limits) {
                Err(_) => failures += 1,
                Ok(space) => {
                    host.machine().fail_after.set(None);
                    host.delete(space);
                    break;
                }
            }
            assert_eq!(whole(host.manager.memory_figures()), whole(before));
            host.audit_at_rest();
        }
        assert!(failures >= 2, "both the charge and the frames can fail");
        let frames = host.hoard(1);
        let failed = host.manager.create_address_space(limits);
        assert_eq!(failed, Err(NtStatus::INSUFFICIENT_RESOURCES));
        host.give_back(&frames);
        assert_eq!(whole(host.manager.memory_figures()), whole(before));
        host.audit_at_rest();
    }

    fn many_spaces_live_side_by_side<M>() {
        let host = Host::<M>::new(256);
        let before = whole(host.manager.memory_figures());
        let spaces: std::vec::Vec<_> = (0..8).map(|_| host.space()).collect();
        let vas: std::vec::Vec<_> = spaces.iter().map(|&space| host.allocate(space, 2)).collect();
        for (number, (&space, &va)) in spaces.iter().zip(&vas).enumerate() {
            host.write(space, va, number as u64);
        }
        host.audit_at_rest();
        for (number, (&space, &va)) in spaces.iter().zip(&vas).enumerate() {
            assert_eq!(host.read(space, va), number as u64);
            host.delete(space);
        }
        assert_eq!(whole(host.manager.memory_figures()), before);
        host.audit_at_rest();
    }
}
