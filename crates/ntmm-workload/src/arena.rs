//! The addresses a workload uses, and what it believes to be there.
//!
//! The arena is cut into slots of 64 pages, each across the border of two page tables, with gaps of
//! some megabytes between them, so that tables come and go like pages. Allocations begin in slots,
//! or near enough to be met from inside. A fence at the arena's end bounds what a query of free
//! address space can report, whatever else lies in the address space.

use crate::request::{
    Exception, Information, MEM_COMMIT, MEM_RESERVE, PAGE_EXECUTE_READWRITE, PAGE_GUARD,
    PAGE_NOACCESS, PAGE_READWRITE,
};

/// First address.
pub const START: u64 = 0x1000_0000;

/// Bytes from [`START`] to the end, fence included.
pub const SIZE: u64 = 64 << 20;

/// Bytes of the fence, the end of the arena: reserved by the first request.
pub const FENCE_SIZE: u64 = 64 << 10;

/// First address of the fence.
pub const FENCE: u64 = START + SIZE - FENCE_SIZE;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Pages on either side of a slot that requests may stray to.
pub const MARGIN: u64 = 16;

/// Pages that can be committed at one time at most.
pub const MOST_PAGES: u64 = SLOTS as u64 * (SLOT_PAGES as u64 + 2 * MARGIN);

/// Requests to no address of the arena lie below this one.
pub const LOW: u64 = 0xD000;

pub(crate) const SLOTS: usize = 16;
pub(crate) const SLOT_PAGES: usize = 64;
const PAGES: usize = SLOTS * SLOT_PAGES;
const STRIDE: u64 = SIZE / SLOTS as u64;

/// First address of a slot.
pub(crate) const fn slot_start(slot: usize) -> u64 {
    START + slot as u64 * STRIDE + STRIDE / 2 - SLOT_PAGES as u64 / 2 * PAGE
}

/// What may be done with a committed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    Nothing,
    Load,
    LoadAndStore,
}

/// What is believed of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Free,
    Reserved,
    Committed(Rights),
    /// Committed; the first access raises an alarm.
    Guarded(Rights),
}

impl Page {
    /// A committed page with these `PAGE_*` flags.
    const fn of_protect(protect: u32) -> Self {
        let rights = match protect & !PAGE_GUARD {
            PAGE_NOACCESS => Rights::Nothing,
            PAGE_READWRITE | PAGE_EXECUTE_READWRITE => Rights::LoadAndStore,
            _ => Rights::Load,
        };
        if protect & PAGE_GUARD == 0 { Self::Committed(rights) } else { Self::Guarded(rights) }
    }

    pub(crate) const fn is_free(self) -> bool {
        matches!(self, Self::Free)
    }

    pub(crate) const fn is_committed(self) -> bool {
        matches!(self, Self::Committed(_) | Self::Guarded(_))
    }
}

/// What a call has done to the pages of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Reserved,
    Committed { protect: u32 },
    Decommitted,
    Released,
}

/// The pages of all slots.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    pages: [Page; PAGES],
}

/// A page of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    /// Below [`SLOT_PAGES`].
    pub(crate) page: usize,
}

impl Place {
    const fn of_index(index: usize) -> Self {
        Self { slot: index / SLOT_PAGES, page: index % SLOT_PAGES }
    }

    const fn index(self) -> usize {
        self.slot * SLOT_PAGES + self.page
    }

    pub(crate) const fn address(self) -> u64 {
        slot_start(self.slot) + self.page as u64 * PAGE
    }

    /// Pages from here to the end of the slot, this one included.
    pub(crate) const fn left(self) -> usize {
        SLOT_PAGES - self.page
    }
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { pages: [Page::Free; PAGES] }
    }

    pub(crate) fn page(&self, place: Place) -> Page {
        self.pages.get(place.index()).copied().unwrap_or(Page::Free)
    }

    fn slot(&self, slot: usize) -> &[Page] {
        self.pages.chunks_exact(SLOT_PAGES).nth(slot).unwrap_or_default()
    }

    /// The first page of the run of like pages around a place.
    pub(crate) fn run_start(&self, place: Place) -> Place {
        let like = |page: &&Page| **page == self.page(place);
        let before = self.slot(place.slot).iter().take(place.page).rev().take_while(like).count();
        Place { page: place.page - before, ..place }
    }

    /// How many like pages follow from a place on, itself included.
    pub(crate) fn run_length(&self, place: Place) -> usize {
        let like = |page: &&Page| **page == self.page(place);
        self.slot(place.slot).iter().skip(place.page).take_while(like).count().max(1)
    }

    /// The first page that suits from a place on, the first `slots` slots taken as a ring.
    pub(crate) fn find(
        &self,
        from: Place,
        slots: usize,
        suits: impl Fn(Page) -> bool,
    ) -> Option<Place> {
        let pages = self.pages.get(..slots * SLOT_PAGES)?;
        let start = from.index();
        (start..pages.len())
            .chain(0..start)
            .find(|index| pages.get(*index).is_some_and(|page| suits(*page)))
            .map(Place::of_index)
    }

    /// A call has succeeded on these pages.
    pub(crate) fn change(&mut self, base: u64, size: u64, change: Change) {
        let end = base.saturating_add(size);
        for (index, page) in self.pages.iter_mut().enumerate() {
            if !(base..end).contains(&Place::of_index(index).address()) {
                continue;
            }
            *page = match change {
                Change::Reserved => Page::Reserved,
                Change::Committed { protect } => Page::of_protect(protect),
                Change::Decommitted if page.is_free() => Page::Free,
                Change::Decommitted => Page::Reserved,
                Change::Released => Page::Free,
            };
        }
    }

    /// A guard page has raised its alarm.
    pub(crate) fn alarmed(&mut self, exception: Exception) {
        let alarmed = |index| exception.address & !(PAGE - 1) == Place::of_index(index).address();
        for (_, page) in self.pages.iter_mut().enumerate().filter(|(index, _)| alarmed(*index)) {
            if let Page::Guarded(rights) = *page {
                *page = Page::Committed(rights);
            }
        }
    }

    /// A query has found this.
    pub(crate) fn found(&mut self, information: Information) {
        let change = match information.state {
            MEM_COMMIT => Change::Committed { protect: information.protect },
            MEM_RESERVE => Change::Reserved,
            _ => Change::Released,
        };
        self.change(information.base, information.size, change);
    }
}
