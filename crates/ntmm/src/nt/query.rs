//! NtQueryVirtualMemory (nt-api 7).
//!
//! Information of a fixed size is in the outcome as a structure, which the host lays out for the
//! caller. The two lists of pages, the working set and the attributes of chosen pages, are written
//! as words into a buffer that the host lends.

mod layout;

pub use layout::{BasicInformation, ImageInformation, RegionInformation};

use ntmm_pte::{PagingMode, Va};

use super::target::open;
use super::{Caller, Captured, Process, ProcessAccess, Stage};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::PageSize;
use crate::virtual_memory::{
    AllocationInformation, ListWorkingSet, PageQuestions, PageSink, Query, QueryAllocation,
    QueryPages, Residency, ResidentPage, Sharing,
};
use layout::Class;

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryParameters {
    /// ProcessHandle.
    pub process: Process,
    /// BaseAddress.
    pub address: u64,
    /// MemoryInformationClass.
    pub class: u32,
    /// Whether MemoryInformation can be written.
    pub buffer: Captured<()>,
    /// MemoryInformationLength, in bytes.
    pub length: u64,
    /// Whether ReturnLength, unless it is null, can be written.
    pub return_length: Captured<()>,
}

/// How the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryOutcome {
    /// The status to return.
    pub status: NtStatus,
    /// What to write into the buffer. A failure may write something too.
    pub information: Option<Information>,
    /// What to write through ReturnLength, in bytes.
    pub return_length: Option<u64>,
}

/// What is written into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Information {
    /// MemoryBasicInformation and its privileged form.
    Basic(BasicInformation),
    /// MemoryWorkingSetInformation: the number of entries, which is the first word; the entries
    /// are in the words that were lent, as many as fit.
    WorkingSet {
        /// Pages in the working set.
        count: u64,
        /// Entries in the words.
        stored: u64,
    },
    /// MemoryRegionInformation and its extended form, of which the first `length` bytes count.
    Region(RegionInformation),
    /// MemoryWorkingSetExInformation: address and attributes in turn, in the words that were
    /// lent.
    WorkingSetEx,
    /// MemorySharedCommitInformation: bytes of commitment shared with other processes.
    SharedCommit(u64),
    /// MemoryImageInformation.
    Image(ImageInformation),
}

/// The call.
///
/// For the working set the host lends the words that follow the count, one for each entry. For
/// the attributes of pages it lends two for each whole entry of the buffer, the first of which
/// holds the address; the attributes come into the second.
#[derive(Debug)]
#[must_use]
pub struct QueryVirtualMemory<'b> {
    caller: Caller,
    parameters: QueryParameters,
    words: Option<&'b mut [u64]>,
    stage: Stage<Call<'b>>,
}

/// The typed call it comes down to.
#[derive(Debug)]
enum Call<'b> {
    Basic(Query),
    Allocation(Class, QueryAllocation),
    WorkingSet(ListWorkingSet<WorkingSetWords<'b>>),
    Pages(QueryPages<AttributeWords<'b>>),
}

impl<'b> QueryVirtualMemory<'b> {
    /// The call with these parameters; `words` are empty for classes that need none.
    pub const fn new(caller: Caller, parameters: QueryParameters, words: &'b mut [u64]) -> Self {
        Self { caller, parameters, words: Some(words), stage: Stage::Unchecked }
    }
}

/// The rows of 7.1.
fn check<'b, M: PagingMode>(
    caller: &Caller,
    parameters: &QueryParameters,
    words: &'b mut [u64],
) -> Result<Call<'b>, NtStatus> {
    let address = Va::new(parameters.address);
    let class = Class::parse(parameters.class, caller.behaviour());
    let basic = matches!(class, Some(Class::Basic | Class::PrivilegedBasic));
    if basic && !M::is_user(address) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    parameters.buffer?;
    parameters.return_length?;
    let class = class.ok_or(NtStatus::INVALID_INFO_CLASS)?;
    // A name is asked for in another order: 7.6.
    if class != Class::MappedFilename && parameters.length < class.shortest(caller.width) {
        return Err(NtStatus::INFO_LENGTH_MISMATCH);
    }
    let behaviour = caller.behaviour();
    let working_set = [ProcessAccess::QUERY_INFORMATION | ProcessAccess::VM_READ];
    let wanted = match class {
        Class::WorkingSet => &working_set,
        _ => behaviour.query_access,
    };
    let space = open(caller, parameters.process, wanted)?;
    Ok(match class {
        Class::Basic | Class::PrivilegedBasic => Call::Basic(Query::new(space, address)),
        Class::WorkingSet => {
            let words = WorkingSetWords { words, count: 0 };
            Call::WorkingSet(ListWorkingSet::new(space, words))
        }
        Class::WorkingSetEx => Call::Pages(QueryPages::new(space, AttributeWords { words })),
        Class::MappedFilename
        | Class::Region
        | Class::RegionEx
        | Class::SharedCommit
        | Class::Image => Call::Allocation(class, QueryAllocation::new(space, address)),
    })
}

/// Entries of a working set: 7.3.
#[derive(Debug)]
struct WorkingSetWords<'b> {
    words: &'b mut [u64],
    count: u64,
}

impl PageSink for WorkingSetWords<'_> {
    fn resident(&mut self, page: ResidentPage) {
        let room = usize::try_from(self.count).ok().and_then(|number| self.words.get_mut(number));
        if let Some(word) = room {
            *word = Va::new(page.page.get() << ntmm_pte::PAGE_SHIFT).get()
                | u64::from(page.protection.bits())
                | shares(page.sharing) << 5
                | u64::from(page.sharing != Sharing::Private) << 8;
        }
        self.count += 1;
    }
}

