//! Paging files (spec 9): where modified private pages go, and the engine that takes them there.
//!
//! | File | Holds |
//! |---|---|
//! | [`bitmap`] | which slots of a file are in use |
//! | [`mod@file`] | the table of up to sixteen files, slots allocated and released |
//! | [`modified_writer`] | gathering modified pages into clusters, writing, completion |

pub mod bitmap;
pub mod file;
pub mod mapped_writer;
pub mod modified_writer;

pub(crate) use file::PagingFiles;
