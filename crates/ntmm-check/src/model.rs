//! What memory must look like: the independent model.
//!
//! For each process the model keeps its allocations and, page by page, what may be done there
//! and which bytes are there. It shares no code with the manager. It is told of every call and
//! every access when it has ended, judges how it ended, and takes over its effect.
//!
//! Where the effect is not certain (a call failed half-way because of an injected error, or was
//! abandoned), a page has several possible [versions](page::Version); whatever is observed later
//! rules some of them out, and when none is left the manager is wrong.
//!
//! | File | Holds |
//! |---|---|
//! | [`page`] | versions of a page |
//! | [`calls`] | calls on virtual memory |
//! | [`views`] | sections and views |
//! | [`accesses`] | loads, stores, fetches |

pub(crate) mod accesses;
pub(crate) mod calls;
pub(crate) mod page;
pub(crate) mod views;

use std::collections::BTreeMap;

use ntmm::status::NtStatus;

use crate::operation::Backing;
use crate::rights::{FetchCheck, Rights};
use page::{Page, State, Version};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Pages that a process is charged besides its allocations, at most.
const PROCESS_CHARGE: u64 = 16;

/// Page tables that an allocation is charged at most, besides one for each 512 pages.
const TABLES_CHARGE: u64 = 6;

/// The manager did something else than the model expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The rule that was broken.
    pub(crate) rule: &'static str,
    /// What happened.
    pub(crate) detail: String,
}

pub(crate) fn mismatch<T>(rule: &'static str, detail: String) -> Result<T, Mismatch> {
    Err(Mismatch { rule, detail })
}

/// A run of pages by their numbers in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) pages: u64,
}

impl Range {
    pub(crate) const fn end(self) -> u64 {
        self.first + self.pages
    }

    pub(crate) fn iter(self) -> std::ops::Range<u64> {
        self.first..self.end()
    }
}

/// An allocation (a virtual address descriptor).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    /// Page behind the last one.
    pub(crate) end: u64,
    /// Protection it was made with.
    pub(crate) rights: Rights,
    /// What its pages are unless said otherwise.
    pub(crate) backing: Backing,
}

/// What the outside did that excuses failures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disturbances {
    /// A read has failed.
    pub(crate) failed_reads: bool,
    /// Allocations inside the manager have been made to fail since the call or access began.
    pub(crate) failed_allocations: bool,
}

/// A process's memory.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Allocations by first page.
    allocations: BTreeMap<u64, Allocation>,
    /// Pages that differ from what their allocation says.
    pages: BTreeMap<u64, Page>,
    /// Calls under way: what they may come to charge, and where they may be.
    under_way: BTreeMap<u32, calls::Call>,
    /// Views of sections by first page.
    views: BTreeMap<u64, views::View>,
    /// Pages that parts without prediction may have committed.
    unpredicted: BTreeMap<u64, u64>,
}

/// All processes' memory.
#[derive(Debug)]
pub(crate) struct Model {
    fetches: FetchCheck,
    spaces: BTreeMap<u8, Space>,
    /// Commitment limit of the machine, without what takings back under way are after.
    limit: u64,
    /// The lowest it has been since all threads rested.
    lowest_limit: u64,
    /// Charged before the first process was made.
    charged_at_boot: u64,
    sections: views::Sections,
    /// Processes being deleted: their charges may still be held.
    leaving: BTreeMap<u8, u64>,
    pub(crate) disturbances: Disturbances,
}

impl Model {
    pub(crate) fn new(fetches: FetchCheck, limit: u64, charged_at_boot: u64) -> Self {
        Self {
            fetches,
            spaces: BTreeMap::new(),
            limit,
            lowest_limit: limit,
            charged_at_boot,
            sections: views::Sections::default(),
            leaving: BTreeMap::new(),
            disturbances: Disturbances::default(),
        }
    }

    pub(crate) fn create(&mut self, process: u8) {
        self.spaces.insert(process, Space::default());
    }

    /// The process begins to be deleted.
    pub(crate) fn begin_deletion(&mut self, process: u8) {
        if let Some(space) = self.spaces.remove(&process) {
            self.leaving.insert(process, space.charge_at_most());
        }
    }

    /// The process is gone.
    pub(crate) fn end_deletion(&mut self, process: u8) {
        self.leaving.remove(&process);
    }

    pub(crate) fn space(&mut self, process: u8) -> &mut Space {
        self.spaces.entry(process).or_default()
    }

    /// The machine has got so many pages more.
    pub(crate) fn limit_rises(&mut self, pages: u64) {
        self.limit += pages;
    }

    /// So many pages are, or may be, taken from the machine.
    pub(crate) fn limit_falls(&mut self, pages: u64) {
        self.limit -= pages;
        self.lowest_limit = self.lowest_limit.min(self.limit);
    }

    /// All threads rest, and so many pages are charged for sections.
    pub(crate) fn rests(&mut self, of_sections: u64) {
        self.lowest_limit = self.limit;
        self.sections_rest(of_sections);
    }

    /// Pages that calls under way may have charged and not handed over.
    pub(crate) fn charges_under_way(&self) -> u64 {
        let spaces: u64 = self.spaces.values().map(Space::charges_under_way).sum();
        spaces + self.sections.charges_under_way()
    }

    fn charge_at_most(&self) -> u64 {
        let spaces: u64 = self.spaces.values().map(Space::charge_at_most).sum();
        self.charged_at_boot
            + self.sections.charge_at_most()
            + spaces
            + self.leaving.values().sum::<u64>()
    }

