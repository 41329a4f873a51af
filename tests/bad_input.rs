//! What a stranger or a faulty peer may send: each case ends that one connection or message by
//! name, and a healthy node goes on meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyway::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
use keyway::wire::handshake::{ANY_INCARNATION, ANY_NODE, DialParams, DialStep, Dialer};
use keyway::wire::handshake::{Established, HandshakeError, Purpose};
use keyway::wire::{
    Chunk, ClusterKey, Deframed, Fields, FrameKind, HEADER_BYTES, VersionRange, datagram, deframe,
    encode, encode_empty,
};
use keyway::{
    AskError, Context, Counts, DeathReason, Handler, Message, Node, NodeRef, Refusal, Routee,
    Router, WorkerIndex,
};
use rkyv::ser::allocator::Arena;
use rkyv::{Archive, Deserialize, Serialize};

const CLUSTER: &str = "attacked";
const SECRET: &str = "a secret of enough bytes";
const LIMIT: Duration = Duration::from_secs(20);
const FRAME_LIMIT: u32 = 64 * 1024;
const PENDING: usize = 8;
const HANDSHAKE_MS: u64 = 1_000;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.order", reply = u64)]
struct Order {
    note: String,
    number: u64,
}

/// The same name for another shape, as after an upgrade that forgot half of the cluster.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.order", reply = u64)]
struct OtherOrder {
    number: u8,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.unheard_of", reply = u64)]
struct Unheard {
    number: u64,
}

#[derive(Routee)]
#[routee(handles(Order))]
struct Orders;

impl Handler<Order> for Orders {
    type Reply = u64;
    fn handle(&mut self, order: &ArchivedOrder, _: &mut Context<'_>) -> u64 {
        assert_eq!(order.note.as_str(), "good");
        order.number.to_native() + 1
    }
}

fn order(number: u64) -> Order {
    Order { note: "good".into(), number }
}

// ---- what all cases share ----

/// Panics on the nodes' threads, which would otherwise pass unnoticed.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Everything that was logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(what: &str) -> bool {
    String::from_utf8_lossy(&LOG.lock().unwrap()).contains(what)
}

fn memory_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A node under attack, and a healthy one that keeps asking it.
struct Scene {
    attacked: Node,
    handler: HandlerId,
    healthy: Option<Node>,
    asking: Option<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    before: usize,
    epoch: AtomicU64,
    _one_at_a_time: MutexGuard<'static, ()>,
}

fn node() -> keyway::NodeBuilder {
    Node::builder()
        .bind("127.0.0.1:0")
        .cluster(CLUSTER)
        .secret(SECRET)
        .workers(1)
        .spin(Duration::ZERO)
        .set("links.max_frame_bytes", &FRAME_LIMIT.to_string())
        .set("links.outbox_bytes", "1048576")
        .set("links.max_pending_handshakes", &PENDING.to_string())
        .set("links.handshake_timeout_ms", &HANDSHAKE_MS.to_string())
}

