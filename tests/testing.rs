//! Clusters of an application's own routees in the simulator: what a user's test can do with them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use keyway::testing::{Cluster, Probe, Router, Solo};
use keyway::{
    AskError, AskOptions, Context, DeathReason, Handler, Message, Refusal, Routee, RouterRef,
};
use rkyv::{Archive, Deserialize, Serialize};

const CARTS: &str = "/user/carts";
const PRICES: &str = "/user/prices";

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "testing.add", key = cart, reply = u32)]
struct Add {
    cart: u64,
}

/// The cart is priced a second after it was last touched.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize, Message)]
#[message(name = "testing.price", key = cart)]
struct Price {
    cart: u64,
    items: u32,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "testing.fail", key = cart)]
struct Fail {
    cart: u64,
}

#[derive(Default, Routee)]
#[routee(handles(Add, Fail))]
struct Carts(BTreeMap<u64, u32>);

impl Handler<Add> for Carts {
    type Reply = u32;

    fn handle(&mut self, add: &ArchivedAdd, _: &mut Context<'_>) -> u32 {
        let items = self.0.entry(add.cart.to_native()).or_default();
        *items += 1;
        *items
    }
}

impl Handler<Fail> for Carts {
    type Reply = ();

    fn handle(&mut self, _: &ArchivedFail, _: &mut Context<'_>) {
        std::panic::resume_unwind(Box::new("as it was told"));
    }
}

/// Sends what it knows of a cart to the prices, a second after it was touched.
#[derive(Routee)]
#[routee(handles(Add), wake = Self::price)]
struct Pricing {
    carts: BTreeMap<u64, u32>,
    prices: RouterRef,
}

impl Pricing {
    fn price(&mut self, cart: u64, cx: &mut Context<'_>) {
        let items = self.carts[&cart];
        let _ = cx.tell(&self.prices, &Price { cart, items });
    }
}

impl Handler<Add> for Pricing {
    type Reply = u32;

    fn handle(&mut self, add: &ArchivedAdd, cx: &mut Context<'_>) -> u32 {
        let cart = add.cart.to_native();
        let items = self.carts.entry(cart).or_default();
        *items += 1;
        cx.wake_after(Duration::from_secs(1), cart);
        *items
    }
}

/// Says it to its neighbour at once.
#[derive(Routee)]
#[routee(handles(Add))]
struct Teller(RouterRef);

impl Handler<Add> for Teller {
    type Reply = u32;

