//! The datagrams of membership: what they hold and how they are packed. Reading turns bytes into
//! types that cannot be wrong, before anything is acted on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{Incarnation, MemberState, NodeId, NodeRef};
use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};

use super::belief::{BELIEF_BYTES, Belief};
use super::identity::DATAGRAM_BYTES;
use super::records::{
    MAX_RECORD_BYTES, Record, read_incarnation, read_life, read_state, state_byte,
};

/// The largest datagram: one record of the largest size.
pub const MAX_DATAGRAM_BYTES: usize =
    HEADER_BYTES + 2 * NUMBER_BYTES + ENTRY_BYTES + MAX_RECORD_BYTES;

const HEADER_BYTES: usize = 2 + 8 + 8 + 4;
const NUMBER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 2 + BELIEF_BYTES;

// 1 is the failure detector's: `KIND_SWIM`.
const KIND_RECORDS: u8 = 2;
const KIND_DIGEST: u8 = 3;
const KIND_SUMMARY: u8 = 4;
const KIND_REQUEST: u8 = 5;
const KIND_NAME_TAKEN: u8 = 6;
const KIND_ADDRESS_TAKEN: u8 = 7;
const KIND_HELLO: u8 = 8;
const KIND_KNOWN: u8 = 9;
const KIND_FULL: u8 = 10;
const KIND_PROVE: u8 = 11;
const KIND_UNPROVEN: u8 = 12;

/// The sender asks for everything that the receiver knows.
pub(super) const FLAG_JOIN: u8 = 1;
/// The answer to a join.
pub(super) const FLAG_WELCOME: u8 = 2;
/// The records were refused by the sender, because the receiver has their name.
pub(super) const FLAG_CLAIM: u8 = 4;
/// The sender is a member that others know, not a newcomer itself.
pub(super) const FLAG_ESTABLISHED: u8 = 16;
/// A number comes before the records, or last: that of what they answer.
pub(super) const FLAG_NUMBER: u8 = 32;
/// What the summary lists may run still, or an earlier life of it, although it has ended.
pub(super) const FLAG_AT_LARGE: u8 = 64;
/// The summary holds all that the sender knows within its range.
pub(super) const FLAG_COMPLETE: u8 = 8;
/// A number of the sender comes before the records, for the answer to repeat. The sender knows its
/// own call by it if that comes back.
pub(super) const FLAG_ASKS: u8 = 128;

/// What shows that a datagram answers another one, and is none that is played again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The number of what this answers.
    pub answers: Option<u64>,
    /// What the answer to this has to repeat.
    pub asks: Option<u64>,
}

impl Numbers {
    pub fn answer(number: Option<u64>) -> Self {
        Self { answers: number, asks: None }
    }
}

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub member: NodeRef,
    pub renewal: u32,
}

/// A record with what its sender believes about the member's reachability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordEntry {
    pub record: Record,
    pub belief: Belief,
}

/// A record's place in time, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SummaryEntry {
    pub member: NodeRef,
    pub version: u64,
    pub state: MemberState,
    pub belief: Belief,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Records, for the receiver to merge.
    Records { flags: u8, numbers: Numbers, entries: Vec<RecordEntry> },
    /// Compare this with your own.
    Digest(u64),
    /// The places of the records from `low` to `high`, or of some.
    Summary { flags: u8, low: NodeId, high: NodeId, entries: Vec<SummaryEntry> },
    /// Send me these, with this number.
    Request { number: u64, nodes: Vec<NodeId> },
    /// Your name is mine; said to the life of the claimant that asked.
    NameTaken { about: Incarnation, by: SocketAddr, established: bool },
    /// Your address is that of a member that answers; said to the life that asked.
    AddressTaken { about: Incarnation, by: Arc<str> },
    /// There is no room for you among so many members; said to the life that asked.
    Full { about: Incarnation, limit: u32 },
    /// Sent to the address that this life advertises: if it is there, it repeats the number with
    /// its record. `answers` is the number of what this answers, if that had one: it shows that the
    /// sender gets what is sent to it.
    Prove { about: NodeRef, number: u64, answers: Option<u64> },
    /// You are not let in before you answer what was sent to the address that you advertise; said
    /// to the life that asked, where its datagrams come from.
    Unproven { about: Incarnation },
    /// I am about to start: which is the latest life of mine that you have heard of?
    Hello { nonce: u64 },
    /// The answer to a hello: the latest incarnation, 0 if there is none.
    Known { nonce: u64, incarnation: Incarnation },
}

