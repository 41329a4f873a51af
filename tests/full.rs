//! A cluster whose places are all taken by members that have crashed: it says so before, a newcomer
//! is told by name what is wrong and what to do, and is let in once the policy has made room, without
//! a restart of anybody.
//!
//! The crashed ones are what one member, which is let in as all are, brings along of others: real
//! records, of members that do not answer. Then it falls silent as well.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "few of its helpers are needed")]
mod process;

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyway::base::{Incarnation, MemberEvent, Time, View};
use keyway::config::MembershipConfig;
use keyway::member::{
    LocalMember, MAX_RECORDS, Manual, MemberConfig, MemberFault, MemberSink, MemberTimer,
    Membership,
};
use keyway::wire::{ClusterKey, datagram};
use keyway::{JoinState, Node, NodeId, NodeRef, SeedState};
use process::{Process, ReadyNode};

const LIMIT: Duration = Duration::from_secs(120);

/// From here on there is a warning.
const EARLY: usize = MAX_RECORDS / 4 * 3;

/// Members of whom one datagram speaks.
const BATCH: usize = 60;

/// What membership sends before a list of records: what it is, its flags and who sends it.
const HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 4;
/// A request for records, and a list of them.
const REQUEST: u8 = 5;
const RECORDS: u8 = 2;
/// The flags of a list of records before which a number comes: of what it answers, or for the answer
/// to repeat.
const NUMBER: u8 = 32;
const ASKS: u8 = 128;
const NUMBER_BYTES: usize = 8;
/// The first byte of a record's entry, for a member that does not answer.
const DOWN: u8 = 2;

const LIFE: Incarnation = Incarnation(7);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn name(number: usize) -> String {
    format!("crashed-{number}")
}

/// A member's own half of membership, as its node would have it.
fn membership(number: usize, address: SocketAddr, seeds: Vec<SocketAddr>) -> Membership {
    let local = LocalMember {
        name: name(number).into(),
        address,
        incarnation: LIFE,
        workers: 1,
        weight: 100,
        roles: Default::default(),
        metadata: Default::default(),
        app_version: "".into(),
        services: Vec::new(),
    };
    let config = MemberConfig { seeds, settings: MembershipConfig::default() };
    Membership::new(config, local, Box::new(Manual), number as u64).unwrap()
}

/// What a membership wants sent, and its timers.
#[derive(Default)]
struct Wishes {
    sent: Vec<(SocketAddr, Vec<u8>)>,
    timers: Vec<MemberTimer>,
}

impl MemberSink for Wishes {
    fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        self.sent.push((to, payload.to_vec()));
    }
    fn schedule(&mut self, _: Time, timer: MemberTimer) {
        self.timers.push(timer);
    }
    fn view_changed(&mut self, _: &Arc<View>, _: &[MemberEvent]) {}
    fn fault(&mut self, fault: MemberFault) {
        panic!("{fault}");
    }
}

/// The entry of a member that was up and does not answer any more, at an address where nobody is.
fn crashed(number: usize) -> Vec<u8> {
    let address = SocketAddr::from(([127, 1, (number / 250) as u8, (number % 250) as u8], 9));
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    // Being a seed itself it is up at once, and says so when it calls its seeds again.
    let mut member = membership(number, address, vec![address, elsewhere]);
    let mut wishes = Wishes::default();
    member.start(Time::ZERO, &mut wishes);
    let later = Time(Duration::from_secs(60).as_nanos() as u64);
    for timer in std::mem::take(&mut wishes.timers) {
        member.handle_timer(later, timer, &mut wishes);
    }
    let mut calls = wishes.sent.into_iter().filter(|(to, _)| *to == elsewhere);
    let mut call = calls.next_back().unwrap().1;
    assert_ne!(call[1] & ASKS, 0, "a call at a seed has a number");
    let mut entry = call.split_off(HEADER_BYTES + NUMBER_BYTES);
    entry[0] = DOWN;
    entry
}