    fn handle(&mut self, add: &ArchivedAdd, cx: &mut Context<'_>) -> u32 {
        cx.tell(&self.0, &Price { cart: add.cart.to_native(), items: 0 }).unwrap();
        0
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// With as few slots as there can be: their tables are made in no time.
fn carts() -> Router {
    Router::consistent_hash(CARTS).with(|spec| spec.slot_bits = 10)
}

fn cluster(nodes: u16, seed: u64) -> Cluster {
    let mut cluster = Cluster::of(nodes).workers(2).seed(seed).serve(CARTS, |_| Carts::default());
    cluster = cluster.each(|node| assert!(node.index() < 5));
    cluster.start()
}

#[test]
fn a_key_has_one_owner_whoever_asks() {
    let mut cluster = cluster(3, 1);
    for round in 1..=5 {
        for cart in 0..20 {
            let asker = (cart + u64::from(round)) as usize % 3;
            assert_eq!(cluster.ask(asker, &carts(), &Add { cart }), Ok(round), "cart {cart}");
        }
    }
    assert!(cluster.run_until_quiet(seconds(1)));
    let sent: u64 = (0..3).map(|node| cluster.counts(node).sent).sum();
    let delivered: u64 = (0..3).map(|node| cluster.counts(node).delivered).sum();
    assert_eq!((sent, delivered), (100, 100));
}

#[test]
fn minutes_take_moments_and_equal_seeds_give_equal_runs() {
    let began = Instant::now();
    let run = |seed| {
        let mut cluster = cluster(3, seed);
        for cart in 0..10 {
            let _ = cluster.ask(0, &carts(), &Add { cart });
        }
        cluster.crash(2);
        cluster.run_for(seconds(30));
        cluster.start(2);
        cluster.run_for(seconds(30));
        (cluster.now(), cluster.fingerprint(), cluster.reachable(0))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).1, run(4).1);
    assert_eq!(run(3).2, [0, 1, 2]);
    let took = began.elapsed();
    assert!(took < seconds(60), "5 simulated minutes took {took:?}");
}

#[test]
fn a_crash_is_seen_and_its_keys_move_and_come_back() {
    for seed in 0..6 {
        let mut cluster = cluster(3, seed);
        cluster.crash(1);
        assert!(!cluster.is_running(1));
        assert!(cluster.run_until(seconds(5), |it| {
            it.reachable(0) == [0, 2] && it.reachable(2) == [0, 2]
        }));
        for cart in 0..20 {
            assert_eq!(cluster.ask(0, &carts(), &Add { cart }), cluster_count(&mut cluster, cart));
        }
        cluster.start(1);
        assert!(cluster.run_until(seconds(10), |it| it.reachable(1) == [0, 1, 2]));
        cluster.run_until_ready(1, &carts(), 6);
        assert!(cluster.ask(1, &carts(), &Add { cart: 1 }).is_ok());
    }
}

/// What the other node is told of a cart must be one less than what this one is told next.
fn cluster_count(cluster: &mut Cluster, cart: u64) -> Result<u32, AskError> {
    cluster.ask(2, &carts(), &Add { cart }).map(|items| items - 1)
}

#[test]
fn a_paused_node_is_silent_and_goes_on() {
    let mut cluster = cluster(3, 5);
    cluster.pause(2);
    assert!(cluster.run_until(seconds(5), |it| it.reachable(0) == [0, 1]));
    cluster.resume(2);
    assert!(cluster.run_until(seconds(5), |it| it.reachable(0) == [0, 1, 2]));
    assert!(cluster.ask(2, &carts(), &Add { cart: 3 }).is_ok());
}

#[test]
fn an_ask_to_a_paused_owner_ends_by_its_deadline() {
    let mut cluster = cluster(2, 6);
    let owned = |cluster: &mut Cluster, node: usize| {
        (0..).find(|cart| {
            let before = cluster.counts(node).received;
            cluster.ask(1 - node, &carts(), &Add { cart: *cart }).unwrap();
            cluster.counts(node).received > before
        })
    };
    let cart = owned(&mut cluster, 1).unwrap();
    cluster.pause(1);
    let before = cluster.now();
    let options = AskOptions::within(Duration::from_millis(300));
    let asked = cluster.begin_ask(0, &carts(), &Add { cart }, options);
    assert_eq!(asked.end(&mut cluster), Err(AskError::Timeout));
    let took = cluster.now() - before;
    assert!((290..=310).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_cut_is_seen_on_both_sides_and_heals() {
    let mut cluster = cluster(4, 7);
    cluster.cut(&[0, 1], &[2, 3]);
    assert!(cluster.run_until(seconds(5), |it| {
        (0..4).all(|node| it.reachable(node) == if node < 2 { [0, 1] } else { [2, 3] })
    }));
    cluster.heal();
    let all = |it: &Cluster| (0..4).all(|node| it.reachable(node) == [0, 1, 2, 3]);
    assert!(cluster.run_until(seconds(5), all));
    let answered = (0..20).filter(|cart| cluster.ask(0, &carts(), &Add { cart: *cart }).is_ok());
    assert_eq!(answered.count(), 20);
}

#[test]
fn who_leaves_loses_nothing_and_is_gone() {
    for seed in 0..5 {
        let prices = Probe::<Price>::default();
        let mut cluster = Cluster::of(3).seed(seed).serve(PRICES, prices.routee()).start();
        let router = Router::round_robin(PRICES);
        for cart in 0..50 {
            cluster.tell(1, &router, &Price { cart, items: 1 }).unwrap();
        }
        cluster.leave(1);
        assert!(cluster.run_until(seconds(20), |it| !it.is_running(1)));
        let mut taken: Vec<u64> = prices.taken().iter().map(|price| price.cart).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..50).collect::<Vec<_>>());
        assert_eq!(cluster.reachable(0), [0, 2]);
        assert!(cluster.view(0).member(keyway::NodeId::from_name("node-1")).is_none());
    }
}

#[test]
fn as_much_may_be_under_way_as_on_a_real_node_and_may_be_looked_at_again() {
    let mut cluster = cluster(2, 12);
    for cart in 0..2_000 {
        cluster.tell(0, &carts(), &Add { cart }).unwrap();
    }
    let options = AskOptions::default();
    let mut asked: Vec<_> =
        (0..1_000).map(|cart| cluster.begin_ask(0, &carts(), &Add { cart }, options)).collect();
    let all = |it: &Cluster| asked.iter_mut().all(|asked| asked.look(it).is_some());
    assert!(cluster.run_until(seconds(2), all));
    for asked in asked {
        assert_eq!(asked.end(&mut cluster), Ok(2));
    }
}

#[test]
fn an_ask_that_was_answered_before_its_node_was_gone_has_its_answer() {
    let mut cluster = cluster(2, 13);
    let options = AskOptions::default();
    let answered = cluster.begin_ask(0, &carts(), &Add { cart: 1 }, options);
    cluster.run_for(seconds(1));
    let open = cluster.begin_ask(0, &carts(), &Add { cart: 1 }, options);
    cluster.crash(0);
    assert_eq!(answered.end(&mut cluster), Ok(1));
    // It may have been handled for all that anybody knows.
    assert_eq!(open.end(&mut cluster), Err(AskError::LinkLost));
}

#[test]
#[should_panic(expected = "node 0 could not serve a path: what makes its routees")]
fn a_routee_that_cannot_be_made_is_no_fault_of_the_nodes() {
    fn none(_: keyway::WorkerIndex) -> Carts {
        std::panic::resume_unwind(Box::new("as it was told"))
    }
    Cluster::of(1).serve(CARTS, none).start().run_for(seconds(1));
}

#[test]
#[should_panic(expected = "node 1 is paused: it cannot leave")]
fn who_is_paused_does_nothing() {
    let mut cluster = cluster(2, 14);
    cluster.pause(1);
    cluster.leave(1);
}

#[test]
fn a_router_may_be_new_on_a_node_that_is_leaving() {
    let mut refused = 0;
    for seed in 0..30 {
        let mut cluster = cluster(2, seed);
        cluster.leave(1);
        for new in 0.. {
            let router = Router::round_robin(&format!("/user/new-{new}"));
            let told = cluster.tell(1, &router, &Add { cart: new });
            let ends = Refusal::Leaving;
            assert!(told == Err(ends) || told == Err(Refusal::Stopped), "{told:?}");
            refused += u32::from(told == Err(Refusal::Stopped));
            if !cluster.is_running(1) {
                break;
            }
        }
    }
    assert!(refused > 0, "no node ended while a router was made");
}

#[test]
fn an_operator_removes_who_crashed() {
    let mut cluster = cluster(3, 9);
    cluster.crash(2);
    assert!(cluster.run_until(seconds(5), |it| it.reachable(0) == [0, 1]));
    assert_eq!(cluster.view(0).members.len(), 3);
    assert!(cluster.down(0, 2));
    assert!(cluster.run_until(seconds(5), |it| it.view(1).members.len() == 2));
    assert!(!cluster.down(0, 2), "it is no member any more");
}

#[test]
fn errors_are_those_of_a_real_node() {
    let mut cluster = cluster(2, 10);
    let nowhere = Router::round_robin("/user/nowhere");
    assert_eq!(cluster.tell(0, &nowhere, &Add { cart: 1 }), Err(Refusal::NoRoutee));
    assert_eq!(cluster.routees(0, &nowhere), 0);
    let all = Router::broadcast(CARTS);
    let asked = cluster.ask(0, &all, &Add { cart: 1 });
    assert_eq!(asked, Err(AskError::Refused(Refusal::NoSingleReply)));
    let failed = cluster.ask(0, &carts(), &Fail { cart: 1 });
    assert_eq!(failed, Err(AskError::Dead(DeathReason::HandlerPanicked)));
    // Another instance takes what comes next.
    assert_eq!(cluster.ask(0, &carts(), &Add { cart: 1 }), Ok(1));
    assert_eq!(cluster.counts(0).refused[Refusal::NoRoutee as usize], 1);
}

#[test]
fn a_routee_by_itself_shows_its_replies_and_what_it_sends() {
    let prices = Probe::<Price>::default();
    let served = prices.clone();
    let mut solo = Solo::with(move |node| {
        node.serve(PRICES, served.routee());
        let prices = node.router(&Router::round_robin(PRICES));
        move |_| Pricing { carts: BTreeMap::new(), prices: prices.clone() }
    });
    assert_eq!(solo.ask(&Add { cart: 4 }), Ok(1));
    solo.tell(&Add { cart: 4 }).unwrap();
    assert_eq!(prices.taken(), []);
    solo.run_for(seconds(2));
    assert_eq!(prices.taken(), vec![Price { cart: 4, items: 2 }; 2]);
    assert_eq!(prices.taken(), [], "each is told once");
    let counts = solo.counts();
    assert_eq!((counts.sent, counts.delivered), (4, 4));
}

#[test]
fn whoever_is_served_is_known_to_all_from_the_start() {
    for seed in 0..20 {
        let nodes = 1 + seed as u16 % 3;
        let mut cluster = cluster(nodes, seed);
        for node in 0..usize::from(nodes) {
            assert_eq!(cluster.routees(node, &carts()), 2 * usize::from(nodes), "seed {seed}");
            for cart in 0..10 {
                assert_eq!(cluster.ask(node, &carts(), &Add { cart }), Ok(node as u32 + 1));
            }
        }
        // Its first message to a neighbour as well.
        let prices = Probe::<Price>::default();
        let served = prices.clone();
        let mut solo = Solo::with(move |node| {
            node.serve(PRICES, served.routee());
            let prices = node.router(&Router::round_robin(PRICES));
            move |_| Teller(prices.clone())
        });
        assert_eq!(solo.ask(&Add { cart: 1 }), Ok(0));
        solo.run_for(Duration::from_millis(1));
        assert_eq!(prices.taken().len(), 1);
    }
}

#[test]
#[should_panic(expected = "cannot serve /user/carts: it serves that path already")]
fn a_path_is_served_once() {
    let twice = Cluster::of(1).serve(CARTS, |_| Carts::default());
    twice.serve(CARTS, |_| Carts::default()).start();
}

#[test]
fn a_probe_answers_as_it_is_told() {
    let probe = Probe::<Add>::answering(|add| add.cart as u32 * 2);
    let mut cluster = Cluster::of(2).serve(CARTS, probe.routee()).start();
    assert_eq!(cluster.ask(0, &carts(), &Add { cart: 21 }), Ok(42));
    assert_eq!(probe.taken().len(), 1);
}

#[test]
#[should_panic(expected = "there is no node 3: they are 0 to 2")]
fn a_node_that_is_not_there_is_named() {
    cluster(3, 1).crash(3);
}

#[test]
#[should_panic(expected = "node 1 does not run")]
fn who_does_not_run_cannot_send() {
    let mut cluster = cluster(3, 1);
    cluster.crash(1);
    let _ = cluster.tell(1, &carts(), &Add { cart: 1 });
}

#[test]
#[ignore = "fails on purpose: the next test runs it"]
fn fails_on_purpose() {
    let cluster = cluster(2, 4_711);
    assert_eq!(cluster.reachable(0), [0], "as it must");
}

#[test]
fn a_test_that_fails_prints_its_seed() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fails_on_purpose", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("`.seed(4711)`"), "{said}");
}

/// What the README says of an idempotent ask: it waits for a server once it is accepted, and is
/// refused at once where none can be reached.
#[test]
fn an_idempotent_ask_waits_for_its_only_server_if_it_was_accepted_before_that_was_seen_gone() {
    let mut cluster = Cluster::of(2)
        .each(|node| {
            if node.index() == 1 {
                node.serve(CARTS, |_worker| Carts::default());
            }
        })
        .start();
    let carts = Router::consistent_hash(CARTS);
    let options = AskOptions::within(Duration::from_secs(20)).idempotent();
    let add = Add { cart: 7 };
    assert_eq!(cluster.begin_ask(0, &carts, &add, options).end(&mut cluster), Ok(1));

    cluster.crash(1);
    let mut before = cluster.begin_ask(0, &carts, &add, options);
    assert!(cluster.run_until(Duration::from_secs(5), |it| it.reachable(0) == [0]));
    let refused = Some(&Err(AskError::Refused(Refusal::Unreachable)));
    assert_eq!(cluster.begin_ask(0, &carts, &add, options).look(&cluster), refused);
    assert!(before.look(&cluster).is_none(), "it waits");
    cluster.start(1);
    assert_eq!(before.end(&mut cluster), Ok(1));
}
