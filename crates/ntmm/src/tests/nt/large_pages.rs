//! Large pages of a program (API 3.2, 4.1, 5, 7.4, 8; spec 16.3).

use ntmm_pte::{AccessKind, Bytes, Level, PAGE_SIZE, Pages, PagingMode, Pfn, Va};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::{Program, SUCCESS};
use crate::frames::{FrameUse, PageLocation};
use crate::memory::remove::{RemoveMemory, RemoveMemoryError};
use crate::nt::{Caller, Privileges, Profile};
use crate::tests::host::{EAGER, Host, table_of};
use crate::tests::machine::Machine;
use crate::tests::machine::range;
use crate::vad::SecuredAccess;
use crate::virtual_memory::{
    AllocateLargePages, Direction, Free, FreeType, ReadMemory, SecureMemory, Window, WriteMemory,
};
use crate::working_set::limits::EmptyWorkingSet;
use crate::{AddressSpaceId, Engine, NtStatus, Step};
use ntmm_pte::Protection;

const COMMIT: u32 = 0x1000;
const RESERVE: u32 = 0x2000;
const BOTH: u32 = COMMIT | RESERVE;
const TOP_DOWN: u32 = 0x10_0000;
const LARGE: u32 = 0x2000_0000;
const DECOMMIT: u32 = 0x4000;
const RELEASE: u32 = 0x8000;

const CONFLICT: u32 = 0xC000_0018;
const NO_RESOURCES: u32 = 0xC000_009A;
const BAD_PROTECTION: u32 = 0xC000_0045;

/// Runs of frames in the machine, apart from those that hold its records.
const RUNS: u32 = 4;

fn large<M: PagingMode>() -> u64 {
    M::LARGE_PAGE.to_bytes().get()
}

/// A program that may lock memory on a machine with frames for large pages.
fn locker<M: PagingMode>() -> Program<M> {
    let length = M::ENTRIES as u32;
    let machine = Machine::new(&[(2 * length - 600, (RUNS + 1) * length + 600)], 8);
    let host = Host::of(machine, EAGER);
    host.paging_file(512);
    let space = host.space();
    let mut caller = Caller::program::<M>(Profile::Legacy);
    caller.privileges = Privileges::LOCK_MEMORY;
    Program { host, space, caller }
}

impl<M: PagingMode> Program<M> {
    fn large_pages(&self, count: u64) -> u64 {
        let (status, range) = self.allocate(0, 0, count * large::<M>(), BOTH | LARGE, 4);
        assert_eq!(status, SUCCESS);
        let (base, size) = range.expect("a range");
        assert_eq!((base % large::<M>(), size), (0, count * large::<M>()));
        base
    }

    fn directory_word(&self, address: u64) -> Option<u64> {
        let entry = self.host.entry_at(self.space, Va::new(address), Level::Directory)?;
        Some(self.host.manager.raw_entry(entry))
    }

    fn is_mapped(&self, address: u64) -> bool {
        self.directory_word(address).is_some_and(|word| M::is_valid(word) && M::is_large(word))
    }

    /// Frames of large pages.
    fn kept(&self) -> usize {
        let views = self.host.manager.frame_views();
        views.filter(|view| view.usage == FrameUse::LargePage).count()
    }

    /// First frames of the runs that are available.
    fn runs(&self) -> Vec<u32> {
        let manager = &self.host.manager;
        let is_there = |number| {
            manager.frame_view(Pfn::new(number)).is_some_and(|view| view.location.is_available())
        };
        let length = M::ENTRIES as u32;
        let firsts = (1..RUNS + 3).map(|run| run * length);
        firsts.filter(|&first| (first..first + length).all(is_there)).collect()
    }

    /// Takes one frame that is available.
    fn take_frame(&self, number: u32) {
        let manager = &self.host.manager;
        let mut reservation = manager.try_reserve_pages(1).expect("there is a page");
        let mut entry = manager.enter();
        let mut frame = manager.lock_frame(entry.token(), Pfn::new(number));
        manager.take_named(&mut frame, &mut reservation, FrameUse::Manager);
        frame.map_first(0);
    }

