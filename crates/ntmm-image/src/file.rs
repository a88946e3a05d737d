//! The file as the parser sees it: a size, and records at offsets.
//!
//! Every read is checked against the size first, so the caller's reader is never asked for bytes
//! the file does not have.

use object::pod::{self, Pod};

use crate::error::{ImageError, ParseError};
use crate::headers::MOST_SECTIONS;

/// Bytes the parser asks its reader for at most at a time.
pub const LONGEST_READ: usize = 256;

/// Pieces the parser asks for at most: the DOS header, a signature, the file header, the optional
/// header, the header of each section, and a CLR header.
pub const MOST_READS: usize = 5 + MOST_SECTIONS as usize;

/// A file that is read through a function.
pub(crate) struct ImageFile<R> {
    size: u64,
    read: R,
}

impl<R> ImageFile<R> {
    pub(crate) const fn new(size: u64, read: R) -> Self {
        Self { size, read }
    }

    /// Bytes in the file.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Fills the front of `buffer` with the bytes at `offset`, as far as there are any, and says
    /// how many there were. The rest of the buffer stays as it is.
    pub(crate) fn read_available<E>(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, ParseError<E>>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), E>,
    {
        let room = self.size.saturating_sub(offset);
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let (front, _) = buffer.split_at_mut(length);
        if !front.is_empty() {
            (self.read)(offset, front).map_err(ParseError::Read)?;
        }
        Ok(length)
    }

    /// The record at `offset`.
    ///
    /// # Errors
    /// `absent` when the file ends before the record does.
    pub(crate) fn record<T: Pod + Copy, E>(
        &mut self,
        offset: u64,
        absent: ImageError,
    ) -> Result<T, ParseError<E>>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), E>,
    {
        const { assert!(size_of::<T>() <= LONGEST_READ && align_of::<T>() == 1) };
        let mut buffer = [0; LONGEST_READ];
        let (bytes, _) = buffer.split_at_mut(size_of::<T>());
        if self.size.saturating_sub(offset) < bytes.len() as u64 {
            return Err(absent.into());
        }
        (self.read)(offset, bytes).map_err(ParseError::Read)?;
        pod::from_bytes(bytes).map(|(record, _)| *record).map_err(|()| absent.into())
    }
}
