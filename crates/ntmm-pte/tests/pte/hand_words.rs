//! Words computed by hand from the tables of spec section 2.

use ntmm_pte::{
    Amd64, I386, ListEntry, ListLink, Owner, Pae, PageFileOffset, PagingFileNumber, PagingMode,
    Pfn, Protection, PrototypePointer, PrototypeState, PteFormat, PteState, PteWord, RunShape,
    TransitionPte, UsedEntries, Va, ValidPte, WorkingSetHint,
};

fn both_ways<M: PagingMode>(state: PteState, word: u64) {
    assert_eq!(M::encode(&state), word, "{} {state:?}", M::NAME);
    assert_eq!(M::decode(word), state, "{} {word:#x}", M::NAME);
}

fn prototype_both_ways<M: PagingMode>(state: PrototypeState, word: u64) {
    assert_eq!(M::encode_prototype(&state), word, "{} {state:?}", M::NAME);
    assert_eq!(M::decode_prototype(word), state, "{} {word:#x}", M::NAME);
}

/// Spec 2.2 and 2.16.
fn demand_zero_templates<M: PagingMode>() {
    both_ways::<M>(PteState::DemandZero { protection: Protection::READWRITE }, 0x80);
    both_ways::<M>(PteState::DemandZero { protection: Protection::EXECUTE_READWRITE }, 0xC0);
    both_ways::<M>(PteState::DemandZero { protection: Protection::DECOMMIT }, 0x200);
    both_ways::<M>(PteState::DemandZero { protection: Protection::NO_ACCESS }, 0x300);
    assert_eq!(M::ZERO, 0);
    assert_eq!(M::DEMAND_ZERO, 0x80);
    assert_eq!(M::DEMAND_ZERO_TABLE, 0xC0);
    assert_eq!(M::DECOMMITTED, 0x200);
    assert_eq!(M::NO_ACCESS, 0x300);
    assert_eq!(M::VALID_KERNEL, 0x163);
    assert_eq!(M::VALID_KERNEL_LOCAL, 0x63);
    assert_eq!(M::VALID_USER, 0x67);

    assert!(M::decode(0x200).is_decommitted());
    assert!(!M::decode(0x200).is_no_access());
    assert!(M::decode(0x300).is_no_access());
    assert!(!M::decode(0x300).is_decommitted());
    assert!(!M::decode(0x80).is_decommitted());
    assert!(!M::decode(0).is_decommitted());
}

crate::in_every_mode! {
    templates => demand_zero_templates;
}

#[test]
fn limits_are_the_field_widths() {
    assert_eq!(I386::MAX_PFN.get(), 0x000F_FFFF);
    assert_eq!(Pae::MAX_PFN.get(), 0x03FF_FFFF);
    assert_eq!(Amd64::MAX_PFN.get(), 0x0FFF_FFFF);
    assert_eq!(I386::MAX_PAGE_FILE_OFFSET, 0x000F_FFFF);
    assert_eq!(Pae::MAX_PAGE_FILE_OFFSET, 0xFFFF_FFFF);
    assert_eq!(Amd64::MAX_PAGE_FILE_OFFSET, 0xFFFF_FFFF);
    assert_eq!(I386::MAX_LIST_INDEX, 0x000F_FFFE);
    assert_eq!(Amd64::MAX_LIST_INDEX, 0xFFFF_FFFE);
}

#[test]
fn page_file() {
    let state = |used| PteState::PageFile {
        file: PagingFileNumber::new(5).unwrap(),
        offset: PageFileOffset::new(0x12345).unwrap(),
        protection: Protection::READWRITE,
        used_entries: UsedEntries::new(used).unwrap(),
    };
    both_ways::<I386>(state(0), 0x1234_508A);
    both_ways::<Pae>(state(0), 0x0001_2345_0000_008A);
    both_ways::<Pae>(state(0x1FF), 0x0001_2345_001F_F08A);
    both_ways::<Amd64>(state(0x200), 0x0001_2345_0020_008A);
    // i386 has no room for the count.
    assert_eq!(I386::encode(&state(7)), 0x1234_508A);

    assert_eq!(
        Amd64::page_file_location(0x0001_2345_0020_008A),
        Some((PagingFileNumber::new(5).unwrap(), PageFileOffset::new(0x12345).unwrap()))
    );
    assert_eq!(Amd64::without_page_file(0x0001_2345_0020_008A), 0x80);
    assert_eq!(Amd64::used_entries(0x0001_2345_0020_008A).get(), 0x200);
    let used = UsedEntries::new(3).unwrap();
    assert_eq!(Amd64::with_used_entries(0x0001_2345_0020_008A, used), 0x0001_2345_0000_308A);
    assert_eq!(I386::with_used_entries(0x1234_508A, used), 0x1234_508A);
}

