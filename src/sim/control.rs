//! Drives control over the fake network: moves datagrams, timers, reports, and the bytes of
//! handshakes.

use rand::RngExt;

use super::events::{Event, LifeId};
use super::network::{ConnId, Owner, Read, Side, address};
use super::process::{Command, Effect, Effects, Fate, Job, Shake};
use super::world::World;
use crate::base::Time;
use crate::control::Control;
use crate::control::links::{DialOrder, Failure, JobEvent, JobId, LinkEffect};
use crate::wire::VersionRange;
use crate::wire::handshake::{
    AcceptParams, AcceptStep, Acceptor, DialParams, DialStep, Dialer, HandshakeError, TurnAway,
};
use crate::worker::Report;

impl World {
    /// Calls a process's control and carries out what it wants.
    pub(super) fn control<T>(
        &mut self,
        life: LifeId,
        call: impl FnOnce(&mut Control, Time, &mut Effects) -> T,
    ) -> Option<T> {
        let now = self.lives[life].local(self.net.now);
        let mut effects = std::mem::take(&mut self.effects);
        let outcome = {
            let body = self.lives[life].body.as_deref_mut()?;
            call(&mut body.control, now, &mut effects)
        };
        let mut list = std::mem::take(&mut effects.list);
        self.effects = effects;
        for effect in list.drain(..) {
            self.effect(life, effect);
        }
        if self.effects.list.is_empty() {
            self.effects.list = list;
        }
        Some(outcome)
    }

    fn effect(&mut self, life: LifeId, effect: Effect) {
        let slot = self.lives[life].slot;
        match effect {
            Effect::Send(to, bytes) => {
                self.net.send(slot, to, &bytes);
                self.effects.spare.push(bytes);
            }
            Effect::Schedule(at, timer) => {
                let at = Time(self.lives[life].born.0.saturating_add(at.0)).max(self.net.now);
                self.net.queue.push(at, Event::Timer(life, timer));
            }
            Effect::Publish(snapshot) => {
                self.check_snapshot(life, &snapshot);
                let Some(body) = self.lives[life].body.as_deref_mut() else { return };
                body.snapshot = snapshot.clone();
                self.command_all(life, || Command::Apply(snapshot.clone()));
            }
            Effect::MakeTables(job) => {
                let at = self.net.after_us(self.net.weather.tables_us);
                self.net.queue.push(at, Event::Tables(life, job.run()));
            }
            Effect::Served(Ok(())) => {}
            Effect::Served(Err(why)) => {
                self.blame("serving", format!("a path was not served: {why:?}"));
            }
            Effect::Withdraw(handler) => self.command_all(life, || Command::Withdraw(handler)),
            Effect::Unserved(_) => {}
            Effect::Events(view, events) => {
                self.net.trace.note(self.net.now, life, "view", view.digest);
                let body = self.lives[life].body.as_deref();
                assert!(
                    body.is_none_or(|body| body.snapshot.view.digest == view.digest),
                    "life {life} was told of a change before the snapshot that shows it"
                );
                for event in &events {
                    self.check_event(life, event);
                }
            }
            Effect::Fault(fault) => {
                self.net.trace.note(self.net.now, life, "fault", 0);
                self.check_fault(life, &fault);
                self.kill(life, Fate::Downed);
            }
            Effect::AskDrained => self.command_all(life, || Command::AskDrained),
            Effect::FinishWorkers => self.command_all(life, || Command::Finish),
            Effect::Facts(facts) => self.command_all(life, || Command::Facts(facts.clone())),
            Effect::Part(worker, order) => {
                self.command(life, usize::from(worker.0), Command::Part(order));
            }
            Effect::Left(drained) => {
                let Some(body) = self.lives[life].body.as_deref_mut() else { return };
                body.left = Some(drained);
                self.net.queue.push(self.net.now, Event::Exit(life));
            }
            Effect::Link(effect) => self.link_effect(life, effect),
        }
    }

