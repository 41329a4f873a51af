//! Composes what there is one of per process: membership, the registry of handlers, the routers
//! and the snapshot that workers follow. A decider: datagrams, times and orders come in; sealed
//! datagrams, snapshots and events go out into a sink.

mod adapter;
pub mod destinations;
mod ending;
pub mod given_up;
mod gossip;
mod join_state;
pub mod joining;
mod leave_waits;
pub mod leaving;
pub mod letters;
pub mod links;
mod log_line;
pub mod lookout;
mod parts;
mod pieces;
mod repeats;
pub mod seeds;
mod sending;
mod serving;
pub mod size;
mod tables;
mod telling;
#[cfg(test)]
mod testnet;
pub mod too_large;
pub mod troubles;
mod unreached;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::adapter::Adapter;
use self::destinations::{Destinations, Ended};
use self::ending::Ending;
use self::gossip::{Gossip, News};
use self::joining::{JoinState, Joining, SeedState};
use self::leaving::Leaving;
use self::letters::DeadLetter;
use self::links::shake::Shake;
use self::links::{JobId, LinkConfig, LinkEffect, LinkTimer, Links};
pub use self::log_line::LogLine;
use self::pieces::{NoPiece, Pieces};
use self::repeats::Complaints;
use self::seeds::FoundSeeds;
pub use self::sending::Sent;
use self::serving::Serving;
pub use self::serving::{NotServed, ServeError, ServeFailure};
use self::size::SizeWarning;
use self::tables::Tables;
use self::troubles::Troubles;
use self::unreached::Unreached;
use crate::base::{
    HandlerId, LogKind, LogLimiter, MemberEvent, NodeId, NodeRef, Time, View, WorkerIndex,
};
use crate::member::{
    LocalMember, MemberConfig, MemberError, MemberFault, MemberSink, MemberStats, MemberTimer,
    Membership, PartitionPolicy,
};
use crate::part::{ControlHalves, PartId, PartSettings};
use crate::route::job::{TableJob, TablesMade};
use crate::route::snapshot::Snapshot;
use crate::route::{RouterSpec, SpecError};
use crate::wire::auth::ClusterKey;
use crate::wire::datagram;
use crate::worker::{Command, Report};

/// Datagrams that are taken in a row, before timers and everything else have their turn.
pub const DATAGRAMS_PER_TURN: usize = 256;

/// What is read of a datagram; the longest that means anything is far shorter.
pub const DATAGRAM_BYTES: usize = 65_536;

/// Control's hands: its datagrams, connections, timers, and the ways to its workers.
pub trait ControlSink: ControlTells {
    /// Send this datagram.
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Sent;
    /// Call [`Control::timer`] with this at that time.
    fn schedule(&mut self, at: Time, timer: ControlTimer);
    /// Hand this to a worker. What comes from here comes to it in this order.
    fn command(&mut self, worker: WorkerIndex, command: Command<JobId>);
    /// Whether so many connections of others wait for a worker to take them that one more is to be
    /// closed.
    fn is_crowded(&self, worker: WorkerIndex) -> bool;
    /// Show this to application threads. It was handed to every worker before.
    fn publish(&mut self, snapshot: Arc<Snapshot>);
    /// Run this job, where it holds nothing up, and call [`Control::tables_made`] with its outcome.
    /// There is never more than one.
    fn make_tables(&mut self, job: TableJob);
    /// Bytes that nobody can foresee.
    fn nonce(&mut self) -> [u8; 32];
    /// Connect, and then do this; [`Control::job`] hears how it goes. If it is said how much a packet
    /// may carry, either side's packets carry no more, where the system can see to that.
    fn connect(
        &mut self,
        job: JobId,
        address: SocketAddr,
        segment_bytes: Option<u32>,
        shake: Shake,
    );
    /// Do this with the connection that has just come in; [`Control::job`] hears how it goes.
    fn accept(&mut self, job: JobId, shake: Shake);
    /// Say this on the connection that has just come in, as far as it goes at once, and close it.
    fn turn_away(&mut self, refusal: &[u8]);
    /// Keep this open connection; [`Control::job`] hears what comes on it.
    fn keep(&mut self, job: JobId);
    /// Write this to a connection that is kept.
    fn write(&mut self, job: JobId, bytes: Vec<u8>);
    /// Close this connection; nothing more of it matters.
    fn abort(&mut self, job: JobId);
    /// Take connections in, or leave them waiting.
    fn accepting(&mut self, accepting: bool);
    /// Have discovery look, then call [`Control::discovered`].
    fn discover(&mut self);
}

