//! The rules of private memory as a map from page to state: plain and slow, so that it can be
//! read beside the specification.
//!
//! Every page of the address space that belongs to an allocation is in one map, with the
//! allocation it belongs to and its state; a page that is not there is free. Where an allocation
//! begins and ends is found by looking at its pages one after the other. Nothing here comes from
//! the manager: the numbers and the order of checks are those of nt-api 1 to 7 and 17, the bounds
//! of the address space those of nt-internals 1.3. Where the specification leaves something open,
//! the comment says so.
//!
//! | File | Holds |
//! |---|---|
//! | `allocate` | 3: reserve, commit, reset, placeholders |
//! | `free` | 4: decommit, release, placeholders |
//! | `protect` | 5 |
//! | `contents` | 6 with the touches; 3.4, and what pages hold |
//! | `query` | 7, 10 |
//! | `lock` | 8 |
//! | `write_watch` | 17 |

mod allocate;
mod contents;
mod free;
mod lock;
pub(crate) mod numbers;
mod protect;
mod query;
mod write_watch;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::call::{Answer, Call, Handle};
use crate::rules::{Rules, Version};
use numbers::{
    ACCESS_DENIED, INVALID_HANDLE, OBJECT_TYPE_MISMATCH, PAGE, PROCESS_IS_TERMINATING, SHARED_DATA,
    is_mappable,
};

/// Pages a single call may add. Beyond, the map would only grow slow: such a call is not made.
const MOST_PAGES: u64 = 1024;

/// What the pages of one allocation have in common.
#[derive(Clone, Copy, Debug)]
struct Allocation {
    /// AllocationProtect.
    protection: u32,
    kind: Kind,
    placeholder: Placeholder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ordinary,
    WriteWatch,
    AddressWindow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    /// Has nothing to do with one.
    No,
    /// Is one.
    Empty,
    /// Has replaced one.
    Replaced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reserved,
    Committed { protection: u32 },
}

/// A page that is not free.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// Number of its allocation.
    allocation: u32,
    state: State,
    /// It has been written since its watch began.
    written: bool,
    /// It had been written when its protection was last changed (17).
    written_for_good: bool,
    contents: Contents,
    /// The MAP_* bits it is locked by (8).
    locks: u32,
}

/// What is known of what a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// It has not been touched since it was committed.
    Untouched,
    /// What was stored.
    Held,
    /// They were given up (3.4): what was stored, or nothing any more.
    GivenUp,
}

/// What is known of a byte that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// It is there, if the page holds anything.
    Certainly,
    /// The page may have lost it, and hold something since.
    Perhaps,
}

impl Page {
    /// It is committed with this protection, or is given it.
    fn commit(&mut self, protection: u32) {
        self.state = State::Committed { protection };
        if !is_mappable(protection) {
            // 8 does not say so: what cannot be touched is in no working set, where it could be
            // locked.
            self.locks = 0;
        }
    }
}

/// What a call comes to.
pub(crate) enum Verdict {
    /// The answer.
    Answer(Answer),
    /// One of two.
    Open(Box<Open>),
    /// It would add more pages than a map should have. Nothing has changed.
    TooMuch,
}

/// An answer that the rules leave open, since it depends on what the manager needs for itself or
/// on what others do.
pub(crate) struct Open {
    answers: [Answer; 2],
    doubt: Doubt,
}

/// What the answer will decide.
pub(crate) enum Doubt {
    /// Whether these pages hold what they held before it was given up.
    Contents(RangeInclusive<u64>),
    /// Whether the byte at this address is still there.
    Store(u64),
    /// Whether these pages are locked in these ways.
    Locks(RangeInclusive<u64>, u32),
}

/// Which of two answers was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    First,
    Other,
}

impl Open {
    /// Which of them `given` is, which is one of them.
    pub(crate) fn choice(&self, given: &Answer) -> Choice {
        if *given == self.answers[0] { Choice::First } else { Choice::Other }
    }
}

impl Verdict {
    /// The answers that may be given.
    pub(crate) fn answers(&self) -> &[Answer] {
        match self {
            Self::Answer(answer) => std::slice::from_ref(answer),
            Self::Open(open) => &open.answers,
            Self::TooMuch => &[],
        }
    }
}

/// Why a call does not end with success alone.
enum Failure {
    Status(u32),
    TooMuch,
    Open(Box<Open>),
}

impl From<u32> for Failure {
    fn from(status: u32) -> Self {
        Self::Status(status)
    }
}

