//! A worker's counts: the worker counts, and anyone reads at any time how far it has got, also while
//! a handler holds it.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::fate::{CountCells, Counts};

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts so many more. Only one thread may, so that this is no more than a load and a store.
    /// Release: whoever sees that a message has ended sees that it was sent.
    #[inline]
    pub fn add(&self, more: u64) {
        let so_far = self.0.load(Ordering::Relaxed);
        self.0.store(so_far.wrapping_add(more), Ordering::Release);
    }

    /// How many there are.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one worker has counted. What it sent by itself, its routees, asks and parts, is in `sent`;
/// what other threads handed over is not.
#[derive(Default)]
pub struct Tally {
    counts: CountCells<Count>,
    /// Messages that the worker has taken of what other threads handed over.
    pub handed: Count,
}

impl Deref for Tally {
    type Target = CountCells<Count>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.counts
    }
}

impl Tally {
    /// How what was sent has ended, with nothing as `sent`.
    pub fn ended(&self) -> Counts {
        Counts { sent: 0, ..self.counts.read(Count::get) }
    }

    /// As the worker itself knows it: what waits in its queue is not in it.
    pub fn counts(&self) -> Counts {
        let own = self.counts.own(Count::get);
        Counts { sent: own.sent + self.handed.get(), ..own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_sent_as_well() {
        let tally = Tally::default();
        tally.handed.add(3);
        tally.sent.add(2);
        tally.dead[4].add(1);
        let expected = Counts { sent: 5, dead: tally.counts().dead, ..Counts::default() };
        assert_eq!((tally.counts(), tally.counts().dead[4]), (expected, 1));
        assert_eq!(tally.ended(), Counts { sent: 0, ..expected });
    }
}
