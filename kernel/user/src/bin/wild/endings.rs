//! What no handler survives, or what needs none: the process ends.

use core::sync::atomic::{AtomicU64, Ordering};

use ntmm_user::exceptions::{self, Disposition};
use ntmm_user::flags::{MEM_DECOMMIT, MEM_RELEASE, PAGE_NOACCESS};
use ntmm_user::services::{
    NtCreateThreadEx, NtDelayExecution, NtTerminateProcess, NtTerminateThread, NtWaitForThread,
    RegisterExceptionDispatcher, Service,
};
use ntmm_user::start::exit;
use ntmm_user::structures::{Context, ExceptionRecord, Handle, InitialStack};
use ntmm_user::threads::Thread;
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::Case;

const VIOLATION: &[NtStatus] = &[NtStatus::ACCESS_VIOLATION];
const OVERFLOW: &[NtStatus] = &[NtStatus::STACK_OVERFLOW];
const ILLEGAL: &[NtStatus] = &[NtStatus::ILLEGAL_INSTRUCTION];
/// A status that nothing else ends with.
const CHOSEN: NtStatus = NtStatus::new(0xE0AB_CDEF);

/// An address of the kernel's half, and one that is none.
const KERNEL: u64 = 0xFFFF_FFFF_8010_0000;
const STRANGE: u64 = 0x0000_8000_0000_0000;

const fn case(name: &'static str, run: extern "C" fn(), ends: &'static [NtStatus]) -> Case {
    Case { name, run, ends }
}

/// All of them.
pub const CASES: &[Case] = &[
    // The exception cannot be put on the stack.
    case("no-stack", no_stack, VIOLATION),
    case("kernel-stack", kernel_stack, VIOLATION),
    case("strange-stack", strange_stack, VIOLATION),
    case("code-stack", code_stack, VIOLATION),
    case("no-stack-ud2", no_stack_ud2, ILLEGAL),
    case("stack-overflow", stack_overflow, VIOLATION),
    case("stack-overflow-unhandled", stack_overflow_unhandled, OVERFLOW),
    case("free-stack", free_stack, VIOLATION),
    // The handler is no better.
    case("handler-recursion", handler_recursion, VIOLATION),
    case("handler-terminates", handler_terminates, ILLEGAL),
    case("handler-in-kernel", handler_in_kernel, VIOLATION),
    case("handler-strange", handler_strange, VIOLATION),
    case("handler-in-data", handler_in_data, VIOLATION),
    // The code goes away.
    case("free-code", free_code, VIOLATION),
    case("protect-code", protect_code, VIOLATION),
    // Threads.
    case("thread-starts-at-null", thread_starts_at_null, VIOLATION),
    case("thread-starts-in-kernel", thread_starts_in_kernel, VIOLATION),
    case("thread-starts-strange", thread_starts_strange, VIOLATION),
    case("thread-without-stack", thread_without_stack, VIOLATION),
    case("thread-on-strange-stack", thread_on_strange_stack, VIOLATION),
    case("thread-raises", thread_raises, ILLEGAL),
    case("thread-ends-process", thread_ends_process, &[CHOSEN]),
    case("last-thread-ends", last_thread_ends, &[CHOSEN]),
    case("many-threads", many_threads, &[NtStatus::SUCCESS]),
    case("waits-in-a-circle", wait_in_a_circle, &[NtStatus::SUCCESS]),
    // Ways out.
    case("ends-with-high-bits", ends_with_high_bits, &[CHOSEN]),
    case("panic", panics, &[NtStatus::UNSUCCESSFUL]),
];

/// Loads the stack pointer and executes what follows.
macro_rules! on_stack {
    ($stack:expr, $instruction:literal) => {
        // SAFETY: nothing of the program is executed afterwards.
        unsafe {
            core::arch::asm!(
                "mov rsp, {stack}",
                $instruction,
                "ud2",
                stack = in(reg) $stack,
                options(noreturn),
            )
        }
    };
}

extern "C" fn no_stack() {
    leave_handler_in_place();
    on_stack!(0_u64, "push rax")
}

extern "C" fn kernel_stack() {
    leave_handler_in_place();
    on_stack!(KERNEL, "push rax")
}

extern "C" fn strange_stack() {
    leave_handler_in_place();
    on_stack!(STRANGE + 8, "push rax")
}

extern "C" fn code_stack() {
    leave_handler_in_place();
    on_stack!((code_stack as *const ()).addr() as u64 & !15, "push rax")
}

extern "C" fn no_stack_ud2() {
    leave_handler_in_place();
    on_stack!(0_u64, "ud2")
}

/// A handler that would go on for ever, if it could be reached.
fn leave_handler_in_place() {
    // SAFETY: the handler changes nothing.
    let _ = unsafe { exceptions::set_handler(|_, _| Disposition::Continue) };
}

/// The handler is told of the overflow, changes nothing, and the loop goes on until there is no
/// stack left to tell anything on.
extern "C" fn stack_overflow() {
    leave_handler_in_place();
    push_for_ever()
}

