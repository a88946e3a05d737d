//! What each processor has of its own, and its interrupt level (KPCR, KeRaiseIrql).
//!
//! GS points to the processor's [`Processor`] while it is in the kernel. The fields the assembly
//! code uses are at its front; each is changed by its own processor only, except where it says
//! otherwise. A thread that may be preempted can change processors between two instructions, so
//! single fields are read and written by one instruction each, and everything that takes several
//! happens at DISPATCH_LEVEL or with interrupts off.
//!
//! The interrupt level is kept in software: at DISPATCH_LEVEL interrupts stay on, and what they
//! would start, another thread or the completion of a transfer, is noted in
//! [`Pending`] and done when the level falls again.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use ntmm::platform::Irql;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use crate::scheduler::Home;

/// Most processors.
pub const LIMIT: usize = 4;

/// What waits for the interrupt level to fall.
pub mod pending {
    /// Another thread should run.
    pub const RESCHEDULE: u32 = 1 << 0;
    /// The disk has completed transfers.
    pub const COMPLETIONS: u32 = 1 << 1;
}

/// A processor.
#[derive(Debug)]
#[repr(C)]
pub struct Processor {
    this: AtomicU64,
    /// Where the kernel stack of the running thread begins, at its top.
    pub kernel_stack: AtomicU64,
    /// Where a system call parks the stack pointer of its program for a moment.
    pub user_stack: AtomicU64,
    /// Lowest address of the stack of the running thread.
    pub stack_limit: AtomicU64,
    /// See [`pending`]. Other processors set bits.
    pub pending: AtomicU32,
    /// Whether the running thread must do something before it goes back to its program. Beside the
    /// pending bits, so that both are looked at together.
    pub attention: AtomicU32,
    irql: AtomicU32,
    /// Its place in [`ALL`], and its local APIC's number.
    pub number: AtomicU32,
    /// The running thread.
    pub thread: AtomicUsize,
    /// Where it lives, in its record.
    pub home: AtomicPtr<Option<Home>>,
    /// The address space its root register has: its identity plus one, or 0 for the kernel's own.
    /// Read by processors that flush.
    pub space: AtomicU64,
    /// Time-stamp ticks it has been halted.
    pub halted: AtomicU64,
    /// Time-stamp count when it halted, or 0.
    pub halted_since: AtomicU64,
    /// Whether it has come up.
    pub online: AtomicBool,
}

impl Processor {
    const fn new() -> Self {
        Self {
            this: AtomicU64::new(0),
            kernel_stack: AtomicU64::new(0),
            user_stack: AtomicU64::new(0),
            stack_limit: AtomicU64::new(0),
            pending: AtomicU32::new(0),
            attention: AtomicU32::new(0),
            irql: AtomicU32::new(0),
            number: AtomicU32::new(0),
            thread: AtomicUsize::new(0),
            home: AtomicPtr::new(ptr::null_mut()),
            space: AtomicU64::new(0),
            halted: AtomicU64::new(0),
            halted_since: AtomicU64::new(0),
            online: AtomicBool::new(false),
        }
    }
}

/// All processors; those that are online count.
pub static ALL: [Processor; LIMIT] = [const { Processor::new() }; LIMIT];

/// Whether a waiting processor must say so, because one thread of the host runs them all.
static POLITE: AtomicBool = AtomicBool::new(false);

/// The processors that are online.
pub fn online() -> impl Iterator<Item = &'static Processor> {
    ALL.iter().filter(|processor| processor.online.load(Ordering::Acquire))
}

/// Makes the record `number` that of this processor, which runs its idle thread, on a stack whose
/// lowest address is `stack_limit`, at DISPATCH_LEVEL: nothing else runs here before it is idle.
pub fn become_idle(number: usize, stack_limit: u64) {
    let processor = &ALL[number];
    let address = core::ptr::from_ref(processor) as u64;
    processor.this.store(address, Ordering::Relaxed);
    processor.number.store(number as u32, Ordering::Relaxed);
    processor.stack_limit.store(stack_limit, Ordering::Relaxed);
    processor.thread.store(number, Ordering::Relaxed);
    processor.irql.store(Irql::DISPATCH.0.into(), Ordering::Relaxed);
    GsBase::write(VirtAddr::new(address));
    KernelGsBase::write(VirtAddr::zero());
    processor.online.store(true, Ordering::Release);
}

/// Waiting processors give way from now on.
pub fn be_polite() {
    POLITE.store(true, Ordering::Relaxed);
}

/// Waits a moment for another processor.
///
/// Under several threads of the host a `pause` makes QEMU leave its translated code, which is
/// slow; under one thread it is what lets the other processor run at all.
#[inline]
pub fn relax() {
    if POLITE.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}

/// This processor. Below DISPATCH_LEVEL with interrupts on it may be another one by the time its
/// record is looked at.
#[inline]
pub fn current() -> &'static Processor {
    let address: u64;
    // SAFETY: GS points to the record, whose first word is its own address; both are set before
    // anything calls this.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(nostack, preserves_flags, readonly, pure));
        &*(address as *const Processor)
    }
}

/// The running thread.
#[inline]
pub fn current_thread() -> usize {
    let thread: usize;
    // SAFETY: a field of the record GS points to.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) thread,
            offset = const core::mem::offset_of!(Processor, thread),
            options(nostack, preserves_flags, readonly));
    }
    thread
}

/// Where the running thread lives, in its record; null in an idle thread that has not run yet.
#[inline]
pub fn current_home() -> *const Option<Home> {
    let home;
    // SAFETY: a field of the record GS points to.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) home,
            offset = const core::mem::offset_of!(Processor, home),
            options(nostack, preserves_flags, readonly));
    }
    home
}

/// The interrupt level.
#[inline]
pub fn irql() -> Irql {
    let level: u32;
    // SAFETY: a field of the record GS points to.
    unsafe {
        asm!("mov {:e}, gs:[{offset}]", out(reg) level,
            offset = const core::mem::offset_of!(Processor, irql),
            options(nostack, preserves_flags, readonly));
    }
    Irql(level as u8)
}

#[inline]
fn set_irql(level: Irql) {
    // SAFETY: a field of the record GS points to. Not `nomem`: what is done at a level stays there.
    unsafe {
        asm!("mov gs:[{offset}], {:e}", in(reg) u32::from(level.0),
            offset = const core::mem::offset_of!(Processor, irql),
            options(nostack, preserves_flags));
    }
}

#[inline]
fn has_pending() -> bool {
    let bits: u32;
    // SAFETY: a field of the record GS points to.
    unsafe {
        asm!("mov {:e}, gs:[{offset}]", out(reg) bits,
            offset = const core::mem::offset_of!(Processor, pending),
            options(nostack, preserves_flags, readonly));
    }
    bits != 0
}

/// Raises to DISPATCH_LEVEL; returns the level before.
#[inline]
pub fn raise() -> Irql {
    let before = irql();
    set_irql(Irql::DISPATCH);
    before
}

/// Goes back to a level that [`raise`] gave, and does what has waited for it.
#[inline]
pub fn lower(previous: Irql) {
    set_irql(previous);
    if previous < Irql::DISPATCH && has_pending() {
        crate::dispatch::run_pending();
    }
}

/// Goes back to a level without looking at what waits.
#[inline]
pub fn lower_quietly(previous: Irql) {
    set_irql(previous);
}
