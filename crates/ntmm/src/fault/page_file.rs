//! Faults on pages in a paging file (MiResolvePageFileFault, spec 4.11).
//!
//! A read brings in the page and those of its neighbours that lie next to it both in the
//! address space and in the file. The entries become transition entries at once, so that other
//! faults on them collide with this read; the caller submits it when all locks are dropped.

use arrayvec::ArrayVec;
use ntmm_pte::{PAGE_SIZE, PageFileOffset, PagingFileNumber, PagingMode, PteWord, Slot};

use super::{Blocked, Target, TargetKind};
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageLocation, PageReservation};
use crate::platform::{Direction, FileId, PagingRequest, Platform};
use crate::section::prototype::{HeldPrototype, Prototype};
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::transfer::{CLUSTER, Cluster, TransferId};
use crate::working_set::WorkingSetGuard;

/// A read that is ready to be submitted.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub(crate) id: TransferId,
    file: FileId,
    offset: u64,
    length: u64,
    frames: Cluster,
}

impl PageRead {
    /// Submits the read. No lock is held.
    pub(crate) fn submit<P: Platform>(&self, manager: &crate::Manager<P>) {
        manager.platform().submit(&PagingRequest {
            token: self.id.token(Direction::Read),
            direction: Direction::Read,
            file: self.file,
            offset: self.offset,
            length: self.length,
            frames: &self.frames,
        });
    }
}

/// One page of a cluster: its entry and what is in it.
pub(super) type Page = (EntryRef, u64);

