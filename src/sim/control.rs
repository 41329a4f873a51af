//! Control's hands over the fake network: datagrams, timers, commands and connections are moved.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;

use super::clocks::LocalClock;
use super::events::{Event, LifeId, SlotId};
use super::invariants::{Seen, masks};
use super::jobs::Jobs;
use super::network::{Network, Owner};
use super::process::Core;
use crate::base::{Time, WorkerIndex};
use crate::control::links::JobId;
use crate::control::links::shake::Shake;
use crate::control::{ControlSink, ControlTimer, Sent};
use crate::route::job::TableJob;
use crate::route::snapshot::Snapshot;
use crate::worker::Command;

/// What one call of control moves.
pub struct Hands<'a> {
    pub life: LifeId,
    pub slot: SlotId,
    pub clock: LocalClock,
    pub net: &'a mut Network,
    pub workers: &'a mut [Core],
    pub jobs: &'a mut Jobs,
    pub snapshot: &'a mut Arc<Snapshot>,
    /// Whether it has told last that it has met others.
    pub met: &'a mut bool,
    /// What is looked at after the call.
    pub seen: Vec<Seen>,
}

impl ControlSink for Hands<'_> {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Sent {
        self.net.send(self.slot, to, datagram)
    }

    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        let at = self.clock.world(at).max(self.net.now);
        self.net.queue.push(at, Event::Timer(self.life, timer));
    }

    fn command(&mut self, worker: WorkerIndex, command: Command<JobId>) {
        self.seen.extend(Seen::command(&command));
        if let Some(command) = command.with(|job| self.jobs.take(job, self.net, self.life)) {
            let index = usize::from(worker.0);
            self.workers[index].command(self.net, (self.life, index), command);
        }
    }

    fn is_crowded(&self, worker: WorkerIndex) -> bool {
        self.workers[usize::from(worker.0)].ends.waiting.is_crowded()
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        let before = std::mem::replace(self.snapshot, Arc::clone(&snapshot));
        self.seen.push(Seen::Published { before, now: snapshot, met: *self.met });
    }

    fn make_tables(&mut self, job: TableJob) {
        self.seen.push(Seen::Wanted(masks::right_already(&job)));
        let at = self.net.after_us(self.net.weather.tables_us);
        self.net.queue.push(at, Event::Tables(self.life, job.run()));
    }

    fn nonce(&mut self) -> [u8; 32] {
        self.net.rng.random()
    }

    fn connect(&mut self, job: JobId, address: SocketAddr, _: Option<u32>, shake: Shake) {
        let conn = self.net.connect(Owner::Job(self.life), self.slot, address);
        self.jobs.connect(job, conn, shake);
    }

    fn accept(&mut self, job: JobId, shake: Shake) {
        self.jobs.accept(job, shake);
    }

    fn turn_away(&mut self, refusal: &[u8]) {
        self.jobs.turn_away(self.net, refusal);
    }

    fn keep(&mut self, job: JobId) {
        self.jobs.keep(job);
    }

    fn write(&mut self, job: JobId, bytes: Vec<u8>) {
        if let Some(end) = self.jobs.write(job, (self.net, self.life), &bytes) {
            self.seen.push(Seen::Wrote(job, end, bytes));
        }
    }

    fn abort(&mut self, job: JobId) {
        if self.jobs.abort(job, self.net) {
            self.seen.push(Seen::Over(job));
        }
    }

    /// Descriptors never run out here.
    fn accepting(&mut self, _: bool) {}

    fn discover(&mut self) {
        self.net.queue.push(self.net.now, Event::Discovered(self.life));
    }
}
