//! What threads say to each other, by name.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::debug_as_display;
use crate::base::{HandlerId, NodeId, Path, PathError, Placement, PlacementError};
use crate::member::MemberError;
use crate::part::ControlOrder;
use crate::route::RouterSpec;
use crate::worker::RouteeFactory;

pub use crate::control::letters::DeadLetter;
pub use crate::worker::Report;

/// From control to a worker.
pub type Command = crate::worker::Command<std::net::TcpStream>;

/// From a face to control.
pub enum Order {
    /// Serve a path on the workers of a placement; answered when they run it and the cluster is
    /// told.
    Serve(Path, Placement, RouteeFactory, oneshot::Sender<Result<HandlerId, OrderError>>),
    /// Withdraw a path; answered when no worker runs it any more.
    Unserve(Path, oneshot::Sender<Result<(), OrderError>>),
    /// Add a router; answered with its id when workers have it.
    Route(RouterSpec, oneshot::Sender<Result<u32, OrderError>>),
    /// Leave gracefully; answered when nothing is left to do, true if all was drained and told in time.
    Leave(oneshot::Sender<bool>),
    /// Remove a member that will not come back.
    Down(NodeId, oneshot::Sender<Result<(), OrderError>>),
    /// For a part's half in control.
    Part(ControlOrder),
    /// Stop at once.
    Stop,
}

/// Why control did not do what a face asked for.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The path is served on this node already.
    #[error(
        "cannot serve {path}: this node serves that path already, or has not withdrawn it yet; \
         `unserve` returns when it has"
    )]
    PathTaken {
        /// Which path.
        path: Path,
    },
    /// The node is leaving its cluster: the others send nothing new to it.
    #[error(
        "cannot serve {path}: this node is leaving its cluster, and the others send nothing new to \
         it; serve the path on another node"
    )]
    Leaving {
        /// Which path.
        path: Path,
    },
    /// The path is not served on this node.
    #[error("cannot withdraw {path}: this node does not serve that path")]
    NotServed {
        /// Which path.
        path: Path,
    },
    /// A node serves no more paths than this at a time.
    #[error("cannot serve {path}: this node serves {most} paths, as many as it can; withdraw some")]
    TooManyPaths {
        /// Which path.
        path: Path,
        /// How many there can be.
        most: usize,
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
    /// The node cannot follow the placement.
    #[error("cannot serve {path}: {why}")]
    BadPlacement {
        /// Which path.
        path: Path,
        /// What is wrong with it.
        why: PlacementError,
    },
    /// The user's function that makes the routee panicked, or the routee's own `started`.
    #[error(
        "cannot serve {path}: the function that makes its routee panicked, or the routee did as it \
         was started, on one worker at least; the path is free again"
    )]
    FactoryPanicked {
        /// Which path.
        path: Path,
    },
    /// The router's options do not fit.
    #[error(transparent)]
    Spec(#[from] crate::route::SpecError),
    /// Membership would not have it.
    #[error(transparent)]
    Member(#[from] MemberError),
}

debug_as_display!(OrderError);