extern "C" fn stack_overflow_unhandled() {
    // SAFETY: without a dispatcher every exception ends the process.
    let _ = unsafe { RegisterExceptionDispatcher(0) };
    push_for_ever()
}

fn push_for_ever() -> ! {
    // SAFETY: what is written over lies below the stack, where there is nothing; nothing of the
    // program is executed afterwards.
    unsafe { core::arch::asm!("2:", "push rax", "jmp 2b", options(noreturn)) }
}

extern "C" fn free_stack() {
    leave_handler_in_place();
    let here = 0_u64;
    let (mut base, mut size) = ((&raw const here).addr() as u64 & !(PAGE_SIZE - 1), PAGE_SIZE);
    // SAFETY: nothing of the program is executed afterwards.
    unsafe {
        core::arch::asm!(
            "syscall",
            "push rax",
            "ud2",
            in("rax") Service::FreeVirtualMemory as u64,
            in("rdi") u64::MAX,
            in("rsi") &raw mut base,
            in("rdx") &raw mut size,
            in("r10") u64::from(MEM_DECOMMIT.0),
            options(noreturn),
        )
    }
}

extern "C" fn handler_recursion() {
    // SAFETY: nothing of the program is executed after the exception but the handler.
    let _ = unsafe { exceptions::set_handler(raises_again) };
    null_read();
}

/// A load from address 0, whatever the registers hold.
fn null_read() {
    // SAFETY: a load changes nothing.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0_u64 => _) }
}

fn raises_again(_record: &ExceptionRecord, _context: &mut Context) -> Disposition {
    null_read();
    Disposition::Terminate
}

extern "C" fn handler_terminates() {
    // SAFETY: the handler changes nothing.
    let _ = unsafe { exceptions::set_handler(|_, _| Disposition::Terminate) };
    // SAFETY: the exception ends the process.
    unsafe { core::arch::asm!("ud2") }
}

extern "C" fn handler_in_kernel() {
    with_dispatcher(KERNEL);
}

extern "C" fn handler_strange() {
    with_dispatcher(STRANGE);
}

/// What the exception must not enter.
static DATA: AtomicU64 = AtomicU64::new(0xFEEB);

extern "C" fn handler_in_data() {
    with_dispatcher((&raw const DATA).addr() as u64);
}

/// Registers a dispatcher there, or counts as ended when the kernel refuses it, and raises.
fn with_dispatcher(address: u64) {
    // SAFETY: nothing of the program is executed after the exception.
    let status = unsafe { RegisterExceptionDispatcher(address) };
    refused_is_as_good(status);
    null_read();
}

/// A kernel may refuse at once what would end in a violation.
fn refused_is_as_good(status: NtStatus) {
    if !status.is_success() {
        exit(NtStatus::ACCESS_VIOLATION);
    }
}

extern "C" fn free_code() {
    let (mut base, mut size) = (code_base(), 0_u64);
    // SAFETY: nothing of the program is executed afterwards.
    unsafe {
        core::arch::asm!(
            "syscall",
            "ud2",
            in("rax") Service::FreeVirtualMemory as u64,
            in("rdi") u64::MAX,
            in("rsi") &raw mut base,
            in("rdx") &raw mut size,
            in("r10") u64::from(MEM_RELEASE.0),
            options(noreturn),
        )
    }
}

extern "C" fn protect_code() {
    let (mut base, mut size, mut old) = (code_base(), 0, 0_u32);
    size += ntmm_user::memory::query(base).map_or(0, |found| found.region_size);
    // SAFETY: nothing of the program is executed afterwards.
    unsafe {
        core::arch::asm!(
            "syscall",
            "ud2",
            in("rax") Service::ProtectVirtualMemory as u64,
            in("rdi") u64::MAX,
            in("rsi") &raw mut base,
            in("rdx") &raw mut size,
            in("r10") u64::from(PAGE_NOACCESS.0),
            in("r8") &raw mut old,
            options(noreturn),
        )
    }
}

/// Where the code of the program begins.
fn code_base() -> u64 {
    let here = (code_base as *const ()).addr() as u64;
    ntmm_user::memory::query(here).map_or(0, |found| found.allocation_base)
}

/// Starts a thread at `start` on a stack at `top`, and waits for it to end the process.
fn with_thread(start: u64, top: u64) {
    let mut id = 0;
    let stack = InitialStack { base: top, limit: top, deallocation: top };
    // SAFETY: nothing relies on what the thread does: it raises with its first instructions.
    let status = unsafe {
        NtCreateThreadEx(Handle::CURRENT_PROCESS, &raw mut id, start, 0, &raw const stack)
    };
    refused_is_as_good(status);
    wait_for_the_end();
}

/// Waits, for at most ten seconds.
fn wait_for_the_end() {
    for _ in 0..1000 {
        let _ = NtDelayExecution(10_000);
    }
}

extern "C" fn thread_starts_at_null() {
    with_thread(0, own_stack());
}

