//! NtQueryVirtualMemory (API 7).

use ntmm_pte::{PagingMode, Va};
use std::vec::Vec;

use super::{Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{
    BasicInformation, ImageInformation, Information, ProcessAccess, Profile, QueryParameters,
    RegionInformation, Target,
};

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const BOTH: u32 = 0x3000;
const FREE: u32 = 0x1_0000;
const PRIVATE: u32 = 0x2_0000;

const BASIC: u32 = 0;
const WORKING_SET: u32 = 1;
const NAME: u32 = 2;
const REGION: u32 = 3;
const WORKING_SET_EX: u32 = 4;
const IMAGE: u32 = 6;
const REGION_EX: u32 = 7;

/// Sizes of the basic, region and image structures; the region's up to its size and in full.
const fn sizes<M: PagingMode>() -> [u64; 4] {
    if M::ADDRESS_BITS == 32 { [0x1C, 0x10, 0x20, 0xC] } else { [0x30, 0x18, 0x30, 0x18] }
}

in_every_mode! {
    fn basic_information_tells_runs_forward<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0xFFFC, RESERVE, 1);
        let reserved = BasicInformation {
            base,
            allocation_base: base,
            allocation_protection: 1,
            size: 0x1_0000,
            state: RESERVE,
            protection: 0,
            kind: PRIVATE,
        };
        assert_eq!(program.query(base + 0xFFF), reserved);
        assert_eq!(program.allocate(base + 0x4000, 0, 0x4000, COMMIT, 4).0, SUCCESS);
        assert_eq!(program.protected(base + 0x5000, 0x1000, 2).0, SUCCESS);
        let run = |at: u64| {
            let found = program.query(base + at);
            assert_eq!((found.base, found.allocation_base), (base + at, base));
            (found.size, found.state, found.protection)
        };
        assert_eq!(run(0x2000), (0x2000, RESERVE, 0), "never backwards");
        assert_eq!(run(0x4000), (0x1000, COMMIT, 4));
        assert_eq!(run(0x5000), (0x1000, COMMIT, 2));
        assert_eq!(run(0x6000), (0x2000, COMMIT, 4));
        assert_eq!(run(0x8000), (0x8000, RESERVE, 0));
        assert_eq!(program.memory(0x1_0000, RESERVE, 1), base + 0x1_0000);
        assert_eq!(run(0x8000), (0x8000, RESERVE, 0), "runs end with their allocation");
        let free = program.query(base + 0x2_0123);
        assert_eq!((free.state, free.protection, free.kind), (FREE, 1, 0));
        assert_eq!((free.allocation_base, free.allocation_protection), (0, 0));
        assert_eq!(program.query(0).size, 0x1_0000, "the lowest 64 KiB are free");
        let shared = program.query(0x7FFE_0FFF);
        assert_eq!((shared.base, shared.allocation_base), (0x7FFE_0000, 0x7FFE_0000));
        assert_eq!((shared.allocation_protection, shared.protection), (2, 2));
        assert_eq!((shared.size, shared.state, shared.kind), (0x1000, COMMIT, PRIVATE));
    }

    fn basic_information_checks_the_address_first<M>() {
        let program = Program::<M>::legacy();
        let highest = M::HIGHEST_USER_ADDRESS.get();
        let mut parameters = QueryParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            address: highest + 1,
            class: BASIC,
            buffer: Err(NtStatus::ACCESS_VIOLATION),
            length: 0,
            return_length: Err(NtStatus::ACCESS_VIOLATION),
        };
        let mut expect = |change: fn(&mut QueryParameters, u64), code: u32| {
            let outcome = program.query_with(parameters, &mut []);
            let nothing = (outcome.information, outcome.return_length);
            assert_eq!((outcome.status.code(), nothing), (code, (None, None)));
            change(&mut parameters, highest);
        };
        expect(|call, highest| call.address = highest, 0xC000_000D);
        expect(|call, _| call.buffer = Ok(()), 0xC000_0005);
        expect(|call, _| call.return_length = Ok(()), 0xC000_0005);
        expect(|call, _| call.length = if M::ADDRESS_BITS == 32 { 0x1B } else { 0x2F }, 0xC000_0004);
        expect(|call, _| call.length += 1, 0xC000_0004);
        expect(|call, _| call.class = 99, 0xC000_0008);
        expect(|_, _| (), 0xC000_0003);
        let [basic, ..] = sizes::<M>();
        for length in [basic, basic + 100] {
            let outcome = program.query_class(highest, BASIC, length);
            assert_eq!((outcome.status, outcome.return_length), (NtStatus::SUCCESS, Some(basic)));
        }
    }

    fn asking_takes_a_right<M>() {
        for (profile, limited) in [(Profile::Legacy, 0xC000_0022), (Profile::Modern, SUCCESS)] {
            let program = Program::<M>::of(profile);
            let ask = |access| {
                let parameters = QueryParameters {
                    process: Ok(Target { space: program.space, access }),
                    address: 0,
                    class: BASIC,
                    buffer: Ok(()),
                    length: 0x30,
                    return_length: Ok(()),
                };
                program.query_with(parameters, &mut []).status.code()
            };
            assert_eq!(ask(ProcessAccess::VM_READ | ProcessAccess::VM_OPERATION), 0xC000_0022);
            assert_eq!(ask(ProcessAccess::QUERY_LIMITED_INFORMATION), limited);
            assert_eq!(ask(ProcessAccess::QUERY_INFORMATION), SUCCESS);
        }
    }

    fn region_information_is_of_the_whole_allocation<M>() {
        let program = Program::<M>::modern();
        let base = program.memory(0x1_0000, RESERVE, 4);
        assert_eq!(program.allocate(base + 0x2000, 0, 0x3000, COMMIT, 2).0, SUCCESS);
        let expected = RegionInformation {
            allocation_base: base,
            allocation_protection: 4,
            kind: 0,
            size: 0x1_0000,
            committed: 0x3000,
        };
        let [_, shortest, full, _] = sizes::<M>();
        for length in [shortest, shortest + 4, full, full + 8] {
            let outcome = program.query_class(base + 0x2123, REGION, length);
            assert_eq!(outcome.information, Some(Information::Region(expected)));
            assert_eq!(outcome.return_length, Some(length.min(full)));
        }
        let extended = program.query_class(base, REGION_EX, full).information;
        let private = RegionInformation { kind: 1, ..expected };
        assert_eq!(extended, Some(Information::Region(private)));
        let short = program.query_class(base, REGION, shortest - 1);
        assert_eq!((short.status.code(), short.information), (0xC000_0004, None));
        let free = program.query_class(base + 0x1_0000, REGION, full);
        assert_eq!((free.status.code(), free.information), (0xC000_0141, None));
        let kernel = program.query_class(u64::MAX, REGION, full);
        assert_eq!(kernel.status.code(), 0xC000_0141);
    }

    fn other_classes_know_private_memory_for_what_it_is<M>() {
        let program = Program::<M>::modern();
        let base = program.memory(0x8000, RESERVE, 4);
        let [.., image] = sizes::<M>();
        let outcome = program.query_class(base + 0x1234, IMAGE, image);
        let nothing = ImageInformation { base: 0, size: 0, flags: 0 };
        assert_eq!(outcome.information, Some(Information::Image(nothing)));
        assert_eq!(outcome.return_length, Some(image));
        assert_eq!(program.query_class(base, IMAGE, image - 1).status.code(), 0xC000_0004);
        assert_eq!(program.query_class(base + 0x8000, IMAGE, image).status.code(), 0xC000_0141);
        for length in [0, 1, 0x800] {
            for at in [base, 0x1234] {
                let name = program.query_class(at, NAME, length);
                assert_eq!((name.status.code(), name.return_length), (0xC000_0141, None));
            }
        }
        let legacy = Program::<M>::legacy();
        assert_eq!(legacy.query_class(0, IMAGE, 0x100).status.code(), 0xC000_0003);
        assert_eq!(program.query_class(0, 11, 0x100).status.code(), 0xC000_0003);
    }

    fn working_set_lists_resident_pages<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x4000, BOTH, 4);
        let other = program.memory(0x1000, BOTH, 0x20);
        assert_eq!((program.store(base), program.load(base + 0x2000)), (SUCCESS, SUCCESS));
        assert_eq!(program.load(other), SUCCESS);
        let ask = |room: usize| {
            let mut words = std::vec![0; room];
            let parameters = QueryParameters {
                process: program.process(),
                address: 0,
                class: WORKING_SET,
                buffer: Ok(()),
                length: (1 + room as u64) * program.caller.width.bytes(),
                return_length: Ok(()),
            };
            (program.query_with(parameters, &mut words), words)
        };
        let (outcome, mut words) = ask(10);
        let Some(Information::WorkingSet { count: 3, stored: 3 }) = outcome.information else {
            panic!("{outcome:?}")
        };
        words.truncate(3);
        words.sort_unstable();
        assert_eq!(words, [base | 4, (base + 0x2000) | 4, other | 3]);
        assert_eq!(outcome.return_length, Some(4 * program.caller.width.bytes()));
        let (outcome, _) = ask(2);
        assert_eq!(outcome.status.code(), 0xC000_0004);
        let short = Information::WorkingSet { count: 3, stored: 2 };
        assert_eq!(outcome.information, Some(short), "the count is stored all the same");
        assert_eq!(ask(0).0.information, None, "no room for one entry");
    }

    fn attributes_tell_which_pages_are_valid<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x4000, BOTH, 4);
        assert_eq!(program.load(base + 0x1000), SUCCESS);
        assert_eq!(program.load(base + 0x2000), SUCCESS);
        assert_eq!(program.protected(base + 0x2000, 0x1000, 1).0, SUCCESS);
        assert_eq!(program.protected(base + 0x2000, 0x1000, 4).0, SUCCESS);
        assert_eq!(program.store(base + 0x3000), SUCCESS);
        assert_eq!(program.lock(base + 0x3000, 1, 1).0, SUCCESS);
        let addresses = [base + 0x1FFF, base, base + 0x2000, 0, u64::MAX, base + 0x3000];
        let mut words: Vec<u64> = addresses.iter().flat_map(|&va| [va, 99]).collect();
        let entry = 2 * program.caller.width.bytes();
        let parameters = QueryParameters {
            process: program.process(),
            address: 0,
            class: WORKING_SET_EX,
            buffer: Ok(()),
            length: 6 * entry + 3,
            return_length: Ok(()),
        };
        let outcome = program.query_with(parameters, &mut words);
        assert_eq!((outcome.status.code(), outcome.return_length), (SUCCESS, Some(6 * entry + 3)));
        let answers: Vec<u64> = words.iter().skip(1).step_by(2).copied().collect();
        let locked = 1 | (4 << 4) | (1 << 22);
        assert_eq!(answers, [1 | (4 << 4), 0, 0, 0, 0, locked]);
        let none = program.query_class(0, WORKING_SET_EX, 0);
        assert_eq!((none.status.code(), none.return_length), (0xC000_0004, None));
        program.host.read(program.space, Va::new(base + 0x2000));
        assert_eq!(program.query_class(base, BASIC, 0x30).status.code(), SUCCESS);
    }
}
