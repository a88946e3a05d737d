//! The form of a probe image.
//!
//! All numbers are little-endian and 32 bits wide:
//!
//! | part | contents |
//! |---|---|
//! | header, 9 words | two of [`MAGIC`], [`Structure`], CR3, first frame, frames, frame of the host's table, stored frames, probes |
//! | a probe, 3 words each | address; access (bits 0-1) and ring (bits 8-9); where the breakpoint goes, or [`NOWHERE`] |
//! | numbers of the stored frames, ascending | 1 word each |
//! | contents of the stored frames | 4096 bytes each |
//!
//! Frames of the range that are not stored hold zeroes. The entry of address 0 in the directory
//! names the *host's table*, a frame outside the range that whoever runs the probes fills with
//! mappings of its own code; the image's address spaces have nothing else below 4 MiB.
//!
//! Each probe starts from the image: whatever an earlier one changed is put back.

use ntmm_pte::AccessKind;

/// First bytes of an image.
pub const MAGIC: [u8; 8] = *b"ntmmprb1";

/// Bytes of a frame.
pub const FRAME_BYTES: usize = 4096;

/// What a write stores: 4 bytes.
pub const STORED: u32 = 0x5AFE_C0DE;

/// The instruction an execution probe executes: a breakpoint, one byte long.
pub const BREAKPOINT: u8 = 0xCC;

/// No place in memory.
pub const NOWHERE: u32 = u32::MAX;

/// The physical address up to which the host's table maps memory one to one.
pub const HOST_END: u32 = 0x20_0000;

const HEADER_WORDS: usize = 9;
const PROBE_WORDS: usize = 3;

/// The paging structure of an image's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// 32-bit paging: two levels of 4-byte entries.
    TwoLevel,
    /// PAE paging: three levels of 8-byte entries, no-execute enabled.
    Pae,
}

impl Structure {
    /// Its number in an image: the levels it has.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::TwoLevel => 2,
            Self::Pae => 3,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            2 => Some(Self::TwoLevel),
            3 => Some(Self::Pae),
            _ => None,
        }
    }
}

/// Privilege of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ring {
    /// Ring 0.
    Kernel,
    /// Ring 3.
    User,
}

/// One access to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Address. Reads and writes are of 4 bytes that lie on one page.
    pub address: u32,
    /// Kind.
    pub access: AccessKind,
    /// Privilege.
    pub ring: Ring,
    /// Physical address at which a [`BREAKPOINT`] is put beforehand.
    pub breakpoint: Option<u32>,
}

impl Probe {
    /// The probe as the words of an image.
    #[must_use]
    pub const fn to_words(self) -> [u32; PROBE_WORDS] {
        let access = match self.access {
            AccessKind::Read => 0,
            AccessKind::Write => 1,
            AccessKind::Execute => 2,
        };
        let ring = match self.ring {
            Ring::Kernel => 0,
            Ring::User => 3,
        };
        let breakpoint = match self.breakpoint {
            Some(address) => address,
            None => NOWHERE,
        };
        [self.address, access | ring << 8, breakpoint]
    }

    const fn from_words([address, how, breakpoint]: [u32; PROBE_WORDS]) -> Option<Self> {
        let access = match how & 0xFF {
            0 => AccessKind::Read,
            1 => AccessKind::Write,
            2 => AccessKind::Execute,
            _ => return None,
        };
        let ring = match how >> 8 {
            0 => Ring::Kernel,
            3 => Ring::User,
            _ => return None,
        };
        let breakpoint = if breakpoint == NOWHERE { None } else { Some(breakpoint) };
        Some(Self { address, access, ring, breakpoint })
    }
}

/// What an image says of its address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Paging structure.
    pub structure: Structure,
    /// Physical address of the root, for CR3.
    pub root: u32,
    /// First frame of the memory.
    pub first_frame: u32,
    /// Frames of the memory.
    pub frames: u32,
    /// Frame of the host's table.
    pub host_table: u32,
}

/// The bytes are no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadImage;