#[test]
fn transition() {
    let state = PteState::Transition(TransitionPte {
        pfn: Pfn::new(0xABCDE),
        protection: Protection::EXECUTE_READ,
        write: true,
        owner: Owner::User,
        ..Default::default()
    });
    both_ways::<I386>(state, 0xABCD_E866);
    both_ways::<Pae>(state, 0xABCD_E866);
    both_ways::<Amd64>(state, 0xABCD_E866);
    let high = |pfn| PteState::Transition(TransitionPte { pfn, ..Default::default() });
    both_ways::<Pae>(high(Pae::MAX_PFN), 0x0000_003F_FFFF_F800);
    both_ways::<Amd64>(high(Amd64::MAX_PFN), 0x0000_00FF_FFFF_F800);
    assert_eq!(Pae::transition(Pfn::new(0x123), Protection::READWRITE), 0x12_3880);
}

#[test]
fn prototype_lookup() {
    for (protection, low) in
        [(Protection::READWRITE, 0x480), (Protection::from_bits(0x14).unwrap(), 0x680)]
    {
        let state = PteState::PrototypeLookup { protection };
        both_ways::<I386>(state, 0xFFFF_F000 | low);
        both_ways::<Pae>(state, 0xFFFF_FFFF_0000_0000 | low);
        both_ways::<Amd64>(state, 0xFFFF_FFFF_0000_0000 | low);
        assert_eq!(I386::prototype_lookup(protection), 0xFFFF_F000 | low);
    }
}

#[test]
fn prototype_pointer() {
    // Offset 0x12345678: low field (0x78 >> 2) at bit 1, high field 0x91A2B at bit 11.
    let pointer = |address, read_only, protection| {
        PteState::PrototypePointer(PrototypePointer { address, read_only, protection })
    };
    let address = I386::prototype_address(Va::new(0xF334_5678)).unwrap();
    both_ways::<I386>(pointer(address, false, Protection::ZERO_ACCESS), 0x48D1_5C3C);
    both_ways::<I386>(pointer(address, true, Protection::ZERO_ACCESS), 0x48D1_5D3C);
    let first = I386::prototype_address(Va::new(0xE100_0000)).unwrap();
    both_ways::<I386>(pointer(first, false, Protection::ZERO_ACCESS), 0x400);

    let address = Pae::prototype_address(Va::new(0xE100_0010)).unwrap();
    both_ways::<Pae>(pointer(address, true, Protection::EXECUTE_READ), 0xE100_0010_0000_1D00);

    let address = Amd64::prototype_address(Va::new(0xFFFF_F8A0_0000_1230)).unwrap();
    both_ways::<Amd64>(pointer(address, false, Protection::READWRITE), 0xF8A0_0000_1230_2400);
}

#[test]
fn prototype_addresses_out_of_reach_are_refused() {
    for address in [0, 0xE0FF_FFFC, 0xE100_0002, 0x1_0000_0000] {
        assert_eq!(I386::prototype_address(Va::new(address)), None, "{address:#x}");
    }
    assert!(I386::prototype_address(Va::new(0xFFFF_FFFC)).is_some());
    for address in [0xFFFF_FFFF, 0xE100_0004, 0x1_0000_0000] {
        assert_eq!(Pae::prototype_address(Va::new(address)), None, "{address:#x}");
    }
    for address in [0x0000_8000_0000_0000, 0xFFFF_FFFF_FFFF_0000, 0xFFFF_F8A0_0000_0004] {
        assert_eq!(Amd64::prototype_address(Va::new(address)), None, "{address:#x}");
    }
}

