//! Protection (NtProtectVirtualMemory, spec 7.7; API 5).

use ntmm_pte::{Bytes, Modifier, Pages, PagingMode, Protection, PteWord, Va, Vpn};

use super::allocate::{Region, is_committed};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::FrameUse;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::view::allows_change;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::{Commitment, ProtectionChange, SecuredChange, Vad, VadKind};
use crate::working_set::WorkingSetGuard;

/// The protection call.
#[derive(Debug)]
#[must_use]
pub struct Protect {
    call: Call,
    base: Va,
    size: Bytes,
    protection: Protection,
    caching: Caching,
    write_copy: NtStatus,
    stage: Stage,
}

/// What being uncached belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caching {
    Page,
    Allocation,
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
    /// Looking whether all of it is committed. A single page shows that when it is changed.
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
        old: Option<Protection>,
    },
}

impl Protect {
    /// Gives the pages that `size` bytes at `base` touch the protection `protection`.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, protection: Protection) -> Self {
        Self {
            call: Call::new(space),
            base,
            size,
            protection,
            caching: Caching::Page,
            write_copy: NtStatus::INVALID_PAGE_PROTECTION,
            stage: Stage::Start,
        }
    }

    /// The same, where being uncached belongs to the allocation: whatever the new protection says
    /// of it, the pages stay as they were allocated.
    pub const fn keeping_caching(mut self) -> Self {
        self.caching = Caching::Allocation;
        self
    }

    /// The same, where write-copy protections for private memory are refused with `status`
    /// instead of [`NtStatus::INVALID_PAGE_PROTECTION`].
    pub const fn refusing_write_copy_with(mut self, status: NtStatus) -> Self {
        self.write_copy = status;
        self
    }

    /// Finds the range and its descriptor.
    fn start<P: Platform>(&mut self, set: &WorkingSetGuard<'_, '_, P>) -> Result<(), NtStatus> {
        let (start, end) = self.range::<P::Paging>()?;
        let inside = |vad: &Vad| {
            vad.end >= end
                && !matches!(vad.attributes.kind, VadKind::AddressWindow | VadKind::LargePages)
                && vad.attributes.kind != VadKind::PhysicalMapping
        };
        let vad = set.find_vad(start).filter(inside).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        let same = self.protection == vad.attributes.protection;
        if vad.attributes.protection_change == ProtectionChange::Refused && !same {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        set.check_secured(&vad, start, end, SecuredChange::Protection(self.protection))?;
        if vad.attributes.view.is_some() {
            let free = vad.attributes.kind == VadKind::ImageView;
            if !free && !allows_change(vad.attributes.protection, self.protection) {
                return Err(NtStatus::SECTION_PROTECTION);
            }
        } else if self.protection.is_write_copy() {
            return Err(self.write_copy);
        }
        if self.caching == Caching::Allocation {
            self.protection = cached_as(self.protection, vad.attributes.protection);
        }
        let (walk, old) = (RangeWalk::new(start, end), None);
        self.stage = if start == end {
            Stage::Changing { walk, vad, start, end, old }
        } else {
            Stage::Verifying { walk, vad, start, end, old }
        };
        Ok(())
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_3)
    }
}

/// `protection`, uncached if and only if `allocation` is, as far as one can say both that and
/// the rest of it.
const fn cached_as(protection: Protection, allocation: Protection) -> Protection {
    if protection.is_no_access() {
        return protection;
    }
    let modifier = match (protection.modifier(), allocation.modifier()) {
        (Modifier::Guard, _) => Modifier::Guard,
        (_, Modifier::NoCache) if !allocation.is_no_access() => Modifier::NoCache,
        (Modifier::NoCache, _) => Modifier::Cached,
        (modifier, _) => modifier,
    };
    Protection::new(protection.access(), modifier)
}

/// First and last page that `size` bytes at `base` touch; none when they are no user range.
pub(crate) fn page_range<M: PagingMode>(base: Va, size: Bytes) -> Option<(Vpn, Vpn)> {
    let last = base.checked_add(size.checked_sub(Bytes::new(1))?)?;
    M::is_user(last).then(|| (base.vpn(), last.vpn()))
}

/// Checks that every page is committed, and reads the first one's protection.
struct Verify {
    vad: Vad,
    old: Option<Protection>,
}

/// How many pages without entries are looked at under one hold of the lock: in a view it may be
/// that each has to be asked of its prototype.
pub(super) const fn longest_run_in(vad: &Vad) -> Pages {
    match vad.attributes.view {
        Some(_) => Pages::new(1 << 12),
        None => Pages::new(u64::MAX),
    }
}

