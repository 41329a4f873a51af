//! The control thread: drives the process's decider over tokio. Everything here happens a few
//! times a second, or when somebody asks; messages never pass through.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::proxies::{Command, DeadLetter, Order, OrderError, Report};
use crate::base::fate::{AskError, DeathReason};
use crate::base::{HandlerId, LogKind, LogLimiter, MemberEvent, NodeRef, Time, View, WorkerIndex};
use crate::control::seeds::{DISCOVERY_INTERVAL, FoundSeeds};
use crate::control::{Control, ControlSink, ControlTimer, DATAGRAMS_PER_TURN, ServeError};
use crate::member::MemberFault;
use crate::net::discovery::{Discovery, SeedList};
use crate::net::{dialer, listener};
use crate::part::{Facts, WorkerOrder};
use crate::queue::reply::ReplySlots;
use crate::queue::ring::RingSender;
use crate::route::job::{TableJob, TablesMade};
use crate::route::snapshot::Snapshot;
use crate::wire::VersionRange;
use crate::wire::auth::ClusterKey;
use crate::wire::handshake::{AcceptParams, DialParams, Established, TurnAway};
use crate::worker::{AppReply, RouteeFactory};

/// The largest datagram that is read; membership's own cap is far below.
const DATAGRAM_BYTES: usize = 65_536;

/// What the control thread tells everybody.
pub struct Published {
    /// What application threads route by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same, to wait for.
    pub changes: watch::Sender<Arc<Snapshot>>,
    /// Changes of membership.
    pub events: broadcast::Sender<MemberEvent>,
    /// Messages that died on this node.
    pub dead_letters: broadcast::Sender<DeadLetter>,
    /// Set when the node cannot go on, or has stopped in good order.
    pub ended: watch::Sender<Option<Ended>>,
    /// How datagrams and strangers fared.
    pub strangers: watch::Sender<Strangers>,
    /// Set before the workers are stopped: from then on application threads are refused.
    pub closing: Arc<AtomicBool>,
}

/// How a node's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It left its cluster; true if everything was drained in time.
    Left {
        /// Whether everything was drained in time.
        drained: bool,
    },
    /// It was stopped.
    Stopped,
    /// It could not go on.
    Fault(MemberFault),
}

/// What came to this node's port that was not let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Strangers {
    /// Connections that completed the handshake.
    pub accepted: u64,
    /// Connections that were refused or broke during the handshake.
    pub refused: u64,
    /// Connections that were turned away unread, because too many were unfinished.
    pub turned_away: u64,
    /// What became of datagrams.
    pub datagrams: crate::control::DatagramCounts,
}

/// What the control thread is made of.
pub struct ControlThread {
    /// The decider.
    pub control: Control,
    /// The cluster's keys.
    pub key: ClusterKey,
    /// For links.
    pub listener: std::net::TcpListener,
    /// For membership.
    pub datagrams: std::net::UdpSocket,
    /// By worker.
    pub workers: Vec<RingSender<Command>>,
    /// Of all workers.
    pub reports: mpsc::Receiver<Report>,
    /// Of all faces.
    pub orders: mpsc::Receiver<Order>,
    /// The node's clock.
    pub clock: Clock,
    /// Where facts are published.
    pub published: Published,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How many may be unfinished at a time.
    pub max_pending_handshakes: usize,
    /// Where applications wait for replies; closed at the end.
    pub replies: ReplySlots<AppReply>,
    /// Where addresses to join through come from.
    pub discovery: Box<dyn Discovery>,
    /// What it found at the start.
    pub seeds: Vec<SocketAddr>,
}

/// A finished handshake or probe, back on the control thread.
enum Shaken {
    In(SocketAddr, Result<(std::net::TcpStream, Established), listener::AcceptError>),
    Out(DialJob, Result<(std::net::TcpStream, Established), dialer::DialError>),
    Probed(NodeRef, Result<(), dialer::DialError>),
    Discovered(Box<dyn Discovery>, std::io::Result<Vec<SocketAddr>>),
    Tables(std::thread::Result<TablesMade>),
}

#[derive(Clone, Copy)]
struct DialJob {
    worker: WorkerIndex,
    destination: u32,
    peer: NodeRef,
}

