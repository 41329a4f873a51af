//! A worker that stands still is told from one that is idle, by name, while others go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::admin::report::HealthReport;
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

fn health(admin: &Admin) -> (bool, HealthReport) {
    let mut stream = TcpStream::connect(admin.address()).expect("connects");
    let request = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let report = serde_json::from_str(body).expect("a report");
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
    // A slow handler is not yet a reason to take the node out of service; one that blocks is.
    within(Duration::from_secs(3), "the node is not healthy", || !health(&admin).0);

    release.send(()).expect("the handler waits");
    within(Duration::from_secs(5), "it is well again", || {
        let (ok, report) = health(&admin);
        ok && report.healthy && report.stuck.is_empty()
    });
}
