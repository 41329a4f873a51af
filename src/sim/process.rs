//! One simulated process: control and workers as they really are, and what their threads hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rand::RngExt;

use super::clocks::LocalClock;
use super::events::{ConnId, CoreId, Event, LifeId, Side, SlotId};
use super::jobs::Jobs;
use super::load::AppThread;
use super::network::{Network, Owner};
use super::socket::Socket;
use crate::base::fate::Refusal;
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::control::Control;
use crate::queue::Full;
use crate::queue::board::Board;
use crate::queue::gate::Gate;
use crate::queue::inject::{Injected, Injector, Room};
use crate::queue::reply::ReplySlots;
use crate::queue::wake::sleeper;
use crate::queue::weighed::{WeighedReceiver, WeighedSender, weighed_ring};
use crate::route::snapshot::Snapshot;
use crate::wire::{Chunk, Frame};
use crate::worker::command::{Command, Report, Waiting};
use crate::worker::turn::Turn;
use crate::worker::{AppReply, Buffers, Injection, Limits, LinkId, Sender, Worker};

/// Datagrams that wait for a process that does not read them.
pub const SOCKET_DATAGRAMS: usize = 128;
/// How long handlers may seem to take until the clock is looked at.
const SLOW_US: std::ops::Range<u64> = 0..5_000;

/// A process's clock in one turn of a worker.
pub struct Clock {
    now: Time,
    looked: bool,
}

impl Clock {
    /// At the beginning of the turn.
    pub fn new(now: Time) -> Self {
        Self { now, looked: false }
    }

    /// Looks at it. Since the last look handlers may have taken their time.
    pub fn look(&mut self, net: &mut Network) -> Time {
        if std::mem::replace(&mut self.looked, true) && net.rng.random_range(0..8) == 0 {
            let took = net.rng.random_range(SLOW_US);
            self.now = self.now.plus(Duration::from_micros(took));
        }
        self.now
    }
}

/// How a process's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not.
    Alive,
    /// It was killed.
    Killed,
    /// It left its cluster.
    Left,
    /// An operator removed it.
    Downed,
}

/// One life of one node, from its start on; it keeps its place after its end.
pub struct Life {
    /// Its machine.
    pub slot: SlotId,
    /// Who it is.
    pub me: NodeRef,
    /// Its clock.
    pub clock: LocalClock,
    /// How it ended.
    pub fate: Fate,
    /// An operator has removed it from its cluster, whether or not it knows.
    pub downed: bool,
    /// It has begun to leave.
    pub leaving: bool,
    /// It must be let in nowhere: it advertises an address that leads nowhere, or to another machine,
    /// or it is of another cluster.
    pub misled: bool,
    /// How many paths its application serves from its start on, and how many routers it has, where
    /// that is not the simulator's own.
    pub set_up: (usize, usize),
    /// What there is of it while it lives.
    pub body: Option<Box<Body>>,
}

impl Life {
    /// Whether it has ended, or is to: then it is no member for long.
    pub fn is_gone(&self) -> bool {
        self.fate != Fate::Alive || self.downed || self.leaving
    }

    /// Whether it is a later life of the other one's node.
    pub fn succeeds(&self, other: &Self) -> bool {
        self.me.node == other.me.node && self.me.incarnation > other.me.incarnation
    }

    /// A moment on its own clock.
    pub fn local(&self, at: Time) -> Time {
        self.clock.local(at)
    }
}

