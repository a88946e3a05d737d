//! Where versions of Windows differ: one table, one row for each profile.
//!
//! Nothing else in this module asks which profile a caller has; it asks for the field of the
//! [`Behaviour`] that the question is about.

use core::fmt;

use super::constants::{
    MEM_COMMIT, MEM_LARGE_PAGES, MEM_PHYSICAL, MEM_RESERVE, MEM_RESET, MEM_RESET_UNDO,
    MEM_TOP_DOWN, MEM_WRITE_WATCH,
};
use super::target::ProcessAccess;
use crate::section::SectionAttributes;
use crate::status::NtStatus;
use crate::virtual_memory::CommitInView;

/// A family of versions that behave alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// NT 5: Windows 2000, XP and Server 2003.
    #[default]
    Legacy,
    /// Windows 10 from 1903 on.
    Modern,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Modern];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }

    /// The profile of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// How its versions behave.
    #[must_use]
    pub const fn behaviour(self) -> &'static Behaviour {
        match self {
            Self::Legacy => &LEGACY,
            Self::Modern => &MODERN,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What versions differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// What a base from 1 to 0xFFFF means, which rounds to zero (nt-api 3.2).
    pub null_page: NullPage,
    /// The answer to 21 zero bits; none when they are a limit like others, below which nothing
    /// fits (2).
    pub twenty_one_zero_bits: Option<NtStatus>,
    /// Bits that an allocation type may have (3.1 row 2).
    pub allocation_types: u32,
    /// The answer to the bits of placeholders in a call that does not know them (3.6).
    pub misplaced_placeholder: NtStatus,
    /// Whether there are placeholders, which the extended calls and the free types are for
    /// (3.6, 4.1 row 1, 4.3).
    pub placeholders: Placeholders,
    /// Whether memory can be prefetched, for which there is a call (20).
    pub prefetching: Prefetching,
    /// The size written back when a whole allocation is decommitted (4.2).
    pub whole_decommit: WholeDecommit,
    /// The answer to a write-copy protection for private memory (5.1 row 10).
    pub private_write_copy: NtStatus,
    /// What is stored as old protection when the pages are not there (5.2).
    pub old_protection: OldProtection,
    /// What it means to be uncached (5.2).
    pub caching: Caching,
    /// The highest information class (7, 1.4).
    pub newest_class: u32,
    /// Rights one of which suffices to ask about memory (7.1 row 5).
    pub query_access: &'static [ProcessAccess],
    /// How a read ends into a buffer that cannot take its first byte (9 row 7).
    pub bad_buffer: NtStatus,
    /// How a copy ends whose destination goes bad after the first byte (9 row 6).
    pub broken_copy: BrokenCopy,
    /// What it does to a stack when its thread makes a page in use a guard page (3.5).
    pub guarded_stack: GuardedStack,
    /// Attributes that a section of an image may have (11.1 row 2).
    pub image_attributes: SectionAttributes,
    /// When MmCreateSection makes the few checks it makes (21.1).
    pub sparse_checks: SparseChecks,
    /// What protection pages of a view may get when they are committed through it (3.3).
    pub commit_in_view: CommitInView,
    /// The answer to large pages in a view of a section that has none; none where they are
    /// ignored (14.1).
    pub view_in_large_pages: Option<NtStatus>,
    /// What two addresses in one view of a data file are (14.9).
    pub one_view: NtStatus,
}

/// When MmCreateSection makes its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseChecks {
    /// Before it dereferences pointers; large pages must be committed, and a file object makes a
    /// section of its data, whatever is asked for.
    BeforePointers,
    /// Behind that; a file object makes no image.
    BehindPointers,
}

/// What a base in the lowest 64 KiB means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullPage {
    /// The address it rounds to.
    Mappable,
    /// An error.
    Refused,
}

/// Whether placeholders exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// Their bits are unknown.
    Unknown,
    /// They do.
    Known,
}

