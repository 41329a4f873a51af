//! The datagrams of membership: what they hold and how they are packed. Reading turns bytes into
//! types that cannot be wrong, before anything is acted on.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{Incarnation, MemberState, NodeId, NodeRef};

use super::codec::{ReadResult, Reader, Unreadable, put_address, put_text};
use super::reachability::{BELIEF_BYTES, Belief};
use super::records::{MAX_RECORD_BYTES, Record, read_state, state_byte};

/// How large a datagram is made when its parts allow it.
pub(super) const DATAGRAM_BYTES: usize = 1_400;
/// The largest datagram: one record of the largest size.
pub const MAX_DATAGRAM_BYTES: usize = HEADER_BYTES + PROOF_BYTES + ENTRY_BYTES + MAX_RECORD_BYTES;

const HEADER_BYTES: usize = 2 + 8 + 8 + 4;
const PROOF_BYTES: usize = 8;
const ENTRY_BYTES: usize = 2 + BELIEF_BYTES;

pub(super) const KIND_SWIM: u8 = 1;
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
/// The records answer a [`Body::Prove`], whose number comes before them.
pub(super) const FLAG_PROOF: u8 = 32;
/// The summary holds all that the sender knows within its range.
pub(super) const FLAG_COMPLETE: u8 = 8;

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
    Records { flags: u8, proof: Option<u64>, entries: Vec<RecordEntry> },
    /// Compare this with your own.
    Digest(u64),
    /// The places of the records from `low` to `high`.
    Summary { complete: bool, low: NodeId, high: NodeId, entries: Vec<SummaryEntry> },
    /// Send me these.
    Request(Vec<NodeId>),
    /// Your name is mine; said to the life of the claimant that asked.
    NameTaken { about: Incarnation, by: SocketAddr, established: bool },
    /// Your address is that of a member that answers; said to the life that asked.
    AddressTaken { about: Incarnation, by: Arc<str> },
    /// There is no room for you among so many members; said to the life that asked.
    Full { about: Incarnation, limit: u32 },
    /// Sent to the address that this life advertises: if it is there, it repeats the number with
    /// its record.
    Prove { about: NodeRef, number: u64 },
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
        let node = NodeId(reader.u64()?);
        let incarnation = Incarnation(reader.u64()?);
        let renewal = reader.u32()?;
        let sender = Sender { member: NodeRef { node, incarnation }, renewal };
        let body = match kind {
            KIND_RECORDS => {
                let proof = if flags & FLAG_PROOF != 0 { Some(reader.u64()?) } else { None };
                Body::Records { flags, proof, entries: read_records(&mut reader)? }
            }
            KIND_DIGEST => Body::Digest(reader.u64()?),
            KIND_SUMMARY => {
                let (low, high) = (NodeId(reader.u64()?), NodeId(reader.u64()?));
                let mut entries = Vec::new();
                while !reader.is_empty() {
                    entries.push(read_summary_entry(&mut reader)?);
                }
                Body::Summary { complete: flags & FLAG_COMPLETE != 0, low, high, entries }
            }
            KIND_REQUEST => {
                let mut nodes = Vec::new();
                while !reader.is_empty() {
                    nodes.push(NodeId(reader.u64()?));
                }
                Body::Request(nodes)
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
                let (node, incarnation) = (NodeId(reader.u64()?), Incarnation(reader.u64()?));
                let about = NodeRef { node, incarnation };
                Body::Prove { about, number: reader.u64()? }
            }
            KIND_UNPROVEN => Body::Unproven { about: Incarnation(reader.u64()?) },
            KIND_HELLO => Body::Hello { nonce: reader.u64()? },
            KIND_KNOWN => {
                let nonce = reader.u64()?;
                Body::Known { nonce, incarnation: Incarnation(reader.u64()?) }
            }
            _ => return Err(Unreadable("its kind is not known here")),
        };
        if reader.is_empty() {
            Ok(Self { sender, body })
        } else {
            Err(Unreadable("bytes are left over"))
        }
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
    Ok(entries)
}

