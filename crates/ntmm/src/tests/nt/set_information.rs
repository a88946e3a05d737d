//! NtSetInformationVirtualMemory (API 20).

use super::{Program, SUCCESS};
use crate::NtStatus;
use crate::nt::{MemoryRange, SetInformationParameters, SetInformationVirtualMemory};

const RANGE: &[MemoryRange] = &[(0x1_0000, 0x1000)];

in_every_mode! {
    fn mistakes_are_noticed_in_order<M>() {
        let program = Program::<M>::modern();
        let bad = NtStatus::ACCESS_VIOLATION;
        let mut call = SetInformationParameters {
            process: Err(NtStatus::INVALID_HANDLE),
            class: 1,
            count: 0,
            ranges: Err(bad),
            information: None,
            length: 3,
        };
        let mut expect = |code: u32, mend: &dyn Fn(&mut SetInformationParameters<'static>)| {
            let operation = SetInformationVirtualMemory::new(program.caller, call);
            assert_eq!(program.host.run(operation).expect("done").code(), code, "{call:?}");
            mend(&mut call);
        };
        expect(0xC000_00F0, &|call| call.class = 0);
        expect(0xC000_00F3, &|call| call.information = Some(Err(NtStatus::ACCESS_VIOLATION)));
        expect(0xC000_00F4, &|call| call.length = 4);
        expect(0xC000_0005, &|call| call.information = Some(Ok(0)));
        expect(0xC000_00F1, &|call| call.count = u64::MAX);
        expect(0xC000_00F1, &|call| call.count = 1);
        expect(0xC000_0005, &|call| call.ranges = Ok(&[]));
        expect(0xC000_0005, &|call| call.ranges = Ok(&[(0x1_0000, 0)]));
        expect(0xC000_00F2, &|call| call.ranges = Ok(&[(u64::MAX, 1)]));
        expect(0xC000_00F2, &|call| call.ranges = Ok(&[(0x1000, u64::MAX)]));
        expect(0xC000_00F2, &|call| call.ranges = Ok(RANGE));
        expect(0xC000_0008, &|call| call.process = program.process());
        expect(SUCCESS, &|call| call.ranges = Ok(&[(0, 1), (0, 0)]));
        expect(SUCCESS, &|call| call.count = 2);
        expect(0xC000_00F2, &|_| ());
        program.host.delete(program.space);
        call.count = 1;
        let operation = SetInformationVirtualMemory::new(program.caller, call);
        assert_eq!(program.host.run(operation).expect("done").code(), 0xC000_0008);
    }

    fn old_systems_do_not_know_the_call<M>() {
        let program = Program::<M>::legacy();
        let (process, ranges) = (program.process(), Ok(RANGE));
        let (count, information) = (1, Some(Ok(0)));
        let call =
            SetInformationParameters { process, class: 0, count, ranges, information, length: 4 };
        let operation = SetInformationVirtualMemory::new(program.caller, call);
        assert_eq!(program.host.run(operation).expect("done").code(), 0xC000_0002);
    }
}
