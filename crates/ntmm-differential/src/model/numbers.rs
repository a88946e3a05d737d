//! The numbers of nt-api 1.

pub(crate) const PAGE: u64 = 0x1000;
pub(super) const GRANULARITY: u64 = 0x1_0000;
pub(super) const LOWEST: u64 = 0x1_0000;
pub(crate) const SHARED_DATA: u64 = 0x7FFE_0000;

pub(crate) const NOACCESS: u32 = 0x1;
pub(super) const READONLY: u32 = 0x2;
pub(crate) const READWRITE: u32 = 0x4;
pub(super) const WRITECOPY: u32 = 0x8;
pub(super) const EXECUTE: u32 = 0x10;
pub(super) const EXECUTE_READ: u32 = 0x20;
pub(super) const EXECUTE_READWRITE: u32 = 0x40;
pub(super) const EXECUTE_WRITECOPY: u32 = 0x80;
pub(crate) const GUARD: u32 = 0x100;
pub(crate) const NOCACHE: u32 = 0x200;
pub(crate) const WRITECOMBINE: u32 = 0x400;

pub(crate) const COMMIT: u32 = 0x1000;
pub(crate) const RESERVE: u32 = 0x2000;
pub(crate) const DECOMMIT: u32 = 0x4000;
pub(crate) const REPLACE_PLACEHOLDER: u32 = 0x4000;
pub(crate) const RELEASE: u32 = 0x8000;
pub(super) const FREE: u32 = 0x1_0000;
pub(super) const PRIVATE: u32 = 0x2_0000;
pub(crate) const RESERVE_PLACEHOLDER: u32 = 0x4_0000;
pub(crate) const RESET: u32 = 0x8_0000;
pub(crate) const TOP_DOWN: u32 = 0x10_0000;
pub(crate) const WRITE_WATCH: u32 = 0x20_0000;
pub(crate) const PHYSICAL: u32 = 0x40_0000;
pub(crate) const RESET_UNDO: u32 = 0x100_0000;
pub(crate) const LARGE_PAGES: u32 = 0x2000_0000;
pub(crate) const COALESCE_PLACEHOLDERS: u32 = 0x1;
pub(crate) const PRESERVE_PLACEHOLDER: u32 = 0x2;

pub(crate) const MAP_PROCESS: u32 = 0x1;
pub(crate) const MAP_SYSTEM: u32 = 0x2;

pub(super) const UNSUCCESSFUL: u32 = 0xC000_0001;
pub(super) const ACCESS_VIOLATION: u32 = 0xC000_0005;
pub(super) const INVALID_HANDLE: u32 = 0xC000_0008;
pub(super) const INVALID_PARAMETER: u32 = 0xC000_000D;
pub(super) const NO_MEMORY: u32 = 0xC000_0017;
pub(super) const CONFLICTING_ADDRESSES: u32 = 0xC000_0018;
pub(super) const UNABLE_TO_FREE_VM: u32 = 0xC000_001A;
pub(super) const NOT_MAPPED_VIEW: u32 = 0xC000_0019;
pub(super) const ACCESS_DENIED: u32 = 0xC000_0022;
pub(super) const OBJECT_TYPE_MISMATCH: u32 = 0xC000_0024;
pub(super) const NOT_LOCKED: u32 = 0xC000_002A;
pub(super) const NOT_COMMITTED: u32 = 0xC000_002D;
pub(super) const INVALID_PAGE_PROTECTION: u32 = 0xC000_0045;
pub(super) const INCOMPATIBLE_FILE_MAP: u32 = 0xC000_004D;
pub(super) const PRIVILEGE_NOT_HELD: u32 = 0xC000_0061;
pub(super) const FREE_VM_NOT_AT_BASE: u32 = 0xC000_009F;
pub(super) const MEMORY_NOT_ALLOCATED: u32 = 0xC000_00A0;
pub(super) const WORKING_SET_QUOTA: u32 = 0xC000_00A1;
pub(super) const INVALID_PARAMETER_1: u32 = 0xC000_00EF;
pub(super) const INVALID_PARAMETER_2: u32 = 0xC000_00F0;
pub(super) const INVALID_PARAMETER_3: u32 = 0xC000_00F1;
pub(super) const INVALID_PARAMETER_4: u32 = 0xC000_00F2;
pub(super) const INVALID_PARAMETER_5: u32 = 0xC000_00F3;
pub(super) const INVALID_PARAMETER_6: u32 = 0xC000_00F4;
pub(super) const PROCESS_IS_TERMINATING: u32 = 0xC000_010A;
pub(super) const INVALID_ADDRESS: u32 = 0xC000_0141;
pub(super) const GUARD_PAGE_VIOLATION: u32 = 0x8000_0001;
pub(super) const WAS_LOCKED: u32 = 0x4000_0019;

/// Whether `protection` is one that a call may name (1.1); WC and XWC are judged later.
pub(super) fn is_protection(protection: u32) -> bool {
    let (base, modifiers) = (protection & 0xFF, protection & !0xFF);
    base.is_power_of_two()
        && [0, GUARD, NOCACHE, WRITECOMBINE].contains(&modifiers)
        && (base != NOACCESS || modifiers == 0)
}

/// Whether it is one that private memory cannot have.
pub(super) fn is_write_copy(protection: u32) -> bool {
    [WRITECOPY, EXECUTE_WRITECOPY].contains(&(protection & 0xFF))
}

/// Whether it lets memory be read. The processor cannot withhold reading from EXECUTE.
pub(super) fn is_readable(protection: u32) -> bool {
    [READONLY, EXECUTE, EXECUTE_READ].contains(&(protection & 0xFF)) || is_writable(protection)
}

/// Whether it lets memory be written.
pub(super) fn is_writable(protection: u32) -> bool {
    [READWRITE, EXECUTE_READWRITE].contains(&(protection & 0xFF))
}

/// Whether a page of this protection can be in a working set: what can be touched without a fault.
pub(super) fn is_mappable(protection: u32) -> bool {
    protection != NOACCESS && protection & GUARD == 0
}
