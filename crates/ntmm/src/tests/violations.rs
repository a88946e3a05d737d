//! Accesses that are refused, and guard pages (spec 4.5, 2.15).

use ntmm_pte::{Access, AccessKind, Modifier, Protection, PteState, Va};

use super::host::{Host, page_at};
use crate::virtual_memory::FreeType;
use crate::{FaultKind, NtStatus};

const VIOLATION: Result<FaultKind, NtStatus> = Err(NtStatus::ACCESS_VIOLATION);
const GUARD_HIT: Result<FaultKind, NtStatus> = Err(NtStatus::GUARD_PAGE_VIOLATION);

fn guarded(access: Access) -> Protection {
    Protection::new(access, Modifier::Guard)
}

in_every_mode! {
    fn address_of_no_allocation_is_a_violation_and_makes_no_table<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        let size = host.size(space);
        for access in AccessKind::ALL {
            let beside = page_at(va, 1);
            for address in [Va::new(0), Va::new(0xFFFF), beside, M::HIGHEST_USER_ADDRESS] {
                assert_eq!(host.fault(space, address, access), VIOLATION, "{address:?}");
            }
        }
        assert_eq!(host.size(space), size);
        host.audit_at_rest();
    }

    fn system_addresses_are_no_programs<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let last = Va::new(u64::MAX);
        for address in [M::PTE_BASE, M::WORKING_SET_LIST, M::KERNEL_SHARED_DATA, last] {
            assert_eq!(host.fault(space, address, AccessKind::Read), VIOLATION, "{address:?}");
        }
    }

    fn reserved_and_decommitted_pages_are_violations<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let reserved = Va::new(0x10_0000);
        host.reserve_at(space, reserved, 4);
        assert_eq!(host.fault(space, reserved, AccessKind::Read), VIOLATION);
        host.commit(space, page_at(reserved, 1), 1, Protection::READWRITE).expect("committed");
        assert_eq!(host.fault(space, reserved, AccessKind::Read), VIOLATION, "beside it");
        host.write(space, page_at(reserved, 1), 7);
        host.free(space, page_at(reserved, 1), 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(host.fault(space, page_at(reserved, 1), AccessKind::Read), VIOLATION);
        let committed = host.allocate(space, 2);
        host.free(space, committed, 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(host.fault(space, committed, AccessKind::Read), VIOLATION);
        assert!(host.fault(space, page_at(committed, 1), AccessKind::Read).is_ok());
        host.audit_at_rest();
    }

    fn no_access_refuses_everything_whatever_the_entry_holds<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let none = host.allocate_with(space, 1, Protection::NO_ACCESS);
        for access in AccessKind::ALL {
            assert_eq!(host.fault(space, none, access), VIOLATION);
        }
        let va = host.allocate(space, 2);
        host.write(space, va, 7);
        host.write(space, page_at(va, 1), 8);
        host.page_out(space, page_at(va, 1));
        host.protect(space, va, 2, Protection::NO_ACCESS).expect("protected");
        for access in AccessKind::ALL {
            assert_eq!(host.fault(space, va, access), VIOLATION, "in transition");
            assert_eq!(host.fault(space, page_at(va, 1), access), VIOLATION, "in the file");
        }
        host.audit_at_rest();
    }

    fn write_to_read_only_memory_is_a_violation_before_and_after_it_is_valid<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate_with(space, 1, Protection::READONLY);
        assert_eq!(host.fault(space, va, AccessKind::Write), VIOLATION);
        assert_eq!(host.read(space, va), 0);
        assert_eq!(host.fault(space, va, AccessKind::Write), VIOLATION);
        host.trim(space, va);
        assert_eq!(host.fault(space, va, AccessKind::Write), VIOLATION);
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::Transition));
    }

    fn execution_of_data_is_refused_where_the_hardware_can_tell<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let outcome = host.fault(space, va, AccessKind::Execute);
        if M::HAS_NO_EXECUTE {
            assert_eq!(outcome, VIOLATION);
        } else {
            assert_eq!(outcome, Ok(FaultKind::Spurious));
            assert!(host.walk(space, va, AccessKind::Execute).is_some());
        }
    }

    fn execution_of_data_that_is_not_valid_is_refused_where_the_hardware_can_tell<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        let outcome = host.fault(space, va, AccessKind::Execute);
        let expected = if M::HAS_NO_EXECUTE { VIOLATION } else { Ok(FaultKind::DemandZero) };
        assert_eq!(outcome, expected);
    }

    fn guard_page_fires_once_whatever_the_entry_holds<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        // A zero word, a demand-zero word, a transition word, a page-file word.
        let zero = host.allocate_with(space, 1, guarded(Access::ReadWrite));
        let va = host.allocate(space, 3);
        host.write(space, page_at(va, 1), 8);
        host.write(space, page_at(va, 2), 9);
        host.page_out(space, page_at(va, 2));
        host.protect(space, va, 3, guarded(Access::ReadWrite)).expect("protected");
        assert!(matches!(host.state(space, va), PteState::DemandZero { .. }));
        assert!(matches!(host.state(space, page_at(va, 1)), PteState::Transition(_)));
        assert!(matches!(host.state(space, page_at(va, 2)), PteState::PageFile { .. }));
        let cases = [
            (zero, FaultKind::DemandZero, 0),
            (va, FaultKind::DemandZero, 0),
            (page_at(va, 1), FaultKind::Transition, 8),
            (page_at(va, 2), FaultKind::PageFile, 9),
        ];
        for (page, kind, contents) in cases {
            assert_eq!(host.fault(space, page, AccessKind::Write), GUARD_HIT, "{kind:?}");
            assert!(!M::is_valid(host.word(space, page)), "the page stays invalid");
            let protection = M::software_protection(host.word(space, page));
            assert_eq!(protection, Protection::READWRITE);
            host.audit_at_rest();
            assert_eq!(host.fault(space, page, AccessKind::Write), Ok(kind));
            assert_eq!(host.read(space, page), contents);
        }
        assert_eq!(host.manager.counters().guard_pages.get(), 4);
        host.audit_at_rest();
    }

    fn refused_access_leaves_the_guard<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate_with(space, 1, guarded(Access::ReadOnly));
        assert_eq!(host.fault(space, va, AccessKind::Write), VIOLATION);
        assert_eq!(host.fault(space, va, AccessKind::Read), GUARD_HIT);
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::DemandZero));
        assert_eq!(host.fault(space, va, AccessKind::Write), VIOLATION);
    }

    fn guard_of_a_page_that_was_trimmed_survives_repurposing<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.protect(space, va, 1, guarded(Access::ReadWrite)).expect("protected");
        host.write_modified();
        let frames = host.hoard(0);
        host.give_back(&frames);
        assert!(matches!(host.state(space, va), PteState::PageFile { .. }));
        assert_eq!(host.fault(space, va, AccessKind::Read), GUARD_HIT);
        assert_eq!(host.read(space, va), 7);
        host.audit_at_rest();
    }
}
