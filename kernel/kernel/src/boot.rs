//! What the loader tells: memory, command line, and the archive of programs (PVH's
//! hvm_start_info).

use core::slice;

use crate::memory::{MemoryMap, PAGE, direct};

/// "xEn3", little end first.
const MAGIC: u32 = 0x336E_C578;
/// An entry of the memory map that is RAM.
const RAM: u32 = 1;
/// What lies below is the firmware's, and the trampoline's of other processors.
const LOW_MEMORY: u64 = 1 << 20;

#[derive(Debug)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_entries: u32,
    reserved: u32,
}

#[derive(Debug)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(Debug)]
#[repr(C)]
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

unsafe extern "C" {
    static data_end: u8;
}

/// What the loader told.
#[derive(Clone, Debug)]
pub struct BootInformation {
    /// All of RAM.
    pub ram: MemoryMap,
    /// RAM that nothing lies in yet.
    pub free: MemoryMap,
    /// Words for the kernel.
    pub command_line: &'static str,
    /// The archive of programs, empty if there is none.
    pub archive: &'static [u8],
}

/// Reads the start information.
///
/// # Safety
/// `address` is what the loader gave, nothing it describes has been overwritten, and the boot page
/// tables are active.
pub unsafe fn read(address: u32) -> Option<BootInformation> {
    // SAFETY: the loader's structures lie in the first GiB, which the direct map of the boot page
    // tables covers, and are aligned.
    unsafe {
        let info = &*direct(address.into()).cast::<StartInfo>();
        if info.magic != MAGIC || info.version == 0 {
            return None;
        }
        let entries = slice::from_raw_parts(
            direct(info.memory_map).cast::<MemoryEntry>(),
            info.memory_entries as usize,
        );
        let mut ram = MemoryMap::default();
        for entry in entries.iter().filter(|entry| entry.kind == RAM) {
            ram.add(entry.address, entry.address + entry.size);
        }
        let command_line = match info.command_line {
            0 => "",
            text => {
                let text = core::ffi::CStr::from_ptr(direct(text).cast());
                text.to_str().unwrap_or_default()
            }
        };
        let archive: &[u8] = if info.modules == 0 {
            &[]
        } else {
            let module = &*direct(info.module_list).cast::<Module>();
            slice::from_raw_parts(direct(module.address), module.size as usize)
        };
        let mut free = ram.clone();
        free.remove(0, LOW_MEMORY);
        free.remove(LOW_MEMORY, &raw const data_end as u64 - crate::memory::KERNEL_BASE);
        // The start information, its lists and the command line may lie anywhere.
        for (start, bytes) in [
            (u64::from(address), PAGE),
            (info.memory_map, size_of_val(entries) as u64),
            (info.command_line, command_line.len() as u64 + 1),
            (info.module_list, size_of::<Module>() as u64),
        ] {
            free.remove(start, start + bytes);
        }
        if !archive.is_empty() {
            let start = crate::memory::physical_of(archive.as_ptr());
            free.remove(start, start + archive.len() as u64);
        }
        Some(BootInformation { ram, free, command_line, archive })
    }
}