struct Driver {
    effects: Effects,
    control: Control,
    key: ClusterKey,
    clock: Clock,
    reports: mpsc::Receiver<Report>,
    handshake_timeout: Duration,
    max_pending_handshakes: usize,
    strangers: Strangers,
    incoming: usize,
    jobs: JoinSet<Shaken>,
    link_epoch: u64,
    serving: BTreeMap<HandlerId, oneshot::Sender<Result<HandlerId, OrderError>>>,
    /// By router: who waits until it is routed by.
    routing: BTreeMap<u32, oneshot::Sender<Result<u32, OrderError>>>,
    leavers: Vec<oneshot::Sender<bool>>,
    probing: Vec<NodeRef>,
    replies: ReplySlots<AppReply>,
    bind: SocketAddr,
    seeds: Vec<SocketAddr>,
}

/// What the decider wants done; carried out as it is said, except for what must wait.
struct Effects {
    datagrams: Arc<UdpSocket>,
    workers: Vec<Mailbox>,
    timers: BTreeMap<(Time, u64), ControlTimer>,
    next_timer: u64,
    published: Published,
    clock: Clock,
    log: LogLimiter,
    tables: Option<TableJob>,
    routed: Vec<u32>,
    left: Option<bool>,
    fault: Option<MemberFault>,
}

/// The way to one worker. What its ring does not take waits here: commands are few, and none may
/// be lost.
struct Mailbox {
    ring: RingSender<Command>,
    waiting: VecDeque<Command>,
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

    fn pump(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(full) = self.ring.push(command) {
                self.waiting.push_front(full.0);
                return;
            }
        }
    }
}

impl Effects {
    fn command(&mut self, worker: WorkerIndex, command: Command) {
        if let Some(mailbox) = self.workers.get_mut(usize::from(worker.0)) {
            mailbox.send(command);
        }
    }

