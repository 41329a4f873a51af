//! Routers as applications use them: spread, filters, subscriptions, waiting, asking from anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyway::{
    AskError, AskOptions, Context, DeathReason, Handler, LocalPreference, Message, Node, NotReady,
    OnReply, Refusal, Routee, Router, Time,
};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "routing.who", key = key, reply = u64)]
struct Who {
    key: u64,
    panics: bool,
}

fn who(key: u64) -> Who {
    Who { key, panics: false }
}

/// Has no key of its own.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "routing.keyless", reply = u64)]
struct Keyless;

#[derive(Routee)]
#[routee(handles(Who, Keyless))]
struct Member(Arc<AtomicU64>);

impl Handler<Who> for Member {
    type Reply = u64;
    fn handle(&mut self, who: &ArchivedWho, cx: &mut Context<'_>) -> u64 {
        assert!(!who.panics, "told to");
        self.0.fetch_add(1, Ordering::Relaxed);
        cx.node().node.0
    }
}

impl Handler<Keyless> for Member {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedKeyless, cx: &mut Context<'_>) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        cx.node().node.0
    }
}

const LIMIT: Duration = Duration::from_secs(20);
const PATH: &str = "/routing/member";

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn builder() -> keyway::NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO)
}

/// Nodes with a count each of what they handled.
struct Cluster {
    nodes: Vec<Node>,
    handled: Vec<Arc<AtomicU64>>,
}

impl Cluster {
    /// `describe` says what node 0, 1, ... is like.
    fn new(
        size: usize,
        describe: impl Fn(usize, keyway::NodeBuilder) -> keyway::NodeBuilder,
    ) -> Self {
        let mut cluster = Self { nodes: Vec::new(), handled: Vec::new() };
        for index in 0..size {
            let mut builder = describe(index, builder());
            if let Some(first) = cluster.nodes.first() {
                builder = builder.seed(first.address());
            }
            let node = builder.start().unwrap();
            let handled = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&handled);
            node.serve(PATH, move |_| Member(Arc::clone(&count))).unwrap();
            cluster.nodes.push(node);
            cluster.handled.push(handled);
        }
        for node in &cluster.nodes {
            assert!(node.wait_members(size, LIMIT), "{node:?} sees too few members");
        }
        cluster
    }

    fn plain(size: usize) -> Self {
        Self::new(size, |_, builder| builder)
    }

    /// Takes the counts out.
    fn spread(&self) -> Vec<u64> {
        self.handled.iter().map(|handled| handled.swap(0, Ordering::Relaxed)).collect()
    }

    /// Tells keys 0, 1, ... and says who handled how many of the `expected` messages.
    fn tell(&self, router: &Router, count: u64, expected: u64) -> Vec<u64> {
        for key in 0..count {
            router.tell(&who(key)).unwrap();
        }
        self.spread_of(expected)
    }

    /// Waits until so many messages were handled, and for a moment whether more come.
    fn spread_of(&self, expected: u64) -> Vec<u64> {
        let handled = || self.handled.iter().map(|handled| handled.load(Ordering::Relaxed)).sum();
        eventually("all were handled", || expected <= handled());
        eventually("the books balance", || self.nodes[0].counts().in_flight() == 0);
        assert_eq!(expected, handled());
        self.spread()
    }
}

fn ready(router: Router, routees: usize) -> Router {
    router.wait_ready(routees, LIMIT).unwrap();
    router
}

#[test]
fn strategies_spread_as_they_say() {
    let cluster = Cluster::plain(3);
    let node = &cluster.nodes[0];
    let each = |router: keyway::RouterBuilder<'_>| ready(router.build().unwrap(), 3);

    assert_eq!(cluster.tell(&each(node.router(PATH).round_robin()), 300, 300), [100; 3]);
    let everybody = each(node.router(PATH).broadcast());
    assert_eq!(cluster.tell(&everybody, 50, 150), [50; 3]);
    let asked = everybody.ask(&who(1)).wait();
    assert_eq!(asked, Err(AskError::Refused(Refusal::NoSingleReply)));
    let random = cluster.tell(&each(node.router(PATH).random()), 3_000, 3_000);
    assert_eq!(random.iter().sum::<u64>(), 3_000);
    assert!(random.iter().all(|count| (850..1_150).contains(count)), "{random:?}");

    let keyed = each(node.router(PATH).consistent_hash());
    let spread = cluster.tell(&keyed, 3_000, 3_000);
    assert!(spread.iter().all(|count| *count > 600), "{spread:?}");
    assert_eq!(cluster.tell(&keyed, 3_000, 3_000), spread, "the same keys, the same owners");
    for _ in 0..30 {
        keyed.tell_keyed("one key", &who(1)).unwrap();
    }
    let one = cluster.spread_of(30);
    assert_eq!(one.iter().filter(|count| **count == 30).count(), 1, "{one:?}");
    let own_key = node.router(PATH).consistent_hash().key(|who: &Who| who.key % 2).build().unwrap();
    let spread = cluster.tell(&own_key, 100, 100);
    assert!(spread.iter().all(|count| count % 50 == 0), "{spread:?}");

    // A handle's clone is a sender of its own, a batch goes the same way.
    let router = each(node.router(PATH).round_robin()).clone();
    let mut batch = router.batch();
    for key in 0..3_000 {
        batch.tell(&who(key)).unwrap();
    }
    drop(batch);
    assert_eq!(cluster.spread_of(3_000), [1_000; 3]);
}

