//! Files nobody would write but an attacker: sound images with fields overridden, bytes changed
//! and ends cut off, each made from one number.
//!
//! Most of an image is left sound most of the time, or else everything would fail at the first
//! check and nothing behind it would ever run.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::{
    Architecture, Clr, DirectoryField, Field, OptionalField, PeBuilder, Preset, Section,
    relocation_table,
};

/// Numbers at which checks tend to be wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    4,
    0x10,
    0x1FF,
    0x200,
    0x201,
    0xFFF,
    0x1000,
    0x1001,
    0x2000,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_F000,
    0xFFFF_F001,
    0xFFFF_FE00,
    0xFFFF_FFFF,
    u64::MAX,
];

/// SplitMix64: every seed gives another file, and the same one everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn number(&mut self, near: u64) -> u64 {
        match self.below(4) {
            0 => self.next() >> self.below(64),
            1 => EDGES[self.below(EDGES.len())],
            2 => near.wrapping_add(EDGES[self.below(EDGES.len())]),
            _ => near.wrapping_sub(EDGES[self.below(EDGES.len())]),
        }
    }
}

/// The file of a seed.
#[must_use]
pub fn hostile(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut image = sound(&mut random);
    let fields: Vec<Field> = Field::all(image.sections.len()).collect();
    for _ in 0..random.below(4) {
        let field = fields[random.below(fields.len())];
        let value = random.number(image.value(field));
        image.set_field(field, value);
    }
    let mut file = image.build();
    if random.one_in(3) {
        let headers = file.len().min(0x400);
        for _ in 0..=random.below(8) {
            // Headers are changed more than what they describe.
            let reach = if random.one_in(2) { headers } else { file.len() };
            let at = random.below(reach);
            file[at] = random.next() as u8;
        }
    }
    if random.one_in(8) {
        let length = random.below(file.len() + 1);
        file.truncate(length);
    }
    file
}

/// An image with nothing wrong.
fn sound(random: &mut Random) -> PeBuilder {
    let mut image = match random.below(6) {
        0 => PeBuilder::new(Architecture::I386),
        1 => PeBuilder::new(Architecture::Amd64),
        2 => Preset::RawSize.builder(),
        3 => flat(random),
        _ => many_sections(random),
    };
    if random.one_in(8) {
        image.clr(Clr { major: random.below(4) as u16, minor: 5, flags: random.next() as u32 });
    }
    image
}

fn architecture(random: &mut Random) -> Architecture {
    if random.one_in(2) { Architecture::I386 } else { Architecture::Amd64 }
}

fn with_fields(mut image: PeBuilder, fields: &[(OptionalField, u64)]) -> PeBuilder {
    let fields = fields.iter().map(|&(field, value)| (Field::Optional(field), value));
    image.overrides.extend(fields);
    image
}

/// An image that is mapped as it is in the file.
fn flat(random: &mut Random) -> PeBuilder {
    let mut image = PeBuilder::new(architecture(random));
    image.sections(vec![Section {
        virtual_address: 0x400,
        pointer_to_raw_data: 0x400,
        virtual_size: 0x600,
        size_of_raw_data: 0x600,
        ..Section::default()
    }]);
    let fields = [
        (OptionalField::SectionAlignment, 0x200),
        (OptionalField::FileAlignment, 0x200),
        (OptionalField::SizeOfImage, 0xA00),
    ];
    with_fields(image, &fields)
}

/// Several sections of several sizes, and a relocation table in the last.
fn many_sections(random: &mut Random) -> PeBuilder {
    let alignment = [0x1000, 0x1000, 0x2000, 0x1_0000][random.below(4)];
    let mut sections = Vec::new();
    let mut address = alignment.max(0x2000_u32.next_multiple_of(alignment));
    let first = address;
    let mut position = 0x1200;
    for index in 0..1 + random.below(12) {
        let virtual_size = 1 + random.below(0x3000) as u32;
        let size_of_raw_data = (random.below(0x1800) as u32).next_multiple_of(0x200);
        sections.push(Section {
            name: String::from("part"),
            virtual_size,
            virtual_address: address,
            size_of_raw_data,
            pointer_to_raw_data: position,
            characteristics: (random.next() as u32) & 0xF400_00E0,
            data: vec![index as u8; size_of_raw_data as usize],
        });
        address += virtual_size.next_multiple_of(alignment);
        position += size_of_raw_data;
    }
    let table = random_table(random, first, address);
    let length = table.len() as u32;
    sections.push(Section {
        name: String::from(".reloc"),
        virtual_size: length,
        virtual_address: address,
        size_of_raw_data: length.next_multiple_of(0x200),
        pointer_to_raw_data: position,
        characteristics: 0x4200_0040,
        data: table,
    });
    let mut image = PeBuilder::new(architecture(random));
    image.sections(sections);
    let directory = [(DirectoryField::VirtualAddress, address), (DirectoryField::Size, length)];
    image
        .overrides
        .extend(directory.map(|(field, value)| (Field::Directory(5, field), u64::from(value))));
    let headers = if first > alignment { alignment + 0x100 } else { 0x1000 };
    let fields = [
        (OptionalField::SectionAlignment, alignment.into()),
        (OptionalField::FileAlignment, 0x200),
        (OptionalField::SizeOfHeaders, headers.into()),
        (OptionalField::SizeOfImage, (address + length).next_multiple_of(0x1000).into()),
        (OptionalField::AddressOfEntryPoint, first.into()),
    ];
    with_fields(image, &fields)
}

/// A table of blocks, most of them sound and in order.
fn random_table(random: &mut Random, start: u32, end: u32) -> Vec<u8> {
    let kinds = [0, 1, 2, 3, 3, 3, 10, 10];
    let mut blocks = Vec::new();
    for page in (start..end).step_by(0x1000) {
        let base = if random.one_in(32) { random.number(page.into()) as u32 } else { page };
        let count = random.below(24);
        let entries: Vec<u16> = (0..count)
            .map(|_| {
                let kind =
                    if random.one_in(256) { random.below(16) } else { kinds[random.below(8)] };
                let offset = match random.below(4) {
                    0 => 0xFF8 + random.below(8),
                    _ => random.below(0x1000),
                };
                (kind << 12 | offset) as u16
            })
            .collect();
        blocks.push((base, entries));
    }
    let borrowed: Vec<(u32, &[u16])> =
        blocks.iter().map(|(base, entries)| (*base, entries.as_slice())).collect();
    let mut table = relocation_table(&borrowed);
    if random.one_in(8) && !table.is_empty() {
        let at = random.below(table.len());
        table[at] = random.next() as u8;
    }
    table
}