impl Scene {
    fn new() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static ONCE: OnceLock<()> = OnceLock::new();
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        ONCE.get_or_init(|| {
            tracing_subscriber::fmt().with_writer(|| ToLog).with_ansi(false).init();
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let thread = thread::current();
                if thread.name().is_some_and(|name| name.starts_with("keyway-")) {
                    PANICS.fetch_add(1, Ordering::SeqCst);
                }
                report(panic);
            }));
        });
        LOG.lock().unwrap().clear();
        let attacked = node().start().unwrap();
        attacked.serve("/user/orders", |_| Orders).unwrap();
        let healthy = node().seed(attacked.address()).start().unwrap();
        let router = healthy.router("/user/orders").build().unwrap();
        router.wait_ready(1, LIMIT).unwrap();
        let handler = router.routees()[0].id.instance.handler;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let asking = keep_asking(router, Arc::clone(&stop), Arc::clone(&asked));
        eventually("the healthy node has its link", || asked.load(Ordering::Relaxed) > 0);
        Self {
            attacked,
            handler,
            healthy: Some(healthy),
            asking: Some(asking),
            stop,
            asked,
            before: memory_bytes(),
            epoch: AtomicU64::new(0),
            _one_at_a_time: guard,
        }
    }

    fn address(&self) -> SocketAddr {
        self.attacked.address()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn params(&self) -> DialParams {
        DialParams {
            key: ClusterKey::new(CLUSTER, Some(SECRET.as_bytes())).unwrap(),
            purpose: Purpose::Workers,
            me: NodeRef { node: NodeId::from_name("attacker"), incarnation: Incarnation(1) },
            from_worker: WorkerIndex(0),
            to: self.attacked.id(),
            to_worker: WorkerIndex(0),
            link_epoch: self.epoch.fetch_add(1, Ordering::Relaxed) + 1,
            versions: VersionRange::SUPPORTED,
        }
    }

    /// A link as any peer has it.
    fn link(&self) -> Link {
        // Links of different workers, so that one does not replace the other.
        let mut params = self.params();
        params.from_worker = WorkerIndex(params.link_epoch as u16);
        let mut stream = self.connect();
        let established = shake(&mut stream, params).unwrap();
        assert!(established.authenticated);
        Link { stream, received: Vec::new() }
    }

    fn good_ask(&self, correlation: u64) -> Vec<u8> {
        let fields = Fields { deadline_us: Some(1_000_000), ..Fields::correlated(correlation) };
        frame(FrameKind::Ask, &fields, Order::TYPE_ID, self.handler, &order(correlation))
    }

    /// What the case may not have done: hurt the healthy node, panic, take memory.
    fn finish(mut self, may_grow_bytes: usize) -> Counts {
        let so_far = self.asked.load(Ordering::Relaxed);
        eventually("the healthy node goes on", || self.asked.load(Ordering::Relaxed) > so_far + 10);
        let grown = memory_bytes().saturating_sub(self.before);
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.asking.take().unwrap().join().unwrap();
        assert_eq!(failures, 0, "asks of the healthy node failed");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
        assert!(grown <= may_grow_bytes, "the process grew by {grown} bytes");
        let healthy = self.healthy.take().unwrap();
        eventually("the healthy node's books balance", || healthy.counts().in_flight() == 0);
        let counts = healthy.counts();
        assert_eq!((counts.unknown, counts.dead_total(), counts.refused_total()), (0, 0, 0));
        drop(healthy);
        self.attacked.counts()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A failed case must not go on asking.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn keep_asking(router: Router, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut failures = 0;
        while !stop.load(Ordering::Relaxed) {
            let number = asked.load(Ordering::Relaxed);
            match router.ask(&order(number)).within(LIMIT).wait() {
                Ok(reply) => assert_eq!(reply, number + 1),
                Err(error) => {
                    if failures < 3 {
                        eprintln!("an ask of the healthy node failed: {error}");
                    }
                    failures += 1;
                }
            }
            asked.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        failures
    })
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn shake(stream: &mut TcpStream, params: DialParams) -> Result<Established, HandshakeError> {
    let (mut dialer, hello) = Dialer::new(params, [7; 32]);
    // A refused stranger may find the connection closed under its hands.
    let _ = stream.write_all(&hello);
    loop {
        let mut bytes = vec![0; dialer.expects()];
        let mut got = 0;
        while got < bytes.len() {
            match stream.read(&mut bytes[got..]) {
                Ok(count) if count > 0 => got += count,
                _ => break,
            }
        }
        match dialer.receive(&bytes[..got])? {
            DialStep::More => {}
            DialStep::Send(answer) => drop(stream.write_all(&answer)),
            DialStep::Done(established) => return Ok(established),
        }
    }
}

fn frame<B: keyway::wire::WireType>(
    kind: FrameKind,
    fields: &Fields,
    message: MessageTypeId,
    target: HandlerId,
    body: &B,
) -> Vec<u8> {
    let mut chunk = Chunk::with_capacity(256 * 1024);
    encode(&mut chunk, &mut Arena::new(), kind, fields, message, target, body).unwrap();
    chunk.bytes().to_vec()
}

fn raw(
    kind: FrameKind,
    fields: &Fields,
    message: MessageTypeId,
    target: HandlerId,
    body: &[u8],
) -> Vec<u8> {
    let mut chunk = Chunk::with_capacity(256 * 1024);
    encode_empty(&mut chunk, kind, fields, message, target, body).unwrap();
    chunk.bytes().to_vec()
}

/// One answer to a raw ask.
#[derive(Debug, PartialEq)]
enum Answer {
    Reply(u64, u64),
    Failure(u64, DeathReason),
}

struct Link {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Link {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply or failure; acknowledgements are passed over.
    fn answer(&mut self) -> Answer {
        loop {
            // `deframe` wants frames aligned, as a node's own buffer has them.
            let mut aligned = rkyv::util::AlignedVec::<16>::new();
            aligned.extend_from_slice(&self.received);
            match deframe(&aligned, FRAME_LIMIT).unwrap() {
                Deframed::Need(_) => {
                    let mut bytes = [0; 4096];
                    let count = self.stream.read(&mut bytes).unwrap();
                    assert!(count > 0, "the link was closed");
                    self.received.extend_from_slice(&bytes[..count]);
                }
                Deframed::Frame(frame, full) => {
                    let correlation = frame.fields().correlation;
                    let body = frame.body().to_vec();
                    let (kind, code) = (frame.header.kind, frame.header.message.0);
                    self.received.drain(..full);
                    match kind {
                        FrameKind::Ack => {}
                        FrameKind::Reply => {
                            let value = u64::from_le_bytes(body.try_into().unwrap());
                            return Answer::Reply(correlation.unwrap(), value);
                        }
                        FrameKind::Failure => {
                            let reason = DeathReason::from_code(code);
                            return Answer::Failure(correlation.unwrap(), reason);
                        }
                        other => panic!("an acceptor sent {other:?}"),
                    }
                }
            }
        }
    }

    /// Waits for the other side to close; what still comes is thrown away.
    fn closes(&mut self) -> bool {
        closes(&mut self.stream)
    }
}

fn closes(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => return true,
        }
    }
}

/// Bytes that look like nothing, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

const MIB: usize = 1 << 20;

// ---- before the handshake ----

#[test]
fn garbage_on_the_port_is_refused_and_counted() {
    let scene = Scene::new();
    let hello = Dialer::new(scene.params(), [1; 32]).1;
    let mut cases = vec![b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), vec![0; 4096]];
    cases.extend((0..20).map(|seed| noise(seed, 16 + 50 * seed as usize)));
    // The magic is right and what follows is not.
    let mut lies = hello.clone();
    lies[12] = 0xff;
    lies[13] = 0xff;
    cases.push(lies);
    let mut reversed = hello.clone();
    (reversed[9], reversed[10]) = (9, 1);
    cases.push(reversed);
    let mut other_kind = hello.clone();
    other_kind[8] = 4;
    cases.push(other_kind);
    let count = cases.len() as u64;
    for case in cases {
        let mut stream = scene.connect();
        let _ = stream.write_all(&case);
        assert!(closes(&mut stream), "{:?} was left open", &case[..16]);
    }
    // Each prefix of a good beginning, and then nothing.
    let lengths: Vec<usize> = (0..hello.len()).step_by(7).collect();
    for length in &lengths {
        let mut stream = scene.connect();
        stream.write_all(&hello[..*length]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(closes(&mut stream), "{length} bytes of a hello were left open");
    }
    eventually("all were counted", || {
        scene.attacked.strangers().refused == count + lengths.len() as u64
    });
    assert!(logged("is no Keyway node"), "the reason is named");
    scene.finish(16 * MIB);
}

#[test]
fn endless_bytes_end_the_connection_early() {
    let scene = Scene::new();
    for hello_first in [false, true] {
        let mut stream = scene.connect();
        if hello_first {
            let hello = Dialer::new(scene.params(), [1; 32]).1;
            stream.write_all(&hello).unwrap();
        }
        let piece = vec![0xa5; MIB];
        let mut taken = 0;
        while taken < 256 * MIB {
            match stream.write(&piece) {
                Ok(count) if count > 0 => taken += count,
                _ => break,
            }
        }
        // Socket buffers take some of it; the node does not.
        assert!(taken < 64 * MIB, "{taken} bytes went through");
    }
    eventually("both were counted", || scene.attacked.strangers().refused == 2);
    scene.finish(16 * MIB);
}

#[test]
fn a_stranger_that_drips_is_dropped_in_time() {
    let scene = Scene::new();
    let hello = Dialer::new(scene.params(), [1; 32]).1;
    let mut stream = scene.connect();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let begun = Instant::now();
    for byte in &hello {
        if stream.write_all(&[*byte]).is_err() || closes(&mut stream) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        assert!(begun.elapsed() < LIMIT, "a dripping stranger is still served");
    }
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_millis(HANDSHAKE_MS), "dropped after {lived:?}");
    assert!(lived < Duration::from_millis(3 * HANDSHAKE_MS), "dropped after {lived:?}");
    eventually("it was counted", || scene.attacked.strangers().refused == 1);
    assert!(logged("was not completed within 1s"), "the reason is named");
    scene.finish(16 * MIB);
}

