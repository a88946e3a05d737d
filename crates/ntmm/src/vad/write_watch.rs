//! Which pages of write-watch memory have been written: a bit for each (NT keeps a bitmap beside
//! the descriptor).
//!
//! A page that is in memory and mapped tells by the dirty bit of its entry. The bit here remembers
//! it for a page that leaves memory, or whose entry loses its dirty bit in another way. So a page
//! counts as written when either is set, and both are taken back when the watch is reset; for the
//! dirty bit to mean just that, spaces with such memory map every page clean and let the access
//! that comes set it.
//!
//! The bits of a space are one sparse map by page number: two levels of frames of references, and
//! frames of bits for 128 MiB each. A reservation makes the frames that cover it, so that a bit
//! can always be set; they go with the last write-watch descriptor they cover. Splitting a
//! descriptor changes nothing. The frames count as nodes of the tree and are charged like them.
//! All of it belongs to the working-set lock.

use ntmm_pte::{Pages, PagingMode, Pfn, PteWord, Va, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};

use super::VadKind;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageReservation};
use crate::manager::Manager;
use crate::operation::Pause;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;
use crate::working_set::header::Header;

/// Pages one frame of bits tells of.
const LEAF_PAGES: u64 = WORDS_PER_FRAME as u64 * 64;

/// Frames of bits one reservation may need: beyond, it asks for too much.
const MOST_LEAVES: u64 = 4096;

/// A reference to a frame, as the words of the map hold it: zero for none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(u64);

impl Link {
    const NONE: Self = Self(0);

    const fn to(pfn: Pfn) -> Self {
        Self(pfn.get() as u64 + 1)
    }

    const fn pfn(self) -> Option<Pfn> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Pfn::new(number as u32)),
            None => None,
        }
    }
}

/// Position of a page in the map.
#[derive(Clone, Copy)]
struct Place {
    middle: usize,
    leaf: usize,
    word: usize,
    bit: u32,
}

impl Place {
    const fn of(page: Vpn) -> Self {
        let leaf = page.get() / LEAF_PAGES;
        let inside = page.get() % LEAF_PAGES;
        Self {
            middle: leaf as usize / WORDS_PER_FRAME,
            leaf: leaf as usize % WORDS_PER_FRAME,
            word: inside as usize / 64,
            bit: (inside % 64) as u32,
        }
    }
}

impl<P: Platform> Manager<P> {
    fn map_word(&self, frame: Pfn, number: usize) -> &AtomicU64 {
        word(self.platform().frame(frame), WordIndex::wrapping(number))
    }

    fn map_link(&self, frame: Pfn, number: usize) -> Option<Pfn> {
        Link(self.map_word(frame, number).load(Ordering::Relaxed)).pfn()
    }

    /// The frame of bits for the pages around `place`.
    fn watch_leaf(&self, header: Header<'_>, place: Place) -> Option<Pfn> {
        let root = Link(header.write_watch()).pfn()?;
        self.map_link(self.map_link(root, place.middle)?, place.leaf)
    }

    /// Calls `visit` with every frame of the map of a space.
    pub(crate) fn for_each_watch_frame(&self, header: Header<'_>, mut visit: impl FnMut(Pfn)) {
        let Some(root) = Link(header.write_watch()).pfn() else { return };
        visit(root);
        for middle in (0..WORDS_PER_FRAME).filter_map(|number| self.map_link(root, number)) {
            visit(middle);
            (0..WORDS_PER_FRAME)
                .filter_map(|number| self.map_link(middle, number))
                .for_each(&mut visit);
        }
    }
}

