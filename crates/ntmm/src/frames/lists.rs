//! The page lists (spec 3.5, 3.7): zeroed, free, standby, modified, modified-no-write, bad.
//!
//! A list is a chain of frame numbers through the entries' link words with its two ends and its
//! total. Free and zeroed frames are on a second chain as well, that of their colour
//! ([`colors`](super::colors)). One lock serialises the zeroed, free and colour chains, one each
//! the others.
//!
//! A frame joins or leaves a list under its own lock and the list's, taken in that order.
//! Taking the head of a list has to go the other way; [`take`](super::take) does it by trying.

use ntmm_pte::{Pfn, PteWord};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::level::{self, Level, Outside, Token};
use ntmm_sync::lock::WordLock;

use super::entry::{FrameFlags, Links, NO_FRAME, PageLocation, PfnEntry};
use super::guard::FrameGuard;
use crate::manager::Manager;
use crate::platform::{Engine, Platform};

/// Bug check 0x4E type: a reference was dropped that nobody held.
pub(crate) const REFERENCE_DROP: u64 = 7;
/// Bug check 0x4E type: a frame or its entry is in a state that contradicts the other.
pub(crate) const WRONG_STATE: u64 = 0x99;

/// Ends and total of a chain. The words may lie in a frame (colours) or in [`PageLists`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    /// First frame in the low half, last in the high half; [`NO_FRAME`] when empty. Tag L.
    pub(super) ends: &'a AtomicU64,
    /// Frames in the chain. Tag L.
    pub(super) total: &'a AtomicU64,
    pub(super) links: Links,
}

impl Chain<'_> {
    fn ends(self) -> (u32, u32) {
        let ends = self.ends.load(Ordering::Relaxed);
        (ends as u32, (ends >> 32) as u32)
    }

    fn set_ends(self, first: u32, last: u32) {
        self.ends.store(u64::from(first) | (u64::from(last) << 32), Ordering::Relaxed);
    }

    /// Makes the chain empty.
    pub(super) fn clear(self) {
        self.ends.store(EMPTY, Ordering::Relaxed);
        self.total.store(0, Ordering::Relaxed);
    }

    /// First frame.
    pub(super) fn first(self) -> Option<Pfn> {
        let (first, _) = self.ends();
        (first != NO_FRAME).then(|| Pfn::new(first))
    }
}

/// Ends of an empty chain.
pub(super) const EMPTY: u64 = u64::MAX;

/// The global lists.
#[derive(Debug)]
pub(crate) struct PageLists {
    heads: [(AtomicU64, AtomicU64); 6],
    /// Zeroed, free and colour chains; standby; modified; modified-no-write; bad.
    locks: [WordLock; 5],
    /// Modified frames whose pages go back to files. Tag A.
    modified_of_files: AtomicU64,
}

impl PageLists {
    pub(crate) fn new() -> Self {
        Self {
            heads: core::array::from_fn(|_| (AtomicU64::new(EMPTY), AtomicU64::new(0))),
            locks: core::array::from_fn(|_| WordLock::new()),
            modified_of_files: AtomicU64::new(0),
        }
    }

    pub(super) fn chain(&self, location: PageLocation) -> Option<Chain<'_>> {
        let (ends, total) = self.heads.get(location as usize)?;
        Some(Chain { ends, total, links: Links::Global })
    }

    /// Frames on the list of `location`; zero for locations that are no list.
    pub(crate) fn total(&self, location: PageLocation) -> u32 {
        self.chain(location).map_or(0, |chain| chain.total.load(Ordering::Acquire) as u32)
    }

    /// Frames on the modified list whose pages go back to files.
    pub(crate) fn modified_of_files(&self) -> u32 {
        self.modified_of_files.load(Ordering::Acquire) as u32
    }

    #[inline]
    fn lock(&self, location: PageLocation) -> &WordLock {
        let [free, standby, modified, no_write, bad] = &self.locks;
        match location {
            PageLocation::Zeroed | PageLocation::Free => free,
            PageLocation::Standby => standby,
            PageLocation::Modified => modified,
            PageLocation::ModifiedNoWrite => no_write,
            PageLocation::Bad | PageLocation::Active | PageLocation::Transition => bad,
        }
    }

    /// Whether any list lock is held.
    pub(crate) fn any_held(&self) -> bool {
        self.locks.iter().any(WordLock::is_held)
    }
}

