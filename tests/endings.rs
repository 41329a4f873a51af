//! How things end: a routee that cannot be made, a reply that is late, a stream whose node is gone.

use std::time::Duration;

use keyway::{
    AskError, Context, DeathReason, EventGap, Handler, Later, Message, Node, NodeError, Refusal,
    Replier, Routee,
};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "endings.work", reply = u64)]
struct Work;

#[derive(Routee)]
#[routee(handles(Work))]
struct Slow;

impl Handler<Work> for Slow {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedWork, cx: &mut Context<'_>) -> Later<u64> {
        let (later, replier): (_, Replier<u64>) = cx.reply_later();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            replier.reply(&7)
        });
        later
    }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "endings.fill", reply = Vec<u8>)]
struct Fill {
    bytes: u64,
}

#[derive(Routee)]
#[routee(handles(Fill, Work))]
struct Filler;

impl Handler<Fill> for Filler {
    type Reply = Vec<u8>;
    fn handle(&mut self, fill: &ArchivedFill, _: &mut Context<'_>) -> Vec<u8> {
        vec![0; fill.bytes.to_native() as usize]
    }
}

impl Handler<Work> for Filler {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) -> u64 {
        1
    }
}

#[test]
fn a_reply_over_the_limit_is_told_by_name() {
    let asking = node(None);
    let serving = node(Some(&asking));
    serving.serve("/user/fill", |_| Filler).unwrap();
    let router = asking.router("/user/fill").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let fill = |bytes| router.ask(&Fill { bytes }).within(LIMIT).wait();
    assert_eq!(fill(1000).map(|reply| reply.len()), Ok(1000));
    assert_eq!(fill(64 << 20), Err(AskError::Dead(DeathReason::ReplyTooLarge)));
    assert_eq!(router.ask(&Work).within(LIMIT).wait(), Ok(1), "the link goes on");
}

fn node(seed: Option<&Node>) -> Node {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1);
    match seed {
        Some(seed) => builder.seed(seed.address()).start().unwrap(),
        None => builder.start().unwrap(),
    }
}

#[test]
fn a_routee_that_panics_while_it_is_made_is_an_error_of_serve() {
    let node = node(None);
    let outcome = node.serve("/user/broken", |_| -> Slow { panic!("no database") });
    assert!(matches!(outcome, Err(NodeError::Order(_))), "{outcome:?}");
    // The worker goes on.
    node.serve("/user/slow", |_| Slow).unwrap();
    let router = node.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    assert_eq!(router.ask(&Work).within(LIMIT).wait(), Ok(7));
}

#[test]
fn a_leaving_node_waits_for_the_replies_it_owes() {
    let asking = node(None);
    let serving = node(Some(&asking));
    serving.serve("/user/slow", |_| Slow).unwrap();
    let router = asking.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let asker = std::thread::spawn(move || router.ask(&Work).within(LIMIT).wait());
    while serving.counts().received == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(serving.leave_and_wait().unwrap(), "everything was drained");
    assert_eq!(asker.join().unwrap(), Ok(7));
}

#[test]
fn a_stream_of_events_ends_with_its_node() {
    let node = node(None);
    let (mut events, mut letters) = (node.events(), node.dead_letters());
    let router = node.router("/user/nobody").build().unwrap();
    node.stop();
    while let Ok(event) = events.wait() {
        drop(event);
    }
    assert_eq!(events.wait(), Err(EventGap::Stopped));
    assert_eq!(letters.wait(), Err(EventGap::Stopped));
    assert_eq!(router.tell(&Work), Err(Refusal::Stopped));
}
