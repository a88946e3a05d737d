//! Large pages under the eyes of the auditors: all is well from the first step of their allocation
//! to the last of their end, and a single wrong word is found.

use std::sync::atomic::{AtomicU64, Ordering};

use ntmm::frames::FrameUse;
use ntmm::inspect::FrameView;
use ntmm::tables::EntryRef;
use ntmm::virtual_memory::{AllocateLargePages, Direction, Free, FreeType, Region, Window};
use ntmm::{AddressSpaceId, NtStatus, Step};
use ntmm_check::audit::{Defect, Figure};
use ntmm_pte::{Bytes, Level, PagingMode, Pfn, Protection, Va};

use crate::machine::{Machine, every_mode};
use crate::sample::figure;

every_mode! {
    every_step_of_their_life_is_in_order
    frames_that_wait_for_a_flush_are_in_order
    damage_is_found
}

/// A machine with room for three large pages, and a process with one of them.
struct Sample<M: PagingMode> {
    machine: Machine<M>,
    space: AddressSpaceId,
    region: Region,
    /// Small pages.
    small: Region,
}

fn allocate<M: PagingMode>(space: AddressSpaceId, count: u64) -> AllocateLargePages {
    let window = Window {
        lowest: Va::new(0),
        highest: M::HIGHEST_VAD_ADDRESS,
        alignment: Bytes::new(0),
        direction: Direction::Up,
    };
    let size = Bytes::new(M::LARGE_PAGE.to_bytes().get() * count);
    AllocateLargePages::within(space, window, size, Protection::READWRITE)
}

impl<M: PagingMode> Sample<M> {
    fn new() -> Self {
        let machine = Machine::new(4 * M::ENTRIES + 700);
        let space = machine.process(40);
        let region = machine.call(space, allocate::<M>(space, 1)).expect("large pages");
        let small = machine.allocate(space, 8);
        Self { machine, space, region, small }
    }

    fn entry(&self) -> EntryRef {
        let view = self.machine.manager.space_view(self.space).expect("the process");
        view.find_entry(self.region.base, Level::Directory).expect("the directory")
    }

    fn word(&self) -> u64 {
        self.machine.manager.raw_entry(self.entry())
    }

    /// A frame of the large page.
    fn frame(&self, number: u32) -> FrameView {
        let pfn = Pfn::new(M::valid_pfn(self.word()).get() + number);
        let view = self.machine.manager.frame_view(pfn).expect("a frame");
        assert_eq!(view.usage, FrameUse::LargePage);
        view
    }

    /// A word of the database entry of a frame of the large page.
    fn frame_word(&self, number: u32, word: usize) -> &AtomicU64 {
        self.machine.database_word(self.frame(number).pfn, word)
    }
}

/// Breaks a healthy machine and looks at what the auditors say.
#[track_caller]
fn finds<M: PagingMode>(damage: impl Fn(&Sample<M>), expected: impl Fn(&Defect) -> bool) {
    let sample = Sample::<M>::new();
    damage(&sample);
    match sample.machine.audit() {
        Ok(()) => panic!("nothing was found"),
        Err(defect) => assert!(expected(&defect), "found {defect:?}"),
    }
}

mod run {
    use super::*;

    pub fn every_step_of_their_life_is_in_order<M: PagingMode>() {
        let Sample { machine, space, region, .. } = Sample::<M>::new();
        assert_eq!(
            machine.call(space, allocate::<M>(space, 5)),
            Err(NtStatus::INSUFFICIENT_RESOURCES)
        );
        let more = machine.call(space, allocate::<M>(space, 2)).expect("large pages");
        let free = Free::new(space, region.base, Bytes::new(0), FreeType::Release);
        assert_eq!(machine.call(space, free), Ok(region));
        machine.step_engine(ntmm::Engine::Balance);
        assert_eq!(more.size.get(), 2 * region.size.get());
        machine.delete(space);
        machine.check_teardown();
    }

    pub fn frames_that_wait_for_a_flush_are_in_order<M: PagingMode>() {
        let Sample { machine, space, region, .. } = Sample::<M>::new();
        machine.manager.platform().slow_flushes.set(true);
        machine.owners.borrow_mut().push(space);
        let free = || Free::new(space, region.base, Bytes::new(0), FreeType::Release);
        let mut call = free();
        assert!(matches!(machine.step(&mut call), Step::Wait(_)));
        machine.manager.abandon(call);
        machine.owners.borrow_mut().clear();
        machine.check();
        assert_eq!(machine.call(space, free()), Ok(region));
        machine.delete(space);
        machine.check_teardown();
    }

    pub fn damage_is_found<M: PagingMode>() {
        let last = M::ENTRIES as u32 - 1;
        finds::<M>(
            |sample| sample.machine.poke_entry(sample.entry(), 0),
            |defect| matches!(defect, Defect::UsedEntries { .. }),
        );
        // The run begins one frame too late, or is another one.
        finds::<M>(
            |sample| sample.machine.poke_entry(sample.entry(), sample.word() + 0x1000),
            |defect| matches!(defect, Defect::EntryForm { .. }),
        );
        finds::<M>(
            |sample| {
                let length = (M::ENTRIES as u64) << 12;
                sample.machine.poke_entry(sample.entry(), sample.word() + length);
            },
            |defect| matches!(defect, Defect::EntryFrame { usage: FrameUse::None, .. }),
        );
        // It is no large page, or not the program's.
        for bit in [7, 2] {
            finds::<M>(
                |sample| sample.machine.poke_entry(sample.entry(), sample.word() ^ 1 << bit),
                |defect| matches!(defect, Defect::EntryForm { .. }),
            );
        }
        // It is not mapped, and its pages are still counted.
        finds::<M>(
            |sample| {
                let first = M::valid_pfn(sample.word());
                sample.machine.poke_entry(sample.entry(), M::unmapped_large(first));
            },
            |defect| figure(defect, Figure::PrivatePages),
        );
        for number in [0, 77, last] {
            finds::<M>(
                |sample| {
                    sample.frame_word(number, 3).fetch_xor(1 << 33, Ordering::Relaxed);
                },
                |defect| matches!(defect, Defect::Container { .. }),
            );
            finds::<M>(
                |sample| {
                    sample.frame_word(number, 1).store(0x20, Ordering::Relaxed);
                },
                |defect| matches!(defect, Defect::OriginalForm { word: 0x20, .. }),
            );
            finds::<M>(
                |sample| {
                    sample.frame_word(number, 2).fetch_add(1 << 32, Ordering::Relaxed);
                },
                |defect| matches!(defect, Defect::Share(_)),
            );
            finds::<M>(
                |sample| {
                    sample.frame_word(number, 0).fetch_add(1 << 24, Ordering::Relaxed);
                },
                |defect| matches!(defect, Defect::References(_)),
            );
            // Private.
            finds::<M>(
                |sample| {
                    sample.frame_word(number, 0).fetch_xor((1 ^ 10) << 4, Ordering::Relaxed);
                },
                |defect| matches!(defect, Defect::EntryFrame { usage: FrameUse::Private, .. }),
            );
        }
        // A page table of small pages has become a large page.
        finds::<M>(
            |sample| {
                let view = sample.machine.manager.space_view(sample.space).expect("the process");
                sample.machine.write(sample.space, sample.small, 0, 1);
                let entry = view.find_entry(sample.small.base, Level::Directory);
                let entry = entry.expect("the directory");
                let word = sample.machine.manager.raw_entry(entry);
                sample.machine.poke_entry(entry, word | 1 << 7);
            },
            |defect| matches!(defect, Defect::EntryForm { .. }),
        );
    }
}
