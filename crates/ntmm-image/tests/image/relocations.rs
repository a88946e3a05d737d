//! Base relocations, and tables that are none.

use ntmm_image::build::relocation_table;
use ntmm_image::{
    DataDirectory, Relocation, RelocationDefect, RelocationError, RelocationKind, RelocationTable,
};
use ntmm_pte::Pages;
use proptest::prelude::*;

const HIGH: u16 = 1 << 12;
const LOW: u16 = 2 << 12;
const HIGHLOW: u16 = 3 << 12;
const DIR64: u16 = 10 << 12;

/// Where the tests put their tables.
const TABLE: u32 = 0x7000;
const SIZE: Pages = Pages::new(8);

/// An image of eight pages whose every byte is its RVA's lowest, but for its table.
fn memory(table: &[u8]) -> Vec<u8> {
    let mut memory: Vec<u8> = (0..0x8000_u32).map(|at| at as u8).collect();
    memory[TABLE as usize..].fill(0);
    memory[TABLE as usize..][..table.len()].copy_from_slice(table);
    memory
}

fn survey(memory: &[u8], size: u32) -> Result<RelocationTable, RelocationDefect> {
    let directory = DataDirectory { rva: TABLE, size };
    let table = RelocationTable::survey(directory, SIZE, reader(memory));
    table.map_err(|error| match error {
        RelocationError::Defect(defect) => defect,
        RelocationError::Read(()) => panic!("no read failed"),
    })
}

fn reader(memory: &[u8]) -> impl FnMut(u32, &mut [u8]) -> Result<(), ()> {
    |rva, buffer| {
        buffer.copy_from_slice(&memory[rva as usize..][..buffer.len()]);
        Ok(())
    }
}

/// What is wrong with a table of these bytes.
fn defect(table: &[u8]) -> Option<RelocationDefect> {
    survey(&memory(table), table.len() as u32).err()
}

fn relocated(memory: &[u8], table: &RelocationTable, page: u64, delta: u64) -> [u8; 4096] {
    let mut bytes: [u8; 4096] = memory[page as usize * 4096..][..4096].try_into().unwrap();
    let done =
        table.relocate_page(Pages::new(page), delta, table.start(), &mut bytes, reader(memory));
    done.expect("the table is good");
    bytes
}

#[test]
fn each_kind_changes_its_bytes() {
    let entries = [HIGH | 0x10, LOW | 0x20, HIGHLOW | 0x30, DIR64 | 0x40, 0x50];
    let table = relocation_table(&[(0x1000, &entries)]);
    let memory = memory(&table);
    let table = survey(&memory, table.len() as u32).expect("the table is good");
    assert_eq!(table.places(), 4);
    let mut expected: [u8; 4096] = memory[0x1000..0x2000].try_into().unwrap();
    expected[0x10..0x12].copy_from_slice(&(0x1110_u16 + 0x89AB).to_le_bytes());
    expected[0x20..0x22]
        .copy_from_slice(&(0x2120_u16 + 0xCDEF - 0x1_0000_u32 as u16).to_le_bytes());
    expected[0x30..0x34].copy_from_slice(&(0x3332_3130_u32 + 0x89AB_CDEF).to_le_bytes());
    expected[0x40..0x48]
        .copy_from_slice(&(0x4746_4544_4342_4140_u64 + 0x0123_4567_89AB_CDEF).to_le_bytes());
    assert_eq!(relocated(&memory, &table, 1, 0x0123_4567_89AB_CDEF), expected);
    assert_eq!(relocated(&memory, &table, 2, 0x0123_4567_89AB_CDEF), memory[0x2000..0x3000]);
    assert_eq!(relocated(&memory, &table, 1, 0), memory[0x1000..0x2000]);
}

