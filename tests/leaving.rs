//! Nodes that leave while their own application goes on: what is refused, what is finished, and what
//! a leave says that it waits for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keyway::{
    AskError, AsyncReplies, Context, Ended, GoneReason, Handler, Later, Message, Node, NodeBuilder,
    NodeError, Placement, Refusal, Routee, Router, WorkerIndex,
};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "leaving.add", key = key, reply = u64)]
struct Add {
    key: u64,
}

/// Counts, and takes its time for it.
#[derive(Routee)]
#[routee(handles(Add))]
struct Slow(Arc<AtomicU64>, Duration);

impl Handler<Add> for Slow {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedAdd, _: &mut Context<'_>) -> u64 {
        thread::sleep(self.1);
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "leaving.pass", reply = u64)]
struct Pass;

/// Waits for a gate, and then asks another path from its future; tells it by its context as well.
#[derive(Routee)]
#[routee(handles(Pass))]
struct Passes {
    replies: AsyncReplies,
    on: Router,
    gate: Arc<AtomicBool>,
}

impl Handler<Pass> for Passes {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedPass, cx: &mut Context<'_>) -> Later<u64> {
        cx.tell(&self.on, &Add { key: 2 }).unwrap();
        let (on, gate) = (self.on.clone(), Arc::clone(&self.gate));
        self.replies.reply(cx, async move {
            while !gate.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            on.ask(&Add { key: 1 }).within(LIMIT).await.unwrap_or(u64::MAX)
        })
    }
}

/// Waits for a gate, and then tells by a router; says whether that was refused.
#[derive(Routee)]
#[routee(handles(Pass))]
struct Tells {
    by: Router,
    began: Arc<AtomicU64>,
    gate: Arc<AtomicBool>,
}

