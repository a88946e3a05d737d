//! Which pages a trace touches, gathered into regions.
//!
//! Touched pages that lie less than 16 pages apart (one block of 64 KiB, NT's allocation granularity) belong to one
//! [`Region`]. Regions therefore never share a block, and each can be reserved by itself. [`PageMap`] collects the
//! pages while a trace goes by; [`Regions`] is the finished, sorted list and never changes.

use std::collections::HashMap;
use std::path::Path;

use crate::error::TraceError;
use crate::reader::TraceReader;
use crate::reference::{AccessKind, KindSet, PAGE_SIZE, Reference};

/// Pages in a block of NT's allocation granularity, 64 KiB.
pub const BLOCK_PAGES: u64 = 16;

/// A run of pages from one that a trace touches to another; touched neighbours in it are less than [`BLOCK_PAGES`]
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Number of the first page (address divided by 4096); it is touched.
    pub first_page: u64,
    /// Pages from the first touched one to the last, at least 1.
    pub pages: u64,
    /// How many of them are touched, at least 1.
    pub touched: u64,
    /// All that is ever done to any of them.
    pub kinds: KindSet,
}

impl Region {
    /// Address of the first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.first_page * PAGE_SIZE
    }

    /// Address after the last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end_page() * PAGE_SIZE
    }

    /// Number of the page after the last.
    #[must_use]
    pub const fn end_page(&self) -> u64 {
        self.first_page + self.pages
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pages * PAGE_SIZE
    }
}

/// All regions of a trace, in ascending order, no two in one 64 KiB block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Regions(Vec<Region>);

impl Regions {
    /// Takes a list that keeps the rules (order, distance, counts, addresses in range), or says which one it breaks.
    pub(crate) fn checked(list: Vec<Region>) -> Result<Self, &'static str> {
        let limit = crate::MAX_ADDRESS / PAGE_SIZE + 1;
        let mut free_from = 0;
        for region in &list {
            let end = region.first_page.checked_add(region.pages).filter(|&end| end <= limit);
            let Some(end) = end else {
                return Err("region beyond the address space");
            };
            if region.first_page < free_from {
                return Err("regions out of order or too close");
            }
            if region.touched == 0 || region.touched > region.pages || region.kinds.is_empty() {
                return Err("region's page count");
            }
            free_from = end + BLOCK_PAGES - 1;
        }
        Ok(Regions(list))
    }

    /// The regions in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[Region] {
        &self.0
    }

    /// How many different pages the trace touches.
    #[must_use]
    pub fn touched_pages(&self) -> u64 {
        self.0.iter().map(|region| region.touched).sum()
    }

    /// How many pages must be committed so that every region is, gaps included.
    #[must_use]
    pub fn spanned_pages(&self) -> u64 {
        self.0.iter().map(|region| region.pages).sum()
    }

    /// Index of the region that holds a page.
    #[must_use]
    pub fn find(&self, page: u64) -> Option<usize> {
        let after = self.0.partition_point(|region| region.first_page <= page);
        let index = after.checked_sub(1)?;
        (page < self.0[index].end_page()).then_some(index)
    }
}

/// Collects touched pages and what was done to them.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    blocks: HashMap<u64, [KindSet; BLOCK_PAGES as usize]>,
    /// A direct-mapped cache over `blocks`: page and kinds already noted. Most references hit it.
    recent: Vec<(u64, KindSet)>,
}

const RECENT: usize = 1024;

impl PageMap {
    pub(crate) fn new() -> Self {
        PageMap { blocks: HashMap::new(), recent: vec![(u64::MAX, KindSet::EMPTY); RECENT] }
    }

    /// Notes every page of a reference.
    pub(crate) fn note(&mut self, reference: &Reference) {
        let (first, last) = (reference.first_page(), reference.last_page());
        self.note_page(first, reference.kind);
        if last != first {
            self.note_page(last, reference.kind);
        }
    }

