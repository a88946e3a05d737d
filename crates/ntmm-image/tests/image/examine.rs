//! One file, whatever is in it: parsed on every system and relocated, with every promise of the
//! crate checked on the way. Panics when one is broken.

use std::collections::BTreeMap;

use ntmm_image::build::check;
use ntmm_image::{
    DataDirectory, Host, HostMachine, ImageLayout, LONGEST_READ, MOST_READS, ParseError, Profile,
    RelocationError, RelocationTable,
};
use ntmm_pte::{Bytes, Pages};

/// Images of more pages than this are parsed but not relocated: they would be made of zeros.
const MOST_PAGES: u64 = 0x200;

/// What became of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Systems that take it as an image.
    pub layouts: u32,
    /// Relocation tables that were good.
    pub tables: u32,
    /// Places that were relocated.
    pub places: u64,
    /// Statuses of the systems that do not take it.
    pub statuses: [Option<u32>; 4],
}

/// The file as a reader that checks what it is asked for.
fn parse(file: &[u8], host: Host) -> Result<ImageLayout, u32> {
    let mut reads = 0;
    let parsed = ImageLayout::parse(file.len() as u64, host, |offset, buffer| {
        reads += 1;
        assert!(!buffer.is_empty() && buffer.len() <= LONGEST_READ, "{} bytes", buffer.len());
        let start = usize::try_from(offset).expect("inside the file");
        buffer.copy_from_slice(&file[start..start + buffer.len()]);
        Ok::<(), ()>(())
    });
    assert!(reads <= MOST_READS, "{reads} reads");
    parsed.map_err(|error| match error {
        ParseError::Image(error) => error.status(),
        ParseError::Read(()) => panic!("no read failed"),
    })
}

/// The bytes of an image at an RVA, asked for as promised.
fn read_image(memory: &[u8], rva: u32, buffer: &mut [u8]) {
    let (start, length) = (rva as usize, buffer.len());
    assert!(length > 0 && length <= LONGEST_READ, "{length} bytes");
    assert_eq!(start / 4096, (start + length - 1) / 4096, "{rva:#x} and {length} bytes");
    buffer.copy_from_slice(&memory[start..start + length]);
}

/// Places of a table, read the plain way; `None` when two of them overlap.
fn places(memory: &[u8], directory: DataDirectory) -> Option<BTreeMap<usize, (u16, usize)>> {
    let mut rest = &memory[directory.rva as usize..(directory.rva + directory.size) as usize];
    let mut places = BTreeMap::new();
    let mut taken = std::collections::BTreeSet::new();
    while let Some((header, _)) = rest.split_first_chunk::<8>() {
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let (base, length) = (word(0) as usize, word(4) as usize);
        if length == 0 {
            break;
        }
        for entry in rest[8..length].chunks(2) {
            let entry = u16::from_le_bytes(entry.try_into().unwrap());
            let kind = entry >> 12;
            let width = match kind {
                0 => continue,
                1 | 2 => 2,
                3 => 4,
                _ => 8,
            };
            let at = base + usize::from(entry & 0xFFF);
            if !(at..at + width).all(|byte| taken.insert(byte)) {
                return None;
            }
            places.insert(at, (kind, width));
        }
        rest = &rest[length..];
    }
    Some(places)
}

/// Relocates every page of an image and compares with relocating the image as a whole.
fn relocate(layout: &ImageLayout, memory: &[u8], delta: u64) -> Option<u64> {
    let directory = layout.relocations()?;
    let mut reads = 0_u64;
    let read = |rva: u32, buffer: &mut [u8]| {
        read_image(memory, rva, buffer);
        Ok::<(), ()>(())
    };
    let table = RelocationTable::survey(directory, layout.pages(), |rva, buffer| {
        reads += 1;
        read(rva, buffer)
    });
    let claimed = u64::from(directory.size).min(memory.len() as u64);
    // Each block may begin a new window, and each window may lie in two pages.
    assert!(reads <= 2 * (layout.pages().get() * 2 + claimed / 128 + 4), "{reads} reads");
    let table = match table {
        Ok(table) => table,
        Err(RelocationError::Defect(_)) => return None,
        Err(RelocationError::Read(())) => panic!("no read failed"),
    };
    assert!(table.length().get() <= u64::from(directory.size));
    let all = table.relocations(read);
    let all = all.inspect(|place| assert!(place.expect("good").bytes().end <= memory.len() as u64));
    assert_eq!(all.count() as u32, table.places());

    let expected = places(memory, directory).map(|places| {
        let mut moved = memory.to_vec();
        for (at, (kind, width)) in places {
            let mut value = [0; 8];
            value[..width].copy_from_slice(&memory[at..at + width]);
            let add = if kind == 1 { delta >> 16 } else { delta };
            let value = u64::from_le_bytes(value).wrapping_add(add).to_le_bytes();
            moved[at..at + width].copy_from_slice(&value[..width]);
        }
        moved
    });
    let mut from = table.start();
    let mut places = 0;
    for (page, original) in memory.chunks(4096).enumerate() {
        let number = Pages::new(page as u64);
        let mut bytes: [u8; 4096] = original.try_into().expect("whole pages");
        let mut again = bytes;
        let done = table.relocate_page(number, delta, from, &mut bytes, read).expect("good");
        let whole = table.relocate_page(number, delta, table.start(), &mut again, read);
        assert_eq!(done.places, whole.expect("good").places);
        assert_eq!(bytes, again, "page {page} depends on where the walk starts");
        if let Some(expected) = &expected {
            assert_eq!(bytes, expected[page * 4096..][..4096], "page {page}");
        }
        from = done.position;
        places += u64::from(done.places);
    }
    Some(places)
}

/// Examines a file.
pub fn examine(file: &[u8], delta: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut first = None;
    let hosts = [HostMachine::I386, HostMachine::Amd64].into_iter().flat_map(|machine| {
        [Profile::Legacy, Profile::Modern].map(|profile| Host { machine, profile })
    });
    for (host, status) in hosts.zip(&mut outcome.statuses) {
        match parse(file, host) {
            Ok(layout) => {
                let checked = check(&layout, Bytes::new(file.len() as u64));
                checked.unwrap_or_else(|broken| panic!("{broken}: {layout:?}"));
                outcome.layouts += 1;
                first.get_or_insert(layout);
            }
            Err(code) => *status = Some(code),
        }
    }
    if let Some(layout) = first.filter(|layout| layout.pages().get() <= MOST_PAGES) {
        let memory = crate::map(&layout, file);
        assert_eq!(memory.len() as u64, layout.pages().to_bytes().get());
        if let Some(places) = relocate(&layout, &memory, delta) {
            outcome.tables = 1;
            outcome.places = places;
        }
    }
    outcome
}
