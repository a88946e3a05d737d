//! Committing pages of a view that was mapped to be longer than its file (API 3.3): the file is made
//! as long as the pages that are committed, whatever the view allows.

use ntmm_pte::{Bytes, PAGE_SIZE, Protection, Va};

use super::attributes::SectionAttributes;
use super::control_area::Holder;
use super::create::{CreateSection, SectionKind, SectionRequest};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::{FileId, Platform};
use crate::status::NtStatus;
use crate::virtual_memory::{Allocate, AllocationType, CommitInView, Placement, Region};

/// Commits pages of an allocation that exists; where they are of a file that is too short, makes it
/// longer. Yields the range.
///
/// Raises what [`Allocate`] does, and what [`CreateSection`] does when the file cannot be made
/// longer; the pages are as before then.
#[derive(Debug)]
#[must_use]
pub struct CommitPages {
    space: AddressSpaceId,
    base: Va,
    size: Bytes,
    protection: Protection,
    in_views: CommitInView,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    Committing(Allocate),
    /// The file is made longer.
    Growing(CreateSection),
}

impl CommitPages {
    /// Commits the pages that `size` bytes at `base` of `space` touch, with `protection`, as the
    /// version of the caller does in views.
    pub const fn new(
        space: AddressSpaceId,
        base: Va,
        size: Bytes,
        protection: Protection,
        in_views: CommitInView,
    ) -> Self {
        Self { space, base, size, protection, in_views, stage: Stage::Start }
    }

    fn commit(&self) -> Allocate {
        let (placement, kind) = (Placement::AtAny(self.base), AllocationType::Commit);
        Allocate::new(self.space, placement, self.size, kind, self.protection)
            .in_views(self.in_views)
    }

    /// The section that makes the file long enough.
    fn longer<P: Platform>(&self, manager: &Manager<P>) -> Result<CreateSection, NtStatus> {
        let last = self.size.checked_sub(Bytes::new(1));
        let last = last.and_then(|rest| self.base.checked_add(rest)).unwrap_or(self.base);
        let mut entry = manager.enter();
        let set = manager.lock_live_space(entry.token(), self.space)?;
        let vad = set.find_vad(last.vpn()).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        let view = vad.attributes.view.ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        Ok(CreateSection::new(SectionRequest {
            kind: SectionKind::File(FileId(manager.control_area(view.area).file())),
            size: (view.page_of(&vad, last.vpn()).get() + 1) * PAGE_SIZE,
            protection: Protection::READWRITE,
            attributes: SectionAttributes::FILE.bits(),
            holder: Holder::System,
        }))
    }
}

impl<P: Platform> Operation<P> for CommitPages {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Start => Stage::Committing(self.commit()),
                Stage::Committing(commit) => match commit.step(manager) {
                    Step::Raise(NtStatus::SECTION_NOT_EXTENDED) => match self.longer(manager) {
                        Ok(longer) => Stage::Growing(longer),
                        Err(status) => return Step::Raise(status),
                    },
                    other => return other,
                },
                Stage::Growing(longer) => match longer.step(manager) {
                    Step::Done(section) => match manager.close_section(section) {
                        Ok(()) => Stage::Start,
                        Err(status) => return Step::Raise(status),
                    },
                    Step::Wait(wait) => return Step::Wait(wait),
                    Step::Raise(status) => return Step::Raise(status),
                },
            };
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        match self.stage {
            Stage::Start => {}
            Stage::Committing(commit) => commit.abandon(manager),
            Stage::Growing(longer) => longer.abandon(manager),
        }
    }
}
