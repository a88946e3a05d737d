//! What the pages of an image hold (spec API 15.4) and what may be done with them (15.5).

use ntmm_image::build::{Architecture, PeBuilder, Preset, Section};
use ntmm_image::{ImageLayout, Mapping, Sharing, Subsection};
use ntmm_pte::{Bytes, Pages, Protection};

use crate::{AMD64, HOSTS, I386, image, map, native, parse};

/// First page, pages, used pages, file offset, file bytes.
fn extents(part: &Subsection) -> [u64; 5] {
    [
        part.first_page().get(),
        part.pages().get(),
        part.used_pages().get(),
        part.data().offset().get(),
        part.data().length().get(),
    ]
}

fn all_extents(layout: &ImageLayout) -> Vec<[u64; 5]> {
    layout.subsections().iter().map(extents).collect()
}

/// A layout of an image with one section after its headers, and the file.
fn one_section(section: Section, fields: &[(&str, u64)]) -> (ImageLayout, Vec<u8>) {
    let mut builder = image(Architecture::Amd64, fields);
    builder.sections(vec![section]);
    let file = builder.build();
    (parse(AMD64, &file).expect("the image is sound"), file)
}

#[test]
fn default_image() {
    for host in HOSTS {
        let builder = PeBuilder::new(native(host));
        let file = builder.build();
        let layout = parse(host, &file).expect("the image is sound");
        let headers = builder.value_of("SizeOfHeaders").expect("the field exists");
        assert_eq!(all_extents(&layout), [[0, 1, 1, 0, headers], [1, 1, 1, 0x1000, 0x10]]);
        assert_eq!(layout.pages(), Pages::new(2));
        assert_eq!(layout.size_of_image(), Bytes::new(headers + 0x1000));
        assert_eq!(layout.base().get(), 0x1000_0000);
        assert_eq!(layout.mapping(), Mapping::BySection);
        assert_eq!(layout.commitment(), Pages::ZERO);
        assert_eq!(layout.header_patches().count(), 0);
        assert_eq!(layout.relocations(), None);
        assert!(layout.is_movable());
        let protections: Vec<_> = layout.subsections().iter().map(Subsection::protection).collect();
        assert_eq!(protections, [Protection::READONLY; 2]);
    }
}

