//! The steps of a graceful leave: wait until the others know, until all is drained, say goodbye.

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
    /// When it should be over.
    until: Time,
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

/// How long membership repeats its farewell.
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
            until: Time::ZERO,
            grace,
            timeout,
            workers,
            round: 0,
            confirms: false,
            say_after: grace.saturating_add(SAY_AFTER),
            waits: None,
            news: false,
            log: LogLimiter::default(),
        }
    }

    pub fn begin(&mut self, now: Time) -> bool {
        let first = self.stage == Stage::Member;
        if first {
            self.stage = Stage::Draining { since: now };
            self.until = now.plus(self.timeout);
        }
        first
    }

    /// What is left of its time, once it is gone.
    pub fn left(&self, now: Time) -> Option<Duration> {
        (self.stage == Stage::Gone).then(|| self.until.since(now))
    }

    /// How long it may take to be drained: three quarters of the timeout at least. What comes
    /// afterwards is within it too, unless it is short: a worker that is held is waited for once more
    /// when all others have stopped.
    fn drains_for(&self, now: Time) -> Duration {
        // One that is soon back may yet be drained.
        let is_held = self.silent(now, LAST_PATIENCE).next().is_some();
        let held = if is_held { LAST_PATIENCE } else { Duration::ZERO };
        (self.timeout * 3 / 4).max(self.timeout.saturating_sub(PARTING + FAREWELL + held))
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
            self.stage = Stage::Parting { since: now, drained: true };
            self.news |= self.waits.take().is_some();
            return Step::Finish;
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
        let (lasted, gave_up) = match self.stage {
            Stage::Draining { since } => (now.since(since), false),
            Stage::Parting { since, drained: false } if since == now => (self.timeout, true),
            _ => return None,
        };
        if lasted < self.say_after && !gave_up {
            return None;
        }
        self.say_after = lasted * 2;
        let mut all = Undrained::default();
        self.workers.iter().for_each(|answers| all.add(&answers.undrained));
        let held = self.silent(now, ANSWERS_WITHIN).collect();
        let waits = Arc::new(LeaveWaits::new(&all, held, known));
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

    pub fn check(&mut self, now: Time) -> Step {
        match self.stage {
            Stage::Member | Stage::Gone => Step::Nothing,
            Stage::Draining { since } if now.since(since) >= self.drains_for(now) => {
                self.stage = Stage::Parting { since: now, drained: false };
                Step::Finish
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
    /// the node is gone. Ends with [`ControlTells::left`](super::ControlTells::left).
    pub fn leave(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if self.leaving.begin(now) {
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
        let step = self.leaving.check(now);
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
            Step::Gone { drained } => sink.left(drained),
        }
    }

    fn ask_drained(&mut self, sink: &mut dyn ControlSink) {
        for (worker, round) in self.leaving.ask() {
            sink.command(worker, Command::AskDrained(round));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};

    const MS: u64 = 1_000_000;

    fn leaving() -> Leaving {
        Leaving::new(Duration::from_millis(100), Duration::from_secs(1), 2)
    }

    /// What those answer that are asked now: by worker, how many messages it has handled, or that it
    /// has something left to do; whether that ends the leave, or what comes next.
    fn answers(leaving: &mut Leaving, now: Time, say: &[Option<u64>]) -> Vec<Step> {
        let asked: Vec<_> = leaving.ask().collect();
        let answer = |(worker, round): (WorkerIndex, u64)| {
            leaving.answer(now, worker, said(round, say[usize::from(worker.0)]))
        };
        asked.into_iter().map(answer).collect()
    }

    fn said(round: u64, handled: Option<u64>) -> Drained {
        let busy = || Box::new(Undrained { asks: 2, ..Undrained::default() });
        let undrained = handled.is_none().then(busy);
        Drained { round, handled: handled.unwrap_or_default(), undrained }
    }

    const BUSY: Option<u64> = None;

    #[test]
    fn all_workers_must_be_drained_twice_after_the_grace() {
        let mut leaving = leaving();
        assert_eq!(leaving.turn_away(), None);
        assert!(leaving.begin(Time(0)));
        assert_eq!(leaving.turn_away(), Some(TurnAway::Leaving));
        assert_eq!(leaving.check(Time(20 * MS)), Step::Wait);
        assert_eq!(leaving.check(Time(100 * MS)), Step::Ask);
        let now = Time(101 * MS);
        assert_eq!(answers(&mut leaving, now, &[Some(7), BUSY]), [Step::Nothing, Step::Nothing]);
        assert_eq!(leaving.check(Time(120 * MS)), Step::Ask);
        let now = Time(121 * MS);
        assert_eq!(answers(&mut leaving, now, &[Some(7), Some(3)]), [Step::Nothing, Step::Confirm]);
        // It has handled one in between, and what that sent may be under way.
        assert_eq!(answers(&mut leaving, now, &[Some(7), Some(4)]), [Step::Nothing, Step::Nothing]);
        assert_eq!(leaving.check(Time(140 * MS)), Step::Ask);
        let now = Time(141 * MS);
        assert_eq!(answers(&mut leaving, now, &[Some(8), Some(4)]), [Step::Nothing, Step::Confirm]);
        assert_eq!(answers(&mut leaving, now, &[Some(8), Some(4)]), [Step::Nothing, Step::Finish]);
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
    fn all_of_a_leave_is_within_its_timeout_also_with_a_worker_that_is_held() {
        for (held, gives_up_ms) in [(false, 19_720), (true, 17_220)] {
            let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 2);
            leaving.begin(Time(0));
            let mut steps = Vec::new();
            for ms in (0..=20_020).step_by(20) {
                let now = Time(ms * MS);
                match leaving.check(now) {
                    Step::Wait | Step::Ask | Step::Nothing => {}
                    step => steps.push((ms, step)),
                }
                for (worker, round) in leaving.ask().collect::<Vec<_>>() {
                    if worker == WorkerIndex(0) || !held {
                        leaving.answer(now, worker, said(round, BUSY));
                    }
                }
            }
            let [finish, _, gone] = steps[..] else { panic!("{steps:?}") };
            assert_eq!(finish, (gives_up_ms, Step::Finish));
            assert_eq!(gone.1, Step::Gone { drained: false });
            let left = leaving.left(Time(gone.0 * MS)).expect("it is gone");
            assert!(!held || left >= LAST_PATIENCE - DRAIN_CHECK, "{left:?}");
        }
    }

    #[test]
    fn a_handler_that_is_soon_back_makes_a_leave_no_shorter() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 1);
        leaving.begin(Time(0));
        let mut owed = None;
        for ms in (0..=19_700).step_by(20) {
            let now = Time(ms * MS);
            let step = leaving.check(now);
            assert!(matches!(step, Step::Wait | Step::Ask), "at {ms} ms: {step:?}");
            // Each second it holds its worker for nine tenths of it.
            owed = leaving.ask().next().or(owed);
            if ms % 1_000 < 100
                && let Some((worker, round)) = owed.take()
            {
                leaving.answer(now, worker, said(round, BUSY));
            }
        }
    }

    #[test]
    fn workers_are_asked_however_seldom_news_are_gossiped() {
        let mut leaving = Leaving::new(Duration::from_secs(60), Duration::from_secs(1), 1);
        leaving.begin(Time(0));
        assert_eq!(leaving.check(Time(480 * MS)), Step::Wait);
        assert_eq!(leaving.check(Time(500 * MS)), Step::Ask);
        let now = Time(501 * MS);
        assert_eq!(answers(&mut leaving, now, &[Some(0)]), [Step::Confirm]);
        assert_eq!(answers(&mut leaving, now, &[Some(0)]), [Step::Finish]);
    }

    /// What a held worker sends when it is back is under way, whatever the others said before.
    #[test]
    fn a_worker_that_is_held_is_asked_once_and_the_others_are_asked_again_after_it() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 2);
        leaving.begin(Time(0));
        let [held, other] = [0, 1].map(WorkerIndex);
        for ms in (0..1_000).step_by(20) {
            assert_eq!(leaving.check(Time(ms * MS)), Step::Ask);
            let asked: Vec<_> = leaving.ask().collect();
            let expected: &[_] = if ms == 0 { &[(held, 1), (other, 1)] } else { &[(other, 1)] };
            assert_eq!(asked, expected, "at {ms} ms");
            assert_eq!(leaving.answer(Time(ms * MS), other, said(1, Some(5))), Step::Nothing);
        }
        let now = Time(1_001 * MS);
        assert_eq!(leaving.answer(now, held, said(1, Some(9))), Step::Confirm);
        // Of its message the other one has begun something.
        assert_eq!(answers(&mut leaving, now, &[Some(9), BUSY]), [Step::Nothing, Step::Nothing]);
        assert_eq!(leaving.check(Time(1_020 * MS)), Step::Ask);
        let now = Time(1_021 * MS);
        assert_eq!(answers(&mut leaving, now, &[Some(9), Some(6)]), [Step::Nothing, Step::Confirm]);
        assert_eq!(answers(&mut leaving, now, &[Some(9), Some(6)]), [Step::Nothing, Step::Finish]);
    }

    #[test]
    fn an_answer_to_an_earlier_round_says_nothing_about_this_one() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 2);
        leaving.begin(Time(0));
        let [slow, quick] = [0, 1].map(WorkerIndex);
        leaving.check(Time(0));
        assert_eq!(leaving.ask().count(), 2);
        leaving.answer(Time(0), quick, said(1, Some(5)));
        leaving.check(Time(20 * MS));
        assert_eq!(leaving.ask().collect::<Vec<_>>(), [(quick, 1)]);
        assert_eq!(leaving.answer(Time(21 * MS), slow, said(1, Some(9))), Step::Confirm);
        assert_eq!(leaving.ask().collect::<Vec<_>>(), [(slow, 2)]);
        assert_eq!(leaving.answer(Time(22 * MS), slow, said(2, Some(9))), Step::Nothing);
        assert_eq!(leaving.answer(Time(22 * MS), quick, said(1, Some(5))), Step::Nothing);
        leaving.check(Time(40 * MS));
        assert_eq!(leaving.ask().collect::<Vec<_>>(), [(slow, 2), (quick, 2)]);
        assert_eq!(leaving.answer(Time(41 * MS), quick, said(2, Some(5))), Step::Finish);
    }

    #[test]
    fn a_second_leave_changes_nothing() {
        let mut leaving = leaving();
        assert!(leaving.begin(Time(0)));
        assert!(!leaving.begin(Time(5)));
    }

    #[test]
    fn who_is_drained_now_and_then_is_waited_for_by_name() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(10), 1);
        leaving.begin(Time(0));
        let mut said = Vec::new();
        for ms in (0..=9_760).step_by(20) {
            let now = Time(ms * MS);
            leaving.check(now);
            said.extend(leaving.waits(now, |_| None).map(|line| line.text));
            let drained = (ms % 40 == 0).then_some(1);
            if answers(&mut leaving, now, &[drained]) == [Step::Confirm] {
                answers(&mut leaving, now, &[BUSY]);
            }
        }
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(said.iter().all(|line| line.contains("2 asks without a reply")), "{said:?}");
    }

    #[test]
    fn what_has_come_is_waited_for_no_more() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(10), 1);
        leaving.begin(Time(0));
        let now = Time(1_000 * MS);
        assert_eq!(leaving.check(now), Step::Ask);
        assert!(leaving.waits(now, |_| None).is_some());
        leaving.news = false;
        assert_eq!(answers(&mut leaving, now, &[Some(1)]), [Step::Confirm]);
        assert_eq!(answers(&mut leaving, now, &[Some(1)]), [Step::Finish]);
        assert!(leaving.news && leaving.waits.is_none());
    }

    #[test]
    fn what_it_waits_for_is_said_ever_more_seldom_and_at_the_end() {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(10), 2);
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let [peer, stranger] = [2, 3].map(|node| NodeRef { node: NodeId(node), ..me });
        let known = |asked| (asked == peer).then(|| ("slow".into(), ([10, 0, 0, 1], 7).into()));
        leaving.begin(Time(0));
        let mut said = Vec::new();
        for ms in (0..=10_100).step_by(20) {
            let now = Time(ms * MS);
            leaving.check(now);
            // The second worker is held and says nothing.
            let peers = [peer, stranger].into();
            let waits = Undrained { asks: 2, peers, ..Undrained::default() };
            for (worker, round) in leaving.ask().collect::<Vec<_>>() {
                let undrained = Some(Box::new(waits.clone()));
                if worker == WorkerIndex(0) {
                    leaving.answer(now, worker, Drained { round, handled: 0, undrained });
                }
            }
            said.extend(leaving.waits(now, known).map(|line| (ms, line.text)));
        }
        let when: Vec<u64> = said.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(when, [1_000, 2_000, 4_000, 7_500], "what is held is waited for once more");
        let waits = "2 asks without a reply; handlers that hold the workers 1; the peers slow at \
                     10.0.0.1:7, which have not answered or taken all; the nodes \
                     0000000000000003, which are no members here and have links open";
        assert_eq!(
            said[0].1,
            format!("this node has been leaving for 1000 ms and waits for {waits}")
        );
        assert!(said[3].1.ends_with(&format!("gives up on {waits}")), "{}", said[3].1);
        assert_eq!(leaving.waits.as_ref().unwrap().to_string(), waits);
    }
}
