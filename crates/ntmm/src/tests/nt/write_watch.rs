//! NtGetWriteWatch and NtResetWriteWatch (API 17).

use ntmm_pte::Va;
use std::vec::Vec;

use super::{Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{GetWriteWatchCall, WriteWatchParameters};
use crate::virtual_memory::WriteMemory;

const WATCHED: u32 = 0x20_3000;
const RESET: u32 = 1;

in_every_mode! {
    fn stores_are_reported_in_order_and_loads_are_not<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64), (SUCCESS, [].into()));
        for page in [4, 2] {
            assert_eq!(program.store(base + page * 0x1000 + 8), SUCCESS);
        }
        assert_eq!(program.load(base + 0x1000), SUCCESS);
        let written = [base + 0x2000, base + 0x4000];
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64), (SUCCESS, written.into()));
        assert_eq!(program.write_watch(0, base + 0x3000, 0x2000, 64).1, [base + 0x4000]);
        assert_eq!(program.reset_write_watch(base, 0x3000), SUCCESS);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [base + 0x4000]);
        program.host.audit_at_rest();
    }

    fn reset_takes_back_only_what_is_returned<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        for page in [1, 2, 4] {
            assert_eq!(program.store(base + page * 0x1000), SUCCESS);
        }
        assert_eq!(program.write_watch(RESET, base, 0x1_0000, 1).1, [base + 0x1000]);
        let rest = [base + 0x2000, base + 0x4000];
        assert_eq!(program.write_watch(RESET, base, 0x1_0000, 64).1, rest);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, []);
        assert_eq!(program.store(base + 0x1000), SUCCESS);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [base + 0x1000]);
    }

    fn pages_that_leave_memory_are_remembered<M>() {
        let program = Program::<M>::legacy();
        let (host, space) = (&program.host, program.space);
        let base = program.memory(0x1_0000, WATCHED, 4);
        let page = |number: u64| Va::new(base + number * 0x1000);
        for number in 0..4 {
            host.write(space, page(number), number);
        }
        host.trim(space, page(0));
        host.page_out(space, page(1));
        host.settle();
        let all: Vec<u64> = (0..4).map(|number| base + number * 0x1000).collect();
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, all);
        assert_eq!(program.write_watch(RESET, base, 0x1_0000, 64).1, all);
        // They come back into memory without having been written again.
        for number in 0..4 {
            assert_eq!(host.read(space, page(number)), number);
        }
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, []);
        host.trim(space, page(2));
        assert_eq!(host.read(space, page(2)), 2, "what was written is not lost by the reset");
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, []);
        host.write(space, page(1), 9);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [base + 0x1000]);
        host.audit_at_rest();
    }

    fn decommit_forgets_but_not_what_protection_has_seen<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        assert_eq!(program.store(base + 0x3000), SUCCESS);
        assert_eq!(program.protected(base, 0x6000, 4).0, SUCCESS);
        assert_eq!(program.store(base + 0x5000), SUCCESS);
        assert_eq!(program.free(base, 0x1_0000, 0x4000).0, SUCCESS);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [base + 0x3000]);
        assert_eq!(program.allocate(base, 0, 0x1_0000, 0x1000, 4).0, SUCCESS);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [base + 0x3000]);
        assert_eq!(program.free(base, 0, 0x8000).0, SUCCESS);
        let again = program.memory(0x1_0000, WATCHED, 4);
        assert_eq!(again, base);
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, [], "a new watch");
        program.host.audit_at_rest();
    }

    fn stores_by_software_count<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        let bytes = [0; 8];
        let across = Va::new(base + 0x1FFC);
        program.host.run(WriteMemory::new(program.space, across, &bytes)).expect("done");
        let both = [base + 0x1000, base + 0x2000];
        assert_eq!(program.write_watch(0, base, 0x1_0000, 64).1, both, "zeroes count too");
    }

    fn mistakes_are_noticed_in_order<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        let bad = Err(NtStatus::ACCESS_VIOLATION);
        let mut wrong = WriteWatchParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            flags: 2,
            base: highest + 1,
            size: 2,
            array: bad,
            count: Err(NtStatus::ACCESS_VIOLATION),
            granularity: bad,
        };
        let mut expect = |change: fn(&mut WriteWatchParameters, u64), code: u32| {
            let call = GetWriteWatchCall::new(program.caller, wrong, &mut []);
            let outcome = program.host.run(call).expect("done");
            assert_eq!((outcome.status.code(), outcome.output), (code, None));
            change(&mut wrong, highest);
        };
        expect(|call, highest| call.base = highest, 0xC000_00F0);
        expect(|call, _| call.size = 0, 0xC000_00F1);
        expect(|call, _| call.count = Ok(0), 0xC000_0005);
        expect(|call, _| call.granularity = Ok(()), 0xC000_0005);
        expect(|call, _| call.count = Ok(u64::MAX), 0xC000_00F3);
        expect(|call, _| call.count = Ok(8), 0xC000_00F3);
        expect(|call, _| call.array = Ok(()), 0xC000_0005);
        expect(|_, _| (), 0xC000_0008);
        assert_eq!(program.write_watch(2, base, 0, 8).0, 0xC000_00F2);
        assert_eq!(program.write_watch(2, base, 8, 8).0, 0xC000_00F0);
        let plain = program.memory(0x1_0000, 0x3000, 4);
        for (at, size) in [(base, 0x2_0000), (base + 0xF000, 0x1001), (plain, 1), (0, 1)] {
            assert_eq!(program.write_watch(0, at, size, 8).0, 0xC000_00EF, "{at:#x}");
            assert_eq!(program.reset_write_watch(at, size), 0xC000_00EF, "{at:#x}");
        }
        assert_eq!(program.reset_write_watch(base, 0), 0xC000_00F1);
        let reserved = program.memory(0x1_0000, 0x20_2000, 1);
        assert_eq!(program.write_watch(0, reserved, 0x1_0000, 8), (SUCCESS, [].into()));
        assert_eq!(program.reset_write_watch(reserved, 0x1_0000), SUCCESS);
    }

    fn splitting_watched_memory_keeps_its_watch<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, WATCHED, 4);
        for page in 0..16 {
            assert_eq!(program.store(base + page * 0x1000), SUCCESS);
        }
        assert_eq!(program.free(base + 0x4000, 0x8000, 0x8000).0, SUCCESS);
        let back: Vec<u64> = (12..16).map(|page| base + page * 0x1000).collect();
        assert_eq!(program.write_watch(0, base + 0xC000, 0x4000, 64).1, back);
        assert_eq!(program.write_watch(0, base, 0x4000, 64).1.len(), 4);
        program.host.audit_at_rest();
        for part in [base, base + 0xC000] {
            assert_eq!(program.free(part, 0, 0x8000).0, SUCCESS);
        }
        program.host.audit_at_rest();
        program.host.delete(program.space);
    }
}
