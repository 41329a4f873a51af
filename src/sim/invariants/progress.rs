//! Time goes on: no number of events that follow from each other keeps it where it is.

use crate::base::Time;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "simulated time goes on";

/// So many nanoseconds, as a power of two, are about a millisecond.
const SPAN_BITS: u32 = 20;
/// The most events in one for each machine; a process that runs on after a long pause has hundreds.
const MOST_A_MACHINE: u32 = 20_000;
/// From so many on they could be too many.
const MANY: u32 = 200;

/// Events of the span of time that is under way.
#[derive(Default)]
pub struct Progress {
    span: u64,
    events: u32,
    /// In how many spans there were many.
    pub busy: u64,
}

impl Progress {
    /// One more happens. Gives how many have in this span.
    fn count(&mut self, at: Time) -> u32 {
        let span = at.0 >> SPAN_BITS;
        if span != self.span {
            (self.span, self.events) = (span, 0);
        }
        self.events += 1;
        self.busy += u64::from(self.events == MANY);
        self.events
    }
}

impl World {
    /// Something happens.
    pub(in crate::sim) fn check_progress(&mut self, at: Time) {
        let events = self.checks.progress.count(at);
        if events > MOST_A_MACHINE * self.slots.len() as u32 {
            self.blame(NAME, format!("{events} events have come in the last millisecond"));
        }
    }
}
