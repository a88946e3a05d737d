//! Memory the device reads and writes: all of it is reached through the direct map.
//!
//! The heap lies in the direct map, and so does every frame. Stacks and statics do not, so
//! nothing that the device is to see may lie there. The processor's caches and the device see
//! the same memory; there is nothing to copy or to flush.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::memory;

/// The direct map, as the virtio library wants it.
#[derive(Debug)]
pub struct DirectMap;

fn layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_mul(PAGE_SIZE)?;
    Layout::from_size_align(bytes, PAGE_SIZE).ok().filter(|layout| layout.size() > 0)
}

// SAFETY: `dma_alloc` hands out memory of the heap, zeroed, aligned to a page and owned by the
// caller alone until it is given to `dma_dealloc`. The direct map turns consecutive physical
// into consecutive virtual addresses.
unsafe impl Hal for DirectMap {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty.
        let memory = layout(pages).and_then(|layout| NonNull::new(unsafe { alloc_zeroed(layout) }));
        match memory {
            Some(memory) => (memory::physical_of(memory.as_ptr()), memory),
            // The library takes address 0 for exhaustion.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_physical: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        if let Some(layout) = layout(pages) {
            // SAFETY: `dma_alloc` allocated it with the layout of as many pages.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(physical: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(memory::direct(physical)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        memory::physical_of(buffer.cast().as_ptr())
    }

    unsafe fn unshare(_physical: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
