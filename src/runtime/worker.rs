//! A worker's thread: polls its sockets, calls its decider, moves what that leaves.
//!
//! One turn: wait for events (not at all while there is work, else until the next timer), read the
//! clock once, take what other threads handed over, read the sockets that have something, run what
//! is due, write every outbox that got frames with one system call each. Nothing waits to fill a
//! batch, and nothing is written per message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::proxies::{Command, DeadLetter, Report};
use crate::base::{LogKind, LogLimiter, Time, WorkerIndex};
use crate::net::link::{Outcome, Socket};
use crate::queue::block_on::mark_worker_thread;
use crate::queue::board::{Board, CountsBoard};
use crate::queue::inject::Injected;
use crate::queue::ring::{RingReceiver, RingSender};
use crate::queue::wake::Sleeper;
use crate::wire::{Chunk, WireError};
use crate::worker::inject::Injection;
use crate::worker::{LinkId, Request, Role, Worker};

/// The token of the waker; links have their own numbers.
pub const WAKE: Token = Token(usize::MAX);

/// Hand-overs that are taken per turn, so that sockets get their share.
const INJECTIONS_PER_TURN: usize = 1024;

/// Chunks that are taken from one sibling per turn.
const CHUNKS_PER_TURN: usize = 16;

/// How long a stopping worker waits for its siblings to stop as well.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many more rounds of hand-overs a stopping worker takes: more than its queues can hold, and an
/// end for threads that never cease.
const LAST_ROUNDS: usize = 256;

/// How long a thread may be between looking whether the node closes and pushing.
const LAST_PUSHES: Duration = Duration::from_millis(2);

/// How often a hand-over that waits for room is looked at, when nothing else happens.
const HELD_LOOK: Duration = Duration::from_millis(1);

/// How stale published counts may be while the worker is busy.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);

/// The rings between this worker and one sibling.
pub struct SiblingRings {
    /// To the sibling.
    pub to: RingSender<Chunk>,
    /// From the sibling.
    pub from: RingReceiver<Chunk>,
}

/// What a worker's thread is made of.
pub struct WorkerThread {
    /// Which worker.
    pub index: WorkerIndex,
    /// The decider.
    pub worker: Worker,
    /// Where events come from.
    pub poll: Poll,
    /// Commands of control.
    pub commands: RingReceiver<Command>,
    /// Hand-overs of application threads.
    pub injected: Injected<Injection>,
    /// By sibling; `None` at the own place.
    pub siblings: Vec<Option<SiblingRings>>,
    /// To control.
    pub reports: mpsc::Sender<Report>,
    /// Tells producers whether a wake-up is needed.
    pub sleeper: Sleeper,
    /// The node's clock.
    pub clock: Clock,
    /// Where application threads see how links stand.
    pub board: Arc<Board>,
    /// Where counts are published.
    pub counts: Arc<CountsBoard>,
    /// How long to look for work before sleeping.
    pub spin: Duration,
    /// Usual size of a link's receive buffer.
    pub inbox_bytes: usize,
    /// Limits what peers can cause in the log.
    pub log: LogLimiter,
    /// Held by every worker of the node that may still hand something over to a sibling.
    pub running: Arc<()>,
}

/// What lives for the time of the loop.
struct Turn {
    sockets: Vec<Option<Socket>>,
    /// Links whose sockets may still have something to read.
    ready: Vec<LinkId>,
    unsent: Vec<Report>,
    /// A hand-over that waits for room in its link's outbox.
    held: Option<Injection>,
    last_work: Time,
    last_publish: Time,
    stop: bool,
}

impl Turn {
    /// Keeps a report until control takes it. Dead letters that are alike are told together: as
    /// long as control is behind, there are no more than there are reasons and peers.
    fn keep(&mut self, report: Report) {
        if let Report::DeadLetters(new) = &report {
            for kept in &mut self.unsent {
                if let Report::DeadLetters(known) = kept
                    && (known.reason, known.peer) == (new.reason, new.peer)
                {
                    known.count += new.count;
                    return;
                }
            }
        }
        self.unsent.push(report);
    }
}

