//! Descriptors and charges: what a space has reserved and committed, and what that costs it
//! (invariant 10 of spec 3.13, spec 7.2, 9.7).

use ntmm::frames::FrameUse;
use ntmm::frames::entry::NOWHERE;
use ntmm::inspect::SpaceView;
use ntmm::platform::Platform;
use ntmm::section::ControlAreaId;
use ntmm::vad::{Commitment, Secured, SecuredAccess, VadKind};

use ntmm_pte::Pfn;

use super::defect::{Defect, Figure};
use super::tables::Census;
use super::{Audit, PendingCommit, address_of};

/// A descriptor, and what the tables have for its range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) kind: VadKind,
    secured: Secured,
    pub(super) protection: u8,
    commitment: Commitment,
    charge: u64,
    /// Committed pages of a reserved range, decommitted ones of a committed range.
    exceptions: u64,
    /// The control area a view shows, and the page it begins with.
    pub(super) view: Option<(ControlAreaId, u64)>,
    /// Part of its tables cannot be read.
    pub(super) hidden: bool,
}

impl Descriptor {
    /// Takes note of entries of the range: of committed pages, and of decommitted ones.
    #[inline]
    pub(super) fn note(&mut self, committed: u32, decommitted: u32) {
        let exceptions = match self.commitment {
            Commitment::Committed => decommitted,
            Commitment::Reserved => committed,
        };
        self.exceptions += u64::from(exceptions);
    }

    fn committed(&self) -> u64 {
        if self.view.is_some() {
            // A view is charged for all of its pages, if they are copied when they are written;
            // one of an image for those of them that are, and each for pages that come to be.
            let copied = matches!(self.protection & 7, 5 | 7) && self.kind == VadKind::View;
            let pages = self.end - self.start + 1;
            return if copied { pages } else { self.charge.min(pages) };
        }
        match self.commitment {
            Commitment::Committed => self.end - self.start + 1 - self.exceptions,
            Commitment::Reserved => self.exceptions,
        }
    }
}

/// A secured range, and the pages of it that have entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecuredPages {
    start: u64,
    end: u64,
    access: SecuredAccess,
    seen: u64,
}

impl SecuredPages {
    /// Whether pages of this protection give the access (spec 2.11): neither no access nor a
    /// guard, and one of the four upper rights for writing.
    const fn is_kept_by(&self, protection: u8) -> bool {
        let lowest = match self.access {
            SecuredAccess::Read => 1,
            SecuredAccess::ReadWrite => 4,
        };
        protection & 7 >= lowest && protection >> 3 != 2
    }
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// Lists the secured ranges of a space that lives.
    pub(super) fn begin_secured(&mut self, space: &SpaceView<'_, P>) {
        let secured = &mut self.scratch.secured;
        secured.clear();
        if space.is_being_deleted() {
            return;
        }
        space.for_each_secured_range(|range| {
            let (start, end, access) = (range.start.get(), range.end.get(), range.access);
            secured.push(SecuredPages { start, end, access, seen: 0 });
        });
    }

    /// Checks a page whose entry says that it has this protection.
    #[inline]
    pub(super) fn check_secured_page(&mut self, page: u64, protection: u8) -> Result<(), u64> {
        for range in &mut self.scratch.secured {
            if (range.start..=range.end).contains(&page) {
                range.seen += 1;
                if !range.is_kept_by(protection) {
                    return Err(range.start);
                }
            }
        }
        Ok(())
    }

