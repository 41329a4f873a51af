//! Connections between nodes, until a worker has them: whom to let in and whom to turn away, whom
//! to dial and when to try again, and whether a silent peer still listens; and the channels between
//! the nodes' controls ([`channels`](self)), which no worker ever has. A decider over opaque jobs:
//! each is one connection in the driver's hands, named by a number that is given here.
//!
//! Strangers compete for few places with each other, not with members ([`admission`](self)). All
//! deadlines are kept here: the driver only moves bytes, and drops a connection when it is told to.

mod admission;
pub mod carry;
mod channels;
mod dispatch;
mod outgoing;
pub mod shake;
#[cfg(test)]
mod tests;
mod vanishing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use self::admission::{Incoming, Source};
pub use self::channels::WORD_BYTES;
use self::channels::{Channels, Heard, Outgoing};
use self::outgoing::{Dial, Greeting, Look, Probe};
use self::vanishing::Vanishing;
use crate::base::{DestinationId, LogKind, LogLimiter, NodeId, NodeRef, Time, View, WorkerIndex};
use crate::control::joining::SeedState;
use crate::control::log_line::LogLine;
use crate::control::troubles::PeerTrouble;
use crate::part::PartId;
use crate::wire::handshake::{Established, HandshakeError, NoPlace, Purpose};

/// Names one connection until it is handed over, aborted or has failed; never used again.
pub type JobId = u64;

/// How long nothing is accepted after the system gave no connection: descriptors come back with
/// time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A timer that comes so much later shows that this process did not run. Deadlines are put off by as
/// much once, until what came meanwhile is read: nobody is blamed for what lies in its own sockets.
const LATE: Duration = Duration::from_millis(100);

/// Settings.
#[derive(Clone, Copy, Debug)]
pub struct LinkConfig {
    /// How long a handshake may take in all, from dialing on.
    pub handshake_timeout: Duration,
    /// Incoming connections that may be unfinished at a time.
    pub max_pending_handshakes: usize,
    /// The longest frame that this node takes.
    pub max_frame_bytes: u32,
}

/// What is wanted of the driver, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEffect {
    /// Shake hands on the connection that has just come in.
    Accept(JobId),
    /// Tell the connection that has just come in that this node is busy, and close it.
    TurnAway,
    /// Connect and shake hands.
    Dial(DialOrder),
    /// Connect only.
    Probe {
        /// The connection's name.
        job: JobId,
        /// Where to.
        address: SocketAddr,
    },
    /// Keep this open connection, and tell what comes on it.
    Keep(JobId),
    /// Write this to a connection that is kept.
    Write(JobId, Vec<u8>),
    /// Drop this connection; nothing more of it matters.
    Abort(JobId),
    /// Give this dialed connection to a worker.
    HandDialed {
        /// Which connection.
        job: JobId,
        /// To whom.
        worker: WorkerIndex,
        /// What the worker asked for.
        destination: DestinationId,
        /// The longest frame that its peer takes, if it said so.
        takes: Option<NonZeroU32>,
    },
    /// Give this accepted connection to a worker.
    HandAccepted {
        /// Which connection.
        job: JobId,
        /// What its handshake came to; it names the worker.
        established: Established,
    },
    /// Tell a worker that its connection could not be opened.
    DialFailed {
        /// Whom.
        worker: WorkerIndex,
        /// What the worker asked for.
        destination: DestinationId,
    },
    /// Accept connections, or leave them waiting.
    Accepting(bool),
    /// Write a line.
    Log(LogLine),
    /// Call back.
    Schedule(Time, LinkTimer),
    /// No process listens at this peer's address. For membership.
    Refused(NodeRef),
    /// Connections to this peer do not come about, and why, with the words of whoever said so. For
    /// control.
    Trouble(NodeRef, PeerTrouble, Option<Arc<str>>),
    /// Somebody listens at this peer's address again. For control.
    Listens(NodeRef),
    /// A channel to this peer has opened. For control.
    Opened(NodeRef),
    /// This peer reached this node, or was reached. For membership.
    Reached(NodeRef),
    /// What a seed is like that was greeted. For control.
    Greeted(SocketAddr, SeedState),
    /// Another node's half of a part said something. For control.
    Said {
        /// Which node.
        from: NodeRef,
        /// Which part.
        part: PartId,
        /// The part's own number for what it says.
        op: u8,
        /// What it says.
        body: Vec<u8>,
    },
    /// What this part said to another node may be lost. For control.
    Lost {
        /// Which node.
        to: NodeRef,
        /// Which part.
        part: PartId,
    },
}

/// A connection to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialOrder {
    /// The connection's name.
    pub job: JobId,
    /// Where to.
    pub address: SocketAddr,
    /// What for.
    pub purpose: Purpose,
    /// For which worker.
    pub from_worker: WorkerIndex,
    /// Whom.
    pub to: NodeRef,
    /// Which of its workers.
    pub to_worker: WorkerIndex,
    /// Counts dials: of two connections between two workers the higher one is newer.
    pub link_epoch: u64,
    /// How much one packet may carry, if not as much as the system finds right.
    pub segment_bytes: Option<u32>,
}