#[test]
fn idle_strangers_do_not_keep_others_out_for_long() {
    let scene = Scene::new();
    let idle: Vec<TcpStream> = (0..5 * PENDING).map(|_| scene.connect()).collect();
    eventually("the surplus is turned away", || {
        scene.attacked.strangers().turned_away as usize >= 4 * PENDING
    });
    // A new node gets in as soon as the idle ones are timed out.
    let begun = Instant::now();
    let late = node().seed(scene.address()).start().unwrap();
    let router = late.router("/user/orders").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    eventually("a new node's ask is answered", || {
        router.ask(&order(1)).within(Duration::from_secs(1)).idempotent().wait() == Ok(2)
    });
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(10), "the new node waited for {waited:?}");
    drop(late);
    eventually("the idle ones are counted", || {
        let strangers = scene.attacked.strangers();
        (strangers.refused + strangers.turned_away) as usize >= 5 * PENDING
    });
    drop(idle);
    scene.finish(24 * MIB);
}

#[test]
fn strangers_with_the_wrong_papers_are_told_why() {
    let scene = Scene::new();
    let me = scene.attacked.id();
    let key = |cluster, secret| ClusterKey::new(cluster, secret).unwrap();
    let refused = |change: &dyn Fn(&mut DialParams)| {
        let mut params = scene.params();
        change(&mut params);
        let mut stream = scene.connect();
        let error = shake(&mut stream, params).unwrap_err();
        assert!(closes(&mut stream), "left open after {error}");
        error
    };
    let error = refused(&|p| p.key = key(CLUSTER, Some(b"another secret of enough bytes")));
    assert_eq!(error, HandshakeError::WrongProof);
    let error = refused(&|p| p.key = key(CLUSTER, None));
    assert_eq!(error, HandshakeError::SecretOnlyThere);
    let error = refused(&|p| p.key = key("elsewhere", Some(SECRET.as_bytes())));
    assert!(matches!(error, HandshakeError::WrongCluster { .. }), "{error:?}");
    let error = refused(&|p| p.versions = VersionRange::new(200, 201).unwrap());
    assert!(matches!(error, HandshakeError::UnknownVersion { .. }), "{error:?}");
    let error = refused(&|p| p.to_worker = WorkerIndex(99));
    assert!(error.to_string().contains("worker 99"), "{error}");
    let error = refused(&|p| p.to.incarnation = Incarnation(3));
    assert!(matches!(error, HandshakeError::WrongNode { .. }), "{error:?}");
    let error = refused(&|p| p.to.node = NodeId::from_name("somebody else"));
    assert!(matches!(error, HandshakeError::WrongNode { .. }), "{error:?}");
    // The node itself cannot be dialed by itself either.
    let error = refused(&|p| p.me = me);
    eprintln!("as itself: {error}");
    eventually("all were counted", || scene.attacked.strangers().refused == 8);

    // And one without an idea of who is there gets in.
    let mut params = scene.params();
    params.to = NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION };
    shake(&mut scene.connect(), params).unwrap();
    scene.finish(16 * MIB);
}

