//! Bad pointers, lengths, handles and numbers for every service, through both gates.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_RELEASE, MEM_RESERVE, PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE};
use ntmm_user::memory::Block;
use ntmm_user::services::Service;
use ntmm_user::{NtStatus, PAGE_SIZE, gate, threads};

/// What the service does with what a pointer points to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Reads,
    Writes,
    /// Writes, unless it is null.
    MayWrite,
}

/// A service with arguments that are right, and those of them that are pointers.
struct Subject {
    service: Service,
    arguments: [u64; 6],
    pointers: &'static [(usize, Use)],
}

/// The calling process.
const OWN: u64 = u64::MAX;
/// Bytes of the name below.
const NAME: &str = "programs";

/// Everything.
pub fn check(findings: &mut Findings) -> Result<(), NtStatus> {
    let good = Good::new()?;
    let bad = Bad::new()?;
    for subject in good.subjects() {
        for &(position, usage) in subject.pointers {
            for pointer in bad.pointers(usage) {
                let mut arguments = subject.arguments;
                if let Some(argument) = arguments.get_mut(position) {
                    *argument = pointer;
                }
                good.reset();
                each_gate(subject.service, arguments, |gate, status| {
                    findings.equal(
                        format_args!(
                            "{:?}, argument {position} 0x{pointer:x}, {gate}",
                            subject.service
                        ),
                        NtStatus::ACCESS_VIOLATION,
                        status,
                    );
                });
            }
        }
    }
    numbers(findings, &good);
    bad.block.release()?;
    good.block.release()
}

/// Makes the service by `syscall` and by `int 0x2e`.
fn each_gate(service: Service, arguments: [u64; 6], mut answered: impl FnMut(&str, NtStatus)) {
    // SAFETY: the arguments here are bad, or point into blocks of this module that nothing relies
    // on.
    let statuses = unsafe {
        [gate::system_call(service as u32, arguments), gate::interrupt(service as u32, arguments)]
    };
    answered("syscall", statuses[0]);
    answered("int", statuses[1]);
}

/// Memory that can be pointed to.
struct Good {
    block: Block,
}

impl Good {
    fn new() -> Result<Self, NtStatus> {
        let good = Self { block: Block::commit_new(2)? };
        let name = NAME.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        good.block.store(PAGE_SIZE, name);
        Ok(good)
    }

    /// What the cells hold.
    fn reset(&self) {
        self.block.store(Self::BASE, 0);
        self.block.store(Self::SIZE, PAGE_SIZE);
        self.block.store(Self::COMMAND, 3);
        self.block.store(Self::COUNT, 1);
        self.block.store(Self::REST, self.block.base() + Self::COUNT);
        self.block.store(Self::REST + 8, self.block.base() + Self::GRANULARITY);
        self.block.store(Self::STACK, self.block.base() + PAGE_SIZE);
    }

    const BASE: u64 = 0;
    const SIZE: u64 = 8;
    const OLD: u64 = 16;
    const RETURNED: u64 = 24;
    const COMMAND: u64 = 32;
    const COUNT: u64 = 40;
    const GRANULARITY: u64 = 48;
    const REST: u64 = 56;
    const STACK: u64 = 72;
    const STATUS: u64 = 96;
    const BUFFER: u64 = 0x400;

