//! Sections of the paging files: shared pages, copies on write, prototypes that are paged.

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, PagingMode, Protection, PteState, Va};

use super::host::{Host, page_at};
use crate::frames::{FrameUse, PageLocation};
use crate::section::{
    CreateSection, Holder, Inherit, MapView, SectionId, SectionKind, SectionRequest, UnmapView,
    ViewRequest,
};
use crate::vad::ProtectionChange;
use crate::virtual_memory::{LockMemory, Locks, MemoryState, Placement};
use crate::{AddressSpaceId, Engine, FaultKind, NtStatus};

impl<M: PagingMode> Host<M> {
    fn section(&self, pages: u64) -> SectionId {
        self.section_of(SectionKind::Committed, pages)
    }

    fn section_of(&self, kind: SectionKind, pages: u64) -> SectionId {
        let request = SectionRequest {
            kind,
            size: pages * PAGE_SIZE,
            protection: Protection::EXECUTE_READWRITE,
            attributes: 0x800_0000,
            holder: Holder::User,
        };
        self.run(CreateSection::new(request)).expect("there is room for a section")
    }

    pub(super) fn view_of(
        &self,
        space: AddressSpaceId,
        section: SectionId,
        protection: Protection,
    ) -> Va {
        let request = ViewRequest {
            section,
            placement: Placement::Lowest,
            offset: 0,
            size: Bytes::new(0),
            protection,
            protection_change: ProtectionChange::Allowed,
            inherit: Inherit::Unmap,
        };
        self.run(MapView::new(space, request)).expect("there is room for a view").region.base
    }
}

