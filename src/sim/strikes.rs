//! What goes wrong: crashes, pauses, partitions, resets, joins and leaves during the fault phase,
//! and the end of all that. Their kinds are `Fault` in `faults.rs`.

use std::time::Duration;

use rand::RngExt;

use super::events::{Event, LifeId, SlotId};
use super::faults::{Fault, RangeMs};
use super::plan::TROUBLES_BEGIN;
use super::process::Fate;
use super::streams::within_us;
use super::world::World;
use crate::base::Time;

/// How long after the healing the operator looks at what is left.
const OPERATOR: Duration = Duration::from_secs(3);
/// For how long a handler holds its worker.
const BLOCK_MS: (u64, u64) = (500, 8_000);

impl World {
    /// Plans the next fault of a kind.
    pub(super) fn next_fault(&mut self, fault: Fault) {
        let Some(repeated) = self.plan.faults.iter().find(|known| known.fault == fault) else {
            return;
        };
        let (least, most) = repeated.every_ms;
        let at = self.after_ms(fault, (least, most));
        self.net.queue.push(at, Event::Fault(fault));
    }

    /// A fault strikes, and the next one is planned.
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.healed_at.is_some() {
            return;
        }
        self.net.trace.note(self.net.now, 0, "fault", fault as u64);
        self.net.trace.say(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Crash => {
                if let Some(life) = self.any_life(fault) {
                    self.crash(life);
                }
            }
            Fault::Pause => {
                if let Some(life) = self.any_life(fault) {
                    let until = self.after_ms(fault, self.plan.pause_ms);
                    self.pause(life, until);
                }
            }
            Fault::Partition => self.part(),
            Fault::Flap => self.flap(),
            Fault::Deafen => self.net.deaf = self.plan.deaf,
            Fault::Reset => {
                if let Some(conn) = self.net.any_open(self.streams.of(fault)) {
                    self.net.reset(conn);
                }
            }
            Fault::Flow => {
                if let Some(conn) = self.net.any_open(self.streams.of(fault)) {
                    self.net.swallow(conn);
                }
            }
            Fault::Block => {
                if let Some(life) = self.any_life(fault) {
                    let workers = u64::from(self.machine(self.lives[life].slot).workers);
                    let worker = self.streams.of(fault).random_range(0..workers);
                    let until = self.after_ms(fault, BLOCK_MS);
                    self.block(life, worker as usize, until);
                }
            }
            Fault::Withdraw => {
                if let Some(life) = self.any_life(fault) {
                    self.unserve(life);
                }
            }
            Fault::Leave => {
                if let Some(life) = self.any_life(fault) {
                    if self.streams.of(fault).random_range(0..5) == 0 {
                        self.down(life);
                    } else {
                        self.leave(fault, life);
                    }
                }
            }
            Fault::MassLeave => {
                for life in self.living() {
                    if self.streams.of(fault).random_range(0..2) == 0 {
                        self.leave(fault, life);
                    }
                }
            }
            Fault::MassJoin => {
                for slot in 0..self.slots.len() {
                    if self.slots[slot].is_none() && self.streams.of(fault).random_range(0..2) == 0
                    {
                        self.start_within(fault, slot, (0, 300));
                    }
                }
            }
        }
        self.next_fault(fault);
    }

    /// The processes that live.
    pub(super) fn living(&self) -> Vec<LifeId> {
        self.slots.iter().flatten().copied().collect()
    }

    fn any_life(&mut self, fault: Fault) -> Option<LifeId> {
        let living = self.living();
        let count = living.len() as u64;
        (count > 0).then(|| living[self.streams.of(fault).random_range(0..count) as usize])
    }

    /// A random time from now, as a kind of fault draws it.
    fn after_ms(&mut self, fault: Fault, (least, most): RangeMs) -> Time {
        let bounds = (least * 1_000, most * 1_000);
        self.net.now.plus(within_us(self.streams.of(fault), bounds))
    }

    fn start_within(&mut self, fault: Fault, slot: SlotId, bounds: RangeMs) {
        let at = self.after_ms(fault, bounds);
        self.net.queue.push(at, Event::Start(slot));
    }

    fn crash(&mut self, life: LifeId) {
        let slot = self.lives[life].slot;
        self.kill(life, Fate::Killed);
        if self.streams.of(Fault::Crash).random_range(0..8) > 0 {
            self.start_within(Fault::Crash, slot, self.plan.restart_ms);
        }
    }

    /// The application's threads are refused at once, as by `Node::begin_leave`.
    pub(super) fn begin_leave(&mut self, life: LifeId) {
        self.lives[life].leaving = true;
        if let Some(body) = &self.lives[life].body {
            body.gate.leave();
        }
        self.control(life, |control, now, sink| control.leave(now, sink));
    }

    fn leave(&mut self, fault: Fault, life: LifeId) {
        if self.is_wanted(life) {
            return;
        }
        self.net.trace.say(|| format!("life {life} leaves"));
        self.begin_leave(life);
        let slot = self.lives[life].slot;
        if self.streams.of(fault).random_range(0..2) == 0 {
            let after = self.plan.leave_timeout_ms + 500;
            self.start_within(fault, slot, (after, after + 3_000));
        }
    }

    /// The first machines may crash, but they are not taken out of the cluster: if all addresses to
    /// join through were, or more nodes than `min_members` leaves over, no decider could help it.
    fn is_wanted(&self, life: LifeId) -> bool {
        self.lives[life].slot < self.plan.member.settings.min_members as usize
    }

    /// An operator removes a node by order to another one.
    fn down(&mut self, life: LifeId) {
        if self.is_wanted(life) {
            return;
        }
        let node = self.lives[life].me.node;
        let known = |world: &Self, by: LifeId| {
            let Some(body) = world.lives[by].body.as_deref() else { return false };
            let me = world.lives[life].me;
            !body.paused
                && by != life
                && !world.lives[by].leaving
                && body.control.view().member(node).is_some_and(|member| member.node_ref() == me)
        };
        let Some(by) = self.living().into_iter().find(|by| known(self, *by)) else { return };
        self.net.trace.say(|| format!("life {life} is removed by order to life {by}"));
        self.lives[life].downed = true;
        self.control(by, |control, now, sink| control.down(now, node, sink));
        let slot = self.lives[life].slot;
        self.start_within(Fault::Leave, slot, (1_000, 5_000));
    }

    // ---- pauses ----

    pub(super) fn pause(&mut self, life: LifeId, until: Time) {
        let now = self.lives[life].local(self.net.now);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if body.paused {
            return;
        }
        (body.paused, body.paused_at) = (true, now);
        self.net.trace.note(self.net.now, life, "pause", until.0);
        self.net.queue.push(until, Event::Resume(life));
    }

    /// What waited happens now: overdue timers first, which is the worse order.
    pub(super) fn resume(&mut self, life: LifeId) {
        let now = self.net.now;
        let local = self.lives[life].local(now);
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        if !body.paused {
            return;
        }
        body.paused = false;
        body.running_since = local;
        let workers = body.workers.len();
        let mut backlog = std::mem::take(&mut body.backlog);
        self.net.trace.note(now, life, "resume", backlog.len() as u64);
        backlog.sort_by_key(|event| !matches!(event, Event::Timer(..)));
        for event in backlog {
            self.net.queue.push(now, event);
        }
        for index in 0..workers {
            self.nudge(life, index);
        }
        let slot = self.lives[life].slot;
        if self.plan.slow.contains(&slot) {
            self.stumble(slot);
        }
    }

    /// A slow machine stops for a moment now and then.
    pub(super) fn stumble(&mut self, slot: SlotId) {
        if self.healed_at.is_some() {
            return;
        }
        let pause = within_us(&mut self.streams.stumbles, (1_000, 400_000));
        self.net.queue.push(self.net.now.plus(pause), Event::Stumble(slot));
    }

    /// The moment has come.
    pub(super) fn stumbles(&mut self, slot: SlotId) {
        if self.healed_at.is_some() {
            return;
        }
        match self.slots[slot] {
            Some(life) => {
                let pause = within_us(&mut self.streams.stumbles, (1_000, 150_000));
                self.pause(life, self.net.now.plus(pause));
            }
            None => self.stumble(slot),
        }
    }

    // ---- partitions ----

    fn part(&mut self) {
        self.next_partition += 1;
        let number = self.next_partition;
        let count = self.slots.len();
        let rng = self.streams.of(Fault::Partition);
        let left: Vec<bool> = (0..count).map(|_| rng.random_range(0..2) == 0).collect();
        // Both directions, one, or each pair as it comes.
        let kind = rng.random_range(0..4);
        for from in 0..count {
            for to in 0..count {
                let cut = match kind {
                    0 | 1 => left[from] != left[to],
                    2 => left[from] && !left[to],
                    _ => from != to && rng.random_range(0..4) == 0,
                };
                if cut {
                    self.net.walls.stand(number, from, to);
                }
            }
        }
        let at = self.after_ms(Fault::Partition, self.plan.partition_ms);
        self.net.queue.push(at, Event::Mend(number));
    }

    /// Plans when the flapping member is cut off, if one is, and from when on the deaf one hears next
    /// to nothing.
    pub(super) fn plan_flaps(&mut self) {
        if self.plan.deaf.is_some() {
            self.net.queue.push(Time::ZERO.plus(TROUBLES_BEGIN), Event::Fault(Fault::Deafen));
        }
        for (at, _) in self.plan.flaps.clone() {
            self.net.queue.push(at, Event::Fault(Fault::Flap));
        }
    }

    /// The flapping member is cut off once more.
    fn flap(&mut self) {
        let Some(victim) = self.plan.flapping() else { return };
        let (_, until) = self.plan.flaps[self.checks.flapping.cut()];
        self.checks.flapping.until(until);
        self.next_partition += 1;
        for other in (0..self.slots.len()).filter(|slot| *slot != victim) {
            self.net.walls.stand(self.next_partition, other, victim);
            self.net.walls.stand(self.next_partition, victim, other);
        }
        self.net.queue.push(until, Event::Mend(self.next_partition));
    }

    // ---- the end of it ----

    /// All faults end. What was killed comes back, or is removed for good.
    pub(super) fn heal(&mut self) {
        let now = self.net.now;
        self.net.trace.note(now, 0, "heal", 0);
        self.check_settled();
        self.healed_at = Some(now);
        self.checks.healing.begin(now);
        self.net.weather = self.net.weather.healed();
        self.net.deaf = None;
        self.end_forging();
        self.net.walls.fall_all();
        for life in self.living() {
            self.resume(life);
            for index in 0..usize::from(self.machine(self.lives[life].slot).workers) {
                self.unblock(life, index);
            }
        }
        for slot in 0..self.slots.len() {
            let last = self.lives.iter().rposition(|life| life.slot == slot);
            let fate = last.map(|life| self.lives[life].fate);
            match (last, fate) {
                (Some(life), Some(Fate::Killed)) => {
                    if self.streams.machines.random_range(0..4) == 0 {
                        self.down(life);
                        if self.lives[life].downed {
                            continue;
                        }
                    }
                    self.start(slot);
                }
                (None, _) if slot < usize::from(self.scenario.nodes) => self.start(slot),
                _ => {}
            }
        }
        if self.living().is_empty() {
            self.start(0);
        }
        self.net.queue.push(now.plus(OPERATOR), Event::Operate);
        self.look();
    }

    /// The operator removes who has gone without anybody hearing its goodbye, and repeats orders
    /// that went to a node which was gone before it could pass them on: no membership can tell
    /// such nodes from those that will come back.
    pub(super) fn operate(&mut self) {
        for life in 0..self.lives.len() {
            let (me, fate) = (self.lives[life].me, self.lives[life].fate);
            let gone = fate != Fate::Alive || self.lives[life].downed;
            for by in self.living() {
                let Some(body) = self.lives[by].body.as_deref() else { continue };
                let member = body.control.view().member(me.node);
                let seen = member.is_some_and(|member| member.node_ref() == me);
                if gone && seen && by != life && !self.lives[by].downed {
                    self.check_farewell(life, by);
                    self.checks.agreement.operates(self.net.now);
                    self.lives[life].downed = true;
                    self.net.trace.say(|| format!("life {life} is removed by order to life {by}"));
                    self.control(by, |control, now, sink| control.down(now, me.node, sink));
                    break;
                }
            }
        }
    }

    /// Looks again a little later.
    pub(super) fn look_again(&mut self) {
        let at = self.net.now.plus(Duration::from_millis(20));
        self.net.queue.push(at, Event::Look);
    }
}
