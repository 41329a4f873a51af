//! What a duty cycle needs of its driver: things are moved, nothing is decided.

use std::io;
use std::time::Duration;

use crate::base::{DestinationId, Time, WorkerIndex};
use crate::queue::Full;
use crate::queue::board::WayState;
use crate::wire::{Chunk, WireError};
use crate::worker::outbox::Outbox;
use crate::worker::{Command, Injection, LinkId, Report};

/// What a read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Bytes went through.
    Bytes {
        /// How many.
        count: usize,
        /// Whether another try may move some as well; if not, an event will tell.
        more: bool,
    },
    /// Nothing goes through now; an event will tell.
    Blocked,
    /// The connection is over.
    Closed,
}

/// What the system knows of a connection's way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Written bytes that are not acknowledged, or were not sent yet.
    pub waiting: bool,
    /// Sent bytes that are not acknowledged, although the peer's window is open.
    pub unacknowledged: bool,
    /// Since when nothing at all came from the peer's system.
    pub silent: Duration,
    /// How often the system asked whether the peer is there, or its window open, and got no answer.
    pub probes: u8,
}

/// Whether something is told in the log, and how many of its kind were left out before.
pub type Line = Option<u64>;

/// A worker's hands: its queues, sockets, boards and clock.
pub trait WorkerIo {
    /// A connection that has shaken hands.
    type Connection;

    /// The node's clock.
    fn now(&mut self) -> Time;

    /// The next command of control.
    fn next_command(&mut self) -> Option<Command<Self::Connection>>;
    /// Whether there is one.
    fn has_command(&self) -> bool;
    /// Whether control is gone, so that no command will come any more.
    fn is_control_gone(&self) -> bool;
    /// Tells control something; hands it back when control is behind.
    fn report(&mut self, report: Report) -> Result<(), Full<Report>>;

    /// The next hand-over of another thread.
    fn next_hand_over(&mut self) -> Option<Injection>;
    /// Whether there is one.
    fn has_hand_over(&self) -> bool;
    /// Takes all hand-overs that were accepted; from now on others are refused.
    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection));

    /// The next chunk of frames from a sibling.
    fn next_chunk(&mut self, from: WorkerIndex) -> Option<Chunk>;
    /// Whether there is one.
    fn has_chunk(&self, from: WorkerIndex) -> bool;
    /// Hands a chunk to a sibling; hands it back when there is no room.
    fn push_chunk(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>>;
    /// Takes what came from a sibling for the last time, and what was handed to it after it had done
    /// the same. Called once, when no more is handed to it.
    fn close_chunks(&mut self, sibling: WorkerIndex, each: &mut dyn FnMut(Chunk));
    /// Wakes a sibling to which chunks were handed.
    fn wake(&mut self, sibling: WorkerIndex);
    /// This worker hands nothing more to siblings.
    fn let_go(&mut self);
    /// Whether a sibling has not let go yet. What those that have handed over before can be seen
    /// once this is false.
    fn is_awaited(&self) -> bool;

    /// Watches a connection as this link's from now on; no other one has its place.
    ///
    /// # Errors
    /// When the system cannot watch it; it is closed then.
    fn attach(&mut self, link: LinkId, connection: Self::Connection) -> io::Result<()>;
    /// Says that a connection could not be watched.
    fn unwatched(&mut self, error: &io::Error, line: Line);
    /// Closes a connection that nobody wants.
    fn refuse(&mut self, connection: Self::Connection);
    /// Closes a link's connection, if it has one.
    fn close(&mut self, link: LinkId);
    /// Says that a link is about to be closed because its peer broke the protocol.
    fn broken(&mut self, link: LinkId, peer: Option<String>, error: WireError, line: Line);
    /// Reads once, behind what was received and not consumed.
    fn read(&mut self, link: LinkId) -> Moved;
    /// What was received and not consumed. Starts at a multiple of 16.
    fn received(&self, link: LinkId) -> &[u8];
    /// So many received bytes are done with; the frame that follows takes `need` bytes.
    fn consumed(&mut self, link: LinkId, count: usize, need: usize);
    /// How large a link's receive buffer may be from now on; never less than what it holds.
    fn allow(&mut self, link: LinkId, bytes: usize);
    /// Writes once, as much as goes.
    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved;

    /// How it stands with what was written to a link; `None` if the system does not tell.
    fn flow(&mut self, link: LinkId) -> Option<Flow>;
    /// Says that a link is about to be closed because its packets vanish: for so long nothing came.
    fn dead(&mut self, link: LinkId, peer: Option<String>, silent: Duration, line: Line);

    /// Lets application threads see how a link stands.
    fn show(&mut self, destination: DestinationId, state: WayState);
    /// Lets application threads see how full its queues are.
    fn show_fill(&mut self);
}