/// Whether all pages of a run whose entries are zero are committed.
pub(super) fn is_run_committed<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    vad: &Vad,
    (first, last): (Vpn, Vpn),
) -> Result<bool, Blocked> {
    let mut next = first;
    loop {
        let run = set.committed_run(vad, next, last)?;
        if run.commitment == Commitment::Reserved {
            return Ok(false);
        }
        match run.last.checked_add(Pages::ONE) {
            Some(page) if run.last < last => next = page,
            _ => return Ok(true),
        }
    }
}

impl Verify {
    /// Looks at a page or a run of pages; the first to be looked at is the first of the range.
    fn look_at<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let (word, first, last) = match visited {
            Visited::Entry { word, page, .. } => (word, page, page),
            Visited::Nothing { first, last } => (0, first, last),
        };
        let committed = if word == 0 {
            is_run_committed(set, &self.vad, (first, last))?
        } else {
            is_committed::<P>(&self.vad, word)
        };
        if !committed {
            return Err(NtStatus::NOT_COMMITTED.into());
        }
        if self.old.is_none() {
            self.old = Some(page_protection(set, &self.vad, first, word));
        }
        Ok(())
    }
}

impl<P: Platform> Visitor<P> for Verify {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        self.look_at(set, visited)
    }

    fn longest_run(&self) -> Pages {
        longest_run_in(&self.vad)
    }
}

/// The protection of `page`, which `vad` describes and whose entry holds `word`.
pub(crate) fn page_protection<P: Platform>(
    set: &WorkingSetGuard<'_, '_, P>,
    vad: &Vad,
    page: Vpn,
    word: u64,
) -> Protection {
    if word == 0 {
        set.protection_in_view(vad, page)
    } else if P::Paging::is_valid(word) {
        let frame = set.manager().entry(P::Paging::valid_pfn(word));
        if frame.state().usage() == FrameUse::Section {
            return set.protection_of_shared(page, frame.u1());
        }
        P::Paging::software_protection(frame.original())
    } else {
        P::Paging::software_protection(word)
    }
}

/// Gives every page the new protection.
struct Change {
    verify: Verify,
    protection: Protection,
}

impl<P: Platform> Visitor<P> for Change {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        self.verify.look_at(set, visited)?;
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        change_protection(set, batch, &self.verify.vad, (entry, word), page, self.protection)
    }

    fn longest_run(&self) -> Pages {
        longest_run_in(&self.verify.vad)
    }
}

/// Gives one committed page, whose entry holds this word, another protection.
pub(crate) fn change_protection<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    vad: &Vad,
    (entry, word): (EntryRef, u64),
    page: Vpn,
    protection: Protection,
) -> Result<(), Blocked> {
    let manager = set.manager();
    let va = P::Paging::va_of_vpn(page);
    let protection = match protection_in_view(set, vad, word, protection) {
        InView::Private(protection) => protection,
        InView::Shared(protection) => {
            return change_shared(set, batch, (entry, word), va, protection);
        }
    };
    if page_protection(set, vad, page, word) == protection {
        if P::Paging::is_valid(word) {
            // That the page has been written is remembered even where nothing changes.
            set.capture_write(va, word);
        }
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
    let pfn = P::Paging::valid_pfn(word);
    if !protection.is_mappable() {
        return hide_page(set, batch, (entry, word), va, protection);
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
    let wanted = manager.capture_dirty(&mut frame, seen);
    drop(frame);
    set.count_wanted(wanted);
    set.capture_write(va, seen);
    batch.push_page(va);
    Ok(())
}

/// What a new protection means for one page.
enum InView {
    /// The page is private: in private memory, or a copy that was made in a view.
    Private(Protection),
    /// The page is its section's.
    Shared(Protection),
}

/// What `protection` means for a page of `vad` whose entry holds `word` (API 5.2, 5.4): a copy can
/// be written and is not copied again; a page of an image is copied before it is written.
fn protection_in_view<P: Platform>(
    set: &WorkingSetGuard<'_, '_, P>,
    vad: &Vad,
    word: u64,
    protection: Protection,
) -> InView {
    if vad.attributes.view.is_none() {
        return InView::Private(protection);
    }
    let is_copy = if P::Paging::is_valid(word) {
        let frame = set.manager().entry(P::Paging::valid_pfn(word));
        frame.state().usage() != FrameUse::Section
    } else {
        word != 0 && !P::Paging::is_prototype(word)
    };
    if is_copy {
        InView::Private(protection.without_write_copy())
    } else if vad.attributes.kind == VadKind::ImageView {
        InView::Shared(protection.with_write_copy())
    } else {
        InView::Shared(protection)
    }
}

/// Charges a view for a page that may be copied from now on. It is never charged more pages than
/// it has.
fn charge_for_copy<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    page: Vpn,
) -> Result<(), NtStatus> {
    let manager = set.manager();
    let Some(vad) = set.find_vad(page) else { return Ok(()) };
    let pages = Pages::new(vad.end.get() - vad.start.get() + 1);
    if vad.attributes.commit_charge >= pages || set.protection_in_view(&vad, page).is_write_copy() {
        return Ok(());
    }
    let charge = manager.charge_commitment(Pages::ONE)?.keep();
    set.vads().update(&manager.nodes(), vad.start, |attributes| {
        attributes.commit_charge = attributes.commit_charge.saturating_add(charge);
    });
    set.add_commit(charge);
    Ok(())
}

/// Gives a page of a section, whose entry holds `word`, another protection in this view.
fn change_shared<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    (entry, word): (EntryRef, u64),
    va: Va,
    protection: Protection,
) -> Result<(), Blocked> {
    let manager = set.manager();
    if protection.is_write_copy() {
        charge_for_copy(set, va.vpn())?;
    }
    let lookup = P::Paging::prototype_lookup(protection);
    if !P::Paging::is_valid(word) {
        manager.store_software(entry, word, lookup);
        return Ok(());
    }
    let pfn = P::Paging::valid_pfn(word);
    let index = set.locate(va, manager.entry(pfn).u1());
    let Some(index) = index else { manager.corrupt_entry(va) };
    if set.entry(index).protection() == protection {
        return Ok(());
    }
    if !protection.is_mappable() {
        batch.take_record()?;
        set.remove_entry(va, index);
        {
            let mut frame = manager.lock_frame(set.token(), pfn);
            manager.unmap_shared(&mut frame, entry, lookup);
        }
        batch.push_frame(va, pfn);
        return Ok(());
    }
    set.set_entry(index, set.entry(index).with_protection(protection));
    let mut frame = manager.lock_frame(set.token(), pfn);
    let mut seen = word;
    while let Err(actual) =
        manager.exchange_entry(entry, seen, P::Paging::with_valid_protection(seen, protection))
    {
        // Only the hardware can have changed it: an accessed or dirty bit.
        seen = actual;
    }
    manager.capture_dirty_of_shared(&mut frame, seen);
    drop(frame);
    batch.push_page(va);
    Ok(())
}

