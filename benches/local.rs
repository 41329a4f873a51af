//! One whole send within a node: routing, encoding, delivery, the handler. First the decider alone,
//! then from an application thread over the worker's queue.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keyway::base::{
    DestinationId, HandlerId, Incarnation, Member, MemberState, MessageType, NodeId, NodeRef,
    Placed, Service, Time, View, WorkerIndex,
};
use keyway::queue::{ReplySlots, Room, injector, sleeper};
use keyway::route::snapshot::{Destination, Destinations, Reach, RouterState, Snapshot};
use keyway::route::{RouteTable, RouterSpec, StrategyKind};
use keyway::worker::{Buffers, Limits, RouteeFactory, RouterRef, Worker, WorkerParts};
use keyway::{Context, Handler, HandlerTable, HashSeed, Message, Node, Refusal, Routee};
use rkyv::{Archive, Deserialize, Serialize};

/// 64 bytes.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "bench.item", key = key, reply = u64)]
struct Item {
    key: u64,
    rest: [u64; 7],
}

fn item(key: u64) -> Item {
    Item { key, rest: [key; 7] }
}

/// Sends a round of messages to its neighbour in every duty cycle.
struct Source(RouterRef);

impl Routee for Source {
    fn register(_: &mut HandlerTable<Self>) {}
    fn wake(&mut self, _: u64, cx: &mut Context<'_>) {
        for key in 0..ROUND {
            cx.tell(&self.0, black_box(&item(key))).expect("there is room");
        }
        cx.wake_soon(0);
    }
    fn started(&mut self, cx: &mut Context<'_>) {
        cx.wake_soon(0);
    }
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

#[derive(Default, Routee)]
#[routee(handles(Item))]
struct Sink {
    handled: u64,
}

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, item: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        self.handled += 1;
        black_box(item.key.to_native());
        HANDLED.store(self.handled, Ordering::Release);
        self.handled
    }
}

const PATH: &str = "/bench/sink";
const SINK: HandlerId = HandlerId(1);
const ROUND: u64 = 128;
const ME: NodeRef = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };

/// A worker alone, with a router of each kind to its own routee.
fn worker() -> Worker {
    let me = ME;
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
        max_work: 16,
        outboxes_bytes: 32 << 20,
        retry_bytes: 1 << 20,
        max_accepted: 64,
        max_asks: 1024,
        ack_interval_ms: 20,
        redial_min_ms: 100,
        redial_max_ms: 5_000,
    };
    let mut worker = Worker::new(parts, limits, Time::ZERO);
    let address = ([127, 0, 0, 1], 1).into();
    let messages = vec![MessageType::new(Item::NAME, Item::LAYOUT)];
    let service =
        Service { path: PATH.parse().unwrap(), handler: SINK, placed: Placed::EVERY, messages };
    let member = Member {
        name: "bench".into(),
        id: me.node,
        address,
        incarnation: me.incarnation,
        state: MemberState::Up,
        reachable: true,
        damped_until: None,
        workers: 1,
        weight: 100,
        roles: BTreeSet::new(),
        metadata: Default::default(),
        app_version: "".into(),
        services: vec![service],
    };
    let view = Arc::new(View::new(me, 1, vec![member]));
    let id = DestinationId::new(0, NonZeroU32::MIN);
    let destination = Destination {
        id,
        node: me,
        worker: WorkerIndex(0),
        address,
        reach: Reach::Usable,
        routed: true,
        damped: false,
    };
    let destinations = Destinations::new(vec![Some(destination)], NonZeroU32::MIN);
    let routers = [StrategyKind::RoundRobin, StrategyKind::ConsistentHash].map(|kind| {
        let spec = Arc::new(RouterSpec::new(PATH.parse().unwrap(), kind, HashSeed(1)));
        let table = Arc::new(RouteTable::build(&view, &spec, None));
        Arc::new(RouterState::new(spec, table, [id].into(), &destinations))
    });
    let routers = (0..).zip(routers).map(Some).collect();
    worker.apply(Arc::new(Snapshot::new(1, view, destinations, routers)));
    worker.serve(SINK, RouteeFactory::new(|_| Sink::default()));
    worker
}

fn decider(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("local_decider");
    group.throughput(Throughput::Elements(1));
    for (name, id) in [("round_robin", 0), ("consistent_hash", 1)] {
        let mut worker = worker();
        let router = RouterRef::new(ME, id, HashSeed(1));
        worker.serve(HandlerId(0), RouteeFactory::new(move |_| Source(router.clone())));
        group.bench_function(name, |bench| {
            bench.iter_custom(|messages| {
                let rounds = messages.div_ceil(ROUND);
                let before = worker.counts().delivered;
                let began = Instant::now();
                for round in 0..rounds {
                    worker.begin(Time(round));
                    worker.gather();
                    while worker.run_one() {}
                    for _ in 0..worker.own_chunks() {
                        worker.own_chunk(u32::MAX);
                    }
                    worker.ends(Time(round));
                }
                let spent = began.elapsed();
                assert_eq!(worker.counts().delivered, before + rounds * ROUND);
                spent.mul_f64(messages as f64 / (rounds * ROUND) as f64)
            });
        });
    }
    group.finish();
}

fn application(criterion: &mut Criterion) {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).start().expect("a free port");
    node.serve(PATH, |_| Sink::default()).expect("a good path");
    let router = node.router(PATH).build().expect("a good router");
    router.wait_ready(1, Duration::from_secs(10)).expect("its own routee");
    let mut group = criterion.benchmark_group("local_application");
    group.throughput(Throughput::Elements(1));

    let mut sent = 0;
    HANDLED.store(0, Ordering::Release);
    let wait = |sent: u64| {
        let patience = Instant::now() + Duration::from_secs(10);
        while HANDLED.load(Ordering::Acquire) < sent {
            std::thread::yield_now();
            assert!(Instant::now() < patience, "{sent} sent, {:?}", node.counts());
        }
    };
    group.bench_function("tell_until_handled", |bench| {
        bench.iter_custom(|messages| {
            let began = Instant::now();
            for _ in 0..messages {
                while let Err(refusal) = router.tell(black_box(&item(sent))) {
                    assert_eq!(refusal, Refusal::QueueFull);
                    std::thread::yield_now();
                }
                sent += 1;
            }
            wait(sent);
            began.elapsed()
        });
    });
    group.bench_function("tell_in_batches_until_handled", |bench| {
        bench.iter_custom(|messages| {
            let began = Instant::now();
            let mut batch = router.batch();
            for _ in 0..messages {
                while let Err(refusal) = batch.tell(black_box(&item(sent))) {
                    assert_eq!(refusal, Refusal::QueueFull);
                    std::thread::yield_now();
                }
                sent += 1;
            }
            while batch.flush().is_err() {
                std::thread::yield_now();
            }
            wait(sent);
            began.elapsed()
        });
    });
    group.bench_function("ask_and_wait", |bench| {
        bench.iter(|| {
            sent += 1;
            router.ask(black_box(&item(sent))).wait().expect("an answer")
        });
    });
    group.finish();
}

criterion_group!(benches, decider, application);
criterion_main!(benches);
