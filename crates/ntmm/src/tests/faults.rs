//! Faults that need no disk: demand zero, transition, and waiting for pages.

use ntmm_pte::{AccessKind, Protection, PteState};

use super::host::{EAGER, Host, page_at};
use crate::frames::PageLocation;
use crate::frames::entry::FrameFlags;
use crate::virtual_memory::FreeType;
use crate::{Engine, EngineStep, Event, Fault, FaultKind, NtStatus, ProcessorMode, Step, WaitKey};

in_every_mode! {
    fn demand_zero_word_and_zero_word_are_resolved_alike<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 2);
        host.protect(space, page_at(va, 1), 1, Protection::READONLY).expect("protected");
        assert_eq!(host.fault(space, va, AccessKind::Write), Ok(FaultKind::DemandZero));
        let explicit = page_at(va, 1);
        assert_eq!(
            host.state(space, explicit),
            PteState::DemandZero { protection: Protection::READONLY }
        );
        assert_eq!(host.fault(space, explicit, AccessKind::Read), Ok(FaultKind::DemandZero));
        let (open, closed) = (host.word(space, va), host.word(space, explicit));
        assert!(M::is_writable(open) && M::is_dirty(open) && M::is_user_owned(open));
        assert!(!M::is_writable(closed) && !M::is_dirty(closed) && M::is_user_owned(closed));
        assert_eq!(M::is_executable(open), !M::HAS_NO_EXECUTE);
        let header = host.manager.space_view(space).expect("it lives").header();
        assert_eq!((header.demand_zero_faults(), header.private_pages()), (2, 2));
        host.audit_at_rest();
    }

    fn executable_page_is_executable<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate_with(space, 1, Protection::EXECUTE_READ);
        assert!(host.touch(space, va, AccessKind::Execute).is_ok());
        assert!(M::is_executable(host.word(space, va)) && !M::is_writable(host.word(space, va)));
    }

    fn fault_on_a_page_that_became_valid_is_spurious<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let word = host.word(space, va);
        assert_eq!(host.fault(space, va, AccessKind::Write), Ok(FaultKind::Spurious));
        assert_eq!(host.word(space, va), word);
        host.audit_at_rest();
    }

    fn page_whose_flush_is_pending_is_mapped_again<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.machine().hold_flushes.set(true);
        host.trim(space, va);
        let mut fault = Fault::new(space, va, AccessKind::Read, ProcessorMode::User);
        assert_eq!(host.step(&mut fault), Step::Done(FaultKind::Transition));
        let view = host.view(pfn);
        assert_eq!((view.location, view.share, view.references), (PageLocation::Active, 1, 2));
        host.audit();
        host.machine().acknowledge();
        assert_eq!(host.engine(Engine::Retire), EngineStep::Worked);
        assert_eq!(host.view(pfn).references, 1);
        assert_eq!(host.read(space, va), 7);
        host.audit_at_rest();
    }

    fn page_being_written_is_mapped_again_and_stays_clean_if_only_read<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        let mut fault = Fault::new(space, va, AccessKind::Read, ProcessorMode::User);
        assert_eq!(host.step(&mut fault), Step::Done(FaultKind::Transition));
        assert_eq!(host.view(pfn).references, 2);
        assert!(!M::is_dirty(host.word(space, va)));
        assert!(host.complete_next());
        assert_eq!((host.view(pfn).references, host.slots_in_use()), (1, 1));
        host.trim(space, va);
        assert_eq!(host.location(pfn), PageLocation::Standby, "the copy is good");
        host.audit_at_rest();
    }

    fn page_written_to_after_its_copy_loses_the_slot_when_it_is_trimmed<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        host.write(space, va, 8);
        assert_eq!(host.slots_in_use(), 1, "nobody has looked at the dirty bit yet");
        host.trim(space, va);
        assert_eq!(host.slots_in_use(), 0);
        let pfn = host.frame_of(space, va);
        assert!(host.view(pfn).flags.contains(FrameFlags::MODIFIED));
        assert_eq!(host.view(pfn).original, M::demand_zero(Protection::READWRITE));
        host.audit_at_rest();
    }

    fn fault_without_pages_waits_and_holds_nothing<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 1);
        let frames = host.hoard(0);
        let mut fault = Fault::new(space, va, AccessKind::Write, ProcessorMode::User);
        let Step::Wait(wait) = host.step(&mut fault) else { panic!("there is no page") };
        assert_eq!(wait.key, WaitKey::AvailablePages);
        assert!(host.manager.still_pending(wait.key, wait.epoch));
        assert!(host.machine().requests.borrow().contains(&Engine::Balance));
        host.audit_at_rest();
        // One page is not enough for page and tables.
        host.give_back(&frames[..1]);
        assert!(!host.manager.still_pending(wait.key, wait.epoch));
        let Step::Wait(wait) = host.step(&mut fault) else { panic!("one page is not enough") };
        assert_eq!(wait.key, WaitKey::AvailablePages);
        host.give_back(&frames[1..M::LEVELS.min(5)]);
        assert_eq!(host.step(&mut fault), Step::Done(FaultKind::DemandZero));
        host.give_back(&frames[M::LEVELS.min(5)..]);
        host.audit_at_rest();
    }

    fn waiting_fault_is_fed_by_trimming_and_writing<M>() {
        let host = Host::<M>::new(64);
        let space = host.space_of(12, 345);
        let va = host.allocate(space, 70);
        // More than the machine has, over and over.
        for round in 0..3 {
            for page in 0..70 {
                host.write(space, page_at(va, page), round * 100 + page);
            }
            for page in 0..70 {
                assert_eq!(host.read(space, page_at(va, page)), round * 100 + page);
            }
        }
        let counters = host.manager.counters();
        assert!(counters.page_file.get() > 0 && counters.pages_written.get() > 0);
        host.audit();
    }

    fn fault_after_the_allocation_went_away_is_a_violation<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 1);
        let frames = host.hoard(0);
        let mut fault = Fault::new(space, va, AccessKind::Write, ProcessorMode::User);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        host.free(space, va, 0, FreeType::Release).expect("released");
        host.give_back(&frames);
        assert_eq!(host.step(&mut fault), Step::Raise(NtStatus::ACCESS_VIOLATION));
        host.audit_at_rest();
    }

    fn every_fault_is_told_and_counted<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.machine().events.take();
        assert_eq!(host.fault(space, va, AccessKind::Write), Ok(FaultKind::DemandZero));
        host.trim(space, va);
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        let outside = page_at(va, 100);
        assert!(host.fault(space, outside, AccessKind::Read).is_err());
        let told: std::vec::Vec<_> = host
            .machine()
            .events
            .take()
            .into_iter()
            .filter_map(|event| match event {
                Event::Fault { va, outcome, .. } => Some((va, outcome)),
                _ => None,
            })
            .collect();
        assert_eq!(
            told,
            [
                (va, Ok(FaultKind::DemandZero)),
                (va, Ok(FaultKind::Transition)),
                (outside, Err(NtStatus::ACCESS_VIOLATION)),
            ]
        );
        let counters = host.manager.counters();
        assert_eq!(
            (counters.page_faults.get(), counters.demand_zero.get(), counters.transition.get()),
            (3, 1, 1)
        );
        let header = host.manager.space_view(space).expect("it lives").header();
        assert_eq!((header.demand_zero_faults(), header.transition_faults()), (1, 1));
    }
}
