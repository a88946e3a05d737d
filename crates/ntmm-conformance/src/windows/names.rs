//! The names of a machine's objects: a few directories, a symbolic link, and sections.

use ntmm::nt::section::{LetterCase, Named, Namespace, Place};
use ntmm::{NtStatus, SectionId};

/// Directories that are there from the beginning. The root is the first.
const DIRECTORIES: [&[&str]; 4] = [&[], &["BaseNamedObjects"], &["KernelObjects"], &["Device"]];

/// Symbolic links that are there from the beginning.
const LINKS: [&[&str]; 1] = [&["BaseNamedObjects", "Local"]];

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory by its number.
    Directory(usize),
    /// A symbolic link.
    Link,
    /// A section.
    Section(SectionId),
}

/// The names of sections, and of what else has a name.
#[derive(Debug, Default)]
pub struct ObjectNames {
    sections: Vec<(Vec<String>, SectionId)>,
}

fn same(one: &[String], other: &[impl AsRef<str>], letter_case: LetterCase) -> bool {
    let equal = |one: &str, other: &str| match letter_case {
        LetterCase::Matters => one == other,
        LetterCase::Ignored => one.to_lowercase() == other.to_lowercase(),
    };
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other.as_ref()))
}

/// The names on the way from the root.
fn way(place: &Place<'_, usize>) -> Vec<String> {
    let directory = DIRECTORIES[place.directory.unwrap_or(0)];
    let path = String::from_utf16_lossy(place.path);
    let path = path.split('\\').filter(|name| !name.is_empty()).map(str::to_owned);
    directory.iter().map(|&name| name.to_owned()).chain(path).collect()
}

impl ObjectNames {
    /// What is at a path from the root.
    #[must_use]
    pub fn look_up(&self, path: &[String], letter_case: LetterCase) -> Option<Found> {
        let directory = DIRECTORIES.iter().position(|known| same(path, known, letter_case));
        let section = || {
            let known = |(name, _): &&(Vec<String>, _)| same(path, name, letter_case);
            self.sections.iter().find(known).map(|&(_, section)| Found::Section(section))
        };
        let link = || LINKS.iter().any(|known| same(path, known, letter_case));
        match directory {
            Some(number) => Some(Found::Directory(number)),
            None if link() => Some(Found::Link),
            None => section(),
        }
    }

    /// A section is not named any more.
    pub fn forget(&mut self, section: SectionId) {
        self.sections.retain(|&(_, named)| named != section);
    }

    fn check_way(&self, path: &[String], letter_case: LetterCase) -> Result<(), NtStatus> {
        let Some((_, above)) = path.split_last() else { return Ok(()) };
        match self.look_up(above, letter_case) {
            Some(Found::Directory(_)) => Ok(()),
            _ => Err(NtStatus::OBJECT_PATH_NOT_FOUND),
        }
    }
}

impl Namespace for ObjectNames {
    type Directory = usize;

    fn find(&self, place: Place<'_, usize>) -> Result<Named, NtStatus> {
        let path = way(&place);
        self.check_way(&path, place.letter_case)?;
        Ok(match self.look_up(&path, place.letter_case) {
            None => Named::Nothing,
            Some(Found::Section(section)) => Named::Section(section),
            Some(Found::Directory(_) | Found::Link) => Named::Other,
        })
    }

    fn insert(&mut self, place: Place<'_, usize>, section: SectionId) -> Result<(), NtStatus> {
        let path = way(&place);
        self.check_way(&path, place.letter_case)?;
        self.sections.push((path, section));
        Ok(())
    }
}
