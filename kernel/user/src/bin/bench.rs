//! What memory management costs on this kernel, in instructions: the program of
//! `ntmm bench kernel`. bench/linux/init.c is its counterpart under Linux.
//!
//! It runs alone on a machine with one processor, in QEMU with `-icount shift=0`, where the time
//! stamp counter counts executed instructions (each iteration of a `rep` instruction is one), and
//! prints a line `@bench {"name":..,"instructions":..}` for every operation.
//!
//! An operation is timed by two readings of the counter, many times over. What two readings with
//! nothing between them differ by is taken off, and the median is reported; that leaves out timer
//! ticks and what happens once for many pages (new page tables). While the disk is waited for a
//! thread of this program runs, whose instructions are taken off too ([`be_idle`]).
//!
//! | Name | Operation |
//! |---|---|
//! | `null_system_call` | NtYieldExecution by `syscall`, when no other thread is ready |
//! | `null_system_call_interrupt` | the same by `int 0x2e` |
//! | `demand_zero_fault` | first write to a committed page when no zeroed page is left: the fault zeroes one |
//! | `demand_zero_fault_zeroed` | the same while there are zeroed pages |
//! | `transition_fault` | write to a page that is on the modified list since the working set was emptied |
//! | `page_file_fault` | write to a page that is in the paging file only, reading that page alone: it is the only one of its allocation |
//! | `reserve_commit_free_64k` | NtAllocateVirtualMemory and NtFreeVirtualMemory of 64 KiB |
//! | `reserve_commit_touch_free_64k` | between them a write to each of the 16 pages; the faults zero them |
//! | `protect_page` | NtProtectVirtualMemory of a touched page that is an allocation by itself, per call: half of the way to read-only and back |
//! | `protect_page_inside` | the same for a page in the middle of an allocation |
//! | `decommit_page` | NtFreeVirtualMemory(MEM_DECOMMIT) of a touched page of an allocation |
//! | `trim_page` | emptying a working set, less emptying it without the region's pages, divided by these; they are written |
//! | `modified_write_page` | writing the modified list to the paging file, a cluster at a time, divided by its pages; see [`writing`] |
//! | `page_out_page` | the two together |
//! | `guard_page_fault` | NtProtectVirtualMemory of a page to PAGE_GUARD, a write to it, a handler of the exception, and the write again |
#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use ntmm_user::exceptions::{self, Disposition};
use ntmm_user::flags::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_GUARD, PAGE_READONLY, PAGE_READWRITE, Protection,
};
use ntmm_user::memory::Block;
use ntmm_user::services::{
    NtAllocateVirtualMemory, NtDelayExecution, NtFreeVirtualMemory, NtYieldExecution, Service,
};
use ntmm_user::structures::{Context, ExceptionRecord, Handle};
use ntmm_user::system::{self, Command};
use ntmm_user::threads::Thread;
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, gate, println};

ntmm_user::entry!(main);

/// Times an operation is measured; pages that are worked on one by one.
const SAMPLES: usize = 1024;
/// Pages that are trimmed by one call: so few that the modified writer does not begin by itself.
const BATCH: u64 = 256;
/// Pages that are written by one transfer.
const CLUSTER: u64 = 16;
/// Times a call that works on many pages is measured.
const ROUNDS: usize = 32;
/// Pages that each are an allocation by themselves.
const LONE: usize = 256;
/// Available pages that are left alone when the others are used up: enough for memory not to be
/// short, so that nothing is paged out.
const SPARED: u64 = 1024;
/// Microseconds in which the engines have done all they had to do.
const REST: u64 = 500_000;
/// Microseconds the service that flushes the modified list pauses.
const PAUSE: u64 = 1_000;

fn main(arguments: Arguments<'_>) -> NtStatus {
    match arguments.only(&[]).and_then(|()| run()) {
        Ok(()) => NtStatus::SUCCESS,
        Err(status) => {
            println!("bench: {status}");
            status
        }
    }
}

