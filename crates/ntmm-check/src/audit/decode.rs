//! What a page-table word says, and where things are in an address space: read off spec 1.1,
//! 1.2, 1.7 and 2.1-2.10 a second time, so that a mistake in the crate that makes the words is
//! not repeated by the one that checks them. Only what an auditor needs is decoded.

use ntmm_pte::{PagingFileNumber, Pfn};

/// Protection of a decommitted page (spec 2.11).
pub(super) const DECOMMITTED: u8 = 0x10;

/// Words in a page.
pub(super) const WORDS: usize = 512;

/// Words looked at together when a table is searched for entries that are not zero.
const STRIDE: usize = 16;

/// A page-table word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing known.
    Zero,
    /// The hardware may use it.
    Valid { pfn: Pfn },
    /// The page is in memory, but not mapped.
    Transition { pfn: Pfn },
    /// The page is in a paging file.
    PageFile { file: PagingFileNumber, slot: u32, protection: u8 },
    /// No contents yet, or decommitted, or no access.
    DemandZero { protection: u8 },
    /// Refers to a prototype, or of a prototype, to a file.
    Prototype,
}

/// A directory word that does not stand for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LargeWord {
    /// Maps a large page for the program, from this frame on.
    Mapped { pfn: Pfn },
    /// Keeps frames of this run, and is not valid.
    Unmapped { pfn: Pfn },
}

/// Formats and addresses of a paging mode. Pages are named by number, of which there are as
/// many bits as are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// Entries in a 64-bit word: 1 or 2.
    pub(super) entries_per_word: u32,
    /// log2 of the entries of a table.
    pub(super) index_bits: u32,
    /// Bits of the frame field, from bit 12 on.
    frame_bits: u32,
    /// Lowest bit of the page-file offset, which ends the word.
    offset_shift: u32,
    /// Levels of tables, the lowest being 1.
    pub(super) levels: u8,
    /// Entries of the root.
    pub(super) root_entries: u32,
    /// Bits of a page number that are translated.
    page_bits: u32,
    /// Page of the first page table seen through the self-map.
    tables_page: u64,
    /// Level of the table with the self-map entries, their first slot, and their number.
    pub(super) self_map_level: u8,
    pub(super) self_map_slot: u32,
    pub(super) self_map_entries: u32,
    /// Last page user mode may use.
    pub(super) last_user_page: u64,
    /// First and last page a descriptor may cover.
    pub(super) first_vad_page: u64,
    pub(super) last_vad_page: u64,
    /// First page of the working-set list.
    pub(super) list_page: u64,
    /// Frames of a space without memory: its tables and the first page of its list.
    pub(super) own_frames: u64,
}

/// Page of offset 0x102000 of hyperspace (spec 1.7).
const LIST_OFFSET: u64 = 0x102;

const I386: Mode = Mode {
    entries_per_word: 2,
    index_bits: 10,
    frame_bits: 20,
    offset_shift: 12,
    levels: 2,
    root_entries: 1024,
    page_bits: 20,
    tables_page: 0xC_0000,
    self_map_level: 2,
    self_map_slot: 0x300,
    self_map_entries: 1,
    last_user_page: 0x7_FFEF,
    first_vad_page: 0,
    last_vad_page: 0x7_FFDF,
    list_page: 0xC_0400 + LIST_OFFSET,
    // Root, hyperspace table, list.
    own_frames: 3,
};

const PAE: Mode = Mode {
    entries_per_word: 1,
    index_bits: 9,
    frame_bits: 26,
    offset_shift: 32,
    levels: 3,
    root_entries: 4,
    self_map_slot: 0,
    self_map_entries: 4,
    list_page: 0xC_0800 + LIST_OFFSET,
    // Root, four directories, hyperspace table, list.
    own_frames: 7,
    ..I386
};

const AMD64: Mode = Mode {
    entries_per_word: 1,
    index_bits: 9,
    frame_bits: 28,
    offset_shift: 32,
    levels: 4,
    root_entries: 512,
    page_bits: 36,
    tables_page: 0xF_6800_0000,
    self_map_level: 4,
    self_map_slot: 0x1ED,
    self_map_entries: 1,
    last_user_page: 0x7FFF_FFEF,
    first_vad_page: 0,
    last_vad_page: 0x7FFF_FFDF,
    list_page: 0xF_7000_0000 + LIST_OFFSET,
    // Root, three tables on the way to hyperspace, list.
    own_frames: 5,
};

