//! What the tests do with a machine: step operations, touch memory as a processor does, push
//! pages along their lives, and audit.

use std::vec::Vec;

use ntmm_pte::{
    AccessKind, Bytes, Level, PAGE_SIZE, Pages, PagingFileNumber, PagingMode, Pfn, Protection,
    PteState, Va,
};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{Half, WordIndex, word};

use super::machine::{Contents, Machine, Transfer};
use crate::frames::colors::Color;
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageLocation};
use crate::inspect::FrameView;
use crate::platform::{Direction, FileId, Irql, Ram};
use crate::tables::{EntryRef, Walk};
use crate::virtual_memory::{
    Allocate, AllocationType, Free, FreeType, MemoryInformation, Placement, Protect, Protected,
    Query, Region,
};
use crate::working_set::limits::{Hardness, WorkingSetLimits};
use crate::working_set::{WorkingSetGuard, evict::Eviction};
use crate::{
    AddressSpaceId, Config, DeleteAddressSpace, Engine, EngineStep, Fault, FaultKind, Manager,
    NtStatus, Operation, ProcessorMode, Step,
};

/// A machine with its manager.
pub struct Host<M: PagingMode> {
    pub manager: Manager<Machine<M>>,
}

/// Writing is always due.
pub const EAGER: Config = Config {
    read_cluster: 8,
    write_cluster: 16,
    modified_maximum: Some(1),
    thresholds: None,
    span: None,
};

/// How far an access may go wrong before the test is given up.
const PATIENCE: u32 = 10_000;

impl<M: PagingMode> Host<M> {
    /// `frames` frames and a paging file of 1 MiB; modified pages are written as soon as the
    /// writer runs.
    pub fn new(frames: u32) -> Self {
        let host = Self::bare(frames, EAGER);
        host.paging_file(256);
        host
    }

    /// As [`Self::new`], with a space that has `pages` committed pages at the address returned.
    pub fn with_pages(frames: u32, pages: u64) -> (Self, AddressSpaceId, Va) {
        let host = Self::new(frames);
        let space = host.space();
        let va = host.allocate(space, pages);
        (host, space, va)
    }

    /// `frames` frames and no paging file.
    pub fn bare(frames: u32, config: Config) -> Self {
        Self::of(Machine::new(&[(1, frames)], 8), config)
    }

    pub fn of(machine: Machine<M>, config: Config) -> Self {
        Self { manager: Manager::new(machine, config).expect("the machine is large enough") }
    }

    pub fn machine(&self) -> &Machine<M> {
        self.manager.platform()
    }

    pub fn paging_file(&self, pages: u64) -> PagingFileNumber {
        let number = self.manager.paging_file_figures().count() as u32;
        self.manager
            .create_paging_file(FileId(number), Pages::new(pages), Pages::new(pages))
            .expect("the file is made")
    }

    pub fn space(&self) -> AddressSpaceId {
        self.space_of(50, 345)
    }

    pub fn space_of(&self, minimum: u32, maximum: u32) -> AddressSpaceId {
        let limits = WorkingSetLimits::new(minimum, maximum, Hardness::Soft).expect("in order");
        self.manager.create_address_space(limits).expect("the space is made")
    }

    /// Steps once; between steps no lock is held and the processor is where it was.
    pub fn step<O: Operation<Machine<M>>>(&self, operation: &mut O) -> Step<O::Output> {
        let outcome = self.manager.step(operation);
        self.is_outside();
        outcome
    }

    fn is_outside(&self) {
        assert_eq!(self.machine().irql(), Irql::PASSIVE);
        assert!(!self.manager.any_lock_held());
    }

    pub fn abandon<O: Operation<Machine<M>>>(&self, operation: O) {
        self.manager.abandon(operation);
        self.is_outside();
    }

    /// Steps to the end; whenever the operation waits, everything else happens.
    pub fn run<O: Operation<Machine<M>>>(&self, mut operation: O) -> Result<O::Output, NtStatus> {
        for _ in 0..PATIENCE {
            match self.step(&mut operation) {
                Step::Done(output) => return Ok(output),
                Step::Raise(status) => return Err(status),
                Step::Wait(_) => self.settle(),
            }
        }
        panic!("the operation never ends");
    }

