//! Puts a node together: binds its port, makes its queues, starts its threads.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::SockRef;
use tokio::sync::{mpsc, watch};

use super::clock::{Clock, new_incarnation};
use super::control::ControlThread;
use super::crew::{Crew, Door};
use super::hello::ask_seeds;
use super::proxies::{DeadLetter, Order};
use super::published::{Ended, Published, Strangers};
use crate::base::debug_as_display;
use crate::base::{Incarnation, MemberEvent, NodeId, NodeRef};
use crate::config::{DEAD_LETTERS_BYTES, EVENTS_BYTES, NodeConfig, STREAM_ITEMS};
use crate::control::given_up::GivenUp;
use crate::control::joining::JoinState;
use crate::control::leaving::LeaveWaits;
use crate::control::links::LinkConfig;
use crate::control::seeds::FoundSeeds;
use crate::control::troubles::Trouble;
use crate::control::{Control, ControlParts};
use crate::member::{LocalMember, MemberConfig, MemberError, PartitionPolicy};
use crate::net::discovery::{Discovery, look};
use crate::part::{ControlOrder, PartSettings};
use crate::queue::gate::Gate;
use crate::queue::reply::ReplySlots;
use crate::queue::stream::{Keeps, StreamSender};
use crate::route::snapshot::Snapshot;
use crate::wire::auth::ClusterKey;
use crate::worker::{AppReply, Buffers};

/// What may wait in the socket of datagrams: a second of a strong flood.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 1024;

/// What the stream of events holds for slow readers.
const EVENTS: Keeps = Keeps { items: STREAM_ITEMS, bytes: EVENTS_BYTES };

/// And that of dead letters.
const DEAD_LETTERS: Keeps = Keeps { items: STREAM_ITEMS, bytes: DEAD_LETTERS_BYTES };

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
    /// An incarnation that this life's must exceed, if one is known.
    pub incarnation_above: Option<Incarnation>,
}

