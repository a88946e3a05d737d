//! Protection (NtProtectVirtualMemory, spec 7.7; API 5).

use ntmm_pte::{Bytes, PagingMode, Protection, PteWord, Va, Vpn};

use super::Stages;
use super::allocate::{Region, is_committed};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::{Commitment, ProtectionChange, Vad};
use crate::working_set::WorkingSetGuard;

/// The protection call.
#[derive(Debug)]
#[must_use]
pub struct Protect {
    space: AddressSpaceId,
    base: Va,
    size: Bytes,
    protection: Protection,
    stage: Stage,
}

/// What the call yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The range, in whole pages.
    pub region: Region,
    /// Protection of the first page before.
    pub old: Protection,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// Looking whether all of it is committed.
    Verifying {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        old: Option<Protection>,
    },
    Changing {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        old: Protection,
    },
    Finished,
}

impl Protect {
    /// Gives the pages that `size` bytes at `base` touch the protection `protection`.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, protection: Protection) -> Self {
        Self { space, base, size, protection, stage: Stage::Start }
    }

    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        if self.protection.is_write_copy() || self.protection.is_decommitted() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION.into());
        }
        if self.base > P::Paging::HIGHEST_VAD_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER_2.into());
        }
        let (start, end) =
            page_range::<P::Paging>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_3)?;
        let mut entry = manager.enter();
        let mut set = manager.lock_live_space(entry.token(), self.space)?;
        set.own_address_creation()?;
        let vad = set.find_vad(start).filter(|vad| vad.end >= end);
        let status = match vad {
            None => NtStatus::CONFLICTING_ADDRESSES,
            Some(vad) if vad.attributes.protection_change == ProtectionChange::Refused => {
                NtStatus::INVALID_PAGE_PROTECTION
            }
            Some(vad) => {
                let walk = RangeWalk::new(start, end);
                self.stage = Stage::Verifying { walk, vad, start, end, old: None };
                return Ok(());
            }
        };
        set.disown_address_creation();
        Err(status.into())
    }
}

/// First and last page that `size` bytes at `base` touch; none when they are no user range.
pub(crate) fn page_range<M: PagingMode>(base: Va, size: Bytes) -> Option<(Vpn, Vpn)> {
    let last = base.checked_add(size.checked_sub(Bytes::new(1))?)?;
    (last <= M::HIGHEST_VAD_ADDRESS).then(|| (base.vpn(), last.vpn()))
}

/// Checks that every page is committed, and reads the first one's protection.
struct Verify {
    vad: Vad,
    first: Vpn,
    old: Option<Protection>,
}

impl<P: Platform> Visitor<P> for Verify {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let committed = match visited {
            Visited::Entry { entry, page } => {
                let word = set.manager().load_entry(entry);
                if page == self.first {
                    self.old = Some(page_protection(set, &self.vad, word));
                }
                is_committed::<P>(&self.vad, word)
            }
            Visited::Nothing { .. } => self.vad.attributes.commitment == Commitment::Committed,
        };
        if committed { Ok(()) } else { Err(NtStatus::NOT_COMMITTED.into()) }
    }
}

/// The protection of a page of `vad` whose entry holds `word`.
pub(crate) fn page_protection<P: Platform>(
    set: &WorkingSetGuard<'_, '_, P>,
    vad: &Vad,
    word: u64,
) -> Protection {
    if word == 0 {
        vad.attributes.protection
    } else if P::Paging::is_valid(word) {
        let original = set.manager().entry(P::Paging::valid_pfn(word)).original();
        P::Paging::software_protection(original)
    } else {
        P::Paging::software_protection(word)
    }
}

struct Change {
    vad: Vad,
    protection: Protection,
}

impl<P: Platform> Visitor<P> for Change {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        match visited {
            Visited::Entry { entry, page } => {
                change_protection(set, batch, &self.vad, entry, page, self.protection)
            }
            Visited::Nothing { .. } => Ok(()),
        }
    }
}

