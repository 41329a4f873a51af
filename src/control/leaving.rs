//! The steps of a graceful leave: wait until the others know, until all is drained, say goodbye.

use std::time::Duration;

use super::{Control, ControlSink, ControlTimer};
use crate::base::{Time, WorkerIndex};
use crate::wire::handshake::TurnAway;
use crate::worker::Command;

/// How often a leaving node asks its workers whether they are drained.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Wait,
    Ask,
    Finish,
    /// Tell the others that this node has left.
    Farewell,
    Gone {
        drained: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Member,
    Draining {
        since: Time,
    },
    /// Workers have told their peers that nothing more comes; the last frames are on their way.
    Parting {
        since: Time,
        drained: bool,
    },
    /// The others are being told, more than once because datagrams get lost.
    Farewell {
        since: Time,
        drained: bool,
    },
    Gone,
}

pub(super) struct Leaving {
    stage: Stage,
    grace: Duration,
    timeout: Duration,
    /// By worker: how many times in a row it said that it was drained.
    drained: Vec<u8>,
}

/// A worker must be found drained so many times in a row: a message between two of them can hide
/// from one look.
const LOOKS: u8 = 2;

/// How long membership repeats its farewell.
const FAREWELL: Duration = Duration::from_millis(250);

/// How long the last frames of a leaving node may take.
const PARTING: Duration = Duration::from_millis(40);

impl Leaving {
    /// However long news take to spread, half of the time is for draining: workers that are never
    /// asked would never be drained.
    pub fn new(grace: Duration, timeout: Duration, workers: u16) -> Self {
        let grace = grace.min(timeout / 2);
        Self { stage: Stage::Member, grace, timeout, drained: vec![0; usize::from(workers)] }
    }

    pub fn begin(&mut self, now: Time) -> bool {
        let first = self.stage == Stage::Member;
        if first {
            self.stage = Stage::Draining { since: now };
        }
        first
    }

    /// Whom it lets in no more, by this: once it has said farewell nobody has anything for it.
    pub fn turn_away(&self) -> Option<TurnAway> {
        match self.stage {
            Stage::Member => None,
            Stage::Draining { .. } | Stage::Parting { .. } => Some(TurnAway::Leaving),
            Stage::Farewell { .. } | Stage::Gone => Some(TurnAway::ShuttingDown),
        }
    }

    pub fn answer(&mut self, now: Time, worker: WorkerIndex, drained: bool) -> Step {
        let Stage::Draining { since } = self.stage else { return Step::Nothing };
        let Some(looks) = self.drained.get_mut(usize::from(worker.0)) else {
            return Step::Nothing;
        };
        *looks = if drained { looks.saturating_add(1) } else { 0 };
        if now.since(since) >= self.grace && self.drained.iter().all(|looks| *looks >= LOOKS) {
            self.stage = Stage::Parting { since: now, drained: true };
            return Step::Finish;
        }
        Step::Nothing
    }

    pub fn check(&mut self, now: Time) -> Step {
        match self.stage {
            Stage::Member | Stage::Gone => Step::Nothing,
            Stage::Draining { since } if now.since(since) >= self.timeout => {
                self.stage = Stage::Parting { since: now, drained: false };
                Step::Finish
            }
            Stage::Draining { since } if now.since(since) < self.grace => Step::Wait,
            Stage::Draining { .. } => Step::Ask,
            Stage::Parting { since, .. } if now.since(since) < PARTING => Step::Wait,
            Stage::Parting { drained, .. } => {
                self.stage = Stage::Farewell { since: now, drained };
                Step::Farewell
            }
            Stage::Farewell { since, .. } if now.since(since) < FAREWELL => Step::Wait,
            Stage::Farewell { drained, .. } => {
                self.stage = Stage::Gone;
                Step::Gone { drained }
            }
        }
    }
}

