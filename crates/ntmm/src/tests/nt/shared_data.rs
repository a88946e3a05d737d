//! The page of shared data, which no process allocates (nt-api 7.2, nt-internals 1.1, 12.4).

use ntmm_pte::{AccessKind, PagingMode, Va};

use super::{Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{AddressRequirements, Information, Privileges, Profile, RegionInformation};

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const DECOMMIT: u32 = 0x4000;
const RELEASE: u32 = 0x8000;
const RESET: u32 = 0x8_0000;
const TOP_DOWN: u32 = 0x10_0000;
const LARGE: u32 = 0x2000_0000;
const FREE: u32 = 0x1_0000;

const PAGE: u64 = 0x7FFE_0000;

/// Whether allocations may lie on both sides of the page.
fn is_wide<M: PagingMode>() -> bool {
    M::ADDRESS_BITS != 32
}

in_every_mode! {
    fn nothing_is_allocated_over_the_page<M>() {
        for profile in Profile::ALL {
            let program = Program::<M>::of(profile);
            let (on, over) =
                if is_wide::<M>() { (0xC000_0018, 0xC000_0018) } else { (0xC000_00F0, 0xC000_00F2) };
            for kind in [RESERVE, RESERVE | COMMIT, COMMIT, RESET] {
                assert_eq!(program.allocate(PAGE, 0, 0x1000, kind, 4), (on, None), "{kind:#x}");
            }
            assert_eq!(program.allocate(PAGE + 0x1000, 0, 0x1000, RESERVE, 4), (on, None));
            assert_eq!(program.allocate(PAGE - 0x1_0000, 0, 0x1_0001, RESERVE, 4), (over, None));
            let below = program.allocate(PAGE - 0x1_0000, 0, 0x1_0000, RESERVE, 4);
            assert_eq!(below, (SUCCESS, Some((PAGE - 0x1_0000, 0x1_0000))));
            let above = program.allocate(PAGE + 0x1_0000, 0, 0x1_0000, RESERVE, 4);
            let expected = (SUCCESS, Some((PAGE + 0x1_0000, 0x1_0000)));
            assert_eq!(above, if is_wide::<M>() { expected } else { (on, None) });
            program.host.audit_at_rest();
        }
    }

    fn no_large_page_covers_the_page<M>() {
        let mut program = Program::<M>::legacy();
        program.caller.privileges = Privileges::LOCK_MEMORY;
        let size = M::LARGE_PAGE.to_bytes().get();
        let over = if is_wide::<M>() { 0xC000_0018 } else { 0xC000_00F2 };
        let kind = RESERVE | COMMIT | LARGE;
        assert_eq!(program.allocate(PAGE / size * size, 0, size, kind, 4), (over, None));
        program.host.audit_at_rest();
    }

    fn no_chosen_place_covers_the_page<M>() {
        if !is_wide::<M>() {
            return;
        }
        let around = AddressRequirements {
            lowest: PAGE - 0x1_0000,
            highest: PAGE + 0x1_FFFF,
            ..AddressRequirements::default()
        };
        for (kind, expected) in [
            (RESERVE, [PAGE - 0x1_0000, PAGE + 0x1_0000]),
            (RESERVE | TOP_DOWN, [PAGE + 0x1_0000, PAGE - 0x1_0000]),
        ] {
            let program = Program::<M>::modern();
            let ask = |size| program.allocate_ex(0, size, kind, 4, &[around]);
            assert_eq!(ask(0x1_0001), (0xC000_0017, None), "one side is not enough");
            for base in expected {
                assert_eq!(ask(0x1_0000), (SUCCESS, Some((base, 0x1_0000))));
            }
            assert_eq!(ask(0x1000), (0xC000_0017, None));
            program.host.audit_at_rest();
        }
    }

    fn free_runs_end_at_the_page_and_begin_behind_it<M>() {
        let program = Program::<M>::legacy();
        let below = program.query(PAGE - 0x5000);
        assert_eq!((below.state, below.size), (FREE, 0x5000));
        if is_wide::<M>() {
            let above = program.query(PAGE + 0x1000);
            assert_eq!((above.state, above.base), (FREE, PAGE + 0x1000));
            let end = M::HIGHEST_VAD_ADDRESS.get() + 1;
            assert_eq!(above.size, end - above.base);
        }
    }

    fn the_page_is_an_allocation_where_others_may_lie_behind_it<M>() {
        let program = Program::<M>::modern();
        let length = if is_wide::<M>() { 0x30 } else { 0x20 };
        for (class, kind) in [(3, 0), (7, 1)] {
            let found = program.query_class(PAGE + 0xFFF, class, length);
            if !is_wide::<M>() {
                assert_eq!((found.status.code(), found.information), (0xC000_0141, None));
                continue;
            }
            let expected = RegionInformation {
                allocation_base: PAGE,
                allocation_protection: 2,
                kind,
                size: 0x1000,
                committed: 0x1000,
            };
            assert_eq!(found.information, Some(Information::Region(expected)));
        }
    }

    fn the_page_is_not_the_programs_to_change<M>() {
        let program = Program::<M>::legacy();
        for kind in [DECOMMIT, RELEASE] {
            assert_eq!(program.free(PAGE, 0, kind), (0xC000_00A0, None));
            assert_eq!(program.free(PAGE, 0x1000, kind), (0xC000_00A0, None));
        }
        assert_eq!(program.protected(PAGE, 0x1000, 4).0, 0xC000_0018);
        let shared = program.query(PAGE);
        assert_eq!((shared.state, shared.protection), (COMMIT, 2));
        let store = program.host.fault(program.space, Va::new(PAGE), AccessKind::Write);
        assert_eq!(store, Err(NtStatus::ACCESS_VIOLATION));
        program.host.audit_at_rest();
    }
}
