//! Pictures of page tables: what a table holds, in the form the checks want it.
//!
//! Reading the 512 words of a table costs more than checking what is in them, and most tables
//! are the same from one audit to the next. So a table is read into a picture once, and again
//! only when somebody may have written to it. What a picture holds depends on nothing but the
//! words: everything that other records have a say in, frames, working sets, descriptors and
//! slots, is checked against the picture at every audit.
//!
//! Of a lowest table only the entries that name frames are kept one by one. The others hold no
//! more than a slot and whether their page is committed, which are summed up in sets of bits.

use std::collections::HashMap;
use std::rc::Rc;

use ntmm::platform::Platform;
use ntmm_pte::{PagingFileNumber, Pfn};
use ntmm_sync::atomic::Ordering;

use super::Audit;
use super::decode::{DECOMMITTED, Mode, WORDS, Word};

/// Audits after which every table is read anew, whoever says that it has not changed.
const READ_ANEW: u64 = 16;

/// A set of entries of a table, of which there are at most 1024.
pub(super) type Entries = [u64; 16];

/// Slots of one word of a paging file's bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotBits {
    pub(super) file: PagingFileNumber,
    /// Number of the word.
    pub(super) number: u32,
    pub(super) bits: u64,
}

impl SlotBits {
    pub(super) const fn one(file: PagingFileNumber, slot: u32) -> Self {
        Self { file, number: slot / 64, bits: 1 << (slot % 64) }
    }
}

/// What the words of a table say.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    level: Level,
    /// The audit it was last looked at in.
    round: u64,
    /// Entries that are not zero.
    pub(super) used: u32,
    /// Entries to be visited one by one: slot and word.
    pub(super) visited: Vec<(u32, u64)>,
    /// The others.
    pub(super) summed: Vec<(u32, u64)>,
    /// Slots that the summed entries name. One that is named twice is here twice.
    pub(super) slots: Vec<SlotBits>,
    /// The entries of committed pages, visited or summed, and those of decommitted ones.
    pub(super) committed: Entries,
    pub(super) decommitted: Entries,
    /// Pages in memory and in paging files.
    pub(super) pages: u32,
}

/// How the words were understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    NotRead,
    /// Entries of pages.
    Lowest,
    /// Entries of tables.
    Upper,
}

impl Level {
    const fn of(level: u8) -> Self {
        if level == 1 { Self::Lowest } else { Self::Upper }
    }
}

impl Picture {
    /// Reads a table.
    fn read<W>(&mut self, mode: &Mode, level: Level, words: &[W; WORDS], load: impl Fn(&W) -> u64) {
        self.level = level;
        self.visited.clear();
        self.summed.clear();
        self.slots.clear();
        (self.committed, self.decommitted, self.pages) = ([0; 16], [0; 16], 0);
        self.used = match level {
            Level::Lowest => mode.scan(words, load, |slot, word| self.add_page(mode, slot, word)),
            _ => mode.scan(words, load, |slot, word| self.visited.push((slot, word))),
        };
    }