/// Everything a living process holds.
pub struct Body {
    /// The decider of the process.
    pub control: Control,
    /// The capacities of its workers.
    pub limits: Limits,
    /// The deciders of its cores.
    pub workers: Vec<Core>,
    /// Connections that control is not done with.
    pub jobs: Jobs,
    /// The cluster as last published.
    pub snapshot: Arc<Snapshot>,
    /// Whether control has told last that it has met others.
    pub met: bool,
    /// Free buffers.
    pub buffers: Arc<Buffers>,
    /// Where applications wait for replies.
    pub replies: ReplySlots<AppReply>,
    /// The application's threads.
    pub threads: Vec<AppThread>,
    /// A worker has run since all messages were last looked for.
    pub ran: bool,
    /// Reports come to control in order: none before this.
    pub reports_after: Time,
    /// Nothing runs; what happens meanwhile waits here.
    pub paused: bool,
    /// What waits.
    pub backlog: Vec<Event>,
    /// When it was last paused, on its own clock.
    pub paused_at: Time,
    /// Since when it runs, on its own clock.
    pub running_since: Time,
    /// Set when control has left the cluster, with whether all was drained, and somebody knows.
    pub left: Option<bool>,
    /// Whether it takes messages: not from the start of a leave on.
    pub gate: Gate,
    /// Refusals on threads of the application, by number.
    pub refused: [AtomicU64; Refusal::ALL.len()],
}

/// A worker with what its thread holds.
pub struct Core {
    /// The decider.
    pub worker: Worker,
    /// In which order it does what.
    pub turn: Turn,
    /// What its driver moves.
    pub ends: Ends,
    /// Until when a handler holds it.
    pub blocked_until: Time,
    /// When the last one began to, on the process's own clock.
    pub blocked_at: Time,
    /// Since when none does, on the process's own clock.
    pub running_since: Time,
    /// When its next duty cycle is to come.
    pub turn_at: Time,
    /// The counts as of its last duty cycle.
    pub sums: Sums,
    /// Duty cycles behind one another that moved nothing, each of which wanted the next one at once.
    pub idle_turns: u32,
}

/// A worker's ends of what leads to it.
pub struct Ends {
    /// Whose they are.
    pub id: CoreId,
    /// From control.
    pub commands: Mail<Command<(ConnId, Side)>>,
    /// From control, when the ring was full.
    pub waiting: Waiting<(ConnId, Side)>,
    /// For application threads.
    pub injector: Injector<Injection>,
    /// From application threads.
    pub injected: Injected<Injection>,
    /// To and from each sibling.
    pub rings: Rings,
    /// Usual size of a link's receive buffer.
    pub inbox_bytes: usize,
    /// By the place of the link.
    pub sockets: Vec<Option<Socket>>,
    /// Where application threads see how links stand.
    pub board: Board,
    /// It hands nothing more to siblings.
    pub let_go: bool,
    /// A sibling still may, as of the beginning of its turn.
    pub awaited: bool,
}

/// What the invariants look at after each duty cycle.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    /// Messages sent.
    pub sent: u64,
    /// Messages that came to an end.
    pub ended: u64,
    /// Those that ended well.
    pub delivered: u64,
}

impl Core {
    /// Messages that wait in it, or on their way to it from its siblings.
    fn waiting_messages(&self) -> u64 {
        let waiting = self.worker.waiting_messages() + self.turn.waiting_messages();
        waiting + self.ends.rings.waiting_messages()
    }
}

impl Body {
    /// The way into a worker for the application's threads.
    pub fn sender(&self, worker: usize) -> Sender<'_> {
        let Ends { injector, board, .. } = &self.workers[worker].ends;
        let Self { snapshot, buffers, replies, gate, refused, .. } = self;
        Sender { snapshot, injector, board, buffers, replies, gate, refused }
    }

    /// It is paused: something happens when it runs on, if it has a place for it until then.
    pub fn hold_back(&mut self, event: Event) {
        let datagram = matches!(event, Event::Datagram { .. });
        if !datagram || self.backlog.len() < SOCKET_DATAGRAMS {
            self.backlog.push(event);
        }
    }

    /// The counts of all its workers.
    pub fn sums(&self) -> Sums {
        self.workers.iter().fold(Sums::default(), |total, core| Sums {
            sent: total.sent + core.sums.sent,
            ended: total.ended + core.sums.ended,
            delivered: total.delivered + core.sums.delivered,
        })
    }

    /// Messages that wait anywhere in the process, of those that its workers have taken in.
    pub fn waiting_messages(&self) -> u64 {
        self.workers.iter().map(Core::waiting_messages).sum()
    }

    /// A worker tells control something; it comes in order.
    pub fn send_report(&mut self, net: &mut Network, life: LifeId, report: Report) {
        let at = net.after_us(net.weather.wake_us).max(self.reports_after);
        self.reports_after = at;
        net.queue.push(at, Event::Report(life, report));
    }
}

