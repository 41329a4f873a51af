//! F1: the round trip of one frame between two processes, one in flight.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::FloorPlan;
use super::echo::{self, Waiting};
use super::pair::Pair;
use super::peer::{PeerCommand, Task};
use crate::analysis::histogram::{self, latency_histogram};
use crate::error::{Attempt, Failure, Result};
use crate::machine::{Window, WindowReport};

/// One measurement of F1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EchoRttFloor {
    /// How both ends waited.
    pub waiting: Waiting,
    /// Round trips in nanoseconds.
    #[serde(with = "histogram::text")]
    pub histogram: Histogram<u64>,
    /// The driving end, then the serving end.
    pub window: WindowReport,
}

/// Measures F1 in one way of waiting.
pub fn run(plan: &FloorPlan, waiting: Waiting) -> Result<EchoRttFloor> {
    let pair = Pair::connect(plan)?;
    let task = pair.task();
    pair.run(&PeerCommand::EchoServe { waiting }, &PeerCommand::EchoRtt { waiting, task })
}

/// The driving end.
pub(super) fn drive(stream: TcpStream, waiting: Waiting, task: &Task) -> Result<EchoRttFloor> {
    let mut histogram = latency_histogram();
    let mut window: Option<Window> = None;
    let warm_up_ends = Instant::now() + task.warm_up;
    let mut ends = warm_up_ends;
    let mut sent = Instant::now();
    let mut report = None;
    echo::drive(stream, waiting, task.frame_bytes, 1, |_| {
        // One clock read per round trip: the end of one is the start of the next.
        let now = Instant::now();
        if window.is_some() {
            histogram.saturating_record((now - sent).as_nanos() as u64);
            sent = now;
            if now >= ends {
                let window = window.take().ok_or(io::ErrorKind::Other)?;
                report = Some(window.close().map_err(io::Error::other)?);
                return Ok(false);
            }
        } else if now >= warm_up_ends {
            let opened =
                Window::open(&[std::process::id(), task.peer_pid]).map_err(io::Error::other)?;
            sent = Instant::now();
            ends = sent + task.duration;
            window = Some(opened);
        }
        Ok(true)
    })
    .attempting("measure echo round trips")?;
    let window =
        report.ok_or_else(|| Failure::new("measure echo round trips", "no time passed"))?;
    Ok(EchoRttFloor { waiting, histogram, window })
}