    fn add_page(&mut self, mode: &Mode, slot: u32, word: u64) {
        let (mut page, mut committed) = (1, true);
        match mode.decode(word) {
            Word::PageFile { file, slot: named, .. } => {
                self.add_slot(file, named);
                self.summed.push((slot, word));
            }
            Word::DemandZero { protection } => {
                (page, committed) = (0, protection != DECOMMITTED);
                self.summed.push((slot, word));
            }
            Word::Prototype => {
                page = 0;
                self.visited.push((slot, word));
            }
            Word::Valid { .. } | Word::Transition { .. } | Word::Zero => {
                self.visited.push((slot, word));
            }
        }
        self.pages += page;
        let entries = if committed { &mut self.committed } else { &mut self.decommitted };
        entries[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Neighbouring pages have neighbouring slots more often than not.
    fn add_slot(&mut self, file: PagingFileNumber, slot: u32) {
        let one = SlotBits::one(file, slot);
        let known = self.slots.iter_mut().rev().find(|slots| {
            slots.number == one.number && slots.file == file && slots.bits & one.bits == 0
        });
        match known {
            Some(slots) => slots.bits |= one.bits,
            None => self.slots.push(one),
        }
    }
}

/// How many of the entries from `first` to `last` are in a set.
#[inline]
pub(super) fn count_between(entries: &Entries, first: u32, last: u32) -> u32 {
    let mut count = 0;
    for number in first / 64..=last / 64 {
        let mut bits = entries[number as usize];
        if bits == 0 {
            continue;
        }
        if number == first / 64 {
            bits &= u64::MAX << (first % 64);
        }
        if number == last / 64 {
            bits &= u64::MAX >> (63 - last % 64);
        }
        count += bits.count_ones();
    }
    count
}

/// A picture and the contents it is of.
type Seen = (Rc<[u64; WORDS]>, Rc<Picture>);

/// The pictures taken of the tables of one machine.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Of tables in memory, by the position of the frame.
    in_memory: Vec<Rc<Picture>>,
    /// Of tables in paging files.
    in_files: HashMap<(PagingFileNumber, u32), Seen>,
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// The picture of a table in memory: frame, position of the frame, level.
    pub(super) fn picture(&mut self, pfn: Pfn, frame: usize, level: u8) -> Rc<Picture> {
        let (count, round) = (self.scratch.frames.len(), self.scratch.round);
        let pictures = &mut self.scratch.pictures.in_memory;
        if pictures.len() < count {
            pictures.resize_with(count, Rc::default);
        }
        let (picture, level) = (&mut pictures[frame], Level::of(level));
        // What happened to a frame that the last audit did not take for a table, nobody knows.
        let followed = picture.round + 1 == round && picture.level == level;
        let untouched = || self.circumstances.untouched.is_some_and(|untouched| untouched(pfn));
        let kept = followed && !round.is_multiple_of(READ_ANEW) && untouched();
        let changed = Rc::make_mut(picture);
        changed.round = round;
        if !kept {
            let words = self.manager.platform().frame(pfn);
            let load = |word: &ntmm_sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
            changed.read(&Self::MODE, level, words, load);
        }
        Rc::clone(picture)
    }

    /// The picture of a table in a paging file: file, slot, level of the table.
    pub(super) fn absent_picture(
        &mut self,
        file: PagingFileNumber,
        slot: u32,
        level: u8,
    ) -> Option<Rc<Picture>> {
        let words = (self.circumstances.read_slot?)(file, slot)?;
        let level = Level::of(level);
        let known = self.scratch.pictures.in_files.entry((file, slot));
        let (seen, picture) = known.or_insert_with(|| (Rc::clone(&words), Rc::default()));
        if !Rc::ptr_eq(seen, &words) || picture.level != level {
            Rc::make_mut(picture).read(&Self::MODE, level, &words, |word| *word);
            *seen = words;
        }
        Some(Rc::clone(picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_range_are_counted() {
        let mut entries = [0; 16];
        let set = [0, 5, 63, 64, 127, 128, 700, 1023];
        set.iter().for_each(|entry| entries[entry / 64] |= 1 << (entry % 64));
        for first in 0..1024 {
            for last in first..1024 {
                let expected = set.iter().filter(|entry| (first..=last).contains(*entry)).count();
                assert_eq!(count_between(&entries, first as u32, last as u32), expected as u32);
            }
        }
    }

    #[test]
    fn a_picture_holds_what_the_words_say() {
        let mode = Mode::named("amd64");
        let mut words = [0_u64; WORDS];
        // Valid, transition, two slots in one word of the bitmap and one twice, demand zero,
        // decommitted (spec 2.1-2.10).
        words[3] = 0x1_2067;
        words[70] = 0x1_2880;
        words[100] = 0x82 | 0x345 << 32;
        words[101] = 0x82 | 0x346 << 32;
        words[102] = 0x82 | 0x345 << 32;
        words[200] = 0x80;
        words[511] = 0x200;
        let mut picture = Picture::default();
        picture.read(&mode, Level::Lowest, &words, |word| *word);
        assert_eq!(picture.used, 7);
        assert_eq!(picture.visited, [(3, words[3]), (70, words[70])]);
        assert_eq!(picture.summed.len(), 5);
        let file = PagingFileNumber::new(1).unwrap();
        let slots = |bits| SlotBits { file, number: 0xD, bits };
        assert_eq!(picture.slots, [slots(0b11 << 5), slots(1 << 5)]);
        let count = |entries| count_between(entries, 0, 1023);
        assert_eq!((picture.pages, count(&picture.committed)), (5, 6));
        assert_eq!(count(&picture.decommitted), 1);
        picture.read(&mode, Level::Upper, &words, |word| *word);
        assert_eq!((picture.visited.len(), picture.summed.len()), (7, 0));
    }
}
