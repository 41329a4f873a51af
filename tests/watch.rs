//! Real nodes watch each other's routees, over loopback.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::{
    ArchivedGone, Context, Gone, GoneReason, Handler, Message, Node, NodeError, Routee, Target,
    TooManyWatches,
};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for a second notice to come, if there were one.
const QUIET: Duration = Duration::from_millis(300);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.fail")]
struct Fail;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.begin")]
struct Begin {
    token: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.cease")]
struct Cease {
    token: u64,
}

/// What is watched.
#[derive(Default, Routee)]
#[routee(handles(Fail))]
struct Fragile;

impl Handler<Fail> for Fragile {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedFail, _: &mut Context<'_>) {
        panic!("as the test wants it");
    }
}

type Told = Arc<Mutex<Vec<(u64, GoneReason)>>>;

/// Watches, from a handler, what the test puts into `targets`.
#[derive(Routee)]
#[routee(handles(Begin, Cease, Gone))]
struct Warden {
    targets: Arc<Mutex<Vec<Target>>>,
    told: Told,
}

impl Handler<Begin> for Warden {
    type Reply = ();
    fn handle(&mut self, message: &ArchivedBegin, cx: &mut Context<'_>) {
        let token = message.token.to_native();
        let target = self.targets.lock().unwrap()[token as usize];
        cx.watch::<Self>(target, token).unwrap();
    }
}

impl Handler<Cease> for Warden {
    type Reply = ();
    fn handle(&mut self, message: &ArchivedCease, cx: &mut Context<'_>) {
        cx.unwatch(message.token.to_native());
    }
}

impl Handler<Gone> for Warden {
    type Reply = ();
    fn handle(&mut self, gone: &ArchivedGone, _: &mut Context<'_>) {
        self.told.lock().unwrap().push((gone.token.to_native(), gone.reason()));
    }
}

fn node(name: &str, seeds: &[&Node]) -> Node {
    let mut builder = Node::builder().name(name).bind("127.0.0.1:0").workers(1);
    for seed in seeds {
        builder = builder.seed(seed.address());
    }
    let node = builder.start().unwrap();
    node.serve("/user/fragile", |_| Fragile).unwrap();
    node
}

/// A node with a warden, and how to have it watch.
struct Guard {
    node: Node,
    targets: Arc<Mutex<Vec<Target>>>,
    told: Told,
}

impl Guard {
    fn new(name: &str, seeds: &[&Node]) -> Self {
        let node = node(name, seeds);
        let targets = Arc::new(Mutex::new(Vec::new()));
        let told: Told = Arc::default();
        let (its_targets, its_told) = (Arc::clone(&targets), Arc::clone(&told));
        let make = move |_| Warden { targets: its_targets.clone(), told: its_told.clone() };
        node.serve("/user/warden", make).unwrap();
        Self { node, targets, told }
    }

    fn watch(&self, target: impl Into<Target>) -> u64 {
        let token = {
            let mut targets = self.targets.lock().unwrap();
            targets.push(target.into());
            targets.len() as u64 - 1
        };
        self.tell(&Begin { token });
        token
    }

    /// Returns when the warden has handled the message.
    fn tell<M: Message<Reply = ()>>(&self, message: &M) {
        let router = self.node.router("/user/warden").build().unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        router.ask(message).within(LIMIT).wait().unwrap();
    }

