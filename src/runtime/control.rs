//! The control thread: drives the process's decider over tokio. Everything here happens a few
//! times a second, or when somebody asks; messages never pass through.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::crew::Door;
use super::effects::{Discovered, Effects, Mailbox};
use super::jobs::Jobs;
use super::proxies::{Command, Order, OrderError, Report};
use super::published::{Ended, Published, Strangers};
use crate::ask::left_open;
use crate::base::{
    HandlerId, LogKind, LogLimiter, Path, Placement, Time, View, WorkerIndex, counted,
};
use crate::control::given_up::GivenUp;
use crate::control::links::{JobEvent, JobId};
use crate::control::lookout::{HeldWorker, Lookout};
use crate::control::{
    Control, ControlTells, DATAGRAM_BYTES, DATAGRAMS_PER_TURN, NotServed, ServeError, ServeFailure,
    too_large,
};
use crate::net::channel::Told;
use crate::net::discovery::Discovery;
use crate::part::ControlOrder;
use crate::queue::reply::ReplySlots;
use crate::queue::ring::RingSender;
use crate::queue::wake::Waker;
use crate::route::job::TablesMade;
use crate::worker::command::{RING_PAUSE, Waiting};
use crate::worker::{AppReply, Buffers, RouteeFactory};

/// What the control thread is made of.
pub struct ControlThread {
    /// The decider.
    pub control: Control,
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
    /// Routers that have a holder less.
    pub unrouted: mpsc::UnboundedReceiver<u32>,
    /// Of handles of parts that are dropped.
    pub drops: mpsc::UnboundedReceiver<ControlOrder>,
    /// The node's clock.
    pub clock: Clock,
    /// Where facts are published.
    pub published: Published,
    /// Where applications wait for replies; closed at the end.
    pub replies: ReplySlots<AppReply>,
    /// Where addresses to join through come from.
    pub discovery: Box<dyn Discovery>,
    /// By worker: what it takes, and what it shows of itself.
    pub doors: Vec<Door>,
    /// How long a turn may last before its worker is named.
    pub slow_turn: Duration,
    /// Where it is noted which messages were too long.
    pub buffers: Arc<Buffers>,
}

struct Driver {
    effects: Effects,
    control: Control,
    clock: Clock,
    reports: mpsc::Receiver<Report>,
    strangers: Strangers,
    /// Tables that are being made.
    tables: JoinSet<std::thread::Result<TablesMade>>,
    /// Who waits until a path is served: with the path, for the error.
    serving: BTreeMap<HandlerId, (Path, oneshot::Sender<Result<HandlerId, OrderError>>)>,
    /// Who waits until a path is withdrawn.
    unserving: BTreeMap<HandlerId, Vec<oneshot::Sender<Result<(), OrderError>>>>,
    /// By router: who waits until it is routed by.
    routing: BTreeMap<u32, Vec<oneshot::Sender<Result<u32, OrderError>>>>,
    leavers: Vec<oneshot::Sender<bool>>,
    replies: ReplySlots<AppReply>,
    doors: Vec<Door>,
    lookout: Lookout,
    buffers: Arc<Buffers>,
    /// The last view in which this node serves something: one that has left has no record.
    names: Arc<View>,
    next_look: Time,
    log: LogLimiter,
    /// By worker: whether it has stopped.
    has_ended: Vec<bool>,
    /// Workers that are no more, though nobody told them to stop.
    lost: Vec<WorkerIndex>,
}

/// Where events come from.
struct Ports {
    listener: TcpListener,
    datagrams: Arc<UdpSocket>,
    /// Where datagrams are read to.
    buffer: Vec<u8>,
    orders: mpsc::Receiver<Order>,
    unrouted: mpsc::UnboundedReceiver<u32>,
    drops: mpsc::UnboundedReceiver<ControlOrder>,
    told: mpsc::Receiver<Told>,
    found: mpsc::Receiver<Discovered>,
}

