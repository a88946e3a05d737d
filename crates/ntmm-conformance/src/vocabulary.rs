//! The calls that cases make, and which of them come later.
//!
//! Cases with a call that comes later are skipped. A call that is in none of the lists is a
//! failure of the harness and never a skip. The namespaces `file.`, `fileobject.`, `testfs.`,
//! `pe.` and `kernel.` are open (spec API 22), as are the kernel's `Ex`, `Io`, `Mm` and `Zw`
//! functions.

/// What the harness knows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It can be made.
    Known,
    /// It will come; why it is not there yet.
    Later(&'static str),
    /// Never heard of.
    Unknown,
}

/// The Nt calls on virtual memory.
pub const MEMORY_CALLS: [&str; 18] = [
    "NtAllocateUserPhysicalPages",
    "NtAllocateVirtualMemory",
    "NtAllocateVirtualMemoryEx",
    "NtClose",
    "NtFlushVirtualMemory",
    "NtFreeUserPhysicalPages",
    "NtFreeVirtualMemory",
    "NtGetWriteWatch",
    "NtLockVirtualMemory",
    "NtMapUserPhysicalPages",
    "NtMapUserPhysicalPagesScatter",
    "NtProtectVirtualMemory",
    "NtQueryVirtualMemory",
    "NtReadVirtualMemory",
    "NtResetWriteWatch",
    "NtSetInformationVirtualMemory",
    "NtUnlockVirtualMemory",
    "NtWriteVirtualMemory",
];

/// The pseudo-calls: memory accesses, processes, stacks.
pub const PSEUDO_CALLS: [&str; 20] = [
    "io.read_file_into",
    "mem.execute",
    "mem.fill",
    "mem.read16",
    "mem.read32",
    "mem.read64",
    "mem.read8",
    "mem.read_range",
    "mem.strlen",
    "mem.write16",
    "mem.write32",
    "mem.write64",
    "mem.write8",
    "process.open_self",
    "process.spawn",
    "stack.overflow",
    "thread.grow_stack",
    "token.disable",
    "token.enable",
    "vm.find_free",
];

/// The calls on sections and on the objects they are named by.
pub const SECTION_CALLS: [&str; 14] = [
    "MmCreateSection",
    "MmMapViewOfSection",
    "MmUnmapViewOfSection",
    "NtAreMappedFilesTheSame",
    "NtCreateSection",
    "NtExtendSection",
    "NtMapViewOfSection",
    "NtMapViewOfSectionEx",
    "NtOpenDirectoryObject",
    "NtOpenSection",
    "NtOpenSymbolicLinkObject",
    "NtQuerySection",
    "NtUnmapViewOfSection",
    "NtUnmapViewOfSectionEx",
];

/// The pseudo-call that maps all of a section.
pub const MAP_SECTION: &str = "section.map";

/// The pseudo-calls on files.
pub const FILE_CALLS: [&str; 10] = [
    "file.create",
    "file.create_with",
    "file.delete",
    "file.open",
    "file.open_for_write_share_all",
    "file.open_write_no_share_write",
    "file.overwrite",
    "file.set_eof",
    "file.size",
    "testfs.create",
];

const FILES: &str = "files are used through file.create and its like";
const IMAGES: &str = "images come later";
const KERNEL: &str = "MDLs and the kernel's own calls come later";
const LIBRARY: &str = "it belongs to ntdll, not to the kernel";
const PAGING_FILES: &str = "paging files as a system call come later";

/// Calls on files that do not exist as such.
const OTHER_FILE_CALLS: [&str; 5] =
    ["NtCreateFile", "NtOpenFile", "NtReadFile", "NtSetInformationFile", "NtWriteFile"];

/// How pseudo-calls on files begin.
const FILE_NAMESPACES: [&str; 3] = ["file.", "fileobject.", "testfs."];

/// How other calls of the kernel begin, real and pseudo.
const KERNEL_NAMESPACES: [&str; 5] = ["kernel.", "Ex", "Io", "Mm", "Zw"];

/// Looks a call up.
#[must_use]
pub fn knowledge(call: &str) -> Knowledge {
    let known: [&[&str]; 5] =
        [&MEMORY_CALLS, &PSEUDO_CALLS, &SECTION_CALLS, &FILE_CALLS, &[MAP_SECTION]];
    if known.iter().any(|calls| calls.contains(&call)) {
        return Knowledge::Known;
    }
    match call {
        "NtCreatePagingFile" => return Knowledge::Later(PAGING_FILES),
        "RtlCreateUserStack" => return Knowledge::Later(LIBRARY),
        _ => {}
    }
    let begins = |namespaces: &[&str]| namespaces.iter().any(|space| call.starts_with(space));
    if OTHER_FILE_CALLS.contains(&call) || begins(&FILE_NAMESPACES) {
        Knowledge::Later(FILES)
    } else if call.starts_with("pe.") {
        Knowledge::Later(IMAGES)
    } else if begins(&KERNEL_NAMESPACES) {
        Knowledge::Later(KERNEL)
    } else {
        Knowledge::Unknown
    }
}
