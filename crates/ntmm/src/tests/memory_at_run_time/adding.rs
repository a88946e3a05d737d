//! The span, and adding ranges of it.

use super::*;

in_every_mode! {
    fn frames_of_the_span_that_are_not_lent_are_absent_and_not_touched<M>() {
        // The machine panics when a frame that is not lent is used.
        let host = host::<M>();
        for pfn in withheld().frames() {
            assert_eq!(host.view(pfn).usage, FrameUse::Absent);
        }
        assert_eq!(figures(&host).lent, LENT);
        fill(&host, 40);
        host.audit_at_rest();
    }

    fn span_may_lie_on_both_sides_of_what_is_lent<M>() {
        let machine = Machine::<M>::new(&[(40, 96), (200, 20)], 8);
        let host = Host::of(machine, Config { span: Some(range(8, 300)), ..EAGER });
        assert_eq!(host.view(Pfn::new(8)).usage, FrameUse::Absent);
        assert_eq!(host.view(Pfn::new(307)).usage, FrameUse::Absent);
        assert!(host.manager.frame_view(Pfn::new(308)).is_none());
        assert_eq!(figures(&host).lent, 116);
        host.audit_at_rest();
    }

    fn span_out_of_reach_is_refused_at_boot<M>() {
        let boot = |span| {
            let machine = Machine::<M>::new(&[(1, 96)], 8);
            Manager::new(machine, Config { span: Some(span), ..EAGER }).map(|_| ())
        };
        let last = M::MAX_PFN.get();
        let beyond = range(last, 2);
        let error = if last == u32::MAX {
            BootError::BadMemoryMap
        } else {
            BootError::FrameOutOfReach(Pfn::new(last + 1))
        };
        assert_eq!(boot(beyond), Err(error));
        assert_eq!(boot(range(u32::MAX, 2)), Err(BootError::BadMemoryMap));
    }

    fn added_frames_are_free_and_counted<M>() {
        let host = host::<M>();
        let before = figures(&host);
        add(&host, withheld()).expect("added");
        let after = figures(&host);
        assert_eq!(after.lent, before.lent + WITHHELD);
        assert_eq!(after.free, before.free + WITHHELD);
        assert_eq!(after.available, before.available + WITHHELD);
        let limit = before.commit_limit.get() + u64::from(WITHHELD);
        assert_eq!(after.commit_limit.get(), limit);
        assert_eq!(after.committed, before.committed);
        host.audit_at_rest();
    }

    fn added_frames_are_used_and_their_old_contents_are_not_seen<M>() {
        let host = whole::<M>();
        let kept = only_withheld_left(&host);
        let space = {
            host.give_back(&kept[..16]);
            host.space()
        };
        let rest = host.hoard(0);
        let inside: Vec<_> =
            rest.iter().copied().filter(|pfn| withheld().contains(*pfn)).collect();
        host.give_back(&inside[..8]);
        let va = host.allocate(space, 3);
        for page in 0..3 {
            let at = page_at(va, page);
            assert_eq!(host.read(space, at), 0);
            assert!(withheld().contains(host.frame_of(space, at)));
        }
    }

    fn whoever_waits_for_pages_is_woken_by_added_memory<M>() {
        let host = host::<M>();
        host.hoard(0);
        let wait = host.manager.reserve_pages(1).expect_err("there is none");
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        add(&host, withheld()).expect("added");
        assert!(host.machine().wakes.borrow().contains(&WaitKey::AvailablePages));
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.manager.reserve_pages(WITHHELD).is_ok());
    }

    fn memory_events_follow_memory_that_comes_and_goes<M>() {
        let thresholds = Thresholds { minimum: 2, plenty: 10, low: 10, high: 20 };
        let machine = Machine::<M>::withholding(FIRST, LENT + WITHHELD, LENT);
        let host = Host::of(machine, Config { thresholds: Some(thresholds), ..config() });
        host.hoard(5);
        host.machine().news();
        add(&host, withheld()).expect("added");
        let up = [Notification::LowMemoryOver, Notification::HighMemory];
        assert_eq!(host.machine().news(), up);
        assert_eq!(remove(&host, withheld()), Ok(()));
        let down = [Notification::HighMemoryOver, Notification::LowMemory];
        assert_eq!(host.machine().news(), down);
    }

    fn adding_is_refused_without_any_change<M>() {
        let host = host::<M>();
        let before = figures(&host);
        let end = FIRST + LENT + WITHHELD;
        let (lent, outside) = (Pfn::new(FIRST + LENT - 1), Pfn::new(end));
        for (range, error) in [
            (range(FIRST + LENT, 0), AddMemoryError::Empty),
            (range(end - 1, 2), AddMemoryError::OutsideSpan(outside)),
            (range(0, 2), AddMemoryError::OutsideSpan(Pfn::new(0))),
            (range(u32::MAX, 2), AddMemoryError::OutsideSpan(Pfn::new(u32::MAX))),
            (range(FIRST + LENT - 1, 2), AddMemoryError::AlreadyLent(lent)),
        ] {
            assert_eq!(host.manager.add_memory(range), Err(error));
            assert_eq!(figures(&host), before);
        }
        add(&host, withheld()).expect("added");
        let again = host.manager.add_memory(withheld());
        assert_eq!(again, Err(AddMemoryError::AlreadyLent(withheld().start)));
        host.audit_at_rest();
    }

    fn without_a_span_nothing_can_be_added_behind_what_was_lent<M>() {
        let host = Host::<M>::new(96);
        let pfn = Pfn::new(FIRST + 96);
        let outcome = host.manager.add_memory(range(pfn.get(), 1));
        assert_eq!(outcome, Err(AddMemoryError::OutsideSpan(pfn)));
        let host = Host::<M>::of(Machine::new(&[(1, 90), (100, 10)], 8), EAGER);
        host.machine().set_lent(range(91, 9), true);
        assert_eq!(host.manager.add_memory(range(91, 9)), Ok(()), "a hole has entries");
        host.audit_at_rest();
    }
}
