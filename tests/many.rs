//! Many nodes started at once on one small machine: they agree, call nobody unreachable who is
//! not, and see at once who was killed. Tables that were made where heartbeats are answered, or
//! made again whenever somebody seemed silent, once kept fifty nodes from ever agreeing.
//!
//! Figures for other sizes, with slot tables of the default size:
//! `KEYWAY_NODES=100 cargo test --release --test many -- --ignored --nocapture`

use std::thread;
use std::time::{Duration, Instant};

use keyway::{Context, EventGap, Events, Handler, MemberEvent, Message, Node, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "many.item", key = key)]
struct Item {
    key: u64,
}

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedItem, _: &mut Context<'_>) {}
}

const PATH: &str = "/many/sink";

/// A node with its router.
struct One {
    node: Node,
    router: Router,
    events: Events,
}

fn start(first: Option<std::net::SocketAddr>, slot_bits: u8) -> One {
    let mut builder = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    if let Some(first) = first {
        builder = builder.seed(first);
    }
    let node = builder.start().unwrap();
    let events = node.events();
    let router = node.router(PATH).consistent_hash().slot_bits(slot_bits).build().unwrap();
    node.serve(PATH, |_| Sink).unwrap();
    One { node, router, events }
}

/// Whether all see so many members that answer, and have equal tables of them.
fn agree(nodes: &[One], size: usize) -> bool {
    let digest = nodes[0].node.view().digest;
    let table = nodes[0].router.table_digest();
    nodes.iter().all(|one| {
        let view = one.node.view();
        view.digest == digest
            && view.members.iter().filter(|member| member.is_usable()).count() == size
            && one.router.routee_count() == size
            && one.router.table_digest() == table
    })
}

/// How long it took until something held.
fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// Members that were called unreachable since the last look, over all nodes.
fn alarms(nodes: &mut [One]) -> usize {
    let mut alarms = 0;
    for one in nodes {
        loop {
            match one.events.try_next() {
                Ok(Some(MemberEvent::Unreachable(_))) => alarms += 1,
                Ok(Some(_)) | Err(EventGap::Missed(_)) => {}
                Ok(None) | Err(EventGap::Stopped | EventGap::WouldBlock) => break,
            }
        }
    }
    alarms
}

/// CPU time of this process up to now.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

struct Limits {
    agree: Duration,
    seen: Duration,
}

fn story(size: usize, slot_bits: u8, limits: Limits) {
    let began = Instant::now();
    let first = start(None, slot_bits);
    let address = first.node.address();
    // At once: each on a thread of its own, as if by an orchestrator.
    let mut nodes = thread::scope(|scope| {
        let starts: Vec<_> =
            (1..size).map(|_| scope.spawn(|| start(Some(address), slot_bits))).collect();
        let mut nodes = vec![first];
        nodes.extend(starts.into_iter().map(|start| start.join().unwrap()));
        nodes
    });
    let started = began.elapsed();
    until("all agree", limits.agree.saturating_sub(started), || agree(&nodes, size));
    let agreed = began.elapsed();
    let before = alarms(&mut nodes);

    let (from, calm) = (cpu(), Duration::from_secs(3));
    thread::sleep(calm);
    let idle = (cpu() - from).as_secs_f64() / calm.as_secs_f64() / size as f64 * 100.0;
    let after = alarms(&mut nodes);

    // Some traffic: peers with a link to one that dies are the first to notice.
    for (number, one) in (0..).zip(&nodes) {
        for key in 0..8 {
            one.router.tell(&Item { key: number * 8 + key }).unwrap();
        }
    }
    thread::sleep(Duration::from_millis(300));

    // Ten die at once, without a word to anybody.
    let dead: Vec<_> = nodes.drain(size - 10..).collect();
    let killed = Instant::now();
    thread::scope(|scope| {
        for one in dead {
            scope.spawn(move || one.node.stop().unwrap());
        }
    });
    until("all see who is dead", limits.seen, || {
        nodes.iter().all(|one| one.router.routee_count() == size - 10)
    });
    let seen = killed.elapsed();
    println!(
        "{size} nodes: started after {started:.2?}, agreed after {agreed:.2?} with {before} alarms \
         and {after} in {calm:?} after it, idle {idle:.2} % of a core each, ten dead seen after \
         {seen:.2?}, cpu {:.1?} in all",
        cpu()
    );
    assert_eq!((before, after), (0, 0), "members were called unreachable that were not");
    assert!(agree(&nodes, size - 10), "and so all go by the same");
}

/// Small tables: this build is not optimised.
#[test]
fn fifty_nodes_started_at_once_agree() {
    story(50, 10, Limits { agree: Duration::from_secs(5), seen: Duration::from_secs(1) });
}

#[test]
#[ignore = "for figures; see above"]
fn as_many_as_asked_for() {
    let size = std::env::var("KEYWAY_NODES").map_or(50, |size| size.parse().unwrap());
    let limits = Limits { agree: Duration::from_secs(20), seen: Duration::from_secs(1) };
    story(size, keyway::hash::DEFAULT_SLOT_BITS, limits);
}
