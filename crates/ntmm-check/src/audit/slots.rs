//! Slots of the paging files: invariant 8 of spec 3.13.
//!
//! Whoever names a slot claims it: an entry in page-file form, or the original entry of a
//! frame, which is also where a write in progress keeps its slots. A slot is claimed once and
//! marked; all that are marked are claimed. The one exception are slots named by page tables
//! that are in a paging file themselves and cannot be read.

use ntmm::Manager;
use ntmm::platform::Platform;
use ntmm_pte::PagingFileNumber;

use super::defect::{Defect, SlotOwner};
use super::{Audit, Depth};

/// Slots whose marks are compared in one audit when it only samples.
const MARK_SAMPLE: u32 = 32;

/// The claims on each file.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: Vec<FileClaims>,
    total: u64,
    /// Slots that tables which cannot be read may name.
    hidden: u64,
}

#[derive(Debug)]
struct FileClaims {
    file: PagingFileNumber,
    size: u32,
    in_use: u64,
    claimed: Vec<u64>,
    next_mark: u32,
}

impl Claims {
    pub(super) fn begin<P: Platform>(&mut self, manager: &Manager<P>) {
        self.total = 0;
        self.hidden = 0;
        for (index, figures) in manager.paging_file_figures().enumerate() {
            let Some(file) = PagingFileNumber::new(figures.number) else { continue };
            if index == self.files.len() {
                let claimed = Vec::new();
                self.files.push(FileClaims { file, size: 0, in_use: 0, claimed, next_mark: 0 });
            }
            let claims = &mut self.files[index];
            claims.file = file;
            claims.size = figures.size.get() as u32;
            claims.in_use = figures.in_use.get();
            claims.claimed.clear();
            claims.claimed.resize(claims.size.div_ceil(64) as usize, 0);
        }
    }

    /// Counts slots that a table which cannot be read may name.
    pub(super) fn hide(&mut self, slots: u64) {
        self.hidden = self.hidden.saturating_add(slots);
    }

    /// Claims a slot.
    #[inline]
    pub(super) fn claim<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        file: PagingFileNumber,
        slot: u32,
        owner: impl Fn() -> SlotOwner,
    ) -> Result<(), Defect> {
        if !manager.paging_slot_is_used(file, slot) {
            return Err(Defect::SlotNotMarked { file, slot, owner: owner() });
        }
        let claims = self.files.get_mut(usize::from(file.get())).filter(|file| slot < file.size);
        let Some(word) = claims.and_then(|file| file.claimed.get_mut(slot as usize / 64)) else {
            return Err(Defect::SlotNotMarked { file, slot, owner: owner() });
        };
        let bit = 1 << (slot % 64);
        if *word & bit != 0 {
            return Err(Defect::SlotOwnedTwice { file, slot, owner: owner() });
        }
        *word |= bit;
        self.total += 1;
        Ok(())
    }
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    pub(super) fn check_slots(&mut self) -> Result<(), Defect> {
        let (manager, depth) = (self.manager, self.scratch.depth);
        let claims = &mut self.scratch.claims;
        let found = claims.files.iter().map(|file| file.in_use).sum::<u64>();
        let unexplained = found.checked_sub(claims.total);
        if unexplained.is_none_or(|unexplained| unexplained > claims.hidden) {
            let (owned, hidden) = (claims.total, claims.hidden);
            return Err(Defect::SlotCount { owned, hidden, found });
        }
        if claims.hidden > 0 {
            return Ok(());
        }
        for claims in &mut claims.files {
            let sample = match depth {
                Depth::Everything => claims.size,
                Depth::Sample => MARK_SAMPLE.min(claims.size),
            };
            for _ in 0..sample {
                let slot = claims.next_mark;
                claims.next_mark = if slot + 1 < claims.size { slot + 1 } else { 0 };
                let claimed = claims.claimed[slot as usize / 64] >> (slot % 64) & 1 == 1;
                // Slot 0 is marked from the start and never anybody's.
                let owned = claimed || slot == 0;
                if owned != manager.paging_slot_is_used(claims.file, slot) {
                    return Err(Defect::SlotUnowned { file: claims.file, slot });
                }
            }
        }
        Ok(())
    }
}