#[test]
fn a_message_without_a_key_is_refused_and_goes_by_one_that_is_named() {
    let cluster = Cluster::plain(2);
    let keyed = cluster.nodes[0].router(PATH).consistent_hash().build().unwrap();
    let keyed = ready(keyed, 2);
    assert_eq!(keyed.tell(&Keyless), Err(Refusal::MissingKey));
    assert_eq!(keyed.ask(&Keyless).wait(), Err(AskError::Refused(Refusal::MissingKey)));
    let said = Refusal::MissingKey.to_string();
    assert!(said.contains("has no key") && said.contains("the `_keyed` way to send"), "{said}");
    for key in 0..20_u64 {
        keyed.tell_keyed(&key, &Keyless).unwrap();
        let owner = keyed.ask(&who(key)).within(LIMIT).wait();
        assert_eq!(keyed.ask_keyed(&key, &Keyless).within(LIMIT).wait(), owner);
    }
    assert!(cluster.spread_of(60).iter().all(|count| *count > 0));
}

#[test]
fn roles_limits_and_locality_choose_routees() {
    let cluster = Cluster::new(3, |index, builder| match index {
        0 => builder.workers(2).role("front"),
        1 => builder.workers(2).role("back").role("big"),
        _ => builder.workers(2).role("back"),
    });
    let node = &cluster.nodes[0];
    ready(node.router(PATH).build().unwrap(), 6);
    let nodes_of = |router: keyway::RouterBuilder<'_>| {
        let router = router.build().unwrap();
        let mut nodes: Vec<usize> = router
            .routees()
            .iter()
            .map(|routee| {
                cluster.nodes.iter().position(|node| node.id() == routee.id.node).unwrap()
            })
            .collect();
        nodes.sort_unstable();
        nodes
    };
    assert_eq!(nodes_of(node.router(PATH)), [0, 0, 1, 1, 2, 2]);
    assert_eq!(nodes_of(node.router(PATH).role("back")), [1, 1, 2, 2]);
    assert_eq!(nodes_of(node.router(PATH).role("back").role("big")), [1, 1]);
    assert_eq!(nodes_of(node.router(PATH).role("nobody")), [0; 0]);
    assert_eq!(nodes_of(node.router(PATH).max_routees_per_node(1)), [0, 1, 2]);
    assert_eq!(nodes_of(node.router(PATH).max_routees(4)).len(), 4);
    assert_eq!(nodes_of(node.router(PATH).local(LocalPreference::Exclude)), [1, 1, 2, 2]);
    assert_eq!(nodes_of(node.router("/routing/nothing")), [0; 0]);

    let local = node.router(PATH).local(LocalPreference::Prefer).build().unwrap();
    assert_eq!(cluster.tell(&local, 100, 100), [100, 0, 0], "as long as one is usable");
    let nobody = node.router(PATH).role("nobody").build().unwrap();
    assert_eq!(nobody.tell(&who(1)), Err(Refusal::NoRoutee));
    assert_eq!(nobody.ask(&who(1)).wait(), Err(AskError::Refused(Refusal::NoRoutee)));

    // By a pattern, on one node or all.
    assert_eq!(node.select("/routing/*").unwrap().identify().len(), 6);
    assert_eq!(node.select("/routing/*").unwrap().on(cluster.nodes[1].name()).identify().len(), 2);
    assert_eq!(node.select("/other/**").unwrap().tell(&who(1)), Err(Refusal::NoRoutee));
    assert_eq!(node.select("/**").unwrap().tell(&who(1)), Ok(6));
    assert_eq!(cluster.spread_of(6), [2, 2, 2]);
}

