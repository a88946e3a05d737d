//! Sections under the eyes of the auditors: all is well from the first step of their making until
//! nothing is left of them, and a single wrong word is found.

use std::sync::atomic::Ordering;

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::FrameView;
use ntmm::platform::Ram;
use ntmm::section::{
    CreateSection, Holder, Inherit, MapView, SectionId, SectionKind, SectionRequest, UnmapView,
    ViewRequest,
};
use ntmm::tables::EntryRef;
use ntmm::vad::ProtectionChange;
use ntmm::virtual_memory::{Placement, Region};
use ntmm::{AddressSpaceId, Engine, EngineStep, Step};
use ntmm_check::audit::{AreaFigure, Defect, Figure, SlotOwner, audit_teardown};
use ntmm_pte::{Bytes, Level, PAGE_SIZE, PagingMode, Pfn, Protection, Slot, Va};

use crate::machine::{Machine, every_mode, page};
use crate::sample::figure;

every_mode! {
    every_step_of_their_life_is_in_order
    entries_in_a_hash_are_in_order
    damaged_frames_are_found
    damaged_prototypes_are_found
    damaged_views_are_found
    damaged_counters_are_found
    damaged_hashes_are_found
    what_is_kept_is_found
}

fn request(pages: u64) -> SectionRequest {
    SectionRequest {
        kind: SectionKind::Committed,
        size: pages * PAGE_SIZE,
        protection: Protection::READWRITE,
        attributes: 0x800_0000,
        holder: Holder::User,
    }
}

fn view(section: SectionId, protection: Protection) -> ViewRequest {
    ViewRequest {
        section,
        placement: Placement::Lowest,
        offset: 0,
        size: Bytes::new(0),
        protection,
        protection_change: ProtectionChange::Allowed,
        inherit: Inherit::Unmap,
    }
}

/// Words of the tables of records.
const CONTROL_AREA: usize = 0;
const SUBSECTION: usize = 1;
const OBJECT: usize = 2;

/// A section of eight pages in two processes. Page 0 is mapped in both, 1 in the second alone, 2
/// is modified, 3 has been read in beside it, 4 is a copy in the second process, 5 and above are untouched.
struct Sample<M: PagingMode> {
    machine: Machine<M>,
    section: SectionId,
    spaces: [AddressSpaceId; 2],
    /// Read-write, and copied when written.
    views: [Region; 2],
}

impl<M: PagingMode> Sample<M> {
    fn new() -> Self {
        let machine = Machine::new(260);
        let spaces = [machine.process(60), machine.process(60)];
        let section = make(&machine, 8);
        let views = [
            map(&machine, spaces[0], section, Protection::READWRITE),
            map(&machine, spaces[1], section, Protection::WRITECOPY),
        ];
        for number in 0..5 {
            machine.write(spaces[0], views[0], number, 70 + number);
        }
        machine.push_out(spaces[0]);
        for number in [0, 1, 4] {
            assert_eq!(machine.read(spaces[1], views[1], number), 70 + number);
        }
        machine.write(spaces[1], views[1], 4, 99);
        for number in [0, 2] {
            machine.write(spaces[0], views[0], number, 80 + number);
        }
        machine.empty(spaces[0]);
        machine.acknowledge();
        assert_eq!(machine.read(spaces[0], views[0], 0), 80);
        machine.check();
        Self { machine, section, spaces, views }
    }

    fn prototype(&self, number: u64) -> EntryRef {
        let system = self.machine.manager.space_of_prototypes().expect("there is a section");
        let space = self.machine.manager.space_view(system).expect("it lives");
        let at = space.find_entry(Va::new(0x1_0000), Level::Table).expect("its tables");
        let table = M::valid_pfn(self.machine.manager.raw_entry(at));
        EntryRef { table, slot: Slot::from_low_bits(number) }
    }

    fn word(&self, number: u64) -> u64 {
        self.machine.manager.raw_entry(self.prototype(number))
    }

    fn poke(&self, number: u64, word: u64) {
        self.machine.poke_entry(self.prototype(number), word);
    }

    /// Sees to it that page 3 is in the paging file alone.
    fn push_out(&self) {
        self.machine.push_out(self.spaces[0]);
        assert!(M::is_page_file(self.word(3)));
    }

    /// The frame of a page in memory.
    fn frame(&self, number: u64) -> FrameView {
        let word = self.word(number);
        let pfn = if M::is_valid(word) { M::valid_pfn(word) } else { M::transition_pfn(word) };
        self.machine.manager.frame_view(pfn).expect("a frame")
    }

