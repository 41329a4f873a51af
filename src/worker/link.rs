//! One link of a worker: its state, its queue of frames, and the counts that make the fate of
//! each message on it exact. And the places that a worker keeps its links in.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use slab::Slab;

use super::outbox::{Encoder, Outbox};
use super::purse::Account;
use crate::base::{DestinationId, NodeRef, Time, WorkerIndex};
use crate::queue::board::WayState;

/// How long a link is being dialed until it counts as late: a first packet that was lost has been
/// repeated by then.
pub(super) const LATE_DIAL: Duration = Duration::from_secs(1);

/// For how long after a connection was opened another of the same pair with a lower link epoch is an
/// older one, which it has overtaken: longer than a handshake may take. Whoever comes later with a
/// lower one is not behind, but counts otherwise, or the other was opened by somebody else.
pub const OVERTAKEN: Duration = Duration::from_secs(5);

/// What becomes of a connection that has a lower link epoch than another of the same pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// It is closed: it was overtaken.
    Closed,
    /// It comes too late to have been overtaken, and takes the place of the other.
    Taken,
}

/// How long the first message of who has opened a link may be on its way.
pub(super) const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Names one link of a worker for as long as it lives. The place is used again afterwards, the
/// name is not: looking up the name of a link that is gone finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(
    /// The place, then the serial. One word, since it is moved with every message: written as two
    /// and read as one, the processor would wait for it.
    u64,
);

impl LinkId {
    /// The place of the link among its worker's, for tables beside it.
    #[inline]
    pub fn slot(self) -> usize {
        (self.0 >> 32) as usize
    }

    #[inline]
    fn serial(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    fn new(slot: u32, serial: u32) -> Self {
        Self(u64::from(slot) << 32 | u64::from(serial))
    }

    /// As one number, for a poll.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The reverse of [`LinkId::to_bits`].
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The links of a worker.
#[derive(Default)]
pub(super) struct Links {
    slab: Slab<Link>,
    /// A place would have to be used four billion times before a name comes again.
    next_serial: u32,
}

impl Links {
    pub fn insert(&mut self, mut link: Link) -> LinkId {
        let serial = self.next_connection();
        (link.serial, link.connection) = (serial, serial);
        let slot = self.slab.insert(link) as u32;
        LinkId::new(slot, serial)
    }

    /// A number for a connection that no other one of this worker has.
    pub fn next_connection(&mut self) -> u32 {
        self.next_serial = self.next_serial.wrapping_add(1);
        self.next_serial
    }

    /// The link whose present connection this is.
    pub fn find(&self, slot: u32, connection: u32) -> Option<LinkId> {
        let link = self.slab.get(slot as usize).filter(|link| link.connection == connection)?;
        Some(LinkId::new(slot, link.serial))
    }

    #[inline]
    pub fn get(&self, id: LinkId) -> Option<&Link> {
        self.slab.get(id.slot()).filter(|link| link.serial == id.serial())
    }

    #[inline]
    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.slab.get_mut(id.slot()).filter(|link| link.serial == id.serial())
    }

    pub fn remove(&mut self, id: LinkId) -> Option<Link> {
        self.get(id)?;
        Some(self.slab.remove(id.slot()))
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        let id = |slot, link: &Link| LinkId::new(slot as u32, link.serial);
        self.slab.iter().map(move |(slot, link)| (id(slot, link), link))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (LinkId, &mut Link)> {
        let id = |slot, link: &Link| LinkId::new(slot as u32, link.serial);
        self.slab.iter_mut().map(move |(slot, link)| (id(slot, link), link))
    }
}

impl Index<LinkId> for Links {
    type Output = Link;

    #[inline]
    fn index(&self, id: LinkId) -> &Link {
        self.get(id).expect("a link that is known to live")
    }
}

impl IndexMut<LinkId> for Links {
    #[inline]
    fn index_mut(&mut self, id: LinkId) -> &mut Link {
        self.get_mut(id).expect("a link that is known to live")
    }
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Back to this very worker.
    Own,
    /// To another worker of this node, both ways.
    Sibling(WorkerIndex),
    /// A connection this worker dialed: its tells and asks go out, replies and acknowledgements
    /// come in.
    Dialed {
        /// Which destination of the snapshot it leads to.
        destination: DestinationId,
    },
    /// A connection another worker dialed: tells and asks come in, replies and acknowledgements
    /// go out.
    Accepted {
        /// Orders the connections of one pair of workers.
        epoch: u64,
    },
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing has been sent yet.
    Idle,
    /// The driver was asked to open it; frames wait in the outbox.
    Dialing,
    /// Frames flow.
    Open,
    /// Could not be opened, or not again. It is tried again on demand after a pause.
    Broken,
    /// The peer is leaving or gone: nothing more goes out.
    Finished,
}

/// One link.
pub struct Link {
    /// The worker at the other end.
    pub peer: (NodeRef, WorkerIndex),
    /// What it is for.
    pub role: Role,
    serial: u32,
    /// Tells its present connection from all others of the worker.
    pub(super) connection: u32,
    /// Which destination of the snapshot it leads to; `None` for accepted ones and for as long as
    /// no snapshot names it.
    pub(super) destination: Option<DestinationId>,
    pub(super) state: LinkState,
    pub(super) outbox: Outbox,
    /// Whether the outbox got frames since the driver last looked.
    pub(super) dirty: bool,
    /// Whether the snapshot's view counts the peer as usable.
    pub(super) wanted: bool,
    /// Whether the snapshot says that the peer does not answer, or is gone.
    pub(super) silent: bool,
    pub(super) sent: Sent,
    pub(super) taken: Taken,
    /// The peer leaves: only what was accepted before goes out, then the farewell.
    pub(super) parting: bool,
    /// Since when other threads are shown so.
    pub(super) parting_since: Time,
    /// How many messages other threads had handed over when the last of them looked that could
    /// still take it for open.
    pub(super) parting_behind: Option<u64>,
    pub(super) fin_queued: bool,
    pub(super) fin_received: bool,
    /// A dialed link has a connection.
    pub(super) connected: bool,
    /// Which is over for this side, but for what has come on it.
    pub(super) given_up: bool,
    pub(super) redial_pause_ms: u64,
    /// Since when it is being dialed (dialed links in that state).
    pub(super) dialed_at: Time,
    /// Whether a timer looks how long that takes.
    pub(super) dial_watched: bool,
    /// When its present connection was opened.
    pub(super) opened_at: Time,
    /// When something came last on its present connection, if anything did.
    pub(super) heard_at: Option<Time>,
    /// How many connections in a row were over at once, with nothing heard on them (dialed links).
    pub(super) in_vain: u32,
    /// When the socket, or the sibling, last took bytes.
    pub(super) progressed_at: Time,
}

/// What this side put on the present connection (dialed links).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Tells and asks, those that still wait in the outbox included.
    pub requests: u64,
    /// As acknowledged.
    pub delivered: u64,
    /// As acknowledged.
    pub dead: u64,
}

impl Sent {
    pub fn acknowledged(&self) -> u64 {
        self.delivered + self.dead
    }
}

/// What this side took from the present connection (accepted links).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub delivered: u64,
    pub dead: u64,
    /// How many of both the last acknowledgement covered.
    pub reported: u64,
    /// Whether a timer for the next one runs.
    pub ack_due: Option<Time>,
}

