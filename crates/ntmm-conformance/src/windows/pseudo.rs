//! What a case does besides Nt calls: memory accesses, processes, and questions of the harness.

use ntmm::NtStatus;
use ntmm::nt::{Privileges, ProcessAccess, Target};
use ntmm::virtual_memory::{Allocate, AllocationType, MemoryState, Placement, Query};
use ntmm_machine::{Hardware, Privilege};
use ntmm_pte::{Bytes, PAGE_SIZE, Protection, Va};

use super::handles::Object;
use super::process::parse_access;
use super::processor::{Raised, Reference, Referenced};
use super::{Windows, stack};
use crate::system::{Answer, Refusal};
use crate::value::Arguments;

/// Most bytes of a string that `mem.strlen` looks at.
const LONGEST_STRING: u64 = 0x10000;

impl<M: Hardware> Windows<M> {
    pub(super) fn pseudo_call(
        &mut self,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        match name {
            "mem.read8" => self.load(arguments, 1),
            "mem.read16" => self.load(arguments, 2),
            "mem.read32" => self.load(arguments, 4),
            "mem.read64" => self.load(arguments, 8),
            "mem.write8" => self.store(arguments, 1),
            "mem.write16" => self.store(arguments, 2),
            "mem.write32" => self.store(arguments, 4),
            "mem.write64" => self.store(arguments, 8),
            "mem.execute" => {
                let va = Va::new(arguments.word("addr")?);
                self.touch([Reference::Fetch(va)]).map(|came| answer_of(&came))
            }
            "mem.fill" => self.fill(arguments),
            "mem.strlen" => self.string_length(arguments),
            "mem.read_range" => self.read_range(arguments),
            "io.read_file_into" => self.read_file_into(arguments),
            "process.spawn" => self.spawn(),
            "process.open_self" => self.open_self(arguments),
            "stack.address" => {
                let inside = stack::pointer(&self.stack()?);
                Ok(Answer::returned(NtStatus::SUCCESS).with("value", inside))
            }
            "stack.overflow" => self.overflow_stack(),
            "thread.grow_stack" => self.grow_stack(arguments),
            "teb.read" => self.read_teb(arguments),
            "token.disable" => self.change_privilege(arguments, Privileges::remove),
            "token.enable" => self.change_privilege(arguments, Privileges::insert),
            "vm.find_free" => self.find_free(arguments),
            "module.base" | "module.function" => {
                Err(Refusal::Later("loaded images (@module) come later".to_owned()))
            }
            _ => Err(Refusal::Unknown(format!("nobody makes the call {name}"))),
        }
    }

    /// Makes references as the calling process's thread.
    fn touch(
        &mut self,
        references: impl IntoIterator<Item = Reference>,
    ) -> Result<Referenced, Refusal> {
        self.refer(references, Privilege::User)
    }

    fn load(&mut self, arguments: &Arguments, size: usize) -> Result<Answer, Refusal> {
        let va = Va::new(arguments.word("addr")?);
        let came = self.touch([Reference::Load(va, size)])?;
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(&came.loaded).for_each(|(slot, byte)| *slot = *byte);
        Ok(match came.raised {
            None => Answer::returned(NtStatus::SUCCESS).with("value", u64::from_le_bytes(bytes)),
            Some(_) => answer_of(&came),
        })
    }

    fn store(&mut self, arguments: &Arguments, size: usize) -> Result<Answer, Refusal> {
        let va = Va::new(arguments.word("addr")?);
        let value = arguments.integer("value")? as u64;
        let bytes = value.to_le_bytes()[..size].to_vec();
        self.touch([Reference::Store(va, bytes)]).map(|came| answer_of(&came))
    }

    fn fill(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let value = arguments.ulong("value")? as u8;
        let stores = pages_of(arguments.word("addr")?, arguments.word("size")?)
            .map(move |(va, bytes)| Reference::Store(va, vec![value; bytes]));
        self.touch(stores).map(|came| answer_of(&came))
    }

    fn string_length(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let start = arguments.word("addr")?;
        for length in 0..LONGEST_STRING {
            let came = self.touch([Reference::Load(Va::new(start.wrapping_add(length)), 1)])?;
            match (came.raised, came.loaded.first()) {
                (Some(_), _) => return Ok(answer_of(&came)),
                (None, Some(0)) => {
                    return Ok(Answer::returned(NtStatus::SUCCESS).with("value", length));
                }
                (None, _) => {}
            }
        }
        Err(Refusal::Unknown("the string does not end".to_owned()))
    }

