//! Sections of images (SEC_IMAGE, spec 8.8; API 15).
//!
//! The host has parsed the file and says how it is laid out: one run of pages for the headers and
//! one for each section of the image, each with its protection and its place in the file. They
//! become subsections, whose prototypes lie side by side in one piece of pool. A file has one
//! control area for all sections of it as an image, beside the one of its data.
//!
//! Pages of an image never go back to its file. What a process writes is copied first; what is
//! shared and written goes to a paging file from then on.

use ntmm_pte::{Bytes, PAGE_SIZE, Pages, Protection, PteFormat, PteWord};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{WordIndex, word};

use super::SectionGuard;
use super::control_area::{ControlAreaFlags, ControlAreaId, Holder, SectionId};
use super::create::SectionRequest;
use super::records::NO_RECORD;
use super::system_space::PoolOffset;
use crate::fault::{Blocked, Holds};
use crate::frames::FrameGuard;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::{FileId, Platform};
use crate::status::NtStatus;
use crate::virtual_memory::Allocate;

/// A run of pages of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// First page, counted from the image's base. Parts ascend and do not overlap.
    pub first_page: u32,
    /// Pages that can be used.
    pub pages: u32,
    /// Where its data begin in the file, a multiple of 512 bytes.
    pub offset: u64,
    /// Bytes of data; what lies behind them is zero.
    pub bytes: u64,
    /// What its pages may be used for; write-copy where each process has its own.
    pub protection: Protection,
}

/// An image as its file says it is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Image<'i> {
    /// The file.
    pub file: FileId,
    /// The address it wants.
    pub base: u64,
    /// Pages of address space it takes.
    pub pages: u32,
    /// Its parts, at most 97.
    pub parts: &'i [ImagePart],
    /// Fields of the headers, 40 bytes apart, that read as zero when the field before them does
    /// (PointerToRawData of sections without raw data): the first, and how many.
    pub cleared_fields: Option<(u32, u32)>,
}

impl Image<'_> {
    /// Pages that each view is charged: those it may get copies of (ImageCommitment).
    fn view_commitment(&self) -> u64 {
        let copied = self.parts.iter().filter(|part| part.protection.is_write_copy());
        copied.map(|part| u64::from(part.pages)).sum()
    }

    /// Pages that are charged once: those that are written and shared.
    fn shared_commitment(&self) -> u64 {
        let written =
            |part: &&ImagePart| part.protection.is_writable() && !part.protection.is_write_copy();
        self.parts.iter().filter(written).map(|part| u64::from(part.pages)).sum()
    }
}

/// Makes a section of an image. Yields it.
///
/// Raises [`NtStatus::SECTION_TOO_BIG`] when it would be larger than the image, and
/// [`NtStatus::COMMITMENT_LIMIT`] or [`NtStatus::INSUFFICIENT_RESOURCES`] when its records or shared
/// pages cannot be charged or found. Nothing is left behind then.
#[derive(Debug)]
#[must_use]
pub struct CreateImageSection<'i> {
    image: Image<'i>,
    /// Bytes; zero for all of the image.
    size: u64,
    protection: Protection,
    attributes: u32,
    holder: Holder,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The records belong to this operation; pool for the prototypes is allocated.
    Building {
        area: ControlAreaId,
        object: u32,
        allocate: Allocate,
    },
    /// The section is there; its headers are read, so that it does not follow what is written to
    /// the file from now on.
    Reading {
        section: SectionId,
        area: ControlAreaId,
        holds: Holds,
    },
    Finished,
}

impl<'i> CreateImageSection<'i> {
    /// Makes a section of `image` of at most `size` bytes, zero for all of it, that views may use
    /// with `protection`; `attributes` are what it will be said to have.
    pub const fn new(
        image: Image<'i>,
        size: u64,
        protection: Protection,
        attributes: u32,
        holder: Holder,
    ) -> Self {
        Self { image, size, protection, attributes, holder, stage: Stage::Start }
    }

    fn request(&self) -> SectionRequest {
        SectionRequest {
            kind: super::SectionKind::Committed,
            size: self.size,
            protection: self.protection,
            attributes: self.attributes,
            holder: self.holder,
        }
    }

