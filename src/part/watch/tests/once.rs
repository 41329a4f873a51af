//! What is said to a peer is said once on a link, and takes one place there.

use super::*;

/// A link that is blocked for minutes would fill with what is said again.
#[test]
fn a_watch_is_asked_for_once_on_a_link_and_again_when_that_was_dropped() {
    let b = node("b", 1);
    let mut half = Half::new(8);
    half.told(&members(&[b], &[]));
    let asked = || Seen::Send(To::Peer(b, W0), op_watch(1, 0));
    let begun = half.watch(ME, carts_on(b));
    assert_eq!(begun, [Seen::Count(BEGUN, 1), asked(), Seen::After(RETRY, 0)]);
    // The link has taken it, and brings no answer.
    assert_eq!(half.timer(0), []);
    assert_eq!(half.link(dialed(5, b), LinkChange::Closed), [Seen::After(RETRY, 0)]);
    for _ in 0..3 {
        assert_eq!(half.timer(0), [asked(), Seen::After(RETRY, 0)]);
        assert_eq!(half.crowded_out(b, op_watch(1, 0)), [], "the timer runs");
    }
    assert_eq!(half.timer(0), [asked(), Seen::After(RETRY, 0)]);
    assert_eq!(half.cut_off(b, op_watch(1, 0)), []);
    assert_eq!(half.timer(0), [asked(), Seen::After(RETRY, 0)]);
    for _ in 0..10 {
        assert_eq!(half.timer(0), [], "no more until it is answered");
    }
    assert_eq!(half.crowded_out(b, op_watch(1, 0)), [Seen::After(RETRY, 0)], "late");
    assert_eq!(half.timer(0), [asked(), Seen::After(RETRY, 0)]);
    assert_eq!(half.frame(dialed(6, b), watching_op(1, 4)), []);
    assert_eq!(half.timer(0), []);
}

#[test]
fn both_sides_keep_no_more_than_they_may() {
    let b = node("b", 1);
    let from = accepted(2, b);
    let mut half = Half::new(2);
    half.told(&members(&[b], &[]));
    half.routee(RouteeChange::Started);
    for id in [1, 2] {
        // What comes twice has one place, also when it is the last one.
        for _ in 0..2 {
            let kept = [Seen::Send(To::Link(from), watching_op(id, 1))];
            assert_eq!(half.frame(from, op_watch(id, 0)), kept);
        }
        half.watch(Watcher::Application(id), Target::Node(b));
    }
    let many = GoneReason::TooManyWatches;
    // Who watches already gives its own place another target.
    let admits = |half: &Half, id: u64| half.worker.admit(Watcher::Application(id), 0).is_ok();
    assert_eq!([admits(&half, 1), admits(&half, 3)], [true, false]);
    assert_eq!(
        half.frame(from, op_watch(3, 0)),
        [Seen::Send(To::Link(from), Op::Gone { id: 3, reason: many as u32 })]
    );
    assert_eq!(
        half.watch(Watcher::Application(3), Target::Node(b)),
        [Seen::Count(REFUSED, 1), Seen::Report(Report::Gone { token: 3, reason: many })]
    );
    half.link(from, LinkChange::Closed);
    assert_eq!(
        half.frame(accepted(4, b), op_watch(3, 0)),
        [Seen::Send(To::Link(accepted(4, b)), watching_op(3, 1))],
        "the places of a lost link are free again"
    );
}
