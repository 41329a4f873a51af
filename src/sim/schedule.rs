//! When each worker's duty cycle comes: at once when there is something to do, later when something
//! is due, and not at all while nothing happens.

use std::time::Duration;

use super::events::{ConnId, CoreId, Event, LifeId, Side};
use rand::RngExt;

use super::invariants::turns::Turned;
use super::network::{Network, Owner};
use super::process::{Body, Clock, Core};
use super::work::Step;
use super::worker::Hands;
use super::world::World;
use crate::base::Time;
use crate::worker::command::RING_PAUSE;
use crate::worker::turn::TurnOutcome;
use crate::worker::{Command, LinkId};

impl Core {
    /// Has it run at a time, or earlier.
    pub fn wake(&mut self, net: &mut Network, (life, index): CoreId, at: Time) {
        if at < self.turn_at {
            self.turn_at = at;
            net.queue.push(at, Event::Turn(life, index));
        }
    }

    /// Has it run soon, as after a wake-up.
    pub fn nudge(&mut self, net: &mut Network, id: CoreId) {
        let at = net.after_us(net.weather.wake_us);
        self.wake(net, id, at);
    }

    /// Control has a command for it.
    pub fn command(&mut self, net: &mut Network, id: CoreId, command: Command<(ConnId, Side)>) {
        self.ends.waiting.push(command);
        if net.rng.random_range(0..4) == 0 {
            // The ring is full.
            net.queue.push(net.now.plus(RING_PAUSE), Event::Pump(id.0, id.1));
        } else {
            self.pump(net, id);
        }
    }

    /// Puts the commands of control into its ring.
    pub fn pump(&mut self, net: &mut Network, id: CoreId) {
        let mut first = None;
        let commands = &mut self.ends.commands;
        self.ends.waiting.pump(|command| {
            let at = commands.push(net.after_us(net.weather.wake_us), command);
            first.get_or_insert(at);
            Ok(())
        });
        if let Some(at) = first {
            self.wake(net, id, at);
        }
    }

    /// Sees to it that the next turn comes when there is something to do. `pause` is for how long it
    /// may sleep, `None` for however long.
    pub fn plan(
        &mut self,
        net: &mut Network,
        id: CoreId,
        outcome: TurnOutcome,
        pause: Option<Duration>,
    ) {
        let now = net.now;
        let mut next = self.ends.next().unwrap_or(Time::NEVER);
        match pause {
            // What is on its way only keeps the worker awake once it can be seen.
            Some(Duration::ZERO) => {
                let injected = !self.ends.injected.is_empty();
                let due = self.worker.next_deadline().is_some_and(|at| at <= self.worker.now());
                if outcome == TurnOutcome::Again || injected || due || next <= now {
                    next = next.min(net.after_us((1, 20)));
                }
            }
            Some(pause) => next = next.min(now.plus(pause)),
            None => {}
        }
        if next < Time::NEVER && outcome != TurnOutcome::Ended {
            self.wake(net, id, next.max(now.plus(Duration::from_micros(1))));
        }
    }
}

impl Body {
    /// What a worker gave its siblings in a turn can be seen a little later. Whether it gave any.
    fn show_chunks(&mut self, net: &mut Network, (life, index): CoreId) -> bool {
        let gave = self.workers[index].ends.rings.take_gave();
        for (sibling, messages) in &gave {
            let sibling = usize::from(sibling.0);
            let core = &mut self.workers[sibling];
            let at = net.after_us(net.weather.wake_us);
            if let Some(at) = core.ends.rings.show(index, at, *messages) {
                core.wake(net, (life, sibling), at);
            }
        }
        !gave.is_empty()
    }
}

impl World {
    /// How many messages a worker has begun and ended, as of its last duty cycle.
    fn messages_of(&self, (life, index): CoreId) -> u64 {
        let body = self.lives[life].body.as_deref();
        body.map_or(0, |body| body.workers[index].sums.sent + body.workers[index].sums.ended)
    }

    fn core(&mut self, (life, index): CoreId) -> Option<(&mut Core, &mut Network)> {
        let body = self.lives[life].body.as_deref_mut()?;
        Some((&mut body.workers[index], &mut self.net))
    }

    /// Has a worker run soon, as after a wake-up.
    pub(super) fn nudge(&mut self, life: LifeId, index: usize) {
        if let Some((core, net)) = self.core((life, index)) {
            core.nudge(net, (life, index));
        }
    }

    /// A handler holds a worker until then.
    pub(super) fn block(&mut self, life: LifeId, index: usize, until: Time) {
        let (now, local) = (self.net.now, self.lives[life].local(until));
        let began = self.lives[life].local(now);
        if until > self.net.now {
            self.net.busy.insert((life, index));
        }
        if let Some((core, net)) = self.core((life, index)) {
            if core.blocked_until <= now {
                core.blocked_at = began;
            }
            core.blocked_until = until;
            core.running_since = local;
            core.nudge(net, (life, index));
        }
    }

