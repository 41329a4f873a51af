//! How much memory a node takes, as its system counts it.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "only the start of a node is needed")]
mod process;

use process::{Process, ReadyNode};

const MIB: u64 = 1 << 10;

#[test]
fn a_hundred_workers_start_in_less_than_400_mib() {
    let node = Process::node("wide", &["--set", "workers.count=100"]);
    let node = ReadyNode::wait("wide", node);
    let peak = node.process.peak_kib();
    println!("100 workers: {} MiB", peak / MIB);
    assert!(peak < 400 * MIB, "{} MiB", peak / MIB);
}
