//! From a page of a view to its prototype entry (spec 7.12, 4.9).
//!
//! The descriptor of a view names a control area and the first page it shows; the subsections of
//! the control area say where in the pool the prototype of each page lies. Its page of the pool is
//! found through the tables of the system space without that space's lock: the tables are read
//! from the top, the frame found at the end is locked, and as long as it is, and is a page of
//! prototypes that is mapped, the tables above it are what its entry and theirs say. When that is
//! the way that was gone, the page is *held*: it counts a mapping more, and cannot be taken out.

use ntmm_pte::{
    Level, PAGE_SIZE, Pages, PagingMode, Pfn, Protection, PteFormat, PteWord, Slot, Va, Vpn,
};
use ntmm_sync::level::{self, Outside, Token};

use super::control_area::ControlAreaId;
use super::system_space::PoolOffset;
use crate::fault::Blocked;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::tables::EntryRef;
use crate::vad::{Vad, VadKind, View};
use crate::working_set::WorkingSetGuard;

/// The prototype of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prototype {
    /// Where it lies.
    pub(crate) at: PoolOffset,
    /// The subsection it belongs to.
    pub(crate) subsection: u32,
    /// Its number there.
    pub(crate) index: u64,
    /// The control area.
    pub(crate) area: ControlAreaId,
}

/// A prototype whose page stays in memory. Dropped, it may leave again.
#[derive(Debug)]
#[must_use]
pub(crate) struct HeldPrototype<'m, P: Platform> {
    manager: &'m Manager<P>,
    entry: EntryRef,
}

impl<P: Platform> HeldPrototype<'_, P> {
    /// Where the word is.
    pub(crate) const fn entry(&self) -> EntryRef {
        self.entry
    }
}

impl<P: Platform> Drop for HeldPrototype<'_, P> {
    fn drop(&mut self) {
        // The mapping in the system space is left.
        self.manager.entry(self.entry.table).drop_share();
    }
}

impl View {
    /// The page of the section that `page` of the view's descriptor shows.
    pub(crate) const fn page_of(&self, vad: &Vad, page: Vpn) -> Pages {
        Pages::new(self.first.get() + (page.get() - vad.start.get()))
    }
}

impl<P: Platform> Manager<P> {
    /// The prototype of page `page` of a section; none behind its end.
    pub(crate) fn find_prototype(&self, area: ControlAreaId, page: Pages) -> Option<Prototype> {
        self.subsections_of(self.control_area(area)).find_map(|(subsection, record)| {
            let index = page.get().checked_sub(record.first_page())?;
            (index < record.pages()).then(|| Prototype {
                at: PoolOffset(record.prototypes()).entry::<P::Paging>(index),
                subsection,
                index,
                area,
            })
        })
    }

    /// The prototype of `page`, which `vad` describes; none where the view shows nothing.
    pub(crate) fn prototype_of(&self, vad: &Vad, page: Vpn) -> Option<Prototype> {
        let view = vad.attributes.view?;
        self.find_prototype(view.area, view.page_of(vad, page))
    }

