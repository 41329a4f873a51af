//! Who is no node: it hears what nodes say to each other, holds no secret, and tries to be taken for
//! one of them. What it says and when, by chance of its own; `forging.rs` moves it.

use std::collections::BTreeMap;

use rand::{Rng as _, RngExt, SeedableRng};

use super::events::{ConnId, Side, SlotId};
use super::forgery::{Forged, Forgery};
use crate::base::{Incarnation, NodeId, NodeRef, Rng, WorkerIndex};
use crate::wire::handshake::{
    AcceptParams, AcceptStep, Acceptor, DialParams, DialStep, Dialer, Purpose,
};
use crate::wire::{ClusterKey, VersionRange, datagram};

/// What it remembers of each kind: datagrams, and handshakes.
const KEPT: usize = 32;
/// Handshakes that it tries at a time.
const AT_ONCE: usize = 12;
/// Where a handshake's message says of which kind it is, and where its proof begins.
const KIND: usize = 8;
const PROOF: usize = 16;
/// How long a handshake's messages are that are always as long.
const WELCOME_BYTES: usize = 72;
const PROOF_BYTES: usize = 48;

/// A handshake that it tries.
struct Attempt {
    how: Forgery,
    came: Vec<u8>,
    role: Role,
}

enum Role {
    Dials(Box<Dialer>),
    /// What a node said before it says again.
    Replays(Shaken),
    Listens(Option<Box<Acceptor>>),
    /// It has said all that it had to say.
    Done,
}

/// A handshake of two nodes.
#[derive(Clone)]
struct Shaken {
    to: SlotId,
    said: [Vec<u8>; 2],
}

impl Shaken {
    /// What the dialer says first, and what proves it.
    fn dialer(&self) -> Option<(&[u8], &[u8])> {
        let [said, _] = &self.said;
        let (hello, proof) = said.split_at_checked(message_bytes(said)?)?;
        (proof.len() >= PROOF_BYTES).then(|| (hello, &proof[..PROOF_BYTES]))
    }

    /// What the other side says first, and what proves it.
    fn listener(&self) -> Option<(&[u8], &[u8])> {
        let (welcome, ready) = self.said[1].split_at_checked(WELCOME_BYTES)?;
        (ready.len() >= PROOF_BYTES).then(|| (welcome, &ready[..PROOF_BYTES]))
    }

    fn is_whole(&self) -> bool {
        self.dialer().is_some() && self.listener().is_some()
    }
}

/// How long the message is that this begins with, as it says.
fn message_bytes(said: &[u8]) -> Option<usize> {
    let length = said.get(12..14)?;
    Some(PROOF + usize::from(u16::from_le_bytes([length[0], length[1]])))
}

/// What it says next on a connection.
#[derive(Default)]
pub struct Says {
    /// These bytes.
    pub bytes: Vec<u8>,
    /// And then closes it.
    pub closes: bool,
}

/// The forger.
pub struct Forger {
    /// Where it is: no machine of the cluster's is there.
    pub slot: SlotId,
    /// What came of it.
    pub forged: Forged,
    /// Its chance.
    pub rng: Rng,
    key: ClusterKey,
    guessed: ClusterKey,
    datagrams: Vec<(SlotId, Vec<u8>)>,
    talks: BTreeMap<ConnId, Shaken>,
    shaken: Vec<Shaken>,
    attempts: BTreeMap<ConnId, Attempt>,
    tried: BTreeMap<ConnId, Forgery>,
}

impl Forger {
    /// One at a machine of its own. Of the cluster's key it only knows what nodes make of it.
    pub fn new(seed: u64, slot: SlotId, key: ClusterKey) -> Self {
        let guess = b"a secret that somebody guessed";
        Self {
            slot,
            forged: Forged::default(),
            rng: Rng::seed_from_u64(seed),
            guessed: ClusterKey::new(key.cluster(), Some(guess)).expect("it is long enough"),
            key,
            datagrams: Vec::new(),
            talks: BTreeMap::new(),
            shaken: Vec::new(),
            attempts: BTreeMap::new(),
            tried: BTreeMap::new(),
        }
    }

