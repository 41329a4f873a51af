//! The primitives of this folder: the real ones, or loom's when the folder is compiled as a model.
//!
//! Loom cannot see inside third-party queues, so a model runs with a mutex around a deque in place
//! of [`ArrayQueue`]: what is checked is our protocol around the queue, not the queue.

#[cfg(not(loom))]
pub(super) use real::*;

#[cfg(loom)]
pub(super) use model::*;

#[cfg(not(loom))]
mod real {
    pub(in crate::queue) use crossbeam_queue::ArrayQueue;
    pub(in crate::queue) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    pub(in crate::queue) use std::sync::{Mutex, MutexGuard};
    pub(in crate::queue) use std::thread;
    pub(in crate::queue) use std::thread_local;

    /// `std::cell::UnsafeCell` with the two closures through which loom watches accesses.
    pub(in crate::queue) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in crate::queue) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(in crate::queue) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline]
        pub(in crate::queue) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(loom)]
mod model {
    use std::collections::VecDeque;

    pub(in crate::queue) use loom::cell::UnsafeCell;
    pub(in crate::queue) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    pub(in crate::queue) use loom::sync::{Mutex, MutexGuard};
    pub(in crate::queue) use loom::thread;
    pub(in crate::queue) use loom::thread_local;

    /// Stands for `crossbeam_queue::ArrayQueue`.
    pub(in crate::queue) struct ArrayQueue<T> {
        items: loom::sync::Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(in crate::queue) fn new(capacity: usize) -> Self {
            Self { items: loom::sync::Mutex::new(VecDeque::new()), capacity }
        }

        pub(in crate::queue) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(in crate::queue) fn force_push(&self, item: T) -> Option<T> {
            let mut items = self.items.lock().unwrap();
            let oldest = if items.len() == self.capacity { items.pop_front() } else { None };
            items.push_back(item);
            oldest
        }

        pub(in crate::queue) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub(in crate::queue) fn len(&self) -> usize {
            self.items.lock().unwrap().len()
        }

        pub(in crate::queue) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(in crate::queue) fn capacity(&self) -> usize {
            self.capacity
        }
    }
}