/// What control says to whoever asked, to whoever listens, and to the log.
pub trait ControlTells {
    /// This router's first table is published.
    fn routed(&mut self, router: u32);
    /// What became of a path that was to be served: the cluster is being told, or it is free again.
    fn served(&mut self, handler: HandlerId, outcome: Result<(), ServeFailure>);
    /// A path that was to be withdrawn is not served any more.
    fn unserved(&mut self, handler: HandlerId);
    /// How far this node has got with joining is another than was told last. What a snapshot shows of
    /// it is told before that is published.
    fn join_state(&mut self, state: JoinState);
    /// Tell whoever listens what changed.
    fn events(&mut self, view: &Arc<View>, events: &[MemberEvent]);
    /// The node cannot go on.
    fn fault(&mut self, fault: MemberFault);
    /// The node has left; true if everything was drained in time, and a member has shown that it
    /// knows, if one stays.
    fn left(&mut self, well: bool);
    /// Its workers have stopped, or so many of them have not within the time they have.
    fn stopped(&mut self, running: u16);
    /// Write a line.
    fn log(&mut self, line: LogLine);
    /// Whether anybody listens to dead letters, beside the log.
    fn hears_dead_letters(&self) -> bool;
    /// Messages died. For the log as well, if it says how many others were left out there.
    fn dead_letter(&mut self, letter: DeadLetter, left_out: Option<u64>);
    /// A worker's report that is for whoever looks on. For the log as well, if it says how many
    /// others like it were left out there.
    fn overheard(&mut self, report: Report, left_out: Option<u64>);
}

/// What control's timers are for.
#[derive(Clone, Debug)]
pub enum ControlTimer {
    /// Membership's own.
    Member(MemberTimer),
    /// Look again whether the workers are drained.
    Drain,
    /// Workers have had their time to stop.
    Stop,
    /// Of connections.
    Link(LinkTimer),
    /// Discovery looks again.
    Discover,
    /// Seeds are greeted, if nobody has been met.
    Join,
    /// It is looked whether what was wrong with peers is over.
    Troubles,
    /// Whether others still say that they cannot reach this node.
    Unreached,
    /// The others have heard that this handler is withdrawn.
    Withdraw(HandlerId),
    /// News is passed on.
    Gossip,
    /// A part's own.
    Part {
        /// Which part.
        part: PartId,
        /// What it gave.
        token: u64,
    },
}

/// Datagrams that were dropped, by what was wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DatagramCounts {
    /// Taken.
    pub taken: u64,
    /// Not sealed by this cluster's key: strangers, another cluster, another secret, garbage.
    pub not_ours: u64,
    /// Sealed rightly, but not understood.
    pub malformed: u64,
    /// Sealed rightly, for a part that this build does not know: its sender is newer.
    pub skipped: u64,
    /// Sealed rightly, for a part of this build, by a sender that is no member here: one that was
    /// one, or of which this node has not heard yet.
    pub no_members: u64,
}

/// What control is made of.
pub struct ControlParts {
    /// How this node describes itself.
    pub local: LocalMember,
    /// Settings of membership; its seeds as discovery found them.
    pub member: MemberConfig,
    /// Settings of connections.
    pub links: LinkConfig,
    /// Where this node listens.
    pub bind: SocketAddr,
    /// Who is removed after a partition.
    pub policy: Box<dyn PartitionPolicy>,
    /// The cluster's keys.
    pub key: ClusterKey,
    /// How long a graceful leave may take.
    pub leave_timeout: Duration,
    /// Settings of the parts.
    pub parts: PartSettings,
    /// Seed of all randomness in here.
    pub seed: u64,
}

/// After so many rounds of gossip the others have heard of a leave, or that a path is withdrawn.
const HEARD_AFTER: u32 = 3;

