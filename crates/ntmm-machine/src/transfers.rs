//! Transfers under way: the queue between the manager's requests and the disks.
//!
//! A request is given a moment at which it completes; until then its frames belong to the
//! device. Plainly, each disk works in order, one request after the other. An adversarial
//! queue lets each request take any time up to its full length, so that they complete in any
//! order, and lets a write pick up each page partly when it is submitted and partly when it
//! completes, as a device that reads memory in its own time does.
//!
//! Disks are touched when a request completes. A request that is to fail does part of its work
//! first: a torn write, or frames half filled.

use arrayvec::ArrayVec;
use ntmm::platform::{Direction, FileId};
use ntmm::status::NtStatus;

use crate::clock::Nanoseconds;
use crate::config::{DiskFaults, DiskTiming};
use crate::disk::Disk;
use crate::ram::{FRAME_BYTES, FrameSlot, Ram};
use crate::random::{Chance, Random};

/// Most frames in a transfer.
pub const MAXIMUM_FRAMES: usize = 16;

/// The frames of a transfer, in file order.
pub type TransferFrames = ArrayVec<FrameSlot, MAXIMUM_FRAMES>;

/// In which order and when transfers complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each disk in order of submission.
    Submission,
    /// As the seed says.
    Random,
}

/// What a transfer moves.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Direction.
    pub direction: Direction,
    /// The file.
    pub file: FileId,
    /// First page in the file.
    pub first_page: u64,
    /// Frames, in file order.
    pub frames: TransferFrames,
}

struct Request<Token> {
    token: Token,
    transfer: Transfer,
    number: u64,
    due: Nanoseconds,
    fate: Result<(), NtStatus>,
    /// Bytes of a write picked up when it was submitted: in each page, those before the split.
    early: Vec<u8>,
    splits: ArrayVec<usize, MAXIMUM_FRAMES>,
    /// Bytes moved before a failure.
    torn: usize,
    /// Whether its pages move when it is reported complete, or later.
    movement: Movement,
}

/// When the pages of a transfer move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Movement {
    /// Before it is reported complete.
    InTime,
    /// So much later ([`Defect::EarlyCompletion`](crate::sabotage::Defect::EarlyCompletion)).
    Late(Nanoseconds),
    /// It has been reported complete; its pages move when it is due again.
    Reported,
}

struct Attached {
    disk: Box<dyn Disk>,
    free_from: Nanoseconds,
}

/// The transfers under way and the disks behind them. `Token` names a transfer to its submitter.
pub struct Transfers<Token> {
    timing: DiskTiming,
    faults: DiskFaults,
    order: Order,
    disks: Vec<Attached>,
    requests: Vec<Request<Token>>,
    submitted: u64,
    random: Random,
    early_completion: Chance,
}

impl<Token: Copy> Transfers<Token> {
    /// An idle queue without disks.
    pub(crate) fn new(
        timing: DiskTiming,
        faults: DiskFaults,
        order: Order,
        random: Random,
        early_completion: Chance,
    ) -> Self {
        Self {
            timing,
            faults,
            order,
            disks: Vec::new(),
            requests: Vec::new(),
            submitted: 0,
            random,
            early_completion,
        }
    }

    /// Adds a disk and names it.
    pub fn attach(&mut self, disk: Box<dyn Disk>) -> FileId {
        self.disks.push(Attached { disk, free_from: Nanoseconds(0) });
        FileId(self.disks.len() as u32 - 1)
    }

    /// Whether a file has a disk.
    #[must_use]
    pub fn has(&self, file: FileId) -> bool {
        (file.0 as usize) < self.disks.len()
    }

    /// Starts a transfer of a file the queue [has](Self::has).
    pub fn submit(&mut self, token: Token, transfer: Transfer, now: Nanoseconds, ram: &Ram) {
        let number = self.submitted;
        self.submitted += 1;
        let pages = transfer.frames.len();
        let full = self.timing.request.0 + self.timing.page.0 * pages as u64;
        let due = match self.order {
            Order::Submission => {
                let disk = &mut self.disks[transfer.file.0 as usize];
                let due = Nanoseconds(now.max(disk.free_from).0 + full);
                disk.free_from = due;
                due
            }
            // Short times are as likely as long ones on a logarithmic scale, so that some
            // transfers complete within a few references.
            Order::Random => {
                let limit = full >> self.random.below(16);
                Nanoseconds(now.0 + self.random.below(limit + 1))
            }
        };
        let fate = self.fate(number, transfer.direction);
        let torn = match fate {
            Ok(()) => 0,
            Err(_) => self.random.index(pages * FRAME_BYTES + 1),
        };
        let mut early = Vec::new();
        let mut splits = ArrayVec::new();
        if transfer.direction == Direction::Write && self.order == Order::Random {
            early.resize(pages * FRAME_BYTES, 0);
            for (slot, page) in transfer.frames.iter().zip(early.chunks_exact_mut(FRAME_BYTES)) {
                let split = match self.random.below(4) {
                    0 => 0,
                    1 => FRAME_BYTES,
                    _ => self.random.index(FRAME_BYTES / 8) * 8,
                };
                ram.read(*slot, 0, &mut page[..split]);
                splits.push(split);
            }
        }
        let movement = if self.random.happens(self.early_completion) {
            Movement::Late(Nanoseconds(self.random.below(2 * full + 1)))
        } else {
            Movement::InTime
        };
        let request = Request { token, transfer, number, due, fate, early, splits, torn, movement };
        self.requests.push(request);
    }

