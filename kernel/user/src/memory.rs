//! Blocks of virtual memory.
//!
//! A [`Block`] is one allocation. Its words are loaded and stored by instructions the compiler
//! does not look into, so that a block may be shared by threads, be decommitted or lose its
//! protection at any time: what happens then is an exception, never undefined. Offsets count
//! bytes from its base; an offset beyond the block is a mistake of the program and panics.

use crate::NtStatus;
use crate::PAGE_SIZE;
use crate::attempt::{self, Exception};
use crate::flags::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, MemoryFlags, PAGE_READWRITE, Protection,
};
use crate::services::{
    NtAllocateVirtualMemory, NtFreeVirtualMemory, NtProtectVirtualMemory, NtQueryVirtualMemory,
};
use crate::structures::{Handle, MemoryBasicInformation};

/// One allocation, owned until it is released.
#[derive(Debug)]
pub struct Block {
    base: u64,
    size: u64,
}

impl Block {
    /// Allocates `size` bytes where the manager likes.
    ///
    /// # Errors
    /// The status of NtAllocateVirtualMemory.
    pub fn allocate(
        size: u64,
        kind: MemoryFlags,
        protection: Protection,
    ) -> Result<Self, NtStatus> {
        Self::allocate_at(0, size, kind, protection)
    }

    /// Allocates `size` bytes at `base`.
    ///
    /// # Errors
    /// The status of NtAllocateVirtualMemory.
    pub fn allocate_at(
        base: u64,
        size: u64,
        kind: MemoryFlags,
        protection: Protection,
    ) -> Result<Self, NtStatus> {
        let (mut base, mut size) = (base, size);
        // With MEM_RESERVE the call only takes what is free; without, it could change a block
        // that somebody owns.
        let kind = (kind | MEM_RESERVE).0;
        // SAFETY: both pointers are to locals; free addresses are nobody's.
        let status = unsafe {
            NtAllocateVirtualMemory(
                Handle::CURRENT_PROCESS,
                &raw mut base,
                0,
                &raw mut size,
                kind,
                protection.0,
            )
        };
        status.into_result()?;
        Ok(Self { base, size })
    }

    /// Reserves and commits `pages` pages for reading and writing.
    ///
    /// # Errors
    /// The status of NtAllocateVirtualMemory.
    pub fn commit_new(pages: u64) -> Result<Self, NtStatus> {
        Self::allocate(pages.saturating_mul(PAGE_SIZE), MEM_COMMIT, PAGE_READWRITE)
    }

    /// Reserves `pages` pages.
    ///
    /// # Errors
    /// The status of NtAllocateVirtualMemory.
    pub fn reserve(pages: u64) -> Result<Self, NtStatus> {
        Self::allocate(pages.saturating_mul(PAGE_SIZE), MEM_RESERVE, PAGE_READWRITE)
    }

