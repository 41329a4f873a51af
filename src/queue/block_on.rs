//! Runs one future on the calling thread: for callers that have no runtime.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::sync::{thread, thread_local};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    // One per thread, so that a blocking call allocates nothing after the thread's first.
    static UNPARK_ME: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

std::thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One wait of this thread, which may be within another: a future that is waited for may wait for
/// one itself.
struct Wait;

impl Wait {
    fn begin() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let outer = DEPTH.with(|depth| depth.replace(depth.get() - 1)) - 1;
        if outer > 0 {
            // All waits of a thread are woken alike: this one may have taken a wake-up that was
            // meant for the outer one, which looks again now.
            thread::current().unpark();
        }
    }
}

std::thread_local! {
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread is a worker's, on which nothing must wait: handlers run here, and what one
/// of them waited for might need this very thread.
pub fn mark_worker_thread() {
    WORKER.with(|worker| worker.set(true));
}

/// Whether [`mark_worker_thread`] was called on this thread.
pub fn is_worker_thread() -> bool {
    WORKER.with(Cell::get)
}

/// Parks the thread until the future is ready, and returns what it gives.
///
/// Futures that need a runtime's own timers or sockets do not work here; everything in this crate
/// does. Must not be called on a runtime's or worker's thread, which it would hold up.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let _wait = Wait::begin();
    let mut future = pin!(future);
    let waker = UNPARK_ME.with(Waker::clone);
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // Returns at once if the wake-up came since the poll; may also return for no reason.
        thread::park();
    }
}

/// As [`block_on`], but gives up at the deadline, and then returns `None`.
#[cfg(not(loom))]
pub fn block_on_until<F: Future>(future: F, deadline: std::time::Instant) -> Option<F::Output> {
    let _wait = Wait::begin();
    let mut future = pin!(future);
    let waker = UNPARK_ME.with(Waker::clone);
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = deadline.checked_duration_since(std::time::Instant::now())?;
        std::thread::park_timeout(left);
    }
}

/// As [`block_on_until`], for at most a while; one that is longer than time itself has no end.
#[cfg(not(loom))]
pub fn block_on_within<F: Future>(future: F, within: std::time::Duration) -> Option<F::Output> {
    match std::time::Instant::now().checked_add(within) {
        Some(deadline) => block_on_until(future, deadline),
        None => Some(block_on(future)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_ends_the_wait() {
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(10);
        assert_eq!(block_on_until(std::future::pending::<()>(), deadline), None);
        assert_eq!(block_on_until(async { 5 }, deadline), Some(5));
    }

    #[test]
    fn a_wait_may_be_for_ever() {
        assert_eq!(block_on_within(std::future::ready(5), std::time::Duration::MAX), Some(5));
        let none = block_on_within(std::future::pending::<()>(), std::time::Duration::ZERO);
        assert_eq!(none, None);
    }

    #[test]
    fn a_future_that_another_thread_wakes_is_finished() {
        let (done, wait) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || done.send(7).unwrap());
        assert_eq!(block_on(async { wait.await.unwrap() + block_on(async { 1 }) }), 8);
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_within_another_leaves_it_its_wake_up() {
        for _ in 0..50 {
            let (first, mut outer) = tokio::sync::oneshot::channel();
            let (second, inner) = tokio::sync::oneshot::channel();
            let thread = std::thread::spawn(move || {
                // The inner wait is parked, and takes the wake-up of the outer one's future.
                std::thread::sleep(Duration::from_millis(5));
                first.send(7).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                second.send(1).unwrap();
            });
            let mut inner = Some(inner);
            let both = std::future::poll_fn(|context| {
                let polled = pin!(&mut outer).poll(context);
                if polled.is_pending()
                    && let Some(inner) = inner.take()
                {
                    assert_eq!(block_on(inner), Ok(1));
                }
                polled
            });
            assert_eq!(block_on_within(both, Duration::from_secs(10)), Some(Ok(7)));
            thread.join().unwrap();
        }
    }
}
