//! What each frame says of itself against all that refers to it: invariants 3, 4 and 7 of spec
//! 3.13, the original entries of 3.3, and the question nobody else asks: who owns this frame?

use ntmm::frames::entry::{FrameFlags, NOWHERE};
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::FrameView;
use ntmm::platform::{Direction, Platform};
use ntmm_pte::Pfn;

use super::decode::Word;
use super::defect::{Defect, FrameCount, Presence, SlotOwner};
use super::picture::SlotBits;
use super::slots::Claims;
use super::{Audit, Scratch};

/// Slots a frame of a paging file's bitmap describes (spec 9.1: one bit each).
const SLOTS_PER_BITMAP_FRAME: u64 = 4096 * 8;

/// What refers to a frame, as found on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Valid entries that name it.
    pub(super) mappings: u32,
    /// Transition entries that name it.
    pub(super) transitions: u32,
    /// Valid and transition entries in it, when it is a page table.
    pub(super) inside: u32,
    /// References of transfers and flush batches.
    holds: u32,
    reads: u32,
    writes: u32,
    /// Prototypes that are valid or in transition and name it.
    pub(super) prototypes: u32,
    /// Entries of working sets that are direct and name it, when it holds a page of a section.
    pub(super) direct: u32,
    /// Owners that are no entries: the space of a root, the tree of a node, the process of a
    /// physical page.
    pub(super) owners: u32,
    /// It is one of the tables a space has from its beginning.
    pub(super) permanent: bool,
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// Counts the references of transfers and flush batches.
    pub(super) fn tally_holders(&mut self) -> Result<(), Defect> {
        let manager = self.manager;
        let mut outcome = Ok(());
        manager.for_each_transfer_record(|direction, frames, holders| {
            if outcome.is_ok() {
                outcome = self.tally_transfer(direction, frames, holders);
            }
        });
        outcome?;
        let mut unknown = None;
        manager.for_each_flush_frame(|pfn| match self.scratch.index(pfn) {
            Some(index) => self.scratch.tallies[index].holds += 1,
            None => unknown = Some(pfn),
        });
        match unknown {
            Some(pfn) => {
                let (location, usage) = (PageLocation::Transition, FrameUse::Absent);
                Err(Defect::Use { pfn, location, usage })
            }
            None => Ok(()),
        }
    }

    /// The frames of a read that is in flight all carry its flag and its number; one that is
    /// complete exists only because somebody holds it.
    fn tally_transfer(
        &mut self,
        direction: Direction,
        frames: &[Pfn],
        holders: u16,
    ) -> Result<(), Defect> {
        let Some(&first) = frames.first() else { return Err(Defect::EmptyTransfer(direction)) };
        let mut state = None;
        for &pfn in frames {
            let wrong = Err(Defect::Transfer { pfn, direction });
            let Some(index) = self.scratch.index(pfn) else { return wrong };
            let frame = &self.scratch.frames[index];
            let tally = &mut self.scratch.tallies[index];
            tally.holds += 1;
            match direction {
                Direction::Write => tally.writes += 1,
                Direction::Read => {
                    let in_flight = frame.flags.contains(FrameFlags::READ_IN_PROGRESS);
                    tally.reads += u32::from(in_flight);
                    let number = in_flight.then_some(frame.u1);
                    if *state.get_or_insert(number) != number {
                        return wrong;
                    }
                }
            }
        }
        if direction == Direction::Read && state == Some(None) && holders == 0 {
            return Err(Defect::Transfer { pfn: first, direction });
        }
        Ok(())
    }

    /// Checks every frame, when all that refers to frames has been seen.
    pub(super) fn check_frames(&mut self) -> Result<(), Defect> {
        let (mut own, mut bitmaps, mut records) = (0, 0, 0);
        let Scratch { frames, tallies, claims, .. } = &mut *self.scratch;
        for (frame, tally) in frames.iter().zip(tallies.iter()) {
            if !is_plain(frame, tally) {
                if frame.locked {
                    return Err(Defect::FrameLocked(frame.pfn));
                }
                check_counts(frame, tally)?;
                check_owner(frame, tally)?;
                check_flags(frame, tally)?;
            }
            match frame.usage {
                FrameUse::Manager => own += 1,
                FrameUse::PagingFileBitmap => bitmaps += 1,
                FrameUse::SectionRecords => records += 1,
                FrameUse::Private
                | FrameUse::PageTable
                | FrameUse::Section
                | FrameUse::Prototypes => {
                    Self::check_copy(claims, frame, tally)?;
                }
                FrameUse::Root | FrameUse::WorkingSetList => {
                    if !matches!(Self::MODE.decode(frame.original), Word::DemandZero { .. }) {
                        return Err(original_form(frame));
                    }
                }
                FrameUse::UserPhysical => check_physical(frame, tally)?,
                FrameUse::None | FrameUse::VadNode | FrameUse::LargePage | FrameUse::Absent => {}
            }
        }
        let expected = *self.scratch.manager_frames.get_or_insert(own);
        check_fixed(FrameUse::Manager, expected, own)?;
        check_fixed(FrameUse::SectionRecords, self.scratch.sections.record_frames, records)?;
        check_fixed(FrameUse::PagingFileBitmap, self.bitmap_frames() as u32, bitmaps)
    }

    /// A directory and as many frames of bits as the largest size of the file needs.
    pub(super) fn bitmap_frames(&self) -> u64 {
        self.manager
            .paging_file_figures()
            .map(|file| 1 + file.maximum.get().div_ceil(SLOTS_PER_BITMAP_FRAME))
            .sum()
    }

    /// Checks the original entry of a pageable frame, and claims the slot it names. A page
    /// whose only copy is in memory is modified, or has been reset; any other has a slot; the
    /// slot of a copy that is stale or of no use has been given back (spec 2.14, 7.4).
    #[inline]
    fn check_copy(claims: &mut Claims, frame: &FrameView, tally: &Tally) -> Result<(), Defect> {
        if frame.location == PageLocation::Bad {
            return Ok(());
        }
        let deleted = frame.flags.contains(FrameFlags::DELETED);
        let slot = match Self::MODE.decode(frame.original) {
            Word::PageFile { file, slot, .. } => {
                let owner = |_| SlotOwner::Original(frame.pfn);
                claims.claim(&SlotBits::one(file, slot), owner)?;
                Some(slot)
            }
            Word::DemandZero { .. } => None,
            Word::Zero if deleted => None,
            // A page of a file, whose copy is there.
            Word::Prototype if frame.usage == FrameUse::Section => return Ok(()),
            _ => return Err(original_form(frame)),
        };
        if deleted || tally.permanent {
            return Ok(());
        }
        let modified = frame.flags.contains(FrameFlags::MODIFIED);
        let written = frame.flags.contains(FrameFlags::WRITE_IN_PROGRESS);
        let reset = frame.flags.contains(FrameFlags::RESET);
        if reset && (modified || frame.usage != FrameUse::Private) {
            return Err(Defect::Reset(frame.pfn));
        }
        let needless = modified || reset;
        match slot {
            None if written || !needless => Err(Defect::NoCopy(frame.pfn)),
            Some(slot) if needless && !written => Err(Defect::StaleCopy { pfn: frame.pfn, slot }),
            _ => Ok(()),
        }
    }
}

