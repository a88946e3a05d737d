//! Defects in words: which frame, space and address, what was found and what was expected.

use core::fmt;

use ntmm_pte::Pfn;

use super::defect::{Defect, FrameCount, Place, SlotOwner};

impl fmt::Display for FrameCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of frame {:#x} ({}, {:?}) is {}, expected {}",
            self.pfn.get(),
            self.location.name(),
            self.usage,
            self.found,
            self.expected
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "space {}, address {:#x}: entry {:#x} of frame {:#x} (level {})",
            self.space.index(),
            self.va.get(),
            self.entry.slot.get(),
            self.entry.table.get(),
            self.level
        )
    }
}

impl fmt::Display for SlotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(place) => place.fmt(f),
            Self::Original(pfn) => write!(f, "the original entry of frame {:#x}", pfn.get()),
        }
    }
}

struct Link(Option<Pfn>);

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pfn) => write!(f, "frame {:#x}", pfn.get()),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FrameLocked(pfn) => write!(f, "frame {:#x} is locked", pfn.get()),
            Self::LockHeld => f.write_str("a lock of the manager is held"),
            Self::SpaceLocked(space) => {
                write!(f, "space {}: the working-set lock is held", space.index())
            }
            Self::AddressCreationOwned(space) => {
                write!(f, "space {}: address creation is owned by nobody known", space.index())
            }
            Self::ListMember { list, chain, pfn, found } => write!(
                f,
                "frame {:#x} is in the {chain:?} chain of the {} list and says it is {}",
                pfn.get(),
                list.name(),
                found.name()
            ),
            Self::ListLink { list, chain, pfn, expected, found } => write!(
                f,
                "frame {:#x} in the {chain:?} chain of the {} list links back to {}, expected {}",
                pfn.get(),
                list.name(),
                Link(found),
                Link(expected)
            ),
            Self::ListColor { list, color, pfn } => write!(
                f,
                "frame {:#x} is on the chain of colour {color} of the {} list",
                pfn.get(),
                list.name()
            ),
            Self::ListTotal { list, located, recorded, chained, colored } => write!(
                f,
                "{} list: {located} frames say they are on it, its total is {recorded}, its chain \
                 has {chained}, its colour chains {colored:?}",
                list.name()
            ),
            Self::NotZero { pfn, word, value } => write!(
                f,
                "zeroed frame {:#x} holds {value:#x} at offset {:#x}, expected 0",
                pfn.get(),
                word * 8
            ),
            Self::Available { expected, found } => {
                write!(f, "{found} pages are available, the lists have {expected}")
            }
            Self::Reserved(pages) => write!(f, "{pages} pages are reserved, expected none"),
            Self::References(count) => write!(f, "reference count {count}"),
            Self::Share(count) => write!(f, "share count {count}"),
            Self::Use { pfn, location, usage } => {
                write!(f, "frame {:#x} is {} and used for {usage:?}", pfn.get(), location.name())
            }
            Self::Unaccounted { pfn, location, usage } => write!(
                f,
                "frame {:#x} ({}, {usage:?}) belongs to nobody: it has leaked",
                pfn.get(),
                location.name()
            ),
            Self::OwnedTwice { pfn, usage } => {
                write!(f, "frame {:#x} ({usage:?}) has more than one owner", pfn.get())
            }
            Self::FixedFrames { usage, expected, found } => {
                write!(f, "{found} frames are used for {usage:?}, expected {expected}")
            }
            Self::TransferFlag { pfn, direction, expected, flagged } => write!(
                f,
                "frame {:#x}: {direction:?}-in-progress flag {flagged:?}, transfers {expected}",
                pfn.get()
            ),
            Self::Transfer { pfn, direction } => write!(
                f,
                "the frames of the {direction:?} that frame {:#x} is in are not in one state, or \
                 nobody holds it though it is complete",
                pfn.get()
            ),
            Self::EmptyTransfer(direction) => {
                write!(f, "a {direction:?} is in progress that has no frames")
            }
            Self::Dirtiness { pfn, location } => write!(
                f,
                "the modified flag of frame {:#x} contradicts the {} list it is on",
                pfn.get(),
                location.name()
            ),
            Self::DeletedInUse { pfn, location } => {
                write!(f, "deleted frame {:#x} is {}", pfn.get(), location.name())
            }
            Self::OriginalForm { pfn, word } => {
                write!(f, "frame {:#x} has the original entry {word:#x}", pfn.get())
            }
            Self::PhysicalList { space, pfn } => write!(
                f,
                "space {}: the list of its physical pages is broken at {}",
                space.index(),
                Link(pfn)
            ),
            Self::NotMapped { pfn, found } => write!(
                f,
                "physical page {:#x} is not mapped and names entry {:#x} of frame {:#x}",
                pfn.get(),
                found.slot.get(),
                found.table.get()
            ),
            Self::Claimed(pfn) => {
                write!(f, "physical page {:#x} is claimed by no call known", pfn.get())
            }
            Self::ForeignPage { place, pfn } => {
                write!(f, "{place} maps physical page {:#x} of another process", pfn.get())
            }
            Self::Secured { space, start } => write!(
                f,
                "space {}: what is secured at {:#x} is not as it should be",
                space.index(),
                start.get()
            ),
            Self::NoCopy(pfn) => write!(
                f,
                "frame {:#x} is clean or being written and has no slot in a paging file",
                pfn.get()
            ),
            Self::Reset(pfn) => {
                write!(f, "frame {:#x} is marked as reset and must not be", pfn.get())
            }
            Self::StaleCopy { pfn, slot } => {
                write!(f, "modified or reset frame {:#x} keeps slot {slot:#x}", pfn.get())
            }
            Self::NoSuchFrame(place, pfn) => {
                write!(f, "{place} names frame {:#x}, which there is not", pfn.get())
            }
            Self::Container { place, pfn, found } => write!(
                f,
                "{place} names frame {:#x}, whose entry is {:#x} of frame {:#x}",
                pfn.get(),
                found.slot.get(),
                found.table.get()
            ),
            Self::EntryFrame { place, pfn, form, location, usage } => write!(
                f,
                "{place} is {form:?} and names frame {:#x}, which is {} and used for {usage:?}",
                pfn.get(),
                location.name()
            ),
            Self::EntryForm { place, word } => {
                write!(f, "{place} holds {word:#x}, which has no place there")
            }
            Self::TrimmedTable { place, word } => {
                write!(f, "{place} holds {word:#x} in a table that is not mapped")
            }
            Self::UsedEntries { space, table, expected, found } => write!(
                f,
                "space {}: page table {:#x} counts {found} used entries, expected {expected}",
                space.index(),
                table.get()
            ),
            Self::SelfMap { place, expected, word } => write!(
                f,
                "{place} of the self-map holds {word:#x}, expected frame {:#x}",
                expected.get()
            ),
            Self::ListPage { space, page, expected, found } => write!(
                f,
                "space {}: page {page:?} of the working-set list is {}, the header says {:#x}",
                space.index(),
                Link(found),
                expected.get()
            ),
            Self::OutsideVads(place) => write!(f, "{place} belongs to no descriptor"),
            Self::NoWorkingSetEntry { place, pfn, index } => write!(
                f,
                "{place} is valid, frame {:#x} names working-set entry {index}, which is not its",
                pfn.get()
            ),
            Self::PermanentEntry { space, index } => write!(
                f,
                "space {}: working-set entry {index} is on the wrong side of the first dynamic one",
                space.index()
            ),
            Self::FreeEntry { space, index } => write!(
                f,
                "space {}: the free list reaches working-set entry {index}, which is not free",
                space.index()
            ),
            Self::Vads(space, defect) => {
                write!(f, "space {}: descriptor tree: {defect:?}", space.index())
            }
            Self::VadRange { space, start, end } => write!(
                f,
                "space {}: descriptor {:#x}-{:#x} leaves the user range or overlaps another",
                space.index(),
                start.get(),
                end.get()
            ),
            Self::CommitCharge { space, start, expected, found } => write!(
                f,
                "space {}: descriptor {:#x} is charged {found} pages, expected {expected}",
                space.index(),
                start.get()
            ),
            Self::Figure { space, figure, expected, found } => {
                write!(f, "space {}: {figure:?} is {found}, expected {expected}", space.index())
            }
            Self::HashSlot { space, slot } => write!(
                f,
                "space {}: slot {slot:?} of the hash of its working set is wrong",
                space.index()
            ),
            Self::TwoDirect(pfn) => {
                write!(f, "frame {:#x} names the entries of two working sets", pfn.get())
            }
            Self::NotPrototype { place, pfn, prototype, found } => write!(
                f,
                "{place} maps frame {:#x}, whose prototype is {:#x} of frame {:#x}, expected \
                 {prototype:x?}",
                pfn.get(),
                found.slot.get(),
                found.table.get()
            ),
            Self::OutsideSections(place) => write!(f, "{place} belongs to no subsection"),
            Self::PrototypeFlag(pfn) => {
                write!(f, "frame {:#x}: the prototype flag contradicts its use", pfn.get())
            }
            Self::NoControlArea(area) => {
                write!(f, "control area {} is named and not in use", area.index())
            }
            Self::Subsection { area, number } => {
                write!(f, "control area {}: subsection {number} is wrong", area.index())
            }
            Self::ControlArea { area, figure, expected, found } => write!(
                f,
                "control area {}: {figure:?} is {found}, expected {expected}",
                area.index()
            ),
            Self::Forgotten(area) => {
                write!(f, "control area {} is not used and will not be deleted", area.index())
            }
            Self::DeletedArea(area) => {
                write!(f, "control area {} is being deleted and used", area.index())
            }
            Self::Records { in_use, free, all } => {
                write!(f, "{in_use} records of sections are in use and {free} free, of {all}")
            }
            Self::SectionCommit { expected, found } => {
                write!(f, "{found} pages are charged for sections, expected {expected}")
            }
            Self::SystemCommit { expected, found } => {
                write!(f, "{found} pages are charged, expected {expected}")
            }
            Self::Lent { expected, found } => {
                write!(f, "{found} frames are lent, {expected} are not absent")
            }
            Self::CommitLimit { expected, found } => {
                write!(f, "the commitment limit is {found}, expected {expected}")
            }
            Self::Removal { pfn, location } => write!(
                f,
                "frame {:#x} is {} and contradicts the removal of memory there is",
                pfn.get(),
                location.name()
            ),
            Self::SlotNotMarked { file, slot, owner } => write!(
                f,
                "slot {slot:#x} of paging file {} is marked free and used by {owner}",
                file.get()
            ),
            Self::SlotOwnedTwice { file, slot, owner } => write!(
                f,
                "slot {slot:#x} of paging file {} is used by {owner} and another",
                file.get()
            ),
            Self::SlotUnowned { file, slot } => {
                write!(f, "slot {slot:#x} of paging file {} is used by nobody", file.get())
            }
            Self::SlotCount { owned, hidden, found } => write!(
                f,
                "{found} slots are in use, {owned} have an owner, at most {hidden} may be hidden"
            ),
            Self::Leak { what, expected, found } => {
                write!(f, "{what}: {found} now, {expected} before")
            }
        }
    }
}

impl core::error::Error for Defect {}
