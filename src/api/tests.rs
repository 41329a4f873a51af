//! What a node's faces say when something breaks inside of it that no application can break.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use rkyv::{Archive, Deserialize, Serialize};

use super::*;
use crate::Message;
use crate::base::fate::{AskError, DeathReason, Refusal};
use crate::base::{NodeId, NodeRef, WorkerIndex};
use crate::queue::{block_on, block_on_within};
use crate::runtime::proxies::Order;
use crate::runtime::published::Ended;
use crate::wire::Chunk;
use crate::worker::{Context, Handler, HandlerTable, Injection, Later, Replier, Routee};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.wait", reply = u64)]
struct Wait;

/// Keeps who asks waiting.
#[derive(Default)]
struct Keeper(Vec<Replier<u64>>);

impl Routee for Keeper {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Wait>();
    }
}

impl Handler<Wait> for Keeper {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedWait, cx: &mut Context<'_>) -> Later<u64> {
        let (later, replier) = cx.reply_later();
        self.0.push(replier);
        later
    }
}

/// What is no frame, in a chunk of this process: a mistake that a worker asserts not to be there.
#[cfg(debug_assertions)]
#[test]
fn a_node_ends_by_name_when_one_of_its_workers_panics() {
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    node.serve("/user/keeper", |_| Keeper::default()).expect("serves");
    let router = node.router("/user/keeper").build().expect("builds");
    router.wait_ready(2, LIMIT).expect("is served");
    let asks: Vec<_> = (0..2)
        .map(|_| router.clone())
        .map(|router| std::thread::spawn(move || router.ask(&Wait).within(LIMIT * 10).wait()))
        .collect();
    while node.counts().delivered < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut frames = Chunk::with_capacity(64);
    frames.append(&[0xff; 64], 1);
    let snapshot = router.shared().snapshot.load_full();
    let own = snapshot.destinations.find(node.id(), WorkerIndex(1)).expect("it is there").id;
    let door = &router.shared().doors[1];
    assert!(door.injector.push(Injection::Frames { destination: own, frames }).is_ok());

    let since = Instant::now();
    while node.end().is_none() {
        assert!(since.elapsed() < LIMIT, "nobody has noticed");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(node.end(), Some(Ended::WorkerLost(WorkerIndex(1))));
    for ask in asks {
        // By whichever worker had it: the lost one tells nobody anything any more.
        let stopped = AskError::Dead(DeathReason::Stopped);
        let outcome = ask.join().unwrap();
        assert!([Err(AskError::LinkLost), Err(stopped)].contains(&outcome), "{outcome:?}");
    }
    let given_up = node.stop().expect_err("it had something");
    assert!(given_up.workers.iter().map(|lost| (lost.worker.0, lost.lost)).eq([(1, true)]));
    assert!(given_up.to_string().contains("worker 1 has panicked"), "{given_up}");
    assert_eq!(given_up.counts.in_flight(), 0, "{given_up:?}");
}

/// Answers at once.
struct Quick;

impl Routee for Quick {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Wait>();
    }
}

impl Handler<Wait> for Quick {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWait, _: &mut Context<'_>) -> u64 {
        7
    }
}

/// A node with a path that it serves on two workers.
fn serving() -> Node {
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    node.serve("/user/quick", |_| Quick).expect("serves");
    node
}

#[test]
fn a_wait_for_ever_is_no_mistake() {
    let node = serving();
    assert!(node.wait_members(1, Duration::MAX), "it is one");
    let router = node.router("/user/quick").build().expect("builds");
    router.wait_ready(2, Duration::MAX).expect("is served");
    assert_eq!(router.ask(&Wait).within(Duration::MAX).wait(), Ok(7));
    let nobody = NodeRef { node: NodeId(1), ..node.id() };
    let mut watch = node.watch(nobody).expect("is watched");
    watch.wait(Duration::MAX).expect("this node runs").expect("there is none");
    node.stop().expect("nothing holds it");
}

#[test]
fn what_a_batch_is_refused_is_counted_once_by_its_reason() {
    let node = serving();
    let each = node.router("/user/quick").broadcast().build().expect("builds");
    let one = node.router("/user/quick").build().expect("builds");
    for router in [&each, &one] {
        router.wait_ready(2, LIMIT).expect("is served");
    }
    let (mut to_each, mut to_one) = (each.batch(), one.batch());
    for _ in 0..3 {
        to_one.tell(&Wait).expect("is kept in the batch");
    }
    let counts = node.stop().expect("nothing holds it");
    assert_eq!(counts.refused_total(), 0);
    assert_eq!(to_each.tell(&Wait), Err(Refusal::Stopped));
    let stopped = || {
        let counts = each.shared().counts();
        (counts.refused[Refusal::Stopped as usize], counts.refused_total())
    };
    assert_eq!(stopped(), (2, 2), "a copy for each routee");
    assert_eq!(to_one.flush(), Err(Refusal::Stopped));
    drop((to_each, to_one));
    assert_eq!(stopped(), (5, 5), "and what was left, by why it was");
}

#[test]
fn a_stream_says_that_it_is_over_to_those_who_do_not_wait() {
    let node = serving();
    let (mut events, mut letters) = (node.events(), node.dead_letters());
    // Holds what the node's faces share.
    let _router = node.router("/user/quick").build().expect("builds");
    assert_eq!(letters.try_next(), Ok(None));
    node.stop().expect("nothing holds it");
    let since = Instant::now();
    while events.try_next() != Err(EventGap::Stopped) {
        assert!(since.elapsed() < LIMIT);
    }
    assert_eq!(letters.try_next(), Err(EventGap::Stopped));
}

