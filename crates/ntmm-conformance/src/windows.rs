//! The memory manager as the system that cases run on.
//!
//! [`Machines`] makes a fresh simulated machine for every case: a plain one with a single
//! processor, a paging file, and one process that makes the calls.
//!
//! | File | Holds |
//! |---|---|
//! | `host` | the machine; operations and references brought to their end; audits |
//! | `processor` | memory references of a thread |
//! | `process` | processes |
//! | `handles` | handles and what they name |
//! | `names` | names of objects |
//! | `files` | files |
//! | `attributes` | object attributes as a call captures them |
//! | `parameters` | arguments of a case as a call captures them |
//! | `calls` | the Nt calls |
//! | `pseudo` | memory accesses, processes and what else a case may do |
//! | `stack` | the stack of the calling thread |

mod attributes;
mod calls;
mod files;
mod handles;
mod host;
mod names;
mod parameters;
mod process;
mod processor;
mod pseudo;
mod stack;

use ntmm::nt::Privileges;
use ntmm::virtual_memory::UserStack;
use ntmm::{DeleteAddressSpace, SectionId};
use ntmm_machine::Hardware;
use ntmm_pte::{Amd64, I386, Pae};

use crate::system::{Answer, Refusal, System, Systems};
use crate::value::Arguments;
use crate::version::{Layout, Paging, Profile};
use crate::vocabulary::{FILE_CALLS, Knowledge, MAP_SECTION, SECTION_CALLS, knowledge};
use files::Files;
use handles::Handles;
use host::Host;
use names::ObjectNames;
use process::Processes;

/// Simulated machines of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Machines {
    paging: Paging,
    profile: Profile,
}

impl Machines {
    /// Machines in this paging mode that behave as this version.
    #[must_use]
    pub const fn new(paging: Paging, profile: Profile) -> Self {
        Self { paging, profile }
    }
}

impl Systems for Machines {
    fn layout(&self) -> Layout {
        Layout::new(self.paging)
    }

    fn knows(&self, call: &str) -> Knowledge {
        knowledge(call)
    }

    fn fresh(&self) -> Result<Box<dyn System + '_>, Refusal> {
        Ok(match self.paging {
            Paging::I386 => Box::new(Windows::<I386>::start(self.profile)?),
            Paging::Pae => Box::new(Windows::<Pae>::start(self.profile)?),
            Paging::Amd64 => Box::new(Windows::<Amd64>::start(self.profile)?),
        })
    }
}

/// A machine with processes.
#[derive(Debug)]
struct Windows<M: Hardware> {
    host: Host<M>,
    processes: Processes,
    handles: Handles,
    names: ObjectNames,
    files: Files,
    /// Sections that may write files, by the numbers of the files.
    writers: Vec<(SectionId, usize)>,
    privileges: Privileges,
    /// Made when a case first asks for it.
    stack: Option<UserStack>,
    profile: Profile,
}

impl<M: Hardware> Windows<M> {
    fn start(profile: Profile) -> Result<Self, Refusal> {
        let host = Host::boot()?;
        let current = host
            .create_space()
            .map_err(|status| Refusal::Stopped(format!("no process: {status}")))?;
        let processes = Processes::new(current);
        Ok(Self {
            host,
            processes,
            handles: Handles::new(),
            names: ObjectNames::default(),
            files: Files::default(),
            writers: Vec::new(),
            privileges: Privileges::empty(),
            stack: None,
            profile,
        })
    }
}

impl<M: Hardware> System for Windows<M> {
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<Answer, Refusal> {
        if SECTION_CALLS.contains(&name) || name == MAP_SECTION {
            self.section_call(name, arguments)
        } else if FILE_CALLS.contains(&name) {
            self.file_call(name, arguments)
        } else if name.starts_with("Nt") {
            self.nt_call(name, arguments)
        } else {
            self.pseudo_call(name, arguments)
        }
    }

    fn finish(&mut self) -> Result<(), Refusal> {
        self.host.audit()?;
        for space in self.processes.spaces().to_vec() {
            let deleted = self.host.complete(DeleteAddressSpace::new(space))?;
            deleted
                .map_err(|status| Refusal::Stopped(format!("a process does not end: {status}")))?;
        }
        for handle in self.handles.all() {
            self.close_handle(handle)
                .map_err(|status| Refusal::Stopped(format!("a handle does not close: {status}")))?;
        }
        self.purge_files()?;
        self.host.audit()?;
        self.host.audit_teardown()
    }
}
