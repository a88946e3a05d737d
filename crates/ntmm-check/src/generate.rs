//! Scenarios from seeds.
//!
//! In the manner of swarm testing each seed draws a machine and a subset of the features with
//! weights of their own, so that runs differ in kind and rare combinations are reached. Most
//! operations aim at what earlier ones have probably made; some aim beside it.

mod views;

use std::collections::BTreeMap;

use ntmm::working_set::limits::Hardness;

use crate::operation::{
    Action, Backing, Burst, Class, Extent, Frames, Operation, Place, Region, Thread, Touch,
};
use crate::random::Random;
use crate::rights::{Base, Guard, Rights};
use crate::scenario::Scenario;
use crate::setup::{Conduct, Paging, Setup};
use views::Views;

/// The scenario of a seed.
#[must_use]
pub fn generate(seed: u64, paging: Paging, operations: u32) -> Scenario {
    let mut random = Random::new(seed);
    let setup = draw_setup(&mut random, paging);
    let mut generator = Generator::new(random, &setup);
    let mut memory = Random::new(!seed);
    let mut setup = setup;
    setup.withheld = if memory.one_in(3) { memory.skewed(120) } else { 0 };
    let often = memory.pick(&[3, 10, 30]);
    let mut resets = Resets::new(seed);
    let mut views = Views::new(seed, &generator);
    let mut list = Vec::new();
    for process in 0..generator.processes {
        list.push(Operation::Create { process });
        generator.furnish(process, &mut list);
    }
    views.furnish(&generator, &mut list);
    while (list.len() as u32) < operations {
        generator.next(&mut list);
        if setup.withheld > 0 && memory.one_in(often) {
            let thread = generator.someone(&mut memory);
            change_memory(&mut memory, &setup, thread, &mut list);
        }
        resets.next(&generator, &mut list);
        views.next(&generator, &mut list);
    }
    Scenario { setup, operations: list }
}

/// The host lends memory or takes some back; now and then the thread that does it is killed.
/// Drawn from numbers of its own, so that runs without it are what they would be.
fn change_memory(random: &mut Random, setup: &Setup, thread: Thread, list: &mut Vec<Operation>) {
    let all = setup.frames + setup.withheld;
    let frames = if random.one_in(3) {
        let first = random.below(all);
        Frames { first, pages: random.skewed(all - first) }
    } else {
        let first = random.below(setup.withheld);
        let pages = random.between(1, setup.withheld - first);
        Frames { first: setup.frames + first, pages }
    };
    if random.one_in(8) {
        list.push(Operation::Kill { thread, steps: random.skewed(1000) });
    }
    let action = if random.one_in(2) { Action::Lend(frames) } else { Action::TakeBack(frames) };
    list.push(Operation::Act { thread, action });
}

/// Contents are given up and wanted back. Drawn from numbers of its own, like what the host does.
#[derive(Debug)]
struct Resets {
    random: Random,
    /// One operation in so many; zero for never.
    often: u32,
}

impl Resets {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5245_5345_5400_0000);
        let often = random.pick(&[0, 0, 30, 10, 4]);
        Self { random, often }
    }

    fn next(&mut self, generator: &Generator, list: &mut Vec<Operation>) {
        let Self { random, often } = self;
        if *often == 0 || !random.one_in(*often) {
            return;
        }
        let thread = generator.someone(random);
        let class = Class::ALL[random.weighted(&generator.classes)];
        let region = Region { class, number: random.below(u32::from(class.count())) as u8 };
        let known = match generator.size(thread, region) {
            0 => generator.stride,
            _ if random.one_in(25) => generator.stride,
            size => size,
        };
        let extent = if random.one_in(3) {
            Extent { region, first: 0, pages: known }
        } else {
            let first = random.below(known);
            Extent { region, first, pages: random.skewed(known - first) }
        };
        let undo = random.one_in(4);
        let action = if undo { Action::UndoReset(extent) } else { Action::Reset(extent) };
        list.push(Operation::Act { thread, action });
    }
}

fn draw_setup(random: &mut Random, paging: Paging) -> Setup {
    let chance = |random: &mut Random| match random.below(3) {
        0 => 0,
        1 => random.skewed(100_000),
        _ => random.below(1_000_000),
    };
    let conduct = if random.one_in(4) {
        Conduct::Plain
    } else {
        Conduct::Adversarial {
            preempt: if random.one_in(3) { 0 } else { random.skewed(60) },
            forget: chance(random),
            speculate: chance(random) / 10,
            spurious: chance(random),
            retain: chance(random),
        }
    };
    let minimum = random.between(12, 30);
    let errors = |random: &mut Random| if random.one_in(8) { random.skewed(100_000) } else { 0 };
    Setup {
        paging,
        frames: 40 + random.skewed(361) - 1,
        withheld: 0,
        cpus: random.between(1, 4),
        seed: random.next(),
        quantum: random.between(4, 64),
        conduct,
        read_errors: errors(random),
        write_errors: errors(random),
        transfer: random.pick(&[1, 10, 100, 1000]),
        paging_file: random.pick(&[0, 256, 256, 512, 512, 1024, 1024]),
        minimum,
        maximum: minimum + random.skewed(120),
        hardness: random.pick(&[Hardness::Soft, Hardness::Soft, Hardness::Hard]),
        read_cluster: random.pick(&[1, 2, 8, 16]),
        write_cluster: random.pick(&[1, 4, 16]),
        modified_maximum: random.pick(&[0, 0, 1, 20]),
        stride: random.pick(&[16, 16, 64, 256, 512, 1024]),
        threads: random.between(1, 3) as u8,
        audit_every: random.pick(&[1, 4, 16, 64]),
        allocation_errors: if random.one_in(8) { random.skewed(50_000) } else { 0 },
        sabotage: None,
    }
}

