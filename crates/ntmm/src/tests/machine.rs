//! The machine under the tests: one processor, memory in vectors, paging files in maps.
//!
//! Nothing happens by itself. A transfer stays pending until the test completes it, a flush
//! unacknowledged until the test says so (when told to hold flushes), and an allocation fails
//! when the test has asked for it. What the manager tells its host is recorded.
//!
//! A write's data are taken when it is submitted, so that what is changed afterwards is lost
//! unless the manager knows; a read's data arrive when it completes, so that a page used early
//! shows old contents.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::vec::Vec;

use ntmm_pte::{PAGE_SIZE, Pages, PagingMode, Pfn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::FrameWords;

use crate::platform::{
    Direction, Executive, FileId, FlushScope, FlushTicket, FrameRange, IoToken, Irql, Mmu,
    PagingIo, PagingRequest, Ram, SystemTime, Trace,
};
use crate::{AddressSpaceId, BugCheck, Engine, Event, Notification, NtStatus, Platform, WaitKey};

/// `count` frames from `start` on.
pub fn range(start: u32, count: u32) -> FrameRange {
    FrameRange { start: Pfn::new(start), count: Pages::new(u64::from(count)) }
}

/// Contents of a page.
pub type Contents = Vec<u64>;

/// A transfer the manager has submitted.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub token: IoToken,
    pub direction: Direction,
    pub file: FileId,
    pub offset: u64,
    pub length: u64,
    pub frames: Vec<Pfn>,
}

/// A flush the manager has asked for: the space, and the pages unless it was all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    pub space: AddressSpaceId,
    pub pages: Option<Vec<ntmm_pte::Va>>,
}

#[derive(Debug)]
pub struct Machine<M> {
    first: u32,
    ram: Vec<FrameWords>,
    ranges: Vec<FrameRange>,
    /// Which frames are the manager's now, from the first on.
    lent: Vec<Cell<bool>>,
    colors: u32,
    pub disks: RefCell<BTreeMap<(u32, u64), Contents>>,
    /// Files beside the paging files, byte by byte.
    pub files: RefCell<BTreeMap<u32, Vec<u8>>>,
    pub pending: RefCell<Vec<Transfer>>,
    irql: Cell<Irql>,
    now: Cell<u64>,
    issued: Cell<u64>,
    acknowledged: Cell<u64>,
    pub hold_flushes: Cell<bool>,
    pub flushes: RefCell<Vec<Flush>>,
    /// Allocations until one fails; none for never.
    pub fail_after: Cell<Option<u32>>,
    pub wakes: RefCell<Vec<WaitKey>>,
    pub requests: RefCell<Vec<Engine>>,
    pub notifications: RefCell<Vec<Notification>>,
    pub events: RefCell<Vec<Event>>,
    mode: PhantomData<M>,
}

impl<M: PagingMode> Machine<M> {
    /// A machine with these ranges of frames, filled with old contents.
    pub fn new(ranges: &[(u32, u32)], colors: u32) -> Self {
        let first = ranges.iter().map(|range| range.0).min().unwrap_or(0);
        let end = ranges.iter().map(|range| range.0 + range.1).max().unwrap_or(0);
        let old = |number: u32| {
            std::array::from_fn(|word| {
                AtomicU64::new(0xDEAD_0000_0000_0000 | (u64::from(number) << 16) | word as u64)
            })
        };
        let ranges: Vec<_> = ranges.iter().map(|&(start, count)| range(start, count)).collect();
        let is_lent = |number| ranges.iter().any(|range| range.contains(Pfn::new(number)));
        Self {
            first,
            ram: (first..end).map(old).collect(),
            lent: (first..end).map(|number| Cell::new(is_lent(number))).collect(),
            ranges,
            colors,
            disks: RefCell::default(),
            files: RefCell::default(),
            pending: RefCell::default(),
            irql: Cell::new(Irql::PASSIVE),
            now: Cell::new(0),
            issued: Cell::new(0),
            acknowledged: Cell::new(0),
            hold_flushes: Cell::new(false),
            flushes: RefCell::default(),
            fail_after: Cell::new(None),
            wakes: RefCell::default(),
            requests: RefCell::default(),
            notifications: RefCell::default(),
            events: RefCell::default(),
            mode: PhantomData,
        }
    }

