//! What control and a worker say to each other. `C` is a connection that has shaken hands, as its
//! driver holds it.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::dead::Dead;
use super::handler::RouteeFactory;
use super::link::Lower;
use super::panics::Panicked;
use crate::base::{DestinationId, HandlerId, NodeRef, Time, WorkerIndex};
use crate::part::{ControlReport, Facts, WorkerOrder};
use crate::queue::{Full, Latest};
use crate::route::snapshot::Snapshot;
use crate::wire::handshake::Established;

/// From control to a worker.
pub enum Command<C> {
    /// The cluster or a router changed.
    Apply(Arc<Snapshot>),
    /// The same, in the worker's ring: what is in this place. A worker that is held up is told once,
    /// and finds the latest.
    NewSnapshot(Latest<Arc<Snapshot>>),
    /// Run a routee of this path.
    Serve(HandlerId, RouteeFactory),
    /// End the routee of this path, and say so, whether or not there is one.
    Withdraw(HandlerId),
    /// A peer's connection for this worker has shaken hands.
    Accepted(C, Established),
    /// The connection that was asked for, and the longest frame that its peer takes, if it said so.
    Dialed(DestinationId, C, Option<NonZeroU32>),
    /// The connection that was asked for could not be made.
    DialFailed(DestinationId),
    /// What parts published.
    Facts(Facts),
    /// The same, in the worker's ring, as with snapshots.
    NewFacts(Latest<Facts>),
    /// For a part's half on this worker.
    Part(WorkerOrder),
    /// Say whether everything is drained, with the number of this question.
    AskDrained(u64),
    /// Tell peers that nothing more will come.
    Finish,
    /// Stop.
    Stop,
}

impl<C> Command<C> {
    /// The same; a snapshot that waits in its place is taken out of there.
    pub fn found(self) -> Self {
        match self {
            Self::NewSnapshot(latest) => match latest.take() {
                Some(snapshot) => Self::Apply(snapshot),
                None => Self::NewSnapshot(latest),
            },
            other => other,
        }
    }

    /// The same with the connection that `take` finds; nothing if there is none.
    pub fn with<D>(self, take: impl FnOnce(C) -> Option<D>) -> Option<Command<D>> {
        Some(match self {
            Self::Apply(snapshot) => Command::Apply(snapshot),
            Self::NewSnapshot(latest) => Command::NewSnapshot(latest),
            Self::NewFacts(latest) => Command::NewFacts(latest),
            Self::Serve(handler, factory) => Command::Serve(handler, factory),
            Self::Withdraw(handler) => Command::Withdraw(handler),
            Self::Accepted(connection, established) => {
                Command::Accepted(take(connection)?, established)
            }
            Self::Dialed(destination, connection, takes) => {
                Command::Dialed(destination, take(connection)?, takes)
            }
            Self::DialFailed(destination) => Command::DialFailed(destination),
            Self::Facts(facts) => Command::Facts(facts),
            Self::Part(order) => Command::Part(order),
            Self::AskDrained(round) => Command::AskDrained(round),
            Self::Finish => Command::Finish,
            Self::Stop => Command::Stop,
        })
    }
}

/// How long commands rest that a worker's ring did not take.
pub const RING_PAUSE: Duration = Duration::from_millis(1);

/// Connections of others that may wait when a worker's ring takes no more.
pub const MOST_WAITING: usize = 64;

/// Commands that a worker's ring did not take yet: they are few, and none may be lost. What others
/// can cause is bounded: see [`Waiting::is_crowded`].
pub struct Waiting<C> {
    commands: VecDeque<Command<C>>,
    accepted: usize,
    /// Of which the ring has told the worker already.
    snapshot: Latest<Arc<Snapshot>>,
    facts: Latest<Facts>,
}

impl<C> Default for Waiting<C> {
    fn default() -> Self {
        let (snapshot, facts) = Default::default();
        Self { commands: VecDeque::new(), accepted: 0, snapshot, facts }
    }
}

impl<C> Waiting<C> {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether as many connections of others wait as may: the next one is to be closed instead.
    pub fn is_crowded(&self) -> bool {
        self.accepted >= MOST_WAITING
    }

    /// Adds one at the end. A newer snapshot, and newer facts, replace those that still wait.
    pub fn push(&mut self, command: Command<C>) {
        let mut last = self.commands.iter_mut().rev();
        match (&command, last.next(), last.next()) {
            (Command::Apply(_), Some(known @ Command::Apply(_)), _)
            | (Command::Apply(_), Some(Command::Facts(_)), Some(known @ Command::Apply(_)))
            | (Command::Facts(_), Some(known @ Command::Facts(_)), _) => *known = command,
            _ => {
                self.accepted += usize::from(matches!(command, Command::Accepted(..)));
                self.commands.push_back(command);
            }
        }
    }

