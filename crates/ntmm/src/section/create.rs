//! Making sections and closing them (NtCreateSection, MmCreateSection, spec 8.6; API 11).
//!
//! A section of the paging files gets a control area of its own. A file has one control area for
//! all sections of its data, found by the file; the first section makes it, a larger one makes it
//! longer by a subsection. While that goes on the control area is BEING_CREATED and others wait.
//!
//! The prototypes are not filled in: a zero one means an untouched page of its subsection.

use ntmm_pte::{Bytes, PAGE_SIZE, Pages, Protection, PteFormat, Va};
use ntmm_sync::atomic::Ordering;

use super::SectionGuard;
use super::attributes::SectionAttributes;
use super::control_area::{ControlArea, ControlAreaFlags, ControlAreaId, Holder, SectionId};
use super::control_area::{SectionObject, Subsection};
use super::records::{IN_USE, NO_RECORD};
use super::system_space::PoolOffset;
use crate::manager::Manager;
use crate::operation::{Epoch, Operation, Pause, Step, Wait, WaitKey};
use crate::platform::{FileId, Platform};
use crate::status::NtStatus;
use crate::virtual_memory::Allocate;

/// What a section shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Memory in the paging files, all of it committed (SEC_COMMIT).
    Committed,
    /// Memory in the paging files that is committed through views (SEC_RESERVE).
    Reserved,
    /// The data of a file of the host.
    File(FileId),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRequest {
    /// What it shows.
    pub kind: SectionKind,
    /// Its size in bytes; of a file, zero for all of it. A file that is shorter is made longer when
    /// the protection allows to write.
    pub size: u64,
    /// What views of it may be used for at most.
    pub protection: Protection,
    /// The attributes it was asked for, [`SectionAttributes`].
    pub attributes: u32,
    /// Who asks.
    pub holder: Holder,
}

/// What is known of a section object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInformation {
    /// Its size in bytes.
    pub size: u64,
    /// Its attributes, [`SectionAttributes`].
    pub attributes: u32,
    /// What views of it may be used for at most.
    pub protection: Protection,
    /// Where its views lie, if it is based.
    pub base: Option<Va>,
    /// Its control area.
    pub area: ControlAreaId,
}

/// The largest section, in pages: as many as prototypes could be counted of.
fn largest<M: PteFormat>() -> u64 {
    if M::ENTRY_BYTES == 4 { 1 << 30 } else { 1 << 32 }
}

/// The creating call. Yields the section.
///
/// Raises [`NtStatus::INVALID_PARAMETER_4`] without a size, [`NtStatus::MAPPED_FILE_SIZE_ZERO`] for
/// an empty file, [`NtStatus::SECTION_TOO_BIG`] when it would have too many pages or more than its
/// file, [`NtStatus::SECTION_NOT_EXTENDED`] when the file cannot be made longer,
/// [`NtStatus::NO_MEMORY`] when there is no address for a based section, and [`NtStatus::COMMITMENT_LIMIT`] or [`NtStatus::INSUFFICIENT_RESOURCES`] when its pages
/// or its records cannot be charged or found. Nothing is left behind then.
#[derive(Debug)]
#[must_use]
pub struct CreateSection {
    request: SectionRequest,
    stage: Stage,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to put the larger one on")]
enum Stage {
    Start,
    /// The records are there and belong to this operation; pool for the prototypes is allocated.
    Building(Building, Allocate),
    Finished,
}

/// A run of pages being added to a control area.
#[derive(Clone, Copy, Debug)]
struct Building {
    area: ControlAreaId,
    subsection: u32,
    object: u32,
    /// Bytes of the section.
    section_size: u64,
    /// Pages the control area had before; zero when it is being made.
    before: u64,
    /// Pages it will have, and bytes.
    pages: u64,
    size: u64,
}

impl CreateSection {
    /// Makes a section.
    pub const fn new(request: SectionRequest) -> Self {
        Self { request, stage: Stage::Start }
    }

