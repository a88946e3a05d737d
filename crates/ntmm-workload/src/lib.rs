//! One random program for every host of the memory manager.
//!
//! A [`Workload`] asks for calls on virtual memory and for loads and stores, one at a time, and
//! hears what came of each. What it asks next follows from its seed and from what it has heard.
//! Whatever a program can see goes into a digest: statuses, addresses, sizes, protections, loaded
//! values, exceptions. So two hosts that treat a program alike, a simulated machine and a kernel,
//! or one with little memory and one with plenty, end with equal [`Outcome`]s for equal seeds; and
//! the digests on the way say where two that differ parted.
//!
//! # Carrying it out
//!
//! The host's part is a function from [`Request`] to [`Response`]. The requests are in the shape of
//! NT's calls, so that a program can pass the numbers on as they are. Here is a host without any
//! memory:
//!
//! ```
//! use ntmm_workload::{Access, Exception, Information, Request, Response, Workload};
//!
//! const STATUS_NO_MEMORY: u32 = 0xC000_0017;
//! const STATUS_ACCESS_VIOLATION: u32 = 0xC000_0005;
//!
//! fn carry_out(request: Request) -> Response {
//!     let status = STATUS_NO_MEMORY;
//!     match request {
//!         // NtAllocateVirtualMemory(-1, &mut base, 0, &mut size, allocation_type, protect) and
//!         // NtFreeVirtualMemory(-1, &mut base, &mut size, free_type)
//!         Request::Allocate { base, size, .. } | Request::Free { base, size, .. } => {
//!             Response::Range { status, base, size }
//!         }
//!         // NtProtectVirtualMemory(-1, &mut base, &mut size, protect, &mut old_protect)
//!         Request::Protect { base, size, .. } => {
//!             Response::Protected { status, base, size, old_protect: 0 }
//!         }
//!         // NtQueryVirtualMemory(-1, address, MemoryBasicInformation, ...)
//!         Request::Query { .. } => {
//!             Response::Information { status, information: Information::default() }
//!         }
//!         // One instruction that moves so many bytes. When it raises an exception, the handler
//!         // goes on behind it.
//!         Request::Load { address, .. } => Response::Exception(Exception {
//!             code: STATUS_ACCESS_VIOLATION,
//!             access: Access::Read,
//!             address,
//!         }),
//!         Request::Store { address, .. } => Response::Exception(Exception {
//!             code: STATUS_ACCESS_VIOLATION,
//!             access: Access::Write,
//!             address,
//!         }),
//!         // NtSetInformationProcess(-1, ProcessQuotaLimits, both limits u64::MAX)
//!         Request::EmptyWorkingSet => Response::Emptied { status },
//!     }
//! }
//!
//! let mut workload = Workload::new(7, 1_000);
//! while let Some(request) = workload.request() {
//!     workload.answer(carry_out(request));
//! }
//! println!("@outcome {}", workload.outcome());
//! assert_eq!(workload.outcome().steps, 1_000);
//! # assert_eq!(&Workload::new(7, 1_000).run(carry_out), workload.outcome());
//! ```
//!
//! # What a host must grant
//!
//! * Nothing of the program's lies in the [arena], and nothing is mapped in the
//!   lowest 64 KiB, where NT maps nothing either.
//! * So much commitment is left: [`arena::MOST_PAGES`] pages and their page tables.
//! * Reads from the paging file succeed.
//! * A load or a store is one instruction: both its pages are there, or it has no effect and is
//!   given up at the first exception. When both pages would raise one, the lower does.
//!
//! The workload takes less than 4 KiB with its outcome, and allocates nothing.
//!
//! | Module | Holds |
//! |---|---|
//! | `request` | requests, responses, NT's numbers |
//! | `workload` | drawing requests, hearing responses |
//! | [`arena`] | the addresses used, and what is probably there |
//! | `outcome` | digest, counts, and their JSON form |
//! | `random` | the stream of choices |
#![no_std]
#![forbid(unsafe_code)]

pub mod arena;
mod outcome;
mod random;
mod request;
mod workload;

pub use outcome::{CHECKPOINTS, Counts, JSON_LENGTH, Outcome};
pub use request::{
    Access, Exception, Information, MEM_COMMIT, MEM_DECOMMIT, MEM_FREE, MEM_PRIVATE, MEM_RELEASE,
    MEM_RESERVE, PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_GUARD,
    PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, Request, Response, STATUS_ACCESS_VIOLATION,
    STATUS_GUARD_PAGE_VIOLATION, STATUS_SUCCESS, Width,
};
pub use workload::Workload;
