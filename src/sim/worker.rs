//! Drives workers: what the real driver does with queues, sockets and the clock, over the fake
//! network. The duty cycle is the same.

use std::time::Duration;

use rand::RngExt;

use super::events::{Event, LifeId};
use super::invariants::protocol;
use super::network::{ConnId, Network, Owner, Read, Side};
use super::process::{Command, Core, Ends, Socket};
use super::world::World;
use crate::base::fate::Counts;
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::net::inbox::Inbox;
use crate::queue::Full;
use crate::queue::board::LinkState;
use crate::wire::{Chunk, WireError};
use crate::worker::outbox::Outbox;
use crate::worker::turn::{Moved, TurnOutcome, WorkerIo};
use crate::worker::{DeadLetter, Injection, LinkId, Report};

/// Small, so that frames often need room to be made.
const INBOX_BYTES: usize = 4 * 1024;
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
    /// What is on its way to the worker can be seen.
    all: bool,
    /// A sibling has not let go.
    awaited: bool,
    reports: Vec<Report>,
    /// Chunks for siblings, sent when the turn is over.
    chunks: Vec<(usize, Chunk)>,
    /// By sibling: how many more chunks its ring takes.
    room: Vec<usize>,
    broken: Option<WireError>,
    /// The most bytes that an outbox held before it was written.
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
        writable: bool,
    ) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Core { worker, turn, .. } = &mut body.workers[index];
        match writable {
            true => turn.writable(worker, link),
            false => turn.readable(link),
        }
        self.nudge(life, index);
    }

    /// One duty cycle.
    pub(super) fn turn(&mut self, life: LifeId, index: usize) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if body.workers[index].turn_at != self.net.now {
            return; // Another turn was or will be earlier.
        }
        body.workers[index].turn_at = Time::NEVER;
        if !body.paused {
            // If it is paused it runs when the process does.
            self.run_turn(life, index, false);
        }
    }

    /// Stops the workers of a process that ends, as its control does.
    pub(super) fn stop_workers(&mut self, life: LifeId) {
        let now = self.net.now;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        for core in &mut body.workers {
            core.ends.commands.push_back((now, Command::Stop));
        }
        let mut running: Vec<usize> = (0..body.workers.len()).collect();
        while !running.is_empty() {
            running.retain(|index| self.run_turn(life, *index, true) != TurnOutcome::Ended);
        }
    }

    fn run_turn(&mut self, life: LifeId, index: usize, all: bool) -> TurnOutcome {
        let now = self.lives[life].local(self.net.now);
        let limit = self.plan.ring_chunks;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return TurnOutcome::Ended };
        let rings = body.workers.iter().map(|core| core.ends.rings[index].len());
        let room = rings.map(|used| limit.saturating_sub(used)).collect();
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
            all,
            awaited,
            reports: Vec::new(),
            chunks: Vec::new(),
            room,
            broken: None,
            fullest: 0,
        };
        let outcome = turn.run(worker, &mut hands);
        hands.now = now;
        hands.looks = 0;
        let pause = match outcome {
            TurnOutcome::Again => Some(Duration::ZERO),
            TurnOutcome::Sleep => turn.may_sleep(worker, &mut hands),
            TurnOutcome::Ended => None,
        };
        let Hands { reports, chunks, broken, fullest, .. } = hands;

        self.plan_turn(life, index, outcome, pause);
        for (sibling, chunk) in chunks {
            let at = self.net.after_us(self.net.weather.wake_us);
            let Some(body) = self.lives[life].body.as_deref_mut() else { return outcome };
            let ring = &mut body.workers[sibling].ends.rings[index];
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
        outcome
    }

    /// Sees to it that the next turn comes when there is something to do.
    fn plan_turn(
        &mut self,
        life: LifeId,
        index: usize,
        outcome: TurnOutcome,
        pause: Option<Duration>,
    ) {
        let now = self.net.now;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Ends { commands, rings, injected, .. } = &body.workers[index].ends;
        let coming = rings.iter().filter_map(|ring| ring.front()).map(|(at, _)| *at);
        let coming = coming.chain(commands.front().map(|(at, _)| *at)).min();
        let mut next = coming.unwrap_or(Time::NEVER);
        match pause {
            // What is on its way only keeps the worker awake once it can be seen.
            Some(Duration::ZERO) => {
                let awake = outcome == TurnOutcome::Again || !injected.is_empty() || next <= now;
                next = if awake { next.min(self.net.after_us((1, 20))) } else { next };
            }
            Some(pause) => next = next.min(now.plus(pause)),
            None => {}
        }
        let next = if next <= now { now.plus(Duration::from_micros(1)) } else { next };
        if next < Time::NEVER && outcome != TurnOutcome::Ended {
            self.wake_worker(life, index, next);
        }
    }

    /// Control hands a command to a worker.
    pub(super) fn command(&mut self, life: LifeId, index: usize, command: Command) {
        let at = self.net.after_us(self.net.weather.wake_us);
        let join = self.net.rng.random_range(0..2) == 0;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Some(core) = body.workers.get_mut(index) else { return };
        let commands = &mut core.ends.commands;
        // A newer snapshot may replace one that the worker has not seen.
        if let (Command::Apply(_), Some((_, Command::Apply(_)))) = (&command, commands.back())
            && join
        {
            commands.pop_back();
        }
        let at = at.max(commands.back().map_or(at, |(last, _)| *last));
        commands.push_back((at, command));
        self.wake_worker(life, index, at);
    }
}