/// A resident page that becomes no-access or guarded leaves the working set and keeps its
/// contents: a transition entry with the new protection.
fn hide_page<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    (entry, word): (EntryRef, u64),
    va: Va,
    protection: Protection,
) -> Result<(), Blocked> {
    batch.take_record()?;
    let manager = set.manager();
    let pfn = P::Paging::valid_pfn(word);
    let hint = manager.entry(pfn).u1();
    set.remove_entry(va, hint);
    let (held, wanted) = {
        let mut frame = manager.lock_frame(set.token(), pfn);
        let original = frame.entry().original();
        frame.entry().set_original(P::Paging::with_protection(original, protection));
        manager.make_transition(&mut frame, entry)
    };
    set.count_wanted(wanted);
    set.capture_write(va, held);
    batch.push_frame(va, pfn);
    Ok(())
}

impl<P: Platform> Stages<P> for Protect {
    type Output = Protected;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if self.protection.is_decommitted() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        if !P::Paging::is_user(self.base) {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        self.range::<P::Paging>().map(|_| ())
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Start)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Protected, Blocked> {
        if matches!(self.stage, Stage::Start) {
            self.start(set)?;
        }
        let pending = &mut self.call.pending;
        if let Stage::Verifying { walk, vad, start, end, old } = &mut self.stage {
            let mut verify = Verify { vad: *vad, old: *old };
            let outcome = set.walk_stretch(pending, walk, MissingTables::Skip, &mut verify);
            *old = verify.old;
            outcome?;
            let (vad, start, end, old) = (*vad, *start, *end, verify.old);
            let walk = RangeWalk::new(start, end);
            self.stage = Stage::Changing { walk, vad, start, end, old };
        }
        let Stage::Changing { walk, vad, start, end, old } = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        let verify = Verify { vad: *vad, old: *old };
        let mut change = Change { verify, protection: self.protection };
        // Pages without an entry have the protection of the descriptor, or are not committed.
        let attributes = vad.attributes;
        let missing = if attributes.protection == self.protection
            || (attributes.commitment == Commitment::Reserved && attributes.view.is_none())
        {
            MissingTables::Skip
        } else {
            MissingTables::Create
        };
        let outcome = set.walk_stretch(pending, walk, missing, &mut change);
        *old = change.verify.old;
        outcome?;
        let old = old.unwrap_or(attributes.protection);
        Ok(Protected { region: Region::of_pages::<P::Paging>(*start, *end), old })
    }
}

impl<P: Platform> Operation<P> for Protect {
    type Output = Protected;

    fn step(&mut self, manager: &Manager<P>) -> Step<Protected> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
