//! The invariants of spec 3.13 and a few more, checked over a machine at rest or in the middle
//! of something, by going over everything from the root tables down.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use ntmm_pte::{
    Level, PagingFileNumber, PagingMode, Pfn, PrototypeState, PteState, Slot, TransitionPte,
    ValidPte,
};

use super::host::Host;
use super::machine::{Contents, Machine};
use crate::AddressSpaceId;
use crate::frames::entry::{FrameFlags, NOWHERE};
use crate::frames::{FrameUse, PageLocation};
use crate::inspect::{FrameView, SpaceView};
use crate::platform::Irql;
use crate::tables::EntryRef;
use crate::vad::Secured;
use crate::working_set::header::HEADER_WORDS;

/// The root, the tables and directories down to hyperspace, and the first page of the list.
fn frames_of_new_space<M: PagingMode>() -> u64 {
    match M::LEVELS {
        2 => 3,
        3 => 7,
        _ => 5,
    }
}

/// What the page tables say about frames and slots.
#[derive(Default)]
struct Findings {
    /// Valid entries that map each frame.
    mappings: BTreeMap<Pfn, u32>,
    /// Valid and transition entries inside each table.
    inside: BTreeMap<Pfn, u32>,
    /// The entry that names each frame in transition form.
    transitions: BTreeMap<Pfn, EntryRef>,
    /// Owners of each slot.
    slots: BTreeMap<(PagingFileNumber, u32), u32>,
    /// Pages that are valid, with the addresses working-set entries name them by.
    resident: BTreeSet<u64>,
    /// Tables that belong to users.
    tables: BTreeSet<Pfn>,
    /// Whether they are of the space that prototypes lie in.
    of_system_space: bool,
}

impl<M: PagingMode> Host<M> {
    /// Checks everything that must hold whenever no call is inside the manager.
    pub fn audit(&self) {
        assert_eq!(self.machine().irql(), Irql::PASSIVE);
        assert!(!self.manager.any_lock_held());
        self.audit_lists();
        self.audit_counts();
        self.audit_memory();
        self.audit_slots_and_tables();
        self.audit_commitment();
    }

    /// Checks moreover that nothing is under way.
    pub fn audit_at_rest(&self) {
        self.audit();
        let figures = self.manager.memory_figures();
        assert_eq!(figures.reserved, 0, "reservations were given back");
        assert_eq!(self.manager.read_holders(), 0, "no operation holds a read");
        self.manager.for_each_transfer_frame(|pfn, _| panic!("{pfn:?} is still in a transfer"));
        self.manager.for_each_flush_frame(|pfn| panic!("{pfn:?} still waits for a flush"));
        for space in self.manager.spaces() {
            assert!(!space.address_creation_is_owned(), "address creation was given up");
        }
    }

    fn audit_lists(&self) {
        let figures = self.manager.memory_figures();
        let mut on_lists = 0;
        for location in PageLocation::ALL.into_iter().filter(|location| location.is_list()) {
            let listed = self.list(location);
            let total = match location {
                PageLocation::Zeroed => figures.zeroed,
                PageLocation::Free => figures.free,
                PageLocation::Standby => figures.standby,
                PageLocation::Modified => figures.modified,
                PageLocation::ModifiedNoWrite => figures.modified_no_write,
                _ => figures.bad,
            };
            assert_eq!(listed.len() as u32, total, "total of the {} list", location.name());
            for &pfn in &listed {
                assert_eq!(self.location(pfn), location, "{pfn:?} is on the list");
            }
            let there = self.manager.frame_views().filter(|view| view.location == location);
            assert_eq!(there.count() as u32, total, "frames that are {}", location.name());
            on_lists += total;
            if matches!(location, PageLocation::Zeroed | PageLocation::Free) {
                let mut colored = Vec::new();
                for number in 0..self.manager.color_count() {
                    for pfn in self.manager.color_frames(location, self.manager.color(number)) {
                        assert_eq!(pfn.get() & (self.manager.color_count() - 1), number);
                        colored.push(pfn);
                    }
                }
                colored.sort_unstable();
                let mut listed = listed;
                listed.sort_unstable();
                assert_eq!(colored, listed, "colour chains of the {} list", location.name());
            }
            if location == PageLocation::Zeroed {
                for pfn in self.list(location) {
                    assert!(self.machine().contents(pfn).iter().all(|&word| word == 0));
                }
            }
        }
        assert_eq!(figures.available, figures.zeroed + figures.free + figures.standby);
        let off_lists = self.manager.frame_views().filter(|view| !view.location.is_list()).count();
        assert_eq!(on_lists as usize + off_lists, self.manager.frame_views().count());
    }