    /// The size of the section, and of what it shows, which has that size afterwards.
    fn sizes<P: Platform>(&self, manager: &Manager<P>) -> Result<(u64, u64), NtStatus> {
        let size = self.request.size;
        let too_big = size.div_ceil(PAGE_SIZE) > largest::<P::Paging>();
        let (section, whole) = match self.request.kind {
            SectionKind::Committed | SectionKind::Reserved if size == 0 => {
                return Err(NtStatus::INVALID_PARAMETER_4);
            }
            _ if too_big => return Err(NtStatus::SECTION_TOO_BIG),
            SectionKind::Committed | SectionKind::Reserved => {
                let rounded = size.next_multiple_of(PAGE_SIZE);
                (rounded, rounded)
            }
            SectionKind::File(file) => {
                let whole = self.size_of_file(manager, file)?;
                (if size == 0 { whole } else { size }, whole)
            }
        };
        if whole.div_ceil(PAGE_SIZE) > largest::<P::Paging>() {
            return Err(NtStatus::SECTION_TOO_BIG);
        }
        Ok((section, whole))
    }

    /// The size of the file, which is made longer if it has to be.
    fn size_of_file<P: Platform>(
        &self,
        manager: &Manager<P>,
        file: FileId,
    ) -> Result<u64, NtStatus> {
        let SectionRequest { size, protection, .. } = self.request;
        let there = manager.platform().file_size(file)?;
        if size == 0 && there == 0 {
            return Err(NtStatus::MAPPED_FILE_SIZE_ZERO);
        }
        if size <= there {
            return Ok(there);
        }
        if !protection.is_writable() || protection.is_write_copy() {
            return Err(NtStatus::SECTION_TOO_BIG);
        }
        let longer = manager.platform().set_file_size(file, size);
        longer.map_err(|_| NtStatus::SECTION_NOT_EXTENDED)?;
        Ok(size)
    }

    /// Finds or makes the records. Done when the control area is there already.
    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Option<SectionId>, Pause> {
        let (section_size, whole) = self.sizes(manager)?;
        let pages = whole.div_ceil(PAGE_SIZE);
        let mut entry = manager.enter();
        let space = manager.make_system_space(entry.token())?;
        let charge = match self.request.kind {
            SectionKind::Committed => Some(manager.charge_commitment(Pages::new(pages))?),
            SectionKind::Reserved | SectionKind::File(_) => None,
        };
        let mut sections = manager.lock_sections(entry.token());
        let found = match self.request.kind {
            SectionKind::File(file) => sections.find_usable(file, ControlAreaFlags::empty())?,
            SectionKind::Committed | SectionKind::Reserved => None,
        };
        let object = sections.take_record(&manager.sections.objects)?;
        let attributes = SectionAttributes::from_bits_retain(self.request.attributes);
        if attributes.contains(SectionAttributes::BASED)
            && let Err(status) = sections.choose_base(object, section_size)
        {
            sections.give_object(object);
            return Err(status.into());
        }
        if let Some(area) = found.filter(|&area| manager.control_area(area).size() >= whole) {
            return Ok(Some(sections.open(object, area, section_size, &self.request)));
        }
        let before = found.map_or(0, |area| manager.control_area(area).pages());
        if let Some(area) = found.filter(|_| pages <= before) {
            // The last page has room for the rest.
            sections.extend(area, whole);
            return Ok(Some(sections.open(object, area, section_size, &self.request)));
        }
        let made = sections.take_records(found, &self.request);
        let (area, subsection) = match made {
            Ok(made) => made,
            Err(pause) => {
                sections.give_object(object);
                return Err(pause);
            }
        };
        if let Some(charge) = charge {
            let charged = charge.keep();
            manager.sections.commit.fetch_add(charged.get(), Ordering::AcqRel);
            manager.control_area(area).set_committed(charged.get());
        }
        let building =
            Building { area, subsection, object, section_size, before, pages, size: whole };
        let bytes = (pages - before) * P::Paging::ENTRY_BYTES as u64;
        let allocate = Manager::<P>::allocate_pool(space, Bytes::new(bytes));
        self.stage = Stage::Building(building, allocate);
        Ok(None)
    }

