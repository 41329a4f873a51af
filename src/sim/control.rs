//! Drives control over the fake network: moves datagrams, timers, commands and connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;

use super::events::{Event, LifeId, SlotId};
use super::invariants::Seen;
use super::network::{ConnId, Network, Owner, Side};
use super::process::{Core, Job};
use super::world::World;
use crate::base::{HandlerId, LogKind, MemberEvent, Time, View, WorkerIndex};
use crate::control::LogLine;
use crate::control::letters::DeadLetter;
use crate::control::links::JobId;
use crate::control::links::shake::Shake;
use crate::control::{Control, ControlSink, ControlTimer, ServeFailure};
use crate::member::MemberFault;
use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::worker::command::RING_PAUSE;
use crate::worker::{Command, Report};

/// Control's hands for one call.
pub struct Hands<'a> {
    life: LifeId,
    slot: SlotId,
    born: Time,
    net: &'a mut Network,
    workers: &'a mut [Core],
    jobs: &'a mut BTreeMap<JobId, Job>,
    arriving: &'a mut Option<ConnId>,
    snapshot: &'a mut Arc<Snapshot>,
    seen: Vec<Seen>,
}

impl World {
    /// Calls a process's control.
    pub(super) fn control<T>(
        &mut self,
        life: LifeId,
        call: impl FnOnce(&mut Control, Time, &mut Hands<'_>) -> T,
    ) -> Option<T> {
        let now = self.lives[life].local(self.net.now);
        let (slot, born) = (self.lives[life].slot, self.lives[life].born);
        let body = self.lives[life].body.as_deref_mut()?;
        let mut hands = Hands {
            life,
            slot,
            born,
            net: &mut self.net,
            workers: &mut body.workers,
            jobs: &mut body.jobs,
            arriving: &mut body.arriving,
            snapshot: &mut body.snapshot,
            seen: Vec::new(),
        };
        let outcome = call(&mut body.control, now, &mut hands);
        for seen in hands.seen {
            self.see(life, seen);
        }
        Some(outcome)
    }
}

impl Hands<'_> {
    fn add_job(&mut self, job: JobId, conn: ConnId, side: Side, shake: Shake) {
        self.jobs.insert(job, Job { conn, side, shake, kept: None });
    }

    /// Whether control talks on over this connection.
    pub(super) fn keeps(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.kept.is_some())
    }

    fn hand_over(&mut self, job: JobId) -> Option<(ConnId, Side)> {
        let Job { conn, side, .. } = self.jobs.remove(&job)?;
        self.net.own(conn, side, Owner::Handed(self.life));
        Some((conn, side))
    }
}

impl ControlSink for Hands<'_> {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.net.send(self.slot, to, datagram);
    }

    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        let at = Time(self.born.0.saturating_add(at.0)).max(self.net.now);
        self.net.queue.push(at, Event::Timer(self.life, timer));
    }

    fn command(&mut self, worker: WorkerIndex, command: Command<JobId>) {
        if let Command::Withdraw(handler) = command {
            self.seen.push(Seen::Withdraws(handler));
        }
        let Some(command) = command.with(|job| self.hand_over(job)) else { return };
        let index = usize::from(worker.0);
        self.workers[index].ends.waiting.push(command);
        if self.net.rng.random_range(0..4) == 0 {
            // The ring is full.
            let at = self.net.now.plus(RING_PAUSE);
            self.net.queue.push(at, Event::Pump(self.life, index));
        } else {
            self.workers[index].pump(self.net, (self.life, index));
        }
    }

    fn is_crowded(&self, worker: WorkerIndex) -> bool {
        self.workers[usize::from(worker.0)].ends.waiting.is_crowded()
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        let before = std::mem::replace(self.snapshot, Arc::clone(&snapshot));
        self.seen.push(Seen::Published { before, now: snapshot });
    }

    fn make_tables(&mut self, job: TableJob) {
        let at = self.net.after_us(self.net.weather.tables_us);
        self.net.queue.push(at, Event::Tables(self.life, job.run()));
    }

    /// Applications here look into the snapshot instead.
    fn routed(&mut self, _: u32) {}

    fn served(&mut self, handler: HandlerId, outcome: Result<(), ServeFailure>) {
        self.seen.push(match outcome {
            Ok(()) => Seen::Served(handler),
            Err(why) => Seen::NotServed(why),
        });
    }

    fn unserved(&mut self, _: HandlerId) {
        self.seen.push(Seen::Unserved);
    }

    fn events(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
        self.net.trace.note(self.net.now, self.life, "view", view.digest);
        let shown = self.snapshot.view.digest == view.digest;
        assert!(shown, "life {} was told of a change before the snapshot that shows it", self.life);
        self.seen.push(Seen::Changed(events.to_vec()));
    }

    fn fault(&mut self, fault: MemberFault) {
        self.net.trace.note(self.net.now, self.life, "fault", 0);
        self.seen.push(Seen::Fault(fault));
    }

    fn left(&mut self, drained: bool) {
        self.seen.push(Seen::Left(drained));
    }

    fn stopped(&mut self, running: u16) {
        self.seen.push(Seen::Stopped(running));
    }

    fn log(&mut self, line: LogLine) {
        self.net.trace.say(|| line.text.clone());
        if line.kind == LogKind::BrokenFrame {
            self.seen.push(Seen::Broken(line.text));
        }
    }

    fn hears_dead_letters(&self) -> bool {
        true
    }

    fn dead_letter(&mut self, letter: DeadLetter, _: Option<u64>) {
        self.net.trace.say(|| format!("dead letters: {letter}"));
    }

    fn overheard(&mut self, report: Report, _: Option<u64>) {
        self.net.trace.say(|| format!("{report:?}"));
    }

    fn nonce(&mut self) -> [u8; 32] {
        self.net.rng.random()
    }

    fn connect(&mut self, job: JobId, address: SocketAddr, shake: Shake) {
        let conn = self.net.connect(self.life, self.slot, address);
        self.add_job(job, conn, 0, shake);
    }

    fn accept(&mut self, job: JobId, shake: Shake) {
        if let Some(conn) = self.arriving.take() {
            self.add_job(job, conn, 1, shake);
        }
    }

    fn turn_away(&mut self, refusal: &[u8]) {
        if let Some(conn) = self.arriving.take() {
            self.net.write(conn, 1, std::iter::once(refusal));
            self.net.close(conn, 1);
        }
    }

    fn keep(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.kept = Some(Vec::new());
        }
    }

    fn write(&mut self, job: JobId, bytes: Vec<u8>) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        known.write(self.net, &bytes);
        let to = self.net.controlled_by(known.conn, 1 - known.side);
        self.seen.push(Seen::Wrote(job, to, bytes));
    }

    fn abort(&mut self, job: JobId) {
        if let Some(Job { conn, side, .. }) = self.jobs.remove(&job) {
            self.net.close(conn, side);
            self.seen.push(Seen::Over(job));
        }
    }

    /// Descriptors never run out here.
    fn accepting(&mut self, _: bool) {}

    fn discover(&mut self) {
        self.net.queue.push(self.net.now, Event::Discovered(self.life));
    }
}
