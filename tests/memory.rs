//! How much memory a node takes, as its system counts it.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "few of its helpers are needed")]
mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyway::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
use keyway::config::NodeConfig;
use keyway::wire::handshake::{ANY_INCARNATION, ANY_NODE, DialParams, DialStep, Dialer};
use keyway::wire::{
    Chunk, ClusterKey, Fields, FrameKind, HEADER_BYTES, VersionRange, encode_empty,
};
use keyway::{Context, Handler, Message, Node, NodeRef, Refusal, Routee, WorkerIndex};
use process::{LIMIT, Process, ReadyNode};
use rkyv::{Archive, Deserialize, Serialize};

/// In KiB.
const MIB: u64 = 1 << 10;

/// The most memory a process has had, in KiB, as the system counts it.
fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_hundred_workers_start_in_less_than_300_mib() {
    let node = Process::node("wide", &["--set", "workers.count=100"]);
    let node = ReadyNode::wait("wide", node);
    let peak = peak_kib(node.process.child.id());
    println!("100 workers: {} MiB", peak / MIB);
    assert!(peak < 300 * MIB, "{} MiB", peak / MIB);
}

// ---- a client that announces much ----

const SECRET: &str = "a secret of enough bytes";
const LINKS: u16 = 1_000;
const ANNOUNCED: usize = 1 << 20;

/// A link as a peer's worker has it.
fn link(address: &str, from_worker: u16) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let params = DialParams {
        key: ClusterKey::new("keyway", Some(SECRET.as_bytes())).unwrap(),
        me: NodeRef { node: NodeId::from_name("attacker"), incarnation: Incarnation(1) },
        from_worker: WorkerIndex(from_worker),
        to: NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION },
        to_worker: WorkerIndex(0),
        link_epoch: 1,
        versions: VersionRange::SUPPORTED,
    };
    let (mut dialer, hello) = Dialer::new(params, [7; 32]);
    stream.write_all(&hello).unwrap();
    loop {
        let mut bytes = vec![0; dialer.expects()];
        stream.read_exact(&mut bytes).unwrap();
        match dialer.receive(&bytes).unwrap() {
            DialStep::More => {}
            DialStep::Send(answer) => stream.write_all(&answer).unwrap(),
            DialStep::Done(_) => return stream,
        }
    }
}

/// The peak once it has not risen for half a second.
fn settled_peak(node: &ReadyNode) -> u64 {
    let (mut peak, mut since) = (peak_kib(node.process.child.id()), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(50));
        let now = peak_kib(node.process.child.id());
        if now > peak {
            (peak, since) = (now, Instant::now());
        }
    }
    peak
}

#[test]
fn what_a_client_announces_takes_no_memory_before_it_comes() {
    let node = ReadyNode::start("announced", &["--set", &format!("secret={SECRET}")]);
    let before = settled_peak(&node);
    let mut links: Vec<_> = (0..LINKS).map(|from| link(&node.address, from)).collect();
    let mut frame = Chunk::with_capacity(ANNOUNCED);
    let (fields, body) = (Fields::default(), vec![7; ANNOUNCED - HEADER_BYTES]);
    encode_empty(&mut frame, FrameKind::Tell, &fields, MessageTypeId(1), HandlerId(1), &body)
        .unwrap();
    let (header, rest) = frame.bytes().split_at(HEADER_BYTES);
    for link in &mut links {
        link.write_all(header).unwrap();
    }
    let announced = settled_peak(&node) - before;
    for link in &mut links {
        link.write_all(&rest[..32 << 10]).unwrap();
    }
    let sent = settled_peak(&node) - before;
    println!("{LINKS} links: {} MiB, with 32 KiB on each {} MiB", announced / MIB, sent / MIB);
    for link in &mut links {
        link.set_nonblocking(true).unwrap();
        let error = link.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it is still a link");
    }
    assert!(announced < 48 * MIB, "{} MiB for headers", announced / MIB);
    assert!(sent < 160 * MIB, "{} MiB for 32 MiB", sent / MIB);
}

// ---- more than a handler can take ----

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "memory.work")]
struct Work {
    body: Vec<u8>,
}

#[derive(Routee)]
#[routee(handles(Work))]
struct Slow;

impl Handler<Work> for Slow {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "the process that another test measures"]
fn an_overloaded_node() {
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().unwrap();
    node.serve("/user/slow", |_| Slow).unwrap();
    let router = node.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let work = Work { body: vec![7; 8 << 10] };
                let mut refused = 0;
                while !over.load(Ordering::Relaxed) {
                    if let Err(refusal) = router.tell(&work) {
                        assert_eq!(refusal, Refusal::QueueFull);
                        refused += 1;
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
                assert!(refused > 0, "nobody was told that it is too much");
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
    });
    println!("peak_kib {}", peak_kib(std::process::id()));
}

#[test]
fn under_overload_a_node_keeps_below_the_bound_that_it_prints() {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", "an_overloaded_node", "--ignored", "--nocapture"];
    let output = Command::new(this).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, peak) = said.split_once("peak_kib ").unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    let mut config = NodeConfig::default();
    config.workers.count = 2;
    let bound = config.memory_bound_bytes(0) >> 10;
    println!("overloaded: {} of at most {} MiB", peak / MIB, bound / MIB);
    assert!(peak < bound, "{} MiB, more than {}", peak / MIB, bound / MIB);
}
