//! A node under attack, a healthy one beside it, and what an attacker needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyway::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
use keyway::wire::handshake::{DialParams, DialStep, Dialer};
use keyway::wire::handshake::{Established, HandshakeError, Purpose};
use keyway::wire::{
    Chunk, ClusterKey, Deframed, Fields, FrameKind, VersionRange, deframe, encode, encode_empty,
};
use keyway::{
    Context, Counts, DeathReason, Handler, Message, Node, NodeRef, Routee, Router, WorkerIndex,
};
use rkyv::ser::allocator::Arena;
use rkyv::{Archive, Deserialize, Serialize};

pub const CLUSTER: &str = "attacked";
pub const SECRET: &str = "a secret of enough bytes";
pub const LIMIT: Duration = Duration::from_secs(20);
pub const FRAME_LIMIT: u32 = 64 * 1024;
pub const PENDING: usize = 8;
pub const HANDSHAKE_MS: u64 = 1_000;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.order", reply = u64)]
pub struct Order {
    pub note: String,
    pub number: u64,
}

/// The same name for another shape, as after an upgrade that forgot half of the cluster.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.order", reply = u64)]
pub struct OtherOrder {
    pub number: u8,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "attack.unheard_of", reply = u64)]
pub struct Unheard {
    pub number: u64,
}

#[derive(Routee)]
#[routee(handles(Order))]
pub struct Orders;

impl Handler<Order> for Orders {
    type Reply = u64;
    fn handle(&mut self, order: &ArchivedOrder, _: &mut Context<'_>) -> u64 {
        assert_eq!(order.note.as_str(), "good");
        order.number.to_native() + 1
    }
}

pub fn order(number: u64) -> Order {
    Order { note: "good".into(), number }
}

// ---- what all cases share ----

/// Panics on the nodes' threads, which would otherwise pass unnoticed.
pub static PANICS: AtomicU64 = AtomicU64::new(0);

/// Everything that was logged.
pub static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

pub struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn logged(what: &str) -> bool {
    String::from_utf8_lossy(&LOG.lock().unwrap()).contains(what)
}

pub fn memory_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A node under attack, and a healthy one that keeps asking it.
pub struct Scene {
    pub attacked: Node,
    pub handler: HandlerId,
    pub healthy: Option<Node>,
    pub asking: Option<JoinHandle<u64>>,
    pub stop: Arc<AtomicBool>,
    pub asked: Arc<AtomicU64>,
    pub before: usize,
    pub epoch: AtomicU64,
    pub _one_at_a_time: MutexGuard<'static, ()>,
}

pub fn node() -> keyway::NodeBuilder {
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
    pub fn new() -> Self {
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

    pub fn address(&self) -> SocketAddr {
        self.attacked.address()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    pub fn params(&self) -> DialParams {
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
    pub fn link(&self) -> Link {
        // Links of different workers, so that one does not replace the other.
        let mut params = self.params();
        params.from_worker = WorkerIndex(params.link_epoch as u16);
        let mut stream = self.connect();
        let established = shake(&mut stream, params).unwrap();
        assert!(established.authenticated);
        Link { stream, received: Vec::new() }
    }

    pub fn good_ask(&self, correlation: u64) -> Vec<u8> {
        let fields = Fields { deadline_us: Some(1_000_000), ..Fields::correlated(correlation) };
        frame(FrameKind::Ask, &fields, Order::TYPE_ID, self.handler, &order(correlation))
    }

    /// What the case may not have done: hurt the healthy node, panic, take memory.
    pub fn finish(mut self, may_grow_bytes: usize) -> Counts {
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

pub fn keep_asking(
    router: Router,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
) -> JoinHandle<u64> {
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

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn shake(stream: &mut TcpStream, params: DialParams) -> Result<Established, HandshakeError> {
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

pub fn frame<B: keyway::wire::WireType>(
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

pub fn raw(
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
pub enum Answer {
    Reply(u64, u64),
    Failure(u64, DeathReason),
}

pub struct Link {
    pub stream: TcpStream,
    pub received: Vec<u8>,
}

impl Link {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply or failure; acknowledgements are passed over.
    pub fn answer(&mut self) -> Answer {
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
    pub fn closes(&mut self) -> bool {
        closes(&mut self.stream)
    }
}

pub fn closes(stream: &mut TcpStream) -> bool {
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
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
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

pub const MIB: usize = 1 << 20;
