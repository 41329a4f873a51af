//! The side of the handshake that was called.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::auth::ClusterKey;
use super::super::version::{VersionRange, negotiate};
use super::error::HandshakeError;
use super::messages::{
    Hello, Incoming, Kind, NONCE_LEN, Prefix, Refusal, RefusalCode, Role, Transcript, Welcome,
};
use super::{ANY_NODE, Established, Purpose, is_wanted};
use crate::base::{NodeRef, WorkerIndex};

/// What an accepting node knows of itself.
#[derive(Clone, Debug)]
pub struct AcceptParams {
    /// The cluster's keys.
    pub key: ClusterKey,
    /// This node.
    pub me: NodeRef,
    /// How many workers this node has.
    pub workers: u16,
    /// Usually [`VersionRange::SUPPORTED`].
    pub versions: VersionRange,
    /// Set if no link is to be opened now: the dialer's `Hello` is read, so that it gets the answer,
    /// and refused.
    pub turn_away: Option<TurnAway>,
    /// Which workers of which dialers found no place at which of this node's a moment ago.
    pub no_place: Arc<BTreeSet<NoPlace>>,
    /// The longest frame that this node takes.
    pub takes: u32,
}

/// A dialer, its worker, and the worker here that has no place for its link.
pub type NoPlace = (NodeRef, WorkerIndex, WorkerIndex);

/// Why a node opens no link to anyone now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAway {
    /// Too many unfinished handshakes.
    Busy,
    /// The node is about to stop.
    ShuttingDown,
    /// The node leaves its cluster. Members that know it may still have something for it and are let
    /// in; who only greets, and would join by it, is told that it is about to stop.
    Leaving,
}

impl TurnAway {
    /// The refusal as bytes, for a driver that has no room to read a `Hello` at all. A dialer whose
    /// `Hello` stays unread may see a reset connection in its place.
    pub fn refusal(self) -> Vec<u8> {
        Refusal::answering(&self.error()).encode(VersionRange::SUPPORTED)
    }

    fn error(self) -> HandshakeError {
        match self {
            Self::Busy => HandshakeError::Busy,
            Self::ShuttingDown | Self::Leaving => HandshakeError::ShuttingDown,
        }
    }
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptStep {
    /// Read the next [`Acceptor::expects`] bytes.
    More,
    /// Write these bytes, then read the next [`Acceptor::expects`] bytes.
    Send(Vec<u8>),
    /// Write these bytes; then the link is open, and what is read from here on are frames.
    Done {
        /// The last message of the handshake.
        send: Vec<u8>,
        /// What is known of the link.
        established: Established,
    },
    /// Write these bytes as far as the connection takes them at once, then close it.
    Refuse {
        /// The refusal.
        send: Vec<u8>,
        /// Why, for this side's log and counters.
        error: HandshakeError,
    },
}

/// Lets a link be opened. The module's documentation has the order of calls.
pub struct Acceptor {
    params: AcceptParams,
    nonce: [u8; NONCE_LEN],
    incoming: Incoming,
    stage: Stage,
}

enum Stage {
    Hello,
    Proof(Transcript, Established),
    Finished,
}

impl Acceptor {
    /// An acceptor for one new connection. The nonce must come fresh from the operating system's
    /// random source: what was recorded under a repeated one could be played back.
    pub fn new(params: AcceptParams, nonce: [u8; NONCE_LEN]) -> Self {
        let incoming = Incoming::new("Hello", &[Kind::Hello]);
        Self { params, nonce, incoming, stage: Stage::Hello }
    }

    /// How many bytes to read next: at most [`super::MAX_MESSAGE_LEN`], and 0 once it is over.
    pub fn expects(&self) -> usize {
        match self.stage {
            Stage::Finished => 0,
            Stage::Hello | Stage::Proof(..) => self.incoming.expects(),
        }
    }

    /// Takes exactly [`Acceptor::expects`] bytes, or fewer if the connection ended.
    ///
    /// # Panics
    /// If called with more bytes than expected, or again after [`AcceptStep::Done`] or
    /// [`AcceptStep::Refuse`].
    pub fn receive(&mut self, bytes: &[u8]) -> AcceptStep {
        // Every way out but the two below that go on is the end.
        let stage = std::mem::replace(&mut self.stage, Stage::Finished);
        self.advance(stage, bytes).unwrap_or_else(|error| AcceptStep::Refuse {
            send: Refusal::answering(&error).encode(self.params.versions),
            error,
        })
    }