/// Whether there is a call that prefetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetching {
    /// There is none.
    Unknown,
    /// There is.
    Known,
}

/// The size written back by a decommit of size zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeDecommit {
    /// That of the allocation.
    FullSize,
    /// Zero, as it was given.
    Zero,
}

/// What a protect call that finds no committed pages stores as old protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldProtection {
    /// Nothing.
    Unchanged,
    /// PAGE_NOACCESS.
    NoAccess,
}

/// What comes of a stack in which a page that is in use becomes a guard page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedStack {
    /// It is as large as before.
    Unchanged,
    /// It ends above that page.
    EndsAbove,
}

/// What being uncached belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// The protection of a page.
    OfPage,
    /// The allocation: protect calls neither give nor take it.
    OfAllocation,
}

/// How a copy ends whose destination goes bad after the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenCopy {
    /// The status.
    pub status: NtStatus,
    /// What is counted as copied.
    pub count: BrokenCount,
}

/// What a copy that ends early counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenCount {
    /// Nothing.
    Zero,
    /// The bytes in front of the fault.
    Copied,
}

const LEGACY_TYPES: u32 = MEM_COMMIT
    | MEM_RESERVE
    | MEM_RESET
    | MEM_PHYSICAL
    | MEM_TOP_DOWN
    | MEM_WRITE_WATCH
    | MEM_LARGE_PAGES;

const LEGACY: Behaviour = Behaviour {
    null_page: NullPage::Mappable,
    twenty_one_zero_bits: None,
    allocation_types: LEGACY_TYPES,
    misplaced_placeholder: NtStatus::INVALID_PARAMETER_5,
    placeholders: Placeholders::Unknown,
    prefetching: Prefetching::Unknown,
    whole_decommit: WholeDecommit::FullSize,
    private_write_copy: NtStatus::INVALID_PARAMETER_4,
    old_protection: OldProtection::Unchanged,
    caching: Caching::OfPage,
    newest_class: 4,
    query_access: &[ProcessAccess::QUERY_INFORMATION],
    bad_buffer: NtStatus::ACCESS_VIOLATION,
    broken_copy: BrokenCopy { status: NtStatus::ACCESS_VIOLATION, count: BrokenCount::Zero },
    guarded_stack: GuardedStack::Unchanged,
    image_attributes: SectionAttributes::BASED,
    sparse_checks: SparseChecks::BeforePointers,
    commit_in_view: CommitInView::Free,
    view_in_large_pages: None,
    one_view: NtStatus::NOT_SAME_DEVICE,
};

const MODERN: Behaviour = Behaviour {
    null_page: NullPage::Refused,
    twenty_one_zero_bits: Some(NtStatus::INVALID_PARAMETER),
    allocation_types: LEGACY_TYPES | MEM_RESET_UNDO,
    misplaced_placeholder: NtStatus::INVALID_PARAMETER,
    placeholders: Placeholders::Known,
    prefetching: Prefetching::Known,
    whole_decommit: WholeDecommit::Zero,
    private_write_copy: NtStatus::INVALID_PAGE_PROTECTION,
    old_protection: OldProtection::NoAccess,
    caching: Caching::OfAllocation,
    newest_class: 10,
    query_access: &[ProcessAccess::QUERY_INFORMATION, ProcessAccess::QUERY_LIMITED_INFORMATION],
    bad_buffer: NtStatus::PARTIAL_COPY,
    broken_copy: BrokenCopy { status: NtStatus::PARTIAL_COPY, count: BrokenCount::Copied },
    guarded_stack: GuardedStack::EndsAbove,
    image_attributes: SectionAttributes::BASED.union(SectionAttributes::NO_CACHE),
    sparse_checks: SparseChecks::BehindPointers,
    commit_in_view: CommitInView::Bounded,
    view_in_large_pages: Some(NtStatus::INVALID_PARAMETER),
    one_view: NtStatus::SUCCESS,
};
