//! Exceptions: what the processor or the manager raises in a thread of this program.
//!
//! The kernel pushes a [`Context`] and an [`ExceptionRecord`] onto the thread's stack and enters
//! the dispatcher registered for the process, here `dispatch`. It looks, in this order, whether
//! the instruction was one of [`mod@crate::attempt`], which then ends with the exception as its
//! value; whether the program has a handler, which may mend what was wrong or change the
//! context; else it ends the process with the exception's code. It goes back by NtContinue, so
//! the interrupted registers are whole again, and may itself be interrupted by an exception.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::NtStatus;
use crate::attempt;
use crate::services::{NtContinue, RegisterExceptionDispatcher};
use crate::start::exit;
use crate::structures::{Context, ExceptionRecord};

/// What a handler has decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The thread goes on with the context as it is now.
    Continue,
    /// The exception is not for this handler: the process ends with its code.
    Terminate,
}

/// A program's handler. It runs on the stack of the thread that was interrupted.
pub type Handler = fn(&ExceptionRecord, &mut Context) -> Disposition;

/// The program's handler as a plain pointer; null while there is none.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Registers the dispatcher, so that attempts end with a value instead of the process.
///
/// # Errors
/// Whatever the kernel says.
pub fn install() -> Result<(), NtStatus> {
    let dispatcher = dispatch as *const ();
    // SAFETY: `dispatch` is written to be entered so.
    unsafe { RegisterExceptionDispatcher(dispatcher.addr() as u64) }.into_result()
}

/// Makes `handler` the program's handler and registers the dispatcher.
///
/// # Safety
/// With the context that `handler` leaves, the interrupted code must be able to go on.
///
/// # Errors
/// Whatever the kernel says.
pub unsafe fn set_handler(handler: Handler) -> Result<(), NtStatus> {
    HANDLER.store(handler as *mut (), Ordering::Release);
    install()
}

/// Where the kernel enters with an exception.
extern "C" fn dispatch(record: *const ExceptionRecord, context: *mut Context) -> ! {
    // SAFETY: the kernel has written both onto this stack, above the frame of this function, and
    // nobody else knows of them.
    let (record, context) = unsafe { (&*record, &mut *context) };
    let disposition = if attempt::finish(record, context) {
        Disposition::Continue
    } else {
        ask_handler(record, context)
    };
    if disposition == Disposition::Continue {
        // SAFETY: the context is the interrupted one, changed by those who vouch for it.
        let refused = unsafe { NtContinue(context) };
        exit(refused)
    }
    exit(record.code)
}

fn ask_handler(record: &ExceptionRecord, context: &mut Context) -> Disposition {
    let pointer = HANDLER.load(Ordering::Acquire);
    if pointer.is_null() {
        return Disposition::Terminate;
    }
    // SAFETY: only `set_handler` stores here, and it stores a `Handler`.
    let handler = unsafe { core::mem::transmute::<*mut (), Handler>(pointer) };
    handler(record, context)
}
