//! What the program writes: files that appear when they are complete, and standard output.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file that is written under another name beside its own and takes its own, replacing what
/// had it, when it is [kept](NewFile::keep). Dropped before, it vanishes.
#[derive(Debug)]
pub struct NewFile {
    what: &'static str,
    path: PathBuf,
    beside: PathBuf,
    /// Gone when the file is complete.
    writer: Option<BufWriter<File>>,
}

impl NewFile {
    /// Begins a file; `what` names it in messages.
    ///
    /// # Errors
    /// The host does not let it be created there, or something that is no regular file has the
    /// name.
    pub fn create(what: &'static str, path: &Path) -> Result<Self, Failure> {
        let refuse = |error| Failure::host(what, path, error);
        let name = path.file_name().ok_or_else(|| refuse(ErrorKind::InvalidFilename.into()))?;
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(refuse(io::Error::other("is not a regular file; refusing to replace it")));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let beside = path.with_file_name(hidden);
        let file = File::create(&beside).map_err(refuse)?;
        let writer = Some(BufWriter::with_capacity(1 << 16, file));
        Ok(Self { what, path: path.to_owned(), beside, writer })
    }

    /// Names the file in a failure.
    #[must_use]
    pub fn failure(&self, error: io::Error) -> Failure {
        Failure::host(self.what, &self.path, error)
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// The host cannot write the rest of it.
    pub fn keep(mut self) -> Result<(), Failure> {
        let written = match self.writer.take() {
            Some(writer) => writer.into_inner().map(drop).map_err(io::IntoInnerError::into_error),
            None => Ok(()),
        };
        let kept = written.and_then(|()| fs::rename(&self.beside, &self.path));
        kept.map_err(|error| {
            self.remove();
            self.failure(error)
        })
    }

    fn remove(&self) {
        // Nothing more can be done about a file that cannot be removed.
        let _ = fs::remove_file(&self.beside);
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.flush(),
            None => Ok(()),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.remove();
        }
    }
}

/// Prints on standard output. A reader that has gone away wants no more, which is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::host("cannot write to", Path::new("standard output"), error))
        }
        _ => Ok(()),
    }
}

/// Prints a value as one JSON object on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from);
    let name = Path::new("standard output");
    let text = text.map_err(|error| Failure::host("cannot write to", name, error))?;
    print(&format!("{text}\n"))
}
