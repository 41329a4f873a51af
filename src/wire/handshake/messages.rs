//! The handshake's five messages as bytes: a prefix of one fixed shape, then a body whose length is
//! checked before it is read. All numbers are little-endian.

use hmac::Mac;
use sha2::{Digest, Sha256};

use super::super::auth::{ClusterKey, MAX_CLUSTER_NAME_LEN};
use super::super::codec::{ReadResult, Reader, Writer};
use super::super::version::VersionRange;
use super::error::HandshakeError;
use crate::base::{Incarnation, NodeId, NodeRef, WorkerIndex};

/// The high bit and the line feed give away channels that change either, as PNG's magic does.
const MAGIC: [u8; 8] = *b"\x89KEYWAY\n";

/// Where the fields of a prefix stand.
pub(super) mod at {
    use super::super::super::codec::Place;

    pub const MAGIC: Place<[u8; 8]> = Place::FIRST;
    pub const KIND: Place<u8> = MAGIC.then();
    pub const OLDEST: Place<u8> = KIND.then();
    pub const NEWEST: Place<u8> = OLDEST.then();
    pub const RESERVED: Place<u8> = NEWEST.then();
    pub const BODY_LEN: Place<u16> = RESERVED.then();
    pub const RESERVED_TOO: Place<u16> = BODY_LEN.then();
}

pub(super) const PREFIX_LEN: usize = at::RESERVED_TOO.end();
pub(super) const NONCE_LEN: usize = 32;
const PROOF_LEN: usize = 32;
const HELLO_FIXED_LEN: usize = 80;
const WELCOME_LEN: usize = 56;
const REFUSAL_LEN: usize = 24;
/// Longest body. Only a `Hello` can come near: a later version may append fields to it, which this
/// one skips.
const MAX_BODY_LEN: usize = 512;
/// Longest message of the handshake in bytes: what the largest read buffer has to hold.
pub const MAX_MESSAGE_LEN: usize = PREFIX_LEN + MAX_BODY_LEN;

/// Set in `flags` when a shared secret is behind the sender's keys.
const FLAG_SECRET: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello = 1,
    Welcome = 2,
    Proof = 3,
    Ready = 4,
    Refusal = 5,
}

impl Kind {
    fn fits(self, body_len: usize) -> bool {
        match self {
            Self::Hello => (HELLO_FIXED_LEN + 1..=MAX_BODY_LEN).contains(&body_len),
            Self::Welcome => body_len == WELCOME_LEN,
            Self::Proof | Self::Ready => body_len == PROOF_LEN,
            Self::Refusal => body_len == REFUSAL_LEN,
        }
    }
}

/// What every message begins with. Its shape, and that of `Hello` and `Refusal`, stays the same in
/// all versions, so that nodes of any two versions can tell each other that they cannot talk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub bytes: [u8; PREFIX_LEN],
    pub kind: Kind,
    pub versions: VersionRange,
    body_len: usize,
}

impl Prefix {
    pub fn new(kind: Kind, versions: VersionRange, body_len: usize) -> Self {
        debug_assert!(kind.fits(body_len));
        let mut bytes = [0; PREFIX_LEN];
        at::MAGIC.write(&mut bytes, MAGIC);
        at::KIND.write(&mut bytes, kind as u8);
        at::OLDEST.write(&mut bytes, versions.min());
        at::NEWEST.write(&mut bytes, versions.max());
        // Every body is at most MAX_BODY_LEN long, which two bytes hold.
        at::BODY_LEN.write(&mut bytes, body_len as u16);
        Self { bytes, kind, versions, body_len }
    }

