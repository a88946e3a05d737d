//! The operations of a run, and their text form.
//!
//! One operation stands on one line. Numbers are decimal; pages are counted from the start of
//! a region.
//!
//! | Line | Meaning |
//! |---|---|
//! | `create P` | process P gets an address space |
//! | `delete P` | process P is deleted, while the others go on |
//! | `pass MS` | virtual time passes |
//! | `kill P.T STEPS` | thread T of P is killed after so many steps of its phase |
//! | `P.T reserve R PAGES PROTECTION PLACEMENT` | address space only |
//! | `P.T allocate R PAGES PROTECTION PLACEMENT` | reserved and committed |
//! | `P.T commit R FIRST PAGES PROTECTION` | |
//! | `P.T decommit R FIRST PAGES` | 0 pages: all of the allocation |
//! | `P.T reset R FIRST PAGES` | the contents are given up |
//! | `P.T undo-reset R FIRST PAGES` | they are wanted back |
//! | `P.T release R FIRST PAGES` | 0 pages: all of the allocation |
//! | `P.T protect R FIRST PAGES PROTECTION` | |
//! | `P.T query R PAGE` | |
//! | `P.T store R FIRST COUNT OFFSET SIZE` | SIZE bytes at OFFSET in each of COUNT pages |
//! | `P.T load R FIRST COUNT OFFSET SIZE` | the same, compared with what must be there |
//! | `P.T fetch R FIRST COUNT OFFSET SIZE` | the same, as instructions |
//! | `P.T create-section S PAGES` | a section of the paging files |
//! | `P.T close-section S` | |
//! | `P.T map R S FIRST PAGES SHOWING` | a view of a section; 0 pages: all from the first on |
//! | `P.T unmap R PAGE` | the view that the page lies in |
//! | `P.T load-alone R ...`, `P.T store-alone R ...` | any bytes of a view while all others rest |
//! | `P.T empty` | the working set is emptied |
//! | `P.T lend FIRST PAGES` | the host lends frames, counted behind those that booting needs |
//! | `P.T take-back FIRST PAGES` | the host takes frames back |
//! | `P.T fail-transfers COUNT` | the next transfers fail |
//! | `P.T fail-allocations AFTER COUNT` | so many allocations after the next AFTER fail |
//!
//! A region is `own0`, `shared0`, `racy0` or `view0` ([`Class`]) with some number; a section is a
//! number; what a view shows is [`Showing`]; a placement is `slot`,
//! `lowest` or `highest`; a protection is [`Rights`].

mod views;

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use crate::rights::Rights;

pub use views::{Company, SECTIONS, Showing};

/// Who may touch a region, and so how exactly it can be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// One thread only: everything is predicted.
    Own,
    /// All threads of the process store and load, each in its own bytes of every page; calls
    /// that change the region wait until all threads rest. Everything is predicted.
    Shared,
    /// All threads do anything at any time: nothing is predicted but that no foreign bytes
    /// appear.
    Racy,
    /// A view of a section. It belongs to one thread, what it shows to all: everything is
    /// predicted.
    View,
}

/// Names a region within a process; an own one, within a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// Its class.
    pub class: Class,
    /// Its number, below [`Class::count`].
    pub number: u8,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Own, Self::Shared, Self::Racy, Self::View];

    /// How many regions of this class a thread can name.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Self::Own => 4,
            Self::Shared | Self::View => 3,
            Self::Racy => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
            Self::Racy => "racy",
            Self::View => "view",
        }
    }
}

/// Where an allocation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the address the region always has.
    Slot,
    /// Into the lowest hole. Own regions only.
    Lowest,
    /// Into the highest hole. Own regions only.
    Highest,
}

/// Whether an allocation is committed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Address space only.
    Reserved,
    /// Committed too.
    Committed,
}

/// Pages of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The region.
    pub region: Region,
    /// First page.
    pub first: u32,
    /// Number of pages.
    pub pages: u32,
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Loads, compared with what must be there.
    Load,
    /// Stores of new bytes.
    Store,
    /// Instruction fetches.
    Fetch,
}

