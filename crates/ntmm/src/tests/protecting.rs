//! Protection (spec 7.7).

use ntmm_pte::{Access, AccessKind, Modifier, Protection, PteState, Va};

use super::host::{Host, page_at};
use crate::frames::PageLocation;
use crate::frames::entry::FrameFlags;
use crate::virtual_memory::FreeType;
use crate::{NtStatus, Step};

const RW: Protection = Protection::READWRITE;
const GUARD: Protection = Protection::new(Access::ReadWrite, Modifier::Guard);

in_every_mode! {
    fn each_kind_of_entry_takes_the_protection_and_keeps_its_contents<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 6);
        // 0 zero, 1 demand zero, 2 valid, 3 modified, 4 standby, 5 page file.
        host.protect(space, page_at(va, 1), 1, Protection::READONLY).expect("protected");
        for page in 2..6 {
            host.write(space, page_at(va, page), page);
        }
        host.page_out(space, page_at(va, 5));
        host.trim(space, page_at(va, 4));
        host.write_modified();
        host.trim(space, page_at(va, 3));
        let new = Protection::EXECUTE_READ;
        let old = host.protect(space, va, 6, new).expect("protected").old;
        assert_eq!(old, RW, "that of the first page");
        for page in 0..6 {
            let word = host.word(space, page_at(va, page));
            if page == 2 {
                assert!(M::is_valid(word) && !M::is_writable(word) && M::is_executable(word));
            } else {
                assert_eq!(M::software_protection(word), new, "page {page}");
            }
            let denied = host.fault(space, page_at(va, page), AccessKind::Write);
            assert_eq!(denied, Err(NtStatus::ACCESS_VIOLATION), "page {page}");
            let expected = if page < 2 { 0 } else { page };
            assert_eq!(host.read(space, page_at(va, page)), expected);
            assert_eq!(host.query(space, page_at(va, page)).protection, Some(new));
        }
        let allocation = host.query(space, va).allocation;
        assert_eq!(allocation, Some((va, RW)), "that of the allocation stays");
        host.audit_at_rest();
    }

    fn old_protection_is_read_from_wherever_it_is<M>() {
        let (host, space, va) = Host::<M>::with_pages(128, 4);
        for page in 1..4 {
            host.write(space, page_at(va, page), 1);
        }
        host.page_out(space, page_at(va, 3));
        host.trim(space, page_at(va, 2));
        for page in 0..4 {
            let at = page_at(va, page);
            for (new, old) in [
                (Protection::READONLY, RW),
                (GUARD, Protection::READONLY),
                (Protection::NO_ACCESS, GUARD),
                (Protection::EXECUTE_READWRITE, Protection::NO_ACCESS),
                (RW, Protection::EXECUTE_READWRITE),
            ] {
                let found = host.protect(space, at, 1, new).expect("protected");
                assert_eq!((found.old, found.region.base), (old, at), "page {page}");
            }
        }
        host.audit_at_rest();
    }

    fn contents_survive_no_access_and_guard_even_in_the_paging_file<M>() {
        for hidden in [Protection::NO_ACCESS, GUARD] {
            let (host, space, va) = Host::<M>::with_pages(96, 1);
            host.write(space, va, 7);
            let size = host.size(space);
            host.protect(space, va, 1, hidden).expect("protected");
            assert!(matches!(host.state(space, va), PteState::Transition(_)));
            assert_eq!(host.size(space), size - 1, "it left the working set");
            assert_eq!(host.list(PageLocation::Modified).len(), 1);
            host.audit_at_rest();
            host.write_modified();
            let frames = host.hoard(0);
            host.give_back(&frames);
            assert!(matches!(host.state(space, va), PteState::PageFile { .. }));
            assert_eq!(host.protect(space, va, 1, RW).expect("protected").old, hidden);
            assert_eq!(host.read(space, va), 7);
            host.audit_at_rest();
        }
    }

    fn losing_write_access_captures_the_dirty_bit_and_flushes<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        host.write(space, va, 8);
        let pfn = host.frame_of(space, va);
        assert!(!host.view(pfn).flags.contains(FrameFlags::MODIFIED));
        host.machine().flushes.take();
        host.protect(space, va, 1, Protection::READONLY).expect("protected");
        assert!(host.view(pfn).flags.contains(FrameFlags::MODIFIED));
        assert_eq!(host.slots_in_use(), 0, "the copy is stale");
        assert_eq!(host.machine().flushes.borrow().len(), 1);
        host.page_out(space, va);
        assert_eq!(host.read(space, va), 8);
        host.audit_at_rest();
    }

    fn page_that_gets_write_access_back_is_written_again<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        assert_eq!(host.read(space, va), 7);
        for protection in [Protection::READONLY, RW] {
            host.protect(space, va, 1, protection).expect("protected");
        }
        assert_eq!(host.slots_in_use(), 1, "nothing was written yet");
        host.write(space, va, 8);
        host.page_out(space, va);
        assert_eq!(host.read(space, va), 8);
        host.audit_at_rest();
    }

    fn call_returns_when_every_processor_has_seen_the_change<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.machine().hold_flushes.set(true);
        let size = ntmm_pte::Pages::new(1).to_bytes();
        let mut call = crate::virtual_memory::Protect::new(space, va, size, Protection::READONLY);
        assert!(matches!(host.step(&mut call), Step::Wait(_)));
        assert!(matches!(host.step(&mut call), Step::Wait(_)));
        host.machine().acknowledge();
        assert!(matches!(host.step(&mut call), Step::Done(_)));
        host.settle();
        host.audit_at_rest();
    }

    fn wrong_parameters_have_their_statuses_and_change_nothing<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.reserve_at(space, Va::new(0x10_0000), 8).base;
        host.commit(space, va, 4, RW).expect("committed");
        host.write(space, va, 7);
        let protect = |at, pages, protection| {
            host.protect(space, at, pages, protection).map(|_| ())
        };
        let read_only = Protection::READONLY;
        assert_eq!(protect(va, 5, read_only), Err(NtStatus::NOT_COMMITTED));
        assert_eq!(protect(va, 9, read_only), Err(NtStatus::CONFLICTING_ADDRESSES));
        assert_eq!(protect(page_at(va, 8), 1, read_only), Err(NtStatus::CONFLICTING_ADDRESSES));
        let wrong = Err(NtStatus::INVALID_PAGE_PROTECTION);
        assert_eq!(protect(va, 1, Protection::WRITECOPY), wrong);
        assert_eq!(protect(va, 1, Protection::DECOMMIT), wrong);
        assert_eq!(protect(va, 0, read_only), Err(NtStatus::INVALID_PARAMETER_3));
        let last = M::HIGHEST_USER_ADDRESS.page_base();
        assert_eq!(protect(last, 2, read_only), Err(NtStatus::INVALID_PARAMETER_3));
        assert_eq!(protect(page_at(last, 1), 1, read_only), Err(NtStatus::INVALID_PARAMETER_2));
        assert_eq!(host.query(space, va).protection, Some(RW), "not even the first page");
        host.write(space, va, 8);
        host.free(space, page_at(va, 1), 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(protect(va, 4, read_only), Err(NtStatus::NOT_COMMITTED));
        host.audit_at_rest();
    }

    fn protection_of_a_page_being_read_or_written_follows_it<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.trim(space, va);
        assert_eq!(host.engine(crate::Engine::ModifiedWriter), crate::EngineStep::Worked);
        let size = ntmm_pte::Pages::new(1).to_bytes();
        let protect = |protection| {
            let mut call = crate::virtual_memory::Protect::new(space, va, size, protection);
            assert!(matches!(host.step(&mut call), Step::Done(_)));
        };
        protect(Protection::READONLY);
        assert!(host.complete_next());
        let frames = host.hoard(0);
        host.give_back(&frames);
        assert_eq!(M::software_protection(host.word(space, va)), Protection::READONLY);
        let access = AccessKind::Read;
        let mut fault = crate::Fault::new(space, va, access, crate::ProcessorMode::User);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        protect(GUARD);
        assert!(host.complete_next());
        assert_eq!(host.step(&mut fault), Step::Raise(NtStatus::GUARD_PAGE_VIOLATION));
        assert_eq!(host.read(space, va), 7);
        host.audit_at_rest();
    }
}