#[test]
fn places_in_two_pages_change_in_both() {
    let table = relocation_table(&[(0x1000, &[DIR64 | 0xFFD]), (0x2000, &[HIGHLOW | 0xFFF])]);
    let memory = memory(&table);
    let table = survey(&memory, table.len() as u32).expect("the table is good");
    let delta = 0x1111_1111_1111_1111;
    let mut whole = memory.clone();
    let value = u64::from_le_bytes(memory[0x1FFD..0x2005].try_into().unwrap());
    whole[0x1FFD..0x2005].copy_from_slice(&(value.wrapping_add(delta)).to_le_bytes());
    let value = u32::from_le_bytes(memory[0x2FFF..0x3003].try_into().unwrap());
    whole[0x2FFF..0x3003].copy_from_slice(&(value.wrapping_add(0x1111_1111)).to_le_bytes());
    assert_ne!(whole[0x2000..0x2005], memory[0x2000..0x2005]);
    for page in 0..7 {
        let at = page as usize * 4096;
        assert_eq!(relocated(&memory, &table, page, delta), whole[at..at + 4096], "page {page}");
    }
}

#[test]
fn places_of_a_page() {
    let blocks: [(u32, &[u16]); 4] = [
        (0x1000, &[DIR64 | 0xFF9, HIGHLOW | 0xFFC, LOW]),
        (0x2000, &[LOW | 0xFFF, HIGH | 0xFFE]),
        (0x2800, &[HIGHLOW | 0x7FE, HIGHLOW | 0x800]),
        (0x4000, &[DIR64]),
    ];
    let table = relocation_table(&blocks);
    let memory = memory(&table);
    let table = survey(&memory, table.len() as u32).expect("the table is good");
    let places = |page| -> Vec<u32> {
        let places = table.relocations_of_page(Pages::new(page), table.start(), reader(&memory));
        places.map(|place| place.expect("the table is good").rva).collect()
    };
    assert_eq!(places(0), [0; 0]);
    assert_eq!(places(1), [0x1FF9, 0x1FFC, 0x1000]);
    assert_eq!(places(2), [0x1FF9, 0x2FFF, 0x2FFE, 0x2FFE]);
    assert_eq!(places(3), [0x2FFF, 0x2FFE, 0x3000]);
    assert_eq!(places(4), [0x4000]);
    assert_eq!(places(5), [0; 0]);
    let all: Vec<Relocation> =
        table.relocations(reader(&memory)).map(|place| place.expect("good")).collect();
    assert_eq!(all.len(), 8);
    assert_eq!(all[0], Relocation { rva: 0x1FF9, kind: RelocationKind::Dir64 });
}

#[test]
fn a_table_ends_early_at_a_block_of_no_length() {
    let mut bytes = relocation_table(&[(0x1000, &[HIGHLOW, 0])]);
    let length = bytes.len() as u64;
    bytes.extend([0; 16]);
    bytes.extend(relocation_table(&[(0x2000, &[HIGHLOW, 0])]));
    let table = survey(&memory(&bytes), bytes.len() as u32).expect("the table is good");
    assert_eq!((table.places(), table.length().get()), (1, length));
    let nothing = survey(&memory(&[]), 0x1000).expect("zeros are a table");
    assert_eq!((nothing.places(), nothing.length().get()), (0, 0));
    for rest in 0..8 {
        let bytes = [relocation_table(&[(0x1000, &[LOW, 0])]), vec![0xFF; rest]].concat();
        assert_eq!(defect(&bytes), None, "{rest} bytes are no block");
    }
}

