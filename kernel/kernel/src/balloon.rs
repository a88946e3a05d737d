//! Memory the kernel lends at run time and takes back: `balloon=PAGES` on the command line.
//!
//! So many pages are withheld at boot. While programs run a thread lends them to the manager, lets
//! the programs have them for a moment, takes them back, which fails while a page stays in use, and
//! keeps them for a moment. What the kernel has is its own to write on: it marks each frame, and
//! looks before it lends them again whether anybody has written there. After the last program all
//! of it is taken back for good. When the manager refuses that again and again, or does not answer,
//! the memory stays lent, and the report says so. `squatter` on the command line shows it: an
//! address space that is never deleted moves into what was lent first, and a root never moves.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ntmm::platform::{FrameRange, Ram, SystemTime};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{DeleteAddressSpace, NtStatus, RemoveMemory};
use ntmm_pte::Pfn;
use ntmm_sync::frame::FrameWords;

use crate::scheduler::{self, Priority, Reason};
use crate::wait::complete;
use crate::{kernel, say, time};

/// How long one side keeps the memory: 20 ms.
const TURN: u64 = 200_000;
/// Refusals after the last program until the range is left to the manager.
const LAST_TRIES: u32 = 5;
/// Time the thread has to close: one minute, which is twice what so many refusals take.
const CLOSING_TIME: u64 = 600_000_000;
/// What the words of a frame that the kernel has are, besides their place.
const MARK: u64 = 0xBA11_0000_0000_0000;

/// The programs are over.
static CLOSING: AtomicBool = AtomicBool::new(false);
/// The thread has ended.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// The range is the kernel's.
static IS_TAKEN: AtomicBool = AtomicBool::new(true);

/// Times the range was lent, and taken back; times the manager would not give it back.
static LENT: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Starts the thread that lends and takes back what was withheld.
pub fn start() {
    if kernel().withheld.is_some() {
        scheduler::spawn(Priority::Normal, None, run, 0).expect("there are places for threads");
    }
}

/// Takes everything back and reports how many pages the manager has kept.
pub fn finish() {
    let Some(range) = kernel().withheld else { return };
    CLOSING.store(true, Ordering::SeqCst);
    let deadline = SystemTime(time::now().0 + CLOSING_TIME);
    while !CLOSED.load(Ordering::SeqCst) && time::now() < deadline {
        pause();
    }
    let kept = if IS_TAKEN.load(Ordering::SeqCst) { 0 } else { range.count.get() };
    say!(
        "@balloon {{\"pages\":{},\"lent\":{},\"taken\":{},\"refused\":{},\"kept\":{kept}}}",
        range.count.get(),
        LENT.load(Ordering::Relaxed),
        TAKEN.load(Ordering::Relaxed),
        REFUSED.load(Ordering::Relaxed),
    );
}

extern "C" fn run(_: u64) -> ! {
    let range = kernel().withheld.expect("the thread is started for a range");
    mark(range);
    loop {
        check(range);
        IS_TAKEN.store(false, Ordering::SeqCst);
        kernel().manager.add_memory(range).expect("the range is the kernel's");
        if LENT.fetch_add(1, Ordering::Relaxed) == 0 && kernel().squats {
            squat(range);
        }
        pause();
        if !take_back_patiently(range) {
            close();
        }
        mark(range);
        IS_TAKEN.store(true, Ordering::SeqCst);
        pause();
        if CLOSING.load(Ordering::SeqCst) {
            check(range);
            close();
        }
    }
}

/// Makes address spaces until the root of one lies in the range, which stays. While programs have
/// all of the range no root can come to lie in it; when they are over, one must.
fn squat(range: FrameRange) {
    let mut tries = 0;
    while let Err(status) = settle(range) {
        tries += u32::from(CLOSING.load(Ordering::SeqCst));
        assert!(tries < LAST_TRIES, "no root came to lie in what was lent: {status}");
        pause();
    }
}

/// Makes address spaces until the root of one lies in the range or no other can be made, and takes
/// down the others. Each keeps its frames until then, so that the next has others.
fn settle(range: FrameRange) -> Result<(), NtStatus> {
    let manager = &kernel().manager;
    let mut others = Vec::new();
    let settled = loop {
        match manager.create_address_space(WorkingSetLimits::for_memory(0)) {
            Ok(space) if manager.root(space).is_some_and(|root| range.contains(root)) => {
                break Ok(());
            }
            Ok(space) => others.push(space),
            Err(status) => break Err(status),
        }
    };
    for space in others {
        complete(DeleteAddressSpace::new(space))?;
    }
    settled
}

fn close() -> ! {
    CLOSED.store(true, Ordering::SeqCst);
    scheduler::end();
}

/// Asks the manager for the range until it is given, or refused too often after the last program.
fn take_back_patiently(range: FrameRange) -> bool {
    let mut tries = 0;
    while !take_back(range) {
        tries += u32::from(CLOSING.load(Ordering::SeqCst));
        if tries >= LAST_TRIES {
            return false;
        }
        pause();
    }
    true
}

/// Asks the manager for the range; says whether it is the kernel's now.
fn take_back(range: FrameRange) -> bool {
    let given = complete(RemoveMemory::new(range)).expect("the thread is not killed");
    let count = if given.is_ok() { &TAKEN } else { &REFUSED };
    count.fetch_add(1, Ordering::Relaxed);
    given.is_ok()
}

fn words(pfn: Pfn) -> &'static FrameWords {
    kernel().manager.platform().frame(pfn)
}

const fn mark_of(pfn: Pfn, number: usize) -> u64 {
    MARK | (pfn.get() as u64) << 12 | number as u64
}

/// Marks every word of the range.
fn mark(range: FrameRange) {
    for pfn in range.frames() {
        for (number, word) in words(pfn).iter().enumerate() {
            word.store(mark_of(pfn, number), Ordering::Relaxed);
        }
    }
}

/// Nobody else has written to the kernel's frames.
fn check(range: FrameRange) {
    for pfn in range.frames() {
        for (number, word) in words(pfn).iter().enumerate() {
            let found = word.load(Ordering::Relaxed);
            assert_eq!(found, mark_of(pfn, number), "somebody wrote to frame {:#x}", pfn.get());
        }
    }
}

fn pause() {
    let until = SystemTime(time::now().0 + TURN);
    // Threads of the kernel are not killed.
    let _ = scheduler::park(Reason::Until(until), |_| time::now() >= until);
}
