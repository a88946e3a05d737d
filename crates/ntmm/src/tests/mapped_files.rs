//! Files that are mapped: read in, written back, flushed, kept while their pages are in memory.

use std::vec::Vec;

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, PagingMode, Protection};

use super::host::{EAGER, Host, page_at};
use crate::frames::{FrameUse, PageLocation};
use crate::platform::FileId;
use crate::section::{
    CreateSection, FlushView, Holder, ModifiedWriting, SectionId, SectionKind, SectionRequest,
    TruncateSection, UnmapView,
};
use crate::{EngineStep, FaultKind, NtStatus, Step};

/// The number of the file of these tests.
pub(super) const FILE: u32 = 1000;

impl<M: PagingMode> Host<M> {
    /// Gives the machine a file of so many bytes, each word of which says where it is.
    pub(super) fn file(&self, bytes: usize) {
        let words = (0..bytes.div_ceil(8) as u64).flat_map(|word| (word | 1 << 40).to_le_bytes());
        self.machine().files.borrow_mut().insert(FILE, words.take(bytes).collect());
    }

    pub(super) fn bytes_of_file(&self, from: usize, count: usize) -> Vec<u8> {
        self.machine().files.borrow()[&FILE][from..from + count].to_vec()
    }

    fn try_section_of_file(
        &self,
        size: u64,
        protection: Protection,
    ) -> Result<SectionId, NtStatus> {
        self.run(CreateSection::new(SectionRequest {
            kind: SectionKind::File(FileId(FILE)),
            size,
            protection,
            attributes: 0x80_0000,
            holder: Holder::User,
        }))
    }

    fn section_of_file(&self) -> SectionId {
        self.try_section_of_file(0, Protection::EXECUTE_READWRITE).expect("there is a file")
    }
}

/// What the file of these tests holds in the first word of a page.
const fn first_word(page: u64) -> u64 {
    (page * PAGE_SIZE / 8) | (1 << 40)
}

