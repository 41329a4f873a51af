//! A worker is drained when nothing is left for it to do, of whatever kind.

use super::*;

#[test]
fn whoever_may_still_reply_later_keeps_a_worker_from_being_drained() {
    let mut net = Net::new(1);
    assert!(net.sides[0].worker.is_drained());
    // Nobody waits for it, so that nothing else is open.
    net.cx(0, |cx| cx.tell_to(&reference(0), &doing(1, LATER))).unwrap();
    net.settle();
    assert!(net.sides[0].worker.core.asks.is_empty());
    assert!(!net.sides[0].worker.is_drained());
    net.seen(0, |seen| seen.repliers.clear());
    assert!(net.sides[0].worker.is_drained());
}

#[test]
fn what_waits_for_a_snapshot_keeps_a_worker_from_being_drained() {
    let mut net = Net::new(1);
    let frames = net.sides[0].encoded(FrameKind::Tell, &ping(2));
    net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    assert!(net.sides[0].worker.is_holding());
    assert!(!net.sides[0].worker.is_drained());
}

#[test]
fn what_ended_before_its_snapshot_came_keeps_no_worker_from_being_drained() {
    let mut net = Net::new(1);
    let ticket = net.sides[0].inject_ask(1, &ping(1), net.now.plus(WITHIN), false);
    net.settle();
    assert!(!net.sides[0].worker.is_drained());
    net.pass(WITHIN.as_millis() as u64 + 1);
    assert!(number(ticket.wait()).is_err());
    assert!(net.sides[0].worker.is_holding(), "it stays known that there is no way to there");
    assert_eq!(net.sides[0].worker.undrained(), None);
}

#[test]
fn an_ask_that_rests_between_two_attempts_keeps_a_worker_from_being_drained() {
    let mut net = Net::new(2);
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    let ticket = net.sides[0].inject_ask(1, &ping(1), net.now.plus(WITHIN), true);
    assert!(!net.sides[0].worker.is_drained());
    net.settle();
    assert_eq!(number(ticket.wait()), Ok(2), "it went to this node itself");
    assert!(net.sides[0].worker.is_drained());
}

#[test]
fn each_message_that_is_not_acknowledged_keeps_a_worker_from_being_drained() {
    let mut net = Net::joined(2);
    for count in 1..=3 {
        assert!(net.sides[0].worker.is_drained());
        for key in 0..count {
            net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
        }
        // No time passes, so that all is handled there and nothing is acknowledged yet.
        while net.turn() {}
        assert_eq!(net.seen(1, |seen| std::mem::take(&mut seen.keys)).len(), count as usize);
        assert_eq!(net.counts(0).in_flight(), count);
        assert!(!net.sides[0].worker.is_drained(), "{count} may still be lost");
        net.settle();
    }
}

#[test]
fn a_leaver_tries_no_ask_anew() {
    let mut net = Net::joined(2);
    let ticket = net.sides[0].inject_ask(1, &doing(1, LATER), net.now.plus(WITHIN), true);
    net.settle();
    net.sides[0].worker.finish_all();
    net.cut(0);
    net.settle();
    net.pass(WITHIN.as_millis() as u64 + 1);
    assert_eq!(number(ticket.wait()), Err(AskError::LinkLost));
}

#[test]
fn a_leaver_that_has_said_goodbye_begins_no_link() {
    let mut net = Net::joined(3);
    net.sides[0].worker.finish_all();
    net.settle();
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(2), &ping(1))), Err(Refusal::Stopped));
    assert_eq!(net.effects(0), [], "nothing is dialed");
}