    /// The prototypes are there.
    fn publish<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        building: Building,
        (base, bytes): (PoolOffset, u64),
    ) -> Result<SectionId, Pause> {
        let mut entry = manager.enter();
        let mut sections = manager.lock_sections(entry.token());
        let area = manager.control_area(building.area);
        let subsection = manager.subsection(building.subsection);
        subsection.set_first_page(building.before);
        subsection.set_pages(building.pages - building.before);
        subsection.set_offset(building.before * PAGE_SIZE);
        subsection.set_prototypes(base.bytes());
        subsection.set_prototype_bytes(bytes);
        sections.append(building.area, building.subsection);
        area.set_pages(building.pages);
        sections.extend(building.area, building.size);
        let flags = area.state().difference(ControlAreaFlags::BEING_CREATED);
        area.set_flags(flags.bits());
        let id =
            sections.open(building.object, building.area, building.section_size, &self.request);
        sections.wake_waiters();
        self.stage = Stage::Finished;
        Ok(id)
    }

    /// Gives back records that have not been published.
    fn undo<P: Platform>(&mut self, manager: &Manager<P>, building: Building) {
        let mut entry = manager.enter();
        let mut sections = manager.lock_sections(entry.token());
        sections.give_object(building.object);
        sections.give_record(&manager.sections.subsections, building.subsection);
        let area = manager.control_area(building.area);
        if building.before == 0 {
            sections.remove_area(building.area);
        } else {
            let flags = area.state().difference(ControlAreaFlags::BEING_CREATED);
            area.set_flags(flags.bits());
            manager.check_control_area(building.area);
        }
        sections.wake_waiters();
        self.stage = Stage::Finished;
    }
}

impl<P: Platform> Operation<P> for CreateSection {
    type Output = SectionId;

    fn step(&mut self, manager: &Manager<P>) -> Step<SectionId> {
        if matches!(self.stage, Stage::Start) {
            match self.start(manager) {
                Ok(None) => {}
                Ok(Some(id)) => {
                    self.stage = Stage::Finished;
                    return Step::Done(id);
                }
                Err(pause) => return Err(pause).into(),
            }
        }
        let Stage::Building(building, allocate) = &mut self.stage else {
            return Step::Raise(NtStatus::INVALID_PARAMETER);
        };
        let building = *building;
        match allocate.step(manager) {
            Step::Done(region) => {
                let place = (PoolOffset::of_va(region.base), region.size.get());
                self.publish(manager, building, place).into()
            }
            Step::Wait(wait) => Step::Wait(wait),
            Step::Raise(_) => {
                self.undo(manager, building);
                Step::Raise(NtStatus::INSUFFICIENT_RESOURCES)
            }
        }
    }

    fn abandon(mut self, manager: &Manager<P>) {
        let stage = core::mem::replace(&mut self.stage, Stage::Finished);
        if let Stage::Building(building, allocate) = stage {
            allocate.abandon(manager);
            self.undo(manager, building);
        }
    }
}

impl<P: Platform> SectionGuard<'_, '_, P> {
    /// The control area of a file's data, or of the file as an image, if there is one that can be
    /// used.
    pub(super) fn find_usable(
        &mut self,
        file: FileId,
        kind: ControlAreaFlags,
    ) -> Result<Option<ControlAreaId>, Pause> {
        let busy = ControlAreaFlags::BEING_CREATED
            | ControlAreaFlags::BEING_DELETED
            | ControlAreaFlags::BEING_PURGED;
        match self.find_area_of(file, kind) {
            Some(id) if self.manager().control_area(id).state().intersects(busy) => {
                Err(self.wait().into())
            }
            found => Ok(found),
        }
    }

    /// The control area of a file's data.
    pub(super) fn find_area(&self, file: FileId) -> Option<ControlAreaId> {
        self.find_area_of(file, ControlAreaFlags::empty())
    }

