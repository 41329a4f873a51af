//! The way between two of a node's own threads: bounded, one producer, one consumer. Its memory is
//! taken when the first item goes through: between 100 workers there are 9,900 rings, and few of
//! them are ever used.

use std::sync::{Arc, Mutex, PoisonError};

use super::sync::{AtomicBool, Ordering};
use super::{Full, Waker};

/// Makes a ring of `capacity` items into the worker that `waker` wakes.
///
/// # Panics
/// If `capacity` is 0.
pub fn ring<T>(capacity: usize, waker: Waker) -> (RingSender<T>, RingReceiver<T>) {
    assert!(capacity > 0, "a ring needs room for at least one item");
    let meeting = Arc::new(Meeting { made: AtomicBool::new(false), consumer: Mutex::new(None) });
    let sender = RingSender { producer: None, capacity, meeting: Arc::clone(&meeting), waker };
    (sender, RingReceiver { consumer: None, meeting })
}

/// Where the consumer's half lies until the consumer takes it. Both halves hold it as long as they
/// live, which is how each knows whether the other one does.
struct Meeting<T> {
    made: AtomicBool,
    consumer: Mutex<Option<rtrb::Consumer<T>>>,
}

impl<T> Meeting<T> {
    /// Makes the ring. The caller pushes and notifies after it, so that a consumer that announced
    /// its sleep sees `made` as it would see the item.
    #[cold]
    fn make(&self, capacity: usize) -> rtrb::Producer<T> {
        let (producer, consumer) = rtrb::RingBuffer::new(capacity);
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
        self.made.store(true, Ordering::Release);
        producer
    }

    #[cold]
    fn take(&self) -> Option<rtrb::Consumer<T>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The producer's half.
pub struct RingSender<T> {
    /// From the first item on.
    producer: Option<rtrb::Producer<T>>,
    capacity: usize,
    meeting: Arc<Meeting<T>>,
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
        let producer = self.producer.get_or_insert_with(|| self.meeting.make(self.capacity));
        producer.push(item).map_err(|rtrb::PushError::Full(item)| Full(item))
    }

    /// Wakes the consumer if it sleeps.
    #[inline]
    pub fn notify(&self) {
        self.waker.notify();
    }

    /// How many more items fit for certain; the consumer can only make it more.
    pub fn free(&self) -> usize {
        self.producer.as_ref().map_or(self.capacity, rtrb::Producer::slots)
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the consumer is gone, so that what is pushed will never be read.
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.meeting) == 1
    }
}

/// The consumer's half.
pub struct RingReceiver<T> {
    /// From the first look after the first item on.
    consumer: Option<rtrb::Consumer<T>>,
    meeting: Arc<Meeting<T>>,
}

impl<T> RingReceiver<T> {
    #[inline]
    fn consumer(&mut self) -> Option<&mut rtrb::Consumer<T>> {
        if self.consumer.is_none() && self.meeting.made.load(Ordering::Acquire) {
            self.consumer = self.meeting.take();
        }
        self.consumer.as_mut()
    }

    /// The next item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.consumer()?.pop().ok()
    }

    /// Takes up to `max` items; returns how many there were.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        let Some(consumer) = self.consumer() else { return 0 };
        for taken in 0..max {
            match consumer.pop() {
                Ok(item) => each(item),
                Err(_) => return taken,
            }
        }
        max
    }

    /// How many items wait, of those that were looked for once; a figure for observers.
    pub fn len(&self) -> usize {
        self.consumer.as_ref().map_or(0, rtrb::Consumer::slots)
    }

    /// Whether nothing waits: what a worker asks of each queue after [`announce`].
    ///
    /// [`announce`]: super::Sleeper::announce
    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.consumer {
            Some(consumer) => consumer.is_empty(),
            None => !self.meeting.made.load(Ordering::Acquire),
        }
    }

    /// Whether the producer is gone; items it left can still be popped.
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.meeting) == 1
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
    fn a_ring_is_made_when_first_used() {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = ring(2, waker.clone());
        assert_eq!((sender.free(), sender.capacity()), (2, 2));
        assert!(sender.producer.is_none() && receiver.pop().is_none() && receiver.is_empty());
        sender.push(1).unwrap();
        assert!(!receiver.is_empty());
        drop(sender);
        assert!(receiver.is_closed());
        assert_eq!((receiver.pop(), receiver.pop()), (Some(1), None));

        // An item that nobody took is dropped with its ring.
        let (mut sender, receiver) = ring(2, waker);
        let item = Arc::new(());
        sender.push(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert!(sender.is_closed());
        drop(sender);
        assert_eq!(Arc::strong_count(&item), 1);
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
