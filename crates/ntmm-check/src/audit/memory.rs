//! Memory that is lent: how much there is, and that what a removal is after is nobody's (spec
//! 3.2, 9.7).
//!
//! The commitment limit is what can be kept: the memory lent beside the manager's own records
//! and its reserve, less what a removal has asked for, and the paging files, each without its
//! first slot.

use ntmm::commit::RESERVE;
use ntmm::frames::entry::FrameFlags;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::platform::Platform;

use super::Audit;
use super::defect::Defect;

impl<P: Platform> Audit<'_, '_, '_, P> {
    pub(super) fn check_memory(&self) -> Result<(), Defect> {
        let figures = self.manager.memory_figures();
        let (mut lent, mut records) = (0, 0);
        for frame in &self.scratch.frames {
            lent += u32::from(frame.usage != FrameUse::Absent);
            records += u32::from(frame.usage == FrameUse::Manager);
            let asked = frame.flags.contains(FrameFlags::REMOVAL_REQUESTED);
            let fits = match frame.location {
                PageLocation::Zeroed | PageLocation::Free | PageLocation::Standby => !asked,
                PageLocation::Bad => {
                    let faulty = frame.flags.contains(FrameFlags::PARITY_ERROR);
                    frame.usage == FrameUse::None && (asked || faulty)
                }
                _ if frame.usage == FrameUse::Absent => {
                    frame.location == PageLocation::Active && frame.flags.is_empty()
                }
                _ => true,
            };
            if !fits || (asked && figures.leaving == 0) {
                return Err(Defect::Removal { pfn: frame.pfn, location: frame.location });
            }
        }
        if lent != figures.lent {
            return Err(Defect::Lent { expected: lent, found: figures.lent });
        }
        let kept = u64::from(lent.saturating_sub(records)).saturating_sub(RESERVE);
        let files: u64 =
            self.manager.paging_file_figures().map(|file| file.size.get().saturating_sub(1)).sum();
        let expected = (kept + files).saturating_sub(u64::from(figures.leaving));
        let found = figures.commit_limit.get();
        if expected == found { Ok(()) } else { Err(Defect::CommitLimit { expected, found }) }
    }
}
