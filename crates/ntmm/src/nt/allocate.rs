//! NtAllocateVirtualMemory and NtAllocateVirtualMemoryEx (nt-api 3).

use ntmm_pte::mode::LOWEST_USER_ADDRESS;
use ntmm_pte::protection::{PAGE_NOACCESS, PAGE_READWRITE};
use ntmm_pte::{ALLOCATION_GRANULARITY, Bytes, PagingMode, Protection, Va};

use super::constants::{
    MEM_COMMIT, MEM_LARGE_PAGES, MEM_PHYSICAL, MEM_REPLACE_PLACEHOLDER, MEM_RESERVE,
    MEM_RESERVE_PLACEHOLDER, MEM_RESET, MEM_RESET_UNDO, MEM_TOP_DOWN, MEM_WRITE_WATCH,
};
use super::profile::{NullPage, Placeholders};
use super::requirements::{ExtendedParameter, Requirements, Wishes, requirements_of};
use super::target::open;
use super::{AddressLimit, Caller, Captured, Outcome, Privileges, Process, ProcessAccess, Stage};
use crate::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::CommitPages;
use crate::status::NtStatus;
use crate::virtual_memory::{
    Allocate, AllocateLargePages, AllocationType, Direction, MemoryUse, Placement, Region, Reset,
    Window,
};

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// ZeroBits; the extended call has none.
    pub zero_bits: u64,
    /// What RegionSize points to, in bytes.
    pub size: Captured,
    /// AllocationType, MEM_* bits.
    pub kind: u32,
    /// Protect, PAGE_* bits.
    pub protection: u32,
}

/// Which of the two calls it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Extended(Result<Requirements, NtStatus>),
}

/// The call. Yields the range with its rounding.
#[derive(Debug)]
#[must_use]
pub struct AllocateVirtualMemory {
    caller: Caller,
    parameters: AllocateParameters,
    form: Form,
    stage: Stage<Call>,
}

/// The typed call it comes down to.
#[derive(Debug)]
enum Call {
    Allocate(Allocate),
    Commit(CommitPages),
    LargePages(AllocateLargePages),
    Reset(Reset),
}

impl AllocateVirtualMemory {
    /// NtAllocateVirtualMemory.
    pub const fn new(caller: Caller, parameters: AllocateParameters) -> Self {
        Self { caller, parameters, form: Form::Plain, stage: Stage::Unchecked }
    }

    /// NtAllocateVirtualMemoryEx with `count` parameters at an address that could be read as
    /// `extended`, of which the first eight suffice; none for the null pointer.
    pub fn extended(
        caller: Caller,
        parameters: AllocateParameters,
        extended: Option<&[ExtendedParameter]>,
        count: u64,
    ) -> Self {
        let given = extended.unwrap_or_default();
        let wanted = usize::try_from(count).ok().and_then(|count| given.get(..count));
        let extended = wanted.ok_or(NtStatus::INVALID_PARAMETER).and_then(requirements_of);
        Self { caller, parameters, form: Form::Extended(extended), stage: Stage::Unchecked }
    }
}

/// The type and protection, as far as they can be checked without the pointers.
struct Request {
    limit: AddressLimit,
    wishes: Wishes,
    kind: u32,
    protection: Protection,
}

/// The bits of placeholders.
const OF_PLACEHOLDERS: u32 = MEM_RESERVE_PLACEHOLDER | MEM_REPLACE_PLACEHOLDER;

/// The types one of which must be given.
const MAIN_TYPES: u32 = MEM_COMMIT | MEM_RESERVE | OF_CONTENTS;

/// The types that are about what pages hold, and stand alone.
const OF_CONTENTS: u32 = MEM_RESET | MEM_RESET_UNDO;

impl Request {
    const fn has(&self, bits: u32) -> bool {
        self.kind & bits != 0
    }