impl Hands<'_> {
    fn sees(&self, at: Time) -> bool {
        self.all || at <= self.net.now
    }

    fn socket(&mut self, link: LinkId) -> Option<&mut Socket> {
        let socket = self.ends.sockets.get_mut(link.slot())?.as_mut();
        socket.filter(|socket| socket.link == link)
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

    fn next_command(&mut self) -> Option<Command> {
        let (at, _) = self.ends.commands.front()?;
        if !self.sees(*at) {
            return None;
        }
        self.ends.commands.pop_front().map(|(_, command)| command)
    }

    fn has_command(&self) -> bool {
        !self.ends.commands.is_empty()
    }

    fn is_control_gone(&self) -> bool {
        false
    }

    fn report(&mut self, report: Report) -> Result<(), Full<Report>> {
        if let Report::DeadLetters(DeadLetter { reason, count, .. }) = report {
            let detail = (reason as u64) << 32 | count;
            self.net.trace.note(self.net.now, self.life, "dead letters", detail);
        } else {
            self.reports.push(report);
        }
        Ok(())
    }

    fn next_hand_over(&mut self) -> Option<Injection> {
        self.ends.injected.pop()
    }

    fn has_hand_over(&self) -> bool {
        !self.ends.injected.is_empty()
    }

    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection)) {
        self.ends.injected.close(each);
    }

    fn next_chunk(&mut self, from: WorkerIndex) -> Option<Chunk> {
        let from = usize::from(from.0);
        let (at, _) = self.ends.rings[from].front()?;
        if !self.sees(*at) {
            return None;
        }
        self.ends.rings[from].pop_front().map(|(_, chunk)| chunk)
    }

    fn has_chunk(&self, from: WorkerIndex) -> bool {
        !self.ends.rings[usize::from(from.0)].is_empty()
    }

    fn push_chunk(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        let to = usize::from(to.0);
        if self.room[to] == 0 {
            return Err(Full(chunk));
        }
        self.room[to] -= 1;
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

    fn attach(&mut self, link: LinkId, (conn, side): (ConnId, Side)) -> bool {
        let sockets = &mut self.ends.sockets;
        if sockets.len() <= link.slot() {
            sockets.resize_with(link.slot() + 1, || None);
        }
        let socket = Socket { link, conn, side, inbox: Inbox::new(INBOX_BYTES) };
        if let Some(old) = sockets[link.slot()].replace(socket) {
            self.net.close(old.conn, old.side);
        }
        self.net.own(conn, side, Owner::Worker(self.life, self.index, link));
        true
    }

    fn refuse(&mut self, (conn, side): (ConnId, Side)) {
        self.net.close(conn, side);
    }

    fn close(&mut self, link: LinkId) {
        if self.socket(link).is_some()
            && let Some(socket) = self.ends.sockets[link.slot()].take()
        {
            self.net.close(socket.conn, socket.side);
        }
    }

    fn broken(&mut self, _: Option<NodeRef>, error: WireError) {
        self.broken.get_or_insert(error);
    }

    fn read(&mut self, link: LinkId) -> Moved {
        let Some(Some(socket)) = self.ends.sockets.get_mut(link.slot()) else {
            return Moved::Closed;
        };
        let room = socket.inbox.room();
        let asked = room.len();
        match self.net.read(socket.conn, socket.side, room) {
            Read::Bytes(count) => {
                socket.inbox.filled(count);
                let more = count == asked || self.net.is_over(socket.conn, socket.side);
                Moved::Bytes { count, more }
            }
            Read::Blocked => Moved::Blocked,
            Read::Closed => Moved::Closed,
        }
    }

    fn received(&self, link: LinkId) -> &[u8] {
        match self.ends.sockets.get(link.slot()) {
            Some(Some(socket)) if socket.link == link => socket.inbox.bytes(),
            _ => &[],
        }
    }

    fn consumed(&mut self, link: LinkId, count: usize, need: usize) {
        if let Some(socket) = self.socket(link) {
            socket.inbox.consumed(count, need);
        }
    }

    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved {
        let bytes = outbox.bytes();
        self.fullest = self.fullest.max(bytes);
        let Some(&mut Socket { conn, side, .. }) = self.socket(link) else { return Moved::Closed };
        let count = self.net.write(conn, side, outbox.slices());
        if count == 0 {
            return Moved::Blocked;
        }
        let detail = link.to_bits() << 32 | count as u64;
        self.net.trace.note(self.net.now, self.life, "write", detail);
        Moved::Bytes { count, more: count == bytes }
    }

    fn show(&mut self, destination: u32, state: LinkState) {
        self.ends.board.set(destination, state);
    }

    fn publish(&mut self, _: &Counts) {}
}
