//! The log of the command: what it says, and that whoever reads it holds up nothing.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "few of its helpers are needed")]
mod process;

use std::io::Write;
use std::net::TcpStream;

use process::{Process, ReadyNode, eventually, node_arguments};
use rustix::process::Signal;

#[test]
fn the_log_says_where_a_node_listens_and_where_others_reach_it() {
    let node = Process::node("a", &["--advertise", "127.0.0.1:9"]);
    eventually("it listens", || node.stderr().contains("listening"));
    let log = node.stderr();
    let line = log.lines().find(|line| line.contains("listening")).unwrap();
    let (_, bound) = line.split_once(" address=127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    assert!(!bound.starts_with("9 ") && line.contains(" advertised=127.0.0.1:9 "), "{line}");
}

#[test]
fn a_reader_of_the_log_that_stalls_holds_up_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe takes.
    writer.write_all(&[b'.'; 65_536]).unwrap();
    let a = Process::start_logging_to(writer.into(), &node_arguments("a", &[]), &[]);
    let mut a = ReadyNode::wait("a", a);
    // Each is worth a line.
    let b = ReadyNode::start("b", &["--seed", &a.address]);
    TcpStream::connect(&a.address).unwrap().write_all(&[7; 100]).unwrap();
    eventually("the stranger is refused", || a.json(&["strangers"])["refused"] == 1);
    std::thread::sleep(std::time::Duration::from_secs(2));
    for node in [&a, &b] {
        assert!(!node.keyway(&["members"]).contains("unreachable"), "{}", node.name);
    }
    a.process.signal(Signal::TERM);
    assert_eq!(a.process.exit_code(), 0);
    drop(reader);
}