    fn told(&self, count: usize) -> Vec<(u64, GoneReason)> {
        eventually("the warden is told", || self.told.lock().unwrap().len() >= count);
        std::thread::sleep(QUIET);
        self.told.lock().unwrap().clone()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The one routee at `/user/fragile` on a node.
fn fragile(from: &Node, on: &Node) -> keyway::RouteeRef {
    let router = from.router("/user/fragile").build().unwrap();
    let find = || router.routees().into_iter().find(|routee| routee.id.node == on.id());
    eventually("the routee is known", || find().is_some());
    find().unwrap()
}

#[test]
fn a_handler_that_panics_is_gone_for_those_who_watched_it() {
    let guard = Guard::new("a", &[]);
    let b = node("b", &[&guard.node]);
    let routee = fragile(&guard.node, &b);
    let own = fragile(&guard.node, &guard.node);
    let (far, near) = (guard.watch(&routee), guard.watch(&own));
    let mut application = guard.node.watch(&routee).unwrap();
    assert_eq!(application.wait(QUIET).unwrap(), None, "nothing has happened yet");

    guard.node.tell_to(&routee, &Fail).unwrap();
    assert_eq!(application.wait(LIMIT).unwrap(), Some(GoneReason::Replaced));
    assert_eq!(guard.told(1), [(far, GoneReason::Replaced)]);
    guard.node.tell_to(&own, &Fail).unwrap();
    let both = [(far, GoneReason::Replaced), (near, GoneReason::Replaced)];
    assert_eq!(guard.told(2), both);

    // Those who watch from now on watch the fresh instance, until it goes too; each once.
    let again = guard.watch(&routee);
    let stopped = guard.watch(&routee);
    guard.tell(&Cease { token: stopped });
    guard.node.tell_to(&routee, &Fail).unwrap();
    assert_eq!(guard.told(3)[2..], [(again, GoneReason::Replaced)]);
    // Four of the handler, one of the application; one was stopped.
    let counts = guard.node.part_counts();
    let count = |event| {
        let found = counts.iter().find(|it| (it.part, it.event) == ("watch", event));
        found.unwrap().count
    };
    assert_eq!((count("begun"), count("gone"), count("stopped")), (5, 4, 1));
}

#[test]
fn a_path_that_is_withdrawn_is_gone_once_for_those_who_watched_it() {
    let guard = Guard::new("a", &[]);
    let b = node("b", &[&guard.node]);
    let routee = fragile(&guard.node, &b);
    let own = fragile(&guard.node, &guard.node);
    let (far, near) = (guard.watch(&routee), guard.watch(&own));
    b.unserve("/user/fragile").unwrap();
    let withdrawn = GoneReason::Withdrawn;
    assert_eq!(guard.told(1), [(far, withdrawn)]);
    guard.node.unserve("/user/fragile").unwrap();
    assert_eq!(guard.told(2), [(far, withdrawn), (near, withdrawn)]);

    // Another registration is another routee: who watches the one before is told at once.
    b.serve("/user/fragile", |_| Fragile).unwrap();
    let late = guard.watch(&routee);
    assert_eq!(guard.told(3)[2..], [(late, withdrawn)]);
    let again = fragile(&guard.node, &b);
    assert_ne!(routee, again);
    let again = guard.watch(&again);
    b.tell_to(&fragile(&b, &b), &Fail).unwrap();
    assert_eq!(guard.told(4)[3..], [(again, GoneReason::Replaced)]);
}

#[test]
fn a_watch_of_a_node_that_has_stopped_says_so_as_often_as_it_is_asked() {
    let other = node("b", &[]);
    let stopped = node("a", &[&other]);
    let mut watch = stopped.watch(other.id()).unwrap();
    let mut unasked = stopped.watch(other.id()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| watch.wait(LIMIT));
        std::thread::sleep(Duration::from_millis(50));
        stopped.stop().unwrap();
        assert!(matches!(waits.join().unwrap(), Err(NodeError::Stopped)));
    });
    for watch in [&mut watch, &mut unasked] {
        for _ in 0..3 {
            assert!(matches!(watch.wait(LIMIT), Err(NodeError::Stopped)));
        }
    }
}

#[test]
fn nodes_that_leave_are_removed_or_start_anew_are_gone() {
    let guard = Guard::new("a", &[]);
    let mut nodes: Vec<Node> =
        ["leaves", "removed", "restarts"].map(|name| node(name, &[&guard.node])).into();
    assert!(guard.node.wait_members(4, LIMIT));
    let (restarts, removed, leaves) =
        (nodes.pop().unwrap(), nodes.pop().unwrap(), nodes.pop().unwrap());
    let lives = [leaves.id(), removed.id(), restarts.id()];
    for life in [&leaves, &removed, &restarts] {
        let routee = fragile(&guard.node, life);
        guard.watch(&routee);
        guard.watch(life.id());
    }

    leaves.leave_and_wait().unwrap();
    let left = GoneReason::NodeLeft;
    let mut told = guard.told(2);
    told.sort();
    assert_eq!(told, [(0, left), (1, left)]);

    removed.stop().unwrap();
    guard.node.down(lives[1].node).unwrap();
    let down = GoneReason::NodeDown;
    let mut told = guard.told(4).split_off(2);
    told.sort();
    assert_eq!(told, [(2, down), (3, down)]);

    restarts.stop().unwrap();
    let restarted = node("restarts", &[&guard.node]);
    let mut told = guard.told(6).split_off(4);
    told.sort();
    assert!(
        matches!(
            told[..],
            [
                (4, GoneReason::NodeRestarted | GoneReason::NodeDown),
                (5, GoneReason::NodeRestarted | GoneReason::NodeDown)
            ]
        ),
        "{told:?}"
    );

    // Also when it was gone before.
    let late = guard.watch(lives[0]);
    assert_eq!(guard.told(7)[6..], [(late, left)]);
    let late = guard.watch(lives[2]);
    let told = guard.told(8);
    assert_eq!(told[7], (late, GoneReason::NodeRestarted), "{told:?}");
    drop(restarted);
}

