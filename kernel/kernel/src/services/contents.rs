//! The Nt calls that tell of memory or copy it: queries, transfers, write watch.
//!
//! Lists of pages are gathered in the kernel's heap, of which programs together have no more than
//! [`MOST_WORDS`] at a time: a call that needs more ends with INSUFFICIENT_RESOURCES. The
//! attributes of chosen pages are asked for piece by piece and need none of it.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use ntmm::NtStatus;
use ntmm::nt::{
    BasicInformation, Caller, GetWriteWatchCall, Information, QueryOutcome, QueryParameters,
    QueryVirtualMemory, ResetWriteWatchCall, TransferParameters, TransferVirtualMemory,
    WriteWatchParameters,
};

use super::{answer, caller, target};
use crate::memory::PAGE;
use crate::wait::complete;
use crate::{scheduler, user};

/// Words that all lists under way may have together.
const MOST_WORDS: u64 = 16 << 10;

/// Words lent to lists.
static LENT: AtomicU64 = AtomicU64::new(0);

/// MemoryWorkingSetInformation and MemoryWorkingSetExInformation.
const WORKING_SET: u32 = 1;
const WORKING_SET_EX: u32 = 4;

/// Bytes of a word.
const WORD: u64 = 8;

/// Words of a piece of a long array: 256 pages.
const PIECE: u64 = 512;

/// Room for a list.
#[derive(Debug)]
struct Words(Vec<u64>);

