//! Stacks that grow, and one that overflows.
//!
//! Arguments: `kind=K`.
//!
//! | `kind` | What | Ends with |
//! |---|---|---|
//! | `all` (default) | recursion through the guard pages of the first thread's stack, and of another thread's at the same time; then every page of the first one down to the last, touched one by one | success |
//! | `told` | recursion without end; a handler is told of the overflow, on what is left of the stack, and gives up | STATUS_STACK_OVERFLOW |
//! | `endless` | the same without a handler | STATUS_STACK_OVERFLOW |
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use ntmm_user::attempt::{self, Exception};
use ntmm_user::exceptions::{self, Disposition};
use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_RESERVE, PAGE_GUARD, PAGE_READWRITE};
use ntmm_user::memory::query;
use ntmm_user::structures::AccessKind;
use ntmm_user::threads::{self, Thread};
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, println};

ntmm_user::entry!(main);

/// Pages that stay inaccessible at the bottom of a stack, and those that are kept for the handler
/// of its overflow.
const BOTTOM: u64 = 1;
const KEPT: u64 = 3;

/// Words a call of the recursion has on the stack.
const WORDS: usize = 96;

/// Calls that take more than half a stack of 1 MiB.
const DEPTH: u64 = 600;

/// What the other thread's recursion found.
static OTHER: AtomicU64 = AtomicU64::new(0);

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("stack");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["kind"])?;
    match arguments.text("kind").unwrap_or("all") {
        "all" => {
            exceptions::install()?;
            recursion(findings)?;
            page_by_page(findings)
        }
        "told" => {
            // SAFETY: the handler never lets the program go on.
            unsafe {
                exceptions::set_handler(|record, _| {
                    println!("stack: told of {}", record.code);
                    Disposition::Terminate
                })
            }?;
            findings.equal("the sum of all numbers", 0, sum(u64::MAX));
            Ok(())
        }
        "endless" => {
            findings.equal("the sum of all numbers", 0, sum(u64::MAX));
            Ok(())
        }
        other => {
            println!("stack: there is no kind {other}");
            Err(NtStatus::INVALID_PARAMETER)
        }
    }
}

/// The sum of the numbers up to `number`, by calls that each fill some of the stack and look at it
/// again.
#[inline(never)]
fn sum(number: u64) -> u64 {
    let words = black_box([number; WORDS]);
    if number == 0 {
        return 0;
    }
    let rest = sum(number - 1);
    let intact = black_box(&words).iter().all(|word| *word == number);
    if intact { rest.wrapping_add(number) } else { u64::MAX }
}

extern "C" fn other(depth: u64) -> ! {
    OTHER.store(sum(depth), Ordering::Release);
    threads::exit(NtStatus::SUCCESS)
}

/// Recursion through the guards of two stacks.
fn recursion(findings: &mut Findings) -> Result<(), NtStatus> {
    let before = Stack::find()?;
    let thread = Thread::start(other, DEPTH)?;
    let due = DEPTH * (DEPTH + 1) / 2;
    findings.equal("the sum on the first stack", due, sum(DEPTH));
    thread.join()?;
    findings.equal("the sum on another stack", due, OTHER.load(Ordering::Acquire));
    let after = Stack::find()?;
    findings.equal("the place of the stack", before.bottom, after.bottom);
    let grown = before.limit - after.limit;
    findings.equal("the stack has grown", true, grown > DEPTH * WORDS as u64 * 8 - (64 << 10));
    findings.equal("the size of the guard", before.limit - before.guard, after.limit - after.guard);
    Ok(())
}

/// The stack of the first thread.
struct Stack {
    /// Lowest address reserved for it.
    bottom: u64,
    /// Lowest guard page.
    guard: u64,
    /// Lowest address in use, above the guard.
    limit: u64,
}

impl Stack {
    fn find() -> Result<Self, NtStatus> {
        let here = 0_u64;
        let bottom = query((&raw const here).addr() as u64)?.allocation_base;
        let reserved = query(bottom)?;
        let guard = bottom + reserved.region_size;
        let guarded = query(guard)?;
        let is_stack = reserved.state == MEM_RESERVE
            && guarded.protect == PAGE_READWRITE | PAGE_GUARD
            && query(guard + guarded.region_size)?.protect == PAGE_READWRITE;
        if is_stack {
            Ok(Self { bottom, guard, limit: guard + guarded.region_size })
        } else {
            Err(NtStatus::DATA_ERROR)
        }
    }
}

/// Touches the rest of the stack, from the guard down.
fn page_by_page(findings: &mut Findings) -> Result<(), NtStatus> {
    let Stack { bottom, limit, .. } = Stack::find()?;
    let last = bottom + KEPT * PAGE_SIZE;
    for number in (KEPT + 1..(limit - bottom) / PAGE_SIZE).rev() {
        let page = bottom + number * PAGE_SIZE;
        findings.equal(format_args!("touch {page:#x}"), Ok(()), touch(page));
        findings.equal("new limit", page, Stack::find()?.limit);
    }
    let raised = |code, address| Err(Exception { code, kind: AccessKind::Write as u64, address });
    let overflow = raised(NtStatus::STACK_OVERFLOW, last);
    findings.equal("touch the last guard page", overflow, touch(last));
    // The pages that were kept can be used, and the lowest cannot.
    for page in (BOTTOM..=KEPT).rev() {
        findings.equal("touch a kept page", Ok(()), touch(bottom + page * PAGE_SIZE));
    }
    let violation = raised(NtStatus::ACCESS_VIOLATION, bottom);
    findings.equal("touch the lowest page", violation, touch(bottom));
    Ok(())
}

/// Stores a word far below what the stack holds.
fn touch(address: u64) -> Result<(), Exception> {
    // SAFETY: the word belongs to the stack and lies far below its pointer.
    unsafe { attempt::store(address, address) }
}
