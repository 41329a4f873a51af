//! The side of the handshake that opens the connection.

use std::num::NonZeroU32;

use super::super::auth::ClusterKey;
use super::super::version::{VersionRange, negotiate};
use super::error::HandshakeError;
use super::messages::{
    Hello, Incoming, Kind, NONCE_LEN, Prefix, Refusal, RefusalCode, Role, Transcript, Welcome,
};
use super::{Established, Purpose, is_wanted};
use crate::base::{NodeRef, WorkerIndex};

/// What a dial is for.
#[derive(Clone, Debug)]
pub struct DialParams {
    /// The cluster's keys.
    pub key: ClusterKey,
    /// This node.
    pub me: NodeRef,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The worker here that the link is for.
    pub from_worker: WorkerIndex,
    /// Whom the address is thought to belong to; [`super::ANY_NODE`] and [`super::ANY_INCARNATION`]
    /// leave it open.
    pub to: NodeRef,
    /// The worker there that the link is for.
    pub to_worker: WorkerIndex,
    /// Higher than at every earlier dial from `from_worker` to `to_worker` in this node's life.
    pub link_epoch: u64,
    /// Usually [`VersionRange::SUPPORTED`].
    pub versions: VersionRange,
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum DialStep {
    /// Read the next [`Dialer::expects`] bytes.
    More,
    /// Write these bytes, then read the next [`Dialer::expects`] bytes.
    Send(Vec<u8>),
    /// The link is open: what is read from here on are frames.
    Done(Established),
}

/// Opens a link. The module's documentation has the order of calls.
pub struct Dialer {
    params: DialParams,
    transcript: Transcript,
    incoming: Incoming,
    stage: Stage,
}

enum Stage {
    Answer,
    Verdict(Established),
    Finished,
}

impl Dialer {
    /// A dialer, and the `Hello` to send first. The nonce must come fresh from the operating
    /// system's random source: what was recorded under a repeated one could be played back.
    pub fn new(params: DialParams, nonce: [u8; NONCE_LEN]) -> (Self, Vec<u8>) {
        let hello = Hello {
            nonce,
            dialer: params.me,
            purpose: params.purpose as u8,
            wanted: params.to,
            link_epoch: params.link_epoch,
            from_worker: params.from_worker,
            to_worker: params.to_worker,
            has_secret: params.key.has_secret(),
            cluster: params.key.cluster(),
        }
        .encode(params.versions);
        let dialer = Self {
            params,
            transcript: Transcript::new(&hello),
            incoming: Incoming::new("Welcome", &[Kind::Welcome, Kind::Refusal]),
            stage: Stage::Answer,
        };
        (dialer, hello)
    }

    /// How many bytes to read next: at most [`super::MAX_MESSAGE_LEN`], and 0 once it is over.
    pub fn expects(&self) -> usize {
        match self.stage {
            Stage::Finished => 0,
            Stage::Answer | Stage::Verdict(_) => self.incoming.expects(),
        }
    }

    /// Takes exactly [`Dialer::expects`] bytes, or fewer if the connection ended. After an error the
    /// connection is to be closed; nothing is sent.
    ///
    /// # Panics
    /// If called with more bytes than expected, or again after [`DialStep::Done`] or an error.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<DialStep, HandshakeError> {
        assert!(!matches!(self.stage, Stage::Finished), "the handshake is over");
        let step = self.advance(bytes);
        if matches!(step, Err(_) | Ok(DialStep::Done(_))) {
            self.stage = Stage::Finished;
        }
        step
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<DialStep, HandshakeError> {
        let Some(prefix) = self.incoming.receive(bytes)? else { return Ok(DialStep::More) };
        if prefix.kind == Kind::Refusal {
            return Err(self.refused(&prefix, bytes));
        }
        match self.stage {
            Stage::Answer => self.welcomed(&prefix, bytes),
            Stage::Verdict(established) => {
                self.transcript.verify(&self.params.key, Role::Acceptor, &prefix, bytes)?;
                Ok(DialStep::Done(established))
            }
            Stage::Finished => unreachable!("checked by receive"),
        }
    }

    fn welcomed(&mut self, prefix: &Prefix, body: &[u8]) -> Result<DialStep, HandshakeError> {
        let params = &self.params;
        let welcome = Welcome::parse(body)?;
        // Both sides can work the answer out, so a lower one would be someone's wish for old flaws.
        if negotiate(params.versions, prefix.versions) != Some(welcome.chosen_version) {
            let why = "it did not choose the newest wire version that both sides speak";
            return Err(HandshakeError::Malformed { message: "Welcome", why });
        }
        match (params.key.has_secret(), welcome.has_secret) {
            (true, false) => return Err(HandshakeError::SecretOnlyHere),
            (false, true) => return Err(HandshakeError::SecretOnlyThere),
            (true, true) | (false, false) => {}
        }
        let found = welcome.acceptor;
        if found.node == params.me.node {
            return Err(HandshakeError::SelfDial { dialer: params.me, acceptor: found });
        }
        if !is_wanted(params.to, found) {
            return Err(HandshakeError::WrongNode { wanted: params.to, found });
        }
        self.transcript.add(&prefix.bytes);
        self.transcript.add(body);
        let proof = self.transcript.prove(&params.key, Role::Dialer, params.versions);
        self.stage = Stage::Verdict(Established {
            peer: found,
            purpose: params.purpose,
            peer_worker: params.to_worker,
            my_worker: params.from_worker,
            wire_version: welcome.chosen_version,
            link_epoch: params.link_epoch,
            authenticated: params.key.has_secret(),
            takes: NonZeroU32::new(welcome.takes),
        });
        self.incoming = Incoming::new("Ready", &[Kind::Ready, Kind::Refusal]);
        Ok(DialStep::Send(proof))
    }

    fn refused(&self, prefix: &Prefix, body: &[u8]) -> HandshakeError {
        let params = &self.params;
        let refusal = match Refusal::parse(body) {
            Ok(refusal) => refusal,
            Err(error) => return error,
        };
        match refusal.code {
            RefusalCode::WrongMagic | RefusalCode::Malformed => {
                let message = match self.stage {
                    Stage::Answer => "Hello",
                    Stage::Verdict(_) | Stage::Finished => "Proof",
                };
                HandshakeError::NotUnderstood { message }
            }
            RefusalCode::UnknownVersion => {
                HandshakeError::UnknownVersion { theirs: prefix.versions, ours: params.versions }
            }
            RefusalCode::WrongCluster => {
                HandshakeError::WrongCluster { ours: params.key.cluster().to_owned(), theirs: None }
            }
            RefusalCode::SecretOnlyAtAcceptor => HandshakeError::SecretOnlyThere,
            RefusalCode::SecretOnlyAtDialer => HandshakeError::SecretOnlyHere,
            RefusalCode::WrongProof => HandshakeError::WrongProof,
            RefusalCode::WrongNode => {
                HandshakeError::WrongNode { wanted: params.to, found: refusal.acceptor }
            }
            RefusalCode::NoSuchWorker => {
                HandshakeError::NoSuchWorker { wanted: params.to_worker, workers: refusal.workers }
            }
            RefusalCode::NoPlace => HandshakeError::NoPlace { wanted: params.to_worker },
            RefusalCode::UnknownPurpose => {
                HandshakeError::UnknownPurpose { code: params.purpose as u8 }
            }
            RefusalCode::Busy => HandshakeError::Busy,
            RefusalCode::ShuttingDown => HandshakeError::ShuttingDown,
            RefusalCode::SelfDial => {
                HandshakeError::SelfDial { dialer: params.me, acceptor: refusal.acceptor }
            }
        }
    }
}
