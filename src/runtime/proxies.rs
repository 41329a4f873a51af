//! What threads say to each other, by name.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::fate::DeathReason;
use crate::base::{HandlerId, NodeId, NodeRef, Path, PathError, WorkerIndex};
use crate::member::MemberError;
use crate::part::{ControlOrder, ControlReport, Facts, WorkerOrder};
use crate::route::RouterSpec;
use crate::route::snapshot::Snapshot;
use crate::wire::handshake::Established;
use crate::worker::{LinkId, RouteeFactory};

/// From control to a worker.
pub enum Command {
    /// The cluster or a router changed.
    Apply(Arc<Snapshot>),
    /// Run a routee of this path.
    Serve(HandlerId, RouteeFactory),
    /// A peer's connection for this worker has shaken hands.
    Accepted(std::net::TcpStream, Established),
    /// The connection that was asked for.
    Dialed(u32, std::net::TcpStream),
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
    /// Stop the thread.
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
        /// The link it is for.
        link: LinkId,
    },
    /// A link to this peer was lost.
    Suspect(NodeRef),
    /// A link to this peer was opened.
    Reached(NodeRef),
    /// A worker runs this handler now.
    Served(WorkerIndex, HandlerId),
    /// The user's function for this handler panicked on a worker.
    ServeFailed(HandlerId),
    /// The answer to [`Command::AskDrained`].
    Drained(WorkerIndex, bool),
    /// A part's half on a worker has something to say.
    Part(WorkerIndex, ControlReport),
    /// Messages died on a worker.
    DeadLetters(DeadLetter),
    /// A worker's thread has ended.
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

/// From a face to control.
pub enum Order {
    /// Serve a path on all workers; answered when the workers run it and the cluster is told.
    Serve(Path, RouteeFactory, oneshot::Sender<Result<HandlerId, OrderError>>),
    /// Add a router; answered with its id when workers have it.
    Route(RouterSpec, oneshot::Sender<Result<u32, OrderError>>),
    /// Leave gracefully; answered when nothing is left to do, true if all was drained in time.
    Leave(oneshot::Sender<bool>),
    /// Remove a member that will not come back.
    Down(NodeId, oneshot::Sender<Result<(), OrderError>>),
    /// For a part's half in control.
    Part(ControlOrder),
    /// Stop at once.
    Stop,
}

/// Why control did not do what a face asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The path is served on this node already.
    #[error("cannot serve {path}: this node serves that path already")]
    PathTaken {
        /// Which path.
        path: Path,
    },
    /// Two message types of a routee cannot be told apart.
    #[error(
        "cannot serve {path}: two message types of its routee have the names {name:?} and \
         {other:?}, which stand for the same on the wire; give each type a name of its own, such \
         as {name:?} and \"{name}.v2\""
    )]
    SameMessage {
        /// Which path.
        path: Path,
        /// The name of the one type.
        name: Arc<str>,
        /// The name of the other: usually the same.
        other: Arc<str>,
    },
    /// A path must look like `/user/carts`.
    #[error(transparent)]
    BadPath(#[from] PathError),
    /// The user's function that makes the routee panicked.
    #[error("cannot serve a path: the function that makes its routee panicked")]
    FactoryPanicked,
    /// The router's options do not fit.
    #[error(transparent)]
    Spec(#[from] crate::route::SpecError),
    /// Membership would not have it.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The node is leaving or has stopped.
    #[error("the node has stopped")]
    Stopped,
}
