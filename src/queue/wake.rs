//! Wake elision: a producer calls the operating system only when its consumer sleeps.
//!
//! The hazard is the lost wake-up: the worker finds its queues empty and goes to sleep, while a
//! producer pushes and finds the worker still awake. Both sides therefore write first and look
//! second, with a full fence in between:
//!
//! ```text
//! worker                          producer
//! sleeping = true                 push
//! fence                           fence
//! are my queues empty? -> park    is it sleeping? -> wake it
//! ```
//!
//! One of the two fences comes first. If it is the worker's, the producer sees `sleeping`; if it is
//! the producer's, the worker sees the item.

use std::sync::Arc;

use super::sync::{AtomicBool, Ordering, fence};

struct Shared {
    sleeping: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Makes the two halves for one worker. `waker` is what ends its sleep, such as a write to an
/// eventfd; it is called by one producer per sleep, on that producer's thread.
///
/// ```
/// use keyway::queue::sleeper;
///
/// let parked = std::thread::current();
/// let (sleeper, waker) = sleeper(move || parked.unpark());
/// sleeper.announce();
/// // ... look at all queues once more; only if they are empty, park ...
/// waker.notify();
/// std::thread::park();
/// sleeper.awake();
/// ```
pub fn sleeper(waker: impl Fn() + Send + Sync + 'static) -> (Sleeper, Waker) {
    let shared = Arc::new(Shared { sleeping: AtomicBool::new(false), wake: Box::new(waker) });
    (Sleeper { shared: shared.clone() }, Waker { shared })
}

/// The worker's half.
pub struct Sleeper {
    shared: Arc<Shared>,
}

impl Sleeper {
    /// Says that the worker is about to sleep.
    ///
    /// After this it must look at **all** its queues once more, and park only if every one is
    /// empty; an item pushed before the announcement came with no wake-up.
    pub fn announce(&self) {
        self.shared.sleeping.store(true, Ordering::SeqCst);
        // The store alone would not order the re-check's plain loads after itself.
        fence(Ordering::SeqCst);
    }

    /// Says that the worker is awake again: after parking, or when the re-check found something.
    pub fn awake(&self) {
        self.shared.sleeping.store(false, Ordering::Relaxed);
    }
}

/// The producers' half.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// Wakes the worker if it sleeps; to be called after a push (or a batch of them).
    ///
    /// While the worker is awake this is a fence and a load of a line that nobody writes.
    #[inline]
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        self.wake_if_sleeping();
    }

    /// The second half of [`Waker::notify`], apart so that a model can show what the fence is for.
    #[inline]
    pub(super) fn wake_if_sleeping(&self) {
        if self.shared.sleeping.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // Of all producers that saw the worker asleep, the first one makes the call.
        let sleeping = &self.shared.sleeping;
        if sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            (self.shared.wake)();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_a_sleeping_worker_is_woken_and_only_once() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let (sleeper, waker) = sleeper(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let calls = || calls.load(Ordering::Relaxed);

        waker.notify();
        assert_eq!(calls(), 0, "the worker was awake");
        sleeper.announce();
        waker.notify();
        waker.clone().notify();
        assert_eq!(calls(), 1, "the first producer wakes it, the second need not");
        sleeper.awake();
        waker.notify();
        assert_eq!(calls(), 1);
        sleeper.announce();
        sleeper.awake();
        waker.notify();
        assert_eq!(calls(), 1, "the re-check had found something: no sleep, no call");
    }
}
