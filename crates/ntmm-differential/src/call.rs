//! Calls, and what they answer: plain numbers that both sides understand.

use std::fmt;

use crate::model::numbers::{
    COALESCE_PLACEHOLDERS, DECOMMIT, PRESERVE_PLACEHOLDER, REPLACE_PLACEHOLDER, RESERVE,
    RESERVE_PLACEHOLDER, RESET, RESET_UNDO,
};

/// What a process handle is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// The handle -1.
    Current,
    /// It names the process but grants nothing.
    WithoutRights,
    /// It is closed.
    Closed,
    /// It names something that is no process.
    NoProcess,
    /// Its process has ended.
    Ended,
}

/// What a pointer points to; none when it cannot be probed.
pub type Pointer = Option<u64>;

/// Whether a caller holds SeLockMemoryPrivilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It does.
    Held,
    /// It does not.
    Missing,
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A byte is read.
    Read,
    /// One is stored into a byte.
    Write,
}

/// MEM_ADDRESS_REQUIREMENTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// LowestStartingAddress.
    pub lowest: u64,
    /// HighestEndingAddress.
    pub highest: u64,
    /// Alignment.
    pub alignment: u64,
}

/// A call. Pointers and sizes are bytes; the rest are NT's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// NtAllocateVirtualMemory.
    Allocate {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// ZeroBits.
        zero_bits: u64,
        /// RegionSize.
        size: Pointer,
        /// AllocationType.
        kind: u32,
        /// Protect.
        protection: u32,
    },
    /// NtAllocateVirtualMemoryEx, with address requirements if there are any.
    AllocateExtended {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// RegionSize.
        size: Pointer,
        /// AllocationType.
        kind: u32,
        /// PageProtection.
        protection: u32,
        /// ExtendedParameters.
        requirements: Option<Requirements>,
    },
    /// NtFreeVirtualMemory.
    Free {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// RegionSize.
        size: Pointer,
        /// FreeType.
        kind: u32,
    },
    /// NtProtectVirtualMemory.
    Protect {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// NumberOfBytesToProtect.
        size: Pointer,
        /// NewAccessProtection.
        protection: u32,
    },
    /// NtQueryVirtualMemory for MemoryBasicInformation.
    Query {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        address: u64,
    },
    /// NtQueryVirtualMemory for MemoryRegionInformation.
    QueryRegion {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        address: u64,
    },
    /// NtGetWriteWatch.
    GetWriteWatch {
        /// ProcessHandle.
        handle: Handle,
        /// Flags.
        flags: u32,
        /// BaseAddress.
        base: u64,
        /// RegionSize.
        size: u64,
        /// EntriesInUserAddressArray.
        count: Pointer,
    },
    /// NtResetWriteWatch.
    ResetWriteWatch {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: u64,
        /// RegionSize.
        size: u64,
    },
    /// NtLockVirtualMemory.
    Lock {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// NumberOfBytesToLock.
        size: Pointer,
        /// MapType.
        kind: u32,
        /// SeLockMemoryPrivilege.
        privilege: Privilege,
    },
    /// NtUnlockVirtualMemory.
    Unlock {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// NumberOfBytesToUnlock.
        size: Pointer,
        /// MapType.
        kind: u32,
        /// SeLockMemoryPrivilege.
        privilege: Privilege,
    },
    /// NtFlushVirtualMemory. There are no views: it fails in one way or another.
    Flush {
        /// ProcessHandle.
        handle: Handle,
        /// BaseAddress.
        base: Pointer,
        /// RegionSize.
        size: Pointer,
    },
    /// A byte of memory is touched by software.
    Touch {
        /// Where.
        address: u64,
        /// How.
        how: Touch,
    },
    /// Others need memory: pages leave the working set, and frames are taken for something else.
    Squeeze,
}

/// What calls are counted as.
pub const GROUPS: [&str; 21] = [
    "reserve",
    "commit",
    "reset",
    "make placeholder",
    "replace placeholder",
    "decommit",
    "release",
    "preserve placeholder",
    "coalesce placeholders",
    "protect",
    "query",
    "query region",
    "get write watch",
    "reset write watch",
    "read",
    "write",
    "undo reset",
    "lock",
    "unlock",
    "squeeze",
    "flush",
];

impl Call {
    /// Which of the [`GROUPS`] it is counted among.
    #[must_use]
    pub const fn group(&self) -> usize {
        match *self {
            Self::Allocate { kind, .. } | Self::AllocateExtended { kind, .. } => match kind {
                _ if kind & RESERVE_PLACEHOLDER != 0 => 3,
                _ if kind & REPLACE_PLACEHOLDER != 0 => 4,
                _ if kind & RESET != 0 => 2,
                _ if kind & RESET_UNDO != 0 => 16,
                _ if kind & RESERVE != 0 => 0,
                _ => 1,
            },
            Self::Free { kind, .. } => match kind {
                _ if kind & DECOMMIT != 0 => 5,
                _ if kind & PRESERVE_PLACEHOLDER != 0 => 7,
                _ if kind & COALESCE_PLACEHOLDERS != 0 => 8,
                _ => 6,
            },
            Self::Protect { .. } => 9,
            Self::Query { .. } => 10,
            Self::QueryRegion { .. } => 11,
            Self::GetWriteWatch { .. } => 12,
            Self::ResetWriteWatch { .. } => 13,
            Self::Touch { how: Touch::Read, .. } => 14,
            Self::Touch { how: Touch::Write, .. } => 15,
            Self::Lock { .. } => 17,
            Self::Unlock { .. } => 18,
            Self::Squeeze => 19,
            Self::Flush { .. } => 20,
        }
    }
}

