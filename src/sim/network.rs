//! The fake network: datagrams that may be lost, doubled, delayed and overtaken, and connections
//! that keep order but deliver in pieces, stall, fill up and break.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use super::bytes::Bytes;
use super::events::{ConnId, Event, LifeId, Queue, Side, SlotId};
use super::forger::Forger;
use super::streams::within_us;
use super::trace::Trace;
use super::walls::Walls;
use super::weather::{Deafness, FlowCounts, Weather};
use crate::base::{Rng, Time};
use crate::control::Sent;
use crate::worker::LinkId;
use crate::worker::turn::Flow;

/// For how long a connection may be silent on which something was sent, as by default.
pub const DEAD_FLOW: Duration = Duration::from_millis(1_500);
/// After what time a kernel finds out that a connection is dead on which nothing is under way.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// By when a worker that runs has given up a connection on which what it sent vanishes: the bound,
/// a look more, and what a turn may take.
pub const NOTICED_WITHIN: Duration = Duration::from_millis(2_000);

/// Pieces smaller than this are many for few bytes, and each is at least two events.
const TINY_PIECE_BYTES: usize = 1_500;
/// Where pieces are tiny, every so-manieth connection has them all the way.
const TINY_EVERY: ConnId = 16;
/// On the others so many come that small behind one another, and from then on each may be twice as
/// large as the one before, until nothing more is on its way.
const TINY_PIECES: u32 = 16;

/// What a kernel that is short of memory takes for a worker that does not read.
const BUSY_SOCKET_BYTES: usize = 512;

/// The address of a machine.
pub fn address(slot: SlotId) -> SocketAddr {
    SocketAddr::from(([10, 0, (slot >> 8) as u8, slot as u8], 7_400))
}

/// An address at which there is no machine.
pub fn nowhere() -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7_400))
}

fn slot_of(address: SocketAddr) -> Option<SlotId> {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            Some(usize::from(high) << 8 | usize::from(low))
        }
        SocketAddr::V6(_) => None,
    }
}

/// Who reads a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The process's control: a handshake is under way.
    Job(LifeId),
    /// On the way from control to a worker.
    Handed(LifeId),
    /// A worker's link.
    Worker(LifeId, usize, LinkId),
    /// Who is no node.
    Forger,
    /// Nobody: it is closed, or was never opened.
    Nobody,
}

/// One side of a connection with what comes towards it.
struct End {
    slot: SlotId,
    owner: Owner,
    flying: Bytes,
    arrived: Bytes,
    /// A delivery is under way.
    moving: bool,
    /// How many came, each while more was on its way.
    pieces: u32,
    /// The other side closed: nothing follows what is flying.
    fin: bool,
    /// The end was seen by the network; the reader sees it after what has arrived.
    over: bool,
    /// The connection broke: what had not arrived is lost.
    reset: bool,
    /// The other side wants to write and could not.
    awaited: bool,
    /// When the other side last heard that something arrived, or that nothing more can.
    acknowledged: Time,
    /// Since when what comes towards it does not arrive.
    lost: Option<Time>,
    /// When something for it was last lost, or could not be sent for a lost word of its room.
    impeded: Time,
    /// Since when something has been flying towards it without a break, if something is.
    flying_since: Time,
}

struct Conn {
    ends: [End; 2],
    /// What is sent on it vanishes.
    swallowed: bool,
}

impl End {
    fn new(slot: SlotId, now: Time) -> Self {
        Self {
            acknowledged: now,
            lost: None,
            impeded: Time::ZERO,
            flying_since: Time::ZERO,
            slot,
            owner: Owner::Nobody,
            flying: Bytes::default(),
            arrived: Bytes::default(),
            moving: false,
            pieces: 0,
            fin: false,
            over: false,
            reset: false,
            awaited: false,
        }
    }
}