    fn audit_counts(&self) {
        for view in self.manager.frame_views().filter(|view| view.usage != FrameUse::Absent) {
            assert!(!view.locked, "{view:?}");
            let (share, references) = (view.share, view.references);
            match view.location {
                PageLocation::Active => assert!(share >= 1 && references >= 1, "{view:?}"),
                PageLocation::Transition => assert!(share == 0 && references >= 1, "{view:?}"),
                _ => assert!(references == 0, "{view:?}"),
            }
        }
    }

    /// What is lent is counted; a frame that is to leave is not available.
    fn audit_memory(&self) {
        let figures = self.manager.memory_figures();
        let lent = self.manager.frame_views().filter(|view| view.usage != FrameUse::Absent);
        assert_eq!(lent.count() as u32, figures.lent, "frames lent");
        for view in self.manager.frame_views() {
            if view.flags.contains(FrameFlags::REMOVAL_REQUESTED) {
                assert!(!view.location.is_available(), "{view:?}");
            }
        }
    }

    fn audit_slots_and_tables(&self) {
        let mut findings = Findings::default();
        for space in self.manager.spaces() {
            let of_system_space = self.manager.system_space() == Some(space.space());
            let mut of_space = Findings { of_system_space, ..Findings::default() };
            self.look_into(&mut of_space, space.root(), M::TOP, 0, &mut BTreeSet::new());
            self.audit_working_set(space.space(), &of_space);
            *of_space.mappings.entry(space.root()).or_default() += 1;
            for (pfn, count) in of_space.mappings {
                *findings.mappings.entry(pfn).or_default() += count;
            }
            for (slot, count) in of_space.slots {
                *findings.slots.entry(slot).or_default() += count;
            }
            findings.inside.extend(of_space.inside);
            findings.transitions.extend(of_space.transitions);
            findings.tables.extend(of_space.tables);
        }
        for (&pfn, &entry) in &findings.transitions {
            let view = self.view(pfn);
            assert_eq!(view.container, entry, "{view:?} is named by {entry:?}");
            assert!(!view.flags.contains(FrameFlags::DELETED), "{view:?}");
        }
        for view in self.manager.frame_views() {
            self.audit_owned_frame(&findings, view);
            let holds_slot = matches!(
                view.location,
                PageLocation::Active
                    | PageLocation::Transition
                    | PageLocation::Standby
                    | PageLocation::Modified
                    | PageLocation::ModifiedNoWrite
            );
            let pageable = matches!(
                view.usage,
                FrameUse::Private | FrameUse::PageTable | FrameUse::Section | FrameUse::Prototypes
            );
            if holds_slot && pageable {
                self.note_slot(&mut findings, view.original);
            }
        }
        for file in self.manager.paging_file_figures() {
            let number = PagingFileNumber::new(file.number).expect("below sixteen");
            let owned: Vec<_> = findings.slots.iter().filter(|owned| owned.0.0 == number).collect();
            for ((_, slot), owners) in &owned {
                assert_eq!(**owners, 1, "owners of slot {slot}");
                assert!(self.manager.paging_slot_is_used(number, *slot), "slot {slot} is marked");
            }
            assert_eq!(file.in_use.get() as usize, owned.len(), "slots in use");
            assert_eq!(u64::from(self.manager.paging_slots_marked(number)), file.in_use.get() + 1);
        }
    }

