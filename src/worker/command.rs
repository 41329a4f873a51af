//! What control and a worker say to each other. `C` is a connection that has shaken hands, as its
//! driver holds it.

use std::sync::Arc;
use std::time::Duration;

use super::RouteeFactory;
use crate::base::fate::DeathReason;
use crate::base::{HandlerId, NodeRef, WorkerIndex};
use crate::part::{ControlReport, Facts, WorkerOrder};
use crate::route::snapshot::Snapshot;
use crate::wire::handshake::Established;

/// From control to a worker.
pub enum Command<C> {
    /// The cluster or a router changed.
    Apply(Arc<Snapshot>),
    /// Run a routee of this path.
    Serve(HandlerId, RouteeFactory),
    /// End the routee of this path, and say so, whether or not there is one.
    Withdraw(HandlerId),
    /// A peer's connection for this worker has shaken hands.
    Accepted(C, Established),
    /// The connection that was asked for.
    Dialed(u32, C),
    /// The connection that was asked for could not be made.
    DialFailed(u32),
    /// What parts published.
    Facts(Facts),
    /// For a part's half on this worker.
    Part(WorkerOrder),
    /// Say whether everything is drained.
    AskDrained,
    /// Tell peers that nothing more will come.
    Finish,
    /// Stop.
    Stop,
}

/// From a worker to control.
#[derive(Debug)]
pub enum Report {
    /// Open a connection.
    Dial {
        /// Who asks.
        worker: WorkerIndex,
        /// Which destination of the snapshot.
        destination: u32,
    },
    /// A link to this peer was lost.
    Suspect(NodeRef),
    /// A link to this peer was opened.
    Reached(NodeRef),
    /// A worker runs this handler now.
    Served(WorkerIndex, HandlerId),
    /// The user's function for this handler panicked on a worker.
    ServeFailed(HandlerId),
    /// A worker does not run this handler any more.
    Withdrawn(WorkerIndex, HandlerId),
    /// The answer to [`Command::AskDrained`].
    Drained(WorkerIndex, bool),
    /// A part's half on a worker has something to say.
    Part(WorkerIndex, ControlReport),
    /// Messages died on a worker.
    DeadLetters(DeadLetter),
    /// A handler held its worker for too long.
    SlowTurn(SlowTurn),
    /// A worker has stopped.
    Ended(WorkerIndex),
}

/// Messages that could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: DeathReason,
    /// How many.
    pub count: u64,
    /// The node they were going to, or had come from.
    pub peer: Option<NodeRef>,
    /// The worker that counted them.
    pub worker: WorkerIndex,
}

/// A worker's turn took longer than it may; told once of a handler and type of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowTurn {
    /// Which worker.
    pub worker: WorkerIndex,
    /// The handler's path.
    pub path: Arc<str>,
    /// The name of the message's type; `None` when the routee was woken or got a reply.
    pub message: Option<Arc<str>>,
    /// How long that took, the messages before it included.
    pub took: Duration,
    /// How many messages were handled in this time; the named one was the last of them.
    pub messages: u32,
}
