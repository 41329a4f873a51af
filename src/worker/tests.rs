//! Workers without threads. After every step each message must stand in exactly one place.

use std::sync::Arc;
use std::time::Duration;

use rkyv::ser::allocator::Arena;

use super::linking::PARTING;
use super::outbox::Outbox;
use super::testnet::*;
use super::*;
use crate::Message;
use crate::base::MessageTypeId;
use crate::base::fate::Refusal;
use crate::route::snapshot::Reach;
use crate::wire::{CHUNK_BYTES, Fields, FrameKind, WireError, encode, encode_empty};

mod abandoned;
mod asks;
mod dialing;
mod drained;
mod given_up;
mod kinds;
mod limits;
mod notices;
mod parting;
mod planned;
mod repliers;
mod routers;
mod too_large;
mod works;

// ---- the way of a message ----

#[test]
fn the_first_tell_dials_and_arrives_when_the_link_opens() {
    let mut net = Net::new(2);
    for key in 0..3 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
    }
    assert_eq!(net.effects(0), [Effect::Dial(1)], "dialed once, on demand");
    net.settle();
    assert_eq!(net.counts(0).in_flight(), 3, "nothing moves before the link opens");
    net.open(0, 1);
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [0, 1, 2]);
    let (here, there) = (net.counts(0), net.counts(1));
    assert_eq!((here.sent, here.delivered, there.received), (3, 3, 3));
    assert_eq!((net.effects(0), net.effects(1)), (vec![], vec![]));
}

#[test]
fn tells_in_random_pieces_arrive_once_and_in_order() {
    for seed in 1..30 {
        let mut net = Net::joined(2);
        net.random = seed;
        let mut accepted = Vec::new();
        for key in 0..300 {
            let filler = vec![7; net.random(700)];
            let message = Ping { key, what: REPLY, filler };
            match net.cx(0, |cx| cx.tell_to(&reference(1), &message)) {
                Ok(()) => accepted.push(key),
                Err(refusal) => assert_eq!(refusal, Refusal::QueueFull),
            }
            if key % 3 == 0 {
                net.turn();
            }
        }
        net.settle();
        assert!(accepted.len() > 100);
        assert_eq!(net.seen(1, |seen| seen.keys.clone()), accepted, "seed {seed}");
        assert_eq!(net.counts(0).in_flight(), 0);
        assert_eq!(net.counts(0).delivered, accepted.len() as u64 + 1);
    }
}

#[test]
fn a_message_to_itself_comes_in_the_next_cycle() {
    let mut net = Net::new(1);
    net.cx(0, |cx| cx.tell(ROUND_ROBIN, &ping(5))).unwrap();
    net.ask(0, KEYED, &ping(6), 1).unwrap();
    assert!(net.sides[0].worker.has_work());
    net.settle();
    assert_eq!(net.seen(0, |seen| seen.keys.clone()), [5, 6]);
    assert_eq!(net.outcomes(0), [(1, Ok(7))]);
    assert_eq!((net.counts(0).sent, net.counts(0).delivered), (2, 2));
    assert_eq!(net.effects(0), []);
}

#[test]
fn a_handler_finds_others_by_pattern() {
    let mut net = Net::joined(2);
    let all = net.cx(0, |cx| cx.identify(Pattern::new("/**").unwrap()));
    let told = net.cx(0, |cx| cx.tell_selected(Pattern::new("/**").unwrap(), &ping(1)));
    assert!(!all.is_empty() && told == Ok(all.len()), "{told:?} of {all:?}");
    let refused = net.cx(0, |cx| cx.tell_selected(Pattern::new("/nothing/*").unwrap(), &ping(1)));
    assert_eq!(refused, Err(Refusal::NoRoutee));

    // As an application is told, and by a router too.
    let mut joins = Net::new(1);
    joins.sides[0].worker.core.snapshot = None;
    let refused = joins.cx(0, |cx| cx.tell_selected(Pattern::new("/**").unwrap(), &ping(1)));
    assert_eq!(refused, Err(Refusal::Joining));
}