/// The member that speaks of the others.
struct Speaker {
    socket: UdpSocket,
    key: ClusterKey,
    me: NodeRef,
    holder: SocketAddr,
    /// Who it is, as its datagrams say behind their kind and flags.
    sender: Vec<u8>,
    /// With which number it was asked for records, and when.
    asked: Cell<Option<(Instant, u64)>>,
    /// Of each of the others.
    entries: Vec<Vec<u8>>,
}

impl Speaker {
    /// Joins by this node, as every node does.
    fn join(holder: &ReadyNode) -> Self {
        let address: SocketAddr = holder.address.parse().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut speaker = Self {
            me: NodeRef { node: NodeId::from_name(&name(0)), incarnation: LIFE },
            socket,
            key: ClusterKey::new("keyway", None).unwrap(),
            holder: address,
            sender: Vec::new(),
            asked: Cell::new(None),
            entries: (1..MAX_RECORDS - 1).map(crashed).collect(),
        };
        let own = speaker.socket.local_addr().unwrap();
        let mut member = membership(0, own, vec![address]);
        let (mut wishes, began) = (Wishes::default(), Instant::now());
        member.start(Time::ZERO, &mut wishes);
        speaker.sender = wishes.sent[0].1[2..HEADER_BYTES].to_vec();
        let mut buffer = vec![0; datagram::MAX_DATAGRAM_LEN];
        while count(holder) != 2 {
            assert!(began.elapsed() < LIMIT, "it is not let in");
            wishes.sent.drain(..).for_each(|(to, payload)| speaker.send(to, &payload));
            let Ok((bytes, from)) = speaker.socket.recv_from(&mut buffer) else { continue };
            let payload = datagram::open(&speaker.key, &buffer[..bytes]).unwrap().payload;
            let now = Time(began.elapsed().as_nanos() as u64);
            member.handle_datagram(now, from, payload, &mut wishes).unwrap();
        }
        speaker
    }

    fn send(&self, to: SocketAddr, payload: &[u8]) {
        let mut sealed = Vec::new();
        datagram::seal(&self.key, self.me, datagram::MEMBERSHIP, payload, &mut sealed).unwrap();
        self.socket.send_to(&sealed, to).unwrap();
    }

    /// Speaks of some of the others: with the number of a request, since the holder takes nobody
    /// else's word of others for granted.
    fn speak(&self, of: Range<usize>) {
        for entries in self.entries[of].chunks(BATCH) {
            let asked = self.asked.get().filter(|(at, _)| at.elapsed() < Duration::from_secs(3));
            let (flags, number) = match asked {
                Some((_, number)) => (NUMBER, number.to_le_bytes().to_vec()),
                None => (0, Vec::new()),
            };
            let parts = [&[RECORDS, flags], &self.sender[..], &number, &entries.concat()];
            self.send(self.holder, &parts.concat());
            // No more than the holder's socket keeps while it looks at them.
            std::thread::sleep(Duration::from_millis(10));
            if asked.is_none() {
                self.listen();
            }
        }
    }

    /// Reads what has come for the number of a request.
    fn listen(&self) {
        let mut buffer = vec![0; datagram::MAX_DATAGRAM_LEN];
        while let Ok((bytes, _)) = self.socket.recv_from(&mut buffer) {
            let payload = datagram::open(&self.key, &buffer[..bytes]).unwrap().payload;
            if payload[0] == REQUEST {
                let number = payload[HEADER_BYTES..][..NUMBER_BYTES].try_into().unwrap();
                self.asked.set(Some((Instant::now(), u64::from_le_bytes(number))));
            }
        }
    }

    /// Speaks of them until the holder has every place taken.
    fn fill(&self, holder: &ReadyNode) {
        eventually("every place is taken", || {
            self.speak(0..self.entries.len());
            count(holder) == MAX_RECORDS
        });
    }
}

/// How many members a node sees.
fn count(node: &ReadyNode) -> usize {
    node.json(&["members"])["members"].as_array().unwrap().len()
}

/// What a newcomer is to be told of its only seed.
fn full(seed: SocketAddr) -> JoinState {
    JoinState::Joining { seeds: vec![(seed, SeedState::Full)] }
}

