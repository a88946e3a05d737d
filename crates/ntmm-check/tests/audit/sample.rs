//! A machine with a process that has pages in every state, and ways to damage it: one word at a
//! time, as a stray store or a forgotten step would.

use std::sync::atomic::Ordering;

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::FrameView;
use ntmm::tables::EntryRef;
use ntmm::virtual_memory::{
    Allocate, AllocatePhysicalPages, AllocationType, FreeType, MapPhysicalPages, MemoryUse,
    Placement, Region,
};
use ntmm::{AddressSpaceId, Engine, Fault, ProcessorMode};
use ntmm_check::audit::{Defect, Figure};
use ntmm_pte::{AccessKind, Pages, PagingMode, Pfn, Protection, Va};

use crate::machine::{Machine, page};

/// Page of the sample's region that is not committed.
pub const UNCOMMITTED: u64 = 60;

/// A machine with a process that has pages in every state.
pub struct Sample<M: PagingMode> {
    pub machine: Machine<M>,
    pub space: AddressSpaceId,
    pub region: Region,
}

/// Breaks a healthy machine and looks at what the auditors say.
#[track_caller]
pub fn finds<M: PagingMode>(damage: impl Fn(&Sample<M>), expected: impl Fn(&Defect) -> bool) {
    let sample = Sample::<M>::new();
    damage(&sample);
    match sample.machine.audit() {
        Ok(()) => panic!("nothing was found"),
        Err(defect) => {
            assert!(expected(&defect), "found {defect:?}");
            assert!(!defect.to_string().is_empty());
        }
    }
}

pub fn figure(defect: &Defect, wrong: Figure) -> bool {
    matches!(*defect, Defect::Figure { figure, .. } if figure == wrong)
}

impl<M: PagingMode> Sample<M> {
    pub fn new() -> Self {
        let machine = Machine::new(120);
        let space = machine.process(40);
        let region = machine.place(space, Placement::Lowest, AllocationType::Reserve, 64);
        machine.place(space, Placement::At(region.base), AllocationType::Commit, 51);
        for number in 0..50 {
            machine.write(space, region, number, number);
        }
        machine.push_out(space);
        // Some pages come back in clusters; two are changed; all leave; some come back.
        for number in 0..10 {
            machine.read(space, region, number);
        }
        machine.write(space, region, 2, 2);
        machine.write(space, region, 3, 3);
        machine.empty(space);
        machine.read(space, region, 5);
        machine.read(space, region, 6);
        machine.read(space, region, 8);
        machine.write(space, region, 49, 4);
        for _ in 0..6 {
            machine.step_engine(Engine::Zeroing);
        }
        machine.write(space, region, 50, 50);
        machine.free(space, region, 5, 3, FreeType::Decommit);
        Self { machine, space, region }
    }

    /// A window of four pages with two physical pages of three in it.
    pub fn physical_pages(&self) -> (Region, [Pfn; 3]) {
        let (kind, size) = (AllocationType::Reserve, Pages::new(4).to_bytes());
        let reserve =
            Allocate::new(self.space, Placement::Highest, size, kind, Protection::READWRITE);
        let window = self.machine.run(reserve.of(MemoryUse::AddressWindow)).expect("reserved");
        let mut pages = [Pfn::new(0); 3];
        // Pages enough have to be free.
        self.machine.empty(self.space);
        self.machine.push_out(self.space);
        let granted = self.machine.run(AllocatePhysicalPages::new(self.space, &mut pages));
        assert_eq!(granted, Ok(3));
        let map = MapPhysicalPages::<&[Va], _>::at(self.space, window.base, &pages[..2]);
        self.machine.run(map).expect("mapped");
        self.machine.write(self.space, self.region, 50, 50);
        (window, pages)
    }

    pub fn list(&self) -> Pfn {
        self.machine.manager.space_view(self.space).expect("the process").list()
    }

    pub fn first(&self, wanted: impl Fn(&FrameView) -> bool) -> FrameView {
        self.machine.manager.frame_views().find(wanted).expect("such a frame")
    }

    pub fn at(&self, location: PageLocation) -> FrameView {
        self.first(|frame| frame.location == location)
    }

    pub fn first_of(&self, list: PageLocation) -> Pfn {
        self.machine.manager.list_frames(list).next().expect("a frame on the list")
    }

    pub fn private(&self, location: PageLocation) -> FrameView {
        self.first(|frame| frame.location == location && frame.usage == FrameUse::Private)
    }

    pub fn used(&self, usage: FrameUse) -> FrameView {
        self.first(|frame| frame.location == PageLocation::Active && frame.usage == usage)
    }

    /// An active page that is as it is in the paging file.
    pub fn clean(&self) -> FrameView {
        self.first(|frame| {
            frame.location == PageLocation::Active
                && frame.usage == FrameUse::Private
                && frame.flags.is_empty()
        })
    }

    /// The table of the region.
    pub fn page_table(&self) -> Pfn {
        self.entry(0).table
    }

