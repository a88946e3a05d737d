//! Data files: what sections map and file systems read and write.
//!
//! A [`DataFile`] is a run of bytes with an end, at work at once like a [disk](crate::disk): the
//! [queue](crate::transfers) in front of it delays, reorders and tears the manager's transfers,
//! and [storage](crate::storage) knows what they may not do to it. [`MemoryFile`] keeps its bytes
//! in memory, [`HostFile`] is a real file of the host, on whose disk everything ends.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ntmm::status::NtStatus;

use crate::disk::status_of;
use crate::ram::FRAME_BYTES;

/// A file of bytes.
pub trait DataFile {
    /// Its size in bytes.
    ///
    /// # Errors
    /// `IO_DEVICE_ERROR` when the device fails.
    fn size(&self) -> Result<u64, NtStatus>;

    /// Makes it so many bytes long. What is added holds zeroes.
    ///
    /// # Errors
    /// `DISK_FULL` when there is no room, `IO_DEVICE_ERROR` when the device fails. It has its old
    /// size then.
    fn set_size(&mut self, size: u64) -> Result<(), NtStatus>;

    /// Reads bytes from `offset` on, as many as the buffer has or as there are before the end, and
    /// says how many these were. Bytes never written are zeroes.
    ///
    /// # Errors
    /// `IO_DEVICE_ERROR` when the device fails. A part of the buffer may have been filled.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, NtStatus>;

    /// Writes bytes from `offset` on. Behind the end the file grows, and what lies between its old
    /// end and `offset` holds zeroes.
    ///
    /// # Errors
    /// `DISK_FULL` when there is no room, `IO_DEVICE_ERROR` when the device fails. A part may have
    /// been written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), NtStatus>;
}

const BLOCK: u64 = FRAME_BYTES as u64;

/// A file in memory that holds the blocks that were written and nothing else.
#[derive(Debug, Default)]
pub struct MemoryFile {
    size: u64,
    /// By number; what lies behind the end of the file is zero.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl MemoryFile {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file that holds these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let blocks = bytes.chunks(FRAME_BYTES).map(|chunk| {
            let mut block = vec![0; FRAME_BYTES];
            block[..chunk.len()].copy_from_slice(chunk);
            block.into()
        });
        Self { size: bytes.len() as u64, blocks: (0..).zip(blocks).collect() }
    }
}

/// The pieces of a run of bytes by block: the block's number, where in the block the piece begins,
/// where in the run it lies.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let from = (at % BLOCK) as usize;
        let count = (FRAME_BYTES - from).min(length - done);
        let piece = done..done + count;
        done += count;
        Some((at / BLOCK, from, piece))
    })
}

impl DataFile for MemoryFile {
    fn size(&self) -> Result<u64, NtStatus> {
        Ok(self.size)
    }

    fn set_size(&mut self, size: u64) -> Result<(), NtStatus> {
        self.blocks.split_off(&size.div_ceil(BLOCK));
        if let Some(last) = self.blocks.get_mut(&(size / BLOCK)) {
            last[(size % BLOCK) as usize..].fill(0);
        }
        self.size = size;
        Ok(())
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, NtStatus> {
        let there = self.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (number, from, piece) in pieces(offset, there) {
            match self.blocks.get(&number) {
                Some(block) => {
                    let length = piece.len();
                    buffer[piece].copy_from_slice(&block[from..from + length]);
                }
                None => buffer[piece].fill(0),
            }
        }
        Ok(there)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        for (number, from, piece) in pieces(offset, bytes.len()) {
            let block = self.blocks.entry(number).or_insert_with(|| vec![0; FRAME_BYTES].into());
            block[from..from + piece.len()].copy_from_slice(&bytes[piece]);
        }
        if !bytes.is_empty() {
            self.size = self.size.max(offset + bytes.len() as u64);
        }
        Ok(())
    }
}

/// The longest file a host can have.
const LONGEST: u64 = i64::MAX as u64;

/// A file of the host. Others on the host may use it at the same time.
#[derive(Debug)]
pub struct HostFile(File);

impl HostFile {
    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// What the host says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(path).map(Self)
    }

    /// A file that is open, for reading and, unless every write shall fail, for writing.
    #[must_use]
    pub const fn on(file: File) -> Self {
        Self(file)
    }
}

impl DataFile for HostFile {
    fn size(&self) -> Result<u64, NtStatus> {
        self.0.metadata().map(|metadata| metadata.len()).map_err(|error| status_of(&error))
    }

    fn set_size(&mut self, size: u64) -> Result<(), NtStatus> {
        if size > LONGEST {
            return Err(NtStatus::DISK_FULL);
        }
        self.0.set_len(size).map_err(|error| status_of(&error))
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, NtStatus> {
        let mut done = 0;
        while done < buffer.len() && offset <= LONGEST - done as u64 {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(status_of(&error)),
            }
        }
        Ok(done)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        if offset > LONGEST - bytes.len() as u64 {
            return Err(NtStatus::DISK_FULL);
        }
        self.0.write_all_at(bytes, offset).map_err(|error| status_of(&error))
    }
}