/// An image, as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    header: Header,
    probes: &'a [u8],
    numbers: &'a [u8],
    contents: &'a [[u8; FRAME_BYTES]],
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(index * 4..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

impl<'a> Image<'a> {
    /// Reads an image. Bytes after its end are allowed.
    ///
    /// # Errors
    /// When the bytes are no image.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadImage> {
        Self::read(bytes).ok_or(BadImage)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEADER_WORDS * 4)?;
        if head.get(..8)? != MAGIC {
            return None;
        }
        let header = Header {
            structure: Structure::from_number(word(head, 2)?)?,
            root: word(head, 3)?,
            first_frame: word(head, 4)?,
            frames: word(head, 5)?,
            host_table: word(head, 6)?,
        };
        let (stored, probes) = (word(head, 7)? as usize, word(head, 8)? as usize);
        let (probes, rest) = rest.split_at_checked(probes.checked_mul(PROBE_WORDS * 4)?)?;
        let (numbers, rest) = rest.split_at_checked(stored.checked_mul(4)?)?;
        let (contents, _) = rest.as_chunks::<FRAME_BYTES>();
        let image = Self { header, probes, numbers, contents: contents.get(..stored)? };
        let end = header.first_frame.checked_add(header.frames)?;
        let inside = image.frames().all(|(number, _)| (header.first_frame..end).contains(&number));
        (inside && image.probes().count() * PROBE_WORDS * 4 == probes.len()).then_some(image)
    }

    /// What it says of its address space.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The probes, in order.
    pub fn probes(&self) -> impl Iterator<Item = Probe> + use<'a> {
        let (records, _) = self.probes.as_chunks::<{ PROBE_WORDS * 4 }>();
        records.iter().map_while(|record| {
            Probe::from_words([word(record, 0)?, word(record, 1)?, word(record, 2)?])
        })
    }

    /// The stored frames with their contents, ascending.
    pub fn frames(&self) -> impl Iterator<Item = (u32, &'a [u8; FRAME_BYTES])> + use<'a> {
        let (numbers, _) = self.numbers.as_chunks::<4>();
        numbers.iter().map(|number| u32::from_le_bytes(*number)).zip(self.contents)
    }
}

/// Packs an image: `contents` yields the frames that are not all zeroes, ascending.
#[cfg(feature = "host")]
#[must_use]
pub fn pack(
    header: Header,
    probes: &[Probe],
    contents: &[(u32, Box<[u8; FRAME_BYTES]>)],
) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let fields = [
        header.structure.number(),
        header.root,
        header.first_frame,
        header.frames,
        header.host_table,
        contents.len() as u32,
        probes.len() as u32,
    ];
    let probes = probes.iter().flat_map(|probe| probe.to_words());
    let numbers = contents.iter().map(|(number, _)| *number);
    for word in fields.into_iter().chain(probes).chain(numbers) {
        bytes.extend(word.to_le_bytes());
    }
    for (_, frame) in contents {
        bytes.extend_from_slice(&frame[..]);
    }
    bytes
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;

    fn example() -> (Header, Vec<Probe>, Vec<u8>) {
        let header = Header {
            structure: Structure::Pae,
            root: 0x12000,
            first_frame: 0x10,
            frames: 8,
            host_table: 0xF,
        };
        let probes: Vec<Probe> = [Ring::Kernel, Ring::User]
            .into_iter()
            .flat_map(|ring| AccessKind::ALL.map(|access| (ring, access)))
            .map(|(ring, access)| Probe {
                address: 0xC000_1000,
                access,
                ring,
                breakpoint: (access == AccessKind::Execute).then_some(0x1_3004),
            })
            .collect();
        let contents = [(0x11, Box::new([1; FRAME_BYTES])), (0x17, Box::new([2; FRAME_BYTES]))];
        let bytes = pack(header, &probes, &contents);
        (header, probes, bytes)
    }

    #[test]
    fn an_image_is_read_back() {
        let (header, probes, mut bytes) = example();
        bytes.extend([9; 5000]);
        let image = Image::parse(&bytes).expect("an image");
        assert_eq!(image.header(), header);
        assert_eq!(image.probes().collect::<Vec<_>>(), probes);
        let frames: Vec<_> = image.frames().map(|(number, frame)| (number, frame[7])).collect();
        assert_eq!(frames, [(0x11, 1), (0x17, 2)]);
    }

    #[test]
    fn other_bytes_are_refused() {
        let (_, _, bytes) = example();
        for length in 0..bytes.len() {
            assert_eq!(Image::parse(&bytes[..length]).err(), Some(BadImage), "{length} bytes");
        }
        // The magic, the structure, the frame range and a probe's access.
        for at in [0, 8, 20, 36 + 4] {
            let mut bytes = bytes.clone();
            bytes[at] = 0x7;
            assert_eq!(Image::parse(&bytes).err(), Some(BadImage), "byte {at}");
        }
    }
}
