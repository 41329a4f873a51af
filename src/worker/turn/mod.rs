//! Walk of a message: `worker/outbox` comes before, `net/link` after; and where it arrives `net/link`
//! and `net/inbox` before, `wire/deframe` after.
//!
//! The duty cycle of a worker: in which order it does what, how much of it, and when it may sleep.
//! A decider; the real driver and the simulator run it over their [`WorkerIo`].
//!
//! One turn: read the clock once, do what control says, take a bounded number of hand-overs, handle
//! what siblings, sockets and this worker itself sent, each for a bounded time, run what is due,
//! write every outbox that got frames with one system call each. Nothing waits to fill a batch, and
//! nothing is written per message.
//!
//! The files: [`io`] is what a driver supplies, [`pace`](self) bounds the time, [`sockets`](self)
//! reads and writes, [`flow`](self) finds dead connections, [`parting`](self) ends a worker.

mod flow;
pub mod inboxes;
pub mod io;
mod pace;
mod parting;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::flow::Looks;
pub use self::inboxes::InboxRoom;
use self::inboxes::Inboxes;
pub use self::io::{Flow, Line, Moved, WorkerIo};
use self::pace::{Longest, Pace};
use self::parting::Stage;
use self::sockets::Port;
use super::calls::Call;
use super::dead::sum_up;
use super::{Command, LinkId, Report, Request, SlowTurn, Worker};
use crate::base::{LogLimiter, Time, WorkerIndex};
use crate::queue::Full;
use crate::queue::board::WayState;
use crate::route::snapshot::Snapshot;
use crate::wire::{Chunk, Frame};

/// Hand-overs that are taken per turn, so that sockets get their share.
const HAND_OVERS_PER_TURN: usize = 1024;

/// Chunks that are taken from one sibling per turn.
const CHUNKS_PER_TURN: usize = 16;

/// How often something that no event announces is looked at, when nothing else happens: whether a
/// hand-over that waits has found room, or a chunk for a sibling, whether siblings have stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// And at least, when that has been so for long: a peer may be silent for minutes.
const LOOK_AGAIN_MOST: Duration = Duration::from_millis(10);

/// How long after it was last shown the worker shows how full it is, while it is busy.
const SHOW_EVERY: Duration = Duration::from_millis(5);

/// Handlers and message types that are named as slow; further ones are only counted.
const MOST_SLOW: usize = 64;

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnOutcome {
    /// The next turn, without a pause.
    Again,
    /// The driver tells producers that it sleeps, and then sleeps for as long as
    /// [`Turn::may_sleep`] says, or until an event.
    Sleep,
    /// Nothing: the worker has stopped.
    Ended,
}

/// What a worker's thread knows from one turn to the next.
pub struct Turn {
    index: WorkerIndex,
    workers: u16,
    spin: Duration,
    slow: Duration,
    /// By the place of the link.
    ports: Vec<Port>,
    /// Links from which something may be read, or waits to be handled.
    ready: VecDeque<LinkId>,
    /// By sibling: the rest of a chunk.
    rests: Vec<Option<Chunk>>,
    /// The sibling that comes first.
    first: u16,
    /// What control has not taken yet.
    unsent: Vec<Report>,
    /// Siblings' links whose rings are full: each is tried again with the next turn, and nothing
    /// tells when there is room.
    again: Vec<LinkId>,
    inboxes: Inboxes,
    pace: Pace,
    looks: Looks,
    /// Limits what peers can cause in the log.
    log: LogLimiter,
    /// And whether nothing else was called.
    named: Vec<(Call, bool)>,
    noted: bool,
    last_work: Time,
    last_shown: Time,
    stage: Stage,
}

impl Turn {
    /// Before the first turn of a node's worker. `spin` is how long it looks for work before it
    /// sleeps, `slow` how long a turn may take before it is reported, `dead_flow` for how long a
    /// connection may be silent on which something was sent.
    pub fn new(
        index: WorkerIndex,
        workers: u16,
        (spin, slow, dead_flow): (Duration, Duration, Duration),
        inboxes: InboxRoom,
    ) -> Self {
        Self {
            index,
            workers,
            spin,
            slow,
            ports: Vec::new(),
            ready: VecDeque::new(),
            rests: (0..workers).map(|_| None).collect(),
            first: 0,
            unsent: Vec::new(),
            again: Vec::new(),
            inboxes: Inboxes::new(inboxes),
            pace: Pace::new(),
            looks: Looks::new(dead_flow),
            log: LogLimiter::default(),
            named: Vec::new(),
            noted: true,
            last_work: Time::ZERO,
            last_shown: Time::ZERO,
            stage: Stage::Running,
        }
    }