/// Gives one committed page another protection.
pub(crate) fn change_protection<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    vad: &Vad,
    entry: EntryRef,
    page: Vpn,
    protection: Protection,
) -> Result<(), Blocked> {
    let manager = set.manager();
    let word = manager.load_entry(entry);
    if page_protection(set, vad, word) == protection {
        return Ok(());
    }
    if word == 0 {
        manager.store_software(entry, 0, P::Paging::demand_zero(protection));
        return Ok(());
    }
    if !P::Paging::is_valid(word) {
        return if set.change_software_protection(entry, protection) {
            Ok(())
        } else {
            Err(Blocked::Restart)
        };
    }
    let va = P::Paging::va_of_vpn(page);
    let pfn = P::Paging::valid_pfn(word);
    if !protection.is_mappable() {
        return hide_page(set, batch, entry, va, protection);
    }
    let mut frame = manager.lock_frame(set.token(), pfn);
    let original = frame.entry().original();
    frame.entry().set_original(P::Paging::with_protection(original, protection));
    let mut seen = word;
    while let Err(actual) =
        manager.exchange_entry(entry, seen, P::Paging::with_valid_protection(seen, protection))
    {
        // Only the hardware can have changed it: an accessed or dirty bit.
        seen = actual;
    }
    manager.capture_dirty(&mut frame, seen);
    drop(frame);
    batch.push_page(va);
    Ok(())
}

/// A resident page that becomes no-access or guarded leaves the working set and keeps its
/// contents: a transition entry with the new protection.
fn hide_page<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    entry: EntryRef,
    va: Va,
    protection: Protection,
) -> Result<(), Blocked> {
    let manager = set.manager();
    let pfn = P::Paging::valid_pfn(manager.load_entry(entry));
    let hint = manager.entry(pfn).u1();
    let Some(index) = set.locate(va, hint) else { manager.corrupt_entry(va) };
    set.remove_entry(index);
    {
        let mut frame = manager.lock_frame(set.token(), pfn);
        let original = frame.entry().original();
        frame.entry().set_original(P::Paging::with_protection(original, protection));
        manager.make_transition(&mut frame, entry);
    }
    batch.push_frame(va, pfn);
    Ok(())
}

impl<P: Platform> Stages<P> for Protect {
    type Output = Protected;

    fn proceed(&mut self, manager: &Manager<P>) -> Result<Protected, Pause> {
        if matches!(self.stage, Stage::Start) {
            self.start(manager)?;
        }
        if let Stage::Verifying { walk, vad, start, end, old } = &mut self.stage {
            let mut verify = Verify { vad: *vad, first: *start, old: *old };
            let outcome = manager.walk_range(self.space, walk, MissingTables::Skip, &mut verify);
            *old = verify.old;
            outcome?;
            let (vad, start, end) = (*vad, *start, *end);
            let old = verify.old.unwrap_or(vad.attributes.protection);
            let walk = RangeWalk::new(start, end);
            self.stage = Stage::Changing { walk, vad, start, end, old };
        }
        let Stage::Changing { walk, vad, start, end, old } = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        let mut change = Change { vad: *vad, protection: self.protection };
        let as_described = vad.attributes.protection == self.protection;
        let missing = if as_described { MissingTables::Skip } else { MissingTables::Create };
        manager.walk_range(self.space, walk, missing, &mut change)?;
        Ok(Protected { region: Region::of_pages::<P::Paging>(*start, *end), old: *old })
    }

    fn finish(&mut self, manager: &Manager<P>) {
        match core::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Verifying { mut walk, .. } | Stage::Changing { mut walk, .. } => {
                walk.holds.release(manager);
                manager.disown_address_creation(self.space);
            }
            Stage::Start | Stage::Finished => {}
        }
    }
}

impl<P: Platform> Operation<P> for Protect {
    type Output = Protected;

    fn step(&mut self, manager: &Manager<P>) -> Step<Protected> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
    }
}
