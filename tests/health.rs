//! A worker that stands still is told from one that is idle, by name, while others go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::admin::report::{HealthReport, MembersReport};
use keyway::admin::{Admin, AdminPort};
use keyway::{Context, Handler, Message, Node, Routee, WorkerIndex};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "health.block")]
struct Block;

/// Blocks its worker until the test lets it go.
#[derive(Routee)]
#[routee(handles(Block))]
struct Blocker(Arc<Mutex<Receiver<()>>>);

impl Handler<Block> for Blocker {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedBlock, _: &mut Context<'_>) {
        let gate = self.0.lock().expect("one worker blocks only");
        let _ = gate.recv_timeout(Duration::from_secs(30));
    }
}

/// Head and body.
fn get(admin: &Admin, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin.address()).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn health(admin: &Admin) -> (bool, HealthReport) {
    let (head, body) = get(admin, "/health");
    let report = serde_json::from_str(&body).expect("a report");
    (head.starts_with("HTTP/1.1 200"), report)
}

fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_blocking_handler_is_named_within_a_second() {
    tracing_subscriber::fmt().with_writer(|| ToLog).with_ansi(false).init();
    let port = AdminPort::open("127.0.0.1:0".parse().unwrap()).expect("a port");
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    let node = Arc::new(node);
    let admin = Admin::builder(Arc::clone(&node)).start(port).expect("serves");
    let (release, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    node.serve("/user/blocker", move |_| Blocker(Arc::clone(&gate))).expect("serves");
    let router = node.router("/user/blocker").build().expect("builds");
    assert!(router.wait_ready(2, Duration::from_secs(5)).is_ok());
    within(Duration::from_secs(5), "idle workers are well", || {
        let health = node.health();
        health.is_healthy() && health.stuck().count() == 0
    });

    // A machine that stumbles brings slow turns of its own.
    let slow_before = node.counts().slow_turns;
    router.tell(&Block).expect("is taken");
    within(Duration::from_secs(1), "the stuck worker is told", || {
        health(&admin).1.stuck.first().is_some_and(|stuck| stuck.path.is_some())
    });
    let stuck = health(&admin).1.stuck;
    assert_eq!(stuck.len(), 1, "the other one sleeps: {stuck:?}");
    assert_eq!(stuck[0].path.as_deref(), Some("/user/blocker"));
    assert!(stuck[0].turn_ms >= 100, "{stuck:?}");
    let same = node.health();
    let worker = same.stuck().next().expect("the same without the port");
    assert_eq!(worker.worker, WorkerIndex(stuck[0].worker));
    assert_eq!(worker.path.as_deref(), Some("/user/blocker"));
    assert_eq!(stuck[0].message.as_deref(), Some("health.block"));
    assert_eq!(worker.message.as_deref(), Some("health.block"));
    assert!(node.counts().slow_turns > slow_before, "the turn counts as slow before it ends");
    // Of what a worker does otherwise there is a line when it has ended. This one may never end.
    within(Duration::from_secs(5), "the log names it", || !lines(HOLDS).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    let said = lines(HOLDS);
    assert_eq!(said.len(), 1, "and once: {said:?}");
    for part in ["worker=0", "path=\"/user/blocker\"", "message_type=\"health.block\"", "turn_ms="]
    {
        let either = part.replace("worker=0", "worker=1");
        assert!(said[0].contains(part) || said[0].contains(&either), "{part}: {said:?}");
    }
    assert!(get(&admin, "/metrics").1.contains("\nkeyway_workers_stuck 1\n"));
    // Members hear of it with the next load that they are told.
    within(Duration::from_secs(10), "it is a member's", || {
        let report: MembersReport = serde_json::from_str(&get(&admin, "/members").1).unwrap();
        report.members[0].stuck
    });
    // A slow handler is not yet a reason to take the node out of service; one that blocks is.
    within(Duration::from_secs(3), "the node is not healthy", || !health(&admin).0);

    release.send(()).expect("the handler waits");
    within(Duration::from_secs(5), "it is well again", || {
        let (ok, report) = health(&admin);
        ok && report.healthy && report.stuck.is_empty()
    });
    within(Duration::from_secs(5), "it counts once", || node.counts().in_flight() == 0);
    assert!(node.counts().slow_turns > slow_before);
    assert_eq!(lines(HOLDS).len(), 1);
}

#[test]
fn what_counts_as_stuck_is_what_counts_as_slow() {
    let patient = Node::builder().bind("127.0.0.1:0").set("workers.slow_turn_ms", "600000");
    let node = Arc::new(patient.start().expect("starts"));
    let port = AdminPort::open("127.0.0.1:0".parse().unwrap()).expect("a port");
    let admin = Admin::builder(Arc::clone(&node)).start(port).expect("serves");
    let (release, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    node.serve("/user/blocker", move |_| Blocker(Arc::clone(&gate))).expect("serves");
    let router = node.router("/user/blocker").build().expect("builds");
    assert!(router.wait_ready(1, Duration::from_secs(5)).is_ok());
    router.tell(&Block).expect("is taken");
    let turn = || {
        let mut workers = node.health().workers.into_iter();
        workers.find(|worker| worker.turn > Duration::from_millis(150))
    };
    within(Duration::from_secs(5), "the turn lasts", || turn().is_some());
    // What makes the node unhealthy is named all the same.
    let unhealthy = Duration::from_secs(1);
    within(Duration::from_secs(5), "the node is not healthy", || {
        let held = turn().expect("it lasts");
        assert_eq!((held.stuck, held.path.is_some()), (held.turn >= unhealthy, held.stuck));
        held.stuck && !node.health().is_healthy()
    });
    assert_eq!(node.counts().slow_turns, 0);
    assert!(get(&admin, "/metrics").1.contains("\nkeyway_workers_stuck 1\n"));
    release.send(()).expect("the handler waits");
}

/// What the log says of a worker that is held now.
const HOLDS: &str = "a handler holds its worker";

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().expect("nobody panics in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lines of the log in which this stands.
fn lines(about: &str) -> Vec<String> {
    let log = LOG.lock().expect("nobody panics in here");
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| line.contains(about)).map(str::to_owned).collect()
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "health.sleep", reply = u64)]
struct Sleep {
    ms: u64,
}

#[derive(Routee)]
#[routee(handles(Sleep))]
struct Sleeper;

impl Handler<Sleep> for Sleeper {
    type Reply = u64;
    fn handle(&mut self, sleep: &ArchivedSleep, _: &mut Context<'_>) -> u64 {
        std::thread::sleep(Duration::from_millis(sleep.ms.to_native()));
        0
    }
}

#[test]
fn metrics_tell_how_long_handlers_and_asks_take_by_path_and_how_full_things_are() {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let (node, admin) = keyway::admin::start(builder.set("admin", "127.0.0.1:0")).expect("starts");
    let admin = admin.expect("it is set");
    let limit = Duration::from_secs(20);
    for (path, ms) in [("/user/quick", 0), ("/user/slow", 3)] {
        node.serve(path, |_| Sleeper).expect("serves");
        let router = node.router(path).build().expect("builds");
        router.wait_ready(1, limit).expect("is served");
        for _ in 0..200 {
            assert_eq!(router.ask(&Sleep { ms }).within(limit).wait(), Ok(0));
        }
        let times = node.path_times().into_iter().find(|it| it.path.as_str() == path).unwrap();
        let (handled, asked) = (times.handled.count(), times.asked.count());
        assert!((3..=100).contains(&handled), "a sample of 200: {handled}");
        assert!((3..=100).contains(&asked), "a sample of 200: {asked}");
        assert!(times.handled.sum_ns >= handled * ms * 1_000_000, "{times:?}");
        assert!(times.asked.sum_ns >= asked * ms * 1_000_000, "{times:?}");
        let quick = times.handled.sum_ns < handled * 1_000_000;
        assert_eq!(quick, ms == 0, "handlers of one path are not reckoned to another: {times:?}");
    }
    let (_, text) = get(&admin, "/metrics");
    for part in [
        "keyway_build_info{version=\"0.1.0\",commit=\"",
        "keyway_handler_seconds_bucket{le=\"0.001\",path=\"/user/quick\"}",
        "keyway_handler_seconds_count{path=\"/user/slow\"}",
        "keyway_ask_seconds_sum{path=\"/user/slow\"}",
        "keyway_worker_outbox_bytes{worker=\"0\",account=\"requests\"}",
        "keyway_worker_ring_items{worker=\"0\"} 0",
        "keyway_worker_inbox_bytes{worker=\"0\"} 0",
        "keyway_worker_open_asks{worker=\"0\"} 0",
        "keyway_worker_busy_seconds_total{worker=\"0\"}",
        "keyway_worker_spinning_seconds_total{worker=\"0\"}",
        "keyway_worker_accepted_links{worker=\"0\"} 0",
        "keyway_worker_accepted_links_limit{worker=\"0\"} 4096",
        "keyway_membership_total{event=\"renewals\"} 0",
        "keyway_membership_total{event=\"not_listed\"} 0",
        "keyway_destinations{worker=\"0\",state=\"open\"}",
        "keyway_work_ended_total{end=\"done\"} 0",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn looking_for_work_is_not_being_busy() {
    let spin = Duration::from_secs(1);
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(spin).start().expect("starts");
    let spent = || {
        let used = &node.worker_use()[0];
        (used.awake, used.spinning)
    };
    let (awake, spun) = spent();
    let while_looking = Duration::from_millis(500);
    // Whatever wakes it, it looks for more work behind that.
    within(Duration::from_secs(60), "it looks for work", || spent().1 > spun + while_looking);
    let (busy, spun) = (spent().0 - awake, spent().1 - spun);
    assert!(busy * 4 < spun, "busy for {busy:?}, looking for {spun:?}");
}

#[test]
fn links_that_others_open_are_shown() {
    let node = |seed: Option<&Node>| {
        let builder = Node::builder().bind("127.0.0.1:0").workers(1);
        seed.into_iter().fold(builder, |builder, seed| builder.seed(seed.address()))
    };
    let taking = node(None).start().expect("starts");
    taking.serve("/user/work", |_| Sleeper).expect("serves");
    let accepted = || taking.worker_use()[0].fill.accepted_links.taken;
    assert_eq!(accepted(), 0);
    let asking = node(Some(&taking)).start().expect("starts");
    let router = asking.router("/user/work").build().expect("builds");
    let limit = Duration::from_secs(20);
    router.wait_ready(1, limit).expect("is served");
    assert_eq!(router.ask(&Sleep { ms: 0 }).within(limit).wait(), Ok(0));
    within(limit, "the link is shown", || accepted() == 1);
    asking.stop().expect("nothing holds it");
    within(limit, "and its end", || accepted() == 0);
}
