//! A bounded free list of buffers that travel between threads and come back for reuse.

use std::sync::Arc;

use super::sync::ArrayQueue;

/// Holds at most `capacity` idle items; clones share them.
pub struct Pool<T> {
    idle: Arc<ArrayQueue<T>>,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { idle: self.idle.clone() }
    }
}

impl<T> Pool<T> {
    /// An empty pool: the first takers make their own items and give them when done.
    ///
    /// # Panics
    /// If `capacity` is 0.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a pool needs room for at least one item");
        Self { idle: Arc::new(ArrayQueue::new(capacity)) }
    }

    /// An idle item, in the state in which it was given.
    #[inline]
    pub fn take(&self) -> Option<T> {
        self.idle.pop()
    }

    /// Gives an item for reuse; drops it when the pool is full.
    #[inline]
    pub fn give(&self, item: T) {
        drop(self.idle.push(item));
    }

    /// How many items lie idle; a figure for observers.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_up_to_the_capacity_and_are_dropped_beyond() {
        let counted = Arc::new(());
        let pool = Pool::new(2);
        assert!(pool.take().is_none());
        for _ in 0..3 {
            pool.clone().give(counted.clone());
        }
        assert_eq!(pool.idle(), 2);
        assert_eq!(Arc::strong_count(&counted), 3, "two idle, the third dropped");
        assert!(pool.take().is_some() && pool.take().is_some() && pool.take().is_none());
    }
}
