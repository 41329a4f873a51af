//! The way between two of a node's own threads: bounded, one producer, one consumer.

use super::{Full, Waker};

/// Makes a ring of `capacity` items into the worker that `waker` wakes.
///
/// # Panics
/// If `capacity` is 0.
pub fn ring<T>(capacity: usize, waker: Waker) -> (RingSender<T>, RingReceiver<T>) {
    assert!(capacity > 0, "a ring needs room for at least one item");
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (RingSender { producer, waker }, RingReceiver { consumer })
}

/// The producer's half.
pub struct RingSender<T> {
    producer: rtrb::Producer<T>,
    waker: Waker,
}

impl<T> RingSender<T> {
    /// Hands an item to the consumer and wakes it if it sleeps.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        self.push_quiet(item)?;
        self.notify();
        Ok(())
    }

    /// Hands an item over without a wake-up. Call [`RingSender::notify`] after the last one of a
    /// batch, or a sleeping consumer will not see it until something else wakes it.
    #[inline]
    pub fn push_quiet(&mut self, item: T) -> Result<(), Full<T>> {
        self.producer.push(item).map_err(|rtrb::PushError::Full(item)| Full(item))
    }

    /// Wakes the consumer if it sleeps.
    #[inline]
    pub fn notify(&self) {
        self.waker.notify();
    }

    /// How many more items fit for certain; the consumer can only make it more.
    pub fn free(&self) -> usize {
        self.producer.slots()
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.producer.buffer().capacity()
    }

    /// Whether the consumer is gone, so that what is pushed will never be read.
    pub fn is_closed(&self) -> bool {
        self.producer.is_abandoned()
    }
}

/// The consumer's half.
pub struct RingReceiver<T> {
    consumer: rtrb::Consumer<T>,
}

impl<T> RingReceiver<T> {
    /// The next item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// Takes up to `max` items; returns how many there were.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        for taken in 0..max {
            match self.consumer.pop() {
                Ok(item) => each(item),
                Err(_) => return taken,
            }
        }
        max
    }

    /// Whether nothing waits: what a worker asks of each queue after [`announce`].
    ///
    /// [`announce`]: super::Sleeper::announce
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Whether the producer is gone; items it left can still be popped.
    pub fn is_closed(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::sleeper;
    use super::*;

    #[test]
    fn a_full_ring_hands_the_item_back() {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = ring(2, waker);
        sender.push(1).unwrap();
        sender.push_quiet(2).unwrap();
        assert_eq!(sender.push(3), Err(Full(3)));
        assert_eq!((sender.free(), sender.capacity()), (0, 2));
        assert_eq!(receiver.pop(), Some(1));
        sender.push(4).unwrap();
        let mut drained = vec![];
        assert_eq!(receiver.drain(1, |item| drained.push(item)), 1);
        assert_eq!(receiver.drain(10, |item| drained.push(item)), 1);
        assert_eq!(drained, [2, 4]);
        assert!(receiver.is_empty());
    }

    #[test]
    fn each_side_sees_the_other_one_leave() {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = ring(2, waker.clone());
        sender.push(1).unwrap();
        assert!(!receiver.is_closed());
        drop(sender);
        assert!(receiver.is_closed());
        assert_eq!(receiver.pop(), Some(1));

        let (sender, receiver) = ring::<u8>(2, waker);
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
    }

    #[test]
    fn two_threads_hand_over_everything_in_order() {
        const ITEMS: u32 = 20_000;
        let worker = std::thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let (mut sender, mut receiver) = ring(8, waker);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for item in 0..ITEMS {
                    while sender.push(item).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < ITEMS {
                receiver.drain(usize::MAX, |item| {
                    assert_eq!(item, next);
                    next += 1;
                });
                sleeper.announce();
                if receiver.is_empty() && next < ITEMS {
                    // A lost wake-up would leave this thread here for good.
                    std::thread::park();
                }
                sleeper.awake();
            }
        });
    }
}