fn run() -> Result<(), NtStatus> {
    rest()?;
    let mut samples = Samples::new();
    system_calls(&mut samples)?;
    faults_on_zeroed_pages(&mut samples)?;
    private_pages(&mut samples)?;
    guard_pages(&mut samples)?;
    let trimming = working_set(&mut samples)?;
    faults_without_zeroed_pages(&mut samples)?;
    paging_file(&mut samples)?;
    let writing = writing(&mut samples)?;
    report("page_out_page", trimming + writing);
    Ok(())
}

/// Measurements of one operation.
struct Samples {
    values: [u64; SAMPLES],
    count: usize,
    /// What two readings of the counter differ by with nothing between them.
    overhead: u64,
}

impl Samples {
    fn new() -> Self {
        let mut samples = Self { values: [0; SAMPLES], count: 0, overhead: 0 };
        for _ in 0..SAMPLES {
            samples.time(|| ());
        }
        samples.overhead = samples.median();
        samples
    }

    fn add(&mut self, instructions: u64) {
        if let Some(value) = self.values.get_mut(self.count) {
            *value = instructions;
            self.count += 1;
        }
    }

    /// Times `operation` once.
    #[inline(always)]
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let begin = now();
        let result = operation();
        let end = now();
        self.add(end - begin - self.overhead);
        result
    }

    /// Times `operation` once, without what the thread that is idle executes meanwhile.
    fn time_work<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let idle_before = idle();
        let begin = now();
        let result = operation();
        let end = now();
        let idle = idle() - idle_before;
        // Not exact when a tick has stopped the other thread in the middle of a turn.
        self.add((end - begin - self.overhead).saturating_sub(idle));
        result
    }

    /// The median; the measurements are forgotten.
    fn median(&mut self) -> u64 {
        let values = &mut self.values[..self.count];
        values.sort_unstable();
        self.count = 0;
        values[values.len() / 2]
    }

    /// Reports the median.
    fn report(&mut self, name: &str) {
        report(name, self.median());
    }
}

fn report(name: &str, instructions: u64) {
    println!("@bench {{\"name\":\"{name}\",\"instructions\":{instructions}}}");
}

/// Turns [`be_idle`] has made, and the instructions of one.
static TURNS: AtomicU64 = AtomicU64::new(0);
static TURN: AtomicU64 = AtomicU64::new(u64::MAX);

/// A thread that runs while the program waits for the disk, and counts its turns. At the end of
/// each it gives way to whoever is ready, so what it has executed is whole turns.
extern "C" fn be_idle(_: u64) -> ! {
    let mut last = 0;
    loop {
        let begin = now();
        // Longer is a turn in which others have run.
        TURN.fetch_min(begin - last, Ordering::Relaxed);
        last = begin;
        TURNS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: a loop that touches nothing but its register.
        unsafe { asm!("2: dec {0:e}", "jnz 2b", inout(reg) 500 => _, options(nomem, nostack)) }
        let _ = NtYieldExecution();
    }
}

/// Instructions that were executed only because nobody had anything to do, so far.
fn idle() -> u64 {
    TURNS.load(Ordering::Relaxed) * TURN.load(Ordering::Relaxed)
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and the kernel lets programs read it.
    unsafe { _rdtsc() }
}

/// Waits until the engines have nothing to do.
fn rest() -> Result<(), NtStatus> {
    NtDelayExecution(REST).into_result()
}

fn touch(block: &Block, page: u64) {
    block.store(page * PAGE_SIZE, 1);
}

fn touch_all(block: &Block) {
    (0..block.pages()).for_each(|page| touch(block, page));
}

fn time_touches(samples: &mut Samples, block: &Block) {
    (0..block.pages()).for_each(|page| samples.time(|| touch(block, page)));
}