    /// Whether a status that resources excuse is excused now, when `wanted` pages were to be
    /// charged.
    pub(crate) fn excuse(&self, status: NtStatus, wanted: u64) -> Result<(), Mismatch> {
        let Disturbances { failed_reads, failed_allocations } = self.disturbances;
        let at_limit = || self.charge_at_most() + wanted > self.lowest_limit;
        let excused = match status {
            NtStatus::IN_PAGE_ERROR => failed_reads,
            NtStatus::COMMITMENT_LIMIT => failed_allocations || at_limit(),
            NtStatus::INSUFFICIENT_RESOURCES | NtStatus::NO_MEMORY => {
                failed_allocations || at_limit()
            }
            _ => return mismatch("status", format!("{status} is not expected here")),
        };
        if excused {
            return Ok(());
        }
        mismatch(
            "refused",
            format!(
                "{status} without a reason: {wanted} pages wanted, at most {} of {} charged",
                self.charge_at_most(),
                self.lowest_limit
            ),
        )
    }

    /// Checks that no more is committed than the machine promises.
    pub(crate) fn check_limit(&self) -> Result<(), Mismatch> {
        let spaces: u64 = self.spaces.values().map(Space::committed_at_least).sum();
        let committed = spaces + self.sections.committed_at_least();
        if committed <= self.limit {
            return Ok(());
        }
        mismatch("limit", format!("{committed} pages are committed, {} is the limit", self.limit))
    }
}

impl Space {
    /// The allocation a page lies in, with its first page.
    fn allocation_at(&self, page: u64) -> Option<(u64, Allocation)> {
        let (first, allocation) = self.allocations.range(..=page).next_back()?;
        (page < allocation.end).then_some((*first, *allocation))
    }

    /// Whether any allocation overlaps the range.
    pub(crate) fn overlap(&self, range: Range) -> Option<Range> {
        self.allocations
            .range(..range.end())
            .next_back()
            .filter(|(_, allocation)| allocation.end > range.first)
            .map(|(first, allocation)| Range { first: *first, pages: allocation.end - first })
    }

    /// What may be known of a page.
    fn page(&self, page: u64) -> Page {
        if let Some(page) = self.pages.get(&page) {
            return page.clone();
        }
        Page::certain(Version::blank(match self.allocation_at(page) {
            None => State::Free,
            Some((_, allocation)) => match allocation.backing {
                Backing::Reserved => State::Reserved,
                Backing::Committed => State::Committed(allocation.rights),
            },
        }))
    }

    /// The page, to be changed.
    fn page_mut(&mut self, page: u64) -> &mut Page {
        let known = self.page(page);
        self.pages.entry(page).or_insert(known)
    }

    /// Parts of the address space are given up: nothing is predicted there any more, and as
    /// many pages as were allocated may be charged.
    pub(crate) fn give_up(&mut self, range: Range) {
        let mut pages = 0;
        while let Some(found) = self.overlap(range) {
            self.forget_allocation(found);
            pages += found.pages;
        }
        self.may_be_charged(range.first, pages);
    }

    /// A part without prediction may have so many pages committed.
    pub(crate) fn may_be_charged(&mut self, first: u64, pages: u64) {
        let known = self.unpredicted.entry(first).or_default();
        *known = (*known).max(pages);
    }

    fn forget_allocation(&mut self, allocation: Range) {
        self.allocations.remove(&allocation.first);
        self.forget_pages(allocation);
    }

    fn forget_pages(&mut self, range: Range) {
        let gone: Vec<u64> = self.pages.range(range.iter()).map(|(page, _)| *page).collect();
        for page in gone {
            self.pages.remove(&page);
        }
    }

    fn charge_at_most(&self) -> u64 {
        let pages: u64 = self
            .allocations
            .iter()
            .map(|(first, allocation)| {
                let known = self.pages.range(*first..allocation.end);
                let (mut may, mut listed) = (0, 0);
                for (_, page) in known {
                    listed += 1;
                    may += u64::from(page.versions().any(Version::is_committed));
                }
                let pages = allocation.end - first;
                let unlisted = match allocation.backing {
                    Backing::Reserved => 0,
                    Backing::Committed => pages - listed,
                };
                may + unlisted + TABLES_CHARGE + pages / 512
            })
            .sum();
        let unpredicted: u64 =
            self.unpredicted.values().map(|pages| pages + TABLES_CHARGE + pages / 512).sum();
        let views: u64 = self.views.values().map(views::View::charge_at_most).sum();
        PROCESS_CHARGE + pages + views + self.charges_under_way() + unpredicted
    }

    fn charges_under_way(&self) -> u64 {
        self.under_way.values().map(|call| call.charge() + TABLES_CHARGE).sum()
    }

    fn committed_at_least(&self) -> u64 {
        let views: u64 = self.views.values().map(views::View::charge).sum();
        let allocated: u64 = self
            .allocations
            .iter()
            .map(|(first, allocation)| {
                let mut listed = 0;
                let mut sure = 0;
                for (_, page) in self.pages.range(*first..allocation.end) {
                    listed += 1;
                    sure += u64::from(page.versions().all(Version::is_committed));
                }
                sure + match allocation.backing {
                    Backing::Reserved => 0,
                    Backing::Committed => allocation.end - first - listed,
                }
            })
            .sum();
        views + allocated
    }
}