/// How often a shared page is mapped, as far as three bits can say.
fn shares(sharing: Sharing) -> u64 {
    match sharing {
        Sharing::Private => 0,
        Sharing::Shared(count) => u64::from(count.min(7)),
    }
}

/// Attributes of pages: 7.4.
#[derive(Debug)]
struct AttributeWords<'b> {
    words: &'b mut [u64],
}

impl PageQuestions for AttributeWords<'_> {
    fn address(&self, number: usize) -> Option<Va> {
        // The room for the answer must be there too.
        self.words.get(2 * number + 1)?;
        self.words.get(2 * number).map(|&word| Va::new(word))
    }

    fn answer(&mut self, number: usize, page: Option<ResidentPage>) {
        const VALID: u64 = 1;
        const PROTECTION_SHIFT: u32 = 4;
        const SHARED: u64 = 1 << 15;
        const LOCKED: u64 = 1 << 22;
        const LARGE_PAGE: u64 = 1 << 23;
        let attributes = page.map_or(0, |page| {
            let locked = if page.residency == Residency::Locked { LOCKED } else { 0 };
            let large = if page.size == PageSize::Large { LARGE_PAGE } else { 0 };
            let shared = if page.sharing == Sharing::Private { 0 } else { SHARED };
            let protection = u64::from(page.protection.to_page_flags()) << PROTECTION_SHIFT;
            VALID | shares(page.sharing) << 1 | protection | shared | locked | large
        });
        if let Some(word) = self.words.get_mut(2 * number + 1) {
            *word = attributes;
        }
    }
}

/// What a typed call yields.
enum Found {
    Information(Information),
    Failure(NtStatus),
}

impl Class {
    /// What this class says of the allocation at an address.
    fn describe(self, allocation: Option<AllocationInformation>) -> Result<Information, NtStatus> {
        let allocation = allocation.ok_or(NtStatus::INVALID_ADDRESS)?;
        let is_private = allocation.kind.private_memory() == 1;
        match self {
            Self::MappedFilename if is_private => Err(NtStatus::INVALID_ADDRESS),
            Self::MappedFilename => Err(NtStatus::FILE_INVALID),
            Self::SharedCommit => Ok(Information::SharedCommit(0)),
            Self::Image => Ok(Information::Image(ImageInformation::default())),
            Self::RegionEx => Ok(Information::Region(RegionInformation::extended(&allocation))),
            _ => Ok(Information::Region(RegionInformation::plain(&allocation))),
        }
    }
}

fn outcome(caller: &Caller, parameters: &QueryParameters, found: Found) -> QueryOutcome {
    let failure = |status| QueryOutcome { status, information: None, return_length: None };
    let information = match found {
        Found::Failure(status) => return failure(status),
        Found::Information(information) => information,
    };
    let pointer = caller.width.bytes();
    let length = match information {
        Information::Basic(_) => Class::Basic.shortest(caller.width),
        Information::WorkingSet { count, stored } => {
            if stored < count {
                return QueryOutcome {
                    status: NtStatus::INFO_LENGTH_MISMATCH,
                    information: Some(information),
                    return_length: None,
                };
            }
            (1 + count) * pointer
        }
        Information::Region(_) => parameters.length.min(layout::region_bytes(caller.width)),
        Information::WorkingSetEx => parameters.length,
        Information::SharedCommit(_) => pointer,
        Information::Image(_) => Class::Image.shortest(caller.width),
    };
    QueryOutcome {
        status: NtStatus::SUCCESS,
        information: Some(information),
        return_length: Some(length),
    }
}

impl<P: Platform> Operation<P> for QueryVirtualMemory<'_> {
    type Output = QueryOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<QueryOutcome> {
        let Self { caller, parameters, words, stage } = self;
        let step = stage.step(manager, || {
            check::<P::Paging>(caller, parameters, words.take().unwrap_or_default())
        });
        step.map(|result| outcome(caller, parameters, result.unwrap_or_else(Found::Failure)))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

impl<P: Platform> Operation<P> for Call<'_> {
    type Output = Found;

    fn step(&mut self, manager: &Manager<P>) -> Step<Found> {
        match self {
            Self::Basic(call) => {
                let basic = |found| Information::Basic(BasicInformation::new(&found));
                call.step(manager).map(|found| Found::Information(basic(found)))
            }
            Self::Allocation(class, call) => {
                let class = *class;
                call.step(manager).map(|found| match class.describe(found) {
                    Ok(information) => Found::Information(information),
                    Err(status) => Found::Failure(status),
                })
            }
            Self::WorkingSet(call) => call.step(manager).map(|words| {
                let (count, room) =
                    words.map_or((0, 0), |words| (words.count, words.words.len() as u64));
                Found::Information(Information::WorkingSet { count, stored: count.min(room) })
            }),
            Self::Pages(call) => {
                call.step(manager).map(|_| Found::Information(Information::WorkingSetEx))
            }
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        match self {
            Self::Basic(call) => call.abandon(manager),
            Self::Allocation(_, call) => Operation::<P>::abandon(call, manager),
            Self::WorkingSet(call) => Operation::<P>::abandon(call, manager),
            Self::Pages(call) => Operation::<P>::abandon(call, manager),
        }
    }
}
