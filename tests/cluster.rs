//! Real nodes, in one process, over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyway::{Context, Handler, Layout, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Layout, Debug, PartialEq)]
struct Total {
    node: u64,
    items: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.add_item", key = cart, reply = Total)]
struct AddItem {
    cart: u64,
    sku: u32,
    note: String,
}

#[derive(Routee)]
#[routee(handles(AddItem))]
struct Carts {
    items: u64,
    seen: Arc<AtomicU64>,
}

impl Handler<AddItem> for Carts {
    type Reply = Total;
    fn handle(&mut self, message: &ArchivedAddItem, cx: &mut Context<'_>) -> Total {
        assert_eq!(message.note.as_str(), "as it was sent");
        self.items += 1;
        self.seen.fetch_add(1, Ordering::Relaxed);
        Total { node: cx.node().node.0, items: self.items }
    }
}

fn item(cart: u64) -> AddItem {
    AddItem { cart, sku: 3, note: "as it was sent".into() }
}

const LIMIT: Duration = Duration::from_secs(20);

fn cluster(size: usize, workers: usize, seen: &Arc<AtomicU64>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..size {
        let mut builder = Node::builder().bind("127.0.0.1:0").workers(workers).spin(Duration::ZERO);
        if let Some(first) = nodes.first() {
            builder = builder.seed(first.address());
        }
        let node = builder.start().unwrap();
        let seen = Arc::clone(seen);
        node.serve("/user/carts", move |_| Carts { items: 0, seen: Arc::clone(&seen) }).unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        assert!(node.wait_members(size, LIMIT), "{node:?} sees too few members");
    }
    nodes
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn tells_and_asks_reach_the_owners_of_their_keys() {
    let seen = Arc::new(AtomicU64::new(0));
    let nodes = cluster(3, 2, &seen);
    let routers: Vec<_> = nodes
        .iter()
        .map(|node| node.router("/user/carts").consistent_hash().build().unwrap())
        .collect();
    for router in &routers {
        router.wait_ready(6, LIMIT).unwrap();
    }
    eventually("equal tables", || {
        routers.iter().all(|router| router.table_digest() == routers[0].table_digest())
    });

    // The same key is answered by the same node, whoever asks.
    for cart in 0..50 {
        let answers: Vec<u64> = routers
            .iter()
            .map(|router| router.ask(&item(cart)).within(LIMIT).wait().unwrap().node)
            .collect();
        assert!(answers.iter().all(|node| *node == answers[0]), "cart {cart}: {answers:?}");
    }
    for cart in 0..1000 {
        routers[0].tell(&item(cart)).unwrap();
    }
    eventually("all messages handled", || seen.load(Ordering::Relaxed) == 1150);
    eventually("the books balance", || nodes.iter().all(|node| node.counts().in_flight() == 0));
    let counts = nodes[0].counts();
    assert_eq!(counts.sent, 1050);
    assert_eq!(counts.delivered, 1050, "{counts:?}");
}