    /// Ends what blocks a worker. One that runs has no more time for that.
    pub(super) fn unblock(&mut self, life: LifeId, index: usize) {
        let now = self.net.now;
        if self.core((life, index)).is_some_and(|(core, _)| core.blocked_until > now) {
            self.block(life, index, now);
        }
    }

    /// Bytes come to one side of a connection.
    pub(super) fn bytes_came(&mut self, conn: ConnId, side: Side) {
        let owner = self.net.deliver(conn, side);
        let arrived = self.net.arrived(conn, side) as u64;
        self.net.trace.note(self.net.now, conn, "deliver", (side as u64) << 32 | arrived);
        match owner {
            Owner::Job(life) => {
                let at = self.net.after_us(self.net.weather.wake_us);
                self.net.queue.push(at, Event::Job(life, conn, side));
            }
            Owner::Worker(life, index, link) => self.socket_event((life, index, link), false),
            Owner::Forger => self.forger_hears(conn, side),
            Owner::Handed(_) | Owner::Nobody => {}
        }
    }

    /// The word comes to one side of a connection that the other has room again.
    pub(super) fn room_came(&mut self, conn: ConnId, side: Side) {
        match self.net.has_room(conn, side) {
            Owner::Worker(life, index, link) => self.socket_event((life, index, link), true),
            Owner::Job(life) => {
                self.net.queue.push(self.net.now, Event::Job(life, conn, side));
            }
            Owner::Handed(_) | Owner::Forger | Owner::Nobody => {}
        }
    }

    /// A worker's ring takes commands again.
    pub(super) fn pump(&mut self, life: LifeId, index: usize) {
        if let Some((core, net)) = self.core((life, index)) {
            core.pump(net, (life, index));
        }
    }

    /// Bytes, their end or room came to a worker's socket.
    pub(super) fn socket_event(
        &mut self,
        (life, index, link): (LifeId, usize, LinkId),
        writable: bool,
    ) {
        let Some((core, net)) = self.core((life, index)) else { return };
        match writable {
            true => core.turn.writable(&mut core.worker, link),
            false => {
                let socket = core.ends.socket(link).map(|socket| (socket.conn, socket.side));
                let over = socket.is_some_and(|(conn, side)| net.is_over(conn, side));
                core.turn.readable(link, over);
            }
        }
        core.nudge(net, (life, index));
    }

    /// One duty cycle's time has come.
    pub(super) fn turn(&mut self, life: LifeId, index: usize) {
        let now = self.net.now;
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if body.workers[index].turn_at != now {
            return; // Another turn was or will be earlier.
        }
        let core = &mut body.workers[index];
        core.turn_at = Time::NEVER;
        if core.blocked_until > now {
            core.wake(&mut self.net, (life, index), core.blocked_until);
        } else if !body.paused {
            self.net.busy.remove(&(life, index));
            // If it is paused it runs when the process does.
            self.run_turn((life, index));
        }
    }

    /// One duty cycle, and what comes of it: the next one, chunks for siblings, reports.
    fn run_turn(&mut self, id: CoreId) {
        let (life, index) = id;
        let own = self.lives[life].clock;
        let now = own.local(self.net.now);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.ran = true;
        let mut others = body.workers.iter().enumerate().filter(|(place, _)| *place != index);
        let awaited = others.any(|(_, core)| !core.ends.let_go);
        let Core { worker, turn, ends, .. } = &mut body.workers[index];
        ends.awaited = awaited;
        let seen = Turned::new(id, &self.ledger, body.limits);
        let (net, clock, reports) = (&mut self.net, Clock::new(now), Vec::new());
        let mut hands = Hands { ends, net, clock, reports, seen };
        let outcome = turn.run(worker, &mut hands);
        hands.clock = Clock::new(now);
        let pause = match outcome {
            TurnOutcome::Again => Some(Duration::ZERO),
            TurnOutcome::Sleep => turn.may_sleep(worker, &mut hands),
            TurnOutcome::Ended => None,
        };
        let pause = pause.map(|pause| own.lasts(pause));
        let Hands { reports, seen, .. } = hands;
        body.workers[index].plan(&mut self.net, id, outcome, pause);
        let gave = body.show_chunks(&mut self.net, id) || !reports.is_empty();
        for report in reports {
            body.send_report(&mut self.net, life, report);
        }
        if self.application.is_none() {
            let before = self.messages_of(id);
            self.check_turn(seen, gave || outcome != TurnOutcome::Again);
            let moved = self.messages_of(id) - before;
            self.took(self.processor_of(&Event::Turn(life, index)), Step::Turn(moved));
        }
    }
}
