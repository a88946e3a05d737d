//! Valgrind lackey's text.
//!
//! One line per reference: `I  04001000,3`, ` L 1ffefffe70,8`, ` S …`, ` M …`, address in hexadecimal without prefix,
//! size in decimal. Lines that start with `==`, `--` or `**` are Valgrind's own and are skipped, as are empty ones;
//! from `==pid== Command: …` the reader learns the command line. Everything else is an error that names its line.
//!
//! The reader parses whole lines out of one buffer; what is left of the last, incomplete line moves to its front.

use crate::error::{Place, Problem, TraceError};
use crate::input::{Input, Progress};
use crate::reader::BATCH;
use crate::reference::{AccessKind, MAX_SIZE, Reference};

const BUFFER: usize = 256 * 1024;
/// Bytes of a faulty line that an error message repeats.
const EXCERPT: usize = 48;

/// Reads lackey text. Owned by one [`TraceReader`](crate::TraceReader).
pub(crate) struct TextReader {
    input: Input,
    buffer: Vec<u8>,
    /// The part of `buffer` that holds unparsed whole lines ends here …
    lines_end: usize,
    /// … and all bytes read end here.
    filled: usize,
    start: usize,
    /// Lines parsed so far.
    line: u64,
    any: bool,
    ended: bool,
    command: Option<String>,
}

impl TextReader {
    pub(crate) fn new(input: Input) -> Self {
        TextReader {
            input,
            buffer: vec![0; BUFFER],
            lines_end: 0,
            filled: 0,
            start: 0,
            line: 0,
            any: false,
            ended: false,
            command: None,
        }
    }

    pub(crate) fn file(&self) -> &str {
        &self.input.file
    }

    pub(crate) fn progress(&self) -> Progress {
        self.input.progress()
    }

    /// The command line, once Valgrind's preamble has been read.
    pub(crate) fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// Appends up to [`BATCH`] references; appends none only at the end.
    pub(crate) fn read_batch(&mut self, batch: &mut Vec<Reference>) -> Result<(), TraceError> {
        let target = batch.len() + BATCH;
        while batch.len() < target {
            if self.start == self.lines_end {
                if self.ended {
                    break;
                }
                self.refill()?;
                continue;
            }
            self.parse_lines(batch, target)?;
        }
        if batch.len() + BATCH > target {
            self.any = true;
        } else if !self.any {
            return Err(self.error(Place::Whole, Problem::Empty));
        }
        Ok(())
    }

    /// Parses whole lines until `batch` holds `target` references or no whole line is left.
    fn parse_lines(&mut self, batch: &mut Vec<Reference>, target: usize) -> Result<(), TraceError> {
        while self.start < self.lines_end && batch.len() < target {
            let rest = &self.buffer[self.start..self.lines_end];
            if let Some((reference, length)) = parse(rest) {
                batch.push(reference);
                self.start += length;
                self.line += 1;
                continue;
            }
            let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let line = rest[..length].trim_ascii_end();
            if !line.is_empty() && !is_valgrinds_own(line) {
                let problem = diagnose(line);
                return Err(self.error(Place::Line(self.line + 1), problem));
            }
            if self.command.is_none() {
                self.command = command_line(line);
            }
            self.start = (self.start + length + 1).min(self.lines_end);
            self.line += 1;
        }
        Ok(())
    }

    /// Moves the incomplete line to the front and reads on until there is a whole line or the end.
    fn refill(&mut self) -> Result<(), TraceError> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        self.lines_end = 0;
        while self.lines_end == 0 {
            if self.filled == self.buffer.len() {
                return Err(self.error(Place::Line(self.line + 1), Problem::LineTooLong));
            }
            let place = Place::Line(self.line + 1);
            let bytes = self.input.read(&mut self.buffer[self.filled..], place);
            let bytes = bytes.inspect_err(|_| self.ended = true)?;
            if bytes == 0 {
                self.ended = true;
                self.lines_end = self.filled;
                break;
            }
            let fresh = &self.buffer[self.filled..self.filled + bytes];
            if let Some(newline) = fresh.iter().rposition(|&byte| byte == b'\n') {
                self.lines_end = self.filled + newline + 1;
            }
            self.filled += bytes;
        }
        Ok(())
    }

    fn error(&mut self, place: Place, problem: Problem) -> TraceError {
        self.ended = true;
        self.start = 0;
        self.filled = 0;
        self.lines_end = 0;
        TraceError { file: self.input.file.clone(), place, problem }
    }
}

/// Parses the reference line that `text` starts with; also says how many bytes it takes with its line end.
fn parse(text: &[u8]) -> Option<(Reference, usize)> {
    let kind = match text.get(..3)? {
        b"I  " => AccessKind::Fetch,
        b" L " => AccessKind::Load,
        b" S " => AccessKind::Store,
        b" M " => AccessKind::Modify,
        _ => return None,
    };
    let (va, used) = hexadecimal(text.get(3..)?)?;
    let mut at = 3 + used;
    if *text.get(at)? != b',' {
        return None;
    }
    at += 1;
    let (size, used) = decimal(text.get(at..)?)?;
    at += used;
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    match text.get(at) {
        None => {}
        Some(b'\n') => at += 1,
        Some(_) => return None,
    }
    let reference = Reference { va, size, count: 1, kind };
    reference.is_well_formed().then_some((reference, at))
}

/// A number of 1 to 16 hexadecimal digits, and how many.
fn hexadecimal(text: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    let mut digits = 0;
    for &byte in text.iter().take(17) {
        let digit = HEX[byte as usize];
        if digit > 15 {
            break;
        }
        value = value << 4 | u64::from(digit);
        digits += 1;
    }
    (1..=16).contains(&digits).then_some((value, digits))
}

/// A number of 1 to 4 decimal digits that is at most [`MAX_SIZE`], and how many.
fn decimal(text: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0;
    let mut digits = 0;
    for &byte in text.iter().take(5) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u32::from(digit);
        digits += 1;
    }
    ((1..=4).contains(&digits) && value <= MAX_SIZE).then_some((value, digits))
}

/// The value of each hexadecimal digit, 255 for every other byte.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

fn is_valgrinds_own(line: &[u8]) -> bool {
    [b"==", b"--", b"**"].iter().any(|mark| line.starts_with(*mark))
}

/// The command line in `==123== Command: …`.
fn command_line(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, message) = text.strip_prefix("==")?.split_once("== ")?;
    message.strip_prefix("Command: ").map(str::to_owned)
}

/// Says what is wrong with a line that does not parse.
fn diagnose(line: &[u8]) -> Problem {
    let excerpt = String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]).into_owned();
    let prefix = line.get(..3).unwrap_or(line);
    let known = [b"I  ", b" L ", b" S ", b" M "];
    if !known.iter().any(|known| prefix == *known) {
        return Problem::Line(excerpt);
    }
    let fields = &line[3..];
    let Some(comma) = fields.iter().position(|&byte| byte == b',') else {
        return Problem::Line(excerpt);
    };
    let (address, size) = (&fields[..comma], &fields[comma + 1..]);
    if address.is_empty() || !address.iter().all(u8::is_ascii_hexdigit) {
        return Problem::Line(excerpt);
    }
    if size.is_empty() || !size.iter().all(u8::is_ascii_digit) {
        return Problem::Line(excerpt);
    }
    match decimal(size) {
        Some((value, _)) if value > 0 => Problem::Address(excerpt),
        _ => Problem::Size(excerpt),
    }
}