/// Why a node did not start.
#[derive(thiserror::Error)]
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
    /// The system did not give a thread, or what one needs.
    #[error(
        "the system did not give what a node needs, threads and files: {0}; if too many files are \
         open, raise the limit (`ulimit -n`)"
    )]
    System(#[from] io::Error),
    /// The system did not give what watches the node's sockets.
    #[error(
        "watching the node's sockets failed: {0}; if too many files are open, raise the limit \
         (`ulimit -n`)"
    )]
    Poll(#[source] io::Error),
    /// Membership's settings do not fit.
    #[error(transparent)]
    Member(#[from] MemberError),
}

debug_as_display!(StartError);

/// A started node, as its faces see it.
pub struct Started {
    /// This life of this node.
    pub me: NodeRef,
    /// Its name.
    pub name: Arc<str>,
    /// Where others reach it.
    pub address: SocketAddr,
    /// Where it listens.
    pub bound: SocketAddr,
    /// Its clock.
    pub clock: Clock,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// Where it is told that a router has a holder less.
    pub unroute: mpsc::UnboundedSender<u32>,
    /// Where handles of parts say what is to be done as they are dropped.
    pub dropped: mpsc::UnboundedSender<ControlOrder>,
    /// What the control thread publishes.
    pub heard: Heard,
    /// By worker: the way in, how its links stand, its counts.
    pub doors: Vec<Door>,
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
    let Settings { config, key, mut discovery, policy, clock_behind, incarnation_above } = settings;
    let (listener, datagrams) = bind(config.bind)?;
    let bound = listener.local_addr()?;
    let address = config.advertised(bound);
    let name: Arc<str> = config.node_name(bound).into();
    let mut me =
        NodeRef { node: NodeId::from_name(&name), incarnation: new_incarnation(clock_behind) };
    let Drawn { seed, nonce } = Drawn::new(me);
    let least = incarnation_above.map_or(Incarnation(0), |known| known.above(nonce));
    me.incarnation = me.incarnation.max(least);
    let clock = Clock::start();

    let (seeds, no_address) = match look(&mut *discovery) {
        Ok(seeds) => (seeds, None),
        Err(error) => {
            tracing::warn!(source = discovery.name(), %error, "discovery failed");
            (Vec::new(), Some(error))
        }
    };
    // The others cannot be reached, and would be waited for.
    let reached = FoundSeeds::sort_out(config.bind, seeds.clone()).usable;
    let me = ask_seeds(&datagrams, &key, clock, me, address, &reached, nonce)?;
    let local = local(&config, &name, address, me.incarnation);
    let member = MemberConfig { seeds, settings: config.membership.clone() };
    let mut control = Control::new(control_parts(&config, local, member, key, policy, seed))?;
    if let Some(why) = no_address {
        control.await_seeds(&why);
    }
    let Crew { recruits, commands, reports, doors, buffers, replies } =
        Crew::muster(&config, me, clock, seed)?;
    let (published, heard) = publish(&control);
    let (orders, ordered) = mpsc::channel(config.workers.ring_capacity);
    let (unroute, unrouted) = mpsc::unbounded_channel();
    let (dropped, drops) = mpsc::unbounded_channel();
    let control = ControlThread {
        control,
        listener,
        datagrams,
        workers: commands,
        reports,
        orders: ordered,
        unrouted,
        drops,
        clock,
        published,
        replies: replies.clone(),
        discovery,
        doors: doors.clone(),
        slow_turn: Duration::from_millis(config.workers.slow_turn_ms),
        buffers: Arc::clone(&buffers),
    };
    let control = control.prepare().map_err(StartError::Poll)?;

    for recruit in recruits {
        recruit.start()?;
    }
    let thread =
        thread::Builder::new().name("keyway-control".into()).spawn(move || control.run())?;
    Ok(Started {
        me,
        name,
        address,
        bound,
        clock,
        orders,
        unroute,
        dropped,
        heard,
        doors,
        buffers,
        replies,
        thread,
    })
}

/// What the decider of the control thread is told of the settings.
fn control_parts(
    config: &NodeConfig,
    local: LocalMember,
    member: MemberConfig,
    key: ClusterKey,
    policy: Box<dyn PartitionPolicy>,
    seed: u64,
) -> ControlParts {
    let NodeConfig { membership, links, .. } = config;
    let ms = Duration::from_millis;
    ControlParts {
        local,
        member,
        links: LinkConfig {
            handshake_timeout: ms(links.handshake_timeout_ms),
            max_pending_handshakes: links.max_pending_handshakes,
            max_frame_bytes: links.max_frame_bytes as u32,
        },
        bind: config.bind,
        policy,
        key,
        leave_timeout: ms(membership.leave_timeout_ms),
        parts: PartSettings::new(config),
        seed,
    }
}

/// Where faces hear what the control thread publishes: the other ends of [`Published`].
pub struct Heard {
    /// What to route by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same, to wait for.
    pub changes: watch::Receiver<Arc<Snapshot>>,
    /// Changes of membership.
    pub events: StreamSender<MemberEvent>,
    /// Messages that died here.
    pub dead_letters: StreamSender<DeadLetter>,
    /// Whether and how its life ended.
    pub ended: watch::Receiver<Option<Ended>>,
    /// What was not let in.
    pub strangers: watch::Receiver<Strangers>,
    /// How far it has got with joining.
    pub join: watch::Receiver<JoinState>,
    /// What its leave waits for, or gave up on.
    pub leave: watch::Receiver<Option<Arc<LeaveWaits>>>,
    /// What is wrong between it and others.
    pub troubles: watch::Receiver<Arc<[Trouble]>>,
    /// What was given up at its end.
    pub given_up: Arc<OnceLock<GivenUp>>,
    /// Whether it takes messages from application threads.
    pub gate: Arc<Gate>,
}

fn publish(control: &Control) -> (Published, Heard) {
    let empty = Arc::new(Snapshot::empty(Arc::clone(control.view())));
    let snapshot = Arc::new(ArcSwap::new(Arc::clone(&empty)));
    let (changes, changed) = watch::channel(empty);
    let (events, dead_letters) = (StreamSender::new(EVENTS), StreamSender::new(DEAD_LETTERS));
    let (ended, end) = watch::channel(None);
    let (strangers, stranger_counts) = watch::channel(Strangers::default());
    let (join, joins) = watch::channel(control.join_state());
    let (troubles, trouble) = watch::channel(Arc::default());
    let (leave, leaves) = watch::channel(None);
    let (given_up, gate) = (Arc::default(), Arc::new(Gate::of(control.me())));
    let heard = Heard {
        snapshot: Arc::clone(&snapshot),
        changes: changed,
        events: events.clone(),
        dead_letters: dead_letters.clone(),
        ended: end,
        strangers: stranger_counts,
        join: joins,
        leave: leaves,
        troubles: trouble,
        given_up: Arc::clone(&given_up),
        gate: Arc::clone(&gate),
    };
    let published = Published {
        snapshot,
        changes,
        events,
        dead_letters,
        ended,
        strangers,
        join,
        leave,
        troubles,
        given_up,
        gate,
    };
    (published, heard)
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

/// Randomness that differs between nodes and lives.
struct Drawn {
    /// Of all protocol randomness.
    seed: u64,
    /// Of the hello, where anybody can read it; the seed does not follow from it.
    nonce: u64,
}

impl Drawn {
    fn new(me: NodeRef) -> Self {
        // Protocol randomness needs no more, should the system give none.
        let known = u128::from(me.node.0 ^ me.incarnation.0);
        let mut bytes = (known << 64 | known).to_le_bytes();
        // Bytes that a failure leaves behind do as well.
        let _ = getrandom::fill(&mut bytes);
        let drawn = u128::from_le_bytes(bytes);
        Self { seed: (drawn >> 64) as u64, nonce: drawn as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hello_shows_is_not_the_nodes_seed() {
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(2) };
        let [one, other] = [(); 2].map(|()| Drawn::new(me));
        let all = std::collections::BTreeSet::from([one.seed, one.nonce, other.seed, other.nonce]);
        assert_eq!(all.len(), 4);
    }
}
