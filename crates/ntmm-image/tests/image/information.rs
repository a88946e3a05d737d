//! What a query of an image section reports (spec API 12).

use ntmm_image::build::{Architecture, Clr, PeBuilder, Section};
use ntmm_image::{Format, Host, HostMachine, ImageFlags, ImageInformation, Profile, Version};

use crate::{AMD64, HOSTS, I386, image, native, parse};

/// An old 64-bit system.
const OLD_AMD64: Host = Host { machine: HostMachine::Amd64, profile: Profile::Legacy };

fn information(host: Host, builder: &PeBuilder) -> ImageInformation {
    *parse(host, &builder.build()).expect("the image is sound").information()
}

#[test]
fn fields_come_from_the_headers() {
    for host in HOSTS {
        let fields = [
            ("AddressOfEntryPoint", 0x1234),
            ("MinorSubsystemVersion", 20),
            ("MajorOperatingSystemVersion", 6),
            ("MinorOperatingSystemVersion", 3),
            ("SizeOfStackReserve", 0x20_0000),
            ("SizeOfStackCommit", 0x3000),
            ("CheckSum", 0xDEAD_BEEF),
            ("LoaderFlags", 77),
        ];
        let builder = image(native(host), &fields);
        let file = builder.build();
        let layout = parse(host, &file).expect("the image is sound");
        let (format, machine, characteristics) = match native(host) {
            Architecture::I386 => (Format::Pe32, 0x14C, 0x2102),
            Architecture::Amd64 => (Format::Pe32Plus, 0x8664, 0x2022),
        };
        assert_eq!(layout.format(), format);
        let expected = ImageInformation {
            transfer_address: 0x1000_1234,
            maximum_stack_size: 0x20_0000,
            committed_stack_size: 0x3000,
            subsystem: 3,
            subsystem_version: Version { major: 4, minor: 20 },
            operating_system_version: Version { major: 6, minor: 3 },
            image_characteristics: characteristics,
            dll_characteristics: 0x140,
            machine,
            contains_code: true,
            flags: ImageFlags::DYNAMICALLY_RELOCATED,
            loader_flags: 0,
            image_file_size: file.len() as u32,
            check_sum: 0xDEAD_BEEF,
        };
        assert_eq!(*layout.information(), expected, "on {host:?}");
    }
}

#[test]
fn wide_fields_of_wide_images() {
    let fields = [
        ("ImageBase", 0xFFFF_F800_1234_0000),
        ("SizeOfStackReserve", 0x12_3456_7890),
        ("SizeOfStackCommit", 0x9_8765_4321),
        ("AddressOfEntryPoint", 0xFFFF_FFFF),
    ];
    let information = information(AMD64, &image(Architecture::Amd64, &fields));
    assert_eq!(information.transfer_address, 0xFFFF_F801_1233_FFFF);
    assert_eq!(information.maximum_stack_size, 0x12_3456_7890);
    assert_eq!(information.committed_stack_size, 0x9_8765_4321);
}

#[test]
fn what_counts_as_code() {
    let code = |host, fields: &[(&str, u64)]| {
        information(host, &image(native(host), fields)).contains_code
    };
    let executable = ("section[0].Characteristics", 0x2000_0000);
    let flat = [("SectionAlignment", 0x200), ("FileAlignment", 0x200)];
    for host in HOSTS {
        assert!(!code(host, &[]));
        assert!(code(host, &[("SizeOfCode", 1)]));
        assert!(code(host, &[("AddressOfEntryPoint", 1)]));
        let modern = host.profile == Profile::Modern;
        assert_eq!(code(host, &[executable]), modern);
        assert_eq!(code(host, &flat), modern);
        assert!(
            !code(host, &[("section[0].Characteristics", 0x20)]),
            "a name for it is not enough"
        );
    }
}

#[test]
fn who_may_be_put_elsewhere() {
    for host in HOSTS {
        let flags = |fields: &[(&str, u64)]| information(host, &image(native(host), fields)).flags;
        let code = ("SizeOfCode", 0x1000);
        assert_eq!(flags(&[code]), ImageFlags::DYNAMICALLY_RELOCATED);
        assert_eq!(flags(&[]), ImageFlags::empty());
        assert_eq!(flags(&[code, ("DllCharacteristics", 0x100)]), ImageFlags::empty());
        let flat = [code, ("SectionAlignment", 0x200), ("FileAlignment", 0x200)];
        assert_eq!(flags(&flat), ImageFlags::MAPPED_FLAT);
        let clr = [code, ("dir[14].VirtualAddress", 1), ("dir[14].Size", 1)];
        assert_eq!(flags(&clr), ImageFlags::empty());
    }
}