    fn entry(&self, process: usize, number: u64) -> EntryRef {
        let space = self.machine.manager.space_view(self.spaces[process]).expect("it lives");
        space.find_entry(page(self.views[process], number), Level::Table).expect("its tables")
    }

    fn add(&self, pfn: Pfn, word: usize, value: u64) {
        self.machine.database_word(pfn, word).fetch_add(value, Ordering::Relaxed);
    }

    /// Adds to a word of the first record of a table. Of each table there are two frames, the
    /// directory first.
    fn add_to_record(&self, table: usize, word: usize, value: u64) {
        let mut frames = Vec::new();
        self.machine.manager.for_each_section_record_frame(|pfn| frames.push(pfn));
        self.machine.word(frames[2 * table + 1], word).fetch_add(value, Ordering::Relaxed);
    }
}

fn make<M: PagingMode>(machine: &Machine<M>, pages: u64) -> SectionId {
    let mut create = CreateSection::new(request(pages));
    loop {
        // The space of prototypes is made by the first step.
        let step = machine.manager.step(&mut create);
        machine.owners.replace(machine.manager.space_of_prototypes().into_iter().collect());
        machine.pending.set(16);
        machine.check();
        match step {
            Step::Done(section) => {
                machine.owners.borrow_mut().clear();
                machine.pending.set(0);
                machine.check();
                return section;
            }
            Step::Raise(status) => panic!("{status}"),
            Step::Wait(_) => machine.acknowledge(),
        }
    }
}

fn map<M: PagingMode>(
    machine: &Machine<M>,
    space: AddressSpaceId,
    section: SectionId,
    protection: Protection,
) -> Region {
    machine.call(space, MapView::new(space, view(section, protection))).expect("a view").region
}

fn unmap<M: PagingMode>(machine: &Machine<M>, space: AddressSpaceId, view: Region) {
    machine.call(space, UnmapView::new(space, view.base)).expect("it is unmapped");
}

/// Lets the engines work until they have nothing left to do.
fn rest<M: PagingMode>(machine: &Machine<M>) {
    loop {
        machine.acknowledge();
        while machine.has_transfers() {
            machine.complete_transfer(Ok(()));
        }
        if machine.step_engine(Engine::Dereference) == EngineStep::Idle {
            return;
        }
    }
}

/// Breaks a healthy machine and looks at what the auditors say.
#[track_caller]
fn finds<M: PagingMode>(damage: impl Fn(&Sample<M>), expected: impl Fn(&Defect) -> bool) {
    let sample = Sample::<M>::new();
    damage(&sample);
    match sample.machine.audit() {
        Ok(()) => panic!("{}: nothing was found", M::NAME),
        Err(defect) => assert!(expected(&defect), "{}: {defect}\n{defect:?}", M::NAME),
    }
}

fn counter(defect: &Defect, wanted: AreaFigure) -> bool {
    matches!(defect, Defect::ControlArea { figure, .. } if *figure == wanted)
}

mod run {
    use super::*;

    pub fn every_step_of_their_life_is_in_order<M: PagingMode>() {
        let Sample { machine, section, spaces, views } = Sample::<M>::new();
        machine.push_out(spaces[1]);
        let system = machine.manager.space_of_prototypes().expect("there is a section");
        machine.push_out(spaces[0]);
        machine.empty(system);
        machine.push_out(spaces[0]);
        let written = [80, 71, 82, 73, 74];
        for (number, value) in (0..).zip(written) {
            assert_eq!(machine.read(spaces[0], views[0], number), value);
            let seen = if number == 4 { 99 } else { value };
            assert_eq!(machine.read(spaces[1], views[1], number), seen);
        }
        let again = map(&machine, spaces[0], section, Protection::READONLY);
        assert_eq!(machine.read(spaces[0], again, 3), 73);
        unmap(&machine, spaces[0], views[0]);
        machine.manager.close_section(section).expect("it is open");
        machine.check();
        machine.push_out(spaces[1]);
        machine.empty(system);
        unmap(&machine, spaces[0], again);
        machine.delete(spaces[1]);
        rest(&machine);
        machine.delete(spaces[0]);
        rest(&machine);
        machine.check_teardown();
        assert_eq!(machine.manager.control_areas().count(), 0);
    }

    pub fn entries_in_a_hash_are_in_order<M: PagingMode>() {
        let (machine, ..) = hashed::<M>();
        machine.check();
    }

