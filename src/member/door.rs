//! Who is let in: a life that speaks for itself where it is not known is taken up once it has answered a datagram that was sent to the
//! address it *advertises*. One whose address leads nowhere, or to somebody else, would otherwise
//! be given its share of keys, be found silent, and come back as soon as it spoke.
//!
//! The member that lets a newcomer in looks; the others take its word, as for all records. It looks
//! also at one that is a member already of those whom it came from: addresses that lead to it from
//! one network (a loopback interface, a private one) may lead nowhere from another. Nothing
//! is kept of who stands at the door: the number that a newcomer has to repeat follows from who it
//! is and from a secret of this node, so that any number of them take no memory.

use std::net::SocketAddr;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::{NodeRef, Time};
use crate::wire::codec::Writer;

use super::messages::{self, Body, FLAG_ESTABLISHED, FLAG_JOIN, Message, Numbers, RecordEntry};
use super::{MemberError, MemberSink, Membership};

/// A number is good for the rest of its period, and the next one: for less than any
/// `membership.tombstone_ms`, so that what was said of a life is no answer any more when its end is
/// forgotten.
const PERIOD: Duration = Duration::from_secs(5);
/// A newcomer that has been told for so long that it is awaited at its address, and was not asked
/// there, cannot be reached there.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a number was sent with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// A call at an address, whoever is there.
    Call,
    /// The question whether this life is at its address.
    Proof(NodeRef),
    /// A request for records, to this life.
    Records(NodeRef),
}

/// This node's side of doors: its own, and those of others.
#[derive(Debug)]
pub(super) struct Door {
    secret: u64,
    /// Since when others have said that they await this node's answer.
    awaited_since: Option<Time>,
    /// When this node was last asked at the address it advertises.
    asked: Option<Time>,
}

impl Door {
    pub fn new(secret: u64) -> Self {
        Self { secret, awaited_since: None, asked: None }
    }

    /// With which number this node asks at an address.
    pub fn number(&self, now: Time, asked: Asked, at: SocketAddr) -> u64 {
        self.hash(period(now), asked, at)
    }

    /// Whether this node has asked so a moment ago, with this number. It proves that who repeats it
    /// got what was sent there.
    pub fn has_asked(&self, now: Time, asked: Asked, at: SocketAddr, number: u64) -> bool {
        let period = period(now);
        let mut good = [Some(period), period.checked_sub(1)].into_iter().flatten();
        good.any(|period| self.hash(period, asked, at) == number)
    }

    fn hash(&self, period: u64, asked: Asked, at: SocketAddr) -> u64 {
        let (kind, whom) = match asked {
            Asked::Call => (0, None),
            Asked::Proof(whom) => (1, Some(whom)),
            Asked::Records(whom) => (2, Some(whom)),
        };
        let mut bytes = Vec::with_capacity(64);
        let mut out = Writer::new(&mut bytes);
        out.u64(self.secret).u64(period).u8(kind).address(at);
        if let Some(whom) = whom {
            out.node_ref(whom);
        }
        xxh3_64_with_seed(&bytes, self.secret.rotate_left(32))
    }
}

fn period(now: Time) -> u64 {
    now.0 / PERIOD.as_nanos() as u64
}

impl Membership {
    /// Whether another node was seen to list this one.
    pub fn is_listed(&self) -> bool {
        self.established
    }

    /// The flags of records that this node sends.
    pub(super) fn flags(&self, flags: u8) -> u8 {
        if self.established { flags | FLAG_ESTABLISHED } else { flags }
    }

    /// Whether a newcomer has proven that it is where it says; if not it is asked there, and told
    /// so where its datagrams come from.
    pub(super) fn is_proven(
        &self,
        now: Time,
        from: SocketAddr,
        entry: &RecordEntry,
        Numbers { answers: proof, asks }: Numbers,
        sink: &mut dyn MemberSink,
    ) -> bool {
        let member = &entry.record.member;
        let asked = Asked::Proof(member.node_ref());
        let proves = |number| self.door.has_asked(now, asked, member.address, number);
        if proof.is_some_and(proves) {
            return true;
        }
        sink.not_proven(member, from);
        let number = self.door.number(now, asked, member.address);
        let question = messages::prove(self.sender(), member.node_ref(), number, asks);
        sink.send(member.address, &question);
        if from != member.address {
            sink.send(from, &messages::unproven(self.sender(), member.incarnation));
        }
        false
    }

    /// Somebody asks, at this node's address, whether it is there. The answer to a node that has
    /// not been listed yet is to show that it is. Where that is too long for who has not shown that
    /// it is where its question came from, it is asked in turn, and asks again with that number.
    pub(super) fn prove_own(
        &mut self,
        now: Time,
        (asker, from): (NodeRef, SocketAddr),
        is_stranger: bool,
        number: u64,
        sink: &mut dyn MemberSink,
    ) {
        self.door.asked = Some(now);
        self.door.awaited_since = None;
        let asks_all = is_stranger || !self.established;
        let asks = asks_all.then(|| self.door.number(now, Asked::Call, from));
        let numbers = Numbers { answers: Some(number), asks };
        let own = self.own_datagram(if asks_all { FLAG_JOIN } else { 0 }, numbers);
        if !self.answers.affords(own.len()) {
            self.request(now, &[asker.node], (asker, from), sink);
        } else if self.answers.proven.may(now, (from, number)) {
            sink.send(from, &own);
        }
    }

    /// Who is asked for its record, and is no member, asks in turn: it shows that it got the
    /// request, and wants to see that what it sends arrives.
    pub(super) fn ask_in_turn(
        &mut self,
        now: Time,
        (asker, from): (NodeRef, SocketAddr),
        number: u64,
        sink: &mut dyn MemberSink,
    ) {
        if self.answers.introduced.may(now, from) {
            let proof = self.door.number(now, Asked::Proof(asker), from);
            sink.send(from, &messages::prove(self.sender(), asker, proof, Some(number)));
        }
    }

    /// Whether a datagram shows that its sender gets what is sent to where it is answered.
    pub(super) fn gets_answers(&self, now: Time, from: SocketAddr, message: &Message) -> bool {
        let number = match message.body {
            Body::Records { numbers: Numbers { answers, .. }, .. } => answers,
            Body::Prove { answers, .. } => answers,
            _ => None,
        };
        let Some(number) = number else { return false };
        let sender = message.sender.member;
        let at = self.current(sender).map_or(from, |held| held.record.member.address);
        let asked = [Asked::Call, Asked::Proof(sender), Asked::Records(sender)];
        asked.into_iter().any(|asked| self.door.has_asked(now, asked, at, number))
    }

    /// Somebody awaits this node's answer to what it has sent to this node's address.
    pub(super) fn is_awaited(&mut self, now: Time) -> Result<(), MemberError> {
        if self.door.asked.is_some_and(|at| now.since(at) < PERIOD) {
            return Ok(());
        }
        let since = *self.door.awaited_since.get_or_insert(now);
        if now.since(since) < PATIENCE {
            return Ok(());
        }
        Err(MemberError::NotReached { address: self.directory.own().member.address })
    }
}
