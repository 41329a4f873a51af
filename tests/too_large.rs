//! Of a message that is too large the log says how large it is, and how large it could be.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use keyway::{Context, Handler, Message, Node, Refusal, Routee};
use rkyv::{Archive, Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what is said.
struct Log;

struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut said = Said(String::new());
        event.record(&mut said);
        LINES.lock().unwrap().push(said.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "large.work")]
struct Work {
    body: Vec<u8>,
}

#[derive(Routee)]
#[routee(handles(Work))]
struct Sink;

impl Handler<Work> for Sink {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) {}
}

const LIMIT: Duration = Duration::from_secs(30);

fn eventually_said(words: &str) {
    let begun = Instant::now();
    while !LINES.lock().unwrap().iter().any(|line| line.starts_with(words)) {
        assert!(begun.elapsed() < LIMIT, "nobody said {words:?}: {:#?}", LINES.lock().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn node(max_frame_bytes: &str, seed: Option<&Node>) -> Node {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1);
    let builder = builder.set("links.max_frame_bytes", max_frame_bytes);
    let builder = seed.into_iter().fold(builder, |builder, node| builder.seed(node.address()));
    builder.start().unwrap()
}

#[test]
fn the_log_says_how_large_and_how_large_it_could_be() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let node_here = node("65536", None);
    let node_there = node("8192", Some(&node_here));
    node_there.serve("/user/sink", |_| Sink).unwrap();
    let router = node_here.router("/user/sink").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let tell = |bytes| router.tell(&Work { body: vec![7; bytes] });
    // With 32 bytes for the header and for where the body lies.
    assert_eq!(tell(200_000), Err(Refusal::TooLarge));
    eventually_said("a message of 200032 bytes is not sent: 65536 are as many as `links.max_frame");
    // Accepted, and too large for whom it is for.
    assert_eq!(tell(16_000), Ok(()));
    eventually_said("a message of 16032 bytes is not sent: 8192 are as many as the node takes");
}
