//! Why a handshake failed, and at whose door the cause lies.

use thiserror::Error;

use super::super::version::VersionRange;
use crate::base::debug_as_display;
use crate::base::{NodeRef, WorkerIndex};

/// Why a link was not opened. The same names on both sides: where the acceptor refused, the dialer
/// learns the reason from the refusal. A refusal is not authenticated, so what it says about the
/// acceptor is a hint to look again and never grounds to change what is held true of a node.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first bytes are not those of a Keyway node.
    #[error(
        "reading the peer's first message failed: it begins with \"{}\" and not with Keyway's \
         magic; what is at the other end is no Keyway node, correct the address or port",
        found.escape_ascii()
    )]
    WrongMagic {
        /// What stood in the magic's place.
        found: [u8; 8],
    },
    /// A message breaks the protocol.
    #[error(
        "reading the peer's {message} failed: {why}; the peer is no Keyway node, a faulty one, or \
         the network damages data"
    )]
    Malformed {
        /// Which message was being read.
        message: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The connection ended inside the handshake.
    #[error(
        "reading the peer's {message} failed: the connection ended after {got} of {expected} \
         bytes; dial again, and look into the peer's log if it happens again"
    )]
    Truncated {
        /// Which message was being read.
        message: &'static str,
        /// How many bytes were needed next.
        expected: usize,
        /// How many of them came.
        got: usize,
    },
    /// The acceptor could not read what this node sent.
    #[error(
        "sending {message} failed: the peer could not read it; the network damages data or one \
         side is faulty"
    )]
    NotUnderstood {
        /// The message that was sent last.
        message: &'static str,
    },
    /// The acceptor refused for a reason that this build has no name for.
    #[error(
        "opening a link failed: the peer refused with code {code}, which this version does not \
         know; look into the peer's log, or upgrade this node"
    )]
    UnknownRefusal {
        /// The code.
        code: u8,
    },
    /// No wire version is common to both.
    #[error(
        "agreeing on a wire version failed: the peer speaks {theirs} and this node {ours}; \
         upgrade the older side"
    )]
    UnknownVersion {
        /// What the peer speaks.
        theirs: VersionRange,
        /// What this node speaks.
        ours: VersionRange,
    },
    /// The two belong to clusters with different names.
    #[error(
        "opening a link failed: this node belongs to cluster {ours:?} and the peer to {}; correct \
         the address, or the cluster name of whichever side is wrong",
        match theirs { Some(name) => format!("{name:?}"), None => "another one".to_owned() }
    )]
    WrongCluster {
        /// This node's cluster.
        ours: String,
        /// The peer's cluster; acceptors do not tell theirs.
        theirs: Option<String>,
    },
    /// This node has a shared secret and the peer has none.
    #[error(
        "opening a link failed: this node has a shared secret and the peer has none; configure the \
         same secret on the peer"
    )]
    SecretOnlyHere,
    /// The peer has a shared secret and this node has none.
    #[error(
        "opening a link failed: the peer has a shared secret and this node has none; configure the \
         same secret on this node"
    )]
    SecretOnlyThere,
    /// A proof did not fit.
    #[error(
        "proving the shared secret failed: the two sides' secrets differ, the bytes were changed \
         on the way, or someone without the secret tried; configure the same secret on both"
    )]
    WrongProof,
    /// At the dialed address is now another node, or another life of the node.
    #[error(
        "opening a link to node {wanted} failed: node {found} is at that address; wait for \
         membership to learn of it, then dial what it says"
    )]
    WrongNode {
        /// Whom the dialer wanted; zero stands for any.
        wanted: NodeRef,
        /// Who is there.
        found: NodeRef,
    },
    /// The node has no worker with this index.
    #[error(
        "opening a link to worker {wanted} failed: the node has {workers} workers, counted from 0; \
         dial what its member record says"
    )]
    NoSuchWorker {
        /// Whom the dialer wanted.
        wanted: WorkerIndex,
        /// How many there are.
        workers: u16,
    },
    /// The worker has as many links of others as it takes.
    #[error(
        "opening a link to worker {wanted} failed: it has no place for more links of others; raise \
         `links.max_accepted` on its node, or have fewer nodes or workers send to it"
    )]
    NoPlace {
        /// Whom the dialer wanted.
        wanted: WorkerIndex,
    },
    /// The acceptor does not know what the connection is for.
    #[error(
        "opening a connection failed: the accepting node knows none of purpose {code}; upgrade the \
         older side"
    )]
    UnknownPurpose {
        /// The purpose, as a number.
        code: u8,
    },
    /// The acceptor has too many unfinished handshakes.
    #[error(
        "opening a link failed: the accepting node has too many unfinished handshakes; \
         dial again after a pause"
    )]
    Busy,
    /// The acceptor is about to stop.
    #[error(
        "opening a link failed: the accepting node is shutting down; \
         wait for membership to remove it or to show its next life"
    )]
    ShuttingDown,
    /// Both ends have the same node id.
    #[error(
        "opening a link failed: both ends have node id {}; the node dialed its own address, or two \
         nodes have the same name; the ends are incarnations {} and {}", dialer.node,
        dialer.incarnation, acceptor.incarnation
    )]
    SelfDial {
        /// The end that dialed.
        dialer: NodeRef,
        /// The end that accepted.
        acceptor: NodeRef,
    },
}

debug_as_display!(HandshakeError);
