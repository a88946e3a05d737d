//! Disks and the queue in front of them.

use ntmm::platform::{Direction, FileId};
use ntmm::status::NtStatus;
use ntmm_pte::{Pages, Pfn};
use proptest::prelude::*;

use super::tables::{FIRST, memory};
use crate::clock::Nanoseconds;
use crate::config::{DiskFaults, DiskTiming};
use crate::disk::{Disk, FileDisk, MemoryDisk};
use crate::ram::{FRAME_BYTES, Ram};
use crate::random::{Chance, Random, Stream};
use crate::transfers::{Order, Transfer, TransferFrames, Transfers};

const FAR: Nanoseconds = Nanoseconds(u64::MAX / 2);

fn queue(seed: u64, order: Order, faults: DiskFaults) -> Transfers<u64> {
    let random = Random::new(seed, Stream::Disk);
    let mut queue = Transfers::new(DiskTiming::default(), faults, order, random, Chance::NEVER);
    let disk = Box::new(MemoryDisk::new(Pages::new(1000)));
    assert_eq!(queue.storage_mut().attach(disk), FileId(0));
    queue
}

fn transfer(
    ram: &Ram,
    direction: Direction,
    first_page: u64,
    frames: std::ops::Range<u32>,
) -> Transfer {
    let frames: TransferFrames =
        frames.map(|number| ram.slot(Pfn::new(FIRST + number)).expect("memory")).collect();
    let length = frames.len() * FRAME_BYTES;
    let offset = first_page * FRAME_BYTES as u64;
    Transfer { direction, file: FileId(0), offset, length, frames }
}

fn fill(ram: &Ram, frames: std::ops::Range<u32>, byte: u8) {
    for number in frames {
        let slot = ram.slot(Pfn::new(FIRST + number)).expect("memory");
        ram.write(slot, 0, &[byte; FRAME_BYTES]);
    }
}

fn bytes(ram: &Ram, number: u32) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES];
    ram.read(ram.slot(Pfn::new(FIRST + number)).expect("memory"), 0, &mut bytes);
    bytes
}

#[test]
fn plain_transfers_complete_in_order_after_their_time() {
    let ram = Ram::new(&[memory()]);
    let mut queue = queue(1, Order::Submission, DiskFaults::default());
    queue.submit(1, transfer(&ram, Direction::Write, 0, 0..2), Nanoseconds(0), &ram);
    queue.submit(2, transfer(&ram, Direction::Read, 9, 4..5), Nanoseconds(0), &ram);
    // 100 us each, and 20 us a page.
    assert_eq!(queue.next_due(), Some(Nanoseconds(140_000)));
    assert_eq!(queue.complete_due(Nanoseconds(139_999), &ram), None);
    assert_eq!(queue.complete_due(Nanoseconds(140_000), &ram), Some((1, Ok(()))));
    assert_eq!(queue.next_due(), Some(Nanoseconds(260_000)));
    let slot = ram.slot(Pfn::new(FIRST + 4)).expect("memory");
    assert_eq!(queue.transfers_of(slot), 1);
    assert_eq!(queue.complete_due(FAR, &ram), Some((2, Ok(()))));
    assert_eq!((queue.under_way(), queue.transfers_of(slot)), (0, 0));
}

#[test]
fn pages_come_back_and_unwritten_ones_are_zero() {
    for order in [Order::Submission, Order::Random] {
        let ram = Ram::new(&[memory()]);
        let mut queue = queue(1, order, DiskFaults::default());
        for number in 0..4 {
            fill(&ram, number..number + 1, number as u8 + 1);
        }
        queue.submit(1, transfer(&ram, Direction::Write, 5, 0..4), Nanoseconds(0), &ram);
        assert_eq!(queue.complete_due(FAR, &ram), Some((1, Ok(()))));
        queue.submit(2, transfer(&ram, Direction::Read, 6, 8..12), Nanoseconds(0), &ram);
        assert_eq!(queue.complete_due(FAR, &ram), Some((2, Ok(()))));
        for (number, byte) in [(8, 2), (9, 3), (10, 4), (11, 0)] {
            assert_eq!(bytes(&ram, number), [byte; FRAME_BYTES]);
        }
    }
}

/// The order in which ten transfers complete, and how they end.
fn history(seed: u64) -> Vec<(u64, Result<(), NtStatus>)> {
    let ram = Ram::new(&[memory()]);
    let faults = DiskFaults {
        read_error: Chance::one_in(3),
        write_error: Chance::one_in(3),
        schedule: Vec::new(),
    };
    let mut queue = queue(seed, Order::Random, faults);
    for number in 0..10 {
        let direction = if number % 2 == 0 { Direction::Write } else { Direction::Read };
        let frames = number as u32 * 2..number as u32 * 2 + 2;
        queue.submit(number, transfer(&ram, direction, number * 2, frames), Nanoseconds(0), &ram);
    }
    std::iter::from_fn(|| queue.complete_due(FAR, &ram)).collect()
}

#[test]
fn order_and_errors_follow_from_the_seed() {
    let histories: Vec<_> = (0..20).map(history).collect();
    assert_eq!(histories, (0..20).map(history).collect::<Vec<_>>());
    let reordered = histories.iter().any(|h| !h.is_sorted_by_key(|(token, _)| *token));
    let failed = histories.iter().flatten().filter(|(_, result)| result.is_err()).count();
    assert!(reordered);
    assert!((20..120).contains(&failed), "about a third of 200 fail, not {failed}");
    assert!(histories.iter().all(|history| history.len() == 10), "each completes once");
}

