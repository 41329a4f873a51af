//! What happens when a message changes: programs with two ideas of one name meet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use keyway::{AskError, Context, Handler, Message, Node, Refusal, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

/// The message as it was.
mod first {
    use super::*;

    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "changing.pay", key = account, reply = u64)]
    pub struct Pay {
        pub account: u64,
        pub cents: u64,
    }
}

/// The message as somebody changed it, with a field put into the middle.
mod second {
    use super::*;

    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "changing.pay", key = account, reply = u64)]
    pub struct Pay {
        pub account: u64,
        pub currency: u32,
        pub cents: u64,
    }
}

/// Takes both under one name.
#[derive(Routee)]
#[routee(handles(first::Pay, second::Pay))]
struct Confused;

impl Handler<first::Pay> for Confused {
    type Reply = u64;
    fn handle(&mut self, pay: &first::ArchivedPay, _: &mut Context<'_>) -> u64 {
        pay.cents.to_native()
    }
}

impl Handler<second::Pay> for Confused {
    type Reply = u64;
    fn handle(&mut self, pay: &second::ArchivedPay, _: &mut Context<'_>) -> u64 {
        pay.cents.to_native()
    }
}

/// The message as it was, in another program.
mod elsewhere {
    use super::*;

    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "changing.pay", key = account, reply = u64)]
    pub struct Payment {
        pub account: u64,
        pub cents: u64,
    }
}

/// Answers with what it understood; the older and the newer program.
#[derive(Routee)]
#[routee(handles(first::Pay, Relay))]
struct Older {
    paid: Arc<AtomicU64>,
    relay: Arc<OnceLock<Router>>,
}

impl Handler<first::Pay> for Older {
    type Reply = u64;
    fn handle(&mut self, pay: &first::ArchivedPay, _: &mut Context<'_>) -> u64 {
        self.paid.fetch_add(pay.cents.to_native(), Ordering::Relaxed);
        pay.cents.to_native()
    }
}

#[derive(Routee)]
#[routee(handles(second::Pay))]
struct Newer(Arc<AtomicU64>);

impl Handler<second::Pay> for Newer {
    type Reply = u64;
    fn handle(&mut self, pay: &second::ArchivedPay, _: &mut Context<'_>) -> u64 {
        assert_eq!(pay.currency, 978);
        self.0.fetch_add(pay.cents.to_native(), Ordering::Relaxed);
        pay.cents.to_native()
    }
}

/// Has a handler send the changed message.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "changing.relay", reply = String)]
struct Relay;

impl Handler<Relay> for Older {
    type Reply = String;
    fn handle(&mut self, _: &ArchivedRelay, cx: &mut Context<'_>) -> String {
        let router = self.relay.get().expect("set before it is asked");
        let routee = &router.routees()[0];
        let outcomes = [
            cx.tell(router, &newer(1, 1)),
            cx.broadcast(router, &newer(1, 1)),
            cx.tell_to(routee, &newer(1, 1)),
        ];
        assert_eq!(cx.tell(router, &older(1, 1)), Ok(()));
        format!("{outcomes:?}")
    }
}

fn older(account: u64, cents: u64) -> first::Pay {
    first::Pay { account, cents }
}

fn newer(account: u64, cents: u64) -> second::Pay {
    second::Pay { account, currency: 978, cents }
}

const LIMIT: Duration = Duration::from_secs(20);
const PATH: &str = "/changing/pay";
const MISMATCH: Result<(), Refusal> = Err(Refusal::LayoutMismatch);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ask<M: Message<Reply = u64>>(router: &Router, message: &M) -> Result<u64, AskError> {
    router.ask(message).within(LIMIT).wait()
}

