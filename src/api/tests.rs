//! What a node's faces say when something breaks inside of it that no application can break.

use std::time::{Duration, Instant};

use rkyv::{Archive, Deserialize, Serialize};

use super::*;
use crate::Message;
use crate::base::WorkerIndex;
use crate::base::fate::{AskError, DeathReason};
use crate::runtime::published::Ended;
use crate::wire::Chunk;
use crate::worker::{Context, Handler, HandlerTable, Injection, Later, Replier, Routee};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.wait", reply = u64)]
struct Wait;

/// Keeps who asks waiting.
#[derive(Default)]
struct Keeper(Vec<Replier<u64>>);

impl Routee for Keeper {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Wait>();
    }
}

impl Handler<Wait> for Keeper {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedWait, cx: &mut Context<'_>) -> Later<u64> {
        let (later, replier) = cx.reply_later();
        self.0.push(replier);
        later
    }
}

/// What is no frame, in a chunk of this process: a mistake that a worker asserts not to be there.
#[cfg(debug_assertions)]
#[test]
fn a_node_ends_by_name_when_one_of_its_workers_panics() {
    let node = Node::builder().bind("127.0.0.1:0").workers(2).start().expect("starts");
    node.serve("/user/keeper", |_| Keeper::default()).expect("serves");
    let router = node.router("/user/keeper").build().expect("builds");
    router.wait_ready(2, LIMIT).expect("is served");
    let asks: Vec<_> = (0..2)
        .map(|_| router.clone())
        .map(|router| std::thread::spawn(move || router.ask(&Wait).within(LIMIT * 10).wait()))
        .collect();
    while node.counts().delivered < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut frames = Chunk::with_capacity(64);
    frames.append(&[0xff; 64], 1);
    let snapshot = router.shared().snapshot.load_full();
    let own = snapshot.destinations.find(node.id(), WorkerIndex(1)).expect("it is there").id;
    let door = &router.shared().doors[1];
    assert!(door.injector.push(Injection::Frames { destination: own, frames }).is_ok());

    let since = Instant::now();
    while node.end().is_none() {
        assert!(since.elapsed() < LIMIT, "nobody has noticed");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(node.end(), Some(Ended::WorkerLost(WorkerIndex(1))));
    for ask in asks {
        // By whichever worker had it: the lost one tells nobody anything any more.
        let stopped = AskError::Dead(DeathReason::Stopped);
        let outcome = ask.join().unwrap();
        assert!([Err(AskError::LinkLost), Err(stopped)].contains(&outcome), "{outcome:?}");
    }
    let given_up = node.stop().expect_err("it had something");
    assert!(given_up.workers.iter().map(|lost| (lost.worker.0, lost.lost)).eq([(1, true)]));
    assert!(given_up.to_string().contains("worker 1 has panicked"), "{given_up}");
    assert_eq!(given_up.counts.in_flight(), 0, "{given_up:?}");
}
