//! The kernel's own page tables, shared by every address space.
//!
//! The kernel is mapped page by page so that nothing in it can be written and executed, physical
//! memory in large pages that cannot be executed, devices uncached, and each kernel stack with a
//! hole below it. All tables are made during boot; a new address space gets copies of the root's
//! entries ([`adopt`]), so that nothing that is added later needs to be told to anybody.

use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::structures::paging::page_table::PageTableFlags as Flags;

use ntmm_pte::Pfn;
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::FrameWords;

use crate::memory::{DIRECT_MAP, KERNEL_BASE, MemoryMap, PAGE, STACKS, direct};
use crate::sync::Once;

const ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = ENTRIES * PAGE;
const GIB: u64 = ENTRIES * LARGE_PAGE;
/// Physical memory that is mapped at least: devices lie below it.
const DEVICES_END: u64 = 4 * GIB;

/// Bytes of a kernel stack.
pub const STACK_BYTES: u64 = 6 * PAGE;
/// Distance of two kernel stacks; what is not stack is a hole.
const STACK_STRIDE: u64 = 8 * PAGE;

const TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE);

/// The root table, as a physical address.
static ROOT: Once<u64> = Once::new();

unsafe extern "C" {
    static text_start: u8;
    static text_end: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
    static data_end: u8;
}

/// Takes zeroed pages for tables.
struct Builder<'m> {
    root: u64,
    memory: &'m mut MemoryMap,
}

impl Builder<'_> {
    fn table(memory: &mut MemoryMap) -> Option<u64> {
        let page = memory.take(1)?;
        // SAFETY: the page is free memory, mapped, and now this table's.
        unsafe { direct(page).write_bytes(0, PAGE as usize) };
        Some(page)
    }

    /// The entry for `va` in the table of `level` (1 for page tables), making the tables above.
    fn entry(&mut self, va: u64, level: u32) -> Option<&'static mut u64> {
        let mut table = self.root;
        for at in (level..=4).rev() {
            let index = va >> (12 + 9 * (at - 1)) & (ENTRIES - 1);
            // SAFETY: `table` is a page of this builder and `index` lies in it.
            let entry = unsafe { &mut *direct(table + 8 * index).cast::<u64>() };
            if at == level {
                return Some(entry);
            }
            if *entry == 0 {
                *entry = Self::table(self.memory)? | TABLE.bits();
            }
            table = *entry & 0x000F_FFFF_FFFF_F000;
        }
        None
    }

    fn map(&mut self, va: u64, physical: u64, flags: Flags) -> Option<()> {
        *self.entry(va, 1)? = physical | (Flags::PRESENT | flags).bits();
        Some(())
    }

    fn map_kernel(&mut self, start: *const u8, end: *const u8, flags: Flags) -> Option<()> {
        let mut va = start as u64 & !(PAGE - 1);
        while va < end as u64 {
            self.map(va, va - KERNEL_BASE, flags)?;
            va += PAGE;
        }
        Some(())
    }

    fn map_physical(&mut self, ram: &MemoryMap) -> Option<()> {
        let ram_end = ram.end().next_multiple_of(LARGE_PAGE);
        let mut physical = 0;
        while physical < ram_end.max(DEVICES_END) {
            let caching = if physical < ram_end {
                Flags::empty()
            } else {
                Flags::NO_CACHE | Flags::WRITE_THROUGH
            };
            let flags = TABLE | Flags::HUGE_PAGE | Flags::NO_EXECUTE | caching;
            *self.entry(DIRECT_MAP + physical, 2)? = physical | flags.bits();
            physical += LARGE_PAGE;
        }
        Some(())
    }
}

/// Makes the tables, with `stacks` kernel stacks, from free memory, and activates them; none when
/// memory does not suffice.
///
/// # Safety
/// Called once, on the boot page tables.
pub unsafe fn initialize(ram: &MemoryMap, free: &mut MemoryMap, stacks: u64) -> Option<()> {
    let root = Builder::table(free)?;
    let mut builder = Builder { root, memory: free };
    let (text, rodata, data) = (
        (&raw const text_start, &raw const text_end),
        (&raw const rodata_start, &raw const rodata_end),
        (&raw const data_start, &raw const data_end),
    );
    builder.map_kernel(text.0, text.1, Flags::empty())?;
    builder.map_kernel(rodata.0, rodata.1, Flags::NO_EXECUTE)?;
    builder.map_kernel(data.0, data.1, Flags::WRITABLE | Flags::NO_EXECUTE)?;
    builder.map_physical(ram)?;
    for number in 0..stacks {
        let (low, high) = stack(number);
        let mut va = low;
        while va < high {
            let page = Builder::table(builder.memory)?;
            builder.map(va, page, Flags::WRITABLE | Flags::NO_EXECUTE)?;
            va += PAGE;
        }
    }
    // SAFETY: nobody else runs yet.
    unsafe { ROOT.set(root) };
    // SAFETY: the tables map the running code, its data, and the stack it runs on, which is part
    // of that data.
    unsafe { activate_kernel() };
    // SAFETY: the kernel writes through its own mappings and does not rely on page protection
    // being ignored.
    unsafe { Cr4::update(|flags| flags.remove(Cr4Flags::PAGE_GLOBAL)) };
    Some(())
}

/// Physical address of the kernel's own root table.
pub fn kernel_root() -> u64 {
    *ROOT.get()
}

/// Lowest address of a kernel stack, and the first above it.
pub const fn stack(number: u64) -> (u64, u64) {
    let high = STACKS + (number + 1) * STACK_STRIDE;
    (high - STACK_BYTES, high)
}

/// Activates the kernel's own address space, which has no program.
///
/// # Safety
/// Nothing of a program is used afterwards.
pub unsafe fn activate_kernel() {
    // SAFETY: every address space has the kernel's mappings.
    unsafe { activate(Pfn::new((kernel_root() / PAGE) as u32)) };
}

/// Loads a root table, which empties the translation buffer.
///
/// # Safety
/// The table has the kernel's entries.
pub unsafe fn activate(root: Pfn) {
    let frame = PhysFrame::containing_address(PhysAddr::new(u64::from(root.get()) * PAGE));
    // SAFETY: as the caller says.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Copies the kernel's entries into the root table of a new address space.
pub fn adopt(root: &FrameWords) {
    // SAFETY: the root is a page of the direct map and is not changed after boot.
    let own = unsafe { &*direct(kernel_root()).cast::<[u64; ENTRIES as usize]>() };
    for (entry, &word) in root.iter().zip(own) {
        if word != 0 {
            entry.store(word, Ordering::Relaxed);
        }
    }
}
