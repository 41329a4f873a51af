//! How asks with a plan are counted.

use std::time::Instant;

use super::*;
use crate::ask::Plan;
use crate::queue::Ticket;

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

fn place(to: usize) -> Place {
    Place { destination: destination(to), handler: ECHO }
}

/// Three sides, with links from the first to both others.
fn linked() -> Net {
    let mut net = Net::joined(3);
    net.cx(0, |cx| cx.tell_to(&reference(2), &ping(1_000))).unwrap();
    assert_eq!(net.effects(0), [Effect::Dial(2)]);
    net.open(0, 2);
    net.settle();
    net
}

/// Hands an ask over that both others are asked by, as the plan says.
fn hand_over(net: &mut Net, plan: impl FnOnce(Vec<Target>) -> Plan<Target>) -> Ticket<AppReply> {
    let plan = plan([1, 2].map(|to| Target::Place(place(to))).to_vec());
    let ticket = net.sides[0].replies.acquire().unwrap();
    let ask = InjectedAsk {
        first: place(1),
        frame: net.sides[0].encoded(FrameKind::Ask, &doing(1, LATER)),
        slot: ticket.slot(),
        generation: ticket.generation(),
        deadline: net.now.plus(WITHIN),
        plan: Some(Box::new(plan)),
    };
    net.sides[0].worker.inject(Injection::Ask(ask));
    ticket
}

/// The routee of this side replies to the one ask that it has.
fn reply_from(net: &mut Net, side: usize, reply: u64) {
    let repliers = net.seen(side, |seen| std::mem::take(&mut seen.repliers));
    assert_eq!(repliers.len(), 1, "side {side} was asked once");
    repliers.into_iter().for_each(|replier| replier.reply(&reply).unwrap());
    net.settle();
}

/// Two are asked; one replies after the other.
fn the_first_counts_and_the_other_is_late(
    net: &mut Net,
    ticket: Ticket<AppReply>,
    before: &Counts,
) {
    reply_from(net, 2, 7);
    reply_from(net, 1, 8);
    assert_eq!(number(ticket.wait()), Ok(7), "the first reply counts");
    let counts = net.counts(0);
    assert_eq!((counts.sent - before.sent, counts.delivered - before.delivered), (2, 2));
    assert_eq!((counts.asks, counts.replies, counts.failed_asks), (1, 1, 0));
    assert_eq!((counts.late_replies, counts.in_flight()), (1, 0));
    assert!(net.sides[0].worker.core.asks.is_empty());
}

#[test]
fn of_two_that_are_asked_together_one_is_heard_and_the_other_replies_late() {
    let mut net = linked();
    let before = net.counts(0);
    let ticket = hand_over(&mut net, Plan::first_of);
    net.settle();
    the_first_counts_and_the_other_is_late(&mut net, ticket, &before);
}

#[test]
fn who_does_not_reply_within_the_pause_is_passed_over_and_its_reply_comes_late() {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut net = linked();
    let before = net.counts(0);
    let asked = |net: &mut Net| [1, 2].map(|side| net.seen(side, |seen| seen.repliers.len()));
    let ticket = hand_over(&mut net, |targets| Plan::tail_chopping(targets, PAUSE));
    net.settle();
    assert_eq!(asked(&mut net), [1, 0], "the second has to wait");
    net.pass(PAUSE.as_millis() as u64);
    net.settle();
    assert_eq!(asked(&mut net), [1, 1], "the first is still asked");
    the_first_counts_and_the_other_is_late(&mut net, ticket, &before);
}

#[test]
fn who_replies_within_the_pause_is_the_only_one_that_is_asked() {
    let mut net = linked();
    let before = net.counts(0).sent;
    let pause = WITHIN / 2;
    let ticket = hand_over(&mut net, |targets| Plan::tail_chopping(targets, pause));
    net.settle();
    reply_from(&mut net, 1, 8);
    net.pass(pause.as_millis() as u64);
    net.settle();
    assert_eq!(number(ticket.wait()), Ok(8));
    assert_eq!(net.seen(2, |seen| seen.repliers.len()), 0);
    assert_eq!((net.counts(0).sent - before, net.counts(0).late_replies), (1, 0));
    assert!(net.sides[0].worker.core.asks.is_empty());
}