/// What is on its way from one thread to another, in order.
pub struct Mail<T>(VecDeque<(Time, T)>);

impl<T> Default for Mail<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Mail<T> {
    /// Sends something that can be seen from then on, or once what was sent before can. Returns
    /// when.
    pub fn push(&mut self, at: Time, what: T) -> Time {
        let at = at.max(self.0.back().map_or(at, |(last, _)| *last));
        self.0.push_back((at, what));
        at
    }

    /// Takes what can be seen.
    pub fn pop(&mut self, now: Time) -> Option<T> {
        self.0.front().filter(|(at, _)| *at <= now)?;
        self.0.pop_front().map(|(_, what)| what)
    }

    /// When the next can be seen.
    pub fn next(&self) -> Option<Time> {
        self.0.front().map(|(at, _)| *at)
    }

    /// All that is on its way.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, what)| what)
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// From a sibling: its chunks, and when each can be seen.
struct SiblingRing {
    chunks: WeighedReceiver<Chunk>,
    /// For each, how many messages it carries.
    seen: Mail<u64>,
}

/// A worker's ends of the rings to and from each sibling, until it has closed them.
#[derive(Default)]
pub struct Rings {
    to: Vec<Option<WeighedSender<Chunk>>>,
    from: Vec<Option<SiblingRing>>,
    /// To whom chunks went in its turn, and how many messages in each.
    gave: Vec<(WorkerIndex, u64)>,
}

impl Rings {
    /// Those of so many workers.
    pub fn make(workers: usize, room: Room) -> Vec<Self> {
        let mut all: Vec<Self> = (0..workers).map(|_| Self::default()).collect();
        for from in 0..workers {
            for to in 0..workers {
                let (_, waker) = sleeper(|| ());
                let (sender, chunks) = weighed_ring(room, waker);
                all[from].to.push(Some(sender));
                all[to].from.push(Some(SiblingRing { chunks, seen: Mail::default() }));
            }
        }
        all
    }

    /// Hands a chunk to a sibling that takes some still, if there is room; it can be seen a little
    /// after the turn.
    pub fn push(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        let messages = chunk.untouched_requests();
        match &mut self.to[usize::from(to.0)] {
            Some(ring) if !ring.is_closed() => ring.push_quiet(chunk)?,
            _ => return Err(Full(chunk)),
        }
        self.gave.push((to, messages));
        Ok(())
    }

    /// To whom chunks went since the last time, and how many messages in each.
    pub fn take_gave(&mut self) -> Vec<(WorkerIndex, u64)> {
        std::mem::take(&mut self.gave)
    }

    /// What a sibling gave last can be seen from then on, or a little later. Returns when.
    pub fn show(&mut self, from: usize, at: Time, messages: u64) -> Option<Time> {
        Some(self.from[from].as_mut()?.seen.push(at, messages))
    }

    /// Takes a chunk that can be seen.
    pub fn pop(&mut self, from: WorkerIndex, now: Time) -> Option<Chunk> {
        let ring = self.from[usize::from(from.0)].as_mut()?;
        ring.seen.pop(now)?;
        ring.chunks.pop()
    }

    /// Whether there is a chunk of a sibling's, also one that cannot be seen yet.
    pub fn has_chunk(&self, from: WorkerIndex) -> bool {
        self.from[usize::from(from.0)].as_ref().is_some_and(|ring| !ring.chunks.is_empty())
    }

