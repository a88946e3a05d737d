//! Calls with whatever a hostile caller can pass: any pointer, size, flag and handle.
//!
//! Nothing is known of what such a call should answer. What is checked is that it ends with a
//! status, that a failing one writes nothing back and leaves the address spaces of all processes,
//! their physical pages with the windows these are mapped into, and the commitment as they were,
//! and that the manager's records are in order, every few hundred calls and afterwards. Two
//! things may change although a call fails, since the specification says so (6, 9): a call that
//! touches memory takes the guard off a page it hits, and a copy that goes bad has written what
//! came before.

mod digest;
mod physical_pages;

use ntmm::ProcessorMode;
use ntmm::nt::{
    AddressRequirements, AllocateParameters, AllocateVirtualMemory, Caller, Captured,
    ExtendedParameter, FlushParameters, FlushVirtualMemory, FreeParameters, FreeVirtualMemory,
    GetWriteWatchCall, LockParameters, LockVirtualMemory, PointerWidth, Privileges, Process,
    ProcessAccess, ProtectParameters, ProtectVirtualMemory, QueryParameters, QueryVirtualMemory,
    ResetWriteWatchCall, Target, TransferParameters, TransferVirtualMemory, UnlockVirtualMemory,
    WriteWatchParameters,
};
use ntmm::{AddressSpaceId, DeleteAddressSpace, NtStatus};
use ntmm_check::setup::Paging;
use ntmm_machine::Hardware;
use ntmm_pte::{Amd64, I386, Pae};

use crate::model::numbers::PAGE;
use crate::random::Random;
use crate::rules::Rules;
use crate::subject::{Host, Stopped};

/// Numbers at which something ends.
const ENDS: [u64; 11] = [
    0,
    0x1_0000,
    0x5000_0000,
    0x7FFE_0000,
    0x7FFF_0000,
    1 << 31,
    1 << 32,
    0x7FF_FFFE_0000,
    1 << 47,
    1 << 63,
    0xFFFF_8000_0000_0000,
];

/// Calls after which the manager's records are audited.
const AUDIT_PERIOD: u64 = 256;

/// What hostile calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Calls that failed.
    pub failures: u64,
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed while a physical page was mapped into a window.
    pub with_mappings: u64,
}

/// Makes `calls` calls that follow from a seed.
///
/// # Errors
/// What one of them did.
pub fn survive(rules: Rules, seed: u64, calls: u64) -> Result<Survived, String> {
    match rules.paging {
        Paging::I386 => Hostile::<I386>::new(rules, seed)?.run(calls),
        Paging::Pae => Hostile::<Pae>::new(rules, seed)?.run(calls),
        Paging::Amd64 => Hostile::<Amd64>::new(rules, seed)?.run(calls),
    }
}

/// What a call may change although it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Nothing.
    None,
    /// Guards of pages it touches, and what memory holds.
    Touches,
}

/// How a call ended.
struct Ended {
    status: NtStatus,
    /// Something is written back that only success writes.
    written: bool,
    harm: Harm,
}

impl Ended {
    const fn new(status: NtStatus, written: bool) -> Self {
        Self { status, written, harm: Harm::None }
    }

    const fn touching(self) -> Self {
        Self { harm: Harm::Touches, ..self }
    }
}

/// Two processes, one that has ended, and a hostile caller.
struct Hostile<M: Hardware> {
    host: Host<M>,
    rules: Rules,
    random: Random,
    /// One in so many parameters of the call is odd.
    calm: u64,
    current: AddressSpaceId,
    other: AddressSpaceId,
    ended: AddressSpaceId,
    words: Vec<u64>,
    /// Pages that were granted to one of them.
    granted: Vec<u64>,
}

impl<M: Hardware> Hostile<M> {
    fn new(rules: Rules, seed: u64) -> Result<Self, Stopped> {
        let mut host = Host::boot()?;
        let (current, other) = (host.create_space()?, host.create_space()?);
        let ended = host.create_space()?;
        host.complete(DeleteAddressSpace::new(ended))?;
        let random = Random::new(seed);
        let (words, granted) = (vec![0; 512], Vec::new());
        Ok(Self { host, rules, random, calm: 1, current, other, ended, words, granted })
    }

