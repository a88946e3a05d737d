//! Handles (API 0.3 rule 7, 1.4): what they must grant, and processes that go away.

use super::{Program, SUCCESS, answer};
use crate::nt::{
    AllocateParameters, AllocateVirtualMemory, FreeParameters, FreeVirtualMemory, LockParameters,
    LockVirtualMemory, Process, ProcessAccess, ProtectParameters, ProtectVirtualMemory,
    ResetWriteWatchCall, Target,
};
use crate::{AddressSpaceId, NtStatus, ProcessorMode};
use ntmm_pte::PagingMode;

/// The codes of the calls that change a process, made through a handle.
fn codes<M: PagingMode>(program: &Program<M>, process: Process, base: u64) -> [u32; 5] {
    let Program { host, caller, .. } = program;
    let allocate = AllocateParameters {
        process,
        base: Ok(base),
        zero_bits: 0,
        size: Ok(0x1000),
        kind: 0x1000,
        protection: 4,
    };
    let free = FreeParameters { process, base: Ok(base), size: Ok(0x1000), kind: 0x4000 };
    let lock = LockParameters { process, base: Ok(base), size: Ok(0x1000), kind: 1 };
    let protect =
        ProtectParameters { process, base: Ok(base), size: Ok(0x1000), protection: 4, old: Ok(()) };
    [
        answer(host.run(AllocateVirtualMemory::new(*caller, allocate)).expect("done")).0,
        host.run(ProtectVirtualMemory::new(*caller, protect)).expect("done").status.code(),
        answer(host.run(LockVirtualMemory::new(*caller, lock)).expect("done")).0,
        host.run(ResetWriteWatchCall::new(*caller, process, base, 0x1000)).expect("done").code(),
        answer(host.run(FreeVirtualMemory::new(*caller, free)).expect("done")).0,
    ]
}

in_every_mode! {
    fn changing_a_process_takes_the_right_to_it<M>() {
        let mut program = Program::<M>::legacy();
        let base = program.memory(0x1000, 0x20_3000, 4);
        let space = program.space;
        let with = |access| Ok(Target { space, access });
        let most = !ProcessAccess::VM_OPERATION;
        assert_eq!(codes(&program, with(most), base), [0xC000_0022; 5]);
        for status in [NtStatus::INVALID_HANDLE, NtStatus::OBJECT_TYPE_MISMATCH] {
            assert_eq!(codes(&program, Err(status), base), [status.code(); 5]);
        }
        let good = codes(&program, with(ProcessAccess::VM_OPERATION), base);
        assert_eq!(good, [SUCCESS; 5]);
        program.caller.mode = ProcessorMode::Kernel;
        assert_eq!(codes(&program, with(ProcessAccess::empty()), base), [SUCCESS; 5]);
        program.host.audit_at_rest();
    }

    fn processes_that_are_gone_have_a_status<M>() {
        let program = Program::<M>::legacy();
        let base = program.memory(0x1000, 0x3000, 4);
        let other = program.host.space();
        program.host.delete(other);
        let gone = codes(&program, Ok(Target::current(other)), base);
        assert_eq!(gone, [0xC000_0008; 5]);
        let forged = AddressSpaceId::forged(7777, 3);
        assert_eq!(codes(&program, Ok(Target::current(forged)), base), [0xC000_0008; 5]);
    }
}
