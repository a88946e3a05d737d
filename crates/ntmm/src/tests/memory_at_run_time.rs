//! Memory added and taken away while the manager runs: what is counted, who is woken, what is
//! refused, what a removal waits for, and that giving up leaves everything as it was.

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, PagingMode, Pfn, PteState, Va};
use proptest::prelude::*;
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use super::machine::{Machine, range};
use crate::frames::available::Thresholds;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameUse, PageLocation};
use crate::inspect::MemoryFigures;
use crate::memory::remove::PATIENCE;
use crate::platform::FrameRange;
use crate::virtual_memory::FreeType;
use crate::virtual_memory::lock::{LockMemory, Locks};
use crate::working_set::balance::PERIOD;
use crate::{
    AddMemoryError, AddressSpaceId, BootError, Config, Engine, FaultKind, Manager, Notification,
    NtStatus, RemoveMemory, RemoveMemoryError, Step, WaitKey,
};

/// First frame of every machine here.
const FIRST: u32 = 1;
/// Frames that are lent at boot, and those withheld behind them.
const LENT: u32 = 96;
const WITHHELD: u32 = 32;

fn withheld() -> FrameRange {
    range(FIRST + LENT, WITHHELD)
}

fn config() -> Config {
    Config { span: Some(range(FIRST, LENT + WITHHELD)), ..EAGER }
}

/// A machine that withholds a range, with a paging file of 256 pages.
fn host<M: PagingMode>() -> Host<M> {
    let host = Host::of(Machine::withholding(FIRST, LENT + WITHHELD, LENT), config());
    host.paging_file(256);
    host
}

fn figures<M: PagingMode>(host: &Host<M>) -> MemoryFigures {
    host.manager.memory_figures()
}

fn add<M: PagingMode>(host: &Host<M>, range: FrameRange) -> Result<(), AddMemoryError> {
    host.machine().set_lent(range, true);
    let outcome = host.manager.add_memory(range);
    host.audit();
    outcome
}

/// A host with all of its memory lent.
fn whole<M: PagingMode>() -> Host<M> {
    let host = host();
    add(&host, withheld()).expect("added");
    host
}

/// Steps a removal to its end, with everything else happening; time passes while it waits.
fn finish<M: PagingMode>(
    host: &Host<M>,
    mut removal: RemoveMemory,
    range: FrameRange,
) -> Result<(), RemoveMemoryError> {
    for _ in 0..100 {
        match host.step(&mut removal) {
            Step::Done(outcome) => {
                if outcome.is_ok() {
                    host.machine().set_lent(range, false);
                }
                host.audit();
                return outcome;
            }
            Step::Raise(status) => panic!("{status}"),
            Step::Wait(_) => {
                host.machine().advance(PERIOD.0);
                host.settle();
            }
        }
    }
    panic!("the removal never ends");
}

fn remove<M: PagingMode>(host: &Host<M>, range: FrameRange) -> Result<(), RemoveMemoryError> {
    finish(host, RemoveMemory::new(range), range)
}

/// Writes the pages of a new allocation in a new space; page N holds 1000 + N.
fn fill<M: PagingMode>(host: &Host<M>, pages: u64) -> (AddressSpaceId, Va) {
    let space = host.space();
    let va = host.allocate(space, pages);
    for page in 0..pages {
        host.write(space, page_at(va, page), 1000 + page);
    }
    (space, va)
}

fn check<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va, pages: u64) {
    for page in 0..pages {
        assert_eq!(host.read(space, page_at(va, page)), 1000 + page, "page {page}");
    }
}

/// A page of `pages` from `va` on that lies in the range, and its frame.
fn page_inside<M: PagingMode>(
    host: &Host<M>,
    (space, va): (AddressSpaceId, Va),
    pages: u64,
    range: FrameRange,
) -> (Va, Pfn) {
    (0..pages)
        .map(|page| page_at(va, page))
        .map(|va| (va, host.frame_of(space, va)))
        .find(|(_, pfn)| range.contains(*pfn))
        .expect("a page lies in the range")
}

/// Only frames of the withheld range stay available: what is touched next lies there.
fn only_withheld_left<M: PagingMode>(host: &Host<M>) -> Vec<Pfn> {
    let mut frames = host.hoard(0);
    let inside: Vec<_> = frames.extract_if(.., |pfn| withheld().contains(*pfn)).collect();
    assert_eq!(inside.len() as u32, WITHHELD);
    host.give_back(&inside);
    frames
}

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

