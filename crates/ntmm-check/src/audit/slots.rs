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
use super::picture::SlotBits;

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

    /// Claims slots; `owner` says who claims one of them.
    #[inline]
    pub(super) fn claim(
        &mut self,
        slots: &SlotBits,
        owner: impl Fn(u32) -> SlotOwner,
    ) -> Result<(), Defect> {
        let &SlotBits { file, number, bits } = slots;
        let first = |bits: u64| 64 * number + bits.trailing_zeros();
        let claims = self.files.get_mut(usize::from(file.get()));
        let words = claims.and_then(|claims| {
            let index = number as usize;
            Some((*claims.marked.get(index)?, claims.claimed.get_mut(index)?))
        });
        let unmarked = bits & !words.as_ref().map_or(0, |(marked, _)| *marked);
        let Some((_, claimed)) = words.filter(|_| unmarked == 0) else {
            let slot = first(unmarked);
            return Err(Defect::SlotNotMarked { file, slot, owner: owner(slot) });
        };
        let twice = bits & *claimed;
        if twice != 0 {
            let slot = first(twice);
            return Err(Defect::SlotOwnedTwice { file, slot, owner: owner(slot) });
        }
        *claimed |= bits;
        self.total += u64::from(bits.count_ones());
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
