//! Many nodes started at once on one small machine: they agree, call nobody unreachable who is
//! not, and see at once who was killed. Tables that were made where heartbeats are answered, or
//! made again whenever somebody seemed silent, once kept fifty nodes from ever agreeing. And one
//! more joins many that are asked all the time: no ask fails. And a node lets others in while a table
//! of its own is made, however long that takes.
//!
//! Figures for other sizes, with slot tables of the default size:
//! `KEYWAY_NODES=100 cargo test --release --test many -- --ignored --nocapture`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyway::route::{NoRoutee, Pick, PickRequest, PickState, RouteTable, Strategy};
use keyway::{
    Context, EventGap, Events, Handler, MemberEvent, Message, Node, NodeRef, Routee, Router,
};
use rkyv::{Archive, Deserialize, Serialize};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "many.item", key = key)]
struct Item {
    key: u64,
}

/// Answered with the node that it came to.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "many.where_is", key = key, reply = u64)]
struct WhereIs {
    key: u64,
}

#[derive(Routee)]
#[routee(handles(Item, WhereIs))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedItem, _: &mut Context<'_>) {}
}

impl Handler<WhereIs> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWhereIs, cx: &mut Context<'_>) -> u64 {
        cx.node().node.0
    }
}

/// What an idle node may take of a core.
const IDLE_PERCENT: f64 = if cfg!(debug_assertions) { 1.5 } else { 0.3 };

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

/// This thread, and the nodes that it starts, run on two of the machine's cores; and no other test's
/// beside them.
fn on_two_cores() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = sched_getaffinity(None).unwrap();
    let mut two = CpuSet::new();
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    cores.take(2).for_each(|core| two.set(core));
    sched_setaffinity(None, &two).unwrap();
    alone
}

