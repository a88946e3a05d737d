//! Writing a compact trace.
//!
//! A [`CompactWriter`] merges references as they come and keeps the compressed records in memory, since the header in
//! front of them is known only at the end. Nothing is on the disk until [`CompactWriter::save`], and then under
//! another name until it is complete.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::codec::{
    COUNT_NUMBER, COUNT_ONE, COUNT_SAME, LOW_SAME, Last, Model, PAGE_FOLLOWER, PAGE_NEW,
    PAGE_NUMBER, PAGE_SAME, SIZE_SAME, put_number, zigzag,
};
use super::header::{Header, Program, Totals, WindowPages};
use crate::error::{Place, Problem, TraceError};
use crate::merge::{Merger, Run, Visit};
use crate::reference::{PAGE_SIZE, Reference};
use crate::regions::PageMap;

/// Records are handed to the compressor in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;

/// Merges references and writes them in the compact form. Owned by one caller; takes references in program order.
pub struct CompactWriter {
    window: WindowPages,
    merger: Merger,
    records: Records,
}

impl CompactWriter {
    /// A writer that merges over `window` pages.
    #[must_use]
    pub fn new(window: WindowPages) -> Self {
        CompactWriter {
            window,
            merger: Merger::new(window),
            records: Records {
                model: Model::default(),
                numbers: HashMap::new(),
                pages: PageMap::new(),
                totals: Totals::default(),
                piece: Vec::with_capacity(PIECE + 4 * super::codec::MAX_RECORD),
                packed: GzEncoder::new(Vec::new(), Compression::best()),
            },
        }
    }

    /// Takes the next reference. One that crosses into the next page is split; it counts in its first page.
    ///
    /// # Errors
    /// [`Problem::Reference`] if size or address are outside the ranges that [`Reference`] documents.
    pub fn push(&mut self, reference: &Reference) -> Result<(), Problem> {
        if !reference.is_well_formed() {
            return Err(Problem::Reference { va: reference.va, size: reference.size });
        }
        let low = (reference.va % PAGE_SIZE) as u32;
        let high = low + reference.size;
        let here = high.min(PAGE_SIZE as u32);
        let run = |low: u32, high: u32, count| Run {
            kind: reference.kind,
            low: low as u16,
            high: high as u16,
            count,
        };
        let page = reference.first_page();
        let records = &mut self.records;
        let mut emit = |visit: &Visit| records.put(visit);
        self.merger.push(page, run(low, here, reference.count), &mut emit);
        if high > here {
            self.merger.push(page + 1, run(0, high - here, 0), &mut emit);
        }
        Ok(())
    }

    /// The complete trace as bytes, and its header.
    ///
    /// # Errors
    /// [`Problem::Empty`] if there was no reference, [`Problem::NameTooLong`].
    pub fn finish(mut self, program: Program) -> Result<(Header, Vec<u8>), Problem> {
        let mut records = self.records;
        self.merger.finish(&mut |visit| records.put(visit));
        if records.totals.records == 0 {
            return Err(Problem::Empty);
        }
        let header = Header {
            window: self.window,
            totals: records.totals,
            regions: records.pages.regions(),
            program,
        };
        let mut bytes = header.encode()?;
        records.flush();
        let packed = records.packed.finish().map_err(Problem::Io)?;
        bytes.extend(packed);
        Ok((header, bytes))
    }

    /// Writes the complete trace to a file and returns its header and its length in bytes. The file appears, or
    /// replaces an older one, only when all of it is on the disk.
    ///
    /// # Errors
    /// As [`CompactWriter::finish`]; [`Problem::NotRegular`]; whatever the operating system refuses.
    pub fn save(self, path: &Path, program: Program) -> Result<(Header, u64), TraceError> {
        let file = path.display().to_string();
        let failed = |problem| TraceError { file: file.clone(), place: Place::Whole, problem };
        let (header, bytes) = self.finish(program).map_err(failed)?;
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(failed(Problem::NotRegular));
        }
        replace(path, &bytes).map_err(|error| TraceError::io(&file, error))?;
        Ok((header, bytes.len() as u64))
    }
}

/// The records so far.
struct Records {
    model: Model,
    numbers: HashMap<u64, u32>,
    pages: PageMap,
    totals: Totals,
    /// Encoded records that are not yet compressed.
    piece: Vec<u8>,
    packed: GzEncoder<Vec<u8>>,
}

impl Records {
    fn put(&mut self, visit: &Visit) {
        for run in visit.runs() {
            self.put_run(visit.page, run);
        }
        if self.piece.len() >= PIECE {
            self.flush();
        }
    }

    fn put_run(&mut self, page: u64, run: &Run) {
        self.pages.note_page(page, run.kind);
        self.totals.add(run.kind, run.count);
        let first = self.piece.len();
        self.piece.push(0);
        let page_code = self.put_page(page);
        let model = &mut self.model;
        let Some(last) = model.last(run.kind) else {
            return;
        };
        let now = Last { low: run.low, size_less_one: run.high - run.low - 1, count: run.count };
        let mut code = run.kind as u8 | page_code << 2;
        if now.low == last.low {
            code |= LOW_SAME;
        } else {
            put_number(&mut self.piece, u64::from(now.low));
        }
        if now.size_less_one == last.size_less_one {
            code |= SIZE_SAME;
        } else {
            put_number(&mut self.piece, u64::from(now.size_less_one));
        }
        if now.count == 1 {
            code |= COUNT_ONE << 6;
        } else if now.count == last.count {
            code |= COUNT_SAME << 6;
        } else {
            code |= COUNT_NUMBER << 6;
            put_number(&mut self.piece, u64::from(now.count));
        }
        *last = now;
        self.piece[first] = code;
    }

    /// Makes `page` the model's current one, puts what names it, returns the page code.
    fn put_page(&mut self, page: u64) -> u8 {
        let model = &mut self.model;
        if let Some(current) = model.known.get(model.current as usize) {
            if current.page == page {
                return PAGE_SAME;
            }
            let follower = current.follower;
            if model.known[follower as usize].page == page {
                model.move_to(follower);
                return PAGE_FOLLOWER;
            }
        }
        if let Some(&number) = self.numbers.get(&page) {
            put_number(&mut self.piece, u64::from(number));
            model.move_to(number);
            return PAGE_NUMBER;
        }
        let distance = page.wrapping_sub(model.newest) as i64;
        put_number(&mut self.piece, zigzag(distance));
        if let Some(number) = model.add(page) {
            self.numbers.insert(page, number);
            model.move_to(number);
        }
        PAGE_NEW
    }

    fn flush(&mut self) {
        self.packed.write_all(&self.piece).expect("writing to memory does not fail");
        self.piece.clear();
    }
}

/// Writes a file under a temporary name beside `path`, then gives it its name.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}.tmp", process::id()));
    let temporary = Temporary(path.with_file_name(temporary_name));
    let mut file = File::create_new(&temporary.0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary.0, path)
}

/// A file that is removed when it goes out of scope, unless it got another name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a successful rename there is nothing left to remove; any other failure has been reported already.
        let _ = fs::remove_file(&self.0);
    }
}
