//! Object attributes and names of sections (NtOpenSection, nt-api 11.6).
//!
//! Names live in the host's [`Namespace`]. What a caller's OBJECT_ATTRIBUTES mean, which mistake in
//! them is noticed first and what becomes of a section whose name is taken is the same everywhere.

use super::access::SectionAccess;
use crate::manager::Manager;
use crate::nt::{Caller, Captured, PointerWidth};
use crate::platform::Platform;
use crate::section::SectionId;
use crate::status::NtStatus;

/// OBJ_CASE_INSENSITIVE.
const OBJ_CASE_INSENSITIVE: u32 = 0x40;
/// OBJ_OPENIF.
const OBJ_OPENIF: u32 = 0x80;

/// A name length that no name has: its terminator would not fit.
const NO_LENGTH: u16 = u16::MAX - 1;

/// OBJECT_ATTRIBUTES as they come.
#[derive(Clone, Copy, Debug)]
pub struct ObjectAttributes<'n, D> {
    /// Length, in bytes.
    pub length: u64,
    /// What the handle RootDirectory names, or [`NtStatus::INVALID_HANDLE`] or
    /// [`NtStatus::OBJECT_TYPE_MISMATCH`] when that is no directory; none for null.
    pub root: Option<Result<D, NtStatus>>,
    /// What ObjectName points to; none for the null pointer.
    pub name: Captured<Option<ObjectName<'n>>>,
    /// Attributes, OBJ_* bits.
    pub attributes: u32,
}

/// A UNICODE_STRING as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'n> {
    /// Length, in bytes.
    pub length: u16,
    /// What Buffer points to: as many characters as the length has room for. Not asked when the
    /// length is zero.
    pub buffer: Captured<&'n [u16]>,
}

/// Whether letters differ in case alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterCase {
    /// They do.
    Matters,
    /// They do not (OBJ_CASE_INSENSITIVE).
    Ignored,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug)]
pub struct Place<'n, D> {
    /// The directory to begin in; none for the root of all names.
    pub directory: Option<D>,
    /// Names separated by backslashes, none in front.
    pub path: &'n [u16],
    /// How letters are compared.
    pub letter_case: LetterCase,
}

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    Nothing,
    /// A section.
    Section(SectionId),
    /// Something else.
    Other,
}

/// The names of a host.
pub trait Namespace {
    /// A directory of names.
    type Directory: Copy;

    /// What has a name.
    ///
    /// # Errors
    /// A directory on the way to it does not exist, or is none.
    fn find(&self, place: Place<'_, Self::Directory>) -> Result<Named, NtStatus>;

    /// Gives a section a name that nothing has.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn insert(
        &mut self,
        place: Place<'_, Self::Directory>,
        section: SectionId,
    ) -> Result<(), NtStatus>;
}

/// The attributes of a call in a host's namespace: none for the null pointer.
pub type Names<'n, N> = Captured<Option<ObjectAttributes<'n, <N as Namespace>::Directory>>>;

/// What object attributes come to.
enum Meaning<'n, D> {
    /// No name.
    Unnamed,
    /// The name of the root directory itself.
    Root(Option<Result<D, NtStatus>>),
    /// A name.
    At(Place<'n, D>),
}

const BACKSLASH: u16 = b'\\' as u16;

