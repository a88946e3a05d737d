//! Removals that are refused, given up or abandoned.

use super::*;

in_every_mode! {
    fn locked_page_keeps_its_frame_and_everything_is_given_back<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 80);
        let (locked, pfn) = page_inside(&host, (space, va), 80, withheld());
        host.run(LockMemory::new(space, locked, Bytes::new(PAGE_SIZE), Locks::Memory))
            .expect("locked");
        let before = figures(&host);
        let since = host.machine().now_ticks();
        assert_eq!(remove(&host, withheld()), Err(RemoveMemoryError::InUse { pfn }));
        assert!(host.machine().now_ticks() - since >= PATIENCE.0);
        assert_eq!(host.location(pfn), PageLocation::Active);
        let after = figures(&host);
        assert_eq!((after.lent, after.commit_limit), (before.lent, before.commit_limit));
        assert_eq!((after.bad, after.leaving), (0, 0));
        for view in host.manager.frame_views() {
            assert!(!view.flags.contains(FrameFlags::REMOVAL_REQUESTED), "{view:?}");
        }
        check(&host, space, va, 80);
        host.audit_at_rest();
    }

    fn waiting_removal_is_reminded_however_often_sets_are_swept<M>() {
        let host = whole::<M>();
        let space = host.space();
        let va = host.allocate(space, 1);
        host.run(LockMemory::new(space, va, Bytes::new(PAGE_SIZE), Locks::Memory)).expect("locked");
        let mut removal = RemoveMemory::new(range(host.frame_of(space, va).get(), 1));
        let Step::Wait(wait) = host.step(&mut removal) else { panic!("the page is locked") };
        host.hoard(0);
        for quarter in 1..=4 {
            assert!(host.manager.still_pending(wait.key, wait.epoch), "quarter {quarter}");
            host.machine().advance(PERIOD.0 / 4);
            while host.engine(Engine::Balance) == crate::EngineStep::Worked {}
        }
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().wakes.borrow().contains(&WaitKey::AvailablePages));
        host.abandon(removal);
    }

    fn pages_that_cannot_be_written_stay<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let (space, va) = fill(&host, 10);
        let pfn = host.frame_of(space, page_at(va, 5));
        let outcome = remove(&host, range(pfn.get(), 1));
        assert_eq!(outcome, Err(RemoveMemoryError::InUse { pfn }));
        check(&host, space, va, 10);
        host.audit_at_rest();
    }

    fn root_of_a_space_is_refused_at_once<M>() {
        let host = whole::<M>();
        let space = host.space();
        let pfn = host.manager.root(space).expect("it lives");
        let before = figures(&host);
        let mut removal = RemoveMemory::new(range(pfn.get(), 1));
        let refused = Step::Done(Err(RemoveMemoryError::InUse { pfn }));
        assert_eq!(host.step(&mut removal), refused);
        assert_eq!(figures(&host), before);
        host.audit_at_rest();
    }

    fn standby_pages_survive_a_removal_that_is_refused<M>() {
        let host = whole::<M>();
        let kept = only_withheld_left(&host);
        let (space, va) = fill(&host, 6);
        let root = host.manager.root(space).expect("it lives");
        let standby = page_at(va, 3);
        let pfn = host.frame_of(space, standby);
        assert!(withheld().contains(root) && withheld().contains(pfn));
        host.give_back(&kept);
        host.trim(space, standby);
        host.write_modified();
        assert_eq!(host.location(pfn), PageLocation::Standby);
        let before = figures(&host);
        let mut removal = RemoveMemory::new(withheld());
        let refused = host.step(&mut removal);
        assert!(matches!(refused, Step::Done(Err(RemoveMemoryError::InUse { .. }))), "{refused:?}");
        assert_eq!(host.location(pfn), PageLocation::Standby);
        assert_eq!(figures(&host), before);
        assert_eq!(host.fault(space, standby, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(host.frame_of(space, standby), pfn);
        check(&host, space, va, 6);
        host.audit_at_rest();
    }

    fn removing_is_refused_without_any_change<M>() {
        let host = host::<M>();
        let space = host.space();
        let before = figures(&host);
        let end = FIRST + LENT + WITHHELD;
        let records = host.manager.frame_views().filter(|view| view.usage == FrameUse::Manager);
        let records: Vec<_> = records.map(|view| view.pfn).collect();
        let after_records = records.last().expect("there are records").get() + 1;
        let needed = records.len() as u32 + 32;
        for (range, error) in [
            (range(FIRST, 0), RemoveMemoryError::Empty),
            (range(FIRST + LENT - 1, 2), RemoveMemoryError::NotLent(withheld().start)),
            (range(FIRST + 50, 400), RemoveMemoryError::NotLent(Pfn::new(FIRST + 449))),
            (range(end, 1), RemoveMemoryError::NotLent(Pfn::new(end))),
            (range(0, 1), RemoveMemoryError::NotLent(Pfn::new(0))),
            (range(records[0].get(), 1), RemoveMemoryError::Records(records[0])),
            (range(FIRST + LENT - 70, 70), RemoveMemoryError::TooFewLeft { left: 26, needed }),
        ] {
            assert!(range.start.get() < FIRST + 1 || range.start.get() > after_records);
            assert_eq!(remove(&host, range), Err(error));
            assert_eq!(figures(&host), before);
        }
        let left = figures(&host).commit_limit.get() - figures(&host).committed.get();
        host.allocate(space, left - 12);
        let before = figures(&host);
        let outcome = remove(&host, range(FIRST + LENT - 20, 20));
        assert_eq!(outcome, Err(RemoveMemoryError::Committed));
        assert_eq!(figures(&host), before);
        host.audit_at_rest();
    }

    fn frames_of_a_paging_files_bitmap_are_records<M>() {
        let host = host::<M>();
        let bitmaps = host.manager.frame_views();
        let pfn = bitmaps
            .filter(|view| view.usage == FrameUse::PagingFileBitmap)
            .map(|view| view.pfn)
            .next()
            .expect("a paging file");
        assert_eq!(remove(&host, range(pfn.get(), 1)), Err(RemoveMemoryError::Records(pfn)));
    }

    fn one_change_of_memory_goes_on_at_a_time<M>() {
        let host = host::<M>();
        let (space, va) = fill(&host, 10);
        let pfn = host.frame_of(space, va);
        let mut removal = RemoveMemory::new(range(pfn.get(), 1));
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        let end = range(FIRST + LENT - 1, 1);
        assert_eq!(remove(&host, end), Err(RemoveMemoryError::Busy));
        assert_eq!(host.manager.add_memory(withheld()), Err(AddMemoryError::Busy));
        host.audit();
        host.abandon(removal);
        add(&host, withheld()).expect("nobody else does");
        assert_eq!(remove(&host, end), Ok(()));
        host.audit_at_rest();
    }

    fn commitment_made_during_a_removal_counts_on_the_memory_left<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 10);
        let pfn = host.frame_of(space, va);
        let before = figures(&host).commit_limit.get();
        let mut removal = RemoveMemory::new(range(pfn.get(), 1));
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        assert_eq!(figures(&host).commit_limit.get(), before - 1);
        let left = before - 1 - figures(&host).committed.get();
        let charge = |pages| host.manager.charge_commitment(ntmm_pte::Pages::new(pages)).map(drop);
        assert_eq!(charge(left + 1), Err(NtStatus::COMMITMENT_LIMIT));
        assert_eq!(charge(left), Ok(()));
        host.abandon(removal);
        assert_eq!(charge(left + 1), Ok(()));
    }

    fn abandoned_removal_gives_back_what_it_had<M>() {
        let host = whole::<M>();
        let (space, va) = fill(&host, 80);
        let before = figures(&host);
        host.machine().hold_flushes.set(true);
        let mut removal = RemoveMemory::new(withheld());
        assert!(matches!(host.step(&mut removal), Step::Wait(_)));
        assert!(figures(&host).bad > 0 && figures(&host).leaving == WITHHELD);
        host.audit();
        host.abandon(removal);
        host.machine().hold_flushes.set(false);
        let after = figures(&host);
        assert_eq!((after.bad, after.leaving), (0, 0));
        assert_eq!((after.lent, after.commit_limit), (before.lent, before.commit_limit));
        host.audit();
        host.settle();
        for view in host.manager.frame_views() {
            assert!(!view.flags.contains(FrameFlags::REMOVAL_REQUESTED), "{view:?}");
        }
        check(&host, space, va, 80);
        host.audit_at_rest();
    }

    fn removal_never_started_or_ended_holds_nothing<M>() {
        let host = whole::<M>();
        let before = figures(&host);
        host.abandon(RemoveMemory::new(withheld()));
        assert_eq!(figures(&host), before);
        let mut removal = RemoveMemory::new(withheld());
        assert_eq!(host.step(&mut removal), Step::Done(Ok(())));
        host.machine().set_lent(withheld(), false);
        assert_eq!(host.step(&mut removal), Step::Raise(NtStatus::INVALID_PARAMETER));
        host.abandon(removal);
        assert_eq!(figures(&host).lent, LENT);
        host.audit_at_rest();
    }
}
