//! Where users' code is called, so that its panic ends that call and not the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// What it gives back, or its panic. What it worked on may be broken then.
// As it is caught: each message comes through here, and turning it into anything else would cost.
#[inline(always)]
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
}

/// A destructor that panics as well must not take the worker down.
pub(super) fn drop_quietly<T>(gone: T) {
    let _ = caught(|| drop(gone));
}