/// The rows of 11.6 up to the name. A missing name is for the caller to judge.
fn parse<'n, D: Copy>(
    caller: &Caller,
    attributes: &ObjectAttributes<'n, D>,
) -> Result<Meaning<'n, D>, NtStatus> {
    let size = match caller.width {
        PointerWidth::Bits32 => 0x18,
        PointerWidth::Bits64 => 0x30,
    };
    if attributes.length != size {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let Some(name) = attributes.name? else {
        return match attributes.root {
            None => Ok(Meaning::Unnamed),
            Some(_) => Err(NtStatus::OBJECT_NAME_INVALID),
        };
    };
    if name.length == 0 {
        return Ok(Meaning::Root(attributes.root));
    }
    let characters = name.buffer?;
    if name.length % 2 != 0 || name.length == NO_LENGTH {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    let directory = attributes.root.transpose()?;
    let path = match (directory, characters) {
        (None, [BACKSLASH, path @ ..]) => path,
        (Some(_), path) if path.first() != Some(&BACKSLASH) => path,
        _ => return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD),
    };
    let letter_case = if attributes.attributes & OBJ_CASE_INSENSITIVE == 0 {
        LetterCase::Matters
    } else {
        LetterCase::Ignored
    };
    Ok(Meaning::At(Place { directory, path, letter_case }))
}

/// Whether an object that exists is opened: with some right.
fn grant(desired: SectionAccess) -> Result<(), NtStatus> {
    if desired.is_empty() { Err(NtStatus::ACCESS_DENIED) } else { Ok(()) }
}

/// NtOpenSection: the section that a name names, for a handle that can be stored.
///
/// # Errors
/// The rows of nt-api 11.6 in their order.
pub fn open_section<N: Namespace>(
    namespace: &N,
    caller: &Caller,
    handle: Captured<()>,
    attributes: Names<'_, N>,
    desired: SectionAccess,
) -> Result<SectionId, NtStatus> {
    handle?;
    let attributes = attributes?.ok_or(NtStatus::INVALID_PARAMETER)?;
    let place = match parse(caller, &attributes)? {
        Meaning::Unnamed | Meaning::Root(None) => return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD),
        // A directory is no section, and a section is no directory.
        Meaning::Root(Some(root)) => {
            return Err(root.err().unwrap_or(NtStatus::OBJECT_TYPE_MISMATCH));
        }
        Meaning::At(place) => place,
    };
    match namespace.find(place)? {
        Named::Nothing => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
        Named::Other => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        Named::Section(section) => grant(desired).map(|()| section),
    }
}

/// Gives `section`, which was just made, the name that its maker asks for, if any. Yields the
/// section to make a handle for: the one that has the name already when that may be opened
/// instead, with [`NtStatus::OBJECT_NAME_EXISTS`]. A section that gets no handle is closed.
///
/// # Errors
/// The rows of nt-api 11.6 in their order.
pub fn name_section<P: Platform, N: Namespace>(
    manager: &Manager<P>,
    namespace: &mut N,
    caller: &Caller,
    (section, attributes): (SectionId, Names<'_, N>),
    desired: SectionAccess,
) -> Result<(SectionId, NtStatus), NtStatus> {
    let named = insert(namespace, caller, section, attributes, desired);
    if !matches!(named, Ok((kept, _)) if kept == section) {
        // It was made a moment ago and nobody else knows it.
        let _ = manager.close_section(section);
    }
    named
}

fn insert<N: Namespace>(
    namespace: &mut N,
    caller: &Caller,
    section: SectionId,
    attributes: Names<'_, N>,
    desired: SectionAccess,
) -> Result<(SectionId, NtStatus), NtStatus> {
    let Some(attributes) = attributes? else { return Ok((section, NtStatus::SUCCESS)) };
    let place = match parse(caller, &attributes)? {
        Meaning::Unnamed | Meaning::Root(_) => return Ok((section, NtStatus::SUCCESS)),
        Meaning::At(place) => place,
    };
    let open_if = attributes.attributes & OBJ_OPENIF != 0;
    match namespace.find(place)? {
        Named::Nothing => {
            namespace.insert(place, section)?;
            Ok((section, NtStatus::SUCCESS))
        }
        Named::Other if open_if => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        Named::Section(existing) if open_if => {
            grant(desired)?;
            Ok((existing, NtStatus::OBJECT_NAME_EXISTS))
        }
        Named::Section(_) | Named::Other => Err(NtStatus::OBJECT_NAME_COLLISION),
    }
}
