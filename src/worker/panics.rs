//! Where users' code is called, so that its panic ends that call and not the worker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::base::WorkerIndex;
use crate::queue::foreign::quietly;

/// What it gives back, or its panic. What it worked on may be broken then.
// As it is caught: each message comes through here, and turning it into anything else would cost.
#[inline(always)]
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
}

/// A destructor that panics as well must not take the worker down.
pub(super) fn drop_quietly<T>(gone: T) {
    quietly(|| drop(gone));
}

/// So much of what a panic says is told.
const MOST_TEXT: usize = 200;

/// What a panic says. Its payload may panic as it is dropped.
#[cold]
pub(crate) fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "it says nothing that can be shown",
    };
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text[..end].to_owned();
    drop_quietly(payload);
    text
}

/// Code of the user's panicked: what was told of it, and how many others are not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// On which worker.
    pub worker: WorkerIndex,
    /// The path.
    pub path: Arc<str>,
    /// The name of the message's type, or what the routee was called for instead, as "started".
    pub at: Arc<str>,
    /// What the panic says, or the beginning of it.
    pub text: String,
    /// How many came behind it that nobody had the time to tell of.
    pub more: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_told_of_a_panic_as_a_line_takes() {
        let said = |payload: Box<dyn Any + Send>| text_of(payload);
        assert_eq!(said(Box::new("no")), "no");
        assert_eq!(said(Box::new("nö".repeat(500))).len(), 199, "not half of a letter");
        assert!(said(Box::new(7)).contains("nothing"));
    }
}
