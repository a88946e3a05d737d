//! The calls as NT takes them (API 2-17): a program that makes them with raw numbers.
//!
//! Statuses and ranges are those the tables of the specification give.

mod allocate;
mod free;
mod handles;
mod large_pages;
mod lock;
mod physical_pages;
mod placeholders;
mod protect;
mod query;
mod sections;
mod set_information;
mod shared_data;
mod transfer;
mod write_watch;

use ntmm_pte::{AccessKind, PagingMode, Va};
use std::vec;
use std::vec::Vec;

use super::host::Host;
use crate::nt::{
    AddressRequirements, AllocateParameters, AllocateVirtualMemory, BasicInformation, Caller,
    Captured, ExtendedParameter, FreeParameters, FreeVirtualMemory, GetWriteWatchCall, Information,
    LockParameters, LockVirtualMemory, Outcome, Process, Profile, ProtectOutcome,
    ProtectParameters, ProtectVirtualMemory, QueryOutcome, QueryParameters, QueryVirtualMemory,
    Range, ResetWriteWatchCall, Target, UnlockVirtualMemory, WriteWatchParameters,
};
use crate::{AddressSpaceId, NtStatus};

pub const SUCCESS: u32 = 0;
pub const BAD_POINTER: Captured = Err(NtStatus::ACCESS_VIOLATION);

/// A program, and the machine it runs on.
pub struct Program<M: PagingMode> {
    pub host: Host<M>,
    pub space: AddressSpaceId,
    pub caller: Caller,
}

/// The code and what is written back.
pub type Answer = (u32, Option<(u64, u64)>);

pub fn answer(outcome: Outcome) -> Answer {
    let Outcome { status, output } = outcome;
    (status.code(), output.map(|Range { base, size }| (base, size)))
}

impl<M: PagingMode> Program<M> {
    pub fn of(profile: Profile) -> Self {
        let host = Host::new(128);
        let space = host.space();
        Self { host, space, caller: Caller::program::<M>(profile) }
    }

    pub fn legacy() -> Self {
        Self::of(Profile::Legacy)
    }

    pub fn modern() -> Self {
        Self::of(Profile::Modern)
    }

    pub fn process(&self) -> Process {
        Ok(Target::current(self.space))
    }

    pub fn allocate(
        &self,
        base: u64,
        zero_bits: u64,
        size: u64,
        kind: u32,
        protect: u32,
    ) -> Answer {
        self.allocate_with(AllocateParameters {
            process: self.process(),
            base: Ok(base),
            zero_bits,
            size: Ok(size),
            kind,
            protection: protect,
        })
    }

    pub fn allocate_with(&self, parameters: AllocateParameters) -> Answer {
        let call = AllocateVirtualMemory::new(self.caller, parameters);
        answer(self.host.run(call).expect("such calls never raise"))
    }

    /// The extended call, with these address requirements if there are any.
    pub fn allocate_ex(
        &self,
        base: u64,
        size: u64,
        kind: u32,
        protection: u32,
        requirements: &[AddressRequirements],
    ) -> Answer {
        let extended: Vec<_> = requirements
            .iter()
            .map(|&asked| ExtendedParameter { kind: 1, requirements: Ok(asked) })
            .collect();
        let parameters = AllocateParameters {
            process: self.process(),
            base: Ok(base),
            zero_bits: 0,
            size: Ok(size),
            kind,
            protection,
        };
        let count = extended.len() as u64;
        let call = AllocateVirtualMemory::extended(self.caller, parameters, Some(&extended), count);
        answer(self.host.run(call).expect("such calls never raise"))
    }

    /// Where `size` bytes are after a successful allocation of this type.
    pub fn memory(&self, size: u64, kind: u32, protection: u32) -> u64 {
        let (status, range) = self.allocate(0, 0, size, kind, protection);
        assert_eq!(status, SUCCESS);
        range.expect("a range").0
    }