fn system_calls(samples: &mut Samples) -> Result<(), NtStatus> {
    for _ in 0..SAMPLES {
        samples.time(NtYieldExecution).into_result()?;
    }
    samples.report("null_system_call");
    for _ in 0..SAMPLES {
        samples.time(yield_by_interrupt).into_result()?;
    }
    samples.report("null_system_call_interrupt");
    Ok(())
}

#[inline(always)]
fn yield_by_interrupt() -> NtStatus {
    // SAFETY: the service touches nothing of the program's.
    unsafe { gate::interrupt(Service::YieldExecution as u32, [0; 6]) }
}

fn faults_on_zeroed_pages(samples: &mut Samples) -> Result<(), NtStatus> {
    let block = Block::commit_new(SAMPLES as u64)?;
    time_touches(samples, &block);
    samples.report("demand_zero_fault_zeroed");
    block.release()
}

/// Uses up the zeroed pages. What is returned holds the last of them; all other available pages
/// have been used.
fn without_zeroed_pages() -> Result<Block, NtStatus> {
    let available = system::performance()?.available_pages;
    let block = Block::commit_new(available.saturating_sub(SPARED))?;
    touch_all(&block);
    block.release()?;
    let last = Block::commit_new(2 * SPARED)?;
    touch_all(&last);
    Ok(last)
}

fn faults_without_zeroed_pages(samples: &mut Samples) -> Result<(), NtStatus> {
    let last = without_zeroed_pages()?;
    let block = Block::commit_new(SAMPLES as u64)?;
    time_touches(samples, &block);
    samples.report("demand_zero_fault");
    block.release()?;
    for _ in 0..SAMPLES {
        samples.time(|| -> Result<(), NtStatus> {
            let mut base = allocate_64k()?;
            for page in 0..16 {
                // SAFETY: the memory was committed just now and is nobody else's.
                unsafe { core::ptr::write_volatile((base + page * PAGE_SIZE) as *mut u64, 1) };
            }
            free(&mut base)
        })?;
    }
    samples.report("reserve_commit_touch_free_64k");
    last.release()
}

#[inline(always)]
fn allocate_64k() -> Result<u64, NtStatus> {
    let (mut base, mut size) = (0, 16 * PAGE_SIZE);
    let kind = (MEM_RESERVE | MEM_COMMIT).0;
    let protect = PAGE_READWRITE.0;
    let own = Handle::CURRENT_PROCESS;
    // SAFETY: both pointers are to locals; free addresses are nobody's.
    unsafe { NtAllocateVirtualMemory(own, &raw mut base, 0, &raw mut size, kind, protect) }
        .into_result()?;
    Ok(base)
}

#[inline(always)]
fn free(base: &mut u64) -> Result<(), NtStatus> {
    let mut size = 0;
    let own = Handle::CURRENT_PROCESS;
    // SAFETY: both pointers are to locals; the caller has allocated the memory.
    unsafe { NtFreeVirtualMemory(own, base, &raw mut size, MEM_RELEASE.0) }.into_result()
}

fn private_pages(samples: &mut Samples) -> Result<(), NtStatus> {
    for _ in 0..SAMPLES {
        samples.time(|| -> Result<(), NtStatus> {
            let mut base = allocate_64k()?;
            free(&mut base)
        })?;
    }
    samples.report("reserve_commit_free_64k");

    let page = Block::commit_new(1)?;
    touch(&page, 0);
    protect_and_back(samples, "protect_page", &page, 0)?;
    page.release()?;

    let block = Block::commit_new(SAMPLES as u64)?;
    touch_all(&block);
    protect_and_back(samples, "protect_page_inside", &block, block.pages() / 2)?;
    for page in 0..block.pages() {
        samples.time(|| block.decommit(page * PAGE_SIZE, PAGE_SIZE))?;
    }
    samples.report("decommit_page");
    block.release()
}