/// A datagram other than the failure detector's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub sender: Sender,
    pub body: Body,
}

impl Message {
    /// Reads a whole datagram.
    pub fn read(bytes: &[u8]) -> ReadResult<Self> {
        let mut reader = Reader::new(bytes);
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        let sender = Sender { member: read_life(&mut reader)?, renewal: reader.u32()? };
        let body = match kind {
            KIND_RECORDS => {
                let mut number = |flag| (flags & flag != 0).then(|| reader.u64()).transpose();
                let numbers = Numbers { answers: number(FLAG_NUMBER)?, asks: number(FLAG_ASKS)? };
                Body::Records { flags, numbers, entries: read_records(&mut reader)? }
            }
            KIND_DIGEST => Body::Digest(reader.u64()?),
            KIND_SUMMARY => {
                let (low, high) = (NodeId(reader.u64()?), NodeId(reader.u64()?));
                let mut entries = Vec::new();
                while !reader.is_empty() {
                    entries.push(read_summary_entry(&mut reader)?);
                }
                each_once(entries.iter().map(|entry| entry.member.node))?;
                Body::Summary { flags, low, high, entries }
            }
            KIND_REQUEST => {
                let number = reader.u64()?;
                let mut nodes = Vec::new();
                while !reader.is_empty() {
                    nodes.push(NodeId(reader.u64()?));
                }
                each_once(nodes.iter().copied())?;
                Body::Request { number, nodes }
            }
            KIND_NAME_TAKEN => {
                let established = flags & FLAG_ESTABLISHED != 0;
                let about = Incarnation(reader.u64()?);
                Body::NameTaken { about, by: reader.address()?, established }
            }
            KIND_ADDRESS_TAKEN => {
                Body::AddressTaken { about: Incarnation(reader.u64()?), by: reader.text()? }
            }
            KIND_FULL => Body::Full { about: Incarnation(reader.u64()?), limit: reader.u32()? },
            KIND_PROVE => {
                let (about, number) = (read_life(&mut reader)?, reader.u64()?);
                let answers = (flags & FLAG_NUMBER != 0).then(|| reader.u64()).transpose()?;
                Body::Prove { about, number, answers }
            }
            KIND_UNPROVEN => Body::Unproven { about: Incarnation(reader.u64()?) },
            KIND_HELLO => Body::Hello { nonce: reader.u64()? },
            KIND_KNOWN => {
                let nonce = reader.u64()?;
                Body::Known { nonce, incarnation: read_incarnation(&mut reader)? }
            }
            _ => return Err(Unreadable("its kind is not known here")),
        };
        reader.end()?;
        Ok(Self { sender, body })
    }
}

fn read_records(reader: &mut Reader<'_>) -> ReadResult<Vec<RecordEntry>> {
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let belief = Belief::read(reader)?;
        let length = usize::from(reader.u16()?);
        if length > MAX_RECORD_BYTES {
            return Err(Unreadable("a record is larger than any member's"));
        }
        let mut body = Reader::new(reader.bytes(length)?);
        let record = Record::read(&mut body)?;
        if !body.is_empty() {
            return Err(Unreadable("a record is followed by more bytes"));
        }
        entries.push(RecordEntry { record, belief });
    }
    each_once(entries.iter().map(|entry| entry.record.member.id))?;
    Ok(entries)
}