    /// Two processes share more pages than a list without a hash has entries.
    fn hashed<M: PagingMode>() -> (Machine<M>, AddressSpaceId) {
        let machine = Machine::new(900);
        let spaces = [machine.process(600), machine.process(600)];
        let section = make(&machine, 420);
        for space in spaces {
            let view = map(&machine, space, section, Protection::READWRITE);
            for number in 0..420 {
                machine.write(space, view, number, number);
            }
        }
        let header = machine.manager.space_view(spaces[1]).expect("it lives").header();
        assert!(header.hash_size() > 0 && header.non_direct() > 0);
        (machine, spaces[1])
    }

    pub fn damaged_hashes_are_found<M: PagingMode>() {
        let slot = |machine: &Machine<M>, space| {
            let header = machine.manager.space_view(space).expect("it lives").header();
            let last = Slot::from_low_bits(M::ENTRIES as u64 - 1);
            let at = EntryRef { table: Pfn::new(header.list_table()), slot: last };
            let pfn = M::valid_pfn(machine.manager.raw_entry(at));
            let words = machine.manager.platform().frame(pfn);
            (pfn, words.iter().position(|word| word.load(Ordering::Relaxed) != 0).expect("one"))
        };
        for damage in [|word: u64| word + 1, |word: u64| word ^ 1 << 29] {
            let (machine, space) = hashed::<M>();
            let (pfn, at) = slot(&machine, space);
            let word = machine.word(pfn, at);
            word.store(damage(word.load(Ordering::Relaxed)), Ordering::Relaxed);
            assert!(matches!(machine.audit(), Err(Defect::HashSlot { slot: Some(_), .. })));
        }
    }

    pub fn damaged_frames_are_found<M: PagingMode>() {
        const SHARE: u64 = 1 << 32;
        const PROTOTYPE: u64 = 8 << 8;
        for number in [0, 1] {
            finds::<M>(
                |sample| sample.add(sample.frame(number).pfn, 2, SHARE),
                |defect| matches!(defect, Defect::Share(count) if count.usage == FrameUse::Section),
            );
        }
        finds::<M>(
            |sample| sample.add(sample.prototype(0).table, 2, SHARE),
            |defect| matches!(defect, Defect::Share(count) if count.usage == FrameUse::Prototypes),
        );
        finds::<M>(
            |sample| sample.add(sample.frame(2).pfn, 0, PROTOTYPE.wrapping_neg()),
            |defect| matches!(defect, Defect::PrototypeFlag(_)),
        );
        finds::<M>(
            |sample| sample.add(sample.frame(0).pfn, 3, 1),
            |defect| matches!(defect, Defect::Container { place, .. } if place.level == 0),
        );
        finds::<M>(
            |sample| {
                let mut frames = Vec::new();
                sample.machine.manager.for_each_section_record_frame(|pfn| frames.push(pfn));
                sample.add(frames[0], 2, SHARE);
            },
            |defect| matches!(defect, Defect::Share(count) if count.usage == FrameUse::SectionRecords),
        );
    }

    pub fn damaged_prototypes_are_found<M: PagingMode>() {
        // A page that is mapped, or in transition, is forgotten.
        finds::<M>(
            |sample| sample.poke(1, 0),
            |defect| matches!(defect, Defect::Share(_) | Defect::Unaccounted { .. }),
        );
        finds::<M>(
            |sample| {
                assert_eq!(sample.frame(2).location, PageLocation::Modified);
                sample.poke(2, 0);
            },
            |defect| matches!(defect, Defect::Share(_) | Defect::Unaccounted { .. }),
        );
        // Two prototypes of one page, and one behind the end of the section.
        finds::<M>(
            |sample| sample.poke(6, sample.word(0)),
            |defect| matches!(defect, Defect::Container { place, .. } if place.level == 0),
        );
        finds::<M>(
            |sample| sample.poke(8, 0x80),
            |defect| matches!(defect, Defect::OutsideSections(_)),
        );
        // A slot that two prototypes have, and one that nobody has any more.
        finds::<M>(
            |sample| {
                sample.push_out();
                sample.poke(5, sample.word(3));
            },
            |defect| {
                matches!(defect, Defect::SlotOwnedTwice { owner: SlotOwner::Entry(place), .. }
                    if place.level == 0)
            },
        );
        finds::<M>(
            |sample| {
                sample.push_out();
                sample.poke(3, 0);
            },
            |defect| matches!(defect, Defect::SlotUnowned { .. } | Defect::SlotCount { .. }),
        );
        finds::<M>(
            |sample| sample.poke(5, M::prototype_lookup(Protection::READWRITE)),
            |defect| matches!(defect, Defect::EntryForm { place, .. } if place.level == 0),
        );
    }

