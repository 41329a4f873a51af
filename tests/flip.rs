//! What it costs a node's control that one of a hundred members falls silent, or answers again:
//! membership, destinations, the masks of its routers, the snapshot, commands to workers, events,
//! parts and lines of the log; all that happens before the next datagram is looked at. The real
//! deciders of a hundred nodes, over a network in memory with a clock of its own.
//!
//! `cargo test --release --test flip -- --nocapture` prints the figures.

mod controls;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use controls::Hears;
use keyway::base::{
    HandlerId, Incarnation, LayoutHash, MemberEvent, MessageType, Placed, Service, Time,
};
use keyway::control::{Control, ControlTimer, LogLine};
use keyway::member::LocalMember;
use keyway::route::{RouterSpec, StrategyKind};
use keyway::wire::ClusterKey;
use keyway::worker::Command;

const NODES: usize = 100;
/// The node whose control is looked at; it is in the middle of everything like any other.
const SEEN: usize = 7;

fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, node as u8], 7_400).into()
}

/// What is told of a call.
#[derive(Default)]
struct Told {
    events: Vec<MemberEvent>,
    lines: Vec<LogLine>,
}

impl Hears for Told {
    fn events(&mut self, events: &[MemberEvent]) {
        self.events.extend_from_slice(events);
    }
    fn line(&mut self, line: LogLine) {
        self.lines.push(line);
    }
}

type Collected = controls::Collected<Told>;

/// What each node has.
#[derive(Clone, Copy)]
struct Each {
    workers: u16,
    services: u32,
    messages: u32,
    routers: usize,
}

fn service(number: u32, messages: u32) -> Service {
    let message = |m| MessageType::new(&format!("flip.m{number}_{m}"), LayoutHash(1));
    Service {
        path: format!("/user/service-{number}").parse().unwrap(),
        handler: HandlerId(number),
        placed: Placed::EVERY,
        messages: (0..messages).map(message).collect(),
    }
}

fn control(node: usize, each: Each, key: &ClusterKey) -> Control {
    let local = LocalMember {
        name: format!("node-{node}").into(),
        address: address(node),
        incarnation: Incarnation(1),
        workers: each.workers,
        weight: 100,
        roles: Default::default(),
        metadata: Default::default(),
        app_version: "1".into(),
        services: (0..each.services).map(|number| service(number, each.messages)).collect(),
    };
    controls::control(local, address(0), key, node as u64)
}

enum Input {
    Start,
    Datagram(SocketAddr, Vec<u8>),
    Timer(ControlTimer),
}

/// A flip as the node that is looked at saw it.
struct Flip {
    took: Duration,
    /// How many workers were told.
    told: usize,
    is_only_one: bool,
}

struct Net {
    controls: Vec<Control>,
    now: Time,
    /// By time and number.
    due: BinaryHeap<Reverse<(Time, u64)>>,
    inputs: BTreeMap<u64, (usize, Input)>,
    next: u64,
    /// Whose datagrams are lost, in both directions.
    silent: Option<usize>,
    flips: Vec<Flip>,
    tables_asked: usize,
}

impl Net {
    fn new(each: Each) -> Self {
        let key = ClusterKey::new("flip", Some(b"a secret of enough bytes")).unwrap();
        let mut net = Self {
            controls: (0..NODES).map(|node| control(node, each, &key)).collect(),
            now: Time::ZERO,
            due: BinaryHeap::new(),
            inputs: BTreeMap::new(),
            next: 0,
            silent: None,
            flips: Vec::new(),
            tables_asked: 0,
        };
        // Not in one moment, so that all is not always due at once.
        for node in 0..NODES {
            net.later(Time::ZERO.plus(Duration::from_millis(7 * node as u64)), node, Input::Start);
        }
        net
    }

    fn later(&mut self, at: Time, node: usize, input: Input) {
        self.due.push(Reverse((at, self.next)));
        self.inputs.insert(self.next, (node, input));
        self.next += 1;
    }

