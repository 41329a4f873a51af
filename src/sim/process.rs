//! One simulated process: control and workers as they really are, and what their threads hold.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::events::{Event, SlotId};
use super::load::AppThread;
use super::network::{ConnId, Side};
use crate::base::{HandlerId, MemberEvent, NodeRef, Time, View, WorkerIndex};
use crate::control::links::{JobId, LinkEffect};
use crate::control::{Control, ControlSink, ControlTimer, ServeFailure};
use crate::member::MemberFault;
use crate::net::inbox::Inbox;
use crate::part::{Facts, WorkerOrder};
use crate::queue::board::Board;
use crate::queue::inject::{Injected, Injector};
use crate::queue::reply::ReplySlots;
use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::wire::Chunk;
use crate::wire::handshake::{Acceptor, Dialer};
use crate::worker::turn::Turn;
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
    /// When its next duty cycle is to come.
    pub turn_at: Time,
    /// The counts as of its last duty cycle.
    pub sums: Sums,
}

/// A worker's ends of what leads to it.
pub struct Ends {
    /// From control, in order, each with when it can be seen.
    pub commands: VecDeque<(Time, Command)>,
    /// For application threads.
    pub injector: Injector<Injection>,
    /// From application threads.
    pub injected: Injected<Injection>,
    /// By sibling: chunks with when they can be seen.
    pub rings: Vec<VecDeque<(Time, Chunk)>>,
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
}

/// From control to a worker.
pub type Command = crate::worker::Command<(ConnId, Side)>;

impl Body {
    /// What control does with one side of a connection.
    pub fn job_of(&mut self, conn: ConnId, side: Side) -> Option<(JobId, &mut Job)> {
        let mut jobs = self.jobs.iter_mut();
        jobs.find(|(_, job)| (job.conn, job.side) == (conn, side)).map(|(id, job)| (*id, job))
    }
}

/// A connection in control's hands.
pub struct Job {
    /// Which connection.
    pub conn: ConnId,
    /// Which side of it.
    pub side: Side,
    /// What control does with it.
    pub shake: Shake,
}

/// What control does with a connection.
pub enum Shake {
    /// Opens a link for a worker; with what is said first.
    Dial(Box<Dialer>, Vec<u8>),
    /// Lets a peer in.
    Accept(Box<Acceptor>),
    /// Looks whether a process listens.
    Probe,
}

/// What control wants done; carried out after its call.
pub enum Effect {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Call back later.
    Schedule(Time, ControlTimer),
    /// Hand a snapshot around.
    Publish(Arc<Snapshot>),
    /// Make tables.
    MakeTables(TableJob),
    /// A path is served, or could not be.
    Served(Result<(), ServeFailure>),
    /// End the routees of a path.
    Withdraw(HandlerId),
    /// They have ended.
    Unserved(HandlerId),
    /// Membership changed.
    Events(Arc<View>, Vec<MemberEvent>),
    /// It cannot go on.
    Fault(MemberFault),
    /// Ask the workers whether they are drained.
    AskDrained,
    /// Have the workers say goodbye.
    FinishWorkers,
    /// What parts published.
    Facts(Facts),
    /// For a part's half on a worker.
    Part(WorkerIndex, WorkerOrder),
    /// It has left.
    Left(bool),
    /// Something about connections.
    Link(LinkEffect),
}

/// Keeps effects in order.
#[derive(Default)]
pub struct Effects {
    /// What was asked for.
    pub list: Vec<Effect>,
    /// Memory for datagrams.
    pub spare: Vec<Vec<u8>>,
}

impl ControlSink for Effects {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.list.push(Effect::Send(to, bytes));
    }

    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        self.list.push(Effect::Schedule(at, timer));
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.list.push(Effect::Publish(snapshot));
    }

    fn make_tables(&mut self, job: TableJob) {
        self.list.push(Effect::MakeTables(job));
    }

    /// Applications here look into the snapshot instead.
    fn routed(&mut self, _: u32) {}

    fn served(&mut self, _: HandlerId, outcome: Result<(), ServeFailure>) {
        self.list.push(Effect::Served(outcome));
    }

    fn withdraw(&mut self, handler: HandlerId) {
        self.list.push(Effect::Withdraw(handler));
    }

    fn unserved(&mut self, handler: HandlerId) {
        self.list.push(Effect::Unserved(handler));
    }

    fn events(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
        self.list.push(Effect::Events(Arc::clone(view), events.to_vec()));
    }

    fn fault(&mut self, fault: MemberFault) {
        self.list.push(Effect::Fault(fault));
    }

    fn ask_drained(&mut self) {
        self.list.push(Effect::AskDrained);
    }

    fn finish_workers(&mut self) {
        self.list.push(Effect::FinishWorkers);
    }

    fn facts(&mut self, facts: &Facts) {
        self.list.push(Effect::Facts(facts.clone()));
    }

    fn part_order(&mut self, worker: WorkerIndex, order: WorkerOrder) {
        self.list.push(Effect::Part(worker, order));
    }

    fn left(&mut self, drained: bool) {
        self.list.push(Effect::Left(drained));
    }

    fn link(&mut self, effect: LinkEffect) {
        self.list.push(Effect::Link(effect));
    }
}