/// The decider of one process.
///
/// Its driver calls [`Control::start`] once and then whatever happens, in the order in which it
/// happens.
pub struct Control {
    me: NodeRef,
    workers: u16,
    membership: Membership,
    key: ClusterKey,
    serving: Serving,
    tables: Tables,
    destinations: Destinations,
    ended: Ended,
    version: u64,
    leaving: Leaving,
    parts: ControlHalves,
    gossip: Gossip,
    news: Vec<News>,
    datagrams: DatagramCounts,
    sealed: Vec<u8>,
    pieces: Pieces,
    links: Links,
    link_effects: Vec<LinkEffect>,
    bind: SocketAddr,
    /// As discovery gave them last.
    found_seeds: Vec<SocketAddr>,
    joining: Joining,
    unreached: Unreached,
    troubles: Troubles,
    /// Of discovery.
    complaints: Complaints,
    size: SizeWarning,
    log: LogLimiter,
    ending: Ending,
}

impl Control {
    /// A node that knows nobody.
    ///
    /// # Errors
    /// When membership's settings do not fit.
    pub fn new(mut parts: ControlParts) -> Result<Self, MemberError> {
        let found_seeds = parts.member.seeds.clone();
        let found = FoundSeeds::sort_out(parts.bind, parts.member.seeds);
        parts.member.seeds = found.usable.clone();
        let node = NodeId::from_name(&parts.local.name);
        let me = NodeRef { node, incarnation: parts.local.incarnation };
        let workers = parts.local.workers;
        let address = parts.local.address;
        let retry_max_ms = parts.member.settings.seed_retry_max_ms;
        let unreached = Unreached::new(retry_max_ms, parts.member.settings.sync_ms);
        let gossip_every = Duration::from_millis(parts.member.settings.gossip_ms);
        let grace = gossip_every.saturating_mul(HEARD_AFTER);
        let membership = Membership::new(parts.member, parts.local, parts.policy, parts.seed)?;
        let joining = Joining::new(address, membership.seeds(), retry_max_ms);
        let no_use = found.no_use(parts.bind);
        let mut control = Self {
            me,
            workers,
            membership,
            key: parts.key,
            serving: Serving::new(workers, grace),
            tables: Tables::default(),
            destinations: Destinations::default(),
            ended: Ended::default(),
            version: 0,
            leaving: Leaving::new(grace, parts.leave_timeout, workers),
            parts: ControlHalves::new(me, workers, &parts.parts),
            // Not membership's own chance, so that neither follows from the other.
            gossip: Gossip::new(me, gossip_every, parts.seed.rotate_left(32)),
            news: Vec::new(),
            datagrams: DatagramCounts::default(),
            sealed: Vec::new(),
            pieces: Pieces::default(),
            links: Links::new(parts.links),
            link_effects: Vec::new(),
            bind: parts.bind,
            found_seeds,
            joining,
            unreached,
            troubles: Troubles::default(),
            complaints: Complaints::default(),
            size: SizeWarning::default(),
            log: LogLimiter::default(),
            ending: Ending::default(),
        };
        if let Some(why) = no_use {
            control.await_seeds(&why);
        }
        Ok(control)
    }

    /// This life of this node.
    pub fn me(&self) -> NodeRef {
        self.me
    }

    /// The members as this node sees them.
    pub fn view(&self) -> &Arc<View> {
        self.membership.view()
    }

    /// What became of received datagrams.
    pub fn datagrams(&self) -> DatagramCounts {
        self.datagrams
    }

    /// Frames from other nodes' controls that were skipped: their senders are newer.
    pub fn frames_skipped(&self) -> u64 {
        self.links.frames_skipped()
    }

    /// Begins.
    pub fn start(&mut self, now: Time, sink: &mut dyn ControlSink) {
        self.complain_of_seeds(now, sink);
        self.member(now, sink, |membership, sink| membership.start(now, sink));
        sink.schedule(now.plus(seeds::DISCOVERY_INTERVAL), ControlTimer::Discover);
        self.joining_follows(now, sink);
        self.say_no_address(now, sink);
        self.publish(sink);
        self.parts_follow_view(now, &[], sink);
    }