/// Kinds of operations, as weights are drawn for them.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Allocate,
    Reserve,
    Commit,
    Decommit,
    Release,
    Protect,
    Query,
    Store,
    Load,
    Fetch,
    Empty,
    FailTransfers,
    FailAllocations,
    Kill,
    Pass,
    Renew,
}

const KINDS: [(Kind, &[u32]); 16] = [
    (Kind::Allocate, &[4, 8]),
    (Kind::Reserve, &[0, 3]),
    (Kind::Commit, &[0, 2, 6]),
    (Kind::Decommit, &[0, 1, 4]),
    (Kind::Release, &[0, 1, 4]),
    (Kind::Protect, &[0, 2, 6]),
    (Kind::Query, &[0, 2]),
    (Kind::Store, &[20, 60]),
    (Kind::Load, &[20, 60]),
    (Kind::Fetch, &[0, 3]),
    (Kind::Empty, &[0, 1, 4]),
    (Kind::FailTransfers, &[0, 0, 1, 4]),
    (Kind::FailAllocations, &[0, 0, 1, 4]),
    (Kind::Kill, &[0, 0, 2]),
    (Kind::Pass, &[0, 1]),
    (Kind::Renew, &[0, 1]),
];

#[derive(Debug)]
struct Generator {
    random: Random,
    weights: Vec<u32>,
    classes: [u32; 3],
    bases: Vec<Base>,
    guards: u32,
    processes: u8,
    threads: u8,
    stride: u32,
    /// Pages of a region on average.
    usual: u32,
    /// Pages each region probably has.
    sizes: BTreeMap<(Thread, Region), u32>,
}

impl Generator {
    fn new(mut random: Random, setup: &Setup) -> Self {
        let weights = KINDS.iter().map(|(_, weights)| random.pick(weights)).collect();
        let bases = match random.below(3) {
            0 => vec![Base::ReadWrite],
            1 => vec![Base::ReadWrite, Base::ReadWrite, Base::ReadOnly, Base::NoAccess],
            _ => Base::ALL.into_iter().chain([Base::ReadWrite; 6]).collect(),
        };
        let classes: [u32; 3] =
            random.pick(&[[1, 0, 0], [3, 3, 1], [1, 3, 0], [1, 0, 3], [2, 1, 1]]);
        let processes = random.between(1, 3);
        // So many pages in all, in tenths of memory.
        let pressure = random.pick(&[5, 12, 20, 30]);
        let regions: u32 = Class::ALL
            .into_iter()
            .zip(classes)
            .filter(|(_, weight)| *weight > 0)
            .map(|(class, _)| match class {
                Class::Own => u32::from(class.count() * setup.threads),
                Class::Shared | Class::Racy | Class::View => u32::from(class.count()),
            })
            .sum();
        let usual = (setup.frames * pressure / 10 / (regions * processes)).clamp(1, setup.stride);
        Self {
            weights,
            classes,
            bases,
            guards: random.pick(&[0, 0, 3, 10]),
            processes: processes as u8,
            threads: setup.threads,
            stride: setup.stride,
            usual,
            sizes: BTreeMap::new(),
            random,
        }
    }

    fn thread(&mut self) -> Thread {
        let process = self.random.below(u32::from(self.processes)) as u8;
        Thread { process, number: self.random.below(u32::from(self.threads)) as u8 }
    }

    /// A thread, drawn from other numbers than everything else.
    fn someone(&self, random: &mut Random) -> Thread {
        let process = random.below(u32::from(self.processes)) as u8;
        Thread { process, number: random.below(u32::from(self.threads)) as u8 }
    }

    fn region(&mut self) -> Region {
        let class = Class::ALL[self.random.weighted(&self.classes)];
        Region { class, number: self.random.below(u32::from(class.count())) as u8 }
    }

    /// Who knows the size of a region: the thread for its own, anybody else for the rest.
    fn owner(thread: Thread, region: Region) -> (Thread, Region) {
        let number = match region.class {
            Class::Own | Class::View => thread.number,
            Class::Shared | Class::Racy => 0,
        };
        (Thread { number, ..thread }, region)
    }