/// What timers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTimer {
    /// A connection's time may be over.
    Sweep,
    /// Accept again.
    Accept,
    /// Parts are told what may be lost.
    Lost,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A stranger's first bytes have come.
    Began,
    /// A stranger's whole first message has come, and was in order.
    Asked,
    /// A stranger has proven who it is.
    Accepted(Established),
    /// A stranger was refused, and told so; what it says from now on is read and left aside.
    Refused(HandshakeError, String),
    /// The peer's machine took the connection.
    Connected,
    /// The handshake with the dialed peer is done.
    Dialed(Option<NonZeroU32>),
    /// This came on a connection that is kept.
    Bytes(Vec<u8>),
    /// It is over.
    Failed(Failure, String),
}

impl JobEvent {
    /// Whether nothing more is told of the connection: a worker gets it, or it is closed.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Dialed(_) | Self::Failed(..))
    }
}

/// How a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No process listens there: the strongest evidence that it is gone.
    Refused,
    /// The system could not make it, and says why.
    Unmade,
    /// It broke.
    Broken,
    /// The handshake did not succeed.
    Handshake(HandshakeError),
}

/// What became of connections from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IncomingCounts {
    /// Completed the handshake.
    pub accepted: u64,
    /// Were refused, broke, or took too long.
    pub refused: u64,
    /// Had to give way, or found no place, or their worker took no more or had no place.
    pub turned_away: u64,
    /// Came from a member's address and were closed before a word was said: its looks whether this
    /// node listens.
    pub looked: u64,
}

enum Job {
    Incoming(Incoming),
    Dial(Dial),
    Probe(Probe),
    Look(Look),
    Greeting(Greeting),
    Outgoing(Box<Outgoing>),
    Heard(Heard),
}

impl Job {
    fn deadline(&self) -> Time {
        match self {
            Self::Incoming(incoming) => incoming.deadline,
            Self::Dial(dial) => dial.deadline,
            Self::Probe(probe) => probe.deadline,
            Self::Look(look) => look.deadline,
            Self::Greeting(greeting) => greeting.deadline,
            Self::Outgoing(channel) => channel.deadline,
            // Its dialer closes it.
            Self::Heard(_) => Time::NEVER,
        }
    }
}

/// The decider of a process's connections.
pub struct Links {
    config: LinkConfig,
    jobs: BTreeMap<JobId, Job>,
    next_job: JobId,
    link_epoch: u64,
    /// When the earliest timer that was asked for comes.
    sweep_at: Time,
    /// Until when deadlines are put off since the last sweep came late.
    put_off_until: Time,
    accepting: bool,
    /// Where members are.
    addresses: BTreeSet<Source>,
    unreachable: BTreeSet<NodeRef>,
    members: BTreeSet<NodeRef>,
    /// Of whom the addresses, names and members are.
    roster: Option<u64>,
    names: BTreeMap<NodeId, Arc<str>>,
    /// Members that closed the last connection to them before its handshake was done.
    closed: BTreeSet<NodeRef>,
    /// Links that found no place, until when that counts.
    no_place: BTreeMap<NoPlace, Time>,
    /// The same for handshakes.
    without_place: Arc<BTreeSet<NoPlace>>,
    /// Members to which what is sent has vanished.
    vanishing: BTreeMap<NodeRef, Vanishing>,
    channels: Channels,
    counts: IncomingCounts,
    log: LogLimiter,
}

