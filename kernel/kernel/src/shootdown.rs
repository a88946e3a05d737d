//! Removing translations from every processor (KeFlushMultipleTb, TLB shootdown).
//!
//! A flush removes translations on this processor at once. Processors that run the same address
//! space get an order in their mailbox and an interrupt; the ticket is acknowledged when none of
//! them has that order, or an older one, left. Orders are handed out under one lock, so that their
//! numbers grow in every mailbox and an acknowledged ticket stays so.
//!
//! A processor that switches address spaces writes down which one it is going to before it loads
//! the root, which empties its translation buffer: either the flush sees it there and sends an
//! order, or its walks see the entries the flush is about, already changed.

use core::sync::atomic::{Ordering, fence};

use arrayvec::ArrayVec;
use ntmm::platform::{Engine, FlushScope, FlushTicket};
use ntmm_pte::Va;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

use crate::sync::SpinLock;
use crate::{apic, processor, scheduler};

/// Pages removed one by one; with more the whole buffer is emptied.
const PAGES: usize = 32;

/// What a processor has been asked to do.
#[derive(Debug)]
struct Orders {
    /// Oldest order not carried out, or 0.
    oldest: u64,
    pages: ArrayVec<Va, PAGES>,
    /// Too many pages, or all of a space.
    everything: bool,
}

static MAILBOXES: [SpinLock<Orders>; processor::LIMIT] = [const {
    SpinLock::new(Orders { oldest: 0, pages: ArrayVec::new_const(), everything: false })
}; processor::LIMIT];

/// Number of the last order. Orders are handed out under its lock.
static LAST: SpinLock<u64> = SpinLock::new(0);

/// An address space as [`processor::Processor::space`] has it.
pub fn tag(space: ntmm::AddressSpaceId) -> u64 {
    u64::from(space.index()) + 1
}

/// Starts a flush.
pub fn flush(scope: FlushScope<'_>) -> FlushTicket {
    let (space, pages) = match scope {
        FlushScope::Pages { space, pages } => (space, Some(pages)),
        FlushScope::Space { space } => (space, None),
    };
    // The entries are changed before anybody is asked which space he is in.
    fence(Ordering::SeqCst);
    let wanted = tag(space);
    // The caller is at DISPATCH_LEVEL and stays on this processor.
    let own = processor::current();
    if own.space.load(Ordering::SeqCst) == wanted {
        remove(pages);
    }
    let running_it = || {
        processor::online().filter(|other| {
            !core::ptr::eq(*other, own) && other.space.load(Ordering::SeqCst) == wanted
        })
    };
    if running_it().next().is_none() {
        return FlushTicket::new(0);
    }
    let mut targets = ArrayVec::<usize, { processor::LIMIT }>::new();
    let ticket = {
        let mut last = LAST.lock();
        *last += 1;
        for other in running_it() {
            let number = other.number.load(Ordering::Relaxed) as usize;
            let mut orders = MAILBOXES[number].lock();
            if orders.oldest == 0 {
                orders.oldest = *last;
            }
            match pages {
                Some(pages) if orders.pages.len() + pages.len() <= PAGES => {
                    orders.pages.extend(pages.iter().copied());
                }
                _ => orders.everything = true,
            }
            targets.push(number);
        }
        *last
    };
    for number in targets {
        apic::interrupt(number, apic::FLUSH_VECTOR);
    }
    FlushTicket::new(ticket)
}

/// Whether every processor has carried out the orders of a flush.
pub fn acknowledged(ticket: FlushTicket) -> bool {
    ticket.get() == 0
        || MAILBOXES.iter().all(|mailbox| {
            let oldest = mailbox.lock().oldest;
            oldest == 0 || oldest > ticket.get()
        })
}

/// Carries out this processor's orders. Called by the interrupt.
pub fn carry_out() {
    let number = processor::current().number.load(Ordering::Relaxed) as usize;
    let mut orders = MAILBOXES[number].lock();
    if orders.oldest == 0 {
        return;
    }
    let everything = core::mem::take(&mut orders.everything);
    remove((!everything).then_some(orders.pages.as_slice()));
    orders.pages.clear();
    orders.oldest = 0;
    drop(orders);
    scheduler::wake_flush_waiters();
    scheduler::request(Engine::Retire);
}

/// Removes translations from this processor: of these pages, or all.
fn remove(pages: Option<&[Va]>) {
    match pages {
        Some(pages) if pages.len() <= PAGES => {
            for page in pages {
                tlb::flush(VirtAddr::new_truncate(page.get()));
            }
        }
        _ => tlb::flush_all(),
    }
}