impl Mode {
    /// The mode of this name. A name nobody knows is an error of the program, not of the
    /// machine under audit.
    pub(super) const fn named(name: &str) -> Self {
        match name.as_bytes() {
            b"i386" => I386,
            b"pae" => PAE,
            b"amd64" => AMD64,
            _ => panic!("a paging mode the auditors do not know"),
        }
    }

    /// Entries of a table below the root.
    pub(super) const fn entries(&self) -> u32 {
        1 << self.index_bits
    }

    /// What `word` means in a page table, tested in the order of spec 2.1.
    #[inline]
    pub(super) fn decode(&self, word: u64) -> Word {
        let frame = || Pfn::new(((word >> 12) & ((1 << self.frame_bits) - 1)) as u32);
        let protection = (word >> 5) as u8 & 0x1F;
        if word & 1 == 1 {
            Word::Valid { pfn: frame() }
        } else if word == 0 {
            Word::Zero
        } else if word >> 10 & 1 == 1 {
            Word::Prototype
        } else if word >> 11 & 1 == 1 {
            Word::Transition { pfn: frame() }
        } else {
            let number = PagingFileNumber::new((word >> 1) as u8 & 0xF);
            match (number, (word >> self.offset_shift) as u32) {
                (Some(file), slot @ 1..) => Word::PageFile { file, slot, protection },
                _ => Word::DemandZero { protection },
            }
        }
    }

    /// Whether a word of a view says no more than that the prototype is to be found by way of the
    /// descriptor (spec 2.6): all bits of the address are set.
    #[inline]
    pub(super) const fn is_lookup(&self, word: u64) -> bool {
        let whole = if self.entries_per_word == 2 { 0xFFFF_FFFF } else { u64::MAX };
        let address = whole & !((1 << self.offset_shift) - 1);
        word & !(0x1F << 5) == address | 1 << 10
    }

    /// What `word` means in a directory, if it stands for a large page (spec 2.10).
    #[inline]
    pub(super) fn decode_large(&self, word: u64) -> Option<LargeWord> {
        const LARGE: u64 = 1 << 7;
        const OWNER: u64 = 1 << 2;
        match self.decode(word) {
            Word::Valid { pfn } if word & (LARGE | OWNER) == LARGE | OWNER => {
                Some(LargeWord::Mapped { pfn })
            }
            Word::Transition { pfn } if (word >> 5) as u8 & 0x1F == DECOMMITTED => {
                Some(LargeWord::Unmapped { pfn })
            }
            _ => None,
        }
    }

    /// The entry number `slot` of the table that holds `words`.
    #[inline]
    pub(super) fn entry_of(&self, words: impl Fn(usize) -> u64, slot: u32) -> u64 {
        if self.entries_per_word == 1 {
            words(slot as usize)
        } else {
            words(slot as usize / 2) >> (32 * (slot % 2)) & 0xFFFF_FFFF
        }
    }

    /// Calls `visit` with the slot and the word of each entry of a table that is not zero;
    /// returns how many there are. Most of most tables is zero, and passed over in strides.
    #[inline]
    pub(super) fn scan<W>(
        &self,
        words: &[W; WORDS],
        load: impl Fn(&W) -> u64,
        mut visit: impl FnMut(u32, u64),
    ) -> u32 {
        let mut used = 0;
        for (stride, block) in (0..).step_by(STRIDE).zip(words.as_chunks::<STRIDE>().0) {
            if block.iter().fold(0, |bits, word| bits | load(word)) == 0 {
                continue;
            }
            for (index, word) in (stride..).zip(block) {
                let value = load(word);
                if value == 0 {
                    continue;
                }
                if self.entries_per_word == 1 {
                    used += 1;
                    visit(index, value);
                    continue;
                }
                for half in 0..2 {
                    let word = value >> (32 * half) & 0xFFFF_FFFF;
                    if word != 0 {
                        used += 1;
                        visit(2 * index + half, word);
                    }
                }
            }
        }
        used
    }

    /// log2 of the pages one entry of `level` maps.
    #[inline]
    pub(super) const fn page_shift(&self, level: u8) -> u32 {
        self.index_bits * (level as u32 - 1)
    }

    /// The page at which the table of `level` that covers `page` is seen: the entry of the
    /// entry of the entry, once for each level.
    #[inline]
    pub(super) const fn table_page(&self, page: u64, level: u8) -> u64 {
        let mut seen = page;
        let mut step = 0;
        while step < level {
            seen = self.tables_page + ((seen & ((1 << self.page_bits) - 1)) >> self.index_bits);
            step += 1;
        }
        seen
    }

