//! The calls on physical pages of a process (API 18).

use ntmm_pte::{Bytes, Level, PagingMode, Pfn, Va};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::{Program, SUCCESS};
use crate::NtStatus;
use crate::frames::entry::LOCK;
use crate::frames::{FrameUse, PageLocation};
use crate::nt::{
    AllocatePagesParameters, AllocateUserPhysicalPages, Captured, FreePagesParameters,
    FreeUserPhysicalPages, MapAddresses, MapPagesParameters, MapUserPhysicalPages, Privileges,
    Process,
};
use crate::virtual_memory::{
    ChangePlaceholder, Free, FreeType, PageQuestions, PlaceholderChange, QueryPages, Residency,
    ResidentPage,
};

const WINDOW: u32 = 0x40_2000;
const RELEASE: u32 = 0x8000;
const BAD: NtStatus = NtStatus::ACCESS_VIOLATION;

const CONFLICT: u32 = 0xC000_0018;
const NOT_A_WINDOW: u32 = 0xC000_00EF;
const BAD_COUNT: u32 = 0xC000_00F0;
const VIOLATION: u32 = 0xC000_0005;

fn locker<M: PagingMode>() -> Program<M> {
    let mut program = Program::<M>::legacy();
    program.caller.privileges = Privileges::LOCK_MEMORY;
    program
}

impl<M: PagingMode> Program<M> {
    fn pages_of(&self, process: Process, count: Captured, array: Captured<()>) -> (u32, Vec<u64>) {
        let mut room = vec![Pfn::new(0); count.unwrap_or(0).min(4096) as usize];
        let parameters = AllocatePagesParameters { process, count, array };
        let call = AllocateUserPhysicalPages::new(self.caller, parameters, &mut room);
        let outcome = self.host.run(call).expect("such calls never raise");
        let granted = outcome.output.unwrap_or(0) as usize;
        let numbers = room.iter().take(granted).map(|pfn| pfn.get().into()).collect();
        (outcome.status.code(), numbers)
    }

    fn physical_pages(&self, count: u64) -> Vec<u64> {
        let (status, pages) = self.pages_of(self.process(), Ok(count), Ok(()));
        assert_eq!((status, pages.len() as u64), (SUCCESS, count));
        pages
    }

    fn free_pages(&self, frames: &[u64]) -> (u32, Option<u64>) {
        let (count, array) = (Ok(frames.len() as u64), Ok(frames));
        let parameters = FreePagesParameters { process: self.process(), count, array };
        let call = FreeUserPhysicalPages::new(self.caller, parameters);
        let outcome = self.host.run(call).expect("such calls never raise");
        (outcome.status.code(), outcome.output)
    }

    fn map_with(&self, parameters: MapPagesParameters<'_>) -> u32 {
        let call = MapUserPhysicalPages::new(self.caller, self.space, parameters);
        self.host.run(call).expect("such calls never raise").code()
    }

    fn map(&self, base: u64, frames: &[u64]) -> u32 {
        let (addresses, count) = (MapAddresses::From(base), frames.len() as u64);
        self.map_with(MapPagesParameters { addresses, count, frames: Ok(Some(frames)) })
    }

    fn unmap(&self, base: u64, count: u64) -> u32 {
        let addresses = MapAddresses::From(base);
        self.map_with(MapPagesParameters { addresses, count, frames: Ok(None) })
    }

    fn scatter(&self, addresses: &[u64], frames: Option<&[u64]>) -> u32 {
        let count = addresses.len() as u64;
        let addresses = MapAddresses::Scattered(Ok(addresses));
        self.map_with(MapPagesParameters { addresses, count, frames: Ok(frames) })
    }

    /// Which of the frames is mapped at the address.
    fn mapped(&self, address: u64) -> Option<u64> {
        let va = Va::new(address);
        let entry = self.host.entry_at(self.space, va, Level::Table)?;
        let word = self.host.manager.raw_entry(entry);
        M::is_valid(word).then(|| M::valid_pfn(word).get().into())
    }