/// Accesses to the same bytes of consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How.
    pub touch: Touch,
    /// Which pages.
    pub extent: Extent,
    /// First byte in each page, below 4096.
    pub offset: u32,
    /// Bytes of each access, 1 to [`Burst::LARGEST`]; they may reach into the next page.
    pub size: u32,
}

impl Burst {
    /// Most bytes of one access.
    pub const LARGEST: u32 = 64;
}

/// Frames of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// The first, counted behind those without which the manager does not boot.
    pub first: u32,
    /// How many.
    pub pages: u32,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// NtAllocateVirtualMemory of a new allocation.
    Allocate {
        /// Region.
        region: Region,
        /// Its size.
        pages: u32,
        /// Its protection.
        rights: Rights,
        /// Reserved or committed.
        backing: Backing,
        /// Where.
        place: Place,
    },
    /// NtAllocateVirtualMemory with MEM_COMMIT.
    Commit(Extent, Rights),
    /// NtFreeVirtualMemory with MEM_DECOMMIT.
    Decommit(Extent),
    /// NtAllocateVirtualMemory with MEM_RESET.
    Reset(Extent),
    /// NtAllocateVirtualMemory with MEM_RESET_UNDO.
    UndoReset(Extent),
    /// NtFreeVirtualMemory with MEM_RELEASE.
    Release(Extent),
    /// NtProtectVirtualMemory.
    Protect(Extent, Rights),
    /// NtQueryVirtualMemory of one page.
    Query {
        /// Region.
        region: Region,
        /// Page.
        page: u32,
    },
    /// Loads, stores or fetches.
    Touch(Burst),
    /// Loads or stores in a view while all others rest.
    TouchAlone(Burst),
    /// NtCreateSection.
    CreateSection {
        /// Its number.
        section: u8,
        /// Its size.
        pages: u32,
    },
    /// NtClose.
    CloseSection {
        /// Its number.
        section: u8,
    },
    /// NtMapViewOfSection.
    MapView {
        /// Region.
        region: Region,
        /// Number of the section.
        section: u8,
        /// The page of the section it begins with.
        first: u32,
        /// Its size; zero for all that is left.
        pages: u32,
        /// What may be done with it.
        showing: Showing,
    },
    /// NtUnmapViewOfSection.
    Unmap {
        /// Region.
        region: Region,
        /// A page of it.
        page: u32,
    },
    /// The working set is emptied.
    Empty,
    /// The host lends memory to the manager.
    Lend(Frames),
    /// The host takes memory back.
    TakeBack(Frames),
    /// The next transfers fail.
    FailTransfers {
        /// How many.
        count: u32,
    },
    /// Allocations inside the manager fail.
    FailAllocations {
        /// So many succeed before.
        after: u32,
        /// So many fail.
        count: u32,
    },
}

impl Action {
    /// The region the action changes the structure of, or takes contents from, if it does.
    #[must_use]
    pub const fn restructures(&self) -> Option<Region> {
        match self {
            Self::Allocate { region, .. } => Some(*region),
            Self::Commit(extent, _)
            | Self::Decommit(extent)
            | Self::Reset(extent)
            | Self::UndoReset(extent)
            | Self::Release(extent)
            | Self::Protect(extent, _) => Some(extent.region),
            _ => None,
        }
    }
}

/// Names a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thread {
    /// Its process.
    pub process: u8,
    /// Its number there.
    pub number: u8,
}

