//! The page walker: hardware that follows paging structures from a root frame.
//!
//! A walk checks present and reserved bits at each level, combines the rights of all levels
//! (R/W and U/S with and, NX with or), sets Accessed in each entry it uses and Dirty in the leaf
//! of a write, and yields a [`Translation`] or a [`PageFault`] with the error code that the
//! processor would push (spec 4.1). Accessed and Dirty are set by compare-and-swap on the
//! 64-bit word; an entry found changed is looked at anew, so that the bits never land in an
//! entry that has meanwhile become something else.
//!
//! A walk may be suspended before each access to memory ([`WalkHook::pause`]), where a simulated
//! machine runs other processors.

use std::fmt;

use ntmm_pte::{AccessKind, Pfn, Va};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::Half;

use crate::format::{
    ACCESSED, DIRTY, EntryRights, EntryWidth, Hardware, LARGE, PRESENT, USER, WRITABLE,
};
use crate::ram::{FrameSlot, Ram};

/// Privilege of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// Ring 3.
    User,
    /// Rings 0 to 2.
    Supervisor,
}

/// Why a walk is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An access by a program.
    Access(AccessKind, Privilege),
    /// The processor guesses that the translation will be used: no right is needed and Dirty is
    /// never set, but Accessed is.
    Speculation,
}

/// Rights that the levels of a walk leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    const WRITE: u8 = 1;
    const USER: u8 = 2;
    const EXECUTE: u8 = 4;

    /// Everything, before the first level.
    pub const ALL: Self = Self(Self::WRITE | Self::USER | Self::EXECUTE);

    #[inline]
    fn narrowed<H: Hardware>(self, entry: u64) -> Self {
        let mut bits = 0;
        if entry & WRITABLE != 0 {
            bits |= Self::WRITE;
        }
        if entry & USER != 0 {
            bits |= Self::USER;
        }
        if entry & H::NO_EXECUTE == 0 {
            bits |= Self::EXECUTE;
        }
        Self(self.0 & bits)
    }

    /// What either of two translations allows.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether an access is allowed. CR0.WP is set: supervisor writes need R/W too.
    #[inline]
    #[must_use]
    pub fn allow(self, access: AccessKind, privilege: Privilege) -> bool {
        let mut needed = match access {
            AccessKind::Read => 0,
            AccessKind::Write => Self::WRITE,
            AccessKind::Execute => Self::EXECUTE,
        };
        if privilege == Privilege::User {
            needed |= Self::USER;
        }
        self.0 & needed == needed
    }
}

/// The error code of a page fault (spec 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(u8);

impl ErrorCode {
    /// Bit 0: the page was present and the access broke a right or met a reserved bit.
    pub const PROTECTION: u8 = 1 << 0;
    /// Bit 1: a write.
    pub const WRITE: u8 = 1 << 1;
    /// Bit 2: in user mode.
    pub const USER: u8 = 1 << 2;
    /// Bit 3: a reserved bit was set in an entry.
    pub const RESERVED: u8 = 1 << 3;
    /// Bit 4: an instruction fetch, reported only where NX exists.
    pub const FETCH: u8 = 1 << 4;

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The access as far as the code tells it: a fetch is a read where NX does not exist.
    #[must_use]
    pub const fn access(self) -> AccessKind {
        if self.0 & Self::WRITE != 0 {
            AccessKind::Write
        } else if self.0 & Self::FETCH != 0 {
            AccessKind::Execute
        } else {
            AccessKind::Read
        }
    }

    fn new<H: Hardware>(purpose: Purpose, found: u8) -> Self {
        match purpose {
            Purpose::Speculation => Self(found),
            Purpose::Access(access, privilege) => Self::for_access::<H>(access, privilege, found),
        }
    }

    /// The code for an access that met `found`, bits of [`Self::PROTECTION`] and
    /// [`Self::RESERVED`].
    pub(crate) fn for_access<H: Hardware>(
        access: AccessKind,
        privilege: Privilege,
        found: u8,
    ) -> Self {
        let access = match access {
            AccessKind::Read => 0,
            AccessKind::Write => Self::WRITE,
            AccessKind::Execute if H::NO_EXECUTE != 0 => Self::FETCH,
            AccessKind::Execute => 0,
        };
        let privilege = match privilege {
            Privilege::User => Self::USER,
            Privilege::Supervisor => 0,
        };
        Self(access | privilege | found)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["P", "W", "U", "RSVD", "I"];
        let set = names.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.write_str(&set.map(|(_, name)| *name).collect::<Vec<_>>().join("|"))
    }
}