    pub(crate) fn note_page(&mut self, page: u64, kind: AccessKind) {
        let recent = &mut self.recent[page as usize % RECENT];
        if recent.0 == page && recent.1.contains(kind) {
            return;
        }
        let block = self.blocks.entry(page / BLOCK_PAGES).or_default();
        let kinds = &mut block[(page % BLOCK_PAGES) as usize];
        *kinds = kinds.with(kind);
        *recent = (page, *kinds);
    }

    /// Gathers the pages into regions.
    pub(crate) fn regions(&self) -> Regions {
        let mut blocks: Vec<_> = self.blocks.iter().collect();
        blocks.sort_unstable_by_key(|(block, _)| **block);
        let mut list: Vec<Region> = Vec::new();
        for (block, pages) in blocks {
            for (page, &kinds) in (block * BLOCK_PAGES..).zip(pages) {
                if kinds.is_empty() {
                    continue;
                }
                match list.last_mut() {
                    Some(region) if page - region.end_page() < BLOCK_PAGES - 1 => {
                        region.pages = page + 1 - region.first_page;
                        region.touched += 1;
                        region.kinds = region.kinds.union(kinds);
                    }
                    _ => list.push(Region { first_page: page, pages: 1, touched: 1, kinds }),
                }
            }
        }
        Regions(list)
    }
}

/// Says which regions a trace touches: from the header of a compact trace, by one pass over a text trace.
///
/// # Errors
/// Whatever is wrong with the file; for text that includes every line of it.
pub fn scan_regions(path: &Path) -> Result<Regions, TraceError> {
    let mut reader = TraceReader::open(path)?;
    if let Some(header) = reader.header() {
        return Ok(header.regions.clone());
    }
    let mut pages = PageMap::new();
    let mut batch = Vec::new();
    while reader.read_batch(&mut batch)? > 0 {
        for reference in &batch {
            pages.note(reference);
        }
    }
    Ok(pages.regions())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(pages: &[(u64, AccessKind)]) -> Regions {
        let mut map = PageMap::new();
        for &(page, kind) in pages {
            map.note_page(page, kind);
        }
        map.regions()
    }

    #[test]
    fn pages_less_than_a_block_apart_share_a_region() {
        let regions =
            map_of(&[(100, AccessKind::Fetch), (115, AccessKind::Store), (131, AccessKind::Load)]);
        let shapes: Vec<_> = regions
            .as_slice()
            .iter()
            .map(|region| (region.first_page, region.pages, region.touched))
            .collect();
        assert_eq!(shapes, [(100, 16, 2), (131, 1, 1)]);
        assert!(regions.as_slice()[0].kinds.is_executed());
        assert!(regions.as_slice()[0].kinds.is_written());
        assert!(!regions.as_slice()[1].kinds.is_written());
    }

    #[test]
    fn a_kind_noted_after_the_page_was_cached_is_kept() {
        let regions =
            map_of(&[(5, AccessKind::Load), (5, AccessKind::Load), (5, AccessKind::Modify)]);
        assert!(regions.as_slice()[0].kinds.contains(AccessKind::Modify));
        assert!(regions.as_slice()[0].kinds.contains(AccessKind::Load));
    }

    #[test]
    fn regions_that_share_a_block_are_refused() {
        let region = |first_page| Region {
            first_page,
            pages: 1,
            touched: 1,
            kinds: KindSet::EMPTY.with(AccessKind::Load),
        };
        assert!(Regions::checked(vec![region(0), region(16)]).is_ok());
        assert!(Regions::checked(vec![region(0), region(15)]).is_err());
        assert!(Regions::checked(vec![region(16), region(0)]).is_err());
    }

    #[test]
    fn find_names_the_region_of_a_page() {
        let regions =
            map_of(&[(100, AccessKind::Load), (103, AccessKind::Load), (500, AccessKind::Load)]);
        let found: Vec<_> =
            [99, 100, 102, 103, 104, 500, 501].map(|page| regions.find(page)).into();
        assert_eq!(found, [None, Some(0), Some(0), Some(0), None, Some(1), None]);
    }
}
