//! Taking ranges back, whatever their frames are used for.

use super::*;

in_every_mode! {
    fn free_and_zeroed_frames_leave_at_once<M>() {
        let host = host::<M>();
        let before = figures(&host);
        add(&host, withheld()).expect("added");
        while host.engine(Engine::Zeroing) == crate::EngineStep::Worked {}
        let frames = host.hoard(8);
        host.give_back(&frames[..10]);
        host.give_back(&frames[10..]);
        let mut removal = RemoveMemory::new(withheld());
        assert_eq!(host.step(&mut removal), Step::Done(Ok(())));
        host.machine().set_lent(withheld(), false);
        for pfn in withheld().frames() {
            let view = host.view(pfn);
            assert_eq!((view.usage, view.share, view.references), (FrameUse::Absent, 0, 0));
        }
        let after = figures(&host);
        assert_eq!((after.lent, after.available), (before.lent, before.available));
        assert_eq!((after.commit_limit, after.bad, after.leaving), (before.commit_limit, 0, 0));
        host.audit_at_rest();
        fill(&host, 60);
        host.audit_at_rest();
    }

    fn standby_pages_are_read_back_from_their_file<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 90);
        let (inside, pfn) = page_inside(&host, (space, va), 90, withheld());
        host.trim(space, inside);
        host.write_modified();
        assert_eq!(host.location(pfn), PageLocation::Standby);
        assert_eq!(remove(&host, range(pfn.get(), 1)), Ok(()));
        assert!(matches!(host.state(space, inside), PteState::PageFile { .. }));
        check(&host, space, va, 90);
        host.audit_at_rest();
    }

    fn pages_in_use_are_written_before_their_frames_leave<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 60);
        host.hoard(8);
        let other = host.allocate(space, 8);
        let inside = host.frame_of(space, page_at(va, 30));
        let range = range(inside.get(), 1);
        let mut removal = RemoveMemory::new(range);
        let Step::Wait(wait) = host.step(&mut removal) else { panic!("it has to be written") };
        assert_eq!(wait.key, WaitKey::AvailablePages);
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        assert_eq!(host.location(inside), PageLocation::Modified);
        assert_eq!(figures(&host).leaving, 1);
        host.audit();
        host.write_modified();
        assert!(!host.manager.still_pending(wait.key, wait.epoch), "its arrival wakes");
        assert_eq!(host.location(inside), PageLocation::Bad);
        host.audit();
        assert_eq!(host.step(&mut removal), Step::Done(Ok(())));
        host.machine().set_lent(range, false);
        host.write(space, other, 5);
        check(&host, space, va, 60);
        host.audit_at_rest();
    }

    fn clean_page_leaves_only_when_its_flush_is_acknowledged<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 10);
        let at = page_at(va, 3);
        host.page_out(space, at);
        assert_eq!(host.read(space, at), 1003);
        let pfn = host.frame_of(space, at);
        let range = range(pfn.get(), 1);
        host.machine().hold_flushes.set(true);
        let mut removal = RemoveMemory::new(range);
        let Step::Wait(wait) = host.step(&mut removal) else { panic!("a flush is pending") };
        assert_eq!(host.location(pfn), PageLocation::Transition);
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        assert_eq!(host.location(pfn), PageLocation::Transition, "not before");
        host.machine().acknowledge();
        host.engine(Engine::Retire);
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert_eq!(host.step(&mut removal), Step::Done(Ok(())));
        host.machine().set_lent(range, false);
        host.machine().hold_flushes.set(false);
        check(&host, space, va, 10);
        host.audit_at_rest();
    }

    fn page_faulted_in_again_meanwhile_is_taken_out_again<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 10);
        let pfn = host.frame_of(space, va);
        let mut removal = RemoveMemory::new(range(pfn.get(), 1));
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(host.frame_of(space, va), pfn);
        host.audit();
        assert_eq!(finish(&host, removal, range(pfn.get(), 1)), Ok(()));
        check(&host, space, va, 10);
        host.audit_at_rest();
    }

    fn frame_freed_while_it_is_being_removed_is_nobodys<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 10);
        let pfn = host.frame_of(space, va);
        let range = range(pfn.get(), 1);
        let mut removal = RemoveMemory::new(range);
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        let available = figures(&host).available;
        host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(host.location(pfn), PageLocation::Bad);
        assert_eq!(figures(&host).available, available);
        assert!(!host.hoard(0).contains(&pfn));
        assert_eq!(host.step(&mut removal), Step::Done(Ok(())));
        host.machine().set_lent(range, false);
        assert_eq!(host.view(pfn).usage, FrameUse::Absent);
    }

    fn page_tables_leave_when_all_their_pages_have_left<M>() {
        let host = whole::<M>();
        let space = host.space();
        let va = host.allocate(space, 4);
        let kept = only_withheld_left(&host);
        for page in 0..4 {
            host.write(space, page_at(va, page), 1000 + page);
        }
        assert!(withheld().contains(host.entry(space, va).table));
        host.give_back(&kept);
        assert_eq!(remove(&host, withheld()), Ok(()));
        check(&host, space, va, 4);
        host.audit_at_rest();
    }

    fn promised_pages_are_not_taken_and_a_few_stay_for_others<M>() {
        let host = whole::<M>();
        let minimum = host.manager.available.thresholds().minimum;
        only_withheld_left(&host);
        let promised = host.manager.try_reserve_pages(10).expect("there are as many");
        let mut removal = RemoveMemory::new(withheld());
        let Step::Wait(wait) = host.step(&mut removal) else { panic!("pages are promised") };
        assert_eq!(figures(&host).available, 10 + minimum);
        drop(promised);
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        assert_eq!(figures(&host).available, minimum);
        host.abandon(removal);
        assert_eq!(figures(&host).available, WITHHELD);
    }

    fn allocation_failures_only_delay_a_removal<M>() {
        for after in 0..WITHHELD {
            let host = whole::<M>();
            host.machine().fail_after.set(Some(after));
            assert_eq!(remove(&host, withheld()), Ok(()));
        }
    }

    fn faulty_frames_leave_too_and_are_not_given_back<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 80);
        let (inside, faulty) = page_inside(&host, (space, va), 80, withheld());
        {
            let mut entry = host.manager.enter();
            host.manager.lock_frame(entry.token(), faulty).insert(FrameFlags::PARITY_ERROR);
        }
        host.free(space, inside, 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(host.list(PageLocation::Bad), [faulty]);
        let mut removal = RemoveMemory::new(withheld());
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        host.abandon(removal);
        assert_eq!(host.list(PageLocation::Bad), [faulty]);
        host.settle();
        assert_eq!(remove(&host, range(faulty.get(), 1)), Ok(()));
        host.audit_at_rest();
    }

    fn faulty_frame_of_a_page_in_use_leaves_when_the_page_is_written<M>() {
        let host = Host::<M>::new(96);
        let (space, va) = fill(&host, 4);
        let pfn = host.frame_of(space, va);
        {
            let mut entry = host.manager.enter();
            host.manager.lock_frame(entry.token(), pfn).insert(FrameFlags::PARITY_ERROR);
        }
        host.trim(space, va);
        assert_eq!(host.location(pfn), PageLocation::Modified);
        host.write_modified();
        assert_eq!(host.list(PageLocation::Bad), [pfn]);
        check(&host, space, va, 4);
        host.audit_at_rest();
    }

    fn memory_goes_and_comes_back_again_and_again<M>() {
        let host = host::<M>();
        let (space, va) = fill(&host, 70);
        for round in 0..5 {
            add(&host, withheld()).expect("added");
            check(&host, space, va, 70);
            assert_eq!(remove(&host, withheld()), Ok(()), "round {round}");
            check(&host, space, va, 70);
            host.audit_at_rest();
        }
        host.delete(space);
        host.audit_at_rest();
    }
}
