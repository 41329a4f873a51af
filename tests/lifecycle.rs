//! Nodes that leave, stop and come back while messages flow: every message ends in one count.

mod place;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyway::{AskError, Context, Counts, Handler, Message, Node, Refusal, Routee, Router};
use place::place;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "life.item", key = key, reply = u64)]
struct Item {
    key: u64,
    rest: [u64; 4],
}

fn item(key: u64) -> Item {
    Item { key, rest: [key; 4] }
}

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink(Arc<AtomicU64>);

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, item: &ArchivedItem, cx: &mut Context<'_>) -> u64 {
        assert_eq!(item.rest[3], item.key);
        self.0.fetch_add(1, Ordering::Relaxed);
        cx.node().node.0
    }
}

const LIMIT: Duration = Duration::from_secs(20);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn builder(workers: usize) -> keyway::NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(workers).spin(Duration::ZERO)
}

fn serve(node: &Node, seen: &Arc<AtomicU64>) {
    let seen = Arc::clone(seen);
    node.serve("/life/sink", move |_| Sink(Arc::clone(&seen))).unwrap();
}

fn cluster(size: usize, workers: usize, seen: &Arc<AtomicU64>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..size {
        let mut builder = builder(workers);
        if let Some(first) = nodes.first() {
            builder = builder.seed(first.address());
        }
        let node = builder.start().unwrap();
        serve(&node, seen);
        nodes.push(node);
    }
    for node in &nodes {
        assert!(node.wait_members(size, LIMIT), "{node:?} sees too few members");
    }
    nodes
}

/// A thread that tells as fast as it can; gives how many were accepted and refused.
fn tell_on(router: Router, stop: Arc<AtomicBool>) -> JoinHandle<(u64, u64)> {
    thread::spawn(move || {
        let (mut accepted, mut refused) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            match router.tell(&item(accepted + refused)) {
                Ok(()) => accepted += 1,
                Err(refusal) => {
                    refused += 1;
                    match refusal {
                        Refusal::QueueFull => thread::sleep(Duration::from_micros(200)),
                        Refusal::Stopped | Refusal::Unreachable => {
                            thread::sleep(Duration::from_micros(50));
                        }
                        other => panic!("{other}"),
                    }
                }
            }
        }
        (accepted, refused)
    })
}

/// Accepted, and so to be accounted for.
fn accepted(counts: &Counts) -> u64 {
    counts.sent - counts.refused_total()
}

#[test]
fn a_graceful_leave_under_load_loses_nothing() {
    let seen = Arc::new(AtomicU64::new(0));
    let mut nodes = cluster(3, 2, &seen);
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for node in &nodes[..2] {
        for keyed in [true, false] {
            let router = node.router("/life/sink");
            let router = if keyed { router.consistent_hash() } else { router.round_robin() };
            let router = router.build().unwrap();
            router.wait_ready(6, LIMIT).unwrap();
            senders.push(tell_on(router, Arc::clone(&stop)));
        }
    }
    thread::sleep(Duration::from_millis(300));
    let leaver = nodes.pop().unwrap();
    let took = Instant::now();
    assert!(leaver.leave_and_wait().unwrap(), "not drained in time");
    let took = took.elapsed();
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let told: u64 = senders.into_iter().map(|sender| sender.join().unwrap().0).sum();
    eventually("the books balance", || {
        let counts: Vec<Counts> = nodes.iter().map(Node::counts).collect();
        counts.iter().map(accepted).sum::<u64>() == told
            && counts.iter().all(|counts| counts.in_flight() == 0)
    });
    let counts: Vec<Counts> = nodes.iter().map(Node::counts).collect();
    println!("{told} told, the leave took {took:?}");
    for counts in &counts {
        assert_eq!(counts.unknown, 0, "{counts:?}");
        assert_eq!(counts.dead_total(), 0, "{counts:?}");
    }
    assert_eq!(counts.iter().map(|counts| counts.delivered).sum::<u64>(), told);
    assert_eq!(seen.load(Ordering::Relaxed), told);
    for node in &nodes {
        eventually("it is gone", || node.view().members.len() == 2);
    }
}