    fn find_area_of(&self, file: FileId, kind: ControlAreaFlags) -> Option<ControlAreaId> {
        let manager = self.manager();
        let mut next = manager.sections.files(file).load(Ordering::Relaxed);
        while next != NO_RECORD {
            let area = manager.control_area(ControlAreaId(next));
            if area.file() == file.0 && area.state() & ControlAreaFlags::IMAGE == kind {
                return Some(ControlAreaId(next));
            }
            next = area.next_of_file();
        }
        None
    }

    /// Takes the records for a new run of pages: a subsection, and a control area unless there
    /// is one.
    fn take_records(
        &mut self,
        found: Option<ControlAreaId>,
        request: &SectionRequest,
    ) -> Result<(ControlAreaId, u32), Pause> {
        let manager = self.manager();
        let subsection = self.take_record(&manager.sections.subsections)?;
        let id = match found {
            Some(id) => id,
            None => match self.take_record(&manager.sections.control_areas) {
                Ok(index) => ControlAreaId(index),
                Err(pause) => {
                    self.give_record(&manager.sections.subsections, subsection);
                    return Err(pause);
                }
            },
        };
        let area = manager.control_area(id);
        if found.is_none() {
            self.begin_area(id, request);
        }
        area.set_flags((area.state() | ControlAreaFlags::BEING_CREATED).bits());
        let record = manager.subsection(subsection);
        record.set_next(NO_RECORD);
        record.set_control_area(id.0);
        record.set_protection(area.protection());
        Ok((id, subsection))
    }

    /// Fills in a new control area.
    fn begin_area(&mut self, id: ControlAreaId, request: &SectionRequest) {
        let manager = self.manager();
        let area = manager.control_area(id);
        area.set_first_subsection(NO_RECORD);
        let (flags, protection) = match request.kind {
            SectionKind::Committed => (ControlAreaFlags::COMMIT, request.protection),
            SectionKind::Reserved => (ControlAreaFlags::RESERVE, request.protection),
            SectionKind::File(file) => {
                self.link_file(id, file);
                // Sections of one file may differ in what they allow.
                (ControlAreaFlags::FILE, Protection::EXECUTE_READWRITE)
            }
        };
        // A page that is copied when it is written is an ordinary one in its section.
        area.set_protection(protection.without_write_copy().bits());
        area.set_flags(flags.bits());
    }

    /// Puts a control area on the chain of its file.
    pub(super) fn link_file(&mut self, id: ControlAreaId, file: FileId) {
        let manager = self.manager();
        let head = manager.sections.files(file);
        let area = manager.control_area(id);
        area.set_file(file.0);
        area.set_next_of_file(head.swap(id.0, Ordering::Relaxed));
    }

    /// Adds a subsection behind the others.
    pub(super) fn append(&mut self, id: ControlAreaId, subsection: u32) {
        let manager = self.manager();
        let area = manager.control_area(id);
        match manager.subsections_of(area).last() {
            Some((_, last)) => last.set_next(subsection),
            None => area.set_first_subsection(subsection),
        }
        area.set_subsections(area.subsections() + 1);
    }

    /// What is shown has `size` bytes now, for which there are prototypes.
    pub(super) fn extend(&mut self, id: ControlAreaId, size: u64) {
        let manager = self.manager();
        let area = manager.control_area(id);
        area.set_size(size);
        for (_, subsection) in manager.subsections_of(area) {
            let bytes = size.saturating_sub(subsection.offset());
            subsection.set_bytes(bytes.min(subsection.pages() * PAGE_SIZE));
        }
    }

    /// Makes a section object.
    pub(super) fn open(
        &mut self,
        index: u32,
        area: ControlAreaId,
        size: u64,
        request: &SectionRequest,
    ) -> SectionId {
        let manager = self.manager();
        let generation = self.next_generation();
        let object = manager.section_object(index);
        object.set_generation(generation);
        object.set_control_area(area.0);
        object.set_protection(request.protection.bits());
        object.set_attributes(request.attributes);
        object.set_size(size);
        object.set_by_user(u8::from(request.holder == Holder::User));
        manager.control_area(area).add_section(request.holder);
        SectionId { index, generation }
    }