/// The lock of a list.
#[derive(Debug)]
pub(crate) struct ListGuard<'m, 't> {
    lock: &'m WordLock,
    _token: Token<'t, level::List>,
}

impl Drop for ListGuard<'_, '_> {
    fn drop(&mut self) {
        self.lock.release();
    }
}

/// Where in a list a frame is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Taken next.
    Head,
    /// Taken last.
    Tail,
}

impl<P: Platform> Manager<P> {
    /// Locks the list of `location`.
    #[inline]
    pub(super) fn lock_list<'m, 't, L: Level + Outside<level::List>>(
        &'m self,
        token: &'t mut Token<'_, L>,
        location: PageLocation,
    ) -> ListGuard<'m, 't> {
        self.platform().interleave();
        let lock = self.lists.lock(location);
        lock.acquire(|| self.platform().relax());
        ListGuard { lock, _token: token.descend() }
    }

    #[inline]
    fn link(&self, chain: Chain<'_>, pfn: Pfn, entry: PfnEntry<'_>, position: Position) {
        let links = chain.links;
        let (first, last) = chain.ends();
        let own = pfn.get();
        match position {
            Position::Head => {
                entry.set_links(links, first, NO_FRAME);
                if first == NO_FRAME {
                    chain.set_ends(own, own);
                } else {
                    let neighbour = self.entry(Pfn::new(first));
                    neighbour.set_links(links, neighbour.links(links).0, own);
                    chain.set_ends(own, last);
                }
            }
            Position::Tail => {
                entry.set_links(links, NO_FRAME, last);
                if last == NO_FRAME {
                    chain.set_ends(own, own);
                } else {
                    let neighbour = self.entry(Pfn::new(last));
                    neighbour.set_links(links, own, neighbour.links(links).1);
                    chain.set_ends(first, own);
                }
            }
        }
        chain.total.store(chain.total.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    #[inline]
    fn unlink(&self, chain: Chain<'_>, entry: PfnEntry<'_>) {
        let links = chain.links;
        let (forward, backward) = entry.links(links);
        if backward == NO_FRAME {
            chain.set_ends(forward, chain.ends().1);
        } else {
            let neighbour = self.entry(Pfn::new(backward));
            neighbour.set_links(links, forward, neighbour.links(links).1);
        }
        if forward == NO_FRAME {
            chain.set_ends(chain.ends().0, backward);
        } else {
            let neighbour = self.entry(Pfn::new(forward));
            neighbour.set_links(links, neighbour.links(links).0, backward);
        }
        chain.total.store(chain.total.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Release);
    }

    /// The first frame of a list: a hint, unless the list's lock is held.
    pub(crate) fn first_of(&self, location: PageLocation) -> Option<Pfn> {
        self.lists.chain(location).and_then(Chain::first)
    }

    /// Unlinks a frame from its list and colour list. The list's lock is held; the counts of
    /// available pages are the caller's.
    #[inline]
    pub(super) fn unlink_all(
        &self,
        _list: &ListGuard<'_, '_>,
        location: PageLocation,
        pfn: Pfn,
        entry: PfnEntry<'_>,
    ) {
        if let Some(chain) = self.lists.chain(location) {
            self.unlink(chain, entry);
        }
        if let Some(chain) = self.color_chain(location, pfn) {
            self.unlink(chain, entry);
        }
    }

    /// Puts a frame with no references on a list (MiInsertPageInList).
    #[inline]
    pub(crate) fn insert_on_list(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        location: PageLocation,
        position: Position,
    ) {
        self.link_on_list(frame, location, position);
        if location.is_available() {
            self.available_rose();
        }
        match location {
            PageLocation::Free => self.free_list_grew(),
            PageLocation::Modified => {
                if P::Paging::is_prototype(frame.entry().original()) {
                    self.lists.modified_of_files.fetch_add(1, Ordering::AcqRel);
                }
                self.modified_list_grew();
            }
            _ => {}
        }
    }

    /// Puts a frame on a list without counting it as available: the caller accounts for it.
    #[inline]
    pub(super) fn link_on_list(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        location: PageLocation,
        position: Position,
    ) {
        let (pfn, entry) = (frame.pfn(), frame.entry());
        frame.set_location(location);
        let _list = self.lock_list(frame.token(), location);
        if let Some(chain) = self.lists.chain(location) {
            self.link(chain, pfn, entry, position);
        }
        if let Some(chain) = self.color_chain(location, pfn) {
            self.link(chain, pfn, entry, position);
        }
    }

    /// Takes a frame that is on the modified or modified-no-write list off it
    /// (MiUnlinkPageFromList). Frames on lists of available pages leave through
    /// [`take`](super::take), which accounts for them.
    pub(crate) fn unlink_modified(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let (pfn, entry, location) = (frame.pfn(), frame.entry(), frame.location());
        let of_file = P::Paging::is_prototype(entry.original());
        if location == PageLocation::Modified && of_file {
            self.lists.modified_of_files.fetch_sub(1, Ordering::AcqRel);
        }
        let list = self.lock_list(frame.token(), location);
        self.unlink_all(&list, location, pfn, entry);
    }

    /// Takes a frame that is on the bad list off it.
    pub(crate) fn unlink_bad(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let (pfn, entry) = (frame.pfn(), frame.entry());
        let list = self.lock_list(frame.token(), PageLocation::Bad);
        self.unlink_all(&list, PageLocation::Bad, pfn, entry);
    }

    /// Drops a reference; with the last one the frame goes where its flags say
    /// (MiDecrementReferenceCount, rows 8-10 and 20 of the table in [`super`]).
    pub(crate) fn drop_reference(&self, frame: &mut FrameGuard<'_, '_, P>) {
        if frame.take_reference() > 0 {
            return;
        }
        if frame.entry().share() != 0 {
            self.corrupt_frame(REFERENCE_DROP, frame.pfn());
        }
        // Who held the frame knew that every processor has forgotten what it is a copy of.
        frame.remove(FrameFlags::STALE);
        if frame.has(FrameFlags::DELETED) {
            self.release_original_slot(frame);
            self.free_frame(frame);
        } else if frame.has(FrameFlags::MODIFIED) {
            self.insert_on_list(frame, PageLocation::Modified, Position::Tail);
        } else {
            self.make_standby(frame);
        }
    }

    /// Puts a frame that nobody refers to and that need not be written on the standby list, or
    /// takes its page out of it when the frame is to leave.
    pub(crate) fn make_standby(&self, frame: &mut FrameGuard<'_, '_, P>) {
        if !frame.leaving().is_empty() {
            // The page is in its paging file or nowhere: it goes on without this frame.
            self.restore_entry(frame);
            self.free_frame(frame);
            return;
        }
        let position = if frame.has(FrameFlags::RESET) { Position::Head } else { Position::Tail };
        self.insert_on_list(frame, PageLocation::Standby, position);
    }

    /// Puts a frame nobody refers to on the free list, or on the bad list when it is to leave;
    /// there it keeps the reason.
    pub(crate) fn free_frame(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let leaving = frame.leaving();
        frame.end();
        if leaving.is_empty() {
            self.insert_on_list(frame, PageLocation::Free, Position::Tail);
        } else {
            frame.insert(leaving);
            frame.entry().set_original(0);
            self.insert_on_list(frame, PageLocation::Bad, Position::Tail);
            // Whoever takes the memory away waits as those do who want pages.
            self.wake_page_waiters();
        }
    }

    /// Moves what may be written by now from the modified-no-write list to the modified list
    /// (row 16). A section decides for the pages that are mapped through its prototypes; a
    /// private page may always be written.
    pub(crate) fn release_modified_no_write<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
    ) {
        for _ in 0..self.lists.total(PageLocation::ModifiedNoWrite) {
            let Some(pfn) = self.first_of(PageLocation::ModifiedNoWrite) else { break };
            let mut frame = self.lock_frame(token, pfn);
            if frame.location() == PageLocation::ModifiedNoWrite {
                self.unlink_modified(&mut frame);
                let to = if self.may_write(&frame) {
                    PageLocation::Modified
                } else {
                    PageLocation::ModifiedNoWrite
                };
                self.insert_on_list(&mut frame, to, Position::Tail);
            }
        }
    }

    /// Asks for the writer when the modified list is long (spec 9.4).
    fn modified_list_grew(&self) {
        let total = self.lists.total(PageLocation::Modified);
        if total >= self.modified_maximum || self.pages_are_awaited() {
            self.platform().request(Engine::ModifiedWriter);
        }
    }
}
