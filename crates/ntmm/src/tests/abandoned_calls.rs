//! Every operation is given up after every number of steps, and every allocation it makes fails
//! once: nothing is left held, charges add up, and other operations go on.

use ntmm_pte::{AccessKind, Level, PagingMode, Pfn, Protection, Va};
use std::cell::RefCell;
use std::vec::Vec;

use super::host::{Host, page_at, table_of};
use super::machine::Machine;
use crate::vad::SecuredAccess;
use crate::virtual_memory::{
    Allocate, AllocatePhysicalPages, AllocationType, Free, FreePhysicalPages, FreeType,
    MapPhysicalPages, MemoryUse, Placement, Protect, Query, SecureMemory,
};
use crate::working_set::limits::EmptyWorkingSet;
use crate::{
    AddressSpaceId, DeleteAddressSpace, Fault, NtStatus, Operation, ProcessorMode, Step, WaitKey,
};

const PAGES: u64 = 16;

/// How the pages of the range are when the operation starts.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// Valid, and flushes take their time.
    Resident,
    /// In the paging file, with their tables.
    PagedOut,
    /// In the paging file, and hardly a frame is available.
    Short,
}

const SCENES: [Scene; 3] = [Scene::Resident, Scene::PagedOut, Scene::Short];

struct Stage<M: PagingMode> {
    host: Host<M>,
    space: AddressSpaceId,
    /// Sixteen committed pages, half of them on either side of a table's end.
    range: Va,
    hoard: RefCell<Vec<Pfn>>,
}

impl<M: PagingMode> Stage<M> {
    fn new(scene: Scene) -> Self {
        let host = Host::<M>::new(160);
        let space = host.space();
        let boundary = 16 * M::span(Level::Directory).get();
        host.reserve_at(space, Va::new(boundary - 0x1_0000), 32);
        let range = Va::new(boundary - PAGES / 2 * 0x1000);
        host.commit(space, range, PAGES, Protection::READWRITE).expect("committed");
        for page in 0..PAGES {
            host.write(space, page_at(range, page), page + 1);
        }
        let mut hoard = Vec::new();
        if !matches!(scene, Scene::Resident) {
            host.page_out_run(space, range, PAGES);
            for table in [range, page_at(range, PAGES - 1)] {
                host.page_out(space, table_of::<M>(table, Level::Table));
            }
        }
        if matches!(scene, Scene::Short) {
            hoard = host.hoard(0);
        }
        host.audit_at_rest();
        host.machine().hold_flushes.set(true);
        Self { host, space, range, hoard: RefCell::new(hoard) }
    }

    /// Does something while there are frames enough and flushes are quick.
    fn at_ease<T>(&self, action: impl FnOnce(&Host<M>) -> T) -> T {
        let held = self.host.machine().hold_flushes.replace(false);
        self.host.machine().acknowledge();
        let mut hoard = self.hoard.borrow_mut();
        let short = !hoard.is_empty();
        if short {
            self.host.give_back(&hoard.split_off(8));
        }
        let outcome = action(&self.host);
        if short {
            hoard.extend(self.host.hoard(0));
        }
        self.host.machine().hold_flushes.set(held);
        outcome
    }

    /// A window on both sides of a table's end, and eight physical pages.
    fn window(&self) -> (Va, Vec<Pfn>) {
        self.at_ease(|host| {
            let boundary = 18 * M::span(Level::Directory).get();
            let (at, kind) = (Va::new(boundary - 0x1_0000), AllocationType::Reserve);
            let place = Placement::At(at);
            let reserve = Allocate::new(self.space, place, bytes(32), kind, Protection::READWRITE);
            host.run(reserve.of(MemoryUse::AddressWindow)).expect("reserved");
            let mut frames = [Pfn::new(0); 8];
            let granted = host.run(AllocatePhysicalPages::new(self.space, &mut frames));
            assert_eq!(granted, Ok(8));
            (page_at(at, 8), frames.to_vec())
        })
    }