#[test]
fn datagrams_of_strangers_are_dropped_and_counted() {
    let scene = Scene::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    let lengths = [0, 1, 7, 16, 31, 32, 33, 64, 512, 1_400, 9_000, 65_507];
    for round in 0..20 {
        for length in lengths {
            socket.send_to(&noise(round, length), scene.address()).unwrap();
            sent += 1;
            // The socket's own buffer is no part of this.
            thread::sleep(Duration::from_micros(300));
        }
    }
    eventually("they were counted", || scene.attacked.strangers().datagrams.not_ours >= sent / 2);
    let members = scene.attacked.view().members.len();
    assert_eq!(members, 2, "strangers change no view");
    scene.finish(16 * MIB);
}

// ---- after the handshake ----

/// A good ask goes before each bad frame: it must be answered, and the link closed for the bad one.
/// Of many broken frames in a second one is named in the log, so that each waits for its second.
fn expelled(scene: &Scene, bad: &[u8], why: &str) {
    std::thread::sleep(Duration::from_millis(1_050));
    LOG.lock().unwrap().clear();
    let mut link = scene.link();
    let mut bytes = scene.good_ask(41);
    bytes.extend_from_slice(bad);
    link.send(&bytes);
    assert!(link.closes(), "the link is open after: {why}");
    eventually(why, || logged(why));
    let lines = LOG.lock().unwrap();
    let lines = String::from_utf8_lossy(&lines);
    let named = lines.lines().filter(|line| line.contains("for a broken frame")).count();
    assert_eq!(named, 1, "a flood of lines");
}

