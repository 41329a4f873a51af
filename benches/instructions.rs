//! Instructions per message on the paths that every message takes, counted by callgrind: the
//! deciders alone, so that the count is the same in each run whatever else the machine does.
//!
//! `cargo bench --bench instructions` prints the table; it needs `valgrind` in the path. With a name
//! and a number, `cargo bench --bench instructions -- tell_keyed 1000`, it only runs that path so
//! many rounds, for a profiler.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyway::base::{
    DestinationId, HandlerId, Incarnation, Member, MemberState, MessageType, NodeId, NodeRef,
    Placed, Service, Time, View, WorkerIndex,
};
use keyway::queue::{ReplySlots, Room, injector, sleeper};
use keyway::route::snapshot::{Destination, Destinations, Reach, RouterState, Snapshot};
use keyway::route::{RouteTable, RouterSpec, StrategyKind};
use keyway::worker::{Buffers, Limits, LinkId, RouteeFactory, RouterRef, Worker, WorkerParts};
use keyway::{
    AskError, Context, Handler, HandlerTable, HashSeed, Message, OnReply, Refusal, Routee,
};
use rkyv::{Archive, Deserialize, Serialize};

/// 64 bytes.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "bench.item", key = key, reply = u64)]
struct Item {
    key: u64,
    rest: [u64; 7],
}

const ROUND: u64 = 128;
const PATH: &str = "/bench/sink";
const SINK: HandlerId = HandlerId(1);
const SOURCE: HandlerId = HandlerId(0);

/// Sends a round of messages in every duty cycle.
struct Source {
    router: RouterRef,
    asks: bool,
}

impl Routee for Source {
    fn register(_: &mut HandlerTable<Self>) {}

    fn started(&mut self, cx: &mut Context<'_>) {
        cx.wake_soon(0);
    }

    fn wake(&mut self, _: u64, cx: &mut Context<'_>) {
        for key in 0..ROUND {
            let item = black_box(Item { key, rest: [key; 7] });
            let sent = if self.asks {
                cx.ask::<Self, _>(&self.router, &item, Duration::from_secs(5), key)
            } else {
                cx.tell(&self.router, &item)
            };
            sent.expect("there is room");
        }
        cx.wake_soon(0);
    }
}

impl OnReply<Item> for Source {
    fn on_reply(
        &mut self,
        _: u64,
        reply: Result<&rkyv::rend::u64_le, AskError>,
        _: &mut Context<'_>,
    ) {
        black_box(reply.expect("a reply").to_native());
    }
}

#[derive(Default, Routee)]
#[routee(handles(Item))]
struct Sink(u64);

impl Handler<Item> for Sink {
    type Reply = u64;

    fn handle(&mut self, item: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        self.0 += 1;
        black_box(item.key.to_native())
    }
}

fn node(number: u64) -> NodeRef {
    NodeRef { node: NodeId(number), incarnation: Incarnation(1) }
}

fn member(id: NodeRef, serves: bool) -> Member {
    let messages = vec![MessageType::new(Item::NAME, Item::LAYOUT)];
    let service =
        Service { path: PATH.parse().unwrap(), handler: SINK, placed: Placed::EVERY, messages };
    Member {
        name: format!("node-{}", id.node.0).into(),
        id: id.node,
        address: ([127, 0, 0, 1], id.node.0 as u16).into(),
        incarnation: id.incarnation,
        state: MemberState::Up,
        reachable: true,
        damped_until: None,
        workers: 1,
        weight: 100,
        roles: BTreeSet::new(),
        metadata: Default::default(),
        app_version: "".into(),
        services: if serves { vec![service] } else { Vec::new() },
    }
}

/// A worker of node 1 with a router of a kind to the routees of the `serving` nodes.
fn worker(kind: StrategyKind, serving: std::ops::RangeInclusive<u64>, asks: bool) -> Worker {
    let me = node(1);
    let (_, waker) = sleeper(|| ());
    let (injector, _) = injector(Room { items: 16, bytes: 1 << 20 }, waker);
    let parts = WorkerParts {
        me,
        index: WorkerIndex(0),
        workers: 1,
        buffers: Arc::new(Buffers::new(64, 64, 1 << 20, 1 << 20)),
        replies: ReplySlots::new(16),
        injector,
        settings: keyway::part::PartSettings::default(),
        seed: 1,
    };
    let limits = Limits {
        max_frame_bytes: 1 << 20,
        outbox_bytes: 4 << 20,
        outboxes_bytes: 32 << 20,
        retry_bytes: 1 << 20,
        max_accepted: 64,
        max_work: 16,
        max_asks: 1024,
        ack_interval_ms: 20,
        redial_min_ms: 100,
        redial_max_ms: 5_000,
    };
    let mut worker = Worker::new(parts, limits, Time::ZERO);
    let nodes = 1..=*serving.end();
    let members: Vec<_> =
        nodes.clone().map(|number| member(node(number), serving.contains(&number))).collect();
    let view = Arc::new(View::new(me, 1, members));
    let id = |number: u64| DestinationId::new(number as usize - 1, NonZeroU32::MIN);
    let slots = nodes
        .map(|number| Destination {
            id: id(number),
            node: node(number),
            worker: WorkerIndex(0),
            address: ([127, 0, 0, 1], number as u16).into(),
            reach: Reach::Usable,
            routed: true,
            damped: false,
        })
        .map(Some)
        .collect();
    let destinations = Destinations::new(slots, NonZeroU32::MIN);
    let spec = Arc::new(RouterSpec::new(PATH.parse().unwrap(), kind, HashSeed(1)));
    let table = Arc::new(RouteTable::build(&view, &spec, None));
    let places = table.routees().iter().map(|routee| id(routee.node.node.0)).collect();
    let router = Arc::new(RouterState::new(spec, table, places, &destinations));
    worker.apply(Arc::new(Snapshot::new(1, view, destinations, vec![Some((0, router))])));
    if serving.contains(&1) {
        worker.serve(SINK, RouteeFactory::new(|_| Sink::default()));
    }
    let router = RouterRef::new(node(1), 0, HashSeed(1));
    worker.serve(SOURCE, RouteeFactory::new(move |_| Source { router: router.clone(), asks }));
    worker
}

