//! The steps of a graceful leave: wait until the others know, until all is drained, say goodbye, and
//! until somebody has heard that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ending::LAST_PATIENCE;
pub use super::leave_waits::LeaveWaits;
use super::log_line::LogLine;
use super::{Control, ControlSink, ControlTimer};
use crate::base::{LogKind, LogLimiter, NodeRef, Time, WorkerIndex};
use crate::wire::handshake::TurnAway;
use crate::worker::{Command, Drained, Undrained};

/// How often a leaving node asks its workers whether they are drained.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Wait,
    /// Those that owe no answer, and look again later.
    Ask,
    /// The same for a round that follows at once: the next look is set already.
    Confirm,
    Finish,
    /// Tell the others that this node has left.
    Farewell,
    /// Whether all was drained, and somebody has heard the farewell.
    Gone {
        well: bool,
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
    /// The others are being told, until one of them has shown that it knows.
    Farewell {
        since: Time,
        drained: bool,
        is_heard: bool,
    },
    Gone,
}

pub(super) struct Leaving {
    stage: Stage,
    began: Time,
    grace: Duration,
    timeout: Duration,
    workers: Vec<Answers>,
    /// The questions of one round are asked when all have answered those of the one before.
    round: u64,
    /// Whether it follows one in which all were drained, at once.
    confirms: bool,
    /// After how much of the draining it is said next what it waits for.
    say_after: Duration,
    /// As it was said last.
    waits: Option<Arc<LeaveWaits>>,
    /// It has just given up on that.
    gave_up: bool,
    news: bool,
    log: LogLimiter,
}

/// What one worker says of itself.
#[derive(Default)]
struct Answers {
    /// Whether it was asked and has not answered yet. It is asked nothing more meanwhile: a worker that
    /// is held would find all of it at once.
    owes: bool,
    /// In which round it answered last.
    round: u64,
    /// How many messages it had handled then, if it was drained.
    handled: Option<u64>,
    /// The same at the end of the round before.
    before: Option<u64>,
    /// What it had left to do when it last had something, until it was found drained twice.
    undrained: Undrained,
    /// When that was.
    last: Option<Time>,
}

impl Answers {
    /// Whether it was found drained twice and has handled nothing in between. If that is so of all, all
    /// were drained at one time: when the second round began, which was after all answers of the first.
    fn is_quiet(&self) -> bool {
        self.handled.is_some() && self.handled == self.before
    }
}

/// After how long, beyond the grace, it is said what a leave waits for.
const SAY_AFTER: Duration = Duration::from_secs(1);

/// A worker that does not answer for so long is held by a handler.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// How long membership repeats its farewell at least, so that more than one hears it.
const FAREWELL: Duration = Duration::from_millis(250);

/// How long the last frames of a leaving node may take.
const PARTING: Duration = Duration::from_millis(40);

impl Leaving {
    /// However long news take to spread, half of the time is for draining: workers that are never
    /// asked would never be drained.
    pub fn new(grace: Duration, timeout: Duration, workers: u16) -> Self {
        let grace = grace.min(timeout / 2);
        let workers = (0..workers).map(|_| Answers::default()).collect();
        Self {
            stage: Stage::Member,
            began: Time::ZERO,
            grace,
            timeout,
            workers,
            round: 0,
            confirms: false,
            say_after: grace.saturating_add(SAY_AFTER),
            waits: None,
            gave_up: false,
            news: false,
            log: LogLimiter::default(),
        }
    }

    pub fn begin(&mut self, now: Time) -> bool {
        let first = self.stage == Stage::Member;
        if first {
            self.stage = Stage::Draining { since: now };
            self.began = now;
        }
        first
    }

    /// What is left of its time, once it is gone.
    pub fn left(&self, now: Time) -> Option<Duration> {
        (self.stage == Stage::Gone).then(|| self.began.plus(self.timeout).since(now))
    }

    /// How long it may take to be drained: three quarters of the timeout at least. What comes
    /// afterwards is within it too, unless it is short: a worker that is held is waited for once more
    /// when all others have stopped.
    fn drains_for(&self, now: Time) -> Duration {
        (self.timeout * 3 / 4).max(self.timeout.saturating_sub(PARTING + FAREWELL + self.held(now)))
    }

