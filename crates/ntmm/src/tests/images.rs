//! Images: parts with protections of their own, copies that never reach the file, shared pages.

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, PagingMode, Protection, Va};

use super::host::{Host, page_at};
use super::mapped_files::FILE;
use crate::frames::FrameUse;
use crate::platform::FileId;
use crate::section::{
    CreateImageSection, Holder, Image, ImagePart, Inherit, MapView, MappedView, SectionId,
    UnmapView, ViewPlace, ViewRequest,
};
use crate::vad::{ProtectionChange, VadKind};
use crate::virtual_memory::{MemoryState, Placement};
use crate::{AddressSpaceId, NtStatus};

/// Headers, code, data with a tail of zeroes, pages that all share, and a page nobody may touch.
const PARTS: [ImagePart; 5] = [
    part(0, 1, (0, 0x400), Protection::READONLY),
    part(1, 2, (0x400, 0x1800), Protection::EXECUTE_READ),
    part(3, 3, (0x1C00, 0x200), Protection::WRITECOPY),
    part(6, 1, (0x1E00, 0x200), Protection::READWRITE),
    part(7, 1, (0, 0), Protection::NO_ACCESS),
];

const fn part(
    first_page: u32,
    pages: u32,
    (offset, bytes): (u64, u64),
    protection: Protection,
) -> ImagePart {
    ImagePart { first_page, pages, offset, bytes, protection }
}

const BASE: Va = Va::new(0x40_0000);

impl<M: PagingMode> Host<M> {
    fn image(&self) -> SectionId {
        let image = Image {
            file: FileId(FILE),
            base: BASE.get(),
            pages: 8,
            parts: &PARTS,
            cleared_fields: Some((0x114, 3)),
        };
        let holder = Holder::User;
        let create =
            CreateImageSection::new(image, 0, Protection::EXECUTE_READ, 0x180_0000, holder);
        self.run(create).expect("there is room for an image")
    }

    fn map_image(&self, space: AddressSpaceId, section: SectionId) -> MappedView {
        let request = ViewRequest {
            section,
            placement: Placement::Lowest,
            offset: 0,
            size: Bytes::new(0),
            protection: Protection::READONLY,
            protection_change: ProtectionChange::Allowed,
            inherit: Inherit::Unmap,
        };
        self.run(MapView::new(space, request)).expect("there is room for a view")
    }
}