    /// Completes every transfer, acknowledges every flush and runs every engine until nothing
    /// happens any more.
    pub fn settle(&self) {
        for _ in 0..PATIENCE {
            self.machine().acknowledge();
            let mut still = !self.complete_next();
            for engine in Engine::ALL {
                still &= self.engine(engine) == EngineStep::Idle;
            }
            if still {
                return;
            }
        }
        panic!("the machine never comes to rest");
    }

    pub fn engine(&self, engine: Engine) -> EngineStep {
        let outcome = self.manager.step_engine(engine);
        self.is_outside();
        outcome
    }

    /// Completes the oldest transfer, if there is one.
    pub fn complete_next(&self) -> bool {
        self.complete_next_with(Ok(())).is_some()
    }

    pub fn complete_next_with(&self, result: Result<(), NtStatus>) -> Option<Transfer> {
        let transfer = self.machine().take_transfer()?;
        self.manager.complete_io(transfer.token, result);
        self.is_outside();
        Some(transfer)
    }

    pub fn pending(&self) -> Vec<(Direction, usize)> {
        let pending = self.machine().pending.borrow();
        pending.iter().map(|transfer| (transfer.direction, transfer.frames.len())).collect()
    }

    // Calls.

    pub fn reserve_at(&self, space: AddressSpaceId, at: Va, pages: u64) -> Region {
        let size = Pages::new(pages).to_bytes();
        let kind = AllocationType::Reserve;
        self.run(Allocate::new(space, Placement::At(at), size, kind, Protection::READWRITE))
            .expect("reserved")
    }

    /// Committed pages with read and write access.
    pub fn allocate(&self, space: AddressSpaceId, pages: u64) -> Va {
        self.allocate_with(space, pages, Protection::READWRITE)
    }

    pub fn allocate_with(&self, space: AddressSpaceId, pages: u64, protection: Protection) -> Va {
        let size = Pages::new(pages).to_bytes();
        let kind = AllocationType::ReserveAndCommit;
        self.run(Allocate::new(space, Placement::Lowest, size, kind, protection))
            .expect("allocated")
            .base
    }

    pub fn commit(
        &self,
        space: AddressSpaceId,
        at: Va,
        pages: u64,
        protection: Protection,
    ) -> Result<Region, NtStatus> {
        let size = Pages::new(pages).to_bytes();
        let kind = AllocationType::Commit;
        self.run(Allocate::new(space, Placement::At(at), size, kind, protection))
    }

    pub fn free(
        &self,
        space: AddressSpaceId,
        at: Va,
        pages: u64,
        kind: FreeType,
    ) -> Result<Region, NtStatus> {
        self.run(Free::new(space, at, Pages::new(pages).to_bytes(), kind))
    }

    pub fn protect(
        &self,
        space: AddressSpaceId,
        at: Va,
        pages: u64,
        protection: Protection,
    ) -> Result<Protected, NtStatus> {
        self.run(Protect::new(space, at, Pages::new(pages).to_bytes(), protection))
    }

    pub fn query(&self, space: AddressSpaceId, at: Va) -> MemoryInformation {
        self.run(Query::new(space, at)).expect("a user address")
    }

    pub fn delete(&self, space: AddressSpaceId) {
        self.run(DeleteAddressSpace::new(space)).expect("the space is deleted");
        self.settle();
    }

    // Touching memory.

    pub fn fault(
        &self,
        space: AddressSpaceId,
        va: Va,
        access: AccessKind,
    ) -> Result<FaultKind, NtStatus> {
        self.run(Fault::new(space, va, access, ProcessorMode::User))
    }

