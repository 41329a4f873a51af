//! More is sent than handlers can take: senders are told, and nothing that was accepted dies of it.
//! And a node that stops under load: whatever was accepted has a fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyway::{Context, DeathReason, Handler, Message, Node, Refusal, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(30);
const THREADS: u64 = 8;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "overload.work")]
struct Work {
    takes_us: u64,
    body: Vec<u8>,
}

#[derive(Routee)]
#[routee(handles(Work))]
struct Slow;

impl Handler<Work> for Slow {
    type Reply = ();
    fn handle(&mut self, work: &ArchivedWork, _: &mut Context<'_>) {
        std::thread::sleep(Duration::from_micros(work.takes_us.to_native()));
    }
}

/// With small queues, so that they are full soon.
fn node(seed: Option<&Node>, workers: usize) -> Node {
    let builder = Node::builder()
        .bind("127.0.0.1:0")
        .workers(workers)
        .set("links.max_frame_bytes", "65536")
        .set("links.outbox_bytes", "1048576")
        .set("workers.inject_capacity", "256");
    match seed {
        Some(seed) => builder.seed(seed.address()).start().unwrap(),
        None => builder.start().unwrap(),
    }
}

fn work(takes_us: u64, bytes: usize) -> Work {
    Work { takes_us, body: vec![7; bytes] }
}

/// Tells from many threads as fast as it goes. Returns how many were accepted.
fn flood(router: &Router, message: &Work, until: &AtomicBool) -> u64 {
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !until.load(Ordering::Relaxed) {
                    match router.tell(message) {
                        Ok(()) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Refusal::QueueFull) => std::thread::sleep(Duration::from_micros(200)),
                        Err(_) => return,
                    }
                }
            });
        }
    });
    accepted.into_inner()
}

fn flood_for(router: &Router, message: &Work, time: Duration) -> u64 {
    let until = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(time);
            until.store(true, Ordering::Relaxed);
        });
        flood(router, message, &until)
    })
}

