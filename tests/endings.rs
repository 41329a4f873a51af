//! How things end: a routee that cannot be made, a reply that is late, a stream whose node is gone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use keyway::base::{Incarnation, MemberState};
use keyway::wire::handshake::{
    ANY_INCARNATION, ANY_NODE, DialParams, DialStep, Dialer, HandshakeError, Purpose,
};
use keyway::wire::{ClusterKey, VersionRange};
use keyway::{
    AskError, Context, DeathReason, EventGap, Handler, Later, Message, Node, NodeError, NodeId,
    NodeRef, NotReady, Refusal, Replier, Routee, Router, WorkerIndex,
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

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "endings.long", reply = u64)]
struct Long {
    bytes: Vec<u8>,
}

#[derive(Routee)]
#[routee(handles(Fill, Work, Long))]
struct Filler;

impl Handler<Long> for Filler {
    type Reply = u64;
    fn handle(&mut self, long: &ArchivedLong, _: &mut Context<'_>) -> u64 {
        long.bytes.len() as u64
    }
}

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

#[test]
fn a_message_over_its_receivers_limit_is_refused_by_name_and_costs_no_link() {
    let asking = node(None);
    let serving = Node::builder().bind("127.0.0.1:0").workers(1).seed(asking.address());
    let serving = serving.set("links.max_frame_bytes", "4096").start().unwrap();
    serving.serve("/user/fill", |_| Filler).unwrap();
    let router = asking.router("/user/fill").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let long =
        |bytes| router.ask(&Long { bytes: vec![0; bytes] }).within(LIMIT).idempotent().wait();
    assert_eq!(long(8_192), Err(AskError::Dead(DeathReason::TooLarge)), "it waited for a link");
    assert_eq!(long(8_192), Err(AskError::Refused(Refusal::TooLarge)), "what is known");
    assert_eq!(long(2_048), Ok(2_048));
    // Control counts it a moment later.
    let deadline = std::time::Instant::now() + LIMIT;
    while serving.strangers().accepted == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((asking.counts().unknown, serving.strangers().accepted), (0, 1), "on one link");
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

/// Opens a link to a node from a worker of a stranger.
fn dial(to: &Node, wanted: NodeRef, from: u16) -> Result<TcpStream, HandshakeError> {
    let params = DialParams {
        key: ClusterKey::new("keyway", None).unwrap(),
        purpose: Purpose::Workers,
        me: NodeRef { node: NodeId::from_name("a stranger"), incarnation: Incarnation(1) },
        from_worker: WorkerIndex(from),
        to: wanted,
        to_worker: WorkerIndex(0),
        link_epoch: 1,
        versions: VersionRange::SUPPORTED,
    };
    let mut stream = TcpStream::connect(to.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut dialer, hello) = Dialer::new(params, [7; 32]);
    stream.write_all(&hello).unwrap();
    loop {
        let mut bytes = vec![0; dialer.expects()];
        stream.read_exact(&mut bytes).unwrap();
        match dialer.receive(&bytes)? {
            DialStep::More => {}
            DialStep::Send(answer) => stream.write_all(&answer).unwrap(),
            DialStep::Done(_) => return Ok(stream),
        }
    }
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
    // Who would join by it is told; who knows it may still have something for it.
    serving.begin_leave().unwrap();
    let leaves = || serving.view().members.iter().any(|it| it.state == MemberState::Leaving);
    while !leaves() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let anyone = NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION };
    assert_eq!(dial(&serving, anyone, 0).unwrap_err(), HandshakeError::ShuttingDown);
    dial(&serving, serving.id(), 0).unwrap();
    assert!(serving.leave_and_wait().unwrap(), "everything was drained");
    assert_eq!(asker.join().unwrap(), Ok(7));
}

#[test]
fn links_on_which_strangers_say_nothing_hold_up_no_leave() {
    let node = node(None);
    let mut links: Vec<_> = (0..20).map(|from| dial(&node, node.id(), from).unwrap()).collect();
    // A part of a frame is no more than nothing, once nothing follows.
    links[0].write_all(&[0; 5]).unwrap();
    let began = Instant::now();
    assert!(node.leave_and_wait().unwrap(), "it waits for none of them");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    drop(links);
}

#[test]
fn a_stream_of_events_ends_with_its_node() {
    let node = node(None);
    let (mut events, mut letters) = (node.events(), node.dead_letters());
    let router = node.router("/user/nobody").build().unwrap();
    node.stop().unwrap();
    while let Ok(event) = events.wait() {
        drop(event);
    }
    assert_eq!(events.wait(), Err(EventGap::Stopped));
    assert_eq!(letters.wait(), Err(EventGap::Stopped));
    assert_eq!(router.tell(&Work), Err(Refusal::Stopped));
}

// ---- asks whose worker does nothing ----

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "endings.block", reply = u64)]
struct Block {
    ms: u64,
}

/// Blocks its worker, and tries to wait on it.
#[derive(Routee)]
#[routee(handles(Block, Work))]
struct Blocker {
    node: Arc<OnceLock<Node>>,
    router: Arc<OnceLock<Router>>,
}

impl Handler<Block> for Blocker {
    type Reply = u64;
    fn handle(&mut self, block: &ArchivedBlock, _: &mut Context<'_>) -> u64 {
        std::thread::sleep(Duration::from_millis(block.ms.to_native()));
        block.ms.to_native()
    }
}

