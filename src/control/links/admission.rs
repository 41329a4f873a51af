//! Connections from others. Nobody is known before the handshake is done, so places are given by
//! what can be seen: where a connection comes from, and how far it has got.
//!
//! A peer says its whole first message as soon as it is connected. Whoever is silent, or says it
//! byte by byte, gives way as soon as a place is needed, the oldest first; so that any number of
//! such strangers cost a peer nothing. Whoever has said it in order gets time for the rest.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Job, JobEvent, JobId, LinkEffect, Links};
use crate::base::{LogKind, NodeRef, Time, WorkerIndex};
use crate::wire::handshake::{Established, HandshakeError, NoPlace, Purpose};
use crate::worker::Lower;

/// How long a stranger may be silent.
const FIRST_BYTES: Duration = Duration::from_millis(500);

/// How long a stranger's handshake may take.
const WHOLE: Duration = Duration::from_secs(2);

/// How long nobody who said its first message in order has to give way: it waits for this node's
/// answer.
const ANSWER: Duration = Duration::from_millis(250);

/// How long is read on from who was refused, until it closes: its refusal is on its way.
const READ_ON: Duration = Duration::from_millis(250);

/// For how long it counts that a worker had no place for a link. Longer than the pause between two
/// dials grows by default, so that a dialer hears it at every other dial at least.
const NO_PLACE_LASTS: Duration = Duration::from_secs(6);
/// Links without a place that are kept in mind.
const MOST_WITHOUT_PLACE: usize = 256;

/// Which part of all places one address that is no member's may hold, and which part is kept for
/// members' addresses: a quarter.
const SHARE: usize = 4;

/// Whom an address belongs to: in IPv6, a whole network of 64 bits is one machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = u128::from(address) >> 64 << 64;
                Self(IpAddr::V6(network.into()))
            }
            address => Self(address),
        }
    }
}

/// How far a stranger has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It was refused, and has its place only until another needs it.
    Refused,
    Silent,
    /// Some bytes have come.
    Began,
    /// Its first message was in order.
    Asked,
}

pub(super) struct Incoming {
    from: SocketAddr,
    source: Source,
    /// Whether a member has this address.
    known: bool,
    since: Time,
    stage: Stage,
    pub deadline: Time,
}

impl Links {
    /// A connection came in.
    pub fn incoming(&mut self, now: Time, from: SocketAddr, out: &mut Vec<LinkEffect>) {
        self.forget_no_place(now);
        let source = Source::of(from.ip());
        let known = self.is_known(from.ip());
        match self.place(now, source, known) {
            Place::Free => {}
            Place::Of(victim) => {
                let gone = self.jobs.remove(&victim);
                let refused =
                    matches!(gone, Some(Job::Incoming(Incoming { stage: Stage::Refused, .. })));
                self.counts.turned_away += u64::from(!refused);
                out.push(LinkEffect::Abort(victim));
            }
            Place::None => {
                self.counts.turned_away += 1;
                self.say(now, LogKind::StrangerConnection, out, || {
                    format!("a connection from {from} was turned away: too many are unfinished")
                });
                out.push(LinkEffect::TurnAway);
                return;
            }
        }
        let deadline = now.plus(FIRST_BYTES.min(self.config.handshake_timeout));
        let stage = Stage::Silent;
        let job = Job::Incoming(Incoming { from, source, known, since: now, stage, deadline });
        let job = self.add(job);
        out.push(LinkEffect::Accept(job));
        self.arm(out);
    }

    fn place(&self, now: Time, source: Source, known: bool) -> Place {
        let all = self.config.max_pending_handshakes;
        let reserved = all / SHARE;
        let per_source = reserved.max(1);
        let count = |which: &dyn Fn(&Incoming) -> bool| {
            self.incomings().filter(|(_, incoming)| which(incoming)).count()
        };
        if !known && count(&|other| other.source == source) >= per_source {
            return self.victim(now, |other| other.source == source);
        }
        if !known && count(&|other| !other.known) >= all - reserved {
            return self.victim(now, |other| !other.known);
        }
        if count(&|_| true) >= all {
            // A member's address first takes the places of those that are none.
            return match self.victim(now, |other| !other.known) {
                Place::None => self.victim(now, |_| true),
                place => place,
            };
        }
        Place::Free
    }

    /// Who of these has to give way: who has got least far, of those the oldest.
    fn victim(&self, now: Time, which: impl Fn(&Incoming) -> bool) -> Place {
        let candidates = self.incomings().filter(|(_, other)| which(other));
        let first = candidates.min_by_key(|(job, other)| (other.stage, other.since, *job));
        match first {
            Some((_, other)) if other.stage == Stage::Asked && now.since(other.since) < ANSWER => {
                Place::None
            }
            Some((job, _)) => Place::Of(job),
            None => Place::None,
        }
    }

    fn incomings(&self) -> impl Iterator<Item = (JobId, &Incoming)> {
        self.jobs.iter().filter_map(|(job, what)| match what {
            Job::Incoming(incoming) => Some((*job, incoming)),
            _ => None,
        })
    }

