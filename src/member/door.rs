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

use crate::base::{Member, Time};
use crate::wire::codec::Writer;

use super::messages::{self, FLAG_ESTABLISHED, FLAG_JOIN, MAX_DATAGRAM_BYTES, Packer, RecordEntry};
use super::{MemberError, MemberSink, Membership};

/// A number is good for the rest of its period, and the next one.
const PERIOD: Duration = Duration::from_secs(10);
/// A newcomer that has been told for so long that it is awaited at its address, and was not asked
/// there, cannot be reached there.
const PATIENCE: Duration = Duration::from_millis(500);

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

    /// With which number this node calls an address.
    pub fn call_number(&self, to: SocketAddr) -> u64 {
        let mut bytes = Vec::with_capacity(32);
        Writer::new(&mut bytes).u64(self.secret).address(to);
        xxh3_64_with_seed(&bytes, self.secret.rotate_left(16))
    }

    fn number(&self, period: u64, member: &Member) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        let mut out = Writer::new(&mut bytes);
        out.u64(self.secret).u64(period).u64(member.id.0).u64(member.incarnation.0);
        out.address(member.address);
        xxh3_64_with_seed(&bytes, self.secret.rotate_left(32))
    }

    fn proves(&self, now: Time, member: &Member, number: u64) -> bool {
        let period = period(now);
        let mut good = [Some(period), period.checked_sub(1)].into_iter().flatten();
        good.any(|period| self.number(period, member) == number)
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
        proof: Option<u64>,
        sink: &mut dyn MemberSink,
    ) -> bool {
        let member = &entry.record.member;
        if proof.is_some_and(|number| self.door.proves(now, member, number)) {
            return true;
        }
        sink.not_proven(member, from);
        let number = self.door.number(period(now), member);
        sink.send(member.address, &messages::prove(self.sender(), member.node_ref(), number));
        if from != member.address {
            sink.send(from, &messages::unproven(self.sender(), member.incarnation));
        }
        false
    }

    /// Somebody asks, at this node's address, whether it is there. The answer to a node that has
    /// not been listed yet is to show that it is.
    pub(super) fn prove_own(
        &mut self,
        now: Time,
        from: SocketAddr,
        is_stranger: bool,
        number: u64,
        sink: &mut dyn MemberSink,
    ) {
        self.door.asked = Some(now);
        self.door.awaited_since = None;
        let asks_all = is_stranger || !self.established;
        let flags = self.flags(if asks_all { FLAG_JOIN } else { 0 });
        let mut packer = Packer::numbered(flags, self.sender(), number, |out| {
            debug_assert!(out.len() <= MAX_DATAGRAM_BYTES);
            sink.send(from, out);
        });
        packer.record(self.directory.own(), self.own_belief());
        packer.finish();
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
