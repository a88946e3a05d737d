//! Program images: ELF files for x86-64, linked to a fixed address.

use ntmm_pte::Protection;
use ntmm_pte::protection::{PAGE_EXECUTE_READ, PAGE_READONLY, PAGE_READWRITE};

use crate::memory::USER_END;

const MAGIC: &[u8] = b"\x7FELF\x02\x01\x01";
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const HEADER_BYTES: usize = 56;

/// An image whose headers have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    bytes: &'static [u8],
    /// Where the program begins.
    pub entry: u64,
    headers: usize,
    count: usize,
}

/// A part of the image that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What it begins with; the rest is zeroes.
    pub bytes: &'static [u8],
    /// What the program may do with it.
    pub protection: Protection,
}

fn integer<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    integer(bytes, at).map(u64::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    integer(bytes, at).map(u32::from_le_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    integer(bytes, at).map(u16::from_le_bytes)
}

impl Image {
    /// Checks an image; none when it is not one the kernel can load.
    pub fn parse(bytes: &'static [u8]) -> Option<Self> {
        let good = bytes.starts_with(MAGIC)
            && short(bytes, 16)? == EXECUTABLE
            && short(bytes, 18)? == X86_64
            && usize::from(short(bytes, 54)?) == HEADER_BYTES;
        let image = Self {
            bytes,
            entry: long(bytes, 24)?,
            headers: usize::try_from(long(bytes, 32)?).ok()?,
            count: short(bytes, 56)?.into(),
        };
        let whole = (0..image.count).all(|number| image.header(number).is_some());
        (good && whole && image.segments().next().is_some()).then_some(image)
    }

    /// What a header says: a segment, or none for a header of another kind.
    fn header(&self, number: usize) -> Option<Option<Segment>> {
        let at = self.headers.checked_add(number * HEADER_BYTES)?;
        let header = self.bytes.get(at..)?.get(..HEADER_BYTES)?;
        if word(header, 0)? != LOAD {
            return Some(None);
        }
        let flags = word(header, 4)?;
        let (offset, start) = (usize::try_from(long(header, 8)?).ok()?, long(header, 16)?);
        let (in_file, in_memory) = (usize::try_from(long(header, 32)?).ok()?, long(header, 40)?);
        let bytes = self.bytes.get(offset..offset.checked_add(in_file)?)?;
        let end = start.checked_add(in_memory).filter(|&end| end <= USER_END)?;
        if in_file as u64 > in_memory || in_memory == 0 {
            return None;
        }
        let flags = match (flags & 1 != 0, flags & 2 != 0) {
            (true, _) => PAGE_EXECUTE_READ,
            (false, true) => PAGE_READWRITE,
            (false, false) => PAGE_READONLY,
        };
        let protection = Protection::from_page_flags(flags).ok()?;
        Some(Some(Segment { start, end, bytes, protection }))
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        (0..self.count).filter_map(|number| self.header(number).flatten())
    }
}
