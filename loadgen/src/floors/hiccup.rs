//! F5: how long a core is away although a thread on it wants to run.
//!
//! A pinned thread reads the clock without pause. The gap between two readings is some 30 ns
//! unless the kernel, the hypervisor or another process had the core. Of each 100 us the
//! longest gap is recorded: nearly all single gaps are short, and a percentile over those
//! would say nothing. No tail of a latency that is measured here can be better than this.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{FloorPlan, thread_pair};
use crate::analysis::histogram::{self, latency_histogram};
use crate::error::Result;
use crate::machine::WindowReport;

/// One measurement of F5.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HiccupFloor {
    /// The longest gap of each 100 us, in nanoseconds.
    #[serde(with = "histogram::text")]
    pub histogram: Histogram<u64>,
    /// This process.
    pub window: WindowReport,
}

const SLICE: Duration = Duration::from_micros(100);

/// Measures F5 on the plan's first core, while its second core has nothing to do for us.
pub fn run(plan: &FloorPlan) -> Result<HiccupFloor> {
    plan.check()?;
    let (histogram, window) =
        thread_pair::run_alone(plan.cores.0, plan.warm_up(), plan.duration, record)?;
    Ok(HiccupFloor { histogram, window })
}

fn record(warm_up: Duration, duration: Duration) -> Histogram<u64> {
    let mut histogram = latency_histogram();
    let mut last = Instant::now();
    let warm_up_ends = last + warm_up;
    while last < warm_up_ends {
        last = Instant::now();
    }
    let ends = last + duration;
    let mut slice_ends = last + SLICE;
    let mut longest = Duration::ZERO;
    while last < ends {
        let now = Instant::now();
        longest = longest.max(now - last);
        if now >= slice_ends {
            histogram.saturating_record(longest.as_nanos() as u64);
            // A gap over several slices was one gap, not several.
            slice_ends = now + SLICE;
            longest = Duration::ZERO;
            // What the recording itself took is no gap.
            last = Instant::now();
        } else {
            last = now;
        }
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slice_is_recorded_once() {
        let histogram = record(Duration::from_millis(1), Duration::from_millis(50));
        assert!(!histogram.is_empty() && histogram.len() <= 500, "{}", histogram.len());
        assert!(histogram.max() > 0);
    }
}