/// Takes until it is let go.
struct Holder(Arc<std::sync::Barrier>);

impl Routee for Holder {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Wait>();
    }
}

impl Handler<Wait> for Holder {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWait, _: &mut Context<'_>) -> u64 {
        self.0.wait();
        self.0.wait();
        7
    }
}

/// A snapshot holds the cluster and its tables, and control makes one with each change.
#[test]
fn a_worker_that_is_held_keeps_one_snapshot_and_the_latest_however_many_it_misses() {
    const MISSED: usize = 100;
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    let held = Arc::new(std::sync::Barrier::new(2));
    let its = Arc::clone(&held);
    let on_first = crate::base::Placement::Workers(vec![WorkerIndex(0)]);
    node.serve_on("/user/holder", on_first, move |_| Holder(Arc::clone(&its))).expect("serves");
    let router = node.router("/user/holder").build().expect("builds");
    router.wait_ready(1, LIMIT).expect("is served");
    router.tell(&Wait).expect("is taken");
    held.wait();
    let mut snapshots = Vec::new();
    for number in 0..MISSED {
        let other = node.router(&format!("/user/{number}")).build().expect("builds");
        snapshots.push(Arc::downgrade(&other.shared().snapshot.load_full()));
    }
    let alive = || snapshots.iter().filter(|snapshot| snapshot.strong_count() > 0).count();
    let since = Instant::now();
    // The published one, the other worker's, the held one's, and the one that waits for that.
    while alive() > 4 {
        assert!(since.elapsed() < LIMIT, "{} of {MISSED} are kept", alive());
        std::thread::sleep(Duration::from_millis(5));
    }
    // It goes on with the latest.
    held.wait();
    node.serve("/user/quick", |_| Quick).expect("serves");
    let quick = node.router("/user/quick").build().expect("builds");
    quick.wait_ready(2, LIMIT).expect("is served on both");
    node.stop().expect("nothing holds it any more");
}

/// A waker that says that it was woken, and panics.
struct Rude(Arc<AtomicBool>);

impl Wake for Rude {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
        panic!("told to");
    }
}

#[test]
fn wakers_that_panic_take_no_thread_of_the_node_down() {
    let node = serving();
    node.serve("/user/keeper", |_| Keeper::default()).expect("serves");
    let [keeper, quick] = ["/user/keeper", "/user/quick"].map(|path| {
        let router = node.router(path).build().expect("builds");
        router.wait_ready(2, LIMIT).expect("is served");
        router
    });
    let (mut events, mut watch) = (node.events(), node.watch(node.id()).expect("is watched"));
    let waits: [Pin<Box<dyn Future<Output = bool>>>; 6] = [
        Box::pin(async { node.members_ready(2).await.is_err() }),
        Box::pin(async { quick.ready(3).await.is_err() }),
        Box::pin(async { events.next().await.is_ok() }),
        Box::pin(async { watch.gone().await.is_err() }),
        Box::pin(async { node.ended().await == Ended::Stopped }),
        Box::pin(async { keeper.ask(&Wait).within(LIMIT).await.is_err() }),
    ];
    let mut waits = waits.map(|wait| (wait, Arc::new(AtomicBool::new(false))));
    for (wait, woken) in &mut waits {
        let waker = Waker::from(Arc::new(Rude(Arc::clone(woken))));
        assert!(wait.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    }
    // Has control and the workers wake them all.
    node.serve("/user/other", |_| Quick).expect("serves");
    node.shared.order(Order::Stop).expect("it runs");
    let since = Instant::now();
    // Before any of them is looked at again, with another waker.
    while !waits.iter().all(|(_, woken)| woken.load(Ordering::Relaxed)) {
        assert!(since.elapsed() < LIMIT, "one is not woken");
        std::thread::sleep(Duration::from_millis(1));
    }
    for (wait, _) in waits {
        assert!(block_on(wait), "it has ended in good order");
    }
    node.stop().expect("no worker is lost");
}

#[test]
fn who_asked_and_workers_that_sleep_hear_that_control_has_panicked() {
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    let held = Arc::new(std::sync::Barrier::new(2));
    for (path, worker) in [("/user/holder", 0), ("/user/sleeper", 1)] {
        let its = Arc::clone(&held);
        let on = crate::base::Placement::Workers(vec![WorkerIndex(worker)]);
        node.serve_on(path, on, move |_| Holder(Arc::clone(&its))).expect("serves");
    }
    let router = node.router("/user/holder").build().expect("builds");
    router.wait_ready(1, LIMIT).expect("is served");
    let ask = router.ask(&Wait).within(10 * LIMIT).into_future();
    held.wait();
    // Until the other one sleeps.
    std::thread::sleep(Duration::from_millis(50));
    let (read, show) = (Box::new(|| panic!("told to")), Box::new(|_| ()));
    let order = crate::part::load::Order::Begin { read, show };
    node.shared.order(Order::Part(order.into())).expect("it runs");
    assert_eq!(block_on_within(ask, LIMIT), Some(Err(AskError::LinkLost)));
    // The one that is held takes what is handed to it, and nobody would hear that it was in vain.
    assert_eq!(router.tell(&Wait), Err(Refusal::Stopped));
    held.wait();
    let since = Instant::now();
    // Both workers' threads end, and drop their routees and what makes them.
    while Arc::strong_count(&held) > 1 {
        assert!(since.elapsed() < LIMIT, "one sleeps");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(block_on_within(node.ended(), LIMIT), Some(Ended::Stopped));
}