    pub fn entry(&self, number: u64) -> EntryRef {
        let entry = self.machine.manager.page_entry(self.space, page(self.region, number));
        entry.expect("the table of the region")
    }

    pub fn numbers_in_paging_file(&self) -> impl Iterator<Item = u64> {
        (0..50)
            .filter(|&number| M::is_page_file(self.machine.manager.raw_entry(self.entry(number))))
    }

    pub fn entry_in_paging_file(&self, which: usize) -> EntryRef {
        let number = self.numbers_in_paging_file().nth(which);
        self.entry(number.expect("a page in the paging file"))
    }

    pub fn in_paging_file(&self, which: usize) -> u64 {
        self.machine.manager.raw_entry(self.entry_in_paging_file(which))
    }

    pub fn add(&self, pfn: Pfn, word: usize, change: u64) {
        self.machine.database_word(pfn, word).fetch_add(change, Ordering::Relaxed);
    }

    pub fn or(&self, pfn: Pfn, word: usize, bits: u64) {
        self.machine.database_word(pfn, word).fetch_or(bits, Ordering::Relaxed);
    }

    pub fn poke(&self, entry: EntryRef, word: u64) {
        self.machine.poke_entry(entry, word);
    }

    pub fn set_location(&self, frame: FrameView, location: PageLocation) {
        let word = self.machine.database_word(frame.pfn, 0);
        let rest = word.load(Ordering::Relaxed) & !(7 << 1);
        word.store(rest | (location as u64) << 1, Ordering::Relaxed);
    }

    /// Lets the entry of a frame name another one.
    pub fn name_frame(&self, frame: FrameView, other: Pfn) {
        let word = self.machine.manager.raw_entry(frame.container);
        let field = u64::from(M::MAX_PFN.get()) << 12;
        self.poke(frame.container, word & !field | u64::from(other.get()) << 12);
    }

    /// A page that exists nowhere else is said to be clean.
    pub fn forget_modified(&self) {
        let modified = |frame: &FrameView| {
            frame.location == PageLocation::Active
                && frame.usage == FrameUse::Private
                && frame.flags.bits() == 1
        };
        let pfn = self.first(modified).pfn;
        self.machine.database_word(pfn, 0).fetch_and(!(1 << 8), Ordering::Relaxed);
    }

    /// Exchanges the heads of two colours of the zeroed list that have frames.
    pub fn exchange_colors(&self) {
        let manager = &self.machine.manager;
        let ends = |number: u32| {
            let frames = manager.frame_views().count();
            // The heads follow the database; two words each, zeroed frames first.
            let head = Pfn::new(frames.div_ceil(128) as u32);
            self.machine.word(head, 2 * number as usize)
        };
        let mut used = (0..manager.color_count()).filter(|&number| {
            manager.color_frames(PageLocation::Zeroed, manager.color(number)).next().is_some()
        });
        let (a, b) = (used.next().expect("a colour"), used.next().expect("another colour"));
        let old = ends(a).swap(ends(b).load(Ordering::Relaxed), Ordering::Relaxed);
        ends(b).store(old, Ordering::Relaxed);
    }

    pub fn break_self_map(&self) {
        let view = self.machine.manager.space_view(self.space).expect("the process");
        let entry = view.find_entry(M::SELF_MAP_ADDRESS, M::SELF_MAP_LEVEL);
        let entry = entry.expect("the self-map");
        let word = self.machine.manager.raw_entry(entry);
        self.poke(entry, word ^ 1 << 12);
    }

    /// A page table that is in memory and not mapped: it was read, and the fault given up.
    pub fn trimmed_table(&self) -> Pfn {
        let trimmed =
            |frame: &FrameView| frame.usage == FrameUse::PageTable && frame.location.is_list();
        for _ in 0..8 {
            if let Some(frame) = self.machine.manager.frame_views().find(trimmed) {
                return frame.pfn;
            }
            self.machine.push_out(self.space);
            let va = page(self.region, 0);
            let mut fault = Fault::new(self.space, va, AccessKind::Read, ProcessorMode::User);
            let _ = self.machine.step(&mut fault);
            self.machine.complete_transfer(Ok(()));
            self.machine.manager.abandon(fault);
        }
        panic!("no table was read");
    }

    /// The frame of the bits of the paging file, which its directory names.
    pub fn bits(&self) -> Pfn {
        let bitmap = |frame: &FrameView| frame.usage == FrameUse::PagingFileBitmap;
        let named = |frame: &FrameView| self.machine.word(frame.pfn, 0).load(Ordering::Relaxed);
        let frames: Vec<_> = self.machine.manager.frame_views().filter(bitmap).collect();
        let directory = frames
            .iter()
            .find(|frame| frames.iter().any(|other| u64::from(other.pfn.get()) == named(frame)));
        Pfn::new(named(directory.expect("a directory")) as u32)
    }

    /// Word and bit of the slot a page-file word names.
    pub fn mark_of(&self, word: u64) -> (usize, u64) {
        let (_, slot) = M::page_file_location(word).expect("a page-file word");
        (slot.get() as usize / 64, 1 << (slot.get() % 64))
    }
}
