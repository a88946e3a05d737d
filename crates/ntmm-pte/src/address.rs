//! Addresses, page and frame numbers, and counts of pages and bytes, each its own type.
//!
//! A number that names a virtual page cannot be taken for one that names a frame, and
//! a count of pages cannot be added to an address without saying how many bytes it is.
//! All of these are plain values: nothing here is shared and no lock guards them.
//!
//! NT calls [`Pfn`] a page frame number and [`Vpn`] a virtual page number (spec 0.2);
//! page size and granularity are those of spec 1.1.

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page, in every paging mode (spec 1.1).
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Bytes to which the start of an allocation is aligned: 64 KiB (spec 1.1).
pub const ALLOCATION_GRANULARITY: u64 = 0x1_0000;

/// Bits of a [`Vpn`]: 48 address bits less the page offset.
const VPN_MASK: u64 = (1 << 36) - 1;

/// Implements hexadecimal `Display`, `Debug`, `LowerHex` and `UpperHex` for a newtype.
macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl fmt::UpperHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::UpperHex::fmt(&self.0, f)
            }
        }
    };
}

/// Implements the arithmetic that every count has.
macro_rules! count {
    ($name:ident, $unit:literal) => {
        impl $name {
            #[doc = concat!("No ", $unit, ".")]
            pub const ZERO: Self = Self(0);

            #[doc = concat!("A count of `n` ", $unit, ".")]
            #[inline]
            pub const fn new(n: u64) -> Self {
                Self(n)
            }

            #[doc = concat!("The number of ", $unit, ".")]
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether the count is zero.
            #[inline]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// The sum, or `None` when it passes 64 bits.
            #[inline]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(n) => Some(Self(n)),
                    None => None,
                }
            }

            /// The difference, or `None` when `other` is larger.
            #[inline]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(n) => Some(Self(n)),
                    None => None,
                }
            }

            /// The sum, or the largest count when it passes 64 bits.
            #[inline]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, or zero when `other` is larger.
            #[inline]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

/// A count of pages of [`PAGE_SIZE`] bytes.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Pages(u64);

/// A count of bytes.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Bytes(u64);

count!(Pages, "pages");
count!(Bytes, "bytes");

impl Pages {
    /// One page.
    pub const ONE: Self = Self(1);

    /// The bytes in this many pages; saturates at the largest count.
    #[inline]
    pub const fn to_bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(PAGE_SIZE))
    }
}

impl Bytes {
    /// The pages needed to hold this many bytes.
    #[inline]
    pub const fn to_pages_rounded_up(self) -> Pages {
        Pages(self.0.div_ceil(PAGE_SIZE))
    }

    /// The whole pages in this many bytes.
    #[inline]
    pub const fn to_pages_rounded_down(self) -> Pages {
        Pages(self.0 >> PAGE_SHIFT)
    }
}

/// A virtual address.
///
/// In the 32-bit modes it is zero-extended; in amd64 a canonical address carries its
/// sign in bits 48 to 63. Any value can be held: whether it is canonical is asked of
/// the mode ([`crate::PagingMode::is_canonical`]).
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Va(u64);

hexadecimal!(Va);

impl Va {
    /// The address `address`.
    #[inline]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the page that holds this address.
    #[inline]
    pub const fn vpn(self) -> Vpn {
        Vpn::new(self.0 >> PAGE_SHIFT)
    }

    /// The byte within the page, 0 to 4095.
    #[inline]
    pub const fn page_offset(self) -> u16 {
        (self.0 & (PAGE_SIZE - 1)) as u16
    }

    /// The first byte of the page that holds this address.
    #[inline]
    pub const fn page_base(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The last byte of the page that holds this address.
    #[inline]
    pub const fn page_last(self) -> Self {
        Self(self.0 | (PAGE_SIZE - 1))
    }

    /// Whether the address is the first byte of a page.
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.page_offset() == 0
    }

    /// The address rounded down to [`ALLOCATION_GRANULARITY`].
    #[inline]
    pub const fn granule_base(self) -> Self {
        Self(self.0 & !(ALLOCATION_GRANULARITY - 1))
    }

