//! Large pages: directory entries that map a run of frames, or keep frames for one.
//!
//! Such an entry lies in the range of a descriptor of large pages, in a table that is mapped. If
//! it is valid it may be used by the program, its run begins at a multiple of its length, and every
//! frame of the run names it. If not, those frames of the run that name it are its own.

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::platform::Platform;
use ntmm::vad::VadKind;
use ntmm_pte::Pfn;

use super::Audit;
use super::decode::LargeWord;
use super::defect::{Defect, Form};
use super::tables::{Visit, Walk, entry, form, place};

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// Whether the descriptor of an entry's range is one of large pages.
    pub(super) fn is_in_large_pages(&self, walk: &Walk<'_>, visit: &Visit<'_>) -> bool {
        let vad = self.scratch.descriptors.get(walk.descriptor);
        vad.is_some_and(|vad| vad.kind == VadKind::LargePages && vad.start <= visit.page)
    }

    /// Visits the directory entry of a large page.
    pub(super) fn visit_large(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
    ) -> Result<(), Defect> {
        let length = Self::MODE.entries();
        let last = visit.page + u64::from(length) - 1;
        let vad = self.scratch.descriptors.get(walk.descriptor);
        let inside = vad.is_some_and(|vad| vad.start <= visit.page && last <= vad.end);
        let word = Self::MODE.decode_large(visit.word).filter(|_| inside);
        let word = word.ok_or_else(|| form(walk, visit))?;
        if !visit.is_in_mapped_table() {
            return Err(Defect::TrimmedTable { place: place(walk.space, visit), word: visit.word });
        }
        let original = vad.map_or(0, |vad| u64::from(vad.protection) << 5);
        self.scratch.tallies[visit.table.frame].inside += 1;
        let first = match word {
            LargeWord::Mapped { pfn } => pfn,
            LargeWord::Unmapped { pfn } => {
                for number in pfn.get()..pfn.get().saturating_add(length) {
                    if let Some(index) = self.scratch.index(Pfn::new(number)) {
                        let frame = &self.scratch.frames[index];
                        let own = frame.usage == FrameUse::LargePage;
                        if own && frame.container == entry(visit) {
                            self.scratch.tallies[index].transitions += 1;
                        }
                    }
                }
                return Ok(());
            }
        };
        if !first.get().is_multiple_of(length) {
            return Err(form(walk, visit));
        }
        for pfn in (first.get()..first.get().saturating_add(length)).map(Pfn::new) {
            let place = || place(walk.space, visit);
            let Some(index) = self.scratch.index(pfn) else {
                return Err(Defect::NoSuchFrame(place(), pfn));
            };
            let frame = &self.scratch.frames[index];
            let (location, usage) = (frame.location, frame.usage);
            if location != PageLocation::Active || usage != FrameUse::LargePage {
                let form = Form::Valid;
                return Err(Defect::EntryFrame { place: place(), pfn, form, location, usage });
            }
            if frame.container != entry(visit) {
                return Err(Defect::Container { place: place(), pfn, found: frame.container });
            }
            if frame.original != original {
                return Err(Defect::OriginalForm { pfn, word: frame.original });
            }
            self.scratch.tallies[index].mappings += 1;
        }
        walk.census.private_pages += u64::from(length);
        Ok(())
    }
}