#[test]
fn dead_letters_are_told_with_their_reason_path_message_and_peer() {
    let cluster = Cluster::plain(2);
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let router = node.router(PATH).local(LocalPreference::Exclude).build().unwrap();
    let router = ready(router, 1);
    let mut letters = other.dead_letters();
    assert_eq!(letters.try_next(), Ok(None));
    let bad = Who { key: 1, panics: true };
    let outcome = router.ask(&bad).within(LIMIT).wait();
    assert_eq!(outcome, Err(AskError::Dead(DeathReason::HandlerPanicked)));
    router.tell(&bad).unwrap();
    let mut told = 0;
    while told < 2 {
        let letter = letters.wait().unwrap();
        assert_eq!(letter.reason, DeathReason::HandlerPanicked);
        assert_eq!(letter.peer, Some(node.id()));
        assert_eq!(letter.peer_name.as_deref(), Some(node.name()));
        assert_eq!(letter.path.as_ref().map(|path| path.as_str()), Some(PATH));
        assert_eq!(letter.message.as_deref(), Some(Who::NAME));
        told += letter.count;
    }
    // A fresh routee goes on.
    assert_eq!(router.ask(&who(1)).within(LIMIT).wait(), Ok(other.id().node.0));
    eventually("the books balance", || node.counts().in_flight() == 0);
    assert_eq!((node.counts().dead_at_peer, node.counts().delivered), (2, 1));
}

#[test]
fn waiting_for_routees_ends_with_them_or_by_name() {
    let node = builder().start().unwrap();
    let router = node.router(PATH).build().unwrap();
    assert_eq!(router.tell(&who(1)), Err(Refusal::NoRoutee));
    let error = router.wait_ready(1, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error, NotReady::TimedOut { routees: 0, wanted: 1 });
    let waiting = router.clone();
    let waiter = std::thread::spawn(move || waiting.wait_ready(1, LIMIT));
    node.serve(PATH, |_| Member(Arc::default())).unwrap();
    waiter.join().unwrap().unwrap();
    assert_eq!(router.ask(&who(1)).wait(), Ok(node.id().node.0));
    let error = node.serve(PATH, |_| Member(Arc::default())).unwrap_err();
    assert!(error.to_string().contains("serves that path already"), "{error}");
    assert!(node.serve("no/slash", |_| Member(Arc::default())).is_err());
    assert!(node.router("no/slash").build().is_err());
    assert!(!node.wait_members(2, Duration::from_millis(50)));
    let waiting = router.clone();
    let waiter = std::thread::spawn(move || waiting.wait_ready(9, LIMIT));
    std::thread::sleep(Duration::from_millis(20));
    drop(node);
    assert_eq!(waiter.join().unwrap(), Err(NotReady::Stopped));
}

#[test]
fn asks_work_in_any_runtime_and_in_none() {
    let cluster = Cluster::plain(2);
    let expected = cluster.nodes[1].id().node.0;
    let router = cluster.nodes[0].router(PATH).local(LocalPreference::Exclude).build().unwrap();
    let router = Arc::new(ready(router, 1));
    assert_eq!(router.ask(&who(1)).within(LIMIT).wait(), Ok(expected));

    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for runtime in [multi, current] {
        let asked = runtime.block_on(async {
            router.ready(1).await.unwrap();
            let tasks: Vec<_> = (0..50)
                .map(|key| {
                    let router = Arc::clone(&router);
                    tokio::spawn(async move { router.ask(&who(key)).within(LIMIT).await })
                })
                .collect();
            let mut asked = 0;
            for task in tasks {
                assert_eq!(task.await.unwrap(), Ok(expected));
                asked += 1;
            }
            asked
        });
        assert_eq!(asked, 50);
    }
    // A node can be started, asked and stopped from within a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = builder().start().unwrap();
        node.serve(PATH, |_| Member(Arc::default())).unwrap();
        let router = node.router(PATH).build().unwrap();
        router.ready(1).await.unwrap();
        assert_eq!(router.ask(&who(1)).await, Ok(node.id().node.0));
        // A future that is dropped is no longer waited for.
        drop(router.ask(&who(1)).into_future());
        assert!(node.leave().await.unwrap());
    });
    eventually("the books balance", || cluster.nodes[0].counts().in_flight() == 0);
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "routing.relay", reply = u64)]
struct Relay {
    key: u64,
    idempotent: bool,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "routing.pass_on")]
struct PassOn {
    key: u64,
}

/// Asks on behalf of who asks it, and answers when it is answered.
struct Relays {
    members: Arc<Router>,
    next: u64,
    open: std::collections::BTreeMap<u64, keyway::Replier<u64>>,
}

impl Routee for Relays {
    fn register(handlers: &mut keyway::HandlerTable<Self>) {
        handlers.add::<Relay>();
        handlers.add::<PassOn>();
    }
}

impl Handler<PassOn> for Relays {
    type Reply = ();
    fn handle(&mut self, pass_on: &ArchivedPassOn, cx: &mut Context<'_>) {
        cx.tell(&*self.members, &who(pass_on.key.to_native())).unwrap();
    }
}

