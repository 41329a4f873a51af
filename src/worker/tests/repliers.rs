//! Replies that come later, and find the queue of the worker full that is to send them.

use super::*;
use crate::worker::inject::ReplyTo;

/// The repliers of so many asks, while nothing more fits into the queue of their worker.
fn crowded(asks: u64) -> (Net, Vec<Replier<u64>>) {
    let mut net = Net::joined(2);
    for key in 0..asks {
        let later = doing(key, LATER);
        net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &later, WITHIN, key)).unwrap();
    }
    net.settle();
    let repliers = net.seen(1, |seen| std::mem::take(&mut seen.repliers));
    let injector = &net.sides[1].worker.core.injector;
    while injector.push(Injection::Cancel { slot: 0, generation: u32::MAX }).is_ok() {}
    (net, repliers)
}

#[test]
fn an_asker_whose_reply_found_no_room_is_told_at_once() {
    let (mut net, mut repliers) = crowded(2);
    drop(repliers.pop());
    assert_eq!(repliers.remove(0).reply(&7), Err(Refusal::QueueFull));
    let worker = &mut net.sides[1].worker;
    assert!(worker.has_unsaid() && !worker.is_drained());
    net.settle();
    let dead = |reason| Err(AskError::Dead(reason));
    let outcomes = net.outcomes(0);
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.contains(&(0, dead(DeathReason::RepliesFull))), "{outcomes:?}");
    assert!(outcomes.contains(&(1, dead(DeathReason::NoReply))), "{outcomes:?}");
    assert_eq!(net.counts(1).lost_replies, 1, "the other one made none");
    assert!(!net.sides[1].worker.has_unsaid());
}

#[test]
fn a_reply_that_found_no_room_can_be_tried_again() {
    let (mut net, mut repliers) = crowded(1);
    let mut replier = repliers.remove(0);
    assert_eq!(replier.try_reply(&7), Err(Refusal::QueueFull));
    net.settle();
    assert_eq!(net.outcomes(0), [], "it is still open");
    assert_eq!(replier.try_reply(&7), Ok(()));
    assert_eq!(replier.reply(&8), Ok(()), "nobody waits any more");
    net.settle();
    assert_eq!(net.outcomes(0), [(0, Ok(7))]);
    assert_eq!((net.counts(0).late_replies, net.counts(1).lost_replies), (0, 0));
}

#[test]
fn a_reply_behind_one_that_was_refused_is_refused_as_well() {
    let mut net = Net::joined(2);
    let correlation = net.sides[0].worker.core.asks.next();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &doing(0, LATER), WITHIN, 0)).unwrap();
    net.settle();
    // In the place of the one that the handler was given, whose replies have all one size.
    let given = net.seen(1, |seen| std::mem::take(&mut seen.repliers));
    let replier = |net: &Net, to| {
        let Side { worker, buffers, .. } = &net.sides[1];
        let (injector, open) = (worker.core.injector.clone(), worker.core.repliers.holder());
        Replier::<String>::new(to, injector, Arc::clone(buffers), open)
    };
    let to = Some(ReplyTo { link: net.wires[0].accepted, correlation });
    let (small, large) = ("small".to_owned(), "x".repeat(2 * LIMITS.max_frame_bytes as usize));

    let mut refused = replier(&net, to);
    assert_eq!(refused.try_reply(&large), Err(Refusal::TooLarge));
    assert_eq!(refused.try_reply(&small), Err(Refusal::TooLarge), "it goes nowhere");
    net.settle();
    assert_eq!(net.outcomes(0), [(0, Err(AskError::Dead(DeathReason::ReplyTooLarge)))]);
    assert_eq!(refused.reply(&small), Err(Refusal::TooLarge));

    let mut stopped = replier(&net, to);
    net.sides[1].injected.close(|_| {});
    for _ in 0..2 {
        assert_eq!(stopped.try_reply(&small), Err(Refusal::Stopped));
    }
    assert_eq!(replier(&net, None).try_reply(&small), Ok(()), "nobody waits for that of a tell");
    drop(given);
}
