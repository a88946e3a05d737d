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

const SECTIONS: &str = "sections come later";
const KERNEL: &str = "MDLs and the kernel's own calls come later";
const LIBRARY: &str = "it belongs to ntdll, not to the kernel";
const PAGING_FILES: &str = "paging files as a system call come later";

/// Calls on sections and on the objects they are named by.
const SECTION_CALLS: [&str; 17] = [
    "NtAreMappedFilesTheSame",
    "NtCreateFile",
    "NtCreateSection",
    "NtExtendSection",
    "NtMapViewOfSection",
    "NtMapViewOfSectionEx",
    "NtOpenDirectoryObject",
    "NtOpenFile",
    "NtOpenSection",
    "NtOpenSymbolicLinkObject",
    "NtQuerySection",
    "NtReadFile",
    "NtSetInformationFile",
    "NtUnmapViewOfSection",
    "NtUnmapViewOfSectionEx",
    "NtWriteFile",
    "section.map",
];

/// How pseudo-calls on files and images begin, and the kernel's own calls on sections.
const SECTION_NAMESPACES: [&str; 7] =
    ["file.", "fileobject.", "testfs.", "pe.", "MmCreateSection", "MmMapView", "MmUnmapView"];

/// How other calls of the kernel begin, real and pseudo.
const KERNEL_NAMESPACES: [&str; 5] = ["kernel.", "Ex", "Io", "Mm", "Zw"];

/// Looks a call up.
#[must_use]
pub fn knowledge(call: &str) -> Knowledge {
    if MEMORY_CALLS.contains(&call) || PSEUDO_CALLS.contains(&call) {
        return Knowledge::Known;
    }
    if SECTION_CALLS.contains(&call) {
        return Knowledge::Later(SECTIONS);
    }
    match call {
        "NtCreatePagingFile" => return Knowledge::Later(PAGING_FILES),
        "RtlCreateUserStack" => return Knowledge::Later(LIBRARY),
        _ => {}
    }
    let begins = |namespaces: &[&str]| namespaces.iter().any(|space| call.starts_with(space));
    if begins(&SECTION_NAMESPACES) {
        Knowledge::Later(SECTIONS)
    } else if begins(&KERNEL_NAMESPACES) {
        Knowledge::Later(KERNEL)
    } else {
        Knowledge::Unknown
    }
}