impl Handler<Relay> for Relays {
    type Reply = keyway::Later<u64>;
    fn handle(&mut self, relay: &ArchivedRelay, cx: &mut Context<'_>) -> keyway::Later<u64> {
        assert!(cx.deadline().unwrap_or(Time::ZERO) > cx.now());
        let (later, replier) = cx.reply_later();
        self.next += 1;
        let message = who(relay.key.to_native());
        let mut options = AskOptions::within(LIMIT);
        options.idempotent = relay.idempotent;
        if cx.ask::<Self, _>(&*self.members, &message, options, self.next).is_ok() {
            self.open.insert(self.next, replier);
        }
        later
    }
}

impl OnReply<Who> for Relays {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&rkyv::rend::u64_le, AskError>,
        _: &mut Context<'_>,
    ) {
        let replier = self.open.remove(&token).expect("each ask is answered once");
        if let Ok(reply) = reply {
            replier.reply(&reply.to_native()).unwrap();
        }
    }
}

#[test]
fn a_handler_asks_and_tells_whom_a_thread_would() {
    let cluster = Cluster::plain(2);
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let own_keys = other.router(PATH).consistent_hash();
    // A function's keys have other owners than the messages' own, inside handlers as well.
    let keys_by_function = other.router(PATH).consistent_hash().key(|who: &Who| who.key ^ 0xabcd);
    for (path, members) in [("/routing/relay/1", own_keys), ("/routing/relay/2", keys_by_function)]
    {
        let members = Arc::new(ready(members.build().unwrap(), 2));
        let route = Arc::clone(&members);
        other
            .serve(path, move |_| Relays {
                members: Arc::clone(&route),
                next: 0,
                open: Default::default(),
            })
            .unwrap();
        let relay = ready(node.router(path).build().unwrap(), 1);
        for key in 0..100 {
            let direct = members.ask(&who(key)).within(LIMIT).wait().unwrap();
            let owner = cluster.spread();
            for idempotent in [false, true] {
                let relayed = relay.ask(&Relay { key, idempotent }).within(LIMIT).wait();
                assert_eq!(relayed, Ok(direct), "{path} {key}");
                assert_eq!(cluster.spread(), owner);
            }
            relay.tell(&PassOn { key }).unwrap();
            let told = || cluster.handled.iter().map(|handled| handled.load(Ordering::Relaxed));
            eventually("it was told", || told().sum::<u64>() == 1);
            assert_eq!(cluster.spread(), owner, "{path} {key}: a tell has another owner");
        }
    }
}

#[test]
fn clusters_with_different_names_do_not_mix() {
    let shop = builder().cluster("shop").start().unwrap();
    let bank = builder().cluster("bank").start().unwrap();
    let lost = builder().cluster("bank").seed(shop.address()).start().unwrap();
    let more = builder().cluster("shop").seed(bank.address()).seed(shop.address()).start().unwrap();
    for node in [&shop, &bank, &more] {
        node.serve(PATH, |_| Member(Arc::default())).unwrap();
    }
    assert!(shop.wait_members(2, LIMIT) && more.wait_members(2, LIMIT));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bank.view().members.len(), 1);
    assert_eq!(lost.view().members.len(), 1);
    assert!(!lost.wait_members(1, Duration::ZERO), "it opens no cluster beside its seed's");
    let names = |node: &Node| -> Vec<String> {
        let mut names: Vec<String> =
            node.view().members.iter().map(|member| member.name.to_string()).collect();
        names.sort();
        names
    };
    let mut expected = vec![shop.name().to_owned(), more.name().to_owned()];
    expected.sort();
    assert_eq!(names(&shop), expected);
    assert_eq!(names(&more), expected);
    ready(shop.router(PATH).build().unwrap(), 2);
    assert_eq!(ready(bank.router(PATH).build().unwrap(), 1).routee_count(), 1);
    assert!(shop.strangers().datagrams.not_ours > 0, "they were heard, and not listened to");
}

#[test]
fn a_cluster_opens_when_it_is_large_enough() {
    let first = builder().min_members(3).start().unwrap();
    first.serve(PATH, |_| Member(Arc::default())).unwrap();
    let router = first.router(PATH).build().unwrap();
    let join = || {
        let node = builder().min_members(3).seed(first.address()).start().unwrap();
        node.serve(PATH, |_| Member(Arc::default())).unwrap();
        node
    };
    let second = join();
    eventually("the second is known", || first.view().members.len() == 2);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!first.wait_members(1, Duration::ZERO), "nobody is up yet");
    assert_eq!(router.tell(&who(1)), Err(Refusal::Joining));
    let asked = router.ask(&who(1)).within(LIMIT).wait();
    assert_eq!(asked, Err(AskError::Refused(Refusal::Joining)));
    let third = join();
    for node in [&first, &second, &third] {
        assert!(node.wait_members(3, LIMIT));
    }
    router.wait_ready(3, LIMIT).unwrap();
    router.ask(&who(1)).within(LIMIT).wait().unwrap();
}
