//! What control's decider wants done, carried out on the spot, except for what must wait.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::jobs::Jobs;
use super::proxies::{Command, DeadLetter};
use super::published::{Ended, Published};
use crate::base::{HandlerId, LogKind, MemberEvent, Time, View, WorkerIndex, counted};
use crate::control::LogLine;
use crate::control::joining::JoinState;
use crate::control::links::JobId;
use crate::control::links::shake::Shake;
use crate::control::{ControlSink, ControlTells, ControlTimer, Sent, ServeFailure};
use crate::member::MemberFault;
use crate::net::discovery::{Discovery, look};
use crate::net::random_nonce;
use crate::queue::ring::RingSender;
use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::worker::command::Waiting;
use crate::worker::{Panicked, Report};

/// What discovery found, and itself.
pub(super) struct Discovered {
    pub discovery: Box<dyn Discovery>,
    pub source: String,
    pub outcome: Result<Vec<SocketAddr>, String>,
}

/// What carries it out.
pub(super) struct Effects {
    pub datagrams: Arc<UdpSocket>,
    /// Datagrams that the system did not take.
    pub unsent: u64,
    pub workers: Vec<Mailbox>,
    pub timers: BTreeMap<(Time, u64), ControlTimer>,
    pub next_timer: u64,
    pub published: Published,
    pub tables: Option<TableJob>,
    /// Routers whose first table is published.
    pub routed: Vec<u32>,
    /// What became of paths that were to be served.
    pub served: Vec<(HandlerId, Result<(), ServeFailure>)>,
    /// Paths that are not served any more.
    pub unserved: Vec<HandlerId>,
    pub left: Option<bool>,
    pub stopped: bool,
    pub fault: Option<MemberFault>,
    pub jobs: Jobs,
    /// The connection that has just come in, until control has said what becomes of it.
    pub arrived: Option<tokio::net::TcpStream>,
    pub accepting: bool,
    /// `None` while it looks, and after it has panicked.
    pub discovery: Option<Box<dyn Discovery>>,
    pub discovered: mpsc::Sender<Discovered>,
}

/// The way to one worker.
pub(super) struct Mailbox {
    pub ring: RingSender<Command>,
    pub waiting: Waiting<TcpStream>,
}

impl Mailbox {
    pub fn pump(&mut self) {
        let ring = &mut self.ring;
        self.waiting.pump(|command| ring.push(command));
    }
}

impl Effects {
    /// Has discovery look, where it may block.
    fn look_for_seeds(&mut self) {
        let Some(mut discovery) = self.discovery.take() else { return };
        let tell = self.discovered.clone();
        tokio::spawn(async move {
            let source = discovery.name().to_owned();
            let looked = tokio::task::spawn_blocking(move || {
                let outcome = look(&mut *discovery);
                Discovered { discovery, source, outcome }
            });
            // Nobody listens any more when the node ends.
            if let Ok(discovered) = looked.await {
                let _ = tell.send(discovered).await;
            }
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
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Sent {
        // Past tokio, which knows of no room before it has waited for some, and again after each time
        // that there was none. A full socket buffer loses a datagram, which membership expects of a
        // network.
        let Err(error) = SockRef::from(&*self.datagrams).send_to(datagram, &to.into()) else {
            return Sent::Taken;
        };
        self.unsent += 1;
        let no_room = [Errno::WOULDBLOCK, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
        match error.raw_os_error() {
            Some(code) if !no_room.contains(&code) => Sent::Not(code),
            _ => Sent::NoRoom,
        }
    }

    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), timer);
    }

    fn command(&mut self, worker: WorkerIndex, command: crate::worker::Command<JobId>) {
        let Some(mailbox) = self.workers.get_mut(usize::from(worker.0)) else { return };
        if let Some(command) = command.with(|job| self.jobs.take(job)) {
            mailbox.waiting.push(command);
            mailbox.pump();
        }
    }

    fn is_crowded(&self, worker: WorkerIndex) -> bool {
        let mailbox = self.workers.get(usize::from(worker.0));
        mailbox.is_some_and(|mailbox| mailbox.waiting.is_crowded())
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.published.snapshot.store(Arc::clone(&snapshot));
        self.published.changes.send_replace(snapshot);
    }

    fn make_tables(&mut self, job: TableJob) {
        self.tables = Some(job);
    }

    fn nonce(&mut self) -> [u8; 32] {
        random_nonce()
    }

    fn connect(
        &mut self,
        job: JobId,
        address: SocketAddr,
        segment_bytes: Option<u32>,
        shake: Shake,
    ) {
        self.jobs.connect(job, address, segment_bytes, shake);
    }

    fn accept(&mut self, job: JobId, shake: Shake) {
        if let Some(stream) = self.arrived.take() {
            self.jobs.accept(job, stream, shake);
        }
    }

    fn turn_away(&mut self, refusal: &[u8]) {
        if let Some(stream) = self.arrived.take() {
            let _ = stream.try_write(refusal);
        }
    }

    fn keep(&mut self, job: JobId) {
        self.jobs.keep(job);
    }

    fn write(&mut self, job: JobId, bytes: Vec<u8>) {
        self.jobs.write(job, bytes);
    }

    fn abort(&mut self, job: JobId) {
        self.jobs.abort(job);
    }

    fn accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    fn discover(&mut self) {
        self.look_for_seeds();
    }
}

impl ControlTells for Effects {
    fn routed(&mut self, router: u32) {
        self.routed.push(router);
    }

