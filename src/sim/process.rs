//! One simulated process: control and workers as they really are, and what their threads hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::events::{Event, LifeId, SlotId};
use super::load::AppThread;
use super::network::{ConnId, Network, Read, Side};
use super::newer::fail_anew;
use crate::base::{NodeRef, Time};
use crate::control::Control;
use crate::control::links::JobId;
use crate::control::links::shake::Shake;
use crate::net::inbox::Inbox;
use crate::queue::board::Board;
use crate::queue::inject::{Injected, Injector};
use crate::queue::reply::ReplySlots;
use crate::route::snapshot::Snapshot;
use crate::wire::Chunk;
use crate::worker::command::{Command, Report, Waiting};
use crate::worker::outbox::Outbox;
use crate::worker::turn::{Moved, Turn};
use crate::worker::{AppReply, Buffers, Injection, LinkId, Worker};

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
    /// The origin of its clock.
    pub born: Time,
    /// How it ended.
    pub fate: Fate,
    /// An operator has removed it from its cluster, whether or not it knows.
    pub downed: bool,
    /// It has begun to leave.
    pub leaving: bool,
    /// It advertises an address that leads nowhere, or to another machine.
    pub misled: bool,
    /// What there is of it while it lives.
    pub body: Option<Box<Body>>,
}

impl Life {
    /// A moment on its own clock.
    pub fn local(&self, at: Time) -> Time {
        Time(at.0 - self.born.0)
    }
}

/// Everything a living process holds.
pub struct Body {
    /// The decider of the process.
    pub control: Control,
    /// The deciders of its cores.
    pub workers: Vec<Core>,
    /// Handshakes and probes under way.
    pub jobs: BTreeMap<JobId, Job>,
    /// The connection that has just come in.
    pub arriving: Option<ConnId>,
    /// The cluster as last published.
    pub snapshot: Arc<Snapshot>,
    /// Free buffers.
    pub buffers: Arc<Buffers>,
    /// Where applications wait for replies.
    pub replies: ReplySlots<AppReply>,
    /// The application's threads.
    pub threads: Vec<AppThread>,
    /// Reports come to control in order: none before this.
    pub reports_after: Time,
    /// Nothing runs; what happens meanwhile waits here.
    pub paused: bool,
    /// What waits.
    pub backlog: Vec<Event>,
    /// Since when it runs, on its own clock.
    pub running_since: Time,
    /// Set when control has left the cluster, with whether all was drained.
    pub left: Option<bool>,
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
    /// From control.
    pub commands: Mail<Command<(ConnId, Side)>>,
    /// From control, when the ring was full.
    pub waiting: Waiting<(ConnId, Side)>,
    /// For application threads.
    pub injector: Injector<Injection>,
    /// From application threads.
    pub injected: Injected<Injection>,
    /// By sibling: what it sent.
    pub rings: Vec<Mail<Chunk>>,
    /// By the place of the link.
    pub sockets: Vec<Option<Socket>>,
    /// Where application threads see how links stand.
    pub board: Board,
    /// It hands nothing more to siblings.
    pub let_go: bool,
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

/// A link's socket, as a worker sees it.
pub struct Socket {
    /// Whose it is.
    pub link: LinkId,
    /// Which connection.
    pub conn: ConnId,
    /// Which side of it.
    pub side: Side,
    /// What has come and was not handled.
    pub inbox: Inbox,
    /// What was written ends with a whole frame.
    pub whole: bool,
    /// What a newer process says behind that, as far as it is not written.
    pub more: Vec<u8>,
}

impl Body {
    /// What control does with one side of a connection.
    pub fn job_of(&self, conn: ConnId, side: Side) -> Option<JobId> {
        let mut jobs = self.jobs.iter();
        jobs.find(|(_, job)| (job.conn, job.side) == (conn, side)).map(|(id, _)| *id)
    }

    /// A worker tells control something; it comes in order.
    pub fn send_report(&mut self, net: &mut Network, life: LifeId, report: Report) {
        let at = net.after_us(net.weather.wake_us).max(self.reports_after);
        self.reports_after = at;
        net.queue.push(at, Event::Report(life, report));
    }
}

/// A connection in control's hands.
pub struct Job {
    /// Which connection.
    pub conn: ConnId,
    /// Which side of it.
    pub side: Side,
    /// What is said on it.
    pub shake: Shake,
    /// Once it is a channel between controls: what its socket did not take yet.
    pub kept: Option<Vec<u8>>,
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

    /// What is on its way, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, what)| what)
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Socket {
    /// Small, so that frames often need room to be made.
    const INBOX_BYTES: usize = 4 * 1024;

    /// A link's side of a connection.
    pub fn new(link: LinkId, (conn, side): (ConnId, Side)) -> Self {
        let inbox = Inbox::new(Self::INBOX_BYTES);
        Self { link, conn, side, inbox, whole: true, more: Vec::new() }
    }

    /// Reads once.
    pub fn read(&mut self, net: &mut Network) -> Moved {
        let room = self.inbox.room();
        let asked = room.len();
        match net.read(self.conn, self.side, room) {
            Read::Bytes(count) => {
                self.inbox.filled(count);
                Moved::Bytes { count, more: count == asked }
            }
            Read::Blocked => Moved::Blocked,
            Read::Closed => Moved::Closed,
        }
    }

    /// Writes once.
    pub fn write(&mut self, net: &mut Network, outbox: &Outbox) -> Moved {
        if !self.write_more(net) {
            return Moved::Blocked;
        }
        let count = match self.whole && net.is_newer(self.conn, self.side) {
            true => {
                let mut frames: Vec<u8> = outbox.slices().flatten().copied().collect();
                fail_anew(&mut frames, &mut net.rng);
                net.write(self.conn, self.side, std::iter::once(frames.as_slice()))
            }
            false => net.write(self.conn, self.side, outbox.slices()),
        };
        self.whole = count == outbox.bytes();
        match count {
            0 => Moved::Blocked,
            count => Moved::Bytes { count, more: self.whole },
        }
    }

    /// Writes what a newer process says more. Whether all of it is written.
    pub fn write_more(&mut self, net: &mut Network) -> bool {
        if !self.more.is_empty() {
            let count = net.write(self.conn, self.side, std::iter::once(self.more.as_slice()));
            self.more.drain(..count);
        }
        self.more.is_empty()
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

    /// Gives a link its socket; gives the one back that had the place before.
    pub fn attach(&mut self, socket: Socket) -> Option<Socket> {
        let place = socket.link.slot();
        if self.sockets.len() <= place {
            self.sockets.resize_with(place + 1, || None);
        }
        self.sockets[place].replace(socket)
    }

    /// Takes a link's socket away.
    pub fn detach(&mut self, link: LinkId) -> Option<Socket> {
        self.socket(link)?;
        self.sockets[link.slot()].take()
    }

    /// When something that other threads sent can be seen.
    pub fn next(&self) -> Option<Time> {
        self.rings.iter().map(Mail::next).chain([self.commands.next()]).flatten().min()
    }
}