impl Control {
    /// Begins a graceful leave: the others stop sending here, what is under way is finished, then
    /// the node is gone. Ends with [`ControlSink::left`].
    pub fn leave(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if self.leaving.begin(now) {
            self.member(now, sink, |membership, sink| membership.leave(now, sink));
            sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain);
        }
    }

    /// A worker said whether it is drained.
    pub fn drained(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        drained: bool,
        sink: &mut dyn ControlSink,
    ) {
        let step = self.leaving.answer(now, worker, drained);
        self.leave_step(now, step, sink);
    }

    pub(super) fn leave_step(&mut self, now: Time, step: Step, sink: &mut dyn ControlSink) {
        match step {
            Step::Nothing => {}
            Step::Wait => sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain),
            Step::Ask => {
                self.tell_all(sink, || Command::AskDrained);
                sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain);
            }
            Step::Finish => {
                self.tell_all(sink, || Command::Finish);
                sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain);
            }
            Step::Farewell => {
                self.member(now, sink, |membership, sink| membership.left(now, sink));
                sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain);
            }
            Step::Gone { drained } => sink.left(drained),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn leaving() -> Leaving {
        Leaving::new(Duration::from_millis(100), Duration::from_secs(1), 2)
    }

    #[test]
    fn all_workers_must_be_drained_twice_after_the_grace() {
        let mut leaving = leaving();
        assert_eq!(leaving.turn_away(), None);
        assert!(leaving.begin(Time(0)));
        assert_eq!(leaving.turn_away(), Some(TurnAway::Leaving));
        assert_eq!(leaving.check(Time(20 * MS)), Step::Wait);
        assert_eq!(leaving.check(Time(100 * MS)), Step::Ask);
        assert_eq!(leaving.answer(Time(101 * MS), WorkerIndex(0), true), Step::Nothing);
        assert_eq!(leaving.answer(Time(101 * MS), WorkerIndex(1), false), Step::Nothing);
        assert_eq!(leaving.answer(Time(121 * MS), WorkerIndex(0), true), Step::Nothing);
        assert_eq!(leaving.answer(Time(121 * MS), WorkerIndex(1), true), Step::Nothing);
        assert_eq!(leaving.answer(Time(141 * MS), WorkerIndex(1), true), Step::Finish);
        assert_eq!(leaving.check(Time(142 * MS)), Step::Wait);
        assert_eq!(leaving.turn_away(), Some(TurnAway::Leaving));
        assert_eq!(leaving.check(Time(181 * MS)), Step::Farewell);
        assert_eq!(leaving.turn_away(), Some(TurnAway::ShuttingDown));
        assert_eq!(leaving.check(Time(201 * MS)), Step::Wait);
        assert_eq!(leaving.check(Time(431 * MS)), Step::Gone { drained: true });
        assert_eq!(leaving.check(Time(500 * MS)), Step::Nothing);
    }

    #[test]
    fn what_is_never_drained_ends_at_the_timeout() {
        let mut leaving = leaving();
        leaving.begin(Time(0));
        assert_eq!(leaving.check(Time(1000 * MS)), Step::Finish);
        assert_eq!(leaving.check(Time(1040 * MS)), Step::Farewell);
        assert_eq!(leaving.check(Time(1290 * MS)), Step::Gone { drained: false });
    }

    #[test]
    fn workers_are_asked_however_seldom_news_are_gossiped() {
        let mut leaving = Leaving::new(Duration::from_secs(60), Duration::from_secs(1), 1);
        leaving.begin(Time(0));
        assert_eq!(leaving.check(Time(480 * MS)), Step::Wait);
        assert_eq!(leaving.check(Time(500 * MS)), Step::Ask);
        assert_eq!(leaving.answer(Time(501 * MS), WorkerIndex(0), true), Step::Nothing);
        assert_eq!(leaving.answer(Time(521 * MS), WorkerIndex(0), true), Step::Finish);
    }

    #[test]
    fn a_second_leave_changes_nothing() {
        let mut leaving = leaving();
        assert!(leaving.begin(Time(0)));
        assert!(!leaving.begin(Time(5)));
    }
}
