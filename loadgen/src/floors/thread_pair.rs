//! Two pinned threads of this process, for the floors between cores.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::FloorPlan;
use crate::error::{Failure, Result};
use crate::machine::{Window, WindowReport, pin_thread};

/// Runs two loops on the plan's two cores and stops them after warm-up and duration.
///
/// `measure` is called once when the warm-up ends, `stop` once when the time is over; both
/// from this thread, which sleeps in between. Returns what the loops returned.
pub(super) fn run<A: Send, B: Send>(
    plan: &FloorPlan,
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B> + Send,
    measure: impl FnOnce(),
    stop: impl FnOnce(),
) -> Result<(A, B, WindowReport)> {
    plan.check()?;
    let (first_core, second_core) = plan.cores;
    // Each loop needs the other to end: neither begins before both are pinned.
    let (both_tried, failed) = (Barrier::new(2), AtomicBool::new(false));
    let pinned = |core| {
        let outcome = pin_thread(core);
        failed.fetch_or(outcome.is_err(), Ordering::SeqCst);
        both_tried.wait();
        outcome?;
        if failed.load(Ordering::SeqCst) {
            return Err(Failure::new("run two pinned threads", "the other could not be pinned"));
        }
        Ok(())
    };
    let pinned = &pinned;
    thread::scope(|scope| {
        let first = scope.spawn(move || pinned(first_core).and_then(|()| first()));
        let second = scope.spawn(move || pinned(second_core).and_then(|()| second()));
        thread::sleep(plan.warm_up());
        let window = Window::open(&[std::process::id()]);
        measure();
        thread::sleep(plan.duration);
        stop();
        // The window is closed while the threads may still be there, then they are awaited.
        let report = window.and_then(Window::close);
        let gone = || Failure::new("run two pinned threads", "one of them panicked");
        let first = first.join().map_err(|_| gone())??;
        let second = second.join().map_err(|_| gone())??;
        Ok((first, second, report?))
    })
}

/// Runs one loop on `core` for the plan's time; see [`run`].
pub(super) fn run_alone<A: Send>(
    core: usize,
    warm_up: Duration,
    duration: Duration,
    work: impl FnOnce(Duration, Duration) -> A + Send,
) -> Result<(A, WindowReport)> {
    thread::scope(|scope| {
        let window = Window::open(&[std::process::id()])?;
        let worker = scope.spawn(move || pin_thread(core).map(|()| work(warm_up, duration)));
        thread::sleep(warm_up + duration);
        let outcome =
            worker.join().map_err(|_| Failure::new("run a pinned thread", "it panicked"))??;
        Ok((outcome, window.close()?))
    })
}
