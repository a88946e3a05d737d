//! What can be wrong with a machine: one variant for each way an invariant breaks.

use ntmm::AddressSpaceId;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::platform::Direction;
use ntmm::section::ControlAreaId;
use ntmm::tables::EntryRef;
use ntmm::vad::tree::TreeDefect;
use ntmm_pte::{PagingFileNumber, Pfn, Va};

/// An invariant that does not hold, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// A frame's lock is held though nobody is inside the manager.
    FrameLocked(Pfn),
    /// A list, transfer or paging-file lock is held though nobody is inside.
    LockHeld,
    /// A working-set lock is held though nobody is inside.
    SpaceLocked(AddressSpaceId),
    /// An operation that nobody knows owns address creation.
    AddressCreationOwned(AddressSpaceId),

    /// A frame in a list's chain is not where the list says.
    ListMember {
        /// The list.
        list: PageLocation,
        /// Which of its chains.
        chain: Chain,
        /// The frame.
        pfn: Pfn,
        /// Where the frame is.
        found: PageLocation,
    },
    /// The backward link of a frame in a chain is not its predecessor.
    ListLink {
        /// The list.
        list: PageLocation,
        /// Which of its chains.
        chain: Chain,
        /// The frame.
        pfn: Pfn,
        /// The predecessor.
        expected: Option<Pfn>,
        /// The link; none for the mark of the head.
        found: Option<Pfn>,
    },
    /// A frame is on the chain of another colour than its number's.
    ListColor {
        /// The list.
        list: PageLocation,
        /// The colour of the chain.
        color: u32,
        /// The frame.
        pfn: Pfn,
    },
    /// The chains of a list, its total, and the frames that say they are on it disagree.
    ListTotal {
        /// The list.
        list: PageLocation,
        /// Frames whose location is the list.
        located: u32,
        /// The total kept with the list.
        recorded: u32,
        /// Frames in the global chain.
        chained: u32,
        /// Frames in all colour chains; none for lists without colours.
        colored: Option<u32>,
    },
    /// A frame on the zeroed list does not read as zeroes.
    NotZero {
        /// The frame.
        pfn: Pfn,
        /// Number of the 64-bit word.
        word: usize,
        /// What it holds.
        value: u64,
    },
    /// Available pages are not the totals of the zeroed, free and standby lists.
    Available {
        /// Sum of the totals.
        expected: u32,
        /// Recorded number.
        found: u32,
    },
    /// Pages are reserved though nobody is inside the manager.
    Reserved(u32),

    /// Wrong reference count.
    References(FrameCount),
    /// Wrong share count.
    Share(FrameCount),
    /// A frame is used for what frames at that place are not used for.
    Use {
        /// The frame.
        pfn: Pfn,
        /// Where it is.
        location: PageLocation,
        /// What it is used for.
        usage: FrameUse,
    },
    /// Nothing accounts for a frame in use: it has leaked.
    Unaccounted {
        /// The frame.
        pfn: Pfn,
        /// Where it is.
        location: PageLocation,
        /// What it is used for.
        usage: FrameUse,
    },
    /// Two things account for a frame that only one can own.
    OwnedTwice {
        /// The frame.
        pfn: Pfn,
        /// What it is used for.
        usage: FrameUse,
    },
    /// The number of frames of a fixed use is wrong.
    FixedFrames {
        /// The use.
        usage: FrameUse,
        /// As many as there should be.
        expected: u32,
        /// As many as there are.
        found: u32,
    },
    /// The flag that a transfer is in progress does not agree with the transfers there are.
    TransferFlag {
        /// The frame.
        pfn: Pfn,
        /// The flag of reads or of writes.
        direction: Direction,
        /// Transfers in progress that name the frame.
        expected: u32,
        /// Whether the flag is set.
        flagged: Presence,
    },
    /// The frames of one transfer are not in one state, or a completed read has no holder.
    Transfer {
        /// A frame of it.
        pfn: Pfn,
        /// Its direction.
        direction: Direction,
    },
    /// A transfer record is in use and has no frames.
    EmptyTransfer(Direction),
    /// A frame is on the standby list and modified, or on the modified list and not.
    Dirtiness {
        /// The frame.
        pfn: Pfn,
        /// Where it is.
        location: PageLocation,
    },
    /// A deleted frame is on a list or mapped.
    DeletedInUse {
        /// The frame.
        pfn: Pfn,
        /// Where it is.
        location: PageLocation,
    },
    /// The original entry of a frame has a form it must never have (spec 3.3).
    OriginalForm {
        /// The frame.
        pfn: Pfn,
        /// The word.
        word: u64,
    },
    /// A frame counts as clean though it was not reset, or is being written, and has no slot in a
    /// paging file.
    NoCopy(Pfn),
    /// A frame that has been reset counts as modified too, or holds no page of a program.
    Reset(Pfn),
    /// A modified or reset frame that is not being written keeps a slot with a useless copy.
    StaleCopy {
        /// The frame.
        pfn: Pfn,
        /// The slot.
        slot: u32,
    },

    /// The list of a process's physical pages reaches a frame that is none of them, or whose
    /// backward link is not its predecessor, or has another length than the header says.
    PhysicalList {
        /// Address space.
        space: AddressSpaceId,
        /// The frame; none when the length is wrong.
        pfn: Option<Pfn>,
    },
    /// A physical page of a process that nothing maps says that this entry maps it.
    NotMapped {
        /// The frame.
        pfn: Pfn,
        /// The entry.
        found: EntryRef,
    },
    /// A physical page is claimed though no call of its process is under way.
    Claimed(Pfn),
    /// A window maps a physical page of another process.
    ForeignPage {
        /// The entry.
        place: Place,
        /// The frame.
        pfn: Pfn,
    },

    /// An entry names a frame the database has no entry for, or no memory.
    NoSuchFrame(Place, Pfn),
    /// The frame an entry names says that its entry is another one.
    Container {
        /// The entry.
        place: Place,
        /// The frame it names.
        pfn: Pfn,
        /// The entry the frame names.
        found: EntryRef,
    },
    /// A valid or transition entry names a frame that is not where such an entry's frame is.
    EntryFrame {
        /// The entry.
        place: Place,
        /// The frame it names.
        pfn: Pfn,
        /// The form of the entry.
        form: Form,
        /// Where the frame is.
        location: PageLocation,
        /// What the frame is used for.
        usage: FrameUse,
    },
    /// An entry holds a word that has no business there.
    EntryForm {
        /// The entry.
        place: Place,
        /// The word.
        word: u64,
    },
    /// A page table that is not mapped itself holds a valid or transition entry.
    TrimmedTable {
        /// The entry.
        place: Place,
        /// The word.
        word: u64,
    },
    /// The used entries of a page table are not its nonzero entries.
    UsedEntries {
        /// Address space.
        space: AddressSpaceId,
        /// The table.
        table: Pfn,
        /// Nonzero entries.
        expected: u32,
        /// Recorded number.
        found: u32,
    },
    /// A self-map entry does not name the table it should.
    SelfMap {
        /// The entry.
        place: Place,
        /// The frame it should name.
        expected: Pfn,
        /// The word it holds.
        word: u64,
    },
    /// A page of the working-set list is not where the header says.
    ListPage {
        /// Address space.
        space: AddressSpaceId,
        /// Number of the page; none for the table that maps the list.
        page: Option<u32>,
        /// The frame the header has.
        expected: Pfn,
        /// The frame the tables have.
        found: Option<Pfn>,
    },
    /// A page, or a page table, of user space belongs to no descriptor.
    OutsideVads(Place),

    /// A valid entry of a pageable page has no working-set entry.
    NoWorkingSetEntry {
        /// The entry.
        place: Place,
        /// The frame.
        pfn: Pfn,
        /// The index the frame names.
        index: u32,
    },
    /// A working-set entry is locked, and should not be, or the other way round.
    PermanentEntry {
        /// Address space.
        space: AddressSpaceId,
        /// Its index.
        index: u32,
    },
    /// The free list of a working set reaches an entry that is in use or does not exist.
    FreeEntry {
        /// Address space.
        space: AddressSpaceId,
        /// Its index.
        index: u32,
    },

    /// The descriptor tree of a space is damaged.
    Vads(AddressSpaceId, TreeDefect),
    /// A descriptor leaves the user range or overlaps another.
    VadRange {
        /// Address space.
        space: AddressSpaceId,
        /// Its first address.
        start: Va,
        /// Address of its last page.
        end: Va,
    },
    /// A secured range is in no descriptor, or one of its pages does not give the access; or a
    /// descriptor does not know how many it has.
    Secured {
        /// Address space.
        space: AddressSpaceId,
        /// First address of the range, or of the descriptor.
        start: Va,
    },
    /// The charge of a descriptor is not the number of its committed pages.
    CommitCharge {
        /// Address space.
        space: AddressSpaceId,
        /// First address of the descriptor.
        start: Va,
        /// Committed pages found.
        expected: u64,
        /// Recorded charge.
        found: u64,
    },
    /// A slot of the hash of a working set is not that of an entry it may have, or lies where
    /// nobody looks; or not as many are in use as there are entries in the hash.
    HashSlot {
        /// Address space.
        space: AddressSpaceId,
        /// Its number; none when the number of slots in use is wrong.
        slot: Option<u32>,
    },
    /// More than one working set says that its entry is the one a page's frame names.
    TwoDirect(Pfn),

    /// A valid entry of a view maps another page than its section's.
    NotPrototype {
        /// The entry.
        place: Place,
        /// The frame it names.
        pfn: Pfn,
        /// The prototype of the page; none when that is not in memory.
        prototype: Option<EntryRef>,
        /// The prototype that the frame names.
        found: EntryRef,
    },
    /// A prototype that is not zero belongs to no subsection.
    OutsideSections(Place),
    /// A frame with a page of a section does not say so, or another one does.
    PrototypeFlag(Pfn),
    /// A view or a section object names a control area that is not in use.
    NoControlArea(ControlAreaId),
    /// A subsection does not belong to its control area, does not follow the one before it, or
    /// shares prototypes with another.
    Subsection {
        /// The control area.
        area: ControlAreaId,
        /// Its number there, or its first page.
        number: u64,
    },
    /// A counter of a control area is wrong.
    ControlArea {
        /// The control area.
        area: ControlAreaId,
        /// Which counter.
        figure: AreaFigure,
        /// As it should be.
        expected: u64,
        /// Recorded figure.
        found: u64,
    },
    /// Nothing uses a control area any more, and the dereference engine does not know of it.
    Forgotten(ControlAreaId),
    /// A control area is being deleted though something uses it.
    DeletedArea(ControlAreaId),
    /// Records of sections are neither in use nor free, or both.
    Records {
        /// In use.
        in_use: u32,
        /// In the chain of free ones.
        free: u32,
        /// All there are.
        all: u32,
    },
    /// The pages charged for sections are not those of control areas and tables of records.
    SectionCommit {
        /// Their sum.
        expected: u64,
        /// Recorded figure.
        found: u64,
    },

    /// A figure in the header of an address space is wrong.
    Figure {
        /// Address space.
        space: AddressSpaceId,
        /// Which.
        figure: Figure,
        /// As it should be.
        expected: u64,
        /// Recorded figure.
        found: u64,
    },
    /// The pages charged to the system are not those charged to spaces and paging files.
    SystemCommit {
        /// Sum of what is accounted for, pending charges included.
        expected: u64,
        /// Recorded charge.
        found: u64,
    },

    /// The frames that are lent are not as many as recorded.
    Lent {
        /// Frames that are not absent.
        expected: u32,
        /// Recorded number.
        found: u32,
    },
    /// The commitment limit is not what memory and paging files can keep.
    CommitLimit {
        /// Pages they can keep.
        expected: u64,
        /// Recorded limit.
        found: u64,
    },
    /// A frame that is to be removed is available or nobody is after it, a frame on the bad list
    /// has no reason to be there, or an absent frame is in use.
    Removal {
        /// The frame.
        pfn: Pfn,
        /// Where it is.
        location: PageLocation,
    },

    /// A slot of a paging file is in use by somebody and marked free, or beyond the end.
    SlotNotMarked {
        /// The file.
        file: PagingFileNumber,
        /// The slot.
        slot: u32,
        /// Who uses it.
        owner: SlotOwner,
    },
    /// A slot has two owners.
    SlotOwnedTwice {
        /// The file.
        file: PagingFileNumber,
        /// The slot.
        slot: u32,
        /// The second owner found.
        owner: SlotOwner,
    },
    /// A slot is marked as used and nobody owns it.
    SlotUnowned {
        /// The file.
        file: PagingFileNumber,
        /// The slot.
        slot: u32,
    },
    /// The slots in use of all paging files are not those that have an owner.
    SlotCount {
        /// Owners found.
        owned: u64,
        /// Slots that tables which cannot be read may own at most.
        hidden: u64,
        /// Recorded number.
        found: u64,
    },

    /// Something that was taken since the baseline has not been given back.
    Leak {
        /// What.
        what: &'static str,
        /// At the baseline.
        expected: u64,
        /// Now.
        found: u64,
    },
}

