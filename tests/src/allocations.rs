//! An allocator that counts ([`CountingAllocator`]), for tests of code that must not allocate.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system allocator, counting the allocations of each thread. A test binary installs it with
/// `#[global_allocator]`.
pub struct CountingAllocator;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Returns the number of allocations of the calling thread so far: always 0 in a binary without
/// the [`CountingAllocator`].
pub fn allocation_count() -> u64 {
    COUNT.get()
}

// SAFETY: every call is passed to the system allocator unchanged, which upholds the contract. The
// counter is a thread-local cell without a destructor and does not allocate.
#[expect(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's guarantees for `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` above, and so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}
