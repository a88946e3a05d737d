//! Address-space constants against the tables of spec 1.1 to 1.7.

use ntmm_pte::{Amd64, I386, Level, Pae, PagingMode, PteFormat, RegionUse, Va};

#[test]
fn sizes_of_the_table() {
    assert_eq!([I386::ENTRY_BYTES, Pae::ENTRY_BYTES, Amd64::ENTRY_BYTES], [4, 8, 8]);
    assert_eq!([I386::ENTRIES, Pae::ENTRIES, Amd64::ENTRIES], [1024, 512, 512]);
    assert_eq!([I386::LEVELS, Pae::LEVELS, Amd64::LEVELS], [2, 3, 4]);
    assert_eq!([I386::TOP_ENTRIES, Pae::TOP_ENTRIES, Amd64::TOP_ENTRIES], [1024, 4, 512]);
    assert_eq!([I386::TOP, Pae::TOP, Amd64::TOP], [Level::Directory, Level::Parent, Level::Top]);
    assert_eq!([I386::NAME, Pae::NAME, Amd64::NAME], ["i386", "pae", "amd64"]);
    assert_eq!(I386::span(Level::Directory).get(), 4 << 20);
    assert_eq!(Pae::span(Level::Directory).get(), 2 << 20);
    assert_eq!(Amd64::span(Level::Directory).get(), 2 << 20);
    assert_eq!(Amd64::span(Level::Top).get(), 512 << 30);
    assert_eq!(Pae::slots(Level::Parent).count(), 4);
    assert_eq!(Pae::slots(Level::Directory).last().map(|slot| slot.get()), Some(511));
    assert_eq!(I386::slots(Level::Directory).count(), 1024);
}

#[test]
fn addresses_of_the_table() {
    assert_eq!(I386::HYPERSPACE_START, Va::new(0xC040_0000));
    assert_eq!(I386::WORKING_SET_LIST, Va::new(0xC050_2000));
    assert_eq!(Pae::WORKING_SET_LIST, Va::new(0xC090_2000));
    assert_eq!(Amd64::WORKING_SET_LIST, Va::new(0xFFFF_F700_0010_2000));
    // Highest VAD address: 16 pages below the highest user address in every mode.
    assert_eq!(I386::HIGHEST_VAD_ADDRESS, Va::new(0x7FFD_FFFF));
    assert_eq!(Amd64::HIGHEST_VAD_ADDRESS, Va::new(0x0000_07FF_FFFD_FFFF));
}

fn limits_fit_together<M: PagingMode>() {
    assert_eq!(M::HIGHEST_USER_ADDRESS.get() + 1, M::USER_PROBE_ADDRESS.get());
    assert_eq!(M::HIGHEST_USER_ADDRESS.get() - M::HIGHEST_VAD_ADDRESS.get(), 0x1_0000);
    assert!(M::USER_PROBE_ADDRESS < M::SYSTEM_RANGE_START);
    assert!(M::is_user(Va::new(0)) && M::is_user(M::HIGHEST_USER_ADDRESS));
    assert!(!M::is_user(M::USER_PROBE_ADDRESS));

    assert!(M::is_hyperspace(M::HYPERSPACE_START) && M::is_hyperspace(M::WORKING_SET_LIST));
    let end = M::HYPERSPACE_START.checked_add(M::HYPERSPACE_BYTES).unwrap();
    assert!(!M::is_hyperspace(end) && M::is_hyperspace(Va::new(end.get() - 1)));
    assert!(!M::is_hyperspace(Va::new(M::HYPERSPACE_START.get() - 1)));
}

fn regions_are_in_order<M: PagingMode>() {
    for pair in M::LAYOUT.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    for region in M::LAYOUT {
        assert!(region.first.is_page_aligned(), "{region:?}");
        assert_eq!(region.last.page_offset(), 0xFFF, "{region:?}");
        assert!(M::is_canonical(region.first) && M::is_canonical(region.last), "{region:?}");
        assert_eq!(M::region(region.first), Some(region));
        assert_eq!(M::region(region.last), Some(region));
    }
}

fn regions_agree_with_the_constants<M: PagingMode>() {
    let kind = |va| M::region(va).map(|region| region.kind);
    assert_eq!(kind(Va::new(0)), Some(RegionUse::NoAccess));
    assert_eq!(kind(ntmm_pte::mode::LOWEST_USER_ADDRESS), Some(RegionUse::User));
    assert_eq!(kind(M::HIGHEST_VAD_ADDRESS), Some(RegionUse::User));
    assert_eq!(kind(M::USER_PROBE_ADDRESS), Some(RegionUse::NoAccess));
    assert_eq!(kind(M::PTE_BASE), Some(RegionUse::PageTables));
    assert_eq!(kind(M::PTE_TOP), Some(RegionUse::PageTables));
    assert_eq!(kind(M::HYPERSPACE_START), Some(RegionUse::Hyperspace));
    assert_eq!(kind(M::WORKING_SET_LIST), Some(RegionUse::Hyperspace));
    assert_eq!(kind(M::PAGED_POOL_START), Some(RegionUse::PagedPool));
    for region in M::LAYOUT.iter().filter(|region| region.kind == RegionUse::Hyperspace) {
        assert_eq!(region.first, M::HYPERSPACE_START);
        let bytes = region.last.distance_from(region.first).unwrap().get() + 1;
        assert_eq!(bytes, M::HYPERSPACE_BYTES.get());
    }
}

crate::in_every_mode! {
    limits => limits_fit_together;
    order => regions_are_in_order;
    constants => regions_agree_with_the_constants;
}

#[test]
fn system_ranges_of_the_table() {
    let i386 = |va| I386::region(Va::new(va)).map(|region| region.kind);
    assert_eq!(i386(0x9FFF_FFFF), Some(RegionUse::Kseg0));
    assert_eq!(i386(0xC080_0000), None);
    assert_eq!(i386(0xC100_0000), Some(RegionUse::SystemCache));
    assert_eq!(i386(0xEB00_0000), Some(RegionUse::SystemPtes));
    assert_eq!(i386(0xFFBF_F000), Some(RegionUse::Debugger));
    assert_eq!(i386(0xFFDF_F000), Some(RegionUse::Hal));
    let amd64 = |va| Amd64::region(Va::new(va)).map(|region| region.kind);
    assert_eq!(amd64(0xFFFF_F780_0000_0000), Some(RegionUse::KernelSharedData));
    assert_eq!(amd64(0xFFFF_F880_0000_0000), Some(RegionUse::SystemPtes));
    assert_eq!(amd64(0xFFFF_F8C0_0000_0000), None);
    assert_eq!(amd64(0xFFFF_FA80_0000_0000), Some(RegionUse::PfnDatabase));
}
