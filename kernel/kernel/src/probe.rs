//! Asking the processor what an address space looks like outside long mode.
//!
//! The kernel is given a probe image (`ntmm_probe::image`): the frames of an address space that
//! the manager built for i386 or PAE, and a list of accesses. The frames are put where the image
//! says; then for each access the processor leaves long mode, takes up the image's page tables,
//! makes the access in ring 0 or 3, and comes back (`probe.s`). What came of it goes to the
//! console, with every word of the image's memory that is not what it was, and the memory is put
//! back.
//!
//! A line is `@probe` and an object: `number` of the probe; `outcome` (`access`, `fault` for a page
//! fault, `exception` for another); `error` code and `cr2` of a page fault; `value` that a read
//! got, or the vector of an exception; `changed`, pairs of physical address and 64-bit word.

use core::arch::global_asm;
use core::fmt;
use core::slice;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;
use ntmm_probe::image::{
    BREAKPOINT, FRAME_BYTES, HOST_END, Header, Image, Probe, Ring, STORED, Structure,
};
use ntmm_pte::AccessKind;

use crate::console::{Exit, exit};
use crate::memory::{MemoryMap, direct};
use crate::say;

global_asm!(include_str!("probe.s"), options(att_syntax));

const CR0_PAGING: u32 = 1 << 31;
const CR0_WRITE_PROTECT: u32 = 1 << 16;
const CR0_EXTENSION_TYPE: u32 = 1 << 4;
const CR0_PROTECTED: u32 = 1 << 0;
const CR4_LARGE_PAGES: u32 = 1 << 4;
const CR4_PAE: u32 = 1 << 5;
const EFER_NO_EXECUTE: u32 = 1 << 11;

const FRAME_WORDS: usize = FRAME_BYTES / 8;
/// The boot page tables map the first GiB.
const MAPPED_FRAMES: u64 = (1 << 30) / FRAME_BYTES as u64;

const GATES: usize = 32;
const GATE_STRIDE: u32 = 16;
const KERNEL_CODE: u64 = 0x10;
const TASK_ENTRY: usize = 6;
const TASK_LIMIT: u64 = 103;

const BREAKPOINT_VECTOR: u32 = 3;
const PAGE_FAULT_VECTOR: u32 = 14;

/// Present, writable, accessed and dirty: an entry the processor need not change.
const SETTLED: u64 = 0x63;
const USER: u64 = 0x4;

/// What `probe.s` is to do.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Request {
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    stub: u32,
    ring: u32,
    address: u32,
    answer: Answer,
}

/// What came of it. `value` is in EAX when the access begins and when it is over.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Answer {
    value: u32,
    vector: u32,
    error: u32,
    cr2: u32,
    eip: u32,
}

// All but `probe_make` lie below 2 MiB, at their physical addresses.
unsafe extern "C" {
    fn probe_make();
    static probe_request: Request;
    static probe_gdt: u64;
    static probe_idt: u64;
    static probe_task: u8;
    static probe_gates: u8;
    static probe_stubs: u8;
    static probe_read: u8;
    static probe_write: u8;
    static probe_execute: u8;
}

/// Physical address of something that lies below 2 MiB.
fn low<T>(place: *const T) -> u32 {
    place as usize as u32
}

/// Makes the probes of an image and ends the machine.
///
/// # Safety
/// This is the only processor that runs, with interrupts off, on the boot page tables or better
/// ones; nobody uses memory in `free`.
pub unsafe fn run(image: &[u8], free: &MemoryMap) -> ! {
    let Ok(image) = Image::parse(image) else {
        say!("the archive is no probe image");
        exit(Exit::CannotBoot);
    };
    // SAFETY: as the caller says.
    let Some(memory) = (unsafe { Memory::claim(image, free) }) else {
        say!("there is no free memory where the probe image belongs");
        exit(Exit::CannotBoot);
    };
    memory.restore();
    memory.map_host();
    prepare_descriptors();
    for (number, probe) in image.probes().enumerate() {
        let breakpoint = memory.put_breakpoint(probe);
        let answer = make(image.header(), probe);
        let mut changes = memory.restore();
        changes.retain(|change| Some(*change) != breakpoint);
        report(number, probe, answer, &changes);
    }
    exit(Exit::Good)
}