fn newcomer(name: &str, seed: SocketAddr) -> Node {
    let builder = Node::builder().name(name).bind("127.0.0.1:0").workers(1);
    builder.spin(Duration::ZERO).seed(seed).start().unwrap()
}

fn names(node: &Node) -> Vec<String> {
    node.view().members.iter().map(|member| member.name.to_string()).collect()
}

/// The value of a line of `/metrics`.
fn metric(node: &ReadyNode, line: &str) -> Option<u64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(&node.admin).unwrap();
    let head =
        format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", node.admin);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let found = answer.lines().find_map(|found| found.strip_prefix(line))?;
    found.trim().parse().ok()
}

#[test]
fn a_cluster_that_fills_warns_early() {
    let holder = ReadyNode::start("holder", &[]);
    let speaker = Speaker::join(&holder);
    // The speaker lists nobody: after a while the holder says so, and is not healthy for that alone.
    let run =
        |more: &[&str]| process::run(&[&["health", "--admin", &holder.admin], more].concat()).1;
    let health = || -> serde_json::Value { serde_json::from_str(&run(&["--json"])).unwrap() };
    // With less there is no warning.
    eventually("nearly three quarters are taken", || {
        speaker.speak(0..EARLY - 3);
        count(&holder) == EARLY - 1
    });
    assert_eq!(health()["warning"], serde_json::Value::Null);
    assert!(!holder.process.stderr().contains("of at most"));
    // Three quarters are taken: there is one, in time.
    eventually("it warns", || {
        speaker.speak(EARLY - 3..EARLY - 2);
        health()["warning"].is_string()
    });
    assert_eq!(count(&holder), EARLY);
    let report = health();
    let warning = report["warning"].as_str().unwrap();
    for part in ["of at most 4096 members", "keyway down", "\"remove-after\""] {
        assert!(warning.contains(part), "{warning}");
    }
    let is_listed = report["joining"].is_null();
    assert_eq!(report["healthy"], is_listed, "a warning is no failure");
    eventually("a holder with much to do answers", || run(&[]).contains("of at most 4096 members"));
    eventually("the log warns", || holder.process.stderr().contains("of at most 4096 members"));
    assert_eq!(metric(&holder, "keyway_members_limit"), Some(MAX_RECORDS as u64));
    let crashed = metric(&holder, "keyway_members{state=\"up\",reachable=\"false\"}");
    // All but the holder; the speaker lives.
    assert_eq!(crashed, Some(EARLY as u64 - 2));
}

#[test]
fn a_full_cluster_that_removes_who_is_gone_lets_a_newcomer_in_by_itself() {
    let policy = ["membership.partition_policy=remove-after", "membership.remove_after_ms=40000"];
    let holder = ReadyNode::start("holder", &["--set", policy[0], "--set", policy[1]]);
    let address: SocketAddr = holder.address.parse().unwrap();
    let speaker = Speaker::join(&holder);
    speaker.fill(&holder);
    drop(speaker);
    let newcomer = newcomer("newcomer", address);
    let process = Process::node("process", &["--seed", &holder.address]);
    eventually("the newcomer is told", || newcomer.join_state() == full(address));
    eventually("it is let in", || newcomer.join_state() == JoinState::Joined);
    eventually("the process is let in", || process.stdout().ends_with('\n'));
    let process = ReadyNode::wait("process", process);
    let all = ["holder", "newcomer", "process"];
    eventually("only those who live are members", || {
        let mut known = names(&newcomer);
        known.sort();
        known == all && count(&holder) == all.len() && count(&process) == all.len()
    });
    // All three answered all the time.
    assert!(!holder.process.stderr().contains("unreachable: newcomer"));
    // Until now the only one that said anything of the holder was the speaker, which lists nobody.
    eventually("the holder is seen to be listed", || {
        process::run(&["health", "--admin", &holder.admin]).0 == 0
    });
    assert_eq!(holder.json(&["health"])["warning"], serde_json::Value::Null);
    assert_eq!(
        (holder.json(&["ask", "counter", "k"])["count"].clone(), newcomer.end()),
        (1.into(), None)
    );
}
