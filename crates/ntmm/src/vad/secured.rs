//! Secured ranges: pages that a driver, or the system, relies on to stay accessible
//! (MmSecureVirtualMemory, spec 7.8).
//!
//! A secured range lies in one descriptor and says which access has to remain. As long as it is
//! there, nothing may take that access from its pages: calls that would are refused before they
//! change anything ([`SecuredChange`]). A descriptor knows whether it has one such range or
//! several, so that the calls on all others pay nothing; when it is split, each part is counted
//! again. Only the deletion of the space passes over secured ranges.
//!
//! NT keeps the ranges with the descriptor. Here they are in one table for each space: a chain of
//! frames, which count as nodes of the tree and are charged like them. The table is searched from
//! end to end under the working-set lock, so a space has [`SECURED_RANGES_LIMIT`] ranges at most.
//!
//! | Word of a frame | Holds |
//! |---|---|
//! | 0 | next frame, plus one |
//! | 1 | ranges in this frame |
//! | 2 + 3n | handle of range n; zero for none |
//! | 3 + 3n | first page |
//! | 4 + 3n | last page; bit 63: it must stay writable |
//!
//! All of it belongs to the working-set lock, and changes under it by the owner of address
//! creation.

use ntmm_pte::{Pages, Pfn, Protection, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};

use super::{Secured, Vad};
use crate::frames::FrameUse;
use crate::frames::take::Want;
use crate::manager::Manager;
use crate::operation::Pause;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;
use crate::working_set::header::Header;

/// Words in front of the ranges.
const FRAME_HEADER: usize = 2;

/// Words of a range.
const RANGE_WORDS: usize = 3;

/// Ranges in a frame.
const RANGES: usize = (WORDS_PER_FRAME - FRAME_HEADER) / RANGE_WORDS;

/// Ranges a space may have at a time. NT knows no limit but memory.
pub const SECURED_RANGES_LIMIT: u64 = 4096;

/// The mark of a range that must stay writable.
const WRITABLE: u64 = 1 << 63;

/// The access that a secured range keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecuredAccess {
    /// Its pages stay readable.
    Read,
    /// Its pages stay readable and writable.
    ReadWrite,
}

impl SecuredAccess {
    /// Whether pages of this protection give the access, now and without a guard in between.
    #[must_use]
    pub const fn is_given_by(self, protection: Protection) -> bool {
        let accessible =
            !protection.is_no_access() && !protection.is_guard() && !protection.is_decommitted();
        match self {
            Self::Read => accessible,
            Self::ReadWrite => {
                accessible && (protection.is_writable() || protection.is_write_copy())
            }
        }
    }
}

/// Names a secured range of a space, as the handle that MmSecureVirtualMemory returns. No two
/// ranges of a space ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecuredHandle(u64);

impl SecuredHandle {
    /// The handle with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its value, which is not zero for a range that exists.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A secured range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecuredRange {
    /// Its name.
    pub handle: SecuredHandle,
    /// First page.
    pub start: Vpn,
    /// Last page.
    pub end: Vpn,
    /// The access it keeps.
    pub access: SecuredAccess,
}

/// What is to happen to pages that may be secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecuredChange {
    /// They get this protection.
    Protection(Protection),
    /// They go (MM_DELETE_CHECK).
    Deletion,
}

/// Where a range is in the table.
#[derive(Clone, Copy)]
struct Place {
    frame: Pfn,
    number: usize,
}

const fn link(value: u64) -> Option<Pfn> {
    match value.checked_sub(1) {
        Some(number) => Some(Pfn::new(number as u32)),
        None => None,
    }
}

impl<P: Platform> Manager<P> {
    fn table_word(&self, frame: Pfn, number: usize) -> &AtomicU64 {
        word(self.platform().frame(frame), WordIndex::wrapping(number))
    }

    fn secured_word(&self, place: Place, offset: usize) -> &AtomicU64 {
        self.table_word(place.frame, FRAME_HEADER + place.number * RANGE_WORDS + offset)
    }

    fn secured_frames(&self, header: Header<'_>) -> impl Iterator<Item = Pfn> {
        core::iter::successors(link(header.secured()), |&frame| {
            link(self.table_word(frame, 0).load(Ordering::Relaxed))
        })
    }

    fn secured_places(&self, header: Header<'_>) -> impl Iterator<Item = (Place, SecuredRange)> {
        self.secured_frames(header)
            .flat_map(|frame| (0..RANGES).map(move |number| Place { frame, number }))
            .filter_map(|place| self.secured_range(place).map(|range| (place, range)))
    }

    fn secured_range(&self, place: Place) -> Option<SecuredRange> {
        let [handle, start, end] =
            [0, 1, 2].map(|offset| self.secured_word(place, offset).load(Ordering::Relaxed));
        (handle != 0).then_some(SecuredRange {
            handle: SecuredHandle(handle),
            start: Vpn::new(start),
            end: Vpn::new(end & !WRITABLE),
            access: if end & WRITABLE == 0 {
                SecuredAccess::Read
            } else {
                SecuredAccess::ReadWrite
            },
        })
    }

    /// Calls `visit` with every frame of the table of a space.
    pub(crate) fn for_each_secured_frame(&self, header: Header<'_>, visit: impl FnMut(Pfn)) {
        self.secured_frames(header).for_each(visit);
    }