    fn audit_owned_frame(&self, findings: &Findings, view: FrameView) {
        let mappings = findings.mappings.get(&view.pfn).copied().unwrap_or(0);
        let inside = findings.inside.get(&view.pfn).copied().unwrap_or(0);
        match view.usage {
            FrameUse::Private
            | FrameUse::PageTable
            | FrameUse::Root
            | FrameUse::WorkingSetList
            | FrameUse::Section
            | FrameUse::Prototypes => {
                if !view.location.is_list() {
                    assert_eq!(view.share, mappings + inside, "{view:?}: {mappings} + {inside}");
                }
            }
            FrameUse::VadNode
            | FrameUse::Manager
            | FrameUse::PagingFileBitmap
            | FrameUse::SectionRecords => {
                assert_eq!((view.share, view.references), (1, 1), "{view:?}");
            }
            FrameUse::LargePage => {
                assert_eq!((view.share, view.references), (1, 1), "{view:?}");
                assert_eq!(view.location, PageLocation::Active, "{view:?}");
                assert_eq!(mappings, 1, "{view:?} is part of one large page");
            }
            FrameUse::UserPhysical if view.flags.contains(FrameFlags::DELETED) => {
                assert_eq!((view.share, mappings), (0, 0), "{view:?} waits for a flush");
            }
            FrameUse::UserPhysical => {
                assert_eq!((view.share, view.references), (1 + mappings, 1), "{view:?}");
                assert_eq!(view.container.table == NOWHERE, mappings == 0, "{view:?}");
                assert!(mappings <= 1, "{view:?} is mapped once");
            }
            FrameUse::None | FrameUse::Absent => assert_eq!(mappings, 0, "{view:?}"),
        }
        // A table that was read but not used yet does not know its count.
        let counted = view.location == PageLocation::Active || view.used_entries != 0;
        if counted && findings.tables.contains(&view.pfn) {
            let used = self.entries_of(&self.machine().contents(view.pfn));
            let used = used.iter().filter(|&&word| word != 0).count();
            assert_eq!(usize::from(view.used_entries), used, "used entries of {view:?}");
        }
    }

    /// Entries of a table whose page holds `contents`.
    fn entries_of(&self, contents: &Contents) -> Vec<u64> {
        if M::ENTRY_BYTES == 8 {
            return contents.clone();
        }
        contents.iter().flat_map(|&pair| [pair & 0xFFFF_FFFF, pair >> 32]).collect()
    }

    fn note_slot(&self, findings: &mut Findings, word: u64) {
        if let Some((file, offset)) = M::page_file_location(word) {
            *findings.slots.entry((file, offset.get())).or_default() += 1;
        }
    }

    /// The slots owned by entries of a table that is in a paging file.
    fn look_into_file(&self, findings: &mut Findings, word: u64, level: Level) {
        let contents = self.copy_in_file(word).expect("the table was written");
        for word in self.entries_of(&contents) {
            assert!(!M::is_valid(word) && !M::is_transition(word));
            self.note_slot(findings, word);
            if let Some(below) = level.down().filter(|_| M::is_page_file(word)) {
                self.look_into_file(findings, word, below);
            }
        }
    }

    fn look_into(
        &self,
        findings: &mut Findings,
        table: Pfn,
        level: Level,
        base: u64,
        seen: &mut BTreeSet<Pfn>,
    ) {
        assert!(seen.insert(table), "{table:?} is in the tree of tables once");
        let contents = self.machine().contents(table);
        let entries = self.entries_of(&contents);
        let count = if level == M::TOP { M::TOP_ENTRIES } else { M::ENTRIES };
        for (number, &word) in entries.iter().take(count).enumerate() {
            let va = base + ((number as u64) << M::shift(level));
            let entry = EntryRef { table, slot: Slot::from_low_bits(number as u64) };
            self.look_at(findings, entry, word, level, va, seen);
        }
    }

