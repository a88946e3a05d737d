//! NtAllocateVirtualMemoryEx and placeholders (API 3.6, 4.3).

use ntmm_pte::{PagingMode, Va};

use super::{Program, SUCCESS, answer};
use crate::nt::{
    AddressRequirements, AllocateParameters, AllocateVirtualMemory, ExtendedParameter,
};

const RESERVE: u32 = 0x2000;
const BOTH: u32 = 0x3000;
const PLACEHOLDER: u32 = 0x4_2000;
const REPLACE: u32 = 0x6000;
const REPLACE_AND_COMMIT: u32 = 0x7000;
const RELEASE: u32 = 0x8000;
const COALESCE: u32 = 0x8001;
const PRESERVE: u32 = 0x8002;

/// A placeholder of 64 KiB.
fn placeholder<M: PagingMode>(program: &Program<M>) -> u64 {
    let (status, range) = program.allocate_ex(0, 0x1_0000, PLACEHOLDER, 1, &[]);
    assert_eq!(status, SUCCESS);
    range.expect("a range").0
}

fn requirements(lowest: u64, highest: u64, alignment: u64) -> [AddressRequirements; 1] {
    [AddressRequirements { lowest, highest, alignment }]
}

in_every_mode! {
    fn address_requirements_bound_the_choice<M>() {
        let program = Program::<M>::modern();
        let wrong = (0xC000_000D, None);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        for (lowest, ceiling, alignment) in [
            (0, 0x2000_07FF, 0),
            (0, highest + 0x1000, 0),
            (0x2000_1001, 0, 0),
            (0x2000_1000, 0, 0),
            (0x3000_0000, 0x2000_0FFF, 0),
            (highest + 1, 0, 0),
            (0, 0, 0x8000),
            (0, 0, 0x3_0000),
        ] {
            let asked = requirements(lowest, ceiling, alignment);
            assert_eq!(program.allocate_ex(0, 0x1000, RESERVE, 4, &asked), wrong, "{asked:?}");
        }
        let asked = requirements(0, 0x2000_0FFF, 0);
        assert_eq!(program.allocate_ex(0x1000_0000, 0x1000, RESERVE, 4, &asked), wrong);
        let top = program.allocate_ex(0, 0x4_0000, RESERVE | 0x10_0000, 4, &asked);
        assert_eq!(top, (SUCCESS, Some((0x1FFC_0000, 0x4_0000))));
        let above = program.allocate_ex(0, 0x1000, RESERVE, 4, &requirements(0x2000_0000, 0, 0));
        assert_eq!(above, (SUCCESS, Some((0x2000_0000, 0x1000))));
        let aligned = program.allocate_ex(0, 0x1000, RESERVE, 4, &requirements(0, 0, 0x100_0000));
        assert_eq!(aligned, (SUCCESS, Some((0x100_0000, 0x1000))));
        let none = program.allocate_ex(0, 0x2000, RESERVE, 4, &requirements(0, 0x2000_0FFF, 0x2000_0000));
        assert_eq!(none, (0xC000_0017, None));
        let zero = requirements(0, 0, 0);
        assert_eq!(program.allocate_ex(0, 0x1000, RESERVE, 4, &zero).0, SUCCESS);
        assert_eq!(program.allocate_ex(0x5000_0000, 0x1000, RESERVE, 4, &zero).0, SUCCESS);
        let all = requirements(0, highest, 0);
        assert_eq!(program.allocate_ex(0, 0x1000, RESERVE, 4, &all).0, SUCCESS);
        let twice = [AddressRequirements::default(); 2];
        assert_eq!(program.allocate_ex(0, 0x1000, RESERVE, 4, &twice), wrong);
    }

    fn extended_parameters_have_known_types<M>() {
        let program = Program::<M>::modern();
        let parameters = AllocateParameters {
            process: program.process(),
            base: Ok(0),
            zero_bits: 0,
            size: Ok(0x1000),
            kind: BOTH,
            protection: 4,
        };
        let run = |extended: Option<&[ExtendedParameter]>, count| {
            let call =
                AllocateVirtualMemory::extended(program.caller, parameters, extended, count);
            answer(program.host.run(call).expect("done")).0
        };
        assert_eq!(run(None, 0), SUCCESS);
        assert_eq!(run(None, 1), 0xC000_000D);
        assert_eq!(run(Some(&[]), u64::MAX), 0xC000_000D);
        let of = |kind| {
            let requirements = Ok(AddressRequirements::default());
            [ExtendedParameter { kind, requirements }]
        };
        for kind in 0..9 {
            let code = if (1..=6).contains(&kind) { SUCCESS } else { 0xC000_000D };
            assert_eq!(run(Some(&of(kind)), 1), code, "type {kind}");
        }
        let legacy = Program::<M>::legacy();
        assert_eq!(legacy.allocate_ex(0, 0x1000, BOTH, 4, &[]).0, 0xC000_0002);
    }

    fn placeholders_are_reserved_and_replaced_as_a_whole<M>() {
        let program = Program::<M>::modern();
        let refuse = |base, size, kind, protection, code: u32| {
            let answer = program.allocate_ex(base, size, kind, protection, &[]);
            assert_eq!(answer, (code, None), "type {kind:#x}");
        };
        refuse(0, 0x1_0000, PLACEHOLDER, 4, 0xC000_000D);
        refuse(0, 0x1_0000, PLACEHOLDER | 0x1000, 1, 0xC000_000D);
        refuse(0, 0x1_0000, 0x4_1000, 1, 0xC000_000D);
        let base = placeholder(&program);
        let found = program.query(base + 0x123);
        assert_eq!((found.state, found.protection, found.kind), (RESERVE, 0, 0x2_0000));
        assert_eq!((found.allocation_base, found.allocation_protection), (base, 1));
        refuse(base, 0x1_0000, 0x4000, 4, 0xC000_000D);
        refuse(base, 0x1_0000, 0x5000, 4, 0xC000_000D);
        for kind in [PLACEHOLDER, RESERVE, BOTH, 0x1000] {
            refuse(base, 0x1_0000, kind, 1, 0xC000_0018);
        }
        for (at, size) in [(base, 0x8000), (base + 0x1000, 0xF000), (base, 0x1_1000), (base + 0x2_0000, 0x1000)] {
            refuse(at, size, REPLACE_AND_COMMIT, 4, 0xC000_0018);
        }
        refuse(base, 0x1_0000, REPLACE_AND_COMMIT, 8, 0xC000_0045);
        let replaced = program.allocate_ex(base, 0x1_0000, REPLACE_AND_COMMIT, 4, &[]);
        assert_eq!(replaced, (SUCCESS, Some((base, 0x1_0000))));
        assert_eq!(program.page(base), (0x1000, 4));
        program.host.write(program.space, Va::new(base + 0x3000), 7);
        assert_eq!(program.free(base, 0x1_0000, PRESERVE), (SUCCESS, Some((base, 0x1_0000))));
        assert_eq!(program.page(base), (RESERVE, 0));
        program.host.audit_at_rest();
        assert_eq!(program.allocate_ex(base, 0x1_0000, REPLACE_AND_COMMIT, 2, &[]).0, SUCCESS);
        assert_eq!(program.host.read(program.space, Va::new(base + 0x3000)), 0);
        assert_eq!(program.free(base, 0, RELEASE).0, SUCCESS);
        assert_eq!(program.query(base).state, 0x1_0000);
        let watched = placeholder(&program);
        assert_eq!(program.allocate_ex(watched, 0x1_0000, 0x20_7000, 4, &[]).0, SUCCESS);
        assert_eq!(program.store(watched), SUCCESS);
        assert_eq!(program.write_watch(0, watched, 0x1_0000, 4).1, [watched]);
        assert_eq!(program.free(watched, 0x1_0000, PRESERVE).0, SUCCESS);
        program.host.audit_at_rest();
    }

    fn placeholders_are_cut_at_pages<M>() {
        let program = Program::<M>::modern();
        let base = placeholder(&program);
        for (at, size, code) in [
            (base, 0, 0xC000_00F1_u32),
            (base, 0x1_0000, 0xC000_0018),
            // Leaving the allocation, and nothing there, come first, as for other frees.
            (base, 0x1_1000, 0xC000_001A),
            (base + 0x1_0000, 0x1000, 0xC000_00A0),
        ] {
            assert_eq!(program.free(at, size, PRESERVE), (code, None), "{size:#x}");
        }
        let cut = program.free(base + 0x8000, 0x4000, PRESERVE);
        assert_eq!(cut, (SUCCESS, Some((base + 0x8000, 0x4000))));
        for (at, size) in [(0, 0x8000), (0x8000, 0x4000), (0xC000, 0x4000)] {
            let found = program.query(base + at);
            assert_eq!((found.allocation_base, found.size), (base + at, size));
        }
        assert_eq!(program.free(base + 0x8000, 0x4000, PRESERVE).0, 0xC000_0018);
        assert_eq!(program.free(base, 0x1_0000, RELEASE).0, 0xC000_001A, "it is three now");
        let plain = program.memory(0x1_0000, RESERVE, 1);
        assert_eq!(program.free(plain, 0x1_0000, PRESERVE).0, 0xC000_0018);
        assert_eq!(program.free(plain, 0x1000, PRESERVE).0, 0xC000_0018);
        program.host.audit_at_rest();
    }

    fn placeholders_are_merged_when_they_are_two_or_more<M>() {
        let program = Program::<M>::modern();
        let base = placeholder(&program);
        for at in [0, 0x4000] {
            assert_eq!(program.free(base + at, 0x4000, PRESERVE).0, SUCCESS);
        }
        for (at, size, kind, code) in [
            (base, 0x4000, COALESCE, 0xC000_0018_u32),
            (base, 0x1_0000, 1, 0xC000_00F2),
            (base, 0x1_1000, COALESCE, 0xC000_0018),
            (base, 0xF000, COALESCE, 0xC000_0018),
            (base + 0x1000, 0xF000, COALESCE, 0xC000_0018),
            (base, 0, COALESCE, 0xC000_00F1),
            (base + 0x1_0000, 0x1_0000, COALESCE, 0xC000_00A0),
        ] {
            assert_eq!(program.free(at, size, kind), (code, None), "{at:#x} {size:#x}");
        }
        let whole = program.free(base, 0x1_0000, COALESCE);
        assert_eq!(whole, (SUCCESS, Some((base, 0x1_0000))));
        assert_eq!(program.query(base).size, 0x1_0000);
        assert_eq!(program.free(base, 0x4000, PRESERVE).0, SUCCESS);
        assert_eq!(program.allocate_ex(base + 0x4000, 0xC000, REPLACE, 4, &[]).0, SUCCESS);
        assert_eq!(program.free(base, 0x1_0000, COALESCE).0, 0xC000_0018, "one is memory");
        program.host.audit_at_rest();
    }

    fn many_placeholders_are_merged<M>() {
        let program = Program::<M>::modern();
        let base = placeholder(&program);
        let (status, range) = program.allocate_ex(0, 0x20_0000, PLACEHOLDER, 1, &[]);
        assert_eq!(status, SUCCESS);
        let large = range.expect("a range").0;
        for page in 0..200 {
            assert_eq!(program.free(large + page * 0x1000, 0x1000, PRESERVE).0, SUCCESS);
        }
        program.host.audit_at_rest();
        assert_eq!(program.free(large, 0x20_0000, COALESCE).0, SUCCESS);
        assert_eq!(program.query(large).size, 0x20_0000);
        assert_eq!(program.free(base, 0, RELEASE).0, SUCCESS);
        program.host.audit_at_rest();
    }
}