#[test]
fn a_node_that_drops_dead_leaves_every_message_in_one_count() {
    let seen = Arc::new(AtomicU64::new(0));
    let mut nodes = cluster(3, 2, &seen);
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for node in &nodes {
        for keyed in [true, false] {
            let router = node.router("/life/sink");
            let router = if keyed { router.consistent_hash() } else { router.round_robin() };
            let router = router.build().unwrap();
            router.wait_ready(6, LIMIT).unwrap();
            senders.push(tell_on(router, Arc::clone(&stop)));
        }
    }
    thread::sleep(Duration::from_millis(300));
    let last = nodes.pop().unwrap().stop().unwrap();
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let told: Vec<u64> = senders.into_iter().map(|sender| sender.join().unwrap().0).collect();
    for (node, told) in nodes.iter().zip(told.chunks(2)) {
        // What a thread handed over is in the books as soon as its worker has seen it.
        eventually("a survivor's books balance", || {
            let counts = node.counts();
            accepted(&counts) == told.iter().sum::<u64>() && counts.in_flight() == 0
        });
        let counts = node.counts();
        let ended = counts.delivered + counts.dead_total() + counts.unknown;
        assert_eq!(accepted(&counts), ended, "{counts:?}");
    }
    // What was handled lies between what is known to be and what may have been.
    let mut all = last;
    for node in &nodes {
        all += node.counts();
    }
    let handled = seen.load(Ordering::Relaxed);
    assert!(
        all.delivered <= handled && handled <= all.delivered + all.unknown,
        "{handled} {all:?}"
    );
    // The one that stopped has closed its books as well.
    assert_eq!(last.in_flight(), 0, "{last:?}");
}

#[test]
fn nobody_waits_for_a_node_that_was_stopped() {
    let seen = Arc::new(AtomicU64::new(0));
    for _ in 0..5 {
        let node = builder(2).start().unwrap();
        serve(&node, &seen);
        let router = node.router("/life/sink").build().unwrap();
        router.wait_ready(2, LIMIT).unwrap();
        let askers: Vec<_> = (0..3)
            .map(|_| {
                let router = router.clone();
                thread::spawn(move || {
                    loop {
                        match router.ask(&item(1)).within(Duration::from_secs(60)).wait() {
                            Ok(_) => {}
                            Err(error) => return error,
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        let stopped = Instant::now();
        node.stop().unwrap();
        for asker in askers {
            let error = asker.join().unwrap();
            assert!(
                matches!(
                    error,
                    // Lost: it may have been handled before its worker stopped.
                    AskError::LinkLost
                        | AskError::Dead(keyway::DeathReason::Stopped)
                        | AskError::Refused(Refusal::Stopped)
                ),
                "{error:?}"
            );
        }
        assert!(stopped.elapsed() < Duration::from_secs(5));
        assert_eq!(router.tell(&item(1)), Err(Refusal::Stopped));
        assert!(router.wait_ready(9, LIMIT).is_err());
    }
}

#[test]
fn a_restarted_node_is_a_new_incarnation_and_gets_its_keys_back() {
    let seen = Arc::new(AtomicU64::new(0));
    let mut nodes = cluster(2, 2, &seen);
    let named = |address: SocketAddr| {
        let node = builder(2).bind(address).name("third").seed(nodes[0].address());
        let node = node.start().unwrap();
        serve(&node, &seen);
        node
    };
    let address = place();
    let third = named(address);
    let first_life = third.id();
    let router = nodes[0].router("/life/sink").consistent_hash().build().unwrap();
    router.wait_ready(6, LIMIT).unwrap();
    let owners = || -> Vec<u64> {
        (0..200)
            .map(|key| router.ask(&item(key)).within(LIMIT).idempotent().wait().unwrap())
            .collect()
    };
    let before = owners();
    assert!(before.contains(&first_life.node.0));

    drop(third);
    // Its place is taken by its next life, whether or not the others missed it.
    let third = named(address);
    let second_life = third.id();
    assert_eq!(first_life.node, second_life.node);
    assert!(first_life.incarnation < second_life.incarnation);
    eventually("the new life is a member", || {
        let view = nodes[0].view();
        let member = view.member(second_life.node);
        member.is_some_and(|member| {
            member.incarnation == second_life.incarnation
                && member.is_usable()
                && !member.services.is_empty()
        })
    });
    eventually("every key is back", || owners() == before);
    // A reference to the first life reaches nobody.
    let mut old = router.routees()[0].clone();
    old.id.node = first_life;
    let refusal = nodes[0].tell_to(&old, &item(1)).unwrap_err();
    assert!(matches!(refusal, Refusal::Stopped | Refusal::Unreachable), "{refusal:?}");
    eventually("the books balance", || nodes[0].counts().in_flight() == 0);
    nodes.clear();
}

#[test]
fn a_node_says_how_it_ended() {
    let seen = Arc::new(AtomicU64::new(0));
    let nodes = cluster(2, 1, &seen);
    assert_eq!(nodes[0].end(), None);
    let mut nodes = nodes.into_iter();
    let (first, second) = (nodes.next().unwrap(), nodes.next().unwrap());
    let router = second.router("/life/sink").build().unwrap();
    router.wait_ready(2, LIMIT).unwrap();
    assert!(second.leave_and_wait().unwrap());
    assert_eq!(router.tell(&item(1)), Err(Refusal::Stopped));
    let router = first.router("/life/sink").build().unwrap();
    eventually("only one is left", || router.routee_count() == 1);
    router.ask(&item(1)).within(LIMIT).wait().unwrap();
    assert_eq!(first.end(), None);
    drop(first);
    assert_eq!(router.tell(&item(1)), Err(Refusal::Stopped));
}