    fn look_at(
        &self,
        findings: &mut Findings,
        entry: EntryRef,
        word: u64,
        level: Level,
        va: u64,
        seen: &mut BTreeSet<Pfn>,
    ) {
        let va_of = M::canonical(va);
        let self_map = M::SELF_MAP_ADDRESS.get();
        let is_self_map = level == M::SELF_MAP_LEVEL && {
            let at = M::entry_address(va_of, level).get();
            (self_map..self_map + (M::SELF_MAP_ENTRIES * M::ENTRY_BYTES) as u64).contains(&at)
        };
        if level == Level::Directory && M::is_user(va_of) && M::is_of_large_page(word) {
            *findings.inside.entry(entry.table).or_default() += 1;
            self.look_at_large(findings, entry, word, va);
            return;
        }
        match M::decode(word) {
            PteState::Zero | PteState::DemandZero { .. } => {}
            PteState::Valid(valid) => {
                *findings.mappings.entry(valid.pfn).or_default() += 1;
                *findings.inside.entry(entry.table).or_default() += 1;
                let view = self.view(valid.pfn);
                assert!(matches!(view.location, PageLocation::Active), "{va_of:?} maps {view:?}");
                if is_self_map {
                    return;
                }
                if view.usage == FrameUse::Section {
                    let prototype = self.manager.raw_entry(view.container);
                    assert!(M::is_valid(prototype) && M::valid_pfn(prototype) == view.pfn);
                    findings.resident.insert(va_of.vpn().get());
                    return;
                }
                assert_eq!(view.container, entry, "{va_of:?} maps {view:?}");
                match level.down() {
                    // A page of a window is in no working set.
                    None if view.usage == FrameUse::UserPhysical => {
                        assert!(M::is_user(va_of), "{va_of:?} maps {view:?}");
                    }
                    None => {
                        findings.resident.insert(va_of.vpn().get());
                        match view.usage {
                            FrameUse::Private | FrameUse::WorkingSetList => {}
                            FrameUse::Prototypes => self.look_at_prototypes(findings, valid.pfn),
                            _ => panic!("{va_of:?} maps {view:?}"),
                        }
                    }
                    Some(below) => {
                        if M::is_user(va_of) && level <= M::SELF_MAP_LEVEL {
                            findings.tables.insert(valid.pfn);
                        }
                        self.look_into(findings, valid.pfn, below, va, seen);
                    }
                }
            }
            PteState::Transition(transition) => {
                *findings.inside.entry(entry.table).or_default() += 1;
                findings.transitions.insert(transition.pfn, entry);
                let view = self.view(transition.pfn);
                assert!(
                    !matches!(view.location, PageLocation::Zeroed | PageLocation::Free),
                    "{va_of:?} names {view:?}"
                );
                let unread = FrameFlags::READ_IN_PROGRESS | FrameFlags::IN_PAGE_ERROR;
                match level.down() {
                    None if view.usage != FrameUse::Prototypes => {}
                    None if view.flags.intersects(unread) => {
                        self.look_at_prototypes_in_file(findings, view.original);
                    }
                    None => self.look_at_prototypes(findings, transition.pfn),
                    Some(below) if view.flags.intersects(unread) => {
                        self.look_into_file(findings, view.original, below);
                    }
                    Some(below) => {
                        findings.tables.insert(transition.pfn);
                        self.look_into(findings, transition.pfn, below, va, seen);
                    }
                }
            }
            PteState::PageFile { .. } => {
                self.note_slot(findings, word);
                match level.down() {
                    Some(below) => self.look_into_file(findings, word, below),
                    None if findings.of_system_space => {
                        self.look_at_prototypes_in_file(findings, word);
                    }
                    None => {}
                }
            }
            PteState::PrototypeLookup { .. } => assert!(M::is_user(va_of), "{va_of:?}"),
            other => panic!("{va_of:?} holds {other:?}"),
        }
    }