    fn run(mut self, calls: u64) -> Result<Survived, String> {
        let mut survived = Survived::default();
        let mut before = self.digest()?;
        for number in 0..calls {
            let kind = self.random.below(NAMES.len() as u64) as usize;
            let of = |what: String| format!("call {number}, {}: {what}", NAMES[kind]);
            self.calm = self.random.pick(&[2, 6, 30]);
            let Ended { status, written, harm } = self.call(kind).map_err(of)?;
            let after = self.digest().map_err(of)?;
            if status.is_success() {
                survived.successes += 1;
            } else {
                survived.failures += 1;
                survived.with_mappings += u64::from(before.has_mappings());
                if written {
                    return Err(of(format!("failed with {status} and wrote something back")));
                }
                if before.without(harm) != after.without(harm) {
                    let change = format!("{before:x?}\ninto {after:x?}");
                    return Err(of(format!("failed with {status} and changed {change}")));
                }
            }
            before = after;
            if number % AUDIT_PERIOD == 0 {
                self.host.audit_records().map_err(of)?;
            }
        }
        self.host.audit_records()?;
        for space in [self.current, self.other] {
            self.host.complete(DeleteAddressSpace::new(space))?;
        }
        self.host.audit()?;
        Ok(survived)
    }
}

/// The calls.
const NAMES: [&str; 19] = [
    "NtAllocateVirtualMemory",
    "NtAllocateVirtualMemoryEx",
    "NtFreeVirtualMemory",
    "NtProtectVirtualMemory",
    "NtQueryVirtualMemory",
    "NtLockVirtualMemory",
    "NtUnlockVirtualMemory",
    "NtReadVirtualMemory",
    "NtWriteVirtualMemory",
    "NtFlushVirtualMemory",
    "NtGetWriteWatch",
    "NtResetWriteWatch",
    "NtAllocateUserPhysicalPages",
    "NtFreeUserPhysicalPages",
    "NtMapUserPhysicalPages",
    // Something for the others to find.
    "NtAllocateVirtualMemory as a program makes it",
    "NtAllocateVirtualMemory of large pages",
    "NtFreeVirtualMemory as a program makes it",
    "NtMapUserPhysicalPages as a program makes it",
];

impl<M: Hardware> Hostile<M> {
    fn caller(&mut self) -> Caller {
        let random = &mut self.random;
        Caller {
            profile: self.rules.version.profile(),
            mode: random.pick(&[ProcessorMode::User, ProcessorMode::User, ProcessorMode::Kernel]),
            privileges: random.pick(&[Privileges::empty(), Privileges::all()]),
            width: random.pick(&[PointerWidth::Bits32, PointerWidth::Bits64]),
        }
    }

    /// Whether the next parameter is to be odd.
    fn is_odd(&mut self) -> bool {
        self.random.one_in(self.calm)
    }

    fn process(&mut self) -> Process {
        if !self.is_odd() {
            return Ok(Target::current(self.random.pick(&[self.current, self.other])));
        }
        let space = match self.random.below(8) {
            0 => self.ended,
            1 | 2 => self.other,
            _ => self.current,
        };
        match self.random.below(6) {
            0 => Err(NtStatus::INVALID_HANDLE),
            1 => Err(NtStatus::OBJECT_TYPE_MISMATCH),
            2 => Err(NtStatus::PROCESS_IS_TERMINATING),
            3 | 4 => {
                let access = ProcessAccess::from_bits_retain(self.random.next() as u32);
                Ok(Target { space, access })
            }
            _ => Ok(Target::current(space)),
        }
    }

    /// Any number; often one near an end or in the stretch where calls meet.
    fn number(&mut self) -> u64 {
        if !self.is_odd() {
            return self.place();
        }
        let random = &mut self.random;
        match random.below(6) {
            0 => random.next(),
            1 => random.next() >> random.below(64),
            _ => {
                let some = random.below(0x3000);
                let off = random.pick(&[0, 1, PAGE, 0x1_0000, some]);
                let end = random.pick(&ENDS);
                if random.one_in(2) { end.wrapping_add(off) } else { end.wrapping_sub(off) }
            }
        }
    }

    /// An address in the stretch where calls meet.
    fn place(&mut self) -> u64 {
        let random = &mut self.random;
        let some = random.below(PAGE);
        let off = random.pick(&[0, 0, 0, 1, PAGE - 1, some]);
        0x5000_0000 + random.below(64) * PAGE + off
    }

    fn size(&mut self) -> u64 {
        if !self.is_odd() {
            return (1 + self.random.below(20)) * PAGE;
        }
        match self.random.below(4) {
            0 => 0,
            1 => self.random.below(3 * PAGE),
            _ => self.number(),
        }
    }