    /// First address.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Size in pages.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.size / PAGE_SIZE
    }

    /// The address of `length` bytes at `offset`.
    fn address(&self, offset: u64, length: u64) -> u64 {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.size),
            "{length} bytes at {offset:#x} of a block of {:#x}",
            self.size
        );
        self.base + offset
    }

    /// The word at `offset`.
    #[inline]
    #[must_use]
    pub fn load(&self, offset: u64) -> u64 {
        let address = self.address(offset, 8);
        let value: u64;
        // SAFETY: the word belongs to the block, to which no Rust reference exists.
        unsafe {
            core::arch::asm!(
                "mov {value}, [{address}]",
                value = out(reg) value,
                address = in(reg) address,
                options(nostack, preserves_flags),
            );
        }
        value
    }

    /// Stores `value` at `offset`.
    #[inline]
    pub fn store(&self, offset: u64, value: u64) {
        let address = self.address(offset, 8);
        // SAFETY: as in `load`.
        unsafe {
            core::arch::asm!(
                "mov [{address}], {value}",
                value = in(reg) value,
                address = in(reg) address,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Adds `value` to the word at `offset` in one indivisible step; yields what it was.
    #[inline]
    pub fn fetch_add(&self, offset: u64, value: u64) -> u64 {
        let address = self.address(offset, 8);
        let old: u64;
        // SAFETY: as in `load`.
        unsafe {
            core::arch::asm!(
                "lock xadd [{address}], {value}",
                value = inout(reg) value => old,
                address = in(reg) address,
                options(nostack),
            );
        }
        old
    }

    /// Loads the word at `offset`, which may fault.
    ///
    /// # Errors
    /// The exception it raised.
    pub fn try_load(&self, offset: u64) -> Result<u64, Exception> {
        attempt::load(self.address(offset, 8))
    }

    /// Stores `value` at `offset`, which may fault.
    ///
    /// # Errors
    /// The exception it raised.
    pub fn try_store(&self, offset: u64, value: u64) -> Result<(), Exception> {
        // SAFETY: as in `load`.
        unsafe { attempt::store(self.address(offset, 8), value) }
    }

    /// Commits the pages that `size` bytes at `offset` touch, or changes their protection.
    ///
    /// # Errors
    /// The status of NtAllocateVirtualMemory.
    pub fn commit(&self, offset: u64, size: u64, protection: Protection) -> Result<(), NtStatus> {
        let (mut base, mut size) = (self.address(offset, size), size);
        // SAFETY: both pointers are to locals; the pages belong to the block.
        unsafe {
            NtAllocateVirtualMemory(
                Handle::CURRENT_PROCESS,
                &raw mut base,
                0,
                &raw mut size,
                MEM_COMMIT.0,
                protection.0,
            )
        }
        .into_result()
    }

    /// Decommits the pages that `size` bytes at `offset` touch.
    ///
    /// # Errors
    /// The status of NtFreeVirtualMemory.
    pub fn decommit(&self, offset: u64, size: u64) -> Result<(), NtStatus> {
        self.free(offset, size, MEM_DECOMMIT)
    }

    /// Gives the block back.
    ///
    /// # Errors
    /// The status of NtFreeVirtualMemory.
    pub fn release(self) -> Result<(), NtStatus> {
        self.free(0, 0, MEM_RELEASE)
    }

    /// Gives back `size` bytes at `offset`, whole pages. What is left in front of them and behind
    /// them, if anything, become blocks of their own.
    ///
    /// # Errors
    /// The status of NtFreeVirtualMemory; nothing has changed then, and the block is lost.
    pub fn release_part(self, offset: u64, size: u64) -> Result<[Option<Self>; 2], NtStatus> {
        self.free(offset, size, MEM_RELEASE)?;
        let (front, behind) = (offset, offset + size);
        let part = |start: u64, end: u64| {
            (start < end).then(|| Self { base: self.base + start, size: end - start })
        };
        Ok([part(0, front), part(behind, self.size)])
    }

    /// Gives up the block without giving it back; yields its base.
    #[must_use]
    pub const fn into_base(self) -> u64 {
        self.base
    }

    /// The block at `base` again.
    ///
    /// # Safety
    /// `base` must be that of a block of `size` bytes, and only one of all who know the block may
    /// release it, when no other uses it any more.
    #[must_use]
    pub const unsafe fn from_base(base: u64, size: u64) -> Self {
        Self { base, size }
    }

    fn free(&self, offset: u64, size: u64, kind: MemoryFlags) -> Result<(), NtStatus> {
        let (mut base, mut size) = (self.address(offset, size), size);
        // SAFETY: both pointers are to locals; the pages belong to the block.
        unsafe {
            NtFreeVirtualMemory(Handle::CURRENT_PROCESS, &raw mut base, &raw mut size, kind.0)
        }
        .into_result()
    }

    /// Gives the pages that `size` bytes at `offset` touch another protection; yields the first
    /// one's old protection.
    ///
    /// # Errors
    /// The status of NtProtectVirtualMemory.
    pub fn protect(
        &self,
        offset: u64,
        size: u64,
        protection: Protection,
    ) -> Result<Protection, NtStatus> {
        let (mut base, mut size) = (self.address(offset, size), size);
        let mut old = 0;
        // SAFETY: the pointers are to locals; the pages belong to the block.
        unsafe {
            NtProtectVirtualMemory(
                Handle::CURRENT_PROCESS,
                &raw mut base,
                &raw mut size,
                protection.0,
                &raw mut old,
            )
        }
        .into_result()?;
        Ok(Protection(old))
    }

    /// What is at `offset`.
    ///
    /// # Errors
    /// The status of NtQueryVirtualMemory.
    pub fn query(&self, offset: u64) -> Result<MemoryBasicInformation, NtStatus> {
        query(self.address(offset, 1))
    }
}

/// What is at `address`.
///
/// # Errors
/// The status of NtQueryVirtualMemory.
pub fn query(address: u64) -> Result<MemoryBasicInformation, NtStatus> {
    let mut information = MemoryBasicInformation::EMPTY;
    // SAFETY: the pointer is to a local of the length named.
    unsafe {
        NtQueryVirtualMemory(
            Handle::CURRENT_PROCESS,
            address,
            0,
            (&raw mut information).cast(),
            size_of::<MemoryBasicInformation>() as u64,
            core::ptr::null_mut(),
        )
    }
    .into_result()?;
    Ok(information)
}
