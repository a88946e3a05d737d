//! The compact form (`.ntt`): a header that tells everything about the trace, then merged records, gzipped.
//!
//! `docs/trace-format.md` describes it byte for byte. [`Header`] is the part in front, [`codec`] the model that
//! writer and reader of records share, [`CompactWriter`] and [`CompactReader`] the two directions.

mod codec;
mod header;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use header::{Header, Program, Totals, WindowPages};
pub(crate) use read::CompactReader;
pub use write::CompactWriter;

/// The first bytes of every compact trace. Like PNG's, they reveal transfers that change line ends or strip bits.
pub(crate) const MAGIC: [u8; 8] = *b"\x89NTT\r\n\x1a\n";