    /// Reads a range; `all` is the byte that all of them are.
    fn read_range(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let loads = pages_of(arguments.word("addr")?, arguments.word("size")?)
            .map(|(va, bytes)| Reference::Load(va, bytes));
        let came = self.touch(loads)?;
        let mut answer = answer_of(&came);
        if let Some(&first) = came.loaded.first()
            && came.loaded.iter().all(|byte| *byte == first)
        {
            answer = answer.with("all", u32::from(first));
        }
        Ok(answer)
    }

    /// A driver fills a locked buffer: the kernel writes each of its pages.
    fn read_file_into(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let stores = pages_of(arguments.word("addr")?, arguments.word("size")?)
            .map(|(va, bytes)| Reference::Store(va, vec![b'f'; bytes]));
        let came = self.refer(stores, Privilege::Supervisor)?;
        let status = came.raised.map_or(NtStatus::SUCCESS, |raised| raised.status);
        Ok(Answer::returned(status))
    }

    /// Memory of the calling process that the harness needs for itself. A buffer or a stack lies
    /// at the top, where no case looks.
    pub(super) fn own_memory(
        &mut self,
        placement: Placement,
        size: u64,
        kind: AllocationType,
        protection: Protection,
    ) -> Result<u64, Refusal> {
        let current = self.processes.current();
        let call = Allocate::new(current, placement, Bytes::new(size), kind, protection);
        let refused = |status| Refusal::Stopped(format!("no memory for the harness: {status}"));
        Ok(self.host.complete(call)?.map_err(refused)?.base.get())
    }

    fn spawn(&mut self) -> Result<Answer, Refusal> {
        match self.host.create_space() {
            Ok(space) => {
                self.processes.add(space);
                let target = Target { space, access: ProcessAccess::all() };
                let handle = self.handles.open(Object::Process(target));
                Ok(Answer::returned(NtStatus::SUCCESS).with("Handle", handle))
            }
            Err(status) => Ok(Answer::returned(status)),
        }
    }

    fn open_self(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let text = arguments.text("access")?;
        let rights = parse_access(text)
            .ok_or_else(|| Refusal::Unknown(format!("nobody knows the access {text}")))?;
        let target = Target { space: self.processes.current(), access: rights };
        let handle = self.handles.open(Object::Process(target));
        Ok(Answer::returned(NtStatus::SUCCESS).with("Handle", handle))
    }

    fn read_teb(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let name = arguments.text("field")?;
        let unknown = || Refusal::Unknown(format!("nobody knows the field {name} of the TEB"));
        let value = stack::field(&self.stack()?, name).ok_or_else(unknown)?;
        Ok(Answer::returned(NtStatus::SUCCESS).with("value", value))
    }

    /// Changes the privileges that are enabled.
    fn change_privilege(
        &mut self,
        arguments: &Arguments,
        change: fn(&mut Privileges, Privileges),
    ) -> Result<Answer, Refusal> {
        match arguments.text("privilege")? {
            "SeLockMemoryPrivilege" => change(&mut self.privileges, Privileges::LOCK_MEMORY),
            other => {
                return Err(Refusal::Unknown(format!("nobody knows the privilege {other}")));
            }
        }
        Ok(Answer::returned(NtStatus::SUCCESS))
    }

    /// The lowest free range of a size and alignment.
    fn find_free(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let size = arguments.word("size")?;
        let unit = arguments.word("align")?.max(PAGE_SIZE);
        let mut address = ntmm_pte::mode::LOWEST_USER_ADDRESS.get();
        loop {
            let query = Query::new(self.processes.current(), Va::new(address));
            let region = match self.host.complete(query)? {
                Ok(region) => region,
                Err(status) => return Ok(Answer::returned(status)),
            };
            let end = region.base.get() + region.size.get();
            let start = address.checked_next_multiple_of(unit);
            let fits = |start: &u64| start.checked_add(size).is_some_and(|last| last <= end);
            if region.state == MemoryState::Free
                && let Some(start) = start.filter(fits)
            {
                return Ok(Answer::returned(NtStatus::SUCCESS).with("Address", start));
            }
            address = end;
        }
    }
}

/// What a case sees of references: an exception tells the address too.
pub(super) fn answer_of(came: &Referenced) -> Answer {
    match came.raised {
        None => Answer::returned(NtStatus::SUCCESS),
        Some(Raised { status, va }) => Answer::raised(status).with("address", va.get()),
    }
}

/// The pieces of a range, none of which crosses a page boundary.
fn pages_of(start: u64, size: u64) -> impl Iterator<Item = (Va, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = size - done;
        let here = start.wrapping_add(done);
        let bytes = left.min(PAGE_SIZE - here % PAGE_SIZE);
        done += bytes;
        (bytes > 0).then_some((Va::new(here), bytes as usize))
    })
}
