//! Faults on pages of views (MiResolveProtoPteFault, MiCompleteProtoPteFault, spec 4.9).
//!
//! The entry is zero or a lookup word; what the page is says its prototype. Where that is valid
//! the page is mapped once more. Otherwise it is resolved as an entry of a page table would be:
//! zeroes, a soft fault, a read. Then the entry itself becomes valid, with the protection the page
//! has in this space, which is kept in the working-set entry for the time when the page leaves.
//!
//! A write to a page that is copied when it is written is resolved like a read: it faults again,
//! on a valid entry, and [`copy_on_write`](super::copy_on_write) does the rest.

use ntmm_pte::{AccessKind, Dirtiness, Pfn, Protection, PteWord, Va};

use super::{Blocked, Target};
use crate::events::FaultKind;
use crate::fault::Holds;
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::frames::{FrameGuard, FrameUse, PageLocation, PageReservation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::section::ControlAreaFlags;
use crate::section::prototype::{HeldPrototype, Prototype, Untouched};
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;
use crate::working_set::entry::WorkingSetEntry;
use crate::working_set::hash::SHORT_LIST;
use crate::working_set::insert::ReservedEntry;

/// A page of a section that has been mapped once more.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    pfn: Pfn,
    kind: FaultKind,
    mapper: Mapper,
    /// Whether a writable mapping begins as a dirty one.
    dirtiness: Dirtiness,
}

/// Whether a mapping is the only one of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapper {
    First,
    Another,
}

/// What the page is touched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// It will be written where it is.
    Change,
    /// It will be read, or copied.
    Look,
}

/// The word of a prototype whose page is mapped. No hardware walks it, so it grants all.
fn valid_prototype<P: Platform>(pfn: Pfn) -> u64 {
    P::Paging::valid_kernel_local(pfn, Protection::READWRITE, Dirtiness::Clean)
}

impl<P: Platform> Manager<P> {
    /// Whether the page of a prototype is committed.
    fn check_committed(
        &self,
        held: &HeldPrototype<'_, P>,
        prototype: Prototype,
    ) -> Result<(), NtStatus> {
        let is_there =
            self.load_entry(held.entry()) != 0 || self.untouched(prototype) != Untouched::Nothing;
        if is_there { Ok(()) } else { Err(NtStatus::ACCESS_VIOLATION) }
    }

    /// What a page is whose prototype is zero.
    pub(crate) fn untouched(&self, prototype: Prototype) -> Untouched {
        let state = self.control_area(prototype.area).state();
        if state.intersects(ControlAreaFlags::COMMIT | ControlAreaFlags::FILE) {
            let bits = self.subsection(prototype.subsection).protection();
            Untouched::Zeroes(Protection::from_low_bits(u64::from(bits)))
        } else {
            Untouched::Nothing
        }
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Makes `target` valid, a page of a view whose entry holds `word`.
    pub(super) fn resolve_shared(
        &mut self,
        target: Target,
        word: u64,
        (protection, access): (Protection, AccessKind),
        reservation: &mut PageReservation<'m, P>,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        let manager = self.manager();
        let page = target.va.vpn();
        let vad = self.find_vad(page).ok_or(NtStatus::ACCESS_VIOLATION)?;
        let prototype = manager.prototype_of(&vad, page).ok_or(NtStatus::ACCESS_VIOLATION)?;
        let held = manager.hold_prototype(self.token(), prototype.at)?;
        manager.check_committed(&held, prototype)?;
        // From here on the page is there, whatever has to be waited for: a new table has an entry.
        let lookup = P::Paging::prototype_lookup(protection);
        if word == 0 {
            manager.store_software(target.entry, word, lookup);
        }
        let word = if word == 0 { lookup } else { word };
        self.grow_hash_if_due();
        let reserved = self.reserve_entry();
        let writes = access == AccessKind::Write && !protection.is_write_copy();
        let intent = if writes { Intent::Change } else { Intent::Look };
        match self.map_prototype(&held, prototype, (reserved.index(), intent), reservation) {
            Ok(mapped) => {
                self.map_shared(target, word, protection, mapped, reserved);
                Ok(holds.finished(mapped.kind))
            }
            Err(blocked) => {
                self.release_entry(reserved.index());
                Err(blocked)
            }
        }
    }

    /// Holds the prototype of the page at `va`, which is committed, in memory; nothing where there
    /// is no view.
    pub(super) fn hold_shared(&mut self, va: Va) -> Result<Option<HeldPrototype<'m, P>>, Blocked> {
        let manager = self.manager();
        let page = va.vpn();
        let Some(vad) = self.find_vad(page).filter(|vad| vad.attributes.view.is_some()) else {
            return Ok(None);
        };
        let prototype = manager.prototype_of(&vad, page).ok_or(NtStatus::ACCESS_VIOLATION)?;
        let held = manager.hold_prototype(self.token(), prototype.at)?;
        manager.check_committed(&held, prototype)?;
        Ok(Some(held))
    }

    /// Writes the entries of a page that has just got a mapping more.
    fn map_shared(
        &mut self,
        target: Target,
        word: u64,
        protection: Protection,
        mapped: Mapped,
        reserved: ReservedEntry<'_>,
    ) {
        let manager = self.manager();
        let written = protection.is_writable() && !protection.is_write_copy();
        let dirtiness = if written { mapped.dirtiness } else { Dirtiness::Clean };
        let valid = target.valid_word::<P>(mapped.pfn, protection, dirtiness);
        manager.store_software(target.entry, word, valid);
        manager.entry(target.entry.table).add_share(1);
        let index = reserved.index();
        let page = target.va.vpn();
        match mapped.mapper {
            Mapper::First => {
                self.set_entry(index, WorkingSetEntry::direct(page).with_protection(protection));
            }
            Mapper::Another => {
                self.set_entry(index, WorkingSetEntry::indirect(page).with_protection(protection));
                let header = self.header();
                header.set_non_direct(header.non_direct() + 1);
                self.hash_insert(index);
            }
        }
    }

