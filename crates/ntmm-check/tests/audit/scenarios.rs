//! What programs do, with an audit after every step.

use crate::machine::every_mode;

every_mode! {
    memory_is_paged_and_returned
    descriptors_come_and_go
    page_tables_are_paged
    transfers_fail
    operations_are_abandoned
    a_working_set_list_grows
}

mod run {
    use ntmm::virtual_memory::{Allocate, AllocationType, FreeType, Placement};
    use ntmm::{Engine, Fault, NtStatus, ProcessorMode, Step};
    use ntmm_pte::{Access, AccessKind, Bytes, Modifier, PAGE_SIZE, PagingMode, Protection, Va};

    use crate::machine::{Machine, page};

    /// Three processes need more memory than there is.
    pub fn memory_is_paged_and_returned<M: PagingMode>() {
        let machine = Machine::<M>::new(120);
        let processes = [0, 1, 2].map(|_| {
            let space = machine.process(20);
            (space, machine.allocate(space, 60))
        });
        for number in 0..60 {
            for (space, region) in processes {
                machine.write(space, region, number, number + 7);
            }
        }
        for (space, _) in processes {
            machine.empty(space);
        }
        for (space, region) in processes {
            for number in 0..60 {
                assert_eq!(machine.read(space, region, number), number + 7);
            }
        }
        assert!(machine.manager.counters().pages_written.get() > 60);
        for (space, _) in processes {
            machine.delete(space);
        }
        machine.check_teardown();
    }

    /// Reserve, commit, decommit, protect, guard, release of the middle.
    pub fn descriptors_come_and_go<M: PagingMode>() {
        let machine = Machine::<M>::new(160);
        let space = machine.process(40);
        let reserved = machine.place(space, Placement::Highest, AllocationType::Reserve, 2048);
        let at = Placement::At(page(reserved, 500));
        machine.place(space, at, AllocationType::Commit, 40);
        for number in 500..540 {
            machine.write(space, reserved, number, number);
        }
        let region = machine.allocate(space, 64);
        for number in 0..64 {
            machine.write(space, region, number, number);
        }
        machine.protect(space, region, 4, 8, Protection::READONLY);
        machine.protect(space, region, 14, 2, Protection::NO_ACCESS);
        let guard = Protection::new(Access::ReadWrite, Modifier::Guard);
        machine.protect(space, region, 20, 2, guard);
        let hit = machine.access(space, page(region, 20), AccessKind::Read);
        assert_eq!(hit, Err(NtStatus::GUARD_PAGE_VIOLATION));
        assert_eq!(machine.read(space, region, 20), 20);
        machine.free(space, region, 8, 8, FreeType::Decommit);
        assert_eq!(
            machine.access(space, page(region, 9), AccessKind::Read),
            Err(NtStatus::ACCESS_VIOLATION)
        );
        machine.place(space, Placement::At(page(region, 9)), AllocationType::Commit, 3);
        assert_eq!(machine.read(space, region, 10), 0);
        machine.empty(space);
        machine.free(space, region, 30, 10, FreeType::Release);
        machine.free(space, region, 0, 30, FreeType::Release);
        assert_eq!(machine.read(space, region, 50), 50);
        machine.free(space, reserved, 520, 4, FreeType::Decommit);
        machine.free(space, reserved, 0, 2048, FreeType::Release);
        let many: Vec<_> = (0..150).map(|_| machine.allocate(space, 1)).collect();
        for &one in many.iter().step_by(3) {
            machine.free(space, one, 0, 0, FreeType::Release);
        }
        machine.delete(space);
        machine.check_teardown();
    }

    /// A page in each of many tables: the tables go to the paging file too.
    pub fn page_tables_are_paged<M: PagingMode>() {
        let machine = Machine::<M>::new(110);
        let space = machine.process(12);
        let size = 8 * 1024 + 1;
        let region = machine.place(space, Placement::Lowest, AllocationType::Reserve, size);
        let pages: Vec<u64> = (0..=8).map(|table| table * 1024).collect();
        for &number in &pages {
            machine.place(space, Placement::At(page(region, number)), AllocationType::Commit, 1);
            machine.write(space, region, number, number + 1);
        }
        for round in 0..2 {
            machine.push_out(space);
            let absent =
                |&&number: &&u64| machine.manager.page_entry(space, page(region, number)).is_none();
            assert!(pages.iter().filter(absent).count() > 4, "the tables are still there");
            // Without the paging file in view the auditors accept what they cannot see.
            machine.readable.set(false);
            machine.check();
            machine.readable.set(true);
            for &number in &pages {
                assert_eq!(machine.read(space, region, number), number + 1, "round {round}");
            }
        }
        machine.push_out(space);
        machine.free(space, region, 1000, 100, FreeType::Decommit);
        machine.push_out(space);
        machine.delete(space);
        machine.check_teardown();
    }