    /// One duty cycle.
    pub fn run<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> TurnOutcome {
        let now = io.now();
        worker.begin(now);
        self.pace.begin(now);
        let mut worked = std::mem::take(&mut self.noted);
        worked |= self.take_commands(worker, io);
        if !matches!(self.stage, Stage::Running) {
            return self.part(worker, io, now);
        }
        worked |= self.take_hand_overs(worker, io);
        worked |= self.take_chunks(worker, io);
        worked |= self.read_sockets(worker, io);
        let due = self.run_due(worker, io);
        let own = self.run_own(worker, io);
        self.report(worker, io);
        // Users' code may have taken long. What is written now would seem to be as old as the turn, or
        // as what was written before it.
        let written_at = if worked || due || own { io.now() } else { now };
        self.look_at_flows(worker, io, written_at);
        worked |= self.flush(worker, io, written_at);
        // A request that a flush made (a lost link) must not wait for the next event.
        self.report(worker, io);
        if worker.take_ways_changed() {
            for destination in worker.take_gone() {
                io.show(destination, WayState::Finished);
            }
            for (destination, state) in worker.way_states() {
                io.show(destination, state);
            }
            worker.ways_shown(io.now());
        }
        let end = io.now();
        worker.ends(end);
        if let Some(longest) = self.pace.end(end, worker.calls(), self.slow) {
            self.note_slow(worker, longest, end);
        }
        if worked || worker.has_work() {
            self.last_work = now;
        }
        let waits = own
            || worker.has_work()
            || !self.ready.is_empty()
            || !self.unsent.is_empty()
            || self.rests.iter().any(Option::is_some);
        if !waits && !worked && !due {
            worker.idles();
        }
        let busy = waits || now.since(self.last_work) < self.spin;
        if !busy || now.since(self.last_shown) >= SHOW_EVERY {
            self.last_shown = now;
            worker.show_fill();
            io.show_fill();
        }
        if busy { TurnOutcome::Again } else { TurnOutcome::Sleep }
    }

    /// How long the driver may sleep, unless an event ends it; `None` for however long. Asked after
    /// producers were told of the sleep: what they added before is found here, for what comes later
    /// they wake the driver.
    pub fn may_sleep<I: WorkerIo>(&mut self, worker: &Worker, io: &mut I) -> Option<Duration> {
        if !matches!(self.stage, Stage::Running) {
            return Some(LOOK_AGAIN);
        }
        let now = io.now();
        worker.sleeps(now);
        if io.has_command()
            || io.is_control_gone()
            || worker.has_results()
            || worker.has_unsaid()
            || (worker.takes_hand_overs() && io.has_hand_over())
            || self.siblings().any(|sibling| io.has_chunk(sibling))
        {
            self.last_work = now;
            return Some(Duration::ZERO);
        }
        let due = worker.next_deadline().into_iter().chain(self.looks.next()).min();
        let due = due.map(|at| at.since(now));
        let due = match self.inboxes.waiting.is_empty() {
            true => due,
            false => Some(due.unwrap_or(inboxes::STEP).min(inboxes::STEP)),
        };
        if worker.is_holding() || !self.again.is_empty() {
            let pause = (now.since(self.last_work) / 8).clamp(LOOK_AGAIN, LOOK_AGAIN_MOST);
            return Some(due.map_or(pause, |due| due.min(pause)));
        }
        due
    }

    /// Messages of siblings that were taken from their rings and not handled yet.
    pub fn waiting_messages(&self) -> u64 {
        self.rests.iter().flatten().map(Chunk::untouched_requests).sum()
    }