    /// The size of the section in bytes.
    fn section_size(&self) -> Result<u64, NtStatus> {
        let whole = u64::from(self.image.pages) * PAGE_SIZE;
        match self.size {
            0 => Ok(whole),
            size if size > whole => Err(NtStatus::SECTION_TOO_BIG),
            size => Ok(size),
        }
    }

    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Option<SectionId>, Pause> {
        let size = self.section_size()?;
        let mut entry = manager.enter();
        let space = manager.make_system_space(entry.token())?;
        let charge = manager.charge_commitment(Pages::new(self.image.shared_commitment()))?;
        let mut sections = manager.lock_sections(entry.token());
        let found = sections.find_usable(self.image.file, ControlAreaFlags::IMAGE)?;
        let object = sections.take_record(&manager.sections.objects)?;
        if let Some(area) = found {
            return Ok(Some(sections.open(object, area, size, &self.request())));
        }
        let area = match sections.begin_image(&self.image) {
            Ok(area) => area,
            Err(pause) => {
                sections.give_record(&manager.sections.objects, object);
                return Err(pause);
            }
        };
        let charged = charge.keep();
        manager.sections.commit.fetch_add(charged.get(), Ordering::AcqRel);
        manager.control_area(area).set_committed(charged.get());
        let bytes = u64::from(self.image.pages.max(1)) * P::Paging::ENTRY_BYTES as u64;
        let allocate = Manager::<P>::allocate_pool(space, Bytes::new(bytes));
        self.stage = Stage::Building { area, object, allocate };
        Ok(None)
    }

    fn publish<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        (id, object): (ControlAreaId, u32),
        (base, bytes): (PoolOffset, u64),
    ) -> Result<SectionId, Pause> {
        let size = self.section_size()?;
        let mut entry = manager.enter();
        let mut sections = manager.lock_sections(entry.token());
        let area = manager.control_area(id);
        for (number, (_, subsection)) in manager.subsections_of(area).enumerate() {
            let first = base.entry::<P::Paging>(subsection.first_page());
            subsection.set_prototypes(first.bytes());
            // All of the pool goes with the first one.
            subsection.set_prototype_bytes(if number == 0 { bytes } else { 0 });
        }
        let flags = area.state().difference(ControlAreaFlags::BEING_CREATED);
        area.set_flags(flags.bits());
        let section = sections.open(object, id, size, &self.request());
        sections.wake_waiters();
        self.stage = Stage::Finished;
        Ok(section)
    }

    /// Reads the headers. When they cannot be read there is no section.
    fn read<P: Platform>(&mut self, manager: &Manager<P>) -> Step<SectionId> {
        let Stage::Reading { section, area, holds } = &mut self.stage else {
            return Step::Raise(NtStatus::INVALID_PARAMETER);
        };
        let section = *section;
        let outcome = loop {
            let blocked = match manager.read_headers(*area, holds) {
                Ok(()) => break Ok(section),
                Err(blocked) => blocked,
            };
            match holds.absorb(manager, blocked) {
                None => {}
                Some(Pause::Wait(wait)) => return Step::Wait(wait),
                Some(Pause::Raise(status)) => break Err(status),
            }
        };
        holds.release(manager);
        self.stage = Stage::Finished;
        match outcome {
            Ok(section) => Step::Done(section),
            Err(status) => match manager.close_section(section) {
                Ok(()) | Err(_) => Step::Raise(status),
            },
        }
    }

    fn undo<P: Platform>(&mut self, manager: &Manager<P>, id: ControlAreaId, object: u32) {
        let mut entry = manager.enter();
        let mut sections = manager.lock_sections(entry.token());
        sections.give_record(&manager.sections.objects, object);
        sections.drop_subsections(id);
        sections.remove_area(id);
        sections.wake_waiters();
        self.stage = Stage::Finished;
    }
}

impl<P: Platform> SectionGuard<'_, '_, P> {
    /// Makes the records of an image, whose prototypes are not there yet.
    fn begin_image(&mut self, image: &Image<'_>) -> Result<ControlAreaId, Pause> {
        let manager = self.manager();
        let id = ControlAreaId(self.take_record(&manager.sections.control_areas)?);
        let area = manager.control_area(id);
        area.set_first_subsection(NO_RECORD);
        let flags =
            ControlAreaFlags::IMAGE | ControlAreaFlags::FILE | ControlAreaFlags::BEING_CREATED;
        self.link_file(id, image.file);
        area.set_flags(flags.bits());
        area.set_pages(u64::from(image.pages));
        area.set_size(u64::from(image.pages) * PAGE_SIZE);
        area.set_base(image.base);
        area.set_image_commitment(image.view_commitment() as u32);
        if let Some((first, count)) = image.cleared_fields {
            area.set_cleared_field(first);
            area.set_cleared_fields(count);
        }
        for part in image.parts {
            let subsection = match self.take_record(&manager.sections.subsections) {
                Ok(subsection) => subsection,
                Err(pause) => {
                    self.drop_subsections(id);
                    self.remove_area(id);
                    return Err(pause);
                }
            };
            let record = manager.subsection(subsection);
            record.set_next(NO_RECORD);
            record.set_control_area(id.0);
            record.set_protection(part.protection.bits());
            record.set_first_page(u64::from(part.first_page));
            record.set_pages(u64::from(part.pages));
            record.set_offset(part.offset);
            record.set_bytes(part.bytes.min(u64::from(part.pages) * PAGE_SIZE));
            self.append(id, subsection);
        }
        Ok(id)
    }

