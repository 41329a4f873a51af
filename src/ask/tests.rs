//! Each test asserts every effect of every input.

use std::time::Duration;

use super::*;
use crate::wire::Chunk;

type Asks = super::Asks<&'static str, u32, char>;

const PAUSE: Duration = Duration::from_millis(10);

fn at(ms: u64) -> Time {
    Time::ZERO.plus(Duration::from_millis(ms))
}

#[derive(Debug, PartialEq)]
enum Seen {
    Send(char),
    Fail(&'static str, AskError),
    Free,
}
use Seen::{Fail, Free, Send};

struct Bench {
    asks: Asks,
    out: Effects<&'static str>,
    /// Attempts, in the order in which they began.
    attempts: Vec<u64>,
}

impl Bench {
    fn new(max_asks: usize) -> Self {
        let asks = Asks::new(max_asks, 256, Time::ZERO);
        Self { asks, out: Effects::new(), attempts: Vec::new() }
    }

    /// With one ask of this plan, whose deadline is after a second.
    fn with(plan: Plan<char>) -> (Self, u64) {
        let mut bench = Self::new(4);
        let ask = bench.start("asker", plan).unwrap();
        (bench, ask)
    }

    fn start(&mut self, waiter: &'static str, plan: Plan<char>) -> Option<u64> {
        let frame = Chunk::with_capacity(64);
        self.asks.start((waiter, plan, frame), at(1000), at(0), &mut self.out).ok()
    }

    /// All effects since the last look; what was to be sent is sent on a link of its own number.
    fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(effect) = self.out.pop_front() {
            seen.push(match effect {
                Effect::Send { ask, attempt, target } => {
                    let (plan, _) = self.asks.plan(ask).unwrap();
                    let target = plan.targets[target];
                    self.asks.sent(attempt, self.attempts.len() as u32);
                    self.attempts.push(attempt);
                    Send(target)
                }
                Effect::Fail(waiter, error) => Fail(waiter, error),
                Effect::Free { .. } => Free,
            });
        }
        seen
    }

    fn expire(&mut self, ms: u64) -> Vec<Seen> {
        self.asks.expire(at(ms), &mut self.out);
        self.seen()
    }

    fn failed(&mut self, attempt: usize, reason: DeathReason, ms: u64) -> Vec<Seen> {
        let link = attempt as u32;
        self.asks.failed(self.attempts[attempt], link, reason, at(ms), &mut self.out);
        self.seen()
    }

    fn replied(&mut self, attempt: usize) -> (Option<&'static str>, Vec<Seen>) {
        let link = attempt as u32;
        let waiter = self.asks.replied(self.attempts[attempt], link, &mut self.out);
        (waiter, self.seen())
    }

    fn ended(&self) {
        assert_eq!((self.asks.len(), self.asks.timers()), (0, 0));
        assert_eq!(self.asks.table.len(), 0, "no attempt is left");
    }
}

#[test]
fn an_ask_without_a_plan_ends_once_by_whatever_comes_first() {
    let mut bench = Bench::new(8);
    let open = |bench: &mut Bench, link| bench.asks.open("w", link, at(50)).unwrap();

    let replied = open(&mut bench, 1);
    assert_eq!(bench.asks.replied(replied, 2, &mut bench.out), None, "on another link");
    assert_eq!(bench.asks.replied(replied, 1, &mut bench.out), Some("w"));
    assert_eq!(bench.asks.replied(replied, 1, &mut bench.out), None, "a second time");
    assert_eq!(bench.seen(), []);

    let failed = open(&mut bench, 1);
    let reason = DeathReason::HandlerPanicked;
    bench.asks.failed(failed, 2, reason, at(0), &mut bench.out);
    assert_eq!(bench.seen(), [], "on another link");
    for ended in [vec![Fail("w", AskError::Dead(reason))], vec![]] {
        bench.asks.failed(failed, 1, reason, at(0), &mut bench.out);
        assert_eq!(bench.seen(), ended, "once");
    }

    let (lost, kept) = (open(&mut bench, 1), open(&mut bench, 2));
    bench.asks.link_lost(1, AskError::LinkLost, at(0), &mut bench.out);
    assert_eq!(bench.seen(), [Fail("w", AskError::LinkLost)]);
    assert_eq!((bench.asks.waiter(lost), bench.asks.waiter(kept)), (None, Some(&"w")));

    assert_eq!(bench.expire(49), []);
    assert_eq!(bench.expire(50), [Fail("w", AskError::Timeout)]);

    let cancelled = open(&mut bench, 1);
    assert_eq!(bench.asks.cancel(cancelled, &mut bench.out), Some("w"));
    assert_eq!(bench.asks.cancel(cancelled, &mut bench.out), None);
    assert_eq!(bench.seen(), []);
    bench.ended();
}

