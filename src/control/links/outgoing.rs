//! Connections to others: those that workers ask for, and looks whether a peer still listens.

use std::net::SocketAddr;
use std::time::Duration;

use super::{DialOrder, Failure, Job, JobEvent, JobId, LinkEffect, Links};
use crate::base::{LogKind, NodeRef, Time, View, WorkerIndex};
use crate::control::joining::{ANYONE, SeedState};
use crate::control::troubles::PeerTrouble;
use crate::route::snapshot::Destination;
use crate::wire::handshake::{HandshakeError, Purpose};

/// How long one attempt to connect may take. The system repeats a lost first packet after 1, 3 and
/// 7 s; a new attempt asks again once a second, so that a path that has healed is found soon.
pub(super) const CONNECT: Duration = Duration::from_secs(1);

/// Pauses between the looks of a probe. A process that is being killed closes its links before its
/// listener, so the first look may still find it; the last comes when the kernel has long cleaned
/// up.
const PROBE_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
];

pub(super) struct Dial {
    worker: WorkerIndex,
    target: Destination,
    since: Time,
    connected: bool,
    pub deadline: Time,
}

pub(super) struct Probe {
    peer: NodeRef,
    address: SocketAddr,
    /// How many looks there were.
    looks: usize,
    /// Between two of them.
    resting: bool,
    pub deadline: Time,
}

/// A look whether somebody listens again where connections did not come about. That it is refused is
/// no news of a peer which is known to run and to refuse.
pub(super) struct Look {
    peer: NodeRef,
    refuses: bool,
    pub deadline: Time,
}

/// How long a seed may take to answer a greeting.
const GREETING: Duration = Duration::from_secs(2);

/// A handshake with a seed that leads to no link, for what its refusal says.
pub(super) struct Greeting {
    seed: SocketAddr,
    pub deadline: Time,
}

impl Links {
    // ---- greetings ----

    /// Finds out what is at a seed's address; [`LinkEffect::Greeted`] tells.
    pub fn greet(&mut self, now: Time, seed: SocketAddr, out: &mut Vec<LinkEffect>) {
        let deadline = now.plus(GREETING);
        let job = self.add(Job::Greeting(Greeting { seed, deadline }));
        out.push(LinkEffect::Dial(DialOrder {
            job,
            address: seed,
            purpose: Purpose::Workers,
            from_worker: WorkerIndex(0),
            to: ANYONE,
            to_worker: WorkerIndex::NONE,
            link_epoch: 0,
            segment_bytes: None,
        }));
        self.arm(out);
    }

    pub(super) fn greeting_event(
        &mut self,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let state = match event {
            JobEvent::Failed(Failure::Refused, _) => SeedState::Down,
            JobEvent::Failed(Failure::Unmade | Failure::Broken, _) => SeedState::Silent,
            JobEvent::Failed(Failure::Handshake(error), _) => SeedState::of_handshake(&error),
            // Nobody has so many workers, but if: it is one of ours.
            JobEvent::Dialed(_) => {
                out.push(LinkEffect::Abort(job));
                SeedState::NoDatagrams
            }
            _ => return,
        };
        self.end_greeting(job, state, out);
    }

    pub(super) fn greeting_late(&mut self, job: JobId, out: &mut Vec<LinkEffect>) {
        out.push(LinkEffect::Abort(job));
        self.end_greeting(job, SeedState::Silent, out);
    }

    fn end_greeting(&mut self, job: JobId, state: SeedState, out: &mut Vec<LinkEffect>) {
        if let Some(Job::Greeting(greeting)) = self.jobs.remove(&job) {
            out.push(LinkEffect::Greeted(greeting.seed, state));
        }
    }

    // ---- dials ----

    /// A worker wants a connection.
    pub fn dial(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        target: Destination,
        out: &mut Vec<LinkEffect>,
    ) {
        self.attempt(now, now, worker, target, out);
        self.arm(out);
    }

    fn attempt(
        &mut self,
        now: Time,
        since: Time,
        worker: WorkerIndex,
        target: Destination,
        out: &mut Vec<LinkEffect>,
    ) {
        self.link_epoch += 1;
        let deadline = now.plus(CONNECT).min(since.plus(self.config.handshake_timeout));
        let dial = Dial { worker, target, since, connected: false, deadline };
        let job = self.add(Job::Dial(dial));
        out.push(LinkEffect::Dial(DialOrder {
            job,
            address: target.address,
            purpose: Purpose::Workers,
            from_worker: worker,
            to: target.node,
            to_worker: target.worker,
            link_epoch: self.link_epoch,
            segment_bytes: self.segment_bytes(target.node),
        }));
    }

