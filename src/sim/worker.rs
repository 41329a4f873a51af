//! Drives workers over the fake network: moves commands, hand-overs, chunks and bytes.

use std::time::Duration;

use rand::RngExt;

use super::events::LifeId;
use super::invariants::{flows, protocol};
use super::network::{ConnId, Network, Owner, Side};
use super::process::{Core, Ends, Socket};
use super::world::World;
use crate::base::fate::Counts;
use crate::base::{DestinationId, NodeRef, Time, WorkerIndex};
use crate::queue::Full;
use crate::queue::board::WayState;
use crate::queue::inject::{Room, Weigh};
use crate::wire::{Chunk, WireError};
use crate::worker::outbox::Outbox;
use crate::worker::turn::Flow;
use crate::worker::turn::{Moved, TurnOutcome, WorkerIo};
use crate::worker::{Command, Injection, LinkId, Report};

/// How long handlers may seem to take until the clock is looked at.
const SLOW_US: std::ops::Range<u64> = 0..5_000;

/// A worker's hands for one turn.
struct Hands<'a> {
    life: LifeId,
    index: usize,
    ends: &'a mut Ends,
    net: &'a mut Network,
    /// On the process's own clock.
    now: Time,
    /// How often the clock was looked at.
    looks: u32,
    /// Something was taken, given or moved.
    moved: bool,
    /// A sibling has not let go.
    awaited: bool,
    reports: Vec<Report>,
    /// Chunks for siblings, sent when the turn is over.
    chunks: Vec<(usize, Chunk)>,
    /// What each ring takes.
    room: Room,
    /// By sibling: how many chunks and bytes are in its ring.
    filled: Vec<(usize, usize)>,
    broken: Option<WireError>,
    /// Connections that were closed for a long message that did not come to its end.
    stalled: Vec<(ConnId, Side)>,
    /// A link was given up whose flow is not dead.
    wronged: bool,
    /// The most bytes that an outbox held before it was written.
    fullest: [usize; 3],
}

impl World {
    pub(super) fn run_turn(&mut self, life: LifeId, index: usize) {
        let now = self.lives[life].local(self.net.now);
        let room = self.plan.rings;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let rings = body.workers.iter().map(|core| &core.ends.rings[index]);
        let filled = rings.map(|ring| (ring.len(), ring.iter().map(Weigh::weight).sum())).collect();
        let mut others = body.workers.iter().enumerate().filter(|(place, _)| *place != index);
        let awaited = others.any(|(_, core)| !core.ends.let_go);
        let Core { worker, turn, ends, .. } = &mut body.workers[index];
        let mut hands = Hands {
            life,
            index,
            ends,
            net: &mut self.net,
            now,
            looks: 0,
            moved: false,
            awaited,
            reports: Vec::new(),
            chunks: Vec::new(),
            room,
            filled,
            broken: None,
            stalled: Vec::new(),
            wronged: false,
            fullest: [0; 3],
        };
        let outcome = turn.run(worker, &mut hands);
        (hands.now, hands.looks) = (now, 0);
        let pause = match outcome {
            TurnOutcome::Again => Some(Duration::ZERO),
            TurnOutcome::Sleep => turn.may_sleep(worker, &mut hands),
            TurnOutcome::Ended => None,
        };
        let Hands { moved, reports, chunks, broken, stalled, wronged, fullest, .. } = hands;
        body.workers[index].plan(&mut self.net, (life, index), outcome, pause);
        for (sibling, chunk) in chunks {
            let at = self.net.after_us(self.net.weather.wake_us);
            let core = &mut body.workers[sibling];
            let at = core.ends.rings[index].push(at, chunk);
            core.wake(&mut self.net, (life, sibling), at);
        }
        for report in reports {
            body.send_report(&mut self.net, life, report);
        }
        if let Some(error) = broken {
            self.blame(protocol::NAME, format!("a peer's frame was refused: {error}"));
        }
        self.check_rest((life, index), moved || outcome != TurnOutcome::Again);
        for (conn, side) in stalled {
            self.check_stalled(conn, side);
        }
        if wronged {
            self.blame(flows::NAME, format!("life {life} gave up a link whose peer acknowledges"));
        }
        self.check_worker(life, index, fullest);
    }
}

