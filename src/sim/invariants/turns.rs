//! What a worker's hands saw in one turn is looked at when it is over.

use std::time::Duration;

use super::{bounds, flows, protocol};
use crate::sim::events::{ConnId, CoreId, Side};
use crate::sim::network::Network;
use crate::sim::socket::Socket;
use crate::sim::world::World;
use crate::wire::WireError;
use crate::worker::Limits;
use crate::worker::outbox::Outbox;
use crate::worker::turn::Moved;

/// What was seen in one turn.
pub struct Turned {
    /// Something was taken or moved.
    moved: bool,
    /// With what a peer broke the protocol.
    broken: Option<WireError>,
    /// Connections that were closed for a long message that did not come to its end, and for how
    /// long something had been on its way.
    stalled: Vec<((ConnId, Side), Duration)>,
    /// A link was given up whose flow is not dead.
    wronged: bool,
    /// By account: the most bytes that an outbox held before it was written.
    fullest: [usize; 3],
    /// Something was added to one that had its limit already.
    overfull: Result<(), String>,
}

impl Default for Turned {
    fn default() -> Self {
        let (broken, stalled, fullest) = Default::default();
        Self { moved: false, broken, stalled, wronged: false, fullest, overfull: Ok(()) }
    }
}

impl Turned {
    /// Something was taken, if there was any.
    pub fn took<T>(&mut self, what: Option<T>) -> Option<T> {
        self.moved |= what.is_some();
        what
    }

    /// Bytes were moved, if any could.
    pub fn went(&mut self, moved: Moved) -> Moved {
        self.moved |= moved != Moved::Blocked;
        moved
    }

    /// A link is about to be closed for what its peer did, or did not.
    pub fn broken(&mut self, socket: Option<&mut Socket>, net: &Network, error: WireError) {
        match socket.filter(|_| error == WireError::Stalled) {
            Some(&mut Socket { conn, side, .. }) => {
                self.stalled.push(((conn, side), net.flying(conn, side)));
            }
            None => self.broken = self.broken.or(Some(error)),
        }
    }

    /// A link is about to be closed because its packets vanish.
    pub fn dead(&mut self, socket: Option<&mut Socket>, net: &mut Network) {
        self.wronged |= socket.is_some_and(|socket| !net.given_up(socket.conn, socket.side));
    }

    /// An outbox is about to be written.
    pub fn writes(&mut self, outbox: &Outbox, limits: &Limits) {
        let fullest = &mut self.fullest[outbox.held().1 as usize];
        *fullest = outbox.bytes().max(*fullest);
        if self.overfull.is_ok() {
            self.overfull = bounds::check_outbox(outbox, limits);
        }
    }
}

impl World {
    /// A worker's turn is over. `well` says that it gave something away, or rests.
    pub(in crate::sim) fn check_turn(&mut self, (life, index): CoreId, seen: Turned, well: bool) {
        if let Some(error) = seen.broken {
            self.blame(protocol::NAME, format!("a peer's frame was refused: {error}"));
        }
        self.check_rest((life, index), seen.moved || well);
        for (end, flying) in seen.stalled {
            self.check_stalled((life, index), end, flying);
        }
        if seen.wronged {
            self.blame(flows::NAME, format!("life {life} gave up a link whose peer acknowledges"));
        }
        if let Err(found) = seen.overfull {
            self.blame(bounds::NAME, format!("life {life}, worker {index}: {found}"));
        }
        self.check_worker(life, index, seen.fullest);
    }
}