    /// A page of prototype entries.
    fn look_at_prototypes(&self, findings: &mut Findings, page: Pfn) {
        let contents = self.machine().contents(page);
        for (number, &word) in self.entries_of(&contents).iter().enumerate() {
            let entry = EntryRef { table: page, slot: Slot::from_low_bits(number as u64) };
            match M::decode_prototype(word) {
                PrototypeState::Valid(ValidPte { pfn, .. }) => {
                    *findings.inside.entry(page).or_default() += 1;
                    let view = self.view(pfn);
                    assert_eq!((view.usage, view.container), (FrameUse::Section, entry));
                    assert_eq!(view.location, PageLocation::Active, "{view:?}");
                }
                PrototypeState::Transition(TransitionPte { pfn, .. }) => {
                    *findings.inside.entry(page).or_default() += 1;
                    findings.transitions.insert(pfn, entry);
                    assert_eq!(self.view(pfn).usage, FrameUse::Section);
                }
                PrototypeState::PageFile { .. } => self.note_slot(findings, word),
                PrototypeState::Zero
                | PrototypeState::DemandZero { .. }
                | PrototypeState::Subsection { .. } => {}
            }
        }
    }

    /// The slots owned by a page of prototypes that is in a paging file.
    fn look_at_prototypes_in_file(&self, findings: &mut Findings, word: u64) {
        let contents = self.copy_in_file(word).expect("the page was written");
        for word in self.entries_of(&contents) {
            assert!(!M::is_valid(word) && !M::is_transition(word));
            self.note_slot(findings, word);
        }
    }

    /// All frames of a large page are its own; of one that is not mapped, any.
    fn look_at_large(&self, findings: &mut Findings, entry: EntryRef, word: u64, va: u64) {
        let valid = M::is_valid(word);
        let first = if valid { M::valid_pfn(word) } else { M::transition_pfn(word) };
        assert!(
            !valid || (first.get() as usize).is_multiple_of(M::ENTRIES),
            "{va:#x} maps {word:#x}"
        );
        let run = (first.get()..first.get() + M::ENTRIES as u32).map(Pfn::new);
        for view in run.filter_map(|pfn| self.manager.frame_view(pfn)) {
            let own = view.usage == FrameUse::LargePage && view.container == entry;
            assert!(own || !valid, "{va:#x} maps {view:?}");
            if own {
                *findings.mappings.entry(view.pfn).or_default() += 1;
            }
        }
    }

    /// Every resident page has one entry, every entry a resident page, and free entries are a
    /// list of all the others.
    fn audit_working_set(&self, space: AddressSpaceId, findings: &Findings) {
        let view = self.manager.space_view(space).expect("it lives");
        let header = view.header();
        let mut pages = BTreeSet::new();
        for index in 0..view.entries() {
            let entry = view.entry(index);
            if !entry.is_valid() {
                continue;
            }
            assert!(index <= header.last_entry(), "entry {index} lies behind LastEntry");
            assert!(pages.insert(entry.page()), "{:?} has two entries", entry.page());
            let locked = index < header.first_dynamic();
            assert_eq!(entry.is_locked(), locked, "entry {index} and FirstDynamic");
            let va = M::va_of_vpn(entry.page());
            let at = view.find_entry(va, Level::Table).expect("its tables are valid");
            let word = self.manager.raw_entry(at);
            assert!(M::is_valid(word), "entry {index} names {va:?}, which holds {word:#x}");
            if entry.is_direct() {
                assert_eq!(self.view(M::valid_pfn(word)).u1, index, "index of {va:?}");
            }
        }
        assert_eq!(pages.len() as u32, header.size(), "size of the working set");
        assert!(header.size() <= header.peak());
        let mut free = Vec::new();
        let mut next = (header.first_free() != u32::MAX).then(|| header.first_free());
        while let Some(index) = next {
            assert!(free.len() < view.entries() as usize, "the free entries form a ring");
            assert!(!view.entry(index).is_valid(), "entry {index} is on the free list");
            free.push(index);
            next = view.entry(index).next_free();
        }
        assert_eq!(free.len() as u32 + header.size(), view.entries());
        for &page in &findings.resident {
            assert!(pages.contains(&ntmm_pte::Vpn::new(page)), "page {page:#x} has an entry");
        }
        let tables = pages.iter().filter(|page| {
            let va = M::va_of_vpn(**page);
            M::is_page_table_address(va)
        });
        assert_eq!(pages.len(), findings.resident.len() + tables.count());
    }

