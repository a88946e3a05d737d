//! One frame's entry in the PFN database (MMPFN, spec 3.1-3.3).
//!
//! 32 bytes, four words. Each field is tagged with what protects it:
//!
//! * **F** the entry's bit lock (level `Frame`);
//! * **L** the lock of the list the frame is on (level `List`), together with F when the frame
//!   joins or leaves the list;
//! * **W** the working-set lock of the owning address space;
//! * **A** atomic: changed by read-modify-write with no lock of this entry.
//!
//! | Word | Bits | Field | Tag | NT |
//! |---|---|---|---|---|
//! | 0 | 0 | lock | A | the PFN lock, split |
//! | 0 | 1-3 | location | F | u3.PageLocation |
//! | 0 | 4-7 | use | F | (implied by PteAddress) |
//! | 0 | 8-17 | flags | F | u3 flags, u4.InPageError |
//! | 0 | 18-19 | cache attribute | F | u3.CacheAttribute |
//! | 0 | 24-39 | reference count | F | u3.ReferenceCount |
//! | 1 | 0-63 | original entry; on free and zeroed lists the colour links | F; L | OriginalPte |
//! | 2 | 0-31 | link forward; working-set index; transfer; status | L; F; F; F | u1 |
//! | 2 | 32-63 | link backward; share count | L; F (A for tables) | u2 |
//! | 3 | 0-31 | containing frame | F | u4.PteFrame |
//! | 3 | 32-41 | slot in the containing frame | F | PteAddress |
//! | 3 | 42-52 | used entries (page tables) | W | UsedPageTableEntries |
//! | 3 | 42 | claimed by a call (physical pages of a process) | W | |
//!
//! Which fields mean something in which state (spec 3.12):
//!
//! | State | u1 | u2 | references | original | containing, slot |
//! |---|---|---|---|---|---|
//! | zeroed, free | link | link | 0 | colour links | - |
//! | standby, modified | link | link | 0 | page-file or demand-zero form | its entry (transition form) |
//! | active | working-set index | share | 1 + locks | as above | its entry (valid) |
//! | being read | transfer | 0 | 1 | page-file form | its entry (transition form) |
//! | being written | working-set index if active | share | 1 + share | page-file form with the new slot | its entry |
//! | in-page error | status | 0 | 1 | page-file form | its entry (transition form) |
//! | part of a large page | 0 | 1 | 1 | demand-zero form with its protection | the directory entry |
//! | physical page of a process | first frame of its owner's list | 1, 2 when mapped | 1 | links of the owner's pages (W) | its entry (valid), or [`NOWHERE`] |

use ntmm_pte::{Pfn, Slot};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::FrameWords;
use ntmm_sync::lock::BitLock;
use ntmm_sync::record::View;

/// Words of an entry.
pub const ENTRY_WORDS: usize = 4;

const _: () = assert!(ENTRY_WORDS * 8 <= 32, "an entry is at most 32 bytes");

/// Entries in one frame of the database.
pub const ENTRIES_PER_FRAME: usize = 512 / ENTRY_WORDS;

/// Where a frame is (spec 3.5, MMLISTS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PageLocation {
    /// On the zeroed list: free and filled with zeroes.
    Zeroed = 0,
    /// On the free list: contents meaningless.
    Free = 1,
    /// On the standby list: clean, its entry is in transition form.
    Standby = 2,
    /// On the modified list: dirty, its entry is in transition form.
    Modified = 3,
    /// On the modified list that the writer leaves alone.
    ModifiedNoWrite = 4,
    /// On the bad list: faulty, or kept aside while its memory is being removed.
    Bad = 5,
    /// Mapped by at least one valid entry, or owned by the manager.
    Active = 6,
    /// Not mapped, but held by a reference: a transfer, a lock, a pending flush.
    Transition = 7,
}

impl PageLocation {
    /// All locations in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Zeroed,
        Self::Free,
        Self::Standby,
        Self::Modified,
        Self::ModifiedNoWrite,
        Self::Bad,
        Self::Active,
        Self::Transition,
    ];

    const fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::Zeroed,
            1 => Self::Free,
            2 => Self::Standby,
            3 => Self::Modified,
            4 => Self::ModifiedNoWrite,
            5 => Self::Bad,
            6 => Self::Active,
            _ => Self::Transition,
        }
    }

    /// Whether frames here are on a list.
    #[must_use]
    pub const fn is_list(self) -> bool {
        (self as u8) <= Self::Bad as u8
    }

    /// Whether frames here count as available (MmAvailablePages).
    #[must_use]
    pub const fn is_available(self) -> bool {
        matches!(self, Self::Zeroed | Self::Free | Self::Standby)
    }

    /// The name of the state in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zeroed => "zeroed",
            Self::Free => "free",
            Self::Standby => "standby",
            Self::Modified => "modified",
            Self::ModifiedNoWrite => "modified-no-write",
            Self::Bad => "bad",
            Self::Active => "active",
            Self::Transition => "transition",
        }
    }
}

