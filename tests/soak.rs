//! What is made and ended again and again leaves nothing behind.

use std::time::{Duration, Instant};

use keyway::worker::RouterRef;
use keyway::{Context, Handler, Message, Node, Refusal, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.item", key = key, reply = u64)]
struct Item {
    key: u64,
}

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, item: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        item.key.to_native()
    }
}

const LIMIT: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;
const TIMES: u64 = 10_000;
const WARM_UP: u64 = 1_000;

fn node() -> Node {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO).start().unwrap();
    node.serve("/soak/sink", |_| Sink).unwrap();
    node
}

fn keyed(node: &Node, path: &str) -> Router {
    node.router(path).consistent_hash().slot_bits(10).build().unwrap()
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One test: they share the process whose memory is looked at.
#[test]
fn routers_that_end_leave_nothing_behind() {
    let node = node();

    // Made and ended, of equal and of changing options.
    let mut before = 0;
    for round in 0..WARM_UP + TIMES {
        if round == WARM_UP {
            before = resident();
        }
        let router = keyed(&node, "/soak/sink");
        drop(keyed(&node, &format!("/soak/other-{round}")));
        if round % 10 == 0 {
            router.wait_ready(1, LIMIT).unwrap();
            assert_eq!(router.ask(&Item { key: round }).wait(), Ok(round));
        }
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more after {TIMES} routers, and as many over other paths");
    assert!(grown <= 2 * MIB, "{grown} bytes more after {TIMES} routers were made and ended");
    eventually("all have ended", || node.routers().is_empty());

    // Many at once: those of equal options are one, those of others share slots with it.
    let full = |path: &str| node.router(path).consistent_hash().build().unwrap();
    let first = full("/soak/sink");
    let before = resident();
    let equal: Vec<_> = (0..500).map(|_| full("/soak/sink")).collect();
    assert_eq!(node.routers().len(), 1);
    let grown = resident().saturating_sub(before);
    assert!(grown <= 2 * MIB, "{grown} bytes for 500 routers of equal options");
    let others: Vec<_> = (0..500)
        .map(|number| {
            let router = node.router("/soak/sink").consistent_hash();
            router.max_routees(2 + number).build().unwrap()
        })
        .collect();
    assert_eq!(node.routers().len(), 501);
    let grown = resident().saturating_sub(before);
    assert!(grown <= 8 * MIB, "{grown} bytes for 500 routers over the same routees");
    drop((equal, others));
    eventually("only the first is left", || node.routers().len() == 1);
    assert_eq!(first.ask(&Item { key: 7 }).wait(), Ok(7));

    // A reference that a handler may hold keeps its router, and another's id finds it not.
    let kept: RouterRef = keyed(&node, "/soak/kept").as_ref().clone();
    let again = keyed(&node, "/soak/again");
    assert_eq!(node.routers().len(), 3);
    drop(kept);
    eventually("the reference's router has ended", || node.routers().len() == 2);
    assert_eq!(again.tell(&Item { key: 1 }), Err(Refusal::NoRoutee));
}
