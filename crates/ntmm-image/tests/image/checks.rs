//! Each check of spec API 15.1 to 15.3, by itself, and what is never an error.

use ntmm_image::build::{Architecture, Section};
use ntmm_image::{Host, ImageError, ImageLayout, Mapping, ParseError};

use crate::{AMD64, HOSTS, I386, image, native, parse};

/// Default images with some fields overridden, and what they come to.
type Row = (&'static [(&'static str, u64)], Result<(), ImageError>);

fn check_rows(hosts: &[Host], architecture: Option<Architecture>, rows: &[Row]) {
    for &host in hosts {
        for (fields, expected) in rows {
            let file = image(architecture.unwrap_or(native(host)), fields).build();
            let parsed = parse(host, &file).map(|_| ());
            assert_eq!(parsed, *expected, "{fields:x?} on {host:?}");
        }
    }
}

#[test]
fn every_check_answers_with_its_status() {
    let status = |error: ImageError| error.status();
    let expected = |error| match error {
        ImageError::EmptyFile => 0xC000_0020,
        ImageError::NotMz => 0xC000_012F,
        ImageError::NoNewHeader | ImageError::Signature => 0xC000_0130,
        ImageError::Windows16 => 0xC000_0131,
        ImageError::NewExecutable => 0xC000_011B,
        ImageError::LinearExecutable => 0xC000_012E,
        ImageError::Windows64 => 0xC000_035A,
        _ => 0xC000_007B,
    };
    for error in ImageError::ALL {
        assert_eq!(status(error), expected(error), "{error}");
    }
}

#[test]
fn files_without_headers() {
    let text = b"This is a text file, long enough to hold a DOS header if it were one.....";
    for host in HOSTS {
        assert_eq!(parse(host, b"").unwrap_err(), ImageError::EmptyFile);
        assert_eq!(parse(host, b"M").unwrap_err(), ImageError::NotMz);
        assert_eq!(parse(host, b"MZ").unwrap_err(), ImageError::NotMz);
        assert_eq!(parse(host, text).unwrap_err(), ImageError::NotMz);
        let file = image(native(host), &[]).build();
        assert_eq!(parse(host, &file[..0x3F]).unwrap_err(), ImageError::NotMz);
        assert_eq!(parse(host, &file[..0x40]).unwrap_err(), ImageError::NoNewHeader);
        assert_eq!(parse(host, &file[..0x43]).unwrap_err(), ImageError::NoNewHeader);
        assert_eq!(parse(host, &file[..0x57]).unwrap_err(), ImageError::NoNewHeader);
        assert_eq!(parse(host, &file[..0x58]).unwrap_err(), ImageError::OptionalHeader);
        assert_eq!(parse(host, &file[..0x59]).unwrap_err(), ImageError::OptionalHeader);
        assert_eq!(parse(host, &file[..file.len() - 0x10]).unwrap_err(), ImageError::SectionData);
    }
}

#[test]
fn dos_headers_that_lead_nowhere() {
    let rows: &[Row] = &[
        (&[("dos.e_magic", 0x4D5A)], Err(ImageError::NotMz)),
        (&[("dos.e_lfanew", 0)], Err(ImageError::NoNewHeader)),
        (&[("dos.e_lfanew", 0x9876_0000)], Err(ImageError::NoNewHeader)),
        (&[("dos.e_lfanew", 0xDEAD_BEEF)], Err(ImageError::NoNewHeader)),
        (&[("dos.e_lfanew", 0x7FFF_FFFF)], Err(ImageError::NoNewHeader)),
        (&[("dos.e_lfanew", 0x100D)], Err(ImageError::NoNewHeader)),
        (&[("nt.Signature", 0xDEAD_BEEF)], Err(ImageError::Signature)),
        (&[("nt.Signature", 0x1_4550)], Err(ImageError::Signature)),
        (&[("nt.Signature", 0x454C)], Err(ImageError::LinearExecutable)),
        (&[("nt.Signature", 0xDEAD_454C)], Err(ImageError::LinearExecutable)),
    ];
    // The builder writes a new header wherever `e_lfanew` says; cut it off behind the old end.
    for host in HOSTS {
        for (fields, expected) in rows {
            let mut file = image(native(host), fields).build();
            file.truncate(0x1010);
            assert_eq!(parse(host, &file).map(|_| ()), *expected, "{fields:x?} on {host:?}");
        }
    }
}