/// Whether a frame is in one of the commonest states and nothing of it is in doubt, so that
/// counts, owner and flags have nothing to be found.
#[inline]
fn is_plain(frame: &FrameView, tally: &Tally) -> bool {
    if frame.locked || tally.holds | tally.reads | tally.writes != 0 {
        return false;
    }
    let named = (tally.mappings, tally.transitions);
    let counted = (frame.references, frame.share);
    let flags = frame.flags;
    match (frame.location, frame.usage) {
        (PageLocation::Zeroed | PageLocation::Free, FrameUse::None) => {
            frame.references == 0 && flags.is_empty()
        }
        (PageLocation::Active, FrameUse::Manager) => {
            counted == (1, 1) && named == (0, 0) && flags.is_empty()
        }
        (PageLocation::Active, FrameUse::LargePage) => {
            counted == (1, 1) && named == (1, 0) && flags.is_empty()
        }
        (PageLocation::Active, FrameUse::Private) => {
            counted == (1, 1) && named == (1, 0) && (flags - FrameFlags::MODIFIED).is_empty()
        }
        (PageLocation::Standby, FrameUse::Private) => {
            frame.references == 0 && named == (0, 1) && flags.is_empty()
        }
        (PageLocation::Modified, FrameUse::Private) => {
            frame.references == 0 && named == (0, 1) && flags == FrameFlags::MODIFIED
        }
        _ => false,
    }
}

fn check_fixed(usage: FrameUse, expected: u32, found: u32) -> Result<(), Defect> {
    if expected == found { Ok(()) } else { Err(Defect::FixedFrames { usage, expected, found }) }
}

fn original_form(frame: &FrameView) -> Defect {
    Defect::OriginalForm { pfn: frame.pfn, word: frame.original }
}

const fn count(frame: &FrameView, expected: u32, found: u32) -> FrameCount {
    FrameCount { pfn: frame.pfn, location: frame.location, usage: frame.usage, expected, found }
}

