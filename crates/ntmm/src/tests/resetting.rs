//! Contents given up and wanted back (MEM_RESET, MEM_RESET_UNDO; spec 7.4, API 3.4): every place
//! a page can be in, what the writer does, and what a store makes of it.

use ntmm_pte::{AccessKind, Pages, PagingMode, Protection, PteState, Va};
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameUse, PageLocation};
use crate::memory::RemoveMemory;
use crate::platform::FrameRange;
use crate::virtual_memory::{
    Allocate, AllocationType, FreeType, GetWriteWatch, MemoryUse, Placement, Reset, Watch,
};
use crate::{AddressSpaceId, Engine, EngineStep, Fault, FaultKind, NtStatus, ProcessorMode, Step};

/// A machine, a space in it, and a page there that holds a seven.
struct Scene<M: PagingMode> {
    host: Host<M>,
    space: AddressSpaceId,
    va: Va,
}

impl<M: PagingMode> Scene<M> {
    fn new() -> Self {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 7);
        Self { host, space, va }
    }

    fn reset(&self) {
        reset(&self.host, self.space, self.va, 1).expect("it is reset");
    }

    fn undo(&self) -> Result<(), NtStatus> {
        let size = Pages::new(1).to_bytes();
        self.host.run(Reset::undoing(self.space, self.va, size)).map(|_| ())
    }

    fn frame(&self) -> ntmm_pte::Pfn {
        self.host.frame_of(self.space, self.va)
    }

    fn flags(&self) -> FrameFlags {
        self.host.view(self.frame()).flags
    }

    fn trim(&self) {
        self.host.trim(self.space, self.va);
    }

    fn read(&self) -> u64 {
        self.host.read(self.space, self.va)
    }

    fn write(&self, value: u64) {
        self.host.write(self.space, self.va, value);
    }

    /// The page leaves memory if it can.
    fn press(&self) {
        let frames = self.host.hoard(0);
        self.host.give_back(&frames);
    }

    /// Pages the space counts.
    fn counted(&self) -> u64 {
        let view = self.host.manager.space_view(self.space).expect("it lives");
        view.header().private_pages()
    }

    /// Starts to write the page.
    fn start_writing(&self) {
        self.trim();
        assert_eq!(self.host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        assert!(self.flags().contains(FrameFlags::WRITE_IN_PROGRESS));
    }

    fn is_untouched(&self) -> bool {
        self.host.word(self.space, self.va) == M::demand_zero(Protection::READWRITE)
    }

    /// The page is lost as soon as its frame is taken, and in no paging file.
    fn is_lost_under_pressure(&self) {
        self.host.audit_at_rest();
        assert_eq!(self.read(), 7, "it holds its contents as long as it holds its frame");
        assert_eq!(self.host.slots_in_use(), 0);
        self.trim();
        self.host.write_modified();
        let written = self.host.manager.counters().pages_written.get();
        self.press();
        assert_eq!(self.host.manager.counters().pages_written.get(), written);
        assert!(self.is_untouched());
        assert_eq!((self.read(), self.counted()), (0, 1));
        self.host.audit_at_rest();
    }

    /// The page stays what it is, in memory or out of it.
    fn is_kept(&self, value: u64) {
        self.host.audit();
        assert_eq!(self.read(), value);
        self.host.settle();
        self.host.page_out(self.space, self.va);
        assert!(matches!(self.host.state(self.space, self.va), PteState::PageFile { .. }));
        assert_eq!((self.read(), self.counted()), (value, 1));
        self.host.audit_at_rest();
    }
}

fn reset<M: PagingMode>(
    host: &Host<M>,
    space: AddressSpaceId,
    va: Va,
    pages: u64,
) -> Result<(), NtStatus> {
    host.run(Reset::new(space, va, Pages::new(pages).to_bytes())).map(|_| ())
}

