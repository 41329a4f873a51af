//! Asks that nobody waits for any more give their places back; and nobody calls off what is
//! another's.

use super::*;

/// An application's ask that stays open, since its routee keeps the replier.
fn open_ask(net: &mut Net, key: u64) -> crate::queue::reply::Ticket<AppReply> {
    let ticket = net.sides[0].inject_ask(1, &doing(key, LATER), net.now.plus(WITHIN), false);
    net.settle();
    ticket
}

#[test]
fn an_ask_that_is_called_off_has_no_place_from_then_on() {
    let mut net = Net::joined(2);
    let ticket = open_ask(&mut net, 1);
    let (slot, generation) = (ticket.slot(), ticket.generation());
    drop(ticket);
    assert_eq!(net.sides[0].worker.core.asks.len(), 1);
    net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    assert!(net.sides[0].worker.core.asks.is_empty(), "long before anybody needs the place");
    net.check(0);
}

#[test]
fn a_word_of_an_earlier_ask_in_its_slot_calls_no_other_off() {
    let mut net = Net::joined(2);
    let first = open_ask(&mut net, 1);
    let (slot, generation) = (first.slot(), first.generation());
    drop(first);
    net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    // The slots are used in turn: until this one's is used again.
    let second = loop {
        let ticket = open_ask(&mut net, 2);
        if ticket.slot() == slot {
            break ticket;
        }
        let (slot, generation) = (ticket.slot(), ticket.generation());
        drop(ticket);
        net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    };
    assert_ne!(second.generation(), generation);
    net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    assert_eq!(net.sides[0].worker.core.asks.len(), 1);
    for replier in net.seen(1, |seen| std::mem::take(&mut seen.repliers)) {
        let _ = replier.reply(&7);
    }
    net.settle();
    assert_eq!(number(second.wait()), Ok(7));
}

/// The word that an ask was abandoned is lost where the worker's queue is full.
#[test]
fn abandoned_asks_of_which_no_word_came_leave_their_places_when_others_need_them() {
    let mut net = Net::joined(2);
    let abandoned: Vec<_> =
        (0..LIMITS.max_asks as u64).map(|key| open_ask(&mut net, key)).collect();
    assert!(net.sides[0].worker.core.asks.is_full());
    drop(abandoned);
    net.pass(20);
    net.ask(0, KEYED, &ping(1), 5).unwrap();
    assert_eq!(net.sides[0].worker.core.asks.len(), 1, "all of them at once");
    net.settle();
    assert_eq!(net.outcomes(0), [(5, Ok(2))]);

    let mut again: Vec<_> =
        (0..LIMITS.max_asks as u64).map(|key| open_ask(&mut net, key)).collect();
    drop(again.pop());
    net.pass(20);
    let ticket = net.sides[0].inject_ask(1, &ping(3), net.now.plus(WITHIN), false);
    net.settle();
    assert_eq!(number(ticket.wait()), Ok(4));
    assert_eq!(net.sides[0].worker.core.asks.len(), again.len(), "others wait on");
}

/// Whoever asked gives up while its ask waits for room on its link: the word passes it.
#[test]
fn an_ask_that_is_abandoned_before_it_has_room_is_not_sent() {
    let mut net = Net::joined(2);
    let fill = LIMITS.outbox_bytes as u64 / 1_000 + 10;
    for key in 0..fill {
        let message = Ping { key, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    let within = net.now.plus(WITHIN * 100);
    let ticket = net.sides[0].inject_ask(1, &doing(fill, LATER), within, false);
    assert!(net.sides[0].worker.is_holding());
    let (slot, generation) = (ticket.slot(), ticket.generation());
    drop(ticket);
    net.sides[0].worker.inject(Injection::Cancel { slot, generation });
    net.settle();
    assert!(!net.sides[0].worker.is_holding());
    assert!(net.sides[0].worker.core.asks.is_empty());
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), (0..fill).collect::<Vec<_>>());
    let counts = net.counts(0);
    assert_eq!((counts.asks, counts.failed_asks, counts.in_flight()), (1, 1, 0), "{counts:?}");
    assert_eq!(counts.dead[DeathReason::Expired as usize], 1);
}

#[test]
fn a_leave_does_not_wait_for_what_nobody_waits_for() {
    let mut net = Net::joined(2);
    let ticket = open_ask(&mut net, 1);
    net.pass(20);
    assert_eq!(net.sides[0].worker.undrained().map(|it| it.asks), Some(1));
    drop(ticket);
    net.pass(20);
    assert_eq!(net.sides[0].worker.undrained().map_or(0, |it| it.asks), 0, "no word of it came");
}

#[test]
fn a_routee_that_asks_again_for_what_has_failed_finds_its_place_free() {
    let mut net = Net::joined_with_limits(2, Limits { max_asks: 1, ..LIMITS });
    let failing = &doing(1, DROP);
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), failing, WITHIN, ASKS_ON_FAILURE))
        .unwrap();
    net.settle();
    let failed = Err(AskError::Dead(DeathReason::NoReply));
    assert_eq!(net.outcomes(0), [(ASKS_ON_FAILURE, failed), (ASKED_AGAIN, Ok(2))]);
}

#[test]
fn abandoned_asks_leave_their_places_to_idempotent_ones_too() {
    let mut net = Net::joined(2);
    let all: Vec<_> = (0..LIMITS.max_asks as u64).map(|key| open_ask(&mut net, key)).collect();
    drop(all);
    net.pass(20);
    let again = AskOptions::within(WITHIN).idempotent();
    net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(1), again, 5)).unwrap();
    net.settle();
    assert_eq!(net.outcomes(0), [(5, Ok(2))]);
}

#[test]
fn a_time_is_called_off_by_whoever_set_it_and_nobody_else() {
    let mut net = Net::new(1);
    let key = net.cx_of(0, ECHO, |cx| cx.wake_after(Duration::from_millis(50), 5));
    assert!(!net.cx_of(0, CALLER, |cx| cx.cancel_wake(key)), "it is another's");
    net.pass(60);
    assert_eq!(net.seen(0, |seen| std::mem::take(&mut seen.wakes)), [5]);
    let key = net.cx_of(0, ECHO, |cx| cx.wake_after(Duration::from_millis(50), 6));
    assert!(net.cx_of(0, ECHO, |cx| cx.cancel_wake(key)));
    net.pass(60);
    assert!(net.seen(0, |seen| seen.wakes.is_empty()));
}
