//! What the services and the exception path read and write in a program's memory.

use crate::NtStatus;
use crate::flags::{MemoryFlags, Protection};

/// A handle. Only the two that mean "my own" name anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Handle(pub i64);

impl Handle {
    /// The calling process (NtCurrentProcess).
    pub const CURRENT_PROCESS: Self = Self(-1);
    /// The calling thread (NtCurrentThread).
    pub const CURRENT_THREAD: Self = Self(-2);
}

/// What is at an address (MEMORY_BASIC_INFORMATION, x64 layout, 48 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct MemoryBasicInformation {
    /// First address of the page asked about.
    pub base_address: u64,
    /// First address of the allocation; 0 in free space.
    pub allocation_base: u64,
    /// Protection the allocation was made with.
    pub allocation_protect: Protection,
    /// Always 0 here.
    pub partition_id: u16,
    /// Padding.
    pub reserved: u16,
    /// Bytes from `base_address` on that are alike.
    pub region_size: u64,
    /// MEM_COMMIT, MEM_RESERVE or MEM_FREE.
    pub state: MemoryFlags,
    /// Protection now; 0 unless committed.
    pub protect: Protection,
    /// MEM_PRIVATE, or 0 in free space.
    pub kind: MemoryFlags,
    /// Padding.
    pub reserved_end: u32,
}

impl MemoryBasicInformation {
    /// Nothing, to be filled by the service.
    pub const EMPTY: Self = Self {
        base_address: 0,
        allocation_base: 0,
        allocation_protect: Protection(0),
        partition_id: 0,
        reserved: 0,
        region_size: 0,
        state: MemoryFlags(0),
        protect: Protection(0),
        kind: MemoryFlags(0),
        reserved_end: 0,
    };
}

const _: () = assert!(size_of::<MemoryBasicInformation>() == 48);

/// What is known of the pages at an address (an entry of MEMORY_WORKING_SET_EX_INFORMATION).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PageAttributes {
    /// The address asked about.
    pub address: u64,
    /// Bit 0: it is in the working set. From bit 4 on its protection; bit 22: it is locked.
    pub attributes: u64,
}

/// The allocation at an address as a whole (MEMORY_REGION_INFORMATION, x64 layout, 48 bytes).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct RegionInformation {
    /// First address of the allocation.
    pub allocation_base: u64,
    /// Protection it was made with.
    pub allocation_protect: u32,
    /// Always 0 here.
    pub kind: u32,
    /// Bytes of the allocation.
    pub size: u64,
    /// Bytes of it that are committed.
    pub committed: u64,
    /// Always 0 here.
    pub partition: u64,
    /// Always 0 here.
    pub node: u64,
}

/// An extended parameter of an allocation (MEM_EXTENDED_PARAMETER).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ExtendedParameter {
    /// Which one, in the low 8 bits.
    pub kind: u64,
    /// A number, or the address of a structure.
    pub value: u64,
}

impl ExtendedParameter {
    /// Where the allocation may be.
    #[must_use]
    pub fn address_requirements(requirements: &AddressRequirements) -> Self {
        Self { kind: 1, value: (&raw const *requirements).expose_provenance() as u64 }
    }
}

/// Where an allocation may be (MEM_ADDRESS_REQUIREMENTS); zero for no wish.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct AddressRequirements {
    /// Lowest first byte.
    pub lowest: u64,
    /// Highest last byte.
    pub highest: u64,
    /// What the base is a multiple of.
    pub alignment: u64,
}

/// The stack of a new thread (INITIAL_TEB).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct InitialStack {
    /// First address above it.
    pub base: u64,
    /// Lowest address that can be used; guard pages are below.
    pub limit: u64,
    /// Lowest address reserved for it.
    pub deallocation: u64,
}

/// System-wide figures (class 2 of NtQuerySystemInformation).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Performance {
    /// Cycles in which processors had nothing to do.
    pub cycles_halted: u64,
    /// Page faults of any kind.
    pub page_faults: u64,
    /// Faults that took a zeroed page.
    pub demand_zero: u64,
    /// Faults that took a page back from the standby or modified list.
    pub transition: u64,
    /// Faults that read the paging file.
    pub page_file: u64,
    /// Pages read from the paging file.
    pub pages_read: u64,
    /// Pages written to it.
    pub pages_written: u64,
    /// Pages on the zeroed, free and standby lists.
    pub available_pages: u64,
    /// Committed pages.
    pub committed: u64,
    /// What `committed` may not exceed.
    pub commit_limit: u64,
    /// Frames the manager has.
    pub frames: u64,
    /// Time since the start in units of 100 ns.
    pub now_100ns: u64,
}

/// Limits of a working set (class 1 of NtSetInformationProcess).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct QuotaLimits {
    /// Pages it may keep.
    pub minimum_pages: u64,
    /// Pages from which it replaces its own.
    pub maximum_pages: u64,
}

impl QuotaLimits {
    /// Asks to empty the working set.
    pub const EMPTY: Self = Self { minimum_pages: u64::MAX, maximum_pages: u64::MAX };
}

/// Why a program's exception dispatcher was entered (EXCEPTION_RECORD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ExceptionRecord {
    /// What happened.
    pub code: NtStatus,
    /// 0, or 1 when the program cannot go on.
    pub flags: u32,
    /// Instruction that was being executed.
    pub address: u64,
    /// How many of `parameters` mean something.
    pub parameter_count: u32,
    /// Padding.
    pub reserved: u32,
    /// For violations, guard pages and in-page errors: [`AccessKind`] as a number, the address,
    /// and for in-page errors the status of the transfer.
    pub parameters: [u64; 4],
}

/// What a violated access was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum AccessKind {
    /// A load.
    Read = 0,
    /// A store.
    Write = 1,
    /// Fetching an instruction.
    Execute = 8,
}

/// Everything a thread has in registers (CONTEXT, reduced).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
#[expect(missing_docs, reason = "the fields are the registers they are named after")]
pub struct Context {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    /// Floating-point and vector registers as `fxsave` stores them.
    pub fx: [u8; 512],
}

const _: () = assert!(core::mem::offset_of!(Context, fx) == 144);
const _: () = assert!(size_of::<Context>() == 656);