impl Words {
    /// So many words of zero.
    fn new(count: u64) -> Result<Self, NtStatus> {
        let lent = |before: u64| before.checked_add(count).filter(|&after| after <= MOST_WORDS);
        LENT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lent)
            .map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let mut words = Vec::new();
        if words.try_reserve_exact(count as usize).is_err() {
            LENT.fetch_sub(count, Ordering::Relaxed);
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        words.resize(count as usize, 0);
        Ok(Self(words))
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        LENT.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Whether a variable can be written, or is null.
fn optional(address: u64) -> Result<(), NtStatus> {
    if address == 0 { Ok(()) } else { user::capture::<u64>(address).map(|_| ()) }
}

/// NtQueryVirtualMemory.
pub(super) extern "C" fn query(
    process: u64,
    address: u64,
    class: u64,
    buffer: u64,
    length: u64,
    returned: u64,
) -> u64 {
    let parameters = QueryParameters {
        process: target(process),
        address,
        class: class as u32,
        buffer: user::probe(buffer, length),
        length,
        return_length: optional(returned),
    };
    let call = match parameters.class {
        WORKING_SET => query_working_set(parameters, buffer),
        WORKING_SET_EX => query_pages(parameters, buffer),
        _ => query_fixed(parameters, buffer),
    };
    answer(call.map(|outcome| {
        if returned != 0
            && let Some(length) = outcome.return_length
        {
            let _ = user::write(returned, &length);
        }
        outcome.status
    }))
}

/// Information of a fixed size.
fn query_fixed(parameters: QueryParameters, buffer: u64) -> Result<QueryOutcome, NtStatus> {
    let outcome = complete(QueryVirtualMemory::new(caller(), parameters, &mut []))?;
    if let Some(information) = &outcome.information {
        let words = layout(information);
        let mut bytes = [0; size_of::<[u64; 6]>()];
        for (bytes, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let length = outcome.return_length.unwrap_or(0).min(bytes.len() as u64);
        user::write_bytes(buffer, &bytes[..length as usize])?;
    }
    Ok(outcome)
}

/// Information of a fixed size as 64-bit programs have it.
fn layout(information: &Information) -> [u64; 6] {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    match *information {
        Information::Basic(BasicInformation {
            base,
            allocation_base,
            allocation_protection,
            size,
            state,
            protection,
            kind,
        }) => {
            let state = pair(state, protection);
            [base, allocation_base, allocation_protection.into(), size, state, kind.into()]
        }
        Information::Region(region) => {
            let flags = pair(region.allocation_protection, region.kind);
            [region.allocation_base, flags, region.size, region.committed, 0, 0]
        }
        Information::SharedCommit(bytes) => [bytes, 0, 0, 0, 0, 0],
        Information::Image(image) => [image.base, image.size, image.flags.into(), 0, 0, 0],
        Information::WorkingSet { .. } | Information::WorkingSetEx => [0; 6],
    }
}

/// The pages of the working set.
fn query_working_set(parameters: QueryParameters, buffer: u64) -> Result<QueryOutcome, NtStatus> {
    let room = (parameters.length / WORD).saturating_sub(1);
    let lent = if parameters.buffer.is_ok() { room.min(MOST_WORDS / 2) } else { 0 };
    let mut words = Words::new(lent)?;
    let outcome = complete(QueryVirtualMemory::new(caller(), parameters, &mut words))?;
    if let Some(Information::WorkingSet { count, stored }) = outcome.information {
        // The program's buffer would have sufficed.
        if stored < count && stored < room {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        user::write(buffer, &count)?;
        user::write_words(buffer + WORD, &words[..stored as usize])?;
    }
    Ok(outcome)
}

/// The attributes of the pages whose addresses the buffer holds.
fn query_pages(parameters: QueryParameters, buffer: u64) -> Result<QueryOutcome, NtStatus> {
    let pairs = if parameters.buffer.is_ok() { parameters.length / (2 * WORD) } else { 0 };
    let mut words = Words::new((2 * pairs).min(PIECE))?;
    let mut done = 0;
    loop {
        let piece = (2 * pairs - done).min(PIECE);
        let words = &mut words[..piece as usize];
        let place = buffer + done * WORD;
        user::read_words(place, words)?;
        let outcome = complete(QueryVirtualMemory::new(caller(), parameters, words))?;
        if !outcome.status.is_success() {
            return Ok(outcome);
        }
        user::write_words(place, words)?;
        done += piece;
        if done == 2 * pairs {
            return Ok(outcome);
        }
    }
}

/// Makes a transfer one way or the other.
fn transfer(
    call: fn(Caller, TransferParameters) -> TransferVirtualMemory,
    [process, base, buffer, size, done]: [u64; 5],
) -> Result<NtStatus, NtStatus> {
    let parameters = TransferParameters {
        process: target(process),
        base,
        local: scheduler::home().ok_or(NtStatus::INVALID_HANDLE)?.space,
        buffer,
        size,
        done: optional(done),
    };
    let outcome = complete(call(caller(), parameters))?;
    if done != 0
        && let Some(bytes) = outcome.done
    {
        let _ = user::write(done, &bytes);
    }
    Ok(outcome.status)
}

/// NtReadVirtualMemory.
pub(super) extern "C" fn read(
    process: u64,
    base: u64,
    buffer: u64,
    size: u64,
    done: u64,
    _: u64,
) -> u64 {
    answer(transfer(TransferVirtualMemory::read, [process, base, buffer, size, done]))
}

/// NtWriteVirtualMemory.
pub(super) extern "C" fn write(
    process: u64,
    base: u64,
    buffer: u64,
    size: u64,
    done: u64,
    _: u64,
) -> u64 {
    answer(transfer(TransferVirtualMemory::write, [process, base, buffer, size, done]))
}

/// NtGetWriteWatch. The pointers to the count and to the granularity are in memory.
pub(super) extern "C" fn get_write_watch(
    process: u64,
    flags: u64,
    base: u64,
    size: u64,
    array: u64,
    rest: u64,
) -> u64 {
    let call = || {
        let [count, granularity] = user::read::<[u64; 2]>(rest)?;
        let wanted = user::capture::<u64>(count);
        let entries = wanted.unwrap_or(0);
        let bytes = entries.checked_mul(WORD);
        let parameters = WriteWatchParameters {
            process: target(process),
            flags: flags as u32,
            base,
            size,
            array: match bytes {
                Some(bytes) => user::probe(array, bytes),
                None => Err(NtStatus::ACCESS_VIOLATION),
            },
            count: wanted,
            granularity: user::capture::<u32>(granularity).map(|_| ()),
        };
        // There are no more pages to tell of than the range has, which may begin inside one.
        let pages = (size / PAGE).saturating_add(2);
        let lent = if parameters.array.is_ok() { entries.min(pages) } else { 0 };
        let mut words = Words::new(lent)?;
        let outcome = complete(GetWriteWatchCall::new(caller(), parameters, &mut words))?;
        if let Some(written) = outcome.output {
            user::write_words(array, &words[..written.count as usize])?;
            let _ = user::write(count, &written.count);
            let _ = user::write(granularity, &written.granularity);
        }
        Ok(outcome.status)
    };
    answer(call())
}

/// NtResetWriteWatch.
pub(super) extern "C" fn reset_write_watch(
    process: u64,
    base: u64,
    size: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    answer(complete(ResetWriteWatchCall::new(caller(), target(process), base, size)))
}