/// What a frame is used for. NT reads this off the address in PteAddress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameUse {
    /// Nothing: on the free, zeroed or bad list.
    None = 0,
    /// A private page of a process.
    Private = 1,
    /// A page-table page below the root.
    PageTable = 2,
    /// The root of an address space.
    Root = 3,
    /// A page of a working-set list.
    WorkingSetList = 4,
    /// A node of a VAD tree.
    VadNode = 5,
    /// The PFN database, colour heads and the manager's fixed records.
    Manager = 6,
    /// A page of a paging file's allocation bitmap.
    PagingFileBitmap = 7,
    /// No memory of the manager behind this entry: there is none, or the host has it.
    Absent = 8,
    /// A physical page that a process allocated by itself (AweAllocation).
    UserPhysical = 9,
    /// A part of a large page of a process.
    LargePage = 10,
    /// A page of a section, named by its prototype entry.
    Section = 11,
    /// A page of prototype entries, in the system space.
    Prototypes = 12,
    /// A frame of the tables of sections' records.
    SectionRecords = 13,
}

impl FrameUse {
    const fn from_bits(bits: u64) -> Self {
        match bits & 15 {
            0 => Self::None,
            1 => Self::Private,
            2 => Self::PageTable,
            3 => Self::Root,
            4 => Self::WorkingSetList,
            5 => Self::VadNode,
            6 => Self::Manager,
            7 => Self::PagingFileBitmap,
            9 => Self::UserPhysical,
            10 => Self::LargePage,
            11 => Self::Section,
            12 => Self::Prototypes,
            13 => Self::SectionRecords,
            _ => Self::Absent,
        }
    }
}

bitflags::bitflags! {
    /// Flags of an entry (spec 3.2). Tag F.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FrameFlags: u16 {
        /// The contents exist nowhere else.
        const MODIFIED = 1;
        /// A read into the frame is in progress; u1 names the transfer.
        const READ_IN_PROGRESS = 2;
        /// A write from the frame is in progress.
        const WRITE_IN_PROGRESS = 4;
        /// Mapped through a prototype entry.
        const PROTOTYPE = 8;
        /// The page has been deleted; the frame goes to the free list with its last reference.
        const DELETED = 16;
        /// The read failed; u1 is the status.
        const IN_PAGE_ERROR = 32;
        /// Its memory is being removed: as soon as the page is in its paging file or nowhere,
        /// the frame goes to the bad list. Never on the list of standby pages.
        const REMOVAL_REQUESTED = 64;
        /// A memory error was reported; the frame goes to the bad list.
        const PARITY_ERROR = 128;
        /// The contents were given up: the page is not written, and when the frame is taken it
        /// is one that was never touched. Never together with MODIFIED.
        const RESET = 256;
        /// The page is a copy that was just made on a write, and a processor may still reach what
        /// it is a copy of; see the flush batch that holds the frame.
        const STALE = 512;
    }
}

/// The lock bit of word 0.
pub(crate) const LOCK: BitLock = BitLock::new(0);

/// Word 0 of an entry, without its lock bit, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameState(u64);

impl FrameState {
    const FLAGS_SHIFT: u32 = 8;
    const FLAGS_MASK: u16 = 0x3FF;
    const REFERENCE_SHIFT: u32 = 24;

