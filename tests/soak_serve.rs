//! Paths that are served and withdrawn again and again leave nothing behind. In a process of its
//! own, whose memory is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyway::{Context, Handler, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "soak.item", reply = u64)]
struct Item;

#[derive(Routee)]
#[routee(handles(Item), started = Self::open, stopped = Self::close)]
struct Sink(Arc<AtomicU64>);

impl Sink {
    /// Waits for what comes long after its end.
    fn open(&mut self, cx: &mut Context<'_>) {
        for token in 0..10 {
            cx.wake_after(Duration::from_secs(86_400), token);
        }
    }

    fn close(&mut self, _: &mut Context<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Handler<Item> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedItem, _: &mut Context<'_>) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const MIB: u64 = 1 << 20;

/// Paths that come and go at a time: each round waits for the grace, which they share.
const PATHS: u64 = 50;

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[test]
fn paths_that_are_withdrawn_leave_nothing_behind() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let node = node.set("membership.gossip_ms", "20").start().unwrap();
    let stopped = Arc::new(AtomicU64::new(0));
    let rounds = |count: u64| {
        std::thread::scope(|scope| {
            for number in 0..PATHS {
                let (node, stopped) = (&node, &stopped);
                scope.spawn(move || {
                    let path = format!("/soak/{number}");
                    for _ in 0..count {
                        let its = Arc::clone(stopped);
                        node.serve(&path, move |_| Sink(Arc::clone(&its))).unwrap();
                        node.unserve(&path).unwrap();
                    }
                });
            }
        });
    };
    rounds(20);
    let before = resident();
    rounds(200);
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more after {} paths were served and withdrawn", 200 * PATHS);
    assert!(grown <= 2 * MIB, "{grown} bytes more");
    assert_eq!(stopped.load(Ordering::Relaxed), 220 * PATHS);
    assert!(node.view().members[0].services.is_empty());
    assert_eq!(Arc::strong_count(&stopped), 1, "no factory and no routee is kept");
}
