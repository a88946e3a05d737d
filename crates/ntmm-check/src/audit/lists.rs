//! The page lists: invariants 1, 2 and 9 of spec 3.13.
//!
//! A chain in which each frame links back to the one before it, and the first to none, cannot
//! pass a frame twice; so a chain is in order when its links agree, its frames all say they are
//! on its list, and there are as many as say so.

use ntmm::frames::PageLocation;
use ntmm::platform::Platform;
use ntmm_pte::Pfn;
use ntmm_sync::atomic::Ordering;

use super::decode::WORDS;
use super::defect::{Chain, Defect};
use super::{Audit, Depth};

/// A link that names no frame (LIST_HEAD, spec 3.1).
const END: u32 = u32::MAX;

/// Zeroed frames read in one audit when it only samples.
const ZEROED_SAMPLE: usize = 1;

impl<P: Platform> Audit<'_, '_, '_, P> {
    pub(super) fn check_lists(&self) -> Result<(), Defect> {
        let mut located = [0; 8];
        for frame in &self.scratch.frames {
            located[frame.location as usize] += 1;
        }
        let figures = self.manager.memory_figures();
        let lists = [
            (PageLocation::Zeroed, figures.zeroed),
            (PageLocation::Free, figures.free),
            (PageLocation::Standby, figures.standby),
            (PageLocation::Modified, figures.modified),
            (PageLocation::ModifiedNoWrite, figures.modified_no_write),
            (PageLocation::Bad, figures.bad),
        ];
        for (list, recorded) in lists {
            let first = self.manager.list_frames(list).next();
            let chained = self.check_chain(list, Chain::Global, first, |_| Ok(()))?;
            let colored = match list {
                PageLocation::Zeroed | PageLocation::Free => Some(self.check_colors(list)?),
                _ => None,
            };
            let located = located[list as usize];
            let agree = located == recorded && located == chained;
            if !agree || colored.is_some_and(|colored| colored != located) {
                return Err(Defect::ListTotal { list, located, recorded, chained, colored });
            }
        }
        let expected = figures.zeroed + figures.free + figures.standby;
        if figures.available != expected {
            return Err(Defect::Available { expected, found: figures.available });
        }
        if figures.reserved != 0 {
            return Err(Defect::Reserved(figures.reserved));
        }
        self.check_zeroes(figures.zeroed)
    }

    /// Checks the colour chains of a list; returns the number of frames in them.
    fn check_colors(&self, list: PageLocation) -> Result<u32, Defect> {
        let colors = self.manager.color_count();
        let mut colored = 0;
        for number in 0..colors {
            let first = self.manager.color_frames(list, self.manager.color(number)).next();
            colored += self.check_chain(list, Chain::Color, first, |pfn| {
                if pfn.get() & (colors - 1) == number {
                    Ok(())
                } else {
                    Err(Defect::ListColor { list, color: number, pfn })
                }
            })?;
        }
        Ok(colored)
    }

    /// Checks the chain that begins with `first`; returns the number of frames in it.
    fn check_chain(
        &self,
        list: PageLocation,
        chain: Chain,
        first: Option<Pfn>,
        accepts: impl Fn(Pfn) -> Result<(), Defect>,
    ) -> Result<u32, Defect> {
        let mut length = 0;
        let mut previous = END;
        let mut next = first.map_or(END, Pfn::get);
        while next != END {
            let pfn = Pfn::new(next);
            let frame = self.scratch.index(pfn).map(|index| &self.scratch.frames[index]);
            let Some(frame) = frame else {
                return Err(Defect::ListLink { list, chain, pfn, expected: None, found: None });
            };
            if frame.location != list {
                return Err(Defect::ListMember { list, chain, pfn, found: frame.location });
            }
            let (forward, backward) = match chain {
                Chain::Global => (frame.u1, frame.share),
                Chain::Color => (frame.original as u32, (frame.original >> 32) as u32),
            };
            if backward != previous {
                let link = |number| (number != END).then(|| Pfn::new(number));
                let (expected, found) = (link(previous), link(backward));
                return Err(Defect::ListLink { list, chain, pfn, expected, found });
            }
            accepts(pfn)?;
            length += 1;
            (previous, next) = (next, forward);
        }
        Ok(length)
    }

    /// Reads zeroed frames: all, or a few, others each time.
    fn check_zeroes(&self, zeroed: u32) -> Result<(), Defect> {
        let count = self.scratch.frames.len();
        let (start, wanted) = match self.scratch.depth {
            Depth::Everything => (0, zeroed as usize),
            Depth::Sample => {
                // A step that shares no small factor with the number of frames comes by
                // everywhere.
                let start = self.scratch.round.wrapping_mul(0x9E37_79B9) % count.max(1) as u64;
                (start as usize, ZEROED_SAMPLE.min(zeroed as usize))
            }
        };
        let (before, behind) = self.scratch.frames.split_at(start.min(count));
        let candidates = behind.iter().chain(before);
        for frame in candidates.filter(|frame| frame.location == PageLocation::Zeroed).take(wanted)
        {
            let words = self.manager.platform().frame(frame.pfn);
            let bits = words.iter().fold(0, |bits, word| bits | word.load(Ordering::Relaxed));
            if bits != 0 {
                let value = |word: usize| words[word].load(Ordering::Relaxed);
                let word = (0..WORDS).find(|&word| value(word) != 0).unwrap_or_default();
                return Err(Defect::NotZero { pfn: frame.pfn, word, value: value(word) });
            }
        }
        Ok(())
    }
}