/// Where pages of a section are.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilePlace {
    pub(super) file: FileId,
    /// Bytes from the start of the file to the first page.
    pub(super) offset: u64,
    /// Bytes from there on; what lies behind them reads as zeroes.
    pub(super) bytes: u64,
    /// What the prototypes hold when the frames are taken away; nothing when that is what they
    /// hold now.
    pub(super) original: Option<u64>,
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Prepares the read of `target`, whose entry holds the page-file word `word`, and says why
    /// the fault has to wait.
    pub(super) fn resolve_page_file(
        &mut self,
        target: Target,
        word: u64,
        reservation: &mut PageReservation<'m, P>,
    ) -> Blocked {
        let manager = self.manager();
        let Some((file, offset)) = P::Paging::page_file_location(word) else {
            return Blocked::Restart;
        };
        let Some(host_file) = manager.paging_files.file_id(file) else {
            return NtStatus::IN_PAGE_ERROR.into();
        };
        let id = match manager.allocate_transfer(self.token(), &manager.reads) {
            Some(id) => id,
            None => {
                let wait = manager.record_wait();
                match manager.allocate_transfer(self.token(), &manager.reads) {
                    Some(id) => id,
                    None => return wait.into(),
                }
            }
        };
        let (mut pages, mut before) = self.cluster(target, word, file, offset);
        let mut extra = self.reserve_neighbours(pages.len() as u32 - 1);
        if extra.is_none() {
            // Memory is short: the page alone.
            pages = core::iter::once((target.entry, word)).collect();
            before = 0;
        }
        let usage = target.kind.usage();
        let mut frames = Cluster::new();
        for &(entry, held) in &pages {
            let color = self.next_color();
            let from = match &mut extra {
                Some(extra) if entry != target.entry => extra,
                _ => &mut *reservation,
            };
            {
                let mut frame = manager.take_frame(self.token(), from, color, Want::Any, usage);
                frame.entry().set_original(held);
                frame.entry().set_container(entry.table, entry.slot);
                frame.insert(FrameFlags::READ_IN_PROGRESS);
                frame.set_location(PageLocation::Transition);
                frame.add_reference();
                frame.entry().set_u1(id.index());
                let protection = P::Paging::software_protection(held);
                manager.store_software(entry, held, P::Paging::transition(frame.pfn(), protection));
                frames.push(frame.pfn());
            }
            manager.entry(entry.table).add_share(1);
        }
        manager.set_transfer_frames(&manager.reads, id, &frames);
        let offset = (u64::from(offset.get()) - before) * PAGE_SIZE;
        let length = frames.len() as u64 * PAGE_SIZE;
        Blocked::Issue(PageRead { id, file: host_file, offset, length, frames })
    }

    /// Prepares the read of the page of a section whose prototype holds the page-file word `word`,
    /// and of those that follow it in the section and in the file, and says why the fault has to
    /// wait.
    pub(super) fn read_prototype(
        &mut self,
        held: &HeldPrototype<'m, P>,
        word: u64,
        prototype: Prototype,
        reservation: &mut PageReservation<'m, P>,
    ) -> Blocked {
        let manager = self.manager();
        let Some((file, offset)) = P::Paging::page_file_location(word) else {
            return Blocked::Restart;
        };
        let Some(host_file) = manager.paging_files.file_id(file) else {
            return NtStatus::IN_PAGE_ERROR.into();
        };
        let limit = manager.config.read_cluster.clamp(1, CLUSTER as u32) as usize;
        let left = manager.subsection(prototype.subsection).pages() - prototype.index;
        let mut pages = ArrayVec::<Page, CLUSTER>::new();
        for (distance, slot) in (u32::from(held.entry().slot.get())..).enumerate().take(limit) {
            let entry = EntryRef { slot: Slot::from_low_bits(u64::from(slot)), ..held.entry() };
            if distance as u64 >= left || slot >= P::Paging::ENTRIES as u32 {
                break;
            }
            let word = if distance == 0 { word } else { manager.load_entry(entry) };
            let expected = PageFileOffset::new(offset.get() + distance as u32);
            if P::Paging::is_valid(word)
                || P::Paging::page_file_location(word) != expected.map(|at| (file, at))
            {
                break;
            }
            pages.push((entry, word));
        }
        let place = FilePlace {
            file: host_file,
            offset: u64::from(offset.get()) * PAGE_SIZE,
            bytes: u64::MAX,
            original: None,
        };
        self.read_section_pages(&pages, place, reservation)
    }

    /// Takes frames for pages of a section, which lie side by side in a file, writes transition
    /// words into their prototypes, as long as these hold what they held, and has them read.
    pub(super) fn read_section_pages(
        &mut self,
        pages: &[Page],
        place: FilePlace,
        reservation: &mut PageReservation<'m, P>,
    ) -> Blocked {
        let FilePlace { file, offset, bytes, original } = place;
        let manager = self.manager();
        let id = match manager.allocate_transfer(self.token(), &manager.reads) {
            Some(id) => id,
            None => {
                let wait = manager.record_wait();
                match manager.allocate_transfer(self.token(), &manager.reads) {
                    Some(id) => id,
                    None => return wait.into(),
                }
            }
        };
        let mut extra = self.reserve_neighbours(pages.len() as u32 - 1);
        let count = if extra.is_some() { pages.len() } else { 1 };
        let mut frames = Cluster::new();
        for (number, &(entry, held)) in pages.iter().take(count).enumerate() {
            let color = self.next_color();
            let from = match &mut extra {
                Some(extra) if number > 0 => extra,
                _ => &mut *reservation,
            };
            let usage = FrameUse::Section;
            let mut frame = manager.take_frame(self.token(), from, color, Want::Any, usage);
            frame.entry().set_original(original.unwrap_or(held));
            frame.entry().set_container(entry.table, entry.slot);
            frame.insert(FrameFlags::READ_IN_PROGRESS | FrameFlags::PROTOTYPE);
            frame.set_location(PageLocation::Transition);
            frame.add_reference();
            frame.entry().set_u1(id.index());
            let protection = P::Paging::software_protection(frame.entry().original());
            let transition = P::Paging::transition(frame.pfn(), protection);
            if manager.exchange_entry(entry, held, transition).is_err() {
                frame.remove(FrameFlags::READ_IN_PROGRESS);
                frame.entry().set_original(0);
                manager.return_unused(&mut frame);
                break;
            }
            manager.entry(entry.table).add_share(1);
            manager.count_file_page(original);
            frames.push(frame.pfn());
        }
        if frames.is_empty() {
            manager.free_transfer(self.token(), &manager.reads, id);
            return Blocked::Restart;
        }
        manager.set_transfer_frames(&manager.reads, id, &frames);
        let length = (frames.len() as u64 * PAGE_SIZE).min(bytes);
        Blocked::Issue(PageRead { id, file, offset, length, frames })
    }

    /// Reserves frames for the neighbours of a page, if memory is not short.
    fn reserve_neighbours(&self, count: u32) -> Option<PageReservation<'m, P>> {
        let available = &self.manager().available;
        let enough = available.unreserved() > available.thresholds().minimum + count;
        if enough { self.manager().try_reserve_pages(count) } else { None }
    }

    /// The pages to read with `target`, in file order, and how many lie before it.
    fn cluster(
        &self,
        target: Target,
        word: u64,
        file: PagingFileNumber,
        offset: PageFileOffset,
    ) -> (ArrayVec<Page, CLUSTER>, u64) {
        let mut pages = ArrayVec::new();
        pages.push((target.entry, word));
        let limit = self.manager().config.read_cluster.clamp(1, CLUSTER as u32) as usize;
        if target.kind == TargetKind::Table {
            return (pages, 0);
        }
        let mut distance = 1;
        while pages.len() < limit {
            let Some(page) = self.neighbour(target, distance, file, offset) else { break };
            pages.push(page);
            distance += 1;
        }
        let mut before = 0;
        while pages.len() < limit {
            let Some(page) = self.neighbour(target, -(before as i64) - 1, file, offset) else {
                break;
            };
            pages.insert(0, page);
            before += 1;
        }
        (pages, before)
    }

    /// The page `distance` pages from `target`, if it is in the same table, the same allocation,
    /// and at the same distance in the same file.
    fn neighbour(
        &self,
        target: Target,
        distance: i64,
        file: PagingFileNumber,
        offset: PageFileOffset,
    ) -> Option<Page> {
        let manager = self.manager();
        let slot = i64::from(target.entry.slot.get()) + distance;
        if slot < 0 || slot >= P::Paging::ENTRIES as i64 {
            return None;
        }
        let entry = EntryRef { table: target.entry.table, slot: Slot::from_low_bits(slot as u64) };
        let word = manager.load_entry(entry);
        if P::Paging::is_valid(word) || !P::Paging::is_page_file(word) {
            return None;
        }
        let protection = P::Paging::software_protection(word);
        let (in_file, at) = P::Paging::page_file_location(word)?;
        let adjacent = i64::from(at.get()) == i64::from(offset.get()) + distance;
        if in_file != file || !adjacent || !protection.is_mappable() {
            return None;
        }
        let here = self.find_vad(target.va.vpn())?;
        let page = i64::try_from(target.va.vpn().get()).ok()? + distance;
        let inside = (here.start.get() as i64..=here.end.get() as i64).contains(&page);
        inside.then_some((entry, word))
    }
}