    /// As the real ones close: see [`WorkerIo::close_chunks`](crate::worker::turn::WorkerIo).
    pub fn close(&mut self, sibling: WorkerIndex, each: &mut dyn FnMut(Chunk)) {
        let place = usize::from(sibling.0);
        if let Some(ring) = self.from[place].take() {
            ring.chunks.close(&mut *each);
        }
        if let Some(ring) = self.to[place].take() {
            ring.close(each);
        }
    }

    /// When the next chunk can be seen.
    pub fn next(&self) -> Option<Time> {
        self.from.iter().flatten().filter_map(|ring| ring.seen.next()).min()
    }

    /// How many chunks of each sibling wait.
    pub fn chunks(&self) -> impl Iterator<Item = usize> {
        self.from.iter().flatten().map(|ring| ring.chunks.len())
    }

    /// What all chunks for each sibling weigh.
    pub fn weights(&self) -> impl Iterator<Item = u64> {
        self.to.iter().flatten().map(WeighedSender::waiting)
    }

    /// Takes out all that siblings gave.
    pub fn drain(&mut self, each: &mut dyn FnMut(&Frame<'_>)) {
        for ring in self.from.iter_mut().flatten() {
            while let Some(chunk) = ring.chunks.pop() {
                chunk.untouched().for_each(|frame| each(&frame));
            }
        }
    }

    /// In what siblings gave.
    fn waiting_messages(&self) -> u64 {
        self.from.iter().flatten().flat_map(|ring| ring.seen.iter()).sum()
    }
}

impl Ends {
    /// The socket of a link, if it has one.
    pub fn socket(&mut self, link: LinkId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(link.slot())?.as_mut();
        socket.filter(|socket| socket.link == link)
    }

    /// What a link has received.
    pub fn received(&self, link: LinkId) -> &[u8] {
        match self.sockets.get(link.slot()) {
            Some(Some(socket)) if socket.link == link => socket.inbox.bytes(),
            _ => &[],
        }
    }

    /// Gives a link its socket.
    pub fn attach(&mut self, link: LinkId, (conn, side): (ConnId, Side), net: &mut Network) {
        let place = link.slot();
        if self.sockets.len() <= place {
            self.sockets.resize_with(place + 1, || None);
        }
        let before = self.sockets[place].replace(Socket::new(link, (conn, side), self.inbox_bytes));
        assert!(before.is_none(), "whose place a link gets has closed its connection");
        net.own(conn, side, Owner::Worker(self.id.0, self.id.1, link));
    }

    /// Takes a link's socket away.
    pub fn detach(&mut self, link: LinkId) -> Option<Socket> {
        self.socket(link)?;
        self.sockets[link.slot()].take()
    }

    /// When something that other threads sent can be seen.
    pub fn next(&self) -> Option<Time> {
        self.rings.next().into_iter().chain(self.commands.next()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIBLINGS: [WorkerIndex; 2] = [WorkerIndex(0), WorkerIndex(1)];

    #[test]
    fn a_sibling_that_has_ended_leaves_nothing_in_its_ring_and_takes_nothing_more() {
        let mut rings = Rings::make(2, Room { items: 4, bytes: 1 << 10 });
        let chunk = || Chunk::with_capacity(16);
        rings[0].push(SIBLINGS[1], chunk()).unwrap();
        assert!(rings[1].pop(SIBLINGS[0], Time::NEVER).is_none(), "it is not seen yet");
        let closed = |rings: &mut Rings, sibling| {
            let mut taken = 0;
            rings.close(sibling, &mut |_| taken += 1);
            taken
        };
        assert_eq!(closed(&mut rings[1], SIBLINGS[0]), 1, "what lies there is taken all the same");
        assert_eq!(rings[0].show(1, Time::ZERO, 1), Some(Time::ZERO));
        assert_eq!(rings[1].show(0, Time::ZERO, 1), None, "nobody looks any more");
        assert!(rings[0].push(SIBLINGS[1], chunk()).is_err(), "nor would anybody take it");
        assert_eq!(closed(&mut rings[0], SIBLINGS[1]), 0);
    }
}