    /// The address `distance` above, or `None` past 64 bits.
    #[inline]
    pub const fn checked_add(self, distance: Bytes) -> Option<Self> {
        match self.0.checked_add(distance.0) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// The address `distance` below, or `None` below zero.
    #[inline]
    pub const fn checked_sub(self, distance: Bytes) -> Option<Self> {
        match self.0.checked_sub(distance.0) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// The bytes from `lower` up to this address, or `None` when `lower` is above it.
    #[inline]
    pub const fn distance_from(self, lower: Self) -> Option<Bytes> {
        match self.0.checked_sub(lower.0) {
            Some(bytes) => Some(Bytes(bytes)),
            None => None,
        }
    }
}

/// A virtual page number: address over [`PAGE_SIZE`], in the low 36 bits.
///
/// The sign bits of a canonical amd64 address are dropped, so the number fits 36 bits
/// in every mode; [`crate::PagingMode::va_of_vpn`] puts them back.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Vpn(u64);

hexadecimal!(Vpn);

impl Vpn {
    /// The largest page number of any mode.
    pub const MAX: Self = Self(VPN_MASK);

    /// Page `number`, of which the low 36 bits are kept.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number & VPN_MASK)
    }

    /// The page number, below 2^36.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page `count` above, or `None` past 36 bits.
    #[inline]
    pub const fn checked_add(self, count: Pages) -> Option<Self> {
        match self.0.checked_add(count.0) {
            Some(number) if number <= VPN_MASK => Some(Self(number)),
            _ => None,
        }
    }

    /// The page `count` below, or `None` below zero.
    #[inline]
    pub const fn checked_sub(self, count: Pages) -> Option<Self> {
        match self.0.checked_sub(count.0) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The pages from `lower` up to this one, or `None` when `lower` is above it.
    #[inline]
    pub const fn distance_from(self, lower: Self) -> Option<Pages> {
        match self.0.checked_sub(lower.0) {
            Some(pages) => Some(Pages(pages)),
            None => None,
        }
    }
}

/// A physical address.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Pa(u64);

hexadecimal!(Pa);

impl Pa {
    /// The physical address `address`.
    #[inline]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The frame that holds this address, or `None` above what a [`Pfn`] can name (16 TiB).
    #[inline]
    pub const fn pfn(self) -> Option<Pfn> {
        let frame = self.0 >> PAGE_SHIFT;
        if frame <= u32::MAX as u64 { Some(Pfn(frame as u32)) } else { None }
    }

    /// The byte within the frame, 0 to 4095.
    #[inline]
    pub const fn page_offset(self) -> u16 {
        (self.0 & (PAGE_SIZE - 1)) as u16
    }

    /// The address `distance` above, or `None` past 64 bits.
    #[inline]
    pub const fn checked_add(self, distance: Bytes) -> Option<Self> {
        match self.0.checked_add(distance.0) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }
}

/// A page frame number: physical address over [`PAGE_SIZE`].
///
/// A machine must not hand out frames above [`crate::PteFormat::MAX_PFN`] of its mode:
/// words have no room for them. The machine is checked once, when it is set up.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Pfn(u32);

hexadecimal!(Pfn);

impl Pfn {
    /// Frame `number`.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The frame number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The physical address of the first byte of the frame.
    #[inline]
    pub const fn pa(self) -> Pa {
        Pa((self.0 as u64) << PAGE_SHIFT)
    }

    /// The frame `count` above, or `None` past 32 bits.
    #[inline]
    pub const fn checked_add(self, count: Pages) -> Option<Self> {
        match (self.0 as u64).checked_add(count.0) {
            Some(number) if number <= u32::MAX as u64 => Some(Self(number as u32)),
            _ => None,
        }
    }
}

/// The index of an entry in one page of a table: below 1024 in i386, 512 elsewhere.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// Entries in the largest table page of any mode.
    pub const COUNT: u16 = 1024;

    /// Slot `index`, or `None` from 1024 on.
    #[inline]
    pub const fn new(index: u16) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// The slot in the low 10 bits of `index`.
    #[inline]
    pub const fn from_low_bits(index: u64) -> Self {
        Self((index & (Self::COUNT as u64 - 1)) as u16)
    }

    /// The index.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The index, ready to count array elements with.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A level of the page tables, named after the entries it holds.
///
/// NT calls entries of the four levels PTE, PDE, PPE and PXE (spec 0.2).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// Page tables: entries (PTEs) map pages.
    Table = 1,
    /// Page directories: entries (PDEs) name page tables. The top in i386.
    Directory = 2,
    /// Directory parents: entries (PPEs) name page directories. The four-entry top in PAE.
    Parent = 3,
    /// The top of amd64: entries (PXEs) name directory parents.
    Top = 4,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::Table, Self::Directory, Self::Parent, Self::Top];

    /// The level whose entries name tables of this level; `None` at [`Level::Top`].
    ///
    /// Whether a mode has that level is [`crate::PagingMode::TOP`]'s business.
    #[inline]
    pub const fn up(self) -> Option<Self> {
        match self {
            Self::Table => Some(Self::Directory),
            Self::Directory => Some(Self::Parent),
            Self::Parent => Some(Self::Top),
            Self::Top => None,
        }
    }

    /// The level of the tables that entries of this level name; `None` at [`Level::Table`].
    #[inline]
    pub const fn down(self) -> Option<Self> {
        match self {
            Self::Table => None,
            Self::Directory => Some(Self::Table),
            Self::Parent => Some(Self::Directory),
            Self::Top => Some(Self::Parent),
        }
    }

    /// The number of levels below and including this one: 1 to 4.
    #[inline]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
