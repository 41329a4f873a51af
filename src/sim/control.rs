//! Drives control: what `runtime/control` does with datagrams, timers, reports and handshakes, over
//! the fake network.

use std::time::Duration;

use rand::RngExt;

use super::events::{Event, LifeId};
use super::network::{ConnId, Owner, Read, Side};
use super::process::{Command, Effect, Effects, Fate, Job, Report};
use super::world::World;
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::control::Control;
use crate::wire::VersionRange;
use crate::wire::handshake::{AcceptParams, AcceptStep, Acceptor, DialParams, DialStep, Dialer};

/// How a handshake or probe ended.
enum Shaken {
    Done,
    Refused,
    /// The connection was made and then broke.
    Broken,
    Failed,
}

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
                for index in 0..body.workers.len() {
                    self.command(life, index, Command::Apply(snapshot.clone()));
                }
            }
            Effect::MakeTables(job) => {
                let at = self.net.after_us(self.net.weather.tables_us);
                self.net.queue.push(at, Event::Tables(life, job.run()));
            }
            Effect::Events(view, events) => {
                self.net.trace.note(self.net.now, life, "view", view.digest);
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
        match report {
            Report::Dial { worker, destination } => self.dial(life, worker, destination),
            Report::Suspect(peer) => self.probe(life, peer),
            Report::Reached(peer) => {
                self.control(life, |control, now, sink| control.peer_link_opened(now, peer, sink));
            }
            Report::Served(handler) => {
                let served =
                    self.control(life, |control, now, sink| control.served(now, handler, sink));
                if let Some(Err(error)) = served {
                    self.blame("serving", format!("a path was not served: {error}"));
                }
            }
            Report::Part(worker, report) => {
                self.control(life, |control, now, sink| {
                    control.part_report(now, worker, report, sink);
                });
            }
            Report::Drained(worker, drained) => {
                self.control(life, |control, now, sink| {
                    control.drained(now, worker, drained, sink)
                });
            }
        }
    }

    // ---- connections ----

    fn dial(&mut self, life: LifeId, worker: WorkerIndex, destination: u32) {
        let nonce = self.net.rng.random();
        let slot = self.lives[life].slot;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Some(target) = body.snapshot.destinations.get(destination as usize).copied() else {
            return;
        };
        body.link_epoch += 1;
        let params = DialParams {
            key: self.key.clone(),
            me: body.control.me(),
            from_worker: worker,
            to: target.node,
            to_worker: target.worker,
            link_epoch: body.link_epoch,
            versions: VersionRange::SUPPORTED,
        };
        let (dialer, hello) = Dialer::new(params, nonce);
        let dialer = Box::new(dialer);
        let worker = usize::from(worker.0);
        let job = Job::Dial { worker, destination, peer: target.node, dialer, hello };
        self.start_job(life, slot, target.address, job);
    }

    fn probe(&mut self, life: LifeId, peer: NodeRef) {
        let slot = self.lives[life].slot;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if body.probing.contains(&peer) {
            return;
        }
        let view = body.control.view();
        let Some(member) =
            view.member(peer.node).filter(|member| member.incarnation == peer.incarnation)
        else {
            return;
        };
        let address = member.address;
        body.probing.push(peer);
        self.start_job(life, slot, address, Job::Probe(peer));
    }

    fn start_job(&mut self, life: LifeId, slot: usize, to: std::net::SocketAddr, job: Job) {
        let conn = self.net.connect(life, slot, to);
        self.add_job(life, conn, 0, job);
    }

    fn add_job(&mut self, life: LifeId, conn: ConnId, side: Side, job: Job) {
        let limit = Duration::from_millis(self.plan.handshake_timeout_ms);
        if let Some(body) = self.lives[life].body.as_deref_mut() {
            body.jobs.insert((conn, side), job);
            self.net.queue.push(self.net.now.plus(limit), Event::JobTimeout(life, conn, side));
        }
    }

    /// A connection's first segment came to a machine: its kernel accepts if a process listens.
    pub(super) fn syn(&mut self, conn: ConnId) {
        let (_, to) = self.net.slots(conn);
        let listener = self.slots.get(to).copied().flatten();
        if !self.net.syn(conn, listener) {
            return;
        }
        let Some(life) = listener else { return };
        let nonce = self.net.rng.random();
        let key = self.key.clone();
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let params = AcceptParams {
            key,
            me: body.control.me(),
            workers: body.workers.len() as u16,
            versions: VersionRange::SUPPORTED,
            turn_away: None,
        };
        let acceptor = Box::new(Acceptor::new(params, nonce));
        self.add_job(life, conn, 1, Job::Accept(acceptor));
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
        let Some(job) = body.jobs.get(&(conn, 0)) else { return };
        match job {
            _ if !listens => self.end_job(life, conn, 0, Shaken::Refused),
            Job::Probe(_) => self.end_job(life, conn, 0, Shaken::Done),
            Job::Dial { hello, .. } => {
                let hello = hello.clone();
                self.net.write(conn, 0, std::iter::once(hello.as_slice()));
            }
            Job::Accept(_) => {}
        }
    }

    /// A handshake's socket has something, or is over.
    pub(super) fn step_job(&mut self, life: LifeId, conn: ConnId, side: Side) {
        loop {
            let Some(body) = self.lives[life].body.as_deref_mut() else { return };
            let Some(job) = body.jobs.get_mut(&(conn, side)) else { return };
            let expects = match job {
                Job::Dial { dialer, .. } => dialer.expects(),
                Job::Accept(acceptor) => acceptor.expects(),
                Job::Probe(_) => return,
            };
            if self.net.arrived(conn, side) < expects {
                if self.net.is_over(conn, side) {
                    self.end_job(life, conn, side, Shaken::Broken);
                }
                return;
            }
            let mut bytes = vec![0; expects];
            let read = self.net.read(conn, side, &mut bytes);
            debug_assert_eq!(read, Read::Bytes(expects));
            let (send, end, accepted) = match job {
                Job::Dial { dialer, .. } => match dialer.receive(&bytes) {
                    Ok(DialStep::More) => (None, None, None),
                    Ok(DialStep::Send(answer)) => (Some(answer), None, None),
                    Ok(DialStep::Done(_)) => (None, Some(Shaken::Done), None),
                    Err(error) => {
                        self.net.trace.say(|| format!("handshake: {error}"));
                        (None, Some(Shaken::Failed), None)
                    }
                },
                Job::Accept(acceptor) => match acceptor.receive(&bytes) {
                    AcceptStep::More => (None, None, None),
                    AcceptStep::Send(answer) => (Some(answer), None, None),
                    AcceptStep::Done { send, established } => (Some(send), None, Some(established)),
                    AcceptStep::Refuse { send, .. } => (Some(send), Some(Shaken::Failed), None),
                },
                Job::Probe(_) => return,
            };
            if let Some(answer) = send {
                self.net.write(conn, side, std::iter::once(answer.as_slice()));
            }
            if let Some(established) = accepted {
                if let Some(body) = self.lives[life].body.as_deref_mut() {
                    body.jobs.remove(&(conn, side));
                }
                self.net.own(conn, side, Owner::Handed(life));
                let worker = usize::from(established.my_worker.0);
                self.command(life, worker, Command::Accepted(conn, side, established));
                return;
            }
            if let Some(end) = end {
                self.end_job(life, conn, side, end);
                return;
            }
        }
    }

    /// A handshake or probe takes too long.
    pub(super) fn job_timeout(&mut self, life: LifeId, conn: ConnId, side: Side) {
        self.end_job(life, conn, side, Shaken::Failed);
    }

    fn end_job(&mut self, life: LifeId, conn: ConnId, side: Side, how: Shaken) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let Some(job) = body.jobs.remove(&(conn, side)) else { return };
        self.net.trace.note(self.net.now, life, "shaken", conn as u64);
        match job {
            Job::Accept(_) => self.net.close(conn, side),
            Job::Probe(peer) => {
                body.probing.retain(|probed| *probed != peer);
                self.net.close(conn, side);
                if let Shaken::Refused = how {
                    self.control(life, |control, now, sink| control.peer_refused(now, peer, sink));
                }
            }
            Job::Dial { worker, destination, peer, .. } => match how {
                Shaken::Done => {
                    self.net.own(conn, side, Owner::Handed(life));
                    self.command(life, worker, Command::Dialed(destination, conn, side));
                }
                Shaken::Refused | Shaken::Broken | Shaken::Failed => {
                    self.net.close(conn, side);
                    self.command(life, worker, Command::DialFailed(destination));
                    match how {
                        Shaken::Refused => {
                            self.control(life, |control, now, sink| {
                                control.peer_refused(now, peer, sink);
                            });
                        }
                        // It took the connection and then broke it: is it about to end?
                        Shaken::Broken => self.probe(life, peer),
                        Shaken::Done | Shaken::Failed => {}
                    }
                }
            },
        }
    }
}