#[test]
fn no_more_are_opened_than_there_are_places() {
    let mut bench = Bench::new(1);
    let ask = bench.asks.open("first", 1, at(9)).unwrap();
    assert_eq!(bench.asks.open("second", 1, at(9)), Err("second"));
    assert_eq!(bench.start("third", Plan::first_of(vec!['a'])), None);
    assert_eq!(bench.seen(), []);
    bench.asks.cancel(ask, &mut bench.out);
    assert!(bench.start("fourth", Plan::first_of(vec!['a', 'b'])).is_some());
    // An ask and an attempt fill the table: the second target has no place any more.
    assert_eq!(bench.seen(), [Send('a')]);
    assert_eq!(bench.replied(0), (Some("fourth"), vec![Free]));
    bench.ended();
}

#[test]
fn a_retry_goes_on_until_it_is_answered() {
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    assert_eq!(bench.expire(500), [], "one attempt at a time");
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 500), []);
    assert_eq!(bench.replied(0), (None, vec![]), "it had failed");
    assert_eq!(bench.expire(509), []);
    assert_eq!(bench.expire(510), [Send('b')]);
    bench.asks.link_lost(1, AskError::LinkLost, at(520), &mut bench.out);
    assert_eq!(bench.seen(), []);
    assert_eq!(bench.expire(530), [Send('b')], "the last again and again");
    bench.asks.not_sent(bench.attempts[2], Refusal::QueueFull, at(530), &mut bench.out);
    assert_eq!(bench.seen(), []);
    assert_eq!(bench.expire(540), [Send('b')]);
    assert_eq!(bench.replied(3), (Some("asker"), vec![Free]));
    bench.ended();
}

#[test]
fn a_retry_ends_with_what_no_other_attempt_would_mend() {
    for (error, reason) in [
        (AskError::Dead(DeathReason::HandlerPanicked), DeathReason::HandlerPanicked),
        (AskError::Dead(DeathReason::NoReply), DeathReason::NoReply),
    ] {
        let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
        assert_eq!(bench.seen(), [Send('a')]);
        assert_eq!(bench.failed(0, reason, 1), [Free, Fail("asker", error)]);
        bench.ended();
    }
    // At its deadline, under way, and when it could not be sent before it.
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    assert_eq!(bench.expire(1000), [Free, Fail("asker", AskError::Timeout)]);
    bench.ended();
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    let unreachable = AskError::Dead(DeathReason::Unreachable);
    let ended = [Free, Fail("asker", unreachable)];
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 995), ended, "that is known");
    bench.ended();
    // On a node that stops.
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.close_down();
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 1), ended);
    bench.ended();
}

/// Fails each attempt as it begins, by a refusal. Gives when each began, and how it ended.
fn refused(bench: &mut Bench, refusal: Refusal) -> (Vec<u64>, Vec<Seen>) {
    let mut begun = Vec::new();
    for ms in 0..=1000 {
        bench.asks.expire(at(ms), &mut bench.out);
        while let Some(Effect::Send { attempt, .. }) = bench.out.front() {
            begun.push(ms);
            let attempt = *attempt;
            bench.out.pop_front();
            bench.asks.not_sent(attempt, refusal, at(ms), &mut bench.out);
        }
    }
    (begun, bench.seen())
}

#[test]
fn a_retry_rests_longer_and_longer_and_says_at_its_deadline_what_held_it_up() {
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    let (begun, seen) = refused(&mut bench, Refusal::Unreachable);
    assert_eq!(begun[..8], [0, 10, 20, 30, 50, 90, 170, 270], "then every 100 ms");
    assert!(begun.len() < 25 && begun[begun.len() - 1] > 970, "{begun:?}");
    assert_eq!(seen, [Free, Fail("asker", AskError::Refused(Refusal::Unreachable))]);
    bench.ended();

    // One that may have been handled is not called refused.
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.link_lost(0, AskError::LinkLost, at(0), &mut bench.out);
    let (_, seen) = refused(&mut bench, Refusal::Unreachable);
    assert_eq!(seen, [Free, Fail("asker", AskError::Timeout)]);
    bench.ended();
}

