//! One link of a worker: its standing, its queue of frames, and the counts that make the fate of
//! each message on it exact.

use super::outbox::Outbox;
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::queue::board::LinkState;

/// A link's place in its worker; the driver uses it as the name of the socket.
pub type LinkId = usize;

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
        destination: u32,
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
pub enum Standing {
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
    /// Tells this use of the place from earlier ones.
    pub(super) serial: u64,
    pub(super) standing: Standing,
    pub(super) outbox: Outbox,
    /// Whether the outbox got frames since the driver last looked.
    pub(super) dirty: bool,
    /// Whether the snapshot's view counts the peer as usable.
    pub(super) wanted: bool,
    pub(super) sent: Sent,
    pub(super) taken: Taken,
    /// The peer leaves: only what was accepted before goes out, then the farewell.
    pub(super) parting: bool,
    pub(super) fin_queued: bool,
    pub(super) fin_received: bool,
    pub(super) redial_pause_ms: u64,
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
        serial: u64,
        standing: Standing,
        outbox_bytes: usize,
    ) -> Self {
        Self {
            peer,
            role,
            serial,
            standing,
            outbox: Outbox::new(outbox_bytes),
            dirty: false,
            wanted: true,
            sent: Sent::default(),
            taken: Taken::default(),
            parting: false,
            fin_queued: false,
            fin_received: false,
            redial_pause_ms: 0,
            progressed_at: Time::ZERO,
        }
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// How it stands, as application threads see it. Full is said early, so that what is under
    /// way between threads still fits.
    pub fn board_state(&self) -> LinkState {
        match self.standing {
            Standing::Finished => LinkState::Finished,
            _ if self.parting => LinkState::Finished,
            Standing::Broken => LinkState::Down,
            Standing::Idle if !self.wanted => LinkState::Down,
            _ if self.outbox.is_nearly_full() => LinkState::Full,
            _ => LinkState::Open,
        }
    }

    /// What waits to be written.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether unkeyed strategies should choose the routee behind it.
    #[inline]
    pub(super) fn is_promising(&self) -> bool {
        self.wanted
            && !self.parting
            && match self.standing {
                Standing::Idle | Standing::Dialing | Standing::Open => true,
                Standing::Broken | Standing::Finished => false,
            }
    }

    /// Whether nothing more is sent once its connection is lost.
    pub(super) fn is_over(&self) -> bool {
        self.fin_queued || self.parting || self.standing == Standing::Finished
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
