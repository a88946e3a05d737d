//! The files of a machine, and what a case does with them (`file.`, `testfs.`).
//!
//! A file lies on the machine as one of its data files; the table here knows its path, and who has
//! it open is in the handle table. The rules that keep openers apart, and those of nt-api 16 that a
//! file system keeps, are here: the manager is asked whether a file is mapped.

use ntmm::NtStatus;
use ntmm::nt::section::{File, FileAccess, FileTarget};
use ntmm::platform::{FileId, PagingIo};
use ntmm::section::TruncateSection;
use ntmm_machine::{Hardware, MemoryFile};

use super::Windows;
use super::handles::{Object, OpenFile};
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Value, unfit};

/// FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE.
const SHARE_READ: u32 = 1;
const SHARE_WRITE: u32 = 2;
const SHARE_ALL: u32 = 7;

/// Bytes of a file that comes with the system.
const SYSTEM_FILE: usize = 0x1_8000;

/// A file.
#[derive(Debug)]
pub struct FileRecord {
    /// Its name on the machine.
    pub id: FileId,
    /// What it is opened by.
    path: String,
    /// Whether it can be mapped.
    mapping: Mapping,
}

/// Whether a file can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    Supported,
    /// Its file system keeps no section object pointers.
    Unsupported,
}

/// The files of a machine.
#[derive(Debug, Default)]
pub struct Files {
    records: Vec<FileRecord>,
}

/// What the letters of a case stand for.
fn parse_access(text: &str) -> Option<FileAccess> {
    if text == "all" {
        return Some(FileAccess::all());
    }
    text.chars().try_fold(FileAccess::empty(), |rights, letter| {
        Some(
            rights
                | match letter {
                    'r' => FileAccess::READ_DATA,
                    'w' => FileAccess::WRITE_DATA,
                    'x' => FileAccess::EXECUTE,
                    _ => return None,
                },
        )
    })
}

fn access_of(arguments: &Arguments) -> Result<FileAccess, Refusal> {
    match arguments.get("access") {
        None => Ok(FileAccess::all()),
        Some(Value::Text(text)) => {
            parse_access(text).ok_or_else(|| unfit("access", &Value::Text(text.clone())))
        }
        Some(other) => Err(unfit("access", other)),
    }
}

fn share_of(arguments: &Arguments) -> Result<u32, Refusal> {
    match arguments.get("share") {
        None => Ok(SHARE_ALL),
        Some(_) => arguments.ulong("share"),
    }
}

/// Whether two may have a file open at once.
const fn allow_each_other(one: &OpenFile, other: &OpenFile) -> bool {
    const fn allows(share: u32, access: FileAccess) -> bool {
        let reads = access.contains(FileAccess::READ_DATA) || access.contains(FileAccess::EXECUTE);
        let writes = access.contains(FileAccess::WRITE_DATA);
        (!reads || share & SHARE_READ != 0) && (!writes || share & SHARE_WRITE != 0)
    }
    allows(one.share, other.access) && allows(other.share, one.access)
}

impl<M: Hardware> Windows<M> {
    pub(super) fn file_call(
        &mut self,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        match name {
            "file.create" => {
                let size = arguments.word("size")?;
                self.create_file(&vec![0; size as usize], arguments)
            }
            "file.create_with" => {
                let data = arguments.text("data")?.as_bytes().to_vec();
                self.create_file(&data, arguments)
            }
            "file.open" => {
                let (access, share) = (access_of(arguments)?, share_of(arguments)?);
                self.open_file(arguments.text("path")?, access, share)
            }
            "file.open_for_write_share_all" => {
                self.open_file(arguments.text("path")?, FileAccess::WRITE_DATA, SHARE_ALL)
            }
            "file.open_write_no_share_write" => {
                let share = SHARE_ALL & !SHARE_WRITE;
                self.open_file(arguments.text("path")?, FileAccess::WRITE_DATA, share)
            }
            "file.overwrite" => self.overwrite_file(arguments),
            "file.delete" => self.delete_file(arguments),
            "file.set_eof" => self.set_end_of_file(arguments),
            "file.size" => {
                let id = self.file_of(arguments)?;
                Ok(match self.host.manager().platform().file_size(id) {
                    Ok(size) => Answer::returned(NtStatus::SUCCESS).with("value", size),
                    Err(status) => Answer::returned(status),
                })
            }
            "testfs.create" => self.create_test_file(arguments),
            _ => Err(Refusal::Unknown(format!("nobody makes the call {name}"))),
        }
    }

    fn add_file(&mut self, path: &str, contents: &[u8], mapping: Mapping) -> usize {
        let id = self.host.manager().platform().attach_file(Box::new(MemoryFile::of(contents)));
        self.files.records.push(FileRecord { id, path: path.to_owned(), mapping });
        self.files.records.len() - 1
    }

    /// A handle for a file, and the file object, which is told by the same number.
    fn opened(&mut self, open: OpenFile) -> Answer {
        let handle = self.handles.open(Object::File(open));
        Answer::returned(NtStatus::SUCCESS).with("Handle", handle).with("FileObject", handle)
    }

    fn create_file(&mut self, contents: &[u8], arguments: &Arguments) -> Result<Answer, Refusal> {
        let (access, share) = (access_of(arguments)?, share_of(arguments)?);
        let path = format!("file{}", self.files.records.len());
        let file = self.add_file(&path, contents, Mapping::Supported);
        Ok(self.opened(OpenFile { file, access, share }))
    }

