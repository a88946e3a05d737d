//! NtReadVirtualMemory and NtWriteVirtualMemory (API 9), and access by software.

use ntmm_pte::{PagingMode, Va};
use std::vec;
use std::vec::Vec;

use super::{Program, SUCCESS};
use crate::nt::{
    Process, ProcessAccess, Profile, Target, TransferParameters, TransferVirtualMemory,
};
use crate::virtual_memory::{ReadMemory, WriteMemory};
use crate::{AddressSpaceId, NtStatus, Step};

const BOTH: u32 = 0x3000;

#[derive(Clone, Copy)]
enum Way {
    Read,
    Write,
}

/// Two processes with memory of eight pages each.
struct Pair<M: PagingMode> {
    program: Program<M>,
    remote: AddressSpaceId,
    there: u64,
    here: u64,
}

impl<M: PagingMode> Pair<M> {
    fn of(profile: Profile) -> Self {
        let program = Program::of(profile);
        let here = program.memory(0x8000, BOTH, 4);
        let remote = program.host.space();
        let there = program.host.allocate(remote, 8).get();
        Self { program, remote, there, here }
    }

    fn transfer(
        &self,
        way: Way,
        process: Process,
        base: u64,
        buffer: u64,
        size: u64,
    ) -> (u32, Option<u64>) {
        let parameters = TransferParameters {
            process,
            base,
            local: self.program.space,
            buffer,
            size,
            done: Ok(()),
        };
        let call = match way {
            Way::Read => TransferVirtualMemory::read(self.program.caller, parameters),
            Way::Write => TransferVirtualMemory::write(self.program.caller, parameters),
        };
        let outcome = self.program.host.run(call).expect("such calls never raise");
        (outcome.status.code(), outcome.done)
    }

    fn whole(&self, way: Way) -> (u32, Option<u64>) {
        let process = Ok(Target::current(self.remote));
        self.transfer(way, process, self.there, self.here, 0x8000)
    }

    fn protect(&self, space: AddressSpaceId, base: u64, pages: u64, flags: u32) {
        let protection = ntmm_pte::Protection::from_page_flags(flags).expect("a protection");
        self.program.host.protect(space, Va::new(base), pages, protection).expect("protected");
    }
}

