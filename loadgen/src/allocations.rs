//! The allocator, counting: how often each thread of this process asked for memory.
//!
//! A claim of "no allocation per message" needs a count. Each thread counts in a place of its
//! own with a plain load and store, so that counting disturbs nothing.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// Threads beyond this many share the last place.
const PLACES: usize = 128;

/// A counter on cache lines of its own.
#[repr(align(128))]
struct Place(AtomicU64);

static COUNTS: [Place; PLACES] = [const { Place(AtomicU64::new(0)) }; PLACES];
static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

const NONE: usize = usize::MAX;

thread_local! {
    // Const and without a destructor, so that reading it can never allocate.
    static PLACE: Cell<usize> = const { Cell::new(NONE) };
}

/// mimalloc, with a count of every allocation and reallocation.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

/// Allocations of all threads of this process so far, except the calling one: the measuring
/// thread must not count itself.
pub fn of_other_threads() -> u64 {
    let own = place();
    let all = COUNTS.iter().enumerate().filter(|(index, _)| *index != own);
    all.map(|(_, place)| place.0.load(Ordering::Relaxed)).sum()
}

fn place() -> usize {
    // A thread that is being torn down has no place any more.
    PLACE
        .try_with(|place| {
            if place.get() == NONE {
                place.set(NEXT_PLACE.fetch_add(1, Ordering::Relaxed).min(PLACES - 1));
            }
            place.get()
        })
        .unwrap_or(PLACES - 1)
}

#[inline]
fn count() {
    let place = place();
    let counter = &COUNTS[place].0;
    if place == PLACES - 1 {
        counter.fetch_add(1, Ordering::Relaxed);
    } else {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to mimalloc, which keeps the contract.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same ones.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same ones.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same ones.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same ones.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_threads_allocations_are_counted_once_each() {
        let before = of_other_threads();
        std::thread::spawn(|| {
            for size in 1..=100 {
                let layout = Layout::from_size_align(size, 8).expect("a small layout");
                // SAFETY: the layout is not empty, and what is freed was just allocated with it.
                unsafe {
                    let pointer = CountingAllocator.alloc(layout);
                    assert!(!pointer.is_null());
                    CountingAllocator.dealloc(pointer, layout);
                }
            }
        })
        .join()
        .expect("allocates");
        assert!(of_other_threads() - before >= 100);
    }
}
