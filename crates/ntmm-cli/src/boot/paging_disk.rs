//! The raw file under the kernel's paging disk.
//!
//! Every page of it is a page of the paging file. What it holds when a machine starts means
//! nothing to the kernel, and what it holds afterwards means nothing to anybody; a file that the
//! user named stays all the same, so that it can be used again or looked at.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use ntmm_pte::{Bytes, PAGE_SIZE};

use super::temporary::TemporaryFile;
use crate::failure::Failure;

/// The size of a paging disk when nobody says otherwise.
pub const USUAL_SIZE: Bytes = Bytes::new(64 << 20);

/// The least size of a paging disk.
const LEAST_SIZE: Bytes = Bytes::new(1 << 20);

/// Checks the size of a paging disk.
///
/// # Errors
/// What is wrong with it.
pub fn check_size(size: Bytes) -> Result<(), String> {
    if size < LEAST_SIZE {
        return Err(format!("a paging disk has at least 1M, not {} bytes", size.get()));
    }
    if !size.get().is_multiple_of(PAGE_SIZE) {
        return Err(format!(
            "a paging disk is whole pages of 4K, which {} bytes are not",
            size.get()
        ));
    }
    Ok(())
}

/// A paging disk.
#[derive(Debug)]
pub enum PagingDisk {
    /// A file that stays.
    Named(PathBuf),
    /// A file that vanishes with this value.
    Temporary(TemporaryFile),
}

impl PagingDisk {
    /// A temporary file of this size; it takes up what is written to it.
    ///
    /// # Errors
    /// The host does not let it be created.
    pub fn temporary(size: Bytes) -> Result<Self, Failure> {
        let what = "cannot create the paging file in";
        let temporary = TemporaryFile::create(what)?;
        let sized = temporary.file().set_len(size.get());
        sized.map_err(|error| Failure::host(what, &std::env::temp_dir(), error))?;
        Ok(Self::Temporary(temporary))
    }

    /// The file at `path` as it is, or a new one of this size.
    ///
    /// # Errors
    /// It is no regular file, its size is that of no paging disk, it cannot be written, or it
    /// cannot be created.
    pub fn named(path: &Path, size: Bytes) -> Result<Self, Failure> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => check(path, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let refuse = |error| Failure::host("cannot create the paging file", path, error);
                let file = File::create_new(path).map_err(refuse)?;
                file.set_len(size.get()).map_err(|error| {
                    // A file of the wrong size would be in the way of the next run.
                    let _ = fs::remove_file(path);
                    refuse(error)
                })?;
            }
            Err(error) => return Err(Failure::host("cannot use the paging file", path, error)),
        }
        Ok(Self::Named(path.to_owned()))
    }

    /// The file's size.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn size(&self) -> Result<Bytes, Failure> {
        let metadata = fs::metadata(self.path())
            .map_err(|error| Failure::host("cannot use the paging file", self.path(), error))?;
        Ok(Bytes::new(metadata.len()))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(temporary) => temporary.path(),
        }
    }
}

fn check(path: &Path, file: &File) -> Result<(), Failure> {
    let refuse = |problem: String| {
        Failure::host("cannot use the paging file", path, io::Error::other(problem))
    };
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".to_owned()));
    }
    check_size(Bytes::new(metadata.len())).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_pages_and_no_less_than_a_mebibyte() {
        assert!(check_size(Bytes::new(1 << 20)).is_ok());
        assert!(check_size(Bytes::new((1 << 20) + 4096)).is_ok());
        for wrong in [0, 4096, (1 << 20) - 4096, (1 << 20) + 512] {
            assert!(check_size(Bytes::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_made_once_and_then_used_as_they_are() {
        let path = std::env::temp_dir().join(format!("ntmm-disk-{}.img", std::process::id()));
        let size = |bytes| Bytes::new(bytes);
        drop(PagingDisk::named(&path, size(2 << 20)).expect("a new file"));
        assert_eq!(fs::metadata(&path).expect("it stays").len(), 2 << 20);
        drop(PagingDisk::named(&path, size(8 << 20)).expect("the same file"));
        assert_eq!(fs::metadata(&path).expect("it stays").len(), 2 << 20);
        fs::write(&path, "short").expect("writable");
        let failure = PagingDisk::named(&path, size(2 << 20)).expect_err("too short");
        assert!(failure.to_string().contains("at least 1M"), "{failure}");
        assert_eq!(failure.code(), 2);
        fs::remove_file(&path).expect("it stays");
        let directory = std::env::temp_dir();
        assert!(PagingDisk::named(&directory, size(2 << 20)).is_err());
        assert!(PagingDisk::named(&path.join("below"), size(2 << 20)).is_err());
    }
}
