//! Processes: a program, its address space, its threads.
//!
//! A process is made during boot for each line of the archive's list. Its first thread loads the
//! image, in the kernel, and enters it. It is over when its last thread has left its program; the
//! reaper then takes its address space down and reports it, and after the last one the machine.
//!
//! [`PROCESSES`] is a lock inside the scheduler's: the scheduler is never called under it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use ntmm::virtual_memory::{Allocate, AllocationType, Placement, Protect, UserStack};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, DeleteAddressSpace, NtStatus};
use ntmm_pte::{Bytes, Protection, Va};

use crate::image::Image;
use crate::memory::PAGE;
use crate::report::{self, Figures};
use crate::scheduler::{self, Home, Name, Priority, Reason};
use crate::sync::SpinLock;
use crate::trap::Frame;
use crate::wait::complete;
use crate::{archive, balloon, console, kernel, stack, user};

/// The list of programs to run.
const PROGRAMS: &str = "programs";

#[derive(Debug)]
struct Process {
    name: &'static str,
    arguments: &'static str,
    space: AddressSpaceId,
    /// Threads that have not left the program.
    threads: u32,
    /// How it ends.
    status: Option<NtStatus>,
    /// Where its exceptions go, or 0.
    dispatcher: u64,
    references: u64,
    verified: u64,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Living,
    /// All threads have left; the address space is still there.
    Over,
    Gone,
}

static PROCESSES: SpinLock<Vec<Process>> = SpinLock::new(Vec::new());

/// Makes a process for each line of the archive's list.
///
/// # Errors
/// What is wrong with the archive, or that there is not enough memory.
pub fn create_all() -> Result<(), Box<str>> {
    let list =
        archive::find(kernel().archive, PROGRAMS).ok_or("the archive has no list of programs")?;
    let list = core::str::from_utf8(list.bytes).map_err(|_| "the list of programs is not text")?;
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        create(name, arguments.trim())?;
    }
    if PROCESSES.lock().is_empty() {
        return Err("the list of programs is empty".into());
    }
    Ok(())
}

fn create(name: &'static str, arguments: &'static str) -> Result<(), Box<str>> {
    let manager = &kernel().manager;
    let frames = report::frames() as u32;
    let message = |what: &str| -> Box<str> {
        let mut text = String::from(name);
        text.push_str(": ");
        text.push_str(what);
        text.into()
    };
    let member = archive::find(kernel().archive, name)
        .ok_or_else(|| message("no such program in the archive"))?;
    Image::parse(member.bytes).ok_or_else(|| message("not a program the kernel can load"))?;
    let space = manager
        .create_address_space(WorkingSetLimits::for_memory(frames))
        .map_err(|_| message("not enough memory for its address space"))?;
    let process = Process {
        name,
        arguments,
        space,
        threads: 1,
        status: None,
        dispatcher: 0,
        references: 0,
        verified: 0,
        life: Life::Living,
    };
    let number = {
        let mut processes = PROCESSES.lock();
        processes.push(process);
        processes.len() - 1
    };
    let root = manager.root(space).ok_or_else(|| message("its address space has gone"))?;
    let home = Home { process: number, space, root };
    scheduler::spawn(Priority::Normal, Some(home), begin, number as u64)
        .ok_or_else(|| message("too many threads"))?;
    Ok(())
}

/// Starts the thread that takes down what is over.
pub fn start_reaper() {
    scheduler::spawn(Priority::Normal, None, reap, 0).expect("there are places for threads");
}

/// The first thread of a process.
extern "C" fn begin(number: u64) -> ! {
    let (name, arguments, space) = {
        let processes = PROCESSES.lock();
        let process = &processes[number as usize];
        (process.name, process.arguments, process.space)
    };
    match load(name, arguments, space) {
        Ok(frame) => frame.enter_program(),
        Err(status) => {
            crate::say!("{name}: cannot be loaded: {status}");
            terminate_current(status);
            end_thread()
        }
    }
}

/// Loads the image into the running thread's address space, and makes its stack.
fn load(name: &str, arguments: &str, space: AddressSpaceId) -> Result<Frame, NtStatus> {
    let image = archive::find(kernel().archive, name)
        .and_then(|member| Image::parse(member.bytes))
        .ok_or(NtStatus::INVALID_IMAGE_FORMAT)?;
    let start = image.segments().map(|segment| segment.start).min().unwrap_or_default();
    let end = image.segments().map(|segment| segment.end).max().unwrap_or_default();
    let (place, size) = (Placement::At(Va::new(start)), Bytes::new(end - start));
    let kind = AllocationType::ReserveAndCommit;
    complete(Allocate::new(space, place, size, kind, Protection::READWRITE))?;
    for segment in image.segments() {
        user::write_bytes(segment.start, segment.bytes)?;
    }
    for segment in image.segments() {
        let base = Va::new(segment.start & !(PAGE - 1));
        let size = Bytes::new(segment.end - base.get());
        complete(Protect::new(space, base, size, segment.protection))?;
    }
    let stack = stack::create(space)?;
    scheduler::set_stack(stack);
    let text = (stack.base.get() - arguments.len() as u64) & !15;
    user::write_bytes(text, arguments.as_bytes())?;
    Ok(Frame::of_program(image.entry, text - 8, [text, arguments.len() as u64]))
}