/// Fails where only the name is compared: the old node answers `Ok` with other values.
#[test]
fn a_changed_message_is_refused_by_name_where_it_is_sent() {
    let old = node().start().unwrap();
    let (paid, relay) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()));
    let (count, way) = (Arc::clone(&paid), Arc::clone(&relay));
    let make = move |_| Older { paid: Arc::clone(&count), relay: Arc::clone(&way) };
    old.serve(PATH, make).unwrap();
    let new = node().seed(old.address()).start().unwrap();

    for keyed in [false, true] {
        let router = new.router(PATH);
        let router = if keyed { router.consistent_hash() } else { router };
        let router = router.build().unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        assert_eq!(router.tell(&newer(1, 7)), MISMATCH);
        assert_eq!(router.broadcast(&newer(1, 7)), MISMATCH);
        assert_eq!(router.batch().tell(&newer(1, 7)), MISMATCH);
        assert_eq!(new.tell_to(&router.routees()[0], &newer(1, 7)), MISMATCH);
        let refused = Err(AskError::Refused(Refusal::LayoutMismatch));
        assert_eq!(ask(&router, &newer(1, 7)), refused);

        // What has not changed goes on, whatever the type is called there.
        assert_eq!(ask(&router, &older(1, 7)), Ok(7));
        assert_eq!(ask(&router, &elsewhere::Payment { account: 1, cents: 8 }), Ok(8));
    }
    assert_eq!(new.select(PATH).unwrap().tell(&newer(1, 7)), Err(Refusal::LayoutMismatch));

    let router = old.router(PATH).build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    relay.set(router.clone()).unwrap();
    let said = router.ask(&Relay).within(LIMIT).wait().unwrap();
    assert_eq!(said, format!("{:?}", [MISMATCH; 3]));

    eventually("all is handled", || paid.load(Ordering::Relaxed) == 2 * (7 + 8) + 1);
    let counts = new.counts();
    assert_eq!(counts.refused[Refusal::LayoutMismatch as usize], 11, "{counts:?}");
    assert_eq!(counts.dead_total(), 0, "{counts:?}");
}

#[test]
fn each_layout_finds_the_routees_that_take_it() {
    let old = node().start().unwrap();
    let (at_old, at_new) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&at_old);
    let make = move |_| Older { paid: Arc::clone(&count), relay: Arc::default() };
    old.serve(PATH, make).unwrap();
    let new = node().seed(old.address()).start().unwrap();
    let count = Arc::clone(&at_new);
    new.serve(PATH, move |_| Newer(Arc::clone(&count))).unwrap();

    let unkeyed = old.router(PATH).build().unwrap();
    let keyed = old.router(PATH).consistent_hash().build().unwrap();
    unkeyed.wait_ready(2, LIMIT).unwrap();
    keyed.wait_ready(2, LIMIT).unwrap();

    // A strategy without keys passes over who would misread.
    for _ in 0..10 {
        assert_eq!(ask(&unkeyed, &older(1, 1)), Ok(1));
        assert_eq!(ask(&unkeyed, &newer(1, 1)), Ok(1));
    }
    // A broadcast goes to those that take it, and says that there are others.
    assert_eq!(unkeyed.broadcast(&older(1, 1)), MISMATCH);
    // A key has one owner, which takes one of the two.
    let mut taken = [0; 2];
    for account in 0..100 {
        let outcomes = [ask(&keyed, &older(account, 1)), ask(&keyed, &newer(account, 1))];
        let refused = Err(AskError::Refused(Refusal::LayoutMismatch));
        let owner = outcomes.iter().position(|outcome| *outcome == Ok(1)).unwrap();
        assert_eq!(outcomes[1 - owner], refused);
        taken[owner] += 1;
    }
    assert!(taken[0] > 0 && taken[1] > 0, "{taken:?}");
    let (older, newer) = (10 + 1 + taken[0], 10 + taken[1]);
    eventually("all is handled", || {
        let handled = [&at_old, &at_new].map(|count| count.load(Ordering::Relaxed));
        handled == [older, newer]
    });
}

fn node() -> keyway::NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO)
}

#[test]
fn two_types_of_one_name_on_one_routee_are_an_error_at_serve() {
    let node = node().start().unwrap();
    let error = node.serve("/changing/pay", |_| Confused).unwrap_err().to_string();
    assert!(error.contains("/changing/pay") && error.contains("changing.pay"), "{error}");
    assert!(error.contains("changing.pay.v2"), "{error}");
}