/// The first pages of the stretches that frames of bits cover, from that of `start` to that of
/// `end`.
fn leaves(start: Vpn, end: Vpn) -> impl Iterator<Item = Vpn> {
    (start.get() / LEAF_PAGES..=end.get() / LEAF_PAGES).map(|leaf| Vpn::new(leaf * LEAF_PAGES))
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Whether the space has write-watch memory.
    #[inline]
    pub(crate) fn watches_writes(&self) -> bool {
        self.header().write_watch() != 0
    }

    /// Makes the frames for the pages from `start` to `end`, with none of them written.
    pub(crate) fn begin_watch(&mut self, start: Vpn, end: Vpn) -> Result<(), Pause> {
        let manager = self.manager();
        if end.get() / LEAF_PAGES - start.get() / LEAF_PAGES >= MOST_LEAVES {
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        }
        let header = self.header();
        let missing = |page: &Vpn| manager.watch_leaf(header, Place::of(*page)).is_none();
        let leaves_missing = leaves(start, end).filter(missing).count() as u32;
        if leaves_missing > 0 {
            // The root and two frames above the leaves, at most.
            let most = leaves_missing + 1 + 2 + leaves_missing / WORDS_PER_FRAME as u32;
            let charge = manager.charge_commitment(Pages::new(u64::from(most)))?;
            let reserved = manager.try_reserve_pages(most);
            let mut reservation = reserved.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
            drop(charge);
            for page in leaves(start, end) {
                self.make_leaf(Place::of(page), &mut reservation)?;
            }
        }
        self.clear_marks(start, end);
        Ok(())
    }

    /// Makes the frame of bits for the pages around `place`, and those above it.
    fn make_leaf(
        &mut self,
        place: Place,
        reservation: &mut PageReservation<'m, P>,
    ) -> Result<(), Pause> {
        let header = self.header();
        let root = match Link(header.write_watch()).pfn() {
            Some(root) => root,
            None => {
                let root = self.take_map_frame(reservation)?;
                header.set_write_watch(Link::to(root).0);
                root
            }
        };
        let middle = self.make_below(root, place.middle, reservation)?;
        self.make_below(middle, place.leaf, reservation)?;
        Ok(())
    }

    fn make_below(
        &mut self,
        frame: Pfn,
        number: usize,
        reservation: &mut PageReservation<'m, P>,
    ) -> Result<Pfn, Pause> {
        let manager = self.manager();
        if let Some(below) = manager.map_link(frame, number) {
            return Ok(below);
        }
        let below = self.take_map_frame(reservation)?;
        manager.map_word(frame, number).store(Link::to(below).0, Ordering::Relaxed);
        Ok(below)
    }

    /// A zeroed frame, charged to the space.
    fn take_map_frame(&mut self, reservation: &mut PageReservation<'m, P>) -> Result<Pfn, Pause> {
        let manager = self.manager();
        let charged = manager.charge_commitment(Pages::ONE)?.keep();
        self.add_commit(charged);
        let color = self.next_color();
        let usage = FrameUse::VadNode;
        let mut frame = manager.take_frame(self.token(), reservation, color, Want::Zeroed, usage);
        frame.add_mapping();
        Ok(frame.pfn())
    }

    /// Forgets the pages from `start` to `end`, which are write-watch memory no more, and gives
    /// back the frames that cover none.
    pub(crate) fn end_watch(&mut self, start: Vpn, end: Vpn) {
        let manager = self.manager();
        self.clear_marks(start, end);
        for first in leaves(start, end) {
            let last = Vpn::new(first.get() + LEAF_PAGES - 1);
            if self.has_watched_page(first, last) {
                continue;
            }
            let place = Place::of(first);
            let Some(root) = Link(self.header().write_watch()).pfn() else { return };
            let Some(middle) = manager.map_link(root, place.middle) else { continue };
            self.free_below(middle, place.leaf);
            if self.is_empty(middle) {
                self.free_below(root, place.middle);
            }
            if self.is_empty(root) {
                self.header().set_write_watch(Link::NONE.0);
                self.free_node(root);
            }
        }
    }

    fn free_below(&mut self, frame: Pfn, number: usize) {
        let manager = self.manager();
        if let Some(below) = manager.map_link(frame, number) {
            manager.map_word(frame, number).store(Link::NONE.0, Ordering::Relaxed);
            self.free_node(below);
        }
    }

    fn is_empty(&self, frame: Pfn) -> bool {
        (0..WORDS_PER_FRAME).all(|number| self.manager().map_link(frame, number).is_none())
    }

    fn has_watched_page(&self, first: Vpn, last: Vpn) -> bool {
        let nodes = self.manager().nodes();
        let mut next = first;
        while let Some(vad) = self.vads().first_overlap(&nodes, next, last) {
            if vad.attributes.kind == VadKind::WriteWatch {
                return true;
            }
            next = Vpn::new(vad.end.get() + 1);
            if next > last {
                break;
            }
        }
        false
    }

    /// Remembers that the page was written, if it can be write-watch memory.
    pub(crate) fn mark_written(&self, page: Vpn) {
        let place = Place::of(page);
        if let Some(leaf) = self.manager().watch_leaf(self.header(), place) {
            let word = self.manager().map_word(leaf, place.word);
            word.fetch_or(1 << place.bit, Ordering::Relaxed);
        }
    }

    /// Remembers that the page at `va` was written, if its entry, which held `word` and was
    /// valid, says so.
    #[inline]
    pub(crate) fn capture_write(&self, va: Va, word: u64) {
        if self.watches_writes() && P::Paging::is_dirty(word) && P::Paging::is_user(va) {
            self.mark_written(va.vpn());
        }
    }

    /// Whether the page is remembered as written.
    pub(crate) fn is_marked_written(&self, page: Vpn) -> bool {
        let place = Place::of(page);
        self.manager().watch_leaf(self.header(), place).is_some_and(|leaf| {
            self.manager().map_word(leaf, place.word).load(Ordering::Relaxed) & (1 << place.bit)
                != 0
        })
    }

    /// The pages from `start` to `end` that are remembered as written.
    pub(crate) fn marked_pages(
        &self,
        start: Vpn,
        end: Vpn,
    ) -> impl Iterator<Item = Vpn> + use<'m, P> {
        let manager = self.manager();
        let header = self.header();
        leaves(start, end)
            .filter_map(move |first| {
                manager.watch_leaf(header, Place::of(first)).map(|leaf| (first, leaf))
            })
            .flat_map(move |(first, leaf)| {
                (0..WORDS_PER_FRAME).map(move |number| {
                    let bits = manager.map_word(leaf, number).load(Ordering::Relaxed);
                    (first.get() + number as u64 * 64, bits)
                })
            })
            .filter(|&(_, bits)| bits != 0)
            .flat_map(|(page, bits)| {
                (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| page + bit)
            })
            .map(Vpn::new)
            .filter(move |&page| start <= page && page <= end)
    }

    /// Forgets that the pages from `start` to `end` were written.
    pub(crate) fn clear_marks(&self, start: Vpn, end: Vpn) {
        let manager = self.manager();
        for first in leaves(start, end) {
            let Some(leaf) = manager.watch_leaf(self.header(), Place::of(first)) else { continue };
            let from = start.get().max(first.get());
            let to = end.get().min(first.get() + LEAF_PAGES - 1);
            for number in from / 64..=to / 64 {
                let low = from.saturating_sub(number * 64).min(63);
                let high = (to - number * 64).min(63);
                let keep = !((u64::MAX << low) & (u64::MAX >> (63 - high)));
                let word = manager.map_word(leaf, (number * 64 % LEAF_PAGES / 64) as usize);
                word.fetch_and(keep, Ordering::Relaxed);
            }
        }
    }
}
