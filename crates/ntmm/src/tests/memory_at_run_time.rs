//! Memory added and taken away while the manager runs: what is counted, who is woken, what is
//! refused, what a removal waits for, and that giving up leaves everything as it was.

mod adding;
mod model;
mod refusals;
mod removing;

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, PagingMode, Pfn, PteState, Va};
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use super::machine::{Machine, range};
use crate::frames::available::Thresholds;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameUse, PageLocation};
use crate::inspect::MemoryFigures;
use crate::memory::remove::PATIENCE;
use crate::platform::FrameRange;
use crate::virtual_memory::FreeType;
use crate::virtual_memory::lock::{LockMemory, Locks};
use crate::working_set::balance::PERIOD;
use crate::{
    AddMemoryError, AddressSpaceId, BootError, Config, Engine, FaultKind, Manager, Notification,
    NtStatus, RemoveMemory, RemoveMemoryError, Step, WaitKey,
};

/// First frame of every machine here.
const FIRST: u32 = 1;
/// Frames that are lent at boot, and those withheld behind them.
const LENT: u32 = 96;
const WITHHELD: u32 = 32;

fn withheld() -> FrameRange {
    range(FIRST + LENT, WITHHELD)
}

fn config() -> Config {
    Config { span: Some(range(FIRST, LENT + WITHHELD)), ..EAGER }
}

/// A machine that withholds a range, with a paging file of 256 pages.
fn host<M: PagingMode>() -> Host<M> {
    let host = Host::of(Machine::withholding(FIRST, LENT + WITHHELD, LENT), config());
    host.paging_file(256);
    host
}

fn figures<M: PagingMode>(host: &Host<M>) -> MemoryFigures {
    host.manager.memory_figures()
}

fn add<M: PagingMode>(host: &Host<M>, range: FrameRange) -> Result<(), AddMemoryError> {
    host.machine().set_lent(range, true);
    let outcome = host.manager.add_memory(range);
    host.audit();
    outcome
}

/// A host with all of its memory lent.
fn whole<M: PagingMode>() -> Host<M> {
    let host = host();
    add(&host, withheld()).expect("added");
    host
}

/// Steps a removal to its end, with everything else happening; time passes while it waits.
fn finish<M: PagingMode>(
    host: &Host<M>,
    mut removal: RemoveMemory,
    range: FrameRange,
) -> Result<(), RemoveMemoryError> {
    for _ in 0..100 {
        match host.step(&mut removal) {
            Step::Done(outcome) => {
                if outcome.is_ok() {
                    host.machine().set_lent(range, false);
                }
                host.audit();
                return outcome;
            }
            Step::Raise(status) => panic!("{status}"),
            Step::Wait(_) => {
                host.machine().advance(PERIOD.0);
                host.settle();
            }
        }
    }
    panic!("the removal never ends");
}

fn remove<M: PagingMode>(host: &Host<M>, range: FrameRange) -> Result<(), RemoveMemoryError> {
    finish(host, RemoveMemory::new(range), range)
}

/// Writes the pages of a new allocation in a new space; page N holds 1000 + N.
fn fill<M: PagingMode>(host: &Host<M>, pages: u64) -> (AddressSpaceId, Va) {
    let space = host.space();
    let va = host.allocate(space, pages);
    for page in 0..pages {
        host.write(space, page_at(va, page), 1000 + page);
    }
    (space, va)
}

fn check<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va, pages: u64) {
    for page in 0..pages {
        assert_eq!(host.read(space, page_at(va, page)), 1000 + page, "page {page}");
    }
}

/// A page of `pages` from `va` on that lies in the range, and its frame.
fn page_inside<M: PagingMode>(
    host: &Host<M>,
    (space, va): (AddressSpaceId, Va),
    pages: u64,
    range: FrameRange,
) -> (Va, Pfn) {
    (0..pages)
        .map(|page| page_at(va, page))
        .map(|va| (va, host.frame_of(space, va)))
        .find(|(_, pfn)| range.contains(*pfn))
        .expect("a page lies in the range")
}

/// Only frames of the withheld range stay available: what is touched next lies there.
fn only_withheld_left<M: PagingMode>(host: &Host<M>) -> Vec<Pfn> {
    let mut frames = host.hoard(0);
    let inside: Vec<_> = frames.extract_if(.., |pfn| withheld().contains(*pfn)).collect();
    assert_eq!(inside.len() as u32, WITHHELD);
    host.give_back(&inside);
    frames
}