/// How long it takes at the best of several times. A busy machine leaves one of them alone.
fn best(net: &mut Net, mut once: impl FnMut(&mut Net, u64) -> Duration) -> Duration {
    let times = (0..50).map(|key| once(net, key));
    times.min().expect("there are some")
}

/// To take the reply to an ask of a routee in.
fn reply_takes(net: &mut Net, key: u64) -> Duration {
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(key), WITHIN, key)).unwrap();
    net.write(0, net.wires[0].dialed, usize::MAX);
    net.read(0, false, usize::MAX).unwrap();
    net.write(1, net.wires[0].accepted, usize::MAX);
    let began = Instant::now();
    net.read(0, true, usize::MAX).unwrap();
    let took = began.elapsed();
    assert_eq!(net.outcomes(0), [(key, Ok(key + 1))]);
    took
}

/// To take an idempotent ask of another thread in, for a node that cannot be reached.
fn hand_over_takes(net: &mut Net, key: u64) -> Duration {
    let deadline = net.now.plus(WITHIN);
    let began = Instant::now();
    drop(net.sides[0].inject_ask(2, &ping(key), deadline, true));
    began.elapsed()
}

#[test]
fn asks_that_rest_cost_nothing_where_others_are_handed_over_and_replied_to() {
    const RESTING: usize = 4_000;
    let limits = Limits { max_asks: 2 * RESTING, retry_bytes: 64 << 20, ..LIMITS };
    let mut net = Net::joined_with_limits(3, limits);
    net.reach[2] = Reach::Unreachable;
    net.apply(0);
    let (reply, hand_over) = (best(&mut net, reply_takes), best(&mut net, hand_over_takes));
    let resting = |net: &Net| net.sides[0].worker.core.handed_over.len();
    for key in resting(&net)..RESTING {
        hand_over_takes(&mut net, key as u64);
    }
    assert_eq!(resting(&net), RESTING);
    let (crowded, handed_over) = (best(&mut net, reply_takes), best(&mut net, hand_over_takes));
    assert!(crowded < 5 * reply, "a reply took {reply:?}, and among many {crowded:?}");
    assert!(handed_over < 5 * hand_over, "it took {hand_over:?}, and among many {handed_over:?}");
    // Each of them has its one end, when nobody is left.
    let waits = resting(&net) as u64;
    let before = net.counts(0);
    net.reach = vec![Reach::Gone; 3];
    net.apply(0);
    net.check(0);
    net.pass(WITHIN.as_millis() as u64);
    net.check(0);
    let counts = net.counts(0);
    assert_eq!((resting(&net), counts.dead_total()), (0, before.dead_total() + waits));
    assert_eq!((counts.sent, counts.in_flight()), (before.sent, 0), "{counts:?}");
}

#[test]
fn an_ask_that_rests_is_dead_as_soon_as_it_is_called_off() {
    let mut net = Net::joined(3);
    net.reach[2] = Reach::Unreachable;
    net.apply(0);
    let before = net.counts(0);
    let deadline = net.now.plus(WITHIN);
    let tickets = [0, 1].map(|key| net.sides[0].inject_ask(2, &ping(key), deadline, true));
    let (slot, generation) = (tickets[0].slot(), tickets[0].generation());
    net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    net.check(0);
    let counts = net.counts(0);
    assert_eq!((counts.dead_total(), counts.in_flight()), (before.dead_total() + 1, 1));
    // The other one has a link at last, and is no second message.
    net.reach[2] = Reach::Usable;
    net.apply(0);
    let counts = net.counts(0);
    assert_eq!((counts.sent, counts.dead_total()), (before.sent + 2, before.dead_total() + 1));
    assert_eq!(net.sides[0].worker.core.handed_over.len(), 0);
}