/// An operation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A process gets an address space.
    Create {
        /// Process.
        process: u8,
    },
    /// A process is deleted.
    Delete {
        /// Process.
        process: u8,
    },
    /// Virtual time passes.
    Pass {
        /// How much.
        milliseconds: u32,
    },
    /// A thread is killed in whatever it does.
    Kill {
        /// Which one.
        thread: Thread,
        /// Steps of the simulation after the start of the phase.
        steps: u32,
    },
    /// A thread does something.
    Act {
        /// Which one.
        thread: Thread,
        /// What.
        action: Action,
    },
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class.name(), self.number)
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process, self.number)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.region, self.first, self.pages)
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.first, self.pages)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "slot",
            Self::Lowest => "lowest",
            Self::Highest => "highest",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocate { region, pages, rights, backing, place } => {
                let verb = match backing {
                    Backing::Reserved => "reserve",
                    Backing::Committed => "allocate",
                };
                write!(f, "{verb} {region} {pages} {rights} {place}")
            }
            Self::Commit(extent, rights) => write!(f, "commit {extent} {rights}"),
            Self::Decommit(extent) => write!(f, "decommit {extent}"),
            Self::Reset(extent) => write!(f, "reset {extent}"),
            Self::UndoReset(extent) => write!(f, "undo-reset {extent}"),
            Self::Release(extent) => write!(f, "release {extent}"),
            Self::Protect(extent, rights) => write!(f, "protect {extent} {rights}"),
            Self::Query { region, page } => write!(f, "query {region} {page}"),
            Self::Touch(burst) | Self::TouchAlone(burst) => {
                let Burst { touch, extent, offset, size } = burst;
                let alone = if matches!(self, Self::TouchAlone(_)) { "-alone" } else { "" };
                let verb = match touch {
                    Touch::Load => "load",
                    Touch::Store => "store",
                    Touch::Fetch => "fetch",
                };
                write!(f, "{verb}{alone} {extent} {offset} {size}")
            }
            Self::CreateSection { section, pages } => {
                write!(f, "create-section {section} {pages}")
            }
            Self::CloseSection { section } => write!(f, "close-section {section}"),
            Self::MapView { region, section, first, pages, showing } => {
                let showing = showing.name();
                write!(f, "map {region} {section} {first} {pages} {showing}")
            }
            Self::Unmap { region, page } => write!(f, "unmap {region} {page}"),
            Self::Empty => f.write_str("empty"),
            Self::Lend(frames) => write!(f, "lend {frames}"),
            Self::TakeBack(frames) => write!(f, "take-back {frames}"),
            Self::FailTransfers { count } => write!(f, "fail-transfers {count}"),
            Self::FailAllocations { after, count } => {
                write!(f, "fail-allocations {after} {count}")
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { process } => write!(f, "create {process}"),
            Self::Delete { process } => write!(f, "delete {process}"),
            Self::Pass { milliseconds } => write!(f, "pass {milliseconds}"),
            Self::Kill { thread, steps } => write!(f, "kill {thread} {steps}"),
            Self::Act { thread, action } => write!(f, "{thread} {action}"),
        }
    }
}

/// Why a line is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOperation {
    /// Something is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something is not what it should be.
    #[error("{found:?} is no {wanted}")]
    Unknown {
        /// What was there.
        found: String,
        /// What should be there.
        wanted: &'static str,
    },
}

/// The words of a line.
struct Words<'a>(SplitWhitespace<'a>);

impl Words<'_> {
    fn next<T: FromStr>(&mut self, wanted: &'static str) -> Result<T, BadOperation> {
        let word = self.0.next().ok_or(BadOperation::Missing(wanted))?;
        word.parse().map_err(|_| unknown(word, wanted))
    }

    fn below(&mut self, limit: u32, wanted: &'static str) -> Result<u32, BadOperation> {
        let value: u32 = self.next(wanted)?;
        if value < limit { Ok(value) } else { Err(unknown(&value.to_string(), wanted)) }
    }

    fn extent(&mut self) -> Result<Extent, BadOperation> {
        let region = self.next("region")?;
        let first = self.below(PAGES, "page")?;
        Ok(Extent { region, first, pages: self.below(PAGES, "number of pages")? })
    }

    fn frames(&mut self) -> Result<Frames, BadOperation> {
        let first = self.below(PAGES, "frame")?;
        Ok(Frames { first, pages: self.below(PAGES, "number of frames")? })
    }

    fn section(&mut self) -> Result<u8, BadOperation> {
        Ok(self.below(SECTIONS.into(), "section")? as u8)
    }

    fn burst(&mut self, touch: Touch) -> Result<Burst, BadOperation> {
        let extent = self.extent()?;
        let offset = self.below(4096, "offset in a page")?;
        let size = self.below(Burst::LARGEST + 1, "size of an access")?.max(1);
        Ok(Burst { touch, extent, offset, size })
    }

    fn allocation(&mut self, backing: Backing) -> Result<Action, BadOperation> {
        Ok(Action::Allocate {
            region: self.next("region")?,
            pages: self.below(PAGES, "number of pages")?,
            rights: self.next("protection")?,
            backing,
            place: self.next("placement")?,
        })
    }
}