impl WorkerThread {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// Only when the system's poll itself fails.
    pub fn run(mut self) -> io::Result<()> {
        mark_worker_thread();
        let mut events = Events::with_capacity(1024);
        let mut turn = Turn {
            sockets: Vec::new(),
            ready: Vec::new(),
            unsent: Vec::new(),
            held: None,
            last_work: self.clock.now(),
            last_publish: Time::ZERO,
            stop: false,
        };
        let mut busy = true;
        while !turn.stop {
            self.wait(&mut events, &mut turn, busy)?;
            let now = self.clock.now();
            self.counts.pulse.turn(now.0);
            self.worker.begin(now);
            let mut worked = self.note_events(&events, &mut turn);
            worked |= self.take_commands(&mut turn);
            worked |= self.take_hand_overs(&mut turn);
            worked |= self.read_sockets(&mut turn);
            self.worker.run();
            if self.worker.take_standings_changed() {
                // A pause before a re-dial is over: nobody else would say so.
                self.refresh_board();
            }
            self.report(&mut turn);
            worked |= self.flush(&mut turn);
            // A request that a flush made (a lost link) must not wait for the next event.
            self.report(&mut turn);
            if worked || self.worker.has_work() {
                turn.last_work = now;
            }
            // Whatever else is there to do makes the next wait return at once.
            busy = self.worker.has_work()
                || !turn.ready.is_empty()
                || !turn.unsent.is_empty()
                || now.since(turn.last_work) < self.spin;
            if !busy || now.since(turn.last_publish) >= PUBLISH_EVERY {
                turn.last_publish = now;
                self.counts.publish(&self.worker.counts().to_words());
            }
        }
        self.part_from_siblings(&mut turn);
        self.worker.stop();
        self.report(&mut turn);
        self.counts.publish(&self.worker.counts().to_words());
        self.counts.pulse.sleeps(self.clock.now().0);
        // Control may be gone already; then nobody needs to know.
        let _ = self.reports.try_send(Report::Ended(self.index));
        Ok(())
    }

    /// Takes what was handed over before the end, so that it is counted like everything else. From
    /// siblings something can come until each of them has got as far as this one.
    fn part_from_siblings(&mut self, turn: &mut Turn) {
        // Threads that were not refused yet when the end began get their last push in.
        std::thread::sleep(LAST_PUSHES);
        let running = Arc::downgrade(&self.running);
        self.running = Arc::default();
        let deadline = self.clock.now().plus(PATIENCE);
        while running.strong_count() > 0 && self.clock.now() < deadline {
            self.take_hand_overs(turn);
            std::thread::sleep(Duration::from_micros(100));
        }
        // What siblings pushed before they let go is seen after their letting go was.
        fence(Ordering::Acquire);
        for _ in 0..LAST_ROUNDS {
            if let Some(held) = turn.held.take() {
                self.worker.inject(held);
            } else if !self.take_hand_overs(turn) {
                break;
            }
        }
    }

    #[inline]
    fn wait(&mut self, events: &mut Events, turn: &mut Turn, busy: bool) -> io::Result<()> {
        if busy {
            return poll(&mut self.poll, events, Some(Duration::ZERO));
        }
        // From here on every producer that adds something wakes the poll.
        self.sleeper.announce();
        let queued = !self.commands.is_empty()
            || (turn.held.is_none() && !self.injected.is_empty())
            || self.siblings.iter().flatten().any(|rings| !rings.from.is_empty());
        let timeout = if queued {
            Some(Duration::ZERO)
        } else {
            let due = self.worker.next_deadline().map(|at| at.since(self.clock.now()));
            match turn.held {
                Some(_) => Some(due.map_or(HELD_LOOK, |due| due.min(HELD_LOOK))),
                None => due,
            }
        };
        self.counts.pulse.sleeps(self.clock.now().0);
        let outcome = poll(&mut self.poll, events, timeout);
        self.sleeper.awake();
        turn.last_work = if queued { self.clock.now() } else { turn.last_work };
        outcome
    }

