//! A member that stops answering is removed by the policy `remove-after`, and leaves nothing behind
//! at the others: no place in views, tables and ways, no connection, no watch, nothing in outboxes.
//! In a process of its own, whose open files are counted.

mod peer;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::{
    ArchivedGone, Context, Gone, GoneReason, Handler, Message, Node, Routee, RouteeRef, Router,
    Target,
};
use peer::Peer;
use rkyv::{Archive, Deserialize, Serialize};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(60);

/// Long enough for a second notice to come, if there were one.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "removed.item", key = key, reply = u64)]
struct Item {
    key: u64,
    body: Vec<u8>,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "removed.begin", reply = u64)]
struct Begin;

type Told = Arc<Mutex<Vec<(u64, GoneReason)>>>;

/// Serves, and watches what the test names.
#[derive(Routee)]
#[routee(handles(Item, Begin, Gone))]
struct Here {
    targets: Arc<Mutex<Vec<Target>>>,
    told: Told,
}

impl Handler<Item> for Here {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedItem, cx: &mut Context<'_>) -> u64 {
        cx.node().node.0
    }
}

impl Handler<Begin> for Here {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedBegin, cx: &mut Context<'_>) -> u64 {
        let targets = self.targets.lock().unwrap();
        for (token, target) in targets.iter().enumerate() {
            cx.watch::<Self>(*target, token as u64).unwrap();
        }
        targets.len() as u64
    }
}

impl Handler<Gone> for Here {
    type Reply = ();
    fn handle(&mut self, gone: &ArchivedGone, _: &mut Context<'_>) {
        self.told.lock().unwrap().push((gone.token.to_native(), gone.reason()));
    }
}

/// A node, and what its handler watches and was told.
struct One {
    node: Node,
    router: Router,
    targets: Arc<Mutex<Vec<Target>>>,
    told: Told,
}

impl One {
    fn start(seed: Option<&str>) -> Self {
        let mut builder = Node::builder()
            .bind("127.0.0.1:0")
            .workers(1)
            .spin(Duration::ZERO)
            .set("membership.partition_policy", "remove-after")
            .set("membership.remove_after_ms", "1000");
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        let node = builder.start().unwrap();
        let router = node.router("/removed/here").consistent_hash().slot_bits(10).build().unwrap();
        let (targets, told) = (Arc::<Mutex<Vec<Target>>>::default(), Told::default());
        let (its_targets, its_told) = (Arc::clone(&targets), Arc::clone(&told));
        let here = move |_| Here { targets: its_targets.clone(), told: its_told.clone() };
        node.serve("/removed/here", here).unwrap();
        Self { node, router, targets, told }
    }

    /// Asks every routee, so that there is a link to each.
    fn ask_all(&self) {
        for routee in self.router.routees() {
            let item = Item { key: 0, body: Vec::new() };
            assert!(self.node.ask_to(&routee, &item).within(LIMIT).wait().is_ok());
        }
    }
}

#[test]
#[ignore = "the process that another test stops"]
fn a_peer() {
    let one = One::start(Some(&peer::seed()));
    one.router.wait_ready(3, LIMIT).unwrap();
    one.ask_all();
    std::thread::sleep(2 * LIMIT);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_member_that_the_policy_removes_leaves_nothing_behind() {
    let first = One::start(None);
    let second = One::start(Some(&first.node.address().to_string()));
    let both = [&first, &second];
    for one in both {
        one.router.wait_ready(2, LIMIT).unwrap();
        one.ask_all();
    }
    let files = open_files();

    let peer = Peer::start(&first.node);
    let mut watches = Vec::new();
    let received: Vec<u64> = both.iter().map(|one| one.node.counts().received).collect();
    for one in both {
        one.router.wait_ready(3, LIMIT).unwrap();
        one.ask_all();
    }
    for (one, before) in both.iter().zip(received) {
        eventually("the peer has asked as well", || one.node.counts().received >= before + 2);
    }
    assert!(open_files() >= files + 4, "connections in both directions, of both nodes");
    let routee: RouteeRef = {
        let known = [first.node.id(), second.node.id()];
        let mut all = first.router.routees().into_iter();
        all.find(|routee| !known.contains(&routee.id.node)).unwrap()
    };
    for one in both {
        *one.targets.lock().unwrap() = vec![Target::from(&routee), Target::from(routee.id.node)];
        let own = one.router.routees().into_iter().find(|own| own.id.node == one.node.id());
        assert_eq!(one.node.ask_to(&own.unwrap(), &Begin).within(LIMIT).wait(), Ok(2));
        watches.push(one.node.watch(&routee).unwrap());
        watches.push(one.node.watch(routee.id.node).unwrap());
    }

    peer.signal(Signal::STOP);
    // Much is on its way when it is removed.
    for one in both {
        for _ in 0..200 {
            let _ = one.node.tell_to(&routee, &Item { key: 0, body: vec![7; 20_000] });
        }
    }
    for one in both {
        eventually("it is removed", || one.node.view().members.len() == 2);
        eventually("no table has it", || one.router.routee_count() == 2);
        eventually("no way leads to it", || {
            let ways = one.node.worker_use()[0].ways;
            ways.open + ways.full + ways.down + ways.finished == 1
        });
        eventually("nothing waits for it", || {
            let fill = one.node.worker_use()[0].fill;
            let outboxes = [fill.requests, fill.replies, fill.client_replies];
            fill.held == 0 && outboxes.iter().all(|room| room.taken == 0)
        });
        eventually("each message for it has its end", || one.node.counts().in_flight() == 0);
        let down = GoneReason::NodeDown;
        eventually("the handler is told", || one.told.lock().unwrap().len() >= 2);
        std::thread::sleep(QUIET);
        let mut told = one.told.lock().unwrap().clone();
        told.sort();
        assert_eq!(told, [(0, down), (1, down)], "each watch once");
    }
    for mut watch in watches {
        assert_eq!(watch.wait(LIMIT).unwrap(), Some(GoneReason::NodeDown));
    }
    eventually("no connection to it is open", || open_files() == files);

    // It goes on, and is no member any more.
    peer.signal(Signal::CONT);
    std::thread::sleep(4 * QUIET);
    for one in both {
        let view = one.node.view();
        assert!(view.members.iter().all(|member| member.node_ref() != routee.id.node));
        assert_eq!(one.told.lock().unwrap().len(), 2, "nobody is told again");
    }
    eventually("what it tried has ended", || open_files() == files);
}