    fn size(&self, thread: Thread, region: Region) -> u32 {
        self.sizes.get(&Self::owner(thread, region)).copied().unwrap_or(0)
    }

    fn pages(&mut self) -> u32 {
        match self.random.below(20) {
            0 => self.random.between(1, self.stride),
            1 => 0,
            2..6 => self.random.skewed(self.usual),
            _ => self.random.between(self.usual / 2 + 1, self.usual * 3 / 2 + 1).min(self.stride),
        }
    }

    /// Most regions of a new process.
    fn furnish(&mut self, process: u8, list: &mut Vec<Operation>) {
        for (class, weight) in Class::ALL.into_iter().zip(self.classes) {
            let threads = if class == Class::Own { self.threads } else { 1 };
            for number in 0..threads {
                let thread = Thread { process, number };
                for number in 0..class.count() {
                    if weight > 0 && !self.random.one_in(4) {
                        let region = Region { class, number };
                        let action = self.allocate(thread, region, Backing::Committed);
                        list.push(Operation::Act { thread, action });
                    }
                }
            }
        }
    }

    /// A part of a region, mostly one that exists.
    fn extent(&mut self, thread: Thread, region: Region) -> Extent {
        let size = self.size(thread, region);
        let known = if size == 0 || self.random.one_in(25) { self.stride } else { size };
        let first = self.random.below(known);
        let pages = self.random.skewed(known - first);
        Extent { region, first, pages }
    }

    fn rights(&mut self) -> Rights {
        let base = self.random.pick(&self.bases);
        let guard = if base != Base::NoAccess && self.random.below(20) < self.guards {
            Guard::Pending
        } else {
            Guard::Off
        };
        Rights { base, guard }
    }

    fn allocate(&mut self, thread: Thread, region: Region, backing: Backing) -> Action {
        let pages = self.pages();
        let known = self.sizes.entry(Self::owner(thread, region)).or_default();
        *known = (*known).max(pages);
        let rights = if self.random.one_in(3) { self.rights() } else { Rights::READ_WRITE };
        let place = match (region.class, self.random.below(6)) {
            (Class::Own, 0) => Place::Lowest,
            (Class::Own, 1) => Place::Highest,
            _ => Place::Slot,
        };
        Action::Allocate { region, pages, rights, backing, place }
    }

    fn burst(&mut self, thread: Thread, region: Region, touch: Touch) -> Action {
        let extent = match self.random.below(2) {
            // All of it: what makes memory short.
            0 => Extent { region, first: 0, pages: self.size(thread, region).max(1) },
            _ => self.extent(thread, region),
        };
        let offset = match self.random.below(4) {
            0 => 4096 - self.random.between(1, Burst::LARGEST),
            1 => 0,
            _ => self.random.below(4096),
        };
        Action::Touch(Burst { touch, extent, offset, size: self.random.skewed(Burst::LARGEST) })
    }

    fn next(&mut self, list: &mut Vec<Operation>) {
        let kind = KINDS[self.random.weighted(&self.weights)].0;
        let thread = self.thread();
        let region = self.region();
        let action = match kind {
            Kind::Allocate => self.allocate(thread, region, Backing::Committed),
            Kind::Reserve => self.allocate(thread, region, Backing::Reserved),
            Kind::Commit => Action::Commit(self.extent(thread, region), self.rights()),
            Kind::Decommit => Action::Decommit(self.freed(thread, region)),
            Kind::Release => Action::Release(self.freed(thread, region)),
            Kind::Protect => Action::Protect(self.extent(thread, region), self.rights()),
            Kind::Query => Action::Query { region, page: self.extent(thread, region).first },
            Kind::Store => self.burst(thread, region, Touch::Store),
            Kind::Load => self.burst(thread, region, Touch::Load),
            Kind::Fetch => self.burst(thread, region, Touch::Fetch),
            Kind::Empty => Action::Empty,
            Kind::FailTransfers => Action::FailTransfers { count: self.random.skewed(4) },
            Kind::FailAllocations => Action::FailAllocations {
                after: self.random.below(8),
                count: self.random.skewed(4),
            },
            Kind::Kill => {
                list.push(Operation::Kill { thread, steps: self.random.skewed(1000) });
                return;
            }
            Kind::Pass => {
                list.push(Operation::Pass { milliseconds: self.random.skewed(3000) });
                return;
            }
            Kind::Renew => {
                if self.random.one_in(4) {
                    let process = thread.process;
                    list.push(Operation::Delete { process });
                    list.push(Operation::Create { process });
                    self.sizes.retain(|(owner, _), _| owner.process != process);
                    self.furnish(process, list);
                }
                return;
            }
        };
        list.push(Operation::Act { thread, action });
    }

    /// What a free call names: often all of an allocation.
    fn freed(&mut self, thread: Thread, region: Region) -> Extent {
        if self.random.one_in(2) {
            return Extent { region, first: 0, pages: 0 };
        }
        self.extent(thread, region)
    }
}
