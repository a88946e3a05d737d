//! Data files: their bytes, the manager's transfers of them, and what goes wrong with them.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ntmm::platform::{Direction, Executive, FileId, PagingIo};
use ntmm::status::NtStatus;
use ntmm_pte::{Amd64, Pages, Pfn};
use proptest::prelude::*;

use super::tables::{FIRST, memory};
use crate::clock::{Clock, Nanoseconds};
use crate::config::{Config, DiskFaults, DiskTiming};
use crate::cpu::CpuId;
use crate::data_file::{DataFile, HostFile, MemoryFile};
use crate::disk::MemoryDisk;
use crate::halt::{Halt, Violation};
use crate::machine::{Machine, NoTrace};
use crate::ram::{FRAME_BYTES, FrameSlot, Ram};
use crate::random::{Chance, Random, Stream};
use crate::transfers::{Order, Transfer, Transfers};

const FAR: Nanoseconds = Nanoseconds(u64::MAX / 2);
const FILE: FileId = FileId(0);

/// A path that no other test has; the file goes with it.
struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ntmm-file-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn create(&self) -> HostFile {
        HostFile::create(&self.0).expect("the host has room")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).expect("it exists")
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A queue in front of one file, and memory.
struct Desk {
    queue: Transfers<u64>,
    ram: Ram,
}

impl Desk {
    fn new(seed: u64, order: Order, file: impl DataFile + 'static) -> Self {
        let random = Random::new(seed, Stream::Disk);
        let (timing, faults) = (DiskTiming::default(), DiskFaults::default());
        let mut queue = Transfers::new(timing, faults, order, random, Chance::NEVER);
        assert_eq!(queue.storage_mut().attach_file(Box::new(file)), FILE);
        Self { queue, ram: Ram::new(&[memory()]) }
    }

    fn slots(&self, frames: Range<u32>) -> impl Iterator<Item = FrameSlot> {
        frames.map(|number| self.ram.slot(Pfn::new(FIRST + number)).expect("memory"))
    }

    fn fill(&self, frames: Range<u32>, byte: u8) {
        self.slots(frames).for_each(|slot| self.ram.write(slot, 0, &[byte; FRAME_BYTES]));
    }

    fn put(&self, frames: Range<u32>, bytes: &[u8]) {
        for (slot, page) in self.slots(frames).zip(bytes.chunks(FRAME_BYTES)) {
            self.ram.write(slot, 0, page);
        }
    }

    fn bytes(&self, frames: Range<u32>) -> Vec<u8> {
        let mut bytes = vec![0; frames.len() * FRAME_BYTES];
        for (slot, page) in self.slots(frames).zip(bytes.chunks_mut(FRAME_BYTES)) {
            self.ram.read(slot, 0, page);
        }
        bytes
    }

    fn submit(&mut self, direction: Direction, offset: u64, length: usize, frames: Range<u32>) {
        assert!(self.queue.storage().accepts(FILE, offset, length as u64, frames.len()));
        let frames = self.slots(frames).collect();
        let transfer = Transfer { direction, file: FILE, offset, length, frames };
        let token = self.queue.submitted();
        self.queue.submit(token, transfer, Nanoseconds(0), &self.ram);
    }

    fn complete(&mut self) -> Result<(), NtStatus> {
        let (_, result) = self.queue.complete_due(FAR, &self.ram).expect("one is under way");
        result
    }

    /// A transfer from beginning to end.
    fn transfer(
        &mut self,
        direction: Direction,
        offset: u64,
        length: usize,
        frames: Range<u32>,
    ) -> Result<(), NtStatus> {
        self.submit(direction, offset, length, frames);
        self.complete()
    }

    fn file(&mut self) -> Vec<u8> {
        let size = self.queue.storage().file_size(FILE).expect("a data file");
        let mut bytes = vec![0xEE; size as usize];
        if size > 0 {
            let read = self.queue.storage_mut().read_file(FILE, 0, &mut bytes);
            assert_eq!(read, Ok(size as usize));
        }
        bytes
    }

    fn set_size(&mut self, size: u64) -> Result<(), NtStatus> {
        self.queue.storage_mut().set_file_size(FILE, size)
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 + 1).collect()
}