in_every_mode! {
    fn pages_of_a_section_are_shared<M>() {
        let host = Host::<M>::new(128);
        let (one, two) = (host.space(), host.space());
        let section = host.section(3);
        let at_one = host.view_of(one, section, Protection::READWRITE);
        let at_two = host.view_of(two, section, Protection::READONLY);
        assert_eq!(host.fault(one, at_one, AccessKind::Write), Ok(FaultKind::DemandZero));
        host.write(one, at_one, 7);
        assert_eq!(host.fault(two, at_two, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(host.read(two, at_two), 7);
        assert_eq!(host.frame_of(one, at_one), host.frame_of(two, at_two));
        assert_eq!(host.view(host.frame_of(one, at_one)).usage, FrameUse::Section);
        assert_eq!(host.fault(two, at_two, AccessKind::Write), Err(NtStatus::ACCESS_VIOLATION));
        host.audit_at_rest();
    }

    fn page_that_nobody_maps_any_more_is_found_again<M>() {
        let host = Host::<M>::new(128);
        let (one, two) = (host.space(), host.space());
        let section = host.section(2);
        let at_one = host.view_of(one, section, Protection::READWRITE);
        let at_two = host.view_of(two, section, Protection::READWRITE);
        host.write(one, at_one, 7);
        host.write(two, at_two, 8);
        let pfn = host.frame_of(one, at_one);
        host.trim(one, at_one);
        assert_eq!(host.location(pfn), PageLocation::Active, "the other space maps it");
        let lookup = PteState::PrototypeLookup { protection: Protection::READWRITE };
        assert_eq!(host.state(one, at_one), lookup);
        host.audit();
        host.trim(two, at_two);
        assert_eq!(host.location(pfn), PageLocation::Modified);
        host.audit();
        host.settle();
        assert_eq!(host.location(pfn), PageLocation::Standby);
        assert_eq!(host.read(one, at_one), 8);
        assert_eq!(host.frame_of(one, at_one), pfn);
        host.audit_at_rest();
    }

    fn page_comes_back_from_the_paging_file<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let section = host.section(4);
        let va = host.view_of(space, section, Protection::READWRITE);
        for page in 0..4 {
            host.write(space, page_at(va, page), 40 + page);
        }
        for page in 0..4 {
            host.page_out(space, page_at(va, page));
        }
        host.audit();
        assert_eq!(host.fault(space, page_at(va, 1), AccessKind::Read), Ok(FaultKind::PageFile));
        for page in 0..4 {
            assert_eq!(host.read(space, page_at(va, page)), 40 + page);
        }
        host.audit_at_rest();
    }

    fn written_page_is_copied<M>() {
        let host = Host::<M>::new(128);
        let (one, two) = (host.space(), host.space());
        let section = host.section(1);
        let at_one = host.view_of(one, section, Protection::READWRITE);
        let at_two = host.view_of(two, section, Protection::WRITECOPY);
        host.write(one, at_one, 7);
        assert_eq!(host.read(two, at_two), 7);
        host.audit();
        assert_eq!(host.fault(two, at_two, AccessKind::Write), Ok(FaultKind::CopyOnWrite));
        host.write(two, at_two, 9);
        assert_eq!((host.read(one, at_one), host.read(two, at_two)), (7, 9));
        assert_eq!(host.view(host.frame_of(two, at_two)).usage, FrameUse::Private);
        assert_eq!(host.manager.counters().copy_on_write.get(), 1);
        host.audit_at_rest();
        host.page_out(two, at_two);
        assert_eq!(host.read(two, at_two), 9, "the copy is a private page");
        host.audit_at_rest();
    }

    fn copy_is_reached_when_nobody_can_reach_the_original<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let section = host.section(1);
        let va = host.view_of(space, section, Protection::WRITECOPY);
        assert_eq!(host.read(space, va), 0);
        host.machine().hold_flushes.set(true);
        let mut one = crate::Fault::new(space, va, AccessKind::Write, crate::ProcessorMode::User);
        assert!(matches!(host.step(&mut one), crate::Step::Wait(_)));
        let mut two = crate::Fault::new(space, va, AccessKind::Read, crate::ProcessorMode::User);
        assert!(matches!(host.step(&mut two), crate::Step::Wait(_)), "the flush is not acknowledged");
        host.audit();
        host.machine().acknowledge();
        assert_eq!(host.step(&mut two), crate::Step::Done(FaultKind::Transition));
        assert_eq!(host.step(&mut one), crate::Step::Done(FaultKind::Spurious));
        host.machine().hold_flushes.set(false);
        host.engine(Engine::Retire);
        host.audit_at_rest();
    }

    fn everything_goes_with_the_last_view_and_handle<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        let before = host.section(1);
        host.manager.close_section(before).expect("it exists");
        host.settle();
        let committed = host.manager.memory_figures().committed;
        let section = host.section(20);
        let va = host.view_of(space, section, Protection::READWRITE);
        let other = host.view_of(space, section, Protection::WRITECOPY);
        for page in 0..20 {
            host.write(space, page_at(va, page), page);
            host.write(space, page_at(other, page), page);
        }
        for page in 0..10 {
            host.page_out(space, page_at(va, page));
        }
        host.audit_at_rest();
        host.manager.close_section(section).expect("it exists");
        assert_eq!(host.manager.close_section(section), Err(NtStatus::INVALID_HANDLE));
        host.run(UnmapView::new(space, page_at(va, 3))).expect("a view");
        host.audit_at_rest();
        assert_eq!(host.read(space, page_at(other, 19)), 19);
        host.run(UnmapView::new(space, other)).expect("a view");
        assert_eq!(
            host.run(UnmapView::new(space, other)),
            Err(NtStatus::NOT_MAPPED_VIEW)
        );
        host.settle();
        host.audit_at_rest();
        assert_eq!(host.manager.memory_figures().committed, committed);
        let left = |usage| host.manager.frame_views().filter(|view| view.usage == usage).count();
        assert_eq!((left(FrameUse::Section), left(FrameUse::Prototypes)), (0, 0));
    }

    fn prototypes_are_paged<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let section = host.section(2);
        let va = host.view_of(space, section, Protection::READWRITE);
        host.write(space, va, 11);
        host.page_out(space, va);
        let system = host.manager.space_of_prototypes().expect("there is a section");
        host.page_out(system, Va::new(0x1_0000));
        host.audit();
        assert_eq!(host.read(space, va), 11);
        host.audit_at_rest();
        host.page_out(space, va);
        host.page_out(system, Va::new(0x1_0000));
        host.run(crate::DeleteAddressSpace::new(space)).expect("it goes");
        host.manager.close_section(section).expect("it exists");
        host.settle();
        host.audit_at_rest();
        let left = host.manager.frame_views().filter(|view| view.usage == FrameUse::Prototypes);
        assert_eq!(left.count(), 0);
    }

    fn pages_of_a_reserved_section_are_committed_for_all<M>() {
        let host = Host::<M>::new(160);
        let (one, two) = (host.space(), host.space());
        let section = host.section_of(SectionKind::Reserved, 5000);
        let at_one = host.view_of(one, section, Protection::READWRITE);
        let at_two = host.view_of(two, section, Protection::READONLY);
        let committed = host.manager.section_commit();
        assert_eq!(host.fault(one, at_one, AccessKind::Write), Err(NtStatus::ACCESS_VIOLATION));
        let whole = host.query(two, at_two);
        assert_eq!((whole.state, whole.size.get()), (MemoryState::Reserved, 5000 * PAGE_SIZE));
        host.commit(one, page_at(at_one, 3), 2, Protection::READWRITE).expect("committed");
        host.commit(two, page_at(at_two, 4), 1, Protection::READONLY).expect("it is already");
        assert_eq!(host.manager.section_commit().get(), committed.get() + 2);
        host.write(one, page_at(at_one, 4), 6);
        assert_eq!(host.read(two, page_at(at_two, 4)), 6);
        let region = host.query(two, page_at(at_two, 3));
        assert_eq!(region.protection, Some(Protection::READONLY));
        assert_eq!(region.size.get(), 2 * PAGE_SIZE);
        let rest = host.query(two, page_at(at_two, 5));
        assert_eq!((rest.state, rest.size.get()), (MemoryState::Reserved, 4995 * PAGE_SIZE));
        assert_eq!(
            host.protect(two, page_at(at_two, 2), 2, Protection::NO_ACCESS).err(),
            Some(NtStatus::NOT_COMMITTED)
        );
        host.audit_at_rest();
        host.delete(one);
        host.delete(two);
        host.manager.close_section(section).expect("it exists");
        host.settle();
        host.audit_at_rest();
        assert_eq!(host.manager.section_commit(), committed);
    }

    fn protection_belongs_to_the_view<M>() {
        let host = Host::<M>::new(160);
        let (one, two) = (host.space(), host.space());
        let section = host.section(4);
        let at_one = host.view_of(one, section, Protection::READWRITE);
        let at_two = host.view_of(two, section, Protection::WRITECOPY);
        for page in 0..4 {
            host.write(one, page_at(at_one, page), 20 + page);
            assert_eq!(host.read(two, page_at(at_two, page)), 20 + page);
        }
        let read_only = host.protect(one, page_at(at_one, 1), 1, Protection::READONLY);
        assert_eq!(read_only.expect("less").old, Protection::READWRITE);
        let fault = host.fault(one, page_at(at_one, 1), AccessKind::Write);
        assert_eq!(fault, Err(NtStatus::ACCESS_VIOLATION));
        assert_eq!(host.query(one, at_one).size.get(), PAGE_SIZE);
        let hidden = host.protect(one, page_at(at_one, 2), 1, Protection::NO_ACCESS);
        assert_eq!(hidden.expect("less").old, Protection::READWRITE);
        host.audit_at_rest();
        assert_eq!(host.read(two, page_at(at_two, 2)), 22, "the other view is as it was");
        host.protect(one, page_at(at_one, 2), 1, Protection::READWRITE).expect("as mapped");
        assert_eq!(host.read(one, page_at(at_one, 2)), 22);
        let more = host.protect(two, at_two, 1, Protection::READWRITE);
        assert_eq!(more.err(), Some(NtStatus::SECTION_PROTECTION));
        host.write(two, page_at(at_two, 3), 9);
        let copy = host.query(two, page_at(at_two, 3));
        assert_eq!(copy.protection, Some(Protection::READWRITE), "it is not copied again");
        let old = host.protect(two, page_at(at_two, 3), 1, Protection::WRITECOPY).expect("same");
        assert_eq!(old.old, Protection::READWRITE);
        assert_eq!(host.read(two, page_at(at_two, 3)), 9);
        assert_eq!(host.read(one, page_at(at_one, 3)), 23);
        host.page_out(two, page_at(at_two, 3));
        assert_eq!(host.read(two, page_at(at_two, 3)), 9);
        host.audit_at_rest();
    }

    fn locked_page_is_copied_in_place<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        let section = host.section(1);
        let va = host.view_of(space, section, Protection::WRITECOPY);
        let lock = LockMemory::new(space, va, Bytes::new(1), Locks::WorkingSet);
        host.run(lock).expect("one page");
        host.write(space, va, 5);
        assert_eq!(host.read(space, va), 5);
        let index = host.index_of(space, va);
        let view = host.manager.space_view(space).expect("it lives");
        assert!(view.entry(index).is_locked() && view.entry(index).is_direct());
        host.audit_at_rest();
    }
}
