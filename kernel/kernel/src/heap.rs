//! The kernel's heap: threads, processes, the disk's queues. The memory manager needs none.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;

use crate::sync::SpinLock;

struct KernelHeap(SpinLock<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(SpinLock::new(Heap::empty()));

/// Gives the heap its memory.
///
/// # Safety
/// Called once; the memory is mapped and nobody else's.
pub unsafe fn initialize(start: *mut u8, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe { HEAP.0.lock().init(start, bytes) };
}

// SAFETY: the heap gives out blocks of the wanted layout that do not overlap, under a lock.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
