//! The archive of programs: cpio in its "newc" form, as Linux has for its first file system.
//!
//! Each member is a header of hexadecimal digits, the name with a zero, and the bytes; name and
//! bytes are padded to multiples of four. Whatever does not fit is the end of the archive.

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";
/// Places of two fields of eight digits behind the magic number.
const SIZE_FIELD: usize = 6;
const NAME_FIELD: usize = 11;

/// A member.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
}

/// The members of an archive, in order.
pub fn members(archive: &'static [u8]) -> impl Iterator<Item = Member> {
    let mut rest = archive;
    core::iter::from_fn(move || {
        let (member, behind) = split(rest)?;
        rest = behind;
        (member.name != TRAILER).then_some(member)
    })
}

/// The member of a name.
pub fn find(archive: &'static [u8], name: &str) -> Option<Member> {
    members(archive).find(|member| member.name == name)
}

fn split(archive: &'static [u8]) -> Option<(Member, &'static [u8])> {
    let header = archive.get(..HEADER).filter(|header| header.starts_with(MAGIC))?;
    let field = |number: usize| {
        let digits = &header[MAGIC.len() + 8 * number..][..8];
        usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (size, name_size) = (field(SIZE_FIELD)?, field(NAME_FIELD)?);
    let name_end = HEADER.checked_add(name_size)?;
    let name = archive.get(HEADER..name_end)?.strip_suffix(b"\0")?;
    let start = name_end.next_multiple_of(4);
    let end = start.checked_add(size)?;
    let bytes = archive.get(start..end)?;
    let behind = archive.get(end.next_multiple_of(4)..).unwrap_or_default();
    Some((Member { name: core::str::from_utf8(name).ok()?, bytes }, behind))
}
