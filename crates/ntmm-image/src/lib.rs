//! What NT makes of an executable file.
//!
//! An image section starts with a file whose headers claim things. This crate turns the claims
//! into an [`ImageLayout`], or into the status NT gives for the first one that does not hold:
//! which pages come from where in the file, what may be done with them, what is zero, what a
//! query of the section reports, and where the base relocations are. [`RelocationTable`] then
//! says what has to change in a page of an image that does not lie at its preferred base.
//!
//! Nothing here owns or maps memory. A file is read through a function the caller passes, in
//! pieces of at most [`LONGEST_READ`] bytes that lie inside the file, and the number of pieces
//! has a limit, whatever the headers claim. Nothing is kept between calls either: a reader that
//! has to wait for the disk fails with its own error, and the same call is made again later.
//!
//! ```
//! use ntmm_image::{Host, HostMachine, ImageError, ImageLayout, ParseError, Profile};
//!
//! let file = b"MZ, but no more than that";
//! let host = Host { machine: HostMachine::Amd64, profile: Profile::Modern };
//! let parsed = ImageLayout::parse(file.len() as u64, host, |offset, buffer| {
//!     let bytes = file.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
//!     buffer.copy_from_slice(bytes.ok_or("a read outside the file")?);
//!     Ok::<(), &str>(())
//! });
//! assert_eq!(parsed.unwrap_err(), ParseError::Image(ImageError::NotMz));
//! ```
//!
//! Spec: API 12 (image information), 15 (validation and layout); internals 8.4, 8.8.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::todo,
        clippy::unimplemented
    )
)]

#[cfg(any(test, feature = "build"))]
extern crate std;

#[cfg(feature = "build")]
pub mod build;
mod error;
mod file;
mod headers;
mod host;
mod information;
mod layout;
mod protection;
mod relocation;
mod sections;
mod subsection;

pub use error::{ImageError, ParseError};
pub use file::{LONGEST_READ, MOST_READS};
pub use headers::{DataDirectory, Format};
pub use host::{Host, HostMachine, Profile};
pub use information::{ImageFlags, ImageInformation, Version};
pub use layout::{HeaderPatch, ImageLayout, Mapping, SUBSECTIONS};
pub use relocation::{
    BlockPosition, RelocatedPage, Relocation, RelocationDefect, RelocationError, RelocationKind,
    RelocationTable, Relocations,
};
pub use subsection::{FileData, Sharing, Subsection};
