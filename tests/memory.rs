//! How much memory a node takes, as its system counts it.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "few of its helpers are needed")]
mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyway::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
use keyway::config::NodeConfig;
use keyway::wire::handshake::{ANY_INCARNATION, ANY_NODE, DialParams, DialStep, Dialer, Purpose};
use keyway::wire::{
    Chunk, ClusterKey, Fields, FrameKind, HEADER_BYTES, VersionRange, datagram, encode_empty,
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

/// Runs one of the tests that are ignored in a process of its own, and gives what it measured.
fn measured(test: &str) -> u64 {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", test, "--ignored", "--nocapture"];
    let output = Command::new(this).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, grown) = said.split_once("peak_kib ").unwrap();
    grown.split_whitespace().next().unwrap().parse().unwrap()
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
        purpose: Purpose::Workers,
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

/// Holds its worker until it is told not to.
#[derive(Routee)]
#[routee(handles(Work))]
struct Stuck(Arc<AtomicBool>);

impl Handler<Work> for Stuck {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A worker that is held up takes no links: what its ring takes waits there, and a few behind it.
#[test]
fn links_behind_a_worker_that_is_held_up_are_turned_away() {
    const RING: u64 = 64;
    let node = Node::builder().bind("127.0.0.1:0").secret(SECRET).workers(1);
    let node = node.set("workers.ring_capacity", &RING.to_string()).start().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    node.serve("/user/stuck", move |_| Stuck(Arc::clone(&until))).unwrap();
    let router = node.router("/user/stuck").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    router.tell(&Work { body: Vec::new() }).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let address = node.address().to_string();
    let links: Vec<_> = (0..400).map(|from| link(&address, from)).collect();
    let closed = |link: &TcpStream| {
        link.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        matches!((&mut &*link).read(&mut [0; 64]), Ok(0))
    };
    let open = || links.iter().filter(|link| !closed(link)).count() as u64;
    let begun = Instant::now();
    while open() + node.strangers().turned_away < 400 {
        assert!(begun.elapsed() < LIMIT, "{} are open", open());
    }
    let (waiting, strangers) = (open(), node.strangers());
    assert_eq!((strangers.accepted, strangers.turned_away), (waiting, 400 - waiting));
    assert!((RING..=RING + 64).contains(&waiting), "{waiting} wait");
    over.store(true, Ordering::Relaxed);
    // Those that waited become links, and then another one finds room.
    let finds_room = (400..).any(|from| {
        assert!(begun.elapsed() < LIMIT, "nobody is let in any more");
        let another = link(&address, from);
        std::thread::sleep(Duration::from_millis(100));
        !closed(&another)
    });
    assert!(finds_room);
    assert_eq!(open(), waiting);
}

#[test]
#[ignore = "the process that another test measures"]
fn an_overloaded_node() {
    let node = small(None);
    node.serve("/user/slow", |_| Slow).unwrap();
    let router = node.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let before = peak_kib(std::process::id());
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
    println!("peak_kib {}", peak_kib(std::process::id()) - before);
}

/// Only messages that go nowhere but to the node's own workers are there: no row counts but theirs.
#[test]
fn under_overload_a_node_keeps_below_the_rows_that_its_own_messages_fill() {
    let grown = measured("an_overloaded_node");
    let bound = small_config().memory_bound(0);
    let rows = bound.hand_overs_bytes + bound.links_bytes + bound.rings_bytes + bound.free_bytes;
    let rows = rows >> 10;
    println!("overloaded: {grown} of at most {rows} KiB, {bound}");
    assert!(grown < rows, "{grown} KiB, more than {rows}");
}

// ---- every way in at once ----

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "memory.question", reply = Vec<u8>)]
struct Question {
    body: Vec<u8>,
}

/// Passes on what it gets to a slow routee of its node, and replies with as much.
#[derive(Routee)]
#[routee(handles(Question))]
struct Passes(keyway::Router);

impl Handler<Question> for Passes {
    type Reply = Vec<u8>;
    fn handle(&mut self, question: &ArchivedQuestion, cx: &mut Context<'_>) -> Vec<u8> {
        let body = question.body.to_vec();
        for _ in 0..4 {
            let _ = cx.tell(&self.0, &Work { body: body.clone() });
        }
        body
    }
}

/// Small, so that whatever is not bounded shows.
fn small(seed: Option<&Node>) -> Node {
    let mut builder = Node::builder().bind("127.0.0.1:0").workers(2);
    for (path, value) in SMALL {
        builder = builder.set(path, value);
    }
    if let Some(seed) = seed {
        builder = builder.seed(seed.address());
    }
    builder.start().unwrap()
}

