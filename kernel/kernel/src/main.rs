//! A small kernel around the ntmm memory manager, for x86-64 under QEMU.
//!
//! It is the second machine the manager runs on: a real memory-management unit walks its tables, a
//! real disk holds its pages, up to four processors fault at the same time, and programs in ring 3
//! call it as Windows programs do. Everything in it is as small as it can be; authors of other
//! kernels find in `docs/your-own-kernel.md` what each part owes the manager.
//!
//! | Room | Holds |
//! |---|---|
//! | `boot.s`, [`boot`], [`smp`] | from the loader to Rust, for each processor |
//! | [`words`] | what the command line asks for |
//! | [`memory`], [`mapping`], [`heap`] | physical memory, the kernel's page tables, its heap |
//! | [`descriptors`], [`apic`], [`time`], [`console`] | the processor's tables, interrupts, time, serial port |
//! | [`processor`], [`dispatch`], [`sync`] | what each processor has, interrupt levels, the spin lock |
//! | `trap.s`, [`trap`], [`exception`] | into the kernel and out of it; exceptions of programs |
//! | [`scheduler`], [`wait`] | threads; waiting for the manager |
//! | [`platform`], [`shootdown`], [`disk`] | the machine as the manager wants it |
//! | [`engines`] | the manager's engines |
//! | [`balloon`] | memory lent at run time and taken back |
//! | [`watchdog`], [`bug_check`], [`selftest`] | never a silent hang; stopping; breaking it on purpose |
//! | [`probe`] | page tables of the older paging modes, walked by the processor |
//! | [`process`], [`image`], [`archive`], [`services`], [`user`], [`stack`], [`report`] | programs and what they may ask for |
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "a program, not a library")]

extern crate alloc;

mod apic;
mod archive;
mod balloon;
mod boot;
mod bug_check;
mod console;
mod descriptors;
mod disk;
mod dispatch;
mod engines;
mod exception;
mod heap;
mod image;
mod mapping;
mod memory;
mod platform;
mod probe;
mod process;
mod processor;
mod report;
mod scheduler;
mod selftest;
mod services;
mod shootdown;
mod smp;
mod stack;
mod sync;
mod time;
mod trap;
mod user;
mod wait;
mod watchdog;
mod words;

use core::panic::PanicInfo;

use ntmm::nt::Profile;
use ntmm::platform::{FileId, FrameRange};
use ntmm::{BootError, Config, Manager};
use ntmm_pte::Pages;

use boot::BootInformation;
use console::Exit;
use disk::Disk;
use memory::{MemoryMap, PAGE};
use platform::Machine;
use sync::Once;
use words::{BadWord, Words};

/// Bytes of the heap.
const HEAP: u64 = 768 << 10;
/// Smallest paging file, in pages.
const SMALLEST_PAGING_FILE: u64 = 256;

/// What there is one of.
#[derive(Debug)]
pub struct Kernel {
    /// The memory manager.
    pub manager: Manager<Machine>,
    /// The programs.
    pub archive: &'static [u8],
    /// The version of Windows that the services behave as.
    pub profile: Profile,
    /// Memory the manager does not get at boot.
    pub withheld: Option<FrameRange>,
    /// An address space settles for good in that memory when it has been lent.
    pub squats: bool,
}

static KERNEL: Once<Kernel> = Once::new();

/// What there is one of.
pub fn kernel() -> &'static Kernel {
    KERNEL.get()
}

