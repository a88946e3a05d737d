//! Why a file is no image, and the status that says so (spec API 15.1 to 15.3).

use core::fmt;

/// What is wrong with a file that is to be mapped as an image.
///
/// Each variant is one check; [`status`](Self::status) is what NT answers when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageError {
    /// The file has no bytes.
    EmptyFile,
    /// No `MZ` at its start, or too short for a DOS header.
    NotMz,
    /// `e_lfanew` is not positive, or the headers it points to are not in the file.
    NoNewHeader,
    /// The new header has no signature that means anything, or is an NE header for OS 5.
    Signature,
    /// An NE program for 16-bit Windows.
    Windows16,
    /// An NE program for some other system.
    NewExecutable,
    /// An LE program.
    LinearExecutable,
    /// The optional header is missing or too short.
    OptionalHeader,
    /// The optional header's magic number is of no known format.
    Magic,
    /// A PE32+ image, on a 32-bit system.
    Windows64,
    /// A machine the system does not run, or one that contradicts the magic number.
    Machine,
    /// The header does not say that the image can be executed.
    NotExecutable,
    /// Alignments that are no powers of two or do not go together.
    Alignment,
    /// `ImageBase` is not a multiple of 64 KiB.
    ImageBase,
    /// `SizeOfImage` is zero, or its pages do not end below 4 GiB.
    SizeOfImage,
    /// More than 96 sections.
    NumberOfSections,
    /// `SizeOfHeaders` does not cover the section table, or the headers leave no room in the image.
    SizeOfHeaders,
    /// The section table does not lie in the file.
    SectionTable,
    /// A section that is neither in the file nor in memory.
    SectionSize,
    /// A section is misaligned, out of order, or leaves a gap.
    SectionAddress,
    /// A section ends beyond the image.
    SectionOutsideImage,
    /// A section's data ends beyond 4 GiB or beyond the end of the file.
    SectionData,
    /// A section of a flat image whose address is not its position in the file.
    FlatSection,
}

impl ImageError {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::EmptyFile,
        Self::NotMz,
        Self::NoNewHeader,
        Self::Signature,
        Self::Windows16,
        Self::NewExecutable,
        Self::LinearExecutable,
        Self::OptionalHeader,
        Self::Magic,
        Self::Windows64,
        Self::Machine,
        Self::NotExecutable,
        Self::Alignment,
        Self::ImageBase,
        Self::SizeOfImage,
        Self::NumberOfSections,
        Self::SizeOfHeaders,
        Self::SectionTable,
        Self::SectionSize,
        Self::SectionAddress,
        Self::SectionOutsideImage,
        Self::SectionData,
        Self::FlatSection,
    ];

    /// The NTSTATUS code.
    #[must_use]
    pub const fn status(self) -> u32 {
        match self {
            // STATUS_INVALID_FILE_FOR_SECTION
            Self::EmptyFile => 0xC000_0020,
            // STATUS_INVALID_IMAGE_NOT_MZ
            Self::NotMz => 0xC000_012F,
            // STATUS_INVALID_IMAGE_PROTECT
            Self::NoNewHeader | Self::Signature => 0xC000_0130,
            // STATUS_INVALID_IMAGE_WIN_16
            Self::Windows16 => 0xC000_0131,
            // STATUS_INVALID_IMAGE_NE_FORMAT
            Self::NewExecutable => 0xC000_011B,
            // STATUS_INVALID_IMAGE_LE_FORMAT
            Self::LinearExecutable => 0xC000_012E,
            // STATUS_INVALID_IMAGE_WIN_64
            Self::Windows64 => 0xC000_035A,
            // STATUS_INVALID_IMAGE_FORMAT
            Self::OptionalHeader
            | Self::Magic
            | Self::Machine
            | Self::NotExecutable
            | Self::Alignment
            | Self::ImageBase
            | Self::SizeOfImage
            | Self::NumberOfSections
            | Self::SizeOfHeaders
            | Self::SectionTable
            | Self::SectionSize
            | Self::SectionAddress
            | Self::SectionOutsideImage
            | Self::SectionData
            | Self::FlatSection => 0xC000_007B,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::EmptyFile => "the file is empty",
            Self::NotMz => "no MZ header",
            Self::NoNewHeader => "the DOS header points to no new header",
            Self::Signature => "the new header has no known signature",
            Self::Windows16 => "a program for 16-bit Windows",
            Self::NewExecutable => "an NE program",
            Self::LinearExecutable => "an LE program",
            Self::OptionalHeader => "the optional header is missing or too short",
            Self::Magic => "the optional header has an unknown magic number",
            Self::Windows64 => "a 64-bit image on a 32-bit system",
            Self::Machine => "an image for another machine",
            Self::NotExecutable => "not marked as executable",
            Self::Alignment => "alignments that do not go together",
            Self::ImageBase => "the image base is not a multiple of 64 KiB",
            Self::SizeOfImage => "an impossible size of the image",
            Self::NumberOfSections => "too many sections",
            Self::SizeOfHeaders => "an impossible size of the headers",
            Self::SectionTable => "the section table is not in the file",
            Self::SectionSize => "a section without size",
            Self::SectionAddress => "a section at an impossible address",
            Self::SectionOutsideImage => "a section ends beyond the image",
            Self::SectionData => "a section's data is not in the file",
            Self::FlatSection => "a section of a flat image at another place than in the file",
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for ImageError {}

/// Why there is no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError<E> {
    /// The file is no image for this system.
    Image(ImageError),
    /// The reader failed.
    Read(E),
}

impl<E> From<ImageError> for ParseError<E> {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl<E: fmt::Display> fmt::Display for ParseError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ParseError<E> {}