    fn subjects(&self) -> [Subject; 18] {
        use Use::{MayWrite, Reads, Writes};
        let at = |offset| self.block.base() + offset;
        let (base, size, old) = (at(Self::BASE), at(Self::SIZE), at(Self::OLD));
        let (returned, buffer) = (at(Self::RETURNED), at(Self::BUFFER));
        let name = at(PAGE_SIZE);
        let (reserve, release) = (u64::from(MEM_RESERVE.0), u64::from(MEM_RELEASE.0));
        let writable = u64::from(PAGE_READWRITE.0);
        let start = (ends_at_once as *const ()).addr() as u64;
        let length = NAME.len() as u64;
        [
            Subject {
                service: Service::AllocateVirtualMemory,
                arguments: [OWN, base, 0, size, reserve, writable],
                pointers: &[(1, Writes), (3, Writes)],
            },
            Subject {
                service: Service::FreeVirtualMemory,
                arguments: [OWN, base, size, release, 0, 0],
                pointers: &[(1, Writes), (2, Writes)],
            },
            Subject {
                service: Service::ProtectVirtualMemory,
                arguments: [OWN, base, size, writable, old, 0],
                pointers: &[(1, Writes), (2, Writes), (4, Writes)],
            },
            Subject {
                service: Service::QueryVirtualMemory,
                arguments: [OWN, buffer, 0, buffer, 48, returned],
                pointers: &[(3, Writes), (5, MayWrite)],
            },
            Subject {
                service: Service::CreateThreadEx,
                arguments: [OWN, base, start, 0, at(Self::STACK), 0],
                pointers: &[(1, Writes), (4, Reads)],
            },
            Subject {
                service: Service::Continue,
                arguments: [base, 0, 0, 0, 0, 0],
                pointers: &[(0, Reads)],
            },
            Subject {
                service: Service::DisplayString,
                arguments: [name, length, 0, 0, 0, 0],
                pointers: &[(0, Reads)],
            },
            Subject {
                service: Service::QuerySystemInformation,
                arguments: [2, buffer, 96, returned, 0, 0],
                pointers: &[(1, Writes), (3, MayWrite)],
            },
            Subject {
                service: Service::SetSystemInformation,
                arguments: [80, at(Self::COMMAND), 4, 0, 0, 0],
                pointers: &[(1, Reads)],
            },
            Subject {
                service: Service::SetInformationProcess,
                arguments: [OWN, 1, buffer, 16, 0, 0],
                pointers: &[(2, Reads)],
            },
            Subject {
                service: Service::ReadArchive,
                arguments: [name, length, buffer, 0x800, returned, 0],
                pointers: &[(0, Reads), (2, Writes), (4, Writes)],
            },
            Subject {
                service: Service::AllocateVirtualMemoryEx,
                arguments: [OWN, base, size, reserve, writable, at(Self::REST)],
                pointers: &[(5, Reads)],
            },
            Subject {
                service: Service::LockVirtualMemory,
                arguments: [OWN, base, size, 1, 0, 0],
                pointers: &[(1, Writes), (2, Writes)],
            },
            Subject {
                service: Service::UnlockVirtualMemory,
                arguments: [OWN, base, size, 1, 0, 0],
                pointers: &[(1, Writes), (2, Writes)],
            },
            Subject {
                service: Service::FlushVirtualMemory,
                arguments: [OWN, base, size, at(Self::STATUS), 0, 0],
                pointers: &[(1, Writes), (2, Writes), (3, Writes)],
            },
            Subject {
                service: Service::ReadVirtualMemory,
                arguments: [OWN, name, buffer, 64, returned, 0],
                pointers: &[(2, Writes), (4, MayWrite)],
            },
            Subject {
                service: Service::WriteVirtualMemory,
                arguments: [OWN, buffer, name, 64, returned, 0],
                pointers: &[(4, MayWrite)],
            },
            Subject {
                service: Service::GetWriteWatch,
                arguments: [OWN, 0, buffer, 8, buffer, at(Self::REST)],
                pointers: &[(4, Writes), (5, Reads)],
            },
        ]
    }
}

extern "C" fn ends_at_once(_argument: u64) -> ! {
    threads::exit(NtStatus::SUCCESS)
}

/// Memory that cannot be pointed to.
struct Bad {
    block: Block,
}

/// Addresses that are nobody's.
const NOBODYS: [u64; 12] = [
    8,
    0xFFF8,
    0x0000_07FF_FFFE_0000,
    0x0000_07FF_FFFF_0000,
    0x0000_7FFF_FFFF_FFF8,
    0x0000_7FFF_FFFF_FFFE,
    0x0000_8000_0000_0000,
    0xFFFF_7FFF_FFFF_FFFE,
    0xFFFF_8000_0000_0000,
    0xFFFF_F680_0000_0000,
    0xFFFF_FFFF_8010_0000,
    0xFFFF_FFFF_FFFF_FFFE,
];

/// Pages of the block of [`Bad`].
const NO_ACCESS: u64 = PAGE_SIZE;
const READ_ONLY: u64 = 3 * PAGE_SIZE;
const RESERVED: u64 = 4 * PAGE_SIZE;
const LAST: u64 = 15 * PAGE_SIZE;
const END: u64 = 16 * PAGE_SIZE;

impl Bad {
    fn new() -> Result<Self, NtStatus> {
        let block = Block::reserve(END / PAGE_SIZE)?;
        block.commit(0, RESERVED, PAGE_READWRITE)?;
        block.commit(LAST, PAGE_SIZE, PAGE_READWRITE)?;
        block.protect(NO_ACCESS, PAGE_SIZE, PAGE_NOACCESS)?;
        block.protect(READ_ONLY, PAGE_SIZE, PAGE_READONLY)?;
        Ok(Self { block })
    }

    /// Pointers that a service cannot use so; each object would have at least two bytes there.
    fn pointers(&self, usage: Use) -> impl Iterator<Item = u64> {
        let base = self.block.base();
        let inside = [NO_ACCESS, NO_ACCESS - 2, RESERVED, LAST - 2, END - 2, END];
        let null = (usage != Use::MayWrite).then_some(0);
        // The page before the reserved ones may be read.
        let (read_only, across) = match usage {
            Use::Reads => (None, Some(base + RESERVED - 2)),
            Use::Writes | Use::MayWrite => (Some(base + READ_ONLY + 8), Some(base + READ_ONLY - 2)),
        };
        NOBODYS
            .into_iter()
            .chain(inside.map(|offset| base + offset))
            .chain(null)
            .chain(read_only)
            .chain(across)
    }
}

