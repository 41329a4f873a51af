//! A member as the failure detector knows it, and how its messages stand on the wire.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use foca::{Header, Member as SwimMember, Message, State};

use crate::base::{NodeId, NodeRef};
use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};
use crate::wire::datagram::WHOLE_BYTES;

use super::records::read_life;

/// How large a datagram of records is made when they allow it: only a longer record goes in pieces.
pub(super) const DATAGRAM_BYTES: usize = WHOLE_BYTES;
/// The kind of datagrams that are the failure detector's.
pub(super) const KIND_SWIM: u8 = 1;

/// Of whom one thing is believed: a node at an address. Not an address alone, since nodes of several
/// names may have it one after another, and what the incarnations of one name are says nothing about
/// those of another: a clock that went back in between would have the next one stay dead for ever.
pub(super) type Home = (SocketAddr, NodeId);

pub(super) fn home(address: SocketAddr, node: NodeId) -> Home {
    (address, node)
}

/// One identity of one life of a node: it is renewed, not restarted, when others took the node for
/// dead and it was not, so that it comes back under the same incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwimId {
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Which life of which node.
    pub member: NodeRef,
    /// How often it has had to refute its death.
    pub renewal: u32,
}

impl foca::Identity for SwimId {
    type Addr = Home;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Self { renewal, ..*self })
    }

    fn addr(&self) -> Home {
        self.home()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let rank = |id: &Self| (id.member.incarnation, id.renewal);
        rank(self) > rank(adversary)
    }
}

impl SwimId {
    /// What it shares with the other identities of its node there.
    pub fn home(&self) -> Home {
        home(self.address, self.member.node)
    }

    pub(super) fn put(&self, out: &mut Writer<'_>) {
        out.address(self.address).node_ref(self.member).u32(self.renewal);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> ReadResult<Self> {
        let (address, member) = (reader.address()?, read_life(reader)?);
        Ok(Self { address, member, renewal: reader.u32()? })
    }
}

/// Writes and reads the failure detector's messages.
#[derive(Debug, Default)]
pub(super) struct SwimCodec {
    scratch: Vec<u8>,
}

impl SwimCodec {
    fn emit(&mut self, mut buf: impl BufMut) -> Result<(), Unreadable> {
        if buf.remaining_mut() < self.scratch.len() {
            return Err(Unreadable("no room is left in the datagram"));
        }
        buf.put_slice(&self.scratch);
        Ok(())
    }
}

impl foca::Codec<SwimId> for SwimCodec {
    type Error = Unreadable;

