//! A worker's hands over the fake network: commands, hand-overs, chunks and bytes are moved.

use std::io;
use std::time::Duration;

use super::events::{ConnId, Side};
use super::invariants::turns::Turned;
use super::network::Network;
use super::process::{Clock, Ends};
use crate::base::{DestinationId, Time, WorkerIndex};
use crate::queue::Full;
use crate::queue::board::WayState;
use crate::wire::{Chunk, WireError};
use crate::worker::outbox::Outbox;
use crate::worker::turn::{Flow, Line, Moved, WorkerIo};
use crate::worker::{Command, Injection, LinkId, Report};

/// What one turn of a worker moves.
pub struct Hands<'a> {
    pub ends: &'a mut Ends,
    pub net: &'a mut Network,
    pub clock: Clock,
    pub reports: Vec<Report>,
    /// What is looked at, now or after the turn.
    pub seen: Turned,
}

impl WorkerIo for Hands<'_> {
    type Connection = (ConnId, Side);

    fn now(&mut self) -> Time {
        self.clock.look(self.net)
    }

    fn next_command(&mut self) -> Option<Command<Self::Connection>> {
        self.seen.command(self.ends.commands.pop(self.net.now).map(Command::found))
    }

    fn has_command(&self) -> bool {
        !self.ends.commands.is_empty()
    }

    fn is_control_gone(&self) -> bool {
        false
    }

    fn report(&mut self, report: Report) -> Result<(), Full<Report>> {
        self.seen.reports(&report);
        self.reports.push(report);
        Ok(())
    }

    fn next_hand_over(&mut self) -> Option<Injection> {
        self.seen.took(self.ends.injected.pop())
    }

    fn has_hand_over(&self) -> bool {
        !self.ends.injected.is_empty()
    }

    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection)) {
        self.ends.injected.close(each);
    }

    fn next_chunk(&mut self, from: WorkerIndex) -> Option<Chunk> {
        self.seen.took(self.ends.rings.pop(from, self.net.now))
    }

    fn has_chunk(&self, from: WorkerIndex) -> bool {
        self.ends.rings.has_chunk(from)
    }

    fn push_chunk(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        self.ends.rings.push(to, chunk)
    }

    fn close_chunks(&mut self, sibling: WorkerIndex, each: &mut dyn FnMut(Chunk)) {
        self.ends.rings.close(sibling, each);
    }

    fn wake(&mut self, _: WorkerIndex) {}

    fn let_go(&mut self) {
        self.ends.let_go = true;
    }

    fn is_awaited(&self) -> bool {
        // What was handed over can be seen once this is false.
        self.ends.awaited || self.ends.rings.next().is_some_and(|at| at > self.net.now)
    }

    fn attach(&mut self, link: LinkId, connection: (ConnId, Side)) -> io::Result<()> {
        self.ends.attach(link, connection, self.net);
        Ok(())
    }

    fn unwatched(&mut self, _: &io::Error, _: Line) {}

    fn refuse(&mut self, (conn, side): (ConnId, Side)) {
        self.net.close(conn, side);
    }

    fn close(&mut self, link: LinkId) {
        if let Some(socket) = self.ends.detach(link) {
            self.seen.closes(&socket);
            self.net.close(socket.conn, socket.side);
        }
    }

    fn broken(&mut self, link: LinkId, _: Option<String>, error: WireError, _: Line) {
        self.seen.broken(self.ends.socket(link), self.net, error);
    }

    fn read(&mut self, link: LinkId) -> Moved {
        let socket = self.ends.socket(link);
        self.seen.went(socket.map_or(Moved::Closed, |socket| socket.read(self.net)))
    }

    fn received(&self, link: LinkId) -> &[u8] {
        self.ends.received(link)
    }

    fn consumed(&mut self, link: LinkId, count: usize, need: usize) {
        if let Some(socket) = self.ends.socket(link) {
            self.seen.consumes(socket, count);
            socket.inbox.consumed(count, need);
        }
    }

    fn allow(&mut self, link: LinkId, bytes: usize) {
        if let Some(socket) = self.ends.socket(link) {
            socket.allow(self.net, bytes);
        }
    }

    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved {
        self.seen.writes(outbox);
        let Some(socket) = self.ends.socket(link) else { return self.seen.went(Moved::Closed) };
        let moved = socket.write(self.net, outbox);
        self.seen.wrote(socket, outbox, moved)
    }

    fn flow(&mut self, link: LinkId) -> Option<Flow> {
        self.ends.socket(link).map(|socket| self.net.flow(socket.conn, socket.side))
    }

    fn dead(&mut self, link: LinkId, _: Option<String>, _: Duration, _: Line) {
        self.seen.dead(self.ends.socket(link), self.net);
    }

    fn show(&mut self, destination: DestinationId, state: WayState) {
        self.ends.board.set(destination, state);
    }

    fn show_fill(&mut self) {}
}