impl Taken {
    pub fn unreported(&self) -> u64 {
        self.delivered + self.dead - self.reported
    }
}

impl Link {
    pub(super) fn new(
        peer: (NodeRef, WorkerIndex),
        role: Role,
        state: LinkState,
        outbox_bytes: usize,
    ) -> Self {
        let destination = match role {
            Role::Dialed { destination } => Some(destination),
            _ => None,
        };
        let account = match role {
            // Until it is known to be a member's.
            Role::Accepted { .. } => Account::Clients,
            _ => Account::Requests,
        };
        Self {
            peer,
            role,
            serial: 0,
            connection: 0,
            destination,
            state,
            outbox: Outbox::new(outbox_bytes, account),
            dirty: false,
            wanted: true,
            silent: false,
            sent: Sent::default(),
            taken: Taken::default(),
            parting: false,
            parting_since: Time::NEVER,
            parting_behind: None,
            fin_queued: false,
            fin_received: false,
            connected: false,
            given_up: false,
            redial_pause_ms: 0,
            dialed_at: Time::ZERO,
            dial_watched: false,
            opened_at: Time::ZERO,
            heard_at: None,
            in_vain: 0,
            progressed_at: Time::ZERO,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// How it stands, as application threads see it. Full is said early, so that what is under
    /// way between threads still fits.
    pub(super) fn board_state(&self, encoder: &Encoder) -> WayState {
        match self.state {
            LinkState::Finished => WayState::Finished,
            _ if self.parting => WayState::Finished,
            LinkState::Broken => WayState::Down,
            LinkState::Idle if !self.wanted => WayState::Down,
            _ if self.outbox.is_nearly_full(encoder) => WayState::Full,
            _ => WayState::Open,
        }
    }

    /// What waits to be written.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether unkeyed strategies should choose the routee behind it.
    #[inline]
    pub(super) fn is_promising(&self, now: Time) -> bool {
        self.wanted
            && !self.parting
            && !self.is_late(now)
            && match self.state {
                LinkState::Idle | LinkState::Dialing | LinkState::Open => true,
                LinkState::Broken | LinkState::Finished => false,
            }
    }

    /// Whether it is being dialed for so long that somebody else is better sent to.
    #[inline]
    pub(super) fn is_late(&self, now: Time) -> bool {
        self.state == LinkState::Dialing && now >= self.dialed_at.plus(LATE_DIAL)
    }

    /// Whether nothing more is sent once its connection is lost.
    pub(super) fn is_over(&self) -> bool {
        self.fin_queued || self.parting || self.state == LinkState::Finished
    }

    /// Whether the peer let this node in and then closed, again: it has no place for it, or takes
    /// nothing from it. Once is no sign; it may just have ended.
    pub(super) fn was_in_vain_again(&mut self, now: Time, longest_rest: Duration) -> bool {
        let good = self.heard_at.is_some() || now.since(self.opened_at) >= longest_rest;
        self.in_vain = if good { 0 } else { self.in_vain.saturating_add(1) };
        self.in_vain > 1
    }

    /// Whether it was opened by who is no member here and has said nothing on it for as long as a first
    /// message may be on its way. Nobody tells such a one that this node leaves, so that it need not
    /// ever say that no more will come, nor end what it began.
    pub(super) fn is_idle_of_a_stranger(&self, now: Time) -> bool {
        let (_, account) = self.outbox.held();
        matches!(self.role, Role::Accepted { .. })
            && account == Account::Clients
            && self.outbox.is_empty()
            && now.since(self.heard_at.unwrap_or(self.opened_at)) >= FIRST_WITHIN
    }

    /// Whether everything that was put on it has come to its end.
    pub(super) fn is_settled(&self) -> bool {
        match self.role {
            Role::Own | Role::Sibling(_) => self.outbox.is_empty(),
            Role::Dialed { .. } => {
                self.outbox.is_empty() && self.sent.requests == self.sent.acknowledged()
            }
            // A peer that does not answer will not say goodbye; nobody waits for it.
            Role::Accepted { .. } => !self.wanted || (self.outbox.is_empty() && self.fin_received),
        }
    }
}
