//! Addresses, numbers and counts keep to their widths.

use ntmm_pte::{ALLOCATION_GRANULARITY, Bytes, Level, PAGE_SIZE, Pa, Pages, Pfn, Slot, Va, Vpn};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_address_is_its_page_and_offset(n in any::<u64>()) {
        let va = Va::new(n);
        prop_assert_eq!(va.page_base().get() + u64::from(va.page_offset()), n);
        prop_assert!(va.page_base().is_page_aligned());
        prop_assert_eq!(va.page_last().page_base(), va.page_base());
        prop_assert_eq!(va.vpn().get(), n << 16 >> 28);
        prop_assert!(va.granule_base() <= va);
        prop_assert!(n - va.granule_base().get() < ALLOCATION_GRANULARITY);
    }

    #[test]
    fn pages_needed_hold_the_bytes(n in any::<u64>()) {
        let bytes = Bytes::new(n);
        let up = bytes.to_pages_rounded_up().get();
        let down = bytes.to_pages_rounded_down().get();
        prop_assert_eq!(down, n / PAGE_SIZE);
        prop_assert_eq!(up, n / PAGE_SIZE + u64::from(n % PAGE_SIZE != 0));
    }

    #[test]
    fn distances_undo_sums(a in any::<u64>(), b in any::<u64>()) {
        let (va, distance) = (Va::new(a), Bytes::new(b));
        match va.checked_add(distance) {
            Some(end) => {
                prop_assert_eq!(end.distance_from(va), Some(distance));
                prop_assert_eq!(end.checked_sub(distance), Some(va));
            }
            None => prop_assert!(a.checked_add(b).is_none()),
        }

        let (vpn, pages) = (Vpn::new(a), Pages::new(b >> 28));
        match vpn.checked_add(pages) {
            Some(end) => {
                prop_assert!(end <= Vpn::MAX);
                prop_assert_eq!(end.distance_from(vpn), Some(pages));
                prop_assert_eq!(end.checked_sub(pages), Some(vpn));
            }
            None => prop_assert!(vpn.get() + pages.get() > Vpn::MAX.get()),
        }
    }

    #[test]
    fn counts_add_and_subtract_within_bounds(a in any::<u64>(), b in any::<u64>()) {
        let (x, y) = (Pages::new(a), Pages::new(b));
        prop_assert_eq!(x.checked_add(y).map(Pages::get), a.checked_add(b));
        prop_assert_eq!(x.checked_sub(y).map(Pages::get), a.checked_sub(b));
        prop_assert_eq!(x.saturating_add(y).get(), a.saturating_add(b));
        prop_assert_eq!(x.saturating_sub(y).get(), a.saturating_sub(b));
    }

    #[test]
    fn a_frame_is_where_its_address_says(n in any::<u32>(), offset in 0u64..PAGE_SIZE) {
        let pa = Pfn::new(n).pa().checked_add(Bytes::new(offset)).unwrap();
        prop_assert_eq!(pa.pfn(), Some(Pfn::new(n)));
        prop_assert_eq!(u64::from(pa.page_offset()), offset);
    }
}

#[test]
fn numbers_refuse_what_they_cannot_hold() {
    assert_eq!(Pa::new(1 << 44).pfn(), None);
    assert_eq!(Pfn::new(u32::MAX).checked_add(Pages::ONE), None);
    assert_eq!(Pfn::new(1).checked_add(Pages::new(2)), Some(Pfn::new(3)));
    assert_eq!(Vpn::MAX.checked_add(Pages::ONE), None);
    assert_eq!(Vpn::new(0).checked_sub(Pages::ONE), None);
    assert_eq!(Vpn::new(1 << 36), Vpn::new(0));
    assert_eq!(Slot::new(1024), None);
    assert_eq!(Slot::new(1023).map(Slot::index), Some(1023));
    assert_eq!(Va::new(0).checked_sub(Bytes::new(1)), None);
    assert_eq!(Va::new(0).distance_from(Va::new(1)), None);
    assert_eq!(Pages::new(u64::MAX).to_bytes(), Bytes::new(u64::MAX));
    assert!(Pages::ZERO.is_zero() && !Pages::ONE.is_zero());
}

#[test]
fn levels_climb_and_descend() {
    for level in Level::ALL {
        assert_eq!(level.up().and_then(Level::down).unwrap_or(Level::Top), level);
        assert_eq!(level.down().and_then(Level::up).unwrap_or(Level::Table), level);
    }
    assert_eq!(Level::ALL.map(Level::number), [1, 2, 3, 4]);
    assert!(Level::Table < Level::Top);
}

#[test]
fn addresses_print_in_hexadecimal() {
    assert_eq!(format!("{}", Va::new(0xC030_0C00)), "0xc0300c00");
    assert_eq!(format!("{:?}", Pfn::new(0x1F)), "Pfn(0x1f)");
    assert_eq!(format!("{:016X}", Va::new(0xABC)), "0000000000000ABC");
}
