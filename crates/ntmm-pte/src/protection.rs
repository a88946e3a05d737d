//! The 5-bit protection mask.
//!
//! Every invalid page-table word, VAD and frame record says what a page may be used
//! for in five bits (spec 2.11). The low three are the [`Access`], the high two the
//! [`Modifier`]:
//!
//! | bits 0-2 | access            | | bits 3-4 | modifier              |
//! |----------|-------------------|-|----------|-----------------------|
//! | 0        | none              | | 0x00     | cached                |
//! | 1        | read only         | | 0x08     | not cached            |
//! | 2        | execute           | | 0x10     | guard page            |
//! | 3        | execute, read     | | 0x18     | write combined        |
//! | 4        | read, write       | |          |                       |
//! | 5        | write copy        | |          |                       |
//! | 6        | execute, read, write | |       |                       |
//! | 7        | execute, write copy  | |       |                       |
//!
//! Three values mean something as a whole: [`Protection::DECOMMIT`],
//! [`Protection::NO_ACCESS`] and [`Protection::OUTSWAPPED_KERNEL_STACK`].
//!
//! Callers of the system services speak in `PAGE_*` flags; those are parsed here once
//! (spec 2.12) and never seen again inside. What a mask becomes in a valid word depends
//! on the mode and is built by [`crate::PteWord`] (spec 2.13).

use core::fmt;

/// `PAGE_NOACCESS`.
pub const PAGE_NOACCESS: u32 = 0x01;
/// `PAGE_READONLY`.
pub const PAGE_READONLY: u32 = 0x02;
/// `PAGE_READWRITE`.
pub const PAGE_READWRITE: u32 = 0x04;
/// `PAGE_WRITECOPY`.
pub const PAGE_WRITECOPY: u32 = 0x08;
/// `PAGE_EXECUTE`.
pub const PAGE_EXECUTE: u32 = 0x10;
/// `PAGE_EXECUTE_READ`.
pub const PAGE_EXECUTE_READ: u32 = 0x20;
/// `PAGE_EXECUTE_READWRITE`.
pub const PAGE_EXECUTE_READWRITE: u32 = 0x40;
/// `PAGE_EXECUTE_WRITECOPY`.
pub const PAGE_EXECUTE_WRITECOPY: u32 = 0x80;
/// `PAGE_GUARD`, a modifier.
pub const PAGE_GUARD: u32 = 0x100;
/// `PAGE_NOCACHE`, a modifier.
pub const PAGE_NOCACHE: u32 = 0x200;
/// `PAGE_WRITECOMBINE`, a modifier.
pub const PAGE_WRITECOMBINE: u32 = 0x400;

/// `PAGE_*` flags that name no protection: STATUS_INVALID_PAGE_PROTECTION (spec 2.12).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct InvalidPageProtection(
    /// The flags as they were given.
    pub u32,
);

impl fmt::Display for InvalidPageProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page protection {:#x} is not valid", self.0)
    }
}

impl core::error::Error for InvalidPageProtection {}

/// The access half of a [`Protection`]: its low three bits.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Access {
    /// Nothing.
    None = 0,
    /// Reading.
    ReadOnly = 1,
    /// Executing; hardware cannot withhold reading.
    Execute = 2,
    /// Executing and reading.
    ExecuteRead = 3,
    /// Reading and writing.
    ReadWrite = 4,
    /// Reading, and writing to a private copy.
    WriteCopy = 5,
    /// Everything.
    ExecuteReadWrite = 6,
    /// Executing, reading, and writing to a private copy.
    ExecuteWriteCopy = 7,
}

/// The modifier half of a [`Protection`]: its high two bits.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Modifier {
    /// Ordinary cached memory.
    Cached = 0x00,
    /// Memory the processor must not cache.
    NoCache = 0x08,
    /// The first access raises an alarm and removes this modifier (spec 2.15).
    Guard = 0x10,
    /// Memory whose writes may be combined.
    WriteCombine = 0x18,
}

/// What a processor wants to do with a byte of memory.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum AccessKind {
    /// Load data.
    Read,
    /// Store data.
    Write,
    /// Fetch an instruction.
    Execute,
}

impl AccessKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Execute];
}