    /// Rows 1 to 9 of 3.1, and those of 3.6 that are about the same parameters.
    fn parse<M: PagingMode>(
        caller: &Caller,
        parameters: &AllocateParameters,
        form: &Form,
    ) -> Result<Self, NtStatus> {
        let behaviour = caller.behaviour();
        let AllocateParameters { kind, protection, zero_bits, base, .. } = *parameters;
        let (limit, wishes) = match form {
            Form::Plain => {
                let illegal = NtStatus::INVALID_PARAMETER_3;
                (AddressLimit::parse::<M>(zero_bits, behaviour, illegal)?, Wishes::NONE)
            }
            Form::Extended(_) if behaviour.placeholders == Placeholders::Unknown => {
                return Err(NtStatus::NOT_IMPLEMENTED);
            }
            Form::Extended(extended) => {
                let base = base.unwrap_or_default();
                (AddressLimit::None, Wishes::of::<M>((*extended)?, base)?)
            }
        };
        let misplaced = kind & OF_PLACEHOLDERS != 0 && *form == Form::Plain;
        if misplaced && kind & !(behaviour.allocation_types | OF_PLACEHOLDERS) == 0 {
            return Err(behaviour.misplaced_placeholder);
        }
        if *form != Form::Plain {
            check_placeholder_bits(kind, protection)?;
        }
        let rest = if misplaced { kind } else { kind & !OF_PLACEHOLDERS };
        check_type(rest, behaviour.allocation_types)?;
        if kind & MEM_PHYSICAL != 0 && protection != PAGE_READWRITE {
            return Err(NtStatus::INVALID_PARAMETER_6);
        }
        let protection = Protection::from_page_flags(protection)
            .map_err(|_| NtStatus::INVALID_PAGE_PROTECTION)?;
        Ok(Self { limit, wishes, kind, protection })
    }

    /// Whether address space is to be reserved: always, when the manager chooses it.
    fn reserves(&self, base: u64) -> bool {
        self.has(MEM_RESERVE) || (base == 0 && !self.has(OF_CONTENTS))
    }

    /// Where it goes.
    fn placement<M: PagingMode>(&self, caller: &Caller, base: u64) -> Result<Placement, NtStatus> {
        if self.has(MEM_REPLACE_PLACEHOLDER) {
            return Ok(Placement::Replacing(Va::new(base)));
        }
        if base != 0 {
            let low = base < ALLOCATION_GRANULARITY && self.reserves(base);
            return match caller.behaviour().null_page {
                NullPage::Refused if low => Err(NtStatus::INVALID_PARAMETER_2),
                _ => Ok(Placement::AtAny(Va::new(base))),
            };
        }
        let highest = match self.limit {
            AddressLimit::None => self.wishes.highest.unwrap_or(M::HIGHEST_VAD_ADDRESS),
            AddressLimit::Last(last) => last,
        };
        Ok(Placement::Within(Window {
            lowest: self.wishes.lowest.unwrap_or(LOWEST_USER_ADDRESS),
            highest: highest.min(M::HIGHEST_VAD_ADDRESS),
            alignment: self.wishes.alignment,
            direction: if self.has(MEM_TOP_DOWN) { Direction::Down } else { Direction::Up },
        }))
    }

    /// Row 15 and the rule on large pages of 3.2: they are reserved and committed in one call. What
    /// is wrong with the type by that rule comes after all of 3.1, the handle and the privilege
    /// too, unlike the rows on types there. In the place of a placeholder they are not to be had.
    fn large_pages<M: PagingMode>(
        &self,
        caller: &Caller,
        space: AddressSpaceId,
        base: Va,
        size: Bytes,
    ) -> Result<Call, NtStatus> {
        if !caller.holds(Privileges::LOCK_MEMORY) {
            return Err(NtStatus::PRIVILEGE_NOT_HELD);
        }
        if !self.reserves(base.get()) {
            return Err(NtStatus::INVALID_PARAMETER_5);
        }
        let protection = self.protection;
        Ok(Call::LargePages(match self.placement::<M>(caller, base.get())? {
            Placement::Within(window) => {
                AllocateLargePages::within(space, window, size, protection)
            }
            Placement::Replacing(_) => return Err(NtStatus::INVALID_PARAMETER),
            _ => AllocateLargePages::at(space, base, size, protection),
        }))
    }

    fn memory_use(&self) -> MemoryUse {
        match self.kind {
            kind if kind & MEM_RESERVE_PLACEHOLDER != 0 => MemoryUse::Placeholder,
            kind if kind & MEM_WRITE_WATCH != 0 => MemoryUse::WriteWatch,
            kind if kind & MEM_PHYSICAL != 0 => MemoryUse::AddressWindow,
            _ => MemoryUse::Ordinary,
        }
    }
}

