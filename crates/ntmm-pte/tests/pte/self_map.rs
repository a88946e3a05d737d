//! Self-map arithmetic against the formulas and addresses of spec 1.2.

use ntmm_pte::{Amd64, I386, Level, Pae, PagingMode, Va, Vpn};
use proptest::prelude::*;

/// Any address a mode translates.
fn va<M: PagingMode>() -> impl Strategy<Value = Va> {
    any::<u64>().prop_map(M::canonical)
}

/// What holds of the self-map in every mode.
fn self_map_laws<M: PagingMode>(va: Va) -> Result<(), TestCaseError> {
    prop_assert!(M::is_canonical(va));
    prop_assert_eq!(M::va_of_vpn(va.vpn()), va.page_base());

    for level in Level::ALL.into_iter().take(M::LEVELS) {
        let entry = M::entry_address(va, level);
        let base = M::span_base(va, level);
        prop_assert!(M::is_page_table_address(entry));
        prop_assert!(M::is_canonical(entry));
        prop_assert_eq!(M::va_of_entry(entry, level), base);
        prop_assert_eq!(M::entry_address(base, level), entry);
        prop_assert!(va.get() - base.get() < M::span(level).get());
        prop_assert_eq!(M::table_address(va, level), entry.page_base());
        if !(M::NAME == "pae" && level == Level::Parent) {
            let slot = u64::from(entry.page_offset()) / M::ENTRY_BYTES as u64;
            prop_assert_eq!(u64::from(M::slot(va, level).get()), slot);
        }
    }

    // The entry that names a table is the entry of the address the table is seen at.
    for level in Level::ALL {
        if let Some(up) = level.up() {
            let table = M::entry_address(va, level);
            prop_assert_eq!(M::entry_address(table, Level::Table), M::entry_address(va, up));
        }
    }

    // Slots, high to low, spell the page number.
    let bits = M::ENTRIES.trailing_zeros();
    let spelled = Level::ALL
        .into_iter()
        .take(M::LEVELS)
        .rev()
        .fold(0, |vpn, level| vpn << bits | u64::from(M::slot(va, level).get()));
    prop_assert_eq!(spelled, va.vpn().get());
    Ok(())
}

proptest! {
    #[test]
    fn i386_laws(va in va::<I386>()) {
        self_map_laws::<I386>(va)?;
    }

    #[test]
    fn pae_laws(va in va::<Pae>()) {
        self_map_laws::<Pae>(va)?;
    }

    #[test]
    fn amd64_laws(va in va::<Amd64>()) {
        self_map_laws::<Amd64>(va)?;
    }

    #[test]
    fn i386_formulas(va in va::<I386>()) {
        let n = va.get();
        let pte = (n >> 10 & !3) + 0xC000_0000;
        let pde = (n >> 20 & !3) + 0xC030_0000;
        prop_assert_eq!(I386::entry_address(va, Level::Table).get(), pte);
        prop_assert_eq!(I386::entry_address(va, Level::Directory).get(), pde);
        prop_assert_eq!(I386::va_of_entry(Va::new(pte), Level::Table).get(), pte << 10 & 0xFFFF_FFFF);
        prop_assert_eq!(I386::va_of_entry(Va::new(pde), Level::Directory).get(), pde << 20 & 0xFFFF_FFFF);
    }

    #[test]
    fn pae_formulas(va in va::<Pae>()) {
        let n = va.get();
        let pte = (n >> 12) * 8 + 0xC000_0000;
        let pde = (n >> 21) * 8 + 0xC060_0000;
        prop_assert_eq!(Pae::entry_address(va, Level::Table).get(), pte);
        prop_assert_eq!(Pae::entry_address(va, Level::Directory).get(), pde);
        prop_assert_eq!(Pae::va_of_entry(Va::new(pte), Level::Table).get(), (pte - 0xC000_0000) << 9);
        prop_assert_eq!(Pae::va_of_entry(Va::new(pde), Level::Directory).get(), (pde - 0xC060_0000) << 18);
        // The stand-in for an entry of the four-entry top.
        prop_assert_eq!(
            Pae::entry_address(va, Level::Parent).get(),
            0xC060_0000 + (0x600 + (n >> 30)) * 8
        );
    }

    #[test]
    fn amd64_formulas(va in va::<Amd64>()) {
        let n = va.get();
        let pte = (n >> 9 & 0x7F_FFFF_FFF8) + 0xFFFF_F680_0000_0000;
        let pde = (n >> 18 & 0x3FFF_FFF8) + 0xFFFF_F6FB_4000_0000;
        let ppe = (n >> 27 & 0x1F_FFF8) + 0xFFFF_F6FB_7DA0_0000;
        let pxe = (n >> 36 & 0xFF8) + 0xFFFF_F6FB_7DBE_D000;
        for (level, entry, shift) in [
            (Level::Table, pte, 25),
            (Level::Directory, pde, 34),
            (Level::Parent, ppe, 43),
            (Level::Top, pxe, 52),
        ] {
            prop_assert_eq!(Amd64::entry_address(va, level).get(), entry);
            let back = ((entry << shift) as i64 >> 16) as u64;
            prop_assert_eq!(Amd64::va_of_entry(Va::new(entry), level).get(), back);
        }
    }
}