    /// Checks that each secured range lies in a descriptor, which knows how many it has, and that
    /// the pages of it without entries are accessible.
    fn check_secured(&self, space: &SpaceView<'_, P>) -> Result<(), Defect> {
        let ranges = &self.scratch.secured;
        let id = space.space();
        let mut housed = 0;
        for descriptor in &self.scratch.descriptors {
            let inside = |range: &&SecuredPages| {
                descriptor.start <= range.start && range.end <= descriptor.end
            };
            let mut count = 0;
            for range in ranges.iter().filter(inside) {
                count += 1;
                let described = descriptor.commitment == Commitment::Committed
                    && range.is_kept_by(descriptor.protection);
                let all_seen = range.seen == range.end - range.start + 1;
                if !descriptor.hidden && !described && !all_seen {
                    return Err(Defect::Secured { space: id, start: address_of(range.start) });
                }
            }
            housed += count;
            let expected = match count {
                0 => Secured::No,
                1 => Secured::One,
                _ => Secured::Multiple,
            };
            if descriptor.secured != expected && !space.is_being_deleted() {
                return Err(Defect::Secured { space: id, start: address_of(descriptor.start) });
            }
        }
        if housed != ranges.len() {
            let outside = |range: &&SecuredPages| {
                !self
                    .scratch
                    .descriptors
                    .iter()
                    .any(|vad| vad.start <= range.start && range.end <= vad.end)
            };
            let start = ranges.iter().find(outside).map_or(0, |range| range.start);
            return Err(Defect::Secured { space: id, start: address_of(start) });
        }
        Ok(())
    }

    /// Lists the descriptors of a space.
    pub(super) fn begin_descriptors(&mut self, space: &SpaceView<'_, P>) -> Result<(), Defect> {
        let id = space.space();
        space.check_vads().map_err(|defect| Defect::Vads(id, defect))?;
        let descriptors = &mut self.scratch.descriptors;
        let sections = &mut self.scratch.sections;
        let mut unknown = None;
        descriptors.clear();
        space.for_each_vad(|vad| {
            if let Some(view) = vad.attributes.view
                && !sections.note_view(view.area)
            {
                unknown = Some(view.area);
            }
            descriptors.push(Descriptor {
                start: vad.start.get(),
                end: vad.end.get(),
                kind: vad.attributes.kind,
                secured: vad.attributes.secured,
                protection: vad.attributes.protection.bits(),
                commitment: vad.attributes.commitment,
                charge: vad.attributes.commit_charge.get(),
                exceptions: 0,
                view: vad.attributes.view.map(|view| (view.area, view.first.get())),
                hidden: false,
            });
        });
        if let Some(area) = unknown {
            return Err(Defect::NoControlArea(area));
        }
        let mut lowest = Self::MODE.first_vad_page;
        for &Descriptor { start, end, .. } in descriptors.iter() {
            if start < lowest || end < start || end > Self::MODE.last_vad_page {
                let (start, end) = (address_of(start), address_of(end));
                return Err(Defect::VadRange { space: id, start, end });
            }
            lowest = end + 1;
        }
        Ok(())
    }

    /// Checks charges and figures of a space whose tables have been walked.
    pub(super) fn check_descriptors(
        &mut self,
        space: &SpaceView<'_, P>,
        census: &Census,
    ) -> Result<(), Defect> {
        let (id, header) = (space.space(), space.header());
        let (mut charged, mut pages) = (0, 0);
        for descriptor in &self.scratch.descriptors {
            let (expected, found) = (descriptor.committed(), descriptor.charge);
            if expected != found && !descriptor.hidden {
                let start = address_of(descriptor.start);
                return Err(Defect::CommitCharge { space: id, start, expected, found });
            }
            charged += found;
            pages += descriptor.end - descriptor.start + 1;
        }
        self.check_secured(space)?;
        let nodes = self.tally_nodes(space)?;
        let list_growth = census.list_pages - 1 + census.hash_pages;
        let own = Self::MODE.own_frames + u64::from(nodes) + u64::from(list_growth);
        let wanted = census.private_pages - census.shared_pages - census.reset_pages;
        let private = if census.hidden { header.private_pages() } else { wanted };
        let figures = [
            (Figure::Commit, charged + self.tables_needed() + own, header.commit()),
            (Figure::VirtualSize, pages << 12, header.virtual_size()),
            (Figure::PrivatePages, private, header.private_pages()),
        ];
        for (figure, expected, found) in figures {
            if expected != found {
                return Err(Defect::Figure { space: id, figure, expected, found });
            }
        }
        Ok(())
    }

