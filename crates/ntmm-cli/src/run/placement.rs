//! Where the regions of a trace lie in the simulated process, and the numbers of their pages.
//!
//! Regions stay where they were recorded or move by the rule of `docs/trace-format.md`. Their
//! pages are numbered from 0 on in ascending order without gaps between regions, so that what is
//! kept for each page is found by an index. Immutable once made.

use ntmm_pte::Va;
use ntmm_trace::{AddressWindow, DoesNotFit, PAGE_SIZE, Region, Regions, Relocation};

/// A region and where it lies.
#[derive(Clone, Copy, Debug)]
struct Placed {
    recorded: u64,
    moved: u64,
    pages: u64,
    /// Number of its first page.
    index: u32,
}

/// The regions of a trace in a process.
#[derive(Debug)]
pub struct Placement {
    placed: Vec<Placed>,
    regions: Vec<Region>,
    pages: u32,
}

/// A page of a trace: where it lies and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedPage {
    /// Number of the page at its address.
    pub page: u64,
    /// Number of the page among those of the trace.
    pub index: u32,
}

impl Placement {
    /// Places regions into a window of addresses.
    ///
    /// # Errors
    /// They do not fit.
    pub fn new(regions: &Regions, window: AddressWindow) -> Result<Self, DoesNotFit> {
        let relocation = Relocation::new(regions, window)?;
        let too_large = DoesNotFit {
            needed: regions.spanned_pages().saturating_mul(PAGE_SIZE),
            available: u64::from(u32::MAX) * PAGE_SIZE,
        };
        let pages = u32::try_from(regions.spanned_pages()).map_err(|_| too_large)?;
        let moved: Vec<Region> = relocation.regions().collect();
        let mut index = 0;
        let placed = regions.as_slice().iter().zip(&moved).map(|(recorded, moved)| {
            let placed = Placed {
                recorded: recorded.first_page,
                moved: moved.first_page,
                pages: recorded.pages,
                index,
            };
            index += recorded.pages as u32;
            placed
        });
        Ok(Self { placed: placed.collect(), regions: moved, pages })
    }

    /// The regions where they lie, in ascending order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// How many pages they have.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Where a page lies that was recorded with this number.
    #[must_use]
    pub fn find(&self, recorded: u64) -> Option<PlacedPage> {
        let after = self.placed.partition_point(|region| region.recorded <= recorded);
        let region = self.placed[after.checked_sub(1)?];
        let offset = recorded - region.recorded;
        (offset < region.pages).then(|| PlacedPage {
            page: region.moved + offset,
            index: region.index + offset as u32,
        })
    }

    /// All pages: their addresses and numbers.
    pub fn all_pages(&self) -> impl Iterator<Item = (Va, u32)> {
        self.placed
            .iter()
            .flat_map(|region| region.moved..region.moved + region.pages)
            .map(|page| Va::new(page * PAGE_SIZE))
            .zip(0..)
    }

    /// Whether an address lies in a region.
    #[must_use]
    pub fn contains(&self, va: Va) -> bool {
        self.regions.iter().any(|region| (region.start()..region.end()).contains(&va.get()))
    }
}

/// Lines of a [`Finder`]: a program's code, stack and heap pages alternate at every reference.
const LINES: usize = 512;

/// Finds pages of a placement, fast. Owned by one thread.
#[derive(Debug)]
pub struct Finder<'a> {
    placement: &'a Placement,
    lines: Box<[(u64, PlacedPage); LINES]>,
}

impl<'a> Finder<'a> {
    /// A finder that has found nothing yet.
    #[must_use]
    pub fn new(placement: &'a Placement) -> Self {
        let unused = (u64::MAX, PlacedPage { page: 0, index: 0 });
        Self { placement, lines: Box::new([unused; LINES]) }
    }

    /// Where a page lies that was recorded with this number.
    #[inline]
    pub fn find(&mut self, recorded: u64) -> Option<PlacedPage> {
        let line = &mut self.lines[recorded as usize % LINES];
        if line.0 != recorded {
            *line = (recorded, self.placement.find(recorded)?);
        }
        Some(line.1)
    }
}