fn read_summary_entry(reader: &mut Reader<'_>) -> ReadResult<SummaryEntry> {
    let node = NodeId(reader.u64()?);
    let incarnation = Incarnation(reader.u64()?);
    let version = reader.u64()?;
    let state = read_state(reader.u8()?)?;
    let belief = Belief::read(reader)?;
    Ok(SummaryEntry { member: NodeRef { node, incarnation }, version, state, belief })
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
        put_header(&mut datagram, kind, flags, sender);
        let header_bytes = datagram.len();
        Self { datagram, header_bytes, part: Vec::new(), emit }
    }

    pub fn records(flags: u8, sender: Sender, emit: F) -> Self {
        Self::new(KIND_RECORDS, flags, sender, emit)
    }

    /// Records that answer a [`Body::Prove`].
    pub fn proof(flags: u8, sender: Sender, number: u64, emit: F) -> Self {
        let mut packer = Self::new(KIND_RECORDS, flags | FLAG_PROOF, sender, emit);
        packer.datagram.extend_from_slice(&number.to_le_bytes());
        packer.header_bytes = packer.datagram.len();
        packer
    }

    pub fn requests(sender: Sender, emit: F) -> Self {
        Self::new(KIND_REQUEST, 0, sender, emit)
    }

    pub fn record(&mut self, record: &Record, belief: Belief) {
        self.part.clear();
        belief.put(&mut self.part);
        let length_at = self.part.len();
        self.part.extend_from_slice(&[0; 2]);
        record.put(&mut self.part);
        // Records are held to a size that fits when they are made and when they are read.
        let length = (self.part.len() - length_at - 2) as u16;
        self.part[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
        self.add_part();
    }

    pub fn request(&mut self, node: NodeId) {
        self.part.clear();
        self.part.extend_from_slice(&node.0.to_le_bytes());
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

fn put_header(out: &mut Vec<u8>, kind: u8, flags: u8, sender: Sender) {
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&sender.member.node.0.to_le_bytes());
    out.extend_from_slice(&sender.member.incarnation.0.to_le_bytes());
    out.extend_from_slice(&sender.renewal.to_le_bytes());
}

pub(super) fn digest(sender: Sender, digest: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_DIGEST, 0, sender);
    out.extend_from_slice(&digest.to_le_bytes());
    out
}

pub(super) fn name_taken(
    sender: Sender,
    about: Incarnation,
    by: SocketAddr,
    established: bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    let flags = if established { FLAG_ESTABLISHED } else { 0 };
    put_header(&mut out, KIND_NAME_TAKEN, flags, sender);
    out.extend_from_slice(&about.0.to_le_bytes());
    put_address(&mut out, by);
    out
}

pub(super) fn address_taken(sender: Sender, about: Incarnation, by: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_ADDRESS_TAKEN, 0, sender);
    out.extend_from_slice(&about.0.to_le_bytes());
    put_text(&mut out, by);
    out
}

pub(super) fn full(sender: Sender, about: Incarnation, limit: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_FULL, 0, sender);
    out.extend_from_slice(&about.0.to_le_bytes());
    out.extend_from_slice(&limit.to_le_bytes());
    out
}

pub(super) fn prove(sender: Sender, about: NodeRef, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_PROVE, 0, sender);
    out.extend_from_slice(&about.node.0.to_le_bytes());
    out.extend_from_slice(&about.incarnation.0.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out
}

pub(super) fn unproven(sender: Sender, about: Incarnation) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_UNPROVEN, 0, sender);
    out.extend_from_slice(&about.0.to_le_bytes());
    out
}

pub(super) fn hello(sender: Sender, nonce: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_HELLO, 0, sender);
    out.extend_from_slice(&nonce.to_le_bytes());
    out
}

pub(super) fn known(sender: Sender, nonce: u64, incarnation: Incarnation) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, KIND_KNOWN, 0, sender);
    out.extend_from_slice(&nonce.to_le_bytes());
    out.extend_from_slice(&incarnation.0.to_le_bytes());
    out
}

/// How many entries of a summary fit one datagram.
const SUMMARY_ENTRIES: usize =
    (DATAGRAM_BYTES - HEADER_BYTES - 16) / (8 + 8 + 8 + 1 + BELIEF_BYTES);

/// Entries that say something about a few members, and nothing about others.
pub(super) fn remarks(sender: Sender, entries: &[SummaryEntry], mut emit: impl FnMut(&[u8])) {
    for chunk in entries.chunks(SUMMARY_ENTRIES) {
        emit(&summary(0, sender, NodeId(0), NodeId(0), chunk));
    }
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
    let mut out = Vec::with_capacity(DATAGRAM_BYTES);
    put_header(&mut out, KIND_SUMMARY, flags, sender);
    out.extend_from_slice(&low.0.to_le_bytes());
    out.extend_from_slice(&high.0.to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.member.node.0.to_le_bytes());
        out.extend_from_slice(&entry.member.incarnation.0.to_le_bytes());
        out.extend_from_slice(&entry.version.to_le_bytes());
        out.push(state_byte(entry.state));
        entry.belief.put(&mut out);
    }
    out
}
