//! The shape of `--json FILE`: one summary per run, units in the names of the keys.
//!
//! Scripts depend on these keys. A part that a command did not measure is `null`, never
//! zero, so that "not measured" cannot be read as a result.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Result};

/// Everything that one run found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The commit that was measured, with `-dirty` when the tree had changes.
    pub commit: String,
    /// Why the run must not be quoted, or `null` when it may be.
    pub void: Option<String>,
    /// What was set up.
    pub setting: Setting,
    /// The machine's limits, measured in the same run.
    pub floor: Option<Floor>,
    /// Keyed one-way messages.
    pub oneway: Option<Oneway>,
    /// Asks with one in flight.
    pub ask: Option<Ask>,
    /// Asks with 64 in flight.
    pub ask64: Option<Ask64>,
    /// Where every message went.
    pub accounting: Option<Accounting>,
    /// What happened to the cluster on purpose, and what it cost.
    pub events: Option<Vec<Event>>,
    /// The scaling curve.
    pub scale: Option<Vec<ScalePoint>>,
    /// One entry per routing pattern.
    pub patterns: Option<Vec<Pattern>>,
}

impl Summary {
    /// Writes the summary as readable JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let attempt = format!("write the summary to {}", path.display());
        let mut text = serde_json::to_string_pretty(self).attempting(&attempt)?;
        text.push('\n');
        std::fs::write(path, text).attempting(&attempt)
    }
}

/// The setting of a run; part of every headline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Cluster nodes; 0 when no cluster ran.
    pub nodes: u32,
    /// Worker cores given to each node.
    pub cores_per_node: u32,
    /// Payload bytes per message, without the frame header.
    pub payload_bytes: u32,
    /// Operating system processes that took part, without the coordinating one.
    pub processes: u32,
    /// Whether every measured thread was bound to one core.
    pub pinned: bool,
}

/// What the machine can do at most, by stripped programs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// F1: round trip of one frame between two processes that block in epoll, median.
    pub echo_rtt_p50_ns: Option<u64>,
    /// F1: the same, 99th percentile.
    pub echo_rtt_p99_ns: Option<u64>,
    /// F1 with both processes spinning on `poll(0)`, median.
    pub echo_spin_rtt_p50_ns: Option<u64>,
    /// F1 with both processes spinning on `poll(0)`, 99th percentile.
    pub echo_spin_rtt_p99_ns: Option<u64>,
    /// F2: frames per second through one TCP connection.
    pub oneway_msgs_per_s: Option<f64>,
    /// F2: frames per CPU-second of both processes.
    pub oneway_msgs_per_cpu_s: Option<f64>,
    /// F3: 64-byte items per second through a single-producer ring.
    pub spsc_msgs_per_s: Option<f64>,
    /// F4: from the write of an eventfd to the return of the read on the other core, median.
    pub wake_p50_ns: Option<u64>,
    /// F5: 99th percentile, over milliseconds, of the longest time an idle core was away.
    pub hiccup_p99_ns: Option<u64>,
    /// F5: the longest time an idle core was away.
    pub hiccup_max_ns: Option<u64>,
    /// F6: bytes per second through one TCP connection.
    pub bulk_bytes_per_s: Option<f64>,
    /// F7: echoed frames per CPU-second of both processes, 64 in flight.
    pub echo64_per_cpu_s: Option<f64>,
}

/// Keyed one-way throughput.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Oneway {
    /// Delivered messages per second of wall time.
    pub msgs_per_s: Option<f64>,
    /// Delivered messages per CPU-second of all processes that took part.
    pub msgs_per_cpu_s: Option<f64>,
    /// `msgs_per_s` divided by the floor's.
    pub ratio_to_floor: Option<f64>,
    /// `msgs_per_cpu_s` divided by the floor's.
    pub ratio_to_floor_cpu: Option<f64>,
    /// System calls of all processes per delivered message.
    pub syscalls_per_msg: Option<f64>,
    /// Heap allocations of all processes per delivered message.
    pub allocs_per_msg: Option<f64>,
}

/// Ask latency, one in flight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Median.
    pub p50_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// 99.9th percentile; `null` below 100,000 samples.
    pub p999_ns: Option<u64>,
    /// The slowest of all.
    pub max_ns: Option<u64>,
    /// `p50_ns` divided by the floor's `echo_rtt_p50_ns`.
    pub ratio_to_floor_p50: Option<f64>,
    /// `p99_ns` divided by the floor's `echo_rtt_p99_ns`.
    pub ratio_to_floor_p99: Option<f64>,
}

/// Asks with 64 in flight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ask64 {
    /// Answered asks per second of wall time.
    pub per_s: Option<f64>,
    /// Answered asks per CPU-second of all processes that took part.
    pub per_cpu_s: Option<f64>,
    /// `per_cpu_s` divided by the floor's `echo64_per_cpu_s`.
    pub ratio_to_floor_cpu: Option<f64>,
}

