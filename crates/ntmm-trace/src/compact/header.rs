//! The header of the compact form: what a replayer must know before the first record.
//!
//! Plain values. The encoded length is derived from the counts in the fixed part; reading never allocates more than
//! the file really holds.

use std::io::Read;

use flate2::Crc;

use super::MAGIC;
use crate::error::{Place, Problem, TraceError};
use crate::input::unpack_error;
use crate::reference::{AccessKind, KindSet};
use crate::regions::{Region, Regions};

const VERSION: u16 = 1;
const FIXED: usize = 72;
const REGION: usize = 32;

/// The program that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Its name, for tables; at most 65,535 bytes.
    pub name: String,
    /// The command line it was started with; at most 65,535 bytes.
    pub command: String,
}

impl Program {
    /// A program known by its command line alone: the name is the last component of the first word.
    #[must_use]
    pub fn from_command(command: &str) -> Self {
        let first = command.split_whitespace().next().unwrap_or_default();
        let name = first.rsplit('/').next().unwrap_or_default();
        Program { name: name.to_owned(), command: command.to_owned() }
    }
}

/// The window K over which references were merged: paging policies with at least this many pages of memory see the
/// same faults as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPages(u16);

impl WindowPages {
    /// What [`convert`](crate::convert) uses unless told otherwise: 128 pages, half a megabyte. Programs alternate
    /// between several dozen pages of code, stack and heap; a smaller window keeps most of that alternation.
    pub const DEFAULT: WindowPages = WindowPages(128);

    /// A window of 2 to 256 pages; `None` outside that range.
    #[must_use]
    pub const fn new(pages: u16) -> Option<Self> {
        if pages >= 2 && pages <= 256 { Some(WindowPages(pages)) } else { None }
    }

    /// The number of pages.
    #[must_use]
    pub const fn pages(self) -> usize {
        self.0 as usize
    }
}

/// What a trace adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// References of the program, by kind (in the order of [`AccessKind::ALL`]).
    pub by_kind: [u64; 4],
    /// Records they were merged into.
    pub records: u64,
}

impl Totals {
    /// References of the program, all kinds together.
    #[must_use]
    pub fn references(&self) -> u64 {
        self.by_kind.iter().sum()
    }

    /// References of one kind.
    #[must_use]
    pub fn of(&self, kind: AccessKind) -> u64 {
        self.by_kind[kind as usize]
    }

    /// Counts one record.
    pub(crate) fn add(&mut self, kind: AccessKind, count: u32) {
        self.by_kind[kind as usize] += u64::from(count);
        self.records += 1;
    }
}

/// All that stands before the records of a compact trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The window over which references were merged.
    pub window: WindowPages,
    /// What the records add up to.
    pub totals: Totals,
    /// The pages touched.
    pub regions: Regions,
    /// The program recorded.
    pub program: Program,
}

impl Header {
    /// The encoded header, checksum included.
    ///
    /// # Errors
    /// [`Problem::NameTooLong`].
    pub(super) fn encode(&self) -> Result<Vec<u8>, Problem> {
        let (name, command) = (&self.program.name, &self.program.command);
        let (Ok(name_length), Ok(command_length)) =
            (u16::try_from(name.len()), u16::try_from(command.len()))
        else {
            return Err(Problem::NameTooLong);
        };
        let regions = self.regions.as_slice();
        let mut bytes = Vec::with_capacity(FIXED + REGION * regions.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.window.0.to_le_bytes());
        bytes.extend(name_length.to_le_bytes());
        bytes.extend(command_length.to_le_bytes());
        bytes.extend((regions.len() as u64).to_le_bytes());
        bytes.extend(self.totals.records.to_le_bytes());
        for references in self.totals.by_kind {
            bytes.extend(references.to_le_bytes());
        }
        bytes.extend(self.regions.touched_pages().to_le_bytes());
        for region in regions {
            let words = [region.first_page, region.pages, region.touched, region.kinds.bits()];
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        bytes.extend(name.as_bytes());
        bytes.extend(command.as_bytes());
        bytes.extend(crc(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// Reads and checks a header.
    pub(super) fn read(stream: &mut impl Read, file: &str) -> Result<Self, TraceError> {
        let at = |offset: usize, problem| TraceError {
            file: file.to_owned(),
            place: Place::Byte(offset as u64),
            problem,
        };
        let mut bytes = Vec::new();
        let mut extend_to = |bytes: &mut Vec<u8>, length: u64| {
            let missing = length - bytes.len() as u64;
            let read = stream.by_ref().take(missing).read_to_end(bytes);
            read.map_err(|error| unpack_error(file, Place::Byte(bytes.len() as u64), error))?;
            if (bytes.len() as u64) < length {
                return Err(at(bytes.len(), Problem::HeaderTruncated));
            }
            Ok(())
        };
        extend_to(&mut bytes, 10)?;
        if bytes[..8] != MAGIC {
            return Err(at(0, Problem::Header("magic number")));
        }
        let version = half(&bytes, 8);
        if version != VERSION {
            return Err(at(8, Problem::Version(version)));
        }
        extend_to(&mut bytes, FIXED as u64)?;
        let name_length = usize::from(half(&bytes, 12));
        let command_length = usize::from(half(&bytes, 14));
        let region_count = word(&bytes, 16);
        let text_length = (name_length + command_length) as u64;
        let length = region_count
            .checked_mul(REGION as u64)
            .and_then(|regions| regions.checked_add(FIXED as u64 + text_length + 4))
            .ok_or_else(|| at(16, Problem::Header("number of regions")))?;
        extend_to(&mut bytes, length)?;
        let (body, sum) = bytes.split_at(bytes.len() - 4);
        if sum != crc(body).to_le_bytes() {
            return Err(at(body.len(), Problem::HeaderChecksum));
        }

        let window = WindowPages::new(half(body, 10))
            .ok_or_else(|| at(10, Problem::Header("window size")))?;
        let by_kind = [32, 40, 48, 56].map(|offset| word(body, offset));
        let records = word(body, 24);
        if by_kind.iter().try_fold(0u64, |sum, &references| sum.checked_add(references)).is_none() {
            return Err(at(32, Problem::Header("number of references")));
        }
        if records == 0 {
            return Err(at(24, Problem::Empty));
        }
        let text_start = body.len() - name_length - command_length;
        let mut list = Vec::new();
        for (index, entry) in body[FIXED..text_start].chunks_exact(REGION).enumerate() {
            let kinds = KindSet::from_bits(word(entry, 24)).ok_or_else(|| {
                at(FIXED + index * REGION + 24, Problem::Header("region's kinds"))
            })?;
            list.push(Region {
                first_page: word(entry, 0),
                pages: word(entry, 8),
                touched: word(entry, 16),
                kinds,
            });
        }
        let regions =
            Regions::checked(list).map_err(|problem| at(FIXED, Problem::Header(problem)))?;
        if regions.touched_pages() != word(body, 64) {
            return Err(at(64, Problem::Header("number of distinct pages")));
        }
        let text = |from: usize, length: usize| {
            std::str::from_utf8(&body[from..from + length])
                .map(str::to_owned)
                .map_err(|_| at(from, Problem::Header("text is not UTF-8")))
        };
        let program = Program {
            name: text(text_start, name_length)?,
            command: text(text_start + name_length, command_length)?,
        };
        Ok(Header { window, totals: Totals { by_kind, records }, regions, program })
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The little-endian number at an offset that is known to be inside `bytes`.
fn half(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// The little-endian number at an offset that is known to be inside `bytes`.
fn word(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}