    /// Gives the records of all subsections back.
    fn drop_subsections(&mut self, id: ControlAreaId) {
        let manager = self.manager();
        let area = manager.control_area(id);
        while area.first_subsection() != NO_RECORD {
            let index = area.first_subsection();
            area.set_first_subsection(manager.subsection(index).next());
            self.give_record(&manager.sections.subsections, index);
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Has the first page of an image read, unless it is in memory or on its way.
    fn read_headers(&self, area: ControlAreaId, holds: &mut Holds) -> Result<(), Blocked> {
        holds.check(self)?;
        let (Some(space), Some(prototype)) =
            (self.system_space(), self.find_prototype(area, Pages::ZERO))
        else {
            return Ok(());
        };
        let mut entry = self.enter();
        let mut set = self.lock_live_space(entry.token(), space)?;
        let held = self.hold_prototype(set.token(), prototype.at)?;
        let word = self.load_entry(held.entry());
        if word != 0 && !P::Paging::is_prototype(word) {
            return Ok(());
        }
        let mut reservation = self.reserve_pages(1)?;
        set.read_file_page(&held, word, prototype, &mut reservation).map_or(Ok(()), Err)
    }

    /// A page of an image that has just been read: fields of its headers that say where nothing is
    /// become zero.
    pub(crate) fn clear_header_fields(&self, frame: &FrameGuard<'_, '_, P>) {
        let original = frame.entry().original();
        let Some((index, subsection)) = self.subsection_of(original) else { return };
        let area = self.control_area(ControlAreaId(subsection.control_area()));
        let count = area.cleared_fields();
        if count == 0 || index != area.first_subsection() {
            return;
        }
        let (table, slot) = frame.entry().container();
        let at = self.pool_offset_of(crate::tables::EntryRef { table, slot });
        let page = at.bytes().wrapping_sub(subsection.prototypes()) / P::Paging::ENTRY_BYTES as u64;
        let words = self.platform().frame(frame.pfn());
        let byte = |offset: u64| {
            let place = word(words, WordIndex::wrapping((offset / 8) as usize));
            (place, 8 * (offset % 8) as u32)
        };
        for number in 0..u64::from(count) {
            let field = u64::from(area.cleared_field()) + 40 * number;
            let Some(inside) = field.checked_sub(page * PAGE_SIZE) else { continue };
            if inside < 4 || inside + 4 > PAGE_SIZE {
                continue;
            }
            let is_empty = (inside - 4..inside).all(|offset| {
                let (place, shift) = byte(offset);
                place.load(Ordering::Relaxed) >> shift & 0xFF == 0
            });
            for offset in (inside..inside + 4).filter(|_| is_empty) {
                let (place, shift) = byte(offset);
                place.fetch_and(!(0xFF << shift), Ordering::Relaxed);
            }
        }
    }

    /// A shared page of an image has been written: it goes to a paging file from now on, never
    /// back to the image.
    pub(crate) fn part_from_image(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let original = frame.entry().original();
        let Some((_, subsection)) = self.subsection_of(original) else { return };
        let area = self.control_area(ControlAreaId(subsection.control_area()));
        if area.state().contains(ControlAreaFlags::IMAGE) {
            self.discount_file_page(frame);
            let protection = P::Paging::software_protection(original);
            frame.entry().set_original(P::Paging::demand_zero(protection));
        }
    }
}

impl<P: Platform> Operation<P> for CreateImageSection<'_> {
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
        if matches!(self.stage, Stage::Reading { .. }) {
            return self.read(manager);
        }
        let Stage::Building { area, object, allocate } = &mut self.stage else {
            return Step::Raise(NtStatus::INVALID_PARAMETER);
        };
        let (area, object) = (*area, *object);
        match allocate.step(manager) {
            Step::Done(region) => {
                let place = (PoolOffset::of_va(region.base), region.size.get());
                match self.publish(manager, (area, object), place) {
                    Ok(section) => {
                        self.stage = Stage::Reading { section, area, holds: Holds::new() };
                        self.read(manager)
                    }
                    Err(pause) => Err(pause).into(),
                }
            }
            Step::Wait(wait) => Step::Wait(wait),
            Step::Raise(status) => {
                self.undo(manager, area, object);
                Step::Raise(status)
            }
        }
    }

    fn abandon(mut self, manager: &Manager<P>) {
        let stage = core::mem::replace(&mut self.stage, Stage::Finished);
        match stage {
            Stage::Building { area, object, allocate } => {
                allocate.abandon(manager);
                self.undo(manager, area, object);
            }
            Stage::Reading { section, mut holds, .. } => {
                holds.release(manager);
                // The only one who knows it.
                let _ = manager.close_section(section);
            }
            Stage::Start | Stage::Finished => {}
        }
    }
}