    /// Whether page tables are seen at `page`.
    #[inline]
    pub(super) const fn is_table_page(&self, page: u64) -> bool {
        page.wrapping_sub(self.tables_page) < 1 << (self.page_bits - self.index_bits)
    }

    /// Slot of `page` in the table of `level`.
    #[inline]
    pub(super) const fn slot(&self, page: u64, level: u8) -> u32 {
        (page >> self.page_shift(level)) as u32 & (self.entries() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_specification_decode() {
        let file = PagingFileNumber::new(2).unwrap();
        for (mode, offset) in [(I386, 12), (PAE, 32), (AMD64, 32)] {
            assert_eq!(mode.decode(0), Word::Zero);
            assert_eq!(mode.decode(0x80), Word::DemandZero { protection: 4 });
            assert_eq!(mode.decode(0x200), Word::DemandZero { protection: DECOMMITTED });
            assert_eq!(mode.decode(0x1_2067), Word::Valid { pfn: Pfn::new(0x12) });
            assert_eq!(mode.decode(0x1_2880), Word::Transition { pfn: Pfn::new(0x12) });
            assert_eq!(mode.decode(0x480), Word::Prototype);
            let lookup = if mode == I386 { 0xFFFF_F480 } else { 0xFFFF_FFFF_0000_0480 };
            assert_eq!(mode.decode(lookup), Word::Prototype);
            assert!(mode.is_lookup(lookup) && !mode.is_lookup(0x480));
            assert_eq!(
                mode.decode(0x84 | 0x345 << offset),
                Word::PageFile { file, slot: 0x345, protection: 4 }
            );
        }
        // UsedPageTableEntries of a 64-bit word is neither frame nor offset (spec 2.2).
        assert_eq!(AMD64.decode(0xC0 | 5 << 12), Word::DemandZero { protection: 6 });
        assert_eq!(AMD64.decode(1 << 63 | 0x7_0025), Word::Valid { pfn: Pfn::new(0x70) });
    }

    #[test]
    fn directory_words_of_large_pages_decode() {
        let (mapped, kept) = (0x40_00E7, 0x40_0A00);
        for mode in [I386, PAE, AMD64] {
            let pfn = Pfn::new(0x400);
            assert_eq!(mode.decode_large(mapped), Some(LargeWord::Mapped { pfn }));
            assert_eq!(mode.decode_large(kept), Some(LargeWord::Unmapped { pfn }));
            for word in [0, 0x40_0067, 0x40_00E3, 0x40_08C0, 0x200] {
                assert_eq!(mode.decode_large(word), None, "{word:#x}");
            }
        }
    }

    #[test]
    fn halves_of_a_word_are_entries_of_i386() {
        let words = |index: usize| if index == 3 { 0x1111_1111_2222_2222 } else { 0 };
        assert_eq!([6, 7, 8].map(|slot| I386.entry_of(words, slot)), [0x2222_2222, 0x1111_1111, 0]);
        assert_eq!(AMD64.entry_of(words, 3), 0x1111_1111_2222_2222);
    }

    #[test]
    fn tables_are_seen_where_the_self_map_puts_them() {
        // Spec 1.2: PTE_BASE, PDE_BASE, PPE_BASE, PXE_BASE.
        assert_eq!(I386.table_page(0, 1), 0xC_0000);
        assert_eq!([0, 0xFFFFF].map(|page| I386.table_page(page, 2)), [0xC_0300; 2]);
        assert_eq!(PAE.table_page(0xF_FFFF, 1), 0xC_07FF);
        assert_eq!(PAE.table_page(0, 2), 0xC_0600);
        assert_eq!(PAE.table_page(0xC_0000, 2), 0xC_0603);
        assert_eq!(AMD64.table_page(0, 2), 0xF_6FB4_0000);
        assert_eq!(AMD64.table_page(0, 3), 0xF_6FB7_DA00);
        assert_eq!(AMD64.table_page(AMD64.list_page, 4), 0xF_6FB7_DBED);
    }

    #[test]
    fn pages_have_slots() {
        assert_eq!(AMD64.slot(AMD64.list_page, 1), 0x102);
        assert_eq!([2, 3, 4].map(|level| AMD64.slot(AMD64.list_page, level)), [0, 0, 0x1EE]);
        assert_eq!(I386.slot(I386.list_page, 2), 0x301);
        assert!(AMD64.is_table_page(0x1ED << 27) && !AMD64.is_table_page(0x1EE << 27));
    }
}