    /// How long workers that are held are waited for at its end. One that is soon back may yet be
    /// drained.
    fn held(&self, now: Time) -> Duration {
        match self.silent(now, LAST_PATIENCE).next() {
            Some(_) => LAST_PATIENCE,
            None => Duration::ZERO,
        }
    }

    /// The workers that have not answered for so long: handlers hold them.
    fn silent(&self, now: Time, long: Duration) -> impl Iterator<Item = WorkerIndex> {
        let silent =
            move |answers: &Answers| answers.last.is_none_or(|last| now.since(last) >= long);
        let workers = self.workers.iter().zip(0..);
        workers.filter(move |(it, _)| silent(it)).map(|(_, worker)| WorkerIndex(worker))
    }

    /// Whom it lets in no more, by this: once it has said farewell nobody has anything for it.
    pub fn turn_away(&self) -> Option<TurnAway> {
        match self.stage {
            Stage::Member => None,
            Stage::Draining { .. } | Stage::Parting { .. } => Some(TurnAway::Leaving),
            Stage::Farewell { .. } | Stage::Gone => Some(TurnAway::ShuttingDown),
        }
    }

    /// Asks those who owe no answer, by the number of the round.
    fn ask(&mut self) -> impl Iterator<Item = (WorkerIndex, u64)> {
        let round = self.round;
        let asked = self.workers.iter_mut().zip(0..).filter(|(it, _)| !it.owes);
        asked.map(move |(it, worker)| {
            it.owes = true;
            (WorkerIndex(worker), round)
        })
    }

    /// What a worker has left to do, if anything. Whoever answers is asked again in the same round
    /// until all have: the last answer counts.
    pub fn answer(&mut self, now: Time, worker: WorkerIndex, answer: Drained) -> Step {
        let Stage::Draining { .. } = self.stage else { return Step::Nothing };
        let Some(answers) = self.workers.get_mut(usize::from(worker.0)) else {
            return Step::Nothing;
        };
        answers.owes = false;
        answers.last = Some(now);
        if answer.round == self.round {
            answers.round = answer.round;
            answers.handled = answer.undrained.is_none().then_some(answer.handled);
        }
        match answer.undrained {
            Some(undrained) => answers.undrained = *undrained,
            None if answers.is_quiet() => answers.undrained = Undrained::default(),
            None => {}
        }
        if !self.is_round_over() {
            return Step::Nothing;
        }
        if self.workers.iter().all(Answers::is_quiet) {
            return self.part(now, true);
        }
        // At once, so that what handles a message now and then on its own account is not in the way.
        if !self.confirms && self.workers.iter().all(|it| it.handled.is_some()) {
            self.next_round(true);
            return Step::Confirm;
        }
        Step::Nothing
    }

    fn is_round_over(&self) -> bool {
        self.workers.iter().all(|it| it.round == self.round)
    }

    fn next_round(&mut self, confirms: bool) {
        self.round += 1;
        self.confirms = confirms;
        for it in &mut self.workers {
            it.before = it.handled.take();
        }
    }

    /// What it waits for, when that is to be said: after a second, two, four and so on, and when it
    /// gives up.
    fn waits(
        &mut self,
        now: Time,
        known: impl Fn(NodeRef) -> Option<(Arc<str>, SocketAddr)>,
    ) -> Option<LogLine> {
        let gave_up = std::mem::take(&mut self.gave_up);
        let unheard = match self.stage {
            Stage::Draining { .. } => false,
            Stage::Parting { .. } if gave_up => false,
            Stage::Farewell { since, is_heard: false, .. } if now.since(since) >= FAREWELL => true,
            Stage::Gone if gave_up => true,
            _ => return None,
        };
        let lasted = if gave_up { self.timeout } else { now.since(self.began) };
        if lasted < self.say_after && !gave_up {
            return None;
        }
        self.say_after = lasted * 2;
        let waits = match unheard {
            true => LeaveWaits { unheard, ..self.waits.as_deref().cloned().unwrap_or_default() },
            false => {
                let mut all = Undrained::default();
                self.workers.iter().for_each(|answers| all.add(&answers.undrained));
                LeaveWaits::new(&all, self.silent(now, ANSWERS_WITHIN).collect(), known)
            }
        };
        let waits = Arc::new(waits);
        self.waits = Some(Arc::clone(&waits));
        self.news = true;
        let kind = LogKind::Leaving;
        let left_out = self.log.line(now, kind)?;
        let ms = lasted.as_millis();
        let text = match gave_up {
            true => format!(
                "this node must be gone within {ms} ms, `membership.leave_timeout_ms`, and gives up on {waits}"
            ),
            false => format!("this node has been leaving for {ms} ms and waits for {waits}"),
        };
        Some(LogLine { kind, left_out, text })
    }