    fn parse(
        bytes: [u8; PREFIX_LEN],
        message: &'static str,
        allowed: &[Kind],
    ) -> Result<Self, HandshakeError> {
        let malformed = |why| HandshakeError::Malformed { message, why };
        let (magic, kind) = (at::MAGIC.read(&bytes), at::KIND.read(&bytes));
        if magic != MAGIC {
            return Err(HandshakeError::WrongMagic { found: magic });
        }
        let kind = *allowed
            .iter()
            .find(|allowed| **allowed as u8 == kind)
            .ok_or(malformed("another message came in its place"))?;
        let versions = VersionRange::new(at::OLDEST.read(&bytes), at::NEWEST.read(&bytes))
            .ok_or(malformed("its oldest wire version lies above its newest"))?;
        let body_len = usize::from(at::BODY_LEN.read(&bytes));
        if !kind.fits(body_len) {
            return Err(malformed("the length it declares is not one it can have"));
        }
        Ok(Self { bytes, kind, versions, body_len })
    }

    fn then(self, body: &[u8]) -> Vec<u8> {
        debug_assert_eq!(body.len(), self.body_len);
        let mut message = Vec::with_capacity(PREFIX_LEN + body.len());
        message.extend_from_slice(&self.bytes);
        message.extend_from_slice(body);
        message
    }
}

/// Which message comes next, and how far it has been read: first its prefix, then its body.
pub(super) struct Incoming {
    message: &'static str,
    allowed: &'static [Kind],
    prefix: Option<Prefix>,
}

impl Incoming {
    pub fn new(message: &'static str, allowed: &'static [Kind]) -> Self {
        Self { message, allowed, prefix: None }
    }

    pub fn expects(&self) -> usize {
        self.prefix.map_or(PREFIX_LEN, |prefix| prefix.body_len)
    }

    /// `None` after a prefix; the prefix once `bytes` are the body that belongs to it.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Prefix>, HandshakeError> {
        let expected = self.expects();
        assert!(bytes.len() <= expected, "the driver read {} of {expected} bytes", bytes.len());
        if bytes.len() < expected {
            let (message, got) = (self.message, bytes.len());
            return Err(HandshakeError::Truncated { message, expected, got });
        }
        if let Some(prefix) = self.prefix.take() {
            return Ok(Some(prefix));
        }
        let bytes = bytes.try_into().expect("as many bytes as a prefix has");
        self.prefix = Some(Prefix::parse(bytes, self.message, self.allowed)?);
        Ok(None)
    }
}

pub(super) fn secret_flag(has_secret: bool) -> u8 {
    if has_secret { FLAG_SECRET } else { 0 }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello<'b> {
    pub nonce: [u8; NONCE_LEN],
    pub dialer: NodeRef,
    pub wanted: NodeRef,
    pub link_epoch: u64,
    pub from_worker: WorkerIndex,
    pub to_worker: WorkerIndex,
    pub has_secret: bool,
    /// A [`Purpose`](super::Purpose), or one that this build does not know.
    pub purpose: u8,
    pub cluster: &'b str,
}

impl<'b> Hello<'b> {
    pub fn encode(&self, versions: VersionRange) -> Vec<u8> {
        let mut body = Vec::with_capacity(HELLO_FIXED_LEN + self.cluster.len());
        let mut out = Writer::new(&mut body);
        out.bytes(&self.nonce).node_ref(self.dialer).node_ref(self.wanted).u64(self.link_epoch);
        out.u16(self.from_worker.0).u16(self.to_worker.0);
        // A cluster key holds no name longer than MAX_CLUSTER_NAME_LEN, which one byte holds.
        out.u8(secret_flag(self.has_secret)).u8(self.cluster.len() as u8);
        out.u8(self.purpose).u8(0).bytes(self.cluster.as_bytes());
        Prefix::new(Kind::Hello, versions, body.len()).then(&body)
    }