#[test]
fn clr_headers() {
    const IL_ONLY: u32 = 1;
    const REQUIRED_32: u32 = 2;
    const PREFERRED_32: u32 = 0x2_0000;
    let flags = |host, architecture, (major, minor), flags| {
        let mut builder = PeBuilder::new(architecture);
        builder.clr(Clr { major, minor, flags });
        let information = information(host, &builder);
        assert_eq!(information.loader_flags, 1);
        information.flags
    };
    let only = ImageFlags::COM_PLUS_IL_ONLY;
    let ready = only | ImageFlags::COM_PLUS_NATIVE_READY;
    let prefers = ImageFlags::COM_PLUS_PREFER_32BIT;
    for host in [I386, OLD_AMD64, AMD64] {
        let pe32 = |version, bits| flags(host, Architecture::I386, version, bits);
        for version in [(0, 0), (1, 9), (2, 0), (2, 4)] {
            assert_eq!(pe32(version, IL_ONLY), ImageFlags::empty());
        }
        for version in [(2, 5), (3, 0)] {
            assert_eq!(pe32(version, IL_ONLY), ready);
            assert_eq!(pe32(version, 0), ImageFlags::empty());
            assert_eq!(pe32(version, REQUIRED_32 | PREFERRED_32), ImageFlags::empty());
            assert_eq!(pe32(version, IL_ONLY | REQUIRED_32), only);
        }
    }
    let all = IL_ONLY | REQUIRED_32 | PREFERRED_32;
    assert_eq!(flags(AMD64, Architecture::I386, (2, 5), all), only | prefers);
    assert_eq!(flags(OLD_AMD64, Architecture::I386, (2, 5), all), only);
    for bits in [IL_ONLY, all] {
        assert_eq!(flags(AMD64, Architecture::Amd64, (2, 5), bits), only);
    }
}

#[test]
fn clr_directories_that_lead_nowhere() {
    let rows = [
        (1, 1),
        (1, 72),
        (0x1000, 71),
        (0x1000, 72),
        (0x1FF0, 72),
        (0x7FFF_FFFF, 72),
        (u32::MAX, u32::MAX),
    ];
    for host in HOSTS {
        for (rva, size) in rows {
            let fields = [("dir[14].VirtualAddress", rva.into()), ("dir[14].Size", size.into())];
            let information = information(host, &image(native(host), &fields));
            assert_eq!(information.loader_flags, 1, "{rva:#x} {size:#x}");
            assert_eq!(information.flags, ImageFlags::empty(), "{rva:#x} {size:#x}");
        }
        for fields in [("dir[14].VirtualAddress", 0x1000), ("dir[14].Size", 72)] {
            assert_eq!(information(host, &image(native(host), &[fields])).loader_flags, 0);
        }
    }
}

#[test]
fn directories_that_are_not_there_are_empty() {
    for host in HOSTS {
        let directories = [("dir[5].VirtualAddress", 0x1000), ("dir[5].Size", 0x10)];
        let with = |fields: &[(&str, u64)]| {
            let file = image(native(host), &[directories.as_slice(), fields].concat()).build();
            parse(host, &file).expect("the image is sound").relocations()
        };
        let found = with(&[]).expect("there is a directory");
        assert_eq!((found.rva, found.size), (0x1000, 0x10));
        assert!(with(&[("NumberOfRvaAndSizes", 6)]).is_some());
        assert_eq!(with(&[("NumberOfRvaAndSizes", 5)]), None);
        assert_eq!(with(&[("dir[5].Size", 0)]), None);
        assert_eq!(with(&[("file.Characteristics", 0x3)]), None, "stripped");
        let mut bare = image(native(host), &directories);
        let fixed = if native(host) == Architecture::I386 { 96 } else { 112 };
        bare.set("file.SizeOfOptionalHeader", fixed).expect("the field exists");
        bare.sections(vec![Section::default()]);
        let layout = parse(host, &bare.build());
        assert_eq!(layout.map(|layout| layout.relocations()), Ok(None), "no room for directories");
    }
}
