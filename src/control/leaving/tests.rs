//! The steps of a leave, one by one.

use super::*;
use crate::base::{Incarnation, NodeId};

const MS: u64 = 1_000_000;
const HEARD: bool = true;

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
    assert_eq!(leaving.check(Time(20 * MS), HEARD), Step::Wait);
    assert_eq!(leaving.check(Time(100 * MS), HEARD), Step::Ask);
    let now = Time(101 * MS);
    assert_eq!(answers(&mut leaving, now, &[Some(7), BUSY]), [Step::Nothing, Step::Nothing]);
    assert_eq!(leaving.check(Time(120 * MS), HEARD), Step::Ask);
    let now = Time(121 * MS);
    assert_eq!(answers(&mut leaving, now, &[Some(7), Some(3)]), [Step::Nothing, Step::Confirm]);
    // It has handled one in between, and what that sent may be under way.
    assert_eq!(answers(&mut leaving, now, &[Some(7), Some(4)]), [Step::Nothing, Step::Nothing]);
    assert_eq!(leaving.check(Time(140 * MS), HEARD), Step::Ask);
    let now = Time(141 * MS);
    assert_eq!(answers(&mut leaving, now, &[Some(8), Some(4)]), [Step::Nothing, Step::Confirm]);
    assert_eq!(answers(&mut leaving, now, &[Some(8), Some(4)]), [Step::Nothing, Step::Finish]);
    assert_eq!(leaving.check(Time(142 * MS), HEARD), Step::Wait);
    assert_eq!(leaving.turn_away(), Some(TurnAway::Leaving));
    assert_eq!(leaving.check(Time(181 * MS), HEARD), Step::Farewell);
    assert_eq!(leaving.turn_away(), Some(TurnAway::ShuttingDown));
    assert_eq!(leaving.check(Time(201 * MS), HEARD), Step::Wait);
    assert_eq!(leaving.check(Time(431 * MS), HEARD), Step::Gone { well: true });
    assert_eq!(leaving.check(Time(500 * MS), HEARD), Step::Nothing);
}

#[test]
fn what_is_never_drained_ends_at_the_timeout() {
    let mut leaving = leaving();
    leaving.begin(Time(0));
    assert_eq!(leaving.check(Time(1000 * MS), HEARD), Step::Finish);
    assert_eq!(leaving.check(Time(1040 * MS), HEARD), Step::Farewell);
    assert_eq!(leaving.check(Time(1290 * MS), HEARD), Step::Gone { well: false });
}