in_every_mode! {
    fn bytes_cross_between_processes<M>() {
        let pair = Pair::<M>::of(Profile::Legacy);
        let host = &pair.program.host;
        let pattern: Vec<u8> = (0..0x8000_u32).map(|byte| ((byte * 7) >> 3) as u8).collect();
        let wrote = host.run(WriteMemory::new(pair.program.space, Va::new(pair.here), &pattern));
        assert_eq!(wrote.expect("done").bytes.get(), 0x8000);
        host.page_out(pair.program.space, Va::new(pair.here + 0x3000));
        assert_eq!(pair.whole(Way::Write), (SUCCESS, Some(0x8000)));
        let mut back = vec![0; 0x8000];
        host.page_out(pair.remote, Va::new(pair.there + 0x5000));
        host.run(ReadMemory::new(pair.remote, Va::new(pair.there), &mut back)).expect("done");
        assert!(back == pattern);
        // Unaligned on both sides.
        let process = Ok(Target::current(pair.remote));
        let odd = pair.transfer(Way::Read, process, pair.there + 0xFFD, pair.here + 0x2FF6, 0x1234);
        assert_eq!(odd, (SUCCESS, Some(0x1234)));
        let mut middle = vec![0; 0x1234 + 2];
        let from = Va::new(pair.here + 0x2FF5);
        host.run(ReadMemory::new(pair.program.space, from, &mut middle)).expect("done");
        assert!(middle[1..0x1235] == pattern[0xFFD..0xFFD + 0x1234]);
        assert_eq!((middle[0], middle[0x1235]), (pattern[0x2FF5], pattern[0x2FF6 + 0x1234]));
        host.audit_at_rest();
    }

    fn source_with_a_hole_copies_nothing<M>() {
        for profile in Profile::ALL {
            let pair = Pair::<M>::of(profile);
            pair.protect(pair.program.space, pair.here + 0x2000, 2, 1);
            assert_eq!(pair.whole(Way::Write), (0x8000_000D, Some(0)));
            let pair = Pair::<M>::of(profile);
            pair.protect(pair.remote, pair.there + 0x7000, 1, 1);
            assert_eq!(pair.whole(Way::Read), (0x8000_000D, Some(0)));
        }
    }

    fn destination_with_a_hole_takes_what_lies_before_it<M>() {
        for (profile, broken) in [
            (Profile::Legacy, (0xC000_0005, Some(0))),
            (Profile::Modern, (0x8000_000D, Some(0x2000))),
        ] {
            let pair = Pair::<M>::of(profile);
            pair.protect(pair.remote, pair.there + 0x2000, 6, 0x20);
            assert_eq!(pair.whole(Way::Write), broken);
            let again = pair.program.host.query(pair.remote, Va::new(pair.there + 0x2000));
            assert_eq!(again.protection.expect("committed").to_page_flags(), 0x20);
            pair.protect(pair.remote, pair.there, 8, 2);
            assert_eq!(pair.whole(Way::Write), (0x8000_000D, Some(0)), "not one byte");
        }
        let bad_buffer = |profile| {
            let pair = Pair::<M>::of(profile);
            let process = Ok(Target::current(pair.remote));
            pair.transfer(Way::Read, process, pair.there, 0x1234, 12)
        };
        assert_eq!(bad_buffer(Profile::Legacy), (0xC000_0005, Some(0)));
        assert_eq!(bad_buffer(Profile::Modern), (0x8000_000D, Some(0)));
    }

    fn ranges_are_checked_before_sizes_before_handles<M>() {
        let pair = Pair::<M>::of(Profile::Legacy);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        let bad = Err(NtStatus::INVALID_HANDLE);
        for (base, buffer, size) in [
            (highest, pair.here, 2),
            (pair.there, highest, 2),
            (u64::MAX, pair.here, 1),
            (pair.there, pair.here, u64::MAX),
            (highest + 2, pair.here, 0),
        ] {
            let answer = pair.transfer(Way::Read, bad, base, buffer, size);
            assert_eq!(answer, (0xC000_0005, None), "{base:#x} {buffer:#x} {size:#x}");
        }
        assert_eq!(pair.transfer(Way::Read, bad, 0, 0, 0), (SUCCESS, Some(0)));
        assert_eq!(pair.transfer(Way::Read, bad, 0, 0, 1), (0xC000_0008, Some(0)));
        let only = |access| Ok(Target { space: pair.remote, access });
        let (there, here) = (pair.there, pair.here);
        let read = only(ProcessAccess::VM_READ);
        let write = only(ProcessAccess::VM_WRITE);
        assert_eq!(pair.transfer(Way::Read, read, there, here, 8), (SUCCESS, Some(8)));
        assert_eq!(pair.transfer(Way::Write, read, there, here, 8), (0xC000_0022, Some(0)));
        assert_eq!(pair.transfer(Way::Write, write, there, here, 8), (SUCCESS, Some(8)));
        assert_eq!(pair.transfer(Way::Read, write, there, here, 8), (0xC000_0022, Some(0)));
    }

    fn guards_of_others_are_consumed<M>() {
        let pair = Pair::<M>::of(Profile::Modern);
        pair.protect(pair.remote, pair.there + 0x1000, 1, 0x104);
        assert_eq!(pair.whole(Way::Write), (0x8000_000D, Some(0x1000)));
        assert_eq!(pair.whole(Way::Write), (SUCCESS, Some(0x8000)));
        pair.program.host.audit_at_rest();
    }

    fn copy_that_is_given_up_leaves_nothing_behind<M>() {
        let pair = Pair::<M>::of(Profile::Legacy);
        let host = &pair.program.host;
        host.write(pair.remote, Va::new(pair.there), 7);
        host.page_out(pair.remote, Va::new(pair.there));
        let parameters = TransferParameters {
            process: Ok(Target::current(pair.remote)),
            base: pair.there,
            local: pair.program.space,
            buffer: pair.here,
            size: 8,
            done: Ok(()),
        };
        let mut call = TransferVirtualMemory::read(pair.program.caller, parameters);
        assert!(matches!(host.step(&mut call), Step::Wait(_)), "for the paging file");
        host.abandon(call);
        host.settle();
        host.audit_at_rest();
        let process = Ok(Target::current(pair.remote));
        let again = pair.transfer(Way::Read, process, pair.there, pair.here, 8);
        assert_eq!(again, (SUCCESS, Some(8)));
        assert_eq!(host.read(pair.program.space, Va::new(pair.here)), 7);
    }

    fn accesses_by_software_stop_where_a_program_would<M>() {
        let pair = Pair::<M>::of(Profile::Legacy);
        let host = &pair.program.host;
        let mut buffer = [1; 32];
        let end = Va::new(pair.there + 0x8000 - 16);
        let read = host.run(ReadMemory::new(pair.remote, end, &mut buffer)).expect("done");
        assert_eq!((read.bytes.get(), read.status), (16, NtStatus::ACCESS_VIOLATION));
        assert_eq!((buffer[..16] == [0; 16], buffer[16..] == [1; 16]), (true, true));
        let kernel = Va::new(u64::MAX - 7);
        let wrote = host.run(WriteMemory::new(pair.remote, kernel, &buffer)).expect("done");
        assert_eq!((wrote.bytes.get(), wrote.status), (0, NtStatus::ACCESS_VIOLATION));
        host.delete(pair.remote);
        let gone = host.run(WriteMemory::new(pair.remote, end, &buffer)).expect("done");
        assert_eq!(gone.status, NtStatus::INVALID_HANDLE);
    }
}