    fn flags(&mut self, usual: &[u32]) -> u32 {
        let is_odd = self.is_odd();
        let random = &mut self.random;
        match random.below(3) {
            _ if !is_odd => random.pick(usual),
            0 => random.next() as u32,
            1 => 1 << random.below(32),
            _ => random.pick(usual) | 1 << random.below(32),
        }
    }

    fn captured<T>(&mut self, value: T) -> Captured<T> {
        const DATATYPE_MISALIGNMENT: NtStatus = NtStatus::new(0x8000_0002);
        match self.random.below(3) {
            _ if !self.is_odd() => Ok(value),
            0 => Err(NtStatus::ACCESS_VIOLATION),
            1 => Err(DATATYPE_MISALIGNMENT),
            _ => Ok(value),
        }
    }

    fn base(&mut self) -> Captured {
        let value = self.number();
        self.captured(value)
    }

    fn bytes(&mut self) -> Captured {
        let value = self.size();
        self.captured(value)
    }

    fn allocation(&mut self) -> AllocateParameters {
        const KINDS: [u32; 12] = [
            0x1000,
            0x2000,
            0x3000,
            0x3000,
            0x8_0000,
            0x10_3000,
            0x20_3000,
            0x40_2000,
            0x4_2000,
            0x6000,
            0x7000,
            0x2000_3000,
        ];
        AllocateParameters {
            process: self.process(),
            base: self.base(),
            zero_bits: if self.random.one_in(3) { self.number() } else { 0 },
            size: self.bytes(),
            kind: self.flags(&KINDS),
            protection: self.flags(&[1, 2, 4, 4, 8, 0x40, 0x104, 0x204]),
        }
    }

    fn call(&mut self, kind: usize) -> Result<Ended, Stopped> {
        let caller = self.caller();
        match kind {
            0 => {
                let parameters = self.allocation();
                self.ranged(AllocateVirtualMemory::new(caller, parameters))
            }
            1 => self.allocate_extended(caller),
            2 => {
                let parameters = FreeParameters {
                    process: self.process(),
                    base: self.base(),
                    size: self.bytes(),
                    kind: self.flags(&[0x4000, 0x8000, 0x8001, 0x8002]),
                };
                self.ranged(FreeVirtualMemory::new(caller, parameters))
            }
            3 => {
                let parameters = ProtectParameters {
                    process: self.process(),
                    base: self.base(),
                    size: self.bytes(),
                    protection: self.flags(&[1, 2, 4, 8, 0x40, 0x104, 0x204]),
                    old: self.captured(()),
                };
                let ended = self.host.complete(ProtectVirtualMemory::new(caller, parameters))?;
                Ok(Ended::new(ended.status, ended.output.is_some()))
            }
            4 => self.query(caller),
            5 => {
                let parameters = self.lock_parameters();
                let ended = self.ranged(LockVirtualMemory::new(caller, parameters))?;
                Ok(ended.touching())
            }
            6 => {
                let parameters = self.lock_parameters();
                self.ranged(UnlockVirtualMemory::new(caller, parameters))
            }
            7 => {
                let parameters = self.transfer();
                self.transferred(TransferVirtualMemory::read(caller, parameters))
            }
            8 => {
                let parameters = self.transfer();
                self.transferred(TransferVirtualMemory::write(caller, parameters))
            }
            9 => {
                let parameters = FlushParameters {
                    process: self.process(),
                    base: self.base(),
                    size: self.bytes(),
                    io_status: self.captured(()),
                };
                self.ranged(FlushVirtualMemory::new(caller, parameters))
            }
            10 => self.get_write_watch(caller),
            11 => {
                let (process, base, size) = (self.process(), self.number(), self.size());
                let call = ResetWriteWatchCall::new(caller, process, base, size);
                Ok(Ended::new(self.host.complete(call)?, false))
            }
            12 => self.allocate_pages(caller),
            13 => self.free_pages(caller),
            14 => self.map_pages(caller),
            15 => {
                let space = self.random.pick(&[self.current, self.other]);
                let parameters = AllocateParameters {
                    process: Ok(Target::current(space)),
                    base: Ok(self.place()),
                    zero_bits: 0,
                    size: Ok((1 + self.random.below(20)) * PAGE),
                    kind: self.random.pick(&[0x1000, 0x3000, 0x3000, 0x20_3000, 0x40_2000]),
                    protection: self.random.pick(&[2, 4, 4, 0x104]),
                };
                self.ranged(AllocateVirtualMemory::new(caller, parameters))
            }
            16 => {
                let length = M::LARGE_PAGE.to_bytes().get();
                let (base, size) = (self.base(), self.bytes());
                let aligned = |number: u64| number / length * length;
                let parameters = AllocateParameters {
                    process: self.process(),
                    base: base.map(aligned),
                    zero_bits: 0,
                    size: size.map(|size| aligned(size).max(length)),
                    kind: self.flags(&[0x2000_3000, 0x2000_3000, 0x2010_3000, 0x2000_1000]),
                    protection: self.flags(&[2, 4, 0x40, 0x204]),
                };
                self.ranged(AllocateVirtualMemory::new(caller, parameters))
            }
            17 => {
                let space = self.random.pick(&[self.current, self.other]);
                let address = self.place();
                let region = self.region(space, address)?;
                let parameters = FreeParameters {
                    process: Ok(Target::current(space)),
                    base: Ok(region.allocation_base),
                    size: Ok(0),
                    kind: 0x8000,
                };
                self.ranged(FreeVirtualMemory::new(caller, parameters))
            }
            _ => self.make_window(),
        }
    }