#[test]
fn all_of_a_leave_is_within_its_timeout_also_with_a_worker_that_is_held() {
    for (held, gives_up_ms) in [(false, 19_720), (true, 17_220)] {
        let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 2);
        leaving.begin(Time(0));
        let mut steps = Vec::new();
        for ms in (0..=20_020).step_by(20) {
            let now = Time(ms * MS);
            match leaving.check(now, HEARD) {
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
        assert_eq!(gone.1, Step::Gone { well: false });
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
        let step = leaving.check(now, HEARD);
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
    assert_eq!(leaving.check(Time(480 * MS), HEARD), Step::Wait);
    assert_eq!(leaving.check(Time(500 * MS), HEARD), Step::Ask);
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
        assert_eq!(leaving.check(Time(ms * MS), HEARD), Step::Ask);
        let asked: Vec<_> = leaving.ask().collect();
        let expected: &[_] = if ms == 0 { &[(held, 1), (other, 1)] } else { &[(other, 1)] };
        assert_eq!(asked, expected, "at {ms} ms");
        assert_eq!(leaving.answer(Time(ms * MS), other, said(1, Some(5))), Step::Nothing);
    }
    let now = Time(1_001 * MS);
    assert_eq!(leaving.answer(now, held, said(1, Some(9))), Step::Confirm);
    // Of its message the other one has begun something.
    assert_eq!(answers(&mut leaving, now, &[Some(9), BUSY]), [Step::Nothing, Step::Nothing]);
    assert_eq!(leaving.check(Time(1_020 * MS), HEARD), Step::Ask);
    let now = Time(1_021 * MS);
    assert_eq!(answers(&mut leaving, now, &[Some(9), Some(6)]), [Step::Nothing, Step::Confirm]);
    assert_eq!(answers(&mut leaving, now, &[Some(9), Some(6)]), [Step::Nothing, Step::Finish]);
}

#[test]
fn an_answer_to_an_earlier_round_says_nothing_about_this_one() {
    let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(20), 2);
    leaving.begin(Time(0));
    let [slow, quick] = [0, 1].map(WorkerIndex);
    leaving.check(Time(0), HEARD);
    assert_eq!(leaving.ask().count(), 2);
    leaving.answer(Time(0), quick, said(1, Some(5)));
    leaving.check(Time(20 * MS), HEARD);
    assert_eq!(leaving.ask().collect::<Vec<_>>(), [(quick, 1)]);
    assert_eq!(leaving.answer(Time(21 * MS), slow, said(1, Some(9))), Step::Confirm);
    assert_eq!(leaving.ask().collect::<Vec<_>>(), [(slow, 2)]);
    assert_eq!(leaving.answer(Time(22 * MS), slow, said(2, Some(9))), Step::Nothing);
    assert_eq!(leaving.answer(Time(22 * MS), quick, said(1, Some(5))), Step::Nothing);
    leaving.check(Time(40 * MS), HEARD);
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
        leaving.check(now, HEARD);
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
    assert_eq!(leaving.check(now, HEARD), Step::Ask);
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
        leaving.check(now, HEARD);
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
    assert_eq!(said[0].1, format!("this node has been leaving for 1000 ms and waits for {waits}"));
    assert!(said[3].1.ends_with(&format!("gives up on {waits}")), "{}", said[3].1);
    assert_eq!(leaving.waits.as_ref().unwrap().to_string(), waits);
}

/// At which milliseconds.
type At<T> = Vec<(u64, T)>;

/// Drained at once; says when which steps follow, and what is said meanwhile.
fn unheard(heard_ms: u64) -> (At<Step>, At<String>) {
    let mut leaving = Leaving::new(Duration::ZERO, Duration::from_secs(10), 1);
    leaving.begin(Time(0));
    let (mut steps, mut said) = (Vec::new(), Vec::new());
    for ms in (0..=10_100).step_by(20) {
        let now = Time(ms * MS);
        match leaving.check(now, ms >= heard_ms) {
            Step::Wait | Step::Ask | Step::Nothing => {}
            step => steps.push((ms, step)),
        }
        if answers(&mut leaving, now, &[Some(1)]) == [Step::Confirm] {
            assert_eq!(answers(&mut leaving, now, &[Some(1)]), [Step::Finish]);
        }
        said.extend(leaving.waits(now, |_| None).map(|line| (ms, line.text)));
    }
    (steps, said)
}

#[test]
fn a_farewell_goes_on_until_somebody_has_heard_it() {
    let ends = |at, well| vec![(40, Step::Farewell), (at, Step::Gone { well })];
    assert_eq!(unheard(60), (ends(300, true), vec![]), "others are to hear it as well");
    let (steps, said) = unheard(2_600);
    assert_eq!(steps, ends(2_600, true));
    assert_eq!(said.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [1_000, 2_000]);
    assert!(said[0].1.contains("for 1000 ms and waits for the word of a member that it heard"));
    let (steps, said) = unheard(u64::MAX);
    assert_eq!(steps, ends(10_000, false));
    let (at, last) = said.last().unwrap();
    assert_eq!((said.len(), *at), (5, 10_000), "{said:?}");
    assert!(last.contains("gives up on the word of a member") && last.contains("unreachable"));
}

#[test]
fn what_was_not_drained_is_still_named_when_nobody_has_heard_the_farewell() {
    let mut leaving = leaving();
    leaving.begin(Time(0));
    leaving.check(Time(100 * MS), false);
    answers(&mut leaving, Time(101 * MS), &[BUSY, BUSY]);
    for ms in [1_000, 1_040, 1_290] {
        leaving.check(Time(ms * MS), false);
        leaving.waits(Time(ms * MS), |_| None);
    }
    let waits = leaving.waits.as_ref().unwrap();
    assert_eq!((waits.asks, waits.unheard), (4, true), "{waits}");
}