    /// Whether it listens next in the place of a machine that is not there.
    pub fn takes_over(&mut self) -> bool {
        self.attempts.len() < AT_ONCE && self.rng.random_range(0..2) == 0
    }

    /// How it forges next.
    pub fn kind(&mut self) -> Forgery {
        Forgery::ALL[self.rng.random_range(0..Forgery::ALL.len())]
    }

    // ---- what it hears ----

    /// It hears a datagram.
    pub fn hears(&mut self, from: SlotId, bytes: &[u8]) {
        if self.datagrams.len() < KEPT {
            self.datagrams.push((from, bytes.to_vec()));
        } else if self.rng.random_range(0..8) == 0 {
            let place = self.rng.random_range(0..KEPT);
            self.datagrams[place] = (from, bytes.to_vec());
        }
    }

    /// It hears what one side says in a handshake.
    pub fn overhears(&mut self, (conn, side): (ConnId, Side), to: SlotId, bytes: &[u8]) {
        let begins = side == 0 && bytes.starts_with(b"\x89KEYWAY\n\x01");
        if begins && self.talks.len() < KEPT {
            self.talks.insert(conn, Shaken { to, said: Default::default() });
        }
        let Some(talk) = self.talks.get_mut(&conn) else { return };
        talk.said[side].extend_from_slice(bytes);
        // Whoever is refused says no more.
        if talk.is_whole() {
            self.shaken.extend(self.talks.remove(&conn));
        } else if self.talks.len() == KEPT {
            self.talks.pop_first();
        }
        if self.shaken.len() > KEPT {
            self.shaken.remove(0);
        }
    }

    // ---- datagrams ----

    /// A datagram, from where it is said to come, and to whom it goes if not to anybody.
    pub fn datagram(&mut self, how: Forgery) -> Option<(Vec<u8>, SlotId, Option<SlotId>)> {
        let count = self.datagrams.len();
        let (said_by, mut bytes) =
            self.datagrams.get(self.rng.random_range(0..count.max(1)))?.clone();
        // Who sends a datagram can say that another machine does.
        let from = if self.rng.random_range(0..2) == 0 { said_by } else { self.slot };
        let (rng, length) = (&mut self.rng, bytes.len());
        match how {
            Forgery::Zeros => bytes[length - datagram::TAG_LEN..].fill(0),
            Forgery::Guessed => {
                let payload = bytes[32..length - datagram::TAG_LEN].to_vec();
                let me = NodeRef {
                    node: NodeId::from_name("forger"),
                    incarnation: Incarnation(rng.random_range(1..u64::MAX / 4)),
                };
                datagram::seal(&self.guessed, me, datagram::MEMBERSHIP, &payload, &mut bytes)
                    .expect("it is as long as it was");
            }
            Forgery::Flipped => bytes[rng.random_range(0..length)] ^= 1 << rng.random_range(0..8),
            Forgery::Cut => bytes.truncate(rng.random_range(0..length)),
            Forgery::Replayed => {}
            Forgery::Reflected => return Some((bytes, self.slot, Some(said_by))),
            Forgery::Garbage => rng.fill_bytes(&mut bytes),
        }
        Some((bytes, from, None))
    }

    // ---- handshakes ----

    /// Which connection it has had for the longest, if it has enough.
    pub fn tires_of(&mut self) -> Option<ConnId> {
        let first = (self.attempts.len() >= AT_ONCE).then(|| self.attempts.pop_first());
        first.flatten().map(|(conn, _)| conn)
    }

