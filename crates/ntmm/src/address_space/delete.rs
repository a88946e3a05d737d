//! Taking an address space down (MmCleanProcessAddressSpace, MmDeleteProcessAddressSpace,
//! spec 12.6).
//!
//! From the first step on, faults and calls in the space fail. Then every allocation is
//! released; with the last page of a table its table goes, so that in the end only the space's
//! own tables and its list are left, and the physical pages it has allocated. They are flushed from
//! every processor and given back.

use ntmm_pte::{Level, Pages, PagingMode, Pfn, PteWord, Vpn};
use ntmm_sync::level::{Token, Unlocked};

use super::AddressSpaceId;
use crate::fault::Blocked;
use crate::frames::entry::FrameFlags;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step, WaitKey};
use crate::platform::{FlushScope, FlushTicket, Platform};
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::{Vad, VadKind};
use crate::virtual_memory::free::Release;
use crate::virtual_memory::large_pages::ReleaseLargePages;
use crate::virtual_memory::physical_pages::Rest;
use crate::virtual_memory::range::{MissingTables, Pending, RangeWalk, flush_wait};
use crate::working_set::WorkingSetGuard;
use crate::working_set::header::HEADER_WORDS;

/// Deletes an address space. No thread runs in it any more.
///
/// Raised: [`NtStatus::INVALID_HANDLE`] when there is no such space,
/// [`NtStatus::IN_PAGE_ERROR`] when a page table could not be read; the call may be repeated
/// then, the space stays unusable.
#[derive(Debug)]
#[must_use]
pub struct DeleteAddressSpace {
    space: AddressSpaceId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    NextAllocation,
    Releasing {
        pending: Pending,
        allocation: Releasing,
    },
    Flushing(FlushTicket),
    /// No processor reaches the space any more. Its physical pages go, then what is left of it.
    ReturningPages,
    Finished,
}

/// An allocation that is being released.
#[derive(Debug)]
enum Releasing {
    Pages { walk: RangeWalk, release: Release },
    LargePages(ReleaseLargePages),
}

impl Releasing {
    const fn new(vad: Vad) -> Self {
        match vad.attributes.kind {
            VadKind::LargePages => Self::LargePages(ReleaseLargePages::new(vad)),
            _ => Self::Pages {
                walk: RangeWalk::new(vad.start, vad.end),
                release: Release::new(vad, vad.end),
            },
        }
    }

    /// Goes on for a stretch; fine when that was the last.
    fn advance<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        pending: &mut Pending,
    ) -> Result<(), Blocked> {
        match self {
            Self::Pages { walk, release } => {
                set.walk_stretch(pending, walk, MissingTables::Skip, release)
            }
            Self::LargePages(release) => release.advance(set, pending),
        }
    }
}

impl DeleteAddressSpace {
    /// Deletes `space`.
    pub const fn new(space: AddressSpaceId) -> Self {
        Self { space, stage: Stage::Start }
    }

    /// Gives back what the operation holds; it can be stepped again from the start.
    fn give_up<P: Platform>(&mut self, manager: &Manager<P>) {
        if let Stage::Releasing { pending, .. } = &mut self.stage {
            pending.holds.release(manager);
        }
        if !matches!(self.stage, Stage::Start | Stage::Finished) {
            manager.disown_address_creation(self.space);
            self.stage = Stage::Start;
        }
    }

    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let mut entry = manager.enter();
        let mut set =
            manager.lock_space(entry.token(), self.space).ok_or(NtStatus::INVALID_HANDLE)?;
        set.address_creation_is_free()?;
        set.own_address_creation();
        set.begin_deletion();
        self.stage = Stage::NextAllocation;
        Ok(())
    }

    fn next_allocation<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let mut entry = manager.enter();
        let mut set =
            manager.lock_space(entry.token(), self.space).ok_or(NtStatus::INVALID_HANDLE)?;
        self.stage = match set.vads().next_at_or_after(&manager.nodes(), Vpn::new(0)) {
            Some(vad) => {
                Stage::Releasing { pending: Pending::new(), allocation: Releasing::new(vad) }
            }
            None => {
                set.drop_secured_ranges();
                Stage::Flushing(manager.platform().flush(FlushScope::Space { space: self.space }))
            }
        };
        Ok(())
    }

    fn advance<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        match &mut self.stage {
            Stage::Start => self.start(manager)?,
            Stage::NextAllocation => self.next_allocation(manager)?,
            Stage::Releasing { pending, allocation } => {
                pending.check(manager)?;
                let outcome = {
                    let mut entry = manager.enter();
                    let mut set = manager
                        .lock_space(entry.token(), self.space)
                        .ok_or(NtStatus::INVALID_HANDLE)?;
                    allocation.advance(&mut set, pending)
                };
                match outcome {
                    Ok(()) => {
                        pending.holds.release(manager);
                        self.stage = Stage::NextAllocation;
                    }
                    Err(blocked) => pending.holds.absorb(manager, blocked).map_or(Ok(()), Err)?,
                }
            }
            Stage::Flushing(ticket) => {
                if !manager.platform().acknowledged(*ticket) {
                    return Err(flush_wait(*ticket).into());
                }
                self.stage = Stage::ReturningPages;
            }
            Stage::ReturningPages => {
                let mut entry = manager.enter();
                let rest = manager
                    .lock_space(entry.token(), self.space)
                    .ok_or(NtStatus::INVALID_HANDLE)?
                    .free_physical_pages();
                if rest == Rest::None {
                    manager.free_space(entry.token(), self.space);
                    self.stage = Stage::Finished;
                }
            }
            Stage::Finished => {}
        }
        Ok(())
    }
}

