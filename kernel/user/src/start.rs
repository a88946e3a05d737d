//! The way into a program and the ways out of it.

use core::panic::PanicInfo;

use crate::NtStatus;
use crate::arguments::Arguments;
use crate::println;
use crate::services::NtTerminateProcess;
use crate::structures::Handle;

/// Makes `main`, a `fn(Arguments<'_>) -> NtStatus`, the program: calls it with the arguments of
/// the process and ends the process with the status it returns.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: a program has one entry, so the name is unique. The kernel enters here with
        // the stack as at any function's entry.
        #[unsafe(no_mangle)]
        extern "C" fn _start(arguments: *const u8, length: usize) -> ! {
            // SAFETY: the kernel passes the argument string of the process, which nothing writes
            // to again.
            unsafe { $crate::start::run($main, arguments, length) }
        }
    };
}

/// Runs `main` with an argument string of the kernel's, and ends the process.
///
/// # Safety
/// `arguments` must point to `length` bytes that stay as they are as long as the process lives.
pub unsafe fn run(main: fn(Arguments<'_>) -> NtStatus, arguments: *const u8, length: usize) -> ! {
    let bytes: &[u8] = if length == 0 {
        &[]
    } else {
        // SAFETY: the caller's.
        unsafe { core::slice::from_raw_parts(arguments, length) }
    };
    match str::from_utf8(bytes) {
        Ok(text) => exit(main(Arguments::new(text))),
        Err(_) => exit(NtStatus::INVALID_PARAMETER_1),
    }
}

/// Ends the process.
pub fn exit(status: NtStatus) -> ! {
    loop {
        let _ = NtTerminateProcess(Handle::CURRENT_PROCESS, status);
    }
}

/// Says what went wrong and ends the process.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(NtStatus::UNSUCCESSFUL)
}