in_every_mode! {
    fn parts_have_their_protections<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        host.file(0x2000);
        let section = host.image();
        let view = host.map_image(space, section);
        assert_eq!((view.region.base, view.place), (BASE, ViewPlace::AsWanted));
        let again = host.map_image(space, section);
        assert_eq!(again.place, ViewPlace::NotAtBase);
        let mut page = 0;
        for part in PARTS {
            let region = host.query(space, page_at(BASE, page));
            assert_eq!(region.state, MemoryState::Committed);
            assert_eq!(region.kind, Some(VadKind::ImageView));
            assert_eq!(region.protection, Some(part.protection));
            assert_eq!(region.size.get(), u64::from(part.pages) * PAGE_SIZE);
            assert_eq!(region.allocation, Some((BASE, Protection::EXECUTE_WRITECOPY)));
            page += u64::from(part.pages);
        }
        assert!(host.touch(space, page_at(BASE, 1), AccessKind::Execute).is_ok());
        let refused = |page, kind| {
            assert_eq!(host.fault(space, page_at(BASE, page), kind), Err(NtStatus::ACCESS_VIOLATION));
        };
        refused(0, AccessKind::Write);
        refused(1, AccessKind::Write);
        refused(7, AccessKind::Read);
        host.audit_at_rest();
    }

    fn contents_come_from_the_parts<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        host.file(0x2000);
        let section = host.image();
        host.map_image(space, section);
        let word = |offset: u64| (offset / 8) | (1 << 40);
        let at = |offset| BASE.checked_add(Bytes::new(offset)).expect("an address");
        assert_eq!(host.read(space, at(0)), word(0));
        assert_eq!(host.read(space, at(0x400)), 0, "behind the headers");
        assert_eq!(host.read(space, at(0x1000)), word(0x400));
        assert_eq!(host.read(space, at(0x2000)), word(0x1400));
        assert_eq!(host.read(space, at(0x27F8)), word(0x1BF8));
        assert_eq!(host.read(space, at(0x2800)), 0, "behind the code");
        assert_eq!(host.read(space, at(0x3000)), word(0x1C00));
        assert_eq!(host.read(space, at(0x3200)), 0);
        assert_eq!(host.read(space, at(0x5000)), 0, "a page without data");
        host.audit_at_rest();
    }

    fn fields_of_what_is_empty_are_cleared<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        host.file(0x2000);
        let put = |offset: usize, value: u32| {
            let mut files = host.machine().files.borrow_mut();
            let file = files.get_mut(&FILE).expect("it");
            file[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        };
        // Three entries of forty bytes: the size, then where it is.
        for (number, size) in [0x200_u32, 0, 0x400].into_iter().enumerate() {
            put(0x110 + 40 * number, size);
            put(0x114 + 40 * number, 0x600);
        }
        let section = host.image();
        host.map_image(space, section);
        let field = |number: u64| {
            let at = 0x110 + 40 * number;
            (host.read(space, BASE.checked_add(Bytes::new(at)).expect("an address")) >> 32) as u32
        };
        assert_eq!([0, 1, 2].map(field), [0x600, 0, 0x600]);
        let file = host.bytes_of_file(0x114 + 40, 4);
        assert_eq!(file, 0x600_u32.to_le_bytes(), "the file is as it was");
    }

    fn copies_are_private_and_shared_pages_are_not<M>() {
        let host = Host::<M>::new(200);
        let (one, two) = (host.space(), host.space());
        host.file(0x2000);
        let section = host.image();
        host.map_image(one, section);
        host.map_image(two, section);
        let (data, shared) = (page_at(BASE, 3), page_at(BASE, 6));
        host.write(one, data, 1);
        host.write(one, page_at(BASE, 5), 2);
        host.write(one, shared, 3);
        assert_eq!(host.read(two, data), (0x1C00 / 8) | (1 << 40));
        assert_eq!((host.read(two, page_at(BASE, 5)), host.read(two, shared)), (0, 3));
        assert_eq!(host.query(one, data).protection, Some(Protection::READWRITE));
        assert_eq!(host.query(two, data).protection, Some(Protection::WRITECOPY));
        host.audit_at_rest();
        host.trim(two, shared);
        host.page_out(one, shared);
        host.page_out(one, data);
        assert!(host.slots_in_use() >= 2, "both go to the paging file");
        assert_eq!(host.bytes_of_file(0x1E00, 8), ((0x1E00_u64 / 8) | (1 << 40)).to_le_bytes());
        assert_eq!((host.read(two, shared), host.read(one, data)), (3, 1));
        host.audit_at_rest();
        for space in [one, two] {
            host.run(UnmapView::new(space, BASE)).expect("a view");
        }
        host.manager.close_section(section).expect("it exists");
        host.settle();
        let frames = host.hoard(0);
        host.give_back(&frames);
        host.settle();
        let left = |usage| host.manager.frame_views().filter(|view| view.usage == usage).count();
        assert_eq!((left(FrameUse::Section), left(FrameUse::Prototypes)), (0, 0));
        assert_eq!(host.slots_in_use(), 0);
        host.audit_at_rest();
    }

    fn protection_of_an_image_copies<M>() {
        let host = Host::<M>::new(200);
        let space = host.space();
        host.file(0x2000);
        let section = host.image();
        host.map_image(space, section);
        let code = page_at(BASE, 1);
        let before = host.manager.memory_figures().committed.get();
        let old = host.protect(space, code, 1, Protection::EXECUTE_READWRITE).expect("allowed").old;
        assert_eq!(old, Protection::EXECUTE_READ);
        assert_eq!(host.query(space, code).protection, Some(Protection::EXECUTE_WRITECOPY));
        assert_eq!(host.manager.memory_figures().committed.get(), before + 1, "for the copy");
        host.write(space, code, 0xCC);
        assert_eq!(host.query(space, code).protection, Some(Protection::EXECUTE_READWRITE));
        let old = host.protect(space, code, 1, Protection::EXECUTE_READ).expect("allowed").old;
        assert_eq!(old, Protection::EXECUTE_READWRITE);
        assert_eq!(host.read(space, code), 0xCC);
        host.audit_at_rest();
    }
}
