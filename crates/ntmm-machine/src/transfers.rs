//! Transfers under way: the queue between the manager's requests and the
//! [storage](crate::storage).
//!
//! A request is given a moment at which it completes; until then its frames belong to the
//! device. Plainly, each file works in order, one request after the other. An adversarial
//! queue lets each request take any time up to its full length, so that they complete in any
//! order, and lets a write pick up each page partly when it is submitted and partly when it
//! completes, as a device that reads memory in its own time does.
//!
//! Files are touched when a request completes: where a data file ends then, not when the request
//! was made, is its end. A request that is to fail does part of its work first: a torn write, or
//! frames half filled.

use std::collections::BTreeMap;

use arrayvec::ArrayVec;
use ntmm::platform::{Direction, FileId};
use ntmm::status::NtStatus;

use crate::clock::Nanoseconds;
use crate::config::{DiskFaults, DiskTiming};
use crate::ram::{FRAME_BYTES, FrameSlot, Ram};
use crate::random::{Chance, Random};
use crate::storage::Storage;

/// Most frames in a transfer.
pub const MAXIMUM_FRAMES: usize = 16;

/// The frames of a transfer, in file order.
pub type TransferFrames = ArrayVec<FrameSlot, MAXIMUM_FRAMES>;

/// In which order and when transfers complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each file in order of submission.
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
    /// Byte in the file at which it begins.
    pub offset: u64,
    /// Bytes in the file: what the frames have, less a part of the last one.
    pub length: usize,
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
    /// Bytes moved, all of them unless it fails.
    moving: usize,
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

/// A failure that the host has ordered.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    file: FileId,
    direction: Direction,
    status: NtStatus,
}

/// The transfers under way and the storage behind them. `Token` names a transfer to its submitter.
pub struct Transfers<Token> {
    timing: DiskTiming,
    faults: DiskFaults,
    order: Order,
    storage: Storage,
    /// When each file has done what was asked of it.
    free_from: BTreeMap<FileId, Nanoseconds>,
    ordered: Vec<Ordered>,
    requests: Vec<Request<Token>>,
    submitted: u64,
    random: Random,
    early_completion: Chance,
}

impl<Token: Copy> Transfers<Token> {
    /// An idle queue without files.
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
            storage: Storage::new(),
            free_from: BTreeMap::new(),
            ordered: Vec::new(),
            requests: Vec::new(),
            submitted: 0,
            random,
            early_completion,
        }
    }

    /// The files.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The files, to be changed at once and past the queue.
    pub const fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    /// Makes the next `count` transfers of a file in one direction fail with `status`, beside those
    /// that fail anyway.
    pub fn fail_next(&mut self, file: FileId, direction: Direction, count: u32, status: NtStatus) {
        let ordered = Ordered { file, direction, status };
        self.ordered.extend(std::iter::repeat_n(ordered, count as usize));
    }

    /// Starts a transfer that the storage [accepts](Storage::accepts).
    pub fn submit(&mut self, token: Token, transfer: Transfer, now: Nanoseconds, ram: &Ram) {
        let number = self.submitted;
        self.submitted += 1;
        let pages = transfer.frames.len();
        let full = self.timing.request.0 + self.timing.page.0 * pages as u64;
        let due = match self.order {
            Order::Submission => {
                let free_from = self.free_from.entry(transfer.file).or_default();
                *free_from = Nanoseconds(now.max(*free_from).0 + full);
                *free_from
            }
            // Short times are as likely as long ones on a logarithmic scale, so that some
            // transfers complete within a few references.
            Order::Random => {
                let limit = full >> self.random.below(16);
                Nanoseconds(now.0 + self.random.below(limit + 1))
            }
        };
        let fate = self.fate(number, &transfer);
        let reach = match transfer.direction {
            Direction::Read => pages * FRAME_BYTES,
            Direction::Write => transfer.length,
        };
        let moving = match fate {
            Ok(()) => reach,
            Err(_) => self.random.index(reach + 1),
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
        let request =
            Request { token, transfer, number, due, fate, early, splits, moving, movement };
        self.requests.push(request);
    }

    fn fate(&mut self, number: u64, transfer: &Transfer) -> Result<(), NtStatus> {
        let chance = match transfer.direction {
            Direction::Read => self.faults.read_error,
            Direction::Write => self.faults.write_error,
        };
        if self.random.happens(chance) {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        if let Some((_, status)) = self.faults.schedule.iter().find(|(fails, _)| *fails == number) {
            return Err(*status);
        }
        let matches = |ordered: &Ordered| {
            (ordered.file, ordered.direction) == (transfer.file, transfer.direction)
        };
        match self.ordered.iter().position(matches) {
            Some(index) => Err(self.ordered.remove(index).status),
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
        let moved = match request.transfer.direction {
            Direction::Read => read(&mut self.storage, &request, ram),
            Direction::Write => write(&mut self.storage, &mut request, ram),
        };
        (request.movement == Movement::InTime).then(|| (request.token, request.fate.and(moved)))
    }
}

/// Fills the frames of a read, up to the tear when it fails.
fn read<T>(storage: &mut Storage, request: &Request<T>, ram: &Ram) -> Result<(), NtStatus> {
    let Transfer { file, offset, length, frames, .. } = &request.transfer;
    let mut buffer = vec![0; frames.len() * FRAME_BYTES];
    storage.page_in(*file, *offset, *length, &mut buffer)?;
    buffer.truncate(request.moving);
    for (slot, page) in frames.iter().zip(buffer.chunks(FRAME_BYTES)) {
        ram.write(*slot, 0, page);
    }
    Ok(())
}

/// Writes the frames of a write, up to the tear when it fails.
fn write<T>(storage: &mut Storage, request: &mut Request<T>, ram: &Ram) -> Result<(), NtStatus> {
    let Transfer { file, offset, frames, .. } = &request.transfer;
    let mut buffer = std::mem::take(&mut request.early);
    buffer.resize(frames.len() * FRAME_BYTES, 0);
    let splits = request.splits.iter().copied().chain(std::iter::repeat(0));
    let pages = buffer.chunks_exact_mut(FRAME_BYTES);
    for ((slot, page), split) in frames.iter().zip(pages).zip(splits) {
        ram.read(*slot, split, &mut page[split..]);
    }
    storage.page_out(*file, *offset, buffer, request.moving)
}

impl<Token> std::fmt::Debug for Transfers<Token> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfers")
            .field("storage", &self.storage)
            .field("under_way", &self.requests.len())
            .finish_non_exhaustive()
    }
}