    /// A peer is reachable again: what is being dialed begins anew.
    pub(super) fn dial_anew(&mut self, now: Time, peer: NodeRef, out: &mut Vec<LinkEffect>) {
        let stuck = self.jobs.iter().filter(|(_, job)| match job {
            Job::Dial(dial) => dial.target.node == peer,
            _ => false,
        });
        for job in stuck.map(|(job, _)| *job).collect::<Vec<_>>() {
            let Some(Job::Dial(dial)) = self.jobs.remove(&job) else { continue };
            out.push(LinkEffect::Abort(job));
            self.attempt(now, now, dial.worker, dial.target, out);
        }
        self.arm(out);
    }

    pub(super) fn dial_event(
        &mut self,
        now: Time,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let Some(Job::Dial(dial)) = self.jobs.get_mut(&job) else { return };
        match event {
            JobEvent::Connected => {
                dial.connected = true;
                dial.deadline = dial.since.plus(self.config.handshake_timeout);
            }
            JobEvent::Dialed(takes) => {
                let (worker, destination) = (dial.worker, dial.target.id);
                self.closed.remove(&dial.target.node);
                self.jobs.remove(&job);
                out.push(LinkEffect::HandDialed { job, worker, destination, takes });
            }
            JobEvent::Failed(how, why) => {
                let (peer, address) = (dial.target.node, dial.target.address);
                self.give_up(now, job, &why, out);
                self.not_opened(now, peer, address, how, why, out);
            }
            JobEvent::Began
            | JobEvent::Asked
            | JobEvent::Accepted(_)
            | JobEvent::Refused(..)
            | JobEvent::Bytes(_) => {}
        }
    }

    /// A connection to this peer did not come to its handshake's end.
    pub(super) fn not_opened(
        &mut self,
        now: Time,
        peer: NodeRef,
        address: SocketAddr,
        how: Failure,
        why: String,
        out: &mut Vec<LinkEffect>,
    ) {
        match how {
            Failure::Refused => out.push(LinkEffect::Refused(peer)),
            Failure::Unmade => {
                out.push(LinkEffect::Trouble(peer, PeerTrouble::Fails, Some(why.into())));
                self.probe_at(now, peer, address, out);
            }
            // It took the connection and then broke it: is it about to end?
            Failure::Broken => {
                if self.members.contains(&peer) {
                    self.closed.insert(peer);
                }
                self.probe_at(now, peer, address, out);
            }
            Failure::Handshake(HandshakeError::NoPlace { .. }) => {
                out.push(LinkEffect::Trouble(peer, PeerTrouble::NoPlace, None));
            }
            Failure::Handshake(error) if passes(&error) => {}
            Failure::Handshake(_) => {
                out.push(LinkEffect::Trouble(peer, PeerTrouble::NoHandshake, Some(why.into())));
            }
        }
    }

    pub(super) fn dial_late(&mut self, now: Time, job: JobId, out: &mut Vec<LinkEffect>) {
        let Some(Job::Dial(dial)) = self.jobs.get(&job) else { return };
        let limit = self.config.handshake_timeout;
        out.push(LinkEffect::Abort(job));
        if dial.connected || now.since(dial.since) >= limit {
            let (peer, address) = (dial.target.node, dial.target.address);
            let what = unopened(dial.connected);
            let why = format!("{address} did not complete the handshake within {limit:?}");
            self.give_up(now, job, &why, out);
            out.push(LinkEffect::Trouble(peer, what, None));
            return;
        }
        let (since, worker, target) = (dial.since, dial.worker, dial.target);
        self.jobs.remove(&job);
        self.attempt(now, since, worker, target, out);
    }

    fn give_up(&mut self, now: Time, job: JobId, why: &str, out: &mut Vec<LinkEffect>) {
        let Some(Job::Dial(dial)) = self.jobs.remove(&job) else { return };
        self.say(now, LogKind::DialFailed, out, || format!("a link could not be opened: {why}"));
        out.push(LinkEffect::DialFailed { worker: dial.worker, destination: dial.target.id });
    }

    // ---- probes ----

    /// A link to this peer was lost: does it still listen?
    pub fn suspect(&mut self, now: Time, peer: NodeRef, view: &View, out: &mut Vec<LinkEffect>) {
        let member = view.member(peer.node).filter(|member| member.node_ref() == peer);
        if let Some(member) = member {
            self.probe_at(now, peer, member.address, out);
        }
    }

    pub(super) fn probe_at(
        &mut self,
        now: Time,
        peer: NodeRef,
        address: SocketAddr,
        out: &mut Vec<LinkEffect>,
    ) {
        let probed = |job: &Job| matches!(job, Job::Probe(probe) if probe.peer == peer);
        if self.jobs.values().any(probed) {
            return;
        }
        self.look(now, peer, address, 1, out);
        self.arm(out);
    }