/// What is kept of the process of the running thread.
fn with_current<T>(visit: impl FnOnce(&mut Process) -> T) -> Option<T> {
    let home = scheduler::home()?;
    PROCESSES.lock().get_mut(home.process).map(visit)
}

/// Name of the running program.
pub fn current_name() -> &'static str {
    with_current(|process| process.name).unwrap_or_default()
}

/// Where exceptions of the running program go, or 0.
pub fn current_dispatcher() -> u64 {
    with_current(|process| process.dispatcher).unwrap_or_default()
}

/// Names the dispatcher of the running program.
pub fn set_dispatcher(address: u64) {
    with_current(|process| process.dispatcher = address);
}

/// Adds to what the running program has verified.
pub fn add_verified(references: u64, bytes: u64) {
    with_current(|process| {
        process.references = process.references.saturating_add(references);
        process.verified = process.verified.saturating_add(bytes);
    });
}

/// Ends the running program: its threads end when they would next go on in it.
pub fn terminate_current(status: NtStatus) {
    let Some(home) = scheduler::home() else { return };
    with_current(|process| process.status.get_or_insert(status).code());
    scheduler::kill_process(home.process);
}

/// The running thread leaves its program for good, with a status that is the program's when it is
/// the last.
pub fn leave(status: NtStatus) -> ! {
    with_current(|process| {
        process.threads -= 1;
        if process.threads == 0 {
            process.status.get_or_insert(status);
            process.life = Life::Over;
        }
    });
    scheduler::end()
}

/// The running thread, which has been killed, leaves its program for good.
pub fn end_thread() -> ! {
    leave(NtStatus::PROCESS_IS_TERMINATING)
}

/// What a further thread begins with.
#[derive(Clone, Copy, Debug)]
struct Start {
    entry: u64,
    argument: u64,
    stack: UserStack,
}

/// Makes a further thread of the running program.
///
/// # Errors
/// INSUFFICIENT_RESOURCES when there are too many threads.
pub fn create_thread(entry: u64, argument: u64, stack: UserStack) -> Result<Name, NtStatus> {
    let home = scheduler::home().ok_or(NtStatus::INVALID_HANDLE)?;
    with_current(|process| process.threads += 1);
    let start = Box::into_raw(Box::new(Start { entry, argument, stack }));
    scheduler::spawn(Priority::Normal, Some(home), begin_thread, start as u64).ok_or_else(|| {
        with_current(|process| process.threads -= 1);
        // SAFETY: nobody has got the pointer.
        drop(unsafe { Box::from_raw(start) });
        NtStatus::INSUFFICIENT_RESOURCES
    })
}

extern "C" fn begin_thread(start: u64) -> ! {
    // SAFETY: `create_thread` made the pointer for this thread alone.
    let start = *unsafe { Box::from_raw(start as *mut Start) };
    if scheduler::is_killed() {
        end_thread();
    }
    scheduler::set_stack(start.stack);
    let top = start.stack.base.get().wrapping_sub(8);
    let mut frame = Frame::of_program(start.entry, top, [start.argument, 0]);
    frame.confine();
    frame.enter_program()
}

/// Takes down processes that are over; after the last one the machine.
extern "C" fn reap(_: u64) -> ! {
    loop {
        // The reaper is not killed.
        let _ = scheduler::park(Reason::Reaper, |_| {
            PROCESSES.lock().iter().any(|process| process.life == Life::Over)
        });
        let over = PROCESSES.lock().iter().position(|process| process.life == Life::Over);
        let Some(number) = over else { continue };
        // The last thread may still be on its way off its stack.
        while !scheduler::process_has_ended(number) {
            scheduler::yield_now();
        }
        take_down(number);
        let (done, failed) = {
            let processes = PROCESSES.lock();
            let done = processes.iter().all(|process| process.life == Life::Gone);
            (done, processes.iter().any(|process| process.status != Some(NtStatus::SUCCESS)))
        };
        if done {
            balloon::finish();
            report::result();
            console::exit(if failed { console::Exit::ProgramFailed } else { console::Exit::Good });
        }
    }
}

fn take_down(number: usize) {
    let (figures, space) = {
        let processes = PROCESSES.lock();
        let process = &processes[number];
        let figures = Figures {
            id: number + 1,
            name: process.name,
            status: process.status.unwrap_or(NtStatus::SUCCESS),
            references: process.references,
            verified: process.verified,
        };
        (figures, process.space)
    };
    report::process(&figures, space);
    // A page table that cannot be read leaves the rest of the space behind.
    let deleted = complete(DeleteAddressSpace::new(space));
    let process = &mut PROCESSES.lock()[number];
    process.life = Life::Gone;
    if let Err(status) = deleted {
        crate::say!("{}: its address space cannot be taken down: {status}", figures.name);
        process.status = Some(status);
    }
}
