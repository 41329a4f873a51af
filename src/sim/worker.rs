//! Drives workers: the duty cycle of `runtime/worker`, over the fake network.

use std::time::Duration;

use rand::RngExt;

use super::events::{Event, LifeId};
use super::invariants::protocol;
use super::network::{ConnId, Network, Owner, Read, Side};
use super::process::{Command, Core, Report, Socket};
use super::world::World;
use crate::base::{Time, WorkerIndex};
use crate::net::inbox::Inbox;
use crate::wire::WireError;
use crate::worker::{LinkId, Request, Role};

/// As of the real driver.
const INJECTIONS_PER_TURN: usize = 1024;
/// As of the real driver.
const CHUNKS_PER_TURN: usize = 16;
/// Small, so that frames often need room to be made.
const INBOX_BYTES: usize = 4 * 1024;

/// What a turn works on, borrowed apart.
struct Turn<'a> {
    life: LifeId,
    index: usize,
    me: &'a mut Core,
    net: &'a mut Network,
    reports: Vec<Report>,
    /// Chunks for siblings, sent when the turn is over.
    chunks: Vec<(usize, crate::wire::Chunk)>,
    /// By sibling: how many chunks its ring takes.
    room: &'a [usize],
    broken: Option<WireError>,
    /// The fullest outbox that was looked at.
    fullest: usize,
}

impl World {
    /// Has a worker run at a time, or earlier.
    pub(super) fn wake_worker(&mut self, life: LifeId, index: usize, at: Time) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let core = &mut body.workers[index];
        if at < core.turn_at {
            core.turn_at = at;
            self.net.queue.push(at, Event::Turn(life, index));
        }
    }

    /// Has a worker run soon, as after a wake-up.
    pub(super) fn nudge(&mut self, life: LifeId, index: usize) {
        let at = self.net.after_us(self.net.weather.wake_us);
        self.wake_worker(life, index, at);
    }

    /// Bytes or room came to a worker's socket.
    pub(super) fn socket_event(
        &mut self,
        (life, index, link): (LifeId, usize, LinkId),
        (conn, side): (ConnId, Side),
        writable: bool,
    ) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let core = &mut body.workers[index];
        let Some(Some(socket)) = core.sockets.get_mut(link) else { return };
        if (socket.conn, socket.side) != (conn, side) {
            return;
        }
        if writable {
            socket.writable = true;
            if core.worker.link(link).is_some_and(|link| !link.outbox().is_empty()) {
                core.worker.touch(link);
            }
        } else {
            socket.readable = true;
            if !core.ready.contains(&link) {
                core.ready.push(link);
            }
        }
        self.nudge(life, index);
    }

    /// One duty cycle.
    pub(super) fn turn(&mut self, life: LifeId, index: usize) {
        let now = self.net.now;
        let local = self.lives[life].local(now);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if body.workers[index].turn_at != now {
            return; // Another turn was or will be earlier.
        }
        body.workers[index].turn_at = Time::NEVER;
        if body.paused {
            return; // It runs when the process does.
        }
        let limit = self.plan.ring_chunks;
        let room: Vec<usize> =
            body.workers.iter().map(|core| limit.saturating_sub(core.rings[index].len())).collect();
        let mut turn = Turn {
            life,
            index,
            me: &mut body.workers[index],
            net: &mut self.net,
            reports: Vec::new(),
            chunks: Vec::new(),
            room: &room,
            broken: None,
            fullest: 0,
        };
        turn.me.worker.begin(local);
        turn.take_commands(false);
        turn.take_hand_overs();
        turn.read_sockets();
        turn.me.worker.run();
        turn.report();
        turn.flush();
        turn.report();
        let Turn { reports, chunks, broken, fullest, .. } = turn;

        self.after_turn(life, index);
        for (sibling, chunk) in chunks {
            let at = self.net.after_us(self.net.weather.wake_us);
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let ring = &mut body.workers[sibling].rings[index];
            let at = at.max(ring.back().map_or(at, |(last, _)| *last));
            ring.push_back((at, chunk));
            self.wake_worker(life, sibling, at);
        }
        for report in reports {
            self.send_report(life, report);
        }
        if let Some(error) = broken {
            self.blame(protocol::NAME, format!("a peer's frame was refused: {error}"));
        }
        self.check_worker(life, index, fullest);
    }

    /// Sees to it that the next turn comes when there is something to do.
    fn after_turn(&mut self, life: LifeId, index: usize) {
        let now = self.net.now;
        let born = self.lives[life].born;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let core = &mut body.workers[index];
        let soon = core.worker.has_work() || !core.injected.is_empty() || !core.ready.is_empty();
        let mut next = match core.worker.next_deadline() {
            // As the real driver: rounded up to the poll's millisecond.
            Some(at) => Time(born.0.saturating_add(at.0)).max(now),
            None => Time::NEVER,
        };
        if let Some((at, _)) = core.commands.front() {
            next = next.min(*at);
        }
        for (at, _) in core.rings.iter().filter_map(|ring| ring.front()) {
            next = next.min(*at);
        }
        let chunks = !core.rings.iter().all(|ring| ring.front().is_none_or(|(at, _)| *at > now));
        if soon || chunks {
            next = next.min(self.net.after_us((1, 20)));
        }
        let next = if next <= now { now.plus(Duration::from_micros(1)) } else { next };
        if next < Time::NEVER {
            self.wake_worker(life, index, next);
        }
    }

    /// Control hands a command to a worker.
    pub(super) fn command(&mut self, life: LifeId, index: usize, command: Command) {
        let at = self.net.after_us(self.net.weather.wake_us);
        let join = self.net.rng.random_range(0..2) == 0;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Some(core) = body.workers.get_mut(index) else { return };
        // A newer snapshot may replace one that the worker has not seen.
        if let (Command::Apply(_), Some((_, Command::Apply(_)))) = (&command, core.commands.back())
            && join
        {
            core.commands.pop_back();
        }
        let at = at.max(core.commands.back().map_or(at, |(last, _)| *last));
        core.commands.push_back((at, command));
        self.wake_worker(life, index, at);
    }
}

