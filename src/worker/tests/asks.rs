//! What becomes of asks, and what is counted of them, where something goes wrong on the way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rkyv::rancor::Fallible;
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Serialize};

use super::*;
use crate::queue::block_on::block_on_within;
use crate::wire::{Deframed, deframe};

/// What the first frame that waits for the other node says is left of its deadline.
fn deadline_us(net: &Net) -> Option<u64> {
    let mut bytes = rkyv::util::AlignedVec::<64>::new();
    let link = net.sides[0].worker.link(net.wires[0].dialed).unwrap();
    link.outbox().slices().for_each(|slice| bytes.extend_from_slice(slice));
    match deframe(&bytes, u32::MAX) {
        Ok(Deframed::Frame(frame, _)) => frame.fields().deadline_us,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_deadline_that_travels_is_what_is_left_when_an_ask_goes_out() {
    for idempotent in [false, true] {
        let mut net = Net::joined(2);
        // It waited for 300 of its 500 ms, in the worker's queue or for its link's room.
        let left = WITHIN - Duration::from_millis(300);
        let _ticket = net.sides[0].inject_ask(1, &ping(1), net.now.plus(left), idempotent);
        assert_eq!(deadline_us(&net), Some(200_000), "idempotent: {idempotent}");
    }
    let mut net = Net::joined(2);
    let again = AskOptions::within(WITHIN).idempotent();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(1), again, 1)).unwrap();
    assert_eq!(deadline_us(&net), Some(500_000));
    net.write(0, net.wires[0].dialed, usize::MAX);
    net.cut(0);
    net.effects(0);
    net.pass(50);
    net.open(0, 1);
    assert_eq!(deadline_us(&net), Some(450_000), "of the next attempt");
}

#[test]
fn an_ask_of_which_nothing_was_written_outlives_its_connection() {
    let mut net = Net::joined(2);
    let again = AskOptions::within(WITHIN).idempotent();
    let ask = |net: &mut Net, key: u64, options: AskOptions| {
        net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(key), options, key)).unwrap();
    };
    ask(&mut net, 1, WITHIN.into());
    let first = net.sides[0].worker.link(net.wires[0].dialed).unwrap().outbox().bytes();
    ask(&mut net, 2, WITHIN.into());
    ask(&mut net, 3, WITHIN.into());
    ask(&mut net, 4, again);
    // All of the first one, and a byte of the second.
    net.write(0, net.wires[0].dialed, first + 1);
    net.cut(0);
    assert_eq!(net.effects(0), [Effect::Dial(1), Effect::Suspect(1)]);
    net.pass(10);
    let lost = Err(AskError::LinkLost);
    assert_eq!(net.outcomes(0), [(1, lost), (2, lost)]);
    net.open(0, 1);
    net.settle();
    assert_eq!(net.outcomes(0), [(3, Ok(4)), (4, Ok(5))]);
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [3, 4], "each once");
    let counts = net.counts(0);
    assert_eq!((counts.in_flight(), counts.unknown), (0, 2), "{counts:?}");
}

#[test]
fn an_ask_that_was_not_written_is_dead_when_there_is_no_other_connection() {
    let mut net = Net::joined(2);
    net.ask(0, KEYED, &ping(0), 0).unwrap();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(1), WITHIN, 1)).unwrap();
    net.write(0, net.wires[0].dialed, usize::MAX);
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(2), WITHIN, 2)).unwrap();
    // It does not answer by what others say, so that it is not dialed again.
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    net.cut(0);
    net.pass(10);
    let outcomes = net.outcomes(0);
    assert!(outcomes.contains(&(1, Err(AskError::LinkLost))), "{outcomes:?}");
    let unreachable = Err(AskError::Dead(DeathReason::Unreachable));
    assert!(outcomes.contains(&(2, unreachable)), "{outcomes:?}");
}