/// A 5-bit protection mask. NT's `MM_PROTECTION_MASK` values.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Protection(u8);

impl Protection {
    /// Nothing may be done; as a whole word it is the zero entry (`MM_ZERO_ACCESS`).
    pub const ZERO_ACCESS: Self = Self(0);
    /// `MM_READONLY`.
    pub const READONLY: Self = Self(1);
    /// `MM_EXECUTE`.
    pub const EXECUTE: Self = Self(2);
    /// `MM_EXECUTE_READ`.
    pub const EXECUTE_READ: Self = Self(3);
    /// `MM_READWRITE`.
    pub const READWRITE: Self = Self(4);
    /// `MM_WRITECOPY`.
    pub const WRITECOPY: Self = Self(5);
    /// `MM_EXECUTE_READWRITE`.
    pub const EXECUTE_READWRITE: Self = Self(6);
    /// `MM_EXECUTE_WRITECOPY`.
    pub const EXECUTE_WRITECOPY: Self = Self(7);
    /// A page that was committed and is so no longer (`MM_DECOMMIT`).
    pub const DECOMMIT: Self = Self(0x10);
    /// Committed, but every access is a violation (`MM_NOACCESS`).
    pub const NO_ACCESS: Self = Self(0x18);
    /// A page of a kernel stack that has been swapped out (`MM_OUTSWAPPED_KSTACK`).
    pub const OUTSWAPPED_KERNEL_STACK: Self = Self(0x1F);

    /// Bits in a mask.
    pub const BITS: u32 = 5;

