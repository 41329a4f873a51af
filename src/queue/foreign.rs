//! Code of the application that runs on threads of the node: its wakers are woken there, and what
//! it handed over is dropped there. A panic in it must not take such a thread down.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// Runs code of the application that gives nothing back. Its panic ends here; the panic hook has
/// told of it by then.
pub fn quietly(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        // What a panic carries may panic as well as it is dropped, and so on.
        mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }
}

/// A waker of the application that harms no thread that wakes or drops it.
struct Shield(Option<Waker>);

impl Wake for Shield {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        quietly(|| self.0.iter().for_each(Waker::wake_by_ref));
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        quietly(|| drop(self.0.take()));
    }
}

/// Waits for something of which a thread of the node tells, through a channel that wakes whatever
/// waker it was given. Costs an allocation each time it is looked at: not for asks.
pub async fn shielded<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let waker = Waker::from(Arc::new(Shield(Some(context.waker().clone()))));
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::watch;

    use super::*;

    /// Panics as it is woken and as it is dropped, and counts both.
    struct Rude(Arc<AtomicU32>);

    impl Wake for Rude {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("told to");
        }
    }

    impl Drop for Rude {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("told to");
        }
    }

    /// What a panic carries.
    struct Payload;

    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("told to");
        }
    }

    #[test]
    fn what_panics_and_carries_what_panics_ends_there() {
        quietly(|| std::panic::panic_any(Payload));
    }

    #[test]
    fn a_waker_that_panics_harms_nobody_who_is_woken_with_it() {
        let news = watch::Sender::new(());
        let (mut first, mut second) = (news.subscribe(), news.subscribe());
        let mut waits = [pin!(shielded(first.changed())), pin!(shielded(second.changed()))];
        let calls = [(); 2].map(|()| Arc::new(AtomicU32::new(0)));
        for (wait, calls) in waits.iter_mut().zip(&calls) {
            let waker = Waker::from(Arc::new(Rude(Arc::clone(calls))));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        news.send_replace(());
        let calls = calls.map(|calls: Arc<AtomicU32>| calls.load(Ordering::Relaxed));
        assert_eq!(calls, [2, 2], "each was woken, and dropped");
    }
}