/// A chain of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// All frames of the list.
    Global,
    /// The frames of one colour.
    Color,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

impl Presence {
    /// Of something that is there when `there`.
    pub(super) const fn of(there: bool) -> Self {
        if there { Self::Present } else { Self::Absent }
    }
}

/// A count of a frame that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCount {
    /// The frame.
    pub pfn: Pfn,
    /// Where it is.
    pub location: PageLocation,
    /// What it is used for.
    pub usage: FrameUse,
    /// The count as everything that refers to the frame makes it.
    pub expected: u32,
    /// The count recorded.
    pub found: u32,
}

/// An entry, and what it maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address space.
    pub space: AddressSpaceId,
    /// The entry; for one in a table that is in a paging file, the entry of that table.
    pub entry: EntryRef,
    /// Level of the table, the lowest being 1; 0 for a prototype.
    pub level: u8,
    /// First address the entry maps; of a prototype, where it lies.
    pub va: Va,
}

/// Form of an entry that names a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The hardware may use it.
    Valid,
    /// In memory, not mapped.
    Transition,
}

/// Figures of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Pages in the working set.
    WorkingSetSize,
    /// Entries of the list that exist: those in use and the free ones.
    Entries,
    /// Highest entry in use.
    LastEntry,
    /// First entry that is not permanent.
    FirstDynamic,
    /// Entries that are not direct.
    NonDirect,
    /// Entries that make the self-map.
    SelfMapEntries,
    /// Charged pages.
    Commit,
    /// Bytes of address space.
    VirtualSize,
    /// Private pages in memory and in paging files.
    PrivatePages,
}

/// Counters of a control area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaFigure {
    /// Section objects.
    Sections,
    /// Views.
    Views,
    /// Section objects and views of programs.
    Users,
    /// Frames with pages of its file.
    Frames,
    /// Subsections.
    Subsections,
    /// Prototypes.
    Prototypes,
    /// Committed pages.
    Commitment,
}

/// Who uses a slot of a paging file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOwner {
    /// A page-table entry.
    Entry(Place),
    /// The original entry of a frame.
    Original(Pfn),
}