    fn create_test_file(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let mapping = match arguments.value("sop")? {
            Value::Boolean(true) => Mapping::Supported,
            Value::Boolean(false) => Mapping::Unsupported,
            other => return Err(unfit("sop", other)),
        };
        let file = self.add_file("testfs", &[], mapping);
        Ok(self.opened(OpenFile { file, access: FileAccess::all(), share: SHARE_ALL }))
    }

    /// The file of a path: `@file` is the one made last, and those of the system are made when they
    /// are first asked for.
    fn find_file(&mut self, path: &str) -> usize {
        if path == "@file" && !self.files.records.is_empty() {
            return self.files.records.len() - 1;
        }
        if let Some(file) = self.files.records.iter().position(|record| record.path == path) {
            return file;
        }
        let mut contents = vec![0; SYSTEM_FILE];
        contents[..2].copy_from_slice(b"MZ");
        self.add_file(path, &contents, Mapping::Supported)
    }

    fn open_file(&mut self, path: &str, access: FileAccess, share: u32) -> Result<Answer, Refusal> {
        let file = self.find_file(path);
        let open = OpenFile { file, access, share };
        let apart = self.handles.opens_of(file).any(|other| !allow_each_other(&open, &other));
        let written = share & SHARE_WRITE == 0 && self.is_written_by_section(file);
        if apart || written {
            return Ok(Answer::returned(NtStatus::SHARING_VIOLATION));
        }
        Ok(self.opened(open))
    }

    /// Whether a section that may be written was made of a file and is still named by a handle.
    fn is_written_by_section(&self, file: usize) -> bool {
        let writes = |section| self.writers.contains(&(section, file));
        self.handles.sections().any(writes)
    }

    fn file_of(&self, arguments: &Arguments) -> Result<FileId, Refusal> {
        let handle = arguments.word("Handle")?;
        match self.handles.file(handle) {
            Ok(open) => Ok(self.files.records[open.file].id),
            Err(status) => Err(Refusal::Unknown(format!("{handle:#x} is no file: {status}"))),
        }
    }

    fn set_end_of_file(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let (id, size) = (self.file_of(arguments)?, arguments.word("size")?);
        Ok(Answer::returned(self.resize_file(id, size)?.into()))
    }

    /// Makes a file longer or shorter; shorter only when its data are not mapped.
    fn resize_file(&mut self, id: FileId, size: u64) -> Result<Result<(), NtStatus>, Refusal> {
        let size_now = match self.host.manager().platform().file_size(id) {
            Ok(size) => size,
            Err(status) => return Ok(Err(status)),
        };
        if size < size_now
            && let Err(status) = self.host.complete(TruncateSection::new(id, size))?
        {
            return Ok(Err(status));
        }
        Ok(self.host.manager().platform().set_file_size(id, size))
    }

    /// Throws away what is in memory of files that nobody uses any more.
    pub(super) fn purge_files(&mut self) -> Result<(), Refusal> {
        for record in &self.files.records {
            let purged = self.host.complete(TruncateSection::new(record.id, 0))?;
            purged.map_err(|status| Refusal::Stopped(format!("a file is in use: {status}")))?;
        }
        Ok(())
    }

    /// Makes a file empty, as FILE_OVERWRITE_IF does.
    fn overwrite_file(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let file = match arguments.get("path") {
            Some(Value::Text(path)) => {
                let path = path.clone();
                self.find_file(&path)
            }
            _ => match self.handles.file(arguments.word("Handle")?) {
                Ok(open) => open.file,
                Err(status) => return Ok(Answer::returned(status)),
            },
        };
        let id = self.files.records[file].id;
        Ok(match self.resize_file(id, 0)? {
            Ok(()) => {
                let access = FileAccess::READ_DATA | FileAccess::WRITE_DATA;
                self.opened(OpenFile { file, access, share: SHARE_ALL })
            }
            Err(status) => Answer::returned(status),
        })
    }

    /// Deletes a file: nobody finds it any more.
    fn delete_file(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let file = match arguments.get("path") {
            Some(Value::Text(path)) => {
                let path = path.clone();
                self.find_file(&path)
            }
            _ => match self.handles.file(arguments.word("Handle")?) {
                Ok(open) => open.file,
                Err(status) => return Ok(Answer::returned(status)),
            },
        };
        self.files.records[file].path.clear();
        Ok(Answer::returned(NtStatus::SUCCESS))
    }

    /// The file behind a handle argument; none for null.
    pub(super) fn file_argument(
        &self,
        arguments: &Arguments,
        name: &str,
    ) -> Result<Option<File>, Refusal> {
        let handle = match arguments.get(name) {
            None | Some(Value::Nothing) => 0,
            Some(_) => arguments.word(name)?,
        };
        if handle == 0 {
            return Ok(None);
        }
        Ok(Some(self.handles.file(handle).map(|open| {
            let record = &self.files.records[open.file];
            FileTarget {
                file: match record.mapping {
                    Mapping::Supported => Ok(record.id),
                    Mapping::Unsupported => Err(NtStatus::INVALID_FILE_FOR_SECTION),
                },
                access: open.access,
            }
        })))
    }
}
