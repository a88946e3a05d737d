//! The processes of a machine.

use ntmm::AddressSpaceId;
use ntmm::nt::ProcessAccess;

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

/// The address spaces of processes. The first one makes the calls.
#[derive(Debug)]
pub struct Processes {
    spaces: Vec<AddressSpaceId>,
}

impl Processes {
    /// The calling process alone.
    #[must_use]
    pub fn new(current: AddressSpaceId) -> Self {
        Self { spaces: vec![current] }
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

    /// Adds a process.
    pub fn add(&mut self, space: AddressSpaceId) {
        self.spaces.push(space);
    }
}