    /// Interprets word 0.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & !LOCK.mask())
    }

    /// The word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The state of a frame that has just been given a use: active, no flags, no references.
    #[must_use]
    pub const fn taken(usage: FrameUse) -> Self {
        Self(((PageLocation::Active as u64) << 1) | ((usage as u64) << 4))
    }

    /// Where the frame is.
    #[must_use]
    pub const fn location(self) -> PageLocation {
        PageLocation::from_bits(self.0 >> 1)
    }

    /// What it is used for.
    #[must_use]
    pub const fn usage(self) -> FrameUse {
        FrameUse::from_bits(self.0 >> 4)
    }

    /// Its flags.
    #[must_use]
    pub const fn flags(self) -> FrameFlags {
        FrameFlags::from_bits_retain((self.0 >> Self::FLAGS_SHIFT) as u16 & Self::FLAGS_MASK)
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: FrameFlags) -> bool {
        self.flags().contains(flags)
    }

    /// References: one while the share count is above zero, one per transfer, lock or flush.
    #[must_use]
    pub const fn references(self) -> u16 {
        (self.0 >> Self::REFERENCE_SHIFT) as u16
    }

    pub(crate) const fn set_location(&mut self, location: PageLocation) {
        self.0 = (self.0 & !(7 << 1)) | ((location as u64) << 1);
    }

    pub(crate) const fn set_usage(&mut self, usage: FrameUse) {
        self.0 = (self.0 & !(15 << 4)) | ((usage as u64) << 4);
    }

    pub(crate) const fn insert(&mut self, flags: FrameFlags) {
        self.0 |= (flags.bits() as u64) << Self::FLAGS_SHIFT;
    }

    pub(crate) const fn remove(&mut self, flags: FrameFlags) {
        self.0 &= !((flags.bits() as u64) << Self::FLAGS_SHIFT);
    }

    pub(crate) const fn clear_flags(&mut self) {
        self.0 &= !((Self::FLAGS_MASK as u64) << Self::FLAGS_SHIFT);
    }

    pub(crate) const fn set_references(&mut self, count: u16) {
        self.0 = (self.0 & !(0xFFFF << Self::REFERENCE_SHIFT))
            | ((count as u64) << Self::REFERENCE_SHIFT);
    }
}

/// No frame: the end of a list.
pub(crate) const NO_FRAME: u32 = u32::MAX;

/// The container of a physical page of a process that is not mapped.
pub const NOWHERE: Pfn = Pfn::new(NO_FRAME);

/// An entry of the PFN database, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct PfnEntry<'a>(View<'a, ENTRY_WORDS>);

impl<'a> PfnEntry<'a> {
    /// The entry number `index` (below [`ENTRIES_PER_FRAME`]) of a frame of the database.
    #[inline]
    #[must_use]
    pub fn new(frame: &'a FrameWords, index: usize) -> Self {
        Self(View::new(frame, index))
    }