    /// Shows all these.
    pub fn waiting(&self, each: &mut dyn FnMut(&Frame<'_>)) {
        self.rests.iter().flatten().flat_map(Chunk::untouched).for_each(|frame| each(&frame));
    }

    fn siblings(&self) -> impl Iterator<Item = WorkerIndex> + use<> {
        let (first, workers, me) = (self.first, self.workers, self.index);
        let others = (0..workers).map(move |place| WorkerIndex((first + place) % workers));
        others.filter(move |sibling| *sibling != me)
    }

    fn take_commands<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        let mut any = false;
        while let Some(command) = io.next_command() {
            any = true;
            match command.found() {
                Command::Apply(snapshot) => self.apply(worker, io, snapshot),
                // It was found by an earlier command.
                Command::NewSnapshot(_) => {}
                Command::Serve(handler, factory) => worker.serve(handler, factory),
                Command::Withdraw(handler) => worker.withdraw(handler),
                Command::Accepted(connection, established) => {
                    let (peer, of) = (established.peer, established.peer_worker);
                    let link = worker.accept(peer, of, established.link_epoch);
                    self.connect(worker, io, link, connection);
                }
                Command::Dialed(destination, connection, takes) => {
                    let link = worker.link_opened(destination, takes);
                    self.connect(worker, io, link, connection);
                }
                Command::DialFailed(destination) => worker.dial_failed(destination),
                Command::Facts(facts) => worker.told(&facts),
                Command::NewFacts(latest) => {
                    if let Some(facts) = latest.take() {
                        worker.told(&facts);
                    }
                }
                Command::Part(order) => worker.part_order(order),
                Command::AskDrained(round) => {
                    let answer = worker.drained(round, self.is_queued(io));
                    self.unsent.push(Report::Drained(self.index, answer));
                }
                Command::Finish => worker.finish_all(),
                Command::Stop => self.stage.stop(),
            }
        }
        // Control sends a stop before it ends. If it is gone without one it has panicked.
        if io.is_control_gone() {
            self.stage.stop();
        }
        any
    }

    fn apply<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I, snapshot: Arc<Snapshot>) {
        worker.apply(snapshot);
        // A connection that was given up must bring nothing more: a dialed link keeps its name
        // across connections.
        self.report(worker, io);
    }

    fn is_queued<I: WorkerIo>(&self, io: &I) -> bool {
        io.has_hand_over()
            || self.rests.iter().any(Option::is_some)
            || self.siblings().any(|sibling| io.has_chunk(sibling))
    }

    fn take_hand_overs<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        worker.admit_held();
        let mut any = false;
        let mut room = worker.hand_over_bytes();
        for _ in 0..HAND_OVERS_PER_TURN {
            // What waits is delivered or written first, so that other sources get their share.
            if room == 0 || !worker.takes_hand_overs() {
                break;
            }
            let Some(injection) = io.next_hand_over() else { break };
            room = room.saturating_sub(injection.bytes());
            if !worker.knows(&injection) {
                // The thread saw a newer snapshot, which was sent here before it was shown there.
                self.take_commands(worker, io);
            }
            worker.inject(injection);
            any = true;
        }
        any
    }

    fn take_chunks<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        self.pace.share();
        let mut any = false;
        for sibling in self.siblings() {
            for _ in 0..CHUNKS_PER_TURN {
                let place = usize::from(sibling.0);
                let chunk = self.rests[place].take().or_else(|| io.next_chunk(sibling));
                let Some(chunk) = chunk else { break };
                any = true;
                self.rests[place] = self.deliver(worker, io, sibling, chunk);
                if self.rests[place].is_some() {
                    // The next one comes first in the next turn.
                    self.first = (sibling.0 + 1) % self.workers;
                    return true;
                }
            }
        }
        any
    }

    /// Returns what is left when the time is over.
    fn deliver<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        from: WorkerIndex,
        mut chunk: Chunk,
    ) -> Option<Chunk> {
        loop {
            self.before(worker, io);
            let (messages, rest) = worker.sibling_chunk(from, chunk, self.pace.left());
            self.behind(worker, messages);
            let over = self.pace.handled(messages) && self.look(worker, io);
            chunk = rest?;
            if over {
                return Some(chunk);
            }
        }
    }

    /// Runs what is due. Returns whether there was any.
    fn run_due<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        if !worker.gather() {
            return false;
        }
        self.pace.share();
        // A look after each: what quick messages took says nothing about these.
        while worker.run_one() {
            if self.look(worker, io) {
                break;
            }
        }
        true
    }

    /// Handles what this worker sent to itself. Returns whether there may be more.
    fn run_own<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        self.pace.share();
        let mut chunks = worker.own_chunks();
        let any = chunks > 0;
        while chunks > 0 {
            self.before(worker, io);
            let (messages, more) = worker.own_chunk(self.pace.left());
            self.behind(worker, messages);
            chunks -= usize::from(!more);
            if self.pace.handled(messages) && self.look(worker, io) {
                break;
            }
        }
        if any {
            show(worker, io, worker.own_link());
        }
        chunks > 0
    }

    /// Messages are about to be handled.
    #[inline]
    fn before<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) {
        if self.pace.wants_sample() {
            worker.begin_sample();
            self.pace.sample(io.now());
        }
    }

    /// What was tried has brought so many messages; if none, another one is timed.
    #[inline]
    fn behind(&mut self, worker: &mut Worker, messages: u32) {
        if messages == 0 && self.pace.unsample() {
            worker.undo_sample();
        }
    }

    /// Looks at the clock. Returns whether the time of this kind of source is over.
    fn look<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        let now = io.now();
        if let Some(took) = self.pace.sampled(now) {
            worker.end_sample(took);
        }
        self.pace.look(now, worker.calls())
    }

    // ---- to control ----

    fn report<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) {
        for request in worker.requests() {
            let index = self.index;
            let report = match request {
                Request::Close(link) => {
                    self.disconnect(io, link);
                    io.close(link);
                    continue;
                }
                Request::ReadOut(link) => {
                    self.read_out(link);
                    continue;
                }
                Request::Dial { destination, .. } => Report::Dial { worker: index, destination },
                Request::Suspect(peer) => Report::Suspect(peer),
                Request::Vanished(peer, opened) => Report::Vanished(peer, opened),
                Request::Reached(peer) => Report::Reached(peer),
                Request::NoPlace(peer, of) => Report::NoPlace(index, (peer, of), 1),
                Request::InVain(peer) => Report::InVain(peer),
                Request::Overtaken(peer, of, lower) => Report::Overtaken(index, (peer, of), lower),
                Request::ServeFailed(handler) => Report::ServeFailed(handler),
                Request::Served(handler) => Report::Served(index, handler),
                Request::Withdrawn(handler) => Report::Withdrawn(index, handler),
                Request::Part(report) => Report::Part(index, report),
                Request::DeadLetters(dead) => Report::DeadLetters(dead),
                Request::Panicked(panicked) => Report::Panicked(panicked),
            };
            keep(&mut self.unsent, report);
        }
        if !self.unsent.is_empty() {
            self.send_reports(io);
        }
    }

    fn send_reports<I: WorkerIo>(&mut self, io: &mut I) {
        let mut reports = std::mem::take(&mut self.unsent).into_iter();
        while let Some(report) = reports.next() {
            if let Err(Full(report)) = io.report(report) {
                self.unsent = std::iter::once(report).chain(reports).collect();
                return;
            }
        }
    }

    #[cold]
    fn note_slow(&mut self, worker: &mut Worker, longest: Longest, now: Time) {
        worker.count_slow_turn(now);
        let Longest { took, calls } = longest;
        // What was called last need not have been called in this turn: the next time it may be to
        // blame.
        let last = if calls.messages == 0 { (calls.last.0, None) } else { calls.last };
        let (path, message) = worker.names_of(last);
        let (hook, messages, hooks, panics) =
            (calls.last_hook(), calls.messages, calls.hooks, calls.panics);
        let slow =
            SlowTurn { worker: self.index, path, message, hook, took, messages, hooks, panics };
        // Whoever was only one of several is named again when it was alone.
        let named = (last, slow.is_certain());
        if self.named.contains(&named) || self.named.len() >= MOST_SLOW {
            return;
        }
        self.named.push(named);
        self.unsent.push(Report::SlowTurn(slow));
    }
}

