//! Open-loop arrivals: when each message is due, fixed before the run, and how well the generator
//! kept to it.
//!
//! A due time never depends on how the system under test answers. That is what keeps a stall from
//! hiding the messages that should have been sent during it.

use hdrhistogram::Histogram;
use keyway::base::Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::histogram::latency_histogram;

/// The shape of the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Arrivals {
    /// One message every `1 / msgs_per_s`.
    Constant {
        /// Messages per second.
        msgs_per_s: f64,
    },
    /// Independent arrivals: exponentially distributed gaps, as from many unrelated clients.
    Poisson {
        /// Messages per second in the long run.
        msgs_per_s: f64,
    },
    /// `size` messages due at one instant, every `gap_ns`.
    Bursts {
        /// Messages per burst.
        size: u32,
        /// From one burst to the next.
        gap_ns: u64,
    },
}

impl Arrivals {
    /// Checks the figures, which come from a command line or a plan file.
    pub fn validate(&self) -> Result<(), String> {
        match *self {
            Self::Constant { msgs_per_s } | Self::Poisson { msgs_per_s } => {
                // Above 1 G/s several messages share a nanosecond and the gap rounds to nothing.
                if msgs_per_s.is_finite() && msgs_per_s > 0.0 && msgs_per_s <= 1e9 {
                    Ok(())
                } else {
                    Err(format!(
                        "a rate of {msgs_per_s} messages per second cannot be planned; give a \
                         number above 0 and at most 1e9"
                    ))
                }
            }
            Self::Bursts { size, gap_ns } => {
                if size > 0 && gap_ns > 0 {
                    Ok(())
                } else {
                    Err(format!(
                        "bursts of {size} messages every {gap_ns} ns cannot be planned; both must \
                         be above 0"
                    ))
                }
            }
        }
    }

    /// Messages per second in the long run.
    pub fn msgs_per_s(&self) -> f64 {
        match *self {
            Self::Constant { msgs_per_s } | Self::Poisson { msgs_per_s } => msgs_per_s,
            Self::Bursts { size, gap_ns } => f64::from(size) * 1e9 / gap_ns as f64,
        }
    }

    /// The mean gap between due instants, in nanoseconds; between bursts, not within one.
    pub fn mean_gap_ns(&self) -> f64 {
        match *self {
            Self::Constant { msgs_per_s } | Self::Poisson { msgs_per_s } => 1e9 / msgs_per_s,
            Self::Bursts { gap_ns, .. } => gap_ns as f64,
        }
    }

    /// The due times in nanoseconds from the start, rising, all below `duration_ns`. Equal
    /// arguments give equal times.
    ///
    /// # Panics
    /// If [`Arrivals::validate`] would refuse.
    pub fn due_times(&self, seed: u64, duration_ns: u64) -> DueTimes {
        if let Err(reason) = self.validate() {
            panic!("{reason}");
        }
        let shape = match *self {
            Self::Constant { msgs_per_s } => {
                Shape::Constant { gap_ns: 1e9 / msgs_per_s, next_index: 0 }
            }
            Self::Poisson { msgs_per_s } => Shape::Poisson {
                mean_gap_ns: 1e9 / msgs_per_s,
                now_ns: 0.0,
                rng: Rng::seed_from_u64(seed),
            },
            Self::Bursts { size, gap_ns } => Shape::Bursts { size, gap_ns, due_ns: 0, left: size },
        };
        DueTimes { shape, duration_ns }
    }
}

/// The due times of one run; made without allocation, one at a time.
#[derive(Clone, Debug)]
pub struct DueTimes {
    shape: Shape,
    duration_ns: u64,
}

#[derive(Clone, Debug)]
enum Shape {
    Constant { gap_ns: f64, next_index: u64 },
    Poisson { mean_gap_ns: f64, now_ns: f64, rng: Rng },
    Bursts { size: u32, gap_ns: u64, due_ns: u64, left: u32 },
}

impl Iterator for DueTimes {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let due_ns = match &mut self.shape {
            Shape::Constant { gap_ns, next_index } => {
                // Multiplied, not summed, so that rounding does not drift.
                let due_ns = *next_index as f64 * *gap_ns;
                *next_index += 1;
                due_ns as u64
            }
            Shape::Poisson { mean_gap_ns, now_ns, rng } => {
                // `random` is in [0, 1); its complement is never 0, so the logarithm is finite.
                let uniform: f64 = rng.random();
                *now_ns -= (1.0 - uniform).ln() * *mean_gap_ns;
                *now_ns as u64
            }
            Shape::Bursts { size, gap_ns, due_ns, left } => {
                if *left == 0 {
                    *due_ns = due_ns.saturating_add(*gap_ns);
                    *left = *size;
                }
                *left -= 1;
                *due_ns
            }
        };
        (due_ns < self.duration_ns).then_some(due_ns)
    }
}

/// How late the generator sent, against the plan: the evidence that it was not the bottleneck.
pub struct LagMeter {
    lag: Histogram<u64>,
    early: u64,
}

impl Default for LagMeter {
    fn default() -> Self {
        Self::new()
    }
}

impl LagMeter {
    /// Nothing sent yet.
    pub fn new() -> Self {
        Self { lag: latency_histogram(), early: 0 }
    }

    /// Records that a message due at `due_ns` was sent at `sent_ns`, on one clock.
    #[inline]
    pub fn record(&mut self, due_ns: u64, sent_ns: u64) {
        if sent_ns < due_ns {
            self.early += 1;
        }
        self.lag.saturating_record(sent_ns.saturating_sub(due_ns));
    }

