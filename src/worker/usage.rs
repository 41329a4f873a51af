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
}

impl Worker {
    /// How much it holds at the moment.
    pub fn usage(&self) -> Usage {
        let core = &self.core;
        let timers = core.timers.len() + core.asks.timers();
        Usage { links: core.links.len(), asks: core.asks.len(), timers }
    }
}