    /// A datagram came in.
    pub fn datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        bytes: &[u8],
        sink: &mut dyn ControlSink,
    ) {
        if self.is_ending() {
            return;
        }
        match datagram::open(&self.key, bytes) {
            Ok(opened) if opened.part == datagram::MEMBERSHIP => {
                self.membership_datagram(now, (opened.sender, from), opened.payload, sink);
            }
            Ok(opened) if opened.part == datagram::PIECES => {
                match self.pieces.take(now, (opened.sender, from), opened.payload) {
                    Ok(Some(whole)) => {
                        self.membership_datagram(now, (opened.sender, from), &whole, sink)
                    }
                    Ok(None) => self.datagrams.taken += 1,
                    Err(NoPiece) => self.datagrams.malformed += 1,
                }
            }
            Ok(opened) => self.part_datagram(now, opened, sink),
            Err(error) => {
                self.datagrams.not_ours += 1;
                self.not_opened(now, from, error);
                self.say(now, LogKind::StrangerDatagram, sink, || {
                    format!(
                        "a datagram from {from} that is not of this cluster was dropped: a \
                         stranger, or a node with another cluster name or secret"
                    )
                });
            }
        }
    }

    fn membership_datagram(
        &mut self,
        now: Time,
        (sender, from): (NodeRef, SocketAddr),
        payload: &[u8],
        sink: &mut dyn ControlSink,
    ) {
        let outcome = self.member(now, sink, |membership, sink| {
            membership.handle_datagram(now, from, payload, sink)
        });
        match outcome {
            Ok(()) => {
                self.datagrams.taken += 1;
                // The last words of one that has left say nothing of who is there next.
                if !self.membership.has_left(sender) {
                    self.joining.heard(now, from, SeedState::Answers);
                }
            }
            Err(MemberError::ClusterFull { .. }) => {
                self.datagrams.taken += 1;
                self.joining.heard(now, from, SeedState::Full);
            }
            Err(MemberError::NotListed { limit }) => {
                self.datagrams.taken += 1;
                self.not_listed(now, from, limit, sink);
            }
            Err(MemberError::NotReached { address }) => {
                self.datagrams.taken += 1;
                self.not_reached(now, from, address, sink);
            }
            Err(MemberError::DirectoryFull { .. }) => {
                self.datagrams.taken += 1;
                self.turned_away(now, from, sink);
            }
            Err(_) => self.datagrams.malformed += 1,
        }
    }

    /// A timer's time has come.
    pub fn timer(&mut self, now: Time, timer: ControlTimer, sink: &mut dyn ControlSink) {
        match timer {
            ControlTimer::Stop => self.stop_due(sink),
            _ if self.is_ending() => {}
            ControlTimer::Member(timer) => {
                self.member(now, sink, |membership, sink| {
                    membership.handle_timer(now, timer, sink)
                });
            }
            ControlTimer::Drain => self.leave_due(now, sink),
            ControlTimer::Link(timer) => self.link_timer(now, timer, sink),
            ControlTimer::Join => self.join_round(now, sink),
            ControlTimer::Troubles => self.look_at_troubles(now, sink),
            ControlTimer::Unreached => self.unreached_due(now, sink),
            ControlTimer::Discover => sink.discover(),
            ControlTimer::Withdraw(handler) => self.withdraw_due(now, handler, sink),
            ControlTimer::Gossip => self.gossip_round(now, sink),
            ControlTimer::Part { part, token } => self.part_timer(now, part, token, sink),
        }
    }

    /// Adds a router, or one more holder of one that asks for the same, and asks for its table;
    /// [`ControlTells::routed`] tells when it is published. Each ends with [`Control::unroute`].
    ///
    /// # Errors
    /// When its options do not fit.
    pub fn route(
        &mut self,
        spec: RouterSpec,
        sink: &mut dyn ControlSink,
    ) -> Result<u32, SpecError> {
        spec.validate()?;
        let id = self.tables.add(spec)?;
        if self.tables.has_table(id) {
            sink.routed(id);
        } else {
            self.tables.want(self.membership.view(), sink);
        }
        Ok(id)
    }

    /// Nobody holds this router any more, of those that [`Control::route`] gave it to: it ends with
    /// the last of them.
    pub fn unroute(&mut self, router: u32, sink: &mut dyn ControlSink) {
        if self.tables.remove(router) {
            self.publish(sink);
        }
    }

    /// The tables that were asked for are made.
    pub fn tables_made(&mut self, made: TablesMade, sink: &mut dyn ControlSink) {
        let first = self.tables.made(made, self.membership.view(), &self.destinations);
        self.publish(sink);
        for router in first {
            sink.routed(router);
        }
        self.tables.want(self.membership.view(), sink);
    }

    /// A link to this peer was opened.
    pub fn peer_link_opened(&mut self, now: Time, peer: NodeRef, sink: &mut dyn ControlSink) {
        self.member(now, sink, |membership, sink| membership.peer_link_opened(now, peer, sink));
    }

    /// Discovery found other addresses to join through.
    pub fn seeds(&mut self, now: Time, seeds: Vec<SocketAddr>, sink: &mut dyn ControlSink) {
        self.joining.has_address();
        self.member(now, sink, |membership, sink| membership.set_seeds(now, seeds, sink));
        self.joining_follows(now, sink);
    }

    /// Removes a member that will not come back.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn down(
        &mut self,
        now: Time,
        node: NodeId,
        sink: &mut dyn ControlSink,
    ) -> Result<(), MemberError> {
        self.member(now, sink, |membership, sink| membership.down(now, node, sink))
    }

    /// What membership has counted.
    pub fn member_stats(&self) -> MemberStats {
        self.membership.stats()
    }

    /// Calls membership, seals what it sends, and brings routers in line when the view changed.
    fn member<T>(
        &mut self,
        now: Time,
        sink: &mut dyn ControlSink,
        call: impl FnOnce(&mut Membership, &mut dyn MemberSink) -> T,
    ) -> T {
        let mut adapter = Adapter {
            me: self.me,
            key: &self.key,
            sealed: &mut self.sealed,
            pieces: &mut self.pieces,
            sink,
            now,
            joining: &self.joining,
            troubles: &self.troubles,
            told: sending::Told::new(),
            not_proven: Vec::new(),
            changed: None,
            fault: None,
        };
        let outcome = call(&mut self.membership, &mut adapter);
        let Adapter { changed, fault, not_proven, told, .. } = adapter;
        if let Some(events) = changed {
            self.ended.follow(&events);
            self.joining_follows(now, sink);
            self.follow_view(sink);
            // Whoever hears of a change finds it in the snapshot.
            sink.events(self.membership.view(), &events);
            self.say_events(now, &events, sink);
            self.links_follow(now, sink);
            self.troubles_follow(now, sink);
            self.warn_of_size(now, sink);
            self.parts_follow_view(now, &events, sink);
        }
        self.sending_told(now, &told, sink);
        for seen in not_proven {
            self.in_trouble(now, seen, sink);
        }
        if let Some(fault) = fault {
            sink.fault(fault);
        }
        outcome
    }

    fn follow_view(&mut self, sink: &mut dyn ControlSink) {
        let view = Arc::clone(self.membership.view());
        self.destinations.follow(&view);
        self.tables.mask(&view, &self.destinations);
        self.publish(sink);
        self.tables.want(&view, sink);
    }

    fn publish(&mut self, sink: &mut dyn ControlSink) {
        self.version += 1;
        let snapshot = Snapshot::new(
            self.version,
            Arc::clone(self.membership.view()),
            self.destinations.all().clone(),
            self.tables.states(),
        );
        let snapshot = snapshot.with_ended_routers(self.tables.ended());
        let snapshot = Arc::new(snapshot.with_ended(self.ended.latest()));
        self.tell_all(sink, || Command::Apply(Arc::clone(&snapshot)));
        // Whoever sees the members has been told that they were met.
        self.tell_join_state(sink);
        sink.publish(snapshot);
    }

    fn say(
        &mut self,
        now: Time,
        kind: LogKind,
        sink: &mut dyn ControlSink,
        text: impl FnOnce() -> String,
    ) {
        if let Some(left_out) = self.log.line(now, kind) {
            sink.log(LogLine { kind, left_out, text: text() });
        }
    }
}
