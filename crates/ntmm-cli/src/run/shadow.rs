//! What a process's memory must hold: the judge of every load.
//!
//! For each page that was ever stored to, the host keeps the bytes it must hold; every other
//! page must hold zeroes. A store writes a stamp, a pattern that follows from the process, the
//! number of the store and the place of the bytes, to the machine's memory and to the shadow in
//! the same moment of the simulation; a load compares all its bytes. So with any number of
//! threads the shadow has the stores in the order in which the machine made them.
//!
//! Pages are named by their position in the trace's regions ([`Placement`]), not by address.
//!
//! [`Placement`]: super::placement::Placement

use ntmm_machine::ram::FRAME_BYTES;
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{FrameWords, WORDS_PER_FRAME};

/// The words of a page.
type PageWords = [u64; WORDS_PER_FRAME];

static ZEROES: PageWords = [0; WORDS_PER_FRAME];

/// Distance between the stamps of neighbouring words.
const WORD_STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// A byte that is not what was stored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Bytes from the start of the page.
    pub offset: usize,
    /// The byte last stored.
    pub expected: u8,
    /// The byte found.
    pub found: u8,
}

/// The bytes a process's memory must hold.
#[derive(Debug)]
pub struct Shadow {
    pages: Vec<Option<Box<PageWords>>>,
    /// Sets the stamps of processes apart.
    salt: u64,
    stores: u64,
    verified: u64,
}

/// The bits of the first and last word that belong to bytes `from..to` of a page, and the words.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
    first_mask: u64,
    last_mask: u64,
}

impl Span {
    /// `from` is below `to`, `to` at most the size of a page.
    #[inline]
    const fn new(from: usize, to: usize) -> Self {
        Self {
            first: from / 8,
            last: (to - 1) / 8,
            first_mask: u64::MAX << (from % 8 * 8),
            last_mask: u64::MAX >> ((8 - to % 8) % 8 * 8),
        }
    }
}

impl Shadow {
    /// The shadow of `pages` pages of zeroes.
    #[must_use]
    pub fn new(pages: u32, salt: u64) -> Self {
        let pages = std::iter::repeat_with(|| None).take(pages as usize).collect();
        Self { pages, salt, stores: 0, verified: 0 }
    }

    /// Bytes compared so far, and found right but for the last ones if they were not.
    #[must_use]
    pub const fn verified(&self) -> u64 {
        self.verified
    }

    #[inline]
    fn page(&self, page: u32) -> &PageWords {
        self.pages[page as usize].as_deref().unwrap_or(&ZEROES)
    }

    #[inline]
    fn page_mut(&mut self, page: u32) -> &mut PageWords {
        self.pages[page as usize].get_or_insert_with(|| Box::new(ZEROES))
    }

    /// Compares bytes `from..to` of a page with the frame it lies in.
    ///
    /// # Errors
    /// The first byte that is wrong.
    #[inline]
    pub fn check(
        &mut self,
        page: u32,
        frame: &FrameWords,
        from: usize,
        to: usize,
    ) -> Result<(), Mismatch> {
        self.verified += (to - from) as u64;
        let expected = self.page(page);
        let span = Span::new(from, to);
        let difference = |word: usize| frame[word].load(Ordering::Relaxed) ^ expected[word];
        let different = if span.first == span.last {
            difference(span.first) & span.first_mask & span.last_mask
        } else {
            let ends =
                difference(span.first) & span.first_mask | difference(span.last) & span.last_mask;
            let words = frame[span.first + 1..span.last].iter();
            let inner = words.zip(&expected[span.first + 1..span.last]);
            inner.fold(ends, |all, (word, right)| all | word.load(Ordering::Relaxed) ^ right)
        };
        if different == 0 {
            return Ok(());
        }
        let byte_of = |frame: &FrameWords, at: usize| {
            frame[at / 8].load(Ordering::Relaxed).to_le_bytes()[at % 8]
        };
        self.compare(page, from, to, |at| byte_of(frame, at))
    }

    /// Compares bytes that were read from a page, from byte `from` on.
    ///
    /// # Errors
    /// The first byte that is wrong.
    pub fn check_bytes(&mut self, page: u32, from: usize, bytes: &[u8]) -> Result<(), Mismatch> {
        self.verified += bytes.len() as u64;
        self.compare(page, from, from + bytes.len(), |at| bytes[at - from])
    }

    #[cold]
    fn compare(
        &self,
        page: u32,
        from: usize,
        to: usize,
        found: impl Fn(usize) -> u8,
    ) -> Result<(), Mismatch> {
        let words = self.page(page);
        for offset in from..to {
            let (expected, found) = (words[offset / 8].to_le_bytes()[offset % 8], found(offset));
            if expected != found {
                return Err(Mismatch { offset, expected, found });
            }
        }
        Ok(())
    }

    /// The pattern of the next store; every bit depends on its number.
    #[inline]
    const fn pattern(&self) -> u64 {
        let mut mixed = self.salt ^ self.stores.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ mixed >> 27
    }