    /// `is_heard` says whether somebody has shown that it knows the farewell.
    pub fn check(&mut self, now: Time, is_heard: bool) -> Step {
        match self.stage {
            Stage::Member | Stage::Gone => Step::Nothing,
            Stage::Draining { since } if now.since(since) >= self.drains_for(now) => {
                self.gave_up = true;
                self.part(now, false)
            }
            Stage::Draining { since } if now.since(since) < self.grace => Step::Wait,
            Stage::Draining { .. } => {
                if self.is_round_over() {
                    self.next_round(false);
                }
                Step::Ask
            }
            Stage::Parting { since, .. } if now.since(since) < PARTING => Step::Wait,
            Stage::Parting { drained, .. } => {
                self.stage = Stage::Farewell { since: now, drained, is_heard };
                Step::Farewell
            }
            Stage::Farewell { since, drained, .. } => {
                let held = if drained { Duration::ZERO } else { self.held(now) };
                let is_late = now.plus(DRAIN_CHECK + held) > self.began.plus(self.timeout);
                if now.since(since) < FAREWELL || !is_heard && !is_late {
                    self.stage = Stage::Farewell { since, drained, is_heard };
                    return Step::Wait;
                }
                self.stage = Stage::Gone;
                self.gave_up = !is_heard;
                let well = drained && is_heard;
                if well {
                    self.news |= self.waits.take().is_some();
                }
                Step::Gone { well }
            }
        }
    }

    fn part(&mut self, now: Time, drained: bool) -> Step {
        if drained {
            self.news |= self.waits.take().is_some();
        }
        self.stage = Stage::Parting { since: now, drained };
        Step::Finish
    }
}

impl Control {
    /// Begins a graceful leave: the others stop sending here, what is under way is finished, then
    /// the node is gone. Ends with [`ControlTells::left`](super::ControlTells::left).
    pub fn leave(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if self.leaving.begin(now) {
            self.joining.give_up();
            self.member(now, sink, |membership, sink| membership.leave(now, sink));
            sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain);
        }
    }

    /// A worker said what it has left to do.
    pub fn drained(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        answer: Drained,
        sink: &mut dyn ControlSink,
    ) {
        let step = self.leaving.answer(now, worker, answer);
        self.leave_step(now, step, sink);
    }

    /// What the leave waits for, or nothing since all of it has come, if that was said anew since it
    /// was last asked for.
    pub fn leave_news(&mut self) -> Option<Option<Arc<LeaveWaits>>> {
        std::mem::take(&mut self.leaving.news).then(|| self.leaving.waits.clone())
    }

    /// The next look whether it is drained, or gone.
    pub(super) fn leave_due(&mut self, now: Time, sink: &mut dyn ControlSink) {
        let step = self.leaving.check(now, self.membership.is_farewell_heard());
        let (view, troubles) = (self.membership.view(), &self.troubles);
        let member = |peer: NodeRef| {
            let member = view.member(peer.node).filter(|member| member.node_ref() == peer)?;
            Some((Arc::clone(&member.name), member.address))
        };
        let known = |peer| member(peer).or_else(|| troubles.whereabouts(peer));
        if let Some(line) = self.leaving.waits(now, known) {
            sink.log(line);
        }
        self.leave_step(now, step, sink);
    }

    fn leave_step(&mut self, now: Time, step: Step, sink: &mut dyn ControlSink) {
        match step {
            Step::Nothing => {}
            Step::Wait => sink.schedule(now.plus(DRAIN_CHECK), ControlTimer::Drain),
            Step::Confirm => self.ask_drained(sink),
            Step::Ask => {
                self.ask_drained(sink);
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
            Step::Gone { well } => sink.left(well),
        }
    }

    fn ask_drained(&mut self, sink: &mut dyn ControlSink) {
        for (worker, round) in self.leaving.ask() {
            sink.command(worker, Command::AskDrained(round));
        }
    }
}

#[cfg(test)]
mod tests;
