//! A thread that reads every page of a process and compares all of it: the proof at the end of
//! a run that nothing was lost, also of pages that were never loaded again.

use ntmm::platform::Trace;
use ntmm_machine::ram::FRAME_BYTES;
use ntmm_machine::{Cpu, Hardware, MemoryAccess, Outcome, Program, ProgramStep};
use ntmm_pte::{AccessKind, Va};

use super::process::SharedProcess;

/// A sweep over a process.
#[derive(Debug)]
pub struct Sweep {
    process: SharedProcess,
    pages: Vec<(Va, u32)>,
    next: usize,
    access: MemoryAccess,
}

impl Sweep {
    /// A sweep that has not begun.
    #[must_use]
    pub fn new(process: SharedProcess) -> Self {
        let pages = process.borrow().placement.all_pages().collect();
        Self { process, pages, next: 0, access: MemoryAccess::new() }
    }
}

impl<M: Hardware, T: Trace> Program<M, T> for Sweep {
    fn run(&mut self, cpu: &mut Cpu<'_, M, T>) -> ProgramStep {
        let mut process = self.process.borrow_mut();
        while let Some((va, page)) = self.pages.get(self.next).copied() {
            let place = match self.access.translate(cpu, va, AccessKind::Read) {
                Outcome::Done(place) => place,
                Outcome::Stop(stop) => return stop,
                Outcome::Raise(status) => {
                    process.raised(va, "load of the sweep", status);
                    return ProgramStep::Exit;
                }
            };
            let frame = cpu.ram().words(place.slot);
            if let Err(mismatch) = process.shadow.check(page, frame, 0, FRAME_BYTES) {
                process.wrong(va, mismatch, "sweep over all pages");
                return ProgramStep::Exit;
            }
            self.next += 1;
            if !cpu.may_continue() {
                return ProgramStep::Continue;
            }
        }
        ProgramStep::Exit
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, T>) {
        self.access.abandon(cpu);
    }
}