/// Keeps a report until control takes it. Dead letters that are alike are told together: as long as
/// control is behind, there are no more than [`sum_up`] keeps apart. So are connections that found no
/// place, and panics. Of what a peer has not taken, and of overtaken connections, the latest is told.
fn keep(unsent: &mut Vec<Report>, mut report: Report) {
    if let Report::DeadLetters(new) = &mut report {
        let notes = unsent.iter_mut().filter_map(|kept| match kept {
            Report::DeadLetters(known) => Some(known),
            _ => None,
        });
        if sum_up(notes, new) {
            return;
        }
    }
    if let Report::Panicked(new) = &report {
        let known = unsent.iter_mut().find_map(|kept| match kept {
            Report::Panicked(known) => Some(known),
            _ => None,
        });
        if let Some(known) = known {
            known.more += 1 + new.more;
            return;
        }
    }
    if let Report::NoPlace(_, peer, count) = report {
        let known = unsent.iter_mut().find_map(|kept| match kept {
            Report::NoPlace(_, last, known) => Some((last, known)),
            _ => None,
        });
        if let Some((last, known)) = known {
            (*last, *known) = (peer, *known + count);
            return;
        }
    }
    if let Report::Overtaken(..) = &report {
        unsent.retain(|kept| !matches!(kept, Report::Overtaken(..)));
    }
    if let Report::Untaken(_, peer, ..) = &report {
        unsent.retain(|kept| !matches!(kept, Report::Untaken(_, known, ..) if known == peer));
    }
    unsent.push(report);
}

/// Lets application threads see how full a link's queue is.
#[inline]
fn show<I: WorkerIo>(worker: &Worker, io: &mut I, link: LinkId) {
    if let Some((destination, state)) = worker.way_state(link) {
        io.show(destination, state);
    }
}
