//! Loads, stores and fetches of a thread.

use std::cell::RefCell;

use ntmm_machine::{Hardware, MemoryAccess, Outcome, ProgramStep};
use ntmm_pte::Va;

use crate::model::accesses::Attempt;
use crate::model::views::LANE_BYTES;
use crate::model::{Mismatch, PAGE_BYTES};
use crate::operation::{Burst, Class, Company, Thread, Touch};
use crate::worker::{Processor, judge};
use crate::world::{Prediction, Window, World};

/// Bytes of a page that belong to one thread before the next thread's begin.
const LANE: u32 = 64;

/// Lanes in a page.
const LANES: u32 = PAGE_BYTES as u32 / LANE;

/// How far a burst came.
pub(crate) enum Touched {
    End,
    Stop(ProgramStep),
}

/// A burst being made.
#[derive(Debug)]
pub(crate) struct Touching {
    thread: Thread,
    window: Window,
    touch: Touch,
    class: Class,
    company: Company,
    /// The next page of the window, and the one behind the last.
    next: u64,
    end: u64,
    offset: u32,
    size: usize,
    /// Whether the access of the next page has begun.
    begun: Begun,
    buffer: [u8; Burst::LARGEST as usize],
    access: MemoryAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    No,
    Yes,
}

impl Touching {
    pub(crate) fn new(
        world: &World,
        thread: Thread,
        burst: Burst,
        company: Company,
    ) -> Option<Self> {
        let window = world.window(thread, burst.extent.region)?;
        let class = burst.extent.region.class;
        let (offset, size) = match (class, company) {
            (Class::View, Company::Others) => lane_of(burst, thread)?,
            (Class::View, Company::Alone) => (burst.offset, burst.size),
            _ => bytes_of(burst, thread, world.threads),
        };
        let next = u64::from(burst.extent.first);
        let mut end = (next + u64::from(burst.extent.pages)).min(window.range.pages);
        if u64::from(offset + size) > PAGE_BYTES {
            // The last access would reach behind the window.
            end = end.min(window.range.pages - 1);
        }
        (next < end).then(|| Self {
            thread,
            window,
            touch: burst.touch,
            class,
            company,
            next,
            end,
            offset,
            size: size as usize,
            begun: Begun::No,
            buffer: [0; Burst::LARGEST as usize],
            access: MemoryAccess::new(),
        })
    }

    fn va(&self) -> u64 {
        (self.window.range.first + self.next) * PAGE_BYTES + u64::from(self.offset)
    }

    fn begin(&mut self, world: &RefCell<World>) {
        self.begun = Begun::Yes;
        if self.touch != Touch::Store {
            return;
        }
        let mut world = world.borrow_mut();
        let stamp = world.next_stamp();
        match self.window.prediction {
            Prediction::Stamped => {
                let mark = world.mark(self.thread.process, self.window.range.first + self.next);
                let word = u64::from(mark) << 32 | (stamp & 0xFFFF_FFFF);
                for bytes in self.buffer.chunks_exact_mut(8) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
            Prediction::Full | Prediction::Nothing => {
                let mut word = stamp.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                for bytes in self.buffer.chunks_exact_mut(8) {
                    word = word.rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ stamp;
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }

    pub(crate) fn advance<M: Hardware>(
        &mut self,
        world: &RefCell<World>,
        cpu: &mut Processor<'_, M>,
        refused: u64,
    ) -> Touched {
        while self.next < self.end {
            if self.begun == Begun::No {
                self.begin(world);
            }
            let va = Va::new(self.va());
            let buffer = &mut self.buffer[..self.size];
            let outcome = match self.touch {
                Touch::Load => self.access.load(cpu, va, buffer),
                Touch::Store => self.access.store(cpu, va, buffer),
                Touch::Fetch => self.access.fetch(cpu, va, self.size),
            };
            let outcome = match outcome {
                Outcome::Stop(step) => return Touched::Stop(step),
                Outcome::Done(()) => Ok(()),
                Outcome::Raise(status) => Err(status),
            };
            let attempt =
                Attempt { touch: self.touch, va: self.va(), bytes: &self.buffer[..self.size] };
            let judged = {
                let mut world = world.borrow_mut();
                world.note_disturbances(cpu.machine(), refused);
                match self.window.prediction {
                    Prediction::Full if self.class == Class::View => {
                        let process = self.thread.process;
                        world.model.view_accessed(process, (attempt, self.company), outcome)
                    }
                    Prediction::Full => world.model.accessed(self.thread.process, attempt, outcome),
                    Prediction::Nothing => Ok(()),
                    Prediction::Stamped => {
                        if outcome.is_ok() && self.touch == Touch::Load {
                            self.check_marks(&world)
                        } else {
                            Ok(())
                        }
                    }
                }
            };
            judge(world, judged);
            self.next += 1;
            self.begun = Begun::No;
            if !cpu.may_continue() && self.next < self.end {
                return Touched::Stop(ProgramStep::Continue);
            }
        }
        Touched::End
    }

    /// Every word of a racy region is zero or was stored there.
    fn check_marks(&self, world: &World) -> Result<(), Mismatch> {
        let mark = world.mark(self.thread.process, self.window.range.first + self.next);
        for bytes in self.buffer[..self.size].chunks_exact(8) {
            let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            if word != 0 && (word >> 32) as u32 != mark {
                return Err(Mismatch {
                    rule: "foreign data",
                    detail: format!("{:#x} holds {word:#018x}, marks are {mark:#x}", self.va()),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn abandon<M: Hardware>(
        &mut self,
        world: &RefCell<World>,
        cpu: &mut Processor<'_, M>,
    ) {
        self.access.abandon(cpu);
        if self.class == Class::View && self.begun == Begun::Yes {
            let bytes = &self.buffer[..self.size];
            let attempt = Attempt { touch: self.touch, va: self.va(), bytes };
            world.borrow_mut().model.view_store_failed(self.thread.process, attempt);
        }
    }
}

/// Where in a page of a view a thread's burst goes: to the lane that no other thread of any process
/// has. Of so many processes and threads there are no lanes for more.
fn lane_of(burst: Burst, thread: Thread) -> Option<(u32, u32)> {
    let known = thread.process < 8 && thread.number < 8;
    let lane = u32::from(thread.process) * 8 + u32::from(thread.number);
    let within = burst.offset % LANE_BYTES as u32;
    let size = burst.size.min(LANE_BYTES as u32 - within);
    known.then_some((lane * LANE_BYTES as u32 + within, size))
}

/// Where in a page a thread's burst goes: anywhere in its own regions, within its own lanes of
/// shared ones, to whole words of racy ones.
fn bytes_of(burst: Burst, thread: Thread, threads: u8) -> (u32, u32) {
    let Burst { offset, size, .. } = burst;
    match burst.extent.region.class {
        Class::Own | Class::View => (offset, size),
        Class::Shared => {
            let threads = u32::from(threads);
            let lane = offset / LANE / threads * threads + u32::from(thread.number);
            let lane = if lane < LANES { lane } else { lane - threads };
            let within = offset % LANE;
            (lane * LANE + within, size.min(LANE - within))
        }
        Class::Racy => {
            let offset = offset & !7;
            let room = PAGE_BYTES as u32 - offset;
            (offset, (size & !7).clamp(8, room))
        }
    }
}
