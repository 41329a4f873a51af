//! Where control and its connections meet: what happens to a connection comes in, and what
//! membership has to hear of it is passed on.

use std::net::SocketAddr;

use super::shake::Shake;
use super::{DialOrder, IncomingCounts, JobEvent, JobId, LinkEffect, LinkTimer, Links};
use crate::base::{DestinationId, LogKind, NodeRef, Time, WorkerIndex};
use crate::control::joining::{JoinState, NOBODY_YET};
use crate::control::seeds::{DISCOVERY_INTERVAL, FoundSeeds};
use crate::control::troubles::PeerTrouble;
use crate::control::{Control, ControlSink, ControlTimer};
use crate::member::{MemberSink, Membership, Refused};
use crate::part::PartId;
use crate::wire::VersionRange;
use crate::wire::handshake::{AcceptParams, DialParams, Established, TurnAway};
use crate::worker::Command;

impl Control {
    /// A connection came in; the driver keeps it until it is told what to do with it, which is
    /// before this returns.
    pub fn incoming(&mut self, now: Time, from: SocketAddr, sink: &mut dyn ControlSink) {
        self.links(now, sink, |links, out| links.incoming(now, from, out));
    }

    /// The system gave no connection.
    pub fn accept_failed(&mut self, now: Time, error: &str, sink: &mut dyn ControlSink) {
        self.links(now, sink, |links, out| links.accept_failed(now, error, out));
    }

    /// Something happened to a connection.
    pub fn job(&mut self, now: Time, job: JobId, event: JobEvent, sink: &mut dyn ControlSink) {
        self.links(now, sink, |links, out| links.event(now, job, event, out));
    }

    /// A worker wants a connection to a destination of the snapshot.
    pub fn dial(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        destination: DestinationId,
        sink: &mut dyn ControlSink,
    ) {
        // If it is gone meanwhile, its worker is about to hear of it.
        let Some(target) = self.destinations.all().get(destination).copied() else { return };
        self.links(now, sink, |links, out| links.dial(now, worker, target, out));
    }

    /// A link to this peer was lost.
    pub fn suspect(&mut self, now: Time, peer: NodeRef, sink: &mut dyn ControlSink) {
        let view = std::sync::Arc::clone(self.membership.view());
        self.links(now, sink, |links, out| links.suspect(now, peer, &view, out));
    }

    /// A connection to this peer was refused: its process is gone, unless it has shown that it lives.
    pub fn peer_refused(&mut self, now: Time, peer: NodeRef, sink: &mut dyn ControlSink) {
        let refused = |membership: &mut Membership, sink: &mut dyn MemberSink| {
            membership.peer_refused(now, peer, sink)
        };
        if self.member(now, sink, refused) == Refused::Contradicted {
            self.member_in_trouble(now, peer, PeerTrouble::Refuses, None, sink);
        }
    }

    /// Finds out what is at a seed's address.
    pub(in crate::control) fn greet(
        &mut self,
        now: Time,
        seed: SocketAddr,
        sink: &mut dyn ControlSink,
    ) {
        self.links(now, sink, |links, out| links.greet(now, seed, out));
    }

    /// What became of connections from others.
    pub fn incoming_counts(&self) -> IncomingCounts {
        self.links.counts()
    }

    /// Discovery has looked.
    pub fn discovered(
        &mut self,
        now: Time,
        source: &str,
        outcome: Result<Vec<SocketAddr>, String>,
        sink: &mut dyn ControlSink,
    ) {
        sink.schedule(now.plus(DISCOVERY_INTERVAL), ControlTimer::Discover);
        let found = match outcome {
            Ok(found) => FoundSeeds::in_known_order(&self.found_seeds, found),
            Err(error) => {
                if self.awaits_seeds() {
                    self.await_seeds(&error);
                }
                if self.say_no_address(now, sink) {
                    return;
                }
                let text = format!("discovery by {source} failed: {error}");
                return self.complain_of_discovery(now, &text, sink);
            }
        };
        let sorted = FoundSeeds::sort_out(self.bind, found.clone());
        let no_use = sorted.no_use(self.bind);
        if found == self.found_seeds && self.awaits_seeds() == no_use.is_some() {
            return;
        }
        let usable = sorted.usable;
        self.found_seeds = found;
        let text = || format!("discovery by {source} found other seeds: {usable:?}");
        self.links(now, sink, |links, out| links.say(now, LogKind::OtherSeeds, out, text));
        self.complain_of_seeds(now, sink);
        match no_use {
            Some(why) => {
                self.await_seeds(&why);
                self.joining_follows(now, sink);
                self.say_no_address(now, sink);
            }
            None => self.seeds(now, usable, sink),
        }
    }

    /// Says which of the seeds are of no use.
    pub(in crate::control) fn complain_of_seeds(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let found = FoundSeeds::sort_out(self.bind, self.found_seeds.clone());
        if let Some(complaint) = found.complaint(self.bind) {
            let text = format!("of the seeds that were found, {complaint}");
            self.complain_of_discovery(now, &text, sink);
        }
    }

    /// Whether this node has met nobody since no seed has an address, which is said then.
    pub(in crate::control) fn say_no_address(
        &mut self,
        now: Time,
        sink: &mut dyn ControlSink,
    ) -> bool {
        let state = self.joining.state();
        let why = state.obstacle().filter(|_| matches!(state, JoinState::NoAddress { .. }));
        if let Some(why) = &why {
            let has_room = self.joining.has_room(now);
            let heard = self.complaints.hear(now, &format!("{NOBODY_YET}; {why}"), has_room);
            if let Some(line) = heard.and_then(|text| self.joining.limited(now, text)) {
                sink.log(line);
            }
        }
        why.is_some()
    }

