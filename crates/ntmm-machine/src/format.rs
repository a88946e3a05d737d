//! What the processor's manual says about paging-structure entries, level by level.
//!
//! These are facts of the hardware, written down here independently of the manager's own
//! description of page tables: tables that this walker follows and that walker would not agree
//! on are a defect of one of them. The source is Intel's manual, volume 3, chapter "Paging"
//! (32-bit paging with PSE, PAE paging and 4-level paging, CR0.WP = 1, EFER.NXE = 1 where it
//! exists, CR4.PGE = 0, no SMEP or SMAP). The physical address width is 32 bits without PAE,
//! 36 with it (64 GB, spec 1.4) and 40 on amd64 (28-bit frame numbers, spec 2.10).

use ntmm_pte::{Amd64, I386, Pae, PagingMode};

/// Bit 0: the entry is present.
pub(crate) const PRESENT: u64 = 1 << 0;
/// Bit 1: writable.
pub(crate) const WRITABLE: u64 = 1 << 1;
/// Bit 2: accessible in user mode.
pub(crate) const USER: u64 = 1 << 2;
/// Bit 5: used by a translation.
pub(crate) const ACCESSED: u64 = 1 << 5;
/// Bit 6: written through.
pub(crate) const DIRTY: u64 = 1 << 6;
/// Bit 7 above the last level: maps a large page.
pub(crate) const LARGE: u64 = 1 << 7;
/// Bit 63 where the format has it: no instruction fetches.
pub(crate) const NO_EXECUTE: u64 = 1 << 63;

/// Size of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryWidth {
    /// 4 bytes, two to a word.
    Four,
    /// 8 bytes.
    Eight,
}

/// What an entry says about access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryRights {
    /// R/W, U/S, accessed and, where the format has it, NX.
    Checked,
    /// Nothing: entries of the PAE page-directory-pointer table have none of these bits.
    Absent,
}

/// One level of a paging structure.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Lowest bit of the address that selects an entry.
    pub shift: u32,
    /// How many bits of the address select an entry.
    pub bits: u32,
    /// Whether entries carry access rights.
    pub rights: EntryRights,
    /// Bits that must be zero in an entry that names a table or a 4 KiB page.
    pub reserved: u64,
    /// Bits that must be zero in an entry that maps a large page, if there are such entries.
    pub large: Option<u64>,
}

/// A processor's paging mode as hardware: implemented by the three modes.
pub trait Hardware: PagingMode {
    /// The levels from the root to the page tables.
    const WALK_LEVELS: &'static [Level];
    /// Size of an entry.
    const ENTRY: EntryWidth;
    /// The bits of an entry that hold a frame's physical address.
    const ADDRESS: u64;
    /// The no-execute bit, or zero.
    const NO_EXECUTE: u64;
    /// Bits of a linear address that are translated; the rest copies the highest of them on
    /// amd64 and does not exist otherwise.
    const LINEAR_BITS: u32;
}

const fn bits(from: u32, to: u32) -> u64 {
    (u64::MAX >> (63 - to)) & (u64::MAX << from)
}

impl Hardware for I386 {
    const WALK_LEVELS: &'static [Level] = &[
        Level {
            shift: 22,
            bits: 10,
            rights: EntryRights::Checked,
            reserved: 0,
            large: Some(bits(13, 21)),
        },
        Level { shift: 12, bits: 10, rights: EntryRights::Checked, reserved: 0, large: None },
    ];
    const ENTRY: EntryWidth = EntryWidth::Four;
    const ADDRESS: u64 = bits(12, 31);
    const NO_EXECUTE: u64 = 0;
    const LINEAR_BITS: u32 = 32;
}

impl Hardware for Pae {
    const WALK_LEVELS: &'static [Level] = &[
        Level {
            shift: 30,
            bits: 2,
            rights: EntryRights::Absent,
            reserved: bits(1, 2) | bits(5, 8) | bits(36, 63),
            large: None,
        },
        Level {
            shift: 21,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: bits(36, 62),
            large: Some(bits(13, 20) | bits(36, 62)),
        },
        Level {
            shift: 12,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: bits(36, 62),
            large: None,
        },
    ];
    const ENTRY: EntryWidth = EntryWidth::Eight;
    const ADDRESS: u64 = bits(12, 35);
    const NO_EXECUTE: u64 = NO_EXECUTE;
    const LINEAR_BITS: u32 = 32;
}

impl Hardware for Amd64 {
    const WALK_LEVELS: &'static [Level] = &[
        Level {
            shift: 39,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: LARGE | bits(40, 51),
            large: None,
        },
        Level {
            shift: 30,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: LARGE | bits(40, 51),
            large: None,
        },
        Level {
            shift: 21,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: bits(40, 51),
            large: Some(bits(13, 20) | bits(40, 51)),
        },
        Level {
            shift: 12,
            bits: 9,
            rights: EntryRights::Checked,
            reserved: bits(40, 51),
            large: None,
        },
    ];
    const ENTRY: EntryWidth = EntryWidth::Eight;
    const ADDRESS: u64 = bits(12, 39);
    const NO_EXECUTE: u64 = NO_EXECUTE;
    const LINEAR_BITS: u32 = 48;
}
