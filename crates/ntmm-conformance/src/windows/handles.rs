//! The handle table of the calling process, and what handles name.

use std::collections::BTreeMap;

use ntmm::nt::section::{FileAccess, SectionAccess, SectionTarget};
use ntmm::nt::{Process, Target};
use ntmm::{NtStatus, SectionId};

/// What a handle names, with the rights it grants.
#[derive(Clone, Copy, Debug)]
pub enum Object {
    /// A process.
    Process(Target),
    /// A section.
    Section(SectionTarget),
    /// A file by its number in the table of files.
    File(OpenFile),
    /// A directory of names by its number.
    Directory(usize),
    /// A symbolic link.
    Link,
}

/// A file that is open.
#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    /// Its number in the table of files.
    pub file: usize,
    /// What the handle is for.
    pub access: FileAccess,
    /// What others may open the file for, FILE_SHARE_* bits.
    pub share: u32,
}

/// The first handle, and the distance between two.
const HANDLE_STEP: u64 = 4;

/// The handles of the calling process.
#[derive(Debug)]
pub struct Handles {
    table: BTreeMap<u64, Object>,
    next: u64,
}

impl Handles {
    /// No handles.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: BTreeMap::new(), next: HANDLE_STEP }
    }

    /// A handle for an object.
    pub fn open(&mut self, object: Object) -> u64 {
        let handle = self.next;
        self.next += HANDLE_STEP;
        self.table.insert(handle, object);
        handle
    }

    /// A handle for a section.
    pub fn open_section(&mut self, section: SectionId, access: SectionAccess) -> u64 {
        self.open(Object::Section(SectionTarget { section, access }))
    }

    /// What a handle names.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`].
    pub fn get(&self, handle: u64) -> Result<Object, NtStatus> {
        self.table.get(&handle).copied().ok_or(NtStatus::INVALID_HANDLE)
    }

    /// The process that a handle names.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`], [`NtStatus::OBJECT_TYPE_MISMATCH`].
    pub fn process(&self, handle: u64) -> Process {
        match self.get(handle)? {
            Object::Process(target) => Ok(target),
            _ => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        }
    }

    /// The file that a handle names.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`], [`NtStatus::OBJECT_TYPE_MISMATCH`].
    pub fn file(&self, handle: u64) -> Result<OpenFile, NtStatus> {
        match self.get(handle)? {
            Object::File(open) => Ok(open),
            _ => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        }
    }

    /// The section that a handle names.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`], [`NtStatus::OBJECT_TYPE_MISMATCH`].
    pub fn section(&self, handle: u64) -> Result<SectionTarget, NtStatus> {
        match self.get(handle)? {
            Object::Section(target) => Ok(target),
            _ => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        }
    }

    /// Whether some handle names a section.
    #[must_use]
    pub fn name_section(&self, section: SectionId) -> bool {
        self.sections().any(|named| named == section)
    }

    /// The sections that handles name, once for each handle.
    pub fn sections(&self) -> impl Iterator<Item = SectionId> {
        self.table.values().filter_map(|object| match object {
            Object::Section(target) => Some(target.section),
            _ => None,
        })
    }

    /// The ways a file is open.
    pub fn opens_of(&self, file: usize) -> impl Iterator<Item = OpenFile> {
        self.table.values().filter_map(move |object| match object {
            Object::File(open) if open.file == file => Some(*open),
            _ => None,
        })
    }

    /// Closes a handle. Yields what it named.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_HANDLE`].
    pub fn close(&mut self, handle: u64) -> Result<Object, NtStatus> {
        self.table.remove(&handle).ok_or(NtStatus::INVALID_HANDLE)
    }

    /// All handles.
    #[must_use]
    pub fn all(&self) -> Vec<u64> {
        self.table.keys().copied().collect()
    }
}