#[test]
fn asks_are_answered_each_with_its_own_reply() {
    let mut net = Net::joined(2);
    for key in 0..8 {
        net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(key), WITHIN, key + 100))
            .unwrap();
    }
    // The table is full: refused, and the handler is not called for it.
    assert_eq!(net.ask(0, ROUND_ROBIN, &ping(9), 1), Err(Refusal::TooManyAsks));
    net.settle();
    let mut outcomes = net.outcomes(0);
    outcomes.sort_by_key(|(token, _)| *token);
    let expected: Vec<_> = (0..8).map(|key| (key + 100, Ok(key + 1))).collect();
    assert_eq!(outcomes, expected);
    let counts = net.counts(0);
    assert_eq!((counts.asks, counts.replies, counts.failed_asks), (8, 8, 0));
    assert_eq!(counts.refused[Refusal::TooManyAsks as usize], 1);
}

#[test]
fn a_reply_can_come_later_or_never() {
    let mut net = Net::joined(2);
    let ask = |net: &mut Net, what| {
        let key = 10 * what;
        let side = &mut net.sides[0];
        let deadline = net.now.plus(WITHIN);
        side.inject_ask(1, &doing(key, what), deadline, false)
    };
    let later = ask(&mut net, LATER);
    let dropped = ask(&mut net, DROP);
    net.settle();
    assert_eq!(number(dropped.wait()), Err(AskError::Dead(DeathReason::NoReply)));
    // Both were handled: only the reply is missing.
    assert_eq!(net.counts(0).delivered, 3);
    let replier = net.seen(1, |seen| seen.repliers.pop().unwrap());
    replier.reply(&4321).unwrap();
    net.settle();
    assert_eq!(number(later.wait()), Ok(4321));
    let counts = net.counts(0);
    assert_eq!((counts.asks, counts.replies, counts.failed_asks), (2, 1, 1));
    assert_eq!(net.effects(1), []);
}

#[test]
fn a_replier_of_a_tell_or_a_lost_link_does_no_harm() {
    let mut net = Net::joined(2);
    net.cx(0, |cx| cx.tell_to(&reference(1), &doing(1, LATER))).unwrap();
    let deadline = net.now.plus(WITHIN);
    let lost = net.sides[0].inject_ask(1, &doing(2, LATER), deadline, false);
    net.settle();
    let [of_tell, of_ask] =
        net.seen(1, |seen| std::mem::take(&mut seen.repliers)).try_into().unwrap();
    of_tell.reply(&1).unwrap();
    net.cut(0);
    assert_eq!(number(lost.wait()), Err(AskError::LinkLost));
    assert_eq!(net.effects(0), [Effect::Dial(1), Effect::Suspect(1)]);
    assert_eq!(net.effects(1), [Effect::Suspect(0)]);
    net.open(0, 1);
    of_ask.reply(&2).unwrap();
    net.settle();
    assert_eq!(net.counts(1).lost_replies, 1, "its link is gone, the new one is another");
    assert_eq!(net.counts(0).late_replies, 0);
}

#[test]
fn a_broadcast_counts_a_message_per_routee() {
    let mut net = Net::new(3);
    net.cx(0, |cx| cx.tell(BROADCAST, &ping(1))).unwrap();
    net.cx(0, |cx| cx.broadcast(KEYED, &ping(2))).unwrap();
    let mut effects = net.effects(0);
    effects.sort_by_key(|effect| format!("{effect:?}"));
    assert_eq!(effects, [Effect::Dial(1), Effect::Dial(2)]);
    net.open(0, 1);
    net.open(0, 2);
    net.settle();
    for side in 0..3 {
        assert_eq!(net.seen(side, |seen| seen.keys.clone()), [1, 2], "side {side}");
    }
    assert_eq!((net.counts(0).sent, net.counts(0).delivered), (6, 6));
    assert_eq!(net.ask(0, BROADCAST, &ping(3), 1), Err(Refusal::NoSingleReply));
}