    /// The mask `bits`, or `None` from 32 on.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 1 << Self::BITS { Some(Self(bits)) } else { None }
    }

    /// The mask in the low five bits of `word`.
    #[inline]
    pub const fn from_low_bits(word: u64) -> Self {
        Self((word & 0x1F) as u8)
    }

    /// The mask made of an access and a modifier.
    #[inline]
    pub const fn new(access: Access, modifier: Modifier) -> Self {
        Self(access as u8 | modifier as u8)
    }

    /// The mask as a number below 32.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// All 32 masks.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..1 << Self::BITS).map(Self)
    }

    /// Parses `PAGE_*` flags (spec 2.12).
    ///
    /// # Errors
    /// [`InvalidPageProtection`] unless exactly one base protection is given, with at
    /// most one modifier, and none beside `PAGE_NOACCESS`.
    pub const fn from_page_flags(flags: u32) -> Result<Self, InvalidPageProtection> {
        let access = match flags & 0xFF {
            PAGE_NOACCESS if flags == PAGE_NOACCESS => return Ok(Self::NO_ACCESS),
            PAGE_READONLY => Access::ReadOnly,
            PAGE_READWRITE => Access::ReadWrite,
            PAGE_WRITECOPY => Access::WriteCopy,
            PAGE_EXECUTE => Access::Execute,
            PAGE_EXECUTE_READ => Access::ExecuteRead,
            PAGE_EXECUTE_READWRITE => Access::ExecuteReadWrite,
            PAGE_EXECUTE_WRITECOPY => Access::ExecuteWriteCopy,
            _ => return Err(InvalidPageProtection(flags)),
        };
        let modifier = match flags & !0xFF {
            0 => Modifier::Cached,
            PAGE_GUARD => Modifier::Guard,
            PAGE_NOCACHE => Modifier::NoCache,
            PAGE_WRITECOMBINE => Modifier::WriteCombine,
            _ => return Err(InvalidPageProtection(flags)),
        };
        Ok(Self::new(access, modifier))
    }

    /// The `PAGE_*` flags a query reports for this mask (spec 2.12, reverse table).
    pub const fn to_page_flags(self) -> u32 {
        let base = match self.access() {
            Access::None => return PAGE_NOACCESS,
            Access::ReadOnly => PAGE_READONLY,
            Access::Execute => PAGE_EXECUTE,
            Access::ExecuteRead => PAGE_EXECUTE_READ,
            Access::ReadWrite => PAGE_READWRITE,
            Access::WriteCopy => PAGE_WRITECOPY,
            Access::ExecuteReadWrite => PAGE_EXECUTE_READWRITE,
            Access::ExecuteWriteCopy => PAGE_EXECUTE_WRITECOPY,
        };
        let modifier = match self.modifier() {
            Modifier::Cached => 0,
            Modifier::NoCache => PAGE_NOCACHE,
            Modifier::Guard => PAGE_GUARD,
            Modifier::WriteCombine => PAGE_WRITECOMBINE,
        };
        base | modifier
    }

    /// The low three bits.
    #[inline]
    pub const fn access(self) -> Access {
        match self.0 & 7 {
            0 => Access::None,
            1 => Access::ReadOnly,
            2 => Access::Execute,
            3 => Access::ExecuteRead,
            4 => Access::ReadWrite,
            5 => Access::WriteCopy,
            6 => Access::ExecuteReadWrite,
            _ => Access::ExecuteWriteCopy,
        }
    }

    /// The high two bits.
    #[inline]
    pub const fn modifier(self) -> Modifier {
        match self.0 & 0x18 {
            0x00 => Modifier::Cached,
            0x08 => Modifier::NoCache,
            0x10 => Modifier::Guard,
            _ => Modifier::WriteCombine,
        }
    }

    /// Whether this marks a guard page: the guard modifier on some access (spec 2.15).
    #[inline]
    pub const fn is_guard(self) -> bool {
        matches!(self.modifier(), Modifier::Guard) && self.0 & 7 != 0
    }

    /// The mask with a guard removed; any other mask unchanged.
    #[inline]
    #[must_use]
    pub const fn without_guard(self) -> Self {
        if self.is_guard() { Self(self.0 & 7) } else { self }
    }

    /// Whether this is the complete value [`Protection::NO_ACCESS`].
    #[inline]
    pub const fn is_no_access(self) -> bool {
        self.0 == Self::NO_ACCESS.0
    }

    /// Whether this is the complete value [`Protection::DECOMMIT`].
    #[inline]
    pub const fn is_decommitted(self) -> bool {
        self.0 == Self::DECOMMIT.0
    }

    /// Whether a write can succeed, to the page or to a private copy of it.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether a write goes to a private copy.
    #[inline]
    pub const fn is_write_copy(self) -> bool {
        self.0 & 5 == 5
    }

    /// The protection of the private copy that a write to a write-copy page makes;
    /// any other mask unchanged.
    #[inline]
    #[must_use]
    pub const fn without_write_copy(self) -> Self {
        if self.is_write_copy() { Self(self.0 & !1) } else { self }
    }

    /// The same, cached as `other` is, unless it is guarded or nothing can be accessed.
    #[must_use]
    pub const fn cached_as(self, other: Self) -> Self {
        let uncached = matches!(other.modifier(), Modifier::NoCache | Modifier::WriteCombine)
            && !other.is_no_access();
        let plain = matches!(self.modifier(), Modifier::Cached) && self.0 & 7 != 0;
        if uncached && plain { Self::new(self.access(), other.modifier()) } else { self }
    }

    /// The protection under which what this one lets write is copied first; any other mask
    /// unchanged.
    #[inline]
    #[must_use]
    pub const fn with_write_copy(self) -> Self {
        if self.is_writable() { Self(self.0 | 1) } else { self }
    }

    /// Whether instructions may be fetched.
    #[inline]
    pub const fn is_executable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether a page of this protection may have a valid entry: some access, and no
    /// guard, which hardware could not enforce (spec 2.13).
    #[inline]
    pub const fn is_mappable(self) -> bool {
        self.0 & 7 != 0 && !self.is_guard()
    }

    /// Whether an access of this kind passes the software check (spec 4.5).
    ///
    /// A guard is looked at only after this check, so it does not matter here.
    #[inline]
    pub const fn permits(self, kind: AccessKind) -> bool {
        match kind {
            AccessKind::Read => self.0 & 7 != 0,
            AccessKind::Write => self.is_writable(),
            AccessKind::Execute => self.is_executable(),
        }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DECOMMIT => f.write_str("Decommit"),
            Self::NO_ACCESS => f.write_str("NoAccess"),
            Self::OUTSWAPPED_KERNEL_STACK => f.write_str("OutswappedKernelStack"),
            _ => match self.modifier() {
                Modifier::Cached => write!(f, "{:?}", self.access()),
                modifier => write!(f, "{:?}+{modifier:?}", self.access()),
            },
        }
    }
}