    fn look(
        &mut self,
        now: Time,
        peer: NodeRef,
        address: SocketAddr,
        looks: usize,
        out: &mut Vec<LinkEffect>,
    ) {
        let deadline = now.plus(self.config.handshake_timeout);
        let job = self.add(Job::Probe(Probe { peer, address, looks, resting: false, deadline }));
        out.push(LinkEffect::Probe { job, address });
    }

    pub(super) fn probe_event(
        &mut self,
        now: Time,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let Some(Job::Probe(probe)) = self.jobs.get_mut(&job) else { return };
        if probe.resting {
            return; // Somebody listens: how the connection ended does not matter.
        }
        let peer = probe.peer;
        if event == JobEvent::Connected {
            self.answers(now, peer, out);
        }
        let Some(Job::Probe(probe)) = self.jobs.get_mut(&job) else { return };
        match event {
            JobEvent::Connected if probe.looks < PROBE_PAUSES.len() => {
                out.push(LinkEffect::Abort(job));
                probe.resting = true;
                probe.deadline = now.plus(PROBE_PAUSES[probe.looks]);
                self.arm(out);
            }
            JobEvent::Connected => {
                out.push(LinkEffect::Abort(job));
                let peer = probe.peer;
                self.jobs.remove(&job);
                // It does not end, and nobody there completes a handshake.
                if self.closed.contains(&peer) {
                    out.push(LinkEffect::Trouble(peer, PeerTrouble::Mute, None));
                }
            }
            JobEvent::Failed(how, why) => {
                let peer = probe.peer;
                self.jobs.remove(&job);
                match how {
                    Failure::Refused => out.push(LinkEffect::Refused(peer)),
                    Failure::Unmade => {
                        out.push(LinkEffect::Trouble(peer, PeerTrouble::Fails, Some(why.into())));
                    }
                    Failure::Broken | Failure::Handshake(_) => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn probe_late(&mut self, now: Time, job: JobId, out: &mut Vec<LinkEffect>) {
        let Some(Job::Probe(probe)) = self.jobs.remove(&job) else { return };
        if probe.resting {
            self.look(now, probe.peer, probe.address, probe.looks + 1, out);
        } else {
            out.push(LinkEffect::Abort(job));
        }
    }

    // ---- looks ----

    /// Whether somebody listens at the address of a peer that is in trouble, perhaps because it is
    /// known to refuse.
    pub fn look_again(
        &mut self,
        now: Time,
        (peer, refuses): (NodeRef, bool),
        address: SocketAddr,
        out: &mut Vec<LinkEffect>,
    ) {
        if self.jobs.values().any(|job| matches!(job, Job::Look(look) if look.peer == peer)) {
            return;
        }
        let deadline = now.plus(CONNECT.min(self.config.handshake_timeout));
        let job = self.add(Job::Look(Look { peer, refuses, deadline }));
        out.push(LinkEffect::Probe { job, address });
        self.arm(out);
    }

    pub(super) fn look_event(&mut self, job: JobId, event: JobEvent, out: &mut Vec<LinkEffect>) {
        let Some(Job::Look(look)) = self.jobs.remove(&job) else { return };
        match event {
            JobEvent::Connected => {
                out.extend([LinkEffect::Abort(job), LinkEffect::Listens(look.peer)]);
            }
            JobEvent::Failed(Failure::Unmade, why) => {
                out.push(LinkEffect::Trouble(look.peer, PeerTrouble::Fails, Some(why.into())));
            }
            JobEvent::Failed(Failure::Refused, _) if !look.refuses => {
                out.push(LinkEffect::Refused(look.peer));
            }
            _ => {}
        }
    }

    pub(super) fn look_late(&mut self, job: JobId, out: &mut Vec<LinkEffect>) {
        self.jobs.remove(&job);
        out.push(LinkEffect::Abort(job));
    }
}

/// Whether a handshake may fail so at any peer that comes or goes, or has much to do, or is of a build
/// that knows no channels: its links are as good as any.
fn passes(error: &HandshakeError) -> bool {
    match error {
        HandshakeError::Busy
        | HandshakeError::ShuttingDown
        | HandshakeError::UnknownPurpose { .. } => true,
        HandshakeError::WrongNode { wanted, found } => wanted.node == found.node,
        _ => false,
    }
}

/// What is wrong with a peer that runs and to which no link was opened in time.
pub(super) fn unopened(connected: bool) -> PeerTrouble {
    if connected { PeerTrouble::Mute } else { PeerTrouble::Vanish }
}