#[test]
fn ne_programs_go_by_their_target_system() {
    for host in HOSTS {
        for target in 0..=0xFF {
            let fields = [("nt.Signature", 0x454E), ("ne.exetyp", target)];
            let file = image(native(host), &fields).build();
            let expected = match target {
                2 => ImageError::Windows16,
                5 => ImageError::Signature,
                _ => ImageError::NewExecutable,
            };
            assert_eq!(parse(host, &file).unwrap_err(), expected, "target {target}");
        }
        let short = image(native(host), &[("nt.Signature", 0x454E)]).build();
        assert_eq!(parse(host, &short[..0x7F]).unwrap_err(), ImageError::Signature);
    }
}

#[test]
fn machines_and_formats() {
    const ARM: u64 = 0x1C4;
    const ARM64: u64 = 0xAA64;
    let on = |host, architecture, machine: Option<u64>| {
        let fields: Vec<_> = machine.map(|machine| ("file.Machine", machine)).into_iter().collect();
        parse(host, &image(architecture, &fields).build()).map(|_| ())
    };
    for host in HOSTS {
        for machine in [0, 0xDEAD, ARM, ARM64, 0x200, 0x8664] {
            assert_eq!(on(host, Architecture::I386, Some(machine)), Err(ImageError::Machine));
        }
        assert_eq!(on(host, Architecture::I386, None), Ok(()));
    }
    for machine in [0, 0xDEAD, ARM, ARM64, 0x200, 0x14C] {
        assert_eq!(on(AMD64, Architecture::Amd64, Some(machine)), Err(ImageError::Machine));
        assert_eq!(on(I386, Architecture::Amd64, Some(machine)), Err(ImageError::Windows64));
    }
    assert_eq!(on(AMD64, Architecture::Amd64, None), Ok(()));
    assert_eq!(on(I386, Architecture::Amd64, None), Err(ImageError::Windows64));
    let rows: &[Row] = &[
        (&[("opt.Magic", 0xDEAD)], Err(ImageError::Magic)),
        (&[("opt.Magic", 0x107)], Err(ImageError::Magic)),
        (&[("opt.Magic", 0xDEAD), ("file.Machine", 0)], Err(ImageError::Magic)),
    ];
    check_rows(&HOSTS, None, rows);
}

#[test]
fn optional_headers_of_odd_lengths() {
    let of_length = |host: Host, length| {
        let none = [("file.SizeOfOptionalHeader", length), ("file.NumberOfSections", 0)];
        let mut builder = image(native(host), &none);
        builder.sections(Vec::new());
        parse(host, &builder.build()).map(|_| ())
    };
    for host in HOSTS {
        let fixed = if native(host) == Architecture::I386 { 96 } else { 112 };
        for length in [0, 1, 2, 0x3F] {
            assert_eq!(of_length(host, length), Err(ImageError::OptionalHeader), "{length:#x}");
        }
        let short = match host.profile {
            ntmm_image::Profile::Legacy => Ok(()),
            ntmm_image::Profile::Modern => Err(ImageError::OptionalHeader),
        };
        assert_eq!(of_length(host, 0x40), short, "cut before the checksum, {host:?}");
        assert_eq!(of_length(host, fixed - 1), short);
        assert_eq!(of_length(host, fixed), Ok(()), "no directories");
        assert_eq!(of_length(host, 0x148), Ok(()));
        assert_eq!(of_length(host, 0x1000), Ok(()));
    }
}

#[test]
fn header_fields() {
    let rows: &[Row] = &[
        (&[("file.Characteristics", 0x2000)], Err(ImageError::NotExecutable)),
        (&[("SectionAlignment", 0)], Err(ImageError::Alignment)),
        (&[("FileAlignment", 0)], Err(ImageError::Alignment)),
        (&[("SectionAlignment", 0x200)], Err(ImageError::Alignment)),
        (&[("SectionAlignment", 0x200), ("FileAlignment", 0x400)], Err(ImageError::Alignment)),
        (&[("FileAlignment", 0x2000)], Err(ImageError::Alignment)),
        (&[("FileAlignment", 0x100)], Err(ImageError::Alignment)),
        (&[("FileAlignment", 0x600)], Err(ImageError::Alignment)),
        (&[("SectionAlignment", 0x3000)], Err(ImageError::Alignment)),
        (&[("FileAlignment", 0x200)], Ok(())),
        (&[("FileAlignment", 0x400)], Ok(())),
        (&[("ImageBase", 0x1000)], Err(ImageError::ImageBase)),
        (&[("ImageBase", 0x1_8000)], Err(ImageError::ImageBase)),
        (&[("ImageBase", 0)], Ok(())),
        (&[("ImageBase", 0x7FFF_0000)], Ok(())),
        (&[("SizeOfImage", 0)], Err(ImageError::SizeOfImage)),
        (&[("SizeOfImage", 0xFFFF_F001)], Err(ImageError::SizeOfImage)),
        (&[("SizeOfImage", 0xFFFF_F000)], Ok(())),
        (&[("SizeOfImage", 0x1001)], Ok(())),
        (&[("SizeOfImage", 0x1000)], Err(ImageError::SectionOutsideImage)),
        (&[("SizeOfImage", 0x1F00), ("SizeOfHeaders", 0x1000)], Ok(())),
        (&[("file.NumberOfSections", 97)], Err(ImageError::NumberOfSections)),
        (&[("file.NumberOfSections", 0xFFFF)], Err(ImageError::NumberOfSections)),
        (&[("file.NumberOfSections", 96)], Err(ImageError::SizeOfHeaders)),
        (&[("SizeOfHeaders", 0)], Err(ImageError::SizeOfHeaders)),
        (&[("SizeOfHeaders", 0x15F)], Err(ImageError::SizeOfHeaders)),
        (&[("SizeOfHeaders", 0x200)], Ok(())),
        (&[("SizeOfHeaders", 0x1000)], Ok(())),
        (&[("SizeOfHeaders", 0x2000), ("SizeOfImage", 0x2000)], Err(ImageError::SizeOfHeaders)),
        (&[("SizeOfHeaders", 0x1800), ("SizeOfImage", 0x2000)], Ok(())),
    ];
    check_rows(&HOSTS, None, rows);
}