    pub fn free(&self, base: u64, size: u64, kind: u32) -> Answer {
        let parameters =
            FreeParameters { process: self.process(), base: Ok(base), size: Ok(size), kind };
        let call = FreeVirtualMemory::new(self.caller, parameters);
        answer(self.host.run(call).expect("such calls never raise"))
    }

    pub fn protect(&self, base: u64, size: u64, protection: u32) -> ProtectOutcome {
        let parameters = ProtectParameters {
            process: self.process(),
            base: Ok(base),
            size: Ok(size),
            protection,
            old: Ok(()),
        };
        self.host
            .run(ProtectVirtualMemory::new(self.caller, parameters))
            .expect("such calls never raise")
    }

    /// Code and old protection.
    pub fn protected(&self, base: u64, size: u64, protection: u32) -> (u32, Option<u32>) {
        let outcome = self.protect(base, size, protection);
        (outcome.status.code(), outcome.old)
    }

    pub fn query_with(&self, parameters: QueryParameters, words: &mut [u64]) -> QueryOutcome {
        let call = QueryVirtualMemory::new(self.caller, parameters, words);
        self.host.run(call).expect("such calls never raise")
    }

    pub fn query_class(&self, address: u64, class: u32, length: u64) -> QueryOutcome {
        let parameters = QueryParameters {
            process: self.process(),
            address,
            class,
            buffer: Ok(()),
            length,
            return_length: Ok(()),
        };
        self.query_with(parameters, &mut [])
    }

    /// Basic information.
    pub fn query(&self, address: u64) -> BasicInformation {
        match self.query_class(address, 0, 0x30).information {
            Some(Information::Basic(basic)) => basic,
            other => panic!("{other:?}"),
        }
    }

    /// State and protection of the page.
    pub fn page(&self, address: u64) -> (u32, u32) {
        let BasicInformation { state, protection, .. } = self.query(address);
        (state, protection)
    }

    pub fn lock(&self, base: u64, size: u64, kind: u32) -> Answer {
        let parameters =
            LockParameters { process: self.process(), base: Ok(base), size: Ok(size), kind };
        let call = LockVirtualMemory::new(self.caller, parameters);
        answer(self.host.run(call).expect("such calls never raise"))
    }

    pub fn unlock(&self, base: u64, size: u64, kind: u32) -> Answer {
        let parameters =
            LockParameters { process: self.process(), base: Ok(base), size: Ok(size), kind };
        let call = UnlockVirtualMemory::new(self.caller, parameters);
        answer(self.host.run(call).expect("such calls never raise"))
    }

    /// Code and written pages.
    pub fn write_watch(&self, flags: u32, base: u64, size: u64, room: u64) -> (u32, Vec<u64>) {
        let mut pages = vec![0; room as usize];
        let parameters = WriteWatchParameters {
            process: self.process(),
            flags,
            base,
            size,
            array: Ok(()),
            count: Ok(room),
            granularity: Ok(()),
        };
        let call = GetWriteWatchCall::new(self.caller, parameters, &mut pages);
        let outcome = self.host.run(call).expect("such calls never raise");
        pages.truncate(outcome.output.map_or(0, |written| written.count as usize));
        (outcome.status.code(), pages)
    }

    pub fn reset_write_watch(&self, base: u64, size: u64) -> u32 {
        let call = ResetWriteWatchCall::new(self.caller, self.process(), base, size);
        self.host.run(call).expect("such calls never raise").code()
    }

    /// Writes a byte's word; the code of what that raises.
    pub fn store(&self, address: u64) -> u32 {
        let access = self.host.touch(self.space, Va::new(address), AccessKind::Write);
        access.map_or_else(|status| status.code(), |_| SUCCESS)
    }

    pub fn load(&self, address: u64) -> u32 {
        let access = self.host.touch(self.space, Va::new(address), AccessKind::Read);
        access.map_or_else(|status| status.code(), |_| SUCCESS)
    }
}