    /// Goes down the tables as a processor does, setting accessed and dirty bits. None: fault.
    pub fn walk(&self, space: AddressSpaceId, va: Va, access: AccessKind) -> Option<Pfn> {
        let mut table = self.manager.root(space)?;
        let mut level = Some(M::TOP);
        while let Some(at) = level {
            let entry = EntryRef { table, slot: M::slot(va, at) };
            let value = self.manager.raw_entry(entry);
            let is_pdpt = M::TOP_ENTRIES == 4 && at == M::TOP;
            let allowed = match access {
                AccessKind::Read => true,
                AccessKind::Write => is_pdpt || M::is_writable(value),
                AccessKind::Execute => M::is_executable(value),
            };
            if !M::is_valid(value) || !allowed {
                return None;
            }
            let large = at == Level::Directory && M::is_large(value);
            if !is_pdpt {
                let dirty = access == AccessKind::Write && (at == Level::Table || large);
                let seen = M::set_accessed(value);
                self.store_raw(entry, if dirty { M::set_dirty(seen) } else { seen });
            }
            if large {
                return Some(M::frame_in_large_page(value, va));
            }
            table = M::valid_pfn(value);
            level = at.down();
        }
        Some(table)
    }

    /// An access, with all the faults it takes. The frame is the page's.
    pub fn touch(
        &self,
        space: AddressSpaceId,
        va: Va,
        access: AccessKind,
    ) -> Result<Pfn, NtStatus> {
        for _ in 0..PATIENCE {
            if let Some(pfn) = self.walk(space, va, access) {
                return Ok(pfn);
            }
            self.fault(space, va, access)?;
        }
        panic!("the access never succeeds");
    }

    /// Writes a word of memory.
    pub fn write(&self, space: AddressSpaceId, va: Va, value: u64) {
        let pfn = self.touch(space, va, AccessKind::Write).expect("writable memory");
        let index = WordIndex::wrapping(usize::from(va.page_offset()) / 8);
        word(self.machine().frame(pfn), index).store(value, Ordering::Relaxed);
    }

    /// Reads a word of memory.
    pub fn read(&self, space: AddressSpaceId, va: Va) -> u64 {
        let pfn = self.touch(space, va, AccessKind::Read).expect("readable memory");
        let index = WordIndex::wrapping(usize::from(va.page_offset()) / 8);
        word(self.machine().frame(pfn), index).load(Ordering::Relaxed)
    }

    // Looking.

    pub fn store_raw(&self, entry: EntryRef, value: u64) {
        let frame = self.machine().frame(entry.table);
        let slot = entry.slot.index();
        if M::ENTRY_BYTES == 8 {
            word(frame, WordIndex::wrapping(slot)).store(value, Ordering::Relaxed);
        } else {
            let half = if slot.is_multiple_of(2) { Half::Low } else { Half::High };
            half.swap(word(frame, WordIndex::wrapping(slot / 2)), value as u32);
        }
    }

    /// The entry of `va` at `level`, if the tables above are valid.
    pub fn entry_at(&self, space: AddressSpaceId, va: Va, level: Level) -> Option<EntryRef> {
        match self.manager.walk(self.manager.root(space)?, va, level) {
            Walk::Found(entry) => Some(entry),
            Walk::Missing { .. } | Walk::Large(_) => None,
        }
    }

    pub fn entry(&self, space: AddressSpaceId, va: Va) -> EntryRef {
        self.entry_at(space, va, Level::Table).expect("the tables are valid")
    }

    pub fn word(&self, space: AddressSpaceId, va: Va) -> u64 {
        self.manager.raw_entry(self.entry(space, va))
    }

    pub fn state(&self, space: AddressSpaceId, va: Va) -> PteState {
        M::decode(self.word(space, va))
    }

    /// The frame the entry of `va` names, valid or in transition.
    pub fn frame_of(&self, space: AddressSpaceId, va: Va) -> Pfn {
        M::resident_pfn(self.word(space, va)).expect("the page is in memory")
    }

    pub fn view(&self, pfn: Pfn) -> FrameView {
        self.manager.frame_view(pfn).expect("a frame of the machine")
    }

    pub fn location(&self, pfn: Pfn) -> PageLocation {
        self.view(pfn).location
    }

    pub fn size(&self, space: AddressSpaceId) -> u32 {
        self.manager.space_view(space).expect("the space lives").header().size()
    }

    pub fn list(&self, location: PageLocation) -> Vec<Pfn> {
        self.manager.list_frames(location).collect()
    }

