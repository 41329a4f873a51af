//! How asks with a plan are counted.

use super::*;

#[test]
fn an_ask_that_was_counted_as_sent_when_it_was_handed_over_is_not_counted_again_or_taken_back() {
    let mut net = Net::joined(2);
    let deadline = net.now.plus(WITHIN);
    let sent = |net: &Net| (net.counts(0).sent, net.counts(0).dead_total());
    let (before, _) = sent(&net);
    let ticket = net.sides[0].inject_ask(1, &ping(41), deadline, true);
    let once = (before + 1, 0);
    assert_eq!(sent(&net), once, "its first attempt is the message that was handed over");
    net.settle();
    assert_eq!((number(ticket.wait()), sent(&net)), (Ok(42), once));
    // Nobody is there: what was handed over, as an observer has seen, waits and is dead at last.
    net.reach = vec![Reach::Gone; 2];
    net.apply(0);
    let before = sent(&net);
    let ticket = net.sides[0].inject_ask(1, &ping(43), net.now.plus(WITHIN), true);
    assert_eq!(net.counts(0).sent, before.0 + 1);
    for _ in 0..600 {
        net.pass(1);
        assert_eq!(net.counts(0).sent, before.0 + 1);
    }
    assert!(number(ticket.wait()).is_err());
    assert_eq!(sent(&net), (before.0 + 1, before.1 + 1));
    assert_eq!(net.counts(0).in_flight(), 0);
}