#[test]
fn ten_thousand_watches_are_made_and_ended() {
    let guard = Guard::new("a", &[]);
    let b = node("b", &[&guard.node]);
    let routee = fragile(&guard.node, &b);
    for _ in 0..100 {
        let watches: Vec<_> = (0..100).map(|_| guard.node.watch(&routee).unwrap()).collect();
        drop(watches);
    }
    // They left nothing behind that a failing routee would tell of.
    let mut last = guard.node.watch(&routee).unwrap();
    assert_eq!(last.wait(QUIET).unwrap(), None);
    guard.node.tell_to(&routee, &Fail).unwrap();
    assert_eq!(last.wait(LIMIT).unwrap(), Some(GoneReason::Replaced));
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.hold")]
struct Hold;

/// Holds its worker until the test lets it go.
#[derive(Routee)]
#[routee(handles(Hold))]
struct Holder(Arc<Mutex<()>>);

impl Handler<Hold> for Holder {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedHold, _: &mut Context<'_>) {
        drop(self.0.lock().unwrap());
    }
}

/// What is dropped has its place until its worker knows of it: a worker that is held up would
/// otherwise have an endless list of orders before it.
#[test]
fn watches_that_come_and_go_before_a_worker_that_is_held_up_are_refused_by_name() {
    const MOST: usize = 100;
    let node = Node::builder().bind("127.0.0.1:0").workers(1);
    let node = node.set("watch.max_watches", &MOST.to_string()).start().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let its = Arc::clone(&gate);
    node.serve("/user/holder", move |_| Holder(Arc::clone(&its))).unwrap();
    let router = node.router("/user/holder").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let held = gate.lock().unwrap();
    router.tell(&Hold).unwrap();
    eventually("the worker is held up", || node.health().stuck().next().is_some());
    let mut made = 0;
    eventually("no more are taken", || match node.watch(node.id()) {
        Ok(watch) => {
            // Long enough for it to get to control.
            std::thread::sleep(Duration::from_millis(1));
            drop(watch);
            made += 1;
            false
        }
        Err(error) => {
            assert!(matches!(error, NodeError::TooManyWatches { most: MOST }), "{error}");
            true
        }
    });
    assert!(made >= MOST, "{made} were made");
    drop(held);
    let mut last = None;
    eventually("there is room again", || {
        last = node.watch(node.id()).ok();
        last.is_some()
    });
    assert_eq!(last.unwrap().wait(QUIET).unwrap(), None);
    // All that may be, at once, and one more.
    let mut all = Vec::new();
    eventually("all places are free", || {
        all.extend((all.len()..MOST).map_while(|_| node.watch(node.id()).ok()));
        all.len() == MOST
    });
    assert!(matches!(node.watch(node.id()), Err(NodeError::TooManyWatches { .. })));
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.many", reply = u64)]
struct Many {
    watches: u64,
}

/// Watches a life that is over as often as it is asked to, in one call, and counts what it hears.
#[derive(Routee)]
#[routee(handles(Many, Gone))]
struct Greedy {
    gone: keyway::NodeRef,
    told: Arc<Mutex<u64>>,
}

impl Handler<Many> for Greedy {
    type Reply = u64;
    fn handle(&mut self, many: &ArchivedMany, cx: &mut Context<'_>) -> u64 {
        let mut begun = 0;
        for token in 0..many.watches.to_native() {
            match cx.watch::<Self>(self.gone, token) {
                Ok(()) => begun += 1,
                Err(TooManyWatches { most, .. }) => assert_eq!(most, 100),
            }
        }
        begun
    }
}

impl Handler<Gone> for Greedy {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedGone, _: &mut Context<'_>) {
        *self.told.lock().unwrap() += 1;
    }
}

#[test]
fn a_handler_that_watches_more_than_there_are_places_is_refused_by_name() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1);
    let node = node.set("watch.max_watches", "100").start().unwrap();
    let mut gone = node.id();
    gone.incarnation.0 -= 1;
    let told = Arc::new(Mutex::new(0));
    let its = Arc::clone(&told);
    node.serve("/user/greedy", move |_| Greedy { gone, told: Arc::clone(&its) }).unwrap();
    let router = node.router("/user/greedy").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    for round in 1..=3 {
        let begun = router.ask(&Many { watches: 5_000 }).within(LIMIT).wait().unwrap();
        assert_eq!(begun, 100, "as many as there are places");
        eventually("all are told", || *told.lock().unwrap() == round * 100);
    }
}
