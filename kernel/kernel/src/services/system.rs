//! Services beside memory: threads and time, information, the console, the archive.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ntmm::NtStatus;
use ntmm::platform::SystemTime;
use ntmm::working_set::limits::EmptyWorkingSet;

use super::{CURRENT_PROCESS, CURRENT_THREAD, space_of, status, terminate};
use crate::scheduler::{Name, Reason};
use crate::wait::complete;
use crate::{archive, console, kernel, process, processor, scheduler, time, user};

/// Most bytes of a call that are kept in the kernel at a time.
const LONGEST: u64 = 4096;

/// Units of 100 ns in a microsecond, and in a pause between two looks.
const MICROSECOND: u64 = 10;
const PAUSE: u64 = 10_000;

const SYSTEM_PERFORMANCE_INFORMATION: u64 = 2;
const SYSTEM_MEMORY_LIST_INFORMATION: u64 = 80;
const PROCESS_QUOTA_LIMITS: u64 = 1;
const MEMORY_EMPTY_WORKING_SETS: u32 = 2;
const MEMORY_FLUSH_MODIFIED_LIST: u32 = 3;

/// NtYieldExecution.
pub(super) extern "C" fn yield_execution(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    if !scheduler::others_are_ready() {
        return NtStatus::NO_YIELD_PERFORMED.code().into();
    }
    scheduler::yield_now();
    0
}

/// NtTerminateProcess.
pub(super) extern "C" fn terminate_process(
    process: u64,
    code: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    if process != CURRENT_PROCESS {
        return NtStatus::INVALID_HANDLE.code().into();
    }
    terminate(NtStatus::new(code as u32));
    0
}

/// NtTerminateThread.
pub(super) extern "C" fn terminate_thread(
    thread: u64,
    code: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    if thread != CURRENT_THREAD {
        return NtStatus::INVALID_HANDLE.code().into();
    }
    process::leave(NtStatus::new(code as u32))
}

/// NtCreateThreadEx, as far as it goes. The stack is described in memory, as INITIAL_TEB does:
/// its base, its limit, and the lowest address reserved for it.
pub(super) extern "C" fn create_thread(
    process: u64,
    id: u64,
    start: u64,
    argument: u64,
    stack: u64,
    _: u64,
) -> u64 {
    let call = || {
        space_of(process)?;
        user::write(id, &0_u64)?;
        let [base, limit, deallocation] = user::read::<[u64; 3]>(stack)?;
        let stack = crate::stack::described(base, limit, deallocation);
        let thread = process::create_thread(start, argument, stack)?;
        user::write(id, &thread.to_number())
    };
    status(call())
}

/// NtContinue.
pub(super) extern "C" fn resume(context: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    match user::read_context(context) {
        Ok(_) if scheduler::is_killed() => process::end_thread(),
        Ok(context) => context.resume(),
        Err(refused) => refused.code().into(),
    }
}

