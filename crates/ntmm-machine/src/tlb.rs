//! The translation buffer of a processor that behaves plainly.
//!
//! Two direct-mapped arrays: translations of pages, and the page tables that hold them (the
//! processor's paging-structure cache), so that a miss on a page whose table is known costs one
//! load. Both hold translations of the active address space only and are emptied when another
//! one is activated, as a load of CR3 does without global pages.
//!
//! A translation grants each combination of access and privilege by a bit of its own, so that a
//! hit is two comparisons. Writing is granted only when the walk that filled the entry found or
//! set the Dirty bit: a write through a clean translation goes back to the walker.

use std::cell::Cell;

use ntmm_pte::{AccessKind, Va};

use crate::ram::FrameSlot;
use crate::walker::{Cleanness, PageSize, Privilege, Table, Translation};

const PAGE_ENTRIES: usize = 1024;
const TABLE_ENTRIES: usize = 128;
const NOTHING: u64 = u64::MAX;
/// Distance from a user-mode grant to the same grant in supervisor mode.
const SUPERVISOR_SHIFT: u32 = 3;

/// A set of access and privilege combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grants(u32);

impl Grants {
    /// The one combination.
    #[inline]
    #[must_use]
    pub const fn of(access: AccessKind, privilege: Privilege) -> Self {
        let access = match access {
            AccessKind::Read => 0,
            AccessKind::Write => 1,
            AccessKind::Execute => 2,
        };
        match privilege {
            Privilege::User => Self(1 << access),
            Privilege::Supervisor => Self(1 << (access + SUPERVISOR_SHIFT)),
        }
    }

    /// What a cached translation grants without another walk.
    #[inline]
    #[must_use]
    pub fn from_translation(translation: &Translation) -> Self {
        let rights = translation.rights;
        let mut bits = Self::of(AccessKind::Read, Privilege::Supervisor).0;
        if rights.allow(AccessKind::Write, Privilege::Supervisor)
            && translation.cleanness == Cleanness::Dirty
        {
            bits |= Self::of(AccessKind::Write, Privilege::Supervisor).0;
        }
        if rights.allow(AccessKind::Execute, Privilege::Supervisor) {
            bits |= Self::of(AccessKind::Execute, Privilege::Supervisor).0;
        }
        if rights.allow(AccessKind::Read, Privilege::User) {
            bits |= bits >> SUPERVISOR_SHIFT;
        }
        Self(bits)
    }

    /// Whether `needed` is among these.
    #[inline]
    #[must_use]
    pub const fn include(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct PageEntry {
    page: u64,
    slot: FrameSlot,
    grants: Grants,
}

const NO_PAGE: PageEntry =
    PageEntry { page: NOTHING, slot: FrameSlot::from_index(0), grants: Grants(0) };

#[derive(Clone, Copy, Debug)]
struct TableEntry {
    prefix: u64,
    table: Option<Table>,
}

const NO_TABLE: TableEntry = TableEntry { prefix: NOTHING, table: None };

/// A translation buffer with a paging-structure cache.
#[derive(Debug)]
pub struct Tlb {
    pages: Box<[Cell<PageEntry>; PAGE_ENTRIES]>,
    tables: Box<[Cell<TableEntry>; TABLE_ENTRIES]>,
    /// Set when a fragment of a large page may be held: flushing one address of it has to
    /// remove all of them.
    fragments: Cell<bool>,
    /// Lowest address bit that a page table does not translate.
    table_shift: u32,
}

impl Tlb {
    /// An empty buffer; a page table of the mode translates addresses below bit `table_shift`.
    #[must_use]
    pub fn new(table_shift: u32) -> Self {
        Self {
            pages: Box::new([const { Cell::new(NO_PAGE) }; PAGE_ENTRIES]),
            tables: Box::new([const { Cell::new(NO_TABLE) }; TABLE_ENTRIES]),
            fragments: Cell::new(false),
            table_shift,
        }
    }

    /// The frame behind an address when a translation that grants the access is held.
    #[inline]
    #[must_use]
    pub fn lookup(&self, va: Va, needed: Grants) -> Option<FrameSlot> {
        let page = va.get() >> 12;
        let entry = self.pages[page as usize % PAGE_ENTRIES].get();
        (entry.page == page && entry.grants.include(needed)).then_some(entry.slot)
    }

    /// The page table for an address, when it is held.
    #[inline]
    #[must_use]
    pub fn table(&self, va: Va) -> Option<Table> {
        let prefix = va.get() >> self.table_shift;
        let entry = self.tables[prefix as usize % TABLE_ENTRIES].get();
        if entry.prefix == prefix { entry.table } else { None }
    }

    /// Holds a translation, and the page table it came from when there is one.
    #[inline]
    pub fn fill(&self, va: Va, translation: &Translation, table: Option<Table>) {
        let page = va.get() >> 12;
        let grants = Grants::from_translation(translation);
        self.pages[page as usize % PAGE_ENTRIES].set(PageEntry {
            page,
            slot: translation.slot,
            grants,
        });
        if translation.size == PageSize::Large {
            self.fragments.set(true);
        }
        if table.is_some() {
            let prefix = va.get() >> self.table_shift;
            self.tables[prefix as usize % TABLE_ENTRIES].set(TableEntry { prefix, table });
        }
    }

    /// Forgets what maps an address: its page, small or large, and the table on the way.
    pub fn flush_page(&self, va: Va) {
        let prefix = va.get() >> self.table_shift;
        let table = &self.tables[prefix as usize % TABLE_ENTRIES];
        if table.get().prefix == prefix {
            table.set(NO_TABLE);
        }
        if self.fragments.get() {
            self.flush_all();
            return;
        }
        let page = va.get() >> 12;
        let entry = &self.pages[page as usize % PAGE_ENTRIES];
        if entry.get().page == page {
            entry.set(NO_PAGE);
        }
    }

    /// Forgets everything.
    pub fn flush_all(&self) {
        self.pages.iter().for_each(|entry| entry.set(NO_PAGE));
        self.tables.iter().for_each(|entry| entry.set(NO_TABLE));
        self.fragments.set(false);
    }

    /// The addresses whose held translation, or held page table, lies in a frame. A search.
    pub fn addresses_of(&self, slot: FrameSlot) -> impl Iterator<Item = Va> {
        let pages = self.pages.iter().map(Cell::get);
        let pages = pages
            .filter(move |entry| entry.page != NOTHING && entry.slot == slot)
            .map(|entry| Va::new(entry.page << 12));
        let tables = self.tables.iter().map(Cell::get);
        let tables = tables
            .filter(move |entry| entry.table.is_some_and(|table| table.slot == slot))
            .map(|entry| Va::new(entry.prefix << self.table_shift));
        pages.chain(tables)
    }
}