/// First Rust code, on the boot page tables, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u32) -> ! {
    // SAFETY: the loader's address, and nothing has been written yet.
    let Some(mut information) = (unsafe { boot::read(start_info) }) else {
        refuse(format_args!("the loader is not one that speaks PVH"))
    };
    let words = Words::read(information.command_line).unwrap_or_else(|word| refuse_word(word));
    if words.probe {
        // SAFETY: no other processor has been started, interrupts are off, and nothing has been
        // taken from the free memory yet.
        unsafe { probe::run(information.archive, &information.free) }
    }
    let processors = smp::count();
    // SAFETY: once, on the boot page tables, before interrupts.
    unsafe {
        let ram = information.ram.clone();
        let stacks = scheduler::LIMIT as u64;
        if mapping::initialize(&ram, &mut information.free, stacks).is_none() {
            too_little_memory(&ram);
        }
        let Some(heap) = information.free.take(HEAP / PAGE) else { too_little_memory(&ram) };
        heap::initialize(memory::direct(heap), HEAP as usize);
        descriptors::fill_gates();
        descriptors::initialize(0);
        scheduler::initialize(processors);
    }
    processor::become_idle(0, smp::idle_stack_limit(0));
    if words.takes_turns {
        processor::be_polite();
    }
    apic::enable();
    time::initialize();
    let kernel = make_manager(&information, &words);
    match (&kernel.manager.platform().disk, words.pagefile) {
        (Some(disk), sizes) => {
            make_paging_file(disk, sizes);
            apic::route(disk.irq());
        }
        (None, Some(_)) => refuse_word(BadWord { word: "pagefile", expected: "a paging disk" }),
        (None, None) => {}
    }
    engines::start();
    // SAFETY: everything is there.
    unsafe { smp::start(processors) };
    if let Some(seconds) = words.patience {
        watchdog::be_patient(seconds);
    }
    report::ready(information.ram.pages());
    process::start_reaper();
    if let Some(kind) = words.selftest {
        selftest::start(kind);
    } else if let Err(message) = process::create_all() {
        refuse(format_args!("{message}"));
    } else {
        balloon::start();
    }
    time::start_ticks();
    scheduler::idle()
}

fn make_manager(information: &BootInformation, words: &Words) -> &'static Kernel {
    let mut free = information.free.clone();
    if let Some(pages) = words.ram {
        free.truncate(pages);
    }
    let withheld = words.balloon.map(|pages| {
        let taken = free.take_last(pages);
        taken.unwrap_or_else(|| refuse(format_args!("there are no {pages} pages to withhold")))
    });
    let (profile, squats, seed) = (words.profile, words.squatter, words.seed);
    let memory = free.clone();
    let disk = Disk::find(information.command_line);
    let machine = Machine::new(free, disk, seed);
    let config = Config { span: withheld, ..Config::default() };
    match Manager::new(machine, config) {
        // SAFETY: once, and no other processor has been started.
        Ok(manager) => unsafe {
            KERNEL.set(Kernel { manager, archive: information.archive, profile, withheld, squats })
        },
        Err(BootError::InstallMoreMemory { .. }) => too_little_memory(&memory),
        Err(error) => refuse(format_args!("{error}")),
    }
}

/// Gives the disk to the manager as paging file, as large as the command line says.
fn make_paging_file(disk: &Disk, sizes: Option<(u64, u64)>) {
    let whole = disk.pages();
    if whole < SMALLEST_PAGING_FILE {
        refuse(format_args!(
            "the paging disk has {whole} pages of 4 KiB, at least {SMALLEST_PAGING_FILE} are needed"
        ));
    }
    let (minimum, maximum) = sizes.unwrap_or((whole, whole));
    if minimum < SMALLEST_PAGING_FILE || maximum > whole {
        refuse_word(BadWord { word: "pagefile", expected: "256 pages to as many as the disk has" });
    }
    let (minimum, maximum) = (Pages::new(minimum), Pages::new(maximum));
    if let Err(status) = kernel().manager.create_paging_file(FileId(0), minimum, maximum) {
        refuse(format_args!("the paging file cannot be used: {status}"));
    }
}

/// The machine cannot be used.
fn refuse(why: core::fmt::Arguments<'_>) -> ! {
    console::write_at_the_end(format_args!("cannot boot: {why}\n"));
    console::exit(Exit::CannotBoot)
}

/// A word of the command line means nothing.
fn refuse_word(word: BadWord) -> ! {
    console::write_at_the_end(format_args!("cannot boot: {word}\n"));
    console::exit(Exit::BadWord)
}

/// NT's bug check for it is INSTALL_MORE_MEMORY.
fn too_little_memory(memory: &MemoryMap) -> ! {
    refuse(format_args!(
        "INSTALL_MORE_MEMORY (0x{:X}): {} KiB of memory are too little",
        bug_check::INSTALL_MORE_MEMORY,
        memory.pages() * PAGE / 1024
    ))
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    console::write_at_the_end(format_args!("\nkernel: {information}\n"));
    bug_check::stop(bug_check::FATAL_ASSERTION, [0; 4])
}
