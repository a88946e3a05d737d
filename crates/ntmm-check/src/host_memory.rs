//! The host's side of memory that comes and goes: which frames it holds, and that nobody touches
//! them.
//!
//! The host fills the frames it holds with a pattern, and looks for it before it lends them
//! again: neither the manager nor a processor with an old translation nor a disk may have written
//! there. A taking back that is under way may end either way, so what it is after is neither the
//! host's nor certainly the manager's.

use std::collections::BTreeSet;

use ntmm::platform::FrameRange;
use ntmm::{AddMemoryError, RemoveMemoryError};
use ntmm_machine::{Hardware, Machine};
use ntmm_pte::{Pages, Pfn};
use ntmm_sync::atomic::Ordering;

use crate::failure::Failure;

/// Frames besides those a manager needs to boot that a host leaves it at least, as the smallest
/// machines have that the generator draws.
pub(crate) const LEAST: u32 = 40;

/// The frames of a machine, as its host sees them.
#[derive(Clone, Debug)]
pub(crate) struct HostMemory {
    /// First frame that may be lent or taken back; what lies before, a manager needs to boot.
    first: u32,
    /// The frame behind the last.
    end: u32,
    /// Frames from here on are the host's at boot.
    withheld_from: u32,
    held: BTreeSet<u32>,
    /// Frames being taken back.
    pub(crate) leaving: u32,
    /// Frames lent so far, each time counted.
    pub(crate) lent: u64,
    /// Frames taken back.
    pub(crate) taken: u64,
    /// Takings back that the manager refused or gave up.
    pub(crate) refused: u64,
}

/// What the word `number` of a frame that the host holds is.
const fn pattern(pfn: u32, number: usize) -> u64 {
    0x5057_A11E_0000_0000 ^ ((pfn as u64) << 12) ^ number as u64
}

impl HostMemory {
    /// Of a machine with `needed` frames for its manager, `frames` more that are lent at boot and
    /// `withheld` behind them that are not.
    pub(crate) fn new<M: Hardware>(
        machine: &Machine<M>,
        (needed, frames, withheld): (u32, u32, u32),
    ) -> Self {
        let withheld_from = needed + frames;
        let end = withheld_from + withheld;
        let mut memory = Self {
            first: needed,
            end,
            withheld_from,
            held: BTreeSet::new(),
            leaving: 0,
            lent: 0,
            taken: 0,
            refused: 0,
        };
        memory.keep(machine, range(withheld_from, withheld));
        memory
    }

    /// The frames that an operation names: `pages` from the frame `first` on, counted from the
    /// first that may be lent, as far as there are any.
    pub(crate) fn range(&self, first: u32, pages: u32) -> Option<FrameRange> {
        let start = self.first.saturating_add(first);
        let count = pages.min(self.end.saturating_sub(start));
        (count > 0).then(|| range(start, count))
    }

    /// Whether so many frames more may be taken back.
    pub(crate) fn can_spare(&self, range: FrameRange) -> bool {
        let gone = self.held.len() as u64 + u64::from(self.leaving) + range.count.get();
        u64::from(self.end - self.first) >= gone + u64::from(LEAST)
    }

    fn holds(&self, range: FrameRange) -> bool {
        range.frames().all(|pfn| self.held.contains(&pfn.get()))
    }

    /// Frames have become the host's.
    fn keep<M: Hardware>(&mut self, machine: &Machine<M>, range: FrameRange) {
        for pfn in range.frames() {
            for (number, word) in frame(machine, pfn).iter().enumerate() {
                word.store(pattern(pfn.get(), number), Ordering::Relaxed);
            }
            self.held.insert(pfn.get());
        }
    }

    /// Looks whether anybody has touched frames that the host holds.
    pub(crate) fn check<M: Hardware>(&self, machine: &Machine<M>) -> Result<(), Failure> {
        for &pfn in &self.held {
            for (number, word) in frame(machine, Pfn::new(pfn)).iter().enumerate() {
                let found = word.load(Ordering::Relaxed);
                if found != pattern(pfn, number) {
                    return Err(Failure::new(
                        "the host's frame",
                        format!("word {number} of frame {pfn:#x} holds {found:#x}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The host is about to lend a range; says whether all of it is its own.
    pub(crate) fn begins_to_lend<M: Hardware>(
        &mut self,
        machine: &Machine<M>,
        range: FrameRange,
    ) -> Result<Whose, Failure> {
        self.check(machine)?;
        if !self.holds(range) {
            return Ok(Whose::Others);
        }
        for pfn in range.frames() {
            self.held.remove(&pfn.get());
        }
        Ok(Whose::Hosts)
    }

    /// The manager has answered.
    pub(crate) fn lent<M: Hardware>(
        &mut self,
        machine: &Machine<M>,
        (range, whose): (FrameRange, Whose),
        outcome: Result<(), AddMemoryError>,
    ) -> Result<(), Failure> {
        match (whose, outcome) {
            (Whose::Hosts, Ok(())) => self.lent += range.count.get(),
            (Whose::Hosts, Err(AddMemoryError::Busy)) => self.keep(machine, range),
            (Whose::Others, Err(_)) => {}
            (Whose::Hosts, Err(error)) => return Err(Failure::new("lending", error)),
            (Whose::Others, Ok(())) => {
                return Err(Failure::new("lending", "frames were lent twice"));
            }
        }
        Ok(())
    }

    /// The manager has given a range back, or says why not.
    pub(crate) fn taken_back<M: Hardware>(
        &mut self,
        machine: &Machine<M>,
        range: FrameRange,
        outcome: Result<(), RemoveMemoryError>,
    ) -> Result<(), Failure> {
        if outcome.is_err() {
            self.refused += 1;
            return Ok(());
        }
        if range.frames().any(|pfn| self.held.contains(&pfn.get())) {
            return Err(Failure::new("taking back", "the host's own frames were given back"));
        }
        for pfn in range.frames() {
            machine.check_unreachable(pfn).map_err(|broken| Failure::new("taking back", broken))?;
            if machine.transfers_of(pfn) > 0 {
                let message = format!("a transfer moves frame {:#x}", pfn.get());
                return Err(Failure::new("taking back", message));
            }
        }
        self.taken += range.count.get();
        self.keep(machine, range);
        Ok(())
    }

    /// What has to be lent, and what taken back, so that all is as at boot.
    pub(crate) fn differences(&self) -> (Vec<FrameRange>, Vec<FrameRange>) {
        let at_boot = |pfn: u32| pfn >= self.withheld_from;
        let lend = self.held.iter().copied().filter(|&pfn| !at_boot(pfn));
        let take = (self.withheld_from..self.end).filter(|pfn| !self.held.contains(pfn));
        (runs(lend), runs(take))
    }
}

/// Whose the frames of a range are, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All of them the host's.
    Hosts,
    /// Some of them not.
    Others,
}

fn range(start: u32, count: u32) -> FrameRange {
    FrameRange { start: Pfn::new(start), count: Pages::new(u64::from(count)) }
}

/// Ascending numbers as ranges.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<FrameRange> {
    let mut runs: Vec<FrameRange> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(last) if last.end() == u64::from(number) => {
                last.count = Pages::new(last.count.get() + 1);
            }
            _ => runs.push(range(number, 1)),
        }
    }
    runs
}

fn frame<M: Hardware>(machine: &Machine<M>, pfn: Pfn) -> &ntmm_sync::frame::FrameWords {
    let slot = machine.ram().slot(pfn).expect("the frame is inside memory");
    machine.ram().words(slot)
}
