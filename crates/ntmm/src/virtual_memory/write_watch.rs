//! Which pages of write-watch memory have been written (NtGetWriteWatch, NtResetWriteWatch; API
//! 17).
//!
//! A page counts as written from the first store on, whatever it stored, until its watch is
//! reset. Reset takes the dirty bit out of the entry of a page in memory, after the frame has
//! been told of it, and waits until every processor has forgotten the translation that would let
//! it write without setting the bit again.

use ntmm_pte::{Bytes, PagingMode, PteWord, Va, Vpn};

use super::allocate::Region;
use super::protect::page_range;
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::VadKind;
use crate::working_set::WorkingSetGuard;

/// What becomes of the watch of pages that are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// They stay written.
    Keep,
    /// They count as not written from now on (WRITE_WATCH_FLAG_RESET).
    Reset,
}

/// Reports written pages of a range in ascending order, as many as there is room for, and may
/// reset their watch. Yields their number.
///
/// Raises [`NtStatus::INVALID_PARAMETER_1`] unless the range lies in one allocation of
/// write-watch memory.
#[derive(Debug)]
#[must_use]
pub struct GetWriteWatch<'b> {
    call: Call,
    base: Va,
    size: Bytes,
    watch: Watch,
    pages: &'b mut [u64],
    found: usize,
    walk: Option<RangeWalk>,
}

impl<'b> GetWriteWatch<'b> {
    /// Stores the addresses of written pages among those that `size` bytes at `base` touch into
    /// `pages`.
    pub const fn new(
        space: AddressSpaceId,
        base: Va,
        size: Bytes,
        watch: Watch,
        pages: &'b mut [u64],
    ) -> Self {
        Self { call: Call::new(space), base, size, watch, pages, found: 0, walk: None }
    }
}

/// Resets the watch of all pages of a range. Yields the range in whole pages; raises as
/// [`GetWriteWatch`] does.
#[derive(Debug)]
#[must_use]
pub struct ResetWriteWatch {
    call: Call,
    base: Va,
    size: Bytes,
    walk: Option<RangeWalk>,
}

impl ResetWriteWatch {
    /// Resets the pages that `size` bytes at `base` touch.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        Self { call: Call::new(space), base, size, walk: None }
    }
}

/// The pages of a range that has to lie in one write-watch descriptor.
fn watched_range<P: Platform>(
    set: &WorkingSetGuard<'_, '_, P>,
    base: Va,
    size: Bytes,
) -> Result<RangeWalk, NtStatus> {
    let wrong = NtStatus::INVALID_PARAMETER_1;
    let (start, end) = page_range::<P::Paging>(base, size).ok_or(wrong)?;
    let vad = set.find_vad(start).ok_or(wrong)?;
    if vad.end < end || vad.attributes.kind != VadKind::WriteWatch {
        return Err(wrong);
    }
    Ok(RangeWalk::new(start, end))
}

/// Whether the page, whose entry holds `word`, has been written.
fn is_written<P: Platform>(set: &WorkingSetGuard<'_, '_, P>, page: Vpn, word: u64) -> bool {
    (P::Paging::is_valid(word) && P::Paging::is_dirty(word)) || set.is_marked_written(page)
}

/// Makes the page of a valid entry one that has not been written.
fn clean<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    (entry, word): (EntryRef, u64),
    page: Vpn,
) {
    let manager = set.manager();
    set.clear_marks(page, page);
    if !P::Paging::is_valid(word) || !P::Paging::is_dirty(word) {
        return;
    }
    let mut frame = manager.lock_frame(set.token(), P::Paging::valid_pfn(word));
    let mut seen = word;
    while let Err(actual) = manager.exchange_entry(entry, seen, P::Paging::clear_dirty(seen)) {
        seen = actual;
    }
    let wanted = manager.capture_dirty(&mut frame, seen);
    drop(frame);
    set.count_wanted(wanted);
    batch.push_page(P::Paging::va_of_vpn(page));
}

/// Collects written pages.
struct Collect<'b> {
    pages: &'b mut [u64],
    found: usize,
    watch: Watch,
}

impl Collect<'_> {
    /// Stores a page, if there is room.
    fn store(&mut self, va: Va) -> bool {
        match self.pages.get_mut(self.found) {
            Some(place) => {
                *place = va.get();
                self.found += 1;
                true
            }
            None => false,
        }
    }
}

impl<P: Platform> Visitor<P> for Collect<'_> {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        match visited {
            Visited::Entry { entry, word, page } => {
                let va = P::Paging::va_of_vpn(page);
                if is_written(set, page, word) && self.store(va) && self.watch == Watch::Reset {
                    clean(set, batch, (entry, word), page);
                }
            }
            Visited::Nothing { first, last } => {
                for page in set.marked_pages(first, last) {
                    if !self.store(P::Paging::va_of_vpn(page)) {
                        break;
                    }
                    if self.watch == Watch::Reset {
                        set.clear_marks(page, page);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Resets pages.
struct Clean;

impl<P: Platform> Visitor<P> for Clean {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        match visited {
            Visited::Entry { entry, word, page } => clean(set, batch, (entry, word), page),
            Visited::Nothing { first, last } => set.clear_marks(first, last),
        }
        Ok(())
    }
}

impl<P: Platform> Stages<P> for GetWriteWatch<'_> {
    type Output = usize;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<usize, Blocked> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            none => none.insert(watched_range(set, self.base, self.size)?),
        };
        let mut collect = Collect { pages: &mut *self.pages, found: self.found, watch: self.watch };
        let pending = &mut self.call.pending;
        let outcome = set.walk_stretch(pending, walk, MissingTables::Skip, &mut collect);
        self.found = collect.found;
        outcome?;
        Ok(self.found)
    }
}

impl<P: Platform> Operation<P> for GetWriteWatch<'_> {
    type Output = usize;

    fn step(&mut self, manager: &Manager<P>) -> Step<usize> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}

impl<P: Platform> Stages<P> for ResetWriteWatch {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            none => none.insert(watched_range(set, self.base, self.size)?),
        };
        set.walk_stretch(&mut self.call.pending, walk, MissingTables::Skip, &mut Clean)?;
        let (start, end) =
            page_range::<P::Paging>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_1)?;
        Ok(Region::of_pages::<P::Paging>(start, end))
    }
}

impl<P: Platform> Operation<P> for ResetWriteWatch {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
