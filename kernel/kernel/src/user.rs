//! Memory of the running program, from the kernel (probe and capture).
//!
//! The addresses come from programs and mean nothing until they have been used: pages are faulted
//! in on the way, and what cannot be is the caller's error.

use core::mem::MaybeUninit;

use ntmm::NtStatus;

use crate::memory::{PAGE, USER_END};

unsafe extern "C" {
    #[link_name = "user_copy"]
    fn copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
}

fn check(address: u64, bytes: usize) -> Result<(), NtStatus> {
    match address.checked_add(bytes as u64) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(NtStatus::ACCESS_VIOLATION),
    }
}

fn outcome(status: u64) -> Result<(), NtStatus> {
    match status {
        0 => Ok(()),
        status => Err(NtStatus::new(status as u32)),
    }
}

/// Copies bytes into the program.
///
/// # Errors
/// The status of the fault.
pub fn write_bytes(address: u64, bytes: &[u8]) -> Result<(), NtStatus> {
    check(address, bytes.len())?;
    // SAFETY: the target lies in the program's part, faults there end the copy.
    outcome(unsafe { copy(address as *mut u8, bytes.as_ptr(), bytes.len()) })
}

/// Copies bytes out of the program.
///
/// # Errors
/// The status of the fault.
pub fn read_bytes(address: u64, bytes: &mut [u8]) -> Result<(), NtStatus> {
    check(address, bytes.len())?;
    // SAFETY: the source lies in the program's part, faults there end the copy.
    outcome(unsafe { copy(bytes.as_mut_ptr(), address as *const u8, bytes.len()) })
}

/// Copies words into the program.
///
/// # Errors
/// The status of the fault.
pub fn write_words(address: u64, words: &[u64]) -> Result<(), NtStatus> {
    check(address, size_of_val(words))?;
    // SAFETY: as in `write_bytes`.
    outcome(unsafe { copy(address as *mut u8, words.as_ptr().cast(), size_of_val(words)) })
}

/// Copies words out of the program.
///
/// # Errors
/// The status of the fault.
pub fn read_words(address: u64, words: &mut [u64]) -> Result<(), NtStatus> {
    check(address, size_of_val(words))?;
    // SAFETY: as in `read_bytes`; any bytes are words.
    outcome(unsafe { copy(words.as_mut_ptr().cast(), address as *const u8, size_of_val(words)) })
}

/// Finds out whether all bytes of a range can be written (ProbeForWrite): reads and writes back
/// one of each page.
///
/// # Errors
/// The status of the first fault.
pub fn probe(address: u64, bytes: u64) -> Result<(), NtStatus> {
    check(address, bytes as usize)?;
    let mut next = address;
    while next < address + bytes {
        let mut byte = [0];
        read_bytes(next, &mut byte)?;
        write_bytes(next, &byte)?;
        next = (next & !(PAGE - 1)) + PAGE;
    }
    Ok(())
}

/// Writes a value into the program. `T` has no padding that tells of the kernel.
///
/// # Errors
/// The status of the fault.
#[inline]
pub fn write<T>(address: u64, value: &T) -> Result<(), NtStatus> {
    check(address, size_of::<T>())?;
    // SAFETY: as in `write_bytes`.
    outcome(unsafe { copy(address as *mut u8, core::ptr::from_ref(value).cast(), size_of::<T>()) })
}

/// A value that any bytes are.
///
/// # Safety
/// Every pattern of bits is a value of the type.
pub unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: integers.
unsafe impl Plain for [u64; 2] {}
// SAFETY: integers.
unsafe impl Plain for [u64; 3] {}

/// Reads a value from the program.
///
/// # Errors
/// The status of the fault.
#[inline]
pub fn read<T: Plain>(address: u64) -> Result<T, NtStatus> {
    check(address, size_of::<T>())?;
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `read_bytes`; afterwards every byte is set, and any bytes are a value.
    unsafe {
        outcome(copy(value.as_mut_ptr().cast(), address as *const u8, size_of::<T>()))?;
        Ok(value.assume_init())
    }
}

/// Reads a value from the program that will be written back: it must be writable, before anything
/// is done (ProbeForWrite).
///
/// # Errors
/// The status of the fault.
#[inline]
pub fn capture<T: Plain>(address: u64) -> Result<T, NtStatus> {
    let value = read(address)?;
    write(address, &value)?;
    Ok(value)
}

/// Reads a context from the program.
///
/// # Errors
/// The status of the fault.
pub fn read_context(address: u64) -> Result<crate::exception::Context, NtStatus> {
    use crate::exception::Context;
    check(address, size_of::<Context>())?;
    let mut value = MaybeUninit::<Context>::uninit();
    // SAFETY: as above: a context is integers and bytes.
    unsafe {
        outcome(copy(value.as_mut_ptr().cast(), address as *const u8, size_of::<Context>()))?;
        Ok(value.assume_init())
    }
}