    /// A secured range lies in one descriptor, which knows how many it has.
    fn audit_secured_ranges(&self, space: &SpaceView<'_, Machine<M>>) {
        let mut ranges = Vec::new();
        space.for_each_secured_range(|range| ranges.push(range));
        if space.is_being_deleted() {
            return;
        }
        let mut housed = 0;
        space.for_each_vad(|vad| {
            let inside = ranges.iter().filter(|range| vad.start <= range.start);
            let secured = match inside.filter(|range| range.end <= vad.end).count() {
                0 => Secured::No,
                1 => Secured::One,
                _ => Secured::Multiple,
            };
            assert_eq!(vad.attributes.secured, secured, "{vad:?}");
            housed += ranges
                .iter()
                .filter(|range| vad.start <= range.start && range.end <= vad.end)
                .count();
        });
        assert_eq!(housed, ranges.len(), "ranges of {:?}", space.space());
    }

    fn audit_commitment(&self) {
        let mut committed = 0;
        for space in self.manager.spaces() {
            let header = space.header();
            let mut own = frames_of_new_space::<M>();
            own += u64::from((HEADER_WORDS + header.initialized()).div_ceil(512) - 1);
            own += u64::from(header.hash_size() / 512);
            let mut spans = BTreeSet::new();
            let mut bytes = 0;
            space.for_each_vad(|vad| {
                own += vad.attributes.commit_charge.get();
                bytes += (vad.end.get() - vad.start.get() + 1) * ntmm_pte::PAGE_SIZE;
                let mut level = Level::Table;
                while level < M::SELF_MAP_LEVEL {
                    let above = level.up().expect("below the top");
                    let span = M::span(above).to_pages_rounded_down().get();
                    for number in vad.start.get() / span..=vad.end.get() / span {
                        spans.insert((level, number));
                    }
                    level = above;
                }
            });
            own += spans.len() as u64;
            space.for_each_vad_node(|_| own += 1);
            self.audit_secured_ranges(&space);
            assert!(space.check_vads().is_ok());
            assert_eq!(header.commit(), own, "charges of {:?}", space.space());
            let mut pages = 0;
            space.for_each_physical_page(|pfn| {
                let view = self.view(pfn);
                assert_eq!(view.usage, FrameUse::UserPhysical, "{view:?}");
                assert_eq!(Pfn::new(view.u1), space.list(), "{view:?} names its owner");
                pages += 1;
            });
            assert_eq!(pages, header.physical_pages(), "pages of {:?}", space.space());
            let of_all = self.manager.frame_views().filter(|view| {
                view.usage == FrameUse::UserPhysical && Pfn::new(view.u1) == space.list()
            });
            let alive = of_all.filter(|view| !view.flags.contains(FrameFlags::DELETED));
            assert_eq!(alive.count() as u32, pages, "pages of {:?}", space.space());
            committed += u64::from(pages);
            assert_eq!(header.virtual_size(), bytes, "size of {:?}", space.space());
            assert!(header.commit_peak() >= header.commit());
            committed += own;
        }
        let of_files =
            self.manager.frame_views().filter(|view| view.usage == FrameUse::PagingFileBitmap);
        committed += of_files.count() as u64;
        committed += self.manager.section_commit().get();
        let figures = self.manager.memory_figures();
        assert_eq!(figures.committed.get(), committed, "the machine's charges");
        assert!(figures.commit_peak >= figures.committed);
    }
}