// ---- deadlines ----

#[test]
fn a_deadline_ends_an_ask_and_its_reply_is_counted_as_late() {
    let mut net = Net::joined(2);
    let deadline = net.now.plus(WITHIN);
    let tickets = [1, 1].map(|_| net.sides[0].inject_ask(1, &doing(1, LATER), deadline, false));
    net.settle();
    net.pass(1_000);
    let ended = tickets.map(|ticket| number(ticket.wait()));
    assert_eq!(ended, [Err(AskError::Timeout), Err(AskError::Timeout)]);
    let mut repliers = net.seen(1, |seen| std::mem::take(&mut seen.repliers));
    repliers.pop().unwrap().reply(&1).unwrap();
    drop(repliers);
    net.settle();
    let counts = net.counts(0);
    assert_eq!((counts.late_replies, counts.failed_asks, counts.replies), (1, 2, 0));
    assert_eq!(counts.delivered, 3, "they were handled all the same");

    // One that is too old when the worker finds it is not sent.
    let ticket = net.sides[0].inject_ask(1, &ping(2), net.now, false);
    assert_eq!(number(ticket.wait()), Err(AskError::Timeout));
    assert_eq!(net.counts(0).dead[DeathReason::Expired as usize], 1);
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1, 1]);
}

// ---- loss ----

#[test]
fn a_lost_link_makes_what_was_written_unknown_and_keeps_the_rest() {
    for written in [0, 1, 31, 32, 47, 48, 49, 95, 96, 100, 479, 480] {
        let mut net = Net::joined(2);
        for key in 0..10 {
            net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
        }
        let id = net.wires[0].dialed;
        let all = net.sides[0].worker.link(id).unwrap().outbox().bytes();
        let frame = all / 10;
        net.write(0, id, written);
        let touched = written.div_ceil(frame).min(10) as u64;
        net.cut(0);
        assert_eq!(net.counts(0).unknown, touched, "{written} bytes written");
        assert_eq!(net.counts(0).in_flight(), 10 - touched);
        assert_eq!(net.effects(0), [Effect::Dial(1), Effect::Suspect(1)], "re-dialed at once");
        net.open(0, 1);
        net.settle();
        let expected: Vec<u64> = (touched..10).collect();
        assert_eq!(net.seen(1, |seen| seen.keys.clone()), expected, "the rest, in order");
        assert_eq!((net.counts(0).in_flight(), net.counts(0).unknown), (0, touched));
    }
}

#[test]
fn what_was_acknowledged_before_a_loss_is_not_unknown() {
    let mut net = Net::joined(2);
    for key in 0..5 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
    }
    net.settle();
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(5))).unwrap();
    // Taken, but its acknowledgement is not back.
    net.turn();
    while !net.wires[0].there.is_empty() {
        let all = net.wires[0].there.len();
        net.read(0, false, all).unwrap();
    }
    net.cut(0);
    let (here, there) = (net.counts(0), net.counts(1));
    assert_eq!((here.delivered, here.unknown, there.received), (6, 1, 7));
}