/// Handles, lengths, classes and numbers that are out of bounds are refused, with any status.
fn numbers(findings: &mut Findings, good: &Good) {
    let at = |offset| good.block.base() + offset;
    let (base, size, buffer) = (at(Good::BASE), at(Good::SIZE), at(Good::BUFFER));
    let (name, rest) = (at(PAGE_SIZE), at(Good::REST));
    let nobody = 0x1234;
    let (reserve, writable) = (u64::from(MEM_RESERVE.0), u64::from(PAGE_READWRITE.0));
    let refused: [(Service, [u64; 6]); 38] = [
        (Service::AllocateVirtualMemory, [nobody, base, 0, size, reserve, writable]),
        (Service::AllocateVirtualMemory, [0, base, 0, size, reserve, writable]),
        (Service::AllocateVirtualMemory, [u64::MAX - 1, base, 0, size, reserve, writable]),
        (Service::FreeVirtualMemory, [nobody, base, size, u64::from(MEM_RELEASE.0), 0, 0]),
        (Service::QueryVirtualMemory, [nobody, buffer, 0, buffer, 48, 0]),
        (Service::QueryVirtualMemory, [OWN, buffer, 0x77, buffer, 48, 0]),
        (Service::QueryVirtualMemory, [OWN, buffer, 0, buffer, 47, 0]),
        (Service::QueryVirtualMemory, [OWN, buffer, 0, buffer, 0, 0]),
        (Service::QueryVirtualMemory, [OWN, u64::MAX, 0, buffer, 48, 0]),
        (Service::TerminateProcess, [nobody, 0, 0, 0, 0, 0]),
        (Service::TerminateThread, [nobody, 0, 0, 0, 0, 0]),
        (Service::CreateThreadEx, [nobody, base, 0, 0, 0, 0]),
        (Service::DisplayString, [name, 1 << 20, 0, 0, 0, 0]),
        (Service::DisplayString, [name, 1 << 40, 0, 0, 0, 0]),
        (Service::DisplayString, [name, u64::MAX, 0, 0, 0, 0]),
        (Service::QuerySystemInformation, [0x7777, buffer, 96, 0, 0, 0]),
        (Service::QuerySystemInformation, [2, buffer, 0, 0, 0, 0]),
        (Service::SetSystemInformation, [0x7777, at(Good::COMMAND), 4, 0, 0, 0]),
        (Service::SetSystemInformation, [80, at(Good::COMMAND), 0, 0, 0, 0]),
        (Service::SetInformationProcess, [nobody, 1, buffer, 16, 0, 0]),
        (Service::SetInformationProcess, [OWN, 0x7777, buffer, 16, 0, 0]),
        (Service::ReadArchive, [name, 3, buffer, 0x800, at(Good::RETURNED), 0]),
        (Service::ReadArchive, [name, u64::MAX, buffer, 0x800, at(Good::RETURNED), 0]),
        (Service::WaitForThread, [0x7777_7777, 0, 0, 0, 0, 0]),
        (Service::AllocateVirtualMemoryEx, [nobody, base, size, reserve, writable, rest]),
        (Service::AllocateVirtualMemoryEx, [OWN, base, size, reserve, writable, at(Good::BASE)]),
        (Service::LockVirtualMemory, [nobody, base, size, 1, 0, 0]),
        (Service::LockVirtualMemory, [OWN, base, size, 0, 0, 0]),
        (Service::LockVirtualMemory, [OWN, base, size, 2, 0, 0]),
        (Service::UnlockVirtualMemory, [nobody, base, size, 1, 0, 0]),
        (Service::FlushVirtualMemory, [nobody, base, size, at(Good::STATUS), 0, 0]),
        (Service::ReadVirtualMemory, [nobody, name, buffer, 64, 0, 0]),
        (Service::ReadVirtualMemory, [OWN, name, buffer, u64::MAX, 0, 0]),
        (Service::WriteVirtualMemory, [nobody, buffer, name, 64, 0, 0]),
        (Service::WriteVirtualMemory, [OWN, buffer, name, 1 << 46, 0, 0]),
        (Service::GetWriteWatch, [nobody, 0, buffer, 8, buffer, rest]),
        (Service::GetWriteWatch, [OWN, 0, buffer, 8, buffer, rest]),
        (Service::ResetWriteWatch, [nobody, buffer, 8, 0, 0, 0]),
    ];
    for (service, arguments) in refused {
        good.reset();
        each_gate(service, arguments, |gate, status| {
            if status.is_success() {
                findings.wrong(
                    format_args!("{service:?} {arguments:x?}, {gate}"),
                    "refusal",
                    status,
                );
            }
        });
    }
    for number in [26, 27, 0x7F, 0xFF, 0x100, 0x1000, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
        // SAFETY: there is no such service.
        let statuses =
            unsafe { [gate::system_call(number, [0; 6]), gate::interrupt(number, [0; 6])] };
        let none = NtStatus::INVALID_SYSTEM_SERVICE;
        findings.equal(format_args!("service 0x{number:x}"), [none; 2], statuses);
    }
}
