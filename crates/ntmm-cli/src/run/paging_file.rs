//! The paging file of a run: where it lies, how large it is, and what becomes of its errors.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::rc::Rc;

use ntmm::status::NtStatus;
use ntmm_machine::{Disk, FileDisk};
use ntmm_pte::Pages;

use crate::arguments::PagingFileSize;
use crate::failure::Failure;

/// The smallest paging file there may be.
const SMALLEST: Pages = ntmm::paging_file::file::SMALLEST;

/// The size of a paging file in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// What it is created with.
    pub minimum: Pages,
    /// What it may grow to.
    pub maximum: Pages,
}

impl FileSize {
    /// What the user asked for, in whole pages.
    ///
    /// # Errors
    /// It is smaller than a paging file may be.
    pub fn asked(size: PagingFileSize) -> Result<Self, Failure> {
        let (minimum, maximum) =
            (size.minimum.to_pages_rounded_down(), size.maximum.to_pages_rounded_down());
        if minimum < SMALLEST {
            return Err(Failure::Usage(format!(
                "--pagefile-size: a paging file of {} bytes is too small; the smallest has {}K",
                size.minimum.get(),
                SMALLEST.to_bytes().get() / 1024
            )));
        }
        Ok(Self { minimum, maximum })
    }

    /// Room for all that the traces commit: `pages` in `regions` regions, each with its page
    /// tables, and something for the processes themselves.
    #[must_use]
    pub fn for_traces(pages: u64, regions: u64) -> Self {
        let tables = pages / 256 + 4 * regions;
        let size = Pages::new((pages + tables + 256).max(SMALLEST.get()));
        Self { minimum: size, maximum: size }
    }
}

/// The first error of the disk under the paging file.
#[derive(Clone, Debug, Default)]
pub struct DiskErrors(Rc<RefCell<Option<String>>>);

impl DiskErrors {
    /// The first error, with what failed and where.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// A disk that remembers its first error, so that a run does not go on without a paging file.
pub struct CheckedDisk {
    disk: Box<dyn Disk>,
    name: String,
    errors: DiskErrors,
}

impl CheckedDisk {
    /// Watches over a disk; `name` stands for it in messages.
    #[must_use]
    pub fn new(disk: Box<dyn Disk>, name: String) -> (Self, DiskErrors) {
        let errors = DiskErrors::default();
        (Self { disk, name, errors: errors.clone() }, errors)
    }

    fn note(&self, what: &str, page: u64, status: NtStatus) {
        let text = format!("paging file {}: {what} page {page}: {status}", self.name);
        self.errors.0.borrow_mut().get_or_insert(text);
    }
}

impl Disk for CheckedDisk {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        let result = self.disk.read(first, buffer);
        result.inspect_err(|status| self.note("cannot read", first, *status))
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        let result = self.disk.write(first, bytes);
        result.inspect_err(|status| self.note("cannot write", first, *status))
    }
}

/// Creates the file at `path`, or a temporary one that has no name any more when this returns.
///
/// # Errors
/// The host does not let it be created.
pub fn create(path: Option<&Path>, size: FileSize) -> Result<PagingDisk, Failure> {
    let named = path.map(Path::to_owned);
    let place = named.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("ntmm-{}.pagefile", std::process::id()))
    });
    let refuse = |error| Failure::host("cannot create the paging file", &place, error);
    let disk = match path {
        Some(path) => {
            if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
                return Err(refuse(io::Error::other("is not a regular file")));
            }
            FileDisk::create(path, size.maximum).map_err(refuse)?
        }
        None => temporary(&place, size.maximum).map_err(refuse)?,
    };
    let name = path.map_or_else(|| "(temporary)".to_owned(), |path| path.display().to_string());
    Ok(PagingDisk { disk: Box::new(disk), name })
}

/// The disk under a paging file and its name in messages.
pub struct PagingDisk {
    /// The disk.
    pub disk: Box<dyn Disk>,
    /// Its name.
    pub name: String,
}

fn temporary(place: &Path, size: Pages) -> io::Result<FileDisk> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(place)?;
    // Without a name it vanishes with the program, whatever ends it.
    fs::remove_file(place)?;
    file.set_len(size.to_bytes().get())?;
    Ok(FileDisk::on(file, size))
}