#[test]
fn a_failed_dial_kills_what_waits_and_is_repeated_after_a_pause() {
    let mut net = Net::new(2);
    let ticket = net.sides[0].inject_ask(1, &ping(1), net.now.plus(WITHIN), false);
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(2))).unwrap();
    assert_eq!(net.effects(0), [Effect::Dial(1)]);
    net.sides[0].worker.dial_failed(destination(1));
    net.check(0);
    assert_eq!(net.effects(0), [Effect::Dead(DeathReason::Unreachable, 2, Some(1))]);
    assert_eq!(number(ticket.wait()), Err(AskError::Dead(DeathReason::Unreachable)));
    // It rests now. Unkeyed strategies go round it.
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(1), &ping(3))), Err(Refusal::Unreachable));
    for key in 0..4 {
        net.cx(0, |cx| cx.tell(ROUND_ROBIN, &ping(key))).unwrap();
    }
    net.settle();
    assert_eq!(net.counts(0).delivered, 4, "all went to itself");
    let mut pause = LIMITS.redial_min_ms;
    for _ in 0..4 {
        assert!(net.sides[0].worker.take_ways_changed());
        net.pass(pause + 2);
        assert!(net.sides[0].worker.take_ways_changed(), "others must see that it may go on");
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(4))).unwrap();
        assert_eq!(net.effects(0), [Effect::Dial(1)], "on demand again, after {pause} ms");
        net.sides[0].worker.dial_failed(destination(1));
        assert_eq!(net.effects(0).len(), 1);
        pause = (2 * pause).min(LIMITS.redial_max_ms);
        net.pass(pause - 10);
        let refused = net.cx(0, |cx| cx.tell_to(&reference(1), &ping(5)));
        assert_eq!(refused, Err(Refusal::Unreachable), "it rests for {pause} ms");
        net.pass(0);
        net.now = Time(net.now.0 - 1_000_000 * (pause - 10));
    }
}

#[test]
fn a_node_that_is_gone_takes_nothing_silently() {
    let mut net = Net::joined(2);
    net.ask(0, KEYED, &ping(0), TELLS_ON_FAILURE).unwrap();
    net.cx(0, |cx| {
        cx.ask_to::<Caller, _>(&reference(1), &doing(1, LATER), WITHIN, TELLS_ON_FAILURE)
    })
    .unwrap();
    net.settle();
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(2))).unwrap();
    net.outcomes(0);
    net.reach[1] = Reach::Gone;
    net.apply(0);
    net.check(0);
    net.pass(0);
    // It was written: the peer may have handled it.
    assert_eq!(net.outcomes(0), [(77, Err(AskError::LinkLost))]);
    let effects = net.effects(0);
    assert_eq!(effects[0], Effect::Dead(DeathReason::Unreachable, 1, Some(1)));
    assert!(effects.contains(&Effect::Close), "{effects:?}");
    net.settle();
    assert_eq!(net.counts(0).in_flight(), 0, "{:?}", net.counts(0));
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(1), &ping(3))), Err(Refusal::Stopped));
}