const SMALL: [(&str, &str); 14] = [
    ("workers.inject_capacity", "256"),
    ("workers.inject_bytes", "1048576"),
    ("workers.ring_capacity", "64"),
    ("workers.ring_bytes", "262144"),
    ("workers.max_asks", "4096"),
    ("workers.retry_bytes", "1048576"),
    ("workers.replies_bytes", "1048576"),
    ("links.max_frame_bytes", "65536"),
    ("links.outbox_bytes", "262144"),
    ("links.outboxes_bytes", "1048576"),
    ("links.inbox_bytes", "65536"),
    ("links.inboxes_bytes", "1048576"),
    ("links.max_accepted", "64"),
    ("watch.max_watches", "16"),
];

fn small_config() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.workers.count = 2;
    for (path, value) in SMALL {
        config.set(path, value).unwrap();
    }
    config
}

/// Tells and asks of one thread as fast as it goes; asks are held and never looked at.
fn press(to: &keyway::Router, asked: &keyway::Router, over: &AtomicBool) {
    let work = Work { body: vec![7; 20_000] };
    let question = Question { body: vec![7; 20_000] };
    let mut held = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let told = to.tell(&work).is_ok();
        let ask = asked.ask(&question).within(LIMIT);
        let ask = if held.len() % 2 == 0 { ask.idempotent() } else { ask };
        if held.len() < 4_000 {
            held.push(ask.into_future());
        }
        if !told {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

#[test]
#[ignore = "the process that another test measures"]
fn an_overloaded_pair() {
    let here = small(None);
    let there = small(Some(&here));
    for node in [&here, &there] {
        node.serve("/user/slow", |_| Slow).unwrap();
        let slow = node.router("/user/slow").build().unwrap();
        slow.wait_ready(1, LIMIT).unwrap();
        node.serve("/user/passes", move |_| Passes(slow.clone())).unwrap();
    }
    let routers = [&here, &there].map(|node| {
        let slow = node.router("/user/slow").build().unwrap();
        let passes = node.router("/user/passes").build().unwrap();
        slow.wait_ready(4, LIMIT).unwrap();
        passes.wait_ready(4, LIMIT).unwrap();
        (slow, passes)
    });
    let before = peak_kib(std::process::id());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (slow, passes) in routers.iter().cycle().take(8) {
            scope.spawn(|| press(slow, passes, &over));
        }
        std::thread::sleep(Duration::from_secs(2));
        // Idempotent asks go on to a peer that is not there any more.
        there.stop().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
    });
    println!("peak_kib {}", peak_kib(std::process::id()) - before);
}

#[test]
fn tells_asks_siblings_and_peers_together_keep_below_the_bound() {
    let grown = measured("an_overloaded_pair");
    let bound = 2 * (small_config().memory_bound_bytes(1) >> 10);
    println!("a pair, overloaded: {} of at most {} MiB", grown / MIB, bound / MIB);
    assert!(grown < bound, "{} MiB, more than {}", grown / MIB, bound / MIB);
}

// ---- what members say ----

/// The memory of this process that is in use, in KiB.
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Words of the longest kind under ever more keys, said by a member for itself and for the other.
#[test]
#[ignore = "the process that another test measures"]
fn a_member_that_says_ever_more() {
    const PART: u8 = 2;
    const WORD: usize = 256;
    let node = Node::builder().bind("127.0.0.1:0").secret(SECRET).workers(1).start().unwrap();
    let member = Node::builder().bind("127.0.0.1:0").secret(SECRET).workers(1);
    let member = member.seed(node.address()).start().unwrap();
    assert!(node.wait_members(2, LIMIT));
    let key = ClusterKey::new("keyway", Some(SECRET.as_bytes())).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = || node.strangers().datagrams.taken;
    let (before, first) = (resident_kib(), taken());
    let (mut number, mut datagram) = (0_u64, Vec::new());
    let begun = Instant::now();
    while taken() - first < 2_000 {
        assert!(begun.elapsed() < LIMIT, "{} taken", taken() - first);
        let mut payload = Vec::new();
        while payload.len() < 16_000 {
            let of = if number % 2 == 0 { member.id() } else { node.id() };
            payload.extend(of.node.0.to_le_bytes());
            payload.extend(of.incarnation.0.to_le_bytes());
            payload.extend((number as u32).to_le_bytes());
            payload.extend(number.to_le_bytes());
            payload.extend((WORD as u16).to_le_bytes());
            payload.extend([7; WORD]);
            number += 1;
        }
        datagram::seal(&key, member.id(), PART, &payload, &mut datagram).unwrap();
        socket.send_to(&datagram, node.address()).unwrap();
        std::thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(node.strangers().datagrams.malformed, 0);
    println!("peak_kib {}", resident_kib().saturating_sub(before));
}

#[test]
fn what_members_say_keeps_below_its_bound() {
    let grown = measured("a_member_that_says_ever_more");
    // Two nodes are measured; a process takes its memory in pieces.
    let bound = 2 * (NodeConfig::default().memory_bound(1).gossip_bytes >> 10) + MIB;
    println!("2,000 datagrams of words: {grown} of at most {bound} KiB");
    assert!(grown <= bound, "{grown} KiB, more than {bound}");
}