#[test]
fn headers_that_are_never_wrong() {
    let rows: &[Row] = &[
        (&[], Ok(())),
        (&[("AddressOfEntryPoint", 0xFFFF_FFFF)], Ok(())),
        (&[("AddressOfEntryPoint", 0x1234)], Ok(())),
        (&[("Subsystem", 0xFFFF)], Ok(())),
        (&[("CheckSum", 0xDEAD_BEEF)], Ok(())),
        (&[("DllCharacteristics", 0)], Ok(())),
        (&[("DllCharacteristics", 0x40)], Ok(())),
        (&[("DllCharacteristics", 0x100)], Ok(())),
        (&[("NumberOfRvaAndSizes", 0)], Ok(())),
        (&[("NumberOfRvaAndSizes", 0xFFFF_FFFF)], Ok(())),
        (&[("dir[14].VirtualAddress", 1), ("dir[14].Size", 1)], Ok(())),
        (&[("dir[14].VirtualAddress", 0xFFFF_FFFF), ("dir[14].Size", 0xFFFF_FFFF)], Ok(())),
        (&[("dir[5].VirtualAddress", 0xFFFF_FFFF), ("dir[5].Size", 0xFFFF_FFFF)], Ok(())),
        (&[("dos.e_lfarlc", 0x1C)], Ok(())),
        (&[("dos.e_lfanew", 0x10)], Ok(())),
        (&[("dos.e_lfanew", 0x45)], Ok(())),
        (&[("file.NumberOfSections", 0)], Ok(())),
    ];
    check_rows(&HOSTS, None, rows);
}

#[test]
fn section_headers() {
    let rows: &[Row] = &[
        (
            &[("section[0].PointerToRawData", 0x2800), ("section[0].SizeOfRawData", 0xFFFF_FE00)],
            Err(ImageError::SectionData),
        ),
        (&[("section[0].PointerToRawData", 0xFFFF_FFFF)], Err(ImageError::SectionData)),
        (&[("section[0].SizeOfRawData", 0x11)], Err(ImageError::SectionData)),
        (&[("section[0].PointerToRawData", 0x1001)], Err(ImageError::SectionData)),
        (&[("section[0].PointerToRawData", 0), ("section[0].SizeOfRawData", 0xFFFF_FFFF)], Ok(())),
        (&[("section[0].VirtualSize", 0)], Ok(())),
        (
            &[("section[0].VirtualSize", 0), ("section[0].SizeOfRawData", 0)],
            Err(ImageError::SectionSize),
        ),
        (&[("section[0].VirtualSize", 0x1001)], Err(ImageError::SectionOutsideImage)),
        (&[("section[0].VirtualSize", 0xFFFF_FFFF)], Err(ImageError::SectionOutsideImage)),
        (&[("section[0].VirtualAddress", 0)], Err(ImageError::SectionAddress)),
        (&[("section[0].VirtualAddress", 0x800)], Err(ImageError::SectionAddress)),
        (&[("section[0].VirtualAddress", 0x1001)], Err(ImageError::SectionAddress)),
        (&[("section[0].VirtualAddress", 0x2000)], Err(ImageError::SectionAddress)),
        (&[("section[0].VirtualAddress", 0xFFFF_F000)], Err(ImageError::SectionAddress)),
    ];
    check_rows(&HOSTS, None, rows);
}