    /// What an operation waits for happens, and no more than that.
    fn bring(&mut self, key: WaitKey) {
        match key {
            WaitKey::InPage(_) => assert!(self.host.complete_next()),
            WaitKey::Flush(_) => self.host.machine().acknowledge(),
            _ => {
                let pfn = self.hoard.get_mut().pop();
                self.host.give_back(pfn.as_slice());
                self.host.settle();
            }
        }
    }

    /// Everything still works and nothing was lost.
    fn check(self, gone: bool) {
        let host = &self.host;
        host.machine().hold_flushes.set(false);
        host.machine().acknowledge();
        host.give_back(&self.hoard.take());
        host.settle();
        host.audit_at_rest();
        if !gone {
            let state = host.query(self.space, self.range);
            if state.allocation.is_some() {
                host.free(self.space, self.range, 1, FreeType::Decommit).expect("decommitted");
                let protection = Protection::READWRITE;
                host.commit(self.space, self.range, 1, protection).expect("committed");
                assert_eq!(host.read(self.space, self.range), 0);
            }
            let other = host.allocate(self.space, 3);
            host.write(self.space, other, 5);
            host.audit_at_rest();
        }
        host.delete(self.space);
        assert_eq!(host.slots_in_use(), 0);
        let figures = host.manager.memory_figures();
        assert_eq!(figures.committed.get(), 2, "the bitmap of the paging file");
        host.audit_at_rest();
    }
}

/// Gives the operation up after every number of steps it can take.
fn abandon_after_every_step<M: PagingMode, O: Operation<Machine<M>>>(
    make: impl Fn(&Stage<M>) -> O,
    gone: bool,
) {
    for scene in SCENES {
        for steps in 0.. {
            let mut stage = Stage::<M>::new(scene);
            let mut operation = make(&stage);
            let mut finished = false;
            for _ in 0..steps {
                match stage.host.step(&mut operation) {
                    Step::Wait(wait) => {
                        stage.host.audit();
                        stage.bring(wait.key);
                    }
                    Step::Done(_) => {
                        finished = true;
                        break;
                    }
                    Step::Raise(status) => panic!("{scene:?}: {status}"),
                }
            }
            if !finished {
                stage.host.abandon(operation);
                stage.host.audit();
            }
            stage.check(gone && finished);
            if finished {
                break;
            }
            assert!(steps < 200, "it never ends");
        }
    }
}

/// Makes each allocation of the operation fail once.
fn fail_every_allocation<M: PagingMode, O: Operation<Machine<M>>>(
    make: impl Fn(&Stage<M>) -> O,
    gone: bool,
) {
    for allocation in 0.. {
        let mut stage = Stage::<M>::new(Scene::PagedOut);
        let mut operation = make(&stage);
        stage.host.machine().fail_after.set(Some(allocation));
        let outcome = loop {
            match stage.host.step(&mut operation) {
                Step::Wait(wait) => stage.bring(wait.key),
                Step::Done(_) => break Ok(()),
                Step::Raise(status) => break Err(status),
            }
        };
        let failed = stage.host.machine().fail_after.take().is_none();
        if let Err(status) = outcome {
            let expected = [NtStatus::COMMITMENT_LIMIT, NtStatus::INSUFFICIENT_RESOURCES];
            assert!(failed && expected.contains(&status), "{status}");
        }
        stage.check(gone);
        if !failed {
            break;
        }
    }
}

/// Both at once.
fn torment<M: PagingMode, O: Operation<Machine<M>>>(make: impl Fn(&Stage<M>) -> O, gone: bool) {
    abandon_after_every_step(&make, gone);
    fail_every_allocation(&make, gone);
}

fn bytes(pages: u64) -> ntmm_pte::Bytes {
    ntmm_pte::Pages::new(pages).to_bytes()
}

