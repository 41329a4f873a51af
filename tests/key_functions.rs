//! A router's key function counts whichever way a message goes by it: told, asked, in a batch,
//! from a thread or inside a handler. And so does a key that is named with the message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyway::{
    AskError, AskOptions, Context, Handler, HandlerTable, Later, Message, Node, OnReply, Replier,
    Routee, Router,
};
use rkyv::{Archive, Deserialize, Serialize};

/// Which way a visit was sent.
const WAYS: [&str; 12] = [
    "a thread tells",
    "a clone of the handle tells",
    "a batch tells",
    "a thread asks",
    "a thread asks, and may ask again",
    "a handler tells",
    "a handler asks",
    "a handler asks, and may ask again",
    "a thread tells by a key of its own",
    "a thread asks by a key of its own",
    "a handler tells by a key of its own",
    "a handler asks by a key of its own",
];

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "keys.visit", key = key)]
struct Visit {
    key: u64,
    way: u64,
}

/// By way and key: which worker was visited.
type Visits = Arc<Mutex<BTreeMap<(u64, u64), u16>>>;

#[derive(Routee)]
#[routee(handles(Visit))]
struct Visited(Visits);

impl Handler<Visit> for Visited {
    type Reply = ();
    fn handle(&mut self, visit: &ArchivedVisit, cx: &mut Context<'_>) {
        let visit = (visit.way.to_native(), visit.key.to_native());
        let before = self.0.lock().unwrap().insert(visit, cx.worker().0);
        assert_eq!(before, None, "{visit:?} came twice");
    }
}

/// Has a handler visit.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "keys.go", reply = ())]
struct Go {
    key: u64,
}

struct Goes {
    router: Arc<Router>,
    /// Without a key function.
    plain: Arc<Router>,
    open: BTreeMap<u64, Replier<()>>,
}

impl Routee for Goes {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Go>();
    }
}

impl Handler<Go> for Goes {
    type Reply = Later<()>;
    fn handle(&mut self, go: &ArchivedGo, cx: &mut Context<'_>) -> Later<()> {
        let key = go.key.to_native();
        let (later, replier) = cx.reply_later();
        let router = &*self.router;
        cx.tell(router, &Visit { key, way: 5 }).unwrap();
        cx.ask::<Self, _>(router, &Visit { key, way: 6 }, LIMIT, u64::MAX).unwrap();
        let again = AskOptions::within(LIMIT).idempotent();
        cx.ask::<Self, _>(router, &Visit { key, way: 7 }, again, key).unwrap();
        let (plain, own) = (&*self.plain, own_key(key));
        cx.tell_keyed(plain, &own, &Visit { key, way: 10 }).unwrap();
        cx.ask_keyed::<Self, _>(plain, &own, &Visit { key, way: 11 }, LIMIT, u64::MAX).unwrap();
        self.open.insert(key, replier);
        later
    }
}

impl OnReply<Visit> for Goes {
    fn on_reply(&mut self, key: u64, reply: Result<&(), AskError>, _: &mut Context<'_>) {
        assert_eq!(reply, Ok(&()));
        if let Some(replier) = self.open.remove(&key) {
            replier.reply(&()).unwrap();
        }
    }
}

const LIMIT: Duration = Duration::from_secs(20);
const KEYS: u64 = 60;

/// Where a visit goes instead of where its own key would take it.
fn own_key(key: u64) -> u64 {
    key ^ 0xabcd
}

#[test]
fn a_key_function_counts_whichever_way_a_message_goes() {
    let node = Node::builder().bind("127.0.0.1:0").workers(4).spin(Duration::ZERO);
    let node = node.start().unwrap();
    let visits = Visits::default();
    let its = Arc::clone(&visits);
    node.serve("/keys/visited", move |_| Visited(Arc::clone(&its))).unwrap();
    let router = node.router("/keys/visited").consistent_hash();
    let router = Arc::new(router.key(|visit: &Visit| own_key(visit.key)).build().unwrap());
    router.wait_ready(4, LIMIT).unwrap();
    let plain = Arc::new(node.router("/keys/visited").consistent_hash().build().unwrap());
    plain.wait_ready(4, LIMIT).unwrap();
    let its = (Arc::clone(&router), Arc::clone(&plain));
    let goes = move |_| {
        let (router, plain) = its.clone();
        Goes { router, plain, open: BTreeMap::new() }
    };
    node.serve("/keys/goes", goes).unwrap();
    let relay = node.router("/keys/goes").build().unwrap();
    relay.wait_ready(4, LIMIT).unwrap();

    let clone = Router::clone(&router);
    let mut batch = router.batch();
    for key in 0..KEYS {
        let visit = |way| Visit { key, way };
        router.tell(&visit(0)).unwrap();
        clone.tell(&visit(1)).unwrap();
        batch.tell(&visit(2)).unwrap();
        router.ask(&visit(3)).within(LIMIT).wait().unwrap();
        router.ask(&visit(4)).within(LIMIT).idempotent().wait().unwrap();
        plain.tell_keyed(&own_key(key), &visit(8)).unwrap();
        plain.ask_keyed(&own_key(key), &visit(9)).within(LIMIT).wait().unwrap();
        relay.ask(&Go { key }).within(LIMIT).wait().unwrap();
    }
    drop(batch);
    let deadline = Instant::now() + LIMIT;
    while visits.lock().unwrap().len() < WAYS.len() * KEYS as usize {
        assert!(Instant::now() < deadline, "not all arrived");
        std::thread::sleep(Duration::from_millis(5));
    }

    // Where the function's keys live, by the plainest way, and where the messages' own would.
    let mut elsewhere = 0;
    for key in 0..KEYS {
        let wanted = visits.lock().unwrap()[&(0, key)];
        for (name, way) in WAYS.iter().zip(0..) {
            let found = visits.lock().unwrap()[&(way, key)];
            assert_eq!(found, wanted, "key {key} had another owner where {name}");
        }
        plain.ask(&Visit { key, way: 100 }).within(LIMIT).wait().unwrap();
        plain.ask(&Visit { key: own_key(key), way: 101 }).within(LIMIT).wait().unwrap();
        let visits = visits.lock().unwrap();
        assert_eq!(visits[&(101, own_key(key))], wanted, "the function's key {key}");
        elsewhere += u64::from(visits[&(100, key)] != wanted);
    }
    assert!(elsewhere > KEYS / 3, "{elsewhere} of {KEYS} keys would live elsewhere");
}
