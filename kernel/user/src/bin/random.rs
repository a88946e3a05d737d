//! Carries out the seeded workload that the simulated machine carries out too.
//!
//! Arguments: `seed=S` (default 1), `steps=N` (default 1000). Calls go to the kernel as they are,
//! loads and stores are single instructions, and an exception is part of what is seen. At the end
//! one line `@outcome {...}` tells the digest of everything seen, which depends on nothing but
//! seed and steps. Ends with success whatever the digest is: to compare it is for whoever reads
//! the line. While it runs nothing else may be taken out of the commit limit that the workload
//! needs.
#![no_std]
#![no_main]

use core::fmt::Write;

use ntmm_user::attempt;
use ntmm_user::console::Line;
use ntmm_user::memory::query;
use ntmm_user::services::{NtAllocateVirtualMemory, NtFreeVirtualMemory, NtProtectVirtualMemory};
use ntmm_user::structures::{Handle, MemoryBasicInformation};
use ntmm_user::{Arguments, NtStatus, exceptions, println, services, system};
use ntmm_workload::{
    Access, Exception, Information, JSON_LENGTH, Request, Response, Width, Workload,
};

ntmm_user::entry!(main);

/// Bytes of the `@outcome` line: its word, the object, the line end.
const LINE_LENGTH: usize = JSON_LENGTH + 16;

const OWN: Handle = Handle::CURRENT_PROCESS;

fn main(arguments: Arguments<'_>) -> NtStatus {
    run(arguments).unwrap_or_else(|status| {
        println!("random: {status}");
        status
    })
}

fn run(arguments: Arguments<'_>) -> Result<NtStatus, NtStatus> {
    arguments.only(&["seed", "steps"])?;
    let seed = arguments.number("seed", 1)?;
    let steps = arguments.number("steps", 1000)?;
    let steps = u32::try_from(steps).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    println!("random: seed {seed}, {steps} steps");
    exceptions::install()?;
    let outcome = Workload::new(seed, steps).run(carry_out);
    let mut line = Line::<LINE_LENGTH>::new();
    let _ = write!(line, "@outcome {outcome}");
    line.show_line();
    let accesses = u64::from(outcome.counts.load) + u64::from(outcome.counts.store);
    let _ = services::ReportVerified(accesses, 0);
    Ok(NtStatus::SUCCESS)
}

fn carry_out(request: Request) -> Response {
    match request {
        Request::Allocate { base, size, allocation_type, protect } => {
            let (mut base, mut size) = (base, size);
            // SAFETY: the pointers are to locals. The workload keeps to addresses where nothing
            // of the program's is; so do the calls below.
            let status = unsafe {
                NtAllocateVirtualMemory(
                    OWN,
                    &raw mut base,
                    0,
                    &raw mut size,
                    allocation_type,
                    protect,
                )
            };
            Response::Range { status: status.code(), base, size }
        }
        Request::Free { base, size, free_type } => {
            let (mut base, mut size) = (base, size);
            // SAFETY: as above.
            let status =
                unsafe { NtFreeVirtualMemory(OWN, &raw mut base, &raw mut size, free_type) };
            Response::Range { status: status.code(), base, size }
        }
        Request::Protect { base, size, protect } => {
            let (mut base, mut size, mut old_protect) = (base, size, 0);
            // SAFETY: as above.
            let status = unsafe {
                NtProtectVirtualMemory(
                    OWN,
                    &raw mut base,
                    &raw mut size,
                    protect,
                    &raw mut old_protect,
                )
            };
            Response::Protected { status: status.code(), base, size, old_protect }
        }
        Request::Query { address } => match query(address) {
            Ok(found) => Response::Information { status: 0, information: information(&found) },
            Err(status) => {
                Response::Information { status: status.code(), information: Information::default() }
            }
        },
        Request::Load { address, width } => {
            let loaded = match width {
                Width::Byte => attempt::load_byte(address).map(u64::from),
                Width::Quadword => attempt::load(address),
            };
            match loaded {
                Ok(value) => Response::Loaded { value },
                Err(raised) => Response::Exception(exception(&raised)),
            }
        }
        Request::Store { address, width, value } => {
            // SAFETY: nothing of the program's is where the workload stores.
            let stored = unsafe {
                match width {
                    Width::Byte => attempt::store_byte(address, value as u8),
                    Width::Quadword => attempt::store(address, value),
                }
            };
            match stored {
                Ok(()) => Response::Stored,
                Err(raised) => Response::Exception(exception(&raised)),
            }
        }
        Request::EmptyWorkingSet => {
            let status = NtStatus::from(system::empty_working_set());
            Response::Emptied { status: status.code() }
        }
    }
}

fn information(found: &MemoryBasicInformation) -> Information {
    Information {
        base: found.base_address,
        allocation_base: found.allocation_base,
        allocation_protect: found.allocation_protect.0,
        size: found.region_size,
        state: found.state.0,
        protect: found.protect.0,
        kind: found.kind.0,
    }
}

const fn exception(raised: &attempt::Exception) -> Exception {
    Exception {
        code: raised.code.code(),
        access: Access::from_parameter(raised.kind),
        address: raised.address,
    }
}
