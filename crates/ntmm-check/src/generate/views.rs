//! Sections and views in scenarios. Drawn from numbers of their own, so that runs without them are
//! what they would be.

use std::collections::BTreeMap;

use super::Generator;
use crate::operation::{
    Action, Burst, Class, Extent, Operation, Region, SECTIONS, Showing, Thread, Touch,
};
use crate::random::Random;

/// Makes, maps and touches sections now and then.
#[derive(Debug)]
pub(super) struct Views {
    random: Random,
    /// One operation in so many; zero for never.
    often: u32,
    /// Pages of a section on average.
    usual: u32,
    /// Pages each section probably has, and each view.
    sections: BTreeMap<u8, u32>,
    views: BTreeMap<(Thread, u8), u32>,
}

impl Views {
    pub(super) fn new(seed: u64, generator: &Generator) -> Self {
        let mut random = Random::new(seed ^ 0x5649_4557_5300_0000);
        let often = random.pick(&[0, 0, 20, 6, 2, 1]);
        let usual = random.pick(&[1, 2, 1, 4]) * generator.usual;
        let (sections, views) = (BTreeMap::new(), BTreeMap::new());
        Self { random, often, usual, sections, views }
    }

    /// A section, and views of it in most threads.
    pub(super) fn furnish(&mut self, generator: &Generator, list: &mut Vec<Operation>) {
        if self.often == 0 {
            return;
        }
        let thread = Thread { process: 0, number: 0 };
        let pages = self.random.skewed(generator.stride.min(2 * self.usual));
        self.sections.insert(0, pages);
        let action = Action::CreateSection { section: 0, pages };
        list.push(Operation::Act { thread, action });
        // Time passes only when nobody has anything left to do: then the section is there.
        list.push(Operation::Pass { milliseconds: 1 });
        for process in 0..generator.processes {
            for number in 0..generator.threads {
                let thread = Thread { process, number };
                if self.random.one_in(4) {
                    continue;
                }
                let region = Region { class: Class::View, number: 0 };
                let showing =
                    self.random.pick(&[Showing::ReadOnly, Showing::ReadWrite, Showing::WriteCopy]);
                self.views.insert((thread, 0), pages);
                let action = Action::MapView { region, section: 0, first: 0, pages: 0, showing };
                list.push(Operation::Act { thread, action });
            }
        }
    }

    pub(super) fn next(&mut self, generator: &Generator, list: &mut Vec<Operation>) {
        if self.often == 0 || !self.random.one_in(self.often) {
            return;
        }
        let thread = generator.someone(&mut self.random);
        let number = self.random.below(u32::from(Class::View.count())) as u8;
        let region = Region { class: Class::View, number };
        let known = self.views.get(&(thread, number)).copied();
        let action = match (self.random.below(40), known) {
            (0..2, _) => self.create(generator),
            (2, _) => Action::CloseSection { section: self.section() },
            (3..6, _) | (_, None) => self.map(thread, region),
            (6..8, Some(pages)) => {
                let page = if self.random.one_in(2) { 0 } else { self.random.below(pages + 1) };
                if page < pages {
                    self.views.remove(&(thread, number));
                }
                Action::Unmap { region, page }
            }
            (8..20, Some(pages)) => Action::Touch(self.burst(region, pages, Touch::Load)),
            (20..33, Some(pages)) => Action::Touch(self.burst(region, pages, Touch::Store)),
            (33..37, Some(pages)) => Action::TouchAlone(self.burst(region, pages, Touch::Load)),
            (_, Some(pages)) => Action::TouchAlone(self.burst(region, pages, Touch::Store)),
        };
        let kill = self.random.one_in(60);
        if kill {
            list.push(Operation::Kill { thread, steps: self.random.skewed(200) });
        }
        list.push(Operation::Act { thread, action });
    }

    fn section(&mut self) -> u8 {
        self.random.below(u32::from(SECTIONS)) as u8
    }

    fn create(&mut self, generator: &Generator) -> Action {
        let section = self.section();
        let most = generator.stride.min(2 * self.usual);
        let pages = if self.random.one_in(30) { 0 } else { self.random.skewed(most) };
        self.sections.insert(section, pages);
        Action::CreateSection { section, pages }
    }

    fn map(&mut self, thread: Thread, region: Region) -> Action {
        let section = self.section();
        let Some(&all) = self.sections.get(&section) else {
            let pages = self.random.skewed(self.usual);
            self.sections.insert(section, pages);
            return Action::CreateSection { section, pages };
        };
        let first = match self.random.below(10) {
            0 => self.random.below(all + 1),
            1..4 => self.random.below(all / 16 + 1) * 16,
            _ => 0,
        };
        let pages = match self.random.below(10) {
            0 => self.random.skewed(all + 1),
            1..4 => self.random.skewed(all.saturating_sub(first).max(1)),
            _ => 0,
        };
        let showing = self.random.pick(&[
            Showing::ReadOnly,
            Showing::ReadWrite,
            Showing::ReadWrite,
            Showing::WriteCopy,
            Showing::WriteCopy,
        ]);
        let shown = if pages == 0 { all.saturating_sub(first) } else { pages };
        self.views.entry((thread, region.number)).or_insert(shown);
        Action::MapView { region, section, first, pages, showing }
    }

    fn burst(&mut self, region: Region, pages: u32, touch: Touch) -> Burst {
        let first = if self.random.one_in(2) { 0 } else { self.random.below(pages.max(1)) };
        let count = if self.random.one_in(2) {
            pages.saturating_sub(first).max(1)
        } else {
            self.random.skewed(pages.saturating_sub(first).max(1))
        };
        let extent = Extent { region, first, pages: count };
        let offset = self.random.below(4096);
        Burst { touch, extent, offset, size: self.random.skewed(Burst::LARGEST) }
    }
}
