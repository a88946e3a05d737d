//! Opening and reading a trace of any form.
//!
//! A [`TraceReader`] is owned by one thread and read front to back. After an error or the end it yields nothing more.

use std::io::Read;
use std::path::Path;

use crate::compact::{CompactReader, Header, MAGIC, Program};
use crate::error::TraceError;
use crate::input::{Input, Progress};
use crate::reference::Reference;
use crate::text::TextReader;

/// References in a full batch.
pub const BATCH: usize = 8192;

/// The form a trace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// Valgrind lackey text, plain or gzipped.
    Lackey,
    /// ntmm's compact form.
    Compact,
}

enum Source {
    Text(TextReader),
    Compact(Box<CompactReader>),
}

/// Yields a trace's references in program order.
///
/// As an iterator it yields one reference at a time, `Err` at most once and then nothing more;
/// [`TraceReader::read_batch`] does the same faster.
pub struct TraceReader {
    source: Source,
    /// Read but not yet yielded by the iterator.
    batch: Vec<Reference>,
    yielded: usize,
}

impl TraceReader {
    /// Opens a file or FIFO and finds out which form it has.
    ///
    /// # Errors
    /// The file cannot be opened or read, or its compact header is faulty.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::new(Input::open(path)?)
    }

    /// Reads a trace from anything; `name` stands for the file's name in errors.
    ///
    /// # Errors
    /// As [`TraceReader::open`].
    pub fn from_reader(name: &str, reader: impl Read + Send + 'static) -> Result<Self, TraceError> {
        Self::new(Input::new(name.to_owned(), None, reader))
    }

    fn new(input: Input) -> Result<Self, TraceError> {
        let (input, first) = input.peek::<8>()?;
        let source = if first == MAGIC {
            Source::Compact(Box::new(CompactReader::new(input)?))
        } else {
            Source::Text(TextReader::new(input.unpacked()?))
        };
        Ok(TraceReader { source, batch: Vec::new(), yielded: 0 })
    }

    /// The form of the trace.
    #[must_use]
    pub fn format(&self) -> TraceFormat {
        match self.source {
            Source::Text(_) => TraceFormat::Lackey,
            Source::Compact(_) => TraceFormat::Compact,
        }
    }

    /// The header, which only the compact form has.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        match &self.source {
            Source::Text(_) => None,
            Source::Compact(reader) => Some(reader.header()),
        }
    }

    /// The program that was recorded, as far as it is known by now: from the header, or from Valgrind's preamble once
    /// the first batch has been read.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        match &self.source {
            Source::Text(reader) => reader.command().map(Program::from_command),
            Source::Compact(reader) => Some(reader.header().program.clone()),
        }
    }

    /// The name used in errors.
    #[must_use]
    pub fn file(&self) -> &str {
        match &self.source {
            Source::Text(reader) => reader.file(),
            Source::Compact(reader) => reader.file(),
        }
    }

    /// How far reading has come, for a progress bar.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.source {
            Source::Text(reader) => reader.progress(),
            Source::Compact(reader) => reader.progress(),
        }
    }

    /// Empties `batch`, fills it with the next references and returns their number: [`BATCH`], fewer before the end,
    /// 0 at the end.
    ///
    /// # Errors
    /// Whatever is wrong with the part of the trace just read. `batch` then holds the references before the fault.
    /// A compact trace's last batch comes only after its checksum and totals have been found right.
    pub fn read_batch(&mut self, batch: &mut Vec<Reference>) -> Result<usize, TraceError> {
        batch.clear();
        match &mut self.source {
            Source::Text(reader) => reader.read_batch(batch)?,
            Source::Compact(reader) => reader.read_batch(batch)?,
        }
        Ok(batch.len())
    }
}

impl Iterator for TraceReader {
    type Item = Result<Reference, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.yielded == self.batch.len() {
            let mut batch = std::mem::take(&mut self.batch);
            let result = self.read_batch(&mut batch);
            self.batch = batch;
            self.yielded = 0;
            match result {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.batch.clear();
                    return Some(Err(error));
                }
            }
        }
        let reference = self.batch[self.yielded];
        self.yielded += 1;
        Some(Ok(reference))
    }
}
