//! The rows of the transition table, spec 3.11, by their numbers.

use ntmm_pte::{AccessKind, PagingMode, Protection, PteState};
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use crate::frames::entry::FrameFlags;
use crate::frames::lists::Position;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageLocation};
use crate::virtual_memory::FreeType;
use crate::{Engine, EngineStep, FaultKind, NtStatus};

/// Location, share count, reference count.
fn counts<M: PagingMode>(host: &Host<M>, pfn: ntmm_pte::Pfn) -> (PageLocation, u32, u16) {
    let view = host.view(pfn);
    (view.location, view.share, view.references)
}

fn flags<M: PagingMode>(host: &Host<M>, pfn: ntmm_pte::Pfn) -> FrameFlags {
    host.view(pfn).flags
}

in_every_mode! {
    fn row_01_free_page_is_zeroed_by_the_engine<M>() {
        let host = Host::<M>::new(96);
        let head = host.list(PageLocation::Free)[0];
        let before = host.manager.memory_figures();
        assert_eq!(host.engine(Engine::Zeroing), EngineStep::Worked);
        assert_eq!(host.location(head), PageLocation::Zeroed);
        assert_eq!(host.list(PageLocation::Zeroed), [head]);
        let after = host.manager.memory_figures();
        assert_eq!(after.available, before.available, "available pages stay the same");
        assert_eq!((after.zeroed, after.free), (before.zeroed + 1, before.free - 1));
        host.audit_at_rest();
    }

    fn row_02_demand_zero_fault_makes_a_zeroed_or_free_page_active<M>() {
        for zeroed in [false, true] {
            let host = Host::<M>::new(96);
            if zeroed {
                host.settle();
            }
            let space = host.space();
            let va = host.allocate(space, 1);
            let list = if zeroed { PageLocation::Zeroed } else { PageLocation::Free };
            let mut from = host.list(list);
            let before = host.manager.memory_figures();
            assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::DemandZero));
            let pfn = host.frame_of(space, va);
            from.retain(|&frame| frame == pfn);
            assert_eq!(from, [pfn], "the frame was {}", list.name());
            let view = host.view(pfn);
            assert_eq!((view.location, view.share, view.references), (PageLocation::Active, 1, 1));
            assert_eq!(view.original, M::demand_zero(Protection::READWRITE));
            assert_eq!(view.container, host.entry(space, va));
            assert_eq!(view.flags, FrameFlags::MODIFIED, "the contents exist nowhere else");
            assert!(host.machine().contents(pfn).iter().all(|&word| word == 0));
            // The page, and below the top every table that was missing.
            let taken = before.available - host.manager.memory_figures().available;
            let tables = match M::LEVELS { 2 | 3 => 1, _ => 3 };
            assert_eq!(taken, 1 + tables);
            host.audit_at_rest();
        }
    }

    fn row_03_soft_fault_takes_a_page_off_the_standby_list<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        host.write_modified();
        assert_eq!(host.location(pfn), PageLocation::Standby);
        let available = host.manager.memory_figures().available;
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 1));
        assert_eq!(host.manager.memory_figures().available, available - 1);
        assert_eq!((host.read(space, va), host.frame_of(space, va)), (7, pfn));
        assert!(!M::is_dirty(host.word(space, va)), "the copy in the file is still good");
        assert_eq!(host.slots_in_use(), 1);
        host.audit_at_rest();
    }

    fn row_04_repurposed_standby_page_gives_its_entry_back<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.trim(space, va);
        host.write_modified();
        let pfn = host.frame_of(space, va);
        let table = host.entry(space, va).table;
        let (original, share) = (host.view(pfn).original, host.view(table).share);
        let frames = host.hoard(0);
        assert_eq!(frames.last(), Some(&pfn), "standby comes last");
        assert_eq!(host.word(space, va), original);
        assert!(matches!(host.state(space, va), PteState::PageFile { .. }));
        assert_eq!(host.view(table).share, share - 1, "the table counts one entry less");
        assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 1));
        host.give_back(&frames);
        assert_eq!(host.read(space, va), 7);
        host.audit_at_rest();
    }

    fn row_05_trimmed_clean_page_goes_to_the_tail_of_standby<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 2);
        let pages = [va, page_at(va, 1)];
        for page in pages {
            host.write(space, page, 7);
        }
        host.page_out_run(space, va, 2);
        for page in pages {
            assert_eq!(host.read(space, page), 7);
            host.trim(space, page);
        }
        let expected: Vec<_> = pages.map(|page| host.frame_of(space, page)).to_vec();
        assert_eq!(host.list(PageLocation::Standby), expected, "in the order of trimming");
        assert!(matches!(host.state(space, va), PteState::Transition(_)));
        host.audit_at_rest();
    }

    fn row_06_trimmed_modified_page_goes_to_the_tail_of_modified<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 2);
        let pages = [va, page_at(va, 1)];
        for page in pages {
            host.write(space, page, 7);
            host.trim(space, page);
        }
        let expected: Vec<_> = pages.map(|page| host.frame_of(space, page)).to_vec();
        assert_eq!(host.list(PageLocation::Modified), expected, "in the order of trimming");
        for pfn in expected {
            assert_eq!(host.view(pfn).references, 0);
            assert!(flags(&host, pfn).contains(FrameFlags::MODIFIED));
        }
        assert!(host.machine().requests.borrow().contains(&Engine::ModifiedWriter));
        host.audit_at_rest();
    }

    fn row_07_trimmed_page_with_references_stays_off_the_lists<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.machine().hold_flushes.set(true);
        host.trim(space, va);
        // Processors may still use the translation: the flush holds a reference.
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert!(matches!(host.state(space, va), PteState::Transition(_)));
        host.audit();
        assert_eq!(host.engine(Engine::Retire), EngineStep::Idle, "not acknowledged");
        host.machine().acknowledge();
        assert_eq!(host.engine(Engine::Retire), EngineStep::Worked);
        assert_eq!(counts(&host, pfn).0, PageLocation::Modified);
        host.audit_at_rest();
    }

    fn row_08_last_reference_to_a_clean_page_makes_it_standby<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        assert_eq!(host.read(space, va), 7);
        let pfn = host.frame_of(space, va);
        lock_in_memory(&host, pfn);
        host.trim(space, va);
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        unlock_in_memory(&host, pfn);
        assert_eq!(host.location(pfn), PageLocation::Standby);
        host.audit_at_rest();
    }

    fn row_09_last_reference_to_a_modified_page_makes_it_modified<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        lock_in_memory(&host, pfn);
        host.trim(space, va);
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        unlock_in_memory(&host, pfn);
        assert_eq!(host.location(pfn), PageLocation::Modified);
        host.audit_at_rest();
    }

    fn row_10_deleted_page_is_freed_with_its_slot_when_nothing_refers_to_it<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        assert_eq!(host.read(space, va), 7);
        let pfn = host.frame_of(space, va);
        assert_eq!(host.slots_in_use(), 1);
        lock_in_memory(&host, pfn);
        host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert!(flags(&host, pfn).contains(FrameFlags::DELETED));
        assert_eq!(host.slots_in_use(), 1, "the frame still owns the slot");
        unlock_in_memory(&host, pfn);
        assert_eq!(host.location(pfn), PageLocation::Free);
        assert_eq!(host.list(PageLocation::Free).last(), Some(&pfn), "at the tail");
        assert_eq!(host.slots_in_use(), 0);
        host.audit_at_rest();
    }

    fn row_10_deleted_pages_on_lists_are_freed_at_once<M>() {
        for standby in [false, true] {
            let (host, space, va) = Host::<M>::with_pages(96, 1);
            host.write(space, va, 7);
            let pfn = host.frame_of(space, va);
            host.trim(space, va);
            if standby {
                host.write_modified();
            }
            let available = host.manager.memory_figures().available;
            host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
            assert_eq!((host.location(pfn), host.slots_in_use()), (PageLocation::Free, 0));
            let gained = host.manager.memory_figures().available - available;
            assert_eq!(gained, u32::from(!standby), "a standby page was available before");
            host.audit_at_rest();
        }
    }

    fn row_11_writer_takes_a_modified_page<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert_eq!(flags(&host, pfn), FrameFlags::WRITE_IN_PROGRESS);
        assert_eq!(M::page_file_location(host.view(pfn).original).map(|at| at.1.get()), Some(1));
        assert!(matches!(host.state(space, va), PteState::Transition(_)), "the entry stays");
        assert_eq!(host.list(PageLocation::Modified), []);
        host.audit();
    }

    fn row_12_written_page_becomes_standby<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        assert!(host.complete_next());
        assert_eq!(host.list(PageLocation::Standby), [pfn]);
        assert_eq!(flags(&host, pfn), FrameFlags::empty());
        assert_eq!((host.slots_in_use(), host.manager.counters().pages_written.get()), (1, 1));
        assert_eq!(host.copy_in_file(host.view(pfn).original).expect("a copy")[0], 7);
        host.audit_at_rest();
    }

    fn row_13_page_changed_while_written_is_modified_again<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        host.write(space, va, 8);
        assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 2));
        host.trim(space, va);
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert_eq!(host.slots_in_use(), 1, "the write still goes to the slot");
        assert!(host.complete_next());
        assert_eq!(host.list(PageLocation::Modified), [pfn]);
        assert_eq!(host.slots_in_use(), 0, "the copy is stale");
        host.audit_at_rest();
        host.write_modified();
        let frames = host.hoard(0);
        host.give_back(&frames);
        assert_eq!(host.read(space, va), 8);
    }

    fn row_14_failed_write_leaves_the_page_modified<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a write");
        assert_eq!(host.list(PageLocation::Modified), [pfn]);
        assert_eq!(flags(&host, pfn), FrameFlags::MODIFIED);
        assert_eq!(host.slots_in_use(), 0);
        assert!(host.machine().news().contains(&crate::Notification::ModifiedWriteFailed));
        host.audit_at_rest();
        // Asked again, the writer tries again.
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Idle);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        assert!(host.complete_next());
        assert_eq!(host.list(PageLocation::Standby), [pfn]);
        host.audit_at_rest();
    }

    fn row_15_soft_fault_on_a_modified_page_keeps_it_dirty<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        let available = host.manager.memory_figures().available;
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 1));
        assert!(M::is_dirty(host.word(space, va)));
        assert!(flags(&host, pfn).contains(FrameFlags::MODIFIED));
        assert_eq!(host.manager.memory_figures().available, available);
        assert_eq!(host.list(PageLocation::Modified), []);
        host.audit_at_rest();
    }

    fn row_16_modified_no_write_page_is_released_for_writing<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 2);
        let frames = [0, 1].map(|page| {
            host.write(space, page_at(va, page), 7);
            host.trim(space, page_at(va, page));
            host.frame_of(space, page_at(va, page))
        });
        let mut entry = host.manager.enter();
        for pfn in frames {
            let mut frame = host.manager.lock_frame(entry.token(), pfn);
            host.manager.unlink_modified(&mut frame);
            let to = PageLocation::ModifiedNoWrite;
            host.manager.insert_on_list(&mut frame, to, Position::Tail);
        }
        drop(entry);
        assert_eq!(host.list(PageLocation::ModifiedNoWrite), frames);
        assert_eq!(host.list(PageLocation::Modified), []);
        // A private page may always be written.
        host.manager.release_modified_no_write(host.manager.enter().token());
        assert_eq!(host.list(PageLocation::ModifiedNoWrite), []);
        assert_eq!(host.list(PageLocation::Modified), frames);
        // And it is soft-faultable while it is there.
        assert_eq!(host.read(space, va), 7);
        assert_eq!(counts(&host, frames[0]), (PageLocation::Active, 1, 1));
        host.audit_at_rest();
    }

    fn row_17_page_file_fault_starts_a_read_into_a_frame<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        let word = host.word(space, va);
        let available = host.manager.memory_figures().available;
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), crate::Step::Wait(_)));
        let pfn = host.frame_of(space, va);
        assert!(matches!(host.state(space, va), PteState::Transition(_)));
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert_eq!(flags(&host, pfn), FrameFlags::READ_IN_PROGRESS);
        assert_eq!(host.view(pfn).original, word, "the slot stays owned");
        assert_eq!(host.manager.memory_figures().available, available - 1);
        host.audit();
        host.abandon(fault);
    }

    fn row_18_read_page_becomes_active<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), crate::Step::Wait(_)));
        let pfn = host.frame_of(space, va);
        assert!(host.complete_next());
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1), "pinned for the waiter");
        assert_eq!(host.step(&mut fault), crate::Step::Done(FaultKind::PageFile));
        assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 1));
        assert_eq!(flags(&host, pfn), FrameFlags::empty());
        assert_eq!(host.read(space, va), 7);
        host.audit_at_rest();
    }

    fn row_18_read_page_nobody_wants_becomes_standby<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), crate::Step::Wait(_)));
        let pfn = host.frame_of(space, va);
        host.abandon(fault);
        assert_eq!(counts(&host, pfn), (PageLocation::Transition, 0, 1));
        assert!(host.complete_next());
        assert_eq!(host.list(PageLocation::Standby), [pfn]);
        host.audit_at_rest();
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(host.read(space, va), 7);
    }

    fn row_19_failed_read_frees_the_frame_and_keeps_the_slot<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        let word = host.word(space, va);
        let mut fault = read_fault(space, va);
        assert!(matches!(host.step(&mut fault), crate::Step::Wait(_)));
        let pfn = host.frame_of(space, va);
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        let view = host.view(pfn);
        assert_eq!((view.location, view.references), (PageLocation::Transition, 1));
        assert_eq!(view.flags, FrameFlags::IN_PAGE_ERROR);
        assert_eq!(view.u1, NtStatus::IO_DEVICE_ERROR.code());
        host.audit();
        assert_eq!(host.step(&mut fault), crate::Step::Raise(NtStatus::IN_PAGE_ERROR));
        assert_eq!(host.location(pfn), PageLocation::Free);
        assert_eq!(host.word(space, va), word, "back in page-file form");
        assert_eq!(host.slots_in_use(), 1);
        host.audit_at_rest();
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::PageFile));
        assert_eq!(host.read(space, va), 7);
    }

    fn row_20_page_to_be_removed_ends_on_the_bad_list<M>() {
        for flag in [FrameFlags::REMOVAL_REQUESTED, FrameFlags::PARITY_ERROR] {
            let (host, space, va) = Host::<M>::with_pages(96, 1);
            host.write(space, va, 7);
            let pfn = host.frame_of(space, va);
            let mut entry = host.manager.enter();
            host.manager.lock_frame(entry.token(), pfn).insert(flag);
            drop(entry);
            assert_eq!(counts(&host, pfn), (PageLocation::Active, 1, 1), "still in use");
            let available = host.manager.memory_figures().available;
            host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
            assert_eq!(host.list(PageLocation::Bad), [pfn]);
            assert_eq!(host.manager.memory_figures().available, available, "not available");
            host.audit_at_rest();
        }
    }

    fn row_21_dropping_the_last_lock_on_an_invisible_page_is_row_8_or_9<M>() {
        let host = Host::<M>::new(96);
        let pfn = host.take(host.manager.color(0), Want::Any);
        for flag in [FrameFlags::empty(), FrameFlags::MODIFIED] {
            let mut entry = host.manager.enter();
            let mut frame = host.manager.lock_frame(entry.token(), pfn);
            frame.add_reference();
            frame.insert(flag);
            frame.entry().drop_share();
            frame.set_location(PageLocation::Transition);
            host.manager.drop_reference(&mut frame);
            assert_eq!(frame.location(), PageLocation::Transition, "one lock is left");
            host.manager.drop_reference(&mut frame);
            let to = if flag.is_empty() { PageLocation::Standby } else { PageLocation::Modified };
            assert_eq!(frame.location(), to);
            if flag.is_empty() {
                let mut reservation = host.manager.try_reserve_pages(1).expect("a page");
                host.manager.unlink_standby(&mut frame, &mut reservation);
            } else {
                host.manager.unlink_modified(&mut frame);
            }
            frame.begin(FrameUse::Manager);
            frame.entry().set_u1_and_share(0, 0);
            frame.add_mapping();
        }
        host.audit_at_rest();
    }
}

fn read_fault(space: crate::AddressSpaceId, va: ntmm_pte::Va) -> crate::Fault {
    crate::Fault::new(space, va, AccessKind::Read, crate::ProcessorMode::User)
}

fn lock_in_memory<M: PagingMode>(host: &Host<M>, pfn: ntmm_pte::Pfn) {
    let mut entry = host.manager.enter();
    host.manager.lock_frame(entry.token(), pfn).add_reference();
}

fn unlock_in_memory<M: PagingMode>(host: &Host<M>, pfn: ntmm_pte::Pfn) {
    let mut entry = host.manager.enter();
    let mut frame = host.manager.lock_frame(entry.token(), pfn);
    host.manager.drop_reference(&mut frame);
}