impl Handler<Pass> for Tells {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedPass, _: &mut Context<'_>) -> u64 {
        self.began.fetch_add(1, Ordering::SeqCst);
        while !self.gate.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        u64::from(self.by.tell(&Add { key: 1 }) == Err(Refusal::Leaving))
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

fn builder(name: &str) -> NodeBuilder {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    builder.name(name)
}

fn serve(node: &Node, seen: &Arc<AtomicU64>, takes: Duration) {
    let seen = Arc::clone(seen);
    node.serve("/add", move |_| Slow(Arc::clone(&seen), takes)).unwrap();
}

fn is_up(node: &Node) -> bool {
    node.end().is_none()
}

#[test]
fn an_application_that_goes_on_sending_does_not_keep_its_node_from_leaving() {
    let (seen, told, asked) = (Arc::default(), AtomicU64::new(0), AtomicU64::new(0));
    let leaver = builder("leaver").start().unwrap();
    serve(&leaver, &seen, Duration::ZERO);
    let other = builder("other").seed(leaver.address()).start().unwrap();
    serve(&other, &seen, Duration::ZERO);
    let router = leaver.router("/add").build().unwrap();
    router.wait_ready(2, LIMIT).unwrap();
    // Longer than the test may take: whoever waits for it fails.
    let began = Instant::now();
    let refused = thread::scope(|scope| {
        let tells = scope.spawn({
            let (router, told) = (router.clone(), &told);
            move || {
                let mut refused = Vec::new();
                while refused.last() != Some(&Refusal::Stopped) {
                    match router.tell(&Add { key: 1 }) {
                        Ok(()) => drop(told.fetch_add(1, Ordering::SeqCst)),
                        Err(Refusal::QueueFull) => thread::sleep(Duration::from_micros(200)),
                        Err(refusal) => refused.push(refusal),
                    }
                    refused.dedup();
                }
                refused
            }
        });
        let asks = scope.spawn({
            let (router, asked) = (router.clone(), &asked);
            move || loop {
                // Also those that would be tried again.
                match router.ask(&Add { key: 1 }).within(LIMIT).idempotent().wait() {
                    Ok(_) => drop(asked.fetch_add(1, Ordering::SeqCst)),
                    Err(AskError::Refused(Refusal::QueueFull)) => {
                        thread::sleep(Duration::from_micros(200));
                    }
                    Err(AskError::Refused(refusal)) => break refusal,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        eventually("it is busy", || {
            told.load(Ordering::SeqCst) > 100 && asked.load(Ordering::SeqCst) > 10
        });
        leaver.begin_leave().unwrap();
        assert_eq!(router.tell(&Add { key: 1 }), Err(Refusal::Leaving));
        assert_eq!(router.broadcast(&Add { key: 1 }), Err(Refusal::Leaving));
        let mut batch = router.batch();
        assert_eq!(batch.tell(&Add { key: 1 }), Err(Refusal::Leaving));
        assert_eq!(asks.join().unwrap(), Refusal::Leaving);
        eventually("it has left", || !is_up(&leaver));
        tells.join().unwrap()
    });
    assert_eq!(leaver.end(), Some(Ended::Left { drained: true }));
    assert_eq!(refused, [Refusal::Leaving, Refusal::Stopped]);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let counts = leaver.counts();
    assert_eq!((counts.in_flight(), counts.dead_total(), counts.unknown), (0, 0, 0), "{counts:?}");
    let sent = told.load(Ordering::SeqCst) + asked.load(Ordering::SeqCst);
    assert_eq!((counts.delivered, seen.load(Ordering::SeqCst)), (sent, sent), "all was finished");
    assert!(leaver.leave_waits_for().is_none(), "it waited for nothing");
}

#[test]
fn what_handlers_have_begun_still_sends_while_their_node_leaves() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let (seen, gate) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let leaver = builder("leaver").start().unwrap();
    let other = builder("other").seed(leaver.address()).start().unwrap();
    serve(&other, &seen, Duration::ZERO);
    let on = leaver.router("/add").consistent_hash().build().unwrap();
    on.wait_ready(1, LIMIT).unwrap();
    let parts = (AsyncReplies::new(runtime.handle().clone(), 8), on.clone(), Arc::clone(&gate));
    leaver
        .serve("/pass", move |_| {
            let (replies, on, gate) = parts.clone();
            Passes { replies, on, gate }
        })
        .unwrap();
    let pass = other.router("/pass").build().unwrap();
    pass.wait_ready(1, LIMIT).unwrap();

    thread::scope(|scope| {
        let asked = scope.spawn(|| pass.ask(&Pass).within(LIMIT).wait());
        eventually("it is under way", || seen.load(Ordering::SeqCst) == 1);
        leaver.begin_leave().unwrap();
        assert_eq!(on.tell(&Add { key: 1 }), Err(Refusal::Leaving));
        // It waits for the handler's future, and says so.
        eventually("it says what it waits for", || leaver.leave_waits_for().is_some());
        let waits = leaver.leave_waits_for().unwrap();
        assert!(waits.owes_replies && waits.to_string().contains("reply later"), "{waits}");
        gate.store(true, Ordering::SeqCst);
        assert_eq!(asked.join().unwrap(), Ok(2));
        eventually("it has left", || !is_up(&leaver));
    });
    assert_eq!(leaver.end(), Some(Ended::Left { drained: true }));
}

/// Both nodes are in this process, and the router is the leaver's.
#[test]
fn a_leaving_node_takes_what_its_own_handlers_tell_and_nothing_of_another_nodes() {
    let leaver = builder("leaver").start().unwrap();
    let other = builder("other").seed(leaver.address()).start().unwrap();
    serve(&other, &Arc::default(), Duration::ZERO);
    let by = leaver.router("/add").build().unwrap();
    by.wait_ready(1, LIMIT).unwrap();
    let (began, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    thread::scope(|scope| {
        // The other one's worker is held last.
        let asks = [(&leaver, "/own", 1), (&other, "/others", 2)].map(|(node, path, count)| {
            let (by, its, gate) = (by.clone(), Arc::clone(&began), Arc::clone(&gate));
            let make = move || Tells { by: by.clone(), began: its.clone(), gate: gate.clone() };
            node.serve(path, move |_| make()).unwrap();
            let router = other.router(path).build().unwrap();
            router.wait_ready(1, LIMIT).unwrap();
            let asked = scope.spawn(move || router.ask(&Pass).within(LIMIT).wait());
            eventually("it is held", || began.load(Ordering::SeqCst) == count);
            asked
        });
        leaver.begin_leave().unwrap();
        gate.store(true, Ordering::SeqCst);
        assert_eq!(asks.map(|asked| asked.join().unwrap()), [Ok(0), Ok(1)]);
    });
}

#[test]
fn a_peer_that_holds_up_a_leave_is_named_and_so_is_what_was_given_up() {
    let seen = Arc::default();
    let leaver = builder("leaver").set("membership.leave_timeout_ms", "2500").start().unwrap();
    let slow = builder("slow").seed(leaver.address()).start().unwrap();
    serve(&slow, &seen, Duration::from_secs(8));
    let router = leaver.router("/add").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    thread::scope(|scope| {
        let asked = scope.spawn(|| router.ask(&Add { key: 1 }).within(LIMIT).wait());
        eventually("it is under way", || leaver.counts().sent == 1);
        leaver.begin_leave().unwrap();
        eventually("it says what it waits for", || leaver.leave_waits_for().is_some());
        let waits = leaver.leave_waits_for().unwrap();
        assert_eq!(waits.asks, 1);
        assert_eq!(waits.peers, [("slow".into(), slow.address())]);
        assert!(waits.to_string().contains("slow at 127.0.0.1:"), "{waits}");
        eventually("it has left", || !is_up(&leaver));
        assert!(asked.join().unwrap().is_err());
    });
    assert_eq!(leaver.end(), Some(Ended::Left { drained: false }));
    let gave_up = leaver.leave_waits_for().unwrap();
    assert_eq!((gave_up.asks, gave_up.peers.len()), (1, 1), "{gave_up}");
}

#[test]
fn a_leave_of_which_nobody_hears_says_so() {
    let leaver = builder("leaver").set("membership.leave_timeout_ms", "2000").start().unwrap();
    let other = builder("other").seed(leaver.address()).start().unwrap();
    eventually("they meet", || leaver.view().members.len() == 2);
    leaver.begin_leave().unwrap();
    other.stop().unwrap();
    eventually("it has left", || !is_up(&leaver));
    assert_eq!(leaver.end(), Some(Ended::Left { drained: false }));
    let waits = leaver.leave_waits_for().unwrap();
    assert!(waits.unheard && waits.to_string().starts_with("the word of a member"), "{waits}");
}

#[test]
fn a_handler_that_holds_its_worker_makes_a_leave_no_longer_than_its_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(12);
    let seen = Arc::default();
    let leaver = builder("leaver").set("membership.leave_timeout_ms", "12000").start().unwrap();
    let other = builder("other").seed(leaver.address()).start().unwrap();
    serve(&leaver, &seen, Duration::from_secs(30));
    let router = other.router("/add").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    for key in 0..100 {
        router.tell(&Add { key }).unwrap();
    }
    eventually("a handler holds its worker", || leaver.health().stuck().count() == 1);
    let began = Instant::now();
    assert!(!leaver.leave_and_wait().unwrap(), "it cannot be drained");
    let took = began.elapsed();
    assert!(took < TIMEOUT + Duration::from_millis(500), "{took:?}");
}

/// Takes its time, and then tells the next one.
#[derive(Routee)]
#[routee(handles(Pass))]
struct First(Router, Arc<AtomicBool>);

impl Handler<Pass> for First {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedPass, cx: &mut Context<'_>) -> u64 {
        self.1.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(400));
        cx.tell(&self.0, &Add { key: 1 }).unwrap();
        0
    }
}

/// Begins work elsewhere, and counts what is done.
#[derive(Routee)]
#[routee(handles(Add))]
struct Second(Arc<AtomicU64>);

impl Handler<Add> for Second {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedAdd, cx: &mut Context<'_>) -> u64 {
        let work = cx.begin_work(|it: &mut Self, done: Result<(), _>, _| {
            it.0.fetch_add(u64::from(done.is_ok()), Ordering::SeqCst);
        });
        let work = work.unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(600));
            work.done(());
        });
        0
    }
}

