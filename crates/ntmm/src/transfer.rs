//! Transfer records: page reads and page writes that are outstanding.
//!
//! A read's record is NT's in-page support block (MMINPAGE_SUPPORT, spec 4.13): it names the
//! frames being filled, and counts the operations that wait for them. It pins its frames with
//! one reference each until the last of these operations has let go of it, so that what was
//! read is used at least once. A write's record is an MDL entry of the modified-page writer
//! (MMMOD_WRITER_MDL_ENTRY); nobody waits for it.
//!
//! Life of a record: free -> in flight -> (done, reads with holders only) -> free. State,
//! holders and generation share one word under the table's lock; the frames are written before
//! the transfer is submitted and constant after.

use arrayvec::ArrayVec;
use ntmm_pte::Pfn;
use ntmm_sync::atomic::Ordering;
use ntmm_sync::level::{self, Level, Outside, Token};
use ntmm_sync::lock::WordLock;
use ntmm_sync::record;

use crate::manager::Manager;
use crate::operation::{Epoch, InPageId, Wait, WaitKey};
use crate::platform::{Direction, IoToken, Platform};
use crate::status::NtStatus;

/// Pages in one transfer at most (spec 4.13).
pub const CLUSTER: usize = 16;

/// Frames of a transfer, in file order.
pub(crate) type Cluster = ArrayVec<Pfn, CLUSTER>;

const RECORD_WORDS: usize = 16;
const RECORDS_PER_FRAME: u32 = 512 / RECORD_WORDS as u32;
const FRAME_WORDS: u16 = 2;

record! {
    /// A transfer.
    record Record [RECORD_WORDS] {
        /// A [`Stage`] as a number.
        stage, set_stage: u8 = 0, 0, 8;
        /// Operations that hold it.
        holders, set_holders: u16 = 0, 8, 16;
        /// Frames in it. Beside the status, which is written only after the transfer.
        count, set_count: u8 = 1, 32, 8;
        /// Advances when the record is freed.
        generation, set_generation: u32 = 0, 32, 32;
        /// How the transfer ended.
        status, set_status: u32 = 1, 0, 32;
    }
}

/// Stage of a record's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free = 0,
    InFlight = 1,
    Done = 2,
}

/// The records of one direction.
#[derive(Debug)]
pub(crate) struct Transfers {
    direction: Direction,
    first: Pfn,
    records: u32,
    lock: WordLock,
}

impl Transfers {
    /// Records on `frames` frames from `first`, but no more than `limit`.
    pub(crate) fn new(direction: Direction, first: Pfn, frames: u32, limit: u32) -> Self {
        let records = (frames * RECORDS_PER_FRAME).min(limit);
        Self { direction, first, records, lock: WordLock::new() }
    }

    /// Whether the table's lock is held.
    pub(crate) fn is_held(&self) -> bool {
        self.lock.is_held()
    }
}

/// Names a record for as long as it is not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferId {
    index: u32,
    generation: u32,
}

impl TransferId {
    /// What the host is told to wait for.
    pub(crate) const fn wait(self) -> Wait {
        Wait { key: WaitKey::InPage(InPageId(self.index)), epoch: Epoch(self.generation as u64) }
    }

    /// The number of the record, kept in the frames' u1.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }

    pub(crate) const fn token(self, direction: Direction) -> IoToken {
        let tag = match direction {
            Direction::Read => 0,
            Direction::Write => 1 << 31,
        };
        IoToken(((self.generation as u64) << 32) | tag | self.index as u64)
    }

    pub(crate) const fn from_token(token: IoToken) -> (Direction, Self) {
        let direction = if token.0 & (1 << 31) == 0 { Direction::Read } else { Direction::Write };
        let index = (token.0 as u32) & 0x7FFF_FFFF;
        (direction, Self { index, generation: (token.0 >> 32) as u32 })
    }
}

/// What a holder finds when it looks at its read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not complete.
    InFlight,
    /// Complete.
    Done(Result<(), NtStatus>),
}

