//! Versions of Windows, architectures, and which case is run where.
//!
//! The manager is run as one of two versions ([`Profile`]): Windows Server 2003, NT 5.2, and a
//! Windows 11. A case belongs to a profile when the profile's version lies in the range the case
//! names. `recent` cases were seen on what was current then and belong to the newer one.
//!
//! Cases for x86 run in both 32-bit paging modes, cases for x64 on amd64. There is no 32-bit
//! subsystem on a 64-bit manager, so WoW64 cases run nowhere.

use std::fmt;

pub use ntmm::nt::Profile;
pub use ntmm_check::setup::Paging;
use ntmm_pte::{Amd64, I386, Pae, PagingMode};

/// A version of Windows that a case names, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Windows 2000.
    Nt50,
    /// Windows XP.
    Nt51,
    /// Windows Server 2003.
    Nt52,
    /// Windows Vista.
    Vista,
    /// Windows 7.
    Windows7,
    /// Windows 8.
    Windows8,
    /// Windows 8.1.
    Windows81,
    /// Windows 10 as first released, 1507, and its updates by year and month.
    Windows10(u16),
    /// Windows 11.
    Windows11,
}

/// The first release of Windows 10.
const FIRST_WINDOWS_10: u16 = 1507;

impl Version {
    /// The version that stands for a profile.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Legacy => Self::Nt52,
            Profile::Modern => Self::Windows11,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "nt5.0" | "win2k" | "win2000" => Self::Nt50,
            "nt5.1" | "winxp" | "xp" => Self::Nt51,
            "nt5.2" | "win2003" | "ws03" => Self::Nt52,
            "vista" | "nt6.0" => Self::Vista,
            "win7" => Self::Windows7,
            "win8" => Self::Windows8,
            "win8.1" => Self::Windows81,
            "win10" => Self::Windows10(FIRST_WINDOWS_10),
            "win11" => Self::Windows11,
            update => Self::Windows10(update_number(update.strip_prefix("win10-")?)?),
        })
    }
}

/// The versions a case holds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsRange {
    /// All of them.
    Any,
    /// What is current.
    Recent,
    /// One version.
    Exactly(Version),
    /// It and later ones.
    From(Version),
    /// Later ones.
    After(Version),
    /// It and earlier ones.
    UpTo(Version),
    /// Earlier ones.
    Before(Version),
}

/// The number of an update: `1803`, or `20h2` for the second half of 2020.
fn update_number(text: &str) -> Option<u16> {
    match text.split_once(['h', 'H']) {
        None => text.parse().ok(),
        Some((year, half)) => {
            let month = match half {
                "1" => 4,
                "2" => 10,
                _ => return None,
            };
            year.parse::<u16>().ok()?.checked_mul(100)?.checked_add(month)
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nt50 => f.write_str("nt5.0"),
            Self::Nt51 => f.write_str("nt5.1"),
            Self::Nt52 => f.write_str("nt5.2"),
            Self::Vista => f.write_str("vista"),
            Self::Windows7 => f.write_str("win7"),
            Self::Windows8 => f.write_str("win8"),
            Self::Windows81 => f.write_str("win8.1"),
            Self::Windows10(update) => write!(f, "win10-{update}"),
            Self::Windows11 => f.write_str("win11"),
        }
    }
}

impl fmt::Display for OsRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Recent => f.write_str("recent"),
            Self::Exactly(version) => write!(f, "{version}"),
            Self::From(version) => write!(f, ">={version}"),
            Self::After(version) => write!(f, ">{version}"),
            Self::UpTo(version) => write!(f, "<={version}"),
            Self::Before(version) => write!(f, "<{version}"),
        }
    }
}

impl OsRange {
    /// Parses a range as cases write it: `any`, `recent`, `nt5.2`, `>=vista`, `<win10`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let version = |text: &str| Version::parse(text.trim());
        if let Some(rest) = text.strip_prefix(">=") {
            return version(rest).map(Self::From);
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return version(rest).map(Self::UpTo);
        }
        if let Some(rest) = text.strip_prefix('>') {
            return version(rest).map(Self::After);
        }
        if let Some(rest) = text.strip_prefix('<') {
            return version(rest).map(Self::Before);
        }
        match text {
            "any" => Some(Self::Any),
            "recent" => Some(Self::Recent),
            _ => version(text).map(Self::Exactly),
        }
    }

    /// Whether the range holds the version that `profile` is.
    #[must_use]
    pub fn includes(self, profile: Profile) -> bool {
        let version = Version::of(profile);
        match self {
            Self::Any => true,
            Self::Recent => profile == Profile::Modern,
            Self::Exactly(only) => version == only,
            Self::From(first) => version >= first,
            Self::After(last) => version > last,
            Self::UpTo(last) => version <= last,
            Self::Before(first) => version < first,
        }
    }
}

/// The architecture a case holds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// All of them.
    Any,
    /// 32-bit Windows.
    X86,
    /// A 64-bit program on 64-bit Windows.
    X64,
    /// A 32-bit program on 64-bit Windows.
    Wow64,
}

impl Architecture {
    /// Parses an architecture as cases write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "any" => Self::Any,
            "x86" => Self::X86,
            "x64" => Self::X64,
            "wow64" => Self::Wow64,
            _ => return None,
        })
    }

    /// Whether machines of this paging mode are of the architecture.
    #[must_use]
    pub fn includes(self, paging: Paging) -> bool {
        match self {
            Self::Any => true,
            Self::X86 => paging != Paging::Amd64,
            Self::X64 => paging == Paging::Amd64,
            Self::Wow64 => false,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::X86 => "x86",
            Self::X64 => "x64",
            Self::Wow64 => "wow64",
        })
    }
}

/// Width of a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 4 bytes.
    Bits32,
    /// 8 bytes.
    Bits64,
}

impl Width {
    /// Bytes of a pointer.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }

    /// What is left of a number in a pointer-sized variable.
    #[must_use]
    pub const fn truncate(self, number: i128) -> u64 {
        match self {
            Self::Bits32 => number as u32 as u64,
            Self::Bits64 => number as u64,
        }
    }
}

/// What addresses a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Width of a pointer.
    pub width: Width,
    /// Lowest address a program can use.
    pub lowest_user: u64,
    /// Highest address that belongs to user space.
    pub highest_user: u64,
    /// First address of the system.
    pub system_range_start: u64,
}

impl Layout {
    /// The addresses of machines in a paging mode.
    #[must_use]
    pub const fn new(paging: Paging) -> Self {
        match paging {
            Paging::I386 => Self::of::<I386>(),
            Paging::Pae => Self::of::<Pae>(),
            Paging::Amd64 => Self::of::<Amd64>(),
        }
    }

    const fn of<M: PagingMode>() -> Self {
        Self {
            width: if M::ADDRESS_BITS == 32 { Width::Bits32 } else { Width::Bits64 },
            lowest_user: ntmm_pte::mode::LOWEST_USER_ADDRESS.get(),
            highest_user: M::HIGHEST_USER_ADDRESS.get(),
            system_range_start: M::SYSTEM_RANGE_START.get(),
        }
    }
}