/// Its peer runs, as membership sees, and what drops connections to it lets datagrams through.
#[test]
fn an_idempotent_ask_waits_for_no_connection_that_does_not_come_about() {
    const LONG: Duration = Duration::from_secs(4);
    for lost in [false, true] {
        let mut net = if lost { Net::joined(2) } else { Net::new(2) };
        let ask = |net: &mut Net, key| {
            let deadline = net.now.plus(LONG);
            net.sides[0].inject_ask(1, &ping(key), deadline, true)
        };
        let first = ask(&mut net, 41);
        let again = AskOptions::within(LONG).idempotent();
        net.cx(0, |cx| cx.ask_keyed::<Caller, _>(KEYED, &7u64, &ping(51), again, 1)).unwrap();
        if lost {
            net.write(0, net.wires[0].dialed, usize::MAX);
            net.cut(0);
        }
        assert!(net.effects(0).contains(&Effect::Dial(1)));
        net.pass(5);
        assert_eq!(net.counts(0).failed_asks, 0);
        net.pass(1_000);
        let second = ask(&mut net, 43);
        net.pass(10);
        net.settle();
        assert_eq!(net.counts(0).replies, 2, "both were tried elsewhere");
        assert_eq!((number(first.wait()), number(second.wait())), (Ok(42), Ok(44)));
        assert_eq!(net.outcomes(0), [], "a key has one owner");
        net.open(0, 1);
        net.pass(100);
        net.settle();
        assert_eq!(net.outcomes(0), [(1, Ok(52))]);
        assert_eq!((net.counts(0).in_flight(), net.counts(0).failed_asks), (0, 0));
    }
}

#[test]
fn a_reply_that_nobody_heard_is_none_that_an_ask_got() {
    let mut net = Net::joined(2);
    let late = net.sides[0].inject_ask(1, &doing(1, LATER), net.now.plus(WITHIN), false);
    let heard = net.sides[0].inject_ask(1, &doing(2, LATER), net.now.plus(WITHIN), false);
    net.settle();
    // By its own clock its time is over; its worker has not looked yet.
    drop(late);
    for replier in net.seen(1, |seen| std::mem::take(&mut seen.repliers)) {
        replier.reply(&7).unwrap();
    }
    net.settle();
    assert_eq!(number(heard.wait()), Ok(7));
    let counts = net.counts(0);
    assert_eq!((counts.replies, counts.failed_asks, counts.late_replies), (1, 1, 1));

    // And one for which there was no room.
    let ticket = net.sides[0].replies.acquire().unwrap();
    let (slot, generation) = (ticket.slot(), ticket.generation());
    let before = net.counts(0);
    let _fills = net.sides[0].buffers.hold_reply(&[0; 600 << 10]).expect("is the first");
    net.sides[0].worker.core.end_for_application(slot, generation, Ok(&[0; 600 << 10]));
    assert_eq!(number(ticket.wait()), Err(AskError::Dead(DeathReason::RepliesFull)));
    let after = net.counts(0);
    assert_eq!((after.replies - before.replies, after.failed_asks - before.failed_asks), (0, 1));
}

#[test]
fn an_application_has_its_reply_before_its_own_worker_handles_what_came_behind() {
    let mut net = Net::with_limits(1, LIMITS);
    let deadline = net.now.plus(WITHIN);
    let [now, later, fails, behind] = [REPLY, LATER, PANIC, REPLY]
        .map(|what| net.sides[0].inject_ask(0, &doing(1, what), deadline, false));
    assert_eq!(net.sides[0].worker.own_chunk(3), (3, true));
    let at_once = |ticket| block_on_within(ticket, Duration::ZERO).map(number);
    assert_eq!(at_once(now), Some(Ok(2)));
    assert_eq!(at_once(fails), Some(Err(AskError::Dead(DeathReason::HandlerPanicked))));
    net.seen(0, |seen| seen.repliers.pop().unwrap()).reply(&7).unwrap();
    let side = &mut net.sides[0];
    side.worker.inject(side.injected.pop().unwrap());
    assert_eq!(at_once(later), Some(Ok(7)));
    net.settle();
    assert_eq!(at_once(behind), Some(Ok(2)));
    let counts = net.counts(0);
    assert_eq!((counts.replies, counts.late_replies, counts.in_flight()), (3, 0, 0));
}

/// Its own serialisation panics.
#[derive(Archive, Serialize, Message)]
#[message(name = "tests.broken", reply = u64)]
struct Broken {
    #[rkyv(with = Panics)]
    number: u64,
}

struct Panics;

impl ArchiveWith<u64> for Panics {
    type Archived = rkyv::rend::u64_le;
    type Resolver = ();
    fn resolve_with(number: &u64, (): (), out: Place<Self::Archived>) {
        number.resolve((), out);
    }
}

impl<S: Fallible + ?Sized> SerializeWith<u64, S> for Panics {
    fn serialize_with(number: &u64, _: &mut S) -> Result<(), S::Error> {
        panic!("told to, by {number}");
    }
}