    fn note_events(&mut self, events: &Events, turn: &mut Turn) -> bool {
        let mut any = false;
        for event in events {
            any = true;
            let Token(id) = event.token();
            let Some(Some(socket)) = turn.sockets.get_mut(id) else { continue };
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                socket.readable = true;
                if !turn.ready.contains(&id) {
                    turn.ready.push(id);
                }
            }
            if event.is_writable() {
                socket.writable = true;
                if self.worker.link(id).is_some_and(|link| !link.outbox().is_empty()) {
                    self.worker.touch(id);
                }
            }
        }
        any
    }

    fn take_commands(&mut self, turn: &mut Turn) -> bool {
        let mut any = false;
        while let Some(command) = self.commands.pop() {
            any = true;
            match command {
                Command::Apply(snapshot) => {
                    self.worker.apply(snapshot);
                    // A lost peer's place may be a new link's by now: the old socket must be
                    // closed before anything is read, or its bytes would be the new link's.
                    self.report(turn);
                    self.refresh_board();
                }
                Command::Serve(handler, factory) => self.worker.serve(handler, factory),
                Command::Accepted(stream, established) => {
                    let (peer, worker) = (established.peer, established.peer_worker);
                    if let Some(id) = self.worker.accept(peer, worker, established.link_epoch) {
                        self.report(turn); // Closes an older link's socket first.
                        self.connect(turn, id, stream);
                    }
                }
                Command::Dialed(destination, stream) => {
                    if let Some(id) = self.worker.link_opened(destination) {
                        self.connect(turn, id, stream);
                        self.refresh_board();
                    }
                }
                Command::DialFailed(destination) => {
                    self.worker.dial_failed(destination);
                    self.refresh_board();
                }
                Command::Facts(facts) => self.worker.told(&facts),
                Command::Part(order) => self.worker.part_order(order),
                Command::AskDrained => {
                    let queued = turn.held.is_some()
                        || !self.injected.is_empty()
                        || self.siblings.iter().flatten().any(|rings| !rings.from.is_empty());
                    let drained = !queued && self.worker.is_drained();
                    turn.unsent.push(Report::Drained(self.index, drained));
                }
                Command::Finish => self.worker.finish_all(),
                Command::Stop => turn.stop = true,
            }
        }
        // Control sends a stop before it ends. If it is gone without one it has panicked.
        turn.stop |= self.commands.is_closed() && self.commands.is_empty();
        any
    }

    fn take_hand_overs(&mut self, turn: &mut Turn) -> bool {
        let mut any = false;
        let mut room = self.worker.hand_over_bytes();
        for _ in 0..INJECTIONS_PER_TURN {
            if room == 0 {
                // What waits is delivered or written first, or it would overflow its queue.
                break;
            }
            let Some(injection) = turn.held.take().or_else(|| self.injected.pop()) else { break };
            room = room.saturating_sub(injection.bytes());
            if !self.worker.knows(&injection) {
                // The thread saw a newer snapshot, which was sent here before it was shown there.
                self.take_commands(turn);
            }
            if self.worker.should_wait(&injection) {
                // Its link is full and moving: the queue behind it fills, which its senders see.
                turn.held = Some(injection);
                break;
            }
            self.worker.inject(injection);
            any = true;
        }
        let worker = &mut self.worker;
        for (from, rings) in self.siblings.iter_mut().enumerate() {
            let Some(rings) = rings else { continue };
            let from = WorkerIndex(from as u16);
            any |= rings.from.drain(CHUNKS_PER_TURN, |chunk| worker.sibling_chunk(from, chunk)) > 0;
        }
        any
    }

    fn connect(&mut self, turn: &mut Turn, id: LinkId, stream: std::net::TcpStream) {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(id), interest) {
            if let Some(left_out) = self.log.line(self.clock.now(), LogKind::UnwatchedSocket) {
                tracing::warn!(%error, left_out, "cannot watch a link's socket; it is closed");
            }
            self.worker.link_lost(id);
            return;
        }
        if turn.sockets.len() <= id {
            turn.sockets.resize_with(id + 1, || None);
        }
        turn.sockets[id] = Some(Socket::new(stream, self.inbox_bytes));
        turn.ready.push(id);
        self.worker.touch(id);
    }

    fn read_sockets(&mut self, turn: &mut Turn) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < turn.ready.len() {
            let id = turn.ready[at];
            let Some(Some(socket)) = turn.sockets.get_mut(id) else {
                turn.ready.swap_remove(at);
                continue;
            };
            if self.worker.is_choked(id) {
                // The peer does not take its replies: it is read again when it has.
                turn.ready.swap_remove(at);
                continue;
            }
            match socket.read() {
                Outcome::Bytes(_) => {
                    any = true;
                    match self.worker.receive(id, socket.inbox.bytes()) {
                        Ok(received) => socket.inbox.consumed(received.consumed, received.need),
                        Err(error) => {
                            self.expel(turn, id, error);
                            continue;
                        }
                    }
                }
                Outcome::Blocked => {}
                Outcome::Closed => {
                    any = true;
                    self.close(turn, id);
                    self.worker.link_lost(id);
                    self.refresh_board();
                    continue;
                }
            }
            if turn.sockets[id].as_ref().is_some_and(|socket| socket.readable) {
                at += 1;
            } else {
                turn.ready.swap_remove(at);
            }
        }
        any
    }

    /// A peer broke the protocol: its link is closed, nobody else notices.
    #[cold]
    fn expel(&mut self, turn: &mut Turn, id: LinkId, error: WireError) {
        if let Some(left_out) = self.log.line(self.clock.now(), LogKind::BrokenFrame) {
            let peer = self.worker.link(id).map(|link| link.peer.0.to_string());
            let peer = peer.as_deref();
            tracing::warn!(peer, %error, left_out, "a link is closed for a broken frame");
        }
        self.close(turn, id);
        self.worker.link_lost(id);
        self.refresh_board();
    }

    fn close(&mut self, turn: &mut Turn, id: LinkId) {
        if let Some(mut socket) = turn.sockets.get_mut(id).and_then(Option::take) {
            // Dropping the stream closes it, whether or not it could be deregistered.
            let _ = self.poll.registry().deregister(&mut socket.stream);
        }
        turn.ready.retain(|ready| *ready != id);
    }

    fn report(&mut self, turn: &mut Turn) {
        let mut close = Vec::new();
        for request in self.worker.requests() {
            let report = match request {
                Request::Close(id) => {
                    close.push(id);
                    continue;
                }
                Request::Dial { destination, link } => {
                    close.push(link); // A lost connection's socket, if there still is one.
                    Report::Dial { worker: self.index, destination, link }
                }
                Request::Suspect(peer) => Report::Suspect(peer),
                Request::Reached(peer) => Report::Reached(peer),
                Request::ServeFailed(handler) => Report::ServeFailed(handler),
                Request::Served(handler) => Report::Served(self.index, handler),
                Request::Part(report) => Report::Part(self.index, report),
                Request::DeadLetters { reason, count, peer } => {
                    Report::DeadLetters(DeadLetter { reason, count, peer, worker: self.index })
                }
            };
            turn.keep(report);
        }
        for id in close {
            self.close(turn, id);
        }
        let mut sent = 0;
        for report in turn.unsent.iter_mut() {
            let Ok(permit) = self.reports.try_reserve() else { break };
            permit.send(std::mem::replace(report, Report::Ended(self.index)));
            sent += 1;
        }
        turn.unsent.drain(..sent);
    }

    fn flush(&mut self, turn: &mut Turn) -> bool {
        let mut any = false;
        let mut again = Vec::new();
        while let Some(id) = self.worker.take_dirty() {
            let Some(link) = self.worker.link(id) else { continue };
            match link.role {
                Role::Own => {}
                Role::Sibling(sibling) => {
                    if !self.flush_sibling(id, sibling) {
                        again.push(id);
                    }
                    any = true;
                }
                Role::Dialed { .. } | Role::Accepted { .. } => {
                    any |= self.flush_socket(turn, id);
                }
            }
        }
        for id in again {
            self.worker.touch(id);
        }
        any
    }

    fn flush_sibling(&mut self, id: LinkId, sibling: WorkerIndex) -> bool {
        let Some(rings) = &mut self.siblings[usize::from(sibling.0)] else { return true };
        while let Some(chunk) = self.worker.pop_sibling_chunk(id) {
            if let Err(full) = rings.to.push_quiet(chunk) {
                self.worker.unpop_sibling_chunk(id, full.0);
                rings.to.notify();
                return false;
            }
        }
        rings.to.notify();
        true
    }

    fn flush_socket(&mut self, turn: &mut Turn, id: LinkId) -> bool {
        let Some(Some(socket)) = turn.sockets.get_mut(id) else { return false };
        let mut any = false;
        while socket.writable {
            let Some(link) = self.worker.link(id).filter(|link| !link.outbox().is_empty()) else {
                break;
            };
            match socket.write(link) {
                Outcome::Bytes(count) => {
                    any = true;
                    self.worker.written(id, count);
                }
                Outcome::Blocked => break,
                Outcome::Closed => {
                    self.close(turn, id);
                    self.worker.link_lost(id);
                    self.refresh_board();
                    return true;
                }
            }
        }
        let unread = turn.sockets[id].as_ref().is_some_and(|socket| socket.readable);
        if unread && !turn.ready.contains(&id) {
            turn.ready.push(id); // Reading rested while its outbox was full.
        }
        self.note_fullness(id);
        any
    }

    /// Lets application threads see how full a link's queue is.
    #[inline]
    fn note_fullness(&self, id: LinkId) {
        if let Some(link) = self.worker.link(id)
            && let Role::Dialed { destination } = link.role
        {
            self.board.set(destination, link.board_state());
        }
    }

    /// Lets application threads see how all links stand. Not per message.
    fn refresh_board(&self) {
        for link in self.worker.dialed_links() {
            if let Role::Dialed { destination } = link.role {
                self.board.set(destination, link.board_state());
            }
        }
    }
}

fn poll(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        // A signal (a debugger, a stopped and continued process) ends the wait early.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        outcome => outcome,
    }
}