    /// Failed writes leave pages modified, failed reads leave them in the paging file.
    pub fn transfers_fail<M: PagingMode>() {
        let machine = Machine::<M>::new(110);
        let space = machine.process(14);
        let region = machine.allocate(space, 60);
        for number in 0..60 {
            machine.write(space, region, number, number);
            if number % 8 == 7 {
                machine.step_engine(Engine::ModifiedWriter);
                machine.complete_transfer(Err(NtStatus::IN_PAGE_ERROR));
            }
        }
        machine.push_out(space);
        let mut failed = 0;
        for number in 0..60 {
            let va = page(region, number);
            let mut fault = Fault::new(space, va, AccessKind::Read, ProcessorMode::User);
            if matches!(machine.step(&mut fault), Step::Wait(_)) && machine.has_transfers() {
                machine.complete_transfer(Err(NtStatus::IN_PAGE_ERROR));
                failed += u32::from(machine.run(fault) == Err(NtStatus::IN_PAGE_ERROR));
            } else {
                machine.manager.abandon(fault);
            }
            machine.check();
        }
        assert!(failed > 0, "no read failed");
        for number in 0..60 {
            assert_eq!(machine.read(space, region, number), number);
        }
        machine.delete(space);
        machine.check_teardown();
    }

    /// Operations given up while they wait for a read or a flush.
    pub fn operations_are_abandoned<M: PagingMode>() {
        let machine = Machine::<M>::new(110);
        let space = machine.process(14);
        let region = machine.allocate(space, 60);
        for number in 0..60 {
            machine.write(space, region, number, number);
        }
        machine.push_out(space);
        let mut collided = 0;
        for number in 0..60 {
            let va = page(region, number);
            let new = || Fault::new(space, va, AccessKind::Read, ProcessorMode::User);
            let (mut first, mut second) = (new(), new());
            let waits = matches!(machine.step(&mut first), Step::Wait(_));
            let collides = matches!(machine.step(&mut second), Step::Wait(_));
            collided += u32::from(waits && collides);
            machine.manager.abandon(first);
            machine.check();
            while machine.has_transfers() {
                machine.complete_transfer(Ok(()));
            }
            machine.manager.abandon(second);
            machine.check();
        }
        assert!(collided > 0, "no fault collided");
        // A commit that stops at a flush, with pages charged and some of them committed.
        machine.manager.platform().slow_flushes.set(true);
        machine.owners.borrow_mut().push(space);
        machine.pending.set(2000);
        let size = Bytes::new(60 * PAGE_SIZE);
        let kind = AllocationType::Commit;
        let at = Placement::At(region.base);
        let mut commit = Allocate::new(space, at, size, kind, Protection::READONLY);
        let waits = matches!(machine.step(&mut commit), Step::Wait(_));
        machine.manager.abandon(commit);
        machine.owners.borrow_mut().clear();
        machine.pending.set(0);
        machine.check();
        assert!(waits);
        machine.empty(space);
        machine.check();
        machine.manager.platform().slow_flushes.set(false);
        machine.acknowledge();
        assert_eq!(machine.read(space, region, 59), 59);
        machine.delete(space);
        machine.check_teardown();
    }

    /// More than 480 valid pages need a second page of the list.
    pub fn a_working_set_list_grows<M: PagingMode>() {
        let machine = Machine::<M>::new(1200);
        let space = machine.process(1100);
        let region = machine.allocate(space, 1020);
        for number in 0..1020 {
            machine.write(space, region, number, number);
        }
        let entries = machine.manager.space_view(space).map(|view| view.entries());
        assert_eq!(entries, Some(480 + 2 * 512));
        assert!(machine.manager.page_entry(space, Va::new(region.base.get())).is_some());
        machine.empty(space);
        machine.free(space, region, 10, 1000, FreeType::Decommit);
        machine.delete(space);
        machine.check_teardown();
    }
}
