//! What an operation says of sections and views.

use std::str::FromStr;

/// Sections that threads can name.
pub const SECTIONS: u8 = 4;

/// What may be done with the pages of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    /// Loads.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
    /// Loads, and stores into copies.
    WriteCopy,
}

impl Showing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReadOnly, Self::ReadWrite, Self::WriteCopy];

    /// The word for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "readonly",
            Self::ReadWrite => "readwrite",
            Self::WriteCopy => "writecopy",
        }
    }
}

impl FromStr for Showing {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|showing| showing.name() == text).ok_or(())
    }
}

/// Whether other threads run while one touches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// All others rest.
    Alone,
    /// They may run.
    Others,
}