/// The balance of a run: `sent = delivered + refused + dead + unknown`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// Messages handed to the sender's call.
    pub sent: u64,
    /// Messages that reached a handler.
    pub delivered: u64,
    /// Messages given back to the sender with a named reason.
    pub refused: u64,
    /// Messages that became dead letters with a reason.
    pub dead: u64,
    /// Messages on a link that was lost before they were acknowledged.
    pub unknown: u64,
    /// Messages that reached a handler more than once.
    pub duplicated: u64,
    /// Messages that overtook another of the same sender and key.
    pub reordered: u64,
    /// Messages that reached another owner than the key's.
    pub misrouted: u64,
    /// Whether the equation holds and nothing was duplicated, reordered or misrouted.
    pub balanced: bool,
}

/// Something done to the cluster while it was under load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `join`, `leave`, `kill`, `pause`, `cut`, `heal`, ...
    pub kind: String,
    /// When it was done, from the start of the measured time.
    pub at_ms: f64,
    /// The longest time in which a key that it touched had no delivery.
    pub gap_ms: Option<f64>,
    /// From the event until the last live node had noticed.
    pub detected_ms: Option<f64>,
    /// Share of the keys that changed owner.
    pub moved_keys_share: Option<f64>,
    /// Share of the keys that had to change owner.
    pub fair_share: Option<f64>,
    /// Messages without any account.
    pub lost: Option<u64>,
    /// Messages counted as unknown because a link was lost.
    pub unknown: Option<u64>,
}

/// One node count of the scaling curve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalePoint {
    /// Cluster nodes.
    pub nodes: u32,
    /// Delivered messages per second of wall time.
    pub msgs_per_s: Option<f64>,
    /// Delivered messages per CPU-second of all processes that took part.
    pub msgs_per_cpu_s: Option<f64>,
    /// 99th percentile latency from the due time.
    pub p99_ns: Option<u64>,
}

/// One routing pattern.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The pattern's name.
    pub name: String,
    /// Delivered messages per second of wall time.
    pub msgs_per_s: Option<f64>,
    /// Median latency.
    pub p50_ns: Option<u64>,
    /// 99th percentile latency.
    pub p99_ns: Option<u64>,
    /// Where every message went.
    pub accounting: Option<Accounting>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    fn assert_keys(value: impl Serialize, expected: &[&str]) {
        let value = serde_json::to_value(value).expect("serialises");
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(keys(&value), expected);
    }

    #[test]
    fn the_keys_of_setting_and_figures_are_the_published_ones() {
        assert_keys(
            Summary::default(),
            &[
                "commit",
                "void",
                "setting",
                "floor",
                "oneway",
                "ask",
                "ask64",
                "accounting",
                "events",
                "scale",
                "patterns",
            ],
        );
        assert_keys(
            Setting::default(),
            &["nodes", "cores_per_node", "payload_bytes", "processes", "pinned"],
        );
        assert_keys(
            Floor::default(),
            &[
                "echo_rtt_p50_ns",
                "echo_rtt_p99_ns",
                "oneway_msgs_per_s",
                "oneway_msgs_per_cpu_s",
                "spsc_msgs_per_s",
                "wake_p50_ns",
                "bulk_bytes_per_s",
                "echo64_per_cpu_s",
                "echo_spin_rtt_p50_ns",
                "echo_spin_rtt_p99_ns",
                "hiccup_p99_ns",
                "hiccup_max_ns",
            ],
        );
        assert_keys(
            Oneway::default(),
            &[
                "msgs_per_s",
                "msgs_per_cpu_s",
                "ratio_to_floor",
                "ratio_to_floor_cpu",
                "syscalls_per_msg",
                "allocs_per_msg",
            ],
        );
        assert_keys(
            Ask::default(),
            &["p50_ns", "p99_ns", "p999_ns", "max_ns", "ratio_to_floor_p50", "ratio_to_floor_p99"],
        );
        assert_keys(Ask64::default(), &["per_s", "per_cpu_s", "ratio_to_floor_cpu"]);
    }

    #[test]
    fn the_keys_of_accounts_events_and_scenarios_are_the_published_ones() {
        assert_keys(
            Accounting::default(),
            &[
                "sent",
                "delivered",
                "refused",
                "dead",
                "unknown",
                "duplicated",
                "reordered",
                "misrouted",
                "balanced",
            ],
        );
        assert_keys(
            Event::default(),
            &[
                "kind",
                "at_ms",
                "gap_ms",
                "detected_ms",
                "moved_keys_share",
                "fair_share",
                "lost",
                "unknown",
            ],
        );
        assert_keys(ScalePoint::default(), &["nodes", "msgs_per_s", "msgs_per_cpu_s", "p99_ns"]);
        assert_keys(Pattern::default(), &["name", "msgs_per_s", "p50_ns", "p99_ns", "accounting"]);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let text = serde_json::to_string(&Summary::default()).expect("serialises");
        assert!(text.contains(r#""void":null"#), "{text}");
        assert!(text.contains(r#""oneway":null"#), "{text}");
        let floor = serde_json::to_string(&Floor::default()).expect("serialises");
        assert_eq!(floor.matches("null").count(), 12);
    }

    #[test]
    fn a_summary_survives_the_file() {
        let summary = Summary {
            commit: "abc".into(),
            floor: Some(Floor { echo_rtt_p50_ns: Some(16_000), ..Floor::default() }),
            ..Summary::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("summary.json");
        summary.write(&path).expect("writes");
        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(serde_json::from_str::<Summary>(&text).expect("parses"), summary);
    }
}