/// The image's memory, in its place. Behind the kernel's back the probes change it, so it is seen
/// as atomic words.
#[derive(Clone, Copy)]
struct Memory<'a> {
    image: Image<'a>,
    words: &'a [AtomicU64],
    host_table: &'a [AtomicU64],
}

impl<'a> Memory<'a> {
    /// Memory for an image; none when it is not free.
    ///
    /// # Safety
    /// `free` is as in [`run`].
    unsafe fn claim(image: Image<'a>, free: &MemoryMap) -> Option<Self> {
        let header = image.header();
        let is_free = |first: u32, count: u32| {
            let end = u64::from(first) + u64::from(count);
            end <= MAPPED_FRAMES
                && free.frame_ranges().any(|range| {
                    let start = u64::from(range.start.get());
                    (start..).contains(&first.into()) && end <= start + range.count.get()
                })
        };
        if !is_free(header.first_frame, header.frames) || !is_free(header.host_table, 1) {
            return None;
        }
        let frames = |first: u32, count: u32| {
            let place = direct(u64::from(first) * FRAME_BYTES as u64).cast::<AtomicU64>();
            // SAFETY: the frames are free memory that the direct map of the boot page tables
            // covers, and whatever changes them does so word by word.
            unsafe { slice::from_raw_parts(place, count as usize * FRAME_WORDS) }
        };
        let words = frames(header.first_frame, header.frames);
        Some(Self { image, words, host_table: frames(header.host_table, 1) })
    }

    /// Puts every word that is not what the image has back to that, and says where they were and
    /// what they held, as far as the list reaches.
    fn restore(self) -> Changes {
        let mut changes = Changes::new();
        let first = self.image.header().first_frame;
        let mut stored = self.image.frames().peekable();
        let (frames, _) = self.words.as_chunks::<FRAME_WORDS>();
        for (number, frame) in (first..).zip(frames) {
            let contents = stored.next_if(|(at, _)| *at == number);
            let contents = contents.map_or(&[0; FRAME_BYTES], |(_, contents)| contents);
            let originals =
                contents.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            let words = || frame.iter().zip(originals.clone());
            let differences =
                words().fold(0, |found, (word, original)| found | word.load(Relaxed) ^ original);
            if differences == 0 {
                continue;
            }
            let start = u64::from(number) * FRAME_BYTES as u64;
            for (address, (word, original)) in (start..).step_by(8).zip(words()) {
                let value = word.swap(original, Relaxed);
                if value != original && !changes.is_full() {
                    changes.push(Change { address, value });
                }
            }
        }
        changes
    }

    /// Maps the first 2 MiB one to one for this code, with the stubs open to ring 3.
    fn map_host(self) {
        let stubs = low(&raw const probe_stubs);
        let entry = |address: u32| match address {
            HOST_END.. => 0,
            _ if address == stubs => u64::from(address) | SETTLED | USER,
            _ => u64::from(address) | SETTLED,
        };
        let page = |number: usize| (number * FRAME_BYTES) as u32;
        for (at, word) in self.host_table.iter().enumerate() {
            let value = match self.image.header().structure {
                Structure::TwoLevel => entry(page(2 * at)) | entry(page(2 * at + 1)) << 32,
                Structure::Pae => entry(page(at)),
            };
            word.store(value, Relaxed);
        }
    }

    /// The word that holds the byte at a physical address, if it is in the memory.
    fn word_at(self, address: u32) -> Option<&'a AtomicU64> {
        let start = u64::from(self.image.header().first_frame) * FRAME_BYTES as u64;
        self.words.get((u64::from(address).checked_sub(start)? / 8) as usize)
    }

    /// Puts the breakpoint of a probe into its place, and says what the word there holds now.
    fn put_breakpoint(self, probe: Probe) -> Option<Change> {
        let place = probe.breakpoint?;
        let word = self.word_at(place)?;
        let mut bytes = word.load(Relaxed).to_le_bytes();
        bytes[(place % 8) as usize] = BREAKPOINT;
        let value = u64::from_le_bytes(bytes);
        word.store(value, Relaxed);
        Some(Change { address: u64::from(place & !7), value })
    }
}