    /// Adds what another sender of the same plan recorded.
    pub fn add(&mut self, other: &Self) {
        self.lag.add(&other.lag).expect("every meter is made with the same bounds");
        self.early += other.early;
    }

    /// The lags recorded so far, in nanoseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.lag
    }

    /// The lag that 99 of 100 sends did not exceed, in nanoseconds.
    pub fn p99_ns(&self) -> u64 {
        self.lag.value_at_quantile(0.99)
    }

    /// Why the run is void, if the generator did not keep to its plan: nothing was sent, something
    /// was sent before it was due (its latency would be understated), or p99 of the lag exceeds a
    /// tenth of the mean gap between due instants ([`Arrivals::mean_gap_ns`]).
    pub fn void_reason(&self, mean_gap_ns: f64) -> Option<String> {
        if self.lag.is_empty() {
            return Some("the generator sent nothing".to_owned());
        }
        if self.early > 0 {
            return Some(format!(
                "the generator sent {} of {} messages before they were due",
                self.early,
                self.lag.len()
            ));
        }
        let p99_ns = self.p99_ns();
        (p99_ns as f64 > mean_gap_ns / 10.0).then(|| {
            format!(
                "the generator was the bottleneck: p99 of its schedule lag is {p99_ns} ns, above \
                 10 % of the mean gap of {mean_gap_ns:.0} ns between due times"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn constant_rate_does_not_drift() {
        let plan = Arrivals::Constant { msgs_per_s: 3.0 };
        let due: Vec<u64> = plan.due_times(1, 1_000_000_000).collect();
        assert_eq!(due, [0, 333_333_333, 666_666_666]);
        // Ten minutes at a rate whose gap is no whole number of nanoseconds.
        let plan = Arrivals::Constant { msgs_per_s: 7_000.0 };
        let last = plan.due_times(1, 600_000_000_000).last().unwrap();
        assert_eq!(plan.due_times(1, 600_000_000_000).count(), 4_200_000);
        assert_eq!(last, 599_999_857_142);
    }

    #[test]
    fn bursts_share_one_due_time() {
        let plan = Arrivals::Bursts { size: 3, gap_ns: 100 };
        let due: Vec<u64> = plan.due_times(1, 201).collect();
        assert_eq!(due, [0, 0, 0, 100, 100, 100, 200, 200, 200]);
        assert_eq!(plan.mean_gap_ns(), 100.0);
        assert_eq!(plan.msgs_per_s(), 3e7);
    }

    #[test]
    fn poisson_has_the_mean_and_the_spread_of_poisson() {
        let plan = Arrivals::Poisson { msgs_per_s: 100_000.0 };
        let due: Vec<u64> = plan.due_times(42, 10_000_000_000).collect();
        // One million arrivals: the count's standard deviation is 1,000.
        assert!(due.len().abs_diff(1_000_000) < 5_000, "{} arrivals", due.len());
        // Counts in windows of 1 ms have mean 100 and variance 100; a constant rate would have 0.
        let mut counts = vec![0_f64; 10_000];
        for at in &due {
            counts[(at / 1_000_000) as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>()
            / (counts.len() - 1) as f64;
        assert!((0.9..1.1).contains(&(variance / mean)), "variance / mean = {}", variance / mean);
    }

    #[test]
    fn a_seed_fixes_the_plan() {
        let plan = Arrivals::Poisson { msgs_per_s: 1_000.0 };
        let run = |seed| plan.due_times(seed, 1_000_000_000).collect::<Vec<_>>();
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn impossible_plans_are_named() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Arrivals::Constant { msgs_per_s: rate }.validate().is_err());
            assert!(Arrivals::Poisson { msgs_per_s: rate }.validate().is_err());
        }
        assert!(Arrivals::Bursts { size: 0, gap_ns: 1 }.validate().is_err());
        let error = Arrivals::Bursts { size: 1, gap_ns: 0 }.validate().unwrap_err();
        assert!(error.contains("every 0 ns"));
    }

    #[test]
    fn lag_above_a_tenth_of_the_gap_voids() {
        let mut meter = LagMeter::new();
        assert!(meter.void_reason(1e9).is_some(), "nothing sent is void");
        for due_ns in 0..1_000 {
            meter.record(due_ns, due_ns + 50);
        }
        assert_eq!(meter.p99_ns(), 50);
        assert_eq!(meter.void_reason(500.0), None);
        assert!(meter.void_reason(499.0).unwrap().contains("50 ns"));
        // Fewer than one in a hundred late sends do not void, more do.
        let mut late = LagMeter::new();
        for due_ns in 0..9 {
            late.record(due_ns, due_ns + 10_000);
        }
        late.add(&meter);
        assert_eq!(late.void_reason(500.0), None);
        for due_ns in 0..9 {
            late.record(due_ns, due_ns + 10_000);
        }
        assert!(late.void_reason(500.0).is_some());
    }

    #[test]
    fn sending_early_voids() {
        let mut meter = LagMeter::new();
        meter.record(10, 9);
        assert!(meter.void_reason(1e9).unwrap().contains("before they were due"));
    }

    proptest! {
        #[test]
        fn due_times_rise_and_stay_within_the_run(
            seed: u64,
            rate in 1.0..1e7_f64,
            size in 1_u32..50,
            gap_ns in 1_u64..1_000_000,
        ) {
            for plan in [
                Arrivals::Constant { msgs_per_s: rate },
                Arrivals::Poisson { msgs_per_s: rate },
                Arrivals::Bursts { size, gap_ns },
            ] {
                let mut last = 0;
                for due_ns in plan.due_times(seed, 5_000_000).take(20_000) {
                    prop_assert!(due_ns >= last && due_ns < 5_000_000);
                    last = due_ns;
                }
            }
        }
    }
}