#[test]
fn what_was_meant_for_a_life_that_is_over_never_goes_to_whoever_has_its_number() {
    let mut net = Net::joined(3);
    let before = net.counts(0).delivered;
    for key in 0..40 {
        let message = Ping { key, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    assert!(net.sides[0].worker.is_holding());
    // Node 2's worker gets the slot of node 1's, which is gone.
    let old = destination(1);
    let heir = DestinationId::new(old.slot(), destination(9).serial());
    net.apply_with(0, [(0, destination(0)), (2, heir)]);
    let late = net.sides[0].encoded(FrameKind::Tell, &ping(77));
    net.sides[0].worker.inject(Injection::Frames { destination: old, frames: late });
    let ticket = net.sides[0].inject_ask(1, &ping(78), net.now.plus(WITHIN), false);
    assert_eq!(
        net.sides[0].worker.link_opened(old, None),
        None,
        "a connection that comes too late"
    );
    net.sides[0].worker.dial_failed(old);
    net.pass(1);
    assert!(!net.sides[0].worker.is_holding());
    assert_eq!(number(ticket.wait()), Err(AskError::Refused(Refusal::Stopped)));
    let gone: Vec<_> = net.sides[0].worker.take_gone().collect();
    assert_eq!(gone, [old, destination(2)], "threads are told");
    let counts = net.counts(0);
    assert_eq!((counts.delivered, counts.in_flight()), (before, 0), "{counts:?}");
    assert!(net.seen(2, |seen| seen.keys.is_empty()));
    // What is meant for the new one goes there.
    let frames = net.sides[0].encoded(FrameKind::Tell, &ping(79));
    net.sides[0].worker.inject(Injection::Frames { destination: heir, frames });
    assert!(net.effects(0).contains(&Effect::Dial(1)));
}

#[test]
fn stopping_leaves_nothing_uncounted() {
    let mut net = Net::joined(2);
    for key in 0..3 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
        net.cx(0, |cx| cx.tell_to(&reference(0), &ping(key))).unwrap();
    }
    net.ask(0, KEYED, &ping(0), TELLS_ON_FAILURE).unwrap();
    net.ask(0, ROUND_ROBIN, &ping(0), TELLS_ON_FAILURE).unwrap();
    net.ask(0, ROUND_ROBIN, &ping(0), TELLS_ON_FAILURE).unwrap();
    net.sides[0].worker.stop();
    net.check(0);
    let counts = net.counts(0);
    assert_eq!(counts.in_flight(), 0, "{counts:?}");
    assert_eq!(counts.failed_asks, 3);
    assert_eq!(counts.dead[DeathReason::Stopped as usize], 9, "{counts:?}");
    let under_way: usize =
        net.sides[0].worker.core.links.iter().map(|(_, link)| link.outbox.bytes()).sum();
    assert_eq!(under_way, 0, "what a handler sends at the very end is refused");
}

// ---- leaving ----

#[test]
fn a_farewell_drains_both_ends() {
    let mut net = Net::joined(2);
    for key in 0..5 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
    }
    assert!(!net.sides[0].worker.is_drained());
    assert!(!net.sides[1].worker.is_drained(), "a peer may still send");
    // Node 1 is known to leave: nothing new goes there, what is under way arrives.
    net.reach[1] = Reach::Leaving;
    net.apply(0);
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(1), &ping(9))), Err(Refusal::Stopped));
    // What another thread was told is accepted still goes; after the farewell nothing does.
    let late = net.sides[0].encoded(FrameKind::Tell, &ping(5));
    net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames: late });
    net.settle();
    assert!(!net.sides[0].worker.link(net.wires[0].dialed).unwrap().fin_queued);
    net.pass(PARTING.as_millis() as u64);
    net.settle();
    let late = net.sides[0].encoded(FrameKind::Tell, &ping(6));
    net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames: late });
    assert_eq!(net.effects(0), [Effect::Dead(DeathReason::Stopped, 1, Some(1))]);
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [0, 1, 2, 3, 4, 5]);
    assert!(net.sides[0].worker.is_drained());
    assert!(net.sides[1].worker.is_drained());
    assert_eq!(net.counts(0).in_flight(), 0);
    // Its connection ends, and nobody is surprised.
    net.cut(0);
    assert_eq!((net.effects(0), net.effects(1)), (vec![], vec![]));
    assert_eq!(net.counts(0).unknown, 0);
}

#[test]
fn a_leaver_says_goodbye_on_its_own_links() {
    let mut net = Net::joined(2);
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
    net.sides[0].worker.finish_all();
    net.settle();
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(1), &ping(2))), Err(Refusal::Stopped));
    assert!(net.sides[1].worker.is_drained());
    assert_eq!((net.counts(0).delivered, net.counts(1).received), (2, 2));
    net.cut(0);
    assert_eq!((net.effects(0), net.effects(1)), (vec![], vec![]), "nobody is suspected");
}

// ---- handlers that fail ----