    pub fn parse(body: &'b [u8]) -> Result<Self, HandshakeError> {
        let malformed = |why| HandshakeError::Malformed { message: "Hello", why };
        let mut fields = Reader::new(body);
        let (hello, name_len) = Self::read_fixed(&mut fields)
            .map_err(|_| malformed("it is shorter than its fixed part"))?;
        if !(1..=MAX_CLUSTER_NAME_LEN).contains(&name_len) {
            return Err(malformed("its cluster name is empty or too long"));
        }
        let name = fields.bytes(name_len);
        let name = name.map_err(|_| malformed("it ends inside its cluster name"))?;
        let cluster =
            str::from_utf8(name).map_err(|_| malformed("its cluster name is not UTF-8"))?;
        Ok(Self { cluster, ..hello })
    }

    /// All but the name, and the name's length.
    fn read_fixed(fields: &mut Reader<'_>) -> ReadResult<(Self, usize)> {
        let mut hello = Hello {
            nonce: fields.fixed()?,
            dialer: fields.node_ref()?,
            wanted: fields.node_ref()?,
            link_epoch: fields.u64()?,
            from_worker: WorkerIndex(fields.u16()?),
            to_worker: WorkerIndex(fields.u16()?),
            has_secret: fields.u8()? & FLAG_SECRET != 0,
            purpose: 0,
            cluster: "",
        };
        let name_len = usize::from(fields.u8()?);
        hello.purpose = fields.u8()?;
        let _reserved = fields.u8()?;
        Ok((hello, name_len))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub nonce: [u8; NONCE_LEN],
    pub acceptor: NodeRef,
    pub chosen_version: u8,
    pub has_secret: bool,
    /// The longest frame that the acceptor takes; 0 when it does not say.
    pub takes: u32,
}

impl Welcome {
    pub fn encode(&self, versions: VersionRange) -> Vec<u8> {
        let mut body = Vec::with_capacity(WELCOME_LEN);
        let mut out = Writer::new(&mut body);
        out.bytes(&self.nonce).node_ref(self.acceptor);
        out.u8(self.chosen_version).u8(secret_flag(self.has_secret)).u16(0);
        out.u32(self.takes);
        Prefix::new(Kind::Welcome, versions, WELCOME_LEN).then(&body)
    }

    pub fn parse(body: &[u8]) -> Result<Self, HandshakeError> {
        let read = |mut fields: Reader<'_>| -> ReadResult<Self> {
            Ok(Self {
                nonce: fields.fixed()?,
                acceptor: fields.node_ref()?,
                chosen_version: fields.u8()?,
                has_secret: fields.u8()? & FLAG_SECRET != 0,
                takes: {
                    let _reserved = fields.u16()?;
                    fields.u32()?
                },
            })
        };
        let why = "it is too short";
        read(Reader::new(body)).map_err(|_| HandshakeError::Malformed { message: "Welcome", why })
    }
}

/// Why an acceptor refuses, as the byte that the dialer gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalCode {
    /// The first bytes were not Keyway's magic.
    WrongMagic = 1,
    /// A message broke the protocol.
    Malformed = 2,
    /// No wire version is common to both; the acceptor's range stands in the refusal's prefix.
    UnknownVersion = 3,
    /// The cluster names differ.
    WrongCluster = 4,
    /// The acceptor has a shared secret, the dialer none.
    SecretOnlyAtAcceptor = 5,
    /// The dialer has a shared secret, the acceptor none.
    SecretOnlyAtDialer = 6,
    /// The dialer's proof did not fit. Nothing more is told.
    WrongProof = 7,
    /// The acceptor is another node, or another life of the node; the refusal says which.
    WrongNode = 8,
    /// There is no such worker; the refusal says how many there are.
    NoSuchWorker = 9,
    /// Too many unfinished handshakes.
    Busy = 10,
    /// The node is about to stop.
    ShuttingDown = 11,
    /// The dialer has the acceptor's own node id; the refusal says the acceptor's incarnation.
    SelfDial = 12,
    /// No connections for this purpose are known here.
    UnknownPurpose = 13,
    /// The worker has as many links of others as it takes.
    NoPlace = 14,
}