    /// Hands over what the ring takes. Of snapshots and facts it holds one each: a newer one takes
    /// the place of what the worker has not looked at yet.
    pub fn pump(&mut self, mut push: impl FnMut(Command<C>) -> Result<(), Full<Command<C>>>) {
        while let Some(command) = self.commands.pop_front() {
            let accepted = usize::from(matches!(command, Command::Accepted(..)));
            let pushed = match command {
                Command::Apply(snapshot) => tell(&self.snapshot, snapshot, |latest| {
                    push(Command::NewSnapshot(latest)).is_ok()
                })
                .map_err(Command::Apply),
                Command::Facts(facts) => {
                    tell(&self.facts, facts, |latest| push(Command::NewFacts(latest)).is_ok())
                        .map_err(Command::Facts)
                }
                command => push(command).map_err(|full| full.0),
            };
            if let Err(command) = pushed {
                self.commands.push_front(command);
                return;
            }
            self.accepted -= accepted;
        }
    }
}

/// Puts a newer one there, and has the worker told if it does not know that there is one. Gives it
/// back when the worker cannot be told.
fn tell<T>(latest: &Latest<T>, newer: T, push: impl FnOnce(Latest<T>) -> bool) -> Result<(), T> {
    if latest.put(newer) && !push(latest.clone()) {
        return latest.take().map_or(Ok(()), Err);
    }
    Ok(())
}

/// From a worker to control.
#[derive(Debug)]
pub enum Report {
    /// Open a connection.
    Dial {
        /// Who asks.
        worker: WorkerIndex,
        /// Which destination of the snapshot.
        destination: DestinationId,
    },
    /// A link to this peer was lost.
    Suspect(NodeRef),
    /// A link to this peer, opened then, is about to be lost: what was sent on it vanishes.
    Vanished(NodeRef, Time),
    /// A link to this peer was opened.
    Reached(NodeRef),
    /// So many connections that others opened found no place on a worker; the last one was of this
    /// peer's worker.
    NoPlace(WorkerIndex, (NodeRef, WorkerIndex), u64),
    /// This peer closes links at once, again and again.
    InVain(NodeRef),
    /// Of two connections of a peer's worker for this one that with the lower link epoch was closed,
    /// or has taken the place of the other.
    Overtaken(WorkerIndex, (NodeRef, WorkerIndex), Lower),
    /// This worker has heard nothing from a peer's worker for so long, and so many messages wait to
    /// be acknowledged.
    Untaken(WorkerIndex, (NodeRef, WorkerIndex), Duration, u64),
    /// A worker runs this handler now.
    Served(WorkerIndex, HandlerId),
    /// The user's function for this handler panicked on a worker.
    ServeFailed(HandlerId),
    /// A worker does not run this handler any more.
    Withdrawn(WorkerIndex, HandlerId),
    /// The answer to [`Command::AskDrained`].
    Drained(WorkerIndex, Drained),
    /// A part's half on a worker has something to say.
    Part(WorkerIndex, ControlReport),
    /// Messages died on a worker.
    DeadLetters(Dead),
    /// Code of the user's panicked on a worker.
    Panicked(Panicked),
    /// A handler held its worker for too long.
    SlowTurn(SlowTurn),
    /// A worker has stopped.
    Ended(WorkerIndex),
    /// A worker's thread has panicked, or the system's poll failed it: it is no more.
    Lost(WorkerIndex),
}

/// Whether a worker is drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// To which question.
    pub round: u64,
    /// How many messages it has handled since it runs: whoever has handled one may have sent others,
    /// which another worker has not seen.
    pub handled: u64,
    /// What is left to do, if anything.
    pub undrained: Option<Box<Undrained>>,
}

/// Peers that keep a worker from being drained and are named.
const MOST_PEERS: usize = 8;

/// What keeps a worker from being drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undrained {
    /// What waits within the node: hand-overs, messages between its workers, news for routees.
    pub waiting: usize,
    /// Asks that have not ended.
    pub asks: usize,
    /// Pieces of work under way elsewhere.
    pub work: usize,
    /// Whether somebody may still reply later.
    pub owes_replies: bool,
    /// Some of the peers that asks wait for, that have not acknowledged or taken what is for them, or
    /// that have not said yet that they send no more.
    pub peers: BTreeSet<NodeRef>,
}

impl Undrained {
    /// Adds what keeps another worker.
    pub fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.asks += other.asks;
        self.work += other.work;
        self.owes_replies |= other.owes_replies;
        for peer in &other.peers {
            self.name(*peer);
        }
    }

    pub(super) fn name(&mut self, peer: NodeRef) {
        if self.peers.len() < MOST_PEERS {
            self.peers.insert(peer);
        }
    }
}