#[test]
fn scheduled_errors_hit_the_named_request() {
    let ram = Ram::new(&[memory()]);
    let schedule = vec![(1, NtStatus::DISK_FULL)];
    let mut queue = queue(1, Order::Submission, DiskFaults { schedule, ..DiskFaults::default() });
    for token in 0..3 {
        queue.submit(token, transfer(&ram, Direction::Write, token, 0..1), Nanoseconds(0), &ram);
    }
    let ends: Vec<_> = std::iter::from_fn(|| queue.complete_due(FAR, &ram)).collect();
    assert_eq!(ends, [(0, Ok(())), (1, Err(NtStatus::DISK_FULL)), (2, Ok(()))]);
}

proptest! {
    /// A failed write leaves a prefix of the new bytes and the old ones behind it; a failed read
    /// changes a prefix of its frames.
    #[test]
    fn failures_tear(seed in any::<u64>()) {
        let ram = Ram::new(&[memory()]);
        let schedule = vec![(1, NtStatus::IO_DEVICE_ERROR), (3, NtStatus::IO_DEVICE_ERROR)];
        let faults = DiskFaults { schedule, ..DiskFaults::default() };
        let mut queue = queue(seed, Order::Random, faults);
        let mut turn = |token, direction, byte: Option<u8>| {
            if let Some(byte) = byte {
                fill(&ram, 0..3, byte);
            }
            queue.submit(token, transfer(&ram, direction, 0, 0..3), Nanoseconds(0), &ram);
            queue.complete_due(FAR, &ram).map(|(_, result)| result)
        };
        prop_assert_eq!(turn(0, Direction::Write, Some(1)), Some(Ok(())));
        prop_assert_eq!(turn(1, Direction::Write, Some(2)), Some(Err(NtStatus::IO_DEVICE_ERROR)));
        prop_assert_eq!(turn(2, Direction::Read, Some(9)), Some(Ok(())));
        let on_disk: Vec<u8> = (0..3).flat_map(|number| bytes(&ram, number)).collect();
        prop_assert!(on_disk.is_sorted_by(|a, b| a >= b) && on_disk.iter().all(|b| [1, 2].contains(b)));
        prop_assert_eq!(turn(3, Direction::Read, Some(9)), Some(Err(NtStatus::IO_DEVICE_ERROR)));
        let in_memory: Vec<u8> = (0..3).flat_map(|number| bytes(&ram, number)).collect();
        let read = in_memory.iter().position(|byte| *byte == 9).unwrap_or(in_memory.len());
        prop_assert_eq!(&in_memory[..read], &on_disk[..read]);
        prop_assert!(in_memory[read..].iter().all(|byte| *byte == 9));
    }

    /// A write picks up each page at some moments between submission and completion.
    #[test]
    fn a_write_sees_a_page_that_changes_meanwhile_partly(seed in any::<u64>()) {
        let ram = Ram::new(&[memory()]);
        let mut queue = queue(seed, Order::Random, DiskFaults::default());
        fill(&ram, 0..1, 1);
        queue.submit(0, transfer(&ram, Direction::Write, 0, 0..1), Nanoseconds(0), &ram);
        fill(&ram, 0..1, 2);
        prop_assert_eq!(queue.complete_due(FAR, &ram), Some((0, Ok(()))));
        queue.submit(1, transfer(&ram, Direction::Read, 0, 5..6), Nanoseconds(0), &ram);
        prop_assert_eq!(queue.complete_due(FAR, &ram), Some((1, Ok(()))));
        let seen = bytes(&ram, 5);
        prop_assert!(seen.is_sorted() && seen.iter().all(|byte| [1, 2].contains(byte)));
    }
}

fn check_disk(disk: &mut dyn Disk) {
    let pattern: Vec<u8> = (0..3 * FRAME_BYTES).map(|at| (at % 251) as u8).collect();
    assert_eq!(disk.write(4, &pattern), Ok(()));
    let mut back = vec![0xEE; 5 * FRAME_BYTES];
    assert_eq!(disk.read(3, &mut back), Ok(()));
    assert!(back[..FRAME_BYTES].iter().all(|byte| *byte == 0));
    assert_eq!(&back[FRAME_BYTES..4 * FRAME_BYTES], &pattern[..]);
    assert!(back[4 * FRAME_BYTES..].iter().all(|byte| *byte == 0));
    assert_eq!(disk.write(8, &pattern), Err(NtStatus::END_OF_FILE));
    assert_eq!(disk.read(u64::MAX, &mut back), Err(NtStatus::END_OF_FILE));
}

#[test]
fn disks_keep_pages() {
    check_disk(&mut MemoryDisk::new(Pages::new(10)));
    let path = std::env::temp_dir().join(format!("ntmm-disk-{}", std::process::id()));
    let mut disk = FileDisk::create(&path, Pages::new(10)).expect("the host has room");
    check_disk(&mut disk);
    let length = std::fs::metadata(&path).expect("it exists").len();
    std::fs::remove_file(&path).expect("it exists");
    assert_eq!(length, 10 * FRAME_BYTES as u64);
}

#[test]
fn a_full_host_is_reported_as_a_full_disk() {
    // The device that is always full.
    if let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/full") {
        let mut disk = FileDisk::on(file, Pages::new(10));
        assert_eq!(disk.write(0, &[1; FRAME_BYTES]), Err(NtStatus::DISK_FULL));
    }
}
