//! Page protections as programs ask for them.
//!
//! The model judges by this type alone; only the edge towards the manager turns it into the
//! manager's own.

use std::fmt;
use std::str::FromStr;

use ntmm_pte::Protection;

use crate::operation::Touch;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    NoAccess,
    /// Loads.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
    /// Fetches; the hardware cannot tell them from loads.
    Execute,
    /// Fetches and loads.
    ExecuteRead,
    /// Everything.
    ExecuteReadWrite,
}

/// Whether the first access raises an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It does not.
    Off,
    /// It does, once.
    Pending,
}

/// A protection: a base and a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What may be done.
    pub base: Base,
    /// Whether the first access that may be done raises an alarm.
    pub guard: Guard,
}

/// Whether fetches are told apart from loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCheck {
    /// They are: PAE and amd64.
    NoExecute,
    /// They are not: i386 without PAE.
    LikeLoads,
}

impl Base {
    /// All bases.
    pub const ALL: [Self; 6] = [
        Self::NoAccess,
        Self::ReadOnly,
        Self::ReadWrite,
        Self::Execute,
        Self::ExecuteRead,
        Self::ExecuteReadWrite,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NoAccess => "noaccess",
            Self::ReadOnly => "readonly",
            Self::ReadWrite => "readwrite",
            Self::Execute => "execute",
            Self::ExecuteRead => "execute-read",
            Self::ExecuteReadWrite => "execute-readwrite",
        }
    }
}

impl Rights {
    /// Loads and stores.
    pub const READ_WRITE: Self = Self { base: Base::ReadWrite, guard: Guard::Off };

    /// Whether an access of this kind is allowed once no guard is pending.
    #[must_use]
    pub const fn permit(self, touch: Touch, fetches: FetchCheck) -> bool {
        match (touch, self.base) {
            (_, Base::NoAccess) => false,
            (Touch::Load, _) | (_, Base::ExecuteReadWrite) => true,
            (Touch::Store, base) => matches!(base, Base::ReadWrite),
            (Touch::Fetch, base) => {
                matches!(fetches, FetchCheck::LikeLoads)
                    || matches!(base, Base::Execute | Base::ExecuteRead)
            }
        }
    }

    /// The same without a guard.
    #[must_use]
    pub const fn opened(self) -> Self {
        Self { base: self.base, guard: Guard::Off }
    }

    /// As the manager wants it.
    #[must_use]
    pub fn to_protection(self) -> Protection {
        let flags = match self.base {
            Base::NoAccess => ntmm_pte::protection::PAGE_NOACCESS,
            Base::ReadOnly => ntmm_pte::protection::PAGE_READONLY,
            Base::ReadWrite => ntmm_pte::protection::PAGE_READWRITE,
            Base::Execute => ntmm_pte::protection::PAGE_EXECUTE,
            Base::ExecuteRead => ntmm_pte::protection::PAGE_EXECUTE_READ,
            Base::ExecuteReadWrite => ntmm_pte::protection::PAGE_EXECUTE_READWRITE,
        };
        let guard = match self.guard {
            Guard::Off => 0,
            Guard::Pending => ntmm_pte::protection::PAGE_GUARD,
        };
        Protection::from_page_flags(flags | guard).unwrap_or(Protection::NO_ACCESS)
    }

    /// What the manager reports.
    #[must_use]
    pub fn from_protection(protection: Protection) -> Option<Self> {
        Base::ALL
            .into_iter()
            .flat_map(|base| [Guard::Off, Guard::Pending].map(|guard| Self { base, guard }))
            .find(|rights| rights.is_possible() && rights.to_protection() == protection)
    }

    /// Whether the flags may stand together: no-access pages have no guard.
    #[must_use]
    pub fn is_possible(self) -> bool {
        self.base != Base::NoAccess || self.guard == Guard::Off
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.name())?;
        match self.guard {
            Guard::Off => Ok(()),
            Guard::Pending => f.write_str("+guard"),
        }
    }
}

impl FromStr for Rights {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, guard) = match text.strip_suffix("+guard") {
            Some(name) => (name, Guard::Pending),
            None => (text, Guard::Off),
        };
        let base = Base::ALL.into_iter().find(|base| base.name() == name).ok_or(())?;
        let rights = Self { base, guard };
        if rights.is_possible() { Ok(rights) } else { Err(()) }
    }
}
