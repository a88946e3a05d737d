//! One reference of a recorded program, and the kinds there are.
//!
//! Plain values without state. A [`Reference`] may stand for many references of the program: `count` says how many,
//! and its bytes are then the hull of all the bytes they touched.

/// Bytes in a page of the recording machine.
pub const PAGE_SIZE: u64 = 4096;

/// The largest number of bytes one reference may touch.
pub const MAX_SIZE: u32 = 4096;

/// The highest address a reference may touch: one page short of the end of the 64-bit space, so that neither the end
/// of a reference nor the end of its page overflows.
pub const MAX_ADDRESS: u64 = u64::MAX - PAGE_SIZE;

/// What the program did at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AccessKind {
    /// An instruction fetch (lackey's `I`).
    Fetch = 0,
    /// A data read (` L`).
    Load = 1,
    /// A data write (` S`).
    Store = 2,
    /// A read and a write of the same bytes by one instruction (` M`).
    Modify = 3,
}

impl AccessKind {
    /// Every kind, in the order of their numbers in the compact form.
    pub const ALL: [AccessKind; 4] =
        [AccessKind::Fetch, AccessKind::Load, AccessKind::Store, AccessKind::Modify];

    /// Whether the access changes memory.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, AccessKind::Store | AccessKind::Modify)
    }

    /// The kind whose number is the low two bits of `bits`.
    pub(crate) const fn from_low_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => AccessKind::Fetch,
            1 => AccessKind::Load,
            2 => AccessKind::Store,
            _ => AccessKind::Modify,
        }
    }
}

/// A set of access kinds: what was ever done to a page or a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct KindSet(u8);

impl KindSet {
    /// The empty set.
    pub const EMPTY: KindSet = KindSet(0);

    /// The set with the given bits (bit n is the kind numbered n), or `None` if others are set.
    pub(crate) const fn from_bits(bits: u64) -> Option<Self> {
        if bits < 16 { Some(KindSet(bits as u8)) } else { None }
    }

    /// The set as bits: bit n is the kind numbered n.
    pub(crate) const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// The set with `kind` added.
    #[must_use]
    pub const fn with(self, kind: AccessKind) -> Self {
        KindSet(self.0 | 1 << kind as u8)
    }

    /// All kinds in either set.
    #[must_use]
    pub const fn union(self, other: KindSet) -> Self {
        KindSet(self.0 | other.0)
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: AccessKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether memory was ever changed there (store or modify).
    #[must_use]
    pub const fn is_written(self) -> bool {
        self.contains(AccessKind::Store) || self.contains(AccessKind::Modify)
    }

    /// Whether instructions were ever fetched there.
    #[must_use]
    pub const fn is_executed(self) -> bool {
        self.contains(AccessKind::Fetch)
    }
}

/// One or more references of the program to neighbouring bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Address of the first byte touched; `va + size - 1` is at most [`MAX_ADDRESS`].
    pub va: u64,
    /// Bytes touched, `1..=`[`MAX_SIZE`]. From text it may cross into the next page; from the compact form never.
    pub size: u32,
    /// How many references of the program this stands for. Always 1 from text. Zero only in the compact form, for
    /// bytes in the second page of references that cross pages: those are counted in their first page.
    pub count: u32,
    /// What was done.
    pub kind: AccessKind,
}

impl Reference {
    /// The page of the first byte.
    #[must_use]
    pub const fn first_page(&self) -> u64 {
        self.va / PAGE_SIZE
    }

    /// The page of the last byte: that of the first, or the next one.
    #[must_use]
    pub const fn last_page(&self) -> u64 {
        (self.va + (self.size - 1) as u64) / PAGE_SIZE
    }

    /// Whether size and address are within the documented ranges.
    pub(crate) const fn is_well_formed(&self) -> bool {
        self.size >= 1
            && self.size <= MAX_SIZE
            && self.va <= MAX_ADDRESS
            && (self.size - 1) as u64 <= MAX_ADDRESS - self.va
    }
}
