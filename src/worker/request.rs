//! What a worker wants done by whoever drives it.

use super::dead::Dead;
use super::link::{LinkId, Lower};
use super::panics::Panicked;
use crate::base::{DestinationId, HandlerId, NodeRef, Time, WorkerIndex};
use crate::part::ControlReport;

/// What a worker wants its driver to do.
#[derive(Debug)]
pub enum Request {
    /// Open a connection to a destination of the snapshot, then call
    /// [`Worker::link_opened`](super::Worker::link_opened) or
    /// [`Worker::dial_failed`](super::Worker::dial_failed).
    Dial {
        /// Which destination.
        destination: DestinationId,
        /// The link it is for.
        link: LinkId,
    },
    /// Write nothing more to this link's socket, read and handle what has come there, then close it and
    /// call [`Worker::link_lost`](super::Worker::link_lost).
    ReadOut(LinkId),
    /// Close this link's socket; the worker has forgotten the link or will forget its connection.
    Close(LinkId),
    /// A link to this peer was lost. Look whether the peer still listens.
    Suspect(NodeRef),
    /// A link to this peer is about to be lost, since what was sent on it vanishes. It was opened then.
    Vanished(NodeRef, Time),
    /// A link to this peer was opened.
    Reached(NodeRef),
    /// A connection of this peer's worker found no place: `links.max_accepted` is full.
    NoPlace(NodeRef, WorkerIndex),
    /// This peer closes links at once, again and again.
    InVain(NodeRef),
    /// Of two connections of this peer's worker the one with the lower link epoch was closed, or has
    /// taken the place of the other.
    Overtaken(NodeRef, WorkerIndex, Lower),
    /// This handler's routee runs here now.
    Served(HandlerId),
    /// This handler's routee could not be made: the user's function panicked, or it did as it was
    /// started.
    ServeFailed(HandlerId),
    /// This handler's routee does not run here any more.
    Withdrawn(HandlerId),
    /// A part's half here tells its half in control.
    Part(ControlReport),
    /// Messages died.
    DeadLetters(Dead),
    /// Code of the user's panicked.
    Panicked(Panicked),
}