/// Pages beyond which no operation goes.
const PAGES: u32 = 1 << 16;

fn unknown(found: &str, wanted: &'static str) -> BadOperation {
    BadOperation::Unknown { found: found.to_owned(), wanted }
}

impl FromStr for Region {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Class::ALL
            .into_iter()
            .find_map(|class| {
                let number = text.strip_prefix(class.name())?.parse().ok()?;
                (number < class.count()).then_some(Self { class, number })
            })
            .ok_or(())
    }
}

impl FromStr for Thread {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (process, number) = text.split_once('.').ok_or(())?;
        Ok(Self {
            process: process.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "slot" => Ok(Self::Slot),
            "lowest" => Ok(Self::Lowest),
            "highest" => Ok(Self::Highest),
            _ => Err(()),
        }
    }
}

fn parse_action(words: &mut Words<'_>) -> Result<Action, BadOperation> {
    let verb: String = words.next("action")?;
    Ok(match verb.as_str() {
        "reserve" => words.allocation(Backing::Reserved)?,
        "allocate" => words.allocation(Backing::Committed)?,
        "commit" => Action::Commit(words.extent()?, words.next("protection")?),
        "decommit" => Action::Decommit(words.extent()?),
        "reset" => Action::Reset(words.extent()?),
        "undo-reset" => Action::UndoReset(words.extent()?),
        "release" => Action::Release(words.extent()?),
        "protect" => Action::Protect(words.extent()?, words.next("protection")?),
        "query" => {
            Action::Query { region: words.next("region")?, page: words.below(PAGES, "page")? }
        }
        "load" => Action::Touch(words.burst(Touch::Load)?),
        "store" => Action::Touch(words.burst(Touch::Store)?),
        "fetch" => Action::Touch(words.burst(Touch::Fetch)?),
        "load-alone" => Action::TouchAlone(words.burst(Touch::Load)?),
        "store-alone" => Action::TouchAlone(words.burst(Touch::Store)?),
        "create-section" => Action::CreateSection {
            section: words.section()?,
            pages: words.below(PAGES, "number of pages")?,
        },
        "close-section" => Action::CloseSection { section: words.section()? },
        "map" => Action::MapView {
            region: words.next("region")?,
            section: words.section()?,
            first: words.below(PAGES, "page")?,
            pages: words.below(PAGES, "number of pages")?,
            showing: words.next("protection")?,
        },
        "unmap" => {
            Action::Unmap { region: words.next("region")?, page: words.below(PAGES, "page")? }
        }
        "empty" => Action::Empty,
        "lend" => Action::Lend(words.frames()?),
        "take-back" => Action::TakeBack(words.frames()?),
        "fail-transfers" => Action::FailTransfers { count: words.next("count")? },
        "fail-allocations" => {
            Action::FailAllocations { after: words.next("count")?, count: words.next("count")? }
        }
        _ => return Err(unknown(&verb, "action")),
    })
}

impl FromStr for Operation {
    type Err = BadOperation;

    fn from_str(line: &str) -> Result<Self, BadOperation> {
        let mut words = Words(line.split_whitespace());
        let head: String = words.next("operation")?;
        let operation = match head.as_str() {
            "create" => Self::Create { process: words.next("process")? },
            "delete" => Self::Delete { process: words.next("process")? },
            "pass" => Self::Pass { milliseconds: words.next("time")? },
            "kill" => Self::Kill { thread: words.next("thread")?, steps: words.next("count")? },
            _ => {
                let thread = head.parse().map_err(|()| unknown(&head, "operation"))?;
                Self::Act { thread, action: parse_action(&mut words)? }
            }
        };
        match words.0.next() {
            None => Ok(operation),
            Some(word) => Err(unknown(word, "end of the line")),
        }
    }
}