/// Fills in the descriptors that hold addresses in pieces.
fn prepare_descriptors() {
    let task = u64::from(low(&raw const probe_task));
    let descriptor = TASK_LIMIT | (task & 0xFF_FFFF) << 16 | 0x89 << 40 | (task >> 24 & 0xFF) << 56;
    let low_words = |table: *const u64| direct(low(table).into()).cast::<u64>();
    // SAFETY: the entry is one of the table, which only the assembly uses otherwise.
    unsafe { low_words(&raw const probe_gdt).add(TASK_ENTRY).write(descriptor) };
    for vector in 0..GATES {
        let handler = u64::from(low(&raw const probe_gates) + vector as u32 * GATE_STRIDE);
        // Present 32-bit interrupt gates that ring 3 may use too.
        let gate = handler & 0xFFFF | KERNEL_CODE << 16 | 0xEE << 40 | (handler >> 16) << 48;
        // SAFETY: as above.
        unsafe { low_words(&raw const probe_idt).add(vector).write(gate) };
    }
}

/// Makes one access.
fn make(header: Header, probe: Probe) -> Answer {
    let (cr4, efer) = match header.structure {
        Structure::TwoLevel => (CR4_LARGE_PAGES, 0),
        Structure::Pae => (CR4_LARGE_PAGES | CR4_PAE, EFER_NO_EXECUTE),
    };
    let request = Request {
        cr0: CR0_PAGING | CR0_WRITE_PROTECT | CR0_EXTENSION_TYPE | CR0_PROTECTED,
        cr3: header.root,
        cr4,
        efer,
        stub: match probe.access {
            AccessKind::Read => low(&raw const probe_read),
            AccessKind::Write => low(&raw const probe_write),
            AccessKind::Execute => low(&raw const probe_execute),
        },
        ring: match probe.ring {
            Ring::Kernel => 0,
            Ring::User => 3,
        },
        address: probe.address,
        answer: Answer { value: STORED, vector: u32::MAX, error: 0, cr2: 0, eip: 0 },
    };
    let place = direct(low(&raw const probe_request).into()).cast::<Request>();
    // SAFETY: nobody else uses the request. The tables named in it map the first 2 MiB one to
    // one, where all lies that runs until `probe_make` returns; it gives back every register that
    // it changes.
    unsafe {
        place.write_volatile(request);
        probe_make();
        place.read_volatile().answer
    }
}

/// Writes down what came of a probe.
fn report(number: usize, probe: Probe, answer: Answer, changes: &[Change]) {
    let changes = Pairs(changes);
    let Answer { value, vector, error, cr2, eip } = answer;
    let finished = match probe.access {
        AccessKind::Execute => eip == probe.address.wrapping_add(1),
        AccessKind::Read | AccessKind::Write => eip >> 12 == low(&raw const probe_stubs) >> 12,
    };
    match vector {
        BREAKPOINT_VECTOR if finished => {
            let value = if probe.access == AccessKind::Read { value } else { 0 };
            say!(
                "@probe {{\"number\":{number},\"outcome\":\"access\",\"error\":0,\"cr2\":0,\
                 \"value\":{value},\"changed\":[{changes}]}}"
            );
        }
        PAGE_FAULT_VECTOR => say!(
            "@probe {{\"number\":{number},\"outcome\":\"fault\",\"error\":{error},\"cr2\":{cr2},\
             \"value\":0,\"changed\":[{changes}]}}"
        ),
        _ => say!(
            "@probe {{\"number\":{number},\"outcome\":\"exception\",\"error\":{error},\"cr2\":0,\
             \"value\":{vector},\"changed\":[{changes}]}}"
        ),
    }
}

/// A word that is not what the image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// Its physical address.
    address: u64,
    value: u64,
}

/// More than any probe changes that goes well.
type Changes = ArrayVec<Change, 32>;

/// Changes as pairs of JSON.
struct Pairs<'a>(&'a [Change]);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Change { address, value } in self.0 {
            write!(f, "{separator}[{address},{value}]")?;
            separator = ",";
        }
        Ok(())
    }
}
