//! The numbers of the calls' flags (nt-api 1.2, 1.4).

/// MEM_COMMIT.
pub const MEM_COMMIT: u32 = 0x1000;
/// MEM_RESERVE.
pub const MEM_RESERVE: u32 = 0x2000;
/// MEM_DECOMMIT, of free calls.
pub const MEM_DECOMMIT: u32 = 0x4000;
/// MEM_REPLACE_PLACEHOLDER, of allocate calls.
pub const MEM_REPLACE_PLACEHOLDER: u32 = 0x4000;
/// MEM_RELEASE.
pub const MEM_RELEASE: u32 = 0x8000;
/// MEM_FREE, a state.
pub const MEM_FREE: u32 = 0x1_0000;
/// MEM_PRIVATE, a type of memory.
pub const MEM_PRIVATE: u32 = 0x2_0000;
/// MEM_MAPPED, a type of memory.
pub const MEM_MAPPED: u32 = 0x4_0000;
/// MEM_RESERVE_PLACEHOLDER, of allocate calls.
pub const MEM_RESERVE_PLACEHOLDER: u32 = 0x4_0000;
/// MEM_RESET.
pub const MEM_RESET: u32 = 0x8_0000;
/// MEM_TOP_DOWN.
pub const MEM_TOP_DOWN: u32 = 0x10_0000;
/// MEM_WRITE_WATCH.
pub const MEM_WRITE_WATCH: u32 = 0x20_0000;
/// MEM_PHYSICAL.
pub const MEM_PHYSICAL: u32 = 0x40_0000;
/// MEM_IMAGE, a type of memory.
pub const MEM_IMAGE: u32 = 0x100_0000;
/// MEM_RESET_UNDO, of allocate calls.
pub const MEM_RESET_UNDO: u32 = 0x100_0000;
/// MEM_LARGE_PAGES.
pub const MEM_LARGE_PAGES: u32 = 0x2000_0000;
/// MEM_COALESCE_PLACEHOLDERS, of free calls.
pub const MEM_COALESCE_PLACEHOLDERS: u32 = 0x1;
/// MEM_PRESERVE_PLACEHOLDER, of free calls.
pub const MEM_PRESERVE_PLACEHOLDER: u32 = 0x2;

/// MAP_PROCESS: lock in the working set.
pub const MAP_PROCESS: u32 = 1;
/// MAP_SYSTEM: lock in memory.
pub const MAP_SYSTEM: u32 = 2;

/// WRITE_WATCH_FLAG_RESET.
pub const WRITE_WATCH_FLAG_RESET: u32 = 1;
/// MEM_UNMAP_WITH_TRANSIENT_BOOST, of unmap calls.
pub const MEM_UNMAP_WITH_TRANSIENT_BOOST: u32 = 0x1;
/// AT_ROUND_TO_PAGE, of map calls of 32-bit systems.
pub const AT_ROUND_TO_PAGE: u32 = 0x4000_0000;
/// SEC_BASED.
pub const SEC_BASED: u32 = 0x20_0000;
/// SEC_NO_CHANGE.
pub const SEC_NO_CHANGE: u32 = 0x40_0000;
/// SEC_FILE.
pub const SEC_FILE: u32 = 0x80_0000;
/// SEC_IMAGE.
pub const SEC_IMAGE: u32 = 0x100_0000;
/// SEC_RESERVE.
pub const SEC_RESERVE: u32 = 0x400_0000;
/// SEC_COMMIT.
pub const SEC_COMMIT: u32 = 0x800_0000;
/// SEC_NOCACHE.
pub const SEC_NOCACHE: u32 = 0x1000_0000;
/// SEC_WRITECOMBINE.
pub const SEC_WRITECOMBINE: u32 = 0x4000_0000;
/// SEC_LARGE_PAGES.
pub const SEC_LARGE_PAGES: u32 = 0x8000_0000;
