//! What a simulated thread runs.

use ntmm::operation::Wait;
use ntmm::platform::Trace;

use crate::context::Cpu;
use crate::format::Hardware;

/// How a program gives its processor back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramStep {
    /// It goes on when its turn comes again.
    Continue,
    /// It goes on when the key has been woken.
    Wait(Wait),
    /// It has ended.
    Exit,
}

/// The code of a thread, in pieces: each call of [`run`](Program::run) goes on where the last
/// one stopped, until the processor's turn is over ([`Cpu::may_continue`]), something has to be
/// waited for, or the program ends.
pub trait Program<M: Hardware, T: Trace> {
    /// Goes on.
    fn run(&mut self, cpu: &mut Cpu<'_, M, T>) -> ProgramStep;

    /// The thread is being killed: gives back every operation that was not finished. `run` is
    /// not called again.
    fn abandon(&mut self, cpu: &mut Cpu<'_, M, T>);
}
