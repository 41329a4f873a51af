//! Flap damping: a member that falls silent again and again gets no keys until it has answered for
//! a while, so that one bad machine does not move keys each time.
//!
//! Each renewal of a member's identity is one silence that others noticed and that it outlived. Its
//! record says up to which renewal it is *fit*: of two nodes with equal records and beliefs both
//! use it or neither does. The member itself raises that number, and nobody else:
//!
//! - The number runs one ahead, so that one silence is free.
//! - The next one in a row is a relapse. It makes the member wait, hearing others all the time, for
//!   1 s, then 2 s, 4 s and so on, up to `membership.damp_max_ms`.
//! - Whoever was steady for that longest time starts anew.
//! - One that its own probes speak against, since most of the members that it asked meanwhile
//!   answered at once, is the fault of whoever did not hear it (`hearers`), and counts for nothing.
//! - A silence in which most members renewed themselves was a partition, and nobody's relapse: but
//!   for one that heard nobody meanwhile. On each side of a partition there is somebody to hear,
//!   and who is alone may have had the others renew themselves by what it said of them.
//!
//! Where most of the members that answer would be damped the fault is elsewhere, and none is.

use std::time::Duration;

use crate::base::Time;

use super::records::{Entry, Renewal};
use super::timer::TimerKind;
use super::{MemberSink, Membership, Stage, schedule};

/// How long the first relapse makes a member wait.
const FIRST_HOLD: Duration = Duration::from_secs(1);
/// Renewals within this time are of one cause: the members of a healed partition hear of each
/// other's verdicts one after another.
const COMMON: Duration = Duration::from_secs(2);
/// After 2^12 s the longest wait is over, whatever it is set to.
const MOST_DOUBLINGS: u32 = 12;

/// What a member knows of its own silences.
#[derive(Debug, Default)]
pub(super) struct Fitness {
    /// Those in a row that count.
    relapses: u32,
    /// Since when it has heard others without a gap, and nobody took it for dead.
    steady_since: Time,
    /// The last renewals, until it is clear whether they were common.
    last: Option<Last>,
    token: u32,
}

#[derive(Debug)]
struct Last {
    at: Time,
    renewals: u32,
    relapses: u32,
    /// Nobody was heard meanwhile.
    alone: bool,
}

impl Fitness {
    /// The silence ends only now.
    pub fn unsteady(&mut self, now: Time) {
        self.steady_since = now;
    }

    fn hold(&self, most: Duration) -> Duration {
        match self.relapses.checked_sub(1) {
            Some(doublings) => (FIRST_HOLD * (1 << doublings.min(MOST_DOUBLINGS))).min(most),
            None => Duration::ZERO,
        }
    }
}

impl Membership {
    fn damp_max(&self) -> Duration {
        Duration::from_millis(self.config.damp_max_ms)
    }

    /// Up to which renewal a member is fit when it starts.
    pub(super) fn first_fit(damp_max_ms: u64) -> u32 {
        if damp_max_ms == 0 { u32::MAX } else { 1 }
    }

    /// This node was taken for dead and has renewed itself.
    pub(super) fn has_renewed(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let number = self.swim.id().renewal;
        let own = self.directory.own_entry_mut();
        let before = own.renewal.map_or(0, |renewal| renewal.number);
        own.renewal = Some(Renewal { number, since: now, risen: true });
        if self.config.damp_max_ms == 0 {
            return;
        }
        if self.swim.is_heard(now) {
            // Only who took it for dead did not hear it: as if it had not fallen silent.
            own.record.fit = own.record.fit.saturating_add(number.saturating_sub(before));
            self.changed = self.raise_own(now, sink);
            return;
        }
        let relapse = number > own.record.fit;
        self.fitness.steady_since = now;
        let mut last = Last {
            at: now,
            renewals: number.saturating_sub(before),
            relapses: u32::from(relapse),
            alone: self.swim.is_alone(now),
        };
        // Calls of a healed partition may come one after another.
        if let Some(before) = self.fitness.last.take_if(|last| now.since(last.at) <= COMMON) {
            last.renewals = last.renewals.saturating_add(before.renewals);
            last.relapses = last.relapses.saturating_add(before.relapses);
            last.alone &= before.alone;
        }
        self.fitness.relapses = self.fitness.relapses.saturating_add(u32::from(relapse));
        self.fitness.last = Some(last);
        let excused = self.excuse_common(now);
        if self.say_fitness(self.directory.own().fit) || excused {
            if !self.raise_own(now, sink) {
                return;
            }
            self.changed = true;
        }
        self.schedule_fitness(now, sink);
    }

