//! The file system of a machine: what its host, and programs past the manager, do with data files.
//!
//! Everything here happens at once and past the queue of transfers, as reads and writes without a
//! cache do: whoever maps the same file keeps both in step. Transfers that are under way meet the
//! file as it is when they complete.

use ntmm::platform::{Direction, FileId, Irql, Trace};
use ntmm::status::NtStatus;

use crate::data_file::DataFile;
use crate::format::Hardware;
use crate::halt::Violation;
use crate::machine::Machine;

impl<M: Hardware, T: Trace> Machine<M, T> {
    /// Adds a data file and names it for the manager. Disks and data files share the names. Its
    /// size is asked for and changed through [`PagingIo`](ntmm::platform::PagingIo).
    pub fn attach_file(&self, file: Box<dyn DataFile>) -> FileId {
        self.transfers.borrow_mut().storage_mut().attach_file(file)
    }

    /// Reads bytes of a data file from `offset` on, and says how many there were before its end.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none, `END_OF_FILE` when some were wanted and there
    /// were none; those of the [file](DataFile::read).
    pub fn read_file(
        &self,
        file: FileId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, NtStatus> {
        self.transfers.borrow_mut().storage_mut().read_file(file, offset, buffer)
    }

    /// Writes bytes into a data file from `offset` on. Behind its end it grows.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none, `INVALID_PARAMETER` when the last byte has no
    /// number, `DISK_FULL` when there is no room; those of the [file](DataFile::write).
    pub fn write_file(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        self.transfers.borrow_mut().storage_mut().write_file(file, offset, bytes)
    }

    /// Limits what all data files may have together, in bytes; there is no limit at first. What
    /// would make them exceed it fails with `DISK_FULL`. While they exceed it, because it has been
    /// set below what they have, no byte can be written to any of them, by transfers neither.
    pub fn set_file_room(&self, bytes: u64) {
        self.transfers.borrow_mut().storage_mut().set_room(bytes);
    }

    /// Makes the next `count` transfers of a file in one direction fail with `status`, beside
    /// those that fail anyway ([`DiskFaults`](crate::DiskFaults)). They do a part of their work.
    pub fn fail_transfers(&self, file: FileId, direction: Direction, count: u32, status: NtStatus) {
        self.transfers.borrow_mut().fail_next(file, direction, count, status);
    }

    /// A call of the manager into the file system: it takes its time, without a lock.
    pub(crate) fn enter_file_system(&self) {
        let irql = self.current().irql();
        if irql != Irql::PASSIVE {
            Violation::FileSystemWithLock { cpu: self.current.get(), irql }.raise();
        }
        self.preemption_point();
    }
}