impl Handler<Work> for Blocker {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedWork, _: &mut Context<'_>) -> u64 {
        let (node, router) = (self.node.get().unwrap(), self.router.get().unwrap());
        let refused = AskError::Refused(Refusal::WouldBlock);
        assert_eq!(router.ask(&Block { ms: 0 }).wait(), Err(refused));
        assert_eq!(router.wait_ready(9, LIMIT), Err(NotReady::WouldBlock));
        assert!(matches!(node.serve("/user/more", |_| Slow), Err(NodeError::WouldBlock)));
        assert!(matches!(node.router("/user/more").build(), Err(NodeError::WouldBlock)));
        assert_eq!(node.events().wait(), Err(EventGap::WouldBlock));
        assert!(!node.wait_members(9, LIMIT));
        assert!(matches!(node.wait_ended(LIMIT), Err(NodeError::WouldBlock)));
        7
    }
}

fn blocked() -> (Arc<OnceLock<Node>>, Router) {
    let (node, router) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let started = Node::builder().bind("127.0.0.1:0").workers(1).start().unwrap();
    let (its_node, its_router) = (Arc::clone(&node), Arc::clone(&router));
    started
        .serve("/user/block", move |_| Blocker {
            node: Arc::clone(&its_node),
            router: Arc::clone(&its_router),
        })
        .unwrap();
    let built = started.router("/user/block").build().unwrap();
    built.wait_ready(1, LIMIT).unwrap();
    router.set(built.clone()).unwrap();
    node.set(started).unwrap();
    (node, built)
}

/// With no future about, for whose sake somebody looks over the open asks.
#[test]
fn a_thread_that_waits_keeps_its_deadline_by_itself() {
    let (_node, router) = blocked();
    router.tell(&Block { ms: 1500 }).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let (within, began) = (Duration::from_millis(100), Instant::now());
    assert_eq!(router.ask(&Block { ms: 0 }).within(within).wait(), Err(AskError::Timeout));
    let took = began.elapsed();
    assert!(took >= within && took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn an_asker_keeps_its_deadline_whatever_its_worker_does() {
    let (node, router) = blocked();
    router.tell(&Block { ms: 1500 }).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let within = Duration::from_millis(100);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let began = Instant::now();
            (router.ask(&Block { ms: 0 }).within(within).wait(), began.elapsed())
        });
        let awaits = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let began = Instant::now();
            let asked = router.ask(&Block { ms: 0 }).within(within).into_future();
            (runtime.block_on(asked), began.elapsed())
        });
        [waits, awaits].map(|asked| asked.join().unwrap()).into()
    });
    for (outcome, took) in outcomes {
        assert_eq!(outcome, Err(AskError::Timeout));
        assert!(took >= within && took < Duration::from_millis(800), "{took:?}");
    }
    // The worker goes on, and ends both itself; each ask has one end in the counts.
    assert_eq!(router.ask(&Block { ms: 3 }).within(LIMIT).wait(), Ok(3));
    // Counts are published every few milliseconds.
    let until = Instant::now() + LIMIT;
    loop {
        let counts = node.get().unwrap().counts();
        if (counts.asks, counts.replies + counts.failed_asks) == (3, 3) {
            break;
        }
        assert!(Instant::now() < until, "{counts:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn waiting_on_a_workers_thread_is_refused_by_name() {
    let (_node, router) = blocked();
    assert_eq!(router.ask(&Work).within(LIMIT).wait(), Ok(7));
}

#[test]
fn abandoned_asks_leave_their_places() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).set("workers.max_asks", "64");
    let node = node.start().unwrap();
    node.serve("/user/slow", |_| Slow).unwrap();
    let router = node.router("/user/slow").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    for round in 0..64 {
        let asks: Vec<_> = (0..64)
            .map(|_| router.ask(&Work).within(Duration::from_secs(3600)).into_future())
            .collect();
        drop(asks);
        assert!(node.counts().refused[Refusal::TooManyAsks as usize] == 0, "round {round}");
    }
    // The worker may still be taking them all in; a place there must be.
    let answer = loop {
        match router.ask(&Work).within(LIMIT).wait() {
            Err(AskError::Refused(Refusal::QueueFull)) => std::thread::yield_now(),
            answer => break answer,
        }
    };
    assert_eq!(answer, Ok(7));
}

#[test]
fn what_dies_while_a_node_ends_is_told() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).start().unwrap();
    let blocker = |_| Blocker { node: Arc::default(), router: Arc::default() };
    node.serve("/user/block", blocker).unwrap();
    let router = node.router("/user/block").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let mut letters = node.dead_letters();
    router.tell(&Block { ms: 300 }).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..3 {
        router.tell(&Block { ms: 0 }).unwrap();
    }
    let counts = node.stop().unwrap();
    let mut told = 0;
    while let Ok(letter) = letters.wait() {
        assert_eq!(letter.reason, DeathReason::Stopped);
        told += letter.count;
    }
    assert_eq!(told, 3);
    assert_eq!(counts.dead[DeathReason::Stopped as usize], 3);
}

/// A connection that is closed while something on it is unread is reset, and what was said on it may
/// be lost on its way.
#[test]
fn whoever_is_refused_can_read_why_however_much_it_says() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).start().unwrap();
    for bytes in [64, 4 << 10, 32 << 10] {
        for _ in 0..3 {
            let mut stream = TcpStream::connect(node.address()).unwrap();
            stream.write_all(&vec![b'G'; bytes]).unwrap();
            let mut refusal = Vec::new();
            let end = stream.read_to_end(&mut refusal);
            assert!(end.is_ok(), "after {bytes} bytes: {end:?}");
            assert!(refusal.len() > 16, "{refusal:?}");
            std::thread::sleep(Duration::from_millis(50));
            let reset = stream.take_error().unwrap();
            assert!(reset.is_none(), "after {bytes} bytes: {reset:?}");
        }
    }
}