/// Everything between processes, with what all parts of the world share.
pub struct Network {
    /// The world's clock.
    pub now: Time,
    /// What is to come.
    pub queue: Queue,
    /// Chance between processes, and in how long threads take.
    pub rng: Rng,
    /// The run's fingerprint.
    pub trace: Trace,
    /// How bad things are at the moment.
    pub weather: Weather,
    conns: Vec<Conn>,
    open: Vec<ConnId>,
    /// Between which machines nothing arrives, datagrams that are under way included.
    pub walls: Walls,
    spare: Vec<Vec<u8>>,
    /// Workers that are held by a handler.
    pub busy: BTreeSet<(LifeId, usize)>,
    /// What was looked at.
    pub flows: FlowCounts,
    /// The machine that hears next to nothing.
    pub deaf: Option<(SlotId, Deafness)>,
    /// The machine whose processes are newer than all others.
    pub newer: Option<SlotId>,
    /// What its workers said more, whole, by connection and the side that reads.
    pub said_more: BTreeMap<(ConnId, Side), u64>,
    /// Who is no node, where there is one.
    pub forger: Option<Box<Forger>>,
}

impl Network {
    /// A network without traffic.
    pub fn new(rng: Rng, trace: Trace, weather: Weather, newer: Option<SlotId>) -> Self {
        Self {
            now: Time::ZERO,
            queue: Queue::default(),
            rng,
            trace,
            weather,
            conns: Vec::new(),
            open: Vec::new(),
            walls: Walls::default(),
            spare: Vec::new(),
            busy: BTreeSet::new(),
            flows: FlowCounts::default(),
            deaf: None,
            newer,
            said_more: BTreeMap::new(),
            forger: None,
        }
    }

    /// A random time from now, between two bounds in microseconds.
    pub fn after_us(&mut self, bounds: (u64, u64)) -> Time {
        self.now.plus(within_us(&mut self.rng, bounds))
    }