    /// All its connections; it has none from now on.
    pub fn gives_up(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.attempts).into_keys().collect()
    }

    /// Whether it has a connection, or had it, and how it forges there.
    pub fn forges(&self, conn: ConnId) -> Option<Forgery> {
        self.tried.get(&conn).copied()
    }

    fn begin(&mut self, conn: ConnId, how: Forgery, role: Role) {
        self.tried.insert(conn, how);
        self.attempts.insert(conn, Attempt { how, came: Vec::new(), role });
    }

    /// A handshake to be said again, and with whom.
    pub fn dials_again(&mut self) -> Option<SlotId> {
        let count = self.shaken.len();
        (count > 0).then(|| self.shaken.swap_remove(self.rng.random_range(0..count))).map(|again| {
            let to = again.to;
            self.shaken.push(again);
            to
        })
    }

    /// It has begun to connect to a machine, for a node there, as another node. What
    /// [`Forger::dials_again`] chose last is said again.
    pub fn dials(&mut self, conn: ConnId, how: Forgery, to: NodeRef, me: NodeRef) {
        let role = match (how, self.shaken.last()) {
            (Forgery::Replayed, Some(again)) => Role::Replays(again.clone()),
            _ => {
                let purposes = [Purpose::Workers, Purpose::Control];
                let params = DialParams {
                    key: self.key_for(how),
                    me,
                    purpose: purposes[self.rng.random_range(0..2)],
                    from_worker: WorkerIndex(0),
                    to,
                    to_worker: WorkerIndex(0),
                    link_epoch: self.rng.random_range(1..1_000_000),
                    versions: VersionRange::SUPPORTED,
                };
                let (dialer, hello) = Dialer::new(params, self.rng.random());
                self.begin(conn, how, Role::Dials(Box::new(dialer)));
                self.attempts.get_mut(&conn).expect("it has begun").came = hello;
                return;
            }
        };
        self.begin(conn, how, role);
    }

    /// One bit of a right proof, or its end, cannot be made wrong without it.
    fn key_for(&self, how: Forgery) -> ClusterKey {
        match how {
            Forgery::Flipped | Forgery::Cut => self.key.clone(),
            _ => self.guessed.clone(),
        }
    }

    /// What it says first on a connection that it made.
    pub fn connected(&mut self, conn: ConnId) -> Says {
        let Some(attempt) = self.attempts.get_mut(&conn) else { return Says::default() };
        let said = std::mem::take(&mut attempt.came);
        let bytes = match (&attempt.role, attempt.how) {
            (_, Forgery::Garbage) => garbage(&mut self.rng),
            (Role::Replays(again), _) => again.dialer().map_or(vec![], |(hello, _)| hello.to_vec()),
            _ => said,
        };
        Says { bytes, closes: false }
    }

    /// A node has connected to a machine that is not there, in whose place it listens.
    pub fn listens(&mut self, conn: ConnId, how: Forgery) -> Says {
        self.begin(conn, how, Role::Listens(None));
        let garbage = (how == Forgery::Garbage).then(|| garbage(&mut self.rng));
        Says { bytes: garbage.unwrap_or_default(), closes: false }
    }

    /// This came on a connection.
    pub fn receives(&mut self, conn: ConnId, bytes: &[u8]) -> Says {
        let Some(mut attempt) = self.attempts.remove(&conn) else { return Says::default() };
        attempt.came.extend_from_slice(bytes);
        let says = match std::mem::replace(&mut attempt.role, Role::Done) {
            Role::Listens(acceptor) => self.answers(&mut attempt, acceptor),
            Role::Done => Says::default(),
            role => self.proves(&mut attempt, role),
        };
        if !says.closes {
            self.attempts.insert(conn, attempt);
        }
        says
    }

    /// As a dialer that was welcomed.
    fn proves(&mut self, attempt: &mut Attempt, mut role: Role) -> Says {
        let Attempt { how, came, .. } = attempt;
        if came.len() < WELCOME_BYTES {
            // A refusal is shorter.
            attempt.role = role;
            return Says::default();
        }
        let (prefix, body) = came[..WELCOME_BYTES].split_at(PROOF);
        let right = match &mut role {
            Role::Dials(dialer) => {
                match dialer.receive(prefix).and_then(|_| dialer.receive(body)) {
                    Ok(DialStep::Send(right)) => right,
                    _ => return Says { bytes: vec![], closes: true },
                }
            }
            Role::Replays(again) => again.dialer().map_or(vec![], |(_, proof)| proof.to_vec()),
            Role::Listens(_) | Role::Done => return Says::default(),
        };
        let said = came[..WELCOME_BYTES].to_vec();
        self.forge(*how, right, said)
    }

    /// As whoever was connected to.
    fn answers(&mut self, attempt: &mut Attempt, acceptor: Option<Box<Acceptor>>) -> Says {
        let (how, came) = (attempt.how, &mut attempt.came);
        let Some(mut acceptor) = acceptor else {
            let Some(length) = message_bytes(came).filter(|length| came.len() >= *length) else {
                attempt.role = Role::Listens(None);
                return Says::default();
            };
            let hello: Vec<u8> = came.drain(..length).collect();
            return self.welcomes(attempt, &hello);
        };
        if came.len() < PROOF_BYTES {
            attempt.role = Role::Listens(Some(acceptor));
            return Says::default();
        }
        let (prefix, proof) = came[..PROOF_BYTES].split_at(PROOF);
        let mut said = came[..PROOF_BYTES].to_vec();
        said[KIND] = 4;
        acceptor.receive(prefix);
        let right = match acceptor.receive(proof) {
            AcceptStep::Done { send, .. } => send,
            _ => {
                let mut made = said.clone();
                self.rng.fill_bytes(&mut made[PROOF..]);
                made
            }
        };
        let again = self.shaken.iter().rev().find_map(|known| known.listener());
        let right = match again.filter(|_| how == Forgery::Replayed) {
            Some((_, ready)) => ready.to_vec(),
            None => right,
        };
        self.forge(how, right, said)
    }

    /// Welcomes a node as whom it looks for.
    fn welcomes(&mut self, attempt: &mut Attempt, hello: &[u8]) -> Says {
        let at = |from: usize| {
            let bytes = hello.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let wanted = NodeRef { node: NodeId(at(64)), incarnation: Incarnation(at(72)) };
        let nobody = NodeRef { node: NodeId::from_name("forger"), incarnation: Incarnation(1) };
        let params = AcceptParams {
            key: self.key_for(attempt.how),
            me: if wanted.node == NodeId(0) { nobody } else { wanted },
            workers: 1,
            versions: VersionRange::SUPPORTED,
            turn_away: None,
            no_place: Default::default(),
            takes: 1 << 20,
        };
        let mut acceptor = Box::new(Acceptor::new(params, self.rng.random()));
        let (prefix, body) = hello.split_at(PROOF);
        acceptor.receive(prefix);
        match acceptor.receive(body) {
            AcceptStep::Send(bytes) => {
                attempt.role = Role::Listens(Some(acceptor));
                Says { bytes, closes: false }
            }
            _ => Says { bytes: vec![], closes: true },
        }
    }

    /// Makes of a proof what it says in its place.
    fn forge(&mut self, how: Forgery, mut proof: Vec<u8>, said: Vec<u8>) -> Says {
        let (rng, length) = (&mut self.rng, proof.len());
        match how {
            Forgery::Zeros => proof[PROOF..].fill(0),
            Forgery::Flipped => {
                proof[rng.random_range(PROOF..length)] ^= 1 << rng.random_range(0..8);
            }
            Forgery::Cut => proof.truncate(rng.random_range(0..length)),
            Forgery::Reflected => proof = said,
            Forgery::Guessed | Forgery::Replayed | Forgery::Garbage => {}
        }
        Says { bytes: proof, closes: how == Forgery::Cut }
    }
}

fn garbage(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(1..400)];
    rng.fill_bytes(&mut bytes);
    bytes
}