#[test]
fn a_panicking_handler_is_started_anew_and_its_asker_told() {
    let mut net = Net::joined(2);
    let ticket = net.sides[0].inject_ask(1, &doing(1, PANIC), net.now.plus(WITHIN), false);
    net.cx(0, |cx| cx.tell_to(&reference(1), &doing(2, PANIC))).unwrap();
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(3))).unwrap();
    net.settle();
    assert_eq!(number(ticket.wait()), Err(AskError::Dead(DeathReason::HandlerPanicked)));
    assert_eq!(net.seen(1, |seen| (seen.keys.clone(), seen.starts)), (vec![1, 2, 3], 3));
    let (here, there) = (net.counts(0), net.counts(1));
    assert_eq!((here.delivered, here.dead_at_peer), (2, 2));
    assert_eq!(there.received_dead[DeathReason::HandlerPanicked as usize], 2);
    let letters: u64 = net
        .effects(1)
        .iter()
        .map(|effect| match effect {
            Effect::Dead(DeathReason::HandlerPanicked, count, Some(0)) => *count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(letters, 2);
    let [told] = &net.panics[..] else { panic!("{:?}", net.panics) };
    assert_eq!((&*told.path, &*told.at, &*told.text), ("/echo", Ping::NAME, "told to"));
    assert_eq!(told.more, 1, "the other is counted");
}

#[test]
fn a_panic_at_a_wake_up_starts_the_routee_anew() {
    let mut net = Net::new(1);
    net.cx_of(0, ECHO, |cx| {
        cx.wake_soon(PANIC);
        cx.wake_after(Duration::from_millis(5), 4);
    });
    net.settle();
    assert_eq!(net.seen(0, |seen| (seen.starts, seen.wakes.clone())), (2, vec![PANIC]));
    assert_eq!(net.counts(0).void_wakes, 1, "the fresh one did not set it");
    net.cx(0, |cx| cx.tell(ROUND_ROBIN, &ping(1))).unwrap();
    net.settle();
    assert_eq!(net.seen(0, |seen| seen.keys.clone()), [1]);
}

// ---- idempotent asks ----

#[test]
fn an_idempotent_ask_moves_to_where_it_can_be_answered() {
    let mut net = Net::joined(2);
    let ticket = net.sides[0].inject_ask(1, &ping(41), net.now.plus(WITHIN), true);
    net.cut(0);
    assert_eq!(net.counts(0).failed_asks, 0, "it is not over");
    // The node does not come back: its dial fails, and the router points here.
    assert_eq!(net.effects(0), [Effect::Dial(1), Effect::Suspect(1)]);
    net.sides[0].worker.dial_failed(destination(1));
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    net.pass(5);
    net.settle();
    assert_eq!(number(ticket.wait()), Ok(42));
    assert_eq!(net.seen(0, |seen| seen.keys.clone()), [41]);
    assert_eq!((net.counts(0).asks, net.counts(0).replies), (1, 1));
    assert_eq!(net.counts(0).in_flight(), 0);
}

#[test]
fn an_idempotent_ask_of_a_handler_moves_as_well() {
    let mut net = Net::joined(2);
    let again = AskOptions::within(WITHIN).idempotent();
    net.cx(0, |cx| cx.ask_keyed::<Caller, _>(KEYED, &7u64, &ping(41), again, 1)).unwrap();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(51), again, 2)).unwrap();
    net.cut(0);
    assert_eq!(net.outcomes(0), [], "neither is over");
    net.sides[0].worker.dial_failed(destination(1));
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    net.pass(5);
    net.settle();
    assert_eq!(net.outcomes(0), [(1, Ok(42))], "a router points elsewhere");
    net.pass(500);
    net.settle();
    assert_eq!(net.outcomes(0), [(2, Err(AskError::Timeout))], "a reference to nowhere else");
    assert_eq!((net.counts(0).asks, net.counts(0).replies), (2, 1));
    assert_eq!(net.counts(0).in_flight(), 0);
}