    pub fn slots_in_use(&self) -> u64 {
        self.manager.paging_file_figures().map(|file| file.in_use.get()).sum()
    }

    // Pushing pages along.

    /// Does something under the working-set lock of a space.
    pub fn locked<T>(
        &self,
        space: AddressSpaceId,
        action: impl FnOnce(&mut WorkingSetGuard<'_, '_, Machine<M>>) -> T,
    ) -> T {
        let mut entry = self.manager.enter();
        let mut set = self.manager.lock_space(entry.token(), space).expect("the space lives");
        action(&mut set)
    }

    /// Index of the working-set entry of the page at `va`.
    pub fn index_of(&self, space: AddressSpaceId, va: Va) -> u32 {
        let u1 = self.view(self.frame_of(space, va)).u1;
        self.locked(space, |set| set.locate(va, u1).expect("the page is in the set"))
    }

    /// Takes a page, or with its self-map address a page table, out of its working set.
    pub fn trim(&self, space: AddressSpaceId, va: Va) {
        let mut batch = self.manager.try_begin_flush(space).expect("a free record");
        self.locked(space, |set| {
            let page = va.vpn();
            let last = set.header().last_entry();
            let index = (0..=last)
                .find(|&index| set.entry(index).is_valid() && set.entry(index).page() == page)
                .expect("the page is in the set");
            assert_eq!(set.evict(index, &mut batch), Eviction::Done);
        });
        let mut entry = self.manager.enter();
        batch.finish(entry.token());
    }

    /// Writes every modified page.
    pub fn write_modified(&self) {
        while self.engine(Engine::ModifiedWriter) == EngineStep::Worked || self.complete_next() {}
    }

    /// Takes one frame.
    pub fn take(&self, color: Color, want: Want) -> Pfn {
        let mut reservation = self.manager.try_reserve_pages(1).expect("there is a page");
        let mut entry = self.manager.enter();
        let usage = FrameUse::Manager;
        let mut frame =
            self.manager.take_frame(entry.token(), &mut reservation, color, want, usage);
        frame.add_mapping();
        frame.pfn()
    }

    /// Takes all available frames but `rest`: standby pages leave memory.
    pub fn hoard(&self, rest: u32) -> Vec<Pfn> {
        let available = self.manager.memory_figures().available;
        (rest..available).map(|_| self.take(self.manager.color(0), Want::Any)).collect()
    }

    /// Gives frames back that were taken.
    pub fn give_back(&self, frames: &[Pfn]) {
        let mut entry = self.manager.enter();
        for &pfn in frames {
            let mut frame = self.manager.lock_frame(entry.token(), pfn);
            frame.entry().drop_share();
            frame.insert(FrameFlags::DELETED);
            self.manager.drop_reference(&mut frame);
        }
    }

    /// Pushes a page of a working set into the paging file.
    pub fn page_out(&self, space: AddressSpaceId, va: Va) {
        self.trim(space, va);
        self.write_modified();
        let frames = self.hoard(0);
        self.give_back(&frames);
    }

    /// Pushes `count` neighbouring pages into the paging file, in one run of slots.
    pub fn page_out_run(&self, space: AddressSpaceId, va: Va, count: u64) {
        for page in 0..count {
            self.trim(space, page_at(va, page));
        }
        self.write_modified();
        let frames = self.hoard(0);
        self.give_back(&frames);
    }

    /// The contents the paging file has for the page at `va`.
    pub fn copy_in_file(&self, word: u64) -> Option<Contents> {
        let (file, offset) = M::page_file_location(word)?;
        let key = (u32::from(file.get()), u64::from(offset.get()));
        self.machine().disks.borrow().get(&key).cloned()
    }
}

/// Page `number` of the pages from `base` on.
pub fn page_at(base: Va, number: u64) -> Va {
    base.checked_add(Bytes::new(number * PAGE_SIZE)).expect("an address")
}

/// The address of the page table of `level` on the way to `va`, seen through the self-map.
pub fn table_of<M: PagingMode>(va: Va, level: Level) -> Va {
    M::table_address(va, level)
}
