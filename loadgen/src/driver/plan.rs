//! What a driver is told to send, and what it reports afterwards.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::analysis::histogram;
use crate::analysis::ledger::SentRecord;
use crate::analysis::schedule::Arrivals;
use crate::analysis::timeline::TimelineRecord;

/// What to send, from a routee on the driver's own worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LoadPlan {
    /// Closed loop: tells, as many as the links take, until stopped.
    Saturate {
        /// One of [`crate::cluster::message::SIZES`].
        payload_bytes: u32,
    },
    /// Closed loop: asks, always so many in flight, until stopped.
    Window {
        /// How many.
        in_flight: u32,
        /// Whether each round trip is timed; costs two reads of the clock.
        timed: bool,
        /// Round trips that began earlier are thrown away.
        warm_up_ends_ns: u64,
    },
    /// Closed loop: from an ordinary thread of the driver, until stopped.
    FromThread {
        /// Asks, one after another; otherwise tells of 64 bytes in batches.
        asks: bool,
        /// Round trips that began earlier are thrown away.
        warm_up_ends_ns: u64,
    },
    /// Open loop: every message has a due time, whatever became of the others.
    Paced(Paced),
}

/// An open-loop plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paced {
    /// One of [`crate::cluster::message::SIZES`].
    pub payload_bytes: u32,
    /// The tells.
    pub tells: Option<Arrivals>,
    /// The asks.
    pub asks: Option<Arrivals>,
    /// When it begins, on the machine's monotonic clock.
    pub start_ns: u64,
    /// How long it lasts.
    pub duration_ns: u64,
    /// What was due earlier is thrown away as warm-up.
    pub warm_up_ends_ns: u64,
    /// Of the arrivals.
    pub seed: u64,
    /// How long an ask waits for its answer.
    pub ask_timeout_ms: u64,
    /// Whether the end of every ask is kept by itself.
    pub log_asks: bool,
}

impl Paced {
    /// Tells alone; [`paced`](crate::cluster::measure::paced) sets when they begin.
    pub fn tells(payload_bytes: u32, arrivals: Arrivals, duration: Duration, seed: u64) -> Self {
        Self {
            payload_bytes,
            tells: Some(arrivals),
            asks: None,
            start_ns: 0,
            duration_ns: duration.as_nanos() as u64,
            warm_up_ends_ns: 0,
            seed,
            ask_timeout_ms: 1_000,
            log_asks: false,
        }
    }

    /// The mean gap between due instants, against which the generator's lag is judged: that of
    /// the denser stream.
    pub fn mean_gap_ns(&self) -> f64 {
        let streams = [&self.tells, &self.asks].into_iter().flatten();
        streams.map(Arrivals::mean_gap_ns).fold(f64::INFINITY, f64::min)
    }
}

/// How one ask ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u32, i64, u64, u64)", from = "(u32, i64, u64, u64)")]
pub struct AskEnd {
    /// Its key.
    pub key: u32,
    /// The node that answered; `None` when nobody did.
    pub node: Option<u32>,
    /// When it was due.
    pub due_ns: u64,
    /// When it ended.
    pub done_ns: u64,
}

impl From<AskEnd> for (u32, i64, u64, u64) {
    fn from(end: AskEnd) -> Self {
        (end.key, end.node.map_or(-1, i64::from), end.due_ns, end.done_ns - end.due_ns)
    }
}

impl From<(u32, i64, u64, u64)> for AskEnd {
    fn from((key, node, due_ns, took_ns): (u32, i64, u64, u64)) -> Self {
        Self { key, node: u32::try_from(node).ok(), due_ns, done_ns: due_ns + took_ns }
    }
}

/// What a driver recorded since its last plan began. The ledgers go on over all plans.
#[derive(Clone, Serialize, Deserialize)]
pub struct DriveReport {
    /// Tells and asks, each with a sender's number of its own.
    pub sent: Vec<SentRecord>,
    /// How late the generator was, for paced plans.
    #[serde(with = "histogram::text")]
    pub lag: Histogram<u64>,
    /// Why what was paced is void: the generator did not keep to its plan.
    pub lag_void: Option<String>,
    /// Whether the plan was carried out to its end.
    pub finished: bool,
    /// Round trips from the due time (paced) or from the call (window).
    #[serde(with = "histogram::text")]
    pub ask_latency: Histogram<u64>,
    /// Asks that were answered.
    pub answered: u64,
    /// Asks that were refused or ended in an error.
    pub failed: u64,
    /// Ends of asks, if they were to be kept.
    pub asks: Vec<AskEnd>,
    /// The asks in buckets of 100 ms, for paced plans.
    pub timeline: Option<TimelineRecord>,
}
