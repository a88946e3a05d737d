//! Runs on disks that do what real ones should not.

use ntmm::status::NtStatus;
use ntmm_check::setup::Paging;
use ntmm_machine::{Clock, Disk, MemoryDisk};
use ntmm_pte::{Amd64, I386, Pages, Va};
use ntmm_trace::{AccessKind, CompactWriter, PAGE_SIZE, Program, Reference, Regions, WindowPages};

use super::feed::{Feed, Step};
use super::figures::Figures;
use super::observer::Observer;
use super::paging_file::{FileSize, PagingDisk};
use super::playback::{Playback, Setup};
use crate::failure::Failure;

const PAGES: u64 = 400;
const FIRST_PAGE: u64 = 0x210;
const FILE: Pages = Pages::new(1024);

/// Stores to every page and loads it again, over and over.
fn steps(rounds: u64) -> Vec<Step> {
    let kinds = [AccessKind::Store, AccessKind::Load, AccessKind::Modify];
    let step = |number: u64| Step {
        va: Va::new((FIRST_PAGE + number % PAGES) * PAGE_SIZE + number % 61),
        page: (number % PAGES) as u32,
        count: 1,
        size: 100,
        kind: kinds[(number / PAGES % 3) as usize],
    };
    (0..rounds * PAGES).map(step).collect()
}

fn regions() -> Regions {
    let mut writer = CompactWriter::new(WindowPages::DEFAULT);
    for page in 0..PAGES {
        let va = (FIRST_PAGE + page) * PAGE_SIZE;
        let kind = AccessKind::Store;
        writer.push(&Reference { va, size: 8, count: 1, kind }).expect("in range");
    }
    writer.finish(Program::default()).expect("not empty").0.regions
}

const SETUP: Setup = Setup {
    ram: Pages::new(150),
    cpus: 2,
    threads: 3,
    paging: Paging::Amd64,
    file: FileSize { minimum: FILE, maximum: FILE },
    seed: 1,
};

fn run<M: ntmm_machine::Hardware>(
    setup: Setup,
    disk: impl Disk + 'static,
) -> Result<Figures, Failure> {
    let clock = Clock::new();
    let observer = Observer::new(clock.clone(), None, None)?;
    let disk = PagingDisk { disk: Box::new(disk), name: "test disk".to_owned() };
    let mut playback = Playback::<M>::boot(setup, clock, observer, disk)?;
    playback.add_process("test", "test", &regions(), |_| Ok(Feed::ready(steps(12))))?;
    let mut figures = playback.replay(&mut |_| Ok(()))?;
    playback.sweep(&mut figures, &mut |_| Ok(()))?;
    playback.unload()?;
    Ok(figures)
}

/// Where every page that was stored to has been stored to, and no page table of the test has an entry.
const STAMPED: usize = 70;

/// A disk that changes a bit of every page of the program it reads, but for the first ones.
struct Lying {
    disk: MemoryDisk,
    honest: u32,
}

impl Disk for Lying {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        self.disk.read(first, buffer)?;
        for page in buffer.chunks_exact_mut(PAGE_SIZE as usize) {
            if page[STAMPED..STAMPED + 8] != [0; 8] {
                page[STAMPED] ^= u8::from(self.honest == 0);
                self.honest = self.honest.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        self.disk.write(first, bytes)
    }
}

/// A disk on which so many pages fit.
struct Full {
    disk: MemoryDisk,
    room: usize,
}

impl Disk for Full {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        self.disk.read(first, buffer)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        let pages = bytes.len() / PAGE_SIZE as usize;
        self.room = self.room.checked_sub(pages).ok_or(NtStatus::DISK_FULL)?;
        self.disk.write(first, bytes)
    }
}

#[test]
fn a_good_disk_gives_every_byte_back() {
    let figures = run::<Amd64>(SETUP, MemoryDisk::new(FILE)).expect("a good run");
    assert_eq!(figures.references, 12 * PAGES);
    assert!(figures.paging_file.pages_written > PAGES, "{figures:?}");
    assert!(figures.faults.kinds.page_file > PAGES, "{figures:?}");
    // Two thirds of the records read 100 bytes, the sweep reads all pages.
    assert_eq!(figures.verified, 8 * PAGES * 100 + PAGES * PAGE_SIZE);
    let lists = figures.machine.lists;
    let located = lists.zeroed + lists.free + lists.standby + lists.modified + lists.active;
    assert_eq!(located + lists.transition + lists.bad + lists.modified_no_write, 150);
}

#[test]
fn faults_of_processes_add_up_to_those_of_the_machine() {
    let setup = Setup { paging: Paging::I386, ..SETUP };
    let figures = run::<I386>(setup, MemoryDisk::new(FILE)).expect("a good run");
    let [process] = &figures.processes[..] else { panic!("one process: {figures:?}") };
    let (sum, all) = (process.faults, figures.faults.kinds);
    assert_eq!(
        (sum.demand_zero, sum.transition, sum.page_file),
        (all.demand_zero, all.transition, all.page_file)
    );
}

#[test]
fn a_wrong_byte_ends_the_run() {
    for honest in [0, 40, 200] {
        let disk = Lying { disk: MemoryDisk::new(FILE), honest };
        let failure = run::<Amd64>(SETUP, disk).expect_err("a byte is wrong");
        let Failure::WrongData { va, mismatch, process, .. } = &failure else {
            panic!("{failure}");
        };
        assert_eq!(process, "1 (test)");
        assert_eq!(mismatch.expected ^ mismatch.found, 1);
        assert_eq!(va % PAGE_SIZE, STAMPED as u64);
        assert!((FIRST_PAGE..FIRST_PAGE + PAGES).contains(&(va / PAGE_SIZE)), "{failure}");
        assert_eq!(failure.code(), 1);
    }
}

#[test]
fn a_full_disk_ends_the_run() {
    let disk = Full { disk: MemoryDisk::new(FILE), room: 100 };
    let failure = run::<Amd64>(SETUP, disk).expect_err("the disk is full");
    assert_eq!(failure.code(), 3);
    let text = failure.to_string();
    assert!(text.starts_with("paging file test disk: cannot write page "), "{text}");
    assert!(text.contains("STATUS_DISK_FULL"), "{text}");
}

#[test]
fn memory_that_cannot_be_promised_is_refused() {
    let small = FileSize { minimum: Pages::new(256), maximum: Pages::new(256) };
    let setup = Setup { file: small, ..SETUP };
    let failure = run::<Amd64>(setup, MemoryDisk::new(FILE)).expect_err("too little commitment");
    assert_eq!(failure.code(), 3);
    assert!(failure.to_string().contains("STATUS_COMMITMENT_LIMIT"), "{failure}");
}
