//! The only clock of a node. Deciders get what it says as a number.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::{Incarnation, Time};

/// Monotonic time since the node's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time.
    #[inline]
    pub fn now(&self) -> Time {
        Time(self.origin.elapsed().as_nanos() as u64)
    }

    /// The moment a time stands for.
    pub fn instant(&self, time: Time) -> Instant {
        // A time that no `Instant` can express is as good as a day away.
        let day = std::time::Duration::from_secs(86_400);
        self.origin
            .checked_add(std::time::Duration::from_nanos(time.0))
            .unwrap_or_else(|| Instant::now() + day)
    }
}

/// An incarnation for a process that starts now, by a clock that is behind by so much.
pub fn new_incarnation(behind: std::time::Duration) -> Incarnation {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since.saturating_sub(behind).as_micros()).unwrap_or(u64::MAX);
    Incarnation(micros).min(Incarnation::LAST)
}