/// The self-map entry is where it says it is, and is its own entry.
fn self_map_entry<M: PagingMode>() {
    let at = M::SELF_MAP_ADDRESS;
    assert_eq!(M::entry_address(M::PTE_BASE, M::SELF_MAP_LEVEL), at);
    assert_eq!(M::slot(M::PTE_BASE, M::SELF_MAP_LEVEL), M::SELF_MAP_SLOT);
    let last = M::entry_address(M::PTE_TOP, M::SELF_MAP_LEVEL);
    assert_eq!(last.get() - at.get(), ((M::SELF_MAP_ENTRIES - 1) * M::ENTRY_BYTES) as u64);
    assert_eq!(M::entry_address(last, Level::Table), last);

    assert_eq!(M::entry_address(Va::new(0), Level::Table), M::PTE_BASE);
    assert_eq!(M::entry_address(Va::new(0), Level::Directory), M::PDE_BASE);
    let end = M::canonical(u64::MAX);
    assert_eq!(M::entry_address(end, Level::Table).page_last(), M::PTE_TOP);
    assert!(!M::is_page_table_address(Va::new(M::PTE_BASE.get() - 1)));
    assert!(!M::is_page_table_address(Va::new(M::PTE_TOP.get() + 1)));
}

crate::in_every_mode! {
    entry_of_itself => self_map_entry;
}

#[test]
fn self_map_entries_of_the_table() {
    assert_eq!(I386::SELF_MAP_ADDRESS, Va::new(0xC030_0C00));
    assert_eq!(I386::SELF_MAP_SLOT.get(), 0x300);
    assert_eq!(Amd64::SELF_MAP_ADDRESS, Va::new(0xFFFF_F6FB_7DBE_DF68));
    assert_eq!(Amd64::SELF_MAP_SLOT.get(), 0x1ED);
    // Directory entries 0x600 to 0x603 of PAE.
    let first = (Pae::SELF_MAP_ADDRESS.get() - Pae::PDE_BASE.get()) / 8;
    assert_eq!((first, Pae::SELF_MAP_ENTRIES), (0x600, 4));
}

#[test]
fn known_i386_entries() {
    for (va, pte) in [
        (0xC040_0000, 0xC030_1000),
        (0xC04F_F000, 0xC030_13FC),
        (0xC050_1000, 0xC030_1404),
        (0x7FC0_0000, 0xC01F_F000),
        (0xC000_0000, 0xC030_0000),
        (0xC030_0000, 0xC030_0C00),
        (0xFFFF_F000, 0xC03F_FFFC),
    ] {
        assert_eq!(I386::entry_address(Va::new(va), Level::Table), Va::new(pte), "{va:#x}");
        assert_eq!(I386::va_of_entry(Va::new(pte), Level::Table), Va::new(va), "{pte:#x}");
    }
    assert_eq!(I386::entry_address(Va::new(0xC000_0000), Level::Directory), I386::SELF_MAP_ADDRESS);
}

/// Where a large page is mapped the walk through the self-map ends one level early: the
/// table of 0x80000000 is not a table but the large page's first bytes (spec 1.2).
#[test]
fn i386_large_pages_alias_their_tables() {
    for n in 0..0x80 {
        let large = Va::new(0x8000_0000 + n * 0x40_0000);
        let alias = Va::new(0xC020_0000 + n * 0x1000);
        assert_eq!(I386::table_address(large, Level::Table), alias);
        assert_eq!(I386::slot(alias, Level::Directory), I386::SELF_MAP_SLOT);
        assert_eq!(I386::slot(alias, Level::Table), I386::slot(large, Level::Directory));
        assert_eq!(
            I386::entry_address(alias, Level::Table),
            I386::entry_address(large, Level::Directory)
        );
    }
    assert_eq!(I386::table_address(Va::new(0x9FC0_0000), Level::Table), Va::new(0xC027_F000));
}

#[test]
fn page_numbers_lose_and_regain_their_sign() {
    let kernel = Va::new(0xFFFF_F680_0000_5123);
    assert_eq!(kernel.vpn(), Vpn::new(0xF_6800_0005));
    assert_eq!(Amd64::va_of_vpn(kernel.vpn()), Va::new(0xFFFF_F680_0000_5000));
    assert_eq!(Pae::va_of_vpn(Vpn::new(0xF_FFFF)), Va::new(0xFFFF_F000));
}

#[test]
fn canonical_addresses() {
    assert!(Amd64::is_canonical(Va::new(0x0000_7FFF_FFFF_FFFF)));
    assert!(!Amd64::is_canonical(Va::new(0x0000_8000_0000_0000)));
    assert!(!Amd64::is_canonical(Va::new(0xFFFF_7FFF_FFFF_FFFF)));
    assert!(Amd64::is_canonical(Va::new(0xFFFF_8000_0000_0000)));
    assert!(I386::is_canonical(Va::new(0xFFFF_FFFF)));
    assert!(!I386::is_canonical(Va::new(0x1_0000_0000)));
    assert!(!Pae::is_canonical(Va::new(0xFFFF_FFFF_C000_0000)));
}