    pub fn damaged_views_are_found<M: PagingMode>() {
        // The page next to the one shown.
        finds::<M>(
            |sample| {
                let word = sample.machine.manager.raw_entry(sample.entry(1, 1));
                sample.machine.poke_entry(sample.entry(1, 0), word);
            },
            |defect| matches!(defect, Defect::NotPrototype { .. }),
        );
        // A lookup that is none, and one where there is no view.
        finds::<M>(
            |sample| {
                let entry = sample.entry(0, 3);
                let word = sample.machine.manager.raw_entry(entry);
                assert_eq!(word, M::prototype_lookup(Protection::READWRITE));
                sample.machine.poke_entry(entry, word & !(1 << (M::ENTRY_BYTES * 8 - 1)));
            },
            |defect| matches!(defect, Defect::EntryForm { .. }),
        );
        finds::<M>(
            |sample| {
                let region = sample.machine.allocate(sample.spaces[0], 1);
                sample.machine.write(sample.spaces[0], region, 0, 1);
                let space = sample.machine.manager.space_view(sample.spaces[0]).expect("it");
                let entry = space.find_entry(region.base, Level::Table).expect("its table");
                sample.machine.poke_entry(entry, M::prototype_lookup(Protection::READWRITE));
            },
            |defect| matches!(defect, Defect::EntryForm { .. }),
        );
        // A lookup is no private page.
        finds::<M>(
            |sample| {
                let space = sample.machine.manager.space_view(sample.spaces[1]).expect("it");
                let private = space.header().private_pages();
                space.header().set_private_pages(private + 1);
            },
            |defect| figure(defect, Figure::PrivatePages),
        );
        finds::<M>(
            |sample| {
                let space = sample.machine.manager.space_view(sample.spaces[0]).expect("it");
                let header = space.header();
                header.set_non_direct(header.non_direct() + 1);
            },
            |defect| figure(defect, Figure::NonDirect),
        );
    }

    pub fn damaged_counters_are_found<M: PagingMode>() {
        let counters: [(usize, u64, AreaFigure); 7] = [
            (1, 1, AreaFigure::Sections),
            (1, 1 << 32, AreaFigure::Users),
            (2, 1, AreaFigure::Views),
            (2, 1 << 32, AreaFigure::Frames),
            (4, 1 << 32, AreaFigure::Subsections),
            (5, 1, AreaFigure::Prototypes),
            (7, 1, AreaFigure::Commitment),
        ];
        for (word, value, figure) in counters {
            finds::<M>(
                |sample| sample.add_to_record(CONTROL_AREA, word, value),
                |defect| counter(defect, figure),
            );
        }
        finds::<M>(
            |sample| sample.add_to_record(SUBSECTION, 3, 1 << 20),
            |defect| matches!(defect, Defect::Subsection { .. }),
        );
        finds::<M>(
            |sample| sample.add_to_record(SUBSECTION, 1, 1),
            |defect| matches!(defect, Defect::Subsection { .. }),
        );
        finds::<M>(
            |sample| sample.add_to_record(OBJECT, 1, 1),
            |defect| matches!(defect, Defect::NoControlArea(_)),
        );
        finds::<M>(
            |sample| sample.add_to_record(OBJECT, 0, 1 << 63),
            |defect| matches!(defect, Defect::Records { .. }),
        );
        // Being deleted, though it is mapped.
        finds::<M>(
            |sample| sample.add_to_record(CONTROL_AREA, 0, 1),
            |defect| matches!(defect, Defect::DeletedArea(_)),
        );
        // Closed and unmapped, and taken off the queue.
        finds::<M>(
            |sample| {
                let Sample { machine, spaces, views, section } = sample;
                unmap(machine, spaces[0], views[0]);
                unmap(machine, spaces[1], views[1]);
                machine.manager.close_section(*section).expect("it is open");
                machine.check();
                sample.add_to_record(CONTROL_AREA, 14, (1_u64 << 32).wrapping_neg());
            },
            |defect| matches!(defect, Defect::Forgotten(_)),
        );
    }

    pub fn what_is_kept_is_found<M: PagingMode>() {
        let Sample { machine, section, spaces, .. } = Sample::<M>::new();
        for space in spaces {
            machine.delete(space);
        }
        rest(&machine);
        let leak = audit_teardown(&machine.manager, &machine.baseline);
        assert!(matches!(leak, Err(Defect::Leak { .. })), "{leak:?}");
        machine.manager.close_section(section).expect("it is open");
        rest(&machine);
        machine.check_teardown();
    }
}
