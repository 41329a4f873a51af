//! A member that lives a thousand times: it joins by way of another node, serves a path, and leaves,
//! or falls silent and starts anew. The control of the node that stays grows by less than 256 KiB
//! over a thousand lives of one name. Two deciders over a network in memory, whose time is a number; in a process of its
//! own, whose memory is looked at.

mod controls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use controls::Hears;
use keyway::base::{MemberState, Time};
use keyway::control::{Control, ControlTimer};
use keyway::member::LocalMember;
use keyway::route::snapshot::Snapshot;
use keyway::route::{RouterSpec, StrategyKind};
use keyway::wire::ClusterKey;
use keyway::worker::{Command, Drained, Report};
use keyway::{
    HandlerId, HashSeed, Incarnation, LayoutHash, MessageType, Placed, Service, WorkerIndex,
};

const KIB: u64 = 1 << 10;
const TIMES: u64 = 1_000;
const WARM: u64 = 60;
const PATH: &str = "/lives/sink";
/// The node that stays, and the one that comes and goes.
const STAYS: usize = 0;
const COMES: usize = 1;

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, node as u8 + 1], 7_400).into()
}

/// Whether the node has left.
#[derive(Default)]
struct Left(bool);

impl Hears for Left {
    fn left(&mut self, drained: bool) {
        assert!(drained);
        self.0 = true;
    }
}

type Collected = controls::Collected<Left>;

/// The control of a node in its so manieth life; all nodes serve the same path.
fn control(node: usize, life: u64, key: &ClusterKey) -> Control {
    let service = Service {
        path: PATH.parse().unwrap(),
        handler: HandlerId(0),
        placed: Placed::EVERY,
        messages: vec![MessageType::new("lives.item", LayoutHash(1))],
    };
    let local = LocalMember {
        name: format!("node-{node}").into(),
        address: address(node),
        incarnation: Incarnation(life),
        workers: 2,
        weight: 100,
        roles: Default::default(),
        metadata: Default::default(),
        app_version: "1".into(),
        services: vec![service],
    };
    controls::control(local, address(STAYS), key, life)
}

enum Input {
    Datagram(SocketAddr, Vec<u8>),
    Timer(ControlTimer),
    Drained(WorkerIndex, u64),
}

struct Net {
    key: ClusterKey,
    /// With the life that each is in; none while it is away.
    controls: [Option<(u64, Control)>; 2],
    now: Time,
    next: u64,
    /// By time and number: what comes to which life of which node.
    due: BTreeMap<(Time, u64), (usize, u64, Input)>,
    has_left: bool,
    shown: Option<Arc<Snapshot>>,
}

impl Net {
    fn new() -> Self {
        let key = ClusterKey::new("lives", Some(b"a secret of enough bytes")).unwrap();
        let due = BTreeMap::new();
        let (now, controls) = (Time::ZERO, [None, None]);
        Self { key, controls, now, next: 0, due, has_left: false, shown: None }
    }

    /// A node starts, in this life.
    fn start(&mut self, node: usize, life: u64) {
        self.controls[node] = Some((life, control(node, life, &self.key)));
        self.call(node, |control, now, out| control.start(now, out));
    }

    /// Calls a control that is there, and does what it wants.
    fn call(&mut self, node: usize, call: impl FnOnce(&mut Control, Time, &mut Collected)) {
        let Some((life, control)) = &mut self.controls[node] else { return };
        let mut out = Collected::default();
        call(control, self.now, &mut out);
        while let Some(job) = out.jobs.pop() {
            control.tables_made(job.run(), &mut out);
        }
        let mut due: Vec<(Time, usize, u64, Input)> = Vec::new();
        for (at, timer) in out.timers {
            due.push((at, node, *life, Input::Timer(timer)));
        }
        for (worker, command) in out.commands {
            if let Command::AskDrained(round) = command {
                due.push((self.now, node, *life, Input::Drained(worker, round)));
            }
        }
        for (to, bytes) in out.sent {
            let to = [STAYS, COMES].into_iter().find(|node| address(*node) == to).expect("a node");
            if let Some((life, _)) = &self.controls[to] {
                let at = self.now.plus(Duration::from_millis(1));
                due.push((at, to, *life, Input::Datagram(address(node), bytes)));
            }
        }
        for (at, node, life, input) in due {
            self.due.insert((at, self.next), (node, life, input));
            self.next += 1;
        }
        self.has_left |= out.heard.0;
        if node == STAYS {
            self.shown = out.published.pop().or(self.shown.take());
        }
    }

    /// Lets the next thing happen.
    fn step(&mut self) {
        let ((at, _), (node, life, input)) = self.due.pop_first().expect("timers go on");
        self.now = self.now.max(at);
        if self.controls[node].as_ref().is_none_or(|(lives, _)| *lives != life) {
            return;
        }
        self.call(node, |control, now, out| match input {
            Input::Datagram(from, bytes) => control.datagram(now, from, &bytes, out),
            Input::Timer(timer) => control.timer(now, timer, out),
            Input::Drained(worker, round) => {
                let answer = Drained { round, handled: 0, undrained: None };
                control.report(now, Report::Drained(worker, answer), out);
            }
        });
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now.plus(Duration::from_secs(60));
        while !holds(self) {
            assert!(self.now < end, "not within a minute: {what}");
            self.step();
        }
    }

    /// How the node that stays sees the other one: its life, whether it is there and answers.
    fn seen(&self) -> Option<(u64, MemberState, bool)> {
        let (_, control) = self.controls[STAYS].as_ref()?;
        let members = &control.view().members;
        let other = members.iter().find(|member| member.address == address(COMES))?;
        Some((other.incarnation.0, other.state, other.reachable))
    }

    /// One life of the node that comes and goes.
    fn live(&mut self, life: u64) {
        self.start(COMES, life);
        self.until("it is a member", |net| net.seen() == Some((life, MemberState::Up, true)));
        match life % 3 {
            0 => {
                self.has_left = false;
                self.call(COMES, |control, now, out| control.leave(now, out));
                self.until("it has left", |net| net.has_left);
            }
            1 => {
                self.controls[COMES] = None;
                self.until("it is found silent", |net| net.seen().is_none_or(|seen| !seen.2));
            }
            // It is there again before anybody misses it.
            _ => {}
        }
        self.controls[COMES] = None;
    }
}

#[test]
fn a_thousand_lives_of_a_member_leave_nothing_behind() {
    let mut net = Net::new();
    net.start(STAYS, 1);
    net.call(STAYS, |control, _, out| {
        let (path, kind) = (PATH.parse().unwrap(), StrategyKind::ConsistentHash);
        control.route(RouterSpec::new(path, kind, HashSeed(1)), out).unwrap();
    });
    // What grows to its size does so in these.
    (1..=WARM).for_each(|life| net.live(life));
    let before = resident();
    (1..=TIMES).for_each(|life| net.live(WARM + life));
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more after {TIMES} lives, {:?}", net.now);
    assert!(grown <= 256 * KIB, "{grown} bytes more");
    let shown = net.shown.expect("something is shown");
    let slots = shown.destinations.slots().len();
    assert!(slots <= 4, "{slots} destinations for the workers of two nodes");
}
