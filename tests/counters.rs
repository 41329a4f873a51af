//! What a node exports as a counter never falls, over all of its life: whoever sums counters up
//! takes a fall for a restart, and everything that was counted before for new.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::admin::{Admin, AdminPort};
use keyway::{Context, Ended, Handler, Message, Node, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(30);
/// How long there is traffic.
const TRAFFIC: Duration = Duration::from_secs(3);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "counters.work", reply = u64)]
struct Work {
    us: u64,
}

#[derive(Routee)]
#[routee(handles(Work))]
struct Worker;

impl Handler<Work> for Worker {
    type Reply = u64;
    fn handle(&mut self, work: &ArchivedWork, _: &mut Context<'_>) -> u64 {
        std::thread::sleep(Duration::from_micros(work.us.to_native()));
        1
    }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "counters.hold")]
struct Hold;

/// Holds its worker until the test is over, and says when it begins.
#[derive(Routee)]
#[routee(handles(Hold))]
struct Holder(Sender<()>, Arc<Mutex<Receiver<()>>>);

impl Handler<Hold> for Holder {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedHold, _: &mut Context<'_>) {
        let _ = self.0.send(());
        let _ = self.1.lock().unwrap().recv_timeout(LIMIT);
    }
}

type Numbers = BTreeMap<String, f64>;

/// Each of the counts, by its name and reason.
fn counts(node: &Node) -> Numbers {
    let json = serde_json::to_value(node.counts()).unwrap();
    let mut numbers = Numbers::new();
    for (name, value) in json.as_object().unwrap() {
        let each = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for (reason, value) in each.iter().enumerate() {
            numbers.insert(format!("{name}[{reason}]"), value.as_f64().unwrap());
        }
    }
    numbers
}

/// Each counter of `/metrics`, by its whole line, and what histograms count.
fn metrics(address: SocketAddr) -> Numbers {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let kinds = answer.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let kinds: BTreeMap<&str, &str> = kinds.filter_map(|line| line.split_once(' ')).collect();
    let counts = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap();
        let is = |end: &str, kind: &str| {
            name.strip_suffix(end).is_some_and(|family| kinds.get(family) == Some(&kind))
        };
        is("_total", "counter")
            || ["_bucket", "_count", "_sum"].iter().any(|end| is(end, "histogram"))
    };
    let samples = answer.lines().filter(|line| !line.starts_with('#') && counts(line));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// Reads again and again until it is over. Gives how often, and what came last.
fn watch(mut read: impl FnMut() -> Numbers, over: &AtomicBool) -> (u64, Numbers) {
    let (mut looks, mut last) = (0, Numbers::new());
    loop {
        let is_last = over.load(Ordering::SeqCst);
        let now = read();
        for (name, before) in &last {
            let now = now.get(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert!(now >= before, "{name} falls from {before} to {now} after {looks} looks");
        }
        (looks, last) = (looks + 1, now);
        if is_last {
            return (looks, last);
        }
    }
}

/// Ends those who watch, also when the test fails.
struct Over<'a>([&'a AtomicBool; 2]);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|over| over.store(true, Ordering::SeqCst));
    }
}

/// Every way to send, also to nobody, until it is over.
fn traffic(router: &Router, nobody: &Router, until: Instant) {
    let quick = Work { us: 0 };
    let asks = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while Instant::now() < until {
            // One that ends well, one that is too slow, and one that is dropped.
            let _ = router.ask(&quick).within(LIMIT).idempotent().wait();
            let slow = router.ask(&Work { us: 2_000 }).within(Duration::from_millis(1));
            let _ = runtime.block_on(slow.idempotent().into_future());
            let mut dropped = Box::pin(router.ask(&quick).idempotent().into_future());
            runtime.block_on(std::future::poll_fn(|cx| {
                let _ = dropped.as_mut().poll(cx);
                std::task::Poll::Ready(())
            }));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                let _ = (router.tell(&quick), nobody.tell(&quick));
            }
        });
        scope.spawn(|| {
            while Instant::now() < until {
                let mut batch = router.batch();
                for _ in 0..50 {
                    let _ = batch.tell(&quick);
                }
                let _ = batch.flush();
                // Longer than a slow turn.
                let _ = router.tell(&Work { us: 6_000 });
            }
        });
        scope.spawn(asks);
        scope.spawn(asks);
    });
}

#[test]
fn no_counter_falls_over_the_life_of_a_node() {
    let builder = || Node::builder().bind("127.0.0.1:0").workers(2);
    let builder = builder().set("workers.slow_turn_ms", "3").set("workers.inject_capacity", "64");
    let builder = builder.set("membership.leave_timeout_ms", "200").spin(Duration::from_micros(50));
    let node = Arc::new(builder.start().unwrap());
    let other =
        Node::builder().bind("127.0.0.1:0").workers(1).seed(node.address()).start().unwrap();
    let port = AdminPort::open("127.0.0.1:0".parse().unwrap()).unwrap();
    let admin = Admin::builder(Arc::clone(&node)).start(port).unwrap();
    let address = admin.address();
    for node in [&*node, &other] {
        node.serve("/user/work", |_| Worker).unwrap();
    }
    let router = node.router("/user/work").build().unwrap();
    let nobody = node.router("/user/nobody").build().unwrap();
    router.wait_ready(3, LIMIT).unwrap();
    let (held, holds) = channel();
    let (release, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    node.serve("/user/hold", move |_| Holder(held.clone(), Arc::clone(&gate))).unwrap();
    let holder = node.router("/user/hold").build().unwrap();
    holder.wait_ready(1, LIMIT).unwrap();

    let (over, port_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _ends = Over([&over, &port_over]);
        let counted = scope.spawn(|| watch(|| counts(&node), &over));
        let measured = scope.spawn(|| watch(|| metrics(address), &port_over));
        let until = Instant::now() + TRAFFIC;
        scope.spawn(|| {
            std::thread::sleep(TRAFFIC / 2);
            assert!(other.leave_and_wait().is_ok());
        });
        traffic(&router, &nobody, until);
        holder.tell(&Hold).unwrap();
        holds.recv_timeout(LIMIT).unwrap();
        for _ in 0..10 {
            let _ = router.tell(&Work { us: 0 });
        }
        port_over.store(true, Ordering::SeqCst);
        let (looks, last) = measured.join().unwrap();
        assert!(looks >= 3 && last.len() > 50, "{looks} looks at {last:?}");
        node.begin_leave().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(node.ended()), Ended::Left { drained: false });
        over.store(true, Ordering::SeqCst);
        let (looks, last) = counted.join().unwrap();
        assert!(looks >= 100, "{looks} looks");
        for name in ["sent[0]", "refused[0]", "failed_asks[0]", "replies[0]", "slow_turns[0]"] {
            assert!(last[name] > 0.0, "{name}: {last:?}");
        }
        assert_eq!(node.counts().in_flight(), 0);
    });
    drop(release);
}