/// A second section at `address`, after a first of one page at 0x1000.
fn two_sections(host: Host, address: u32, fields: &[(&str, u64)]) -> Result<(), ImageError> {
    let mut image = image(native(host), fields);
    image.set("SizeOfImage", 0x8000).expect("the field exists");
    let second = Section { virtual_address: address, ..Section::default() };
    image.sections(vec![Section::default(), second]);
    parse(host, &image.build()).map(|_| ())
}

#[test]
fn sections_follow_each_other_without_a_gap() {
    for host in HOSTS {
        assert_eq!(two_sections(host, 0x2000, &[]), Ok(()));
        for address in [0, 0x1000, 0x2800, 0x3000] {
            let parsed = two_sections(host, address, &[]);
            assert_eq!(parsed, Err(ImageError::SectionAddress), "{address:#x}");
        }
        let wide = [("SectionAlignment", 0x2000), ("section[0].VirtualAddress", 0x2000)];
        assert_eq!(two_sections(host, 0x4000, &wide), Ok(()));
        assert_eq!(two_sections(host, 0x3000, &wide), Err(ImageError::SectionAddress));
        // The first to be wrong counts.
        let both = [("section[0].VirtualAddress", 0x3000)];
        assert_eq!(two_sections(host, 0xFFFF_F000, &both), Err(ImageError::SectionAddress));
        let size = [("section[0].VirtualSize", 0x8000)];
        assert_eq!(two_sections(host, 0x2000, &size), Err(ImageError::SectionOutsideImage));
    }
}

#[test]
fn flat_images_have_sections_where_the_file_has_them() {
    let flat = [("SectionAlignment", 0x200), ("FileAlignment", 0x200)];
    for host in HOSTS {
        let with = |fields: &[(&str, u64)]| {
            parse(host, &image(native(host), &[flat.as_slice(), fields].concat()).build())
        };
        assert_eq!(with(&[]).map(|layout| layout.mapping()), Ok(Mapping::Flat));
        let moved = with(&[("section[0].VirtualAddress", 0xE00)]);
        assert_eq!(moved.unwrap_err(), ImageError::FlatSection);
        assert_eq!(
            with(&[("section[0].VirtualAddress", 0x1100)]).unwrap_err(),
            ImageError::SectionAddress
        );
        let zeros =
            with(&[("section[0].VirtualAddress", 0xE00), ("section[0].PointerToRawData", 0)]);
        assert!(zeros.is_ok(), "a section without data lies where it likes");
        assert_eq!(
            with(&[("section[0].VirtualSize", 0x1001)]).unwrap_err(),
            ImageError::SectionOutsideImage
        );
        assert_eq!(with(&[("SizeOfImage", 0)]).unwrap_err(), ImageError::SizeOfImage);
    }
}

#[test]
fn ninety_six_sections_are_not_too_many() {
    for host in HOSTS {
        let mut builder = image(native(host), &[("SizeOfImage", 0x7_0000)]);
        let section =
            |index: u32| Section { virtual_address: (index + 2) * 0x1000, ..Section::default() };
        builder.set("SizeOfHeaders", 0x1200).expect("the field exists");
        builder.sections((0..96).map(section).collect());
        let parsed = parse(host, &builder.build());
        assert_eq!(parsed.map(|layout| layout.subsections().len()), Ok(97));
        let one_more = builder.set("file.NumberOfSections", 97).expect("the field exists").build();
        assert_eq!(parse(host, &one_more).unwrap_err(), ImageError::NumberOfSections);
    }
}

#[test]
fn a_section_table_beyond_the_end_of_the_file() {
    for host in HOSTS {
        let mut builder = image(native(host), &[("file.NumberOfSections", 90)]);
        builder.set("SizeOfHeaders", 0x1000).expect("the field exists");
        let file = builder.build();
        assert_eq!(parse(host, &file[..0x400]).unwrap_err(), ImageError::SectionTable);
        assert_eq!(parse(host, &file).unwrap_err(), ImageError::SectionSize, "it is all zeros");
    }
}

#[test]
fn an_error_of_the_reader_comes_through_whichever_read_it_is() {
    let mut builder = image(Architecture::I386, &[]);
    builder.clr(ntmm_image::build::Clr { major: 2, minor: 5, flags: 1 });
    let file = builder.build();
    let parse_until = |last: u32| {
        let mut reads = 0;
        ImageLayout::parse(file.len() as u64, I386, |offset, buffer| {
            reads += 1;
            if reads > last {
                return Err(reads);
            }
            buffer.copy_from_slice(&file[offset as usize..][..buffer.len()]);
            Ok(())
        })
    };
    // DOS header, signature, file header, optional header, section header, CLR header.
    for reads in 0..6 {
        assert_eq!(parse_until(reads), Err(ParseError::Read(reads + 1)));
    }
    assert!(parse_until(6).is_ok());
}
