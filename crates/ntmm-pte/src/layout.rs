//! The named ranges of an address space (spec 1.3 to 1.5).
//!
//! A mode lists its ranges in [`crate::PagingMode::LAYOUT`], lowest first, without
//! overlap. Holes between them are unused. What a range holds at run time is the
//! business of whoever owns it; the boundaries are fixed.

use crate::Va;

/// What a range of addresses is for.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum RegionUse {
    /// Never allocated, so that null and overrunning pointers fault.
    NoAccess,
    /// Described by the process's VADs.
    User,
    /// The page of times and counters that every process may read, user side.
    SharedUserData,
    /// The same page as the kernel sees it.
    KernelSharedData,
    /// Direct or loader mappings: kernel, drivers, early pool. NT's KSEG0.
    Kseg0,
    /// Views mapped into system space, with session space at its top where there is one.
    SystemViews,
    /// Memory of one session, the same in all of its processes.
    Session,
    /// Page tables, seen through the self-map.
    PageTables,
    /// Mapping slots and the working-set list of one process.
    Hyperspace,
    /// Working-set list of the system cache.
    SystemCacheWorkingSet,
    /// Views of cached files.
    SystemCache,
    /// Pool that may be paged; prototype entries live here.
    PagedPool,
    /// System page-table entries; in i386 and PAE nonpaged pool grows down towards them.
    SystemPtes,
    /// The frame database and nonpaged pool.
    PfnDatabase,
    /// Window for writing a crash dump.
    CrashDump,
    /// One entry by which a debugger maps a page.
    Debugger,
    /// The hardware layer's own mappings and processor control regions.
    Hal,
}

/// A range of addresses with one use.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Region {
    /// What it is for.
    pub kind: RegionUse,
    /// Its first byte.
    pub first: Va,
    /// Its last byte.
    pub last: Va,
}

impl Region {
    /// The range from `first` to `last`, both included.
    pub(crate) const fn new(kind: RegionUse, first: u64, last: u64) -> Self {
        Self { kind, first: Va::new(first), last: Va::new(last) }
    }

    /// Whether `va` lies in the range.
    #[inline]
    pub const fn contains(&self, va: Va) -> bool {
        self.first.get() <= va.get() && va.get() <= self.last.get()
    }
}