    /// What must be the same after a call that fails.
    fn digest(&self) -> (u64, u64, u64, usize) {
        let figures = self.host.manager.memory_figures();
        let header = self.host.manager.space_view(self.space).expect("it lives").header();
        (figures.committed.get(), header.virtual_size(), header.private_pages(), self.kept())
    }

    fn attributes(&self, addresses: &[u64]) -> Vec<u64> {
        let mut words: Vec<_> = addresses.iter().flat_map(|&address| [address, 0]).collect();
        let parameters = crate::nt::QueryParameters {
            process: self.process(),
            address: 0,
            class: 4,
            buffer: Ok(()),
            length: 8 * words.len() as u64,
            return_length: Ok(()),
        };
        assert_eq!(self.query_with(parameters, &mut words).status, NtStatus::SUCCESS);
        words.into_iter().skip(1).step_by(2).collect()
    }

    fn set(&self, address: u64, bytes: &[u8]) -> u64 {
        let call = WriteMemory::new(self.space, Va::new(address), bytes);
        self.host.run(call).expect("it ends").bytes.get()
    }

    fn bytes(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0xAA; count];
        let call = ReadMemory::new(self.space, Va::new(address), &mut bytes);
        assert_eq!(self.host.run(call).expect("it ends").status, NtStatus::SUCCESS);
        bytes
    }
}

/// An allocation of the typed call, anywhere.
fn anywhere<M: PagingMode>(space: AddressSpaceId, count: u64) -> AllocateLargePages {
    let window = Window {
        lowest: Va::new(0x1_0000),
        highest: M::HIGHEST_VAD_ADDRESS,
        alignment: Bytes::new(0x1_0000),
        direction: Direction::Up,
    };
    let size = Bytes::new(count * large::<M>());
    AllocateLargePages::within(space, window, size, Protection::READWRITE)
}