    /// Others renewed themselves as well: perhaps the last silence was not this node's own.
    pub(super) fn forgive_common(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.excuse_common(now) {
            self.say_fitness(self.directory.own().fit);
            self.publish_own(now, sink);
        }
    }

    fn excuse_common(&mut self, now: Time) -> bool {
        let Some(last) = self.fitness.last.take_if(|last| now.since(last.at) <= COMMON) else {
            return false;
        };
        // Whom this node gave up while it heard nobody may answer all the same.
        let unsure = self.swim.unsure();
        let answers =
            |entry: &&Entry| entry.record.member.reachable || unsure.contains(&entry.node_ref());
        let (mut renewed, mut answering) = (0, 0);
        for entry in self.directory.live().filter(answers) {
            answering += 1;
            renewed += usize::from(entry.renewal.is_some_and(|renewal| {
                renewal.risen
                    && last.at.since(renewal.since).max(renewal.since.since(last.at)) <= COMMON
            }));
        }
        if last.alone || 2 * renewed <= answering {
            self.fitness.last = Some(last);
            return false;
        }
        let own = self.directory.own_mut();
        own.fit = own.fit.saturating_add(last.renewals);
        self.fitness.relapses = self.fitness.relapses.saturating_sub(last.relapses);
        true
    }

    /// Brings the own record in line; returns whether it is another now.
    fn say_fitness(&mut self, fit: u32) -> bool {
        let hold = self.fitness.hold(self.damp_max());
        let relapsed = self.swim.id().renewal > fit;
        let own = self.directory.own_mut();
        let before = (own.fit, own.hold_ms);
        own.fit = fit;
        own.hold_ms = if relapsed { hold.as_millis() as u32 } else { 0 };
        before != (own.fit, own.hold_ms)
    }

    /// It may have been steady for long enough.
    pub(super) fn look_at_fitness(&mut self, now: Time, token: u32, sink: &mut dyn MemberSink) {
        if token != self.fitness.token {
            return;
        }
        let patience = Duration::from_millis(self.config.suspect_ms);
        if now.since(self.last_heard) > patience {
            self.fitness.unsteady(now);
        }
        let (steady, most) = (now.since(self.fitness.steady_since), self.damp_max());
        let number = self.swim.id().renewal;
        let mut fit = self.directory.own().fit;
        if steady >= most {
            self.fitness.relapses = 0;
            fit = fit.max(number.saturating_add(1));
        } else if steady >= self.fitness.hold(most) {
            fit = fit.max(number);
        }
        if self.say_fitness(fit) {
            self.publish_own(now, sink);
        }
        if steady < most && self.stage == Stage::Running {
            self.schedule_fitness(now, sink);
        }
    }

    fn schedule_fitness(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let most = self.damp_max();
        let damped = self.swim.id().renewal > self.directory.own().fit;
        let after = if damped { self.fitness.hold(most) } else { most };
        let due = self.fitness.steady_since.plus(after);
        self.fitness.token = self.fitness.token.wrapping_add(1);
        let kind = TimerKind::Fitness { token: self.fitness.token };
        schedule(now, due.since(now), kind, sink);
    }

    /// Works out who is damped. Everything that it follows from is in records and beliefs, so that
    /// nodes that agree on these agree on it.
    pub(super) fn refresh_damping(&mut self) {
        let live = || self.directory.live().filter(|entry| entry.record.member.reachable);
        let relapsed = live().filter(|entry| entry.has_relapsed()).count();
        let ignored = 2 * relapsed > live().count();
        for entry in self.directory.entries.values_mut() {
            // The member itself may not have been heard yet.
            let hold = Duration::from_millis(u64::from(entry.record.hold_ms)).max(FIRST_HOLD);
            let damped = !ignored && entry.has_relapsed();
            let until = entry.renewal.filter(|_| damped).map(|renewal| renewal.since.plus(hold));
            if until != entry.record.member.damped_until {
                entry.record.member_mut().damped_until = until;
                self.changed = true;
            }
        }
    }
}
