//! How a run went over time: figures, and maps of all frames, taken at intervals of virtual time.
//!
//! How long a run will be is not known while it lasts. When there are too many samples every
//! other one is dropped and the interval is doubled, so that a run of any length ends up with
//! between half of the limit and all of it, evenly spaced.

use ntmm::Manager;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::{FrameView, MemoryFigures};
use ntmm_machine::{Hardware, Machine, Nanoseconds};

use super::figures::Faults;
use super::observer::Observer;

/// Most samples of figures.
const FIGURES: usize = 512;

/// Most maps of frames.
const MAPS: usize = 12;

/// The interval a run begins with.
const FIRST_INTERVAL: Nanoseconds = Nanoseconds(50_000);

/// Values taken at even intervals.
#[derive(Debug)]
pub struct Series<S> {
    samples: Vec<(Nanoseconds, S)>,
    limit: usize,
    interval: Nanoseconds,
    next: Nanoseconds,
}

impl<S> Series<S> {
    const fn new(limit: usize) -> Self {
        let (interval, next) = (FIRST_INTERVAL, Nanoseconds(0));
        Self { samples: Vec::new(), limit, interval, next }
    }

    /// Takes a sample if it is time for one.
    fn offer(&mut self, now: Nanoseconds, sample: impl FnOnce() -> S) {
        if now < self.next {
            return;
        }
        self.samples.push((now, sample()));
        if self.samples.len() == self.limit {
            self.interval.0 *= 2;
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.next = Nanoseconds((now.0 / self.interval.0 + 1) * self.interval.0);
    }

    /// The samples, each with the moment it was taken.
    #[must_use]
    pub fn samples(&self) -> &[(Nanoseconds, S)] {
        &self.samples
    }
}

/// Figures at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Faults so far.
    pub faults: Faults,
    /// Lists now.
    pub memory: MemoryFigures,
}

/// What a frame is doing, as the map of frames shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameShade {
    /// Zeroed.
    Zeroed,
    /// Free.
    Free,
    /// On the standby list.
    Standby,
    /// On the modified list.
    Modified,
    /// In transfer.
    Transition,
    /// A page of a program.
    Program,
    /// A page table, a working-set list or another record of an address space.
    Space,
    /// The manager's own.
    Manager,
}

/// The frames of a machine in order.
pub type FrameMap = Vec<FrameShade>;

/// The samples of a run.
#[derive(Debug)]
pub struct Samples {
    /// Figures.
    pub figures: Series<Sample>,
    /// Maps of the frames.
    pub maps: Series<FrameMap>,
}

impl Default for Samples {
    /// No samples yet.
    fn default() -> Self {
        Self { figures: Series::new(FIGURES), maps: Series::new(MAPS) }
    }
}

impl Samples {
    /// Takes the samples that are due.
    pub fn look<M: Hardware>(&mut self, manager: &Manager<Machine<M, Observer>>) {
        let now = manager.platform().clock().nanoseconds();
        self.figures.offer(now, || Sample {
            faults: Faults::of(manager),
            memory: manager.memory_figures(),
        });
        self.maps.offer(now, || frame_map(manager));
    }
}

fn frame_map<M: Hardware>(manager: &Manager<Machine<M, Observer>>) -> FrameMap {
    let views = manager.frame_views().filter(|view| view.usage != FrameUse::Absent);
    let shade = |view: FrameView| match view.location {
        PageLocation::Zeroed => FrameShade::Zeroed,
        PageLocation::Free => FrameShade::Free,
        PageLocation::Standby => FrameShade::Standby,
        PageLocation::Modified | PageLocation::ModifiedNoWrite => FrameShade::Modified,
        PageLocation::Transition => FrameShade::Transition,
        PageLocation::Bad => FrameShade::Manager,
        PageLocation::Active => match view.usage {
            FrameUse::Private
            | FrameUse::UserPhysical
            | FrameUse::LargePage
            | FrameUse::Section => FrameShade::Program,
            FrameUse::PageTable | FrameUse::Root | FrameUse::WorkingSetList | FrameUse::VadNode => {
                FrameShade::Space
            }
            FrameUse::None
            | FrameUse::Manager
            | FrameUse::PagingFileBitmap
            | FrameUse::Prototypes
            | FrameUse::SectionRecords
            | FrameUse::Absent => FrameShade::Manager,
        },
    };
    views.map(shade).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_few_and_evenly_spaced() {
        let mut series = Series::new(16);
        for now in 0..10_000_000 {
            series.offer(Nanoseconds(now * 100), || now);
        }
        let times: Vec<u64> = series.samples().iter().map(|(time, _)| time.0).collect();
        assert!((8..16).contains(&times.len()), "{times:?}");
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    }
}
