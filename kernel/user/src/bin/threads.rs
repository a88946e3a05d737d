//! Several threads touch the same pages at the same time.
//!
//! Arguments: `count=N` threads (1 to 64, default 4), `pages=M` (default 128), `rounds=R` (default 4).
//! Every thread goes through all pages in every round, in the same order as the others or in one
//! of its own, so that they fault on the same page at once; meanwhile the first thread empties
//! the working set. On each visit a thread checks the page's stamp and counts itself in, by an
//! indivisible addition to one word all share and by an ordinary one to a word of its own. At the
//! end all counts must be right.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use ntmm_user::findings::Findings;
use ntmm_user::memory::Block;
use ntmm_user::random::{Permutation, mix};
use ntmm_user::services::{NtDelayExecution, NtYieldExecution};
use ntmm_user::threads::{self, Thread};
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, println, system};

ntmm_user::entry!(main);

/// Most threads: each has a word of its own in every page, behind the two shared ones.
const MOST_THREADS: u64 = 64;
/// Bytes in a word.
const WORD: u64 = 8;
/// Offset of the word all threads count in.
const SHARED: u64 = 0;
/// Offset of the stamp.
const STAMP: u64 = WORD;

/// What the threads work on; set before the first starts.
static BASE: AtomicU64 = AtomicU64::new(0);
static PAGES: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// Threads that have done their rounds.
static DONE: AtomicU64 = AtomicU64::new(0);
/// Wrong values the threads have found.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Offset of the word of thread `thread` in page `page`.
const fn own(page: u64, thread: u64) -> u64 {
    page * PAGE_SIZE + (2 + thread) * WORD
}

const fn stamp(page: u64) -> u64 {
    mix(page + 1)
}

extern "C" fn work(thread: u64) -> ! {
    let pages = PAGES.load(Ordering::Acquire);
    // SAFETY: the block is the first thread's, which releases it when all others have ended.
    let block = unsafe { Block::from_base(BASE.load(Ordering::Acquire), pages * PAGE_SIZE) };
    let mut findings = Findings::new("threads");
    for round in 0..ROUNDS.load(Ordering::Acquire) {
        let mut visit = |page: u64| {
            let offset = page * PAGE_SIZE;
            findings.word(block.base() + offset + STAMP, stamp(page), block.load(offset + STAMP));
            block.fetch_add(offset + SHARED, 1);
            let count = block.load(own(page, thread));
            findings.word(block.base() + own(page, thread), round, count);
            block.store(own(page, thread), count + 1);
        };
        if round % 2 == 0 {
            (0..pages).for_each(&mut visit);
        } else {
            Permutation::new(pages, mix(thread ^ (round << 32))).for_each(&mut visit);
        }
    }
    FAILURES.fetch_add(findings.failures(), Ordering::SeqCst);
    findings.report();
    DONE.fetch_add(1, Ordering::SeqCst);
    threads::exit(NtStatus::SUCCESS)
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("threads");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["count", "pages", "rounds"])?;
    let count = arguments.number_in("count", 4, 1..=MOST_THREADS)?;
    let pages = arguments.number_in("pages", 128, 1..)?;
    let rounds = arguments.number("rounds", 4)?;
    println!("threads: {count} threads, {pages} pages, {rounds} rounds");
    let block = Block::commit_new(pages)?;
    for page in 0..pages {
        block.store(page * PAGE_SIZE + STAMP, stamp(page));
    }
    system::empty_working_set()?;
    BASE.store(block.base(), Ordering::Release);
    PAGES.store(pages, Ordering::Release);
    ROUNDS.store(rounds, Ordering::Release);
    let mut running: [Option<Thread>; MOST_THREADS as usize] =
        [const { None }; MOST_THREADS as usize];
    for (number, place) in (0..count).zip(&mut running) {
        *place = Some(Thread::start(work, number)?);
    }
    while DONE.load(Ordering::SeqCst) < count {
        system::empty_working_set()?;
        let _ = NtDelayExecution(500);
        let _ = NtYieldExecution();
    }
    for thread in running.into_iter().flatten() {
        thread.join()?;
    }
    findings.equal("wrong values in threads", 0, FAILURES.load(Ordering::SeqCst));
    for page in 0..pages {
        let shared = page * PAGE_SIZE + SHARED;
        findings.word(block.base() + shared, count * rounds, block.load(shared));
        for thread in 0..count {
            let own = own(page, thread);
            findings.word(block.base() + own, rounds, block.load(own));
        }
    }
    block.release()
}
