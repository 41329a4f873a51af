//! Puts a node together: binds its port, makes its queues, starts its threads.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use mio::{Poll, Waker as PollWaker};
use socket2::SockRef;
use tokio::sync::{broadcast, mpsc, watch};

use super::clock::{Clock, new_incarnation};
use super::control::{ControlThread, Ended, Published, Strangers};
use super::hello::ask_seeds;
use super::proxies::{Command, DeadLetter, Order};
use super::worker::{SiblingRings, WAKE, WorkerEnds, WorkerThread};
use crate::base::{Incarnation, MemberEvent, NodeId, NodeRef, WorkerIndex};
use crate::config::{NodeConfig, WorkersConfig};
use crate::control::joining::JoinState;
use crate::control::links::LinkConfig;
use crate::control::{Control, ControlParts};
use crate::member::{LocalMember, MemberConfig, MemberError, PartitionPolicy};
use crate::net::discovery::Discovery;
use crate::part::PartSettings;
use crate::queue::board::{Board, CountsBoard};
use crate::queue::inject::{Injector, Room, injector};
use crate::queue::reply::ReplySlots;
use crate::queue::ring::ring;
use crate::queue::wake::sleeper;
use crate::queue::weighed::{WeighedReceiver, WeighedSender, weighed_ring};
use crate::route::snapshot::Snapshot;
use crate::wire::auth::ClusterKey;
use crate::wire::{CHUNK_BYTES, Chunk};
use crate::worker::inject::Injection;
use crate::worker::turn::{InboxRoom, Turn};

use crate::worker::{AppReply, Buffers, Limits, Worker, WorkerParts};

/// What may wait in the socket of datagrams: a second of a strong flood.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 1024;

/// Free buffers of 1 KiB that are kept.
const MOST_FREE_SMALL: usize = 16_384;

/// Items that an event stream holds for a slow reader.
const EVENT_CAPACITY: usize = 1024;