#[test]
fn tables_that_are_none() {
    let block = |base: u32, length: u32, entry: u16| {
        let mut bytes = [base.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend(entry.to_le_bytes());
        bytes.resize(0x20, 0);
        bytes
    };
    for length in [1, 7, 9, 0x21, 0x22, 0x1000_0000, u32::MAX] {
        assert_eq!(
            defect(&block(0, length, 0)),
            Some(RelocationDefect::BlockLength),
            "{length:#x}"
        );
    }
    let long = block(0, 8 + 2 * 4098, 0);
    let mut memory_of_long = memory(&long);
    memory_of_long.resize(0xA000, 0);
    let directory = DataDirectory { rva: TABLE, size: 0x3000 };
    let surveyed = RelocationTable::survey(directory, Pages::new(10), reader(&memory_of_long));
    assert_eq!(surveyed, Err(RelocationError::Defect(RelocationDefect::BlockLength)));
    for kind in [4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15] {
        let found = defect(&block(0, 0x20, kind << 12));
        assert_eq!(found, Some(RelocationDefect::Kind(kind as u8)));
    }
    for (base, entry, place) in [
        (0x7000, HIGHLOW | 0xFFD, 0x7FFD),
        (0x7FFF, LOW, 0x7FFF),
        (0x8000, LOW, 0x8000),
        (u32::MAX, DIR64 | 0xFFF, u32::MAX),
    ] {
        assert_eq!(defect(&block(base, 0x20, entry)), Some(RelocationDefect::Place(place)));
    }
    assert_eq!(defect(&block(0x7000, 0x20, HIGHLOW | 0xFFC)), None);
    let empty = relocation_table(&[(0, [].as_slice()); 17]);
    assert_eq!(defect(&empty), Some(RelocationDefect::TooManyBlocks));
    assert_eq!(defect(&empty[8..]), None, "two blocks for each page");
    for size in [0x1001, 0xFFFF_8FFF, u32::MAX] {
        let outside = survey(&memory(&[]), size);
        assert_eq!(outside, Err(RelocationDefect::OutsideImage), "{size:#x}");
    }
}

#[test]
fn an_error_of_the_reader_comes_through_and_ends_the_walk() {
    let bytes = relocation_table(&[(0x1000, &[HIGHLOW, DIR64 | 0xFFC])]);
    let memory = memory(&bytes);
    let directory = DataDirectory { rva: TABLE, size: bytes.len() as u32 };
    let fail = |_: u32, _: &mut [u8]| Err("not now");
    let failed = RelocationTable::survey(directory, SIZE, fail);
    assert_eq!(failed, Err(RelocationError::Read("not now")));
    let table = survey(&memory, bytes.len() as u32).expect("the table is good");
    let mut walk = table.relocations(fail);
    assert_eq!(walk.next(), Some(Err(RelocationError::Read("not now"))));
    assert_eq!(walk.next(), None);
    // The place in two pages needs its other page.
    let without_page_2 = |rva: u32, buffer: &mut [u8]| {
        if rva / 0x1000 == 2 { Err(()) } else { reader(&memory)(rva, buffer) }
    };
    let mut page = [0; 4096];
    let failed = table.relocate_page(Pages::ONE, 1, table.start(), &mut page, without_page_2);
    assert_eq!(failed, Err(RelocationError::Read(())));
}

fn entries() -> impl Strategy<Value = Vec<u16>> {
    let kind = prop::sample::select(vec![0, HIGH, LOW, HIGHLOW, DIR64]);
    prop::collection::vec((kind, 0_u16..0x1000).prop_map(|(kind, at)| kind | at), 0..12)
}

proptest! {
    /// Blocks in any order, with pages asked for in any order: the places of a page are those of
    /// the table that have bytes there, wherever the walk starts.
    #[test]
    fn places_of_pages_are_those_of_the_table(
        blocks in prop::collection::vec((0_u32..0x6000, entries()), 0..12),
        in_order in any::<bool>(),
        pages in prop::collection::vec(0_u64..9, 1..12),
    ) {
        let mut blocks = blocks;
        if in_order {
            blocks.sort_by_key(|block| block.0);
        }
        let borrowed: Vec<(u32, &[u16])> =
            blocks.iter().map(|(base, entries)| (*base, entries.as_slice())).collect();
        let bytes = relocation_table(&borrowed);
        let memory = memory(&bytes);
        let table = survey(&memory, bytes.len() as u32).expect("the table is good");
        let all: Vec<Relocation> =
            table.relocations(reader(&memory)).map(|place| place.expect("good")).collect();
        let mut from = table.start();
        for page in pages {
            let range = page * 0x1000..(page + 1) * 0x1000;
            let inside = |place: &&Relocation| {
                place.bytes().start < range.end && place.bytes().end > range.start
            };
            let expected: Vec<Relocation> = all.iter().filter(inside).copied().collect();
            let mut walk = table.relocations_of_page(Pages::new(page), from, reader(&memory));
            let found: Vec<Relocation> = walk.by_ref().map(|place| place.expect("good")).collect();
            prop_assert_eq!(found, expected);
            from = walk.position();
        }
    }
}
