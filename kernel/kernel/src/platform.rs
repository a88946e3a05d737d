//! The machine, as the memory manager wants it.

use core::sync::atomic::{AtomicU64, Ordering};

use ntmm::platform::{
    Executive, FlushScope, FlushTicket, FrameRange, Irql, Mmu, PagingIo, PagingRequest, Ram,
    SystemTime, Trace,
};
use ntmm::{BugCheck, Engine, Event, Notification, NtStatus, Platform, WaitKey};
use ntmm_pte::{Amd64, Pfn};
use ntmm_sync::frame::FrameWords;

use crate::disk::Disk;
use crate::memory::{MemoryMap, PAGE, direct};
use crate::{bug_check, kernel, mapping, processor, scheduler, shootdown, time};

/// Colours of the second-level cache: QEMU has none, so NT's usual number.
const CACHE_COLORS: u32 = 64;

/// This machine.
#[derive(Debug)]
pub struct Machine {
    memory: MemoryMap,
    /// The disk of the paging file.
    pub disk: Option<Disk>,
    random: AtomicU64,
}

impl Machine {
    /// A machine that lends the manager `memory`.
    pub const fn new(memory: MemoryMap, disk: Option<Disk>, seed: u64) -> Self {
        Self { memory, disk, random: AtomicU64::new(seed) }
    }
}

impl Platform for Machine {
    type Paging = Amd64;
}

impl Ram for Machine {
    #[inline]
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        // SAFETY: the manager asks for frames of `memory` only, which are mapped for ever and seen
        // by the kernel as atomic words alone.
        unsafe { &*direct(u64::from(pfn.get()) * PAGE).cast() }
    }

    #[inline]
    fn zero(&self, pfn: Pfn) {
        // SAFETY: as above; a frame that is being zeroed belongs to whoever asks.
        unsafe {
            core::arch::asm!("rep stosq",
                inout("rcx") PAGE / 8 => _,
                inout("rdi") direct(u64::from(pfn.get()) * PAGE) => _,
                in("rax") 0,
                options(nostack, preserves_flags));
        }
    }

    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        self.memory.frame_ranges()
    }

    fn cache_colors(&self) -> u32 {
        CACHE_COLORS
    }
}

impl Mmu for Machine {
    fn adopt_root(&self, root: Pfn) {
        mapping::adopt(self.frame(root));
    }

    fn flush(&self, scope: FlushScope<'_>) -> FlushTicket {
        shootdown::flush(scope)
    }

    fn acknowledged(&self, ticket: FlushTicket) -> bool {
        shootdown::acknowledged(ticket)
    }
}

impl PagingIo for Machine {
    fn submit(&self, request: &PagingRequest<'_>) {
        // There is no paging file without a disk.
        let refused = match &self.disk {
            Some(disk) => disk.submit(request).err(),
            None => Some(NtStatus::IO_DEVICE_ERROR),
        };
        if let Some(status) = refused {
            kernel().manager.complete_io(request.token, Err(status));
        }
    }
}

impl Executive for Machine {
    fn now(&self) -> SystemTime {
        time::now()
    }

    #[inline]
    fn raise(&self) -> Irql {
        processor::raise()
    }

    #[inline]
    fn lower(&self, previous: Irql) {
        processor::lower(previous);
    }

    fn relax(&self) {
        processor::relax();
    }

    fn wake(&self, key: WaitKey) {
        scheduler::wake(key);
    }

    fn request(&self, engine: Engine) {
        scheduler::request(engine);
    }

    fn random(&self) -> u64 {
        // SplitMix64.
        let mut bits = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    fn notify(&self, _notification: Notification) {}

    fn bug_check(&self, bug_check: BugCheck) -> ! {
        bug_check::stop(bug_check.code as u32, bug_check.parameters)
    }
}

impl Trace for Machine {
    const ENABLED: bool = false;

    fn event(&self, _event: &Event) {}
}
