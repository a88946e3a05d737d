//! Slots of the paging files: invariant 8 of spec 3.13.
//!
//! Whoever names a slot claims it: an entry in page-file form, or the original entry of a
//! frame, which is also where a write in progress keeps its slots. A slot is claimed once and
//! marked; all that are marked are claimed. The one exception are slots named by page tables
//! that are in a paging file themselves and cannot be read.

use ntmm::Manager;
use ntmm::platform::Platform;
use ntmm_pte::PagingFileNumber;

use super::Audit;
use super::defect::{Defect, SlotOwner};

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
    in_use: u64,
    /// A picture of the file's bitmap.
    marked: Vec<u64>,
    claimed: Vec<u64>,
}

impl Claims {
    pub(super) fn begin<P: Platform>(&mut self, manager: &Manager<P>) {
        self.total = 0;
        self.hidden = 0;
        for (index, figures) in manager.paging_file_figures().enumerate() {
            let Some(file) = PagingFileNumber::new(figures.number) else { continue };
            if index == self.files.len() {
                let (marked, claimed) = (Vec::new(), Vec::new());
                self.files.push(FileClaims { file, in_use: 0, marked, claimed });
            }
            let claims = &mut self.files[index];
            claims.file = file;
            claims.in_use = figures.in_use.get();
            claims.marked.clear();
            claims.marked.extend(manager.paging_slot_words(file));
            claims.claimed.clear();
            claims.claimed.resize(claims.marked.len(), 0);
            // Slot 0 is marked from the start and never anybody's.
            if let Some(first) = claims.claimed.first_mut() {
                *first = 1;
            }
        }
    }

    /// Counts slots that a table which cannot be read may name.
    pub(super) fn hide(&mut self, slots: u64) {
        self.hidden = self.hidden.saturating_add(slots);
    }

    /// Claims a slot.
    #[inline]
    pub(super) fn claim(
        &mut self,
        file: PagingFileNumber,
        slot: u32,
        owner: impl Fn() -> SlotOwner,
    ) -> Result<(), Defect> {
        let (number, bit) = (slot as usize / 64, 1 << (slot % 64));
        let claims = self.files.get_mut(usize::from(file.get()));
        let marked = claims.filter(|file| file.marked.get(number).is_some_and(|w| w & bit != 0));
        let Some(claims) = marked else {
            return Err(Defect::SlotNotMarked { file, slot, owner: owner() });
        };
        let word = &mut claims.claimed[number];
        if *word & bit != 0 {
            return Err(Defect::SlotOwnedTwice { file, slot, owner: owner() });
        }
        *word |= bit;
        self.total += 1;
        Ok(())
    }
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    pub(super) fn check_slots(&self) -> Result<(), Defect> {
        let claims = &self.scratch.claims;
        let found = claims.files.iter().map(|file| file.in_use).sum::<u64>();
        let unexplained = found.checked_sub(claims.total);
        if unexplained.is_none_or(|unexplained| unexplained > claims.hidden) {
            let (owned, hidden) = (claims.total, claims.hidden);
            return Err(Defect::SlotCount { owned, hidden, found });
        }
        if claims.hidden > 0 {
            return Ok(());
        }
        for FileClaims { file, marked, claimed, .. } in &claims.files {
            // What is claimed is marked.
            let differing = (0..).zip(marked.iter().zip(claimed)).find(|(_, (m, c))| m != c);
            if let Some((number, (marked, claimed))) = differing {
                let slot = 64 * number + (marked ^ claimed).trailing_zeros();
                return Err(Defect::SlotUnowned { file: *file, slot });
            }
        }
        Ok(())
    }
}