impl Links {
    /// No connections.
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            jobs: BTreeMap::new(),
            next_job: 0,
            link_epoch: 0,
            sweep_at: Time::NEVER,
            put_off_until: Time::ZERO,
            accepting: true,
            addresses: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            members: BTreeSet::new(),
            roster: None,
            names: BTreeMap::new(),
            closed: BTreeSet::new(),
            no_place: BTreeMap::new(),
            without_place: Arc::default(),
            vanishing: BTreeMap::new(),
            channels: Channels::default(),
            counts: IncomingCounts::default(),
            log: LogLimiter::default(),
        }
    }

    /// What became of connections from others.
    pub fn counts(&self) -> IncomingCounts {
        self.counts
    }

    /// Another view: whose addresses are known, and who has become reachable again. Dials that are
    /// under way to those begin anew: their first packets were lost, and are repeated ever more
    /// seldom.
    pub fn follow(&mut self, now: Time, view: &View, out: &mut Vec<LinkEffect>) {
        let others = || view.members.iter().filter(|member| member.node_ref() != view.me);
        let unreachable: BTreeSet<NodeRef> =
            others().filter(|member| !member.reachable).map(|member| member.node_ref()).collect();
        for peer in std::mem::replace(&mut self.unreachable, unreachable) {
            if !self.unreachable.contains(&peer) {
                self.dial_anew(now, peer, out);
            }
        }
        if self.roster.replace(view.roster_digest) == Some(view.roster_digest) {
            return;
        }
        self.addresses = others().map(|member| Source::of(member.address.ip())).collect();
        self.names = others().map(|member| (member.id, Arc::clone(&member.name))).collect();
        let members = others().map(|member| member.node_ref()).collect();
        let gone = std::mem::replace(&mut self.members, members);
        self.closed.retain(|peer| self.members.contains(peer));
        self.vanishing.retain(|peer, _| self.members.contains(peer));
        // Members have places of their own, which were not there for it before it was one.
        let is_new = |peer: &NodeRef| self.members.contains(peer) && !gone.contains(peer);
        self.no_place.retain(|(peer, ..), _| !is_new(peer));
        self.forget_no_place(now);
        self.end_channels(now, &gone.difference(&self.members).copied().collect(), out);
    }

    /// Something happened to a connection.
    pub fn event(&mut self, now: Time, job: JobId, event: JobEvent, out: &mut Vec<LinkEffect>) {
        match self.jobs.get_mut(&job) {
            Some(Job::Incoming(_)) => self.incoming_event(now, job, event, out),
            Some(Job::Dial(_)) => self.dial_event(now, job, event, out),
            Some(Job::Probe(_)) => self.probe_event(now, job, event, out),
            Some(Job::Look(_)) => self.look_event(job, event, out),
            Some(Job::Greeting(_)) => self.greeting_event(job, event, out),
            Some(Job::Outgoing(_)) => self.outgoing_event(now, job, event, out),
            Some(Job::Heard(_)) => self.heard_event(now, job, event, out),
            // It was aborted while this was on its way.
            None => {}
        }
    }

    /// The system gave no connection.
    pub fn accept_failed(&mut self, now: Time, error: &str, out: &mut Vec<LinkEffect>) {
        self.say(now, LogKind::AcceptFailed, out, || {
            format!("accepting a connection failed: {error}; it is tried again in {ACCEPT_PAUSE:?}")
        });
        if std::mem::replace(&mut self.accepting, false) {
            out.push(LinkEffect::Accepting(false));
            out.push(LinkEffect::Schedule(now.plus(ACCEPT_PAUSE), LinkTimer::Accept));
        }
    }

    /// A timer's time has come.
    pub fn timer(&mut self, now: Time, timer: LinkTimer, out: &mut Vec<LinkEffect>) {
        match timer {
            LinkTimer::Sweep => self.sweep(now, out),
            LinkTimer::Accept => {
                self.accepting = true;
                out.push(LinkEffect::Accepting(true));
            }
            LinkTimer::Lost => self.tell_lost(out),
        }
    }

    fn sweep(&mut self, now: Time, out: &mut Vec<LinkEffect>) {
        if now < self.sweep_at {
            return; // An earlier one was asked for since, and it did this one's work.
        }
        let asked_for = std::mem::replace(&mut self.sweep_at, Time::NEVER);
        if now.since(asked_for) > LATE && asked_for != self.put_off_until {
            self.put_off_until = now.plus(LATE);
            return self.arm(out);
        }
        let due = self.jobs.iter().filter(|(_, job)| job.deadline() <= now);
        for job in due.map(|(job, _)| *job).collect::<Vec<_>>() {
            match self.jobs.get(&job) {
                Some(Job::Incoming(_)) => self.incoming_late(now, job, out),
                Some(Job::Dial(_)) => self.dial_late(now, job, out),
                Some(Job::Probe(_)) => self.probe_late(now, job, out),
                Some(Job::Look(_)) => self.look_late(job, out),
                Some(Job::Greeting(_)) => self.greeting_late(job, out),
                Some(Job::Outgoing(_)) => self.outgoing_late(now, job, out),
                Some(Job::Heard(_)) | None => {}
            }
        }
        self.arm(out);
    }

    /// Sees to it that a timer comes when the next deadline is over.
    fn arm(&mut self, out: &mut Vec<LinkEffect>) {
        let first = self.jobs.values().map(Job::deadline).min().unwrap_or(Time::NEVER);
        let first = first.max(self.put_off_until);
        if first < self.sweep_at {
            self.sweep_at = first;
            out.push(LinkEffect::Schedule(first, LinkTimer::Sweep));
        }
    }

    fn add(&mut self, job: Job) -> JobId {
        self.next_job += 1;
        self.jobs.insert(self.next_job, job);
        self.next_job
    }

    fn say(
        &mut self,
        now: Time,
        kind: LogKind,
        out: &mut Vec<LinkEffect>,
        text: impl FnOnce() -> String,
    ) {
        if let Some(left_out) = self.log.line(now, kind) {
            out.push(LinkEffect::Log(LogLine { kind, left_out, text: text() }));
        }
    }

    /// A member's name, or what there is of one that is none.
    fn name(&self, node: NodeId) -> String {
        self.names.get(&node).map_or_else(|| format!("node {node}"), |name| format!("`{name}`"))
    }

    fn is_known(&self, address: IpAddr) -> bool {
        self.addresses.contains(&Source::of(address))
    }
}
