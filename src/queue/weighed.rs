//! A ring whose items are bounded by their weight as well as by their number. Each side writes a
//! counter of its own, once for each item.

use std::sync::Arc;

use super::sync::{AtomicU64, Ordering};
use super::{Full, RingReceiver, RingSender, Room, Waker, Weigh, ring};

/// Makes a ring with this room into the worker that `waker` wakes. An item that is heavier than all
/// is taken when no other waits.
///
/// # Panics
/// If there is no room for an item.
pub fn weighed_ring<T: Weigh>(room: Room, waker: Waker) -> (WeighedSender<T>, WeighedReceiver<T>) {
    let (sender, receiver) = ring(room.items, waker);
    let taken = Arc::new(AtomicU64::new(0));
    let sender =
        WeighedSender { ring: sender, most: room.bytes as u64, put: 0, taken: Arc::clone(&taken) };
    (sender, WeighedReceiver { ring: receiver, got: 0, taken })
}

/// The producer's half.
pub struct WeighedSender<T> {
    ring: RingSender<T>,
    most: u64,
    /// The weight of all that was put in.
    put: u64,
    taken: Arc<AtomicU64>,
}

impl<T: Weigh> WeighedSender<T> {
    /// Hands an item over without a wake-up; see [`RingSender::push_quiet`].
    #[inline]
    pub fn push_quiet(&mut self, item: T) -> Result<(), Full<T>> {
        let weight = item.weight() as u64;
        let waiting = self.waiting();
        if waiting > 0 && waiting.saturating_add(weight) > self.most {
            return Err(Full(item));
        }
        self.ring.push_quiet(item)?;
        self.put = self.put.wrapping_add(weight);
        Ok(())
    }
}

impl<T> WeighedSender<T> {
    /// What all that waits weighs, and the consumer may be taking meanwhile.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.put.wrapping_sub(self.taken.load(Ordering::Acquire))
    }

    /// Wakes the consumer if it sleeps.
    #[inline]
    pub fn notify(&self) {
        self.ring.notify();
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// As [`RingSender::close`].
    pub fn close(self, each: impl FnMut(T)) {
        self.ring.close(each);
    }
}

/// The consumer's half.
pub struct WeighedReceiver<T> {
    ring: RingReceiver<T>,
    /// The weight of all that was taken out; nobody else writes the shared one.
    got: u64,
    taken: Arc<AtomicU64>,
}

impl<T: Weigh> WeighedReceiver<T> {
    /// The next item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.ring.pop()?;
        self.got = self.got.wrapping_add(item.weight() as u64);
        self.taken.store(self.got, Ordering::Release);
        Some(item)
    }
}

impl<T> WeighedReceiver<T> {
    /// How many items wait; a figure for observers.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// As [`RingReceiver::close`].
    pub fn close(self, each: impl FnMut(T)) {
        self.ring.close(each);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::sleeper;
    use super::*;

    /// Weighs what it says.
    #[derive(Debug, PartialEq)]
    struct Heavy(usize);

    impl Weigh for Heavy {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_ring_takes_so_many_bytes_and_more_only_alone() {
        let (_sleeper, waker) = sleeper(|| ());
        let (mut sender, mut receiver) = weighed_ring(Room { items: 8, bytes: 100 }, waker);
        sender.push_quiet(Heavy(60)).unwrap();
        assert_eq!(sender.push_quiet(Heavy(41)), Err(Full(Heavy(41))));
        sender.push_quiet(Heavy(40)).unwrap();
        assert_eq!((receiver.pop(), receiver.pop()), (Some(Heavy(60)), Some(Heavy(40))));
        sender.push_quiet(Heavy(1_000)).unwrap();
        assert!(sender.push_quiet(Heavy(1)).is_err());
        assert_eq!(receiver.pop(), Some(Heavy(1_000)));
        sender.push_quiet(Heavy(1)).unwrap();
    }
}