/// Everything that a node needs to know before it starts; already checked.
pub struct Settings {
    /// Every setting. Its secret, seeds and policy are followed through the fields below.
    pub config: NodeConfig,
    /// The cluster's keys.
    pub key: ClusterKey,
    /// Where addresses to join through come from.
    pub discovery: Box<dyn Discovery>,
    /// Who is removed after a partition.
    pub policy: Box<dyn PartitionPolicy>,
    /// By how much the clock is taken to be behind; zero, but for tests.
    pub clock_behind: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port could not be had.
    #[error(
        "binding {address} ({protocol}) failed: {source}; is another process using the port, or \
         is the address not this machine's?"
    )]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// TCP or UDP.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not give a thread or a poll.
    #[error("starting a thread failed: {0}")]
    Thread(#[from] io::Error),
    /// Membership's settings do not fit.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// A started node, as its faces see it.
pub struct Started {
    /// This life of this node.
    pub me: NodeRef,
    /// Its name.
    pub name: Arc<str>,
    /// Where others reach it.
    pub address: SocketAddr,
    /// Its clock.
    pub clock: Clock,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// Where it is told that a router has a holder less.
    pub unroute: mpsc::UnboundedSender<u32>,
    /// What to route by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same, to wait for.
    pub changes: watch::Receiver<Arc<Snapshot>>,
    /// Changes of membership.
    pub events: broadcast::Sender<MemberEvent>,
    /// Messages that died here.
    pub dead_letters: broadcast::Sender<DeadLetter>,
    /// Whether and how its life ended.
    pub ended: watch::Receiver<Option<Ended>>,
    /// What was not let in.
    pub strangers: watch::Receiver<Strangers>,
    /// How far it has got with joining.
    pub join: watch::Receiver<JoinState>,
    /// Whether it takes nothing more from application threads.
    pub closing: Arc<AtomicBool>,
    /// By worker: the way in, how its links stand, its counts.
    pub doors: Vec<(Injector<Injection>, Arc<Board>, Arc<CountsBoard>)>,
    /// Free buffers.
    pub buffers: Arc<Buffers>,
    /// Where applications wait for replies.
    pub replies: ReplySlots<AppReply>,
    /// The control thread, which ends last.
    pub thread: thread::JoinHandle<()>,
}

/// Binds and starts.
///
/// # Errors
/// A [`StartError`] names the step that failed; nothing is left running then.
pub fn start(settings: Settings) -> Result<Started, StartError> {
    let Settings { config, key, mut discovery, policy, clock_behind } = settings;
    let (listener, datagrams) = bind(config.bind)?;
    let bound = listener.local_addr()?;
    let address = config.advertised(bound);
    let name: Arc<str> = config.node_name(bound).into();
    let me = NodeRef { node: NodeId::from_name(&name), incarnation: new_incarnation(clock_behind) };
    let clock = Clock::start();
    let seed = seed(me);

    let seeds = discovery.discover().unwrap_or_else(|error| {
        tracing::warn!(source = discovery.name(), %error, "discovery failed");
        Vec::new()
    });
    let me = ask_seeds(&datagrams, &key, clock, me, address, &seeds, seed)?;
    let workers = config.workers.count as u16;
    let limits = Limits::new(&config);
    let control = Control::new(ControlParts {
        local: local(&config, &name, address, me.incarnation),
        leave_grace: Duration::from_millis(3 * config.membership.gossip_ms),
        member: MemberConfig { seeds, settings: config.membership.clone() },
        links: LinkConfig {
            handshake_timeout: Duration::from_millis(config.links.handshake_timeout_ms),
            max_pending_handshakes: config.links.max_pending_handshakes,
        },
        bind: config.bind,
        policy,
        key: key.clone(),
        leave_timeout: Duration::from_millis(config.membership.leave_timeout_ms),
        parts: PartSettings::new(&config),
        seed,
    })?;

    let count = config.workers.count;
    let room = Room { items: config.workers.inject_capacity, bytes: config.workers.inject_bytes };
    let cores = cores(&config.workers);
    let max_frame_bytes = config.links.max_frame_bytes;
    // As many free buffers as all injection queues could hold at a time, within reason.
    let small = (config.workers.inject_capacity * count).min(MOST_FREE_SMALL);
    let large = (4 * config.links.outbox_bytes / CHUNK_BYTES).clamp(64, 4096);
    let buffers =
        Arc::new(Buffers::new(large, small, max_frame_bytes, config.workers.replies_bytes));
    let replies = ReplySlots::new(config.workers.max_asks);
    let (reports, reported) = mpsc::channel(config.workers.ring_capacity);

    // Each worker's poll exists before its thread, because others must be able to wake it.
    let mut polls = Vec::new();
    let mut wakers = Vec::new();
    let mut sleepers = Vec::new();
    for _ in 0..count {
        let poll = Poll::new()?;
        let wake = PollWaker::new(poll.registry(), WAKE)?;
        let (sleeper, waker) = sleeper(move || {
            // The poll lives as long as its thread; after that nobody needs to be woken.
            let _ = wake.wake();
        });
        polls.push(poll);
        wakers.push(waker);
        sleepers.push(sleeper);
    }
    let mut siblings = sibling_rings(count, sibling_room(&config.workers), &wakers);
    let mut commands = Vec::new();
    let mut doors = Vec::new();
    let mut threads = Vec::new();
    let running = Arc::default();
    for (index, (poll, sleeper)) in polls.into_iter().zip(sleepers).enumerate() {
        let waker = wakers[index].clone();
        let (to_worker, from_control) =
            ring::<Command>(config.workers.ring_capacity, waker.clone());
        let (door, injected) = injector(room, waker);
        let board = Arc::new(Board::new());
        let counts = Arc::new(CountsBoard::new());
        let index = WorkerIndex(index as u16);
        let parts = WorkerParts {
            me,
            index,
            workers,
            buffers: Arc::clone(&buffers),
            replies: replies.clone(),
            injector: door.clone(),
            settings: PartSettings::new(&config),
            seed: seed ^ u64::from(index.0) << 32,
        };
        let siblings = std::mem::take(&mut siblings[usize::from(index.0)]);
        let reports = reports.clone();
        let spin = Duration::from_micros(config.workers.spin_us);
        let dead_flow = Duration::from_millis(config.links.dead_flow_ms);
        let slow_turn = Duration::from_millis(config.workers.slow_turn_ms);
        let inbox_bytes = config.links.inbox_bytes;
        let inboxes = InboxRoom { usual_bytes: inbox_bytes, all_bytes: config.links.inboxes_bytes };
        let (its_board, its_counts) = (Arc::clone(&board), Arc::clone(&counts));
        let running = Arc::clone(&running);
        // Handlers live and die on their worker's thread, so the worker is made there.
        let make = move || WorkerThread {
            worker: Worker::new(parts, limits, clock.now()).published_on(Arc::clone(&its_counts)),
            turn: Turn::new(index, workers, (spin, slow_turn, dead_flow), inboxes),
            sleeper,
            ends: WorkerEnds {
                poll,
                commands: from_control,
                injected,
                siblings,
                reports,
                clock,
                board: its_board,
                counts: its_counts,
                inbox_bytes,
                log: Default::default(),
                running,
                awaited: Weak::new(),
                sockets: Vec::new(),
                received_bytes: 0,
            },
        };
        threads.push((index, make, cores.get(usize::from(index.0)).copied()));
        commands.push(to_worker);
        doors.push((door, board, counts));
    }
    drop(reports);

    let empty = Arc::new(Snapshot::empty(Arc::clone(control.view())));
    let snapshot = Arc::new(ArcSwap::new(Arc::clone(&empty)));
    let (changes, changed) = watch::channel(empty);
    let (events, _) = broadcast::channel(EVENT_CAPACITY);
    let (dead_letters, _) = broadcast::channel(EVENT_CAPACITY);
    let (ended, end) = watch::channel(None);
    let (strangers, stranger_counts) = watch::channel(Strangers::default());
    let (join, joins) = watch::channel(control.join_state());
    let closing = Arc::new(AtomicBool::new(false));
    let (orders, ordered) = mpsc::channel(config.workers.ring_capacity);
    let (unroute, unrouted) = mpsc::unbounded_channel();
    let control = ControlThread {
        control,
        listener,
        datagrams,
        workers: commands,
        reports: reported,
        orders: ordered,
        unrouted,
        clock,
        published: Published {
            snapshot: Arc::clone(&snapshot),
            changes,
            events: events.clone(),
            dead_letters: dead_letters.clone(),
            ended,
            strangers,
            join,
            closing: Arc::clone(&closing),
        },
        replies: replies.clone(),
        discovery,
    };

    for (index, make, core) in threads {
        thread::Builder::new().name(format!("keyway-worker-{index}")).spawn(move || {
            if let Some(core) = core {
                pin(core);
            }
            if let Err(error) = make().run() {
                tracing::error!(%index, %error, "a worker's poll failed");
            }
        })?;
    }
    let thread = thread::Builder::new().name("keyway-control".into()).spawn(move || {
        if let Err(error) = control.run() {
            tracing::error!(%error, "the control thread could not use its sockets");
        }
    })?;
    Ok(Started {
        me,
        name,
        address,
        clock,
        orders,
        unroute,
        snapshot,
        changes: changed,
        events,
        dead_letters,
        ended: end,
        strangers: stranger_counts,
        join: joins,
        closing,
        doors,
        buffers,
        replies,
        thread,
    })
}

/// How the node describes itself to the others.
fn local(
    config: &NodeConfig,
    name: &Arc<str>,
    address: SocketAddr,
    incarnation: Incarnation,
) -> LocalMember {
    LocalMember {
        name: Arc::clone(name),
        address,
        incarnation,
        workers: config.workers.count as u16,
        weight: config.weight,
        roles: config.roles.iter().map(|role| role.as_str().into()).collect(),
        metadata: config
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
        app_version: config.app_version.as_str().into(),
        services: Vec::new(),
    }
}

/// By worker: the core it is pinned to; empty for none.
fn cores(workers: &WorkersConfig) -> Vec<usize> {
    match &workers.cores {
        Some(cores) => cores.clone(),
        None if workers.pin => (workers.first_core..).take(workers.count).collect(),
        None => Vec::new(),
    }
}

/// TCP and UDP on the same port. With port 0, a few are tried until both are free.
fn bind(address: SocketAddr) -> Result<(TcpListener, UdpSocket), StartError> {
    let mut attempts = if address.port() == 0 { 16 } else { 1 };
    loop {
        attempts -= 1;
        let listener = TcpListener::bind(address).map_err(|source| StartError::Bind {
            address,
            protocol: "TCP",
            source,
        })?;
        let both = listener.local_addr()?;
        match UdpSocket::bind(both) {
            Ok(datagrams) => {
                prepare(&listener, &datagrams)?;
                return Ok((listener, datagrams));
            }
            Err(_) if attempts > 0 => {}
            Err(source) => {
                return Err(StartError::Bind { address: both, protocol: "UDP", source });
            }
        }
    }
}

/// Makes room for floods: datagrams of members wait between those of strangers instead of being
/// dropped, and so do connections that are not accepted yet.
fn prepare(listener: &TcpListener, datagrams: &UdpSocket) -> io::Result<()> {
    use rustix::net::sockopt::set_socket_recv_buffer_size_force;
    // Beyond the system's limit (`net.core.rmem_max`) only with privileges; else as far as it goes.
    if set_socket_recv_buffer_size_force(datagrams, RECEIVE_BUFFER_BYTES).is_err() {
        SockRef::from(datagrams).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    SockRef::from(listener).listen(LISTEN_BACKLOG)
}

/// What waits for one sibling: its part of what waits for all.
fn sibling_room(workers: &WorkersConfig) -> Room {
    let siblings = (workers.count - 1).max(1);
    Room { items: workers.ring_capacity, bytes: workers.ring_bytes / siblings }
}

fn sibling_rings(
    count: usize,
    room: Room,
    wakers: &[crate::queue::wake::Waker],
) -> Vec<Vec<Option<SiblingRings>>> {
    type Ends = Option<(WeighedSender<Chunk>, WeighedReceiver<Chunk>)>;
    // ends[a][b]: the ring from a to b.
    let mut ends: Vec<Vec<Ends>> = (0..count)
        .map(|from| {
            (0..count)
                .map(|to| (from != to).then(|| weighed_ring(room, wakers[to].clone())))
                .collect()
        })
        .collect();
    let mut receivers: Vec<Vec<Option<WeighedReceiver<Chunk>>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    let mut senders: Vec<Vec<Option<WeighedSender<Chunk>>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    for from in 0..count {
        for to in 0..count {
            if let Some((sender, receiver)) = ends[from][to].take() {
                senders[from][to] = Some(sender);
                receivers[to][from] = Some(receiver);
            }
        }
    }
    senders
        .into_iter()
        .zip(receivers)
        .map(|(senders, receivers)| {
            senders
                .into_iter()
                .zip(receivers)
                .map(|(to, from)| Some(SiblingRings { to: to?, from: from? }))
                .collect()
        })
        .collect()
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "a worker could not be pinned to its core and runs unpinned");
    }
}

/// Randomness that differs between nodes and lives; protocol randomness needs no more.
fn seed(me: NodeRef) -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return me.node.0 ^ me.incarnation.0;
    }
    u64::from_le_bytes(bytes)
}