/// Opens the links that were asked for.
fn open(worker: &mut Worker) {
    let dials: Vec<DestinationId> = worker
        .requests()
        .filter_map(|request| match request {
            keyway::worker::Request::Dial { destination, .. } => Some(destination),
            _ => None,
        })
        .collect();
    for destination in dials {
        worker.link_opened(destination, None).expect("it was asked for");
    }
}

fn turn(worker: &mut Worker, round: u64) {
    worker.begin(Time(round));
    worker.gather();
    while worker.run_one() {}
    for _ in 0..worker.own_chunks() {
        worker.own_chunk(u32::MAX);
    }
    worker.ends(Time(round));
}

/// What is in outboxes goes away as if a socket took it.
fn write(worker: &mut Worker) {
    while let Some(id) = worker.take_dirty() {
        let bytes = worker.link(id).expect("it is dirty").outbox().bytes();
        worker.written(id, bytes);
    }
}

/// Tells from a handler to peers on other nodes, up to the write.
fn send(kind: StrategyKind, rounds: u64) {
    let mut worker = worker(kind, 2..=9, false);
    turn(&mut worker, 0);
    open(&mut worker);
    for round in 0..rounds {
        turn(&mut worker, round);
        write(&mut worker);
    }
    let sent = worker.counts().sent;
    assert_eq!((sent, worker.counts().refused), ((rounds + 1) * ROUND, [0; Refusal::ALL.len()]));
}

/// Tells from a handler to another of its worker, until they were handled.
fn local(kind: StrategyKind, rounds: u64) {
    let mut worker = worker(kind, 1..=1, false);
    for round in 0..rounds {
        turn(&mut worker, round);
        while worker.take_dirty().is_some() {}
    }
    assert_eq!(worker.counts().delivered, rounds * ROUND);
}

/// Asks from a handler to another of its worker, until the replies were handled.
fn ask(rounds: u64) {
    let mut worker = worker(StrategyKind::ConsistentHash, 1..=1, true);
    // One turn more, for the last replies.
    for round in 0..=rounds {
        turn(&mut worker, round);
        while worker.take_dirty().is_some() {}
    }
    assert_eq!(worker.counts().replies, rounds * ROUND);
}

/// Tells that a peer sent, from the receive buffer to their handler.
fn receive(rounds: u64) {
    let mut sender = worker(StrategyKind::ConsistentHash, 2..=2, false);
    turn(&mut sender, 0);
    open(&mut sender);
    let id = sender.take_dirty().expect("a round was sent");
    let frames: Vec<u8> =
        sender.link(id).expect("it is dirty").outbox().slices().flatten().copied().collect();
    let mut aligned = rkyv::util::AlignedVec::<64>::new();
    aligned.extend_from_slice(&frames);

    let mut receiver = worker(StrategyKind::ConsistentHash, 1..=1, false);
    let link: LinkId = receiver.accept(node(2), WorkerIndex(0), 1).expect("the first");
    for round in 0..rounds {
        receiver.begin(Time(round));
        receiver.receive(link, black_box(&aligned), u32::MAX).expect("good frames");
        write(&mut receiver);
    }
    assert_eq!(receiver.counts().received, rounds * ROUND);
}

type Scenario = fn(u64);

const SCENARIOS: [(&str, Scenario); 6] = [
    ("tell_round_robin", |rounds| send(StrategyKind::RoundRobin, rounds)),
    ("tell_keyed", |rounds| send(StrategyKind::ConsistentHash, rounds)),
    ("local_round_robin", |rounds| local(StrategyKind::RoundRobin, rounds)),
    ("local_keyed", |rounds| local(StrategyKind::ConsistentHash, rounds)),
    ("receive", receive),
    ("local_ask", ask),
];

/// Instructions of a whole run, as callgrind counts them.
fn counted(name: &str, rounds: u64) -> u64 {
    let me = std::env::current_exe().expect("a path of our own");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(me)
        .args([name, &rounds.to_string()])
        .output()
        .expect("cannot start valgrind: install it, or give a scenario and a number of rounds");
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {told}");
    let words = told.lines().find_map(|line| line.split_once("Collected : "));
    words.and_then(|(_, count)| count.trim().parse().ok()).expect("callgrind tells its count")
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--bench"] => {
            for (name, _) in SCENARIOS {
                // The difference of two runs has no start and no end in it.
                let each = (counted(name, 300) - counted(name, 100)) as f64 / (200 * ROUND) as f64;
                println!("{name:<20} {each:7.1} instructions per message");
            }
        }
        [name, rounds] | [name, rounds, "--bench"] => {
            let scenario = SCENARIOS.iter().find(|(known, _)| *known == name);
            let (_, scenario) = scenario.unwrap_or_else(|| panic!("there is no {name}"));
            scenario(rounds.parse().expect("a number of rounds"));
        }
        // As a test: that they run.
        _ => SCENARIOS.iter().for_each(|(_, scenario)| scenario(2)),
    }
}
