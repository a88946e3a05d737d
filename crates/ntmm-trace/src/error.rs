//! What can be wrong with a trace, and where.
//!
//! Every error carries the file's name and a [`Place`] in it, so that its one-line display is all a user needs.

use std::fmt;
use std::io;

/// Why a trace could not be read or written, and where.
#[derive(Debug, thiserror::Error)]
#[error("{file}{place}: {problem}")]
pub struct TraceError {
    /// The file's path, or the name given to [`TraceReader::from_reader`](crate::TraceReader::from_reader).
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// What is wrong there.
    #[source]
    pub problem: Problem,
}

/// A place in a trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A line of text, counted from 1; within the unpacked text if the file is gzipped.
    Line(u64),
    /// An offset in bytes from the start of the file, for the header of the compact form.
    Byte(u64),
    /// A record of the compact form, counted from 0.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Whole => Ok(()),
            Place::Line(line) => write!(f, ":{line}"),
            Place::Byte(offset) => write!(f, " at byte {offset}"),
            Place::Record(record) => write!(f, " at record {record}"),
        }
    }
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system refused to open, read or write.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// A line is none of lackey's.
    #[error(
        "not a lackey line: {0:?} (expected \"I  addr,size\", \" L addr,size\", \" S …\" or \" M …\")"
    )]
    Line(String),
    /// A line's address is not a hexadecimal number of a 64-bit address space.
    #[error("address out of range in {0:?}")]
    Address(String),
    /// A line's size is not a number from 1 to 4096.
    #[error("size out of range in {0:?} (1 to 4096 bytes)")]
    Size(String),
    /// A line does not end within any plausible length.
    #[error("line too long; not a lackey trace")]
    LineTooLong,
    /// Compressed data end too early.
    #[error("compressed data are truncated")]
    Truncated,
    /// Compressed data cannot be unpacked or fail their checksum.
    #[error("compressed data are damaged: {0}")]
    Damaged(String),
    /// Bytes follow the end of the compact form.
    #[error("unexpected bytes after the end of the trace")]
    TrailingBytes,
    /// The header of the compact form has a version this program does not know.
    #[error("trace format version {0} is not supported (this program reads version 1)")]
    Version(u16),
    /// The header of the compact form ends too early.
    #[error("header is truncated")]
    HeaderTruncated,
    /// The header of the compact form fails its checksum.
    #[error("header checksum mismatch")]
    HeaderChecksum,
    /// A field of the header cannot be true.
    #[error("bad header: {0}")]
    Header(&'static str),
    /// A record of the compact form cannot be true.
    #[error("bad record: {0}")]
    Record(&'static str),
    /// The records do not add up to the totals in the header.
    #[error("records do not add up to the header's {0}")]
    Totals(&'static str),
    /// There is not a single reference.
    #[error("trace is empty: no memory references in it")]
    Empty,
    /// A reference handed to the writer is outside the documented ranges.
    #[error("reference out of range: {size} bytes at {va:#x}")]
    Reference {
        /// Its address.
        va: u64,
        /// Its size in bytes.
        size: u32,
    },
    /// The output exists and is no regular file, so it cannot be replaced.
    #[error("is not a regular file; refusing to replace it")]
    NotRegular,
    /// Program name or command line is longer than the header can hold.
    #[error("program name or command line longer than 65535 bytes")]
    NameTooLong,
}

impl TraceError {
    /// An error of the operating system with the file as a whole.
    pub(crate) fn io(file: &str, error: io::Error) -> Self {
        TraceError { file: file.to_owned(), place: Place::Whole, problem: Problem::Io(error) }
    }
}