    /// Holds the page of a prototype in memory.
    pub(crate) fn hold_prototype<L: level::Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
        at: PoolOffset,
    ) -> Result<HeldPrototype<'_, P>, Blocked> {
        let missing = Blocked::Prototypes(at);
        let Some(root) = self.system_space().and_then(|space| self.root(space)) else {
            return Err(missing);
        };
        let Some((way, pfn)) = self.way_to(root, at) else { return Err(missing) };
        let frame = self.lock_frame(token, pfn);
        let state = frame.state();
        let is_home = state.usage() == FrameUse::Prototypes
            && state.location() == PageLocation::Active
            && self.is_way(way, pfn);
        if !is_home {
            return Err(missing);
        }
        frame.entry().add_share(1);
        drop(frame);
        let slot = at.bytes() % PAGE_SIZE / P::Paging::ENTRY_BYTES as u64;
        let entry = EntryRef { table: pfn, slot: Slot::from_low_bits(slot) };
        Ok(HeldPrototype { manager: self, entry })
    }

    /// The entries from the top down to the page of a prototype, as they are read, and its
    /// frame. Any of them may have been something else by the time it was read.
    fn way_to(&self, root: Pfn, at: PoolOffset) -> Option<(Way, Pfn)> {
        let (mut way, last) = self.way_as_far_as_possible(root, at);
        way.push(last);
        let word = self.load_entry(last);
        let pfn = P::Paging::valid_pfn(word);
        let complete = way.len() == P::Paging::LEVELS;
        (complete && P::Paging::is_valid(word) && self.frame_exists(pfn)).then_some((way, pfn))
    }

    /// The entries on the way to the page of the pool that `at` lies in, as far as tables are
    /// valid: those passed, and the one where the way ends.
    pub(super) fn way_as_far_as_possible(&self, root: Pfn, at: PoolOffset) -> (Way, EntryRef) {
        let mut way = Way::new_const();
        let mut level = P::Paging::TOP;
        let mut table = root;
        loop {
            let entry = EntryRef { table, slot: P::Paging::slot(at.va(), level) };
            let word = self.load_entry(entry);
            let pfn = P::Paging::valid_pfn(word);
            match level.down() {
                Some(below) if P::Paging::is_valid(word) && self.frame_exists(pfn) => {
                    way.push(entry);
                    (table, level) = (pfn, below);
                }
                _ => return (way, entry),
            }
        }
    }

    /// Where in the pool a prototype lies whose page somebody keeps in memory: the slots of the
    /// entries above it, from the bottom up.
    pub(crate) fn pool_offset_of(&self, entry: EntryRef) -> PoolOffset {
        let mut va = u64::from(entry.slot.get()) * P::Paging::ENTRY_BYTES as u64;
        let mut frame = entry.table;
        let mut level = Level::Table;
        loop {
            let (table, slot) = self.entry(frame).container();
            va |= (slot.index() as u64) << P::Paging::shift(level);
            frame = table;
            match level.up() {
                Some(above) if level != P::Paging::TOP => level = above,
                _ => return PoolOffset::of_va(Va::new(va)),
            }
        }
    }

    /// Whether the entries of `way` lead to `pfn`, whose lock is held and whose own entry is
    /// valid: then each table on the way has an entry that is, and stays.
    pub(super) fn is_way(&self, way: Way, pfn: Pfn) -> bool {
        let mut below = pfn;
        way.into_iter().rev().all(|entry| {
            let (table, slot) = self.entry(below).container();
            below = entry.table;
            entry == EntryRef { table, slot }
        })
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The protection of `page`, which `vad` describes, as long as its entry is zero. Pages of an
    /// image have that of their subsection; behind the last one there is nothing.
    pub(crate) fn protection_in_view(&self, vad: &Vad, page: Vpn) -> Protection {
        if vad.attributes.kind != VadKind::ImageView {
            return vad.attributes.protection;
        }
        let manager = self.manager();
        manager.prototype_of(vad, page).map_or(Protection::NO_ACCESS, |prototype| {
            let bits = manager.subsection(prototype.subsection).protection();
            Protection::from_low_bits(u64::from(bits))
        })
    }

    /// The last page, up to `last`, of those that have the same protection as `page` because they
    /// lie in the same subsection.
    pub(crate) fn end_of_subsection(&self, vad: &Vad, page: Vpn, last: Vpn) -> Vpn {
        if vad.attributes.kind != VadKind::ImageView {
            return last;
        }
        let manager = self.manager();
        let more = manager.prototype_of(vad, page).map_or(0, |prototype| {
            manager.subsection(prototype.subsection).pages() - prototype.index - 1
        });
        page.checked_add(Pages::new(more)).map_or(last, |end| end.min(last))
    }
}

/// Entries on the way to a page, the topmost first.
pub(super) type Way = arrayvec::ArrayVec<EntryRef, { Level::Top as usize }>;

/// What an untouched page of a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untouched {
    /// Not committed.
    Nothing,
    /// A page of zeroes with this protection.
    Zeroes(Protection),
}
