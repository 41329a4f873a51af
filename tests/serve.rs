//! Paths that real nodes serve, withdraw and serve again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyway::{
    AskError, Context, DeathReason, GoneReason, Handler, JoinState, Message, Node, NodeError,
    Refusal, Routee, Router,
};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "serve.item", key = key, reply = u64)]
struct Item {
    key: u64,
}

/// Answers with the node it is on.
#[derive(Routee)]
#[routee(handles(Item), stopped = Self::close)]
struct Sink {
    stopped: Arc<AtomicU64>,
}

impl Sink {
    fn close(&mut self, _: &mut Context<'_>) {
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedItem, cx: &mut Context<'_>) -> u64 {
        cx.node().node.0
    }
}

fn node(seeds: &[&Node]) -> Node {
    let mut builder = Node::builder().bind("127.0.0.1:0").workers(2).spin(Duration::ZERO);
    for seed in seeds {
        builder = builder.seed(seed.address());
    }
    builder.start().unwrap()
}

fn serve(node: &Node, stopped: &Arc<AtomicU64>) {
    let stopped = Arc::clone(stopped);
    node.serve("/serve/sink", move |_| Sink { stopped: stopped.clone() }).unwrap();
}

fn keyed(node: &Node) -> Router {
    node.router("/serve/sink").consistent_hash().build().unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks one key after the other until it is to stop; gives how many were answered, and how many of
/// those that died did so for want of a handler.
fn ask_on(router: Router, stop: Arc<AtomicBool>) -> thread::JoinHandle<(u64, u64)> {
    thread::spawn(move || {
        let (mut answered, mut unknown) = (0, 0);
        for key in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match router.ask(&Item { key }).within(LIMIT).wait() {
                Ok(_) => answered += 1,
                Err(AskError::Dead(DeathReason::UnknownHandler)) => unknown += 1,
                Err(AskError::Refused(Refusal::QueueFull | Refusal::NoRoutee)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        (answered, unknown)
    })
}

#[test]
fn keys_of_a_path_that_is_withdrawn_under_load_move_to_the_other_node() {
    let stopped = [Arc::default(), Arc::default()];
    let a = node(&[]);
    let b = node(&[&a]);
    serve(&a, &stopped[0]);
    serve(&b, &stopped[1]);
    let routers = [keyed(&a), keyed(&b)];
    let ready = |routees| routers.iter().for_each(|it| it.wait_ready(routees, LIMIT).unwrap());
    ready(4);
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> =
        routers.iter().map(|router| ask_on(router.clone(), Arc::clone(&stop))).collect();
    let owners = |router: &Router| -> Vec<u64> {
        let owner = |key| router.ask(&Item { key }).within(LIMIT).wait().unwrap();
        (0..100).map(owner).collect()
    };
    let before = owners(&routers[0]);
    assert!(before.contains(&b.id().node.0));

    let mut watches: Vec<_> = routers[0]
        .routees()
        .iter()
        .filter(|routee| routee.id.node == b.id())
        .map(|routee| a.watch(routee).unwrap())
        .collect();
    assert_eq!(watches.len(), 2, "one on each worker");
    let old = routers[0].routees().into_iter().find(|routee| routee.id.node == b.id()).unwrap();
    let began = Instant::now();
    b.unserve("/serve/sink").unwrap();
    let took = began.elapsed();
    assert_eq!(stopped[1].load(Ordering::Relaxed), 2, "each worker's has ended");
    for watch in &mut watches {
        assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::Withdrawn));
        assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::Withdrawn), "asked again");
    }
    for router in &routers {
        eventually("only the other node's are left", || router.routee_count() == 2);
        assert_eq!(owners(router), [a.id().node.0; 100]);
    }
    let late = a.ask_to(&old, &Item { key: 1 }).within(LIMIT).wait();
    assert_eq!(late, Err(AskError::Dead(DeathReason::UnknownHandler)));
    let again = b.unserve("/serve/sink").unwrap_err().to_string();
    assert!(again.contains("does not serve"), "{again}");

    // It comes back as another registration, with its keys.
    serve(&b, &stopped[1]);
    ready(4);
    eventually("every key is back", || owners(&routers[0]) == before);
    let late = a.ask_to(&old, &Item { key: 1 }).within(LIMIT).wait();
    assert_eq!(late, Err(AskError::Dead(DeathReason::UnknownHandler)), "the first is gone");

    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut unknown) = (0, 0);
    for asker in askers {
        let (its_answered, its_unknown) = asker.join().unwrap();
        (answered, unknown) = (answered + its_answered, unknown + its_unknown);
    }
    println!("{answered} answered, {unknown} found no handler; withdrawn in {took:?}");
    assert!(answered > 100);
    assert_eq!(unknown, 0, "the grace is long enough for both nodes to hear of it");
    for node in [&a, &b] {
        eventually("the books balance", || node.counts().in_flight() == 0);
    }
    assert_eq!(stopped[0].load(Ordering::Relaxed), 0);
    drop((a, b));
    let counts = stopped.map(|stopped| stopped.load(Ordering::Relaxed));
    assert_eq!(counts, [2, 4], "the others end with their nodes");
}

#[test]
fn a_path_whose_routee_could_not_be_made_is_free_again() {
    let stopped = Arc::new(AtomicU64::new(0));
    let node = node(&[]);
    for _ in 0..3 {
        let its = Arc::clone(&stopped);
        let refused = node.serve("/serve/sink", move |worker| {
            assert_eq!(worker.0, 0, "as the test wants it");
            Sink { stopped: its.clone() }
        });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("/serve/sink") && refused.contains("panicked"), "{refused}");
    }
    assert_eq!(stopped.load(Ordering::Relaxed), 3, "on the worker where it could");
    assert!(node.view().members[0].services.is_empty());
    serve(&node, &stopped);
    let router = keyed(&node);
    router.wait_ready(2, LIMIT).unwrap();
    router.ask(&Item { key: 1 }).within(LIMIT).wait().unwrap();
}

#[test]
fn a_path_that_makes_the_description_too_large_is_free_again() {
    let stopped = Arc::new(AtomicU64::new(0));
    let node = node(&[]);
    let try_to = |number: u64| {
        let stopped = Arc::clone(&stopped);
        let path = format!("/serve/{number}-{}", "x".repeat(200));
        node.serve(&path, move |_| Sink { stopped: stopped.clone() })
    };
    let full = (0..).find(|number| try_to(*number).is_err()).unwrap();
    assert!(full > 10);
    assert_eq!(stopped.load(Ordering::Relaxed), 2, "no worker keeps it");
    // Nor does it stand in the way of others.
    serve(&node, &stopped);
    try_to(full).unwrap_err();
}

#[test]
fn a_node_that_leaves_serves_nothing_new_and_says_so() {
    let stopped = Arc::new(AtomicU64::new(0));
    let node = node(&[]);
    let try_to = || {
        let stopped = Arc::clone(&stopped);
        node.serve("/serve/sink", move |_| Sink { stopped: stopped.clone() })
    };
    node.begin_leave().unwrap();
    let refused = try_to().unwrap_err();
    assert!(matches!(refused, NodeError::Order(_)), "{refused}");
    assert!(refused.to_string().contains("is leaving its cluster"), "{refused}");
    eventually("it has left", || matches!(node.join_state(), JoinState::Ended));
    let refused = try_to().unwrap_err();
    assert!(matches!(refused, NodeError::Stopped), "{refused}");
}
