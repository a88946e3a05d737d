//! Where the kernel and its programs are.
//!
//! Both are built from the workspace `kernel` of the repository, into one directory. Nothing is
//! built here: what is not there is named, with the commands that build it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that names the kernel image.
pub const KERNEL_VARIABLE: &str = "NTMM_KERNEL";

/// Where `cargo build --release` puts the kernel, from the repository's root.
const BUILT: &str = "kernel/target/x86_64-unknown-linux-gnu/release/ntmm-kernel";

/// The kernel image's name there.
const NAME: &str = "ntmm-kernel";

/// Programs that a message names at most.
const NAMED: usize = 16;

/// What the file of every image begins with.
const ELF: &[u8] = b"\x7fELF";

/// An image that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no kernel.
    #[error(
        "no kernel image at {}; build it in the repository with: \
         cd kernel && cargo build --release",
        path.display()
    )]
    NoKernel {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no such program.
    #[error(
        "no program {name:?} beside the kernel image in {}; build the programs in the repository \
         with: cd kernel && cargo build --release{}",
        directory.display(), others(programs)
    )]
    NoProgram {
        /// Its name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// The programs there are.
        programs: Vec<String>,
    },
    /// A program's name is no name of a file.
    #[error("{name:?} is not the name of a program, which is the name of a file beside the kernel")]
    NoName {
        /// What was given for a name.
        name: String,
    },
    /// A file is no image.
    #[error("{} is not an ELF image", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// An image cannot be read.
    #[error("cannot read the image {}: {error}", path.display())]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
}

fn others(programs: &[String]) -> String {
    if programs.is_empty() {
        return String::new();
    }
    let named = programs.get(..NAMED).unwrap_or(programs);
    match programs.len() - named.len() {
        0 => format!(" (there are {})", named.join(", ")),
        more => format!(" (there are {} and {more} more)", named.join(", ")),
    }
}

/// Where the kernel is built.
fn built() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.unwrap_or(Path::new("")).join(BUILT)
}

/// The directory of the kernel and its programs.
#[derive(Clone, Debug)]
pub struct Images {
    kernel: PathBuf,
}

impl Images {
    /// Finds the kernel: at `asked`, or in that directory, else where the environment variable says, else where it is
    /// built.
    ///
    /// # Errors
    /// It is not there, or is no image.
    pub fn find(asked: Option<&Path>) -> Result<Self, ImageError> {
        let named = || env::var_os(KERNEL_VARIABLE).filter(|value| !value.is_empty());
        let asked = asked.map(Path::to_owned).or_else(|| named().map(PathBuf::from));
        let asked = asked.unwrap_or_else(built);
        let path = if asked.is_dir() { asked.join(NAME) } else { asked };
        match image(&path) {
            Err(ImageError::Unreadable { error, .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Err(ImageError::NoKernel { path })
            }
            result => result.map(|_| Self { kernel: path }),
        }
    }

    /// The kernel image.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Reads the image of a program.
    ///
    /// # Errors
    /// There is none of this name, or the file is no image.
    pub fn program(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let directory = self.kernel.parent().unwrap_or(Path::new(""));
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(ImageError::NoName { name: name.to_owned() });
        }
        let found = image(&directory.join(name));
        found.map_err(|error| match error {
            ImageError::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                ImageError::NoProgram {
                    name: name.to_owned(),
                    directory: directory.to_owned(),
                    programs: self.programs(),
                }
            }
            error => error,
        })
    }

    /// Names of the programs beside the kernel, in order.
    fn programs(&self) -> Vec<String> {
        let directory = self.kernel.parent().unwrap_or(Path::new(""));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.path() != self.kernel);
        let images = files.filter(|entry| image(&entry.path()).is_ok());
        let mut names: Vec<String> =
            images.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// Reads an image.
fn image(path: &Path) -> Result<Vec<u8>, ImageError> {
    let bytes = fs::read(path);
    let bytes = bytes.map_err(|error| ImageError::Unreadable { path: path.to_owned(), error })?;
    if !bytes.starts_with(ELF) {
        return Err(ImageError::NotElf { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a kernel, a program and a file that is none.
    fn directory(name: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("ntmm-images-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory");
        for (file, text) in [("kernel", "\x7fELF k"), ("verify", "\x7fELF v"), ("notes", "text")] {
            fs::write(directory.join(file), text).expect("a temporary file");
        }
        directory
    }

    #[test]
    fn programs_lie_beside_the_kernel() {
        let directory = directory("beside");
        let images = Images::find(Some(&directory.join("kernel"))).expect("a kernel");
        assert_eq!(images.program("verify").expect("a program"), b"\x7fELF v");
        let said = |name| images.program(name).expect_err("no program").to_string();
        assert!(said("guard").contains("cd kernel && cargo build --release"), "{}", said("guard"));
        assert!(said("guard").ends_with("(there are verify)"), "{}", said("guard"));
        assert!(said("notes").ends_with("notes is not an ELF image"), "{}", said("notes"));
        for name in ["", "..", "../kernel", "/verify", "verify/"] {
            assert!(said(name).contains("is not the name of a program"), "{}", said(name));
        }
        fs::remove_dir_all(directory).expect("the directory is there");
    }

    #[test]
    fn a_directory_is_that_of_the_kernel() {
        let directory = directory("itself");
        let said = Images::find(Some(&directory)).expect_err("no kernel").to_string();
        assert!(said.contains(&directory.join(NAME).display().to_string()), "{said}");
        fs::rename(directory.join("kernel"), directory.join(NAME)).expect("it is there");
        let images = Images::find(Some(&directory)).expect("a kernel");
        assert_eq!(images.kernel(), directory.join(NAME));
        fs::remove_dir_all(directory).expect("the directory is there");
    }

    #[test]
    fn a_crowd_of_programs_is_cut_short() {
        let names: Vec<String> = (0..NAMED + 3).map(|number| number.to_string()).collect();
        assert!(others(&names).ends_with(", 15 and 3 more)"), "{}", others(&names));
        assert_eq!(others(&names[..2]), " (there are 0, 1)");
    }

    #[test]
    fn a_missing_kernel_is_named() {
        let directory = directory("missing");
        let missing = directory.join("nothing");
        let said = Images::find(Some(&missing)).expect_err("no kernel").to_string();
        assert!(said.starts_with(&format!("no kernel image at {}; ", missing.display())));
        assert!(Images::find(Some(&directory.join("notes"))).is_err());
        fs::remove_dir_all(directory).expect("the directory is there");
    }
}
