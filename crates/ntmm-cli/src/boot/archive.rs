//! The archive that a kernel boots from: files by name, in the form `cpio -H newc` writes.
//!
//! Each member is a header of fixed width, its name with a NUL, and its bytes; the header with
//! the name, and the bytes, are each padded with NULs to a multiple of four. The header is the
//! magic number `070701` and thirteen fields of eight hexadecimal digits: inode, mode, user,
//! group, links, time, size, the device's two numbers, two more for device nodes, the length of
//! the name with its NUL, and a checksum that is 0 in this form. A member named `TRAILER!!!`
//! ends the archive. Everything that would differ between two hosts is 0, so the same files make
//! the same bytes.

use std::collections::BTreeSet;

/// What a member's header begins with.
const MAGIC: &str = "070701";

/// The name of the member that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// A regular file that everybody may read and run.
const MODE: u32 = 0o100_755;

/// Why a file cannot be a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The name is empty, holds a NUL, or is the one that ends an archive.
    #[error("an archive cannot have a file named {0:?}")]
    Name(String),
    /// The archive has a file of this name already.
    #[error("the archive would have two files named {0:?}")]
    Twice(String),
    /// The header has no room for the size.
    #[error("the file {0:?} is too large for an archive; a member has less than 4 GiB")]
    TooLarge(String),
}

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// An archive without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is a member of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// It cannot be a member; the archive is as it was.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        if name.is_empty() || name.contains('\0') || name == TRAILER {
            return Err(ArchiveError::Name(name.to_owned()));
        }
        let size = u32::try_from(bytes.len());
        let size = size.map_err(|_| ArchiveError::TooLarge(name.to_owned()))?;
        if !self.names.insert(name.to_owned()) {
            return Err(ArchiveError::Twice(name.to_owned()));
        }
        let inode = self.names.len() as u32;
        self.header(name, inode, MODE, size);
        self.bytes.extend_from_slice(bytes);
        self.pad();
        Ok(())
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.header(TRAILER, 0, 0, 0);
        self.bytes
    }

    fn header(&mut self, name: &str, inode: u32, mode: u32, size: u32) {
        let (user, group, links, time) = (0, 0, 1, 0);
        let (device, node, checksum) = ([0, 0], [0, 0], 0);
        let name_size = name.len() as u32 + 1;
        let fields = [
            inode, mode, user, group, links, time, size, device[0], device[1], node[0], node[1],
            name_size, checksum,
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: names and bytes in order.
    fn members(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut members = Vec::new();
        loop {
            let (header, rest) = archive.split_at(110);
            assert_eq!(&header[..6], b"070701");
            let field = |number: usize| {
                let digits = &header[6 + 8 * number..14 + 8 * number];
                let digits = std::str::from_utf8(digits).expect("digits");
                usize::from_str_radix(digits, 16).expect("hexadecimal")
            };
            let (size, name_size) = (field(6), field(11));
            let name = std::str::from_utf8(&rest[..name_size - 1]).expect("a name").to_owned();
            assert_eq!(rest[name_size - 1], 0);
            let data = (110 + name_size).next_multiple_of(4) - 110;
            assert!(rest[name_size..data].iter().all(|byte| *byte == 0));
            if name == "TRAILER!!!" {
                assert_eq!((size, rest.len()), (0, data));
                return members;
            }
            members.push((name, rest[data..data + size].to_vec()));
            archive = &rest[data + size.next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let files: Vec<(String, Vec<u8>)> = (0..12)
            .map(|length| ("n".repeat(length + 1), vec![length as u8 + 1; length * 7 % 11]))
            .collect();
        let mut archive = Archive::new();
        for (name, bytes) in &files {
            archive.add(name, bytes).expect("a good name");
        }
        assert!(archive.has("nnn") && !archive.has("m"));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(members(&bytes), files);
        assert_eq!(members(&Archive::new().finish()), []);
    }

    #[test]
    fn headers_are_those_of_the_format() {
        let mut archive = Archive::new();
        archive.add("init", b"hello").expect("a good name");
        // Magic; inode, mode 0100755, user, group; links, time, size; the devices; the length
        // of the name and the checksum. Headers and names, and bytes, end at multiples of four.
        let expected = "070701\
            00000001000081ED0000000000000000\
            000000010000000000000005\
            00000000000000000000000000000000\
            0000000500000000\
            init\0\0hello\0\0\0\
            070701\
            00000000000000000000000000000000\
            000000010000000000000000\
            00000000000000000000000000000000\
            0000000B00000000\
            TRAILER!!!\0\0\0\0";
        assert_eq!(expected.len(), 248);
        assert_eq!(archive.finish(), expected.as_bytes());
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let mut archive = Archive::new();
        for name in ["", "a\0b", "TRAILER!!!"] {
            assert_eq!(archive.add(name, b""), Err(ArchiveError::Name(name.to_owned())));
        }
        archive.add("a", b"first").expect("a good name");
        assert_eq!(archive.add("a", b"second"), Err(ArchiveError::Twice("a".to_owned())));
        assert_eq!(members(&archive.finish()), [("a".to_owned(), b"first".to_vec())]);
    }
}