impl Turn<'_> {
    fn take_commands(&mut self, all: bool) {
        while let Some((at, _)) = self.me.commands.front() {
            if *at > self.net.now && !all {
                break;
            }
            let Some((_, command)) = self.me.commands.pop_front() else { break };
            match command {
                Command::Apply(snapshot) => {
                    self.me.worker.apply(snapshot);
                    self.report(); // Closes the sockets of links that are gone.
                }
                Command::Serve(handler, factory) => self.me.worker.serve(handler, factory),
                Command::Accepted(conn, side, established) => {
                    let (peer, worker) = (established.peer, established.peer_worker);
                    match self.me.worker.accept(peer, worker, established.link_epoch) {
                        Some(id) => {
                            self.report(); // Closes an older link's socket first.
                            self.connect(id, conn, side);
                        }
                        None => self.net.close(conn, side),
                    }
                }
                Command::Dialed(destination, conn, side) => {
                    match self.me.worker.link_opened(destination) {
                        Some(id) => self.connect(id, conn, side),
                        None => self.net.close(conn, side),
                    }
                }
                Command::DialFailed(destination) => self.me.worker.dial_failed(destination),
                Command::Facts(facts) => self.me.worker.told(&facts),
                Command::Part(order) => self.me.worker.part_order(order),
                Command::AskDrained => {
                    let queued = !self.me.injected.is_empty()
                        || self.me.rings.iter().any(|ring| !ring.is_empty());
                    let drained = !queued && self.me.worker.is_drained();
                    let index = WorkerIndex(self.index as u16);
                    self.reports.push(Report::Drained(index, drained));
                }
                Command::Finish => self.me.worker.finish_all(),
            }
        }
    }

    fn take_hand_overs(&mut self) {
        for _ in 0..INJECTIONS_PER_TURN {
            let Some(injection) = self.me.injected.pop() else { break };
            if !self.me.worker.knows(&injection) {
                // The thread saw a newer snapshot, which was sent here before it was shown there.
                self.take_commands(true);
            }
            self.me.worker.inject(injection);
        }
        let Core { worker, rings, .. } = &mut *self.me;
        for (from, ring) in rings.iter_mut().enumerate() {
            for _ in 0..CHUNKS_PER_TURN {
                if ring.front().is_none_or(|(at, _)| *at > self.net.now) {
                    break;
                }
                let Some((_, chunk)) = ring.pop_front() else { break };
                worker.sibling_chunk(WorkerIndex(from as u16), chunk);
            }
        }
    }

    fn connect(&mut self, id: LinkId, conn: ConnId, side: Side) {
        let sockets = &mut self.me.sockets;
        if sockets.len() <= id {
            sockets.resize_with(id + 1, || None);
        }
        let inbox = Inbox::new(INBOX_BYTES);
        if let Some(old) =
            sockets[id].replace(Socket { conn, side, inbox, readable: true, writable: true })
        {
            self.net.close(old.conn, old.side);
        }
        self.net.own(conn, side, Owner::Worker(self.life, self.index, id));
        if !self.me.ready.contains(&id) {
            self.me.ready.push(id);
        }
        self.me.worker.touch(id);
    }

    fn read_sockets(&mut self) {
        let mut at = 0;
        while at < self.me.ready.len() {
            let id = self.me.ready[at];
            let Some(Some(socket)) = self.me.sockets.get_mut(id) else {
                self.me.ready.swap_remove(at);
                continue;
            };
            if self.me.worker.is_choked(id) {
                self.me.ready.swap_remove(at);
                continue;
            }
            let room = socket.inbox.room();
            let asked = room.len();
            match self.net.read(socket.conn, socket.side, room) {
                Read::Bytes(count) => {
                    socket.readable = count == asked || self.net.is_over(socket.conn, socket.side);
                    socket.inbox.filled(count);
                    let bytes = socket.inbox.bytes();
                    match self.me.worker.receive(id, bytes) {
                        Ok(received) => socket.inbox.consumed(received.consumed, received.need),
                        Err(error) => {
                            self.broken.get_or_insert(error);
                            self.close(id);
                            self.me.worker.link_lost(id);
                            continue;
                        }
                    }
                }
                Read::Blocked => socket.readable = false,
                Read::Closed => {
                    self.close(id);
                    self.me.worker.link_lost(id);
                    continue;
                }
            }
            if self.me.sockets[id].as_ref().is_some_and(|socket| socket.readable) {
                at += 1;
            } else {
                self.me.ready.swap_remove(at);
            }
        }
    }

    fn close(&mut self, id: LinkId) {
        if let Some(socket) = self.me.sockets.get_mut(id).and_then(Option::take) {
            self.net.close(socket.conn, socket.side);
        }
        self.me.ready.retain(|ready| *ready != id);
    }

    fn report(&mut self) {
        let mut close = Vec::new();
        let worker = WorkerIndex(self.index as u16);
        for request in self.me.worker.requests() {
            let report = match request {
                Request::Close(id) => {
                    close.push(id);
                    continue;
                }
                Request::Dial { destination, link } => {
                    close.push(link);
                    Report::Dial { worker, destination }
                }
                Request::Suspect(peer) => Report::Suspect(peer),
                Request::Reached(peer) => Report::Reached(peer),
                Request::Part(report) => Report::Part(worker, report),
                Request::Served(handler) => Report::Served(handler),
                // The simulator's own routees are made without a panic.
                Request::ServeFailed(_) => continue,
                Request::DeadLetters { reason, count, .. } => {
                    let detail = (reason as u64) << 32 | count;
                    self.net.trace.note(self.net.now, self.life, "dead letters", detail);
                    continue;
                }
            };
            self.reports.push(report);
        }
        for id in close {
            self.close(id);
        }
    }

    fn flush(&mut self) {
        let mut again = Vec::new();
        while let Some(id) = self.me.worker.take_dirty() {
            let Some(link) = self.me.worker.link(id) else { continue };
            self.fullest = self.fullest.max(link.outbox().bytes());
            match link.role {
                Role::Own => {}
                Role::Sibling(sibling) => {
                    if !self.flush_sibling(id, usize::from(sibling.0)) {
                        again.push(id);
                    }
                }
                Role::Dialed { .. } | Role::Accepted { .. } => self.flush_socket(id),
            }
        }
        for id in again {
            self.me.worker.touch(id);
        }
    }

    fn flush_sibling(&mut self, id: LinkId, sibling: usize) -> bool {
        let waiting = self.chunks.iter().filter(|(to, _)| *to == sibling).count();
        let mut room = self.room[sibling].saturating_sub(waiting);
        while let Some(chunk) = self.me.worker.pop_sibling_chunk(id) {
            if room == 0 {
                self.me.worker.unpop_sibling_chunk(id, chunk);
                return false;
            }
            room -= 1;
            self.chunks.push((sibling, chunk));
        }
        true
    }

    fn flush_socket(&mut self, id: LinkId) {
        let Some(Some(socket)) = self.me.sockets.get_mut(id) else { return };
        while socket.writable {
            let Some(link) = self.me.worker.link(id).filter(|link| !link.outbox().is_empty())
            else {
                break;
            };
            let bytes = link.outbox().bytes();
            let written = self.net.write(socket.conn, socket.side, link.outbox().slices());
            socket.writable = written == bytes;
            if written > 0 {
                let detail = (id as u64) << 32 | written as u64;
                self.net.trace.note(self.net.now, self.life, "write", detail);
                self.me.worker.written(id, written);
            }
        }
        if socket.readable && !self.me.ready.contains(&id) {
            self.me.ready.push(id); // Reading rested while its outbox was full.
        }
    }
}
