//! Links kept in free system page-table entries (spec 2.8, 10.3).
//!
//! A run of free entries is its own list node: the first entry links to the next run
//! and says whether the run is a single entry, the second holds the run's length. Links
//! are indexes from the first entry of the system range. The words have Valid and
//! Prototype clear, so a stray access faults. The owner of the range changes them under
//! its pool's lock.

/// The number a list word holds.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum ListLink {
    /// The end of the list: all bits of the field set.
    End,
    /// Index of the next run, or the length of this one. At most
    /// [`crate::PteFormat::MAX_LIST_INDEX`]: pools are no larger, which is checked when
    /// one is made.
    Index(u32),
}

/// Whether a run of free entries has a second entry that holds its length. NT's `OneEntry`.
#[derive(Copy, Clone, Default, Eq, PartialEq, Hash, Debug)]
pub enum RunShape {
    /// The run is exactly one entry.
    Single,
    /// The run is longer, or the word is not the first of a run.
    #[default]
    Several,
}

/// A free system page-table entry in list form.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct ListEntry {
    /// The link, or the length in a run's second entry.
    pub next: ListLink,
    /// How long the run is.
    pub shape: RunShape,
}
