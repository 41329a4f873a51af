//! The way between two of a node's own threads: bounded, one producer, one consumer. Its memory is
//! taken when the first item goes through: between 100 workers there are 9,900 rings, and few of
//! them are ever used.

use std::sync::{Arc, PoisonError};

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use super::{Full, Waker};

/// Makes a ring of `capacity` items into the worker that `waker` wakes.
///
/// # Panics
/// If `capacity` is 0.
pub fn ring<T>(capacity: usize, waker: Waker) -> (RingSender<T>, RingReceiver<T>) {
    assert!(capacity > 0, "a ring needs room for at least one item");
    let left = Mutex::new(Left { consumer: None, closed: false });
    let meeting = Arc::new(Meeting { made: AtomicBool::new(false), left });
    let sender = RingSender { producer: None, capacity, meeting: Arc::clone(&meeting), waker };
    (sender, RingReceiver { consumer: None, meeting })
}

/// Where the consumer's half lies until the consumer takes it, and once it has closed. Both halves
/// hold it as long as they live, which is how each knows whether the other one does.
struct Meeting<T> {
    made: AtomicBool,
    left: Mutex<Left<T>>,
}

struct Left<T> {
    consumer: Option<rtrb::Consumer<T>>,
    /// The consumer has looked for the last time.
    closed: bool,
}

impl<T> Meeting<T> {
    /// Makes the ring. The caller pushes and notifies after it, so that a consumer that announced
    /// its sleep sees `made` as it would see the item.
    #[cold]
    fn make(&self, capacity: usize) -> rtrb::Producer<T> {
        let (producer, consumer) = rtrb::RingBuffer::new(capacity);
        self.left().consumer = Some(consumer);
        self.made.store(true, Ordering::Release);
        producer
    }

    #[cold]
    fn take(&self) -> Option<rtrb::Consumer<T>> {
        self.left().consumer.take()
    }

    fn left(&self) -> MutexGuard<'_, Left<T>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Gives back what was handed over and is not taken any more, since the consumer has closed.
    /// One that has not will find it.
    pub fn close(self, each: impl FnMut(T)) {
        let mut left = self.meeting.left();
        if left.closed {
            drain(&mut left.consumer, each);
        }
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

    /// Takes all that is there. What is handed over at the same time or later goes back to the
    /// producer when that one closes: each item comes to one of the two.
    pub fn close(self, each: impl FnMut(T)) {
        let mut left = self.meeting.left();
        // Within the lock: what the producer had handed over when it closed is seen here.
        let mut consumer = self.consumer.or_else(|| left.consumer.take());
        drain(&mut consumer, each);
        *left = Left { consumer, closed: true };
    }
}

fn drain<T>(consumer: &mut Option<rtrb::Consumer<T>>, each: impl FnMut(T)) {
    let waiting = || consumer.as_mut()?.pop().ok();
    std::iter::from_fn(waiting).for_each(each);
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

    /// What the consumer took as it closed, and what came back to the producer.
    fn closed(
        before: impl FnOnce(&mut RingSender<u8>, &mut RingReceiver<u8>),
        after: impl FnOnce(&mut RingSender<u8>),
    ) -> (Vec<u8>, Vec<u8>) {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = ring(4, waker);
        let (mut taken, mut back) = (vec![], vec![]);
        before(&mut sender, &mut receiver);
        receiver.close(|item| taken.push(item));
        after(&mut sender);
        sender.close(|item| back.push(item));
        (taken, back)
    }

    #[test]
    fn what_comes_after_the_last_look_of_the_consumer_goes_back() {
        let push = |item| move |sender: &mut RingSender<u8>| sender.push(item).unwrap();
        assert_eq!(closed(|_, _| (), |_| ()), (vec![], vec![]));
        assert_eq!(closed(|_, _| (), push(1)), (vec![], vec![1]), "the ring was not used before");
        assert_eq!(closed(|sender, _| push(1)(sender), push(2)), (vec![1], vec![2]));
        let used = |sender: &mut RingSender<u8>, receiver: &mut RingReceiver<u8>| {
            push(1)(sender);
            assert_eq!(receiver.pop(), Some(1));
            push(2)(sender);
        };
        assert_eq!(closed(used, push(3)), (vec![2], vec![3]));

        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, receiver) = ring(4, waker);
        push(1)(&mut sender);
        sender.close(|item| panic!("{item} is for the consumer"));
        let mut taken = vec![];
        receiver.close(|item| taken.push(item));
        assert_eq!(taken, [1]);
    }

    #[test]
    fn each_item_comes_to_one_of_two_threads_that_close() {
        for _ in 0..200 {
            let (_sleeper, waker) = sleeper(|| ());
            let (mut sender, receiver) = ring(64, waker);
            let (mut taken, mut back) = (vec![], vec![]);
            let mut pushed = 0;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while pushed < 64 && !sender.is_closed() {
                        sender.push(pushed).unwrap();
                        pushed += 1;
                    }
                    sender.close(|item| back.push(item));
                });
                scope.spawn(|| receiver.close(|item| taken.push(item)));
            });
            taken.append(&mut back);
            assert!(taken.into_iter().eq(0..pushed));
        }
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
