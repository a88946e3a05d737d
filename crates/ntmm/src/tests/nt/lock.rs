//! NtLockVirtualMemory and NtUnlockVirtualMemory (API 8; spec 6.12).

use super::{BAD_POINTER, Program, SUCCESS, answer};
use crate::nt::{LockParameters, LockVirtualMemory, Privileges};
use crate::working_set::limits::EmptyWorkingSet;
use crate::{NtStatus, Step};
use ntmm_pte::Va;

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const BOTH: u32 = 0x3000;

const PROCESS: u32 = 1;
const SYSTEM: u32 = 2;

in_every_mode! {
    fn mistakes_are_noticed_in_order<M>() {
        let program = Program::<M>::legacy();
        let highest = M::HIGHEST_USER_ADDRESS.get();
        let mut wrong = LockParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            base: BAD_POINTER,
            size: BAD_POINTER,
            kind: 4,
        };
        let mut expect = |change: fn(&mut LockParameters, u64), code: u32| {
            let call = LockVirtualMemory::new(program.caller, wrong);
            assert_eq!(answer(program.host.run(call).expect("done")), (code, None));
            change(&mut wrong, highest);
        };
        expect(|call, _| call.kind = 0, 0xC000_000D);
        expect(|call, _| call.kind = SYSTEM, 0xC000_000D);
        expect(|call, highest| call.base = Ok(highest + 1), 0xC000_0005);
        expect(|call, _| call.size = Ok(0), 0xC000_0005);
        expect(|call, highest| call.base = Ok(highest), 0xC000_000D);
        expect(|call, _| call.size = Ok(2), 0xC000_000D);
        expect(|call, _| call.size = Ok(1), 0xC000_000D);
        expect(|_, _| (), 0xC000_0008);
        assert_eq!(program.lock(highest, 1, SYSTEM).0, 0xC000_0061);
        assert_eq!(program.lock(highest, 1, PROCESS).0, 0xC000_0005);
    }

    fn locked_pages_stay_until_they_are_unlocked<M>() {
        let mut program = Program::<M>::legacy();
        program.caller.privileges = Privileges::LOCK_MEMORY;
        let base = program.memory(0x4000, BOTH, 4);
        assert_eq!(program.lock(base + 1, 0x1000, PROCESS), (SUCCESS, Some((base, 0x2000))));
        assert_eq!(program.lock(base, 0x3000, PROCESS), (0x4000_0019, Some((base, 0x3000))));
        assert_eq!(program.lock(base, 0x1000, SYSTEM).0, SUCCESS, "another way to lock");
        program.host.audit_at_rest();
        program.host.run(EmptyWorkingSet::new(program.space)).expect("emptied");
        for page in 0..3 {
            let va = Va::new(base + page * 0x1000);
            assert!(M::is_valid(program.host.word(program.space, va)), "page {page}");
        }
        assert_eq!(program.unlock(base, 0x4000, PROCESS), (0xC000_002A, None));
        assert_eq!(program.unlock(base, 0x3000, PROCESS), (SUCCESS, Some((base, 0x3000))));
        assert_eq!(program.unlock(base, 0x1000, PROCESS).0, 0xC000_002A);
        program.host.run(EmptyWorkingSet::new(program.space)).expect("emptied");
        let valid = |page: u64| {
            M::is_valid(program.host.word(program.space, Va::new(base + page * 0x1000)))
        };
        assert!(valid(0) && !valid(1) && !valid(2), "page 0 is still locked in memory");
        assert_eq!(program.unlock(base, 0x1000, SYSTEM).0, SUCCESS);
        program.host.audit_at_rest();
    }

    fn every_page_is_touched_as_its_program_would<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x4000, RESERVE, 4);
        assert_eq!(program.allocate(base, 0, 0x2000, COMMIT, 4).0, SUCCESS);
        assert_eq!(program.lock(base, 0x3000, PROCESS), (0xC000_0005, None), "not committed");
        assert_eq!(program.unlock(base, 0x1000, PROCESS).0, 0xC000_002A, "nothing is locked");
        assert_eq!(program.protected(base + 0x1000, 0x1000, 0x104).0, SUCCESS);
        assert_eq!(program.lock(base, 0x2000, PROCESS), (0x8000_0001, None));
        assert_eq!(program.lock(base, 0x2000, PROCESS).0, SUCCESS, "the guard is gone");
        assert_eq!(program.protected(base, 0x1000, 1).0, SUCCESS);
        assert_eq!(program.lock(base, 0x1000, PROCESS).0, 0xC000_0005);
        program.host.audit_at_rest();
    }

    fn pages_in_the_paging_file_come_back_to_be_locked<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1000, BOTH, 4);
        program.host.write(program.space, Va::new(base), 7);
        program.host.page_out(program.space, Va::new(base));
        assert_eq!(program.lock(base, 0x1000, PROCESS).0, SUCCESS);
        assert_eq!(program.host.read(program.space, Va::new(base)), 7);
        assert_eq!(program.free(base, 0, 0x8000).0, SUCCESS, "freeing unlocks");
        program.host.audit_at_rest();
    }

    fn lock_that_is_given_up_leaves_nothing_behind<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x2000, BOTH, 4);
        program.host.write(program.space, Va::new(base + 0x1000), 7);
        program.host.page_out(program.space, Va::new(base + 0x1000));
        let process = program.process();
        let parameters =
            LockParameters { process, base: Ok(base), size: Ok(0x2000), kind: PROCESS };
        let mut call = LockVirtualMemory::new(program.caller, parameters);
        assert!(matches!(program.host.step(&mut call), Step::Wait(_)), "for the paging file");
        program.host.abandon(call);
        program.host.settle();
        program.host.audit_at_rest();
        assert_eq!(program.unlock(base, 0x1000, PROCESS).0, 0xC000_002A);
        assert_eq!(program.lock(base, 0x2000, PROCESS).0, SUCCESS, "nobody owns the space");
    }

    fn not_more_can_be_locked_than_the_minimum_allows<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x10_0000, BOTH, 4);
        assert_eq!(program.lock(base, 0x10_0000, PROCESS), (0xC000_00A1, None));
        assert_eq!(program.lock(base, 50 * 0x1000, PROCESS), (0xC000_00A1, None));
        let mut pages = 0;
        while program.lock(base + pages * 0x1000, 0x1000, PROCESS).0 == SUCCESS {
            pages += 1;
        }
        assert!((20..42).contains(&pages), "{pages} of a minimum of 50");
        assert_eq!(program.lock(base, 0x1000, PROCESS).0, 0x4000_0019, "locked already");
        assert_eq!(program.unlock(base, pages * 0x1000, PROCESS).0, SUCCESS);
        assert_eq!(program.unlock(base, 0x4000_0000, PROCESS).0, 0xC000_002A);
        program.host.audit_at_rest();
    }
}
