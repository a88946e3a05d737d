//! A thread that replays slices of a trace, and checks what it reads.
//!
//! Each record is one reference to the processor. A fetch, a load and the reading half of a
//! modification compare all bytes the record covers; a store and the writing half stamp them.
//! Translation, comparison and stamp are one moment of the simulation: nothing else runs between
//! them, so what the shadow holds is what the machine must hold, whatever other threads do.

use ntmm::platform::Trace;
use ntmm_machine::ram::FRAME_BYTES;
use ntmm_machine::{Cpu, Hardware, MemoryAccess, Outcome, Program, ProgramStep};
use ntmm_pte::{AccessKind, Va};
use ntmm_trace::AccessKind as Kind;

use super::feed::{Slice, Step};
use super::process::{Process, SharedProcess};
use super::shadow::Mismatch;

/// A thread of a process.
#[derive(Debug)]
pub struct Replayer {
    process: SharedProcess,
    slice: Slice,
    access: MemoryAccess,
}

/// How a record came out.
enum Replayed {
    Done,
    Wrong { page: Va, mismatch: Mismatch },
    Stop(ProgramStep),
    Raise(ntmm::NtStatus),
}

/// What a record's access is to the processor.
const fn access_of(kind: Kind) -> AccessKind {
    match kind {
        Kind::Fetch => AccessKind::Execute,
        Kind::Load => AccessKind::Read,
        Kind::Store | Kind::Modify => AccessKind::Write,
    }
}

/// What a record is called.
const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Fetch => "fetch",
        Kind::Load => "load",
        Kind::Store => "store",
        Kind::Modify => "modification",
    }
}

impl Replayer {
    /// A thread that has replayed nothing yet.
    #[must_use]
    pub fn new(process: SharedProcess) -> Self {
        Self { process, slice: Slice::default(), access: MemoryAccess::new() }
    }
}

impl<M: Hardware, T: Trace> Program<M, T> for Replayer {
    fn run(&mut self, cpu: &mut Cpu<'_, M, T>) -> ProgramStep {
        let process = &mut *self.process.borrow_mut();
        loop {
            let steps = self.slice.steps();
            let mut done = 0;
            let mut ended = None;
            for step in steps {
                match replay(cpu, &mut self.access, process, step) {
                    Replayed::Done => {}
                    stopped => {
                        ended = Some((stopped, *step));
                        break;
                    }
                }
                done += 1;
                process.references += u64::from(step.count);
                if !cpu.may_continue() {
                    break;
                }
            }
            let finished = done == steps.len();
            process.records += done as u64;
            self.slice.advance(done);
            match ended {
                Some((Replayed::Stop(stop), _)) => return stop,
                Some((Replayed::Wrong { page, mismatch }, step)) => {
                    let during =
                        format!("{} of {} bytes at {}", name_of(step.kind), step.size, step.va);
                    process.wrong(page, mismatch, &during);
                    return ProgramStep::Exit;
                }
                Some((Replayed::Raise(status), step)) => {
                    process.raised(step.va, name_of(step.kind), status);
                    return ProgramStep::Exit;
                }
                Some((Replayed::Done, _)) | None => {}
            }
            if finished {
                match process.next_slice() {
                    Some(slice) => self.slice = slice,
                    None => return ProgramStep::Exit,
                }
            }
            if !cpu.may_continue() {
                return ProgramStep::Continue;
            }
        }
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, T>) {
        self.access.abandon(cpu);
    }
}

/// Makes one record's reference.
#[inline]
fn replay<M: Hardware, T: Trace>(
    cpu: &mut Cpu<'_, M, T>,
    access: &mut MemoryAccess,
    process: &mut Process,
    step: &Step,
) -> Replayed {
    let from = step.va.get() as usize % FRAME_BYTES;
    let to = from + usize::from(step.size);
    if to > FRAME_BYTES {
        return replay_across(cpu, access, process, step);
    }
    let place = match access.translate(cpu, step.va, access_of(step.kind)) {
        Outcome::Done(place) => place,
        Outcome::Stop(stop) => return Replayed::Stop(stop),
        Outcome::Raise(status) => return Replayed::Raise(status),
    };
    let frame = cpu.ram().words(place.slot);
    if step.kind != Kind::Store
        && let Err(mismatch) = process.shadow.check(step.page, frame, from, to)
    {
        return Replayed::Wrong { page: step.va, mismatch };
    }
    if step.kind.writes() {
        process.shadow.stamp(step.page, frame, from, to);
    }
    cpu.count_references(step.count.saturating_sub(1));
    Replayed::Done
}

/// The same for a reference that reaches into the next page, which the processor makes on both
/// pages or on neither. Its reading half is done again when its writing half faults.
#[cold]
fn replay_across<M: Hardware, T: Trace>(
    cpu: &mut Cpu<'_, M, T>,
    access: &mut MemoryAccess,
    process: &mut Process,
    step: &Step,
) -> Replayed {
    let from = step.va.get() as usize % FRAME_BYTES;
    let head = FRAME_BYTES - from;
    let mut bytes = [0; ntmm_trace::MAX_SIZE as usize];
    let bytes = &mut bytes[..usize::from(step.size)];
    if step.kind == Kind::Fetch {
        match access.fetch(cpu, step.va, bytes.len()) {
            Outcome::Done(()) => {}
            Outcome::Stop(stop) => return Replayed::Stop(stop),
            Outcome::Raise(status) => return Replayed::Raise(status),
        }
    }
    if step.kind != Kind::Store {
        match access.load(cpu, step.va, bytes) {
            Outcome::Done(()) => {}
            Outcome::Stop(stop) => return Replayed::Stop(stop),
            Outcome::Raise(status) => return Replayed::Raise(status),
        }
        if let Err(mismatch) = process.shadow.check_bytes(step.page, from, &bytes[..head]) {
            return Replayed::Wrong { page: step.va, mismatch };
        }
        if let Err(mismatch) = process.shadow.check_bytes(step.page + 1, 0, &bytes[head..]) {
            let page = Va::new(step.va.get() + head as u64);
            return Replayed::Wrong { page, mismatch };
        }
    }
    if step.kind.writes() {
        let stamp = process.shadow.next_stamp(from, bytes.len());
        match access.store(cpu, step.va, &stamp) {
            Outcome::Done(()) => {}
            Outcome::Stop(stop) => return Replayed::Stop(stop),
            Outcome::Raise(status) => return Replayed::Raise(status),
        }
        let (first, second) = stamp.split_at(head);
        process.shadow.note_store([(step.page, from, first), (step.page + 1, 0, second)]);
    }
    Replayed::Done
}