/// Whether a placeholder is wanted that something has taken the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// What pages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trait {
    /// They are locked.
    Locked,
    /// They hold what was stored.
    Held,
    /// What they held has been given up.
    GivenUp,
}

/// The address space of a process.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    rules: Rules,
    pages: BTreeMap<u64, Page>,
    /// Addresses at which something other than zero was stored.
    stores: BTreeMap<u64, Stored>,
    allocations: Vec<Allocation>,
}

impl Model {
    /// An empty one.
    pub(crate) const fn new(rules: Rules) -> Self {
        Self { rules, pages: BTreeMap::new(), stores: BTreeMap::new(), allocations: Vec::new() }
    }

    /// Makes a call.
    pub(crate) fn call(&mut self, call: &Call) -> Verdict {
        let result = match *call {
            Call::Allocate { handle, base, zero_bits, size, kind, protection } => {
                self.allocate(handle, base, zero_bits, size, kind, protection)
            }
            Call::AllocateExtended { handle, base, size, kind, protection, requirements } => {
                self.allocate_extended(handle, base, size, kind, protection, requirements)
            }
            Call::Free { handle, base, size, kind } => {
                self.free(handle, base, size, kind).map_err(Failure::Status)
            }
            Call::Protect { handle, base, size, protection } => {
                Ok(self.protect(handle, base, size, protection))
            }
            Call::Query { handle, address } => self.query(handle, address).map_err(Failure::Status),
            Call::QueryRegion { handle, address } => {
                self.query_region(handle, address).map_err(Failure::Status)
            }
            Call::GetWriteWatch { handle, flags, base, size, count } => {
                self.get_write_watch(handle, flags, base, size, count).map_err(Failure::Status)
            }
            Call::ResetWriteWatch { handle, base, size } => {
                self.reset_write_watch(handle, base, size).map_err(Failure::Status)
            }
            Call::Lock { handle, base, size, kind, privilege } => {
                self.lock(handle, base, size, kind, privilege)
            }
            Call::Unlock { handle, base, size, kind, privilege } => {
                self.unlock(handle, base, size, kind, privilege).map_err(Failure::Status)
            }
            Call::Flush { handle, base, size } => {
                Ok(Answer::status(self.flush(handle, base, size)))
            }
            Call::Touch { address, how } => self.touch(address, how),
            Call::Squeeze => Ok(self.squeeze()),
        };
        match result {
            Ok(answer) => Verdict::Answer(answer),
            Err(Failure::Status(status)) => Verdict::Answer(Answer::status(status)),
            Err(Failure::TooMuch) => Verdict::TooMuch,
            Err(Failure::Open(open)) => Verdict::Open(open),
        }
    }

    /// Takes note of which of the answers was given.
    pub(crate) fn settle(&mut self, open: &Open, given: &Answer) {
        match (&open.doubt, open.choice(given)) {
            (Doubt::Contents(range), Choice::First) => self.keep(range),
            (Doubt::Store(address), Choice::Other) => self.lose_store(*address),
            (Doubt::Locks(range, locks), Choice::First) => self.add_locks(range, *locks),
            // What is left of the pages remains open; a byte is there still; nothing is locked.
            (Doubt::Contents(_) | Doubt::Locks(..), Choice::Other)
            | (Doubt::Store(_), Choice::First) => {}
        }
    }

    /// Pages that are not free.
    pub(crate) fn size(&self) -> usize {
        self.pages.len()
    }

    /// First and last page of the allocation that `page` or the next page that is not free
    /// belongs to; when none follows, of the last one.
    pub(crate) fn nearest_extent(&self, page: u64) -> Option<(u64, u64)> {
        let above = self.pages.range(page..).next();
        let (&page, _) = above.or_else(|| self.pages.last_key_value())?;
        self.extent(page)
    }

    /// First and last page of the first placeholder from `page` on, or of the first allocation
    /// that has replaced one.
    pub(crate) fn nearest_placeholder(&self, page: u64, replaced: Replaced) -> Option<(u64, u64)> {
        let wanted = match replaced {
            Replaced::Yes => Placeholder::Replaced,
            Replaced::No => Placeholder::Empty,
        };
        let is_wanted = |(_, page): &(&u64, &Page)| {
            self.allocations[page.allocation as usize].placeholder == wanted
        };
        let found = self.pages.range(page..).find(is_wanted);
        let (&page, _) = found.or_else(|| self.pages.iter().find(is_wanted))?;
        self.extent(page)
    }