#[test]
fn what_rests_tries_again_when_something_has_changed() {
    let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.hurry(at(1), &mut bench.out);
    assert_eq!(bench.seen(), [], "one attempt at a time");
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 2), []);
    bench.asks.hurry(at(3), &mut bench.out);
    assert_eq!(bench.seen(), [Send('b')]);
    assert_eq!(bench.expire(500), [], "not a second time");
    assert_eq!(bench.replied(1), (Some("asker"), vec![Free]));
    bench.ended();
    // A tail is chopped at its pace.
    let (mut bench, _) = Bench::with(Plan::tail_chopping(vec!['a', 'b'], PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.hurry(at(1), &mut bench.out);
    assert_eq!(bench.seen(), []);
}

#[test]
fn a_retry_with_nobody_else_to_ask_ends_when_that_one_is_gone() {
    let stopped = AskError::Refused(Refusal::Stopped);
    let with = |plan| {
        let (mut bench, _) = Bench::with(plan);
        assert_eq!(bench.seen(), [Send('a')]);
        bench
    };
    let mut bench = with(Plan::persist('a', PAUSE));
    bench.asks.not_sent(bench.attempts[0], Refusal::Stopped, at(1), &mut bench.out);
    assert_eq!(bench.seen(), [Free, Fail("asker", stopped)]);
    bench.ended();
    let mut bench = with(Plan::persist('a', PAUSE));
    let unknown = DeathReason::UnknownHandler;
    assert_eq!(bench.failed(0, unknown, 1), [Free, Fail("asker", AskError::Dead(unknown))]);
    bench.ended();
    // It may have been handled before.
    let mut bench = with(Plan::persist('a', PAUSE));
    bench.asks.link_lost(0, AskError::LinkLost, at(1), &mut bench.out);
    assert_eq!((bench.seen(), bench.expire(11)), (vec![], vec![Send('a')]));
    bench.asks.not_sent(bench.attempts[1], Refusal::Stopped, at(11), &mut bench.out);
    assert_eq!(bench.seen(), [Free, Fail("asker", AskError::LinkLost)]);
    bench.ended();
    // With another one to ask that says nothing.
    let mut bench = with(Plan::retry('a', 'b', PAUSE));
    bench.asks.not_sent(bench.attempts[0], Refusal::Stopped, at(1), &mut bench.out);
    assert_eq!((bench.seen(), bench.expire(11)), (vec![], vec![Send('b')]));
}

#[test]
fn the_first_reply_of_several_counts_and_the_others_are_given_up() {
    let (mut bench, _) = Bench::with(Plan::first_of(vec!['a', 'b', 'c']));
    assert_eq!(bench.seen(), [Send('a'), Send('b'), Send('c')]);
    assert_eq!(bench.failed(0, DeathReason::HandlerPanicked, 1), []);
    assert_eq!(bench.replied(1), (Some("asker"), vec![Free]));
    assert_eq!(bench.replied(2), (None, vec![]), "too late");
    bench.ended();
}

#[test]
fn several_fail_when_the_last_has_failed() {
    let (mut bench, _) = Bench::with(Plan::first_of(vec!['a', 'b']));
    assert_eq!(bench.seen(), [Send('a'), Send('b')]);
    assert_eq!(bench.failed(1, DeathReason::NoReply, 1), []);
    let panicked = AskError::Dead(DeathReason::HandlerPanicked);
    let ended = [Free, Fail("asker", panicked)];
    assert_eq!(bench.failed(0, DeathReason::HandlerPanicked, 2), ended);
    bench.ended();
}

#[test]
fn a_tail_is_chopped_after_each_pause_and_at_once_after_a_failure() {
    let (mut bench, ask) = Bench::with(Plan::tail_chopping(vec!['a', 'b', 'c', 'd'], PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    assert_eq!(bench.asks.next_deadline(), Some(at(10)));
    assert_eq!(bench.expire(10), [Send('b')]);
    assert_eq!(bench.failed(1, DeathReason::NoReply, 14), [Send('c')]);
    assert_eq!(bench.expire(23), [], "the pause began anew");
    assert_eq!(bench.expire(24), [Send('d')]);
    assert_eq!(bench.expire(500), [], "each is tried once");
    assert_eq!(bench.replied(0), (Some("asker"), vec![Free]), "the first may still be first");
    assert_eq!(bench.asks.waiter(ask), None);
    bench.ended();
}

#[test]
fn a_target_that_refuses_is_passed_over_at_once() {
    let (mut bench, _) = Bench::with(Plan::tail_chopping(vec!['a', 'b'], PAUSE));
    let Some(Effect::Send { attempt, .. }) = bench.out.pop_front() else { panic!("sent first") };
    bench.asks.not_sent(attempt, Refusal::Unreachable, at(0), &mut bench.out);
    assert_eq!(bench.seen(), [Send('b')]);
    let stopped = AskError::Dead(DeathReason::Stopped);
    bench.asks.end_all(stopped, &mut bench.out);
    assert_eq!(bench.seen(), [Free, Fail("asker", stopped)]);
    bench.ended();
}

#[test]
fn a_cancelled_plan_tells_nobody() {
    let (mut bench, ask) = Bench::with(Plan::tail_chopping(vec!['a', 'b'], PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    assert_eq!(bench.asks.find(|waiter| *waiter == "asker"), [ask]);
    assert_eq!(bench.asks.cancel(bench.attempts[0], &mut bench.out), None, "no ask's number");
    assert_eq!(bench.asks.cancel(ask, &mut bench.out), Some("asker"));
    assert_eq!(bench.seen(), [Free]);
    assert_eq!(bench.replied(0), (None, vec![]));
    bench.ended();
}

#[test]
fn frames_that_are_kept_take_so_many_bytes() {
    let mut bench = Bench::new(16);
    let retry = || Plan::retry('a', 'b', PAUSE);
    let first = bench.start("first", retry()).unwrap();
    let more = (0..8).filter(|_| bench.start("asker", retry()).is_some()).count();
    assert_eq!(more, 3, "four of 64 bytes");
    assert_eq!(bench.asks.kept_bytes(), (256, 256));
    bench.asks.cancel(first, &mut bench.out);
    assert_eq!(bench.asks.kept_bytes(), (192, 192));
    assert!(bench.start("asker", retry()).is_some());
    bench.asks.end_all(AskError::LinkLost, &mut bench.out);
    assert_eq!(bench.asks.kept_bytes(), (0, 0));

    // One that is longer than all is kept where no other is.
    let mut bench = Bench::new(16);
    let long = |bench: &mut Bench| {
        let of = ("asker", retry(), Chunk::with_capacity(1_024));
        bench.asks.start(of, at(1000), at(0), &mut bench.out).is_ok()
    };
    assert!(long(&mut bench) && !long(&mut bench));
}

#[test]
fn an_ask_that_is_postponed_goes_on_until_its_later_deadline() {
    let (mut bench, ask) = Bench::with(Plan::retry('a', 'b', PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.postpone(ask, Duration::from_millis(500));
    assert_eq!(bench.asks.left(ask, at(1000)), Some(Duration::from_millis(500)));
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 1200), []);
    assert_eq!(bench.expire(1210), [Send('b')]);
    assert_eq!(bench.expire(1499), []);
    assert_eq!(bench.expire(1500), [Free, Fail("asker", AskError::Timeout)]);
    bench.ended();
}

#[test]
fn an_ask_that_has_failed_keeps_its_place_until_that_is_told() {
    let mut bench = Bench::new(2);
    bench.asks.hold_untold(1);
    assert!(bench.asks.open("first", 1, at(9)).is_ok() && bench.asks.is_full());
    assert_eq!(bench.asks.open("second", 1, at(9)), Err("second"));
    bench.asks.hold_untold(0);
    assert!(bench.asks.open("second", 1, at(9)).is_ok() && bench.asks.is_full());
}

#[test]
fn on_a_node_that_stops_no_tail_is_chopped_for_a_failure() {
    let (mut bench, _) = Bench::with(Plan::tail_chopping(vec!['a', 'b'], PAUSE));
    assert_eq!(bench.seen(), [Send('a')]);
    bench.asks.close_down();
    let unreachable = AskError::Dead(DeathReason::Unreachable);
    let ended = [Free, Fail("asker", unreachable)];
    assert_eq!(bench.failed(0, DeathReason::Unreachable, 1), ended);
    bench.ended();
}

/// How attempts may end.
const ENDS: [AskError; 9] = [
    AskError::Refused(Refusal::Unreachable),
    AskError::Refused(Refusal::Stopped),
    AskError::Dead(DeathReason::Unreachable),
    AskError::Dead(DeathReason::UnknownHandler),
    AskError::Dead(DeathReason::Stopped),
    AskError::Dead(DeathReason::Overflow),
    AskError::Dead(DeathReason::HandlerPanicked),
    AskError::Dead(DeathReason::NoReply),
    AskError::LinkLost,
];

/// Whether whoever is told this would think that nobody handled the message to its end.
fn denies(word: AskError) -> bool {
    match word {
        AskError::Refused(_) => true,
        AskError::Dead(reason) => match reason {
            DeathReason::UnknownHandler
            | DeathReason::UnknownMessage
            | DeathReason::InvalidBody
            | DeathReason::HandlerPanicked
            | DeathReason::Unreachable
            | DeathReason::Expired
            | DeathReason::Stopped
            | DeathReason::Overflow
            | DeathReason::Other
            | DeathReason::TooLarge => true,
            DeathReason::NoReply | DeathReason::ReplyTooLarge | DeathReason::RepliesFull => false,
        },
        AskError::Timeout | AskError::LinkLost | AskError::InvalidReply => false,
    }
}

fn denies_all(word: AskError) -> bool {
    denies(word) && word != AskError::Dead(DeathReason::HandlerPanicked)
}

/// Ends attempts as they begin, in this order, each under way until all that begin with it have
/// begun; then the node stops. Gives what the asker was told, and the ends that there were.
fn ended_by(plan: Plan<char>, ends: &[AskError], closes_at: usize) -> (AskError, Vec<AskError>) {
    let (mut bench, _) = Bench::with(plan);
    let (mut was, mut ms) = (Vec::new(), 0);
    let told = |seen: Vec<Seen>| {
        seen.into_iter().find_map(|it| if let Fail(_, error) = it { Some(error) } else { None })
    };
    for (index, end) in ends.iter().enumerate() {
        if index == closes_at {
            bench.asks.close_down();
        }
        // Whatever rests or pauses begins.
        while was.len() == bench.attempts.len() {
            if let Some(word) = told(bench.seen()) {
                return (word, was);
            }
            if was.len() < bench.attempts.len() {
                break;
            }
            ms += 1;
            bench.asks.expire(at(ms), &mut bench.out);
        }
        let (attempt, link, now) = (bench.attempts[was.len()], was.len() as u32, at(ms));
        was.push(*end);
        match *end {
            AskError::Refused(refusal) => {
                bench.asks.not_sent(attempt, refusal, now, &mut bench.out);
            }
            AskError::Dead(reason) => {
                bench.asks.failed(attempt, link, reason, now, &mut bench.out);
            }
            lost => bench.asks.link_lost(link, lost, now, &mut bench.out),
        }
        if let Some(word) = told(bench.seen()) {
            return (word, was);
        }
    }
    let open = bench.attempts.len() - was.len();
    for link in was.len()..bench.attempts.len() {
        was.push(AskError::LinkLost);
        bench.asks.link_lost(link as u32, AskError::LinkLost, at(ms), &mut bench.out);
    }
    let word = told(bench.seen());
    bench.asks.end_all(AskError::Dead(DeathReason::Stopped), &mut bench.out);
    let word = word.or_else(|| told(bench.seen())).expect("it has an end");
    assert!(open == 0 || word == AskError::LinkLost, "{word:?} after {was:?}");
    (word, was)
}

#[test]
fn no_last_word_denies_what_an_earlier_attempt_may_have_done() {
    let plans = [
        Plan::retry('a', 'b', PAUSE),
        Plan::persist('a', PAUSE),
        Plan::first_of(vec!['a', 'b', 'c']),
        Plan::tail_chopping(vec!['a', 'b', 'c'], PAUSE),
    ];
    let mut several = 0;
    for plan in plans {
        for number in 0..ENDS.len().pow(3) * 4 {
            let (ends, closes_at) = (number / 4, number % 4);
            let ends = [ends % 9, ends / 9 % 9, ends / 81].map(|end| ENDS[end]);
            let (word, was) = ended_by(plan.clone(), &ends, closes_at);
            several += usize::from(was.len() > 1);
            let lost = was.contains(&AskError::LinkLost);
            assert!(!lost || !denies(word), "{word:?} after {was:?} of {plan:?}");
            let had_it = |end: &AskError| !denies_all(*end);
            assert!(!was.iter().any(had_it) || !denies_all(word), "{word:?} after {was:?}");
            // Nor does it doubt what is known.
            let known = was.iter().all(|end| denies_all(*end));
            assert!(!known || denies_all(word), "{word:?} after {was:?}");
        }
    }
    assert!(several > 1_000);
}

#[test]
fn an_ask_whose_router_has_ended_ends_with_what_was_known_of_it() {
    for (before, word) in [
        (AskError::LinkLost, AskError::LinkLost),
        (AskError::Dead(DeathReason::Unreachable), AskError::Dead(DeathReason::Unreachable)),
    ] {
        let (mut bench, _) = Bench::with(Plan::retry('a', 'b', PAUSE));
        assert_eq!(bench.seen(), [Send('a')]);
        bench.asks.link_lost(0, before, at(1), &mut bench.out);
        assert_eq!(bench.expire(11), [Send('b')]);
        bench.asks.nowhere_left(bench.attempts[1], &mut bench.out);
        assert_eq!(bench.seen(), [Free, Fail("asker", word)]);
        bench.ended();
    }
}
