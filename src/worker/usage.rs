//! How much a worker holds, for those who watch its memory.

use super::Worker;

/// What a worker holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Links, those within the node included.
    pub links: usize,
    /// Open asks.
    pub asks: usize,
    /// Standing timers.
    pub timers: usize,
    /// Hand-overs that wait for room.
    pub held: usize,
    /// Bytes in the fullest outbox.
    pub fullest_outbox: usize,
}

impl Worker {
    /// A duty cycle took longer than it may.
    pub(super) fn count_slow_turn(&mut self) {
        self.core.counts.slow_turns += 1;
    }

    /// How much it holds at the moment.
    pub fn usage(&self) -> Usage {
        let core = &self.core;
        Usage {
            links: core.links.len(),
            asks: core.asks.len(),
            timers: core.timers.len() + core.asks.timers(),
            held: self.held.count(),
            fullest_outbox: core.links.iter().map(|(_, l)| l.outbox.bytes()).max().unwrap_or(0),
        }
    }
}
