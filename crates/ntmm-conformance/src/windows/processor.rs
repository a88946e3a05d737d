//! What a processor does with memory: loads, stores and fetches of a user thread, or of a driver
//! on its behalf.
//!
//! Each reference goes through translation buffer, page walk and page faults until it is made or
//! the manager raises a status in the thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ntmm::NtStatus;
use ntmm_machine::{
    Cpu, Hardware, MemoryAccess, NoTrace, Outcome, Privilege, Program, ProgramStep,
};
use ntmm_pte::Va;

/// One reference.
#[derive(Clone, Debug)]
pub enum Reference {
    /// Reads so many bytes.
    Load(Va, usize),
    /// Writes these bytes.
    Store(Va, Vec<u8>),
    /// Fetches an instruction of one byte.
    Fetch(Va),
}

impl Reference {
    const fn va(&self) -> Va {
        match self {
            Self::Load(va, _) | Self::Store(va, _) | Self::Fetch(va) => *va,
        }
    }
}

/// What came of references, as far as they were made.
#[derive(Clone, Debug, Default)]
pub struct Referenced {
    /// What the loads read, one after the other.
    pub loaded: Vec<u8>,
    /// What was raised instead of the next reference.
    pub raised: Option<Raised>,
    /// References that were not made.
    pub rest: VecDeque<Reference>,
}

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its code.
    pub status: NtStatus,
    /// The address that could not be accessed.
    pub va: Va,
}

/// A thread that makes references one after the other and ends at the first that is refused.
#[derive(Debug)]
pub struct Referrer {
    references: VecDeque<Reference>,
    privilege: Privilege,
    access: MemoryAccess,
    came: Rc<RefCell<Referenced>>,
}

impl Referrer {
    /// A thread that makes `references`, and where it says what came of them.
    #[must_use]
    pub fn new(
        references: impl IntoIterator<Item = Reference>,
        privilege: Privilege,
    ) -> (Self, Rc<RefCell<Referenced>>) {
        let came = Rc::default();
        let references = references.into_iter().collect();
        let access = MemoryAccess::new();
        (Self { references, privilege, access, came: Rc::clone(&came) }, came)
    }

    /// Makes one reference; none when it has been refused.
    fn make<M: Hardware>(
        &mut self,
        cpu: &mut Cpu<'_, M, NoTrace>,
        reference: &Reference,
    ) -> Outcome<()> {
        match reference {
            Reference::Load(va, size) => {
                let mut bytes = vec![0; *size];
                let outcome = self.access.load(cpu, *va, &mut bytes);
                if matches!(outcome, Outcome::Done(())) {
                    self.came.borrow_mut().loaded.extend(bytes);
                }
                outcome
            }
            Reference::Store(va, bytes) => self.access.store(cpu, *va, bytes),
            Reference::Fetch(va) => self.access.fetch(cpu, *va, 1),
        }
    }
}

impl<M: Hardware> Program<M, NoTrace> for Referrer {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        cpu.set_privilege(self.privilege);
        while let Some(reference) = self.references.front().cloned() {
            match self.make(cpu, &reference) {
                Outcome::Done(()) => {
                    self.references.pop_front();
                }
                Outcome::Stop(step) => return step,
                Outcome::Raise(status) => {
                    let va = self.access.refused_at().unwrap_or(reference.va());
                    let mut came = self.came.borrow_mut();
                    came.raised = Some(Raised { status, va });
                    came.rest = std::mem::take(&mut self.references);
                    return ProgramStep::Exit;
                }
            }
        }
        ProgramStep::Exit
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        self.access.abandon(cpu);
    }
}
