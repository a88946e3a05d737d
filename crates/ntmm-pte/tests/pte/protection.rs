//! The 5-bit mask against the tables of spec 2.11, 2.12 and 4.5.

use ntmm_pte::{Access, AccessKind, InvalidPageProtection, Modifier, Protection};

fn mask(bits: u8) -> Protection {
    Protection::from_bits(bits).unwrap()
}

const BASES: [(u32, u8); 8] =
    [(0x01, 0x18), (0x02, 1), (0x04, 4), (0x08, 5), (0x10, 2), (0x20, 3), (0x40, 6), (0x80, 7)];

/// The rules of spec 2.12 one by one, in another shape than the code's.
fn expected(flags: u32) -> Option<u8> {
    let (low, high) = (flags & 0xF, flags >> 4 & 0xF);
    if flags >= 0x800 || low.count_ones() + high.count_ones() != 1 {
        return None;
    }
    let (guard, no_cache, combine) = (flags & 0x100 != 0, flags & 0x200 != 0, flags & 0x400 != 0);
    let no_access = low == 1;
    if guard && (no_access || no_cache || combine)
        || no_cache && (no_access || combine)
        || combine && no_access
    {
        return None;
    }
    let base = BASES.iter().find(|(flag, _)| *flag == flags & 0xFF).unwrap().1;
    Some(base | u8::from(guard) << 4 | u8::from(no_cache) << 3 | (u8::from(combine) * 0x18))
}

#[test]
fn page_flags_parse_as_the_table_says() {
    let mut accepted = 0;
    for flags in (0..0x2000).chain((11..32).map(|bit| 1 << bit | 0x04)).chain([u32::MAX]) {
        let parsed = Protection::from_page_flags(flags);
        match expected(flags) {
            Some(bits) => {
                accepted += 1;
                assert_eq!(parsed, Ok(mask(bits)), "{flags:#x}");
            }
            None => assert_eq!(parsed, Err(InvalidPageProtection(flags)), "{flags:#x}"),
        }
    }
    // No access alone; seven others plain, guarded, not cached, write combined.
    assert_eq!(accepted, 1 + 7 * 4);
}

#[test]
fn masks_report_page_flags_as_the_reverse_table_says() {
    let base = [0x01, 0x02, 0x10, 0x20, 0x04, 0x08, 0x40, 0x80];
    let modifier = [0, 0x200, 0x100, 0x400];
    for protection in Protection::all() {
        let bits = usize::from(protection.bits());
        let flags = match bits % 8 {
            0 => 0x01,
            access => base[access] | modifier[bits / 8],
        };
        assert_eq!(protection.to_page_flags(), flags, "{bits:#x}");
    }
}

#[test]
fn flags_survive_the_mask() {
    for flags in 0..0x800 {
        if let Ok(protection) = Protection::from_page_flags(flags) {
            assert_eq!(protection.to_page_flags(), flags);
        }
    }
}

#[test]
fn software_check_permits_as_the_table_says() {
    // Read, write, execute for the eight accesses.
    let table = [
        [false, false, false],
        [true, false, false],
        [true, false, true],
        [true, false, true],
        [true, true, false],
        [true, true, false],
        [true, true, true],
        [true, true, true],
    ];
    for protection in Protection::all() {
        let row = table[usize::from(protection.bits() & 7)];
        let permitted = AccessKind::ALL.map(|kind| protection.permits(kind));
        assert_eq!(permitted, row, "{protection:?}");
    }
}

#[test]
fn halves_make_the_whole() {
    for protection in Protection::all() {
        assert_eq!(Protection::new(protection.access(), protection.modifier()), protection);
        assert_eq!(protection.access() as u8, protection.bits() & 7);
        assert_eq!(protection.modifier() as u8, protection.bits() & 0x18);
        assert_eq!(Protection::from_low_bits(u64::from(protection.bits()) | !0x1F), protection);
    }
    assert_eq!(Protection::all().count(), 32);
    assert_eq!(Protection::from_bits(32), None);
    assert_eq!(Protection::new(Access::ReadWrite, Modifier::Guard).bits(), 0x14);
}

#[test]
fn guard_is_the_modifier_on_some_access() {
    for protection in Protection::all() {
        let bits = protection.bits();
        let guard = (0x11..=0x17).contains(&bits);
        assert_eq!(protection.is_guard(), guard, "{bits:#x}");
        let without = if guard { bits & !0x10 } else { bits };
        assert_eq!(protection.without_guard().bits(), without);
        assert_eq!(protection.is_mappable(), bits & 7 != 0 && !guard);
    }
}

#[test]
fn complete_values_mean_what_they_mean_only_whole() {
    for protection in Protection::all() {
        assert_eq!(protection.is_decommitted(), protection.bits() == 0x10);
        assert_eq!(protection.is_no_access(), protection.bits() == 0x18);
    }
    assert_eq!(Protection::DECOMMIT.bits(), 0x10);
    assert_eq!(Protection::NO_ACCESS.bits(), 0x18);
    assert_eq!(Protection::OUTSWAPPED_KERNEL_STACK.bits(), 0x1F);
}

#[test]
fn write_tests_follow_the_note() {
    for protection in Protection::all() {
        let bits = protection.bits();
        assert_eq!(protection.is_write_copy(), bits & 5 == 5);
        assert_eq!(protection.is_writable(), bits & 4 != 0);
        assert_eq!(protection.is_executable(), [2, 3, 6, 7].contains(&(bits & 7)));
        let copied = match bits & 7 {
            5 => bits - 1,
            7 => bits - 1,
            _ => bits,
        };
        assert_eq!(protection.without_write_copy().bits(), copied);
    }
}