impl WorkerIo for Hands<'_> {
    type Connection = (ConnId, Side);

    fn now(&mut self) -> Time {
        if self.looks > 0 && self.net.rng.random_range(0..8) == 0 {
            let took = self.net.rng.random_range(SLOW_US);
            self.now = self.now.plus(Duration::from_micros(took));
        }
        self.looks += 1;
        self.now
    }

    fn next_command(&mut self) -> Option<Command<Self::Connection>> {
        let command = self.ends.commands.pop(self.net.now);
        self.moved |= command.is_some();
        command
    }

    fn has_command(&self) -> bool {
        !self.ends.commands.is_empty()
    }

    fn is_control_gone(&self) -> bool {
        false
    }

    fn report(&mut self, report: Report) -> Result<(), Full<Report>> {
        self.moved = true;
        self.reports.push(report);
        Ok(())
    }

    fn next_hand_over(&mut self) -> Option<Injection> {
        let hand_over = self.ends.injected.pop();
        self.moved |= hand_over.is_some();
        hand_over
    }

    fn has_hand_over(&self) -> bool {
        !self.ends.injected.is_empty()
    }

    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection)) {
        self.ends.injected.close(each);
    }

    fn next_chunk(&mut self, from: WorkerIndex) -> Option<Chunk> {
        let chunk = self.ends.rings[usize::from(from.0)].pop(self.net.now);
        self.moved |= chunk.is_some();
        chunk
    }

    fn has_chunk(&self, from: WorkerIndex) -> bool {
        !self.ends.rings[usize::from(from.0)].is_empty()
    }

    fn push_chunk(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        let to = usize::from(to.0);
        let (chunks, bytes) = &mut self.filled[to];
        let weight = chunk.weight();
        // As `queue/weighed`: what is heavier than all goes alone.
        if *chunks >= self.room.items || (*bytes > 0 && *bytes + weight > self.room.bytes) {
            return Err(Full(chunk));
        }
        (*chunks, *bytes) = (*chunks + 1, *bytes + weight);
        self.moved = true;
        self.chunks.push((to, chunk));
        Ok(())
    }

    fn wake(&mut self, _: WorkerIndex) {}

    fn let_go(&mut self) {
        self.ends.let_go = true;
    }

    fn is_awaited(&self) -> bool {
        self.awaited
    }

    fn attach(&mut self, link: LinkId, connection: (ConnId, Side)) -> bool {
        if let Some(old) = self.ends.attach(Socket::new(link, connection)) {
            self.net.close(old.conn, old.side);
        }
        let (conn, side) = connection;
        self.net.own(conn, side, Owner::Worker(self.life, self.index, link));
        true
    }

    fn refuse(&mut self, (conn, side): (ConnId, Side)) {
        self.net.close(conn, side);
    }

    fn close(&mut self, link: LinkId) {
        if let Some(socket) = self.ends.detach(link) {
            self.net.close(socket.conn, socket.side);
        }
    }

    fn broken(&mut self, link: LinkId, _: Option<NodeRef>, error: WireError) {
        let socket = self.ends.socket(link).filter(|_| error == WireError::Stalled);
        match socket {
            Some(socket) => self.stalled.push((socket.conn, socket.side)),
            None => self.broken = self.broken.or(Some(error)),
        }
    }

    fn read(&mut self, link: LinkId) -> Moved {
        let moved = self.ends.socket(link).map_or(Moved::Closed, |socket| socket.read(self.net));
        self.moved |= moved != Moved::Blocked;
        moved
    }

    fn received(&self, link: LinkId) -> &[u8] {
        self.ends.received(link)
    }

    fn consumed(&mut self, link: LinkId, count: usize, need: usize) {
        if let Some(socket) = self.ends.socket(link) {
            socket.inbox.consumed(count, need);
        }
    }

    fn allow(&mut self, link: LinkId, bytes: usize) {
        if let Some(socket) = self.ends.socket(link) {
            socket.inbox.allow(bytes);
        }
    }

    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved {
        let fullest = &mut self.fullest[outbox.held().1 as usize];
        *fullest = outbox.bytes().max(*fullest);
        let moved =
            self.ends.socket(link).map_or(Moved::Closed, |socket| socket.write(self.net, outbox));
        self.moved |= moved != Moved::Blocked;
        moved
    }

    fn flow(&mut self, link: LinkId) -> Option<Flow> {
        let socket = self.ends.socket(link)?;
        Some(self.net.flow(socket.conn, socket.side))
    }

    fn dead(&mut self, link: LinkId, _: Option<NodeRef>, _: Duration) {
        if let Some(socket) = self.ends.socket(link) {
            self.wronged |= !self.net.given_up(socket.conn, socket.side);
        }
    }

    fn show(&mut self, destination: DestinationId, state: WayState) {
        self.ends.board.set(destination, state);
    }

    fn publish(&mut self, _: &Counts) {}
}
