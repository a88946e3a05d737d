//! Storage: the paging files and data files of a machine, under one sequence of names.
//!
//! A name stands for a [`Disk`], which holds a paging file, or for a [`DataFile`]. Two sorts of
//! access meet here. The manager's transfers move runs of bytes that may end inside a page or
//! reach behind the end of a data file, and never move that end. The file system's reads and
//! writes are those of programs: a write behind the end makes the file longer.
//!
//! All data files lie on one volume with a limited room, without limit at first.

use ntmm::platform::{FileId, SECTOR};
use ntmm::status::NtStatus;

use crate::data_file::DataFile;
use crate::disk::Disk;
use crate::ram::FRAME_BYTES;
use crate::transfers::MAXIMUM_FRAMES;

const PAGE: u64 = FRAME_BYTES as u64;

enum Store {
    /// A paging file.
    Disk(Box<dyn Disk>),
    /// A data file.
    File(Box<dyn DataFile>),
}

/// All files of a machine.
pub struct Storage {
    stores: Vec<Store>,
    /// Bytes that the data files may have together.
    room: u64,
}

impl Storage {
    /// No files, and no limit.
    pub(crate) const fn new() -> Self {
        Self { stores: Vec::new(), room: u64::MAX }
    }

    /// Adds a disk for a paging file and names it.
    pub fn attach(&mut self, disk: Box<dyn Disk>) -> FileId {
        self.add(Store::Disk(disk))
    }

    /// Adds a data file and names it. Its bytes count as used, also when they exceed the room.
    pub fn attach_file(&mut self, file: Box<dyn DataFile>) -> FileId {
        self.add(Store::File(file))
    }

    fn add(&mut self, store: Store) -> FileId {
        self.stores.push(store);
        FileId(self.stores.len() as u32 - 1)
    }

    /// Limits what the data files may have together, in bytes. While they have more, no byte can
    /// be written to any of them.
    pub fn set_room(&mut self, bytes: u64) {
        self.room = bytes;
    }

    /// Whether a transfer of `length` bytes from `offset` on, in so many frames, is one that a
    /// file can be asked for.
    #[must_use]
    pub fn accepts(&self, file: FileId, offset: u64, length: u64, frames: usize) -> bool {
        let Some(store) = self.stores.get(file.0 as usize) else { return false };
        let capacity = frames as u64 * PAGE;
        let fits = (1..=MAXIMUM_FRAMES).contains(&frames)
            && length <= capacity
            && length > capacity - PAGE
            && offset.checked_add(capacity).is_some();
        fits && match store {
            Store::Disk(_) => length == capacity && offset.is_multiple_of(PAGE),
            Store::File(_) => offset.is_multiple_of(SECTOR),
        }
    }

    // Transfers.

    /// Fills the buffer, which has whole pages: the first `length` bytes with those of the file
    /// from `offset` on, what lies behind them or behind the end of the file with zeroes.
    ///
    /// # Errors
    /// Those of [`Disk::read`] and [`DataFile::read`].
    pub(crate) fn page_in(
        &mut self,
        file: FileId,
        offset: u64,
        length: usize,
        buffer: &mut [u8],
    ) -> Result<(), NtStatus> {
        match &mut self.stores[file.0 as usize] {
            Store::Disk(disk) => disk.read(offset / PAGE, buffer),
            Store::File(data) => {
                let there = data.read(offset, &mut buffer[..length])?;
                buffer[there..].fill(0);
                Ok(())
            }
        }
    }

    /// Writes the first `reaching` bytes, which the run has or which a failing device takes, from
    /// `offset` on. What lies behind the end of a data file is left out.
    ///
    /// # Errors
    /// `DISK_FULL` while the data files have more than the room; those of [`Disk::write`] and
    /// [`DataFile::write`].
    pub(crate) fn page_out(
        &mut self,
        file: FileId,
        offset: u64,
        mut bytes: Vec<u8>,
        reaching: usize,
    ) -> Result<(), NtStatus> {
        let full = self.is_exceeded(None);
        match &mut self.stores[file.0 as usize] {
            Store::Disk(disk) => {
                if reaching < bytes.len() {
                    let mut old = vec![0; bytes.len()];
                    disk.read(offset / PAGE, &mut old)?;
                    bytes[reaching..].copy_from_slice(&old[reaching..]);
                }
                disk.write(offset / PAGE, &bytes)
            }
            Store::File(data) => {
                let inside = data.size()?.saturating_sub(offset).min(reaching as u64);
                if inside == 0 {
                    return Ok(());
                }
                if full? {
                    return Err(NtStatus::DISK_FULL);
                }
                data.write(offset, &bytes[..inside as usize])
            }
        }
    }

    // The file system.

    /// The size of a data file.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none; those of [`DataFile::size`].
    pub fn file_size(&self, file: FileId) -> Result<u64, NtStatus> {
        match self.stores.get(file.0 as usize) {
            Some(Store::File(data)) => data.size(),
            _ => Err(NtStatus::INVALID_FILE_FOR_SECTION),
        }
    }

    /// Makes a data file longer or shorter.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none, `DISK_FULL` when it would become longer than
    /// the room allows; those of [`DataFile::set_size`].
    pub fn set_file_size(&mut self, file: FileId, size: u64) -> Result<(), NtStatus> {
        if size > self.file_size(file)? && self.is_exceeded(Some((file, size)))? {
            return Err(NtStatus::DISK_FULL);
        }
        self.data(file)?.set_size(size)
    }

    /// Reads bytes of a data file from `offset` on, and says how many there were before its end.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none, `END_OF_FILE` when some were wanted and there
    /// were none; those of [`DataFile::read`].
    pub fn read_file(
        &mut self,
        file: FileId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, NtStatus> {
        match self.data(file)?.read(offset, buffer)? {
            0 if !buffer.is_empty() => Err(NtStatus::END_OF_FILE),
            count => Ok(count),
        }
    }

    /// Writes bytes into a data file from `offset` on. Behind its end it grows.
    ///
    /// # Errors
    /// `INVALID_FILE_FOR_SECTION` when it is none, `INVALID_PARAMETER` when the last byte has no
    /// number, `DISK_FULL` when the file would become longer than the room allows or the files
    /// have more than it already; those of [`DataFile::write`].
    pub fn write_file(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(NtStatus::INVALID_PARAMETER)?;
        let size = self.file_size(file)?.max(end);
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_exceeded(Some((file, size)))? {
            return Err(NtStatus::DISK_FULL);
        }
        self.data(file)?.write(offset, bytes)
    }

    fn data(&mut self, file: FileId) -> Result<&mut dyn DataFile, NtStatus> {
        match self.stores.get_mut(file.0 as usize) {
            Some(Store::File(data)) => Ok(data.as_mut()),
            _ => Err(NtStatus::INVALID_FILE_FOR_SECTION),
        }
    }

    /// Whether the data files have more than the room, or would if one had another size.
    fn is_exceeded(&self, other: Option<(FileId, u64)>) -> Result<bool, NtStatus> {
        if self.room == u64::MAX {
            return Ok(false);
        }
        let mut used = 0_u64;
        for (number, store) in (0..).zip(&self.stores) {
            let Store::File(data) = store else { continue };
            let size = match other {
                Some((file, size)) if file == FileId(number) => size,
                _ => data.size()?,
            };
            used = used.saturating_add(size);
        }
        Ok(used > self.room)
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage")
            .field("files", &self.stores.len())
            .field("room", &self.room)
            .finish()
    }
}
