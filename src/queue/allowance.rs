//! A number of bytes that several threads take from and give back to, for what is too large to
//! count by places.

use std::sync::Arc;

use super::sync::{AtomicU64, Ordering};

struct Shared {
    taken: AtomicU64,
    most: u64,
}

/// So many bytes; clones take from the same.
pub struct Allowance {
    shared: Arc<Shared>,
}

impl Clone for Allowance {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Allowance {
    /// Nothing is taken yet.
    pub fn new(bytes: usize) -> Self {
        Self { shared: Arc::new(Shared { taken: AtomicU64::new(0), most: bytes as u64 }) }
    }

    /// Takes so much until what it gives is dropped; nothing when not so much is left. What is more
    /// than all is given to whoever takes while nothing else is taken.
    pub fn take(&self, bytes: usize) -> Option<Taken> {
        let Shared { taken, most } = &*self.shared;
        let bytes = bytes as u64;
        // Relaxed: a number of bytes, which orders nothing else.
        let before = taken.fetch_add(bytes, Ordering::Relaxed);
        // Made first, so that it gives back what is refused as well.
        let got = Taken { shared: Arc::clone(&self.shared), bytes };
        (before == 0 || before.saturating_add(bytes) <= *most).then_some(got)
    }

    /// How many are taken; a figure for observers.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed) as usize
    }
}

/// What was taken, until it is dropped.
pub struct Taken {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shared.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_once_and_what_is_refused_at_once() {
        let allowance = Allowance::new(100);
        let first = allowance.clone().take(60);
        assert!(first.is_some() && allowance.take(41).is_none());
        assert_eq!(allowance.taken(), 60);
        let second = allowance.take(40);
        assert!(second.is_some() && allowance.take(1).is_none());
        drop((first, second));
        assert_eq!(allowance.taken(), 0);
        let all = allowance.take(1_000);
        assert!(all.is_some() && allowance.take(1).is_none());
    }
}