impl ControlThread {
    /// Takes of the system what control needs beside its sockets, so that a node that does not get it
    /// does not start.
    ///
    /// # Errors
    /// When there is no poll, or the sockets cannot be watched by it: descriptors are used up.
    pub fn prepare(self) -> std::io::Result<Prepared> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (driver, ports) = {
            let _within = runtime.enter();
            self.open()?
        };
        Ok(Prepared { runtime, driver, ports })
    }
}

/// Control with all that it needs, before its thread runs.
pub struct Prepared {
    runtime: tokio::runtime::Runtime,
    driver: Driver,
    ports: Ports,
}

impl Prepared {
    /// Runs until the node has left or is stopped.
    pub fn run(self) {
        let Self { runtime, driver, ports } = self;
        // A panic of a user's policy or strategy ends the node: faces refuse at once, and each
        // worker stops at its next turn, when it sees that control is gone.
        let ended = driver.effects.published.ended.clone();
        let gate = Arc::clone(&driver.effects.published.gate);
        let replies = driver.replies.clone();
        let workers: Vec<_> = driver.doors.iter().map(|(way_in, _, _)| way_in.waker()).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(Self::drive(driver, ports));
        }));
        if outcome.is_err() {
            tracing::error!("the control thread panicked: the node stops");
            gate.close();
            // One that sleeps would see it with the next message only, and there may be none.
            workers.iter().for_each(Waker::notify);
            // Nobody gives up on workers that are held, and whoever asked may have been heard.
            replies.close(|| Err(left_open(true)));
            ended.send_if_modified(|state| state.get_or_insert(Ended::Stopped) == &Ended::Stopped);
        }
        // Handshakes that are under way end with the runtime.
        runtime.shutdown_background();
    }

    async fn drive(mut driver: Driver, mut ports: Ports) {
        driver.control.start(driver.clock.now(), &mut driver.effects);
        loop {
            driver.run_timers();
            driver.look_at_workers();
            driver.after_step();
            if let Some(ended) = driver.is_over() {
                return driver.end(ended).await;
            }
            let next = driver.next_wake();
            tokio::select! {
                received = ports.datagrams.recv_from(&mut ports.buffer) => {
                    driver.datagrams(received, &ports.datagrams, &mut ports.buffer);
                }
                accepted = ports.listener.accept(), if driver.effects.accepting => {
                    driver.accepted(accepted);
                }
                Some(report) = driver.reports.recv() => driver.report(report),
                Some((job, event, stream)) = ports.told.recv() => driver.told(job, event, stream),
                Some(Ok(made)) = driver.tables.join_next() => match made {
                    Ok(made) => driver.control.tables_made(made, &mut driver.effects),
                    // A user's strategy panicked: the node cannot route any more, as if it had here.
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Some(discovered) = ports.found.recv() => driver.discovered(discovered),
                Some(router) = ports.unrouted.recv() => {
                    driver.control.unroute(router, &mut driver.effects);
                }
                Some(order) = ports.drops.recv() => driver.order(Order::Part(order)),
                order = ports.orders.recv() => match order {
                    None | Some(Order::Stop) => {
                        return driver.end(Ended::Stopped).await;
                    }
                    Some(order) => driver.order(order),
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }
}

impl ControlThread {
    /// Parts what is driven from where events come from. Within the runtime only.
    fn open(self) -> std::io::Result<(Driver, Ports)> {
        self.listener.set_nonblocking(true)?;
        self.datagrams.set_nonblocking(true)?;
        let datagrams = Arc::new(UdpSocket::from_std(self.datagrams)?);
        let (jobs, told) = Jobs::new();
        let (discovered, found) = mpsc::channel(1);
        let ports = Ports {
            listener: TcpListener::from_std(self.listener)?,
            datagrams: Arc::clone(&datagrams),
            buffer: vec![0; DATAGRAM_BYTES],
            orders: self.orders,
            unrouted: self.unrouted,
            drops: self.drops,
            told,
            found,
        };
        let mailbox = |ring| Mailbox { ring, waiting: Waiting::default() };
        let effects = Effects {
            datagrams,
            unsent: 0,
            workers: self.workers.into_iter().map(mailbox).collect(),
            timers: BTreeMap::new(),
            next_timer: 0,
            published: self.published,
            tables: None,
            routed: Vec::new(),
            served: Vec::new(),
            unserved: Vec::new(),
            left: None,
            stopped: false,
            fault: None,
            jobs,
            arrived: None,
            accepting: true,
            discovery: Some(self.discovery),
            discovered,
        };
        let names = Arc::clone(self.control.view());
        let driver = Driver {
            effects,
            control: self.control,
            clock: self.clock,
            reports: self.reports,
            strangers: Strangers::default(),
            tables: JoinSet::new(),
            serving: BTreeMap::new(),
            unserving: BTreeMap::new(),
            routing: BTreeMap::new(),
            leavers: Vec::new(),
            replies: self.replies,
            lookout: Lookout::new(self.doors.len(), self.slow_turn),
            buffers: self.buffers,
            names,
            next_look: Time::ZERO,
            log: LogLimiter::default(),
            has_ended: vec![false; self.doors.len()],
            lost: Vec::new(),
            doors: self.doors,
        };
        Ok((driver, ports))
    }
}

impl Driver {
    /// How the node's life has ended, if it has.
    fn is_over(&mut self) -> Option<Ended> {
        if let Some(drained) = self.effects.left {
            return Some(Ended::Left { drained });
        }
        let fault = self.effects.fault.take().map(Ended::Fault);
        fault.or_else(|| self.lost.first().copied().map(Ended::WorkerLost))
    }

    /// Takes a datagram, and those behind it.
    fn datagrams(
        &mut self,
        received: std::io::Result<(usize, SocketAddr)>,
        socket: &UdpSocket,
        buffer: &mut [u8],
    ) {
        // An error here is an ICMP answer to an earlier datagram: nothing to do.
        if let Ok((length, from)) = received {
            self.datagram(from, &buffer[..length]);
        }
        for _ in 1..DATAGRAMS_PER_TURN {
            match socket.try_recv_from(buffer) {
                Ok((length, from)) => self.datagram(from, &buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
    }

    fn next_wake(&self) -> std::time::Instant {
        let waiting = self.effects.workers.iter().any(|mailbox| !mailbox.waiting.is_empty());
        if waiting {
            // A worker is behind: look again soon.
            return std::time::Instant::now() + RING_PAUSE;
        }
        let timer = self.effects.timers.first_key_value().map(|((at, _), _)| *at);
        self.clock.instant(timer.into_iter().fold(self.next_look, Time::min))
    }

    /// Names workers that a handler holds, while it does.
    fn look_at_workers(&mut self) {
        if self.clock.now() < self.next_look {
            return;
        }
        let readings: Vec<_> = self.doors.iter().map(|(_, _, shown)| shown.pulse.read()).collect();
        self.note_names();
        // After the readings, so that no turn seems to begin later than now.
        let now = self.clock.now();
        self.next_look = now.plus(self.lookout.pause());
        for line in too_large::lines(now, &self.buffers, &mut self.log) {
            self.effects.log(line);
        }
        for worker in self.lookout.look(now, &readings) {
            let Some(left_out) = self.log.line(now, LogKind::HeldWorker) else { continue };
            let HeldWorker { path, message, turn, .. } = self.held(worker, now);
            tracing::warn!(
                %worker,
                path = path.as_deref(),
                message_type = message.as_deref(),
                turn_ms = turn.as_millis() as u64,
                left_out = counted(left_out),
                "a handler holds its worker, where nothing else runs meanwhile"
            );
        }
    }

    /// Keeps the names of what this node serves for when it has left.
    fn note_names(&mut self) {
        let view = self.control.view();
        if view.member(self.control.me().node).is_some_and(|own| !own.services.is_empty()) {
            self.names = Arc::clone(view);
        }
    }

    /// A worker that is held or lost, by what it has called last.
    fn held(&self, worker: WorkerIndex, now: Time) -> HeldWorker {
        let (_, _, shown) = &self.doors[usize::from(worker.0)];
        let own = self.names.member(self.control.me().node);
        let (reading, lost) = (shown.pulse.read(), self.lost.contains(&worker));
        let held = HeldWorker::new(worker, reading, now, own);
        let served = reading.handler.and_then(|handler| self.control.path_of(HandlerId(handler)));
        let path = held.path.clone().or_else(|| served.cloned());
        HeldWorker { lost, path, ..held }
    }

    fn run_timers(&mut self) {
        let now = self.clock.now();
        // Those that are set meanwhile wait for the next time, so that this has an end.
        let later = self.effects.timers.split_off(&(now, u64::MAX));
        for timer in std::mem::replace(&mut self.effects.timers, later).into_values() {
            self.control.timer(now, timer, &mut self.effects);
        }
    }

    fn pump(&mut self) {
        for mailbox in &mut self.effects.workers {
            mailbox.pump();
        }
    }

    fn after_step(&mut self) {
        self.pump();
        if let Some(job) = self.effects.tables.take() {
            let run = move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run()));
            self.tables.spawn_blocking(run);
        }
        for router in std::mem::take(&mut self.effects.routed) {
            for answer in self.routing.remove(&router).into_iter().flatten() {
                if answer.send(Ok(router)).is_err() {
                    // The asker has given up.
                    self.control.unroute(router, &mut self.effects);
                }
            }
        }
        self.answer_served();
        let incoming = self.control.incoming_counts();
        self.strangers = Strangers {
            accepted: incoming.accepted,
            refused: incoming.refused,
            turned_away: incoming.turned_away,
            looked: incoming.looked,
            datagrams: self.control.datagrams(),
            unsent: self.effects.unsent,
            frames_skipped: self.control.frames_skipped(),
            membership: self.control.member_stats(),
        };
        self.control.tell_join_state(&mut self.effects);
        if let Some(waits) = self.control.leave_news() {
            self.effects.published.leave.send_replace(waits);
        }
        if let Some(troubles) = self.control.trouble_news() {
            self.effects.published.troubles.send_replace(troubles);
        }
        let strangers = self.strangers;
        self.effects.published.strangers.send_if_modified(|known| {
            let changed = *known != strangers;
            *known = strangers;
            changed
        });
    }

    /// Whoever asked may have given up waiting.
    fn answer_served(&mut self) {
        for (handler, outcome) in self.effects.served.drain(..) {
            let Some((path, answer)) = self.serving.remove(&handler) else { continue };
            let _ = answer.send(match outcome {
                Ok(()) => Ok(handler),
                Err(ServeFailure::FactoryPanicked) => Err(OrderError::FactoryPanicked { path }),
                Err(ServeFailure::Member(error)) => Err(error.into()),
            });
        }
        for handler in self.effects.unserved.drain(..) {
            for answer in self.unserving.remove(&handler).into_iter().flatten() {
                let _ = answer.send(Ok(()));
            }
        }
    }

    // ---- connections ----

    fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let now = self.clock.now();
        self.control.datagram(now, from, bytes, &mut self.effects);
    }

    fn accepted(&mut self, accepted: std::io::Result<(tokio::net::TcpStream, SocketAddr)>) {
        let now = self.clock.now();
        match accepted {
            Ok((stream, from)) => {
                self.effects.arrived = Some(stream);
                self.control.incoming(now, from, &mut self.effects);
            }
            Err(error) => {
                self.control.accept_failed(now, &error.to_string(), &mut self.effects);
            }
        }
    }

    fn told(&mut self, job: JobId, event: JobEvent, stream: Option<std::net::TcpStream>) {
        self.effects.jobs.note(job, &event, stream);
        self.control.job(self.clock.now(), job, event, &mut self.effects);
        self.effects.jobs.forget(job);
    }

    fn discovered(&mut self, discovered: Discovered) {
        let Discovered { discovery, source, outcome } = discovered;
        self.effects.discovery = Some(discovery);
        self.control.discovered(self.clock.now(), &source, outcome, &mut self.effects);
    }

    // ---- workers and faces ----

    fn report(&mut self, report: Report) {
        match &report {
            Report::Ended(worker) => self.has_ended[usize::from(worker.0)] = true,
            Report::Lost(worker) => self.lost.push(*worker),
            _ => {}
        }
        self.control.report(self.clock.now(), report, &mut self.effects);
    }

    fn order(&mut self, order: Order) {
        let now = self.clock.now();
        // Whoever asked may have given up waiting; the answers then go nowhere.
        match order {
            Order::Serve(path, placement, factory, answer) => {
                self.serve(path, &placement, factory, answer);
            }
            Order::Unserve(path, answer) => {
                match self.control.unserve(now, &path, &mut self.effects) {
                    Ok(handler) => self.unserving.entry(handler).or_default().push(answer),
                    Err(NotServed) => drop(answer.send(Err(OrderError::NotServed { path }))),
                }
            }
            Order::Route(spec, answer) => match self.control.route(spec, &mut self.effects) {
                Ok(router) => self.routing.entry(router).or_default().push(answer),
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
        path: Path,
        placement: &Placement,
        factory: RouteeFactory,
        answer: oneshot::Sender<Result<HandlerId, OrderError>>,
    ) {
        match self.control.serve(path.clone(), placement, factory, &mut self.effects) {
            Ok(handler) => drop(self.serving.insert(handler, (path, answer))),
            Err(ServeError::Leaving) => {
                let _ = answer.send(Err(OrderError::Leaving { path }));
            }
            Err(ServeError::PathTaken) => {
                let _ = answer.send(Err(OrderError::PathTaken { path }));
            }
            Err(ServeError::TooMany) => {
                let most = HandlerId::MAX_SLOTS;
                let _ = answer.send(Err(OrderError::TooManyPaths { path, most }));
            }
            Err(ServeError::Placement(why)) => {
                let _ = answer.send(Err(OrderError::BadPlacement { path, why }));
            }
            Err(ServeError::SameMessage { name, other }) => {
                let _ = answer.send(Err(OrderError::SameMessage { path, name, other }));
            }
        }
    }

    /// Stops the workers, and tells everybody when they have.
    async fn end(&mut self, ended: Ended) {
        self.effects.published.gate.close();
        self.note_names();
        self.control.stop(self.clock.now(), &mut self.effects);
        while !self.effects.stopped {
            let next = self.next_wake();
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) => self.report(report),
                    None => break,
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
            self.run_timers();
            self.look_at_workers();
            self.pump();
        }
        let ended = self.give_up_on_held(ended);
        let some_given_up = self.effects.published.given_up.get().is_some();
        self.replies.close(|| Err(left_open(some_given_up)));
        if let Ended::Left { drained } = ended {
            for leaver in self.leavers.drain(..) {
                let _ = leaver.send(drained);
            }
        }
        self.effects.end(ended);
    }

    /// Gives up on workers that are lost or have not stopped: what they had has its fate before anybody hears
    /// that the node has ended.
    fn give_up_on_held(&mut self, ended: Ended) -> Ended {
        let now = self.clock.now();
        let workers = self.has_ended.iter().zip(0..).filter(|(ended, _)| !**ended);
        let held: Vec<_> = workers.map(|(_, worker)| self.held(WorkerIndex(worker), now)).collect();
        if held.is_empty() {
            return ended;
        }
        let doors = self.doors.iter().map(|(injector, _, shown)| (injector, &**shown));
        let given_up = GivenUp::close(held, doors, now, self.lookout.slow());
        // Before the log, which may take its time: whoever reads the counts waits for it.
        let given_up = self.effects.published.given_up.get_or_init(|| given_up);
        tracing::error!("{given_up}");
        match ended {
            Ended::Left { .. } => Ended::Left { drained: false },
            other => other,
        }
    }
}