in_every_mode! {
    fn fault<M>() {
        torment::<M, _>(
            |stage| Fault::new(stage.space, stage.range, AccessKind::Write, ProcessorMode::User),
            false,
        );
    }

    fn reservation<M>() {
        torment::<M, _>(
            |stage| {
                let kind = AllocationType::ReserveAndCommit;
                let protection = Protection::READWRITE;
                Allocate::new(stage.space, Placement::Lowest, bytes(40), kind, protection)
            },
            false,
        );
    }

    fn commit<M>() {
        torment::<M, _>(
            |stage| {
                let at = Placement::At(page_at(stage.range, 4));
                let kind = AllocationType::Commit;
                Allocate::new(stage.space, at, bytes(16), kind, Protection::READONLY)
            },
            false,
        );
    }

    fn decommit<M>() {
        torment::<M, _>(
            |stage| Free::new(stage.space, stage.range, bytes(PAGES), FreeType::Decommit),
            false,
        );
    }

    fn release_of_the_middle<M>() {
        torment::<M, _>(
            |stage| {
                let at = page_at(stage.range, 4);
                Free::new(stage.space, at, bytes(PAGES - 8), FreeType::Release)
            },
            false,
        );
    }

    fn release_of_everything<M>() {
        torment::<M, _>(
            |stage| {
                let base = Va::new(stage.range.get() & !0xFFFF);
                Free::new(stage.space, base, bytes(0), FreeType::Release)
            },
            false,
        );
    }

    fn protect<M>() {
        torment::<M, _>(
            |stage| Protect::new(stage.space, stage.range, bytes(PAGES), Protection::READONLY),
            false,
        );
    }

    fn protect_against_all_access<M>() {
        torment::<M, _>(
            |stage| Protect::new(stage.space, stage.range, bytes(PAGES), Protection::NO_ACCESS),
            false,
        );
    }

    fn query<M>() {
        torment::<M, _>(|stage| Query::new(stage.space, stage.range), false);
    }

    fn emptying<M>() {
        torment::<M, _>(|stage| EmptyWorkingSet::new(stage.space), false);
    }

    fn mapping_physical_pages<M>() {
        torment::<M, _>(
            |stage| {
                let (window, mut frames) = stage.window();
                let start = page_at(window, 4);
                // Four pages are in front of the table's end already.
                let map = MapPhysicalPages::<&[Va], _>::at(stage.space, start, &frames[..4]);
                stage.at_ease(|host| host.run(map)).expect("mapped");
                frames.reverse();
                let frames: &[Pfn] = frames.leak();
                MapPhysicalPages::<&[Va], _>::at(stage.space, start, frames)
            },
            false,
        );
    }

    fn securing<M>() {
        torment::<M, _>(
            |stage| {
                let access = SecuredAccess::ReadWrite;
                let rest = page_at(stage.range, 1);
                SecureMemory::new(stage.space, rest, bytes(PAGES - 1), access)
            },
            false,
        );
    }

    fn freeing_physical_pages<M>() {
        torment::<M, _>(
            |stage| {
                let (window, frames) = stage.window();
                let frames: &[Pfn] = frames.leak();
                let map = MapPhysicalPages::<&[Va], _>::at(stage.space, window, frames);
                stage.at_ease(|host| host.run(map)).expect("mapped");
                FreePhysicalPages::new(stage.space, frames)
            },
            false,
        );
    }

    fn deletion<M>() {
        for scene in SCENES {
            for steps in 0.. {
                let mut stage = Stage::<M>::new(scene);
                let mut delete = DeleteAddressSpace::new(stage.space);
                let mut finished = false;
                for _ in 0..steps {
                    match stage.host.step(&mut delete) {
                        Step::Wait(wait) => stage.bring(wait.key),
                        Step::Done(()) => {
                            finished = true;
                            break;
                        }
                        Step::Raise(status) => panic!("{scene:?}: {status}"),
                    }
                }
                if !finished {
                    stage.host.abandon(delete);
                }
                stage.host.audit();
                stage.host.machine().hold_flushes.set(false);
                stage.host.machine().acknowledge();
                stage.host.give_back(&stage.hoard.take());
                stage.host.settle();
                if !finished {
                    stage.host.delete(stage.space);
                }
                stage.host.audit_at_rest();
                assert_eq!(stage.host.manager.memory_figures().committed.get(), 2);
                assert_eq!(stage.host.slots_in_use(), 0);
                if finished {
                    break;
                }
            }
        }
    }
}
