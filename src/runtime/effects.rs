//! What control's decider wants done, carried out on the spot, except for what must wait.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::clock::Clock;
use super::control::{Ended, Published};
use super::jobs::Jobs;
use super::proxies::Command;
use crate::base::{HandlerId, LogKind, LogLimiter, MemberEvent, NodeRef, Time, View, WorkerIndex};
use crate::control::links::{LinkEffect, LogLine};
use crate::control::{ControlSink, ControlTimer, ServeFailure};
use crate::member::MemberFault;
use crate::net::discovery::Discovery;
use crate::part::{Facts, WorkerOrder};
use crate::queue::ring::RingSender;
use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::wire::VersionRange;
use crate::wire::auth::ClusterKey;
use crate::wire::handshake::{AcceptParams, DialParams, TurnAway};

/// What discovery found, and itself, unless it panicked.
pub(super) struct Discovered {
    pub discovery: Option<Box<dyn Discovery>>,
    pub source: String,
    pub outcome: Result<Vec<SocketAddr>, String>,
}

/// What carries it out.
pub(super) struct Effects {
    pub datagrams: Arc<UdpSocket>,
    pub workers: Vec<Mailbox>,
    pub timers: BTreeMap<(Time, u64), ControlTimer>,
    pub next_timer: u64,
    pub published: Published,
    pub clock: Clock,
    pub log: LogLimiter,
    pub tables: Option<TableJob>,
    /// Routers whose first table is published.
    pub routed: Vec<u32>,
    /// What became of paths that were to be served.
    pub served: Vec<(HandlerId, Result<(), ServeFailure>)>,
    /// Paths that are not served any more.
    pub unserved: Vec<HandlerId>,
    pub left: Option<bool>,
    pub fault: Option<MemberFault>,
    pub me: NodeRef,
    pub key: ClusterKey,
    pub jobs: Jobs,
    /// The connection that has just come in, until control has said what becomes of it.
    pub arrived: Option<tokio::net::TcpStream>,
    pub accepting: bool,
    /// `None` while it looks, and after it has panicked.
    pub discovery: Option<Box<dyn Discovery>>,
    pub discovered: mpsc::Sender<Discovered>,
}

/// The way to one worker. What its ring does not take waits here: commands are few, and none may
/// be lost.
pub(super) struct Mailbox {
    pub ring: RingSender<Command>,
    pub waiting: VecDeque<Command>,
}

impl Mailbox {
    fn send(&mut self, command: Command) {
        // A newer snapshot, and newer facts, replace those that have not gone out yet.
        let mut last = self.waiting.iter_mut().rev();
        match (&command, last.next(), last.next()) {
            (Command::Apply(_), Some(known @ Command::Apply(_)), _)
            | (Command::Apply(_), Some(Command::Facts(_)), Some(known @ Command::Apply(_)))
            | (Command::Facts(_), Some(known @ Command::Facts(_)), _) => *known = command,
            _ => self.waiting.push_back(command),
        }
        self.pump();
    }

    pub fn pump(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(full) = self.ring.push(command) {
                self.waiting.push_front(full.0);
                return;
            }
        }
    }
}

impl Effects {
    pub fn command(&mut self, worker: WorkerIndex, command: Command) {
        if let Some(mailbox) = self.workers.get_mut(usize::from(worker.0)) {
            mailbox.send(command);
        }
    }

    /// Has discovery look, where it may block.
    fn discover(&mut self) {
        let Some(mut discovery) = self.discovery.take() else { return };
        let tell = self.discovered.clone();
        tokio::spawn(async move {
            let source = discovery.name().to_owned();
            let look = tokio::task::spawn_blocking(move || {
                let outcome = discovery.discover();
                (discovery, outcome.map_err(|error| error.to_string()))
            });
            let (discovery, outcome) = match look.await {
                Ok((discovery, outcome)) => (Some(discovery), outcome),
                // It is not asked again; what it found stays.
                Err(error) => (None, Err(error.to_string())),
            };
            // Nobody listens any more when the node ends.
            let _ = tell.send(Discovered { discovery, source, outcome }).await;
        });
    }

    pub fn end(&mut self, ended: Ended) {
        self.published.ended.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some(ended);
            }
            first
        });
    }
}