    /// Calls `visit` with every secured range of a space.
    pub(crate) fn for_each_secured_range(
        &self,
        header: Header<'_>,
        visit: impl FnMut(SecuredRange),
    ) {
        self.secured_places(header).map(|(_, range)| range).for_each(visit);
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Whether a change of the pages from `start` to `end` of `vad` leaves its secured ranges what
    /// they need.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_PAGE_PROTECTION`] when it does not.
    pub(crate) fn check_secured(
        &self,
        vad: &Vad,
        start: Vpn,
        end: Vpn,
        change: SecuredChange,
    ) -> Result<(), NtStatus> {
        if vad.attributes.secured == Secured::No {
            return Ok(());
        }
        let suffers = |range: &SecuredRange| {
            let concerned = range.start <= end && start <= range.end;
            concerned
                && match change {
                    SecuredChange::Protection(protection) => !range.access.is_given_by(protection),
                    SecuredChange::Deletion => true,
                }
        };
        let mut ranges = self.manager().secured_places(self.header());
        if ranges.any(|(_, range)| suffers(&range)) {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        Ok(())
    }

    /// Whether the space has secured ranges.
    pub(crate) fn has_secured_ranges(&self) -> bool {
        self.header().secured() != 0
    }

    /// Counts the secured ranges of the descriptor that begins at `start`.
    pub(crate) fn recount_secured(&mut self, start: Vpn) {
        let manager = self.manager();
        let nodes = manager.nodes();
        let mut tree = self.vads();
        let Some(vad) = tree.find(&nodes, start).filter(|vad| vad.start == start) else { return };
        let inside = |range: &SecuredRange| vad.start <= range.start && range.end <= vad.end;
        let ranges = manager.secured_places(self.header());
        let secured = match ranges.filter(|(_, range)| inside(range)).take(2).count() {
            0 => Secured::No,
            1 => Secured::One,
            _ => Secured::Multiple,
        };
        tree.update(&nodes, start, |attributes| attributes.secured = secured);
    }

    /// Secures the pages from `start` to `end` of a descriptor.
    ///
    /// Raises [`NtStatus::INSUFFICIENT_RESOURCES`] when the space has as many ranges as it may.
    pub(crate) fn add_secured(
        &mut self,
        vad: &Vad,
        (start, end): (Vpn, Vpn),
        access: SecuredAccess,
    ) -> Result<SecuredHandle, Pause> {
        let place = self.free_place()?;
        let (manager, header) = (self.manager(), self.header());
        let handle = header.last_secured() + 1;
        header.set_last_secured(handle);
        let mark = if access == SecuredAccess::ReadWrite { WRITABLE } else { 0 };
        let words = [handle, start.get(), end.get() | mark];
        for (offset, value) in words.into_iter().enumerate() {
            manager.secured_word(place, offset).store(value, Ordering::Relaxed);
        }
        manager.table_word(place.frame, 1).fetch_add(1, Ordering::Relaxed);
        self.recount_secured(vad.start);
        Ok(SecuredHandle(handle))
    }

    /// A place for a range, in a new frame if need be.
    fn free_place(&mut self) -> Result<Place, Pause> {
        let (manager, header) = (self.manager(), self.header());
        let ranges_in = |frame: Pfn| manager.table_word(frame, 1).load(Ordering::Relaxed);
        let ranges: u64 = manager.secured_frames(header).map(ranges_in).sum();
        if ranges >= SECURED_RANGES_LIMIT {
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        }
        let has_room = |frame: &Pfn| ranges_in(*frame) < RANGES as u64;
        if let Some(frame) = manager.secured_frames(header).find(has_room) {
            let free = |number: &usize| {
                let place = Place { frame, number: *number };
                manager.secured_range(place).is_none()
            };
            let number = (0..RANGES).find(free).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
            return Ok(Place { frame, number });
        }
        let charge = manager.charge_commitment(Pages::ONE)?;
        let mut reservation = manager.reserve_pages(1)?;
        self.add_commit(charge.keep());
        let (color, usage) = (self.next_color(), FrameUse::VadNode);
        let frame = {
            let token = self.token();
            let mut frame = manager.take_frame(token, &mut reservation, color, Want::Zeroed, usage);
            frame.add_mapping();
            frame.pfn()
        };
        manager.table_word(frame, 0).store(header.secured(), Ordering::Relaxed);
        header.set_secured(u64::from(frame.get()) + 1);
        Ok(Place { frame, number: 0 })
    }

    /// Ends a secured range.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`] when there is no such range.
    pub(crate) fn remove_secured(&mut self, handle: SecuredHandle) -> Result<(), NtStatus> {
        let (manager, header) = (self.manager(), self.header());
        let (place, range) = manager
            .secured_places(header)
            .find(|(_, range)| range.handle == handle)
            .ok_or(NtStatus::INVALID_HANDLE)?;
        manager.secured_word(place, 0).store(0, Ordering::Relaxed);
        let left = manager.table_word(place.frame, 1).fetch_sub(1, Ordering::Relaxed);
        if left == 1 {
            self.unlink_secured_frame(place.frame);
        }
        if let Some(vad) = self.find_vad(range.start) {
            self.recount_secured(vad.start);
        }
        Ok(())
    }

    /// Takes an empty frame off the chain and gives it back.
    fn unlink_secured_frame(&mut self, frame: Pfn) {
        let (manager, header) = (self.manager(), self.header());
        let next = manager.table_word(frame, 0).load(Ordering::Relaxed);
        let names = |value: u64| link(value) == Some(frame);
        if names(header.secured()) {
            header.set_secured(next);
        } else if let Some(before) = manager
            .secured_frames(header)
            .find(|&before| names(manager.table_word(before, 0).load(Ordering::Relaxed)))
        {
            manager.table_word(before, 0).store(next, Ordering::Relaxed);
        }
        self.free_node(frame);
    }

    /// Ends all secured ranges of a space that has no descriptors left. As a frame is added only
    /// when all others are full, there are few.
    pub(crate) fn drop_secured_ranges(&mut self) {
        while let Some(frame) = link(self.header().secured()) {
            self.unlink_secured_frame(frame);
        }
    }
}
