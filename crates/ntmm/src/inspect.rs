//! Looking at a manager: everything an auditor, a debugger or a report wants to read, as plain
//! values. Nothing here changes anything or takes a lock, so what is read while processors run
//! is a picture of several moments. Sections are in [`sections`].

pub mod sections;

use ntmm_pte::{Level, Pages, PagingFileNumber, PagingMode, Pfn, PteWord, Va};
use ntmm_sync::frame::{WordIndex, word};

use crate::address_space::AddressSpaceId;
use crate::frames::colors::Color;
use crate::frames::entry::{FrameFlags, FrameState, LOCK as LOCK_OF_FRAME, Links, NO_FRAME};
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::paging_file::file::PagingFileFigures;
use crate::platform::Platform;
use crate::tables::{EntryRef, Walk};
use crate::vad::{SecuredRange, Vad, VadTree};
use crate::working_set::entry::WorkingSetEntry;
use crate::working_set::header::{ADDRESS_CREATION, DELETING, HEADER_WORDS, Header};

/// A PFN entry, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameView {
    /// Frame.
    pub pfn: Pfn,
    /// Where it is.
    pub location: PageLocation,
    /// What it is used for.
    pub usage: FrameUse,
    /// Flags.
    pub flags: FrameFlags,
    /// References.
    pub references: u16,
    /// Share count; a link while the frame is on a list.
    pub share: u32,
    /// Working-set index, transfer or status; a link while the frame is on a list.
    pub u1: u32,
    /// Original entry; colour links while the frame is on the zeroed or free list.
    pub original: u64,
    /// Where the entry of the frame's page lies.
    pub container: EntryRef,
    /// Used entries, when it is a page table.
    pub used_entries: u16,
    /// Whether somebody holds the entry's lock.
    pub locked: bool,
}

/// Page counts of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Frames the host has lent, the manager's own records included.
    pub lent: u32,
    /// Frames of them that a removal is after; the commitment limit is without them.
    pub leaving: u32,
    /// Frames on the zeroed list.
    pub zeroed: u32,
    /// Frames on the free list.
    pub free: u32,
    /// Frames on the standby list.
    pub standby: u32,
    /// Frames on the modified list.
    pub modified: u32,
    /// Frames on the modified-no-write list.
    pub modified_no_write: u32,
    /// Frames on the bad list.
    pub bad: u32,
    /// Available pages (MmAvailablePages).
    pub available: u32,
    /// Available pages that are promised to operations.
    pub reserved: u32,
    /// Charged pages (MmTotalCommittedPages).
    pub committed: Pages,
    /// Commitment limit (MmTotalCommitLimit).
    pub commit_limit: Pages,
    /// Highest charge so far (MmPeakCommitment).
    pub commit_peak: Pages,
}

/// One address space, as its header and list have it.
#[derive(Debug)]
pub struct SpaceView<'m, P: Platform> {
    manager: &'m Manager<P>,
    space: AddressSpaceId,
    list: Pfn,
    header: Header<'m>,
}

impl<'m, P: Platform> SpaceView<'m, P> {
    /// The address space.
    #[must_use]
    pub const fn space(&self) -> AddressSpaceId {
        self.space
    }