#[test]
fn what_a_slow_handler_has_another_worker_begin_is_waited_for() {
    let (done, begun) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let leaver = builder("leaver").workers(2).set("membership.gossip_ms", "20").start().unwrap();
    let on = |worker| Placement::Workers(vec![WorkerIndex(worker)]);
    let its = Arc::clone(&done);
    leaver.serve_on("/second", on(1), move |_| Second(Arc::clone(&its))).unwrap();
    let second = leaver.router("/second").build().unwrap();
    let (its, parts) = (Arc::clone(&begun), second.clone());
    leaver.serve_on("/first", on(0), move |_| First(parts.clone(), Arc::clone(&its))).unwrap();
    let first = leaver.router("/first").build().unwrap();
    first.wait_ready(1, LIMIT).unwrap();
    second.wait_ready(1, LIMIT).unwrap();
    first.tell(&Pass).unwrap();
    eventually("it is under way", || begun.load(Ordering::SeqCst));
    assert!(leaver.leave_and_wait().unwrap(), "all is drained");
    assert_eq!(done.load(Ordering::SeqCst), 1, "the work of the other worker is a part of that");
}

#[test]
fn a_leave_that_a_handler_asks_for_goes_on_though_the_handler_cannot_wait() {
    #[derive(Routee)]
    #[routee(handles(Pass))]
    struct ShutDown(Arc<Mutex<Option<Node>>>);

    impl Handler<Pass> for ShutDown {
        type Reply = u64;
        fn handle(&mut self, _: &ArchivedPass, _: &mut Context<'_>) -> u64 {
            let node = self.0.lock().unwrap().take().expect("it is asked once");
            let left = node.leave_and_wait();
            u64::from(matches!(left, Err(NodeError::WouldBlock)))
        }
    }

    let leaver = builder("leaver").start().unwrap();
    let (id, address) = (leaver.id(), leaver.address());
    let place = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&place);
    leaver.serve("/pass", move |_| ShutDown(Arc::clone(&shared))).unwrap();
    place.lock().unwrap().replace(leaver);
    let other = builder("other").seed(address).start().unwrap();
    let router = other.router("/pass").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let mut watch = other.watch(id).unwrap();
    assert_eq!(router.ask(&Pass).within(LIMIT).wait(), Ok(1));
    assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::NodeLeft));
}

#[test]
fn who_has_ended_does_not_begin_to_leave() {
    for _ in 0..20 {
        let node = builder("alone").set("membership.gossip_ms", "20").start().unwrap();
        assert_eq!(node.wait_ended(Duration::ZERO).unwrap(), None);
        node.begin_leave().unwrap();
        node.begin_leave().expect("it changes nothing");
        let ended = node.wait_ended(LIMIT).unwrap();
        assert_eq!(ended, Some(keyway::Ended::Left { drained: true }));
        let again = node.begin_leave();
        assert!(matches!(again, Err(NodeError::Stopped)), "{again:?}");
    }
}