in_every_mode! {
    fn the_modified_writer_writes_nothing_of_reset_pages<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate(space, 8);
        for page in 0..8 {
            host.write(space, page_at(va, page), 100 + page);
        }
        // Half of them are on the modified list, half are mapped.
        for page in 0..4 {
            host.trim(space, page_at(va, page));
        }
        reset(&host, space, va, 8).expect("reset");
        assert_eq!(host.list(PageLocation::Modified), []);
        host.audit_at_rest();
        for page in 4..8 {
            host.trim(space, page_at(va, page));
        }
        host.manager.flush_modified_pages();
        host.write_modified();
        assert_eq!(host.manager.counters().pages_written.get(), 0);
        assert_eq!((host.slots_in_use(), host.pending()), (0, Vec::new()));
        for page in 0..8 {
            assert_eq!(host.read(space, page_at(va, page)), 100 + page);
        }
        host.audit_at_rest();
    }

    fn a_mapped_page_is_clean_and_its_processors_are_told<M>() {
        let scene = Scene::<M>::new();
        let frame = scene.frame();
        for _ in 0..2 {
            scene.host.machine().flushes.borrow_mut().clear();
            scene.reset();
            let flushes = scene.host.machine().flushes.take();
            assert_eq!(flushes.len(), 1, "also when the dirty bit is clear already");
            assert_eq!(flushes[0].pages.as_deref(), Some(&[scene.va][..]));
            assert!(!M::is_dirty(scene.host.word(scene.space, scene.va)));
            assert_eq!((scene.frame(), scene.flags()), (frame, FrameFlags::RESET));
            assert_eq!(scene.counted(), 0);
        }
        scene.is_lost_under_pressure();
    }

    fn the_call_ends_when_no_processor_can_store_unseen<M>() {
        for trimmed in [false, true] {
            let scene = Scene::<M>::new();
            scene.host.machine().hold_flushes.set(true);
            if trimmed {
                scene.trim();
            }
            let mut call = Reset::new(scene.space, scene.va, Pages::new(1).to_bytes());
            assert!(matches!(scene.host.step(&mut call), Step::Wait(_)));
            scene.host.audit();
            assert!(matches!(scene.host.step(&mut call), Step::Wait(_)), "not acknowledged");
            scene.host.machine().acknowledge();
            assert!(matches!(scene.host.step(&mut call), Step::Done(_)));
            scene.host.machine().hold_flushes.set(false);
            scene.host.settle();
            scene.is_lost_under_pressure();
        }
    }

    fn a_modified_page_becomes_standby_and_the_first_to_go<M>() {
        let scene = Scene::<M>::new();
        let other = scene.host.allocate(scene.space, 1);
        scene.host.write(scene.space, other, 8);
        scene.host.page_out(scene.space, other);
        assert_eq!(scene.host.read(scene.space, other), 8);
        scene.host.trim(scene.space, other);
        scene.trim();
        let available = scene.host.manager.memory_figures().available;
        scene.reset();
        let frames = [scene.frame(), scene.host.frame_of(scene.space, other)];
        assert_eq!(scene.host.list(PageLocation::Standby), frames);
        assert_eq!(scene.host.manager.memory_figures().available, available + 1);
        assert_eq!((scene.flags(), scene.counted()), (FrameFlags::RESET, 1));
        assert_eq!(scene.host.view(scene.frame()).original, M::demand_zero(Protection::READWRITE));
        scene.host.audit_at_rest();
        let kind = scene.host.fault(scene.space, scene.va, AccessKind::Read);
        assert_eq!(kind, Ok(FaultKind::Transition));
        assert!(!M::is_dirty(scene.host.word(scene.space, scene.va)));
        assert_eq!(scene.read(), 7);
        scene.trim();
        assert_eq!(scene.host.list(PageLocation::Standby), frames, "again the first to go");
        scene.host.audit_at_rest();
    }

    fn the_copies_of_resident_pages_are_given_up<M>() {
        for mapped in [false, true] {
            let scene = Scene::<M>::new();
            scene.host.page_out(scene.space, scene.va);
            assert_eq!((scene.read(), scene.host.slots_in_use()), (7, 1));
            if !mapped {
                scene.trim();
                assert_eq!(scene.host.location(scene.frame()), PageLocation::Standby);
            }
            scene.reset();
            assert_eq!(scene.host.slots_in_use(), 0);
            scene.is_lost_under_pressure();
        }
    }

    fn a_standby_page_becomes_the_first_to_go<M>() {
        let scene = Scene::<M>::new();
        let other = scene.host.allocate(scene.space, 1);
        scene.host.write(scene.space, other, 8);
        for va in [scene.va, other] {
            scene.host.page_out(scene.space, va);
        }
        assert_eq!((scene.read(), scene.host.read(scene.space, other)), (7, 8));
        scene.host.trim(scene.space, other);
        scene.trim();
        let frames = [scene.host.frame_of(scene.space, other), scene.frame()];
        assert_eq!(scene.host.list(PageLocation::Standby), frames);
        let available = scene.host.manager.memory_figures().available;
        for _ in 0..2 {
            scene.reset();
            assert_eq!(scene.host.list(PageLocation::Standby), [frames[1], frames[0]]);
            assert_eq!(scene.host.manager.memory_figures().available, available);
            scene.host.audit_at_rest();
        }
        scene.press();
        assert!(scene.is_untouched());
        scene.host.audit_at_rest();
    }

    fn a_page_in_a_paging_file_is_lost_at_once<M>() {
        let scene = Scene::<M>::new();
        scene.host.page_out(scene.space, scene.va);
        scene.reset();
        assert!(scene.is_untouched());
        assert_eq!((scene.host.slots_in_use(), scene.counted()), (0, 0));
        scene.host.audit_at_rest();
        assert_eq!(scene.undo(), Err(NtStatus::UNSUCCESSFUL));
        assert_eq!(scene.read(), 0);
    }

    fn a_page_being_read_is_lost_at_once<M>() {
        let scene = Scene::<M>::new();
        scene.host.page_out(scene.space, scene.va);
        let kind = AccessKind::Read;
        let mut fault = Fault::new(scene.space, scene.va, kind, ProcessorMode::User);
        assert!(matches!(scene.host.step(&mut fault), Step::Wait(_)));
        scene.reset();
        assert!(scene.is_untouched());
        scene.host.audit();
        assert!(scene.host.complete_next());
        assert_eq!(scene.host.step(&mut fault), Step::Done(FaultKind::PageFile));
        assert_eq!((scene.read(), scene.host.slots_in_use()), (0, 0));
        assert_eq!(scene.counted(), 1);
        scene.host.audit_at_rest();
    }

    fn a_page_being_written_keeps_its_slot_until_the_end_and_no_longer<M>() {
        for result in [Ok(()), Err(NtStatus::IO_DEVICE_ERROR)] {
            for mapped in [false, true] {
                let scene = Scene::<M>::new();
                scene.start_writing();
                if mapped {
                    scene.write(7);
                }
                scene.reset();
                assert_eq!(scene.host.slots_in_use(), 1, "the disk may still write to it");
                assert_eq!(scene.flags(), FrameFlags::RESET | FrameFlags::WRITE_IN_PROGRESS);
                scene.host.audit();
                scene.host.complete_next_with(result).expect("the write");
                assert_eq!((scene.host.slots_in_use(), scene.flags()), (0, FrameFlags::RESET));
                assert_eq!(scene.host.list(PageLocation::Modified), []);
                scene.is_lost_under_pressure();
            }
        }
    }

    fn a_store_after_the_reset_counts<M>() {
        let paths: [fn(&Scene<M>); 4] = [
            |_| {},
            Scene::trim,
            |scene| {
                scene.trim();
                scene.host.write_modified();
            },
            Scene::start_writing,
        ];
        for path in paths {
            let scene = Scene::<M>::new();
            path(&scene);
            scene.reset();
            scene.write(9);
            scene.trim();
            assert!(scene.flags().contains(FrameFlags::MODIFIED));
            assert!(!scene.flags().contains(FrameFlags::RESET));
            assert_eq!(scene.counted(), 1);
            scene.is_kept(9);
        }
    }

    fn a_store_after_the_loss_counts<M>() {
        let scene = Scene::<M>::new();
        scene.reset();
        scene.trim();
        scene.press();
        scene.write(9);
        scene.is_kept(9);
    }

    fn what_survives_can_be_had_back<M>() {
        let paths: [fn(&Scene<M>); 4] = [
            |_| {},
            Scene::trim,
            |scene| {
                scene.trim();
                scene.host.write_modified();
            },
            Scene::start_writing,
        ];
        for path in paths {
            let scene = Scene::<M>::new();
            path(&scene);
            scene.reset();
            assert_eq!(scene.undo(), Ok(()));
            assert!(scene.flags().contains(FrameFlags::MODIFIED));
            assert_eq!(scene.counted(), 1);
            assert_eq!(scene.undo(), Ok(()), "an ordinary page");
            scene.is_kept(7);
        }
    }

    fn what_survives_beside_a_loss_is_kept_too<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate(space, 3);
        for page in 0..3 {
            host.write(space, page_at(va, page), 7);
        }
        host.page_out(space, page_at(va, 1));
        reset(&host, space, va, 3).expect("reset");
        let size = Pages::new(3).to_bytes();
        assert_eq!(host.run(Reset::undoing(space, va, size)), Err(NtStatus::UNSUCCESSFUL));
        for page in [0, 2] {
            host.page_out(space, page_at(va, page));
            assert_eq!(host.read(space, page_at(va, page)), 7);
        }
        assert_eq!(host.read(space, page_at(va, 1)), 0);
        host.audit_at_rest();
        let never_touched = host.allocate(space, 1);
        let size = Pages::new(1).to_bytes();
        let undone = host.run(Reset::undoing(space, never_touched, size));
        assert_eq!(undone, Err(NtStatus::UNSUCCESSFUL));
    }

    fn an_undoing_waits_for_a_page_it_has_to_take_off_standby<M>() {
        let scene = Scene::<M>::new();
        scene.trim();
        scene.reset();
        let all = scene.host.manager.memory_figures().available;
        let promised = scene.host.manager.try_reserve_pages(all).expect("nobody else wants any");
        let mut undo = Reset::undoing(scene.space, scene.va, Pages::new(1).to_bytes());
        assert!(matches!(scene.host.step(&mut undo), Step::Wait(_)));
        drop(promised);
        assert!(matches!(scene.host.step(&mut undo), Step::Done(_)));
        scene.is_kept(7);
    }

    fn an_undoing_waits_for_no_page_it_does_not_need<M>() {
        let paths: [fn(&Scene<M>); 3] = [
            Scene::trim,
            |scene| {
                scene.trim();
                scene.host.write_modified();
            },
            |scene| {
                scene.start_writing();
                scene.reset();
            },
        ];
        for path in paths {
            let scene = Scene::<M>::new();
            path(&scene);
            let all = scene.host.manager.memory_figures().available;
            let promised = scene.host.manager.try_reserve_pages(all).expect("nobody wants any");
            let mut undo = Reset::undoing(scene.space, scene.va, Pages::new(1).to_bytes());
            assert!(matches!(scene.host.step(&mut undo), Step::Done(_)));
            drop(promised);
            scene.is_kept(7);
        }
    }

    fn a_reset_page_can_be_deleted_wherever_it_is<M>() {
        let paths: [fn(&Scene<M>); 5] = [
            Scene::reset,
            |scene| {
                scene.trim();
                scene.reset();
            },
            |scene| {
                scene.start_writing();
                scene.reset();
            },
            // It has been written, and nobody has noticed yet.
            |scene| {
                scene.reset();
                scene.write(8);
            },
            |scene| {
                scene.reset();
                scene.trim();
                scene.press();
            },
        ];
        for path in paths {
            let scene = Scene::<M>::new();
            path(&scene);
            scene.host.free(scene.space, scene.va, 1, FreeType::Decommit).expect("decommitted");
            assert_eq!(scene.counted(), 0);
            scene.host.audit();
            scene.host.settle();
            assert_eq!(scene.host.slots_in_use(), 0);
            scene.host.audit_at_rest();
            scene.host.delete(scene.space);
            scene.host.audit_at_rest();
        }
    }

    fn a_reset_page_keeps_its_protection<M>() {
        for protection in [Protection::READONLY, Protection::NO_ACCESS] {
            let scene = Scene::<M>::new();
            scene.reset();
            scene.host.protect(scene.space, scene.va, 1, protection).expect("protected");
            scene.host.audit_at_rest();
            if protection == Protection::READONLY {
                scene.trim();
            }
            assert_eq!(scene.flags(), FrameFlags::RESET, "no access changes nothing of that");
            scene.press();
            assert_eq!(scene.host.word(scene.space, scene.va), M::demand_zero(protection));
            let old = scene.host.protect(scene.space, scene.va, 1, Protection::READWRITE);
            assert_eq!(old.expect("protected").old, protection);
            assert_eq!(scene.read(), 0);
            scene.host.audit_at_rest();
        }
    }

    fn marks_of_a_write_watch_survive_a_reset<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let size = Pages::new(2).to_bytes();
        let kind = AllocationType::ReserveAndCommit;
        let call = Allocate::new(space, Placement::Lowest, size, kind, Protection::READWRITE);
        let va = host.run(call.of(MemoryUse::WriteWatch)).expect("allocated").base;
        host.write(space, va, 7);
        assert_eq!(host.read(space, page_at(va, 1)), 0);
        reset(&host, space, va, 2).expect("reset");
        let written = |watch| {
            let mut pages = [0; 4];
            let count = host.run(GetWriteWatch::new(space, va, size, watch, &mut pages));
            pages[..count.expect("it is watched")].to_vec()
        };
        assert_eq!(written(Watch::Reset), [va.get()]);
        assert_eq!(written(Watch::Keep), []);
        reset(&host, space, va, 2).expect("reset");
        assert_eq!(written(Watch::Keep), [], "a reset is no store");
        host.write(space, page_at(va, 1), 7);
        assert_eq!(written(Watch::Keep), [page_at(va, 1).get()]);
        host.audit_at_rest();
    }

    fn memory_is_taken_back_with_reset_pages_in_it<M>() {
        for trimmed in [false, true] {
            let scene = Scene::<M>::new();
            let frame = scene.frame();
            if trimmed {
                scene.trim();
            }
            scene.reset();
            let range = FrameRange { start: frame, count: Pages::new(1) };
            let removed = scene.host.run(RemoveMemory::new(range));
            assert_eq!(removed, Ok(Ok(())));
            assert_eq!(scene.host.view(frame).usage, FrameUse::Absent);
            assert_eq!((scene.read(), scene.counted()), (0, 1));
            scene.host.audit_at_rest();
        }
    }

    fn without_a_paging_file_reset_pages_are_what_there_is_to_take<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 2);
        for page in 0..2 {
            host.write(space, page_at(va, page), 7);
            host.trim(space, page_at(va, page));
        }
        reset(&host, space, va, 1).expect("reset");
        let frames = host.hoard(0);
        assert!(matches!(host.state(space, va), PteState::DemandZero { .. }));
        assert!(matches!(host.state(space, page_at(va, 1)), PteState::Transition(_)));
        host.give_back(&frames);
        assert_eq!((host.read(space, va), host.read(space, page_at(va, 1))), (0, 7));
        host.audit_at_rest();
    }
}
