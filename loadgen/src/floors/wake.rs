//! F4: waking a thread that sleeps on another core, by eventfd, back and forth.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::{FloorPlan, thread_pair};
use crate::analysis::histogram::{self, latency_histogram, merge};
use crate::error::{Attempt, Result};
use crate::machine::WindowReport;

/// One measurement of F4.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WakeFloor {
    /// From before the write on one core to after the read on the other, in nanoseconds.
    #[serde(with = "histogram::text")]
    pub histogram: Histogram<u64>,
    /// This process, with both threads.
    pub window: WindowReport,
}

/// What the two threads share.
struct Court {
    began: Instant,
    bells: [OwnedFd; 2],
    /// When the last bell was rung, from `began`.
    rung_ns: AtomicU64,
    measuring: AtomicBool,
    stopping: AtomicBool,
}

impl Court {
    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn ring(&self, bell: usize) -> Result<()> {
        self.rung_ns.store(self.now_ns(), Ordering::Release);
        let written = rustix::io::write(&self.bells[bell], &1_u64.to_ne_bytes());
        written.map(|_| ()).attempting("write an eventfd")
    }

    /// Sleeps until the bell rings; returns how long ago that was.
    fn hear(&self, bell: usize) -> Result<u64> {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&self.bells[bell], &mut count) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(cause).attempting("read an eventfd"),
            }
        }
        Ok(self.now_ns().saturating_sub(self.rung_ns.load(Ordering::Acquire)))
    }

    /// Answers each bell with the other one until told to stop.
    fn play(&self, own: usize) -> Result<Histogram<u64>> {
        let mut histogram = latency_histogram();
        loop {
            let wake_ns = self.hear(own)?;
            if self.measuring.load(Ordering::Relaxed) {
                histogram.saturating_record(wake_ns);
            }
            // Ring also when stopping: the other one still listens.
            let stopping = self.stopping.load(Ordering::Acquire);
            self.ring(1 - own)?;
            if stopping {
                return Ok(histogram);
            }
        }
    }
}

/// Measures F4; each thread blocks in `read`, so that every wake is a wake from sleep.
pub fn run(plan: &FloorPlan) -> Result<WakeFloor> {
    let bell = || eventfd(0, EventfdFlags::CLOEXEC).attempting("make an eventfd");
    let court = Court {
        began: Instant::now(),
        bells: [bell()?, bell()?],
        rung_ns: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
    };
    let court = &court;
    // The first thread opens; from then on there is exactly one bell on its way.
    let (first, second, window) = thread_pair::run(
        plan,
        move || court.ring(1).and_then(|()| court.play(0)),
        move || court.play(1),
        || court.measuring.store(true, Ordering::Relaxed),
        || {
            court.measuring.store(false, Ordering::Relaxed);
            court.stopping.store(true, Ordering::Release);
        },
    )?;
    Ok(WakeFloor { histogram: merge([&first, &second]), window })
}