/// Each node that a datagram names may be answered for, and by a record that is much longer.
fn each_once(mut nodes: impl Iterator<Item = NodeId>) -> ReadResult<()> {
    let mut named = BTreeSet::new();
    match nodes.all(|node| named.insert(node)) {
        true => Ok(()),
        false => Err(Unreadable("it names a node twice")),
    }
}

fn read_summary_entry(reader: &mut Reader<'_>) -> ReadResult<SummaryEntry> {
    Ok(SummaryEntry {
        member: read_life(reader)?,
        version: reader.u64()?,
        state: read_state(reader.u8()?)?,
        belief: Belief::read(reader)?,
    })
}

/// Packs parts into as few datagrams as fit, and hands each to `emit` when it is full.
pub(super) struct Packer<F: FnMut(&[u8])> {
    datagram: Vec<u8>,
    header_bytes: usize,
    part: Vec<u8>,
    emit: F,
}

impl<F: FnMut(&[u8])> Packer<F> {
    fn new(kind: u8, flags: u8, sender: Sender, emit: F) -> Self {
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
        put_header(&mut Writer::new(&mut datagram), kind, flags, sender);
        let header_bytes = datagram.len();
        Self { datagram, header_bytes, part: Vec::new(), emit }
    }

    pub fn records(flags: u8, numbers: Numbers, sender: Sender, emit: F) -> Self {
        let Numbers { answers, asks } = numbers;
        let with = |number: Option<u64>, flag| if number.is_some() { flag } else { 0 };
        let flags = flags | with(answers, FLAG_NUMBER) | with(asks, FLAG_ASKS);
        let mut packer = Self::new(KIND_RECORDS, flags, sender, emit);
        answers.into_iter().chain(asks).for_each(|number| packer.begin_with(number));
        packer
    }

    pub fn requests(sender: Sender, number: u64, emit: F) -> Self {
        let mut packer = Self::new(KIND_REQUEST, 0, sender, emit);
        packer.begin_with(number);
        packer
    }

    /// Each datagram begins with this.
    fn begin_with(&mut self, number: u64) {
        Writer::new(&mut self.datagram).u64(number);
        self.header_bytes = self.datagram.len();
    }

    /// Gives how many bytes it takes.
    pub fn record(&mut self, record: &Record, belief: Belief) -> usize {
        self.part.clear();
        let mut out = Writer::new(&mut self.part);
        belief.put(&mut out);
        // Records are held to a size that fits when they are made and when they are read.
        out.sized(|out| record.put(out));
        self.add_part();
        self.part.len()
    }

    pub fn request(&mut self, node: NodeId) {
        self.part.clear();
        Writer::new(&mut self.part).u64(node.0);
        self.add_part();
    }

    fn add_part(&mut self) {
        if self.datagram.len() + self.part.len() > DATAGRAM_BYTES {
            self.flush();
        }
        self.datagram.extend_from_slice(&self.part);
    }

    fn flush(&mut self) {
        if self.datagram.len() > self.header_bytes {
            (self.emit)(&self.datagram);
            self.datagram.truncate(self.header_bytes);
        }
    }

    /// Hands over what is left.
    pub fn finish(mut self) {
        self.flush();
    }
}

fn put_header(out: &mut Writer<'_>, kind: u8, flags: u8, sender: Sender) {
    out.u8(kind).u8(flags).node_ref(sender.member).u32(sender.renewal);
}

/// A datagram that has one body.
fn datagram(
    kind: u8,
    flags: u8,
    sender: Sender,
    body: impl for<'w, 'o> FnOnce(&'w mut Writer<'o>) -> &'w mut Writer<'o>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Writer::new(&mut bytes);
    put_header(&mut out, kind, flags, sender);
    body(&mut out);
    bytes
}

/// The length of a request for one record.
pub(super) const REQUEST_BYTES: usize = HEADER_BYTES + NUMBER_BYTES + 8;

