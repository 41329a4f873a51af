//! How often a node takes a new identity because it counts as dead. It does so at once, and tells every
//! member. But somebody that cannot be convinced would have it do nothing else, once per round trip,
//! and all who are told. So after many in a row it rests between them: what says that it is dead it
//! leaves aside meanwhile. Nothing is lost by that, since whoever holds it for dead says so whenever
//! it hears of it.

use std::time::Duration;

use crate::base::Time;

/// As many are free, where the last ones are long ago.
const IN_A_ROW: u32 = 32;
/// After these, and until one more is free.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Renewals {
    /// When all are free again.
    rested: Time,
}

impl Renewals {
    pub fn new() -> Self {
        Self { rested: Time::ZERO }
    }

    /// Whether this node may renew itself now.
    pub fn is_free(&self, now: Time) -> bool {
        self.rested <= now.plus(REST * (IN_A_ROW - 1))
    }

    /// It has renewed itself.
    pub fn count(&mut self, now: Time) {
        self.rested = self.rested.max(now).plus(REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_free_and_then_one_per_second() {
        let mut renewals = Renewals::new();
        let mut in_second = |second: u64| {
            let now = Time(second * 1_000_000_000);
            let mut count = 0;
            while renewals.is_free(now) {
                renewals.count(now);
                count += 1;
            }
            count
        };
        assert_eq!([0, 0, 1, 2, 12, 100, 101].map(&mut in_second), [32, 0, 1, 1, 10, 32, 1]);
    }
}