    fn end(&mut self, ended: Ended) {
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

impl ControlThread {
    /// Runs until the node has left or is stopped.
    ///
    /// # Errors
    /// When the sockets cannot be used.
    pub fn run(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A panic of a user's policy or strategy ends the node: faces refuse at once, and each
        // worker stops at its next turn, when it sees that control is gone.
        let ended = self.published.ended.clone();
        let closing = Arc::clone(&self.published.closing);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(self.drive())
        }));
        let outcome = outcome.unwrap_or_else(|_| {
            tracing::error!("the control thread panicked: the node stops");
            closing.store(true, Ordering::SeqCst);
            ended.send_if_modified(|state| state.get_or_insert(Ended::Stopped) == &Ended::Stopped);
            Ok(())
        });
        // Handshakes that are under way end with the runtime.
        runtime.shutdown_background();
        outcome
    }

    async fn drive(self) -> std::io::Result<()> {
        self.listener.set_nonblocking(true)?;
        self.datagrams.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.listener)?;
        let datagrams = Arc::new(UdpSocket::from_std(self.datagrams)?);
        let mut orders = self.orders;
        let mut driver = Driver {
            effects: Effects {
                datagrams: Arc::clone(&datagrams),
                workers: self
                    .workers
                    .into_iter()
                    .map(|ring| Mailbox { ring, waiting: VecDeque::new() })
                    .collect(),
                timers: BTreeMap::new(),
                next_timer: 0,
                published: self.published,
                clock: self.clock,
                log: LogLimiter::default(),
                tables: None,
                routed: Vec::new(),
                left: None,
                fault: None,
            },
            control: self.control,
            key: self.key,
            clock: self.clock,
            reports: self.reports,
            handshake_timeout: self.handshake_timeout,
            max_pending_handshakes: self.max_pending_handshakes,
            strangers: Strangers::default(),
            incoming: 0,
            jobs: JoinSet::new(),
            link_epoch: 0,
            serving: BTreeMap::new(),
            routing: BTreeMap::new(),
            leavers: Vec::new(),
            probing: Vec::new(),
            replies: self.replies,
            bind: datagrams.local_addr()?,
            seeds: self.seeds,
        };
        driver.look_again(self.discovery);
        driver.control.start(driver.clock.now(), &mut driver.effects);
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            driver.run_timers();
            driver.after_step();
            if driver.effects.left.is_some() {
                driver.end(Ended::Left { drained: driver.effects.left == Some(true) }).await;
                return Ok(());
            }
            if let Some(fault) = driver.effects.fault.take() {
                driver.end(Ended::Fault(fault)).await;
                return Ok(());
            }
            let next = driver.next_wake();
            tokio::select! {
                received = datagrams.recv_from(&mut buffer) => {
                    // An error here is an ICMP answer to an earlier datagram: nothing to do.
                    if let Ok((length, from)) = received {
                        driver.datagram(from, &buffer[..length]);
                    }
                    for _ in 1..DATAGRAMS_PER_TURN {
                        match datagrams.try_recv_from(&mut buffer) {
                            Ok((length, from)) => driver.datagram(from, &buffer[..length]),
                            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                            Err(_) => {}
                        }
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => driver.incoming(stream, from),
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                Some(report) = driver.reports.recv() => driver.report(report),
                Some(done) = driver.jobs.join_next() => {
                    if let Ok(shaken) = done {
                        driver.shaken(shaken);
                    }
                }
                order = orders.recv() => match order {
                    None | Some(Order::Stop) => {
                        driver.end(Ended::Stopped).await;
                        return Ok(());
                    }
                    Some(order) => driver.order(order),
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }
}

impl Driver {
    fn next_wake(&self) -> std::time::Instant {
        let waiting = self.effects.workers.iter().any(|mailbox| !mailbox.waiting.is_empty());
        if waiting {
            // A worker is behind: look again soon.
            return std::time::Instant::now() + Duration::from_millis(1);
        }
        match self.effects.timers.first_key_value() {
            Some(((at, _), _)) => self.clock.instant(*at),
            None => self.clock.instant(Time::NEVER),
        }
    }

    fn run_timers(&mut self) {
        let now = self.clock.now();
        while let Some(entry) = self.effects.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            self.control.timer(now, timer, &mut self.effects);
        }
    }

    fn after_step(&mut self) {
        for mailbox in &mut self.effects.workers {
            mailbox.pump();
        }
        if let Some(job) = self.effects.tables.take() {
            let run = move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run()));
            self.jobs.spawn_blocking(move || Shaken::Tables(run()));
        }
        for router in self.effects.routed.drain(..) {
            if let Some(answer) = self.routing.remove(&router) {
                // The asker may have given up.
                let _ = answer.send(Ok(router));
            }
        }
        self.strangers.datagrams = self.control.datagrams();
        let strangers = self.strangers;
        self.effects.published.strangers.send_if_modified(|known| {
            let changed = *known != strangers;
            *known = strangers;
            changed
        });
    }

    // ---- connections ----

    fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let now = self.clock.now();
        let strangers = self.control.datagrams().not_ours;
        self.control.datagram(now, from, bytes, &mut self.effects);
        if self.control.datagrams().not_ours != strangers
            && let Some(left_out) = self.effects.log.line(now, LogKind::StrangerDatagram)
        {
            tracing::warn!(
                %from,
                left_out,
                "a datagram that is not of this cluster was dropped: a stranger, or a node with \
                 another cluster name or secret"
            );
        }
    }

    fn incoming(&mut self, stream: tokio::net::TcpStream, from: SocketAddr) {
        if self.incoming >= self.max_pending_handshakes {
            self.strangers.turned_away += 1;
            // As far as the socket takes it at once; the stranger gets no more of our time.
            let _ = stream.try_write(&TurnAway::Busy.refusal());
            return;
        }
        self.incoming += 1;
        let params = AcceptParams {
            key: self.key.clone(),
            me: self.control.me(),
            workers: self.effects.workers.len() as u16,
            versions: VersionRange::SUPPORTED,
            turn_away: None,
        };
        let limit = self.handshake_timeout;
        self.jobs
            .spawn(async move { Shaken::In(from, listener::accept(stream, params, limit).await) });
    }

    fn dial(&mut self, worker: WorkerIndex, destination: u32) {
        let snapshot = self.effects.published.snapshot.load();
        let Some(target) = snapshot.destinations.get(destination as usize).copied() else {
            return;
        };
        drop(snapshot);
        self.link_epoch += 1;
        let job = DialJob { worker, destination, peer: target.node };
        let params = DialParams {
            key: self.key.clone(),
            me: self.control.me(),
            from_worker: worker,
            to: target.node,
            to_worker: target.worker,
            link_epoch: self.link_epoch,
            versions: VersionRange::SUPPORTED,
        };
        let limit = self.handshake_timeout;
        self.jobs.spawn(async move {
            Shaken::Out(job, dialer::dial(target.address, params, limit).await)
        });
    }

    fn probe(&mut self, peer: NodeRef) {
        if self.probing.contains(&peer) {
            return;
        }
        let view = self.control.view();
        let Some(member) =
            view.member(peer.node).filter(|member| member.incarnation == peer.incarnation)
        else {
            return;
        };
        let address = member.address;
        let limit = self.handshake_timeout;
        self.probing.push(peer);
        self.jobs.spawn(async move { Shaken::Probed(peer, dialer::probe(address, limit).await) });
    }

    fn shaken(&mut self, shaken: Shaken) {
        let now = self.clock.now();
        match shaken {
            Shaken::In(from, outcome) => {
                self.incoming -= 1;
                match outcome {
                    Ok((stream, established)) => {
                        self.strangers.accepted += 1;
                        let worker = established.my_worker;
                        self.effects.command(worker, Command::Accepted(stream, established));
                    }
                    Err(error) => {
                        self.strangers.refused += 1;
                        if let Some(left_out) =
                            self.effects.log.line(now, LogKind::StrangerConnection)
                        {
                            tracing::warn!(%from, %error, left_out, "a connection was not let in");
                        }
                    }
                }
            }
            Shaken::Out(job, Ok((stream, _))) => {
                self.effects.command(job.worker, Command::Dialed(job.destination, stream));
            }
            Shaken::Out(job, Err(error)) => {
                if let Some(left_out) = self.effects.log.line(now, LogKind::DialFailed) {
                    tracing::debug!(%error, left_out, "a link could not be opened");
                }
                self.effects.command(job.worker, Command::DialFailed(job.destination));
                match error {
                    dialer::DialError::Refused { .. } => {
                        self.control.peer_refused(now, job.peer, &mut self.effects);
                    }
                    // It took the connection and then broke it: is it about to end?
                    dialer::DialError::Io { .. } => self.probe(job.peer),
                    _ => {}
                }
            }
            Shaken::Discovered(discovery, outcome) => {
                self.discovered(now, discovery.name(), outcome);
                self.look_again(discovery);
            }
            Shaken::Tables(Ok(made)) => self.control.tables_made(made, &mut self.effects),
            // A user's strategy panicked: the node cannot route any more, as if it had here.
            Shaken::Tables(Err(panic)) => std::panic::resume_unwind(panic),
            Shaken::Probed(peer, outcome) => {
                self.probing.retain(|probed| *probed != peer);
                if let Err(dialer::DialError::Refused { .. }) = outcome {
                    self.control.peer_refused(now, peer, &mut self.effects);
                }
            }
        }
    }

    fn discovered(&mut self, now: Time, source: &str, outcome: std::io::Result<Vec<SocketAddr>>) {
        let log = &mut self.effects.log;
        match outcome {
            Ok(found) if found != self.seeds => {
                self.seeds.clone_from(&found);
                let found = FoundSeeds::sort_out(self.bind, found);
                let seeds = &found.usable;
                if let Some(left_out) = log.line(now, LogKind::OtherSeeds) {
                    tracing::info!(source, ?seeds, left_out, "other seeds were found");
                }
                if let Some(complaint) = found.complaint(self.bind)
                    && let Some(left_out) = log.line(now, LogKind::Discovery)
                {
                    tracing::warn!(source, left_out, "of the seeds found, {complaint}");
                }
                self.control.seeds(now, found.usable, &mut self.effects);
            }
            Ok(_) => {}
            Err(error) => {
                if let Some(left_out) = log.line(now, LogKind::Discovery) {
                    tracing::warn!(source, %error, left_out, "discovery failed");
                }
            }
        }
    }

    /// Has discovery look again after a while, where it may block.
    fn look_again(&mut self, mut discovery: Box<dyn Discovery>) {
        self.jobs.spawn(async move {
            tokio::time::sleep(DISCOVERY_INTERVAL).await;
            let look = tokio::task::spawn_blocking(move || {
                let outcome = discovery.discover();
                (discovery, outcome)
            });
            match look.await {
                Ok((discovery, outcome)) => Shaken::Discovered(discovery, outcome),
                // A user's discovery panicked: it is not asked again, what it found stays.
                Err(error) => {
                    let error = std::io::Error::other(error);
                    Shaken::Discovered(Box::new(SeedList::new(Vec::new())), Err(error))
                }
            }
        });
    }

    // ---- workers and faces ----

    fn report(&mut self, report: Report) {
        let now = self.clock.now();
        match report {
            Report::Dial { worker, destination, .. } => self.dial(worker, destination),
            Report::Suspect(peer) => self.probe(peer),
            Report::Reached(peer) => self.control.peer_link_opened(now, peer, &mut self.effects),
            Report::Served(_, handler) => {
                let outcome = match self.control.served(now, handler, &mut self.effects) {
                    Ok(false) => return,
                    Ok(true) => Ok(handler),
                    Err(error) => Err(error.into()),
                };
                if let Some(answer) = self.serving.remove(&handler) {
                    // The asker may have given up.
                    let _ = answer.send(outcome);
                }
            }
            Report::ServeFailed(handler) => {
                if let Some(answer) = self.serving.remove(&handler) {
                    let _ = answer.send(Err(OrderError::FactoryPanicked));
                }
            }
            Report::Drained(worker, drained) => {
                self.control.drained(now, worker, drained, &mut self.effects);
            }
            Report::Part(worker, report) => {
                self.control.part_report(now, worker, report, &mut self.effects);
            }
            Report::DeadLetters(letter) => {
                if let Some(left_out) = self.effects.log.line(now, LogKind::DeadLetters) {
                    tracing::debug!(?letter, left_out, "dead letters");
                }
                let _ = self.effects.published.dead_letters.send(letter);
            }
            Report::Ended(worker) => {
                tracing::error!(%worker, "a worker's thread has ended by itself");
            }
        }
    }

    fn order(&mut self, order: Order) {
        let now = self.clock.now();
        // Whoever asked may have given up waiting; the answers then go nowhere.
        match order {
            Order::Serve(path, factory, answer) => self.serve(path, factory, answer),
            Order::Route(spec, answer) => match self.control.route(spec, &mut self.effects) {
                Ok(router) => drop(self.routing.insert(router, answer)),
                Err(error) => drop(answer.send(Err(error.into()))),
            },
            Order::Leave(answer) => {
                self.leavers.push(answer);
                self.control.leave(now, &mut self.effects);
            }
            Order::Down(node, answer) => {
                let outcome = self.control.down(now, node, &mut self.effects);
                let _ = answer.send(outcome.map_err(OrderError::from));
            }
            Order::Part(order) => self.control.part_order(now, order, &mut self.effects),
            Order::Stop => {}
        }
    }

    fn serve(
        &mut self,
        path: Arc<str>,
        factory: RouteeFactory,
        answer: oneshot::Sender<Result<HandlerId, OrderError>>,
    ) {
        match self.control.serve(&path, factory.messages().to_vec()) {
            Ok(handler) => {
                self.serving.insert(handler, answer);
                for worker in 0..self.effects.workers.len() {
                    let command = Command::Serve(handler, factory.clone());
                    self.effects.command(WorkerIndex(worker as u16), command);
                }
            }
            Err(ServeError::BadPath) => {
                let _ = answer.send(Err(OrderError::BadPath { path: path.to_string() }));
            }
            Err(ServeError::PathTaken) => {
                let _ = answer.send(Err(OrderError::PathTaken { path }));
            }
            Err(ServeError::SameMessage { name, other }) => {
                let _ = answer.send(Err(OrderError::SameMessage { path, name, other }));
            }
        }
    }

    /// Stops the workers, waits until they have, and tells everybody.
    async fn end(&mut self, ended: Ended) {
        self.effects.published.closing.store(true, Ordering::SeqCst);
        let count = self.effects.workers.len();
        for worker in 0..count {
            self.effects.command(WorkerIndex(worker as u16), Command::Stop);
        }
        let mut running = count;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while running > 0 {
            for mailbox in &mut self.effects.workers {
                mailbox.pump();
            }
            let look_again = tokio::time::Instant::now() + Duration::from_millis(5);
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(Report::Ended(_)) => running -= 1,
                    Some(_) => {}
                    None => break,
                },
                () = tokio::time::sleep_until(look_again) => {}
            }
            if tokio::time::Instant::now() >= deadline {
                tracing::error!(running, "workers did not stop: a handler blocks its worker");
                break;
            }
        }
        // An ask that no worker got to see any more ends here.
        self.replies.close(|| Err(AskError::Dead(DeathReason::Stopped)));
        if let Ended::Left { drained } = ended {
            for leaver in self.leavers.drain(..) {
                let _ = leaver.send(drained);
            }
        }
        self.effects.end(ended);
    }
}