    /// First and last page of the first run of such pages from `page` on.
    pub(crate) fn nearest_run(&self, page: u64, trait_of: Trait) -> Option<(u64, u64)> {
        let has = |page: &Page| match trait_of {
            Trait::Locked => page.locks != 0,
            Trait::Held => page.contents == Contents::Held,
            Trait::GivenUp => page.contents == Contents::GivenUp,
        };
        let mut found = self.pages.range(page..).chain(self.pages.range(..page));
        let (&first, _) = found.find(|(_, page)| has(page))?;
        let behind = (first + 1..).find(|page| !self.pages.get(page).is_some_and(has))?;
        Some((first, behind - 1))
    }

    /// The first address from `address` on at which something was stored.
    pub(crate) fn nearest_store(&self, address: u64) -> Option<u64> {
        let above = self.stores.range(address..).next();
        above.or_else(|| self.stores.first_key_value()).map(|(address, _)| *address)
    }

    /// The first page of `range` that nothing can be allocated over: one of an allocation, or the
    /// page of shared data, which has a descriptor of its own (nt-internals 12.4).
    fn first_taken(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let allocated = self.pages.range(range.clone()).next().map(|(page, _)| *page);
        let shared = Some(SHARED_DATA / PAGE).filter(|page| range.contains(page));
        allocated.into_iter().chain(shared).min()
    }

    /// The last page of `range` that nothing can be allocated over.
    fn last_taken(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let allocated = self.pages.range(range.clone()).next_back().map(|(page, _)| *page);
        let shared = Some(SHARED_DATA / PAGE).filter(|page| range.contains(page));
        allocated.into_iter().chain(shared).max()
    }

    /// First and last page of the allocation that `page` belongs to.
    fn extent(&self, page: u64) -> Option<(u64, u64)> {
        let allocation = self.pages.get(&page)?.allocation;
        let same = |entry: &(&u64, &Page)| entry.1.allocation == allocation;
        let first = self.pages.range(..=page).rev().take_while(same).last()?.0;
        let last = self.pages.range(page..).take_while(same).last()?.0;
        Some((*first, *last))
    }

    /// The allocation that `page` belongs to.
    fn allocation(&self, page: u64) -> Option<&Allocation> {
        self.pages.get(&page).map(|page| &self.allocations[page.allocation as usize])
    }

    /// Whether all of `range` belongs to the allocation of its first page.
    fn lies_in_one(&self, range: &RangeInclusive<u64>) -> bool {
        self.extent(*range.start()).is_some_and(|(_, last)| last >= *range.end())
    }

    /// Adds an allocation of the pages of `range`, all in the state `state`.
    fn add(&mut self, range: RangeInclusive<u64>, allocation: Allocation, state: State) {
        let number = self.allocations.len() as u32;
        self.allocations.push(allocation);
        let page = Page {
            allocation: number,
            state,
            written: false,
            written_for_good: false,
            contents: Contents::Untouched,
            locks: 0,
        };
        self.pages.extend(range.map(|number| (number, page)));
    }

    /// Makes the pages of `range`, which are part of one allocation, an allocation of their own.
    fn part(&mut self, range: RangeInclusive<u64>) {
        let Some(&allocation) = self.allocation(*range.start()) else { return };
        let number = self.allocations.len() as u32;
        self.allocations.push(allocation);
        for (_, page) in self.pages.range_mut(range) {
            page.allocation = number;
        }
    }
}

impl Rules {
    /// Whether the handle grants PROCESS_VM_OPERATION or the like (0.3 rule 7).
    fn check_handle(&self, handle: Handle) -> Result<(), u32> {
        match handle {
            Handle::Current => Ok(()),
            Handle::WithoutRights => Err(ACCESS_DENIED),
            Handle::Closed => Err(INVALID_HANDLE),
            Handle::NoProcess => Err(OBJECT_TYPE_MISMATCH),
            Handle::Ended => Err(PROCESS_IS_TERMINATING),
        }
    }

    fn is_modern(&self) -> bool {
        self.version == Version::Modern
    }
}

/// The pages that `size` bytes at `base` touch (0.3 rule 6); there is at least one byte.
fn pages_of(base: u64, size: u64) -> RangeInclusive<u64> {
    base / PAGE..=(base + (size - 1)) / PAGE
}

/// First byte and bytes of a range of pages.
fn bytes_of(range: &RangeInclusive<u64>) -> (u64, u64) {
    (range.start() * PAGE, (range.end() - range.start() + 1) * PAGE)
}
