//! The handshake that opens a TCP connection: a link between one worker here and one worker there,
//! or a channel from control to control. Nothing else is parsed on a connection before it is done.
//! `docs/PROTOCOL.md` has the byte layouts.
//!
//! ```text
//! dialer                                        acceptor
//!   Hello    who I am, whom I want, nonce   ->
//!                                           <-  Welcome  who I am, version, nonce
//!   Proof    HMAC over all bytes so far     ->
//!                                           <-  Ready    HMAC over all bytes so far
//! ```
//!
//! The acceptor may send `Refusal` in place of `Welcome` or `Ready`. The dialer proves first: a
//! listening port is open to everyone, and whoever only knocks on it must not be given a MAC to try
//! secrets against. Each proof covers the hash of every byte that either side has sent before it, so
//! that a changed byte anywhere fails the link, and carries its maker's role, so that it is of no use
//! when sent back.
//!
//! [`Dialer`] and [`Acceptor`] share one grammar. The driver reads exactly `expects()` bytes and
//! hands them to `receive`; when the peer closes early it hands in the bytes it has, and the error
//! says what was cut short. `expects()` never reaches into the frames that follow the handshake.
//!
//! ```
//! use keyway::base::{Incarnation, NodeId, NodeRef, WorkerIndex};
//! use keyway::wire::handshake::{
//!     AcceptParams, AcceptStep, Acceptor, DialParams, DialStep, Dialer, Purpose,
//! };
//! use keyway::wire::{ClusterKey, VersionRange};
//!
//! let key = ClusterKey::new("shop", Some(b"sixteen bytes ok")).unwrap();
//! let node = |name| NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(1) };
//! let (mut dialer, hello) = Dialer::new(
//!     DialParams {
//!         key: key.clone(),
//!         me: node("a"),
//!         purpose: Purpose::Workers,
//!         from_worker: WorkerIndex(0),
//!         to: node("b"),
//!         to_worker: WorkerIndex(1),
//!         link_epoch: 1,
//!         versions: VersionRange::SUPPORTED,
//!     },
//!     [1; 32], // from the operating system's random source
//! );
//! let mut acceptor = Acceptor::new(
//!     AcceptParams {
//!         key,
//!         me: node("b"),
//!         workers: 2,
//!         versions: VersionRange::SUPPORTED,
//!         turn_away: None,
//!         no_place: Default::default(),
//!         takes: 1 << 20,
//!     },
//!     [2; 32],
//! );
//!
//! // A message is read in two parts: its prefix tells how long the rest is.
//! let (prefix, body) = hello.split_at(acceptor.expects());
//! assert_eq!(acceptor.receive(prefix), AcceptStep::More);
//! assert_eq!(acceptor.expects(), body.len());
//! let AcceptStep::Send(welcome) = acceptor.receive(body) else { panic!() };
//!
//! let (prefix, body) = welcome.split_at(dialer.expects());
//! assert_eq!(dialer.receive(prefix), Ok(DialStep::More));
//! let Ok(DialStep::Send(proof)) = dialer.receive(body) else { panic!() };
//!
//! let (prefix, body) = proof.split_at(acceptor.expects());
//! assert_eq!(acceptor.receive(prefix), AcceptStep::More);
//! let AcceptStep::Done { send: ready, established } = acceptor.receive(body) else { panic!() };
//! assert_eq!((established.peer, established.authenticated), (node("a"), true));
//!
//! let (prefix, body) = ready.split_at(dialer.expects());
//! assert_eq!(dialer.receive(prefix), Ok(DialStep::More));
//! let Ok(DialStep::Done(established)) = dialer.receive(body) else { panic!() };
//! assert_eq!((established.peer, established.my_worker), (node("b"), WorkerIndex(0)));
//! ```

mod acceptor;
mod dialer;
mod error;
mod messages;
#[cfg(test)]
mod tests;

pub use acceptor::{AcceptParams, AcceptStep, Acceptor, NoPlace, TurnAway};
pub use dialer::{DialParams, DialStep, Dialer};
pub use error::HandshakeError;
pub use messages::MAX_MESSAGE_LEN;

use std::num::NonZeroU32;

use crate::base::{Incarnation, NodeId, NodeRef, WorkerIndex};

/// In [`DialParams::to`]: whichever node answers, for a seed address of which no more is known.
pub const ANY_NODE: NodeId = NodeId(0);
/// In [`DialParams::to`]: whichever life of the node answers.
pub const ANY_INCARNATION: Incarnation = Incarnation(0);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A link between two workers.
    Workers = 0,
    /// A channel from the dialing node's control to the accepting node's.
    Control = 1,
}

impl Purpose {
    fn parse(code: u8) -> Option<Self> {
        [Self::Workers, Self::Control].into_iter().find(|known| *known as u8 == code)
    }
}

/// What both sides know of a link once its handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The node at the other end.
    pub peer: NodeRef,
    /// What it is for. Only a link between workers has workers.
    pub purpose: Purpose,
    /// Its worker at the other end.
    pub peer_worker: WorkerIndex,
    /// The worker at this end.
    pub my_worker: WorkerIndex,
    /// The wire version that all frames on this link have.
    pub wire_version: u8,
    /// The dialer's count of dials between these two workers: of two links the higher one is newer.
    pub link_epoch: u64,
    /// Whether the proofs were made with a shared secret. Without one they say nothing about who is
    /// at the other end.
    pub authenticated: bool,
    /// The longest frame that the peer takes, where the dialer was told.
    pub takes: Option<NonZeroU32>,
}

fn is_wanted(wanted: NodeRef, found: NodeRef) -> bool {
    (wanted.node == ANY_NODE || wanted.node == found.node)
        && (wanted.incarnation == ANY_INCARNATION || wanted.incarnation == found.incarnation)
}