    fn encode_header(&mut self, header: &Header<SwimId>, buf: impl BufMut) -> ReadResult<()> {
        self.scratch.clear();
        let out = &mut Writer::new(&mut self.scratch);
        header.src.put(out);
        out.u16(header.src_incarnation);
        header.dst.put(out);
        match &header.message {
            Message::Ping(number) => {
                out.u8(0).u8(*number);
            }
            Message::Ack(number) => {
                out.u8(1).u8(*number);
            }
            Message::PingReq { target, probe_number } => {
                out.u8(2).u8(*probe_number);
                target.put(out);
            }
            Message::IndirectPing { origin, probe_number } => {
                out.u8(3).u8(*probe_number);
                origin.put(out);
            }
            Message::IndirectAck { target, probe_number } => {
                out.u8(4).u8(*probe_number);
                target.put(out);
            }
            Message::ForwardedAck { origin, probe_number } => {
                out.u8(5).u8(*probe_number);
                origin.put(out);
            }
            Message::Announce => {
                out.u8(6);
            }
            Message::Feed => {
                out.u8(7);
            }
            Message::Gossip => {
                out.u8(8);
            }
            Message::Broadcast => {
                out.u8(9);
            }
            Message::TurnUndead => {
                out.u8(10);
            }
        }
        self.emit(buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> ReadResult<Header<SwimId>> {
        let chunk = buf.chunk();
        let mut reader = Reader::new(chunk);
        let header = read_header(&mut reader)?;
        let used = chunk.len() - reader.rest().len();
        buf.advance(used);
        Ok(header)
    }

    fn encode_member(&mut self, member: &SwimMember<SwimId>, buf: impl BufMut) -> ReadResult<()> {
        self.scratch.clear();
        let out = &mut Writer::new(&mut self.scratch);
        member.id().put(out);
        out.u16(member.incarnation()).u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        self.emit(buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> ReadResult<SwimMember<SwimId>> {
        let chunk = buf.chunk();
        let mut reader = Reader::new(chunk);
        let member = read_member(&mut reader)?;
        let used = chunk.len() - reader.rest().len();
        buf.advance(used);
        Ok(member)
    }
}

fn read_header(reader: &mut Reader<'_>) -> ReadResult<Header<SwimId>> {
    let src = SwimId::read(reader)?;
    let src_incarnation = reader.u16()?;
    let dst = SwimId::read(reader)?;
    let message = match reader.u8()? {
        0 => Message::Ping(reader.u8()?),
        1 => Message::Ack(reader.u8()?),
        2 => {
            let probe_number = reader.u8()?;
            Message::PingReq { target: SwimId::read(reader)?, probe_number }
        }
        3 => {
            let probe_number = reader.u8()?;
            Message::IndirectPing { origin: SwimId::read(reader)?, probe_number }
        }
        4 => {
            let probe_number = reader.u8()?;
            Message::IndirectAck { target: SwimId::read(reader)?, probe_number }
        }
        5 => {
            let probe_number = reader.u8()?;
            Message::ForwardedAck { origin: SwimId::read(reader)?, probe_number }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        10 => Message::TurnUndead,
        _ => return Err(Unreadable("the probe message is of an unknown kind")),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

fn read_member(reader: &mut Reader<'_>) -> ReadResult<SwimMember<SwimId>> {
    let id = SwimId::read(reader)?;
    let incarnation = reader.u16()?;
    let state = match reader.u8()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(Unreadable("a member is in an unknown state of suspicion")),
    };
    Ok(SwimMember::new(id, incarnation, state))
}

/// A probe beside the detector's own ones. A member that is suspected, under this counter, is told so
/// with it; the detector itself leaves that to gossip.
pub(super) fn put_ping(own: &SwimId, to: &SwimId, suspected: Option<u16>, out: &mut Vec<u8>) {
    let out = &mut Writer::new(out);
    own.put(out);
    // The receiver knows the sender's counter of refutations; the lowest changes nothing there.
    out.u16(0);
    to.put(out);
    // A ping of number 0, and at most one member behind it: the one number here that is big-endian.
    out.u8(0).u8(0).bytes(&u16::from(suspected.is_some()).to_be_bytes());
    if let Some(incarnation) = suspected {
        to.put(out);
        out.u16(incarnation).u8(1);
    }
}

/// The answer to a probe by somebody whom the detector itself does not answer, since it does not know
/// it yet. `refuted` is above the counter of the suspicion that came with it.
pub(super) fn put_answer(own: &SwimId, refuted: u16, to: &SwimId, asked: Asked, out: &mut Vec<u8>) {
    let out = &mut Writer::new(out);
    own.put(out);
    out.u16(refuted);
    to.put(out);
    match asked {
        Asked::Directly(number) => {
            out.u8(1).u8(number);
        }
        Asked::ForAnother(origin, number) => {
            out.u8(4).u8(number);
            origin.put(out);
        }
    }
    // No members behind it.
    out.u16(0);
}

/// How this node is probed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// By the sender, under this number.
    Directly(u8),
    /// By another, through the sender.
    ForAnother(SwimId, u8),
}

/// What a message of the failure detector says before it is acted on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// Who sent it.
    pub src: SwimId,
    /// The counter under which it calls this node suspect.
    pub doubts: Option<u16>,
    /// Whether it calls this node's identity dead, or leaves it no counter to say that it is not.
    pub buries: bool,
    /// Whether it calls others dead.
    pub accuses: bool,
    /// Whether it asks this node for a sign of life.
    pub asked: Option<Asked>,
    /// The number of this node's probe that it answers, directly.
    pub answers: Option<u8>,
}

/// The number of a probe that goes to the probed member itself, if this is one.
pub(super) fn probe_number(bytes: &[u8]) -> Option<u8> {
    match read_header(&mut Reader::new(bytes)).ok()?.message {
        Message::Ping(number) => Some(number),
        _ => None,
    }
}

/// A whole message of the failure detector without what is not to be kept of what it says of
/// members; `None` where all is.
pub(super) fn sift(bytes: &[u8], keep: impl Fn(&SwimMember<SwimId>) -> bool) -> Option<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    read_header(&mut reader).ok()?;
    let head = bytes.len() - reader.rest().len();
    let count = reader.u16().ok()?.swap_bytes();
    let (mut kept, mut sifted) = (0_u16, [&bytes[..head], &[0; 2]].concat());
    for _ in 0..count {
        let rest = reader.rest();
        let member = read_member(&mut reader).ok()?;
        if keep(&member) {
            kept += 1;
            sifted.extend_from_slice(&rest[..rest.len() - reader.rest().len()]);
        }
    }
    sifted[head..head + 2].copy_from_slice(&kept.to_be_bytes());
    (kept < count).then_some(sifted)
}

/// Reads a whole message of the failure detector without acting on it, so that a bad one is
/// refused before any of it has had an effect.
pub(super) fn check_message(bytes: &[u8], own: &SwimId) -> ReadResult<Checked> {
    let mut reader = Reader::new(bytes);
    let header = read_header(&mut reader)?;
    let plain = matches!(header.message, Message::Announce | Message::TurnUndead);
    let (mut doubts, mut accuses) = (None, false);
    let mut buries = header.dst == *own && header.message == Message::TurnUndead;
    if !plain {
        // The count is the one number here that is not ours: the detector writes it big-endian.
        let count = reader.u16()?.swap_bytes();
        for _ in 0..count {
            let member = read_member(&mut reader)?;
            if member.id() != own {
                accuses |= member.state() == State::Down;
                continue;
            }
            match member.state() {
                State::Alive => {}
                State::Suspect => doubts = doubts.max(Some(member.incarnation())),
                State::Down => buries = true,
            }
        }
    }
    reader.end()?;
    let asked = match header.message {
        Message::Ping(number) => Some(Asked::Directly(number)),
        Message::IndirectPing { origin, probe_number } => {
            Some(Asked::ForAnother(origin, probe_number))
        }
        _ => None,
    };
    let asked = asked.filter(|_| header.dst == *own);
    let answers = match header.message {
        Message::Ack(number) if header.dst == *own => Some(number),
        _ => None,
    };
    buries |= doubts >= Some(u16::MAX - 1);
    Ok(Checked { src: header.src, doubts, buries, accuses, asked, answers })
}