impl RefusalCode {
    pub const ALL: [Self; 14] = [
        Self::WrongMagic,
        Self::Malformed,
        Self::UnknownVersion,
        Self::WrongCluster,
        Self::SecretOnlyAtAcceptor,
        Self::SecretOnlyAtDialer,
        Self::WrongProof,
        Self::WrongNode,
        Self::NoSuchWorker,
        Self::Busy,
        Self::ShuttingDown,
        Self::SelfDial,
        Self::UnknownPurpose,
        Self::NoPlace,
    ];
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: RefusalCode,
    /// Only with `NoSuchWorker`, else zero.
    pub workers: u16,
    /// Only with `WrongNode` and `SelfDial`, else zero.
    pub acceptor: NodeRef,
}

impl Refusal {
    pub fn bare(code: RefusalCode) -> Self {
        let acceptor = NodeRef { node: NodeId(0), incarnation: Incarnation(0) };
        Self { code, workers: 0, acceptor }
    }

    pub fn encode(&self, versions: VersionRange) -> Vec<u8> {
        let mut body = Vec::with_capacity(REFUSAL_LEN);
        let mut out = Writer::new(&mut body);
        out.u8(self.code as u8).u8(0).u16(self.workers).bytes(&[0; 4]).node_ref(self.acceptor);
        Prefix::new(Kind::Refusal, versions, REFUSAL_LEN).then(&body)
    }

    pub fn parse(body: &[u8]) -> Result<Self, HandshakeError> {
        let read = |mut fields: Reader<'_>| -> ReadResult<(u8, u16, NodeRef)> {
            let (code, _reserved) = (fields.u8()?, fields.u8()?);
            let workers = fields.u16()?;
            let _reserved: [u8; 4] = fields.fixed()?;
            Ok((code, workers, fields.node_ref()?))
        };
        let why = "it is too short";
        let (code, workers, acceptor) = read(Reader::new(body))
            .map_err(|_| HandshakeError::Malformed { message: "Refusal", why })?;
        let code = RefusalCode::ALL
            .into_iter()
            .find(|known| *known as u8 == code)
            .ok_or(HandshakeError::UnknownRefusal { code })?;
        Ok(Self { code, workers, acceptor })
    }
}

/// Whose proof it is: part of what is proven, so that a proof sent back proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dialer,
    Acceptor,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Dialer => b"keyway/1 dialer",
            Self::Acceptor => b"keyway/1 acceptor",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Dialer => Kind::Proof,
            Self::Acceptor => Kind::Ready,
        }
    }
}

/// The hash of every byte of the handshake so far, in order, whoever sent it. Messages carry their
/// own length, so that two different exchanges are never the same bytes.
pub(super) struct Transcript(Sha256);

impl Transcript {
    pub fn new(hello: &[u8]) -> Self {
        Self(Sha256::new().chain_update(hello))
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Makes a side's proof message and adds it.
    pub fn prove(&mut self, key: &ClusterKey, role: Role, versions: VersionRange) -> Vec<u8> {
        let prefix = Prefix::new(role.kind(), versions, PROOF_LEN);
        self.add(&prefix.bytes);
        let proof = self.mac(key, role).finalize().into_bytes();
        self.add(&proof);
        prefix.then(&proof)
    }

    /// Checks a side's proof message in constant time and adds it.
    pub fn verify(
        &mut self,
        key: &ClusterKey,
        role: Role,
        prefix: &Prefix,
        proof: &[u8],
    ) -> Result<(), HandshakeError> {
        self.add(&prefix.bytes);
        self.mac(key, role).verify_slice(proof).map_err(|_| HandshakeError::WrongProof)?;
        self.add(proof);
        Ok(())
    }

    fn mac(&self, key: &ClusterKey, role: Role) -> impl Mac + use<> {
        key.handshake_mac().chain_update(role.label()).chain_update(self.0.clone().finalize())
    }
}