/// What MemoryBasicInformation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basic {
    /// BaseAddress.
    pub base: u64,
    /// AllocationBase.
    pub allocation_base: u64,
    /// AllocationProtect.
    pub allocation_protection: u32,
    /// RegionSize.
    pub size: u64,
    /// State.
    pub state: u32,
    /// Protect.
    pub protection: u32,
    /// Type.
    pub kind: u32,
}

/// What MemoryRegionInformation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// AllocationBase.
    pub base: u64,
    /// AllocationProtect.
    pub protection: u32,
    /// RegionType.
    pub kind: u32,
    /// RegionSize.
    pub size: u64,
    /// CommitSize.
    pub committed: u64,
}

/// What a call writes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing.
    Nothing,
    /// Base and size.
    Range(u64, u64),
    /// Base and size, and the old protection.
    Protected(u64, u64, u32),
    /// The old protection alone.
    OldProtection(u32),
    /// Basic information.
    Basic(Basic),
    /// Region information.
    Region(Region),
    /// Addresses of written pages.
    Pages(Vec<u64>),
    /// A byte that was read.
    Byte(u8),
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u32,
    /// What is written back.
    pub written: Written,
}

impl Answer {
    /// A status and nothing else.
    #[must_use]
    pub const fn status(status: u32) -> Self {
        Self { status, written: Written::Nothing }
    }

    /// Whether the status is one of success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status < 0x8000_0000
    }

    /// Success.
    #[must_use]
    pub const fn success(written: Written) -> Self {
        Self { status: 0, written }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "-1",
            Self::WithoutRights => "without rights",
            Self::Closed => "closed",
            Self::NoProcess => "no process",
            Self::Ended => "ended",
        })
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => " with the privilege",
            Self::Missing => "",
        })
    }
}

/// A pointer as it is shown.
struct Shown(Pointer);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:#x}"),
            None => f.write_str("bad pointer"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Allocate { handle, base, zero_bits, size, kind, protection } => write!(
                f,
                "NtAllocateVirtualMemory({handle}, {}, {zero_bits:#x}, {}, {kind:#x}, \
                 {protection:#x})",
                Shown(base),
                Shown(size)
            ),
            Self::AllocateExtended { handle, base, size, kind, protection, requirements } => {
                write!(
                    f,
                    "NtAllocateVirtualMemoryEx({handle}, {}, {}, {kind:#x}, {protection:#x}",
                    Shown(base),
                    Shown(size)
                )?;
                if let Some(Requirements { lowest, highest, alignment }) = requirements {
                    write!(f, ", lowest {lowest:#x}, highest {highest:#x}, by {alignment:#x}")?;
                }
                f.write_str(")")
            }
            Self::Free { handle, base, size, kind } => {
                let (base, size) = (Shown(base), Shown(size));
                write!(f, "NtFreeVirtualMemory({handle}, {base}, {size}, {kind:#x})")
            }
            Self::Protect { handle, base, size, protection } => {
                let (base, size) = (Shown(base), Shown(size));
                write!(f, "NtProtectVirtualMemory({handle}, {base}, {size}, {protection:#x})")
            }
            Self::Query { handle, address } => {
                write!(f, "NtQueryVirtualMemory({handle}, {address:#x}, basic)")
            }
            Self::QueryRegion { handle, address } => {
                write!(f, "NtQueryVirtualMemory({handle}, {address:#x}, region)")
            }
            Self::GetWriteWatch { handle, flags, base, size, count } => write!(
                f,
                "NtGetWriteWatch({handle}, {flags:#x}, {base:#x}, {size:#x}, {})",
                Shown(count)
            ),
            Self::ResetWriteWatch { handle, base, size } => {
                write!(f, "NtResetWriteWatch({handle}, {base:#x}, {size:#x})")
            }
            Self::Lock { handle, base, size, kind, privilege } => {
                let (base, size) = (Shown(base), Shown(size));
                write!(f, "NtLockVirtualMemory({handle}, {base}, {size}, {kind:#x}){privilege}")
            }
            Self::Unlock { handle, base, size, kind, privilege } => {
                let (base, size) = (Shown(base), Shown(size));
                write!(f, "NtUnlockVirtualMemory({handle}, {base}, {size}, {kind:#x}){privilege}")
            }
            Self::Flush { handle, base, size } => {
                write!(f, "NtFlushVirtualMemory({handle}, {}, {})", Shown(base), Shown(size))
            }
            Self::Squeeze => f.write_str("others need memory"),
            Self::Touch { address, how: Touch::Read } => write!(f, "read {address:#x}"),
            Self::Touch { address, how: Touch::Write } => write!(f, "write {address:#x}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.status)?;
        match &self.written {
            Written::Nothing => Ok(()),
            Written::Range(base, size) => write!(f, ", {base:#x} size {size:#x}"),
            Written::Protected(base, size, old) => {
                write!(f, ", {base:#x} size {size:#x}, old protection {old:#x}")
            }
            Written::OldProtection(old) => write!(f, ", old protection {old:#x}"),
            Written::Basic(basic) => write!(f, ", {basic:x?}"),
            Written::Region(region) => write!(f, ", {region:x?}"),
            Written::Pages(pages) => write!(f, ", pages {pages:x?}"),
            Written::Byte(byte) => write!(f, ", byte {byte:#x}"),
        }
    }
}
