//! A peer that starts anew again and again leaves nothing behind at the others: no link, no way, no
//! table, no watch and no memory. In a process of its own, whose memory is looked at.

mod peer;

use std::time::{Duration, Instant};

use keyway::{Context, GoneReason, Handler, Message, Node, Routee, RouteeRef};
use peer::Peer;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.item", reply = u64)]
struct Item;

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedItem, cx: &mut Context<'_>) -> u64 {
        cx.node().incarnation.0
    }
}

const LIMIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const LIVES: u64 = 32;
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
#[ignore = "the process that another test starts again and again"]
fn a_peer() {
    let seed = peer::seed();
    let node = Node::builder().name("peer").bind("127.0.0.1:0").workers(2).spin(Duration::ZERO);
    let node = node.seed(seed).start().unwrap();
    node.serve("/soak/peer", |_| Sink).unwrap();
    // Links in both directions.
    let router = node.router("/soak/here").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    router.ask(&Item).within(LIMIT).wait().unwrap();
    std::thread::sleep(LIMIT);
}

/// One life of the peer, with links both ways and a watch; what was watched is told gone with the
/// next one.
fn live(node: &Node, router: &keyway::Router, last: &mut Option<keyway::Watch>) -> RouteeRef {
    let received = node.counts().received;
    let peer = Peer::start(node);
    if let Some(mut watch) = last.take() {
        let told = watch.wait(LIMIT).unwrap();
        let restarted = matches!(told, Some(GoneReason::NodeRestarted | GoneReason::NodeDown));
        assert!(restarted, "{told:?}");
    }
    router.wait_ready(2, LIMIT).unwrap();
    let routee = router.routees().remove(0);
    let life = routee.id.node.incarnation.0;
    assert_eq!(node.ask_to(&routee, &Item).within(LIMIT).wait(), Ok(life));
    eventually("it has asked this node", || node.counts().received > received);
    *last = Some(node.watch(&routee).unwrap());
    drop(peer);
    eventually("its end is seen", || router.routee_count() == 0);
    routee
}

#[test]
fn a_peer_that_starts_anew_leaves_nothing_behind() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let node = node.set("membership.gossip_ms", "20").start().unwrap();
    node.serve("/soak/here", |_| Sink).unwrap();
    let router = node.router("/soak/peer").consistent_hash().slot_bits(16).build().unwrap();
    let mut last = None;
    let first = live(&node, &router, &mut last);
    for _ in 0..LIVES / 4 {
        live(&node, &router, &mut last);
    }
    let before = resident();
    for _ in 0..LIVES {
        live(&node, &router, &mut last);
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more after {LIVES} lives of a peer");
    assert!(grown <= 2 * MIB, "{grown} bytes more");
    assert_eq!(node.view().members.len(), 2);
    let worker = &node.worker_use()[0];
    let ways = worker.ways;
    let known = ways.open + ways.full + ways.down + ways.finished;
    assert_eq!(known, 2, "the workers of its last life: {ways:?}");
    let fill = worker.fill;
    assert_eq!(fill.asks, 0);
    assert_eq!((fill.replies.taken, fill.client_replies.taken), (0, 0), "{fill:?}");
    assert!(node.tell_to(&first, &Item).is_err(), "its first life is over");
}