    /// The header of its working-set list, with the figures of the space.
    #[must_use]
    pub const fn header(&self) -> Header<'m> {
        self.header
    }

    /// First frame of its working-set list.
    #[must_use]
    pub const fn list(&self) -> Pfn {
        self.list
    }

    /// Frame of its root table.
    #[must_use]
    pub fn root(&self) -> Pfn {
        Pfn::new(self.header.root())
    }

    /// Whether its working-set lock is held.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.manager.space_is_locked(self.space)
    }

    /// Whether an operation owns address creation.
    #[must_use]
    pub fn address_creation_is_owned(&self) -> bool {
        let flags = self.header.view().word(0).load(ntmm_sync::atomic::Ordering::Relaxed);
        flags & ADDRESS_CREATION != 0
    }

    /// Number of entries of the list, free ones included.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.header.initialized()
    }

    /// Entry `index` of the list, below [`SpaceView::entries`].
    #[must_use]
    pub fn entry(&self, index: u32) -> WorkingSetEntry {
        let number = (HEADER_WORDS + index) as usize;
        let frame = match number / 512 {
            0 => self.list,
            page => {
                let at = self.manager.list_entry(self.header, page);
                P::Paging::valid_pfn(self.manager.raw_entry(at))
            }
        };
        let frame = self.manager.platform().frame(frame);
        let value = word(frame, WordIndex::wrapping(number));
        WorkingSetEntry::from_word(value.load(ntmm_sync::atomic::Ordering::Relaxed))
    }

    /// Allocations by address.
    pub fn for_each_vad(&self, visit: impl FnMut(Vad)) {
        let tree: VadTree = VadTree::from_words([self.header.vad_root(), self.header.vad_count()]);
        tree.iter(&self.manager.nodes()).for_each(visit);
    }

    /// Frames of the nodes of the descriptor tree, and of the map of written pages and the table of
    /// secured ranges beside it.
    pub fn for_each_vad_node(&self, mut visit: impl FnMut(Pfn)) {
        let tree: VadTree = VadTree::from_words([self.header.vad_root(), self.header.vad_count()]);
        tree.for_each_node(&self.manager.nodes(), &mut visit);
        self.manager.for_each_watch_frame(self.header, &mut visit);
        self.manager.for_each_secured_frame(self.header, visit);
    }

    /// Secured ranges, in no particular order.
    pub fn for_each_secured_range(&self, visit: impl FnMut(SecuredRange)) {
        self.manager.for_each_secured_range(self.header, visit);
    }

    /// Whether the space is being deleted.
    #[must_use]
    pub fn is_being_deleted(&self) -> bool {
        let flags = self.header.view().word(0).load(ntmm_sync::atomic::Ordering::Relaxed);
        flags & DELETING != 0
    }

    /// Physical pages the process has allocated, from the first of the chain on. Stops after one
    /// more than there should be, should the links form a ring.
    pub fn for_each_physical_page(&self, mut visit: impl FnMut(Pfn)) {
        let mut next = self.header.first_physical();
        for _ in 0..=self.header.physical_pages() {
            let pfn = Pfn::new(next);
            if next == NO_FRAME || !self.manager.frame_exists(pfn) {
                return;
            }
            visit(pfn);
            next = self.manager.entry(pfn).links(Links::Color).0;
        }
    }

    /// Whether the descriptor tree is in order.
    ///
    /// # Errors
    /// The defect found.
    pub fn check_vads(&self) -> Result<(), crate::vad::tree::TreeDefect> {
        let tree: VadTree = VadTree::from_words([self.header.vad_root(), self.header.vad_count()]);
        tree.check(&self.manager.nodes())
    }

    /// The entry of `va` at `level`, if the tables above it are valid.
    #[must_use]
    pub fn find_entry(&self, va: Va, level: Level) -> Option<EntryRef> {
        let mut at = P::Paging::TOP;
        let mut table = self.root();
        while at != level {
            let entry = EntryRef { table, slot: P::Paging::slot(va, at) };
            let value = self.manager.raw_entry(entry);
            let large = at == Level::Directory && P::Paging::is_large(value);
            if !P::Paging::is_valid(value) || large {
                return None;
            }
            table = P::Paging::valid_pfn(value);
            at = at.down()?;
        }
        Some(EntryRef { table, slot: P::Paging::slot(va, level) })
    }
}

impl<P: Platform> Manager<P> {
    /// A frame's entry, decoded; none for a number without an entry.
    #[must_use]
    pub fn frame_view(&self, pfn: Pfn) -> Option<FrameView> {
        self.frame_exists(pfn).then(|| self.decode_frame(pfn))
    }

