//! More is sent than handlers can take: senders are told, and nothing that was accepted dies of it.
//! And a node that stops under load: whatever was accepted has a fate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use keyway::{
    AskError, Context, DeathReason, Handler, Message, Node, Placement, Refusal, Routee, Router,
    WorkerIndex,
};
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

/// Holds its worker for as long as the gate is shut, which is when its peers find their links full.
#[derive(Routee)]
#[routee(handles(Work))]
struct Gated(Arc<Gate>);

impl Handler<Work> for Gated {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) {
        self.0.hold();
    }
}

/// Peers stall one after another, each when the queue is full of what is for it, and for longer than
/// a link may keep a worker from taking hand-overs: those that come later find less room in the
/// queue, so that there is a place for all that it took.
#[test]
fn links_that_stall_one_after_another_cost_no_accepted_message() {
    const PEERS: usize = 5;
    let gate = Arc::<Gate>::default();
    let _opened = Opened(Arc::clone(&gate));
    let sending = node(None, 1);
    let peers: Vec<Node> = (0..PEERS).map(|_| node(Some(&sending), 1)).collect();
    let routers = peers.iter().zip(0..).map(|(peer, number)| {
        let (path, gate) = (format!("/user/gated-{number}"), Arc::clone(&gate));
        peer.serve(&path, move |_| Gated(Arc::clone(&gate))).unwrap();
        let router = sending.router(&path).build().unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        router
    });
    let routers: Vec<Router> = routers.collect();
    let flood = |router| flood_for(router, &work(0, 8_300), Duration::from_millis(500));
    let accepted: Vec<u64> = routers.iter().map(flood).collect();
    std::thread::sleep(Duration::from_millis(1_000));
    let counts = sending.counts();
    println!("accepted by peer: {accepted:?}; {counts:?}");
    gate.open();
    let all = accepted.iter().sum();
    let counts = settled(&sending, all);
    assert_eq!((counts.delivered, counts.dead_total()), (all, 0), "{counts:?}");
    assert!(counts.refused[Refusal::QueueFull as usize] > 0, "it was not full: {counts:?}");
    assert!(accepted.iter().all(|accepted| *accepted > 0), "one was shut out: {accepted:?}");
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
        let counts = node.stop().unwrap();
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

// ---- what rests is in flight ----

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "overload.order", reply = u64)]
enum Order {
    /// Sends so many to itself, and so many to the path of sinks; then holds the worker.
    Hold { own: u64, others: u64 },
    /// Passed on to the next sink so often.
    Pass { hops: u64 },
}

/// Holds its worker until the test lets it go.
#[derive(Routee)]
#[routee(handles(Order))]
struct Holder {
    gate: Arc<Gate>,
    sinks: Arc<OnceLock<Router>>,
    passed: Arc<AtomicU64>,
}

/// Held handlers wait here. Open for good once it is opened.
#[derive(Default)]
struct Gate {
    held: AtomicU64,
    open: (Mutex<bool>, Condvar),
}

impl Gate {
    fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let open = self.open.0.lock().unwrap();
        drop(self.open.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }

    fn wait_held(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.held.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "no handler is held");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Lets handlers go when the test ends, also by a panic: a node that is dropped waits for them.
struct Opened(Arc<Gate>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Handler<Order> for Holder {
    type Reply = u64;
    fn handle(&mut self, order: &ArchivedOrder, cx: &mut Context<'_>) -> u64 {
        match order {
            ArchivedOrder::Hold { own, others } => {
                let me = keyway::RouteeRef { id: cx.id(), path: "/user/holder".parse().unwrap() };
                for _ in 0..own.to_native() {
                    cx.tell_to(&me, &Order::Pass { hops: 0 }).unwrap();
                }
                for _ in 0..others.to_native() {
                    cx.tell(self.sinks.get().unwrap(), &Order::Pass { hops: 0 }).unwrap();
                }
                self.gate.hold();
                0
            }
            ArchivedOrder::Pass { hops } => {
                let hops = hops.to_native();
                self.passed.fetch_add(1, Ordering::SeqCst);
                if hops > 0 {
                    // Both outcomes are counted.
                    let _ = cx.tell(self.sinks.get().unwrap(), &Order::Pass { hops: hops - 1 });
                }
                hops
            }
        }
    }
}

fn holding(workers: u16) -> (Node, Arc<Gate>, Router, Router) {
    let node = Node::builder().bind("127.0.0.1:0").workers(usize::from(workers)).start().unwrap();
    let (node, gate, holder, sinks, _) = serve_holder(node, workers);
    (node, gate, holder, sinks)
}

/// Worker 0 serves `/user/holder`, the others `/user/sinks`. The last is how many messages were
/// passed.
fn serve_holder(node: Node, workers: u16) -> (Node, Arc<Gate>, Router, Router, Arc<AtomicU64>) {
    let (gate, passed) = (Arc::<Gate>::default(), Arc::<AtomicU64>::default());
    let sinks = Arc::<OnceLock<Router>>::default();
    let make = || {
        let (gate, sinks, passed) = (Arc::clone(&gate), Arc::clone(&sinks), Arc::clone(&passed));
        move |_| Holder {
            gate: Arc::clone(&gate),
            sinks: Arc::clone(&sinks),
            passed: Arc::clone(&passed),
        }
    };
    let on = |workers: std::ops::Range<u16>| Placement::Workers(workers.map(WorkerIndex).collect());
    node.serve_on("/user/holder", on(0..1), make()).unwrap();
    node.serve_on("/user/sinks", on(1..workers), make()).unwrap();
    let holder = node.router("/user/holder").build().unwrap();
    let to_sinks = node.router("/user/sinks").build().unwrap();
    holder.wait_ready(1, LIMIT).unwrap();
    to_sinks.wait_ready(usize::from(workers) - 1, LIMIT).unwrap();
    assert!(sinks.set(to_sinks.clone()).is_ok());
    (node, gate, holder, to_sinks, passed)
}

#[test]
fn what_waits_for_a_held_worker_is_in_flight_at_once() {
    // A clone hands over to the next worker: to the held one, and to one that passes on to it.
    for clones in 0..2 {
        let (node, gate, mut holder, _) = holding(2);
        for _ in 0..clones {
            holder = holder.clone();
        }
        let _opened = Opened(Arc::clone(&gate));
        for _ in 0..10 {
            holder.tell(&Order::Pass { hops: 0 }).unwrap();
        }
        settled(&node, 10);
        holder.tell(&Order::Hold { own: 3, others: 0 }).unwrap();
        gate.wait_held();
        let in_flight = || node.counts().in_flight();
        assert_eq!(in_flight(), 4, "the one that is handled, and what its handler has sent");
        for told in 1..=1_000 {
            holder.tell(&Order::Pass { hops: 0 }).unwrap();
            let counted = in_flight();
            assert!(counted >= 4 + told, "{counted} of {told}");
        }
        let mut batch = holder.batch();
        for _ in 0..100 {
            batch.tell(&Order::Pass { hops: 0 }).unwrap();
        }
        batch.flush().unwrap();
        let question = Order::Pass { hops: 0 };
        let ask = || holder.ask(&question).within(LIMIT);
        let asks = [ask().into_future(), ask().idempotent().into_future()];
        within("exactly all of them are in flight", || in_flight() == 4 + 1_000 + 100 + 2);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(in_flight(), 1_106, "and stay so: {:?}", node.counts());
        gate.open();
        let counts = settled(&node, 10 + 1_106);
        assert_eq!((counts.delivered, counts.dead_total()), (1_116, 0), "{counts:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for ask in asks {
            assert_eq!(runtime.block_on(ask), Ok(0));
        }
        assert_eq!(node.counts().in_flight(), 0);
    }
}

/// One message is held, while many others come and go between the other workers and through all of
/// them: whoever looks never sees that nothing is in flight.
#[test]
fn what_moves_never_hides_what_rests() {
    let (node, gate, holder, sinks) = holding(3);
    let _opened = Opened(Arc::clone(&gate));
    holder.tell(&Order::Hold { own: 0, others: 0 }).unwrap();
    gate.wait_held();
    let until = Instant::now() + Duration::from_millis(1_500);
    let (mut told, mut looks) = (1, 0_u64);
    std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            let mut told = 0;
            while Instant::now() < until {
                match sinks.tell(&Order::Pass { hops: 6 }) {
                    Ok(()) => told += 1,
                    Err(Refusal::QueueFull) => std::thread::yield_now(),
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            told
        });
        while Instant::now() < until {
            let counts = node.counts();
            assert!(counts.in_flight() > 0, "after {looks} looks: {counts:?}");
            looks += 1;
        }
        told += teller.join().unwrap();
    });
    within("all others have ended", || node.counts().in_flight() == 1);
    gate.open();
    within("the last one has as well", || node.counts().in_flight() == 0);
    let counts = node.counts();
    assert_eq!(counts.sent, counts.delivered + counts.refused_total(), "{counts:?}");
    println!("{told} told, {looks} looks");
}

