//! Whose rules hold: a version of Windows and the bounds of its address space.

use ntmm_check::setup::Paging;

/// A family of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// NT 5.
    Legacy,
    /// Windows 10 from 1903 on.
    Modern,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Modern];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// What calls are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Paging mode of the machine.
    pub paging: Paging,
    /// Version.
    pub version: Version,
}

impl Rules {
    /// All combinations.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let each = |paging| Version::ALL.map(move |version| Self { paging, version });
        Paging::ALL.into_iter().flat_map(each).collect()
    }

    /// Whether addresses have 32 bits.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.paging != Paging::Amd64
    }

    /// The last byte of user space (nt-api 0.3 rule 2).
    #[must_use]
    pub fn highest_user_address(&self) -> u64 {
        if self.is_narrow() { 0x7FFE_FFFF } else { 0x07FF_FFFE_FFFF }
    }

    /// The last byte an allocation may have (nt-internals 1.3).
    #[must_use]
    pub fn highest_allocated_address(&self) -> u64 {
        self.highest_user_address() - 0x1_0000
    }
}