/// Something that happens to a machine.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Write(u64),
    Read(u64),
    Decommit(u64),
    Add(u32, u32),
    Remove(u32, u32),
    Step,
    Abandon,
    Settle,
    Hold(bool),
    Second,
}

const PAGES: u64 = 80;

fn happening() -> impl Strategy<Value = Happening> {
    let span = || (0..LENT + WITHHELD, 1..40_u32);
    prop_oneof![
        6 => (0..PAGES).prop_map(Happening::Write),
        4 => (0..PAGES).prop_map(Happening::Read),
        1 => (0..PAGES).prop_map(Happening::Decommit),
        2 => span().prop_map(|(first, count)| Happening::Add(first, count)),
        3 => span().prop_map(|(first, count)| Happening::Remove(first, count)),
        4 => Just(Happening::Step),
        1 => Just(Happening::Abandon),
        2 => Just(Happening::Settle),
        1 => any::<bool>().prop_map(Happening::Hold),
        1 => Just(Happening::Second),
    ]
}

/// Which frames are the host's, by the model.
fn absent_by_model(absent: &mut [bool], range: FrameRange, is_absent: bool) {
    for pfn in range.frames() {
        absent[(pfn.get() - FIRST) as usize] = is_absent;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn contents_and_counts_survive_memory_that_comes_and_goes(
        happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let host = host::<ntmm_pte::Amd64>();
        let mut absent = std::vec![false; (LENT + WITHHELD) as usize];
        absent_by_model(&mut absent, withheld(), true);
        let space = host.space();
        let va = host.allocate(space, PAGES);
        let mut values = std::vec![0; PAGES as usize];
        let mut removal: Option<(RemoveMemory, FrameRange)> = None;
        let mut started = false;
        let base = figures(&host).commit_limit.get();
        for happening in happenings {
            match happening {
                Happening::Write(page) => {
                    values[page as usize] += page + 1;
                    if host
                        .commit(space, page_at(va, page), 1, ntmm_pte::Protection::READWRITE)
                        .is_ok()
                    {
                        host.write(space, page_at(va, page), values[page as usize]);
                    }
                }
                Happening::Read(page) => {
                    if host
                        .commit(space, page_at(va, page), 1, ntmm_pte::Protection::READWRITE)
                        .is_ok()
                    {
                        let read = host.read(space, page_at(va, page));
                        prop_assert_eq!(read, values[page as usize]);
                    }
                }
                Happening::Decommit(page) => {
                    host.free(space, page_at(va, page), 1, FreeType::Decommit).expect("decommitted");
                    values[page as usize] = 0;
                }
                Happening::Add(first, count) => {
                    let range = range(FIRST + first, count.min(LENT + WITHHELD - first));
                    let all = range.frames().all(|pfn| absent[(pfn.get() - FIRST) as usize]);
                    if all {
                        host.machine().set_lent(range, true);
                    }
                    let outcome = host.manager.add_memory(range);
                    prop_assert_eq!(outcome.is_ok(), all && !started);
                    if outcome.is_ok() {
                        absent_by_model(&mut absent, range, false);
                    } else if all {
                        host.machine().set_lent(range, false);
                    }
                }
                Happening::Remove(first, count) if removal.is_none() => {
                    let range = range(FIRST + first, count.min(LENT + WITHHELD - first));
                    removal = Some((RemoveMemory::new(range), range));
                }
                Happening::Remove(..) => {}
                Happening::Step => {
                    if let Some((operation, range)) = &mut removal {
                        let step = host.step(operation);
                        started = matches!(step, Step::Wait(_));
                        if let Step::Done(Ok(())) = step {
                            host.machine().set_lent(*range, false);
                            absent_by_model(&mut absent, *range, true);
                        }
                        if !started {
                            removal = None;
                        }
                    }
                }
                Happening::Abandon => {
                    if let Some((operation, _)) = removal.take() {
                        host.abandon(operation);
                    }
                    started = false;
                }
                Happening::Settle => host.settle(),
                Happening::Hold(hold) => host.machine().hold_flushes.set(hold),
                Happening::Second => host.machine().advance(PERIOD.0),
            }
            host.audit();
            for (number, &is_absent) in absent.iter().enumerate() {
                let view = host.view(Pfn::new(FIRST + number as u32));
                prop_assert_eq!(view.usage == FrameUse::Absent, is_absent, "{:?}", view);
            }
            let gone = absent.iter().filter(|&&is_absent| is_absent).count() as u64;
            let now = figures(&host);
            let limit = base + u64::from(WITHHELD) - gone - u64::from(now.leaving);
            prop_assert_eq!(now.commit_limit.get(), limit);
        }
    }
}