/// A node that is told to stop does not wait for a held worker for ever. What that one had is given
/// up, by name and number, and is counted once whatever its handler does later.
#[test]
fn what_a_stopping_node_gives_up_is_named_and_counted_once() {
    let (node, gate, holder, _) = holding(2);
    let _opened = Opened(Arc::clone(&gate));
    holder.tell(&Order::Hold { own: 2, others: 5 }).unwrap();
    gate.wait_held();
    for _ in 0..1_000 {
        holder.tell(&Order::Pass { hops: 0 }).unwrap();
    }
    let began = Instant::now();
    let given_up = node.stop().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    println!("{given_up}");
    let [held] = &given_up.workers[..] else { panic!("one is held: {given_up}") };
    assert_eq!((held.worker, held.path.as_deref()), (WorkerIndex(0), Some("/user/holder")));
    assert_eq!(held.message.as_deref(), Some("overload.order"));
    assert!(held.turn >= Duration::from_secs(1), "{held}");
    // Itself, two to itself, and five to the other worker, which had not been sent yet.
    assert_eq!((given_up.messages, given_up.waiting), (1_008, 1_000), "{given_up}");
    let counts = *given_up.counts;
    assert_eq!((counts.in_flight(), counts.sent, counts.delivered), (0, 1_008, 0), "{counts:?}");
    assert_eq!((counts.dead[DeathReason::Stopped as usize], counts.unknown), (1_000, 8));
    let said = given_up.to_string();
    for part in ["worker 0", "/user/holder", "overload.order", " ms ", "sent from here 1008"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!(holder.tell(&Order::Pass { hops: 0 }), Err(Refusal::Stopped));
}

/// What it asks for may have been handled, by the handler that holds the worker for one. Only what
/// another worker had still is known not to be.
#[test]
fn nobody_whom_a_worker_that_is_given_up_may_have_heard_is_told_that_it_was_not_handled() {
    let (node, gate, holder, _) = holding(2);
    let _opened = Opened(Arc::clone(&gate));
    // Each hands over to another worker.
    let routers = [holder.clone(), holder.clone()];
    let hold = Order::Hold { own: 0, others: 0 };
    let ask = |router: &Router| router.ask(&hold).within(10 * LIMIT).into_future();
    let mut asks = vec![ask(&routers[0])];
    gate.wait_held();
    asks.extend(routers.iter().map(ask));
    within("all are in flight", || node.counts().in_flight() == 3);
    let given_up = node.stop().expect_err("a handler holds one of its workers");
    assert_eq!(given_up.counts.in_flight(), 0, "{given_up}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut ends = asks.into_iter().map(|ask| runtime.block_on(ask));
    assert_eq!(ends.next(), Some(Err(AskError::LinkLost)), "its handler has it");
    for end in ends {
        // The other worker may have been told to stop before it had handed it over.
        let unhandled = Err(AskError::Dead(DeathReason::Stopped));
        assert!(end == Err(AskError::LinkLost) || end == unhandled, "{end:?}");
    }
}

#[test]
fn a_handler_that_returns_after_its_node_ended_changes_no_count_and_handles_nothing_more() {
    let builder = Node::builder().bind("127.0.0.1:0").workers(2);
    let node = builder.set("membership.leave_timeout_ms", "200").start().unwrap();
    let (node, gate, holder, _, passed) = serve_holder(node, 2);
    let _opened = Opened(Arc::clone(&gate));
    let pass = Order::Pass { hops: 0 };
    let batch = |first: Option<Order>, more| {
        let mut batch = holder.batch();
        for order in first.iter().chain(std::iter::repeat_n(&pass, more)) {
            batch.tell(order).unwrap();
        }
        batch.flush().unwrap();
    };
    // Where handlers were quick, many messages are handled between two looks at the clock.
    for _ in 0..20 {
        batch(None, 100);
    }
    settled(&node, 2_000);
    let passed_before = passed.load(Ordering::SeqCst);
    batch(Some(Order::Hold { own: 50, others: 0 }), 50);
    gate.wait_held();
    for _ in 0..500 {
        holder.tell(&pass).unwrap();
    }
    node.begin_leave().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(node.ended()), keyway::Ended::Left { drained: false });
    let given_up = node.given_up().unwrap();
    assert_eq!(given_up.messages, 601, "{given_up}");
    assert_eq!(given_up.workers[0].path.as_deref(), Some("/user/holder"), "{given_up}");
    let before = node.counts();
    assert_eq!((before.in_flight(), *given_up.counts), (0, before), "{before:?}");
    let returned = Arc::strong_count(&gate);
    gate.open();
    // The worker's thread ends, and drops its routee.
    within("its worker ends", || Arc::strong_count(&gate) < returned);
    let passed = passed.load(Ordering::SeqCst) - passed_before;
    assert_eq!(passed, 0, "nothing is handled that was given up");
    assert_eq!(node.counts(), before);
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