    pub(super) fn incoming_event(
        &mut self,
        now: Time,
        job: JobId,
        event: JobEvent,
        out: &mut Vec<LinkEffect>,
    ) {
        let whole = WHOLE.min(self.config.handshake_timeout);
        let Some(Job::Incoming(incoming)) = self.jobs.get_mut(&job) else { return };
        match event {
            JobEvent::Began => {
                incoming.stage = incoming.stage.max(Stage::Began);
                incoming.deadline = incoming.since.plus(whole);
            }
            JobEvent::Asked => {
                incoming.stage = Stage::Asked;
                incoming.deadline = incoming.since.plus(whole);
            }
            JobEvent::Accepted(established) => {
                self.jobs.remove(&job);
                self.counts.accepted += 1;
                match established.purpose {
                    Purpose::Workers => out.push(LinkEffect::HandAccepted { job, established }),
                    Purpose::Control => self.hear(now, job, &established, out),
                }
                if self.unreachable.contains(&established.peer) {
                    out.push(LinkEffect::Reached(established.peer));
                }
            }
            JobEvent::Refused(error, why) => {
                (incoming.stage, incoming.deadline) = (Stage::Refused, now.plus(READ_ON));
                let from = incoming.from;
                if !is_greeting(&error) {
                    self.count_refused(now, from, &why, out);
                }
                self.arm(out);
            }
            JobEvent::Failed(..) if incoming.stage == Stage::Refused => {
                self.jobs.remove(&job);
            }
            // A member looks so whether this node listens, when it has lost a link.
            JobEvent::Failed(..) if incoming.known && incoming.stage == Stage::Silent => {
                self.counts.looked += 1;
                self.jobs.remove(&job);
            }
            JobEvent::Failed(_, why) => self.let_out(now, job, &why, out),
            JobEvent::Connected | JobEvent::Dialed(_) | JobEvent::Bytes(_) => {}
        }
    }

    /// The worker that it is for is held up, and as many wait for it as may.
    pub(super) fn not_taken(
        &mut self,
        now: Time,
        job: JobId,
        established: &Established,
        out: &mut Vec<LinkEffect>,
    ) {
        self.counts.accepted -= 1;
        self.counts.turned_away += 1;
        out.push(LinkEffect::Abort(job));
        let (peer, worker) = (self.name(established.peer.node), established.my_worker);
        self.say(now, LogKind::StrangerConnection, out, || {
            format!(
                "a connection from {peer} was turned away: worker {worker} is held up by a \
                 handler, and too many connections wait for it"
            )
        });
    }

    /// Connections that were let in found no place on their worker, which has closed them. Who dials
    /// again for the same is told so by name for a while; the first after that tries again.
    pub fn no_place(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        (peer, of): (NodeRef, WorkerIndex),
        count: u64,
        out: &mut Vec<LinkEffect>,
    ) {
        // What is over makes room.
        self.forget_no_place(now);
        if self.no_place.len() < MOST_WITHOUT_PLACE {
            self.no_place.insert((peer, of, worker), now.plus(NO_PLACE_LASTS));
        }
        self.forget_no_place(now);
        // They were counted as accepted, and shown so: what is exported as a counter never falls.
        self.counts.turned_away += count;
        let peer = self.name(peer.node);
        self.say(now, LogKind::NoPlace, out, || {
            format!(
                "a connection from {peer} was closed: worker {worker} has no place for more links \
                 of others; raise links.max_accepted, or have fewer nodes or workers dial it"
            )
        });
    }

    /// Of two connections of a peer's worker that with the lower link epoch was closed, or has taken
    /// the place of the other.
    pub fn overtaken(
        &mut self,
        now: Time,
        (peer, of): (NodeRef, WorkerIndex),
        to: &str,
        lower: Lower,
        out: &mut Vec<LinkEffect>,
    ) {
        let peer = self.name(peer.node);
        let what = match lower {
            Lower::Closed => "was closed, since one with a higher link epoch has just been opened",
            Lower::Taken => "takes the place of one that had a higher link epoch",
        };
        self.say(now, LogKind::Overtaken, out, || {
            format!(
                "a connection from worker {of} of {peer} to {to} {what}: if that happens again and \
                 again, somebody else opens links in its name, which a secret prevents"
            )
        });
    }

    /// The longest frame that this node takes.
    pub fn takes(&self) -> u32 {
        self.config.max_frame_bytes
    }

    /// Who is told by name that there is no place for it.
    pub fn without_place(&self) -> Arc<BTreeSet<NoPlace>> {
        Arc::clone(&self.without_place)
    }

    pub(super) fn forget_no_place(&mut self, now: Time) {
        self.no_place.retain(|_, until| now < *until);
        if !self.no_place.keys().eq(&*self.without_place) {
            self.without_place = Arc::new(self.no_place.keys().copied().collect());
        }
    }

    pub(super) fn incoming_late(&mut self, now: Time, job: JobId, out: &mut Vec<LinkEffect>) {
        let Some(Job::Incoming(incoming)) = self.jobs.get(&job) else { return };
        let limit = self.config.handshake_timeout;
        let why = match incoming.stage {
            Stage::Refused => {
                self.jobs.remove(&job);
                return out.push(LinkEffect::Abort(job));
            }
            Stage::Silent => format!("nothing was said for {:?}", FIRST_BYTES.min(limit)),
            _ => format!("the handshake was not completed within {:?}", WHOLE.min(limit)),
        };
        out.push(LinkEffect::Abort(job));
        self.let_out(now, job, &why, out);
    }

    fn let_out(&mut self, now: Time, job: JobId, why: &str, out: &mut Vec<LinkEffect>) {
        let Some(Job::Incoming(incoming)) = self.jobs.remove(&job) else { return };
        self.count_refused(now, incoming.from, why, out);
    }

    fn count_refused(&mut self, now: Time, from: SocketAddr, why: &str, out: &mut Vec<LinkEffect>) {
        self.counts.refused += 1;
        self.say(now, LogKind::StrangerConnection, out, || {
            format!("a connection from {from} was not let in: {why}")
        });
    }
}

/// Whether it asked for nothing but a refusal: a greeting has its answer then.
fn is_greeting(error: &HandshakeError) -> bool {
    matches!(error, HandshakeError::NoSuchWorker { wanted, .. } if *wanted == WorkerIndex::NONE)
}

enum Place {
    Free,
    Of(JobId),
    None,
}