/// Exception 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The linear address (CR2).
    pub va: Va,
    /// The error code.
    pub code: ErrorCode,
}

/// Why a walk found no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkFault {
    /// The tables do not allow the access.
    Page(PageFault),
    /// The tables name a frame where there is no memory: the tables are corrupt.
    NoMemory {
        /// Address whose translation was looked for.
        va: Va,
        /// The frame number found.
        frame: u64,
    },
}

/// A paging structure on the way to a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Index into [`Hardware::WALK_LEVELS`].
    pub level: u8,
    /// Its frame.
    pub slot: FrameSlot,
    /// Rights left by the levels above.
    pub rights: Rights,
}

impl Table {
    /// The root of an address space.
    #[must_use]
    pub const fn root(slot: FrameSlot) -> Self {
        Self { level: 0, slot, rights: Rights::ALL }
    }
}

/// Whether writes go through without another walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanness {
    /// The leaf's Dirty bit is clear: the next write has to set it.
    Clean,
    /// The leaf's Dirty bit is set.
    Dirty,
}

/// Size of the page that maps an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 or 4 MiB.
    Large,
}

/// What a walk yields: the 4 KiB frame behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The frame.
    pub slot: FrameSlot,
    /// Rights that all levels leave.
    pub rights: Rights,
    /// The leaf's Dirty bit.
    pub cleanness: Cleanness,
    /// Size of the page.
    pub size: PageSize,
}

/// What happens around a walk.
pub trait WalkHook {
    /// Called before each access to a paging structure.
    fn pause(&mut self) {}
    /// Called for each table the walk goes down to.
    fn entered(&mut self, _table: Table) {}
    /// How the next entry's Accessed and Dirty are set.
    #[inline]
    fn marking(&mut self) -> Marking {
        Marking::Sound
    }
}

/// How a walker sets Accessed and Dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// By compare-and-swap.
    Sound,
    /// The same, but never Dirty ([`Defect::LostDirty`](crate::sabotage::Defect::LostDirty)).
    WithoutDirty,
    /// By a plain store
    /// ([`Defect::OverwritingWalk`](crate::sabotage::Defect::OverwritingWalk)).
    Overwriting,
}

/// A walk nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl WalkHook for Unwatched {}

/// Where an entry lies: a word, or half of one.
struct Entry<'a> {
    word: &'a AtomicU64,
    half: Option<Half>,
}

impl<'a> Entry<'a> {
    #[inline]
    fn of<H: Hardware>(ram: &'a Ram, table: FrameSlot, index: usize) -> Self {
        let words = ram.words(table);
        match H::ENTRY {
            EntryWidth::Eight => Self { word: &words[index % 512], half: None },
            EntryWidth::Four => {
                let half = if index.is_multiple_of(2) { Half::Low } else { Half::High };
                Self { word: &words[(index / 2) % 512], half: Some(half) }
            }
        }
    }

    #[inline]
    fn load(&self) -> u64 {
        let word = self.word.load(Ordering::Acquire);
        self.half.map_or(word, |half| u64::from(half.of(word)))
    }

    /// Changes the entry from `current` to `new`, or says what it holds instead.
    fn replace(&self, current: u64, new: u64) -> Result<(), u64> {
        match self.half {
            None => self
                .word
                .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
                .map(|_| ()),
            Some(half) => half
                .compare_exchange(self.word, current as u32, new as u32)
                .map(|_| ())
                .map_err(u64::from),
        }
    }

    /// Makes the entry `new`, whatever it is.
    fn overwrite(&self, new: u64) -> Result<(), u64> {
        let mut current = self.load();
        while let Err(found) = self.replace(current, new) {
            current = found;
        }
        Ok(())
    }
}

/// Index of the entry for `va` in a table of a level.
#[inline]
fn index_of(level: &crate::format::Level, va: u64) -> usize {
    (va >> level.shift) as usize & ((1 << level.bits) - 1)
}

/// Whether an address can be translated at all. On amd64 a non-canonical address is a general
/// protection fault, which reaches a program as the access violation that a page fault on it
/// becomes; it is reported as a fault on a page that is not present.
#[inline]
fn is_linear<H: Hardware>(va: u64) -> bool {
    if H::LINEAR_BITS == 32 {
        va >> 32 == 0
    } else {
        let unused = 64 - H::LINEAR_BITS;
        ((va << unused) as i64 >> unused) as u64 == va
    }
}

