//! One measurement of a running cluster: a rate at saturation, round trips, or a paced load.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::clock::now_ns;
use super::launch::Cluster;
use super::protocol::Sample;
use crate::analysis::histogram;
use crate::analysis::rounds::Round;
use crate::driver::{DriveReport, LoadPlan, Paced};
use crate::error::Result;
use crate::machine::{SyscallCounter, Window, WindowReport};

/// From the order to begin until the first message is due.
const LEAD_TIME: Duration = Duration::from_millis(50);

/// A rate and what it cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rate {
    /// Messages handled, or asks answered, in the measured time.
    pub count: u64,
    /// Per second of wall time.
    pub per_s: f64,
    /// Per CPU-second of the driver and all nodes.
    pub per_cpu_s: f64,
    /// CPU-seconds per second of the driver and of each node, which tells who was the bottleneck.
    pub cpu_shares: Vec<f64>,
    /// Heap allocations of all processes, each.
    pub allocs_per_msg: f64,
    /// System calls of all processes, each; only when they were counted.
    pub syscalls_per_msg: Option<f64>,
    /// Context switches of all processes, each.
    pub switches_per_msg: f64,
    /// The measured time.
    pub window: WindowReport,
}

impl Rate {
    /// A round of one of its values.
    pub fn round(&self, value: impl Fn(&Self) -> f64) -> Round {
        Round { value: value(self), steal_share: self.window.steal_share }
    }
}

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Messages that the sinks handled.
    Handled,
    /// Asks that the driver got answered.
    Answered,
}

/// Measures a closed-loop plan: warm-up, then the rate over `duration`. With `count_calls`
/// system calls are counted, which slows every one of them down: such a rate is not to be quoted.
pub fn rate(
    cluster: &mut Cluster,
    plan: LoadPlan,
    of: Of,
    warm_up: Duration,
    duration: Duration,
    count_calls: bool,
) -> Result<(Rate, DriveReport)> {
    cluster.drive(plan)?;
    std::thread::sleep(warm_up);
    let pids = cluster.pids();
    let mut counters = Vec::new();
    if count_calls {
        for pid in &pids {
            counters.push(SyscallCounter::attach(*pid)?);
        }
    }
    let window = Window::open(&pids)?;
    let calls_before = calls(&mut counters)?;
    let before = cluster.sample()?;
    std::thread::sleep(duration);
    let after = cluster.sample()?;
    let calls = calls(&mut counters)? - calls_before;
    let window = window.close()?;
    cluster.stop_driving()?;
    cluster.await_settled()?;
    let report = cluster.collect()?;

    let per_s = |before: &Sample, after: &Sample, count: fn(&Sample) -> u64| {
        let took_s = (after.at_ns - before.at_ns).max(1) as f64 / 1e9;
        (count(after) - count(before)) as f64 / took_s
    };
    let pairs = || before.iter().zip(&after);
    let handled: fn(&Sample) -> u64 = |sample| sample.handled;
    let answered: fn(&Sample) -> u64 = |sample| sample.answered;
    let field = if of == Of::Handled { handled } else { answered };
    // Each process's count over its own time, for the samples are not taken at one instant.
    let rate: f64 = pairs().map(|(before, after)| per_s(before, after, field)).sum();
    let count: u64 = pairs().map(|(before, after)| field(after) - field(before)).sum();
    // The second sample, of the first node, has all CPU times.
    let (clocks_before, clocks_after) = (&before[1], &after[1]);
    let took_ns = (clocks_after.at_ns - clocks_before.at_ns).max(1) as f64;
    let cpu_shares: Vec<f64> = clocks_before
        .cpu_ns
        .iter()
        .zip(&clocks_after.cpu_ns)
        .map(|(before, after)| (after - before) as f64 / took_ns)
        .collect();
    let allocations: u64 =
        pairs().map(|(before, after)| after.allocations - before.allocations).sum();
    let each = |what: u64| what as f64 / count.max(1) as f64;
    let switches = window.switches();
    let rate = Rate {
        count,
        per_s: rate,
        per_cpu_s: rate / cpu_shares.iter().sum::<f64>().max(1e-9),
        cpu_shares,
        allocs_per_msg: each(allocations),
        syscalls_per_msg: count_calls.then(|| each(calls)),
        switches_per_msg: each(switches.voluntary + switches.involuntary),
        window,
    };
    Ok((rate, report))
}

fn calls(counters: &mut [SyscallCounter]) -> Result<u64> {
    counters.iter_mut().map(SyscallCounter::count).sum()
}

/// What an open-loop load met with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PacedRun {
    /// From the due time to the handler, of tells.
    #[serde(with = "histogram::text")]
    pub latency: Histogram<u64>,
    /// Tells that were handled per second of the planned time.
    pub handled_per_s: f64,
    /// Of the driver and all nodes.
    pub window: WindowReport,
    /// Why it is void.
    pub void: Option<String>,
}

/// Runs an open-loop plan to its end. The plan's start and warm-up are set here.
pub fn paced(
    cluster: &mut Cluster,
    mut plan: Paced,
    warm_up: Duration,
) -> Result<(PacedRun, DriveReport)> {
    plan.start_ns = now_ns() + LEAD_TIME.as_nanos() as u64;
    plan.warm_up_ends_ns = plan.start_ns + warm_up.as_nanos() as u64;
    cluster.take_latencies(plan.warm_up_ends_ns)?;
    let duration = Duration::from_nanos(plan.duration_ns);
    let pids = cluster.pids();
    let window = Window::open(&pids)?;
    let before = cluster.sample()?;
    cluster.drive(LoadPlan::Paced(plan))?;
    cluster.await_finished(duration * 2 + Duration::from_secs(5))?;
    let after = cluster.sample()?;
    let window = window.close()?;
    cluster.await_settled()?;
    let latency = cluster.take_latencies(0)?;
    let report = cluster.collect()?;
    let handled: u64 =
        before.iter().zip(&after).map(|(before, after)| after.handled - before.handled).sum();
    let run = PacedRun {
        latency,
        handled_per_s: handled as f64 / duration.as_secs_f64(),
        window,
        void: report.lag_void.clone(),
    };
    Ok((run, report))
}