/// So many nodes, started at once: each on a thread of its own, as if by an orchestrator.
fn start_at_once(size: usize, slot_bits: u8) -> Vec<One> {
    let first = start(None, slot_bits);
    let address = first.node.address();
    thread::scope(|scope| {
        let starts: Vec<_> =
            (1..size).map(|_| scope.spawn(|| start(Some(address), slot_bits))).collect();
        let mut nodes = vec![first];
        nodes.extend(starts.into_iter().map(|start| start.join().unwrap()));
        nodes
    })
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

/// Who was called unreachable since the last look, over all nodes.
fn alarms(nodes: &mut [One]) -> Vec<NodeRef> {
    let mut alarms = Vec::new();
    for one in nodes {
        loop {
            match one.events.try_next() {
                Ok(Some(MemberEvent::Unreachable(member))) => alarms.push(member.node_ref()),
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
    idle_percent: f64,
}

/// What each of so many idle nodes takes of a core, in percent, in the calmest of some windows: what
/// else the machine does costs these threads time as well.
fn idle_percent(size: usize, limit: f64) -> f64 {
    let window = Duration::from_secs(3);
    let mut best = f64::MAX;
    for _ in 0..6 {
        let from = cpu();
        thread::sleep(window);
        let used = (cpu() - from).as_secs_f64() / window.as_secs_f64();
        best = best.min(used / size as f64 * 100.0);
        if best <= limit {
            break;
        }
    }
    best
}

fn story(size: usize, slot_bits: u8, limits: Limits) {
    let _alone = on_two_cores();
    let began = Instant::now();
    let mut nodes = start_at_once(size, slot_bits);
    let started = began.elapsed();
    until("all agree", limits.agree.saturating_sub(started), || agree(&nodes, size));
    let agreed = began.elapsed();
    let before = alarms(&mut nodes).len();

    let idle = idle_percent(size, limits.idle_percent);
    let after = alarms(&mut nodes).len();

    // Some traffic: peers with a link to one that dies are the first to notice.
    for (number, one) in (0..).zip(&nodes) {
        for key in 0..8 {
            one.router.tell(&Item { key: number * 8 + key }).unwrap();
        }
    }
    thread::sleep(Duration::from_millis(300));

    // Ten die at once, without a word to anybody.
    let dead: Vec<_> = nodes.drain(size - 10..).collect();
    let ten: BTreeSet<_> = dead.iter().map(|one| one.node.id()).collect();
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
    let mut others = alarms(&mut nodes);
    others.retain(|called| !ten.contains(called));
    println!(
        "{size} nodes: started after {started:.2?}, agreed after {agreed:.2?} with {before} alarms \
         and {after} after it, idle {idle:.2} % of a core each, ten dead seen after \
         {seen:.2?}, cpu {:.1?} in all",
        cpu()
    );
    let limit = limits.idle_percent;
    assert!(idle <= limit, "an idle node takes {idle:.3} % of a core, and {limit} % is the most");
    assert_eq!((before, after), (0, 0), "members were called unreachable that were not");
    assert!(others.is_empty(), "called unreachable besides the ten that died: {others:?}");
    assert!(agree(&nodes, size - 10), "and so all go by the same");
}

/// Small tables, and more time for idle nodes: this build is not optimised.
#[test]
fn fifty_nodes_started_at_once_agree() {
    let (agree, seen) = (Duration::from_secs(5), Duration::from_secs(1));
    story(50, 10, Limits { agree, seen, idle_percent: IDLE_PERCENT });
}

#[test]
#[ignore = "for figures; see above"]
fn as_many_as_asked_for() {
    let size = std::env::var("KEYWAY_NODES").map_or(50, |size| size.parse().unwrap());
    let (agree, seen) = (Duration::from_secs(20), Duration::from_secs(1));
    let limits = Limits { agree, seen, idle_percent: IDLE_PERCENT };
    story(size, keyway::hash::DEFAULT_SLOT_BITS, limits);
}

/// Asks by key until told to stop, which is forgotten when a test fails; gives how often, the longest wait for an answer, and who answered
/// for each key.
fn ask_all_the_time(
    router: &Router,
    stop: &AtomicBool,
) -> (u64, Duration, BTreeMap<u64, BTreeSet<u64>>) {
    let (mut asks, mut gap, mut owners) = (0, Duration::ZERO, BTreeMap::new());
    let end = Instant::now() + Duration::from_secs(60);
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        let (key, began) = (asks % 256, Instant::now());
        let answer = router.ask(&WhereIs { key }).within(Duration::from_secs(10)).wait();
        let owner = answer.unwrap_or_else(|error| panic!("ask {asks} failed: {error}"));
        owners.entry(key).or_insert_with(BTreeSet::new).insert(owner);
        (asks, gap) = (asks + 1, gap.max(began.elapsed()));
    }
    (asks, gap, owners)
}

#[test]
fn a_join_under_load_fails_no_ask() {
    let _alone = on_two_cores();
    let mut nodes = start_at_once(30, 10);
    until("all agree", Duration::from_secs(20), || agree(&nodes, 30));
    let askers = [0, 10, 20, 29].map(|asker| nodes[asker].router.clone());
    let (stop, address) = (AtomicBool::new(false), nodes[0].node.address());
    thread::scope(|scope| {
        let asking =
            askers.each_ref().map(|router| scope.spawn(|| ask_all_the_time(router, &stop)));
        thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        nodes.push(start(Some(address), 10));
        let joiner = &nodes[30];
        until("all see the joiner", Duration::from_secs(20), || agree(&nodes, 31));
        let joined = began.elapsed();
        // It asks as well, as soon as it can.
        for key in 0..256 {
            joiner.router.ask(&WhereIs { key }).within(Duration::from_secs(10)).wait().unwrap();
        }
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        let joiner = joiner.node.id().node.0;
        let mut total = 0;
        for asker in asking {
            let (asks, gap, owners) = asker.join().unwrap();
            let moved = owners.values().filter(|owners| owners.contains(&joiner)).count();
            println!("{asks} asks, the longest took {gap:.1?}; {moved} of 256 keys moved");
            assert!(moved > 0, "nothing came to the joiner");
            for (key, owners) in owners {
                let others = owners.iter().filter(|owner| **owner != joiner).count();
                assert!(others <= 1, "key {key} moved between others: {owners:?}");
            }
            total += asks;
        }
        println!("joined 30 nodes within {joined:.2?} under {total} asks, none of which failed");
    });
}

/// Its tables are made until the test has seen enough.
#[derive(Debug)]
struct Slow;

static BEGUN: AtomicU64 = AtomicU64::new(0);
static MADE: AtomicU64 = AtomicU64::new(0);
static ENOUGH: AtomicBool = AtomicBool::new(false);

impl Strategy for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    /// Asked whenever a table is made.
    fn is_keyed(&self) -> bool {
        BEGUN.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(5);
        while !ENOUGH.load(Ordering::Relaxed) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        MADE.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn pick(&self, _: &RouteTable, _: &PickRequest, _: &mut PickState) -> Pick {
        Pick::None(NoRoutee::NoneUsable)
    }
}

#[test]
fn a_node_lets_others_in_while_its_table_is_made() {
    let _alone = on_two_cores();
    let limit = Duration::from_secs(20);
    let first = start(None, 10);
    thread::scope(|scope| {
        let slow = scope.spawn(|| first.node.router(PATH).strategy(Slow).build().unwrap());
        until("a table is begun", limit, || BEGUN.load(Ordering::Relaxed) > 0);
        let joiner = start(Some(first.node.address()), 10);
        let joined = joiner.node.wait_members(2, limit);
        let made = MADE.load(Ordering::Relaxed);
        ENOUGH.store(true, Ordering::Relaxed);
        assert!(joined && made == 0, "joined: {joined}, and {made} tables were made until then");
        drop(slow.join().unwrap());
    });
}