    fn served(&mut self, handler: HandlerId, outcome: Result<(), ServeFailure>) {
        self.served.push((handler, outcome));
    }

    fn unserved(&mut self, handler: HandlerId) {
        self.unserved.push(handler);
    }

    fn join_state(&mut self, state: JoinState) {
        self.published.join.send_replace(state);
    }

    fn events(&mut self, _: &Arc<View>, events: &[MemberEvent]) {
        if !self.published.events.is_read() {
            return;
        }
        for event in events {
            self.published.events.push(event.clone(), event.member().memory_bytes());
        }
    }

    fn fault(&mut self, fault: MemberFault) {
        tracing::error!(%fault, "the node cannot go on");
        self.fault = Some(fault);
    }

    fn left(&mut self, drained: bool) {
        self.left = Some(drained);
    }

    fn stopped(&mut self, _: u16) {
        self.stopped = true;
    }

    fn log(&mut self, line: LogLine) {
        log(&line);
    }

    fn hears_dead_letters(&self) -> bool {
        self.published.dead_letters.is_read()
    }

    fn dead_letter(&mut self, letter: DeadLetter, left_out: Option<u64>) {
        if let Some(left_out) = left_out {
            let left_out = counted(left_out);
            tracing::debug!(left_out, "dead letters: {letter}");
        }
        let bytes = letter.memory_bytes();
        self.published.dead_letters.push(letter, bytes);
    }

    fn overheard(&mut self, report: Report, left_out: Option<u64>) {
        if let Some(left_out) = left_out {
            log_report(&report, counted(left_out));
        }
    }
}

fn log(LogLine { kind, left_out, text }: &LogLine) {
    let left_out = counted(*left_out);
    match kind {
        LogKind::DialFailed => tracing::debug!(left_out, "{text}"),
        LogKind::OtherSeeds | LogKind::Member => tracing::info!(left_out, "{text}"),
        _ => tracing::warn!(left_out, "{text}"),
    }
}

fn log_report(report: &Report, left_out: Option<u64>) {
    match report {
        Report::SlowTurn(slow) if slow.handled_nothing() => tracing::warn!(
            worker = %slow.worker,
            last_called = %slow.path,
            hook = slow.hook,
            took_ms = slow.took.as_millis() as u64,
            left_out,
            "a worker's turn took long and handled no message: its thread was not run, as where there \
             are more workers than cores, or a routee took long that was started, woken or got a reply"
        ),
        Report::SlowTurn(slow) if !slow.is_certain() => tracing::warn!(
            worker = %slow.worker,
            last_path = %slow.path,
            last_message_type = slow.message.as_deref(),
            last_hook = slow.hook,
            took_ms = slow.took.as_millis() as u64,
            messages = slow.messages,
            other_calls = slow.hooks,
            panics = slow.panics,
            "one of these calls held its worker, not always the last, which is named: between quick \
             ones the clock is not looked at; where one panicked it may have been the backtrace that \
             RUST_BACKTRACE asks for"
        ),
        Report::SlowTurn(slow) => tracing::warn!(
            worker = %slow.worker,
            path = %slow.path,
            message_type = slow.message.as_deref(),
            took_ms = slow.took.as_millis() as u64,
            "a handler held its worker, where nothing else ran meanwhile; what takes long belongs \
             on another thread"
        ),
        Report::Panicked(Panicked { worker, path, at, text, .. }) => tracing::error!(
            %worker,
            %path,
            at = &**at,
            panic = text.as_str(),
            left_out,
            "a routee's code panicked; a fresh routee takes its place, where it was not being made or \
             ended"
        ),
        Report::Ended(worker) => tracing::error!(%worker, "a worker's thread has ended by itself"),
        report => tracing::debug!(?report, "a worker's report"),
    }
}
