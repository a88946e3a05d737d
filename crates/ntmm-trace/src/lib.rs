//! Recorded memory references of real programs.
//!
//! A trace is the stream of fetches, loads, stores and modifications that one program made, in order. It arrives as
//! Valgrind lackey text (`--trace-mem=yes`, plain or gzipped) or in ntmm's compact form (`.ntt`), which merges
//! neighbouring references to one page and says beforehand which regions the program touches; the byte-for-byte
//! description is `docs/trace-format.md`.
//!
//! * [`TraceReader`] opens any of the three and yields [`Reference`]s, one by one or (faster) in batches.
//! * [`scan_regions`] says which [`Regions`] a trace touches, so that a replayer can reserve and commit them first.
//! * [`convert`] turns any form into the compact one; [`CompactWriter`] does so for references from elsewhere.
//! * [`Relocation`] moves a trace's regions into the address window of the simulated process.
//!
//! Nothing here knows a memory manager: addresses are plain 64-bit numbers of the recorded program, pages are the
//! 4 KiB of the recording machine. No input makes this crate panic or allocate by an unchecked length; every error
//! names the file and the line, byte or record at fault.

mod compact;
mod convert;
mod error;
mod input;
mod merge;
mod reader;
mod reference;
mod regions;
mod relocate;
mod text;

pub use compact::{CompactWriter, Header, Program, Totals, WindowPages};
pub use convert::{ConvertOptions, Converted, convert};
pub use error::{Place, Problem, TraceError};
pub use input::Progress;
pub use reader::{BATCH, TraceFormat, TraceReader};
pub use reference::{AccessKind, KindSet, MAX_ADDRESS, MAX_SIZE, PAGE_SIZE, Reference};
pub use regions::{BLOCK_PAGES, Region, Regions, scan_regions};
pub use relocate::{AddressWindow, DoesNotFit, Relocation, Relocator};