    /// Word 0, where the lock is.
    #[inline]
    #[must_use]
    pub(crate) fn state_word(&self) -> &'a AtomicU64 {
        self.0.word(0)
    }

    /// The state without taking the lock: a hint, or exact while the caller holds the lock and
    /// has not changed its copy.
    #[inline]
    #[must_use]
    pub fn state(&self) -> FrameState {
        FrameState::from_word(self.state_word().load(Ordering::Acquire))
    }

    /// Gives the entry its first contents, before anybody else knows it.
    pub(crate) fn initialize(&self, state: FrameState) {
        self.state_word().store(state.to_word(), Ordering::Release);
    }

    /// The software entry that replaces the frame's entry when the frame is taken away.
    #[inline]
    #[must_use]
    pub fn original(&self) -> u64 {
        self.0.word(1).load(Ordering::Relaxed)
    }

    /// Tag F.
    #[inline]
    pub(crate) fn set_original(&self, word: u64) {
        self.0.word(1).store(word, Ordering::Relaxed);
    }

    /// Number of entries that map the frame; for a page table the valid and transition entries
    /// inside it as well (spec 3.4).
    #[inline]
    #[must_use]
    pub fn share(&self) -> u32 {
        (self.0.word(2).load(Ordering::Relaxed) >> 32) as u32
    }

    /// Adds to the share count; returns the new count. Atomic, because entries of a page table
    /// come and go under other locks than the table's own.
    #[inline]
    pub(crate) fn add_share(&self, count: u32) -> u32 {
        let old = self.0.word(2).fetch_add(u64::from(count) << 32, Ordering::AcqRel);
        (old >> 32) as u32 + count
    }

    /// Takes one from the share count; returns the new count.
    #[inline]
    pub(crate) fn drop_share(&self) -> u32 {
        let old = self.0.word(2).fetch_sub(1 << 32, Ordering::AcqRel);
        ((old >> 32) as u32).wrapping_sub(1)
    }

    /// Takes one from the share count and clears u1; returns the new count. The lock is held, so
    /// u1 stays as it is meanwhile.
    #[inline]
    pub(crate) fn drop_share_and_u1(&self) -> u32 {
        let gone = (1 << 32) | u64::from(self.u1());
        let old = self.0.word(2).fetch_sub(gone, Ordering::AcqRel);
        ((old >> 32) as u32).wrapping_sub(1)
    }

    /// u1: working-set index, transfer or status, by state.
    #[inline]
    #[must_use]
    pub fn u1(&self) -> u32 {
        self.0.word(2).load(Ordering::Relaxed) as u32
    }

    /// Tag F. The share count beside it may change at the same time.
    #[inline]
    pub(crate) fn set_u1(&self, value: u32) {
        let word = self.0.word(2);
        let mut seen = word.load(Ordering::Relaxed);
        while let Err(actual) = word.compare_exchange_weak(
            seen,
            (seen & !0xFFFF_FFFF) | u64::from(value),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            seen = actual;
        }
    }

    /// Sets u1 and the share count of a frame nobody else can reach through an entry yet.
    #[inline]
    pub(crate) fn set_u1_and_share(&self, u1: u32, share: u32) {
        self.0.word(2).store(u64::from(u1) | (u64::from(share) << 32), Ordering::Release);
    }

    /// List links, forward and backward. Tag L.
    #[inline]
    #[must_use]
    pub(crate) fn links(&self, chain: Links) -> (u32, u32) {
        let word = self.0.word(chain as u16).load(Ordering::Relaxed);
        (word as u32, (word >> 32) as u32)
    }

    /// Tag L.
    #[inline]
    pub(crate) fn set_links(&self, chain: Links, forward: u32, backward: u32) {
        self.0
            .word(chain as u16)
            .store(u64::from(forward) | (u64::from(backward) << 32), Ordering::Relaxed);
    }

    /// The frame of the table that holds the entry of this frame, and the slot in it. NT keeps
    /// the entry's address (PteAddress) instead.
    #[inline]
    #[must_use]
    pub fn container(&self) -> (Pfn, Slot) {
        let word = self.0.word(3).load(Ordering::Acquire);
        (Pfn::new(word as u32), Slot::from_low_bits((word >> 32) & 0x3FF))
    }

    /// Tag F; used entries become zero.
    #[inline]
    pub(crate) fn set_container(&self, table: Pfn, slot: Slot) {
        self.0
            .word(3)
            .store(u64::from(table.get()) | (u64::from(slot.get()) << 32), Ordering::Release);
    }

    /// Whether a call that is under way has named this physical page of a process. Tag W.
    #[inline]
    #[must_use]
    pub(crate) fn is_claimed(&self) -> bool {
        self.used_entries() != 0
    }

    /// Claims a physical page of a process for a call. Tag W; the page's next container takes the
    /// claim back.
    #[inline]
    pub(crate) fn claim(&self) {
        self.set_used_entries(1);
    }

    /// Takes a claim back. Tag W.
    #[inline]
    pub(crate) fn disclaim(&self) {
        self.set_used_entries(0);
    }

    /// Nonzero entries of a page table (UsedPageTableEntries). Tag W.
    #[inline]
    #[must_use]
    pub fn used_entries(&self) -> u16 {
        ((self.0.word(3).load(Ordering::Relaxed) >> 42) & 0x7FF) as u16
    }

    /// Tag W. The rest of the word is constant while the frame is a page table in use.
    #[inline]
    pub(crate) fn set_used_entries(&self, count: u16) {
        let word = self.0.word(3);
        let rest = word.load(Ordering::Relaxed) & ((1 << 42) - 1);
        word.store(rest | (u64::from(count) << 42), Ordering::Relaxed);
    }
}

/// Which word of an entry a list uses for its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Links {
    /// The colour lists, and the physical pages of a process: in the place of the original entry.
    Color = 1,
    /// The global lists, in u1 and u2.
    Global = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_fields_do_not_overlap() {
        let mut state = FrameState::taken(FrameUse::Absent);
        for location in PageLocation::ALL {
            state.set_location(location);
            state.set_references(0xABCD);
            state.insert(FrameFlags::all());
            assert_eq!(state.location(), location);
            assert_eq!(state.usage(), FrameUse::Absent);
            assert_eq!(state.flags(), FrameFlags::all());
            assert_eq!(state.references(), 0xABCD);
            state.clear_flags();
            state.set_references(0);
            assert_eq!(state.location(), location);
            assert!(state.flags().is_empty());
        }
    }

    #[test]
    fn container_and_used_entries_share_a_word() {
        let frame: FrameWords = core::array::from_fn(|_| AtomicU64::new(0));
        let entry = PfnEntry::new(&frame, 127);
        entry.set_container(Pfn::new(u32::MAX), Slot::from_low_bits(1023));
        entry.set_used_entries(1024);
        assert_eq!(entry.container(), (Pfn::new(u32::MAX), Slot::from_low_bits(1023)));
        assert_eq!(entry.used_entries(), 1024);
        entry.set_u1_and_share(7, 3);
        assert_eq!(entry.add_share(2), 5);
        entry.set_u1(9);
        assert_eq!((entry.u1(), entry.share(), entry.drop_share()), (9, 5, 4));
    }
}
