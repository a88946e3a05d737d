//! NtExtendSection (nt-api 13).

use super::access::{Section, SectionAccess, open};
use crate::manager::Manager;
use crate::nt::{Caller, Captured, Outcome, Stage};
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::ExtendSection;

/// The call. Yields the size that the section has then, in bytes.
#[derive(Debug)]
#[must_use]
pub struct ExtendSectionCall {
    caller: Caller,
    section: Section,
    size: Captured,
    stage: Stage<ExtendSection>,
}

impl ExtendSectionCall {
    /// Makes the section behind a handle as long as NewSectionSize points to.
    pub const fn new(caller: Caller, section: Section, size: Captured) -> Self {
        Self { caller, section, size, stage: Stage::Unchecked }
    }
}

impl<P: Platform> Operation<P> for ExtendSectionCall {
    type Output = Outcome<u64>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome<u64>> {
        let Self { caller, section, size, stage } = self;
        let step = stage.step(manager, || {
            let size = (*size)?;
            let section = open(caller, *section, SectionAccess::EXTEND_SIZE)?;
            Ok(ExtendSection::new(section, size))
        });
        step.map(Into::into)
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
