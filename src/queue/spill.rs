//! What stands for something that a full queue did not take and that must not be lost without a
//! word. Whoever may leave such a note holds the right to one, and leaves no more: so there are no
//! more notes than holders, each of which took more memory than its note does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Waker;

/// The worker's half.
pub struct Spill<T> {
    notes: Arc<Notes<T>>,
    waker: Waker,
}

struct Notes<T> {
    any: AtomicBool,
    left: Mutex<Vec<T>>,
}

impl<T> Notes<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Spill<T> {
    /// Without notes; `waker` wakes the worker that takes them.
    pub fn new(waker: Waker) -> Self {
        let notes = Notes { any: AtomicBool::new(false), left: Mutex::new(Vec::new()) };
        Self { notes: Arc::new(notes), waker }
    }

    /// The right to leave a note.
    pub fn holder(&self) -> Holder<T> {
        Holder { notes: Arc::clone(&self.notes), waker: self.waker.clone() }
    }

    /// Whether anybody may still leave one.
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.notes) > 1
    }

    /// Whether there are any: one read, for each duty cycle.
    #[inline]
    pub fn has_notes(&self) -> bool {
        self.notes.any.load(Ordering::Acquire)
    }

    /// Takes them out, oldest first.
    pub fn take(&self) -> Vec<T> {
        let mut left = self.notes.lock();
        self.notes.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *left)
    }
}

/// The right to leave one note, from any thread.
pub struct Holder<T> {
    notes: Arc<Notes<T>>,
    waker: Waker,
}

impl<T> Holder<T> {
    /// Leaves it, and wakes the worker if it sleeps.
    pub fn leave(&self, note: T) {
        let mut left = self.notes.lock();
        left.push(note);
        self.notes.any.store(true, Ordering::Release);
        drop(left);
        self.waker.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::super::sleeper;
    use super::*;

    #[test]
    fn a_note_is_taken_once_and_wakes_who_takes_it() {
        let worker = std::thread::current();
        let (sleeper, waker) = sleeper(move || worker.unpark());
        let spill = Spill::new(waker);
        assert!(!spill.is_held() && !spill.has_notes());
        let holders: Vec<_> = (0..8).map(|_| spill.holder()).collect();
        assert!(spill.is_held());
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            for (number, holder) in holders.into_iter().enumerate() {
                scope.spawn(move || holder.leave(number));
            }
            while taken.len() < 8 {
                taken.extend(spill.take());
                sleeper.announce();
                if !spill.has_notes() && taken.len() < 8 {
                    std::thread::park();
                }
                sleeper.awake();
            }
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..8));
        assert!(!spill.is_held() && !spill.has_notes() && spill.take().is_empty());
    }
}