pub(super) fn digest(sender: Sender, digest: u64) -> Vec<u8> {
    datagram(KIND_DIGEST, 0, sender, |out| out.u64(digest))
}

pub(super) fn name_taken(
    sender: Sender,
    about: Incarnation,
    by: SocketAddr,
    established: bool,
) -> Vec<u8> {
    let flags = if established { FLAG_ESTABLISHED } else { 0 };
    datagram(KIND_NAME_TAKEN, flags, sender, |out| out.u64(about.0).address(by))
}

pub(super) fn address_taken(sender: Sender, about: Incarnation, by: &str) -> Vec<u8> {
    datagram(KIND_ADDRESS_TAKEN, 0, sender, |out| out.u64(about.0).text(by))
}

pub(super) fn full(sender: Sender, about: Incarnation, limit: u32) -> Vec<u8> {
    datagram(KIND_FULL, 0, sender, |out| out.u64(about.0).u32(limit))
}

pub(super) fn prove(sender: Sender, about: NodeRef, number: u64, answers: Option<u64>) -> Vec<u8> {
    let flags = if answers.is_some() { FLAG_NUMBER } else { 0 };
    datagram(KIND_PROVE, flags, sender, |out| {
        answers.into_iter().fold(out.node_ref(about).u64(number), |out, number| out.u64(number))
    })
}

pub(super) fn unproven(sender: Sender, about: Incarnation) -> Vec<u8> {
    datagram(KIND_UNPROVEN, 0, sender, |out| out.u64(about.0))
}

pub(super) fn hello(sender: Sender, nonce: u64) -> Vec<u8> {
    datagram(KIND_HELLO, 0, sender, |out| out.u64(nonce))
}

pub(super) fn known(sender: Sender, nonce: u64, incarnation: Incarnation) -> Vec<u8> {
    datagram(KIND_KNOWN, 0, sender, |out| out.u64(nonce).u64(incarnation.0))
}

/// How many entries of a summary fit one datagram.
pub(super) const SUMMARY_ENTRIES: usize =
    (DATAGRAM_BYTES - HEADER_BYTES - 16) / (8 + 8 + 8 + 1 + BELIEF_BYTES);

/// Entries that say something about a few members, and nothing about others.
pub(super) fn remarks(sender: Sender, entries: &[SummaryEntry], mut emit: impl FnMut(&[u8])) {
    for chunk in entries.chunks(SUMMARY_ENTRIES) {
        emit(&summary(0, sender, NodeId(0), NodeId(0), chunk));
    }
}

/// Former members, as many as fit one datagram at the most.
pub(super) fn former(sender: Sender, flags: u8, entries: &[SummaryEntry]) -> Vec<u8> {
    summary(flags, sender, NodeId(0), NodeId(0), entries)
}

/// Entries, sorted by node, that say all that is known. The ranges of the datagrams join without
/// a gap, so that the receiver sees what is missing from each on its own.
pub(super) fn complete(sender: Sender, entries: &[SummaryEntry], mut emit: impl FnMut(&[u8])) {
    let mut low = NodeId(0);
    let mut chunks = entries.chunks(SUMMARY_ENTRIES).peekable();
    while let Some(chunk) = chunks.next() {
        let last = chunk.last().expect("chunks are not empty").member.node;
        let high = if chunks.peek().is_some() { last } else { NodeId(u64::MAX) };
        emit(&summary(FLAG_COMPLETE, sender, low, high, chunk));
        low = NodeId(last.0.saturating_add(1));
    }
}

fn summary(
    flags: u8,
    sender: Sender,
    low: NodeId,
    high: NodeId,
    entries: &[SummaryEntry],
) -> Vec<u8> {
    datagram(KIND_SUMMARY, flags, sender, |out| {
        out.u64(low.0).u64(high.0);
        for entry in entries {
            out.node_ref(entry.member).u64(entry.version).u8(state_byte(entry.state));
            entry.belief.put(out);
        }
        out
    })
}
