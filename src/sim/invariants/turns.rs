//! What a worker's hands saw in one turn: what it says of messages is held against their fates at
//! once, the rest is looked at when the turn is over.

use std::time::Duration;

use super::{bounds, flows, panics, protocol};
use crate::sim::events::{ConnId, CoreId, Side};
use crate::sim::load::Shared;
use crate::sim::network::Network;
use crate::sim::socket::Socket;
use crate::sim::world::World;
use crate::wire::WireError;
use crate::worker::outbox::Outbox;
use crate::worker::turn::Moved;
use crate::worker::{Command, Limits, Report};

/// What was seen in one turn.
pub struct Turned {
    /// Whose turn it is.
    core: CoreId,
    /// What really happens to messages.
    ledger: Shared,
    /// What holds its outboxes.
    limits: Limits,
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

impl Turned {
    /// Nothing so far.
    pub fn new(core: CoreId, ledger: &Shared, limits: Limits) -> Self {
        Self {
            core,
            ledger: ledger.clone(),
            limits,
            moved: false,
            broken: None,
            stalled: Vec::new(),
            wronged: false,
            fullest: [0; 3],
            overfull: Ok(()),
        }
    }

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

    /// A command was taken, if there was any.
    pub fn command<C>(&mut self, command: Option<Command<C>>) -> Option<Command<C>> {
        match &command {
            Some(Command::Apply(snapshot)) => {
                self.ledger.lock().fates.applied(self.core, snapshot);
            }
            Some(Command::Stop) => self.ledger.lock().fates.stops(self.core),
            _ => {}
        }
        self.took(command)
    }

    /// The worker tells control something.
    pub fn reports(&self, report: &Report) {
        match report {
            Report::Ended(_) => self.ledger.lock().fates.stopped(self.core),
            Report::Panicked(panicked) => {
                let mut ledger = self.ledger.lock();
                if ledger.follows {
                    ledger.judge(panics::NAME, panics::check_told(panicked));
                }
            }
            _ => {}
        }
    }

    /// So many bytes that came are done with, from now on.
    pub fn consumes(&self, socket: &Socket, count: usize) {
        if count > 0 {
            let bytes = &socket.inbox.bytes()[..count];
            self.ledger.lock().took((socket.conn, socket.side), self.core, bytes);
        }
    }

    /// A link is about to be closed.
    pub fn closes(&self, socket: &Socket) {
        self.ledger.lock().closed((socket.conn, socket.side), self.core);
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
    pub fn writes(&mut self, outbox: &Outbox) {
        let fullest = &mut self.fullest[outbox.held().1 as usize];
        *fullest = outbox.bytes().max(*fullest);
        if self.overfull.is_ok() {
            self.overfull = bounds::check_outbox(outbox, &self.limits);
        }
    }

    /// It was.
    pub fn wrote(&mut self, socket: &Socket, outbox: &Outbox, moved: Moved) -> Moved {
        if let Moved::Bytes { count: count @ 1.., .. } = moved {
            self.ledger.lock().wrote((socket.conn, socket.side), self.core, outbox, count);
        }
        self.went(moved)
    }
}

impl World {
    /// A worker's turn is over. `well` says that it gave something away, or rests.
    pub(in crate::sim) fn check_turn(&mut self, seen: Turned, well: bool) {
        let (life, index) = seen.core;
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
            self.blame(bounds::OUTBOXES, format!("life {life}, worker {index}: {found}"));
        }
        self.check_worker(life, index, seen.fullest);
    }
}