    #[inline]
    fn decode_frame(&self, pfn: Pfn) -> FrameView {
        let entry = self.entry(pfn);
        let word = entry.state_word().load(ntmm_sync::atomic::Ordering::Acquire);
        let state = FrameState::from_word(word);
        let (table, slot) = entry.container();
        FrameView {
            pfn,
            location: state.location(),
            usage: state.usage(),
            flags: state.flags(),
            references: state.references(),
            share: entry.share(),
            u1: entry.u1(),
            original: entry.original(),
            container: EntryRef { table, slot },
            used_entries: entry.used_entries(),
            locked: word & LOCK_OF_FRAME.mask() != 0,
        }
    }

    /// All entries of the database, absent frames included.
    pub fn frame_views(&self) -> impl Iterator<Item = FrameView> {
        self.frame_numbers().map(|pfn| self.decode_frame(pfn))
    }

    /// Page counts.
    #[must_use]
    pub fn memory_figures(&self) -> MemoryFigures {
        let total = |location| self.lists.total(location);
        MemoryFigures {
            lent: self.memory.lent(),
            leaving: self.memory.leaving(),
            zeroed: total(PageLocation::Zeroed),
            free: total(PageLocation::Free),
            standby: total(PageLocation::Standby),
            modified: total(PageLocation::Modified),
            modified_no_write: total(PageLocation::ModifiedNoWrite),
            bad: total(PageLocation::Bad),
            available: self.available.pages(),
            reserved: self.available.reserved(),
            committed: self.commit.charged(),
            commit_limit: self.commit.limit(),
            commit_peak: self.commit.peak(),
        }
    }

    /// Pages charged for sections and for the tables of their records.
    #[must_use]
    pub fn section_commit(&self) -> Pages {
        Pages::new(self.sections.commit.load(ntmm_sync::atomic::Ordering::Acquire))
    }

    /// The address space that prototype entries lie in, once there has been a section.
    #[must_use]
    pub fn space_of_prototypes(&self) -> Option<AddressSpaceId> {
        self.system_space()
    }

    /// The frames on a list, from its head, as its links have them. Stops after as many frames
    /// as there are, should the links form a ring.
    pub fn list_frames(&self, location: PageLocation) -> impl Iterator<Item = Pfn> {
        self.chain_frames(self.first_of(location), Links::Global)
    }

    /// The frames on a colour chain of the zeroed or free list.
    pub fn color_frames(&self, location: PageLocation, color: Color) -> impl Iterator<Item = Pfn> {
        self.chain_frames(self.first_of_color(location, color), Links::Color)
    }

    /// Number of colours.
    #[must_use]
    pub const fn color_count(&self) -> u32 {
        self.colors.count()
    }

    /// The colour numbered `number`, taken modulo their number.
    #[must_use]
    pub const fn color(&self, number: u32) -> Color {
        self.colors.wrapping(number)
    }

    fn chain_frames(&self, first: Option<Pfn>, links: Links) -> impl Iterator<Item = Pfn> {
        let limit = self.frame_numbers().count();
        core::iter::successors(first, move |&pfn| {
            let (forward, _) = self.entry(pfn).links(links);
            (forward != NO_FRAME && self.frame_exists(Pfn::new(forward))).then(|| Pfn::new(forward))
        })
        .take(limit + 1)
    }

