//! Files that exist only as long as they are open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file without a name in any directory, so that it vanishes with this program, whatever ends
/// it. Programs that this one has started reach it by [`path`](TemporaryFile::path).
#[derive(Debug)]
pub struct TemporaryFile {
    file: File,
    path: PathBuf,
}

impl TemporaryFile {
    /// An empty file; `what` says in messages what it is for.
    ///
    /// # Errors
    /// The host's directory for temporary files cannot be written.
    pub fn create(what: &'static str) -> Result<Self, Failure> {
        let directory = std::env::temp_dir();
        Self::within(&directory).map_err(|error| Failure::host(what, &directory, error))
    }

    fn within(directory: &Path) -> io::Result<Self> {
        let process = std::process::id();
        let mut number = 0;
        let (file, name) = loop {
            let name = directory.join(format!("ntmm-{process}-{number}.tmp"));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&name) {
                Ok(file) => break (file, name),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        fs::remove_file(name)?;
        let path = format!("/proc/{process}/fd/{}", file.as_raw_fd()).into();
        Ok(Self { file, path })
    }

    /// A file that holds these bytes.
    ///
    /// # Errors
    /// As [`create`](Self::create), and when there is no room for the bytes.
    pub fn holding(what: &'static str, bytes: &[u8]) -> Result<Self, Failure> {
        let mut temporary = Self::create(what)?;
        let written = temporary.file.write_all(bytes);
        written.map_err(|error| Failure::host(what, &std::env::temp_dir(), error))?;
        Ok(temporary)
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Where this program's children find the file as long as this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_to_the_bytes() {
        let one = TemporaryFile::holding("cannot write", b"one").expect("a temporary file");
        let other = TemporaryFile::holding("cannot write", b"other").expect("a temporary file");
        assert_eq!(fs::read(one.path()).expect("reachable"), b"one");
        assert_eq!(fs::read(other.path()).expect("reachable"), b"other");
    }
}