extern "C" fn thread_starts_in_kernel() {
    with_thread(KERNEL, own_stack());
}

extern "C" fn thread_starts_strange() {
    with_thread(STRANGE, own_stack());
}

extern "C" fn thread_without_stack() {
    with_thread((uses_stack as *const ()).addr() as u64, 0);
}

extern "C" fn thread_on_strange_stack() {
    with_thread((uses_stack as *const ()).addr() as u64, STRANGE);
}

/// A part of the stack that this thread is far from using.
fn own_stack() -> u64 {
    let here = 0_u64;
    ((&raw const here).addr() as u64 - 4 * PAGE_SIZE) & !15
}

extern "C" fn uses_stack(_argument: u64) -> ! {
    // SAFETY: the loads and stores are of this function's own word.
    unsafe { core::arch::asm!("push 1", "pop {0}", out(reg) _) }
    exit(NtStatus::SUCCESS)
}

extern "C" fn thread_raises() {
    let _ = Thread::start(raises, 0);
    wait_for_the_end();
}

extern "C" fn raises(_argument: u64) -> ! {
    // SAFETY: the exception ends the process.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

extern "C" fn thread_ends_process() {
    let thread = Thread::start(ends_process, 0);
    // Would not come back: the other thread never ends.
    let _ = thread.map(Thread::join);
}

extern "C" fn ends_process(_argument: u64) -> ! {
    let _ = NtDelayExecution(1000);
    exit(CHOSEN)
}

extern "C" fn last_thread_ends() {
    let _ = NtTerminateThread(Handle::CURRENT_THREAD, CHOSEN);
}

/// The three threads of [`wait_in_a_circle`], and how many of their waits were refused.
static CIRCLE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Lets three threads wait for each other: the last of them must be refused, and the others must
/// see it end.
extern "C" fn wait_in_a_circle() {
    for (number, id) in (0..).zip(&CIRCLE) {
        match Thread::start(waits_for_next, number) {
            Ok(thread) => id.store(thread.id(), Ordering::SeqCst),
            Err(status) => exit(status),
        }
    }
    for id in &CIRCLE {
        if NtWaitForThread(id.load(Ordering::SeqCst)) != NtStatus::SUCCESS {
            exit(NtStatus::UNSUCCESSFUL);
        }
    }
    if REFUSED.load(Ordering::SeqCst) != 1 {
        exit(NtStatus::DATA_ERROR);
    }
}

extern "C" fn waits_for_next(number: u64) -> ! {
    const POSSIBLE_DEADLOCK: NtStatus = NtStatus::new(0xC000_0194);
    let all_known = || CIRCLE.iter().all(|id| id.load(Ordering::SeqCst) != 0);
    while !all_known() {
        let _ = NtDelayExecution(1000);
    }
    let next = &CIRCLE[(number as usize + 1) % CIRCLE.len()];
    if NtWaitForThread(next.load(Ordering::SeqCst)) == POSSIBLE_DEADLOCK {
        REFUSED.fetch_add(1, Ordering::SeqCst);
    }
    ntmm_user::threads::exit(NtStatus::SUCCESS)
}

/// Threads of [`many_threads`] that have come to life, and whether they may end.
static ALIVE: AtomicU64 = AtomicU64::new(0);
static MAY_END: AtomicU64 = AtomicU64::new(0);

/// Starts threads until the kernel refuses, lets them end, and starts one more.
extern "C" fn many_threads() {
    const MOST: usize = 512;
    let mut threads: [Option<Thread>; MOST] = [const { None }; MOST];
    let mut started = 0;
    for place in &mut threads {
        let Ok(thread) = Thread::start(waits, 0) else { break };
        *place = Some(thread);
        started += 1;
    }
    ntmm_user::println!("wild: {started} threads");
    MAY_END.store(1, Ordering::SeqCst);
    for thread in threads.into_iter().flatten() {
        if let Err(status) = thread.join() {
            exit(status);
        }
    }
    if ALIVE.load(Ordering::SeqCst) != started {
        exit(NtStatus::DATA_ERROR);
    }
    if let Err(status) = Thread::start(waits, 0).and_then(Thread::join) {
        exit(status);
    }
}

extern "C" fn waits(_argument: u64) -> ! {
    ALIVE.fetch_add(1, Ordering::SeqCst);
    while MAY_END.load(Ordering::SeqCst) == 0 {
        let _ = NtDelayExecution(1000);
    }
    ntmm_user::threads::exit(NtStatus::SUCCESS)
}

extern "C" fn ends_with_high_bits() {
    // SAFETY: the process ends.
    unsafe {
        core::arch::asm!(
            "syscall",
            "ud2",
            in("rax") Service::TerminateProcess as u64,
            in("rdi") u64::MAX,
            in("rsi") 0xFFFF_FFFF_0000_0000_u64 | CHOSEN.code() as u64,
            options(noreturn),
        )
    }
}

extern "C" fn panics() {
    let _ = NtTerminateProcess(Handle(0), CHOSEN);
    panic!("on purpose");
}