fn settled(node: &Node, accepted: u64) -> keyway::Counts {
    let deadline = Instant::now() + LIMIT;
    loop {
        let counts = node.counts();
        if counts.sent - counts.refused_total() == accepted && counts.in_flight() == 0 {
            return counts;
        }
        assert!(Instant::now() < deadline, "{accepted} accepted, {counts:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nothing_accepted_dies(sending: &Node, router: &Router) {
    let accepted = flood_for(router, &work(1_000, 8_300), Duration::from_millis(1_500));
    let counts = settled(sending, accepted);
    assert_eq!(counts.dead[DeathReason::Overflow as usize], 0, "{counts:?}");
    assert_eq!((counts.delivered, counts.dead_total()), (accepted, 0), "{counts:?}");
    assert!(counts.refused[Refusal::QueueFull as usize] > 0, "it was not full: {counts:?}");
}

#[test]
fn what_was_accepted_for_a_slow_routee_of_this_node_does_not_die() {
    for workers in [1, 2] {
        let node = node(None, workers);
        node.serve("/user/slow", |_| Slow).unwrap();
        let router = node.router("/user/slow").build().unwrap();
        router.wait_ready(workers, LIMIT).unwrap();
        nothing_accepted_dies(&node, &router);
    }
}

#[test]
fn what_was_accepted_for_a_slow_routee_elsewhere_does_not_die() {
    let sending = node(None, 1);
    let serving = node(Some(&sending), 1);
    serving.serve("/user/slow", |_| Slow).unwrap();
    let router = sending.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    nothing_accepted_dies(&sending, &router);
}

#[test]
fn a_routee_that_takes_nothing_holds_up_nobody_else() {
    let sending = node(None, 1);
    let (stuck, quick) = (node(Some(&sending), 1), node(Some(&sending), 1));
    stuck.serve("/user/stuck", |_| Slow).unwrap();
    quick.serve("/user/quick", |_| Slow).unwrap();
    let to_stuck = sending.router("/user/stuck").build().unwrap();
    let to_quick = sending.router("/user/quick").build().unwrap();
    to_stuck.wait_ready(1, LIMIT).unwrap();
    to_quick.wait_ready(1, LIMIT).unwrap();
    to_stuck.tell(&work(3_000_000, 0)).unwrap();
    // Until its link is full, and for a while on.
    let accepted = flood_for(&to_stuck, &work(0, 60_000), Duration::from_millis(700));
    let began = Instant::now();
    for _ in 0..50 {
        to_quick.tell(&work(0, 100)).unwrap();
    }
    while quick.counts().received < 50 {
        assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", sending.counts());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(stuck.counts().received < 2, "it has got on: {:?}", stuck.counts());
    let counts = settled(&sending, accepted + 51);
    assert_eq!(counts.delivered, accepted + 51, "{counts:?}");
}

/// Three peers of four are slow, and their links are without room most of the time: none of what
/// was accepted for them dies, and the fourth gets on.
#[test]
fn several_slow_links_at_once_cost_no_accepted_message_and_hold_up_nobody_else() {
    const PEERS: usize = 4;
    let sending = node(None, 1);
    let peers: Vec<Node> = (0..PEERS).map(|_| node(Some(&sending), 1)).collect();
    let routers: Vec<Router> = (0..PEERS)
        .map(|peer| {
            let path = format!("/user/peer-{peer}");
            peers[peer].serve(&path, |_| Slow).unwrap();
            let router = sending.router(&path).build().unwrap();
            router.wait_ready(1, LIMIT).unwrap();
            router
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(4);
    let accepted: Vec<AtomicU64> = (0..PEERS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while Instant::now() < until {
                    let mut refused = 0;
                    for (peer, router) in routers.iter().enumerate() {
                        let takes_us = if peer + 1 == PEERS { 0 } else { 1_000 };
                        match router.tell(&work(takes_us, 8_300)) {
                            Ok(()) => drop(accepted[peer].fetch_add(1, Ordering::Relaxed)),
                            Err(Refusal::QueueFull) => refused += 1,
                            Err(refusal) => panic!("{refusal}"),
                        }
                    }
                    if refused == PEERS {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
        }
    });
    let accepted: Vec<u64> = accepted.into_iter().map(AtomicU64::into_inner).collect();
    let all = accepted.iter().sum();
    let counts = settled(&sending, all);
    println!("accepted by peer: {accepted:?}; {counts:?}");
    assert_eq!((counts.delivered, counts.dead_total()), (all, 0), "{counts:?}");
    let slow = accepted[..PEERS - 1].iter().max().unwrap();
    assert!(accepted[PEERS - 1] > 2 * slow, "the quick one was held up: {accepted:?}");
}

#[test]
fn a_node_that_stops_accounts_for_everything_it_accepted() {
    for round in 0..20 {
        let node = node(None, 2);
        node.serve("/user/work", |_| Slow).unwrap();
        let router = node.router("/user/work").build().unwrap();
        router.wait_ready(2, LIMIT).unwrap();
        let never = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn(move || flood(&router, &work(0, 100), &never));
        std::thread::sleep(Duration::from_millis(20 + round));
        let counts = node.stop();
        let accepted = sender.join().unwrap();
        let ended = counts.delivered + counts.dead_total() + counts.unknown;
        assert_eq!(counts.in_flight(), 0, "round {round}: {counts:?}");
        assert_eq!(ended, accepted, "round {round}: {counts:?}");
    }
}

#[test]
fn a_handler_that_holds_its_worker_is_counted() {
    let node = node(None, 1);
    node.serve("/user/work", |_| Slow).unwrap();
    let router = node.router("/user/work").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    router.tell(&work(150_000, 0)).unwrap();
    let counts = settled(&node, 1);
    assert_eq!(counts.delivered, 1);
    let deadline = Instant::now() + LIMIT;
    while node.counts().slow_turns == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}