    /// Stores a stamp in bytes `from..to` of a page and of the frame it lies in.
    #[inline]
    pub fn stamp(&mut self, page: u32, frame: &FrameWords, from: usize, to: usize) {
        let pattern = self.pattern();
        self.stores += 1;
        let words = self.page_mut(page);
        let span = Span::new(from, to);
        let merge = |words: &mut PageWords, at: usize, mask: u64| {
            let stamp = pattern.wrapping_add((at as u64).wrapping_mul(WORD_STEP));
            words[at] = words[at] & !mask | stamp & mask;
            // The other bytes of the frame's word are not the store's to judge.
            let there = frame[at].load(Ordering::Relaxed);
            frame[at].store(there & !mask | stamp & mask, Ordering::Relaxed);
        };
        if span.first == span.last {
            merge(words, span.first, span.first_mask & span.last_mask);
            return;
        }
        merge(words, span.first, span.first_mask);
        merge(words, span.last, span.last_mask);
        let start = span.first + 1;
        let mut stamp = pattern.wrapping_add((start as u64).wrapping_mul(WORD_STEP));
        for (word, right) in frame[start..span.last].iter().zip(&mut words[start..span.last]) {
            *right = stamp;
            word.store(stamp, Ordering::Relaxed);
            stamp = stamp.wrapping_add(WORD_STEP);
        }
    }

    /// The stamp that the next store of `length` bytes from byte `from` of a page on would
    /// write; it may reach into the page after it.
    #[must_use]
    pub fn next_stamp(&self, from: usize, length: usize) -> Vec<u8> {
        let pattern = self.pattern();
        let byte = |at: usize| {
            let word = (at % FRAME_BYTES / 8) as u64;
            pattern.wrapping_add(word.wrapping_mul(WORD_STEP)).to_le_bytes()[at % 8]
        };
        (from..from + length).map(byte).collect()
    }

    /// Notes that the next stamp was stored: `parts` are the pages, the first byte in each, and
    /// the bytes.
    pub fn note_store(&mut self, parts: [(u32, usize, &[u8]); 2]) {
        self.stores += 1;
        for (page, from, bytes) in parts {
            let words = self.page_mut(page);
            for (at, byte) in (from..).zip(bytes) {
                let mut word = words[at / 8].to_le_bytes();
                word[at % 8] = *byte;
                words[at / 8] = u64::from_le_bytes(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntmm_sync::atomic::AtomicU64;

    fn frame() -> FrameWords {
        std::array::from_fn(|_| AtomicU64::new(0))
    }

    fn bytes(frame: &FrameWords) -> Vec<u8> {
        frame.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
    }

    fn flip(frame: &FrameWords, at: usize) {
        let word = &frame[at / 8];
        word.store(word.load(Ordering::Relaxed) ^ 1 << (at % 8 * 8), Ordering::Relaxed);
    }

    const RANGES: [(usize, usize); 8] =
        [(0, 1), (3, 8), (0, 8), (7, 9), (5, 29), (8, 4096), (4095, 4096), (0, 4096)];

    #[test]
    fn a_store_changes_its_bytes_and_no_others() {
        for (from, to) in RANGES {
            let (mut shadow, frame) = (Shadow::new(1, 5), frame());
            shadow.stamp(0, &frame, from, to);
            let bytes = bytes(&frame);
            assert!(bytes[..from].iter().chain(&bytes[to..]).all(|byte| *byte == 0));
            assert!(to - from < 8 || bytes[from..to].iter().any(|byte| *byte != 0));
            assert_eq!(shadow.check(0, &frame, 0, 4096), Ok(()));
        }
    }

    #[test]
    fn a_load_judges_its_bytes_and_no_others() {
        for (from, to) in RANGES {
            let (mut shadow, frame) = (Shadow::new(1, 5), frame());
            shadow.stamp(0, &frame, 0, 4096);
            for at in 0..4096 {
                flip(&frame, at);
                let judged = shadow.check(0, &frame, from, to);
                assert_eq!(
                    judged.map_err(|wrong| wrong.offset),
                    if (from..to).contains(&at) { Err(at) } else { Ok(()) }
                );
                flip(&frame, at);
            }
        }
    }

    #[test]
    fn a_store_that_was_lost_is_found() {
        let (mut shadow, frame) = (Shadow::new(1, 9), frame());
        shadow.stamp(0, &frame, 0, 64);
        let before = bytes(&frame);
        shadow.stamp(0, &frame, 16, 32);
        let after = bytes(&frame);
        for (word, old) in frame.iter().zip(before.chunks_exact(8)) {
            word.store(u64::from_le_bytes(old.try_into().expect("eight bytes")), Ordering::Relaxed);
        }
        let wrong = shadow.check(0, &frame, 0, 4096).expect_err("the second store is missing");
        assert_eq!((wrong.expected, wrong.found), (after[wrong.offset], before[wrong.offset]));
        assert!((16..32).contains(&wrong.offset));
    }

    #[test]
    fn stores_across_pages_stamp_like_others() {
        let (mut whole, mut parts) = (Shadow::new(2, 3), Shadow::new(2, 3));
        let frame = frame();
        let stamp = parts.next_stamp(4090, 10);
        parts.note_store([(0, 4090, &stamp[..6]), (1, 0, &stamp[6..])]);
        whole.stamp(0, &frame, 4090, 4096);
        assert_eq!(parts.check(0, &frame, 0, 4096), Ok(()));
        assert_eq!(parts.check_bytes(1, 0, &stamp[6..]), Ok(()));
        assert_eq!(parts.check_bytes(1, 4, &[0; 9]), Ok(()));
        assert!(parts.check_bytes(1, 3, &[0; 9]).is_err());
    }
}