#[test]
fn a_peer_that_breaks_the_protocol_loses_its_link() {
    let scene = Scene::new();
    let good = raw(FrameKind::Tell, &Fields::default(), Order::TYPE_ID, scene.handler, &[0; 32]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let length = |length: u32| changed(&move |bad| bad[..4].copy_from_slice(&length.to_le_bytes()));
    expelled(&scene, &changed(&|bad| bad[4] = 0x01), "header version 0 is unknown");
    expelled(&scene, &changed(&|bad| bad[4] = 0x31), "header version 3 is unknown");
    expelled(&scene, &changed(&|bad| bad[4] = 0x20), "0 is no kind of frame");
    for (at, bit) in [(5, 0x20), (5, 0x80), (6, 1), (7, 0x80)] {
        expelled(&scene, &changed(&|bad| bad[at] = bit), "a reserved bit");
    }
    expelled(&scene, &length(0), "a frame of 0 bytes cannot hold its own header");
    expelled(&scene, &length(15), "a frame of 15 bytes cannot hold");
    expelled(&scene, &length(FRAME_LIMIT + 1), "a frame of 65537 bytes is over the limit");
    expelled(&scene, &length(u32::MAX), "a frame of 4294967295 bytes is over the limit");
    // Its fields do not fit into what it declares.
    let short = changed(&|bad| {
        bad[..4].copy_from_slice(&16_u32.to_le_bytes());
        bad[5] = 1;
    });
    expelled(&scene, &short, "a frame of 16 bytes cannot hold its own header");

    let none = (MessageTypeId(0), HandlerId(0));
    let of = |kind, fields: &Fields, body: &[u8]| raw(kind, fields, none.0, none.1, body);
    let ask = of(FrameKind::Ask, &Fields::default(), &[]);
    expelled(&scene, &ask, "a ask frame without what it needs");
    for kind in [FrameKind::Reply, FrameKind::Failure] {
        let frame = of(kind, &Fields::correlated(0), &[0; 8]);
        expelled(&scene, &frame, "only the other side of a link may send");
    }
    expelled(&scene, &of(FrameKind::Reply, &Fields::default(), &[]), "a reply frame without");
    expelled(&scene, &of(FrameKind::Failure, &Fields::default(), &[]), "a failure frame without");
    let ack = of(FrameKind::Ack, &Fields::default(), &[0xff; 16]);
    expelled(&scene, &ack, "only the other side of a link may send");
    scene.finish(16 * MIB);
}

#[test]
fn what_only_a_newer_node_understands_is_skipped_and_counted() {
    let scene = Scene::new();
    let mut link = scene.link();
    let mut unknown = Vec::new();
    for kind in 8..=15 {
        let mut frame =
            raw(FrameKind::Tell, &Fields::default(), Order::TYPE_ID, scene.handler, &[7; 40]);
        frame[4] = 2 << 4 | kind;
        // Neither do its bits mean anything here.
        frame[5..8].fill(0xff);
        unknown.push(frame);
    }
    // A part that does not exist.
    unknown.push(raw(
        FrameKind::Part,
        &Fields::default(),
        MessageTypeId(200 << 8),
        HandlerId(0),
        &[7; 9],
    ));
    for (at, frame) in unknown.iter().enumerate() {
        link.send(frame);
        link.send(&scene.good_ask(at as u64));
        assert_eq!(link.answer(), Answer::Reply(at as u64, at as u64 + 1));
    }
    eventually("they were counted", || scene.attacked.counts().skipped_frames == 9);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagram = Vec::new();
    let params = scene.params();
    datagram::seal(&params.key, params.me, 200, b"news", &mut datagram).unwrap();
    socket.send_to(&datagram, scene.address()).unwrap();
    eventually("it was counted", || scene.attacked.strangers().datagrams.skipped == 1);
    assert_eq!(scene.attacked.strangers().datagrams.malformed, 0);
    scene.finish(16 * MIB);
}

#[test]
fn a_bad_message_dies_alone_and_its_asker_is_told() {
    let scene = Scene::new();
    let mut letters = scene.attacked.dead_letters();
    let mut link = scene.link();
    let unknown = HandlerId(77);
    let far = HandlerId(u32::MAX);
    let strange = MessageTypeId(0xdead_beef);
    let good = Order::TYPE_ID;
    let cases = [
        // A string that says it stands elsewhere, far outside.
        (good, scene.handler, vec![0x80; 64], DeathReason::InvalidBody),
        (good, scene.handler, vec![], DeathReason::InvalidBody),
        (good, scene.handler, vec![0; 7], DeathReason::InvalidBody),
        (good, scene.handler, vec![0x80; 60_000], DeathReason::InvalidBody),
        (good, unknown, vec![0; 16], DeathReason::UnknownHandler),
        (good, far, vec![], DeathReason::UnknownHandler),
        (strange, scene.handler, vec![0; 16], DeathReason::UnknownMessage),
        // The name that the handler takes, with another layout: a sender that did not look.
        (OtherOrder::TYPE_ID, scene.handler, vec![0; 16], DeathReason::UnknownMessage),
    ];
    for (at, (message, target, body, reason)) in cases.iter().enumerate() {
        let fields = Fields::correlated(at as u64);
        link.send(&raw(FrameKind::Ask, &fields, *message, *target, body));
        assert_eq!(link.answer(), Answer::Failure(at as u64, *reason));
        link.send(&raw(FrameKind::Tell, &Fields::default(), *message, *target, body));
        // The link lives.
        link.send(&scene.good_ask(1_000));
        assert_eq!(link.answer(), Answer::Reply(1_000, 1_001));
        let mut told = 0;
        while told < 2 {
            let letter = letters.wait().unwrap();
            assert_eq!(letter.reason, *reason);
            assert_eq!(letter.peer.unwrap().node, NodeId::from_name("attacker"));
            told += letter.count;
        }
    }
    let dead = |counts: Counts| {
        [DeathReason::InvalidBody, DeathReason::UnknownHandler, DeathReason::UnknownMessage]
            .map(|reason| counts.received_dead[reason as usize])
    };
    eventually("they were counted", || dead(scene.attacked.counts()) == [8, 4, 4]);
    scene.finish(16 * MIB);
}

#[test]
fn an_asker_with_another_idea_of_the_message_is_told() {
    let scene = Scene::new();
    let confused = node().seed(scene.address()).start().unwrap();
    let router = confused.router("/user/orders").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let outcome = router.ask(&OtherOrder { number: 1 }).within(LIMIT).wait();
    assert_eq!(outcome, Err(AskError::Refused(Refusal::LayoutMismatch)));
    let outcome = router.ask(&Unheard { number: 1 }).within(LIMIT).wait();
    assert_eq!(outcome, Err(AskError::Dead(DeathReason::UnknownMessage)));
    let told = router.tell(&OtherOrder { number: 1 });
    assert_eq!(told, Err(Refusal::LayoutMismatch));
    eventually("the sender's books name them", || confused.counts().dead_at_peer == 1);
    let counts = confused.counts();
    assert_eq!((counts.sent, counts.failed_asks, counts.in_flight()), (3, 1, 0), "{counts:?}");
    // It can still do better.
    assert_eq!(router.ask(&order(4)).within(LIMIT).wait(), Ok(5));
    drop(confused);
    scene.finish(16 * MIB);
}

#[test]
fn frames_in_small_pieces_are_put_together() {
    let scene = Scene::new();
    let mut link = scene.link();
    link.stream.set_nodelay(true).unwrap();
    let mut bytes = scene.good_ask(1);
    bytes.extend(scene.good_ask(2));
    for byte in &bytes {
        link.send(&[*byte]);
    }
    assert_eq!(link.answer(), Answer::Reply(1, 2));
    assert_eq!(link.answer(), Answer::Reply(2, 3));
    // A frame that never ends takes no more room than it may have.
    let mut header = scene.good_ask(3)[..HEADER_BYTES].to_vec();
    header[..4].copy_from_slice(&FRAME_LIMIT.to_le_bytes());
    link.send(&header);
    link.send(&[0; 1000]);
    thread::sleep(Duration::from_millis(100));
    drop(link);
    scene.finish(16 * MIB);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_not_read_any_more() {
    let scene = Scene::new();
    let mut link = scene.link();
    link.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut asks = Vec::new();
    for correlation in 0..1_000 {
        asks.extend(scene.good_ask(correlation));
    }
    let mut taken = 0;
    while let Ok(count) = link.stream.write(&asks) {
        taken += count;
        assert!(taken < 512 * MIB, "endless asks go through though no reply is taken");
    }
    // Unknown handlers make answers as well.
    scene.finish(48 * MIB);
}

#[test]
fn many_links_of_one_peer_replace_each_other() {
    let scene = Scene::new();
    let mut last = None;
    for epoch in 1..200 {
        let mut params = scene.params();
        params.link_epoch = epoch;
        let mut stream = scene.connect();
        shake(&mut stream, params).unwrap();
        let mut older = last.replace(Link { stream, received: Vec::new() });
        if let Some(older) = &mut older {
            assert!(older.closes(), "an older link lives beside a newer one");
        }
    }
    let mut newest = last.unwrap();
    newest.send(&scene.good_ask(5));
    assert_eq!(newest.answer(), Answer::Reply(5, 6));
    // One that comes late does not replace a newer one.
    let mut params = scene.params();
    params.link_epoch = 3;
    let mut stream = scene.connect();
    shake(&mut stream, params).unwrap();
    assert!(closes(&mut stream), "an older link came late and was taken");
    newest.send(&scene.good_ask(6));
    assert_eq!(newest.answer(), Answer::Reply(6, 7));
    scene.finish(24 * MIB);
}
