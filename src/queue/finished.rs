//! The way back of work that a worker had begun elsewhere: it never finds the queue full, since a
//! place in it is taken when the work begins.

use std::sync::Arc;

use super::Waker;
use super::sync::ArrayQueue;

/// Makes a queue with so many places into the worker that `waker` wakes.
pub fn finished<T>(places: usize, waker: Waker) -> Finished<T> {
    Finished { queue: Arc::new(ArrayQueue::new(places.max(1))), waker, taken: Arc::new(()) }
}

/// The worker's half.
pub struct Finished<T> {
    queue: Arc<ArrayQueue<Item<T>>>,
    waker: Waker,
    /// Held by every place that is taken.
    taken: Arc<()>,
}

struct Item<T> {
    value: T,
    _place: Arc<()>,
}

impl<T> Finished<T> {
    /// Takes a place; `None` when none is free.
    pub fn place(&self) -> Option<Place<T>> {
        // Only this thread takes places. One that is given back meanwhile may go unseen.
        if Arc::strong_count(&self.taken) > self.queue.capacity() {
            return None;
        }
        let place = Some(Arc::clone(&self.taken));
        Some(Place { queue: Arc::clone(&self.queue), waker: self.waker.clone(), place })
    }

    /// How many places there are.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// What came to its end first, and frees its place.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop().map(|item| item.value)
    }

    /// Whether nothing waits: what a worker asks of each queue after [`announce`].
    ///
    /// [`announce`]: super::Sleeper::announce
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

/// A place in the queue, kept for one value. It goes to any thread; dropped, it is free again.
pub struct Place<T> {
    queue: Arc<ArrayQueue<Item<T>>>,
    waker: Waker,
    place: Option<Arc<()>>,
}

impl<T> Place<T> {
    /// Puts the value in, and wakes the worker if it sleeps. A second one is dropped.
    pub fn fill(&mut self, value: T) {
        if let Some(place) = self.place.take() {
            let full = self.queue.push(Item { value, _place: place }).is_err();
            debug_assert!(!full, "each value has a place");
            self.waker.notify();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::sleeper;
    use super::*;

    #[test]
    fn a_place_is_taken_until_its_value_is_taken_out_or_it_is_dropped() {
        let (_sleeper, waker) = sleeper(|| ());
        let finished = finished(2, waker);
        let mut first = finished.place().unwrap();
        let second = finished.place().unwrap();
        assert!(finished.place().is_none());
        drop(second);
        let mut second = finished.place().unwrap();
        first.fill('a');
        first.fill('b');
        second.fill('c');
        assert!(finished.place().is_none(), "what waits has its place still");
        assert_eq!((finished.len(), finished.pop()), (2, Some('a')));
        assert!(finished.place().is_some());
        assert_eq!((finished.pop(), finished.pop()), (Some('c'), None));
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let worker = std::thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let finished = finished(8, waker);
        let places: Vec<_> = (0..8).map(|_| finished.place().unwrap()).collect();
        std::thread::scope(|scope| {
            for mut place in places {
                scope.spawn(move || place.fill(1));
            }
            let mut sum = 0;
            while sum < 8 {
                while let Some(one) = finished.pop() {
                    sum += one;
                }
                sleeper.announce();
                if finished.is_empty() && sum < 8 {
                    std::thread::park();
                }
                sleeper.awake();
            }
        });
        assert!(finished.is_empty());
    }
}