/// A worker's turn took longer than it may; told once of a handler and type of message. The clock is
/// not looked at between quick messages: of several calls the last is named, and any may have held it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowTurn {
    /// Which worker.
    pub worker: WorkerIndex,
    /// The handler's path.
    pub path: Arc<str>,
    /// The name of the message's type; `None` when the routee was woken or got a reply.
    pub message: Option<Arc<str>>,
    /// What the routee was called for instead, as "started".
    pub hook: Option<&'static str>,
    /// How long that took, the calls before it included.
    pub took: Duration,
    /// How many messages were handled in this time.
    pub messages: u32,
    /// How often a routee was called for something else in this time.
    pub hooks: u32,
    /// How many of these calls panicked. What writes a panic down, with a backtrace, takes long too.
    pub panics: u32,
}

impl SlowTurn {
    /// Whether no message was handled, and nothing panicked.
    pub fn handled_nothing(&self) -> bool {
        self.messages == 0 && self.panics == 0
    }

    /// Whether nothing but what is named was called.
    pub fn is_certain(&self) -> bool {
        self.messages + self.hooks == 1 && self.panics == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, Member, NodeId, View};
    use crate::wire::handshake::Purpose;

    #[test]
    fn what_waits_is_replaced_by_newer_of_its_kind_and_nothing_else_is_lost() {
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let view = Arc::new(View::new(me, 0, Vec::<Member>::new()));
        let apply = |version| {
            let mut snapshot = Snapshot::empty(Arc::clone(&view));
            snapshot.version = version;
            Command::Apply(Arc::new(snapshot))
        };
        let mut waiting = Waiting::<()>::default();
        for command in [
            apply(1),
            apply(2),
            Command::Facts(Facts::default()),
            apply(3),
            Command::Finish,
            apply(4),
            Command::Stop,
        ] {
            waiting.push(command);
        }
        let mut seen = Vec::new();
        let mut room = 0;
        while !waiting.is_empty() {
            room += 2; // The ring takes two at a time.
            waiting.pump(|command| {
                if seen.len() == room {
                    return Err(Full(command));
                }
                seen.push(match command {
                    Command::NewSnapshot(latest) => latest.take().unwrap().version,
                    Command::NewFacts(latest) => latest.take().map_or(0, |_| 100),
                    Command::Finish => 101,
                    Command::Stop => 102,
                    _ => 103,
                });
                Ok(())
            });
        }
        assert_eq!(seen, [3, 100, 101, 4, 102]);
    }

    /// A view of a thousand members takes megabytes, and there is a new one for each flip.
    #[test]
    fn a_worker_that_takes_nothing_for_long_holds_one_snapshot() {
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let view = Arc::new(View::new(me, 0, Vec::<Member>::new()));
        let snapshots: Vec<_> =
            (0..900).map(|_| Arc::new(Snapshot::empty(Arc::clone(&view)))).collect();
        let mut waiting = Waiting::<()>::default();
        let mut ring = Vec::new();
        for snapshot in &snapshots {
            waiting.push(Command::Apply(Arc::clone(snapshot)));
            waiting.push(Command::Facts(Facts::default()));
            waiting.push(Command::AskDrained(1));
            waiting.pump(|command| {
                ring.push(command);
                Ok(())
            });
        }
        let held = snapshots.iter().map(|snapshot| Arc::strong_count(snapshot) - 1).sum::<usize>();
        assert_eq!((held, ring.len()), (1, 902));
        let mut latest = ring.iter().filter_map(|command| match command {
            Command::NewSnapshot(latest) => latest.take(),
            _ => None,
        });
        assert!(Arc::ptr_eq(&latest.next().unwrap(), snapshots.last().unwrap()));
        assert!(latest.next().is_none());
    }

    #[test]
    fn connections_that_wait_are_counted_until_the_ring_takes_them() {
        let peer = NodeRef { node: NodeId(2), incarnation: Incarnation(1) };
        let established = Established {
            purpose: Purpose::Workers,
            peer,
            peer_worker: WorkerIndex(0),
            my_worker: WorkerIndex(0),
            wire_version: 2,
            link_epoch: 1,
            authenticated: true,
            takes: None,
        };
        let mut waiting = Waiting::default();
        for _ in 0..MOST_WAITING {
            assert!(!waiting.is_crowded());
            waiting.push(Command::Accepted((), established));
            waiting.push(Command::AskDrained(1));
        }
        waiting.pump(|command| Err(Full(command)));
        assert!(waiting.is_crowded(), "the ring took nothing");
        let mut room = 1;
        waiting.pump(|command| {
            let full = room == 0;
            room = 0;
            if full { Err(Full(command)) } else { Ok(()) }
        });
        assert!(!waiting.is_crowded(), "it took one");
    }
}