    /// Page tables below the self-map that the descriptors' ranges need: each level's stretches
    /// of address space, counted once however many descriptors lie in them.
    fn tables_needed(&self) -> u64 {
        let mut tables = 0;
        for level in 1..Self::MODE.self_map_level {
            let shift = Self::MODE.page_shift(level + 1);
            let mut counted_to = None;
            for descriptor in &self.scratch.descriptors {
                let (first, last) = (descriptor.start >> shift, descriptor.end >> shift);
                tables += last - first + u64::from(counted_to != Some(first));
                counted_to = Some(last);
            }
        }
        tables
    }

    /// Marks the frames of the tree's nodes as owned; returns how many there are.
    fn tally_nodes(&mut self, space: &SpaceView<'_, P>) -> Result<u32, Defect> {
        let scratch = &mut *self.scratch;
        let mut nodes = 0;
        let mut defect = None;
        space.for_each_vad_node(|pfn| {
            nodes += 1;
            match scratch.index(pfn) {
                Some(index) if scratch.frames[index].usage == FrameUse::VadNode => {
                    scratch.tallies[index].owners += 1;
                }
                index => {
                    let frame = index.map(|index| scratch.frames[index]);
                    let location = frame.map_or(ntmm::frames::PageLocation::Bad, |f| f.location);
                    let usage = frame.map_or(FrameUse::Absent, |f| f.usage);
                    defect = Some(Defect::Use { pfn, location, usage });
                }
            }
        });
        defect.map_or(Ok(nodes), Err)
    }

    /// Goes through the list of a process's physical pages and marks them as owned; returns how
    /// many there are.
    pub(super) fn tally_physical(&mut self, space: &SpaceView<'_, P>) -> Result<u64, Defect> {
        let (id, list) = (space.space(), space.list());
        let expected = u64::from(space.header().physical_pages());
        let claims = self.circumstances.address_creation.contains(&id);
        let scratch = &mut *self.scratch;
        let (mut found, mut before) = (0, NOWHERE);
        let mut outcome = Ok(());
        space.for_each_physical_page(|pfn| {
            found += 1;
            let frame = scratch.index(pfn).map(|index| scratch.frames[index]);
            let own = frame.is_some_and(|frame| {
                frame.usage == FrameUse::UserPhysical
                    && Pfn::new(frame.u1) == list
                    && frame.original >> 32 == u64::from(before.get())
            });
            before = pfn;
            match scratch.index(pfn) {
                Some(index) if own => {
                    scratch.tallies[index].owners += 1;
                    if scratch.frames[index].used_entries != 0 && !claims {
                        outcome = Err(Defect::Claimed(pfn));
                    }
                }
                _ => outcome = Err(Defect::PhysicalList { space: id, pfn: Some(pfn) }),
            }
        });
        if outcome.is_ok() && found != expected {
            outcome = Err(Defect::PhysicalList { space: id, pfn: None });
        }
        outcome.map(|()| found)
    }

    /// The system's charge is that of its spaces, with their physical pages, of its sections, and of
    /// the bitmaps of its paging files.
    pub(super) fn check_system_commit(&self, spaces: u64) -> Result<(), Defect> {
        let known = spaces + self.bitmap_frames() + self.manager.section_commit().get();
        let found = self.manager.memory_figures().committed.get();
        let (least, most) = match self.circumstances.pending_commit {
            PendingCommit::Exactly(pages) => (known + pages.get(), known + pages.get()),
            PendingCommit::AtMost(pages) => (known, known + pages.get()),
        };
        if (least..=most).contains(&found) {
            Ok(())
        } else {
            Err(Defect::SystemCommit { expected: most, found })
        }
    }
}