/// Rows 2 to 7 of 3.1.
const fn check_type(kind: u32, known: u32) -> Result<(), NtStatus> {
    let wrong_reset = kind & OF_CONTENTS != 0 && kind != MEM_RESET && kind != MEM_RESET_UNDO;
    let wrong_large = kind & MEM_LARGE_PAGES != 0
        && (kind & MEM_COMMIT == 0 || kind & (MEM_PHYSICAL | MEM_WRITE_WATCH) != 0);
    let wrong_watch = kind & MEM_WRITE_WATCH != 0 && kind & MEM_RESERVE == 0;
    let wrong_physical = kind & MEM_PHYSICAL != 0
        && (kind & MEM_RESERVE == 0 || kind & !(MEM_PHYSICAL | MEM_RESERVE | MEM_TOP_DOWN) != 0);
    let wrong = kind & !known != 0
        || kind & MAIN_TYPES == 0
        || wrong_reset
        || wrong_large
        || wrong_watch
        || wrong_physical;
    if wrong { Err(NtStatus::INVALID_PARAMETER_5) } else { Ok(()) }
}

/// The rows of 3.6 on the bits of placeholders.
const fn check_placeholder_bits(kind: u32, protection: u32) -> Result<(), NtStatus> {
    let reserve = kind & MEM_RESERVE_PLACEHOLDER != 0;
    let alone = kind & !(MEM_RESERVE | MEM_RESERVE_PLACEHOLDER | MEM_TOP_DOWN) == 0;
    let wrong = (kind & OF_PLACEHOLDERS != 0 && kind & MEM_RESERVE == 0)
        || (reserve && (!alone || protection != PAGE_NOACCESS));
    if wrong { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) }
}

/// Rows 1 to 15 of 3.1, and the typed call.
fn check<M: PagingMode>(
    caller: &Caller,
    parameters: &AllocateParameters,
    form: &Form,
) -> Result<Call, NtStatus> {
    let request = Request::parse::<M>(caller, parameters, form)?;
    let (base, size) = (parameters.base?, parameters.size?);
    let end = M::HIGHEST_VAD_ADDRESS.get() + 1;
    if base >= end {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    // Row 12 before row 13.
    if size > end - base || size == 0 {
        return Err(NtStatus::INVALID_PARAMETER_4);
    }
    let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
    let (from, bytes) = (Va::new(base), Bytes::new(size));
    if request.has(MEM_LARGE_PAGES) {
        return request.large_pages::<M>(caller, space, from, bytes);
    }
    if request.has(MEM_RESET) {
        return Ok(Call::Reset(Reset::new(space, from, bytes)));
    }
    if request.has(MEM_RESET_UNDO) {
        return Ok(Call::Reset(Reset::undoing(space, from, bytes)));
    }
    let kind = match (request.has(MEM_COMMIT), request.reserves(base)) {
        (true, true) => AllocationType::ReserveAndCommit,
        (true, false) => AllocationType::Commit,
        (false, _) => AllocationType::Reserve,
    };
    let placement = request.placement::<M>(caller, base)?;
    if let (AllocationType::Commit, Placement::AtAny(base)) = (kind, placement) {
        let in_views = caller.behaviour().commit_in_view;
        let commit = CommitPages::new(space, base, bytes, request.protection, in_views);
        return Ok(Call::Commit(commit));
    }
    let call = Allocate::new(space, placement, bytes, kind, request.protection);
    Ok(Call::Allocate(call.of(request.memory_use())))
}

impl<P: Platform> Operation<P> for AllocateVirtualMemory {
    type Output = Outcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome> {
        let Self { caller, parameters, form, stage } = self;
        let step = stage.step(manager, || check::<P::Paging>(caller, parameters, form));
        step.map(|result| result.map(Into::into).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

impl<P: Platform> Operation<P> for Call {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        match self {
            Self::Allocate(call) => call.step(manager),
            Self::Commit(call) => call.step(manager),
            Self::LargePages(call) => call.step(manager),
            Self::Reset(call) => call.step(manager),
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        match self {
            Self::Allocate(call) => call.abandon(manager),
            Self::Commit(call) => call.abandon(manager),
            Self::LargePages(call) => call.abandon(manager),
            Self::Reset(call) => call.abandon(manager),
        }
    }
}