fn protect_and_back(
    samples: &mut Samples,
    name: &str,
    block: &Block,
    page: u64,
) -> Result<(), NtStatus> {
    let protect = |protection: Protection| block.protect(page * PAGE_SIZE, 1, protection);
    for _ in 0..SAMPLES {
        samples.time(|| protect(PAGE_READONLY).and_then(|_| protect(PAGE_READWRITE)))?;
    }
    report(name, samples.median() / 2);
    Ok(())
}

/// Yields what trimming a page takes.
fn working_set(samples: &mut Samples) -> Result<u64, NtStatus> {
    let block = Block::commit_new(BATCH)?;
    let emptying = || {
        let begin = now();
        system::empty_working_set()?;
        Ok::<u64, NtStatus>(now() - begin)
    };
    let (mut full, mut bare) = ([0; ROUNDS], [0; ROUNDS]);
    touch_all(&block);
    for (full, bare) in full.iter_mut().zip(&mut bare) {
        *full = emptying()?;
        *bare = emptying()?;
        samples.count = 0;
        time_touches(samples, &block);
    }
    samples.report("transition_fault");
    let mut median = |values: [u64; ROUNDS]| {
        values.into_iter().for_each(|value| samples.add(value));
        samples.median()
    };
    let trimming = (median(full) - median(bare)) / BATCH;
    report("trim_page", trimming);
    block.release()?;
    Ok(trimming)
}

/// Goes on with the interrupted write: the guard has gone with the exception.
fn go_on(record: &ExceptionRecord, _: &mut Context) -> Disposition {
    if record.code == NtStatus::GUARD_PAGE_VIOLATION {
        Disposition::Continue
    } else {
        Disposition::Terminate
    }
}

fn guard_pages(samples: &mut Samples) -> Result<(), NtStatus> {
    // SAFETY: the write that met the guard is made again, now without it.
    unsafe { exceptions::set_handler(go_on) }?;
    let page = Block::commit_new(1)?;
    touch(&page, 0);
    for _ in 0..SAMPLES {
        samples.time(|| -> Result<(), NtStatus> {
            page.protect(0, 1, PAGE_READWRITE | PAGE_GUARD)?;
            touch(&page, 0);
            Ok(())
        })?;
    }
    samples.report("guard_page_fault");
    page.release()
}

fn paging_file(samples: &mut Samples) -> Result<(), NtStatus> {
    let mut pages = [const { None }; LONE];
    for page in &mut pages {
        let block = Block::commit_new(1)?;
        touch(&block, 0);
        *page = Some(block);
    }
    system::empty_working_set()?;
    system::command(Command::FlushModifiedList)?;
    // More than fits: whatever can leave memory leaves it.
    let filling = Block::commit_new(system::performance()?.frames)?;
    touch_all(&filling);
    filling.release()?;
    rest()?;
    Thread::start(be_idle, 0)?;
    for block in pages.iter().flatten() {
        let before = system::performance()?.page_file;
        samples.time_work(|| touch(block, 0));
        if system::performance()?.page_file == before {
            samples.count -= 1;
        }
    }
    samples.report("page_file_fault");
    pages.into_iter().flatten().try_for_each(Block::release)
}

/// Yields what writing a page takes.
///
/// The service that flushes the modified list pauses until the writer has done its part. What such
/// a pause alone takes is taken off; while it lasts the disk has ended the write, and the
/// processor has executed the work that makes.
fn writing(samples: &mut Samples) -> Result<u64, NtStatus> {
    let block = Block::commit_new(CLUSTER)?;
    for _ in 0..ROUNDS {
        samples.time_work(|| NtDelayExecution(PAUSE).into_result())?;
    }
    let pause = samples.median();
    for _ in 0..ROUNDS {
        touch_all(&block);
        system::empty_working_set()?;
        samples.time_work(|| system::command(Command::FlushModifiedList))?;
    }
    let writing = (samples.median() - pause) / CLUSTER;
    report("modified_write_page", writing);
    block.release()?;
    Ok(writing)
}