/// Share and reference counts (spec 3.4). On a list the share count is a link.
fn check_counts(frame: &FrameView, tally: &Tally) -> Result<(), Defect> {
    let share = match (frame.location, frame.usage) {
        (PageLocation::Transition, _) => Some(0),
        (PageLocation::Active, FrameUse::Absent) => Some(0),
        // The root register is one mapping.
        (PageLocation::Active, FrameUse::Root) => Some(tally.mappings + tally.inside + 1),
        (PageLocation::Active, FrameUse::PageTable | FrameUse::Prototypes) => {
            Some(tally.mappings + tally.inside)
        }
        (PageLocation::Active, FrameUse::Section) => Some(tally.mappings),
        (PageLocation::Active, FrameUse::UserPhysical) => Some(tally.owners + tally.mappings),
        (PageLocation::Active, _) => Some(tally.mappings.max(1)),
        _ => None,
    };
    if let Some(expected) = share
        && expected != frame.share
    {
        return Err(Defect::Share(count(frame, expected, frame.share)));
    }
    let expected = u32::from(share.is_some_and(|share| share > 0)) + tally.holds;
    let found = u32::from(frame.references);
    let listed = frame.location.is_list();
    if found != expected || (listed && found != 0) {
        let expected = if listed { 0 } else { expected };
        return Err(Defect::References(count(frame, expected, found)));
    }
    if frame.location == PageLocation::Transition && found == 0 {
        return Err(Defect::References(count(frame, 1, found)));
    }
    Ok(())
}

/// Somebody owns each frame that is not free, and one only.
fn check_owner(frame: &FrameView, tally: &Tally) -> Result<(), Defect> {
    let FrameView { pfn, location, usage, .. } = *frame;
    let pageable = matches!(
        usage,
        FrameUse::Private | FrameUse::PageTable | FrameUse::Section | FrameUse::Prototypes
    );
    let fits = match location {
        PageLocation::Zeroed | PageLocation::Free => {
            usage == FrameUse::None && frame.flags.is_empty()
        }
        PageLocation::Standby | PageLocation::Modified | PageLocation::ModifiedNoWrite => pageable,
        PageLocation::Active => usage != FrameUse::None,
        PageLocation::Transition => !matches!(usage, FrameUse::None | FrameUse::Absent),
        PageLocation::Bad => true,
    };
    if !fits {
        return Err(Defect::Use { pfn, location, usage });
    }
    if frame.flags.contains(FrameFlags::DELETED) {
        let named = tally.mappings + tally.transitions + tally.prototypes + tally.owners > 0;
        return if location == PageLocation::Transition && !named {
            Ok(())
        } else {
            Err(Defect::DeletedInUse { pfn, location })
        };
    }
    let owners = match usage {
        FrameUse::None | FrameUse::Manager | FrameUse::PagingFileBitmap | FrameUse::Absent => {
            return Ok(());
        }
        // A physical page is mapped at one address at most.
        FrameUse::UserPhysical => tally.owners.max(tally.mappings),
        FrameUse::Root | FrameUse::VadNode | FrameUse::SectionRecords => tally.owners,
        // Many entries map it; one prototype stands for it.
        FrameUse::Section => tally.prototypes,
        // The directories of PAE are mapped by the root and by the self-map.
        FrameUse::PageTable if tally.permanent => tally.mappings.min(1),
        FrameUse::Private
        | FrameUse::PageTable
        | FrameUse::WorkingSetList
        | FrameUse::Prototypes
        | FrameUse::LargePage => tally.mappings + tally.transitions,
    };
    match owners {
        0 if location != PageLocation::Bad => Err(Defect::Unaccounted { pfn, location, usage }),
        0 | 1 => Ok(()),
        _ => Err(Defect::OwnedTwice { pfn, usage }),
    }
}

/// A physical page of a process that nothing maps names no entry.
fn check_physical(frame: &FrameView, tally: &Tally) -> Result<(), Defect> {
    let unmapped = tally.mappings == 0 && !frame.flags.contains(FrameFlags::DELETED);
    if unmapped && frame.container.table != NOWHERE {
        return Err(Defect::NotMapped { pfn: frame.pfn, found: frame.container });
    }
    Ok(())
}

/// Flags against transfers and lists.
fn check_flags(frame: &FrameView, tally: &Tally) -> Result<(), Defect> {
    let pfn = frame.pfn;
    let transfers = [
        (Direction::Read, FrameFlags::READ_IN_PROGRESS, tally.reads),
        (Direction::Write, FrameFlags::WRITE_IN_PROGRESS, tally.writes),
    ];
    for (direction, flag, expected) in transfers {
        let flagged = frame.flags.contains(flag);
        if expected != u32::from(flagged) {
            let flagged = Presence::of(flagged);
            return Err(Defect::TransferFlag { pfn, direction, expected, flagged });
        }
    }
    let of_section = frame.usage == FrameUse::Section;
    if frame.flags.contains(FrameFlags::PROTOTYPE) != of_section {
        return Err(Defect::PrototypeFlag(pfn));
    }
    if tally.direct > 1 {
        return Err(Defect::TwoDirect(pfn));
    }
    let modified = frame.flags.contains(FrameFlags::MODIFIED);
    match frame.location {
        PageLocation::Standby if modified => {}
        PageLocation::Modified | PageLocation::ModifiedNoWrite if !modified => {}
        _ => return Ok(()),
    }
    Err(Defect::Dirtiness { pfn, location: frame.location })
}
