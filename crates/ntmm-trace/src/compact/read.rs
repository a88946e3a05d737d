//! Reading a compact trace.
//!
//! A [`CompactReader`] has the header from the start. It decodes records out of one buffer that always holds at
//! least one whole record, and hands out the last batch only after record count, totals, page count, gzip checksum
//! and the end of the file have been found right.

use std::io::{BufRead, Read};

use flate2::bufread::GzDecoder;

use super::codec::{
    COUNT_NUMBER, COUNT_ONE, COUNT_SAME, LOW_SAME, Last, MAX_RECORD, Model, PAGE_FOLLOWER,
    PAGE_NEW, PAGE_NUMBER, PAGE_SAME, SIZE_SAME, unzigzag,
};
use super::header::{Header, Totals};
use crate::error::{Place, Problem, TraceError};
use crate::input::{Input, Meter, Progress, read_some, unpack_error};
use crate::reader::BATCH;
use crate::reference::{AccessKind, PAGE_SIZE, Reference};

const BUFFER: usize = 64 * 1024;

/// Reads the compact form. Owned by one [`TraceReader`](crate::TraceReader).
pub(crate) struct CompactReader {
    file: String,
    meter: Meter,
    header: Header,
    packed: GzDecoder<Box<dyn BufRead + Send>>,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    model: Model,
    totals: Totals,
    ended: bool,
}

impl CompactReader {
    /// Reads and checks the header.
    pub(crate) fn new(input: Input) -> Result<Self, TraceError> {
        let (file, meter, mut stream) = input.into_parts();
        let header = Header::read(&mut stream, &file)?;
        Ok(CompactReader {
            file,
            meter,
            header,
            packed: GzDecoder::new(stream),
            buffer: vec![0; BUFFER],
            start: 0,
            filled: 0,
            model: Model::default(),
            totals: Totals::default(),
            ended: false,
        })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn progress(&self) -> Progress {
        self.meter.progress()
    }

    /// Appends up to [`BATCH`] references; appends none only at the end.
    pub(crate) fn read_batch(&mut self, batch: &mut Vec<Reference>) -> Result<(), TraceError> {
        if self.ended {
            return Ok(());
        }
        let left = self.header.totals.records - self.totals.records;
        let result = self.decode(batch, left.min(BATCH as u64));
        let result = result.and_then(|()| {
            if self.totals.records == self.header.totals.records {
                self.ended = true;
                self.check_end()
            } else {
                Ok(())
            }
        });
        result.inspect_err(|_| self.ended = true)
    }

    fn decode(&mut self, batch: &mut Vec<Reference>, records: u64) -> Result<(), TraceError> {
        for _ in 0..records {
            if self.filled - self.start < MAX_RECORD {
                self.refill()?;
            }
            let mut bytes = Bytes { rest: &self.buffer[self.start..self.filled] };
            match decode_record(&mut bytes, &mut self.model, &self.header) {
                Ok(reference) => {
                    self.start = self.filled - bytes.rest.len();
                    self.totals.add(reference.kind, reference.count);
                    batch.push(reference);
                }
                Err(fault) => return Err(self.error(Problem::Record(fault))),
            }
        }
        Ok(())
    }

    /// Moves the rest to the front and reads on until the buffer is full or the data end.
    fn refill(&mut self) -> Result<(), TraceError> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        while self.filled < self.buffer.len() {
            let bytes = read_some(&mut self.packed, &mut self.buffer[self.filled..]);
            let place = Place::Record(self.totals.records);
            let bytes = bytes.map_err(|error| unpack_error(&self.file, place, error))?;
            if bytes == 0 {
                break;
            }
            self.filled += bytes;
        }
        Ok(())
    }

    /// Checks, after the last record, everything that only the end can tell.
    fn check_end(&mut self) -> Result<(), TraceError> {
        self.refill()?;
        if self.filled > 0 {
            return Err(self.error(Problem::Totals("number of records")));
        }
        if self.totals.by_kind != self.header.totals.by_kind {
            return Err(self.error(Problem::Totals("number of references")));
        }
        if self.model.known.len() as u64 != self.header.regions.touched_pages() {
            return Err(self.error(Problem::Totals("number of distinct pages")));
        }
        let mut after = [0];
        let bytes = read_some(&mut self.packed.get_mut().take(1), &mut after);
        match bytes.map_err(|error| TraceError::io(&self.file, error))? {
            0 => Ok(()),
            _ => Err(self.error(Problem::TrailingBytes)),
        }
    }

    fn error(&self, problem: Problem) -> TraceError {
        TraceError { file: self.file.clone(), place: Place::Record(self.totals.records), problem }
    }
}

/// What is wrong with a record. A plain word, since a result that needs dropping costs a seventh of the decoding time.
type Fault = &'static str;

/// Decodes one record and teaches it to the model.
fn decode_record(
    bytes: &mut Bytes<'_>,
    model: &mut Model,
    header: &Header,
) -> Result<Reference, Fault> {
    let code = bytes.byte()?;
    let kind = AccessKind::from_low_bits(code);
    match code >> 2 & 3 {
        PAGE_SAME => {}
        PAGE_FOLLOWER => {
            let follower = model.known.get(model.current as usize).map(|known| known.follower);
            model.move_to(follower.ok_or("follower of no page")?);
        }
        PAGE_NUMBER => {
            let number = bytes.number()?;
            if number >= model.known.len() as u64 {
                return Err("page number out of range");
            }
            model.move_to(number as u32);
        }
        PAGE_NEW.. => {
            let page = model.newest.wrapping_add(unzigzag(bytes.number()?) as u64);
            if header.regions.find(page).is_none() {
                return Err("page outside every region");
            }
            if model.known.len() as u64 >= header.regions.touched_pages() {
                return Err("more pages than the header says");
            }
            let number = model.add(page).ok_or("too many pages")?;
            model.move_to(number);
        }
    }
    let Some(known) = model.known.get_mut(model.current as usize) else {
        return Err("no page");
    };
    let last = &mut known.last[kind as usize];
    let low = if code & LOW_SAME != 0 { last.low } else { bytes.twelve_bits()? };
    let size_less_one =
        if code & SIZE_SAME != 0 { last.size_less_one } else { bytes.twelve_bits()? };
    if u64::from(low) + u64::from(size_less_one) >= PAGE_SIZE {
        return Err("bytes beyond the page");
    }
    let count = match code >> 6 {
        COUNT_ONE => 1,
        COUNT_SAME => last.count,
        COUNT_NUMBER => u32::try_from(bytes.number()?).map_err(|_| "count out of range")?,
        _ => return Err("unknown count code"),
    };
    *last = Last { low, size_less_one, count };
    Ok(Reference {
        va: known.page * PAGE_SIZE + u64::from(low),
        size: u32::from(size_less_one) + 1,
        count,
        kind,
    })
}

/// Unpacked bytes that are still to be decoded.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl Bytes<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&first, rest) = self.rest.split_first().ok_or("data end before the last record")?;
        self.rest = rest;
        Ok(first)
    }

    /// A number as [`super::codec::put_number`] writes it.
    #[inline]
    fn number(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("number too long")
    }

    /// A number below 4096.
    #[inline]
    fn twelve_bits(&mut self) -> Result<u16, Fault> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u16::from(first));
        }
        let second = self.byte()?;
        if second >= 0x20 {
            return Err("offset beyond the page");
        }
        Ok(u16::from(first & 0x7f) | u16::from(second) << 7)
    }
}