    /// Makes a prototype valid, if it is not, and its page mapped once more: by working-set entry
    /// `index`.
    fn map_prototype(
        &mut self,
        held: &HeldPrototype<'m, P>,
        prototype: Prototype,
        (index, intent): (u32, Intent),
        reservation: &mut PageReservation<'m, P>,
    ) -> Result<Mapped, Blocked> {
        let manager = self.manager();
        let word = manager.load_entry(held.entry());
        if let Some(pfn) = P::Paging::resident_pfn(word) {
            let mut frame = manager.lock_frame(self.token(), pfn);
            if manager.load_entry(held.entry()) != word {
                return Err(Blocked::Restart);
            }
            let mapper = if P::Paging::is_valid(word) {
                frame.add_mapping();
                Mapper::Another
            } else {
                manager.bring_back(&mut frame, index, reservation)?;
                manager.swap_entry(held.entry(), valid_prototype::<P>(pfn));
                Mapper::First
            };
            let dirtiness = manager.note_intent(&mut frame, intent);
            return Ok(Mapped { pfn, kind: FaultKind::Transition, mapper, dirtiness });
        }
        if P::Paging::is_page_file(word) {
            return Err(self.read_prototype(held, word, prototype, reservation));
        }
        if (word == 0 || P::Paging::is_prototype(word))
            && let Some(blocked) = self.read_file_page(held, word, prototype, reservation)
        {
            return Err(blocked);
        }
        let protection = match manager.untouched(prototype) {
            _ if word != 0 => P::Paging::software_protection(word),
            Untouched::Zeroes(protection) => protection,
            Untouched::Nothing => return Err(NtStatus::ACCESS_VIOLATION.into()),
        };
        let color = self.next_color();
        let (want, usage) = (Want::Zeroed, FrameUse::Section);
        let mut frame = manager.take_frame(self.token(), reservation, color, want, usage);
        frame.insert(FrameFlags::MODIFIED | FrameFlags::PROTOTYPE);
        frame.entry().set_original(P::Paging::demand_zero(protection));
        frame.entry().set_container(held.entry().table, held.entry().slot);
        frame.map_first(index);
        let pfn = frame.pfn();
        if manager.exchange_entry(held.entry(), word, valid_prototype::<P>(pfn)).is_err() {
            // Somebody else touched it first.
            manager.return_unused(&mut frame);
            return Err(Blocked::Restart);
        }
        manager.entry(held.entry().table).add_share(1);
        let (kind, mapper) = (FaultKind::DemandZero, Mapper::First);
        Ok(Mapped { pfn, kind, mapper, dirtiness: Dirtiness::Dirty })
    }

    /// Makes the hash of the list longer when many entries need it.
    fn grow_hash_if_due(&mut self) {
        let header = self.header();
        let long = header.size() > SHORT_LIST && header.non_direct() > 0;
        let due = long && header.non_direct() * 2 >= header.hash_size();
        if due && self.free_entries() > 1 {
            self.grow_hash_now();
        }
    }

    #[cold]
    fn grow_hash_now(&mut self) {
        if let Some(mut reservation) = self.manager().try_reserve_plentiful_pages(1) {
            self.grow_hash(&mut reservation);
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Takes a page of a section that nobody maps back into use, for working-set entry `index`.
    fn bring_back(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        index: u32,
        reservation: &mut PageReservation<'_, P>,
    ) -> Result<(), Blocked> {
        if frame.has(FrameFlags::READ_IN_PROGRESS) {
            let transfer = frame.entry().u1();
            self.counters.collided.add(1);
            return Err(Blocked::Collided(self.hold_read(frame.token(), transfer)));
        }
        if frame.has(FrameFlags::IN_PAGE_ERROR) {
            return Err(NtStatus::IN_PAGE_ERROR.into());
        }
        match frame.location() {
            PageLocation::Standby => self.unlink_standby(frame, reservation),
            PageLocation::Modified | PageLocation::ModifiedNoWrite => self.unlink_modified(frame),
            _ => {}
        }
        frame.set_location(PageLocation::Active);
        frame.map_first(index);
        Ok(())
    }

    /// Records that a page is about to be changed, if it is; says whether writable mappings of it
    /// may begin dirty.
    fn note_intent(&self, frame: &mut FrameGuard<'_, '_, P>, intent: Intent) -> Dirtiness {
        if intent == Intent::Change && !frame.has(FrameFlags::MODIFIED) {
            frame.insert(FrameFlags::MODIFIED);
            self.part_from_image(frame);
            self.release_copy(frame);
        }
        if frame.has(FrameFlags::MODIFIED) { Dirtiness::Dirty } else { Dirtiness::Clean }
    }

    /// Gives a frame back that has been taken and prepared, and that nobody has seen.
    pub(crate) fn return_unused(&self, frame: &mut FrameGuard<'_, '_, P>) {
        frame.entry().set_u1_and_share(0, 0);
        frame.insert(FrameFlags::DELETED);
        self.drop_reference(frame);
    }
}