    /// Discovery looks every few seconds, and may find the same wrong for ever.
    fn complain_of_discovery(&mut self, now: Time, text: &str, sink: &mut dyn ControlSink) {
        let has_room = self.links.log.has_room(now, LogKind::Discovery);
        if let Some(text) = self.complaints.hear(now, text, has_room) {
            self.links(now, sink, |links, out| {
                links.say(now, LogKind::Discovery, out, || text);
            });
        }
    }

    /// The view is another one.
    pub(in crate::control) fn links_follow(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let view = std::sync::Arc::clone(self.membership.view());
        self.links(now, sink, |links, out| links.follow(now, &view, out));
    }

    pub(in crate::control) fn link_timer(
        &mut self,
        now: Time,
        timer: LinkTimer,
        sink: &mut dyn ControlSink,
    ) {
        self.links(now, sink, |links, out| links.timer(now, timer, out));
    }

    /// A part says something to another node's half.
    pub(crate) fn say_to(
        &mut self,
        now: Time,
        to: NodeRef,
        word: (PartId, u8),
        body: &[u8],
        sink: &mut dyn ControlSink,
    ) {
        let member = self.membership.view().member(to.node);
        let address = member.filter(|member| member.node_ref() == to && to != self.me);
        let address = address.map(|member| member.address);
        self.links(now, sink, |links, out| links.say_to(now, to, address, word, body, out));
    }

    pub(in crate::control) fn links(
        &mut self,
        now: Time,
        sink: &mut dyn ControlSink,
        call: impl FnOnce(&mut Links, &mut Vec<LinkEffect>),
    ) {
        if self.is_ending() {
            return;
        }
        let mut effects = std::mem::take(&mut self.link_effects);
        call(&mut self.links, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                LinkEffect::Schedule(at, timer) => sink.schedule(at, ControlTimer::Link(timer)),
                LinkEffect::Refused(peer) => self.peer_refused(now, peer, sink),
                LinkEffect::Reached(peer) => self.peer_link_opened(now, peer, sink),
                LinkEffect::Trouble(peer, what, error) => {
                    self.member_in_trouble(now, peer, what, error, sink);
                }
                LinkEffect::Listens(peer) => self.out_of_trouble(now, peer, true, sink),
                LinkEffect::Opened(peer) => self.out_of_trouble(now, peer, false, sink),
                LinkEffect::Greeted(seed, state) => self.seed_greeted(now, seed, state, sink),
                LinkEffect::Accept(job) => {
                    let shake = Shake::accept(self.accept_params(), sink.nonce());
                    sink.accept(job, shake);
                }
                LinkEffect::TurnAway => sink.turn_away(&TurnAway::Busy.refusal()),
                LinkEffect::Dial(order) => {
                    let DialOrder { job, address, segment_bytes, .. } = order;
                    let shake = Shake::dial(address, self.dial_params(order), sink.nonce());
                    sink.connect(job, address, segment_bytes, shake);
                }
                LinkEffect::Probe { job, address } => {
                    sink.connect(job, address, None, Shake::probe());
                }
                LinkEffect::Abort(job) => sink.abort(job),
                LinkEffect::HandDialed { job, worker, destination, takes } => {
                    sink.command(worker, Command::Dialed(destination, job, takes));
                }
                LinkEffect::HandAccepted { job, established }
                    if sink.is_crowded(established.my_worker) =>
                {
                    self.not_taken(now, job, &established, sink);
                }
                LinkEffect::HandAccepted { job, established } => {
                    sink.command(established.my_worker, Command::Accepted(job, established));
                }
                LinkEffect::DialFailed { worker, destination } => {
                    sink.command(worker, Command::DialFailed(destination));
                }
                LinkEffect::Accepting(accepting) => sink.accepting(accepting),
                LinkEffect::Log(line) => sink.log(line),
                LinkEffect::Said { from, part, op, body } => {
                    self.part_message(now, from, (part, op), &body, sink);
                }
                LinkEffect::Lost { to, part } => self.part_lost(now, to, part, sink),
                LinkEffect::Keep(job) => sink.keep(job),
                LinkEffect::Write(job, bytes) => sink.write(job, bytes),
            }
        }
        self.link_effects = effects;
    }

    fn not_taken(
        &mut self,
        now: Time,
        job: JobId,
        established: &Established,
        sink: &mut dyn ControlSink,
    ) {
        self.links(now, sink, |links, out| links.not_taken(now, job, established, out));
    }

    fn accept_params(&self) -> AcceptParams {
        AcceptParams {
            key: self.key.clone(),
            me: self.me,
            workers: self.workers,
            versions: VersionRange::SUPPORTED,
            turn_away: self.leaving.turn_away(),
            no_place: self.links.without_place(),
            takes: self.links.takes(),
        }
    }

    fn dial_params(&self, order: DialOrder) -> DialParams {
        DialParams {
            key: self.key.clone(),
            me: self.me,
            purpose: order.purpose,
            from_worker: order.from_worker,
            to: order.to,
            to_worker: order.to_worker,
            link_epoch: order.link_epoch,
            versions: VersionRange::SUPPORTED,
        }
    }
}
