//! NtAllocateVirtualMemory (API 2, 3).

use ntmm_pte::{PagingMode, Va};

use super::{BAD_POINTER, Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{AllocateParameters, Profile};

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const BOTH: u32 = 0x3000;
const RESET: u32 = 0x8_0000;
const TOP_DOWN: u32 = 0x10_0000;
const WATCH: u32 = 0x20_0000;
const PHYSICAL: u32 = 0x40_0000;
const LARGE: u32 = 0x2000_0000;

fn parameters<M: PagingMode>(program: &Program<M>) -> AllocateParameters {
    AllocateParameters {
        process: program.process(),
        base: Ok(0),
        zero_bits: 0,
        size: Ok(0x1000),
        kind: BOTH,
        protection: 4,
    }
}

in_every_mode! {
    fn zero_bits_limit_chosen_addresses<M>() {
        for profile in Profile::ALL {
            let program = Program::<M>::of(profile);
            for bits in 1..=15 {
                let (status, range) = program.allocate(0, bits, 0x1000, BOTH | TOP_DOWN, 4);
                assert_eq!(status, SUCCESS, "{bits} zero bits");
                let (base, _) = range.expect("a range");
                assert!(base + 0x1000 <= 1 << (32 - bits), "{bits} zero bits: {base:#x}");
                assert_eq!(program.free(base, 0, 0x8000).0, SUCCESS);
            }
            // Below 64 KiB and one more there is no place.
            for bits in 16..=20 {
                assert_eq!(program.allocate(0, bits, 0x1000, BOTH, 4), (0xC000_0017, None));
            }
            for bits in 22..=31 {
                assert_eq!(program.allocate(0, bits, 0x1000, BOTH, 4), (0xC000_00F1, None));
                let explicit = program.allocate(0x5000_0000, bits, 0x1000, BOTH, 4);
                assert_eq!(explicit, (0xC000_00F1, None), "even where they do not matter");
            }
            let masked = program.allocate(0, 0x1AAA_AAAA, 0x1000, BOTH | TOP_DOWN, 4);
            let all_ones = program.allocate(0, u64::MAX, 0x1000, RESERVE, 4);
            if M::ADDRESS_BITS == 32 {
                assert_eq!((masked.0, all_ones.0), (0xC000_00F1, 0xC000_00F1));
            } else {
                let (base, _) = masked.1.expect("a range");
                assert_eq!(base, 0x1FFF_0000, "only the highest bit matters");
                assert_eq!(all_ones.0, SUCCESS);
            }
        }
        let twenty_one = |profile| Program::<M>::of(profile).allocate(0, 21, 0x1000, BOTH, 4).0;
        assert_eq!(twenty_one(Profile::Legacy), 0xC000_0017);
        assert_eq!(twenty_one(Profile::Modern), 0xC000_000D);
    }

    fn types_that_make_no_sense_are_parameter_5<M>() {
        let program = Program::<M>::legacy();
        for kind in [
            0,
            TOP_DOWN,
            PHYSICAL,
            RESET | COMMIT,
            RESET | TOP_DOWN,
            LARGE | RESERVE,
            LARGE | BOTH | PHYSICAL,
            LARGE | BOTH | WATCH,
            LARGE | RESET,
            WATCH,
            WATCH | COMMIT,
            PHYSICAL | COMMIT,
            PHYSICAL | BOTH,
            PHYSICAL | RESERVE | WATCH,
            RESERVE | 0x4000_0000,
            RESERVE | 0x4000,
            RESERVE | 0x4_0000,
            0x100_0000,
            u32::MAX,
        ] {
            let answer = program.allocate(0, 0, 0x1000, kind, 4);
            assert_eq!(answer, (0xC000_00F3, None), "type {kind:#x}");
        }
        let modern = Program::<M>::modern();
        for kind in [0x4_2000, 0x6000] {
            assert_eq!(modern.allocate(0, 0, 0x1000, kind, 1), (0xC000_000D, None), "{kind:#x}");
        }
        assert_eq!(modern.allocate(0, 0, 0x1000, u32::MAX, 1).0, 0xC000_00F3);
        assert_eq!(program.allocate(0, 0, 0x1000, RESERVE | PHYSICAL, 2).0, 0xC000_00F4);
        assert_eq!(program.allocate(0, 0, 0x1000, RESERVE | PHYSICAL, 4).0, SUCCESS);
        assert_eq!(program.allocate(0, 0, 0x1000, RESERVE | PHYSICAL | TOP_DOWN, 4).0, SUCCESS);
        program.host.audit_at_rest();
    }

    fn protections_that_are_not_one_of_private_memory_are_refused<M>() {
        let program = Program::<M>::legacy();
        let good = [1, 2, 4, 0x10, 0x20, 0x40];
        for protection in 0..=0xFF {
            let (status, range) = program.allocate(0, 0, 0x1000, COMMIT, protection);
            if good.contains(&protection) {
                assert_eq!(status, SUCCESS, "{protection:#x}");
                let (base, _) = range.expect("a range");
                let found = program.query(base);
                assert_eq!(found.protection, protection);
                assert_eq!(found.allocation_protection, protection);
                assert_eq!((found.state, found.kind), (COMMIT, 0x2_0000));
                assert_eq!(program.free(base, 0, 0x8000).0, SUCCESS);
            } else {
                assert_eq!(status, 0xC000_0045, "{protection:#x}");
            }
        }
        for protection in [0x100, 0x101, 0x201, 0x401, 0x304, 0x804, 0x8000_0004] {
            assert_eq!(program.allocate(0, 0, 0x1000, BOTH, protection).0, 0xC000_0045);
            assert_eq!(program.allocate(0, 0, 0x1000, RESERVE, protection).0, 0xC000_0045);
        }
        for protection in [0x104, 0x204, 0x404] {
            let base = program.memory(0x1000, BOTH, protection);
            assert_eq!(program.query(base).protection, protection);
        }
    }

    fn mistakes_are_noticed_in_order<M>() {
        let program = Program::<M>::legacy();
        let highest = M::HIGHEST_VAD_ADDRESS.get();
        let mut wrong = AllocateParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            base: BAD_POINTER,
            zero_bits: 24,
            size: BAD_POINTER,
            kind: 0,
            protection: 3,
        };
        let mut expect = |change: fn(&mut AllocateParameters, u64), code: u32| {
            assert_eq!(program.allocate_with(wrong), (code, None));
            change(&mut wrong, highest);
        };
        expect(|call, _| call.zero_bits = 0, 0xC000_00F1);
        expect(|call, _| (call.kind, call.protection) = (RESERVE | PHYSICAL, 2), 0xC000_00F3);
        expect(|call, _| (call.kind, call.protection) = (BOTH, 3), 0xC000_00F4);
        expect(|call, _| call.protection = 8, 0xC000_0045);
        expect(|call, _| call.base = Ok(u64::MAX), 0xC000_0005);
        expect(|call, _| call.size = Ok(0), 0xC000_0005);
        expect(|call, highest| call.base = Ok(highest + 1), 0xC000_00F0);
        expect(|call, highest| call.base = Ok(highest), 0xC000_00F0);
        expect(|call, _| call.size = Ok(2), 0xC000_00F2);
        expect(|call, _| call.size = Ok(u64::MAX), 0xC000_00F2);
        expect(|call, _| (call.base, call.size) = (Ok(0), Ok(u64::MAX)), 0xC000_00F2);
        expect(|call, _| call.size = Ok(0x1000), 0xC000_00F2);
        expect(|_, _| (), 0xC000_0008);
        wrong.process = program.process();
        assert_eq!(program.allocate_with(wrong), (0xC000_0045, None), "write copy last of all");
        wrong.kind |= LARGE;
        assert_eq!(program.allocate_with(wrong), (0xC000_0061, None), "but for large pages");
    }

    fn reservations_round_down_to_64_kib_and_commits_to_a_page<M>() {
        for (base, size, expected) in [
            (0x5000_0010, 0x1000, (0x5000_0000, 0x2000)),
            (0x5000_FFFF, 0x3000, (0x5000_0000, 0x1_3000)),
            (0x5000_1010, 0x7000, (0x5000_0000, 0x9000)),
        ] {
            let program = Program::<M>::legacy();
            let answer = program.allocate(base, 0, size, RESERVE, 1);
            assert_eq!(answer, (SUCCESS, Some(expected)));
        }
        let program = Program::<M>::legacy();
        let answer = program.allocate(0x5000_4080, 0, 0x1000, BOTH, 4);
        assert_eq!(answer, (SUCCESS, Some((0x5000_0000, 0x6000))));
        assert_eq!(program.query(0x5000_0000).size, 0x6000, "all of it is committed");
        let taken = program.allocate(0x5000_8000, 0, 0x1000, RESERVE, 4);
        assert_eq!(taken, (0xC000_0018, None), "the tail of its unit cannot be had");
        let base = program.memory(0x1_0000, RESERVE, 1);
        let answer = program.allocate(base + 0xF001, 0, 1, COMMIT, 4);
        assert_eq!(answer, (SUCCESS, Some((base + 0xF000, 0x1000))));
        assert_eq!(program.allocate(base + 0xF000, 0, 0x1001, COMMIT, 4).0, 0xC000_0018);
        assert_eq!(program.free(base, 0x1000, 0x8000).0, SUCCESS);
        let front = program.allocate(base, 0, 0x1000, BOTH, 4);
        assert_eq!(front, (SUCCESS, Some((base, 0x1000))), "released pages can be had again");
        program.host.audit_at_rest();
    }

    fn commit_over_committed_pages_protects_them<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, RESERVE, 1);
        assert_eq!(program.allocate(base, 0, 0x1000, COMMIT, 4).0, SUCCESS);
        assert_eq!(program.allocate(base + 0x2000, 0, 0x1000, COMMIT, 1).0, SUCCESS);
        program.host.write(program.space, Va::new(base), 7);
        assert_eq!(program.allocate(base, 0, 0x3000, COMMIT, 2).0, SUCCESS);
        assert_eq!(program.query(base).size, 0x3000);
        assert_eq!(program.page(base), (COMMIT, 2));
        assert_eq!(program.host.read(program.space, Va::new(base)), 7);
        assert_eq!(program.store(base), 0xC000_0005);
        assert_eq!(program.allocate(base, 0, 0x3000, COMMIT, 8).0, 0xC000_0045);
        let next = program.memory(0x1_0000, RESERVE, 1);
        assert_eq!(next, base + 0x1_0000);
        assert_eq!(program.allocate(next - 0x1000, 0, 0x2000, COMMIT, 4).0, 0xC000_0018);
        program.host.audit_at_rest();
    }

    fn null_page_belongs_to_old_systems<M>() {
        let legacy = Program::<M>::legacy();
        for (base, size) in [(0xFFF, 0x2000), (0x1000, 0x2000)] {
            let answer = legacy.allocate(base, 0, 0x1000, BOTH, 4);
            assert_eq!(answer, (SUCCESS, Some((0, size))), "{base:#x}");
            assert_eq!(legacy.query(0).allocation_protection, 4);
            assert_eq!(legacy.store(0), SUCCESS);
            assert_eq!(legacy.allocate(1, 0, 0x1000, COMMIT, 2).0, SUCCESS);
            assert_eq!(legacy.page(0x1000), (COMMIT, 2));
            assert_eq!(legacy.free(0, 0, 0x8000), (SUCCESS, Some((0, size))));
        }
        let chosen = legacy.allocate(0, 0, 0x1000, RESERVE, 4).1.expect("a range");
        assert!(chosen.0 > 0);
        let modern = Program::<M>::modern();
        assert_eq!(modern.allocate(1, 0, 0x1000, BOTH, 4).0, 0xC000_00F0);
        assert_eq!(modern.allocate(1, 0, 0x1000, COMMIT, 4).0, 0xC000_0018);
        legacy.host.audit_at_rest();
    }

    fn reset_gives_up_contents_and_nothing_else<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1_0000, RESERVE, 1);
        assert_eq!(program.allocate(base, 0, 0x4000, COMMIT, 4).0, SUCCESS);
        let space = program.space;
        for page in 0..3 {
            program.host.write(space, Va::new(base + page * 0x1000), 7);
        }
        program.host.page_out(space, Va::new(base));
        program.host.trim(space, Va::new(base + 0x1000));
        let committed = program.host.manager.memory_figures().committed;
        let answer = program.allocate(base + 1, 0, 0x5000, RESET, 2);
        assert_eq!(answer, (SUCCESS, Some((base, 0x6000))), "reserved pages do not matter");
        assert_eq!(program.host.slots_in_use(), 0);
        program.host.write_modified();
        assert_eq!(program.host.slots_in_use(), 0, "nothing of it is written");
        assert_eq!(program.host.manager.memory_figures().committed, committed);
        assert_eq!(program.page(base), (COMMIT, 4), "protection is ignored");
        assert_eq!(program.page(base + 0x4000), (RESERVE, 0));
        for page in 0..4 {
            let value = program.host.read(space, Va::new(base + page * 0x1000));
            assert!(value == 0 || value == 7);
        }
        assert_eq!(program.allocate(base + 0xF000, 0, 0x2000, RESET, 4).0, 0xC000_0018);
        assert_eq!(program.allocate(base, 0, 0x1000, RESET, 3).0, 0xC000_0045);
        program.host.audit_at_rest();
    }

    fn a_reset_is_undone_where_nothing_was_lost<M>() {
        const UNDO: u32 = 0x100_0000;
        assert_eq!(Program::<M>::legacy().allocate(0x1_0000, 0, 1, UNDO, 4).0, 0xC000_00F3);
        let program = Program::<M>::modern();
        let base = program.memory(0x1_0000, RESERVE, 4);
        assert_eq!(program.allocate(base, 0, 0x2000, COMMIT, 4).0, SUCCESS);
        for page in 0..2 {
            program.host.write(program.space, Va::new(base + page * 0x1000), 7);
        }
        program.host.page_out(program.space, Va::new(base + 0x1000));
        assert_eq!(program.allocate(base, 0, 0x3000, RESET, 4).0, SUCCESS);
        // A page in memory loses nothing yet, and a reserved one has nothing to lose.
        let undone = program.allocate(base + 1, 0, 1, UNDO, 4);
        assert_eq!(undone, (SUCCESS, Some((base, 0x1000))));
        assert_eq!(program.allocate(base + 0x2000, 0, 0x1000, UNDO, 4).0, SUCCESS);
        assert_eq!(program.host.read(program.space, Va::new(base)), 7);
        assert_eq!(program.allocate(base, 0, 0x2000, UNDO, 4), (0xC000_0001, None));
        program.host.write(program.space, Va::new(base + 0x1000), 8);
        assert_eq!(program.allocate(base, 0, 0x2000, UNDO, 4).0, SUCCESS, "written again");
        for wrong in [UNDO | COMMIT, UNDO | RESET, UNDO | RESERVE] {
            assert_eq!(program.allocate(base, 0, 0x1000, wrong, 4).0, 0xC000_00F3);
        }
        assert_eq!(program.allocate(base, 0, 0x1000, UNDO, 3).0, 0xC000_0045);
        assert_eq!(program.allocate(base + 0xF000, 0, 0x2000, UNDO, 4).0, 0xC000_0018);
        assert_eq!(program.allocate(0, 0, 0x2000, UNDO, 4).0, 0xC000_0018);
        program.host.audit_at_rest();
    }

    fn large_pages_need_a_privilege_and_frames<M>() {
        let mut program = Program::<M>::legacy();
        let size = M::span(ntmm_pte::Level::Directory).get();
        assert_eq!(program.allocate(0, 0, size, BOTH | LARGE, 4).0, 0xC000_0061);
        program.caller.privileges = crate::nt::Privileges::LOCK_MEMORY;
        assert_eq!(program.allocate(0, 0, size + 1, BOTH | LARGE, 4).0, 0xC000_00F2);
        assert_eq!(program.allocate(size + 0x1_0000, 0, size, BOTH | LARGE, 4).0, 0xC000_00F0);
        assert_eq!(program.allocate(0, 0, size, BOTH | LARGE, 4).0, 0xC000_009A);
    }

    fn failing_calls_change_nothing<M>() {
        let program = Program::<M>::legacy();
        let mut call = parameters(&program);
        call.size = Ok(1 << 30);
        assert_eq!(program.allocate_with(call), (0xC000_012D, None), "commitment");
        assert_eq!(program.query(0x1_0000).state, 0x1_0000);
        program.host.audit_at_rest();
    }
}