    fn flushes(&self) -> usize {
        self.host.machine().flushes.borrow().len()
    }
}

/// One question about one page.
struct Question(Va, Option<ResidentPage>);

impl PageQuestions for Question {
    fn address(&self, number: usize) -> Option<Va> {
        (number == 0).then_some(self.0)
    }

    fn answer(&mut self, _number: usize, page: Option<ResidentPage>) {
        self.1 = page;
    }
}

in_every_mode! {
    fn pages_are_zeroed_ascend_and_are_the_process_s_own<M>() {
        let program = locker::<M>();
        let before = program.host.manager.memory_figures();
        let pages = program.physical_pages(10);
        let distinct: BTreeSet<_> = pages.iter().collect();
        assert!(pages.is_sorted() && distinct.len() == 10, "{pages:?}");
        for &page in &pages {
            let view = program.host.view(Pfn::new(page as u32));
            assert_eq!((view.location, view.usage), (PageLocation::Active, FrameUse::UserPhysical));
            assert!(program.host.machine().contents(view.pfn).iter().all(|&word| word == 0));
        }
        let after = program.host.manager.memory_figures();
        assert_eq!(after.available + 10, before.available);
        assert_eq!(after.committed.get(), before.committed.get() + 10);
        program.host.audit_at_rest();
        assert_eq!(program.free_pages(&pages), (SUCCESS, Some(10)));
        assert_eq!(program.host.manager.memory_figures().committed, before.committed);
        assert_eq!(program.host.manager.memory_figures().available, before.available);
        program.host.audit_at_rest();
    }

    fn allocating_needs_the_privilege<M>() {
        let mut program = locker::<M>();
        program.caller.privileges = Privileges::empty();
        assert_eq!(program.pages_of(program.process(), Ok(1), Ok(())), (0xC000_0061, vec![]));
        program.caller.mode = crate::ProcessorMode::Kernel;
        assert_eq!(program.physical_pages(1).len(), 1);
    }

    fn fewer_pages_are_granted_when_memory_is_short<M>() {
        let program = locker::<M>();
        let plenty = program.host.manager.available.thresholds().plenty;
        let (status, pages) = program.pages_of(program.process(), Ok(1000), Ok(()));
        assert_eq!(status, SUCCESS);
        assert!(!pages.is_empty() && pages.len() < 128 && pages.is_sorted());
        assert_eq!(program.host.manager.memory_figures().available, plenty);
        assert_eq!(program.pages_of(program.process(), Ok(1), Ok(())).0, 0xC000_009A);
        assert_eq!(program.pages_of(program.process(), Ok(0), Ok(())), (SUCCESS, vec![]));
        program.host.audit_at_rest();
        // What the pages leave is enough for a program to run.
        let base = program.memory(0x4_0000, 0x3000, 4);
        for page in 0..0x40 {
            program.host.write(program.space, Va::new(base + page * 0x1000), page);
        }
        program.host.settle();
        program.host.audit_at_rest();
        program.host.delete(program.space);
        program.host.audit_at_rest();
    }

    fn mapped_pages_are_memory<M>() {
        let program = locker::<M>();
        let (host, space) = (&program.host, program.space);
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(4);
        let size = host.size(space);
        assert_eq!(program.map(base, &pages), SUCCESS);
        for page in 0..4 {
            host.write(space, Va::new(base + page * 0x1000), 100 + page);
        }
        host.audit_at_rest();
        let tables = M::LEVELS as u32;
        assert!(host.size(space) < size + tables + 1, "only tables joined the working set");
        // The same pages elsewhere, the other way round.
        let other = program.memory(0x4000, WINDOW, 4);
        assert_eq!(program.map(other, &pages), CONFLICT, "they are mapped");
        assert_eq!(program.unmap(base, 4), SUCCESS);
        assert_eq!(program.load(base), VIOLATION);
        let turned: Vec<u64> = pages.iter().rev().copied().collect();
        assert_eq!(program.map(other, &turned), SUCCESS);
        for page in 0..4 {
            assert_eq!(host.read(space, Va::new(other + page * 0x1000)), 103 - page);
        }
        host.audit_at_rest();
        assert_eq!(program.free(other, 0, RELEASE).0, SUCCESS);
        host.audit_at_rest();
        assert_eq!(program.map(base, &pages), SUCCESS, "they outlive the window");
        assert_eq!(host.read(space, Va::new(base)), 100);
        assert_eq!(program.free_pages(&pages), (SUCCESS, Some(4)));
        assert_eq!(program.load(base), VIOLATION);
        assert_eq!(program.map(base, &pages), CONFLICT);
        host.audit_at_rest();
        host.delete(space);
        host.audit_at_rest();
    }

    fn pages_can_change_places_in_one_call<M>() {
        let program = locker::<M>();
        let base = program.memory(0x1_0000, WINDOW, 4);
        let pages = program.physical_pages(3);
        let [a, b, c] = pages[..] else { panic!() };
        assert_eq!(program.map(base, &[a, b]), SUCCESS);
        assert_eq!(program.map(base, &[b, a]), SUCCESS);
        assert_eq!([0, 1].map(|page| program.mapped(base + page * 0x1000)), [Some(b), Some(a)]);
        assert_eq!(program.map(base + 0x1000, &[b, c]), CONFLICT, "it is mapped outside the run");
        assert_eq!(program.map(base, &[c, b, a]), SUCCESS);
        let at = |page: u64| program.mapped(base + page * 0x1000);
        assert_eq!([0, 1, 2].map(at), [Some(c), Some(b), Some(a)]);
        assert_eq!(program.map(base + 0x1000, &[b, a]), SUCCESS, "they are there already");
        program.host.audit_at_rest();
    }

    fn scattered_addresses_are_mapped_and_unmapped<M>() {
        let program = locker::<M>();
        let windows = [program.memory(0x4000, WINDOW, 4), program.memory(0x4000, WINDOW, 4)];
        let pages = program.physical_pages(3);
        let places = [windows[1] + 0x3000, windows[0] + 0x1123, windows[1]];
        assert_eq!(program.scatter(&places, Some(&pages)), SUCCESS);
        assert_eq!(places.map(|at| program.mapped(at)).to_vec(),
            pages.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(program.scatter(&places[..2], Some(&[pages[1], pages[0]])), CONFLICT);
        assert_eq!(program.scatter(&places[..1], Some(&pages[..1])), SUCCESS, "it is there already");
        program.host.audit_at_rest();
        assert_eq!(program.scatter(&[places[2], places[0], windows[0]], None), SUCCESS);
        assert_eq!(places.map(|at| program.mapped(at)), [None, Some(pages[1]), None]);
        program.host.audit_at_rest();
        // The last of several pages for one address stays.
        let twice = [windows[0], windows[0]];
        assert_eq!(program.scatter(&twice, Some(&[pages[0], pages[2]])), SUCCESS);
        assert_eq!(program.mapped(windows[0]), Some(pages[2]));
        program.host.audit_at_rest();
    }

    fn a_call_flushes_once<M>() {
        let program = locker::<M>();
        let base = program.memory(0x20_0000, WINDOW, 4);
        let (old, new) = (program.physical_pages(30), program.physical_pages(30));
        let before = program.flushes();
        assert_eq!(program.map(base, &old), SUCCESS);
        assert_eq!(program.flushes(), before, "nothing was mapped there");
        assert_eq!(program.map(base, &new), SUCCESS);
        assert_eq!(program.flushes(), before + 1);
        assert_eq!(program.map(base, &new), SUCCESS);
        assert_eq!(program.flushes(), before + 1, "nothing has changed");
        assert_eq!(program.unmap(base + 0x3000, 2), SUCCESS);
        let flush = program.host.machine().flushes.borrow().last().cloned().expect("a flush");
        assert_eq!(flush.pages, Some(vec![Va::new(base + 0x3000), Va::new(base + 0x4000)]));
        assert_eq!(program.unmap(base, 0x200), SUCCESS);
        assert_eq!(program.flushes(), before + 3);
    }

    fn lists_longer_than_a_stretch_are_one_call<M>() {
        let mut program = locker::<M>();
        program.host = crate::tests::host::Host::new(1024);
        program.space = program.host.space();
        let base = program.memory(0x40_0000, WINDOW, 4);
        let pages = program.physical_pages(300);
        let mut wrong = pages.clone();
        wrong[299] = pages[7];
        assert_eq!(program.map(base, &wrong), CONFLICT, "a page is named twice");
        assert_eq!(program.mapped(base), None);
        program.host.audit_at_rest();
        assert_eq!(program.map(base + 0x4000, &pages), SUCCESS);
        assert_eq!(program.free_pages(&wrong), (CONFLICT, None));
        program.host.audit_at_rest();
        let before = program.flushes();
        let moved: Vec<u64> = pages.iter().rev().copied().collect();
        assert_eq!(program.map(base + 0x4000, &moved), SUCCESS);
        assert_eq!(program.flushes(), before + 1);
        program.host.audit_at_rest();
        assert_eq!(program.free_pages(&pages), (SUCCESS, Some(300)));
        program.host.audit_at_rest();
        assert_eq!(program.mapped(base + 0x4000), None);
    }

    fn mistakes_change_nothing<M>() {
        let program = locker::<M>();
        let base = program.memory(0x4000, WINDOW, 4);
        let plain = program.memory(0x4000, 0x3000, 4);
        let next = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(4);
        assert_eq!(program.map(base, &pages[..2]), SUCCESS);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        for (at, frames) in [
            (plain, &pages[2..]),
            (base + 0x3000, &pages[2..]),
            (0, &pages[2..]),
            (0x1_0000_0000_0000 - 1, &pages[2..]),
            (highest, &pages[2..]),
            (highest + 1, &pages[2..]),
            (u64::MAX, &pages[2..]),
        ] {
            assert_eq!(program.map(at, frames), NOT_A_WINDOW, "{at:#x}");
            let beyond: Vec<u64> = (0..2).map(|page| at.wrapping_add(page * 0x1000)).collect();
            if at != base + 0x3000 {
                assert_eq!(program.scatter(&beyond, Some(frames)), NOT_A_WINDOW, "{at:#x}");
                assert_eq!(program.scatter(&beyond, None), NOT_A_WINDOW, "{at:#x}");
            }
            assert_eq!(program.unmap(at, 2), NOT_A_WINDOW, "{at:#x}");
        }
        let own = program.host.frame_of(program.space, {
            program.host.write(program.space, Va::new(plain), 1);
            Va::new(plain)
        });
        for wrong in [0, 1, u64::from(own.get()), 129, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            assert_eq!(program.map(next, &[pages[2], wrong]), CONFLICT, "{wrong:#x}");
            assert_eq!(program.free_pages(&[pages[2], wrong]), (CONFLICT, None), "{wrong:#x}");
        }
        assert_eq!(program.map(next, &[pages[2], pages[2]]), CONFLICT);
        assert_eq!(program.map(next, &[pages[2], pages[0]]), CONFLICT);
        assert_eq!(program.free_pages(&[pages[2], pages[2]]), (CONFLICT, None));
        let at = |page: u64| program.mapped(base + page * 0x1000);
        assert_eq!([0, 1, 2, 3].map(at), [Some(pages[0]), Some(pages[1]), None, None]);
        assert_eq!(program.mapped(next), None);
        program.host.audit_at_rest();
        assert_eq!(program.map(next, &pages[2..]), SUCCESS, "no claim was left");
        assert_eq!(program.map(base, &[]), SUCCESS);
        assert_eq!(program.unmap(base, 0), SUCCESS);
        assert_eq!(program.free_pages(&[]), (SUCCESS, Some(0)));
    }

    fn counts_arrays_and_handles_are_checked<M>() {
        let program = locker::<M>();
        let process = program.process();
        let base = program.memory(0x4000, WINDOW, 4);
        let none = Err(NtStatus::INVALID_HANDLE);
        let count_of = |process, count, array| program.pages_of(process, count, array).0;
        assert_eq!(count_of(none, Err(BAD), Err(BAD)), VIOLATION);
        assert_eq!(count_of(none, Ok(u64::MAX), Err(BAD)), BAD_COUNT);
        assert_eq!(count_of(none, Ok(1), Err(BAD)), VIOLATION);
        assert_eq!(count_of(none, Ok(1), Ok(())), 0xC000_0008);
        assert_eq!(count_of(process, Ok(1), Ok(())), SUCCESS);
        let free = |process, count, array| {
            let parameters = FreePagesParameters { process, count, array };
            let call = FreeUserPhysicalPages::new(program.caller, parameters);
            program.host.run(call).expect("done").status.code()
        };
        assert_eq!(free(none, Err(BAD), Err(BAD)), VIOLATION);
        assert_eq!(free(none, Ok(u64::MAX), Err(BAD)), BAD_COUNT);
        assert_eq!(free(none, Ok(1), Err(BAD)), VIOLATION);
        assert_eq!(free(none, Ok(2), Ok(&[1])), VIOLATION, "the host could read only one");
        assert_eq!(free(none, Ok(1), Ok(&[1])), 0xC000_0008);
        let map = |addresses, count, frames| {
            program.map_with(MapPagesParameters { addresses, count, frames })
        };
        for addresses in [MapAddresses::From(base), MapAddresses::Scattered(Ok(&[]))] {
            assert_eq!(map(addresses, u64::MAX, Err(BAD)), BAD_COUNT);
            assert_eq!(map(addresses, 1, Err(BAD)), VIOLATION);
            assert_eq!(map(addresses, 1, Ok(Some(&[]))), VIOLATION);
        }
        assert_eq!(map(MapAddresses::Scattered(Err(BAD)), 1, Ok(None)), VIOLATION);
        assert_eq!(map(MapAddresses::Scattered(Ok(&[])), 1, Ok(None)), VIOLATION);
        assert_eq!(map(MapAddresses::From(base), 5, Ok(None)), NOT_A_WINDOW);
        program.host.audit_at_rest();
    }

    fn pages_of_others_are_out_of_reach<M>() {
        let program = locker::<M>();
        let pages = program.physical_pages(2);
        let mut other = locker::<M>();
        other.host = program.host;
        other.space = other.host.space();
        let base = other.memory(0x4000, WINDOW, 4);
        assert_eq!(other.map(base, &pages), CONFLICT);
        assert_eq!(other.free_pages(&pages), (CONFLICT, None));
        let own = other.physical_pages(2);
        assert!(own.iter().all(|page| !pages.contains(page)));
        other.host.audit_at_rest();
        other.host.delete(program.space);
        other.host.audit_at_rest();
        assert_eq!(other.map(base, &own), SUCCESS);
        other.host.delete(other.space);
        other.host.audit_at_rest();
        let (status, _) = other.pages_of(other.process(), Ok(1), Ok(()));
        assert_eq!(status, 0xC000_0008, "the process is gone");
    }

    fn frames_wait_for_the_flush<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(2);
        assert_eq!(program.map(base, &pages), SUCCESS);
        host.machine().hold_flushes.set(true);
        let unmap = MapPagesParameters {
            addresses: MapAddresses::From(base),
            count: 1,
            frames: Ok(None),
        };
        let mut call = MapUserPhysicalPages::new(program.caller, program.space, unmap);
        assert!(matches!(host.step(&mut call), crate::Step::Wait(_)));
        host.abandon(call);
        // The page is no longer mapped, and still cached by a processor.
        let parameters =
            FreePagesParameters { process: program.process(), count: Ok(2), array: Ok(&pages) };
        let mut call = FreeUserPhysicalPages::new(program.caller, parameters);
        assert!(matches!(host.step(&mut call), crate::Step::Wait(_)));
        for &page in &pages {
            assert_eq!(host.location(Pfn::new(page as u32)), PageLocation::Transition);
        }
        host.audit();
        host.machine().acknowledge();
        host.engine(crate::Engine::Retire);
        let outcome = host.run(call).expect("done");
        assert_eq!((outcome.status.code(), outcome.output), (SUCCESS, Some(2)));
        for &page in &pages {
            assert_eq!(host.location(Pfn::new(page as u32)), PageLocation::Free);
        }
        host.audit_at_rest();
    }

    fn a_mapping_after_an_unmapping_that_was_given_up_flushes<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(2);
        assert_eq!(program.map(base, &pages[..1]), SUCCESS);
        host.machine().hold_flushes.set(true);
        let call = |frames| {
            let (addresses, frames) = (MapAddresses::From(base), Ok(frames));
            let parameters = MapPagesParameters { addresses, count: 1, frames };
            MapUserPhysicalPages::new(program.caller, program.space, parameters)
        };
        let mut unmap = call(None);
        assert!(matches!(host.step(&mut unmap), crate::Step::Wait(_)));
        host.abandon(unmap);
        // A processor still writes to the first page there.
        for _ in 0..2 {
            let mut map = call(Some(&pages[1..]));
            assert!(matches!(host.step(&mut map), crate::Step::Wait(_)));
            host.abandon(map);
        }
        let mut map = call(Some(&pages[1..]));
        assert!(matches!(host.step(&mut map), crate::Step::Wait(_)));
        let flush = host.machine().flushes.borrow().last().cloned().expect("a flush");
        assert_eq!(flush.pages, None, "nobody remembers which pages");
        host.machine().acknowledge();
        assert_eq!(host.run(map).map(NtStatus::code), Ok(SUCCESS));
        assert_eq!(program.mapped(base), Some(pages[1]));
        let before = program.flushes();
        assert_eq!(program.map(base + 0x1000, &pages[..1]), SUCCESS);
        assert_eq!(program.flushes(), before, "it has been seen to");
        host.audit_at_rest();
    }

    fn a_window_released_after_an_unmapping_that_was_given_up_is_flushed<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(1);
        assert_eq!(program.map(base, &pages), SUCCESS);
        host.machine().hold_flushes.set(true);
        let (addresses, frames) = (MapAddresses::From(base), Ok(None));
        let parameters = MapPagesParameters { addresses, count: 1, frames };
        let mut unmap = MapUserPhysicalPages::new(program.caller, program.space, parameters);
        assert!(matches!(host.step(&mut unmap), crate::Step::Wait(_)));
        host.abandon(unmap);
        // A processor still writes to the page there, whatever the addresses are used for next.
        let mut free = Free::new(program.space, Va::new(base), Bytes::new(0), FreeType::Release);
        assert!(matches!(host.step(&mut free), crate::Step::Wait(_)));
        let flush = host.machine().flushes.borrow().last().cloned().expect("a flush");
        assert_eq!(flush.pages, None, "nobody remembers which pages");
        host.machine().hold_flushes.set(false);
        host.machine().acknowledge();
        host.run(free).expect("released");
        host.engine(crate::Engine::Retire);
        host.audit_at_rest();
    }

    fn a_window_that_becomes_a_placeholder_again_is_flushed_like_one_that_is_released<M>() {
        let mut program = Program::<M>::modern();
        program.caller.privileges = Privileges::LOCK_MEMORY;
        let host = &program.host;
        let (placeholder, window, length) = (0x4_2000, WINDOW | 0x4000, 0x1_0000);
        let (_, range) = program.allocate_ex(0, length, placeholder, 1, &[]);
        let base = range.expect("a placeholder").0;
        let replaced = program.allocate_ex(base, length, window, 4, &[]);
        assert_eq!(replaced, (SUCCESS, Some((base, length))));
        let pages = program.physical_pages(1);
        assert_eq!(program.map(base, &pages), SUCCESS);
        host.machine().hold_flushes.set(true);
        let (addresses, frames) = (MapAddresses::From(base), Ok(None));
        let parameters = MapPagesParameters { addresses, count: 1, frames };
        let mut unmap = MapUserPhysicalPages::new(program.caller, program.space, parameters);
        assert!(matches!(host.step(&mut unmap), crate::Step::Wait(_)));
        host.abandon(unmap);
        host.machine().flushes.borrow_mut().clear();
        let (size, preserve) = (Bytes::new(length), PlaceholderChange::Preserve);
        let mut call = ChangePlaceholder::new(program.space, Va::new(base), size, preserve);
        assert!(matches!(host.step(&mut call), crate::Step::Wait(_)));
        let first = host.machine().flushes.borrow().first().cloned().expect("a flush");
        assert_eq!(first.pages, None, "nobody remembers which pages");
        assert!(matches!(host.step(&mut call), crate::Step::Wait(_)), "not acknowledged");
        host.machine().hold_flushes.set(false);
        host.machine().acknowledge();
        host.run(call).expect("a placeholder again");
        host.engine(crate::Engine::Retire);
        host.audit_at_rest();
        let other = program.memory(0x4000, WINDOW, 4);
        let before = program.flushes();
        assert_eq!(program.map(other, &pages), SUCCESS);
        assert_eq!(program.flushes(), before, "it has been seen to");
    }

    fn the_release_of_a_window_flushes_what_it_has_mapped<M>() {
        for stale in [false, true] {
            let program = locker::<M>();
            let host = &program.host;
            let base = program.memory(0x4000, WINDOW, 4);
            let other = program.memory(0x4000, WINDOW, 4);
            let pages = program.physical_pages(4);
            assert_eq!(program.map(base, &pages), SUCCESS);
            if stale {
                host.machine().hold_flushes.set(true);
                let (addresses, frames) = (MapAddresses::From(base), Ok(None));
                let parameters = MapPagesParameters { addresses, count: 1, frames };
                let mut unmap =
                    MapUserPhysicalPages::new(program.caller, program.space, parameters);
                assert!(matches!(host.step(&mut unmap), crate::Step::Wait(_)));
                host.abandon(unmap);
                host.machine().hold_flushes.set(false);
            }
            host.machine().flushes.borrow_mut().clear();
            assert_eq!(program.free(base, 0, RELEASE).0, SUCCESS);
            let flushes = host.machine().flushes.take();
            let of_space = flushes.iter().filter(|flush| flush.pages.is_none()).count();
            assert_eq!(of_space, usize::from(stale), "{flushes:?}");
            let named: Vec<_> = flushes.into_iter().filter_map(|flush| flush.pages).flatten().collect();
            for page in u64::from(stale)..4 {
                assert!(named.contains(&Va::new(base + page * 0x1000)), "{named:?}");
            }
            assert_eq!(program.map(other, &pages), SUCCESS);
            assert_eq!(program.flushes(), 0, "all of it has been waited for");
            host.audit_at_rest();
        }
    }

    fn a_refused_call_leaves_the_flush_to_the_next<M>() {
        let program = locker::<M>();
        let host = &program.host;
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(2);
        assert_eq!(program.map(base, &pages[..1]), SUCCESS);
        host.machine().hold_flushes.set(true);
        let call = |frames| {
            let (addresses, frames) = (MapAddresses::From(base), Ok(frames));
            let parameters = MapPagesParameters { addresses, count: 1, frames };
            MapUserPhysicalPages::new(program.caller, program.space, parameters)
        };
        let mut unmap = call(None);
        assert!(matches!(host.step(&mut unmap), crate::Step::Wait(_)));
        host.abandon(unmap);
        // One that fails at once, and one that fails after it has claimed a page.
        assert_eq!(program.unmap(base, 5), NOT_A_WINDOW);
        let wrong = [pages[0], pages[0]];
        let parameters = MapPagesParameters {
            addresses: MapAddresses::From(base),
            count: 2,
            frames: Ok(Some(&wrong)),
        };
        let mut refused = MapUserPhysicalPages::new(program.caller, program.space, parameters);
        let _ = host.step(&mut refused);
        host.abandon(refused);
        let mut map = call(Some(&pages[1..]));
        assert!(matches!(host.step(&mut map), crate::Step::Wait(_)));
        host.machine().acknowledge();
        assert_eq!(host.run(map).map(NtStatus::code), Ok(SUCCESS));
        host.audit_at_rest();
    }

    fn the_largest_window_is_unmapped_in_few_steps<M>() {
        let mut program = locker::<M>();
        program.host = crate::tests::host::Host::new(1024);
        program.space = program.host.space();
        // The tables of a window are charged when it is reserved.
        program.host.paging_file(0x8_0000);
        let host = &program.host;
        let size = ((M::HIGHEST_USER_ADDRESS.get() - 0x10_0000) & !0xFFFF).min(1 << 39);
        let base = program.memory(size, WINDOW, 4);
        let last = base + size - 0x1000;
        let pages = program.physical_pages(2);
        let call = |count| {
            let addresses = MapAddresses::From(base);
            let parameters = MapPagesParameters { addresses, count, frames: Ok(None) };
            MapUserPhysicalPages::new(program.caller, program.space, parameters)
        };
        // Given up after its first step.
        assert_eq!(program.scatter(&[base, last], Some(&pages)), SUCCESS);
        let before = program.flushes();
        let mut unmap = call(size / 0x1000);
        let crate::Step::Wait(wait) = host.step(&mut unmap) else { panic!("all at once") };
        assert!(!host.manager.still_pending(wait.key, wait.epoch), "there is nothing to wait for");
        host.audit();
        host.abandon(unmap);
        assert_eq!((program.mapped(base), program.mapped(last)), (None, Some(pages[1])));
        assert_eq!(program.flushes(), before + 1);
        host.audit_at_rest();
        // And to the end.
        assert_eq!(program.scatter(&[base], Some(&pages[..1])), SUCCESS);
        let mut unmap = call(size / 0x1000);
        let steps = (1..).take(100).find(|_| match host.step(&mut unmap) {
            crate::Step::Wait(wait) => {
                assert!(!host.manager.still_pending(wait.key, wait.epoch));
                false
            }
            crate::Step::Done(status) => {
                assert_eq!(status.code(), SUCCESS);
                true
            }
            crate::Step::Raise(status) => panic!("{status}"),
        });
        assert!(steps.is_some(), "pages without tables are passed over");
        assert_eq!((program.mapped(base), program.mapped(last)), (None, None));
        assert_eq!(program.unmap(base, size / 0x1000 + 1), NOT_A_WINDOW);
        host.audit_at_rest();
    }

    #[should_panic = "one processor waits"]
    fn pages_whose_lists_are_busy_are_waited_for<M>() {
        let program = locker::<M>();
        let manager = &program.host.manager;
        for location in [PageLocation::Zeroed, PageLocation::Free] {
            for pfn in program.host.list(location) {
                LOCK.try_acquire(manager.entry(pfn).state_word()).expect("nobody has it");
            }
        }
        let _ = program.pages_of(program.process(), Ok(1), Ok(()));
    }

    fn windows_only_reserve<M>() {
        let program = locker::<M>();
        let base = program.memory(0x4000, WINDOW, 4);
        let pages = program.physical_pages(1);
        assert_eq!(program.map(base + 0x1000, &pages), SUCCESS);
        let window = program.query(base);
        assert_eq!((window.state, window.size, window.protection), (0x2000, 0x4000, 0));
        let ask = |at| {
            let query = QueryPages::new(program.space, Question(Va::new(at), None));
            program.host.run(query).expect("done").and_then(|question| question.1)
        };
        assert_eq!(ask(base), None);
        assert_eq!(ask(base + 0x1000).map(|page| page.residency), Some(Residency::Locked));
        assert_eq!(program.protected(base, 0x4000, 2).0, CONFLICT);
        assert_eq!(program.lock(base, 0x1000, 1).0, 0xC000_004D);
        assert_eq!(program.free(base, 0, 0x4000).0, 0xC000_00A0);
        assert_eq!(program.allocate(base, 0, 0x1000, 0x8_0000, 4).0, CONFLICT);
        assert_eq!(program.mapped(base + 0x1000), Some(pages[0]));
        program.host.audit_at_rest();
    }
}
