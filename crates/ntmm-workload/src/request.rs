//! Requests and responses, in the shape of NT's calls (spec 14).

/// `MEM_COMMIT`.
pub const MEM_COMMIT: u32 = 0x1000;
/// `MEM_RESERVE`.
pub const MEM_RESERVE: u32 = 0x2000;
/// `MEM_DECOMMIT`.
pub const MEM_DECOMMIT: u32 = 0x4000;
/// `MEM_RELEASE`.
pub const MEM_RELEASE: u32 = 0x8000;
/// `MEM_FREE`: the state of a region in no allocation.
pub const MEM_FREE: u32 = 0x1_0000;
/// `MEM_PRIVATE`: the type of a region in an allocation of private memory.
pub const MEM_PRIVATE: u32 = 0x2_0000;

/// `PAGE_NOACCESS`.
pub const PAGE_NOACCESS: u32 = 0x01;
/// `PAGE_READONLY`.
pub const PAGE_READONLY: u32 = 0x02;
/// `PAGE_READWRITE`.
pub const PAGE_READWRITE: u32 = 0x04;
/// `PAGE_EXECUTE`.
pub const PAGE_EXECUTE: u32 = 0x10;
/// `PAGE_EXECUTE_READ`.
pub const PAGE_EXECUTE_READ: u32 = 0x20;
/// `PAGE_EXECUTE_READWRITE`.
pub const PAGE_EXECUTE_READWRITE: u32 = 0x40;
/// `PAGE_GUARD`, a modifier.
pub const PAGE_GUARD: u32 = 0x100;

/// `STATUS_SUCCESS`.
pub const STATUS_SUCCESS: u32 = 0;
/// `STATUS_GUARD_PAGE_VIOLATION`.
pub const STATUS_GUARD_PAGE_VIOLATION: u32 = 0x8000_0001;
/// `STATUS_ACCESS_VIOLATION`.
pub const STATUS_ACCESS_VIOLATION: u32 = 0xC000_0005;

/// Something to be done for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// NtAllocateVirtualMemory, without zero bits. Answered with [`Response::Range`].
    Allocate {
        /// Address; never 0.
        base: u64,
        /// Bytes; never 0.
        size: u64,
        /// [`MEM_RESERVE`], [`MEM_COMMIT`] or both.
        allocation_type: u32,
        /// `PAGE_*` flags of private memory.
        protect: u32,
    },
    /// NtFreeVirtualMemory. Answered with [`Response::Range`].
    Free {
        /// Address.
        base: u64,
        /// Bytes; 0 for all of the allocation.
        size: u64,
        /// [`MEM_DECOMMIT`] or [`MEM_RELEASE`].
        free_type: u32,
    },
    /// NtProtectVirtualMemory. Answered with [`Response::Protected`].
    Protect {
        /// Address.
        base: u64,
        /// Bytes; never 0.
        size: u64,
        /// `PAGE_*` flags of private memory.
        protect: u32,
    },
    /// NtQueryVirtualMemory of MemoryBasicInformation. Answered with [`Response::Information`].
    Query {
        /// Address.
        address: u64,
    },
    /// A load. Answered with [`Response::Loaded`] or [`Response::Exception`].
    Load {
        /// Address of the first byte, aligned or not.
        address: u64,
        /// Bytes.
        width: Width,
    },
    /// A store. Answered with [`Response::Stored`] or [`Response::Exception`].
    Store {
        /// Address of the first byte, aligned or not.
        address: u64,
        /// Bytes.
        width: Width,
        /// What to store; below 256 for a byte.
        value: u64,
    },
    /// Every page leaves the working set, as far as it can. Answered with [`Response::Emptied`].
    EmptyWorkingSet,
}

/// Bytes of a load or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One.
    Byte = 1,
    /// Eight, the least significant first.
    Quadword = 8,
}

impl Width {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self as u64
    }
}

/// What came of a request. What a call leaves in its output parameters counts only when its
/// status is [`STATUS_SUCCESS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// An allocation or a free call has ended.
    Range {
        /// Its status.
        status: u32,
        /// The address, rounded by the call.
        base: u64,
        /// The size, rounded by the call.
        size: u64,
    },
    /// A protect call has ended.
    Protected {
        /// Its status.
        status: u32,
        /// The address, rounded by the call.
        base: u64,
        /// The size, rounded by the call.
        size: u64,
        /// The first page's protection before.
        old_protect: u32,
    },
    /// A query has ended.
    Information {
        /// Its status.
        status: u32,
        /// What it found.
        information: Information,
    },
    /// A load was made.
    Loaded {
        /// What was there; below 256 for a byte.
        value: u64,
    },
    /// A store was made.
    Stored,
    /// A load or a store raised an exception and was given up.
    Exception(Exception),
    /// The working set was emptied.
    Emptied {
        /// The status of the call.
        status: u32,
    },
}

impl Response {
    /// The status of a call, or the code of an exception; none of an access that was made.
    #[must_use]
    pub const fn status(&self) -> Option<u32> {
        match *self {
            Self::Range { status, .. }
            | Self::Protected { status, .. }
            | Self::Information { status, .. }
            | Self::Emptied { status } => Some(status),
            Self::Exception(Exception { code, .. }) => Some(code),
            Self::Loaded { .. } | Self::Stored => None,
        }
    }
}

/// MEMORY_BASIC_INFORMATION. What NT leaves undefined in it may hold anything: `protect` of pages
/// that are not committed, and of free ones `allocation_base`, `allocation_protect` and `kind` too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// BaseAddress.
    pub base: u64,
    /// AllocationBase.
    pub allocation_base: u64,
    /// AllocationProtect.
    pub allocation_protect: u32,
    /// RegionSize, in bytes.
    pub size: u64,
    /// State: [`MEM_FREE`], [`MEM_RESERVE`] or [`MEM_COMMIT`].
    pub state: u32,
    /// Protect.
    pub protect: u32,
    /// Type: [`MEM_PRIVATE`].
    pub kind: u32,
}

/// The record of an exception (NT's EXCEPTION_RECORD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// ExceptionCode.
    pub code: u32,
    /// ExceptionInformation 0.
    pub access: Access,
    /// ExceptionInformation 1: the lowest byte that could not be accessed.
    pub address: u64,
}

/// What an instruction tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read: 0 in an exception record.
    Read,
    /// To write: 1.
    Write,
    /// Something else, which no request asks for.
    Other,
}

impl Access {
    /// From ExceptionInformation 0.
    #[must_use]
    pub const fn from_parameter(parameter: u64) -> Self {
        match parameter {
            0 => Self::Read,
            1 => Self::Write,
            _ => Self::Other,
        }
    }
}
