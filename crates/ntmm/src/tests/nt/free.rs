//! NtFreeVirtualMemory (API 4.1, 4.2).

use ntmm_pte::Va;

use super::{BAD_POINTER, Program, SUCCESS, answer};
use crate::NtStatus;
use crate::nt::{FreeParameters, FreeVirtualMemory, Profile};

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const DECOMMIT: u32 = 0x4000;
const RELEASE: u32 = 0x8000;

in_every_mode! {
    fn the_type_comes_first_then_pointers_then_range_then_handle<M>() {
        for profile in Profile::ALL {
            let program = Program::<M>::of(profile);
            let free = |base, size, kind| {
                let process = Err(NtStatus::INVALID_HANDLE);
                let parameters = FreeParameters { process, base, size, kind };
                answer(program.host.run(FreeVirtualMemory::new(program.caller, parameters)).expect("done"))
            };
            for kind in [0, 1, 2, 0xC000, 0x1_0000, u32::MAX, !DECOMMIT, !RELEASE, 0x4002, 0x8003] {
                let answer = free(BAD_POINTER, BAD_POINTER, kind);
                assert_eq!(answer, (0xC000_00F2, None), "type {kind:#x}");
            }
            assert_eq!(free(BAD_POINTER, Ok(0), RELEASE).0, 0xC000_0005);
            assert_eq!(free(Ok(0), BAD_POINTER, RELEASE).0, 0xC000_0005);
            let highest = M::HIGHEST_USER_ADDRESS.get();
            assert_eq!(free(Ok(highest + 1), Ok(0), RELEASE).0, 0xC000_00F0);
            assert_eq!(free(Ok(u64::MAX), Ok(u64::MAX), RELEASE).0, 0xC000_00F0);
            assert_eq!(free(Ok(highest), Ok(2), RELEASE).0, 0xC000_00F1);
            assert_eq!(free(Ok(1), Ok(u64::MAX), RELEASE).0, 0xC000_00F1);
            assert_eq!(free(Ok(highest), Ok(1), RELEASE).0, 0xC000_0008);
        }
    }

    fn statuses_tell_where_the_range_lies<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, RESERVE | COMMIT, 4);
        for (at, size, code) in [
            (0, 0, 0xC000_00A0_u32),
            (base + 0x1_0000, 0x1000, 0xC000_00A0),
            (base + 0x1001, 0xFFFF, 0xC000_001A),
            (base + 1, 0x1_0000, 0xC000_001A),
            (base + 0x1000, 0, 0xC000_009F),
            (base + 0x1001, 0, 0xC000_009F),
        ] {
            for kind in [DECOMMIT, RELEASE] {
                assert_eq!(program.free(at, size, kind), (code, None), "{at:#x} {size:#x}");
            }
        }
        assert_eq!(program.query(base).size, 0x1_0000);
        let whole = program.free(base + 0xFFF, 0, RELEASE);
        assert_eq!(whole, (SUCCESS, Some((base, 0x1_0000))), "the page of the base counts");
        program.host.audit_at_rest();
    }

    fn releases_split_allocations<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, RESERVE | COMMIT, 4);
        for page in 0..16 {
            assert_eq!(program.store(base + page * 0x1000), SUCCESS);
        }
        let middle = program.free(base + 0x4001, 0xFFF, RELEASE);
        assert_eq!(middle, (SUCCESS, Some((base + 0x4000, 0x1000))));
        assert_eq!(program.query(base + 0x5000).allocation_base, base + 0x5000);
        assert_eq!(program.free(base, 0x5000, DECOMMIT).0, 0xC000_001A, "into the hole");
        assert_eq!(program.free(base + 0x4000, 0, RELEASE).0, 0xC000_00A0);
        let back = program.free(base + 0x5000, 0, RELEASE);
        assert_eq!(back, (SUCCESS, Some((base + 0x5000, 0xB000))));
        assert_eq!(program.free(base, 0, RELEASE), (SUCCESS, Some((base, 0x4000))));
        program.host.audit_at_rest();
    }

    fn decommitted_pages_are_reserved_and_come_back_zero<M>() {
        for (profile, size) in [(Profile::Legacy, 0x1_0000), (Profile::Modern, 0)] {
            let program = Program::<M>::of(profile);
            let base = program.memory(0x1_0000, RESERVE, 1);
            assert_eq!(program.allocate(base + 0x2000, 0, 0x1000, COMMIT, 4).0, SUCCESS);
            program.host.write(program.space, Va::new(base + 0x2000), 7);
            let mixed = program.free(base, 0x3000, DECOMMIT);
            assert_eq!(mixed, (SUCCESS, Some((base, 0x3000))));
            assert_eq!(program.page(base + 0x2000), (RESERVE, 0));
            assert_eq!(program.query(base + 0x2000).allocation_protection, 1);
            assert_eq!(program.load(base + 0x2000), 0xC000_0005);
            let whole = program.free(base, 0, DECOMMIT);
            assert_eq!(whole, (SUCCESS, Some((base, size))));
            assert_eq!(program.allocate(base, 0, 0x3000, COMMIT, 4).0, SUCCESS);
            assert_eq!(program.host.read(program.space, Va::new(base + 0x2000)), 0);
            program.host.audit_at_rest();
        }
    }

    fn windows_for_physical_pages_go_as_a_whole<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x4000, 0x40_2000, 4);
        assert_eq!(program.free(base, 0, DECOMMIT).0, 0xC000_00A0);
        assert_eq!(program.free(base, 0x1000, RELEASE).0, 0xC000_001A);
        assert_eq!(program.allocate(base, 0, 0x1000, COMMIT, 4).0, 0xC000_0018);
        assert_eq!(program.protected(base, 0x1000, 2).0, 0xC000_0018);
        assert_eq!(program.load(base), 0xC000_0005);
        assert_eq!(program.free(base, 0, RELEASE), (SUCCESS, Some((base, 0x4000))));
        program.host.audit_at_rest();
    }
}