    fn fate(&self, number: u64, direction: Direction) -> Result<(), NtStatus> {
        let chance = match direction {
            Direction::Read => self.faults.read_error,
            Direction::Write => self.faults.write_error,
        };
        if self.random.happens(chance) {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        match self.faults.schedule.iter().find(|(fails, _)| *fails == number) {
            Some((_, status)) => Err(*status),
            None => Ok(()),
        }
    }

    /// When the next transfer completes.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanoseconds> {
        self.requests.iter().map(|request| request.due).min()
    }

    /// How many transfers are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.requests.len()
    }

    /// How many transfers have been submitted.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.submitted
    }

    /// How many transfers under way move a frame.
    #[must_use]
    pub fn transfers_of(&self, slot: FrameSlot) -> usize {
        self.requests.iter().filter(|request| request.transfer.frames.contains(&slot)).count()
    }

    /// Completes the earliest transfer that is due: moves its pages and says how it ended.
    /// Nothing is said when that has been said before.
    pub fn complete_due(
        &mut self,
        now: Nanoseconds,
        ram: &Ram,
    ) -> Option<(Token, Result<(), NtStatus>)> {
        let (index, _) = self
            .requests
            .iter()
            .enumerate()
            .filter(|(_, request)| request.due <= now)
            .min_by_key(|(_, request)| (request.due, request.number))?;
        let mut request = self.requests.swap_remove(index);
        if let Movement::Late(delay) = request.movement {
            let answer = (request.token, request.fate);
            request.movement = Movement::Reported;
            request.due = Nanoseconds(now.0 + delay.0);
            self.requests.push(request);
            return Some(answer);
        }
        let disk = &mut self.disks[request.transfer.file.0 as usize].disk;
        let moved = match request.transfer.direction {
            Direction::Read => read(disk.as_mut(), &request, ram),
            Direction::Write => write(disk.as_mut(), &mut request, ram),
        };
        (request.movement == Movement::InTime).then(|| (request.token, request.fate.and(moved)))
    }
}

/// Fills the frames of a read, up to the tear when it fails.
fn read<T>(disk: &mut dyn Disk, request: &Request<T>, ram: &Ram) -> Result<(), NtStatus> {
    let mut buffer = vec![0; request.transfer.frames.len() * FRAME_BYTES];
    disk.read(request.transfer.first_page, &mut buffer)?;
    if request.fate.is_err() {
        buffer.truncate(request.torn);
    }
    for (slot, page) in request.transfer.frames.iter().zip(buffer.chunks(FRAME_BYTES)) {
        ram.write(*slot, 0, page);
    }
    Ok(())
}

/// Writes the frames of a write, up to the tear when it fails.
fn write<T>(disk: &mut dyn Disk, request: &mut Request<T>, ram: &Ram) -> Result<(), NtStatus> {
    let length = request.transfer.frames.len() * FRAME_BYTES;
    let mut buffer = std::mem::take(&mut request.early);
    buffer.resize(length, 0);
    let splits = request.splits.iter().copied().chain(std::iter::repeat(0));
    let pages = buffer.chunks_exact_mut(FRAME_BYTES);
    for ((slot, page), split) in request.transfer.frames.iter().zip(pages).zip(splits) {
        ram.read(*slot, split, &mut page[split..]);
    }
    if request.fate.is_err() {
        let mut old = vec![0; length];
        disk.read(request.transfer.first_page, &mut old)?;
        buffer[request.torn..].copy_from_slice(&old[request.torn..]);
    }
    disk.write(request.transfer.first_page, &buffer)
}

impl<Token> std::fmt::Debug for Transfers<Token> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfers")
            .field("disks", &self.disks.len())
            .field("under_way", &self.requests.len())
            .finish_non_exhaustive()
    }
}
