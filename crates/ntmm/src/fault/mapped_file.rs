//! Faults on pages of files (MiResolveMappedFileFault, spec 4.12).
//!
//! The prototype is zero, or names the subsection when the page has been in memory before. The
//! subsection says where in the file the page is; it is read with those that follow it.

use arrayvec::ArrayVec;
use ntmm_pte::{PAGE_SIZE, Protection, PteFormat, PteWord, Slot, Va};
use ntmm_sync::atomic::Ordering;

use super::Blocked;
use super::page_file::{FilePlace, Page};
use crate::frames::{FrameGuard, PageReservation};
use crate::manager::Manager;
use crate::platform::{FileId, Platform};
use crate::section::control_area::{SUBSECTION_WORDS, Subsection};
use crate::section::prototype::{HeldPrototype, Prototype};
use crate::section::{ControlAreaFlags, ControlAreaId};
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::transfer::CLUSTER;
use crate::working_set::WorkingSetGuard;

use ntmm_pte::PagingMode;

/// Bytes from the record of one subsection to the next.
const SUBSECTION_BYTES: u64 = SUBSECTION_WORDS as u64 * 8;

impl<P: Platform> Manager<P> {
    /// The word of a prototype whose page is in the file of `subsection`.
    pub(crate) fn subsection_word(&self, index: u32) -> Option<u64> {
        let start = P::Paging::NONPAGED_POOL_START.get();
        let va = Va::new(start + u64::from(index) * SUBSECTION_BYTES);
        let protection = Protection::from_low_bits(u64::from(self.subsection(index).protection()));
        Some(P::Paging::subsection(P::Paging::subsection_address(va)?, protection))
    }

    /// The subsection that a prototype word, or the original entry of a frame, names.
    pub(crate) fn subsection_of(&self, word: u64) -> Option<(u32, Subsection<'_>)> {
        if !P::Paging::is_prototype(word) {
            return None;
        }
        let va = P::Paging::decode_subsection(word).va().get();
        let bytes = va.checked_sub(P::Paging::NONPAGED_POOL_START.get())?;
        let index = u32::try_from(bytes / SUBSECTION_BYTES).ok()?;
        (index < self.sections.subsections.len()).then(|| (index, self.subsection(index)))
    }

    /// A frame has come to hold a page of the file that `original` names.
    pub(crate) fn count_file_page(&self, original: Option<u64>) {
        if let Some((_, subsection)) = original.and_then(|word| self.subsection_of(word)) {
            let area = self.control_area(ControlAreaId(subsection.control_area()));
            area.view().word(2).fetch_add(1 << 32, Ordering::AcqRel);
        }
    }

    /// A frame does not hold its page any more: when that is one of a file, one less does.
    pub(crate) fn discount_file_page(&self, frame: &FrameGuard<'_, '_, P>) {
        if let Some((_, subsection)) = self.subsection_of(frame.entry().original()) {
            let id = ControlAreaId(subsection.control_area());
            let area = self.control_area(id);
            let before = area.view().word(2).fetch_sub(1 << 32, Ordering::AcqRel);
            if before >> 32 == 1 {
                self.check_control_area(id);
            }
        }
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Prepares the read of a page of a file whose prototype holds `word`, and says why the fault
    /// has to wait. None when the page lies behind the data of its subsection.
    pub(crate) fn read_file_page(
        &mut self,
        held: &HeldPrototype<'m, P>,
        word: u64,
        prototype: Prototype,
        reservation: &mut PageReservation<'m, P>,
    ) -> Option<Blocked> {
        let manager = self.manager();
        let area = manager.control_area(prototype.area);
        let subsection = manager.subsection(prototype.subsection);
        let before = prototype.index * PAGE_SIZE;
        if !area.state().contains(ControlAreaFlags::FILE) || before >= subsection.bytes() {
            return None;
        }
        if area.state().contains(ControlAreaFlags::FAIL_ALL_IO) {
            return Some(NtStatus::IN_PAGE_ERROR.into());
        }
        let original = manager.subsection_word(prototype.subsection)?;
        let bytes = subsection.bytes() - before;
        let limit = manager.config.read_cluster.clamp(1, CLUSTER as u32) as usize;
        let pages_left = bytes.div_ceil(PAGE_SIZE);
        let mut pages = ArrayVec::<Page, CLUSTER>::new();
        for (distance, slot) in (u32::from(held.entry().slot.get())..).enumerate().take(limit) {
            if distance as u64 >= pages_left || slot >= P::Paging::ENTRIES as u32 {
                break;
            }
            let entry = EntryRef { slot: Slot::from_low_bits(u64::from(slot)), ..held.entry() };
            let word = if distance == 0 { word } else { manager.load_entry(entry) };
            if word != 0 && word != original {
                break;
            }
            pages.push((entry, word));
        }
        let place = FilePlace {
            file: FileId(area.file()),
            offset: subsection.offset() + before,
            bytes,
            original: Some(original),
        };
        Some(self.read_section_pages(&pages, place, reservation))
    }
}
