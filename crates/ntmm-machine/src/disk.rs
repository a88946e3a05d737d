//! Disks: where paging files keep their pages.
//!
//! A [`Disk`] is a file of pages that reads and writes at once; delay, reordering and failures
//! are the business of the [queue](crate::transfers) in front of it. [`MemoryDisk`] keeps what was
//! written in memory, [`FileDisk`] in a real file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ntmm::status::NtStatus;
use ntmm_pte::Pages;

use crate::ram::FRAME_BYTES;

/// A file of pages.
pub trait Disk {
    /// Fills `buffer`, a whole number of pages, from page `first` on. Pages never written hold
    /// zeroes.
    ///
    /// # Errors
    /// `END_OF_FILE` past the end, `IO_DEVICE_ERROR` when the device fails.
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus>;

    /// Writes `bytes`, a whole number of pages, from page `first` on.
    ///
    /// # Errors
    /// `END_OF_FILE` past the end, `DISK_FULL` when there is no room, `IO_DEVICE_ERROR` when the
    /// device fails. A part may have been written.
    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus>;
}

/// Whether a transfer of so many bytes stays inside a file of `pages`.
fn inside(pages: Pages, first: u64, bytes: usize) -> Result<(), NtStatus> {
    let count = (bytes / FRAME_BYTES) as u64;
    match first.checked_add(count) {
        Some(end) if end <= pages.get() => Ok(()),
        _ => Err(NtStatus::END_OF_FILE),
    }
}

/// A disk in memory that holds what was written and nothing else.
#[derive(Debug)]
pub struct MemoryDisk {
    size: Pages,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl MemoryDisk {
    /// A disk of this size.
    #[must_use]
    pub const fn new(size: Pages) -> Self {
        Self { size, pages: BTreeMap::new() }
    }
}

impl Disk for MemoryDisk {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        inside(self.size, first, buffer.len())?;
        for (page, chunk) in (first..).zip(buffer.chunks_exact_mut(FRAME_BYTES)) {
            match self.pages.get(&page) {
                Some(bytes) => chunk.copy_from_slice(bytes),
                None => chunk.fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        inside(self.size, first, bytes.len())?;
        for (page, chunk) in (first..).zip(bytes.chunks_exact(FRAME_BYTES)) {
            self.pages.insert(page, chunk.into());
        }
        Ok(())
    }
}

/// A disk in a file of the host.
#[derive(Debug)]
pub struct FileDisk {
    size: Pages,
    file: File,
}

impl FileDisk {
    /// Creates the file, or empties it, and lets it reach the given size. The host gives it
    /// room only where pages are written.
    ///
    /// # Errors
    /// What the host says.
    pub fn create(path: &Path, size: Pages) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size.to_bytes().get())?;
        Ok(Self::on(file, size))
    }

    /// A disk on a file that is open for reading and writing and as long as `size` says.
    #[must_use]
    pub const fn on(file: File, size: Pages) -> Self {
        Self { size, file }
    }
}

/// What the manager is told of an error of the host.
pub(crate) fn status_of(error: &io::Error) -> NtStatus {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            NtStatus::DISK_FULL
        }
        io::ErrorKind::UnexpectedEof => NtStatus::END_OF_FILE,
        _ => NtStatus::IO_DEVICE_ERROR,
    }
}

impl Disk for FileDisk {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        inside(self.size, first, buffer.len())?;
        self.file
            .read_exact_at(buffer, first * FRAME_BYTES as u64)
            .map_err(|error| status_of(&error))
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        inside(self.size, first, bytes.len())?;
        self.file.write_all_at(bytes, first * FRAME_BYTES as u64).map_err(|error| status_of(&error))
    }
}
