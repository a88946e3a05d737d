//! Asking a real processor what the simulated one says.
//!
//! The manager builds page tables for i386 and PAE, and the simulated walker of `ntmm-machine`
//! follows them; but both were written by the same hands. So address spaces that the manager has
//! built are packed into a *probe image*, with a list of *probes*: an access of a kind at an
//! address, in ring 0 or 3. The kernel of this project, booted with the word `probe`, puts
//! the image's frames at their physical addresses, leaves long mode, lets the processor itself
//! make each access through those tables, and reports what came of it.
//!
//! * [`image`] is the form of an image, which both sides share; it needs no heap.
//! * `scene` makes the address spaces: a manager on a simulated machine and a program whose
//!   pages are left in every state there is.
//! * `expectation` is what the simulated walker says to each probe.
//!
//! The last two are behind the feature `host`.
#![cfg_attr(not(feature = "host"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
pub mod expectation;
pub mod image;
#[cfg(feature = "host")]
pub mod scene;