in_every_mode! {
    fn memory_is_there_at_once_and_zero<M>() {
        let program = locker::<M>();
        let (host, space) = (&program.host, program.space);
        let (before, figures) = (program.digest(), host.manager.memory_figures());
        let size = host.size(space);
        let base = program.large_pages(2);
        let (pages, length) = (2 * M::ENTRIES as u64, large::<M>());
        host.audit_at_rest();
        assert!(program.is_mapped(base) && program.is_mapped(base + length));
        assert_eq!(program.kept() as u64, pages);
        let after = host.manager.memory_figures();
        assert_eq!(u64::from(figures.available - after.available) / pages, 1);
        assert!(program.digest().0 >= before.0 + pages, "it is charged");
        assert_eq!(program.digest().2, before.2 + pages, "private pages");
        assert!(host.size(space) <= size + M::LEVELS as u32, "only tables are in the set");
        let faults = host.manager.counters().page_faults.get();
        assert!(program.bytes(base, 2 * length as usize).iter().all(|&byte| byte == 0));
        for page in 0..pages {
            host.write(space, Va::new(base + page * PAGE_SIZE + 8), page + 1);
        }
        assert_eq!(host.manager.counters().page_faults.get(), faults, "large pages never fault");
        for page in 0..pages {
            let bytes = program.bytes(base + page * PAGE_SIZE + 8, 8);
            assert_eq!(bytes, (page + 1).to_le_bytes());
        }
        // Across the end of a page and of a large page, by software.
        assert_eq!(program.set(base + length - 4, b"abcdefgh"), 8);
        assert_eq!(host.read(space, Va::new(base + length - 8)) >> 32, 0x6463_6261);
        assert_eq!(host.read(space, Va::new(base + length)) & 0xFFFF_FFFF, 0x6867_6665);
        assert_eq!(program.free(base, 0, RELEASE), (SUCCESS, Some((base, 2 * length))));
        assert_eq!(program.load(base), 0xC000_0005);
        assert_eq!(program.digest(), before);
        host.settle();
        assert_eq!(host.manager.memory_figures().available, figures.available);
        host.audit_at_rest();
    }

    fn every_status<M>() {
        let mut program = locker::<M>();
        let (length, both) = (large::<M>(), BOTH | LARGE);
        let before = program.digest();
        let status = |program: &Program<M>, base, size, kind, protection| {
            let (status, range) = program.allocate(base, 0, size, kind, protection);
            assert!(range.is_none());
            status
        };
        program.caller.privileges = Privileges::empty();
        assert_eq!(status(&program, 1, 1, both, 0x104), 0xC000_0061, "first of all");
        program.caller.privileges = Privileges::LOCK_MEMORY;
        for kind in [RESERVE | LARGE, LARGE, both | 0x20_0000, both | 0x40_0000, LARGE | 0x8_0000] {
            assert_eq!(status(&program, 0, length, kind, 4), 0xC000_00F3, "{kind:#x}");
        }
        assert_eq!(status(&program, length, length, COMMIT | LARGE, 4), 0xC000_00F3);
        for protection in [1, 0x104, 0x120, 8, 0x80] {
            assert_eq!(status(&program, 1, 1, both, protection), BAD_PROTECTION, "{protection:#x}");
        }
        for base in [1, 0x1_0000, length + 0x1_0000, length + length / 2] {
            assert_eq!(status(&program, base, 1, both, 4), 0xC000_00F0, "{base:#x}");
        }
        for size in [1, length - 1, length + 1, length + 0x1_0000] {
            assert_eq!(status(&program, 0, size, both, 4), 0xC000_00F2, "{size:#x}");
            assert_eq!(status(&program, length, size, both, 4), 0xC000_00F2, "{size:#x}");
        }
        let highest = M::HIGHEST_VAD_ADDRESS.get();
        let space = (highest + 1) / length * length;
        assert_eq!(status(&program, 0, space, both, 4), 0xC000_0017, "no hole");
        // Above the page of shared data, where there is something above it.
        let low = if M::ADDRESS_BITS == 32 { length } else { 1 << 31 };
        assert_eq!(status(&program, low, space - low, both, 4), NO_RESOURCES);
        assert_eq!(status(&program, 0, 64 * length, both, 4), NO_RESOURCES);
        assert_eq!(program.digest(), before);
        // A page in the middle of the range is taken.
        let small = program.allocate(3 * length + 0x1_0000, 0, 0x1000, BOTH, 4);
        assert_eq!(small.0, SUCCESS);
        assert_eq!(status(&program, 2 * length, 2 * length, both, 4), CONFLICT);
        assert_eq!(program.allocate(4 * length, 0, length, both, 4).0, SUCCESS);
        assert_eq!(status(&program, 4 * length, length, both, 4), CONFLICT);
        let top = program.allocate(0, 0, length, both | TOP_DOWN, 2);
        assert_eq!(top, (SUCCESS, Some((space - length, length))));
        program.host.audit_at_rest();
    }

    fn nothing_else_can_be_done_to_them<M>() {
        let program = locker::<M>();
        let length = large::<M>();
        let base = program.large_pages(2);
        program.set(base + 0x5000, b"kept");
        let digest = program.digest();
        assert_eq!(program.free(base, 0, DECOMMIT).0, 0xC000_00A0);
        assert_eq!(program.free(base, length, DECOMMIT).0, 0xC000_00A0);
        assert_eq!(program.free(base, length, RELEASE).0, 0xC000_001A);
        assert_eq!(program.free(base + length, length, RELEASE).0, 0xC000_001A);
        assert_eq!(program.free(base + length, 0, RELEASE).0, 0xC000_009F);
        assert_eq!(program.free(base, 3 * length, RELEASE).0, 0xC000_001A);
        assert_eq!(program.protect(base, 0x1000, 2).status.code(), CONFLICT);
        assert_eq!(program.allocate(base, 0, 0x1000, COMMIT, 4).0, CONFLICT);
        assert_eq!(program.allocate(base, 0, 0x1000, 0x8_0000, 4).0, CONFLICT, "reset");
        assert_eq!(program.lock(base, 0x1000, 1).0, 0xC000_004D);
        assert_eq!(program.unlock(base, 0x1000, 1).0, 0xC000_002A);
        assert_eq!(program.write_watch(0, base, length, 8).0, 0xC000_00EF);
        assert_eq!(program.reset_write_watch(base, length), 0xC000_00EF);
        let secure = SecureMemory::new(
            program.space, Va::new(base), Bytes::new(1), SecuredAccess::Read,
        );
        assert_eq!(program.host.run(secure), Err(NtStatus::CONFLICTING_ADDRESSES));
        assert_eq!(program.digest(), digest);
        assert_eq!(program.bytes(base + 0x5000, 4), b"kept");
        program.host.audit_at_rest();
        assert_eq!(program.free(base + 0xFFF, 0, RELEASE), (SUCCESS, Some((base, 2 * length))));
    }

    fn queries_describe_them<M>() {
        let program = locker::<M>();
        let length = large::<M>();
        let (status, range) = program.allocate(0, 0, 2 * length, BOTH | LARGE, 0x20);
        assert_eq!(status, SUCCESS);
        let base = range.expect("a range").0;
        let found = program.query(base + 0x3123);
        assert_eq!((found.base, found.size), (base + 0x3000, 2 * length - 0x3000));
        assert_eq!((found.allocation_base, found.allocation_protection), (base, 0x20));
        assert_eq!((found.state, found.protection, found.kind), (0x1000, 0x20, 0x2_0000));
        // Valid, the protection, locked, large.
        let large_page = 1 | 0x20 << 4 | 1 << 22 | 1 << 23;
        let asked = [base, base + length - 1, base + length, base + 2 * length];
        assert_eq!(program.attributes(&asked), [large_page, large_page, large_page, 0]);
        let mut listed = vec![0; 4096];
        let parameters = crate::nt::QueryParameters {
            process: program.process(),
            address: 0,
            class: 1,
            buffer: Ok(()),
            length: 0x8000,
            return_length: Ok(()),
        };
        let outcome = program.query_with(parameters, &mut listed);
        assert_eq!(outcome.status, NtStatus::SUCCESS);
        let inside = |word: &&u64| (base..base + 2 * length).contains(word);
        assert_eq!(listed.iter().find(inside), None, "in no working set");
    }

    fn protection_is_kept<M>() {
        let program = locker::<M>();
        let (status, range) = program.allocate(0, 0, large::<M>(), BOTH | LARGE, 2);
        assert_eq!(status, SUCCESS);
        let base = range.expect("a range").0;
        assert_eq!((program.load(base), program.store(base)), (SUCCESS, 0xC000_0005));
        let write = WriteMemory::new(program.space, Va::new(base), b"no");
        let outcome = program.host.run(write).expect("it ends");
        assert_eq!(
            (outcome.bytes, outcome.status),
            (Bytes::new(0), NtStatus::ACCESS_VIOLATION)
        );
        let fetch = program.host.touch(program.space, Va::new(base), AccessKind::Execute);
        assert_eq!(fetch.is_err(), M::HAS_NO_EXECUTE);
        assert_eq!(program.bytes(base, 4), [0; 4]);
        program.host.audit_at_rest();
    }

    fn without_a_run_nothing_changes<M>() {
        let program = locker::<M>();
        let length = M::ENTRIES as u32;
        // So that neither descriptors nor tables take the frames of a run.
        let small = program.memory(0x1000, BOTH, 4);
        program.host.write(program.space, Va::new(small), 1);
        let runs = program.runs();
        assert!(runs.len() >= 2, "{runs:?}");
        // One frame is missing of each run but the last, wherever it is.
        let (last, others) = runs.split_last().expect("not empty");
        for (number, first) in others.iter().enumerate() {
            program.take_frame(first + [0, length - 1, length / 2][number % 3]);
        }
        let before = program.digest();
        let available = program.host.manager.memory_figures().available;
        assert!(available > 2 * length, "there are frames, but no two runs");
        let two = program.allocate(0, 0, 2 * large::<M>(), BOTH | LARGE, 4);
        assert_eq!(two, (NO_RESOURCES, None));
        assert_eq!(program.digest(), before);
        program.host.settle();
        assert_eq!(program.host.manager.memory_figures().available, available);
        assert_eq!(program.query(large::<M>()).state, 0x1_0000, "nothing is allocated");
        program.host.audit_at_rest();
        assert_eq!(program.runs(), [*last]);
        let base = program.large_pages(1);
        let word = program.directory_word(base).expect("a directory");
        assert_eq!(M::valid_pfn(word).get(), *last);
        program.host.audit_at_rest();
    }

    fn standby_pages_make_room<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = host.allocate(program.space, 200);
        for page in 0..200 {
            host.write(program.space, Va::new(base.get() + page * PAGE_SIZE), page + 7);
        }
        host.run(EmptyWorkingSet::new(program.space)).expect("emptied");
        host.write_modified();
        host.settle();
        assert!(!host.list(PageLocation::Standby).is_empty());
        while program.allocate(0, 0, large::<M>(), BOTH | LARGE, 4).0 == SUCCESS {}
        host.settle();
        host.audit_at_rest();
        for page in 0..200 {
            assert_eq!(
                host.read(program.space, Va::new(base.get() + page * PAGE_SIZE)),
                page + 7
            );
        }
        host.delete(program.space);
        host.audit_at_rest();
        assert_eq!(program.kept(), 0);
    }

    fn memory_that_is_short_leaves_them_alone<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.large_pages(1);
        for page in 0..M::ENTRIES as u64 {
            program.set(base + page * PAGE_SIZE + 16, &page.to_le_bytes());
        }
        host.run(EmptyWorkingSet::new(program.space)).expect("emptied");
        let hoard = host.hoard(0);
        for engine in [Engine::Balance, Engine::ModifiedWriter, Engine::Zeroing] {
            host.engine(engine);
        }
        host.audit();
        for page in 0..M::ENTRIES as u64 {
            let bytes = program.bytes(base + page * PAGE_SIZE + 16, 8);
            assert_eq!(bytes, page.to_le_bytes());
        }
        host.give_back(&hoard);
        host.settle();
        host.audit_at_rest();
    }

    fn frames_wait_for_the_flush<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.large_pages(1);
        host.machine().hold_flushes.set(true);
        let free = || Free::new(program.space, Va::new(base), Bytes::new(0), FreeType::Release);
        let mut call = free();
        assert!(matches!(host.step(&mut call), Step::Wait(_)));
        assert_eq!(program.kept(), M::ENTRIES, "a processor may still reach them");
        assert_eq!(program.load(base), 0xC000_0005);
        host.audit();
        // Given up now, it is done anew: flush and all.
        host.abandon(call);
        host.audit();
        let mut again = free();
        assert!(matches!(host.step(&mut again), Step::Wait(_)));
        assert_eq!(program.kept(), M::ENTRIES);
        host.machine().acknowledge();
        while !matches!(host.step(&mut again), Step::Done(_)) {
            host.machine().acknowledge();
        }
        assert_eq!(program.kept(), 0);
        host.machine().hold_flushes.set(false);
        host.settle();
        assert_eq!(program.query(base).state, 0x1_0000);
        host.audit_at_rest();
    }

    fn space_that_is_deleted_gives_them_back<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let before = host.manager.memory_figures();
        let other = host.space();
        let call = anywhere::<M>(other, 2);
        host.run(call).expect("allocated");
        assert_eq!(program.kept(), 2 * M::ENTRIES);
        host.machine().hold_flushes.set(true);
        let mut deletion = crate::DeleteAddressSpace::new(other);
        assert!(matches!(host.step(&mut deletion), Step::Wait(_)));
        assert_eq!(program.kept(), 2 * M::ENTRIES, "until the flush");
        host.audit();
        host.abandon(deletion);
        host.audit();
        host.machine().hold_flushes.set(false);
        host.delete(other);
        assert_eq!(program.kept(), 0);
        let after = host.manager.memory_figures();
        assert_eq!((after.available, after.committed), (before.available, before.committed));
        host.audit_at_rest();
    }

    fn whatever_fails_all_is_undone<M>() {
        let program = locker::<M>();
        let host = &program.host;
        for fails in 0.. {
            let before = program.digest();
            host.machine().fail_after.set(Some(fails));
            let outcome = host.run(anywhere::<M>(program.space, 2));
            let failed = host.machine().fail_after.take().is_none();
            host.settle();
            host.audit_at_rest();
            match outcome {
                Ok(region) => {
                    assert_eq!(program.free(region.base.get(), 0, RELEASE).0, SUCCESS);
                    host.settle();
                }
                Err(status) => {
                    let expected =
                        [NtStatus::COMMITMENT_LIMIT, NtStatus::INSUFFICIENT_RESOURCES];
                    assert!(failed && expected.contains(&status), "{status}");
                }
            }
            assert_eq!(program.digest(), before);
            if !failed {
                assert!(fails > 5, "{fails}");
                break;
            }
        }
    }

    fn calls_return_with_each_large_page<M>() {
        let program = locker::<M>();
        let (host, before) = (&program.host, program.digest());
        let waits_for_nothing = |step| match step {
            Step::Wait(wait) => !host.manager.still_pending(wait.key, wait.epoch),
            _ => false,
        };
        let mut call = anywhere::<M>(program.space, 2);
        assert!(waits_for_nothing(host.step(&mut call)));
        assert_eq!(program.kept(), M::ENTRIES);
        host.audit();
        host.abandon(call);
        assert_eq!(program.digest(), before);
        host.audit_at_rest();
        let mut call = anywhere::<M>(program.space, 2);
        assert!(waits_for_nothing(host.step(&mut call)));
        let Step::Done(region) = host.step(&mut call) else { panic!("both pages are there") };
        assert!(program.is_mapped(region.base.get()));
        let mut free = Free::new(program.space, region.base, Bytes::new(0), FreeType::Release);
        assert!(waits_for_nothing(host.step(&mut free)));
        assert!(program.kept() > 0 && program.kept() <= M::ENTRIES);
        host.audit();
        assert!(matches!(host.step(&mut free), Step::Done(_)));
        assert_eq!(program.digest(), before);
        host.audit_at_rest();
    }

    fn a_release_done_anew_leaves_alone_what_others_have_taken<M>() {
        let program = locker::<M>();
        let host = &program.host;
        // What it needs besides frames of a run is there.
        let other = host.space();
        host.allocate(other, 1);
        let base = program.large_pages(2);
        let first = M::valid_pfn(program.directory_word(base).expect("a directory"));
        let mut free = Free::new(program.space, Va::new(base), Bytes::new(0), FreeType::Release);
        assert!(matches!(host.step(&mut free), Step::Wait(_)));
        host.abandon(free);
        // The entry still names the run, and its frames the entry.
        assert_eq!(host.view(first).usage, FrameUse::None);
        let region = host.run(anywhere::<M>(other, 1)).expect("allocated");
        let entry = host.entry_at(other, region.base, Level::Directory).expect("a directory");
        assert_eq!(M::valid_pfn(host.manager.raw_entry(entry)), first);
        host.audit();
        assert_eq!(program.free(base, 0, RELEASE).0, SUCCESS);
        assert_eq!(program.kept(), M::ENTRIES);
        host.audit_at_rest();
        host.delete(other);
        assert_eq!(program.kept(), 0);
        host.audit_at_rest();
    }

    fn allocation_that_is_given_up_keeps_no_frames<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let before = program.digest();
        for (steps, fails) in [1, 2].into_iter().flat_map(|steps| (0..40).map(move |fails| (steps, fails))) {
            // Waits, if it has anything to wait for, are never satisfied.
            host.machine().hold_flushes.set(true);
            host.machine().fail_after.set(Some(fails));
            let mut call = anywhere::<M>(program.space, 2);
            let mut step = host.step(&mut call);
            if steps > 1 && matches!(step, Step::Wait(_)) {
                step = host.step(&mut call);
            }
            host.machine().fail_after.set(None);
            match step {
                Step::Wait(_) => host.abandon(call),
                Step::Raise(_) => {}
                Step::Done(region) => {
                    let base = region.base;
                    host.machine().hold_flushes.set(false);
                    host.free(program.space, base, 0, FreeType::Release).expect("freed");
                }
            }
            assert_eq!(program.kept(), 0);
            host.audit();
            host.machine().hold_flushes.set(false);
            host.settle();
            host.audit_at_rest();
            assert_eq!(program.digest(), before);
        }
    }

    fn a_table_that_cannot_be_read_undoes_all<M>() {
        if M::SELF_MAP_LEVEL <= Level::Directory {
            return; // Directories never leave memory.
        }
        let program = locker::<M>();
        let (host, space) = (&program.host, program.space);
        // The large pages are on both sides of an address where a directory begins that is in the
        // paging file, with all that is below it.
        let border = M::span(Level::Directory).get() * M::ENTRIES as u64;
        let base = Va::new(border - large::<M>());
        let small = host.reserve_at(space, Va::new(border + 4 * large::<M>()), 16).base;
        host.commit(space, small, 1, Protection::READWRITE).expect("committed");
        host.write(space, small, 7);
        host.page_out(space, small);
        for level in [Level::Table, Level::Directory] {
            host.page_out(space, table_of::<M>(small, level));
        }
        host.settle();
        let before = program.digest();
        let size = Bytes::new(2 * large::<M>());
        let mut call = AllocateLargePages::at(space, base, size, Protection::READWRITE);
        while host.pending().is_empty() {
            assert!(matches!(host.step(&mut call), Step::Wait(_)));
        }
        assert_eq!(program.kept(), M::ENTRIES, "the first page is there");
        // Its tables cannot go while there is no record to flush them with.
        let mut records = Vec::new();
        records.extend(core::iter::from_fn(|| host.manager.try_begin_flush(space)));
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert!(matches!(host.step(&mut call), Step::Wait(_)));
        drop(records);
        assert_eq!(host.step(&mut call), Step::Raise(NtStatus::IN_PAGE_ERROR));
        host.settle();
        assert_eq!(program.digest(), before);
        assert_eq!(program.query(base.get()).state, 0x1_0000, "nothing is allocated");
        host.audit_at_rest();
        assert_eq!(host.read(space, small), 7);
        let call = AllocateLargePages::at(space, base, size, Protection::READWRITE);
        host.run(call).expect("it can be read now");
        host.audit_at_rest();
    }

    fn frames_are_in_use_for_who_takes_memory_away<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.large_pages(1);
        let first = M::valid_pfn(program.directory_word(base).expect("a directory")).get();
        let part = range(first + 5, 3);
        let outcome = host.run(RemoveMemory::new(part)).expect("it ends");
        assert_eq!(outcome, Err(RemoveMemoryError::InUse { pfn: Pfn::new(first + 5) }));
        host.audit_at_rest();
        // Memory that is to go is no memory for large pages.
        assert_eq!(program.free(base, 0, RELEASE).0, SUCCESS);
        host.settle();
        assert_eq!(host.run(RemoveMemory::new(part)).expect("it ends"), Ok(()));
        host.machine().set_lent(part, false);
        let base = program.large_pages(1);
        let other = M::valid_pfn(program.directory_word(base).expect("a directory")).get();
        assert_ne!(first, other);
    }

    fn all_runs_are_found_once<M>() {
        let program = locker::<M>();
        let runs = program.runs();
        let plenty = program.host.manager.available.thresholds().plenty;
        let available = program.host.manager.memory_figures().available;
        let fit = ((available - plenty) as usize / M::ENTRIES).min(runs.len());
        let base = program.large_pages(fit as u64 - 1);
        let mapped: BTreeSet<_> = (0..fit as u64 - 1)
            .filter_map(|page| program.directory_word(base + page * large::<M>()))
            .map(|word| M::valid_pfn(word).get())
            .collect();
        assert_eq!(mapped.len(), fit - 1);
        assert!(mapped.iter().all(|first| runs.contains(first)));
        program.host.audit_at_rest();
        let too_many = Pages::new(M::ENTRIES as u64 * runs.len() as u64).to_bytes().get();
        assert_eq!(program.allocate(0, 0, too_many, BOTH | LARGE, 4), (NO_RESOURCES, None));
    }
}