    /// Takes a control area out of the table. Nothing keeps it, and its subsections are gone.
    pub(super) fn remove_area(&mut self, id: ControlAreaId) {
        let manager = self.manager();
        let area = manager.control_area(id);
        if area.state().contains(ControlAreaFlags::FILE) {
            self.unlink_file(id, area);
        }
        let committed = Pages::new(area.committed());
        manager.sections.commit.fetch_sub(committed.get(), Ordering::AcqRel);
        manager.return_commitment(committed);
        self.give_record(&manager.sections.control_areas, id.0);
    }

    fn unlink_file(&mut self, id: ControlAreaId, area: ControlArea<'_>) {
        let manager = self.manager();
        let head = manager.sections.files(FileId(area.file()));
        let mut next = head.load(Ordering::Relaxed);
        if next == id.0 {
            head.store(area.next_of_file(), Ordering::Relaxed);
            return;
        }
        while next != NO_RECORD {
            let before = manager.control_area(ControlAreaId(next));
            next = before.next_of_file();
            if next == id.0 {
                before.set_next_of_file(area.next_of_file());
                return;
            }
        }
    }

    /// What to wait for until a control area is there, or gone.
    pub(super) fn wait(&self) -> Wait {
        let epoch = self.manager().sections.epoch.load(Ordering::Acquire);
        Wait { key: WaitKey::Sections, epoch: Epoch(epoch) }
    }

    /// A control area is there, or gone.
    pub(super) fn wake_waiters(&mut self) {
        self.manager().sections.advance();
        self.manager().platform().wake(WaitKey::Sections);
    }

    /// The object of a section that exists.
    pub(super) fn find(&self, id: SectionId) -> Option<SectionObject<'_>> {
        let manager = self.manager();
        if id.index >= manager.sections.objects.len() {
            return None;
        }
        let object = manager.section_object(id.index);
        let alive = object.view().word(0).load(Ordering::Relaxed) & IN_USE != 0
            && object.generation() == id.generation;
        alive.then_some(object)
    }
}

impl<P: Platform> Manager<P> {
    pub(super) fn section_object(&self, index: u32) -> SectionObject<'_> {
        SectionObject::of(self.record(&self.sections.objects, index))
    }

    /// What is known of a section.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`] when there is no such section.
    pub fn section_information(&self, id: SectionId) -> Result<SectionInformation, NtStatus> {
        let mut entry = self.enter();
        let sections = self.lock_sections(entry.token());
        let object = sections.find(id).ok_or(NtStatus::INVALID_HANDLE)?;
        Ok(SectionInformation {
            size: object.size(),
            attributes: object.attributes(),
            protection: Protection::from_low_bits(u64::from(object.protection())),
            base: Some(Va::new(object.base())).filter(|base| base.get() != 0),
            area: ControlAreaId(object.control_area()),
        })
    }

    /// Closes a section object: nobody names it any more. Its views stay.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`] when there is no such section.
    pub fn close_section(&self, id: SectionId) -> Result<(), NtStatus> {
        let mut entry = self.enter();
        let mut sections = self.lock_sections(entry.token());
        let object = sections.find(id).ok_or(NtStatus::INVALID_HANDLE)?;
        let area = ControlAreaId(object.control_area());
        let holder = if object.by_user() != 0 { Holder::User } else { Holder::System };
        sections.give_object(id.index);
        self.drop_section(area, holder);
        Ok(())
    }
}

/// The bytes of pool a subsection's prototypes take.
impl Subsection<'_> {
    /// Where in the pool they begin, and how many bytes they take there.
    pub(super) fn pool(&self) -> (PoolOffset, Bytes) {
        (PoolOffset(self.prototypes()), Bytes::new(self.prototype_bytes()))
    }
}