    /// A machine with `frames` frames from `first` on, of which the manager gets `lent` at first.
    pub fn withholding(first: u32, frames: u32, lent: u32) -> Self {
        let machine = Self::new(&[(first, frames)], 8);
        machine.set_lent(range(first + lent, frames - lent), false);
        Self { ranges: [range(first, lent)].into(), ..machine }
    }

    /// Says of a range whether it is the manager's from now on.
    pub fn set_lent(&self, range: FrameRange, lent: bool) {
        for pfn in range.frames() {
            self.lent[(pfn.get() - self.first) as usize].set(lent);
        }
    }

    pub fn irql(&self) -> Irql {
        self.irql.get()
    }

    /// Time since boot.
    pub fn now_ticks(&self) -> u64 {
        self.now.get()
    }

    pub fn advance(&self, ticks: u64) {
        self.now.set(self.now.get() + ticks);
    }

    /// Acknowledges every flush so far.
    pub fn acknowledge(&self) {
        self.acknowledged.set(self.issued.get());
    }

    /// Contents of a frame.
    pub fn contents(&self, pfn: Pfn) -> Contents {
        self.frame(pfn).iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    pub fn fill(&self, pfn: Pfn, contents: &[u64]) {
        for (word, &value) in self.frame(pfn).iter().zip(contents) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Takes the oldest pending transfer and moves a read's data.
    pub fn take_transfer(&self) -> Option<Transfer> {
        let transfer = {
            let mut pending = self.pending.borrow_mut();
            if pending.is_empty() {
                return None;
            }
            pending.remove(0)
        };
        if let Some(file) = self.files.borrow().get(&transfer.file.0) {
            if transfer.direction == Direction::Read {
                self.read_file(file, &transfer);
            }
            return Some(transfer);
        }
        if transfer.direction == Direction::Read {
            for (page, &pfn) in (transfer.offset / PAGE_SIZE..).zip(&transfer.frames) {
                let disks = self.disks.borrow();
                let contents = disks
                    .get(&(transfer.file.0, page))
                    .unwrap_or_else(|| panic!("page {page} is read but was never written"));
                self.fill(pfn, contents);
            }
        }
        Some(transfer)
    }

    /// Fills the frames of a transfer from a file: with zeroes behind its run or its end.
    fn read_file(&self, file: &[u8], transfer: &Transfer) {
        let start = (transfer.offset as usize).min(file.len());
        let end = (start + transfer.length as usize).min(file.len());
        let mut bytes = file[start..end].to_vec();
        bytes.resize(transfer.frames.len() * PAGE_SIZE as usize, 0);
        for (page, &pfn) in bytes.chunks(PAGE_SIZE as usize).zip(&transfer.frames) {
            let words: Contents = page
                .chunks(8)
                .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
                .collect();
            self.fill(pfn, &words);
        }
    }

    /// Writes a run to a file, no further than its end.
    fn write_file(&self, file: &mut [u8], request: &PagingRequest<'_>) {
        let bytes = request.frames.iter().flat_map(|&pfn| self.contents(pfn));
        let bytes = bytes.flat_map(u64::to_le_bytes).take(request.length as usize);
        for (place, byte) in file.iter_mut().skip(request.offset as usize).zip(bytes) {
            *place = byte;
        }
    }

    /// The notifications since the last call.
    pub fn news(&self) -> Vec<Notification> {
        self.notifications.take()
    }
}

impl<M: PagingMode> Ram for Machine<M> {
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        let index = pfn.get().wrapping_sub(self.first) as usize;
        let lent = self.lent.get(index).is_some_and(Cell::get);
        assert!(lent, "frame {pfn:?} is not the manager's");
        &self.ram[index]
    }

    fn zero(&self, pfn: Pfn) {
        self.fill(pfn, &[0; 512]);
    }

    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        self.ranges.iter().copied()
    }

    fn cache_colors(&self) -> u32 {
        self.colors
    }
}