    /// Lets so much time go by.
    fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(Reverse((at, number))) = self.due.peek().copied()
            && at <= end
        {
            self.due.pop();
            let (node, input) = self.inputs.remove(&number).unwrap();
            self.now = self.now.max(at);
            self.step(node, input);
        }
        self.now = end;
    }

    fn step(&mut self, node: usize, input: Input) {
        let (now, control) = (self.now, &mut self.controls[node]);
        let mut out = Collected::default();
        let began = Instant::now();
        match input {
            Input::Start => control.start(now, &mut out),
            Input::Datagram(from, bytes) => control.datagram(now, from, &bytes, &mut out),
            Input::Timer(timer) => control.timer(now, timer, &mut out),
        }
        let took = began.elapsed();
        if node == SEEN {
            self.look(&out, took);
        }
        self.carry(node, out);
    }

    /// Whether that was a flip, and what it took.
    fn look(&mut self, out: &Collected, took: Duration) {
        let is_flip = |event: &MemberEvent| {
            matches!(event, MemberEvent::Unreachable(_) | MemberEvent::Reachable(_))
        };
        self.tables_asked += out.jobs.len();
        if out.heard.events.iter().any(is_flip) {
            assert_eq!(out.published.len(), 1, "it is shown");
            assert!(!out.heard.lines.is_empty(), "it is told");
            let is_only_one = out.heard.events.len() == 1;
            let told = out.commands.iter().filter(|(_, it)| matches!(it, Command::Apply(_)));
            let told: BTreeSet<_> = told.map(|(worker, _)| *worker).collect();
            let facts = out.commands.iter().any(|(_, it)| matches!(it, Command::Facts(_)));
            assert!(!facts || !is_only_one, "no part has anything to tell of it");
            self.flips.push(Flip { took, told: told.len(), is_only_one });
        }
    }

    fn carry(&mut self, node: usize, out: Collected) {
        for (to, bytes) in out.sent {
            let SocketAddr::V4(v4) = to else { panic!("{to}") };
            let to = usize::from(v4.ip().octets()[3]);
            if self.silent.is_none_or(|silent| silent != node && silent != to) {
                let at = self.now.plus(Duration::from_millis(1));
                self.later(at, to, Input::Datagram(address(node), bytes));
            }
        }
        for (at, timer) in out.timers {
            self.later(at, node, Input::Timer(timer));
        }
        let mut jobs = out.jobs;
        while let Some(job) = jobs.pop() {
            let mut out = Collected::default();
            self.controls[node].tables_made(job.run(), &mut out);
            self.tables_asked += usize::from(node == SEEN) * out.jobs.len();
            jobs.append(&mut out.jobs);
        }
    }

    /// Runs until the node that is looked at sees so many that answer.
    fn until_answering(&mut self, count: usize) {
        for _ in 0..600 {
            let members = &self.controls[SEEN].view().members;
            if members.iter().filter(|member| member.reachable).count() == count {
                return;
            }
            self.run(Duration::from_millis(100));
        }
        panic!("not within a minute: {count} members that answer");
    }

    fn route(&mut self, each: Each) {
        for router in 0..each.routers {
            let path =
                format!("/user/service-{}", router % each.services as usize).parse().unwrap();
            let kind = match router % 2 {
                0 => StrategyKind::ConsistentHash,
                _ => StrategyKind::RoundRobin,
            };
            let mut spec = RouterSpec::new(path, kind, keyway::HashSeed(1));
            (spec.slot_bits, spec.max_routees) = (10, Some(1_000 + router as u32));
            let mut out = Collected::default();
            self.controls[SEEN].route(spec, &mut out).unwrap();
            self.carry(SEEN, out);
        }
    }
}

/// Flips of one member after the other.
fn flips(each: Each) {
    let mut net = Net::new(each);
    net.run(Duration::from_secs(1));
    net.until_answering(NODES);
    net.route(each);
    net.run(Duration::from_secs(10));
    net.until_answering(NODES);
    (net.flips, net.tables_asked) = (Vec::new(), 0);
    // Each time another, so that nobody is damped.
    for silent in 20..30 {
        net.silent = Some(silent);
        net.until_answering(NODES - 1);
        net.silent = None;
        net.until_answering(NODES);
        net.run(Duration::from_secs(2));
    }
    assert_eq!(net.tables_asked, 0, "a flip makes no table");
    for flip in &net.flips {
        assert!(flip.told == usize::from(each.workers), "every worker is told");
    }
    let alone = net.flips.iter().filter(|flip| flip.is_only_one);
    let mut took: Vec<_> = alone.map(|flip| flip.took).collect();
    assert!(took.len() >= 15, "{} flips", took.len());
    took.sort_unstable();
    println!(
        "{} flips of one of {NODES} members with {} workers and {} paths of {} messages each, and \
         {} routers: {:.1?} at the least, {:.1?} in the middle, {:.1?} at the most",
        took.len(),
        each.workers,
        each.services,
        each.messages,
        each.routers,
        took[0],
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

const EACH: [Each; 3] = [
    Each { workers: 2, services: 1, messages: 1, routers: 1 },
    Each { workers: 4, services: 1, messages: 1, routers: 20 },
    Each { workers: 4, services: 10, messages: 5, routers: 20 },
];

#[test]
fn a_flip_of_reachability_is_shown_to_each_worker_and_makes_no_table() {
    // A build that is not optimised takes long for the others.
    let some = if cfg!(debug_assertions) { &EACH[..1] } else { &EACH };
    some.iter().for_each(|each| flips(*each));
}
