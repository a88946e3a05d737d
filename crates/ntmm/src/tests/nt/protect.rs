//! NtProtectVirtualMemory (API 5), and guard pages (API 6).

use ntmm_pte::Va;

use super::{BAD_POINTER, Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{Profile, ProtectParameters, ProtectVirtualMemory};

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const BOTH: u32 = 0x3000;

in_every_mode! {
    fn mistakes_are_noticed_in_order<M>() {
        let program = Program::<M>::legacy();
        let mut wrong = ProtectParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            base: BAD_POINTER,
            size: BAD_POINTER,
            protection: 0x100,
            old: Err(NtStatus::ACCESS_VIOLATION),
        };
        let highest = M::HIGHEST_USER_ADDRESS.get();
        let mut expect = |change: fn(&mut ProtectParameters, u64), code: u32| {
            let call = ProtectVirtualMemory::new(program.caller, wrong);
            let outcome = program.host.run(call).expect("done");
            assert_eq!((outcome.status.code(), outcome.output, outcome.old), (code, None, None));
            change(&mut wrong, highest);
        };
        expect(|call, _| call.protection = 8, 0xC000_0045);
        expect(|call, _| call.base = Ok(u64::MAX), 0xC000_0005);
        expect(|call, _| call.size = Ok(0), 0xC000_0005);
        expect(|call, _| call.old = Ok(()), 0xC000_0005);
        expect(|call, highest| call.base = Ok(highest + 1), 0xC000_00F0);
        expect(|call, highest| call.base = Ok(highest), 0xC000_00F0);
        expect(|call, _| call.size = Ok(2), 0xC000_00F1);
        expect(|call, _| call.size = Ok(u64::MAX), 0xC000_00F1);
        expect(|call, _| call.size = Ok(1), 0xC000_00F1);
        expect(|_, _| (), 0xC000_0008);
        // No allocation before write copy, which comes before commitment.
        assert_eq!(program.protected(0x5000_0000, 1, 8).0, 0xC000_0018);
        let base = program.memory(0x2000, RESERVE, 4);
        assert_eq!(program.protected(base, 0x1000, 8).0, 0xC000_00F2);
        assert_eq!(program.protected(base, 0x1000, 2).0, 0xC000_002D);
        let modern = Program::<M>::modern();
        let base = modern.memory(0x2000, RESERVE, 4);
        assert_eq!(modern.protected(base, 0x1000, 0x80).0, 0xC000_0045);
    }

    fn every_protection_of_private_memory_can_be_had<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1000, BOTH, 1);
        let mut old = 1;
        for protection in 0..=0xFF {
            let (status, was) = program.protected(base, 0x1000, protection);
            match protection {
                1 | 2 | 4 | 0x10 | 0x20 | 0x40 => {
                    assert_eq!((status, was), (SUCCESS, Some(old)), "{protection:#x}");
                    old = protection;
                }
                8 | 0x80 => assert_eq!((status, was), (0xC000_00F2, None)),
                _ => assert_eq!((status, was), (0xC000_0045, None), "{protection:#x}"),
            }
            assert_eq!(program.query(base).protection, old);
            assert_eq!(program.query(base).allocation_protection, 1);
        }
    }

    fn old_protection_is_that_of_the_first_page<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, BOTH, 4);
        assert_eq!(program.protected(base + 0x8000, 0x8000, 2), (SUCCESS, Some(4)));
        assert_eq!(program.protected(base, 0x1_0000, 0x20), (SUCCESS, Some(4)));
        let rounded = program.protect(base + 0xFFF, 2, 4);
        let range = rounded.output.expect("a range");
        assert_eq!((range.base, range.size), (base, 0x2000), "the two pages it touches");
        assert_eq!(program.query(base).size, 0x2000);
    }

    fn failure_stores_no_access_on_newer_systems<M>() {
        for (profile, old) in [(Profile::Legacy, None), (Profile::Modern, Some(1))] {
            let program = Program::<M>::of(profile);
            let base = program.memory(0x4000, RESERVE, 4);
            assert_eq!(program.allocate(base, 0, 0x1000, COMMIT, 4).0, SUCCESS);
            assert_eq!(program.protected(base, 0x2000, 2), (0xC000_002D, old));
            assert_eq!(program.protected(base, 0x5000, 2), (0xC000_0018, old));
            assert_eq!(program.protected(base, 0x1000, 3), (0xC000_0045, None));
            assert_eq!(program.page(base), (COMMIT, 4), "all or nothing");
        }
    }

    fn guards_fire_once_and_can_be_taken_off<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x2000, BOTH, 0x104);
        assert_eq!(program.store(base), 0x8000_0001);
        assert_eq!(program.store(base), SUCCESS);
        assert_eq!(program.page(base), (COMMIT, 4));
        assert_eq!(program.page(base + 0x1000), (COMMIT, 0x104), "only the touched page");
        assert_eq!(program.query(base).allocation_protection, 0x104);
        assert_eq!(program.protected(base + 0x1000, 0x1000, 4), (SUCCESS, Some(0x104)));
        assert_eq!(program.load(base + 0x1000), SUCCESS);
    }

    fn uncached_memory_is_of_pages_or_of_allocations<M>() {
        for (profile, kept, dropped) in [(Profile::Legacy, 4, 0x202), (Profile::Modern, 0x204, 2)] {
            let program = Program::<M>::of(profile);
            let uncached = program.memory(0x2000, COMMIT, 0x204);
            assert_eq!(program.protected(uncached, 0x1000, 4), (SUCCESS, Some(0x204)));
            assert_eq!(program.query(uncached).protection, kept);
            let cached = program.memory(0x2000, COMMIT, 4);
            assert_eq!(program.protected(cached, 0x1000, 0x202), (SUCCESS, Some(4)));
            assert_eq!(program.query(cached).protection, dropped);
            assert_eq!(program.protected(uncached, 0x1000, 1).0, SUCCESS);
            assert_eq!(program.query(uncached).protection, 1);
        }
    }

    fn no_access_keeps_contents<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1000, BOTH, 4);
        program.host.write(program.space, Va::new(base), 0xFF);
        assert_eq!(program.protected(base, 0x1000, 1).0, SUCCESS);
        assert_eq!(program.load(base), 0xC000_0005);
        assert_eq!(program.protected(base, 0x1000, 2).0, SUCCESS);
        assert_eq!(program.host.read(program.space, Va::new(base)), 0xFF);
        program.host.audit_at_rest();
    }
}