in_every_mode! {
    fn file_is_read_when_it_is_touched<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(5 * PAGE_SIZE as usize + 100);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READONLY);
        assert_eq!(host.fault(space, page_at(va, 1), AccessKind::Read), Ok(FaultKind::PageFile));
        for page in 0..5 {
            assert_eq!(host.read(space, page_at(va, page)), first_word(page));
        }
        let tail = page_at(va, 5);
        assert_eq!(host.read(space, tail), first_word(5));
        let after = tail.checked_add(Bytes::new(104)).expect("an address");
        assert_eq!(host.read(space, after), 0, "zeroes behind the end");
        assert_eq!(host.view(host.frame_of(space, va)).usage, FrameUse::Section);
        assert_eq!(
            host.fault(space, page_at(va, 6), AccessKind::Read),
            Err(NtStatus::ACCESS_VIOLATION)
        );
        host.audit_at_rest();
    }

    fn what_is_written_reaches_the_file<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(3 * PAGE_SIZE as usize + 16);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        for page in 0..4 {
            host.write(space, page_at(va, page), 0xAB00 + page);
        }
        let behind = page_at(va, 3).checked_add(Bytes::new(24)).expect("an address");
        host.write(space, behind, 7);
        assert_eq!(host.bytes_of_file(0, 8), first_word(0).to_le_bytes(), "not yet");
        for page in 0..4 {
            host.trim(space, page_at(va, page));
        }
        host.audit();
        host.settle();
        for page in 0..4_u64 {
            let there = host.bytes_of_file(page as usize * PAGE_SIZE as usize, 8);
            assert_eq!(there, (0xAB00 + page).to_le_bytes());
        }
        assert_eq!(host.machine().files.borrow()[&FILE].len(), 3 * PAGE_SIZE as usize + 16);
        assert_eq!(host.slots_in_use(), 0, "a file needs no paging file");
        host.audit_at_rest();
    }

    fn flush_writes_what_this_view_has_changed<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(40 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        for page in [3, 4, 5, 20, 39] {
            host.write(space, page_at(va, page), 0xCD00 + page);
        }
        let region = host.run(FlushView::new(space, va, Bytes::new(0))).expect("a view of a file");
        assert_eq!(region.size.get(), 40 * PAGE_SIZE);
        for page in [3_u64, 4, 5, 20, 39] {
            let there = host.bytes_of_file(page as usize * PAGE_SIZE as usize, 8);
            assert_eq!(there, (0xCD00 + page).to_le_bytes());
        }
        assert_eq!(host.manager.counters().pages_written.get(), 5);
        host.audit_at_rest();
        host.run(FlushView::new(space, va, Bytes::new(0))).expect("nothing to do");
        assert_eq!(host.manager.counters().pages_written.get(), 5);
        host.write(space, page_at(va, 4), 1);
        host.run(FlushView::new(space, page_at(va, 4), Bytes::new(1))).expect("one page");
        assert_eq!(host.bytes_of_file(4 * PAGE_SIZE as usize, 8), 1_u64.to_le_bytes());
        assert_eq!(
            host.run(FlushView::new(space, page_at(va, 39), Bytes::new(2 * PAGE_SIZE))),
            Err(NtStatus::NOT_MAPPED_VIEW)
        );
        host.audit_at_rest();
    }

    fn failed_write_is_reported_and_tried_again<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(2 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        host.write(space, va, 9);
        let mut flush = FlushView::new(space, va, Bytes::new(0));
        assert!(matches!(host.step(&mut flush), Step::Wait(_)));
        assert!(host.complete_next_with(Err(NtStatus::DISK_FULL)).is_some());
        assert_eq!(host.step(&mut flush), Step::Raise(NtStatus::DISK_FULL));
        host.audit_at_rest();
        host.run(FlushView::new(space, va, Bytes::new(0))).expect("it works now");
        assert_eq!(host.bytes_of_file(0, 8), 9_u64.to_le_bytes());
        host.audit_at_rest();
    }

    fn copies_do_not_reach_the_file<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(2 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::WRITECOPY);
        host.write(space, va, 9);
        host.page_out(space, va);
        host.run(FlushView::new(space, va, Bytes::new(0))).expect("nothing to write");
        assert_eq!(host.read(space, va), 9);
        assert_eq!(host.bytes_of_file(0, 8), first_word(0).to_le_bytes());
        host.audit_at_rest();
    }

    fn sections_of_a_file_have_one_control_area<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        host.file(2 * PAGE_SIZE as usize);
        let one = host.try_section_of_file(100, Protection::READONLY).expect("a part");
        let two = host.section_of_file();
        let information = |id| host.manager.section_information(id).expect("it exists");
        assert_eq!(information(one).area, information(two).area);
        assert_eq!((information(one).size, information(two).size), (100, 2 * PAGE_SIZE));
        let more = host.try_section_of_file(3 * PAGE_SIZE, Protection::READONLY);
        assert_eq!(more, Err(NtStatus::SECTION_TOO_BIG));
        let view = host.view_of(space, two, Protection::READWRITE);
        host.write(space, view, 77);
        // The file has been made longer: by a part of a page, then by pages.
        host.machine().files.borrow_mut().get_mut(&FILE).expect("it").resize(6 * 4096 + 8, 3);
        let three = host.section_of_file();
        assert_eq!(information(three).area, information(one).area);
        let longer = host.view_of(space, three, Protection::READWRITE);
        assert_eq!(host.read(space, longer), 77, "they show the same page");
        assert_eq!(host.read(space, page_at(longer, 6)), 0x0303_0303_0303_0303);
        host.write(space, page_at(longer, 5), 78);
        host.run(FlushView::new(space, longer, Bytes::new(0))).expect("a view of a file");
        assert_eq!(host.bytes_of_file(5 * 4096, 8), 78_u64.to_le_bytes());
        host.audit_at_rest();
    }

    fn pages_of_a_file_are_found_again<M>() {
        let host = Host::<M>::bare(128, EAGER);
        let space = host.space();
        host.file(2 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        host.write(space, va, 5);
        let pfn = host.frame_of(space, va);
        host.run(UnmapView::new(space, va)).expect("a view");
        host.manager.close_section(section).expect("it exists");
        host.settle();
        assert_eq!(host.bytes_of_file(0, 8), 5_u64.to_le_bytes(), "written by the writer");
        assert_eq!(host.location(pfn), PageLocation::Standby);
        host.audit_at_rest();
        let again = host.section_of_file();
        let va = host.view_of(space, again, Protection::READONLY);
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
        assert_eq!(host.frame_of(space, va), pfn);
        host.run(UnmapView::new(space, va)).expect("a view");
        host.manager.close_section(again).expect("it exists");
        host.settle();
        let frames = host.hoard(0);
        host.give_back(&frames);
        host.settle();
        let left = |usage| host.manager.frame_views().filter(|view| view.usage == usage).count();
        assert_eq!((left(FrameUse::Section), left(FrameUse::Prototypes)), (0, 0));
        host.audit_at_rest();
    }

    fn empty_file_cannot_be_mapped<M>() {
        let host = Host::<M>::new(128);
        host.file(0);
        assert_eq!(
            host.try_section_of_file(0, Protection::READWRITE),
            Err(NtStatus::MAPPED_FILE_SIZE_ZERO)
        );
        host.file(PAGE_SIZE as usize);
        for left in 0..8 {
            host.machine().fail_after.set(Some(left));
            let _ = host.try_section_of_file(0, Protection::READWRITE).map(|section| {
                host.manager.close_section(section).expect("it exists");
            });
            host.machine().fail_after.set(None);
            host.settle();
            host.audit_at_rest();
        }
        let unread = host.engine(crate::Engine::Dereference);
        assert_eq!(unread, EngineStep::Idle);
    }

    fn file_system_that_writes_by_itself_is_left_to_it<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(2 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        let by = |by| host.manager.set_modified_writing(FileId(FILE), by);
        by(ModifiedWriting::ByFileSystem).expect("there is a section");
        host.write(space, va, 9);
        let pfn = host.frame_of(space, va);
        host.trim(space, va);
        host.settle();
        assert_eq!(host.location(pfn), PageLocation::ModifiedNoWrite);
        assert_eq!(host.bytes_of_file(0, 8), first_word(0).to_le_bytes());
        host.audit_at_rest();
        by(ModifiedWriting::ByManager).expect("there is a section");
        host.settle();
        assert_eq!(host.bytes_of_file(0, 8), 9_u64.to_le_bytes());
        assert_eq!(host.location(pfn), PageLocation::Standby);
        host.audit_at_rest();
    }

    fn file_that_nobody_maps_can_be_cut<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        host.file(5 * PAGE_SIZE as usize);
        let section = host.section_of_file();
        let va = host.view_of(space, section, Protection::READWRITE);
        for page in 0..5 {
            host.write(space, page_at(va, page), 60 + page);
        }
        let end = page_at(va, 1).checked_add(Bytes::new(1000)).expect("an address");
        host.write(space, end, 99);
        let cut = |size| host.run(TruncateSection::new(FileId(FILE), size));
        assert_eq!(cut(PAGE_SIZE), Err(NtStatus::USER_MAPPED_FILE));
        host.manager.close_section(section).expect("it exists");
        assert_eq!(cut(PAGE_SIZE), Err(NtStatus::USER_MAPPED_FILE), "the view is left");
        host.run(UnmapView::new(space, va)).expect("a view");
        host.audit();
        cut(PAGE_SIZE + 8).expect("nobody maps it");
        host.machine().files.borrow_mut().get_mut(&FILE).expect("it").truncate(4096 + 8);
        host.settle();
        host.audit_at_rest();
        assert_eq!(host.bytes_of_file(4096, 8), 61_u64.to_le_bytes(), "what is left is written");
        host.machine().files.borrow_mut().get_mut(&FILE).expect("it").resize(4 * 4096, 1);
        let longer = host.section_of_file();
        let va = host.view_of(space, longer, Protection::READONLY);
        assert_eq!(host.read(space, va), 60);
        let end = page_at(va, 1).checked_add(Bytes::new(1000)).expect("an address");
        assert_eq!(host.read(space, end), 0, "what was cut off does not come back");
        assert_eq!(host.read(space, page_at(va, 3)), 0x0101_0101_0101_0101);
        assert_eq!(
            host.fault(space, page_at(va, 4), AccessKind::Read),
            Err(NtStatus::ACCESS_VIOLATION)
        );
        host.audit_at_rest();
    }
}