    /// The live address spaces.
    pub fn spaces(&self) -> impl Iterator<Item = SpaceView<'_, P>> {
        self.live_spaces().filter_map(|space| self.space_view(space))
    }

    /// One address space.
    #[must_use]
    pub fn space_view(&self, space: AddressSpaceId) -> Option<SpaceView<'_, P>> {
        let list = self.find_space(space)?;
        Some(SpaceView { manager: self, space, list, header: self.header_at(list) })
    }

    /// The contents of a page-table entry, without the simulator's interference.
    #[must_use]
    pub fn raw_entry(&self, entry: EntryRef) -> u64 {
        use ntmm_pte::PteFormat;
        use ntmm_sync::atomic::Ordering;
        let frame = self.platform().frame(entry.table);
        let slot = entry.slot.index();
        if P::Paging::ENTRY_BYTES == 8 {
            word(frame, WordIndex::wrapping(slot)).load(Ordering::Acquire)
        } else {
            let pair = word(frame, WordIndex::wrapping(slot / 2)).load(Ordering::Acquire);
            (pair >> (32 * (slot % 2))) & 0xFFFF_FFFF
        }
    }

    /// The entry of the page at `va`, if its tables are valid; none in a large page.
    #[must_use]
    pub fn page_entry(&self, space: AddressSpaceId, va: Va) -> Option<EntryRef> {
        match self.walk(self.root(space)?, va, Level::Table) {
            Walk::Found(entry) => Some(entry),
            Walk::Missing { .. } | Walk::Large(_) => None,
        }
    }

    /// Whether any lock of the manager is held; frame locks are not looked at.
    #[must_use]
    pub fn any_lock_held(&self) -> bool {
        self.machine_lock_held() || self.spaces().any(|space| space.is_locked())
    }

    /// Whether a lock is held that belongs neither to a frame nor to an address space.
    #[must_use]
    pub fn machine_lock_held(&self) -> bool {
        self.lists.any_held()
            || self.reads.is_held()
            || self.writes.is_held()
            || self.paging_files.any_held()
            || self.sections.is_held()
    }

    /// Calls `visit` with each frame that a read or write in progress, or completed and still
    /// held, refers to, and whether it is a read.
    pub fn for_each_transfer_frame(&self, mut visit: impl FnMut(Pfn, crate::platform::Direction)) {
        use crate::platform::Direction;
        self.for_each_transfer(&self.reads, |frames, _| {
            frames.iter().for_each(|&pfn| visit(pfn, Direction::Read));
        });
        self.for_each_transfer(&self.writes, |frames, _| {
            frames.iter().for_each(|&pfn| visit(pfn, Direction::Write));
        });
    }

    /// Calls `visit` for each read or write in progress, or completed and still held: its
    /// direction, its frames in file order, and the operations that hold it.
    pub fn for_each_transfer_record(
        &self,
        mut visit: impl FnMut(crate::platform::Direction, &[Pfn], u16),
    ) {
        use crate::platform::Direction;
        self.for_each_transfer(&self.reads, |frames, held| visit(Direction::Read, &frames, held));
        self.for_each_transfer(&self.writes, |frames, held| visit(Direction::Write, &frames, held));
    }

    /// Operations that hold reads, over all reads.
    #[must_use]
    pub fn read_holders(&self) -> u32 {
        let mut holders = 0;
        self.for_each_transfer(&self.reads, |_, held| holders += u32::from(held));
        holders
    }

    /// Calls `visit` with each frame a flush batch refers to.
    pub fn for_each_flush_frame(&self, visit: impl FnMut(Pfn)) {
        self.for_each_flushing_frame(visit);
    }

    /// Figures of the paging files.
    pub fn paging_file_figures(&self) -> impl Iterator<Item = PagingFileFigures> {
        self.paging_files.figures()
    }

    /// Whether a slot of a paging file is marked as used.
    #[must_use]
    pub fn paging_slot_is_used(&self, file: PagingFileNumber, slot: u32) -> bool {
        self.slot_is_used(file, slot)
    }

    /// Which slots of a paging file are marked as used, 64 to a word, slot 0 in the lowest bit
    /// of the first. Bits beyond the end of the file are clear; a file that does not exist has
    /// no words.
    pub fn paging_slot_words(&self, file: PagingFileNumber) -> impl Iterator<Item = u64> {
        self.slot_words(file)
    }

    /// Slots marked as used in a paging file, slot 0 included.
    #[must_use]
    pub fn paging_slots_marked(&self, file: PagingFileNumber) -> u32 {
        self.slots_marked(file)
    }
}
