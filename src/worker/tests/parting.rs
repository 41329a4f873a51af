//! What was accepted for a peer that leaves goes out before the farewell, however long that takes.

use std::time::Instant;

use super::*;
use crate::worker::link::FIRST_WITHIN;

const PARTING_MS: u64 = PARTING.as_millis() as u64;

fn tell(net: &Net, key: u64, bytes: usize) -> Injection {
    let message = Ping { key, what: REPLY, filler: vec![1; bytes] };
    let frames = net.sides[0].encoded(FrameKind::Tell, &message);
    Injection::Frames { destination: destination(1), frames }
}

fn leaves(net: &mut Net) {
    net.reach[1] = Reach::Leaving;
    net.apply(0);
}

/// All has arrived, and both know that nothing more comes.
fn has_ended_well(net: &mut Net, keys: impl Iterator<Item = u64>) {
    for _ in 0..3 {
        net.settle();
        net.pass(PARTING_MS);
    }
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), keys.collect::<Vec<_>>());
    let counts = net.counts(0);
    assert_eq!((counts.in_flight(), counts.dead_total()), (0, 0), "{counts:?}");
    assert!(net.sides[0].worker.is_drained() && net.sides[1].worker.is_drained());
}

#[test]
fn what_is_held_for_a_slow_peer_that_leaves_goes_out_before_the_farewell() {
    let mut net = Net::joined(2);
    let fitting = LIMITS.outbox_bytes as u64 / 1_000;
    for key in 0..fitting + 10 {
        let tell = tell(&net, key, 1_000);
        net.sides[0].worker.inject(tell);
    }
    let ask = net.sides[0].inject_ask(1, &ping(fitting + 10), net.now.plus(WITHIN * 100), false);
    assert!(net.sides[0].worker.is_holding());
    leaves(&mut net);
    for _ in 0..4 {
        net.pass(PARTING_MS);
        assert!(net.sides[0].worker.is_holding(), "its socket takes nothing meanwhile");
    }
    has_ended_well(&mut net, 0..=fitting + 10);
    assert_eq!(number(ask.wait()), Ok(fitting + 11));
}

#[test]
fn what_waits_in_the_workers_queue_goes_out_before_the_farewell() {
    let mut net = Net::joined(2);
    leaves(&mut net);
    for key in 0..2 {
        let late = tell(&net, key, 0);
        assert!(net.sides[0].worker.core.injector.push(late).is_ok());
    }
    // A handler holds the worker, and then its timers have their turn before the queue.
    net.pass(2 * PARTING_MS);
    net.pass(2 * PARTING_MS);
    has_ended_well(&mut net, 0..2);
}

#[test]
fn what_comes_behind_the_farewell_does_not_hold_it_up() {
    let mut net = Net::joined(2);
    leaves(&mut net);
    assert!(net.sides[0].worker.core.injector.push(tell(&net, 1, 0)).is_ok());
    net.pass(PARTING_MS);
    let own = Injection::Frames {
        destination: destination(0),
        frames: net.sides[0].encoded(FrameKind::Tell, &ping(2)),
    };
    assert!(net.sides[0].worker.core.injector.push(own).is_ok());
    let first = net.sides[0].injected.pop().expect("it waits");
    net.sides[0].worker.inject(first);
    net.pass(10);
    assert!(net.sides[0].worker.link(net.wires[0].dialed).unwrap().fin_queued);
    has_ended_well(&mut net, 1..2);
}

#[test]
fn a_link_on_which_nothing_was_sent_yet_is_dialed_for_what_was_accepted() {
    let mut net = Net::new(2);
    leaves(&mut net);
    assert_eq!(net.cx(0, |cx| cx.tell_to(&reference(1), &ping(9))), Err(Refusal::Stopped));
    net.effects(0);
    for key in 0..2 {
        let late = tell(&net, key, 0);
        net.sides[0].worker.inject(late);
    }
    assert_eq!(net.effects(0), [Effect::Dial(1)]);
    net.open(0, 1);
    has_ended_well(&mut net, 0..2);

    let mut net = Net::new(2);
    leaves(&mut net);
    net.pass(PARTING_MS);
    let late = tell(&net, 1, 0);
    net.sides[0].worker.inject(late);
    assert_eq!(net.effects(0), [Effect::Dead(DeathReason::Stopped, 1, Some(1))]);
}