#[test]
fn an_idempotent_ask_does_not_wait_for_a_peer_that_does_not_answer() {
    let mut net = Net::joined(2);
    let deadline = net.now.plus(WITHIN);
    let again = AskOptions::within(WITHIN).idempotent();
    let by_thread = net.sides[0].inject_ask(1, &ping(41), deadline, true);
    let once = net.sides[0].inject_ask(1, &ping(43), deadline, false);
    net.cx(0, |cx| cx.ask_keyed::<Caller, _>(KEYED, &7u64, &ping(51), again, 1)).unwrap();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(61), again, 2)).unwrap();
    // Its connection stays; nothing comes from it.
    net.write(0, net.wires[0].dialed, usize::MAX);
    let silent = net.wires.remove(0);
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    // One that was chosen by an older snapshot.
    let late = net.sides[0].inject_ask(1, &ping(45), deadline, true);
    net.pass(5);
    net.settle();
    assert_eq!((number(by_thread.wait()), number(late.wait())), (Ok(42), Ok(46)));
    assert_eq!(net.outcomes(0), [(1, Ok(52))], "a handler's, to the key's next owner");
    assert_eq!(net.sides[0].worker.usage().stranded_attempts, 0);
    // When it answers again, what was sent once has its reply, and what can go nowhere else goes
    // there.
    net.wires.push(silent);
    net.settle();
    assert_eq!(number(once.wait()), Ok(44));
    net.reach[1] = Reach::Usable;
    net.apply(0);
    net.pass(5);
    net.settle();
    assert_eq!(net.outcomes(0), [(2, Ok(62))]);
    assert_eq!((net.counts(0).asks, net.counts(0).replies), (5, 5));
    assert_eq!(net.counts(0).in_flight(), 0);
}

#[test]
fn an_idempotent_ask_ends_at_its_deadline() {
    let mut net = Net::new(2);
    net.reach = vec![Reach::Gone; 2];
    net.apply(0);
    let ticket = net.sides[0].inject_ask(1, &ping(41), net.now.plus(WITHIN), true);
    for _ in 0..600 {
        net.pass(1);
        net.check(0);
    }
    let over = Err(AskError::Refused(Refusal::Stopped));
    assert_eq!(number(ticket.wait()), over, "nobody is left, nor is it a member itself");
    assert_eq!(net.counts(0).failed_asks, 1);
    assert_eq!(net.counts(0).in_flight(), 0);
}

#[test]
fn an_idempotent_ask_of_one_that_cannot_be_reached_is_no_message_until_it_can() {
    let mut net = Net::joined(2);
    let before = net.counts(0);
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    let again = AskOptions::within(Duration::from_secs(60)).idempotent();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(51), again, 2)).unwrap();
    for _ in 0..5_000 {
        net.pass(1);
    }
    let counts = net.counts(0);
    assert_eq!((counts.sent, counts.dead_total()), (before.sent, 0), "no attempt had a link");
    assert_eq!((net.effects(0), net.outcomes(0)), (vec![], vec![]));
    // It does not wait for its rest to end.
    net.reach[1] = Reach::Usable;
    net.apply(0);
    net.settle();
    assert_eq!(net.outcomes(0), [(2, Ok(52))]);
    assert_eq!(net.counts(0).sent, before.sent + 1);
}

#[test]
fn an_idempotent_ask_of_one_that_is_gone_ends_at_once() {
    let mut net = Net::joined(3);
    let again = AskOptions::within(Duration::from_secs(60)).idempotent();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(2), &ping(51), again, 2)).unwrap();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(51), again, 3)).unwrap();
    net.sides[1].worker.withdraw(ECHO);
    net.reach[2] = Reach::Gone;
    net.apply(0);
    net.pass(5);
    net.settle();
    let unknown = Err(AskError::Dead(DeathReason::UnknownHandler));
    let mut outcomes = net.outcomes(0);
    outcomes.sort_by_key(|(token, _)| *token);
    assert_eq!(outcomes, [(2, Err(AskError::Refused(Refusal::Stopped))), (3, unknown)]);
    assert_eq!(net.counts(0).in_flight(), 0);
}
