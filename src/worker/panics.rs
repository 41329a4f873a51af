//! Where users' code is called, so that its panic ends that call and not the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What it gives back; `None` when it panicked. What it worked on may be broken then.
#[inline(always)]
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// A destructor that panics as well must not take the worker down.
pub(super) fn drop_quietly<T>(gone: T) {
    let _ = caught(|| drop(gone));
}