    fn advance(&mut self, stage: Stage, bytes: &[u8]) -> Result<AcceptStep, HandshakeError> {
        assert!(!matches!(stage, Stage::Finished), "the handshake is over");
        let Some(prefix) = self.incoming.receive(bytes)? else {
            self.stage = stage;
            return Ok(AcceptStep::More);
        };
        match stage {
            Stage::Hello => self.greeted(&prefix, bytes),
            Stage::Proof(mut transcript, established) => {
                let AcceptParams { key, versions, .. } = &self.params;
                transcript.verify(key, Role::Dialer, &prefix, bytes)?;
                // Last, so that who only wants to know whether it may join asks for no worker: it
                // is answered as to its secret, and no link is left over.
                let (wanted, workers) = (established.my_worker, self.params.workers);
                if wanted.0 >= workers {
                    return Err(HandshakeError::NoSuchWorker { wanted, workers });
                }
                let link = (established.peer, established.peer_worker, wanted);
                if established.purpose == Purpose::Workers && self.params.no_place.contains(&link) {
                    return Err(HandshakeError::NoPlace { wanted });
                }
                let send = transcript.prove(key, Role::Acceptor, *versions);
                Ok(AcceptStep::Done { send, established })
            }
            Stage::Finished => unreachable!("checked above"),
        }
    }

    fn greeted(&mut self, prefix: &Prefix, body: &[u8]) -> Result<AcceptStep, HandshakeError> {
        let (ours, theirs) = (self.params.versions, prefix.versions);
        let wire_version =
            negotiate(ours, theirs).ok_or(HandshakeError::UnknownVersion { theirs, ours })?;
        let hello = Hello::parse(body)?;
        self.check(&hello)?;
        let code = hello.purpose;
        let purpose = Purpose::parse(code).ok_or(HandshakeError::UnknownPurpose { code })?;

        let AcceptParams { key, me, .. } = &self.params;
        let mut transcript = Transcript::new(&prefix.bytes);
        transcript.add(body);
        let welcome = Welcome {
            nonce: self.nonce,
            acceptor: *me,
            chosen_version: wire_version,
            has_secret: key.has_secret(),
            takes: self.params.takes,
        }
        .encode(ours);
        transcript.add(&welcome);
        let established = Established {
            peer: hello.dialer,
            purpose,
            peer_worker: hello.from_worker,
            my_worker: hello.to_worker,
            wire_version,
            link_epoch: hello.link_epoch,
            authenticated: key.has_secret(),
            takes: None,
        };
        self.stage = Stage::Proof(transcript, established);
        self.incoming = Incoming::new("Proof", &[Kind::Proof]);
        Ok(AcceptStep::Send(welcome))
    }

    fn check(&self, hello: &Hello<'_>) -> Result<(), HandshakeError> {
        let AcceptParams { key, me, turn_away, .. } = &self.params;
        if hello.cluster != key.cluster() {
            return Err(HandshakeError::WrongCluster {
                ours: key.cluster().to_owned(),
                theirs: Some(hello.cluster.to_owned()),
            });
        }
        match (key.has_secret(), hello.has_secret) {
            (true, false) => return Err(HandshakeError::SecretOnlyHere),
            (false, true) => return Err(HandshakeError::SecretOnlyThere),
            (true, true) | (false, false) => {}
        }
        match turn_away {
            Some(TurnAway::Leaving) if hello.wanted.node != ANY_NODE => {}
            Some(reason) => return Err(reason.error()),
            None => {}
        }
        // Before the look at whom it wants: a node that finds itself under a seed address wants
        // to know that, and not that it is someone else.
        if hello.dialer.node == me.node {
            return Err(HandshakeError::SelfDial { dialer: hello.dialer, acceptor: *me });
        }
        if !is_wanted(hello.wanted, *me) {
            return Err(HandshakeError::WrongNode { wanted: hello.wanted, found: *me });
        }
        Ok(())
    }
}

impl Refusal {
    /// What the dialer is told when the acceptor's side failed with `error`.
    fn answering(error: &HandshakeError) -> Self {
        let code = match *error {
            HandshakeError::WrongMagic { .. } => RefusalCode::WrongMagic,
            HandshakeError::Malformed { .. }
            | HandshakeError::Truncated { .. }
            // The next two only ever happen to dialers.
            | HandshakeError::NotUnderstood { .. }
            | HandshakeError::UnknownRefusal { .. } => RefusalCode::Malformed,
            HandshakeError::UnknownVersion { .. } => RefusalCode::UnknownVersion,
            HandshakeError::WrongCluster { .. } => RefusalCode::WrongCluster,
            HandshakeError::SecretOnlyHere => RefusalCode::SecretOnlyAtAcceptor,
            HandshakeError::SecretOnlyThere => RefusalCode::SecretOnlyAtDialer,
            HandshakeError::WrongProof => RefusalCode::WrongProof,
            HandshakeError::WrongNode { found, .. } => {
                return Self { acceptor: found, ..Self::bare(RefusalCode::WrongNode) };
            }
            HandshakeError::NoSuchWorker { workers, .. } => {
                return Self { workers, ..Self::bare(RefusalCode::NoSuchWorker) };
            }
            HandshakeError::UnknownPurpose { .. } => RefusalCode::UnknownPurpose,
            HandshakeError::NoPlace { .. } => RefusalCode::NoPlace,
            HandshakeError::Busy => RefusalCode::Busy,
            HandshakeError::ShuttingDown => RefusalCode::ShuttingDown,
            HandshakeError::SelfDial { acceptor, .. } => {
                return Self { acceptor, ..Self::bare(RefusalCode::SelfDial) };
            }
        };
        Self::bare(code)
    }
}
