//! Relocation is injective, keeps page offsets and distances inside a region, and agrees with its cached form.

use std::collections::HashSet;

use ntmm_trace::{
    AccessKind, AddressWindow, CompactWriter, Program, Reference, Region, Regions, Relocation,
    WindowPages,
};
use proptest::prelude::*;

/// Regions of a trace that touches just these pages.
fn regions_of(pages: &[u64]) -> Regions {
    let mut writer = CompactWriter::new(WindowPages::DEFAULT);
    for &page in pages {
        let reference = Reference { va: page * 4096, size: 1, count: 1, kind: AccessKind::Store };
        writer.push(&reference).unwrap();
    }
    writer.finish(Program::default()).unwrap().0.regions
}

fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        0x400..0x800u64,
        0x4_0000..0x4_0800u64,
        0x1_ffef_0000..0x1_ffef_0300u64,
        0x7_f000_0000..0x7_f000_0900u64,
        0..0xf_ffff_ffffu64,
    ]
}

proptest! {
    #[test]
    fn the_rule_holds(pages in prop::collection::vec(page(), 1..80), offsets in prop::collection::vec(0..4096u64, 8)) {
        let regions = regions_of(&pages);
        for window in [AddressWindow::AMD64, AddressWindow::X86] {
            let relocation = Relocation::new(&regions, window).unwrap();
            let mut relocator = relocation.relocator();
            let mut seen = HashSet::new();
            for region in regions.as_slice() {
                for page in region.first_page..region.end_page() {
                    for &offset in &offsets {
                        let va = page * 4096 + offset;
                        let moved = relocation.map(va).unwrap();
                        prop_assert_eq!(relocator.map(va), Some(moved));
                        prop_assert_eq!(relocation.origin(moved), Some(va));
                        prop_assert!((window.low..window.high).contains(&moved));
                        prop_assert_eq!(moved % 0x1_0000, va % 0x1_0000);
                        prop_assert_eq!(moved - relocation.map(region.start()).unwrap(), va - region.start());
                    }
                    prop_assert!(seen.insert(relocation.map(page * 4096).unwrap()));
                }
            }
            let moved: Vec<Region> = relocation.regions().collect();
            for pair in moved.windows(2) {
                prop_assert!(pair[0].end().next_multiple_of(0x1_0000) <= pair[1].start() / 0x1_0000 * 0x1_0000);
            }
        }
    }

    #[test]
    fn addresses_outside_every_region_map_to_none(pages in prop::collection::vec(page(), 1..40), probe in page()) {
        let regions = regions_of(&pages);
        let relocation = Relocation::new(&regions, AddressWindow::X86).unwrap();
        let inside = regions.find(probe).is_some();
        prop_assert_eq!(relocation.map(probe * 4096).is_some(), inside);
        prop_assert_eq!(relocation.relocator().map(probe * 4096).is_some(), inside);
    }
}

#[test]
fn regions_inside_the_window_stay() {
    let relocation = Relocation::new(&regions_of(&[0x400, 0x5000]), AddressWindow::X86).unwrap();
    assert!(!relocation.moves_anything());
    assert_eq!(relocation.map(0x40_0123), Some(0x40_0123));
}

#[test]
fn one_region_outside_moves_all_to_the_bottom() {
    let regions = regions_of(&[0x403, 0x404, 0x7_f000_0005]);
    let relocation = Relocation::new(&regions, AddressWindow::X86).unwrap();
    let starts: Vec<_> = relocation.regions().map(|region| region.start()).collect();
    // The first region takes block 1 from its offset 0x3000; block 2 is the gap; the next begins in block 3.
    assert_eq!(starts, [0x1_3000, 0x3_5000]);
}

#[test]
fn what_does_not_fit_is_said() {
    let window = AddressWindow { low: 0x1_0000, high: 0x3_0000 };
    let error = Relocation::new(&regions_of(&[0x400, 0x800]), window).unwrap_err();
    assert_eq!((error.needed, error.available), (0x2_1000, 0x2_0000));
}
