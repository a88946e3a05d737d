//! Processes, and the handles the calling process has.

use std::collections::BTreeMap;

use ntmm::nt::{Process, ProcessAccess, Target};
use ntmm::{AddressSpaceId, NtStatus};

/// The rights that a case names, separated by `|`.
#[must_use]
pub fn parse_access(text: &str) -> Option<ProcessAccess> {
    text.split('|').try_fold(ProcessAccess::empty(), |rights, name| {
        let name = name.trim();
        Some(
            rights
                | match name.strip_prefix("PROCESS_").unwrap_or(name) {
                    "" => ProcessAccess::empty(),
                    "VM_OPERATION" => ProcessAccess::VM_OPERATION,
                    "VM_READ" => ProcessAccess::VM_READ,
                    "VM_WRITE" => ProcessAccess::VM_WRITE,
                    "QUERY_INFORMATION" => ProcessAccess::QUERY_INFORMATION,
                    "QUERY_LIMITED_INFORMATION" => ProcessAccess::QUERY_LIMITED_INFORMATION,
                    "ALL_ACCESS" | "all" => ProcessAccess::all(),
                    _ => return None,
                },
        )
    })
}

/// The first handle, and the distance between two.
const HANDLE_STEP: u64 = 4;

/// The processes of a machine. The first one makes the calls.
#[derive(Debug)]
pub struct Processes {
    spaces: Vec<AddressSpaceId>,
    handles: BTreeMap<u64, Target>,
    next: u64,
}

impl Processes {
    /// The calling process alone.
    #[must_use]
    pub fn new(current: AddressSpaceId) -> Self {
        Self { spaces: vec![current], handles: BTreeMap::new(), next: HANDLE_STEP }
    }

    /// The address space of the calling process.
    #[must_use]
    pub fn current(&self) -> AddressSpaceId {
        self.spaces[0]
    }

    /// The address spaces of all processes.
    #[must_use]
    pub fn spaces(&self) -> &[AddressSpaceId] {
        &self.spaces
    }

    /// Adds a process and opens it with all rights.
    pub fn add(&mut self, space: AddressSpaceId) -> u64 {
        self.spaces.push(space);
        self.open(Target { space, access: ProcessAccess::all() })
    }

    /// Opens the calling process.
    pub fn open_current(&mut self, access: ProcessAccess) -> u64 {
        self.open(Target { space: self.current(), access })
    }

    fn open(&mut self, target: Target) -> u64 {
        let handle = self.next;
        self.next += HANDLE_STEP;
        self.handles.insert(handle, target);
        handle
    }

    /// Closes a handle.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`].
    pub fn close(&mut self, handle: u64) -> Result<(), NtStatus> {
        self.handles.remove(&handle).map(|_| ()).ok_or(NtStatus::INVALID_HANDLE)
    }

    /// The process that a handle names.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`].
    pub fn target(&self, handle: u64) -> Process {
        self.handles.get(&handle).copied().ok_or(NtStatus::INVALID_HANDLE)
    }
}
