//! The clock of each process: it begins with the process, and in some seeds it is faster or slower
//! than the world's.

use std::time::Duration;

use rand::RngExt;

use super::events::LifeId;
use super::streams::stream;
use crate::base::Time;

const MILLION: u128 = 1_000_000;

/// How far clocks of real machines are off at most, in millionths.
pub const USUAL_OFF_PPM: u32 = 200;

/// A process's own clock.
#[derive(Clone, Copy, Debug)]
pub struct LocalClock {
    /// When it began, on the world's clock.
    pub born: Time,
    /// Millionths of a second that go by on it in a second of the world's.
    rate: u32,
}

/// How far clocks are off at most in a seed, in millionths: in every other seed they are as good as
/// those of real machines, in a few as bad as those of some virtual ones.
pub fn draw(seed: u64) -> u32 {
    match stream(seed, "clocks").random_range(0..16) {
        0 => 10_000,
        1..=8 => USUAL_OFF_PPM,
        _ => 0,
    }
}

impl LocalClock {
    /// That of a life which begins now, where clocks are off by so much at most.
    pub fn new(born: Time, (seed, life): (u64, LifeId), off_ppm: u32) -> Self {
        let mut rng = stream(seed, &format!("clock of life {life}"));
        Self { born, rate: 1_000_000 - off_ppm + rng.random_range(0..=2 * off_ppm) }
    }

    /// A moment of the world's.
    pub fn local(self, at: Time) -> Time {
        let gone = u128::from(at.0 - self.born.0) * u128::from(self.rate) / MILLION;
        Time(gone as u64)
    }

    /// The first moment of the world's at which it is so late here.
    pub fn world(self, local: Time) -> Time {
        if local == Time::NEVER {
            return local;
        }
        let gone = (u128::from(local.0) * MILLION).div_ceil(self.rate.into());
        Time(self.born.0.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX)))
    }

    /// How long a wait takes in the world.
    pub fn lasts(self, wait: Duration) -> Duration {
        let nanos = (wait.as_nanos() * MILLION).div_ceil(self.rate.into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_when_the_clock_says_so_and_not_before() {
        for life in 0..100 {
            let clock = LocalClock::new(Time(7_000_000_003), (3, life), 10_000);
            for local in [0, 1, 1_000, 999_999_937, 60_000_000_000] {
                let at = clock.world(Time(local));
                assert!(clock.local(at).0 >= local, "{clock:?}");
                assert!(at == clock.born || clock.local(Time(at.0 - 1)).0 < local, "{clock:?}");
            }
            assert_eq!(clock.world(Time::NEVER), Time::NEVER);
            assert_eq!(clock.lasts(Duration::ZERO), Duration::ZERO);
        }
        let exact = LocalClock::new(Time(5), (3, 0), 0);
        assert_eq!((exact.local(Time(12)), exact.world(Time(7))), (Time(7), Time(12)));
    }
}
