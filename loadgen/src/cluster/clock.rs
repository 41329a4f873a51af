//! The machine's monotonic clock, which all processes share, so that a latency can be taken
//! between two of them.

use keyway::{Node, Time};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the machine's monotonic clock.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Turns a node's time into the machine's: a duty cycle's time costs no read of the clock.
#[derive(Debug, Clone, Copy)]
pub struct Offset(u64);

impl Offset {
    /// The offset of a node's clock. Both run at the same rate, being the same clock.
    pub fn of(node: &Node) -> Self {
        let attempts = (0..32).map(|_| {
            let before = now_ns();
            let time = node.now().0;
            let after = now_ns();
            (after - before, before + (after - before) / 2 - time)
        });
        let (_, offset) = attempts.min().unwrap_or_default();
        Self(offset)
    }

    /// A node's time on the machine's clock.
    #[inline]
    pub fn machine_ns(self, time: Time) -> u64 {
        time.0 + self.0
    }
}