impl ControlSink for Effects {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        // A full socket buffer loses a datagram, which membership expects of a network.
        let _ = self.datagrams.try_send_to(datagram, to);
    }

    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), timer);
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        for mailbox in &mut self.workers {
            mailbox.send(Command::Apply(Arc::clone(&snapshot)));
        }
        self.published.snapshot.store(Arc::clone(&snapshot));
        self.published.changes.send_replace(snapshot);
    }

    fn make_tables(&mut self, job: TableJob) {
        self.tables = Some(job);
    }

    fn routed(&mut self, router: u32) {
        self.routed.push(router);
    }

    fn served(&mut self, handler: HandlerId, outcome: Result<(), ServeFailure>) {
        self.served.push((handler, outcome));
    }

    fn withdraw(&mut self, handler: HandlerId) {
        for mailbox in &mut self.workers {
            mailbox.send(Command::Withdraw(handler));
        }
    }

    fn unserved(&mut self, handler: HandlerId) {
        self.unserved.push(handler);
    }

    fn events(&mut self, _: &Arc<View>, events: &[MemberEvent]) {
        for event in events {
            if let Some(left_out) = self.log.line(self.clock.now(), LogKind::Member) {
                log_event(event, left_out);
            }
            // Nobody listening is no error.
            let _ = self.published.events.send(event.clone());
        }
    }

    fn fault(&mut self, fault: MemberFault) {
        tracing::error!(%fault, "the node cannot go on");
        self.fault = Some(fault);
    }

    fn ask_drained(&mut self) {
        for mailbox in &mut self.workers {
            mailbox.send(Command::AskDrained);
        }
    }

    fn finish_workers(&mut self) {
        for mailbox in &mut self.workers {
            mailbox.send(Command::Finish);
        }
    }

    fn facts(&mut self, facts: &Facts) {
        for mailbox in &mut self.workers {
            mailbox.send(Command::Facts(facts.clone()));
        }
    }

    fn part_order(&mut self, worker: WorkerIndex, order: WorkerOrder) {
        self.command(worker, Command::Part(order));
    }

    fn left(&mut self, drained: bool) {
        self.left = Some(drained);
    }

    fn link(&mut self, effect: LinkEffect) {
        match effect {
            LinkEffect::Accept(job) => {
                let Some(stream) = self.arrived.take() else { return };
                let params = AcceptParams {
                    key: self.key.clone(),
                    me: self.me,
                    workers: self.workers.len() as u16,
                    versions: VersionRange::SUPPORTED,
                    turn_away: None,
                };
                self.jobs.accept(job, stream, params);
            }
            LinkEffect::TurnAway => {
                let Some(stream) = self.arrived.take() else { return };
                // As far as the socket takes it at once; the stranger gets no more of our time.
                let _ = stream.try_write(&TurnAway::Busy.refusal());
            }
            LinkEffect::Dial(order) => {
                let params = DialParams {
                    key: self.key.clone(),
                    me: self.me,
                    from_worker: order.from_worker,
                    to: order.to,
                    to_worker: order.to_worker,
                    link_epoch: order.link_epoch,
                    versions: VersionRange::SUPPORTED,
                };
                self.jobs.dial(order.job, order.address, params);
            }
            LinkEffect::Probe { job, address } => self.jobs.probe(job, address),
            LinkEffect::Abort(job) => self.jobs.abort(job),
            LinkEffect::HandDialed { job, worker, destination } => {
                if let Some(stream) = self.jobs.take(job) {
                    self.command(worker, Command::Dialed(destination, stream));
                }
            }
            LinkEffect::HandAccepted { job, established } => {
                if let Some(stream) = self.jobs.take(job) {
                    self.command(established.my_worker, Command::Accepted(stream, established));
                }
            }
            LinkEffect::DialFailed { worker, destination } => {
                self.command(worker, Command::DialFailed(destination));
            }
            LinkEffect::Accepting(accepting) => self.accepting = accepting,
            LinkEffect::Discover => self.discover(),
            LinkEffect::Log(line) => log(&line),
            // Control keeps these to itself.
            LinkEffect::Schedule(..)
            | LinkEffect::Refused(_)
            | LinkEffect::Reached(_)
            | LinkEffect::Greeted(..) => {}
        }
    }
}

fn log(LogLine { kind, left_out, text }: &LogLine) {
    match kind {
        LogKind::DialFailed => tracing::debug!(left_out, "{text}"),
        LogKind::OtherSeeds => tracing::info!(left_out, "{text}"),
        _ => tracing::warn!(left_out, "{text}"),
    }
}

fn log_event(event: &MemberEvent, left_out: u64) {
    let (what, member) = match event {
        MemberEvent::Joined(member) => ("a member joined", member),
        MemberEvent::Changed(member) => ("a member changed", member),
        MemberEvent::Unreachable(member) => ("a member is unreachable", member),
        MemberEvent::Reachable(member) => ("a member is reachable again", member),
        MemberEvent::Removed(member) => ("a member was removed", member),
    };
    let state = member.state;
    tracing::info!(node = %member.name, address = %member.address, ?state, left_out, "{what}");
}