    fn command_all(&mut self, life: LifeId, command: impl Fn() -> Command) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        for index in 0..body.workers.len() {
            self.command(life, index, command());
        }
    }

    // ---- reports ----

    /// A worker tells control something; it comes in order.
    pub(super) fn send_report(&mut self, life: LifeId, report: Report) {
        let at = self.net.after_us(self.net.weather.wake_us);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let at = at.max(body.reports_after);
        body.reports_after = at;
        self.net.queue.push(at, Event::Report(life, report));
    }

    /// Control hears of it.
    pub(super) fn report(&mut self, life: LifeId, report: Report) {
        self.control(life, |control, now, sink| match report {
            Report::Dial { worker, destination } => control.dial(now, worker, destination, sink),
            Report::Suspect(peer) => control.suspect(now, peer, sink),
            Report::Reached(peer) => control.peer_link_opened(now, peer, sink),
            Report::Served(_, handler) => control.served(now, handler, sink),
            Report::ServeFailed(handler) => control.serve_failed(now, handler, sink),
            Report::Withdrawn(_, handler) => control.withdrawn(now, handler, sink),
            Report::Part(worker, report) => control.part_report(now, worker, report, sink),
            Report::Drained(worker, drained) => control.drained(now, worker, drained, sink),
            Report::DeadLetters(_) | Report::SlowTurn(_) | Report::Ended(_) => {}
        });
    }

    // ---- connections ----

    fn link_effect(&mut self, life: LifeId, effect: LinkEffect) {
        match effect {
            LinkEffect::Accept(job) => self.accept(life, job),
            LinkEffect::TurnAway => {
                let Some(conn) = self.arriving(life) else { return };
                let refusal = TurnAway::Busy.refusal();
                self.net.write(conn, 1, std::iter::once(refusal.as_slice()));
                self.net.close(conn, 1);
            }
            LinkEffect::Dial(order) => self.dial(life, order),
            LinkEffect::Probe { job, address } => self.connect(life, job, address, Shake::Probe),
            LinkEffect::Abort(job) => {
                if let Some((conn, side)) = self.take_job(life, job) {
                    self.net.close(conn, side);
                }
            }
            LinkEffect::HandDialed { job, worker, destination } => {
                let Some((conn, side)) = self.take_job(life, job) else { return };
                self.net.own(conn, side, Owner::Handed(life));
                self.command(life, worker.0.into(), Command::Dialed(destination, (conn, side)));
            }
            LinkEffect::HandAccepted { job, established } => {
                let Some((conn, side)) = self.take_job(life, job) else { return };
                self.net.own(conn, side, Owner::Handed(life));
                let worker = established.my_worker.0.into();
                self.command(life, worker, Command::Accepted((conn, side), established));
            }
            LinkEffect::DialFailed { worker, destination } => {
                self.command(life, worker.0.into(), Command::DialFailed(destination));
            }
            LinkEffect::Log(line) => self.net.trace.say(|| line.text),
            // Here the seeds never change.
            LinkEffect::Discover => {
                let found = Ok(self.plan.member.seeds.clone());
                self.control(life, |control, now, sink| {
                    control.discovered(now, "sim", found, sink);
                });
            }
            // Descriptors never run out here; the rest is for membership.
            LinkEffect::Accepting(_)
            | LinkEffect::Schedule(..)
            | LinkEffect::Refused(_)
            | LinkEffect::Reached(_)
            | LinkEffect::Greeted(..) => {}
        }
    }

    fn arriving(&mut self, life: LifeId) -> Option<ConnId> {
        self.lives[life].body.as_deref_mut()?.arriving.take()
    }

    fn take_job(&mut self, life: LifeId, job: JobId) -> Option<(ConnId, Side)> {
        let job = self.lives[life].body.as_deref_mut()?.jobs.remove(&job)?;
        Some((job.conn, job.side))
    }

    fn add_job(&mut self, life: LifeId, job: JobId, conn: ConnId, side: Side, shake: Shake) {
        if let Some(body) = self.lives[life].body.as_deref_mut() {
            body.jobs.insert(job, Job { conn, side, shake });
        }
    }

    fn connect(&mut self, life: LifeId, job: JobId, to: std::net::SocketAddr, shake: Shake) {
        let conn = self.net.connect(life, self.lives[life].slot, to);
        self.add_job(life, job, conn, 0, shake);
    }

    fn dial(&mut self, life: LifeId, order: DialOrder) {
        let params = DialParams {
            key: self.key.clone(),
            me: self.lives[life].me,
            from_worker: order.from_worker,
            to: order.to,
            to_worker: order.to_worker,
            link_epoch: order.link_epoch,
            versions: VersionRange::SUPPORTED,
        };
        let (dialer, hello) = Dialer::new(params, self.net.rng.random());
        self.connect(life, order.job, order.address, Shake::Dial(Box::new(dialer), hello));
    }

    fn accept(&mut self, life: LifeId, job: JobId) {
        let Some(conn) = self.arriving(life) else { return };
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let params = AcceptParams {
            key: self.key.clone(),
            me: self.lives[life].me,
            workers: body.workers.len() as u16,
            versions: VersionRange::SUPPORTED,
            turn_away: None,
        };
        let acceptor = Acceptor::new(params, self.net.rng.random());
        self.add_job(life, job, conn, 1, Shake::Accept(Box::new(acceptor)));
    }

    /// A connection's first segment came to a machine: its kernel accepts if a process listens.
    pub(super) fn syn(&mut self, conn: ConnId) {
        let (from, to) = self.net.slots(conn);
        let listener = self.slots.get(to).copied().flatten();
        if !self.net.syn(conn, listener) {
            return;
        }
        let Some(life) = listener else { return };
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.arriving = Some(conn);
        self.control(life, |control, now, sink| control.incoming(now, address(from), sink));
    }

    /// The dialing side hears whether a process listens.
    pub(super) fn syn_answer(&mut self, conn: ConnId, listens: bool) {
        let Owner::Job(life) = self.net.owner(conn, 0) else { return };
        let Some(body) = self.lives[life].body.as_deref_mut() else {
            self.net.close(conn, 0);
            return;
        };
        if body.paused {
            body.backlog.push(Event::SynAnswer(conn, listens));
            return;
        }
        let Some((job, known)) = body.job_of(conn, 0) else { return };
        if !listens {
            self.end_job(life, job, Failure::Refused, String::new());
            return;
        }
        if let Shake::Dial(_, hello) = &known.shake {
            self.net.write(conn, 0, std::iter::once(hello.as_slice()));
        }
        self.job_event(life, job, JobEvent::Connected);
    }

    fn job_event(&mut self, life: LifeId, job: JobId, event: JobEvent) {
        self.net.trace.note(self.net.now, life, "shaken", job);
        self.control(life, |control, now, sink| control.job(now, job, event, sink));
    }

    /// It is over: its connection is closed, and control hears of it.
    fn end_job(&mut self, life: LifeId, job: JobId, how: Failure, why: String) {
        if let Some((conn, side)) = self.take_job(life, job) {
            self.net.close(conn, side);
            self.job_event(life, job, JobEvent::Failed(how, why));
        }
    }

    /// A handshake's socket has something, or is over.
    pub(super) fn step_job(&mut self, life: LifeId, conn: ConnId, side: Side) {
        loop {
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let Some((job, known)) = body.job_of(conn, side) else { return };
            let expects = match &known.shake {
                Shake::Dial(dialer, _) => dialer.expects(),
                Shake::Accept(acceptor) => acceptor.expects(),
                Shake::Probe => return,
            };
            if self.net.arrived(conn, side) < expects {
                if self.net.is_over(conn, side) {
                    self.end_job(life, job, Failure::Broken, "the connection broke".to_owned());
                } else if self.net.arrived(conn, side) > 0 {
                    self.job_event(life, job, JobEvent::Began);
                }
                return;
            }
            let mut bytes = vec![0; expects];
            let read = self.net.read(conn, side, &mut bytes);
            debug_assert_eq!(read, Read::Bytes(expects));
            let (send, event) = known.shake.receive(&bytes);
            if let Some(answer) = send {
                self.net.write(conn, side, std::iter::once(answer.as_slice()));
            }
            match event {
                Some(JobEvent::Failed(how, why)) => return self.end_job(life, job, how, why),
                Some(event) => self.job_event(life, job, event),
                None => {}
            }
        }
    }
}

impl Shake {
    /// Takes what the handshake expected; gives what to answer and what has happened.
    fn receive(&mut self, bytes: &[u8]) -> (Option<Vec<u8>>, Option<JobEvent>) {
        let failed = |error: HandshakeError| {
            let why = error.to_string();
            Some(JobEvent::Failed(Failure::Handshake(error), why))
        };
        match self {
            Self::Dial(dialer, _) => match dialer.receive(bytes) {
                Ok(DialStep::More) => (None, None),
                Ok(DialStep::Send(answer)) => (Some(answer), None),
                Ok(DialStep::Done(_)) => (None, Some(JobEvent::Dialed)),
                Err(error) => (None, failed(error)),
            },
            Self::Accept(acceptor) => match acceptor.receive(bytes) {
                AcceptStep::More => (None, Some(JobEvent::Began)),
                AcceptStep::Send(answer) => (Some(answer), Some(JobEvent::Asked)),
                AcceptStep::Done { send, established } => {
                    (Some(send), Some(JobEvent::Accepted(established)))
                }
                AcceptStep::Refuse { send, error } => (Some(send), failed(error)),
            },
            Self::Probe => (None, None),
        }
    }
}