#[test]
fn raw_sizes_of_all_kinds() {
    let builder = Preset::RawSize.builder();
    let file = builder.build();
    for host in HOSTS {
        let layout = parse(host, &file).expect("the image is sound");
        assert_eq!(
            all_extents(&layout),
            [
                [0, 1, 1, 0, 0x400],
                [1, 1, 1, 0x400, 0x1000],
                [2, 1, 1, 0x1600, 0x1000],
                [3, 1, 1, 0, 0],
                [4, 1, 1, 0x2800, 0x200],
                [5, 1, 1, 0, 0],
            ]
        );
        let memory = map(&layout, &file);
        assert_eq!(memory.len(), 0x6000);
        assert_eq!(memory[..0x160], file[..0x160], "headers up to the section table");
        assert!(memory[0x400..0x1000].iter().all(|&byte| byte == 0));
        assert_eq!(memory[0x1000..0x2000], file[0x400..0x1400]);
        assert_eq!((memory[0x1000], memory[0x1FFF]), (0xC3, 0x0A));
        // Raw data behind VirtualSize is seen to the end of the page.
        assert_eq!((memory[0x20FF], memory[0x2FFF]), (0xEE, 0xBB));
        assert!(memory[0x3000..0x4000].iter().all(|&byte| byte == 0));
        assert_eq!(memory[0x4000..0x4200], file[0x2800..0x2A00]);
        assert_eq!(memory[0x41F8..0x4200], [0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert!(memory[0x4200..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_pointer_to_no_raw_data_is_zero_in_memory() {
    let builder = Preset::RawSize.builder();
    let file = builder.build();
    let layout = parse(I386, &file).expect("the image is sound");
    let memory = map(&layout, &file);
    let pointer = |index: usize| {
        let name = format!("section[{index}].PointerToRawData");
        builder.location(ntmm_image::build::Field::parse(&name).expect("the field exists")).0
    };
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for (index, in_file, in_memory) in
        [(0, 0x400, 0x400), (1, 0x1600, 0x1600), (2, 0x2800, 0), (3, 0x2800, 0x2800), (4, 0, 0)]
    {
        assert_eq!(word(&file, pointer(index)), in_file, "section {index} in the file");
        assert_eq!(word(&memory, pointer(index)), in_memory, "section {index} in memory");
    }
    let patches: Vec<u32> = layout.header_patches().map(|patch| patch.rva()).collect();
    assert_eq!(patches, [pointer(2) as u32]);
    let different = (0..0x400).filter(|&at| file[at] != memory[at]).count();
    assert_eq!(different, 1, "only the one byte of 0x2800 that is not zero anyway");
}

#[test]
fn a_patch_may_lie_in_two_pages() {
    // The section table starts so that PointerToRawData begins two bytes before a page's end.
    let at = 0xFFE - 20 - 0x58;
    let mut builder = image(Architecture::Amd64, &[("file.SizeOfOptionalHeader", at)]);
    builder.set("SizeOfHeaders", 0x1100).expect("the field exists");
    builder.sections(vec![Section {
        virtual_address: 0x2000,
        size_of_raw_data: 0,
        pointer_to_raw_data: 0x1122_3344,
        ..Section::default()
    }]);
    builder.set("SizeOfImage", 0x3000).expect("the field exists");
    let file = builder.build();
    assert_eq!(file[0xFFE..0x1002], [0x44, 0x33, 0x22, 0x11]);
    let layout = parse(AMD64, &file).expect("the image is sound");
    let memory = map(&layout, &file);
    assert_eq!(memory[0xFFE..0x1002], [0; 4]);
    assert_eq!(memory[0xFEE..0xFFE], file[0xFEE..0xFFE]);
}

#[test]
fn headers_end_where_they_say() {
    let section = Section { pointer_to_raw_data: 0x200, ..Section::default() };
    let data = vec![0xA5; 0x10];
    let (layout, file) = one_section(Section { data, ..section }, &[("FileAlignment", 0x200)]);
    assert_eq!(file[0x200], 0xA5);
    let memory = map(&layout, &file);
    assert!(memory[0x200..0x1000].iter().all(|&byte| byte == 0), "data is not seen twice");
    assert_eq!(memory[0x1000], 0xA5);
}

#[test]
fn headers_give_way_to_the_first_section() {
    let fields = [("SizeOfHeaders", 0x1800), ("SizeOfImage", 0x2000)];
    let (layout, _) = one_section(Section::default(), &fields);
    assert_eq!(all_extents(&layout), [[0, 1, 1, 0, 0x1000], [1, 1, 1, 0x1000, 0x10]]);
}

#[test]
fn positions_round_down_and_sizes_up() {
    let section = Section {
        virtual_size: 0x2000,
        size_of_raw_data: 0x210,
        pointer_to_raw_data: 0x5F0,
        ..Section::default()
    };
    let fields = [("FileAlignment", 0x200), ("SizeOfImage", 0x3000)];
    let (layout, file) = one_section(section.clone(), &fields);
    assert_eq!(file.len(), 0x800);
    assert_eq!(extents(&layout.subsections()[1]), [1, 2, 2, 0x400, 0x400]);
    let longer = Section { data: vec![1; 0x2000], ..section };
    let (layout, _) = one_section(longer, &fields);
    let part = layout.subsections()[1];
    assert_eq!(extents(&part), [1, 2, 2, 0x400, 0x400], "0x210 bytes are two sectors");
    assert_eq!(part.data().starting_sector(), 2);
    assert_eq!(part.data().full_sectors(), 2);
    assert_eq!(part.data().sector_end_offset(), 0);
    assert_eq!(part.data_of_page(Pages::ZERO).length(), Bytes::new(0x400));
    assert_eq!(part.data_of_page(Pages::ONE).length(), Bytes::ZERO);
    assert_eq!(part.file_pages(), Pages::ONE);
}

#[test]
fn pages_without_contents_fill_the_image_up() {
    let fields = [("SectionAlignment", 0x1_0000), ("SizeOfImage", 0x5_0000)];
    let sections = |address| Section { virtual_address: address, ..Section::default() };
    let mut builder = image(Architecture::Amd64, &fields);
    builder.sections(vec![sections(0x1_0000), sections(0x2_0000)]);
    let layout = parse(AMD64, &builder.build()).expect("the image is sound");
    let extents: Vec<_> = layout
        .subsections()
        .iter()
        .map(|part| [part.first_page(), part.used_pages(), part.unused_pages()].map(Pages::get))
        .collect();
    assert_eq!(extents, [[0, 1, 15], [16, 1, 15], [32, 1, 47]]);
    assert_eq!(
        layout.subsection_of(Pages::new(31)).map(Subsection::first_page),
        Some(Pages::new(16))
    );
    assert_eq!(layout.subsection_of(Pages::new(80)), None);
}

#[test]
fn an_image_without_sections_is_all_headers() {
    let fields = [("file.NumberOfSections", 0), ("SizeOfImage", 0x4000)];
    let (layout, _) = one_section(Section::default(), &fields);
    assert_eq!(extents(&layout.subsections()[0])[..3], [0, 4, 1]);
    assert_eq!(layout.subsections().len(), 1);
}

#[test]
fn flat_images_are_the_file() {
    let fields = [("SectionAlignment", 0x200), ("FileAlignment", 0x200)];
    let (layout, file) =
        one_section(Section { data: vec![7; 0x10], ..Section::default() }, &fields);
    assert_eq!(layout.mapping(), Mapping::Flat);
    assert_eq!(all_extents(&layout), [[0, 2, 2, 0, 0x1010]]);
    assert_eq!(layout.subsections()[0].protection(), Protection::EXECUTE_WRITECOPY);
    assert_eq!(layout.commitment(), Pages::new(2));
    let memory = map(&layout, &file);
    assert_eq!(memory[..0x1010], file);
    assert!(memory[0x1010..].iter().all(|&byte| byte == 0));
    let empty = Section { size_of_raw_data: 0, ..Section::default() };
    let (layout, file) = one_section(empty, &fields);
    assert_eq!(map(&layout, &file)[..file.len()], file, "nothing is patched");
}

#[test]
fn protections_go_by_three_bits() {
    const EXECUTE: u32 = 0x2000_0000;
    const READ: u32 = 0x4000_0000;
    const WRITE: u32 = 0x8000_0000;
    const SHARED: u32 = 0x1000_0000;
    let rows = [
        (0, 0x01, 0x01, 0x01),
        (READ, 0x02, 0x02, 0x02),
        (WRITE, 0x08, 0x04, 0x08),
        (EXECUTE, 0x10, 0x10, 0x02),
        (READ | WRITE, 0x08, 0x04, 0x08),
        (READ | EXECUTE, 0x20, 0x20, 0x02),
        (WRITE | EXECUTE, 0x80, 0x40, 0x08),
        (READ | WRITE | EXECUTE, 0x80, 0x40, 0x08),
    ];
    let part = |characteristics| {
        let section = Section { characteristics, virtual_size: 0x1800, ..Section::default() };
        let (layout, _) = one_section(section, &[("SizeOfImage", 0x3000)]);
        (layout.subsections()[1], layout.commitment(), layout.write_copy_pages())
    };
    for contents in [0, 0x20, 0x40, 0x80, 0xE0, 0x0200_0000, 0x0800_0000] {
        for (bits, private, shared, no_execute) in rows {
            let two = |yes: bool| if yes { Pages::new(2) } else { Pages::ZERO };
            let (own, commitment, copied) = part(bits | contents);
            assert_eq!(own.protection().to_page_flags(), private, "{bits:#x} {contents:#x}");
            assert_eq!(own.protection_without_execute().to_page_flags(), no_execute);
            assert_eq!(own.sharing(), Sharing::Private);
            assert_eq!(commitment, two(bits & WRITE != 0));
            assert_eq!(copied, commitment);
            let (common, commitment, copied) = part(bits | contents | SHARED);
            assert_eq!(
                common.protection().to_page_flags(),
                shared,
                "{bits:#x} {contents:#x} shared"
            );
            assert_eq!(common.sharing(), Sharing::Shared);
            assert_eq!(commitment, two(bits & WRITE != 0));
            assert_eq!(copied, Pages::ZERO);
        }
    }
    let (uncached, ..) = part(READ | 0x0400_0000);
    assert_eq!(uncached.protection().to_page_flags(), 0x202);
    let (nothing, ..) = part(0x0400_0000);
    assert_eq!(nothing.protection(), Protection::NO_ACCESS);
}

#[test]
fn the_data_image_has_its_data_far_up() {
    let file = Preset::DataImage.builder().build();
    assert_eq!(file[..4], 0x0090_5A4D_u32.to_le_bytes());
    let layout = parse(I386, &file).expect("the image is sound");
    let last = layout.subsections().last().expect("there are sections");
    assert_eq!(extents(last), [0x80, 1, 1, 0x800, 0x200]);
}

/// The example of spec internals 8.5: a library of Windows 2000, in 512-byte sectors.
#[test]
fn subsections_of_a_documented_library() {
    let raw = [(0x3D0, 0x7A), (7, 1), (0x21F, 0x44), (0x3A, 8)];
    let characteristics = [0x6000_0020, 0xC000_0040, 0x4000_0040, 0x4200_0040];
    let mut sections = Vec::new();
    let (mut page, mut sector) = (1, 2);
    for ((sectors, pages), characteristics) in raw.into_iter().zip(characteristics) {
        sections.push(Section {
            virtual_size: pages * 0x1000,
            virtual_address: page * 0x1000,
            size_of_raw_data: sectors * 512,
            pointer_to_raw_data: sector * 512,
            characteristics,
            ..Section::default()
        });
        (page, sector) = (page + pages, sector + sectors);
    }
    let fields = [("FileAlignment", 0x200), ("SizeOfHeaders", 0x400), ("SizeOfImage", 0xC_8000)];
    let mut builder = image(Architecture::I386, &fields);
    builder.sections(sections);
    let layout = parse(I386, &builder.build()).expect("the image is sound");
    assert_eq!(layout.pages(), Pages::new(0xC8));
    assert_eq!(layout.commitment(), Pages::ONE);
    let parts: Vec<_> = layout
        .subsections()
        .iter()
        .map(|part| {
            let data = part.data();
            (data.starting_sector(), data.full_sectors(), part.pages().get(), part.protection())
        })
        .collect();
    assert_eq!(
        parts,
        [
            (0, 2, 1, Protection::READONLY),
            (2, 0x3D0, 0x7A, Protection::EXECUTE_READ),
            (0x3D2, 7, 1, Protection::WRITECOPY),
            (0x3D9, 0x21F, 0x44, Protection::READONLY),
            (0x5F8, 0x3A, 8, Protection::READONLY),
        ]
    );
}