impl<P: Platform> Operation<P> for DeleteAddressSpace {
    type Output = ();

    fn step(&mut self, manager: &Manager<P>) -> Step<()> {
        while !matches!(self.stage, Stage::Finished) {
            match self.advance(manager) {
                Ok(()) => {}
                Err(Pause::Wait(wait)) => return Step::Wait(wait),
                Err(Pause::Raise(status)) => {
                    // A page table could not be read. The space stays as it is, unusable, and
                    // its deletion can be tried again.
                    self.give_up(manager);
                    return Step::Raise(status);
                }
            }
        }
        Step::Done(())
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.give_up(manager);
    }
}

impl<P: Platform> Manager<P> {
    /// Gives back the space's own frames; nothing refers to them any more.
    fn free_space(&self, token: &mut Token<'_, Unlocked>, space: AddressSpaceId) {
        let Some(list) = self.find_space(space) else { return };
        let Some(set) = self.lock_space(token, space) else { return };
        let (root, commit) = (set.root(), set.header().commit());
        set.withdraw();
        // Who still wants to own address creation learns that there is nothing to own.
        self.platform().wake(WaitKey::AddressCreation(space));
        let header = self.header_at(list);
        let list_pages = (HEADER_WORDS + header.initialized()).div_ceil(512) as usize;
        let hash_pages = header.hash_size() / 512;
        let table = Pfn::new(header.list_table());
        for page in 1..list_pages {
            let word = self.load_entry(self.list_entry(header, page));
            self.free_own_frame(token, P::Paging::valid_pfn(word));
        }
        for page in 0..u64::from(hash_pages) {
            let slot = ntmm_pte::Slot::from_low_bits(P::Paging::ENTRIES as u64 - 1 - page);
            let word = self.load_entry(EntryRef { table, slot });
            self.free_own_frame(token, P::Paging::valid_pfn(word));
        }
        self.free_own_tables(token, root);
        self.free_own_frame(token, list);
        self.return_commitment(Pages::new(commit));
    }

    /// Frees the tables on the way to hyperspace, the lowest first, the directories of PAE and
    /// the root.
    fn free_own_tables(&self, token: &mut Token<'_, Unlocked>, root: Pfn) {
        let address = Self::list_address(0);
        let mut level = Level::Table;
        while level < P::Paging::SELF_MAP_LEVEL {
            let Some(above) = level.up() else { break };
            if let crate::tables::Walk::Found(entry) = self.walk(root, address, above) {
                let pfn = P::Paging::valid_pfn(self.load_entry(entry));
                // The entries below go with their table.
                self.free_own_frame(token, pfn);
            }
            level = above;
        }
        if P::Paging::SELF_MAP_LEVEL != P::Paging::TOP {
            for slot in 0..P::Paging::TOP_ENTRIES as u64 {
                let entry = EntryRef { table: root, slot: ntmm_pte::Slot::from_low_bits(slot) };
                let pfn = P::Paging::valid_pfn(self.load_entry(entry));
                self.free_own_frame(token, pfn);
            }
        }
        self.free_own_frame(token, root);
    }

    /// Frees a frame of a space that no processor can reach any more.
    fn free_own_frame(&self, token: &mut Token<'_, Unlocked>, pfn: Pfn) {
        let mut frame = self.lock_frame(token, pfn);
        frame.entry().set_u1_and_share(0, 0);
        frame.entry().set_original(0);
        frame.insert(FrameFlags::DELETED);
        self.drop_reference(&mut frame);
    }
}
