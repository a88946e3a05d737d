//! Where bytes come from: a file or any reader, with gzip taken off and the position counted.
//!
//! An [`Input`] is consumed front to back and never sought in, so a FIFO or standard input serves as well as a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Place, Problem, TraceError};

const BUFFER: usize = 128 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How far a reader has come, in bytes of the file as it lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far, including what is read ahead.
    pub consumed: u64,
    /// Bytes in all, if that is known (not for pipes).
    pub total: Option<u64>,
}

/// A stream of bytes with a name, whose first bytes can be looked at before they are read.
pub(crate) struct Input {
    pub(crate) file: String,
    consumed: Arc<AtomicU64>,
    total: Option<u64>,
    stream: Box<dyn BufRead + Send>,
}

impl Input {
    /// Opens a file. Gzip is not taken off.
    pub(crate) fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| TraceError::io(&name, error))?;
        let metadata = file.metadata().map_err(|error| TraceError::io(&name, error))?;
        let total = metadata.is_file().then_some(metadata.len());
        Ok(Self::new(name, total, file))
    }

    /// Reads from anything.
    pub(crate) fn new(
        file: String,
        total: Option<u64>,
        reader: impl Read + Send + 'static,
    ) -> Self {
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: reader, consumed: Arc::clone(&consumed) };
        Input { file, consumed, total, stream: Box::new(BufReader::with_capacity(BUFFER, counted)) }
    }

    /// Looks at the first `N` bytes without consuming them; fewer if the stream is shorter.
    pub(crate) fn peek<const N: usize>(self) -> Result<(Self, Vec<u8>), TraceError> {
        let Input { file, consumed, total, mut stream } = self;
        let mut first = Vec::with_capacity(N);
        stream
            .by_ref()
            .take(N as u64)
            .read_to_end(&mut first)
            .map_err(|error| unpack_error(&file, Place::Whole, error))?;
        let chained: Chain<Cursor<Vec<u8>>, _> = Cursor::new(first.clone()).chain(stream);
        let stream: Box<dyn BufRead + Send> = Box::new(chained);
        Ok((Input { file, consumed, total, stream }, first))
    }

    /// Takes gzip off if the stream starts with gzip's magic number.
    pub(crate) fn unpacked(self) -> Result<Self, TraceError> {
        let (input, first) = self.peek::<2>()?;
        if first != GZIP_MAGIC {
            return Ok(input);
        }
        let unpacked = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input.stream));
        Ok(Input { stream: Box::new(unpacked), ..input })
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress { consumed: self.consumed.load(Ordering::Relaxed), total: self.total }
    }

    /// The progress of a stream that has been taken apart, and the stream.
    pub(crate) fn into_parts(self) -> (String, Meter, Box<dyn BufRead + Send>) {
        let meter = Meter { consumed: self.consumed, total: self.total };
        (self.file, meter, self.stream)
    }

    /// Reads some bytes; the error names `place`.
    pub(crate) fn read(&mut self, buffer: &mut [u8], place: Place) -> Result<usize, TraceError> {
        read_some(&mut self.stream, buffer).map_err(|error| unpack_error(&self.file, place, error))
    }
}

/// The position of an [`Input`] whose stream was taken out of it.
pub(crate) struct Meter {
    consumed: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Meter {
    pub(crate) fn progress(&self) -> Progress {
        Progress { consumed: self.consumed.load(Ordering::Relaxed), total: self.total }
    }
}

/// Reads once, again after interruptions.
pub(crate) fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Tells apart what the gzip decoder reports through `io::Error`.
pub(crate) fn unpack_error(file: &str, place: Place, error: io::Error) -> TraceError {
    let problem = match error.kind() {
        io::ErrorKind::UnexpectedEof => Problem::Truncated,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Problem::Damaged(error.to_string())
        }
        _ => Problem::Io(error),
    };
    TraceError { file: file.to_owned(), place, problem }
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.consumed.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