#[test]
fn subsection() {
    let at = |address, protection| PrototypeState::Subsection { address, protection };
    // Delta 0x1234568 above the base: 0xD at bit 1, 0x2468A at bit 11, WhichPool.
    let above = I386::subsection_address(Va::new(0x8123_4568)).unwrap();
    prototype_both_ways::<I386>(at(above, Protection::READONLY), 0x9234_543A);
    // The same delta below the end of nonpaged pool.
    let below = I386::subsection_address(Va::new(0xFFBE_0000 - 0x0123_4568)).unwrap();
    prototype_both_ways::<I386>(at(below, Protection::READONLY), 0x1234_543A);

    let address = Pae::subsection_address(Va::new(0x8123_4568)).unwrap();
    prototype_both_ways::<Pae>(at(address, Protection::READWRITE), 0x8123_4568_0000_0480);
    let address = Amd64::subsection_address(Va::new(0xFFFF_FA80_1234_5678)).unwrap();
    prototype_both_ways::<Amd64>(at(address, Protection::READWRITE), 0xFA80_1234_5678_0480);
}

#[test]
fn subsection_addresses_out_of_reach_are_refused() {
    for address in [0x7FFF_FFF8, 0x8800_0000, 0xF7BE_0000, 0xFFBE_0008, 0x8000_0004] {
        assert_eq!(I386::subsection_address(Va::new(address)), None, "{address:#x}");
    }
    for address in [0x87FF_FFF8, 0xF7BE_0008, 0xFFBE_0000] {
        assert!(I386::subsection_address(Va::new(address)).is_some(), "{address:#x}");
    }
    assert_eq!(Pae::subsection_address(Va::new(0x1_0000_0000)), None);
    assert_eq!(Amd64::subsection_address(Va::new(0x0000_8000_0000_0000)), None);
}

#[test]
fn free_list() {
    let end = |shape| ListEntry { next: ListLink::End, shape };
    assert_eq!(I386::encode_list(end(RunShape::Several)), 0xFFFF_F000);
    assert_eq!(I386::encode_list(end(RunShape::Single)), 0xFFFF_F002);
    assert_eq!(Pae::encode_list(end(RunShape::Several)), 0xFFFF_FFFF_0000_0000);
    assert_eq!(Amd64::list_end(RunShape::Single), 0xFFFF_FFFF_0000_0002);
    let run = ListEntry { next: ListLink::Index(0x1234), shape: RunShape::Single };
    assert_eq!(I386::encode_list(run), 0x0123_4002);
    assert_eq!(Amd64::encode_list(run), 0x0000_1234_0000_0002);
    assert_eq!(Amd64::decode_list(0x0000_1234_0000_0002), run);
}

/// Each bit of spec 2.10 stands for its own field, and no other.
#[test]
fn valid_bits() {
    let plain = ValidPte::default();
    let cases: [(u32, ValidPte); 12] = [
        (1, ValidPte { writable: true, ..plain }),
        (2, ValidPte { owner: Owner::User, ..plain }),
        (3, ValidPte { write_through: true, ..plain }),
        (4, ValidPte { cache_disable: true, ..plain }),
        (5, ValidPte { accessed: true, ..plain }),
        (6, ValidPte { dirty: true, ..plain }),
        (7, ValidPte { large: true, ..plain }),
        (8, ValidPte { global: true, ..plain }),
        (9, ValidPte { copy_on_write: true, ..plain }),
        (10, ValidPte { prototype: true, ..plain }),
        (11, ValidPte { software_write: true, ..plain }),
        (12, ValidPte { pfn: Pfn::new(1), ..plain }),
    ];
    for (bit, valid) in cases {
        let word = 1 | 1 << bit;
        both_ways::<I386>(PteState::Valid(valid), word);
        both_ways::<Pae>(PteState::Valid(valid), word);
        both_ways::<Amd64>(PteState::Valid(valid), word);
    }
    let no_execute = PteState::Valid(ValidPte { no_execute: true, ..plain });
    both_ways::<Pae>(no_execute, 1 << 63 | 1);
    both_ways::<Amd64>(no_execute, 1 << 63 | 1);
    let hint = |index| {
        let working_set_hint = WorkingSetHint::for_index(index);
        PteState::Valid(ValidPte { working_set_hint, ..plain })
    };
    both_ways::<Amd64>(hint(1), 0x0010_0000_0000_0001);
    both_ways::<Amd64>(hint(0x7FF), 0x7FF0_0000_0000_0001);
    assert_eq!(Amd64::encode(&hint(0x801)), 0x0010_0000_0000_0001);
}