    /// Whether a chance out of a million comes true.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.rng.random_range(0..1_000_000) < ppm
    }

    // ---- datagrams ----

    /// A process sends a datagram.
    pub fn send(&mut self, from: SlotId, to: SocketAddr, datagram: &[u8]) -> Sent {
        self.trace.note_bytes(self.now, from, "datagram", datagram);
        let Some(to) = slot_of(to) else { return Sent::Taken };
        if let Some(code) = self.walls.told(from, to) {
            return Sent::Not(code);
        }
        if self.walls.is_between(from, to) || self.chance(self.weather.loss_ppm) {
            return Sent::Taken;
        }
        let deaf = self.deaf.filter(|(slot, _)| *slot == to).map(|(_, deafness)| deafness);
        if deaf.is_some_and(|deaf| self.chance(deaf.lost_ppm)) {
            return Sent::Taken;
        }
        let copies = 1 + u32::from(self.chance(self.weather.duplicate_ppm));
        for _ in 0..copies {
            let mut at = self.after_us(deaf.map_or(self.weather.datagram_us, |deaf| deaf.late_us));
            if self.chance(self.weather.straggler_ppm) {
                at = at.plus(Duration::from_millis(self.rng.random_range(1..400)));
            }
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            bytes.extend_from_slice(datagram);
            self.queue.push(at, Event::Datagram { to, from, bytes });
        }
        Sent::Taken
    }

    /// Takes a datagram's memory back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < 256 {
            self.spare.push(bytes);
        }
    }

    // ---- connections ----

    /// Somebody begins to connect.
    pub fn connect(&mut self, by: Owner, from: SlotId, to: SocketAddr) -> ConnId {
        let to = slot_of(to).unwrap_or(usize::MAX);
        let id = self.conns.len();
        let mut ends = [End::new(from, self.now), End::new(to, self.now)];
        ends[0].owner = by;
        self.conns.push(Conn { ends, swallowed: false });
        let at = self.after_us(self.weather.stream_us);
        self.queue.push(at, Event::Syn(id));
        id
    }

    /// The slots of both sides; the dialing one first.
    pub fn slots(&self, id: ConnId) -> (SlotId, SlotId) {
        (self.conns[id].ends[0].slot, self.conns[id].ends[1].slot)
    }

    /// A connection's first segment has come to the listener's machine; `listener` says who
    /// listens there. False if it was lost and comes again later.
    pub fn syn(&mut self, id: ConnId, listener: Option<Owner>) -> bool {
        let (from, to) = self.slots(id);
        if self.conns[id].ends[0].owner == Owner::Nobody {
            return false; // Given up.
        }
        if self.walls.is_between(from, to) || self.walls.is_between(to, from) {
            let again = self.now.plus(Duration::from_secs(1));
            self.queue.push(again, Event::Syn(id));
            return false;
        }
        if let Some(owner) = listener {
            self.conns[id].ends[1].owner = owner;
            self.open.push(id);
        }
        let at = self.after_us(self.weather.stream_us);
        self.queue.push(at, Event::SynAnswer(id, listener.is_some()));
        true
    }

    /// Who reads one side.
    pub fn owner(&self, id: ConnId, side: Side) -> Owner {
        self.conns[id].ends[side].owner
    }

    /// Whether a newer process has one side.
    pub fn is_newer(&self, id: ConnId, side: Side) -> bool {
        self.newer == Some(self.conns[id].ends[side].slot)
    }

    /// The process whose control has one side.
    pub fn controlled_by(&self, id: ConnId, side: Side) -> Option<LifeId> {
        match self.owner(id, side) {
            Owner::Job(life) => Some(life),
            _ => None,
        }
    }

    /// Gives one side to another reader.
    pub fn own(&mut self, id: ConnId, side: Side, owner: Owner) {
        let end = &mut self.conns[id].ends[side];
        if end.owner != Owner::Nobody {
            end.owner = owner;
        }
    }

    /// Writes; returns how many bytes the socket took. Fewer than given means that
    /// [`Event::Writable`] follows.
    pub fn write<'a>(
        &mut self,
        id: ConnId,
        side: Side,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> usize {
        let mut capacity = self.weather.socket_bytes;
        let swallowed = self.conns[id].swallowed;
        let other = &mut self.conns[id].ends[1 - side];
        if let Owner::Worker(life, index, _) = other.owner
            && self.busy.contains(&(life, index))
        {
            capacity = capacity.min(BUSY_SOCKET_BYTES);
        }
        if other.flying.len() == 0 {
            other.flying_since = self.now;
        }
        let mut written = 0;
        let mut short = false;
        for slice in slices {
            let room = capacity.saturating_sub(other.flying.len() + other.arrived.len());
            let count = slice.len().min(room);
            // That the other side has closed is not known where packets vanish.
            if (other.owner != Owner::Nobody || swallowed) && !other.reset {
                other.flying.put(&slice[..count]);
            }
            written += count;
            if count < slice.len() {
                short = true;
                break;
            }
        }
        other.awaited |= short;
        if written > 0 {
            self.trace.note(self.now, id, "write", (side as u64) << 32 | written as u64);
            self.set_moving(id, 1 - side);
        }
        written
    }

    fn set_moving(&mut self, id: ConnId, side: Side) {
        if !self.conns[id].ends[side].moving {
            self.conns[id].ends[side].moving = true;
            let at = self.after_us(self.weather.stream_us);
            self.queue.push(at, Event::Deliver(id, side));
        }
    }

    /// Bytes arrive at one side. Returns whom to tell.
    pub fn deliver(&mut self, id: ConnId, side: Side) -> Owner {
        let ends = &self.conns[id].ends;
        let (from, to) = (ends[1 - side].slot, ends[side].slot);
        self.conns[id].ends[side].moving = false;
        if self.conns[id].swallowed && !self.conns[id].ends[side].reset {
            self.lose(id, side);
            return Owner::Nobody;
        }
        if self.walls.is_between(from, to) {
            self.lose(id, side);
            // Sent again after a while, as TCP does; or given up.
            if self.chance(self.weather.give_up_ppm) {
                self.reset(id);
            } else {
                self.conns[id].ends[side].moving = true;
                let at = self.after_us((50_000, 400_000));
                self.queue.push(at, Event::Deliver(id, side));
            }
            return Owner::Nobody;
        }
        let (piece_max, now) = (self.piece_max(id, side), self.now);
        let end = &mut self.conns[id].ends[side];
        (end.acknowledged, end.lost) = (now, None);
        let waiting = end.flying.len();
        if waiting > 0 {
            // Often all at once, sometimes in pieces of any size.
            let count = if self.rng.random_range(0..4) > 0 {
                waiting.min(piece_max)
            } else {
                self.rng.random_range(1..=waiting.min(piece_max) as u64) as usize
            };
            let End { flying, arrived, .. } = end;
            arrived.put(flying.take(count));
            flying.tidy();
        }
        let end = &mut self.conns[id].ends[side];
        end.pieces = if end.flying.len() > 0 { end.pieces + 1 } else { 0 };
        if end.flying.len() > 0 {
            self.set_moving(id, side);
        } else if end.fin || end.reset {
            end.over = true;
        }
        self.conns[id].ends[side].owner
    }

    /// The most bytes that arrive at one side at once.
    fn piece_max(&self, id: ConnId, side: Side) -> usize {
        let least = self.weather.piece_max;
        if least >= TINY_PIECE_BYTES || id.is_multiple_of(TINY_EVERY) {
            return least;
        }
        least << self.conns[id].ends[side].pieces.saturating_sub(TINY_PIECES).min(16)
    }

    /// Reads what has arrived; nothing of it is the end.
    ///
    /// # Errors
    /// When nothing has arrived now.
    pub fn read(&mut self, id: ConnId, side: Side, room: &mut [u8]) -> io::Result<usize> {
        let end = &mut self.conns[id].ends[side];
        let count = room.len().min(end.arrived.len());
        if count == 0 {
            return if end.over { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        room[..count].copy_from_slice(end.arrived.take(count));
        end.arrived.tidy();
        if std::mem::take(&mut end.awaited) {
            let at = self.after_us(self.weather.stream_us);
            self.queue.push(at, Event::Writable(id, 1 - side));
        }
        Ok(count)
    }

    /// The word that the other side has room reaches this one, which has heard of it then. Returns
    /// whom to tell.
    pub fn has_room(&mut self, id: ConnId, side: Side) -> Owner {
        let ends = &self.conns[id].ends;
        let blocked = self.walls.is_between(ends[1 - side].slot, ends[side].slot);
        let owner = self.owner(id, side);
        if self.conns[id].swallowed || owner == Owner::Nobody {
            return owner;
        }
        if blocked {
            // A kernel finds out by its next probe that is answered; until then nothing is sent.
            self.conns[id].ends[1 - side].impeded = self.now;
            let at = self.after_us((50_000, 400_000));
            self.queue.push(at, Event::Writable(id, side));
            return Owner::Nobody;
        }
        self.conns[id].ends[side].acknowledged = self.now;
        owner
    }

    /// How many bytes have arrived and were not read.
    pub fn arrived(&self, id: ConnId, side: Side) -> usize {
        self.conns[id].ends[side].arrived.len()
    }

    /// Whether nothing more comes to this side.
    pub fn is_over(&self, id: ConnId, side: Side) -> bool {
        self.conns[id].ends[side].over
    }

    /// One side closes its socket: what it wrote still arrives, then the other side sees the end.
    /// With unread bytes the connection is reset, as a kernel does.
    pub fn close(&mut self, id: ConnId, side: Side) {
        let swallowed = self.conns[id].swallowed;
        let end = &mut self.conns[id].ends[side];
        if end.owner == Owner::Nobody {
            return;
        }
        end.owner = Owner::Nobody;
        let unread = end.arrived.len() + end.flying.len() > 0;
        end.arrived.clear();
        if !swallowed {
            end.flying.clear();
        }
        let other = &mut self.conns[id].ends[1 - side];
        if unread && !swallowed {
            other.flying.clear();
            other.reset = true;
        }
        other.fin = true;
        if other.owner == Owner::Nobody {
            self.open.retain(|open| *open != id);
        } else if !swallowed {
            self.set_moving(id, 1 - side);
        }
    }

    /// A connection breaks: what is flying is lost, both sides see it.
    pub fn reset(&mut self, id: ConnId) {
        for side in [0, 1] {
            let end = &mut self.conns[id].ends[side];
            end.flying.clear();
            end.reset = true;
            if end.owner != Owner::Nobody && !end.over {
                self.set_moving(id, side);
            }
        }
    }

    /// From now on what is sent on a connection vanishes.
    pub fn swallow(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.conns[id].swallowed, true) {
            self.trace.say(|| format!("the packets of connection {id} vanish"));
            self.queue.push(self.now.plus(KEEPALIVE), Event::Silent(id));
        }
    }

    /// The keepalive of a connection that was swallowed: the kernels at its ends find out by it,
    /// unless something is under way.
    pub fn silent(&mut self, id: ConnId) {
        let mut ends = self.conns[id].ends.iter();
        if ends.all(|end| end.owner == Owner::Nobody) {
            return;
        }
        let Conn { ends, .. } = &self.conns[id];
        let is_sending =
            |side: Side| ends[side].owner != Owner::Nobody && ends[1 - side].flying.len() > 0;
        if is_sending(0) || is_sending(1) {
            self.queue.push(self.now.plus(KEEPALIVE), Event::Silent(id));
        } else {
            self.reset(id);
        }
    }

    /// Bytes that are sent towards a side do not arrive.
    fn lose(&mut self, id: ConnId, side: Side) {
        let now = self.now;
        let end = &mut self.conns[id].ends[side];
        end.impeded = now;
        if end.lost.is_none() && end.flying.len() > 0 {
            end.lost = Some(now);
            let conn = &self.conns[id];
            if conn.swallowed && matches!(conn.ends[1 - side].owner, Owner::Worker(..)) {
                let at = now.plus(NOTICED_WITHIN);
                self.queue.push(at, Event::Noticed(id, 1 - side));
            }
        }
    }

    /// When something on its way to a side was last lost, or held up; for ever, where all packets vanish.
    pub fn impeded(&self, id: ConnId, side: Side) -> Time {
        let conn = &self.conns[id];
        if conn.swallowed { self.now } else { conn.ends[side].impeded }
    }

    /// For how long something has been on its way to a side without a break.
    pub fn flying(&self, id: ConnId, side: Side) -> Duration {
        let End { flying, flying_since, .. } = &self.conns[id].ends[side];
        if flying.len() > 0 { self.now.since(*flying_since) } else { Duration::ZERO }
    }

    /// What one side's kernel knows of its way out.
    pub fn flow(&mut self, id: ConnId, side: Side) -> Flow {
        let Conn { ends, swallowed } = &self.conns[id];
        let other = &ends[1 - side];
        let unacknowledged = other.flying.len() > 0;
        let shut = !unacknowledged && other.awaited;
        // Probes are answered, but come ever more seldom.
        let probes = u8::from(shut) + u8::from(shut && *swallowed);
        let last = other.acknowledged.max(ends[side].acknowledged);
        let silent = self.now.since(last);
        self.flows.shut += u64::from(shut && !swallowed && silent >= DEAD_FLOW);
        Flow { waiting: unacknowledged || shut, unacknowledged, silent, probes }
    }

    /// Whether what one side has sent vanishes, and nobody has told it.
    pub fn is_stuck(&self, id: ConnId, side: Side) -> bool {
        let Conn { ends, swallowed } = &self.conns[id];
        *swallowed && ends[1 - side].flying.len() > 0 && !ends[side].reset
    }

    /// One side gives a connection up, because its packets vanish. Returns whether they do.
    pub fn given_up(&mut self, id: ConnId, side: Side) -> bool {
        self.flows.dead += 1;
        self.trace.say(|| format!("connection {id} is given up"));
        self.conns[id].swallowed || self.conns[id].ends[1 - side].lost.is_some()
    }

    /// A random open connection, if there is one.
    pub fn any_open(&self, rng: &mut Rng) -> Option<ConnId> {
        let count = self.open.len();
        (count > 0).then(|| self.open[rng.random_range(0..count as u64) as usize])
    }

    /// A process is gone: its kernel closes all it had.
    pub fn drop_all(&mut self, life: LifeId) {
        let mut at = 0;
        while at < self.open.len() {
            let id = self.open[at];
            for side in [0, 1] {
                let mine = matches!(
                    self.owner(id, side),
                    Owner::Job(owner) | Owner::Handed(owner) | Owner::Worker(owner, _, _)
                    if owner == life
                );
                if mine {
                    self.close(id, side);
                }
            }
            if self.open.get(at) == Some(&id) {
                at += 1;
            }
        }
    }
}