impl<P: Platform> Manager<P> {
    fn transfer_record<'m>(&'m self, table: &Transfers, index: u32) -> Record<'m> {
        let frame = Pfn::new(table.first.get() + index / RECORDS_PER_FRAME);
        Record::new(self.platform().frame(frame), index as usize)
    }

    fn with_transfers<L: Level + Outside<level::List>, T>(
        &self,
        _token: &mut Token<'_, L>,
        table: &Transfers,
        action: impl FnOnce() -> T,
    ) -> T {
        table.lock.acquire(|| self.platform().relax());
        let outcome = action();
        table.lock.release();
        outcome
    }

    /// Takes a free record; a read's gets its creator as first holder.
    pub(crate) fn allocate_transfer<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        table: &Transfers,
    ) -> Option<TransferId> {
        if self.platform().fail_allocation() {
            return None;
        }
        self.with_transfers(token, table, || {
            (0..table.records).find_map(|index| {
                let record = self.transfer_record(table, index);
                (record.stage() == Stage::Free as u8).then(|| {
                    record.set_stage(Stage::InFlight as u8);
                    record.set_holders(u16::from(table.direction == Direction::Read));
                    record.set_count(0);
                    TransferId { index, generation: record.generation() }
                })
            })
        })
    }

    /// Names the frames of a transfer that has not been submitted yet.
    pub(crate) fn set_transfer_frames(&self, table: &Transfers, id: TransferId, frames: &Cluster) {
        let record = self.transfer_record(table, id.index);
        for (number, pair) in frames.chunks(2).enumerate() {
            let mut word = 0;
            for (half, pfn) in pair.iter().enumerate() {
                word |= u64::from(pfn.get()) << (32 * half);
            }
            record.view().word(FRAME_WORDS + number as u16).store(word, Ordering::Relaxed);
        }
        record.set_count(frames.len() as u8);
    }

    /// The frames of a transfer.
    pub(crate) fn transfer_frames(&self, table: &Transfers, id: TransferId) -> Cluster {
        let record = self.transfer_record(table, id.index);
        (0..usize::from(record.count()).min(CLUSTER))
            .map(|number| {
                let word = record.view().word(FRAME_WORDS + (number / 2) as u16);
                Pfn::new((word.load(Ordering::Relaxed) >> (32 * (number % 2))) as u32)
            })
            .collect()
    }

    /// Frees a record. The caller has dealt with its frames.
    pub(crate) fn free_transfer<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        table: &Transfers,
        id: TransferId,
    ) {
        self.with_transfers(token, table, || {
            let record = self.transfer_record(table, id.index);
            record.set_stage(Stage::Free as u8);
            record.set_generation(id.generation.wrapping_add(1));
        });
        self.wake_record_waiters();
    }

    /// Joins the read that fills a frame: a collided fault. The frame is locked and its read in
    /// progress, so the record is alive.
    pub(crate) fn hold_read<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        index: u32,
    ) -> TransferId {
        self.with_transfers(token, &self.reads, || {
            let record = self.transfer_record(&self.reads, index);
            record.set_holders(record.holders() + 1);
            TransferId { index, generation: record.generation() }
        })
    }

    /// How far a held read has come.
    pub(crate) fn read_progress(&self, id: TransferId) -> Progress {
        let record = self.transfer_record(&self.reads, id.index);
        if record.stage() == Stage::InFlight as u8 {
            return Progress::InFlight;
        }
        let status = NtStatus::new(record.status());
        Progress::Done(if status.is_success() { Ok(()) } else { Err(status) })
    }

    /// Lets go of a held read; says whether the caller was the last and has to release it.
    pub(crate) fn unhold_read<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        id: TransferId,
    ) -> LastHolder {
        self.with_transfers(token, &self.reads, || {
            let record = self.transfer_record(&self.reads, id.index);
            let left = record.holders().saturating_sub(1);
            record.set_holders(left);
            if left == 0 && record.stage() == Stage::Done as u8 {
                LastHolder::Yes
            } else {
                LastHolder::No
            }
        })
    }

    /// Marks a read complete; says whether nobody holds it any more.
    pub(crate) fn finish_read<L: Level + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        id: TransferId,
        status: NtStatus,
    ) -> LastHolder {
        self.with_transfers(token, &self.reads, || {
            let record = self.transfer_record(&self.reads, id.index);
            record.set_status(status.code());
            record.set_stage(Stage::Done as u8);
            if record.holders() == 0 { LastHolder::Yes } else { LastHolder::No }
        })
    }

    /// Whether the read a host was told to wait for is still in flight.
    pub(crate) fn read_is_pending(&self, id: InPageId, epoch: Epoch) -> bool {
        let record = self.transfer_record(&self.reads, id.0);
        u64::from(record.generation()) == epoch.0 && record.stage() == Stage::InFlight as u8
    }

    /// Whether `id` names a transfer that is in flight.
    pub(crate) fn transfer_in_flight(&self, table: &Transfers, id: TransferId) -> bool {
        id.index < table.records && {
            let record = self.transfer_record(table, id.index);
            record.generation() == id.generation && record.stage() == Stage::InFlight as u8
        }
    }

    /// Calls `visit` with each frame of each record in use, and the holders of the record. For
    /// auditors.
    pub(crate) fn for_each_transfer(&self, table: &Transfers, mut visit: impl FnMut(Cluster, u16)) {
        for index in 0..table.records {
            let record = self.transfer_record(table, index);
            if record.stage() != Stage::Free as u8 {
                let id = TransferId { index, generation: record.generation() };
                visit(self.transfer_frames(table, id), record.holders());
            }
        }
    }
}

/// Whether an operation was the last to hold a completed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum LastHolder {
    Yes,
    No,
}