impl<M: PagingMode> Mmu for Machine<M> {
    fn flush(&self, scope: FlushScope<'_>) -> FlushTicket {
        self.flushes.borrow_mut().push(match scope {
            FlushScope::Pages { space, pages } => Flush { space, pages: Some(pages.to_vec()) },
            FlushScope::Space { space } => Flush { space, pages: None },
        });
        self.issued.set(self.issued.get() + 1);
        if !self.hold_flushes.get() {
            self.acknowledge();
        }
        FlushTicket::new(self.issued.get())
    }

    fn acknowledged(&self, ticket: FlushTicket) -> bool {
        ticket.get() <= self.acknowledged.get()
    }
}

impl<M: PagingMode> PagingIo for Machine<M> {
    fn file_size(&self, file: FileId) -> Result<u64, NtStatus> {
        assert_eq!(self.irql.get(), Irql::PASSIVE, "a file is asked about inside the manager");
        let files = self.files.borrow();
        files.get(&file.0).map(|file| file.len() as u64).ok_or(NtStatus::INVALID_FILE_FOR_SECTION)
    }

    fn set_file_size(&self, file: FileId, size: u64) -> Result<(), NtStatus> {
        assert_eq!(self.irql.get(), Irql::PASSIVE, "a file is changed inside the manager");
        let mut files = self.files.borrow_mut();
        let file = files.get_mut(&file.0).ok_or(NtStatus::INVALID_FILE_FOR_SECTION)?;
        file.resize(size as usize, 0);
        Ok(())
    }

    fn submit(&self, request: &PagingRequest<'_>) {
        assert_eq!(self.irql.get(), Irql::PASSIVE, "a transfer is submitted inside the manager");
        assert!((1..=16).contains(&request.frames.len()));
        let pages = request.frames.len() as u64 * PAGE_SIZE;
        assert!(request.length <= pages && request.length + PAGE_SIZE > pages);
        let transfer = Transfer {
            token: request.token,
            direction: request.direction,
            file: request.file,
            offset: request.offset,
            length: request.length,
            frames: request.frames.to_vec(),
        };
        if let Some(file) = self.files.borrow_mut().get_mut(&request.file.0) {
            if request.direction == Direction::Write {
                self.write_file(file, request);
            }
            self.pending.borrow_mut().push(transfer);
            return;
        }
        assert!(request.offset > 0, "slot 0 is never used");
        assert!(request.offset.is_multiple_of(PAGE_SIZE), "a paging file has whole pages");
        assert_eq!(request.length, request.frames.len() as u64 * PAGE_SIZE);
        if request.direction == Direction::Write {
            for (page, &pfn) in (request.offset / PAGE_SIZE..).zip(request.frames) {
                self.disks.borrow_mut().insert((request.file.0, page), self.contents(pfn));
            }
        }
        self.pending.borrow_mut().push(transfer);
    }
}

impl<M: PagingMode> Executive for Machine<M> {
    fn now(&self) -> SystemTime {
        SystemTime(self.now.get())
    }

    fn raise(&self) -> Irql {
        self.irql.replace(Irql::DISPATCH)
    }

    fn lower(&self, previous: Irql) {
        assert_eq!(self.irql.get(), Irql::DISPATCH, "lowered twice");
        self.irql.set(previous);
    }

    fn relax(&self) {
        panic!("one processor waits for a lock that it holds itself");
    }

    fn fail_allocation(&self) -> bool {
        match self.fail_after.get() {
            None => false,
            Some(0) => {
                self.fail_after.set(None);
                true
            }
            Some(left) => {
                self.fail_after.set(Some(left - 1));
                false
            }
        }
    }

    fn wake(&self, key: WaitKey) {
        self.wakes.borrow_mut().push(key);
    }

    fn request(&self, engine: Engine) {
        self.requests.borrow_mut().push(engine);
    }

    fn random(&self) -> u64 {
        5
    }

    fn notify(&self, notification: Notification) {
        self.notifications.borrow_mut().push(notification);
    }

    fn bug_check(&self, bug_check: BugCheck) -> ! {
        panic!("{bug_check}")
    }
}

impl<M: PagingMode> Trace for Machine<M> {
    const ENABLED: bool = true;

    fn event(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}

impl<M: PagingMode> Platform for Machine<M> {
    type Paging = M;
}