impl OnReply<Broken> for Caller {
    fn on_reply(&mut self, _: u64, _: Result<&rkyv::rend::u64_le, AskError>, _: &mut Context<'_>) {}
}

#[test]
fn a_message_whose_serialisation_panics_was_not_sent() {
    let mut net = Net::joined(2);
    let before = net.counts(0);
    let broken = || Broken { number: 3 };
    let to = reference(1);
    let again = AskOptions::within(WITHIN).idempotent();
    let run = |net: &mut Net, what: &dyn Fn(&mut Context<'_>) -> Result<(), Refusal>| {
        let outcome = catch_unwind(AssertUnwindSafe(|| net.cx(0, |cx| what(cx))));
        assert!(outcome.is_err());
        net.check(0);
    };
    run(&mut net, &|cx| cx.tell_to(&to, &broken()));
    run(&mut net, &|cx| cx.ask_to::<Caller, _>(&to, &broken(), WITHIN, 1));
    run(&mut net, &|cx| cx.ask_to::<Caller, _>(&to, &broken(), again, 1));
    assert!(net.sides[0].worker.core.asks.is_empty());
    assert_eq!(net.counts(0), before);
    // What is sent next is not mixed up with what was begun.
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&to, &ping(5), WITHIN, 2)).unwrap();
    net.settle();
    assert_eq!(net.outcomes(0), [(2, Ok(6))]);
}

/// Whoever asked has dropped the router, and waits on for the reply.
#[test]
fn an_ask_whose_router_is_dropped_ends_as_soon_as_it_would_be_sent_again() {
    let again = AskOptions::within(Duration::from_secs(60)).idempotent();
    for lost in [false, true] {
        let mut net = Net::joined(2);
        let deadline = net.now.plus(again.within);
        let by_thread = net.sides[0].inject_ask(1, &ping(41), deadline, true);
        net.cx(0, |cx| cx.ask_keyed::<Caller, _>(KEYED, &7u64, &ping(51), again, 1)).unwrap();
        if lost {
            net.write(0, net.wires[0].dialed, usize::MAX);
        }
        net.cut(0);
        net.sides[0].worker.dial_failed(destination(1));
        net.reach = vec![Reach::Unreachable; 2];
        net.apply(0);
        net.pass(50);
        assert_eq!(net.outcomes(0), [], "nobody can be reached, and somebody may be");
        net.ended_routers = vec![0, 1, 2];
        net.apply(0);
        net.settle();
        let word = match lost {
            true => AskError::LinkLost,
            false => AskError::Refused(Refusal::Stopped),
        };
        assert_eq!(net.outcomes(0), [(1, Err(word))]);
        assert_eq!((net.counts(0).in_flight(), net.counts(0).failed_asks), (0, 2));
        assert_eq!(number(by_thread.wait()), Err(word));
    }
}

/// Nothing that a handler sends is written before its duty cycle is over, and it may have taken long
/// before it sent.
#[test]
fn what_a_slow_handler_begins_is_as_old_as_the_end_of_its_duty_cycle() {
    const TOOK: Duration = Duration::from_millis(300);
    const SHORT: Duration = Duration::from_millis(200);
    let in_time = |net: &Net| net.now.plus(SHORT);
    for idempotent in [false, true] {
        let options = AskOptions { idempotent, ..AskOptions::within(SHORT) };
        for answered in [true, false] {
            let mut net = Net::joined(2);
            net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(1), options, 1)).unwrap();
            net.cx(0, |cx| cx.wake_after(SHORT, 7));
            net.now = net.now.plus(TOOK);
            net.sides[0].worker.ends(net.now);
            let due = in_time(&net);
            net.pass(0);
            assert_eq!(net.outcomes(0), [], "it has just been sent");
            assert!(net.sides[0].worker.core.wakes.next_deadline() > Some(net.now));
            if answered {
                net.settle();
                assert_eq!(net.outcomes(0), [(1, Ok(2))]);
                continue;
            }
            net.pass(199);
            assert_eq!(net.outcomes(0), []);
            net.pass(2);
            assert!(net.now > due);
            assert_eq!(net.outcomes(0), [(1, Err(AskError::Timeout))]);
            assert!(net.sides[0].worker.core.wakes.is_empty());
        }
    }
    // A moment is no while.
    let mut net = Net::joined(2);
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(1), SHORT, 1)).unwrap();
    net.sides[0].worker.ends(net.now);
    net.pass(300);
    net.sides[0].worker.ends(net.now);
    assert_eq!(net.outcomes(0), [(1, Err(AskError::Timeout))], "an ask of an earlier cycle");
}