#[derive(Clone, Debug)]
enum Change {
    SetSize(u64),
    Write(u64, Vec<u8>),
    Read(u64, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = prop::collection::vec(any::<u8>(), 0..9000);
    prop_oneof![
        (0_u64..20_000).prop_map(Change::SetSize),
        (0_u64..20_000, bytes).prop_map(|(offset, bytes)| Change::Write(offset, bytes)),
        (0_u64..30_000, 0_usize..9000).prop_map(|(offset, length)| Change::Read(offset, length)),
    ]
}

/// What a change does to a plain vector of bytes, and what a read finds there.
fn apply(model: &mut Vec<u8>, change: &Change) -> Vec<u8> {
    match change {
        Change::SetSize(size) => model.resize(*size as usize, 0),
        Change::Write(offset, bytes) if !bytes.is_empty() => {
            let from = *offset as usize;
            model.resize(model.len().max(from + bytes.len()), 0);
            model[from..from + bytes.len()].copy_from_slice(bytes);
        }
        Change::Write(..) => {}
        Change::Read(offset, length) => {
            let from = (*offset as usize).min(model.len());
            return model[from..(from + length).min(model.len())].to_vec();
        }
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Files in memory and on the host are both runs of bytes with an end.
    #[test]
    fn files_keep_bytes(changes in prop::collection::vec(change(), 1..24)) {
        let path = Path::new();
        let mut files: [Box<dyn DataFile>; 2] =
            [Box::new(MemoryFile::new()), Box::new(path.create())];
        let mut model = Vec::new();
        for change in changes {
            let expected = apply(&mut model, &change);
            for file in &mut files {
                match &change {
                    Change::SetSize(size) => prop_assert_eq!(file.set_size(*size), Ok(())),
                    Change::Write(offset, bytes) => {
                        prop_assert_eq!(file.write(*offset, bytes), Ok(()));
                    }
                    Change::Read(offset, length) => {
                        let mut buffer = vec![0xEE; *length];
                        let read = file.read(*offset, &mut buffer);
                        prop_assert_eq!(read, Ok(expected.len()));
                        prop_assert_eq!(&buffer[..expected.len()], &expected[..]);
                        prop_assert!(buffer[expected.len()..].iter().all(|byte| *byte == 0xEE));
                    }
                }
                prop_assert_eq!(file.size(), Ok(model.len() as u64));
            }
        }
        prop_assert_eq!(path.bytes(), model);
    }

    /// Transfers of any run, one after the other, against a vector of bytes: what is read, with
    /// zeroes behind the run and the end, and what is written, with nothing else changed.
    #[test]
    fn transfers_move_their_run_and_no_more(
        seed in any::<u64>(),
        size in 0_u64..40_000,
        runs in prop::collection::vec((any::<bool>(), 0_u64..80, 1_u32..=4, 0_usize..4096), 1..12),
    ) {
        let path = Path::new();
        let mut desk = Desk::new(seed, Order::Random, path.create());
        let mut model = pattern(size as usize);
        desk.queue.storage_mut().write_file(FILE, 0, &model).expect("room");
        for (number, (writes, sector, frames, missing)) in runs.into_iter().enumerate() {
            let (offset, length) = (sector * 512, frames as usize * FRAME_BYTES - missing);
            let end = model.len().saturating_sub(offset as usize).min(length);
            let from = (offset as usize).min(model.len());
            desk.fill(0..frames, 0x80 + number as u8);
            if writes {
                prop_assert_eq!(desk.transfer(Direction::Write, offset, length, 0..frames), Ok(()));
                model[from..from + end].fill(0x80 + number as u8);
            } else {
                prop_assert_eq!(desk.transfer(Direction::Read, offset, length, 0..frames), Ok(()));
                let seen = desk.bytes(0..frames);
                prop_assert_eq!(&seen[..end], &model[from..from + end]);
                prop_assert!(seen[end..].iter().all(|byte| *byte == 0));
            }
            prop_assert_eq!(&path.bytes(), &model);
        }
    }

    /// A failed write leaves a prefix of its run in the file and does not make it longer; a failed
    /// read changes a prefix of its frames.
    #[test]
    fn failures_tear(seed in any::<u64>()) {
        const STATUS: NtStatus = NtStatus::IO_DEVICE_ERROR;
        let mut desk = Desk::new(seed, Order::Random, MemoryFile::of(&[1; 9000]));
        desk.fill(0..3, 2);
        for direction in [Direction::Write, Direction::Read] {
            desk.queue.fail_next(FILE, direction, 1, STATUS);
        }
        prop_assert_eq!(desk.transfer(Direction::Write, 0, 8200, 0..3), Err(STATUS));
        let file = desk.file();
        let torn = file.iter().position(|byte| *byte == 1).expect("the last byte is not written");
        prop_assert!(torn <= 8200 && file[torn..].iter().all(|byte| *byte == 1));
        prop_assert_eq!(file.len(), 9000);
        desk.fill(0..3, 9);
        prop_assert_eq!(desk.transfer(Direction::Read, 0, 9000, 0..3), Err(STATUS));
        let mut expected = file;
        expected.resize(3 * FRAME_BYTES, 0);
        let seen = desk.bytes(0..3);
        let filled = seen.iter().position(|byte| *byte == 9).unwrap_or(seen.len());
        prop_assert_eq!(&seen[..filled], &expected[..filled]);
        prop_assert!(seen[filled..].iter().all(|byte| *byte == 9));
        prop_assert_eq!(desk.transfer(Direction::Read, 0, 9000, 0..3), Ok(()), "failed once");
    }
}

/// The order in which writes of eight pages complete.
fn order_of_writes(seed: u64) -> Vec<u64> {
    const SIZE: usize = 8 * FRAME_BYTES - 1;
    let mut desk = Desk::new(seed, Order::Random, MemoryFile::new());
    assert_eq!(desk.set_size(SIZE as u64), Ok(()));
    for page in 0..8_u32 {
        desk.fill(page..page + 1, page as u8 + 1);
        let length = if page == 7 { FRAME_BYTES - 1 } else { FRAME_BYTES };
        desk.submit(Direction::Write, u64::from(page) * 4096, length, page..page + 1);
    }
    let ends: Vec<_> = std::iter::from_fn(|| desk.queue.complete_due(FAR, &desk.ram)).collect();
    assert!(ends.iter().all(|(_, result)| result.is_ok()));
    let expected: Vec<u8> = (0..SIZE).map(|at| (at / FRAME_BYTES) as u8 + 1).collect();
    assert_eq!(desk.file(), expected);
    ends.into_iter().map(|(token, _)| token).collect()
}

#[test]
fn transfers_of_a_file_complete_in_any_order() {
    let orders: Vec<_> = (0..20).map(order_of_writes).collect();
    assert_eq!(orders, (0..20).map(order_of_writes).collect::<Vec<_>>());
    assert!(orders.iter().any(|order| !order.is_sorted()));
    assert!(orders.iter().all(|order| order.len() == 8), "each completes once");
}

#[test]
fn a_file_that_shrinks_under_its_transfers_ends_where_it_ends() {
    let mut desk = Desk::new(1, Order::Submission, MemoryFile::of(&pattern(3 * 4096)));
    desk.fill(0..3, 0xAA);
    desk.fill(4..7, 0xBB);
    desk.submit(Direction::Write, 0, 3 * 4096, 0..3);
    desk.submit(Direction::Read, 0, 3 * 4096, 4..7);
    assert_eq!(desk.set_size(5000), Ok(()));
    assert_eq!(desk.complete(), Ok(()));
    assert_eq!(desk.file(), [0xAA; 5000]);
    assert_eq!(desk.complete(), Ok(()));
    let seen = desk.bytes(4..7);
    assert!(seen[..5000].iter().all(|byte| *byte == 0xAA));
    assert!(seen[5000..].iter().all(|byte| *byte == 0));
    let mut buffer = [0xEE; 3 * FRAME_BYTES];
    assert_eq!(desk.queue.storage_mut().page_in(FILE, 4096, 8192, &mut buffer), Ok(()));
    assert_eq!(buffer[..904], [0xAA; 904]);
    assert_eq!(buffer[904..], [0; 3 * FRAME_BYTES - 904]);
    assert_eq!(desk.set_size(6000), Ok(()));
    assert!(desk.file()[5000..].iter().all(|byte| *byte == 0), "what was cut off stays away");
}

#[test]
fn what_is_on_the_host_was_there_before_and_stays() {
    let path = Path::new();
    std::fs::write(&path.0, pattern(5000)).expect("the host has room");
    let mut desk = Desk::new(1, Order::Submission, HostFile::open(&path.0).expect("it exists"));
    assert_eq!(desk.transfer(Direction::Read, 4096, 904, 0..1), Ok(()));
    let mut page = pattern(5000)[4096..].to_vec();
    page.resize(FRAME_BYTES, 0);
    assert_eq!(desk.bytes(0..1), page);
    // The rest of the frame has bytes that must not get into the file.
    desk.put(0..1, &[0x77; FRAME_BYTES]);
    assert_eq!(desk.transfer(Direction::Write, 4096, 904, 0..1), Ok(()));
    drop(desk);
    let mut expected = pattern(5000);
    expected[4096..].fill(0x77);
    assert_eq!(path.bytes(), expected);
}

#[test]
fn each_file_and_direction_fails_on_its_own() {
    let mut desk = Desk::new(1, Order::Submission, MemoryFile::of(&[1; 4096]));
    let status = NtStatus::DATA_ERROR;
    desk.queue.fail_next(FileId(1), Direction::Write, 9, status);
    desk.queue.fail_next(FILE, Direction::Write, 2, status);
    let ends: Vec<_> = (0..3).map(|_| desk.transfer(Direction::Write, 0, 4096, 0..1)).collect();
    assert_eq!(ends, [Err(status), Err(status), Ok(())]);
    assert_eq!(desk.transfer(Direction::Read, 0, 4096, 0..1), Ok(()));
}

#[test]
fn a_full_volume_takes_no_more() {
    const FULL: Result<(), NtStatus> = Err(NtStatus::DISK_FULL);
    let mut desk = Desk::new(1, Order::Submission, MemoryFile::of(&[1; 4096]));
    let other = desk.queue.storage_mut().attach_file(Box::new(MemoryFile::of(&[2; 100])));
    desk.queue.storage_mut().set_room(4096 + 4096);
    assert_eq!(desk.set_size(8093), FULL, "the other file has 100 of the 8192");
    assert_eq!(desk.set_size(8092), Ok(()));
    let storage = desk.queue.storage_mut();
    assert_eq!(storage.write_file(other, 99, &[3, 3]), FULL);
    assert_eq!(storage.write_file(other, 99, &[3]), Ok(()), "no longer than before");
    assert_eq!(storage.file_size(other), Ok(100));
    // What is inside the file has its room already.
    assert_eq!(desk.transfer(Direction::Write, 4096, 3996, 0..1), Ok(()));
    // A volume that has promised more than it has.
    desk.queue.storage_mut().set_room(100);
    desk.fill(0..1, 7);
    assert_eq!(desk.transfer(Direction::Write, 0, 4096, 0..1), FULL);
    assert_eq!(desk.queue.storage_mut().write_file(other, 0, &[3]), FULL);
    assert_eq!(&desk.file()[..4096], [1; 4096]);
    assert_eq!(desk.transfer(Direction::Read, 0, 4096, 0..1), Ok(()));
    assert_eq!(desk.set_size(0), Ok(()), "it may always become shorter");
    assert_eq!(desk.queue.storage_mut().write_file(other, 0, &[3]), Ok(()));
}

#[test]
fn files_are_as_long_as_the_host_can_have_them() {
    let path = Path::new();
    let mut file = path.create();
    assert_eq!(file.set_size(u64::MAX), Err(NtStatus::DISK_FULL));
    assert_eq!(file.write(u64::MAX - 10, &[1]), Err(NtStatus::DISK_FULL));
    assert_eq!(file.read(u64::MAX - 10, &mut [0; 4]), Ok(0));
    assert_eq!(file.size(), Ok(0));
    let mut file = MemoryFile::new();
    assert_eq!(file.set_size(u64::MAX), Ok(()));
    assert_eq!(file.write(u64::MAX - 1, &[1]), Ok(()));
    assert_eq!(file.size(), Ok(u64::MAX));
    if let Ok(full) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/full") {
        assert_eq!(HostFile::on(full).write(0, &[1]), Err(NtStatus::DISK_FULL));
    }
}

#[test]
fn only_transfers_that_fit_are_accepted() {
    let mut desk = Desk::new(1, Order::Submission, MemoryFile::new());
    let disk = desk.queue.storage_mut().attach(Box::new(MemoryDisk::new(Pages::new(100))));
    let storage = desk.queue.storage();
    for (offset, length, frames, by_file, by_disk) in [
        (0, 4096, 1, true, true),
        (8192, 16 * 4096, 16, true, true),
        (0, 17 * 4096, 17, false, false),
        (0, 0, 0, false, false),
        (512, 4096, 1, true, false),
        (100, 4096, 1, false, false),
        (0, 1, 1, true, false),
        (0, 0, 1, false, false),
        (0, 4096, 2, false, false),
        (0, 4097, 2, true, false),
        (0, 8193, 2, false, false),
        (u64::MAX - 4095, 4096, 1, false, false),
    ] {
        let accepted = [FILE, disk].map(|file| storage.accepts(file, offset, length, frames));
        assert_eq!(accepted, [by_file, by_disk], "{length} bytes at {offset}, {frames} frames");
    }
    assert!(!storage.accepts(FileId(2), 0, 4096, 1));
}

#[test]
fn the_manager_and_programs_see_one_file() {
    let machine = Machine::<Amd64>::new(Config::plain(Pages::new(16)), Clock::new(), NoTrace);
    let disk = machine.attach(Box::new(MemoryDisk::new(Pages::new(16))));
    let file = machine.attach_file(Box::new(MemoryFile::of(b"abc")));
    assert_eq!((disk, file), (FileId(0), FileId(1)));
    assert_eq!(machine.file_size(file), Ok(3));
    assert_eq!(machine.write_file(file, 5, b"f"), Ok(()));
    let mut bytes = [0xEE; 8];
    assert_eq!(machine.read_file(file, 1, &mut bytes), Ok(5));
    assert_eq!(&bytes, b"bc\0\0f\xEE\xEE\xEE");
    assert_eq!(machine.set_file_size(file, 2), Ok(()));
    assert_eq!(machine.read_file(file, 2, &mut bytes), Err(NtStatus::END_OF_FILE));
    assert_eq!(machine.read_file(file, 2, &mut []), Ok(0));
    machine.set_file_room(1000);
    assert_eq!(machine.set_file_size(file, 1001), Err(NtStatus::DISK_FULL));
    let end = machine.write_file(file, u64::MAX, b"ab");
    assert_eq!(end, Err(NtStatus::INVALID_PARAMETER));
    for none in [disk, FileId(2)] {
        assert_eq!(machine.file_size(none), Err(NtStatus::INVALID_FILE_FOR_SECTION));
        let set = machine.set_file_size(none, 1);
        assert_eq!(set, Err(NtStatus::INVALID_FILE_FOR_SECTION));
        assert!(machine.read_file(none, 0, &mut bytes).is_err());
        assert!(machine.write_file(none, 0, b"a").is_err());
    }
}

#[test]
fn no_lock_is_held_where_the_file_system_is_called() {
    let machine = Machine::<Amd64>::new(Config::plain(Pages::new(16)), Clock::new(), NoTrace);
    let file = machine.attach_file(Box::new(MemoryFile::new()));
    machine.raise();
    let irql = machine.current().irql();
    let calls: [&dyn Fn() -> bool; 2] =
        [&|| machine.file_size(file).is_ok(), &|| machine.set_file_size(file, 1).is_ok()];
    for call in calls {
        let halt = catch_unwind(AssertUnwindSafe(call)).map_err(Halt::from_payload);
        let expected = Violation::FileSystemWithLock { cpu: CpuId(0), irql };
        assert_eq!(halt, Err(Halt::Violation(expected)));
    }
}