#[test]
fn a_worker_does_not_wait_for_a_thread_that_is_in_the_middle_of_a_hand_over() {
    let mut net = Net::joined(2);
    leaves(&mut net);
    let is_over = |net: &Net| net.sides[0].worker.link(net.wires[0].dialed).unwrap().fin_queued;
    net.sides[0].worker.core.injector.has_somebody_in_the_middle(true);
    let began = Instant::now();
    net.pass(PARTING_MS);
    assert!(began.elapsed() < Duration::from_millis(700), "it slept: {:?}", began.elapsed());
    assert!(!is_over(&net), "that may be for the one that leaves");
    net.sides[0].worker.core.injector.has_somebody_in_the_middle(false);
    net.pass(10);
    assert!(is_over(&net));
    has_ended_well(&mut net, 0..0);
}

#[test]
fn nobody_waits_for_the_farewell_of_who_fell_silent_while_it_was_leaving() {
    let mut net = Net::joined(2);
    net.reach[0] = Reach::Leaving;
    net.apply(1);
    net.pass(2 * PARTING_MS);
    assert!(!net.sides[1].worker.is_drained(), "the other one still has to say its farewell");
    net.silent.push(0);
    net.apply(1);
    net.pass(2 * PARTING_MS);
    assert!(net.sides[1].worker.is_drained());
}

#[test]
fn a_link_that_no_member_has_opened_is_waited_for_as_long_as_a_first_message_takes() {
    let mut net = Net::new(2);
    // The second one does not see the first one among the members, nor another one that never was.
    net.apply_with(1, [(1, destination(1))]);
    assert!(net.sides[1].worker.accept(node(2), WorkerIndex(0), 1).is_some());
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
    assert_eq!(net.effects(0), [Effect::Dial(1)]);
    net.open(0, 1);
    let first_ms = FIRST_WITHIN.as_millis() as u64;
    net.pass(first_ms - 1);
    assert_eq!(net.sides[1].worker.undrained().map(|it| it.peers.len()), Some(2));
    net.pass(1);
    assert!(net.sides[1].worker.is_drained());
    // It took longer than that, and is handled. Now there may be another behind it.
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1]);
    assert_eq!(net.sides[1].worker.undrained().unwrap().peers, [node(0)].into());
    assert_eq!(net.counts(0).delivered, 1);
    net.pass(first_ms);
    assert!(net.sides[1].worker.is_drained());
}

#[test]
fn a_members_link_is_waited_for_though_it_has_said_nothing_on_it() {
    let mut net = Net::new(2);
    assert!(net.sides[1].worker.accept(node(0), WorkerIndex(0), 1).is_some());
    net.pass(2 * FIRST_WITHIN.as_millis() as u64);
    assert!(!net.sides[1].worker.is_drained());
}

#[test]
fn a_handler_that_finds_nobody_is_told_that_its_node_leaves_or_stops() {
    // Alone: its own routees are out of its tables, and nobody else serves.
    let mut net = Net::new(1);
    net.reach[0] = Reach::Leaving;
    net.silent.push(0);
    net.apply(0);
    let pattern = Pattern::new("/**").unwrap();
    for router in [ROUND_ROBIN, KEYED, BROADCAST] {
        assert_eq!(net.cx(0, |cx| cx.tell(router, &ping(1))), Err(Refusal::Leaving));
    }
    assert_eq!(net.cx(0, |cx| cx.tell_selected(&pattern, &ping(1))), Err(Refusal::Leaving));

    // The others are there, and no link takes anything.
    let mut net = Net::joined(2);
    let worker = &mut net.sides[0].worker;
    worker.stop();
    worker.core.refresh_usable();
    for router in [ROUND_ROBIN, KEYED, BROADCAST] {
        let refused = worker.core.tell(router.key(), Some(1), &ping(1));
        assert_eq!(refused, Err(Refusal::Stopped));
    }
}