/// NtDisplayString.
pub(super) extern "C" fn display(text: u64, length: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    let call = || {
        if length > LONGEST {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        let mut bytes = [0; LONGEST as usize];
        let bytes = &mut bytes[..length as usize];
        user::read_bytes(text, bytes)?;
        let text = core::str::from_utf8(bytes).map_err(|_| NtStatus::INVALID_PARAMETER_1)?;
        console::write(format_args!("{text}"));
        Ok(())
    };
    status(call())
}

/// NtDelayExecution, in microseconds.
pub(super) extern "C" fn delay(time: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    status(sleep(time.saturating_mul(MICROSECOND)))
}

/// Parks the thread for so many units of 100 ns.
fn sleep(units: u64) -> Result<(), NtStatus> {
    let until = SystemTime(time::now().0.saturating_add(units));
    scheduler::park(Reason::Until(until), |_| time::now() >= until)
        .map_err(|_| NtStatus::PROCESS_IS_TERMINATING)
}

/// NtQuerySystemInformation: the performance information.
pub(super) extern "C" fn query_system(
    class: u64,
    buffer: u64,
    length: u64,
    returned: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = || {
        if class != SYSTEM_PERFORMANCE_INFORMATION {
            return Err(NtStatus::INVALID_PARAMETER_1);
        }
        let manager = &kernel().manager;
        let counters = manager.counters();
        let figures = manager.memory_figures();
        let halted = processor::online().map(|one| one.halted.load(Ordering::Relaxed)).sum();
        let information: [u64; 12] = [
            halted,
            counters.page_faults.get(),
            counters.demand_zero.get(),
            counters.transition.get(),
            counters.page_file.get(),
            counters.pages_read.get(),
            counters.pages_written.get(),
            figures.available.into(),
            figures.committed.get(),
            figures.commit_limit.get(),
            crate::report::frames(),
            time::now().0,
        ];
        if length < size_of_val(&information) as u64 {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        user::write(buffer, &information)?;
        if returned != 0 {
            user::write(returned, &(size_of_val(&information) as u64))?;
        }
        Ok(())
    };
    status(call())
}

/// NtSetSystemInformation: commands to the page lists.
pub(super) extern "C" fn set_system(
    class: u64,
    buffer: u64,
    length: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = || {
        if class != SYSTEM_MEMORY_LIST_INFORMATION {
            return Err(NtStatus::INVALID_PARAMETER_1);
        }
        if length != size_of::<u32>() as u64 {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        match user::read::<u32>(buffer)? {
            MEMORY_EMPTY_WORKING_SETS => empty_working_sets(),
            MEMORY_FLUSH_MODIFIED_LIST => flush_modified_list(),
            _ => Err(NtStatus::INVALID_PARAMETER_2),
        }
    };
    status(call())
}

fn empty_working_sets() -> Result<(), NtStatus> {
    let spaces: Vec<_> = kernel().manager.spaces().map(|view| view.space()).collect();
    for space in spaces {
        match complete(EmptyWorkingSet::new(space)) {
            // A process may end meanwhile.
            Ok(()) | Err(NtStatus::INVALID_HANDLE) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

/// Waits until no page is modified, or no more can be written.
fn flush_modified_list() -> Result<(), NtStatus> {
    let manager = &kernel().manager;
    let left = || u64::from(manager.memory_figures().modified);
    let mut before = u64::MAX;
    while left() > 0 && left() < before {
        before = left();
        manager.flush_modified_pages();
        sleep(PAUSE)?;
    }
    Ok(())
}

/// NtSetInformationProcess: the quota limits, so far as they empty the working set.
pub(super) extern "C" fn set_process(
    process: u64,
    class: u64,
    buffer: u64,
    length: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = || {
        let space = space_of(process)?;
        if class != PROCESS_QUOTA_LIMITS {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        if length != size_of::<[u64; 2]>() as u64 {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        match user::read::<[u64; 2]>(buffer)? {
            [u64::MAX, u64::MAX] => complete(EmptyWorkingSet::new(space)),
            _ => Err(NtStatus::INVALID_PARAMETER_3),
        }
    };
    status(call())
}

/// Adds to what the program has verified.
pub(super) extern "C" fn report_verified(
    references: u64,
    bytes: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    process::add_verified(references, bytes);
    0
}

/// Reads a member of the archive from its beginning, as much as the buffer takes.
pub(super) extern "C" fn read_archive(
    name: u64,
    name_length: u64,
    buffer: u64,
    length: u64,
    returned: u64,
    _: u64,
) -> u64 {
    let call = || {
        let mut text = [0; 256];
        let text = text.get_mut(..name_length as usize).ok_or(NtStatus::INVALID_PARAMETER_2)?;
        user::read_bytes(name, text)?;
        let member = core::str::from_utf8(text)
            .ok()
            .and_then(|name| archive::find(kernel().archive, name))
            .ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let bytes = &member.bytes[..member.bytes.len().min(length as usize)];
        user::write_bytes(buffer, bytes)?;
        user::write(returned, &(bytes.len() as u64))
    };
    status(call())
}

/// Names the dispatcher of the program's exceptions.
pub(super) extern "C" fn register_dispatcher(
    address: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    process::set_dispatcher(address);
    0
}

/// NtWaitForSingleObject on a thread of the program.
pub(super) extern "C" fn wait_for_thread(
    thread: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = || {
        let home = scheduler::home().ok_or(NtStatus::INVALID_HANDLE)?;
        let thread = Name::from_number(thread);
        if !scheduler::has_been(thread) {
            return Err(NtStatus::INVALID_HANDLE);
        }
        let mut circle = false;
        scheduler::park(Reason::End(thread), |threads| {
            circle = threads.closes_circle(thread);
            circle || threads.has_ended(thread, home.process)
        })
        .map_err(|_| NtStatus::PROCESS_IS_TERMINATING)?;
        if circle { Err(NtStatus::POSSIBLE_DEADLOCK) } else { Ok(()) }
    };
    status(call())
}