/// Follows the paging structures from `start`, which is the root or a table that an earlier walk
/// entered, to the page of `va`.
///
/// # Errors
/// The page fault the processor would raise, or the frame without memory that the tables name.
#[inline]
pub fn walk<H: Hardware>(
    ram: &Ram,
    start: Table,
    va: Va,
    purpose: Purpose,
    hook: &mut impl WalkHook,
) -> Result<Translation, WalkFault> {
    let address = va.get();
    let fault =
        |found| WalkFault::Page(PageFault { va, code: ErrorCode::new::<H>(purpose, found) });
    if !is_linear::<H>(address) {
        return Err(fault(0));
    }
    let mut table = start;
    loop {
        let level = &H::WALK_LEVELS[usize::from(table.level)];
        let last = usize::from(table.level) + 1 == H::WALK_LEVELS.len();
        let entry = Entry::of::<H>(ram, table.slot, index_of(level, address));
        hook.pause();
        let mut seen = entry.load();
        let (rights, large) = loop {
            if seen & PRESENT == 0 {
                return Err(fault(0));
            }
            let large = !last && level.large.is_some() && seen & LARGE != 0;
            let reserved = if large { level.large.unwrap_or(0) } else { level.reserved };
            if seen & reserved != 0 {
                return Err(fault(ErrorCode::PROTECTION | ErrorCode::RESERVED));
            }
            if level.rights == EntryRights::Absent {
                break (table.rights, large);
            }
            let rights = table.rights.narrowed::<H>(seen);
            let mut wanted = seen | ACCESSED;
            if (last || large)
                && let Purpose::Access(access, privilege) = purpose
            {
                if !rights.allow(access, privilege) {
                    return Err(fault(ErrorCode::PROTECTION));
                }
                if access == AccessKind::Write {
                    wanted |= DIRTY;
                }
            }
            if wanted == seen {
                break (rights, large);
            }
            hook.pause();
            let replaced = match hook.marking() {
                Marking::Sound => entry.replace(seen, wanted),
                Marking::WithoutDirty => entry.replace(seen, wanted & !DIRTY | seen & DIRTY),
                Marking::Overwriting => entry.overwrite(wanted),
            };
            match replaced {
                Ok(()) => {
                    seen = wanted;
                    break (rights, large);
                }
                Err(found) => seen = found,
            }
        };
        let mut frame = (seen & H::ADDRESS) >> 12;
        if large {
            let within = (1_u64 << (level.shift - 12)) - 1;
            frame = frame & !within | (address >> 12) & within;
        }
        let slot = u32::try_from(frame)
            .ok()
            .and_then(|number| ram.slot(Pfn::new(number)))
            .ok_or(WalkFault::NoMemory { va, frame })?;
        if last || large {
            return Ok(Translation {
                slot,
                rights,
                cleanness: if seen & DIRTY != 0 { Cleanness::Dirty } else { Cleanness::Clean },
                size: if large { PageSize::Large } else { PageSize::Small },
            });
        }
        table = Table { level: table.level + 1, slot, rights };
        hook.entered(table);
    }
}

/// Which addresses a processor guesses about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The lower half, where programs live.
    UserHalf,
    /// Everything, the tables' own self-map too.
    Everything,
}

/// Picks an address that the tables under `root` may map, without touching them: at each level
/// the first present entry from a random place on. `choose` yields a number below its argument.
#[must_use]
pub fn guess<H: Hardware>(
    ram: &Ram,
    root: FrameSlot,
    reach: Reach,
    mut choose: impl FnMut(usize) -> usize,
) -> Option<Va> {
    let mut slot = root;
    let mut address = 0_u64;
    for (depth, level) in H::WALK_LEVELS.iter().enumerate() {
        let all = 1_usize << level.bits;
        let count = if depth == 0 && reach == Reach::UserHalf { all / 2 } else { all };
        let first = choose(count);
        let (index, entry) = (0..count)
            .map(|step| (first + step) % count)
            .map(|index| (index, Entry::of::<H>(ram, slot, index).load()))
            .find(|(_, entry)| entry & PRESENT != 0)?;
        address |= (index as u64) << level.shift;
        if depth + 1 == H::WALK_LEVELS.len() {
            break;
        }
        if level.large.is_some() && entry & LARGE != 0 {
            let pages = 1_usize << (level.shift - 12);
            address |= (choose(pages) as u64) << 12;
            break;
        }
        let frame = u32::try_from((entry & H::ADDRESS) >> 12).ok()?;
        slot = ram.slot(Pfn::new(frame))?;
    }
    let unused = 64 - H::LINEAR_BITS;
    let extended =
        if H::LINEAR_BITS == 32 { address } else { ((address << unused) as i64 >> unused) as u64 };
    Some(Va::new(extended))
}
