//! A peer that lives ten thousand times: what control and a worker know of its workers begins and
//! ends with each life, and leaves nothing behind. The deciders alone, since a process cannot start
//! anew that often; a process of its own, whose memory is looked at.

use std::num::NonZeroU32;
use std::sync::Arc;

use keyway::base::{
    HandlerId, Incarnation, Member, MemberState, MessageType, NodeId, NodeRef, Placed, Service,
    Time, View, WorkerIndex,
};
use keyway::control::destinations::Destinations;
use keyway::part::PartSettings;
use keyway::queue::{ReplySlots, Room, injector, sleeper};
use keyway::route::snapshot::{RouterState, Snapshot};
use keyway::route::{RouteTable, RouterSpec, StrategyKind};
use keyway::worker::{
    Buffers, Limits, LinkId, Request, RouteeFactory, RouterRef, Worker, WorkerParts,
};
use keyway::{Context, HandlerTable, HashSeed, Message, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "lives.item", key = key)]
struct Item {
    key: u64,
}

const PATH: &str = "/lives/sink";
const TIMES: u64 = 10_000;
const WORKERS: u16 = 4;
const MIB: u64 = 1 << 20;

/// Tells something to each key in every duty cycle.
struct Source(RouterRef);

impl Routee for Source {
    fn register(_: &mut HandlerTable<Self>) {}

    fn started(&mut self, cx: &mut Context<'_>) {
        cx.wake_soon(0);
    }

    fn wake(&mut self, _: u64, cx: &mut Context<'_>) {
        for key in 0..64 {
            // Refused while nobody serves the path.
            let _ = cx.tell(&self.0, &Item { key });
        }
        cx.wake_soon(0);
    }
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn node(number: u64, life: u64) -> NodeRef {
    NodeRef { node: NodeId(number), incarnation: Incarnation(life) }
}

fn member(id: NodeRef, serves: bool) -> Member {
    let messages = vec![MessageType::new(Item::NAME, Item::LAYOUT)];
    let (path, handler, placed) = (PATH.parse().unwrap(), HandlerId(1), Placed::EVERY);
    let service = Service { path, handler, placed, messages };
    Member {
        name: format!("node-{}", id.node.0).into(),
        id: id.node,
        address: ([127, 0, 0, 1], id.node.0 as u16).into(),
        incarnation: id.incarnation,
        state: MemberState::Up,
        reachable: true,
        damped_until: None,
        workers: if serves { WORKERS } else { 1 },
        weight: 100,
        roles: Default::default(),
        metadata: Default::default(),
        app_version: "".into(),
        services: if serves { vec![service] } else { Vec::new() },
    }
}

fn worker() -> Worker {
    let me = node(1, 1);
    let (_, waker) = sleeper(|| ());
    let (injector, _) = injector(Room { items: 16, bytes: 1 << 20 }, waker);
    let parts = WorkerParts {
        me,
        index: WorkerIndex(0),
        workers: 1,
        buffers: Arc::new(Buffers::new(64, 64, 1 << 20, 1 << 20)),
        replies: ReplySlots::new(16),
        injector,
        settings: PartSettings::default(),
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
    let router = RouterRef::new(me, 0, HashSeed(1));
    worker.serve(HandlerId(0), RouteeFactory::new(move |_| Source(router.clone())));
    worker
}

struct Scene {
    destinations: Destinations,
    worker: Worker,
    spec: Arc<RouterSpec>,
    table: Option<Arc<RouteTable>>,
    version: u64,
    opened: u64,
    closed: u64,
}

impl Scene {
    /// Control shows these lives of the peer, and the worker follows.
    fn show(&mut self, lives: &[u64]) {
        self.version += 1;
        let peers = lives.iter().map(|life| member(node(2, *life), true));
        let members = [member(node(1, 1), false)].into_iter().chain(peers).collect();
        let view = Arc::new(View::new(node(1, 1), self.version, members));
        self.destinations.follow(&view);
        let table = Arc::new(RouteTable::build(&view, &self.spec, self.table.as_deref()));
        let places = self.destinations.of(&table);
        let all = self.destinations.all();
        let state = RouterState::new(Arc::clone(&self.spec), Arc::clone(&table), places, all);
        let routers = vec![Some((0, Arc::new(state)))];
        self.table = Some(table);
        let snapshot = Snapshot::new(self.version, view, all.clone(), routers);
        self.worker.apply(Arc::new(snapshot));
    }

    /// A duty cycle; opens the links that are asked for, and accepts one of the peer.
    fn turn(&mut self) {
        let now = Time(self.version * 1_000_000);
        self.worker.begin(now);
        self.worker.gather();
        while self.worker.run_one() {}
        self.worker.ends(now);
        for request in self.worker.requests().collect::<Vec<_>>() {
            match request {
                Request::Dial { destination, .. } => {
                    self.opened += u64::from(self.worker.link_opened(destination, None).is_some());
                }
                Request::Close(_) => self.closed += 1,
                // Nothing lies in its socket.
                Request::ReadOut(link) => {
                    self.worker.link_lost(link);
                    self.closed += 1;
                }
                _ => {}
            }
        }
        while let Some(id) = self.worker.take_dirty() {
            let bytes = self.worker.link(id).expect("it is dirty").outbox().bytes();
            self.worker.written(id, bytes);
        }
    }

    /// One life of the peer, with links both ways and messages that it never acknowledges. Every
    /// third ends before the next one is seen.
    fn live(&mut self, life: u64) {
        self.show(&[life]);
        self.turn();
        let accepted: Option<LinkId> = self.worker.accept(node(2, life), WorkerIndex(0), 1);
        assert!(accepted.is_some(), "life {life} has a place");
        self.turn();
        if life.is_multiple_of(3) {
            self.show(&[]);
            self.turn();
        }
    }
}

#[test]
fn a_peer_that_lives_ten_thousand_times_leaves_nothing_behind() {
    let spec = RouterSpec::new(PATH.parse().unwrap(), StrategyKind::ConsistentHash, HashSeed(1));
    let mut scene = Scene {
        destinations: Destinations::default(),
        worker: worker(),
        spec: Arc::new(RouterSpec { slot_bits: 10, ..spec }),
        table: None,
        version: 0,
        opened: 0,
        closed: 0,
    };
    let warm_up = TIMES / 5;
    for life in 1..=warm_up {
        scene.live(life);
    }
    let (before, opened) = (resident(), scene.opened);
    for life in warm_up + 1..=warm_up + TIMES {
        scene.live(life);
    }
    scene.show(&[]);
    scene.turn();
    let grown = resident().saturating_sub(before);
    let opened = scene.opened - opened;
    println!("{grown} bytes more after {TIMES} lives of a peer, and {opened} links to it");
    assert!(grown <= 2 * MIB, "{grown} bytes more");
    assert_eq!(opened, TIMES * u64::from(WORKERS), "each life had its links");
    let all = scene.destinations.all();
    assert_eq!((all.slots().len(), all.iter().count()), (1, 1), "only this node's own is left");
    let newest = u64::from(NonZeroU32::get(all.newest()));
    assert!(newest > TIMES * u64::from(WORKERS), "no number came again: {newest}");
    assert_eq!(scene.worker.usage().links, 1, "its own");
    let counts = scene.worker.counts();
    assert_eq!(counts.in_flight(), 0, "each message has its end: {counts:?}");
    assert!(counts.unknown > 0 && scene.closed > TIMES, "{counts:?}");
}