    fn ranged<O>(&mut self, call: O) -> Result<Ended, Stopped>
    where
        O: ntmm::operation::Operation<crate::subject::Platform<M>, Output = ntmm::nt::Outcome>,
    {
        let outcome = self.host.complete(call)?;
        Ok(Ended::new(outcome.status, outcome.output.is_some()))
    }

    fn allocate_extended(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let parameters = self.allocation();
        let extended: Vec<ExtendedParameter> = (0..self.random.below(9))
            .map(|_| {
                let asked = AddressRequirements {
                    lowest: self.number(),
                    highest: self.number(),
                    alignment: self.number(),
                };
                let kind = if self.random.one_in(4) { self.number() } else { self.random.below(8) };
                ExtendedParameter { kind, requirements: self.captured(asked) }
            })
            .collect();
        let count = match self.random.below(4) {
            0 => self.number(),
            _ => extended.len() as u64,
        };
        let given = (!self.random.one_in(4)).then_some(&extended[..]);
        self.ranged(AllocateVirtualMemory::extended(caller, parameters, given, count))
    }

    fn query(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let parameters = QueryParameters {
            process: self.process(),
            address: self.number(),
            class: if self.random.one_in(8) {
                self.random.next() as u32
            } else {
                self.random.below(12) as u32
            },
            buffer: self.captured(()),
            length: self.random.pick(&[0, 4, 8, 0x1C, 0x30, 0x400, u64::MAX]),
            return_length: self.captured(()),
        };
        let lent = self.random.below(self.words.len() as u64) as usize;
        for place in 0..lent {
            self.words[place] = self.number();
        }
        let mut words = std::mem::take(&mut self.words);
        let call = QueryVirtualMemory::new(caller, parameters, &mut words[..lent]);
        let status = self.host.complete(call).map(|outcome| outcome.status);
        self.words = words;
        // A working set that is too long is counted even so.
        Ok(Ended::new(status?, false))
    }

    fn lock_parameters(&mut self) -> LockParameters {
        LockParameters {
            process: self.process(),
            base: self.base(),
            size: self.bytes(),
            kind: self.flags(&[1, 2, 3]),
        }
    }

    fn transfer(&mut self) -> TransferParameters {
        TransferParameters {
            process: self.process(),
            base: self.number(),
            local: self.random.pick(&[self.current, self.current, self.current, self.ended]),
            buffer: self.number(),
            size: self.size(),
            done: self.captured(()),
        }
    }

    fn transferred(&mut self, call: TransferVirtualMemory) -> Result<Ended, Stopped> {
        let outcome = self.host.complete(call)?;
        // The number of bytes is written by failures too.
        Ok(Ended::new(outcome.status, false).touching())
    }

    fn get_write_watch(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let parameters = WriteWatchParameters {
            process: self.process(),
            flags: self.flags(&[0, 1]),
            base: self.number(),
            size: self.size(),
            array: self.captured(()),
            count: if self.random.one_in(2) { Ok(64) } else { self.base() },
            granularity: self.captured(()),
        };
        let lent = self.random.below(self.words.len() as u64) as usize;
        let mut words = std::mem::take(&mut self.words);
        let call = GetWriteWatchCall::new(caller, parameters, &mut words[..lent]);
        let outcome = self.host.complete(call);
        self.words = words;
        let outcome = outcome?;
        Ok(Ended::new(outcome.status, outcome.output.is_some()))
    }
}
