//! What has no room, and what a peer may not do.

use super::*;
use crate::base::{Incarnation, NodeId};
use crate::worker::purse::Account;

// ---- limits ----

#[test]
fn a_full_outbox_refuses_and_takes_again_when_written() {
    let mut net = Net::joined(2);
    let message = Ping { key: 1, what: REPLY, filler: vec![1; 1_000] };
    let mut taken = 0;
    let refusal = loop {
        match net.cx(0, |cx| cx.tell_to(&reference(1), &message)) {
            Ok(()) => taken += 1,
            Err(refusal) => break refusal,
        }
        assert!(taken < 100);
    };
    assert_eq!(refusal, Refusal::QueueFull);
    let link = net.sides[0].worker.link(net.wires[0].dialed).unwrap();
    assert!(link.outbox().bytes() < LIMITS.outbox_bytes + 2_000);
    // What another thread was told is accepted waits for room.
    let frames = net.sides[0].encoded(FrameKind::Tell, &ping(2));
    net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    assert!(net.sides[0].worker.is_holding() && !net.sides[0].worker.is_drained());
    net.check(0);
    net.settle();
    net.cx(0, |cx| cx.tell_to(&reference(1), &message)).unwrap();
    net.settle();
    assert_eq!(net.counts(0).delivered, taken + 3);
    assert_eq!(net.effects(0), []);
}

#[test]
fn what_is_left_of_a_chunk_counts_while_its_first_messages_are_handled() {
    let limits = Limits { outbox_bytes: 1_024, max_asks: 64, ..LIMITS };
    let asked = |large: usize| {
        let mut net = Net::with_limits(1, limits);
        for token in 0..9 {
            let filler = vec![1; if token == 8 { large } else { 0 }];
            let message = Ping { key: token, what: REPLY, filler };
            net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(0), &message, WITHIN, token)).unwrap();
        }
        let worker = &mut net.sides[0].worker;
        assert_eq!(worker.own_chunk(8), (8, true));
        let outbox = worker.core.links[worker.core.own].outbox();
        let (mut bytes, mut replies) = (0, 0);
        for (is_request, length) in outbox.messages() {
            assert!(is_request || bytes < 2 * limits.outbox_bytes, "a reply behind {bytes} bytes");
            bytes += length;
            replies += usize::from(!is_request);
        }
        let usage = worker.usage().purses[Account::Requests as usize];
        assert_eq!((usage.taken, usage.fullest), (usage.held, outbox.bytes()));
        net.settle();
        assert!(net.sides[0].worker.is_drained());
        assert_eq!(net.sides[0].worker.usage().purses[Account::Requests as usize].taken, 0);
        (replies, net.counts(0).lost_replies)
    };
    assert_eq!(asked(0), (8, 0));
    assert_eq!(asked(4_000), (0, 8), "no room but for that it failed");
}

#[test]
fn requests_are_not_read_where_their_replies_are_not_taken() {
    let mut net = Net::joined(2);
    for (side, link, rests) in [(1, net.wires[0].accepted, true), (0, net.wires[0].dialed, false)] {
        let worker = &mut net.sides[side].worker;
        assert!(!worker.is_choked(link));
        let Core { links, encoder, .. } = &mut worker.core;
        let outbox = &mut links[link].outbox;
        while outbox.bytes() < LIMITS.outbox_bytes {
            outbox.push_control(encoder, FrameKind::Ack, &Fields::default(), 0, &[0; 16]);
        }
        // What was dialed is read all the same, or both sides would wait for each other.
        assert_eq!(worker.is_choked(link), rests);
    }
}

#[test]
fn hand_overs_to_a_link_without_room_wait_in_order_and_hold_nobody_up() {
    let mut net = Net::joined(3);
    let tell = |net: &mut Net, to: usize, key: u64, bytes: usize| {
        let message = Ping { key, what: REPLY, filler: vec![1; bytes] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(to), frames });
    };
    let fitting = LIMITS.outbox_bytes / 1_000;
    for key in 0..fitting as u64 + 30 {
        tell(&mut net, 1, key, 1_000);
    }
    let usage = net.sides[0].worker.usage();
    assert!(usage.held >= 30 && usage.fullest_outbox < LIMITS.outbox_bytes + 2_000, "{usage:?}");
    // Another link takes what is for it, and one that is to itself arrives.
    tell(&mut net, 2, 1, 0);
    tell(&mut net, 0, 2, 0);
    assert_eq!(net.sides[0].worker.usage().held, usage.held);
    assert_eq!(net.effects(0), [Effect::Dial(2)]);
    net.open(0, 2);
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), (0..fitting as u64 + 30).collect::<Vec<_>>());
    assert_eq!(net.seen(2, |seen| seen.keys.clone()), [1]);
    assert_eq!(net.seen(0, |seen| seen.keys.clone()), [2]);
    assert_eq!((net.counts(0).in_flight(), net.counts(0).dead_total()), (0, 0));
}

#[test]
fn a_link_for_which_something_waits_looks_full_until_nothing_does() {
    let mut net = Net::joined(2);
    for key in 0..LIMITS.outbox_bytes as u64 / 1_000 + 30 {
        let message = Ping { key, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    let id = net.wires[0].dialed;
    let way = |net: &Net| net.sides[0].worker.way_state(id);
    assert!(net.sides[0].worker.is_holding());
    // Its peer takes most of it: there is room now, but for what waits.
    let bytes = net.sides[0].worker.link(id).unwrap().outbox().bytes();
    net.write(0, id, bytes / 4 * 3);
    assert!(net.sides[0].worker.is_holding());
    assert_eq!(way(&net), Some((destination(1), WayState::Full)));
    assert!(
        net.sides[0].worker.way_states().any(|known| known == (destination(1), WayState::Full))
    );
    net.settle();
    assert!(!net.sides[0].worker.is_holding());
    assert_eq!(way(&net), Some((destination(1), WayState::Open)));
}

#[test]
fn a_link_that_has_room_again_is_shown_so_although_nothing_was_written() {
    let mut net = Net::joined(2);
    while !net.sides[0].worker.is_holding() {
        let message = Ping { key: 1, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    let id = net.wires[0].dialed;
    let worker = &mut net.sides[0].worker;
    while worker.take_dirty().is_some() {}
    let bytes = worker.link(id).unwrap().outbox().bytes();
    worker.written(id, bytes);
    while worker.take_dirty().is_some() {}
    worker.admit_held();
    assert!(!worker.is_holding());
    assert_eq!(worker.take_dirty(), Some(id));
}

#[test]
fn a_peer_that_takes_nothing_keeps_the_way_shut_for_a_moment_only() {
    let mut net = Net::joined(2);
    let mut handed = 0;
    while net.sides[0].worker.takes_hand_overs() {
        let message = Ping { key: handed, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
        handed += 1;
    }
    let held = net.sides[0].worker.usage().held as u64;
    assert_eq!(held, 128, "twice as many as its queue takes");
    net.pass(450);
    assert!(!net.sides[0].worker.takes_hand_overs(), "the peer may only be slow");
    net.pass(200);
    assert!(net.sides[0].worker.takes_hand_overs());
    assert_eq!(net.effects(0), [Effect::Dead(DeathReason::Overflow, held, Some(1))]);
    net.settle();
    assert_eq!(net.counts(0).delivered, handed - held + 1);
    assert_eq!(net.counts(0).dead[DeathReason::Overflow as usize], held);
}

#[test]
fn an_ask_that_waits_for_room_ends_at_its_deadline() {
    let mut net = Net::joined(2);
    while !net.sides[0].worker.is_holding() {
        let message = Ping { key: 1, what: REPLY, filler: vec![1; 1_000] };
        let frames = net.sides[0].encoded(FrameKind::Tell, &message);
        net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    let soon = net.now.plus(Duration::from_millis(30));
    let later = net.now.plus(Duration::from_millis(60));
    let side = &mut net.sides[0];
    let second = side.inject_ask(1, &ping(2), later, false);
    let first = side.inject_ask(1, &ping(1), soon, false);
    net.pass(29);
    assert_eq!(net.counts(0).failed_asks, 0);
    net.pass(1);
    assert_eq!(net.counts(0).failed_asks, 1);
    assert_eq!(number(first.wait()), Err(AskError::Timeout));
    net.pass(40);
    assert_eq!(number(second.wait()), Err(AskError::Timeout));
    net.settle();
    assert_eq!(net.counts(0).in_flight(), 0);
}

#[test]
fn what_waits_for_room_ends_with_its_link_or_worker() {
    for stop in [false, true] {
        let mut net = Net::joined(2);
        for key in 0..40 {
            let message = Ping { key, what: REPLY, filler: vec![1; 1_000] };
            let frames = net.sides[0].encoded(FrameKind::Tell, &message);
            net.sides[0].worker.inject(Injection::Frames { destination: destination(1), frames });
        }
        assert!(net.sides[0].worker.is_holding());
        let reason = if stop {
            net.sides[0].worker.stop();
            DeathReason::Stopped
        } else {
            net.reach[1] = Reach::Gone;
            net.apply(0);
            net.pass(1);
            DeathReason::Unreachable
        };
        let counts = net.counts(0);
        assert!(!net.sides[0].worker.is_holding());
        assert_eq!((counts.sent, counts.in_flight()), (41, 0), "{counts:?}");
        assert!(counts.dead[reason as usize] > 0, "{counts:?}");
        assert_eq!(counts.dead[DeathReason::Overflow as usize], 0, "{counts:?}");
    }
}

#[test]
fn many_small_hand_overs_are_packed_together() {
    let side = Side::new(0, LIMITS);
    let mut encoder = Encoder::new(Arc::clone(&side.buffers), 16 << 20);
    let mut outbox = Outbox::new(1 << 20, Account::Requests);
    let mut bytes = Vec::new();
    while !outbox.is_full(&encoder) {
        let frames = side.encoded(FrameKind::Tell, &ping(bytes.len() as u64));
        bytes.extend_from_slice(frames.bytes());
        outbox.push_chunk(&mut encoder, frames);
    }
    assert_eq!(outbox.slices().collect::<Vec<_>>().concat(), bytes, "in order");
    let least = outbox.bytes().div_ceil(CHUNK_BYTES);
    assert!(outbox.chunk_count() <= least + 1, "{} chunks for {least}", outbox.chunk_count());
}

// ---- what a peer may not do ----

#[test]
fn a_false_acknowledgement_ends_the_link_and_counts_nothing() {
    let ack = |words: &[u64]| {
        let mut chunk = Chunk::with_capacity(256);
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let none = Fields::default();
        encode_empty(&mut chunk, FrameKind::Ack, &none, MessageTypeId(0), HandlerId(0), &body)
            .unwrap();
        chunk
    };
    for (words, error) in [
        (&[3, 0][..], WireError::BadAck),
        (&[0, 0], WireError::BadAck),
        (&[1, 2], WireError::BadAck),
        (&[u64::MAX, 2], WireError::BadAck),
        (&[1], WireError::Incomplete("acknowledgement")),
        (&[1, 0, 0], WireError::Incomplete("acknowledgement")),
        (&[], WireError::Incomplete("acknowledgement")),
    ] {
        let mut net = Net::joined(2);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
        let before = net.counts(0);
        let id = net.wires[0].dialed;
        let taken = net.sides[0].worker.receive(id, ack(words).bytes(), u32::MAX);
        assert_eq!(taken, Err(error), "{words:?}");
        assert_eq!(net.counts(0), before);
    }
}

#[test]
fn frames_in_the_wrong_direction_end_the_link() {
    let mut net = Net::joined(2);
    let (dialed, accepted) = (net.wires[0].dialed, net.wires[0].accepted);
    let frame = |kind, fields: &Fields| {
        let mut chunk = Chunk::with_capacity(1024);
        encode(&mut chunk, &mut Arena::new(), kind, fields, Ping::TYPE_ID, ECHO, &ping(1)).unwrap();
        chunk
    };
    let known = Fields::correlated(0);
    for kind in [FrameKind::Tell, FrameKind::Ask, FrameKind::Fin] {
        let taken = net.sides[0].worker.receive(dialed, frame(kind, &known).bytes(), u32::MAX);
        assert_eq!(taken, Err(WireError::WrongDirection), "{kind:?} from the dialed side");
    }
    for kind in [FrameKind::Reply, FrameKind::Failure, FrameKind::Ack] {
        let mut bad = frame(kind, &known);
        if kind == FrameKind::Failure {
            bad = Chunk::with_capacity(256);
            let (message, target) = (MessageTypeId(1), HandlerId(0));
            encode_empty(&mut bad, kind, &known, message, target, &[]).unwrap();
        }
        let taken = net.sides[1].worker.receive(accepted, bad.bytes(), u32::MAX);
        assert_eq!(taken, Err(WireError::WrongDirection), "{kind:?} from the dialing side");
    }
    assert_eq!(net.seen(1, |seen| seen.keys.len()), 0);
    net.check(0);
    net.check(1);
}

#[test]
fn a_reply_on_another_link_answers_nothing() {
    let mut net = Net::joined(3);
    net.cx(0, |cx| cx.tell_to(&reference(2), &ping(1))).unwrap();
    assert_eq!(net.effects(0), [Effect::Dial(2)]);
    net.open(0, 2);
    net.settle();
    let ticket = net.sides[0].inject_ask(1, &doing(1, LATER), net.now.plus(WITHIN), false);
    net.settle();
    // Node 2 guesses the correlation of node 1's ask.
    let mut forged = Chunk::with_capacity(256);
    let correlation = net.sides[0].worker.core.asks.find(|_| true)[0];
    let fields = Fields::correlated(correlation);
    let none = (MessageTypeId(0), HandlerId(0));
    encode_empty(&mut forged, FrameKind::Reply, &fields, none.0, none.1, &[9; 8]).unwrap();
    let id = net.wires[1].dialed;
    net.sides[0].worker.receive(id, forged.bytes(), u32::MAX).unwrap();
    assert_eq!(net.counts(0).late_replies, 1);
    let replier = net.seen(1, |seen| seen.repliers.pop().unwrap());
    replier.reply(&5).unwrap();
    net.settle();
    assert_eq!(number(ticket.wait()), Ok(5));
}

// ---- what all outboxes take together ----

/// As [`LIMITS`], but all outboxes together hold little.
const TIGHT: Limits = Limits { outboxes_bytes: 256 << 10, outbox_bytes: 1 << 20, ..LIMITS };

fn taken(net: &Net, side: usize) -> usize {
    let usage = net.sides[side].worker.usage();
    for purse in usage.purses {
        assert_eq!(purse.taken, purse.held);
    }
    usage.purses.iter().map(|purse| purse.taken).sum()
}

#[test]
fn peers_that_take_nothing_leave_room_for_one_that_does() {
    let mut net = Net::with_limits(5, TIGHT);
    net.cx(0, |cx| cx.tell_to(&reference(4), &ping(0))).unwrap();
    net.effects(0);
    net.open(0, 4);
    net.settle();
    for stuck in 1..4 {
        let message = Ping { key: 1, what: REPLY, filler: vec![1; 1_000] };
        let refusal =
            (0..1_000).find_map(|_| net.cx(0, |cx| cx.tell_to(&reference(stuck), &message)).err());
        assert_eq!(refusal, Some(Refusal::QueueFull));
    }
    let [requests, ..] = net.sides[0].worker.usage().purses;
    assert!(requests.taken <= requests.most, "{requests:?}");
    for key in 0..100 {
        net.cx(0, |cx| cx.tell_to(&reference(4), &ping(key))).unwrap();
        net.settle();
    }
    assert_eq!(net.seen(4, |seen| seen.keys.len()), 101);
}

#[test]
fn whatever_a_link_held_is_given_back_with_it() {
    let mut net = Net::joined(2);
    for key in 0..10 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
    }
    assert!(taken(&net, 0) > 0);
    net.reach[1] = Reach::Gone;
    net.apply(0);
    assert_eq!(taken(&net, 0), 0, "a dialed link");

    let mut net = Net::joined(2);
    let tickets: Vec<_> = (0..4)
        .map(|key| net.sides[0].inject_ask(1, &ping(key), net.now.plus(WITHIN), false))
        .collect();
    let id = net.wires[0].dialed;
    net.write(0, id, usize::MAX);
    net.read(0, false, usize::MAX).unwrap();
    assert!(taken(&net, 1) > 0, "replies");
    let accepted = net.wires[0].accepted;
    net.sides[1].worker.link_lost(accepted);
    assert_eq!(taken(&net, 1), 0, "an accepted link");
    drop(tickets);
}

#[test]
fn what_waits_for_a_peer_that_takes_nothing_waits_in_chunks_that_fit() {
    let mut net = Net::joined(2);
    let id = net.wires[0].dialed;
    let mut sent = Vec::new();
    for key in 0..40 {
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
        if key == 20 {
            net.write(0, id, 100); // Within a frame.
        }
        net.sides[0].worker.blocked(id);
        sent.push(key);
        let link = net.sides[0].worker.link(id).unwrap();
        let (held, bytes) = (link.outbox().held().0, link.outbox().bytes());
        assert!(held <= 4 * bytes + 1_024, "{held} for {bytes} bytes");
    }
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), sent);
}

#[test]
fn clients_cannot_take_the_places_of_members() {
    let mut net = Net::with_limits(2, Limits { max_accepted: 8, ..LIMITS });
    let worker = &mut net.sides[0].worker;
    let stranger =
        |place: u64| NodeRef { node: NodeId(1_000 + place), incarnation: Incarnation(1) };
    let accepted =
        (0..20).filter(|place| worker.accept(stranger(*place), WorkerIndex(0), 1).is_some());
    assert_eq!(accepted.count(), 6);
    let no_place = |request: &Request| matches!(request, Request::NoPlace(..));
    assert_eq!(worker.requests().filter(no_place).count(), 14, "it is told whom no place is for");
    assert!(worker.accept(node(1), WorkerIndex(0), 1).is_some());
    assert!(!worker.requests().any(|request| no_place(&request)));
}

fn long_reply(correlation: u64) -> Chunk {
    let mut long = Chunk::with_capacity(4_096);
    let (fields, none) = (Fields::correlated(correlation), (MessageTypeId(0), HandlerId(0)));
    encode_empty(&mut long, FrameKind::Reply, &fields, none.0, none.1, &[9; 2_000]).unwrap();
    long
}

#[test]
fn replies_that_nobody_takes_are_so_many_bytes_and_the_asker_of_another_is_told() {
    let buffers = Buffers::new(4, 4, 1 << 20, 256 << 10);
    let large = vec![7; 60_000];
    let held: Vec<_> = (0..6).filter_map(|_| buffers.hold_reply(&large)).collect();
    assert_eq!((held.len(), buffers.replies.taken()), (4, 256 << 10));
    assert!(buffers.hold_reply(&[7; 1_000]).is_some(), "a small one has the place of its ask");
    drop(held);
    let between = buffers.hold_reply(&[7; 2_000]).unwrap();
    assert_eq!(buffers.replies.taken(), 4 << 10, "one takes about as much as it has");
    drop(between);
    assert_eq!(buffers.replies.taken(), 0);
    assert_eq!(buffers.hold_reply(&large).unwrap().into_chunk().bytes(), large);

    let mut net = Net::joined(2);
    let ticket = net.sides[0].inject_ask(1, &ping(1), net.now.plus(WITHIN), false);
    let waits = net.sides[0].worker.core.asks.find(|_| true)[0];
    let _all = net.sides[0].buffers.replies.take(2 << 20).unwrap();
    let id = net.wires[0].dialed;
    net.sides[0].worker.receive(id, long_reply(waits).bytes(), u32::MAX).unwrap();
    assert_eq!(number(ticket.wait()), Err(AskError::Dead(DeathReason::RepliesFull)));

    // And those of this worker's own routees.
    let ticket = net.sides[0].inject_ask(0, &ping(1), net.now.plus(WITHIN), false);
    let core = &mut net.sides[0].worker.core;
    let waits = core.asks.find(|_| true)[0];
    core.reply_here(waits, long_reply(waits));
    core.tell_applications();
    assert_eq!(number(ticket.wait()), Err(AskError::Dead(DeathReason::RepliesFull)));
}

/// A worker that was behind sees a life only as one that is over: its link must not outlive it.
#[test]
fn the_link_of_a_peer_that_came_and_went_between_two_snapshots_is_closed() {
    let mut net = Net::new(1);
    let newcomer = node(7);
    let worker = &mut net.sides[0].worker;
    let its = worker.accept(newcomer, WorkerIndex(0), 1).unwrap();
    let client = worker.accept(node(8), WorkerIndex(0), 1).unwrap();
    net.apply(0);
    assert!(net.sides[0].worker.link(its).is_some(), "its record may be on its way");
    net.ended = vec![newcomer];
    net.apply(0);
    assert_eq!(net.effects(0), [Effect::Close]);
    assert!(net.sides[0].worker.link(its).is_none());
    assert!(net.sides[0].worker.link(client).is_some(), "a client's stays");
}

/// What threads hand over before they see that a link is full has a place, also when one link after
/// another comes to take nothing.
#[test]
fn links_that_stall_one_after_another_cost_nothing_that_was_accepted_and_leave_the_way_open() {
    const STALLED: usize = 6;
    let mut net = Net::joined(STALLED + 2);
    for peer in 2..STALLED + 2 {
        net.cx(0, |cx| cx.tell_to(&reference(peer), &ping(1))).unwrap();
        assert_eq!(net.effects(0), [Effect::Dial(peer as u32)]);
        net.open(0, peer);
        net.settle();
    }
    let wires = std::mem::take(&mut net.wires);
    let accepted = std::cell::Cell::new((STALLED + 1) as u64);
    // As much as threads can before the worker looks.
    let hand_over = |net: &mut Net, peer: usize| {
        let mut count = 0;
        loop {
            let message = Ping { key: count, what: REPLY, filler: vec![1; 1_000] };
            let frames = net.sides[0].encoded(FrameKind::Tell, &message);
            let injection = Injection::Frames { destination: destination(peer), frames };
            if net.sides[0].worker.core.injector.push(injection).is_err() {
                break;
            }
            count += 1;
        }
        while net.sides[0].worker.takes_hand_overs()
            && let Some(injection) = net.sides[0].injected.pop()
        {
            net.sides[0].worker.inject(injection);
        }
        accepted.set(accepted.get() + count);
        count
    };
    let most: Vec<u64> = (1..=STALLED).map(|peer| hand_over(&mut net, peer)).collect();
    assert_eq!(most[0], 64, "all that the queue takes");
    assert!(most.is_sorted_by(|one, next| one >= next), "{most:?}");
    net.pass(2_000);
    let quick = STALLED + 1;
    assert!(hand_over(&mut net, quick) > 0, "the way to a quick one is open: {most:?}");
    assert_eq!(net.counts(0).dead_total(), 0, "{:?}", net.counts(0));
    // They go on, and all that waits is delivered.
    net.wires = wires;
    net.settle();
    assert!(!net.sides[0].worker.is_holding());
    assert_eq!(net.counts(0).delivered, accepted.get());
    let all = hand_over(&mut net, quick);
    assert_eq!(all, 64, "nothing waits: the queue takes all again");
}

/// What nests needs scratch memory while it is encoded, as much as it has parts: that of a long
/// message goes with it, whether there was room for it or not.
#[test]
fn scratch_memory_of_a_long_message_is_not_kept() {
    use crate::worker::outbox::{Head, encode_single, with_arena};
    let long = vec![String::from("12345678"); 100_000];
    for max_frame_bytes in [16 << 20, 1 << 19] {
        let buffers = Buffers::new(4, 4, max_frame_bytes, 1 << 20);
        let fits = encode_single(&buffers, &Head::reply(1), &long).is_ok();
        assert_eq!(fits, max_frame_bytes > 1 << 19);
        let kept = with_arena(|arena| arena.capacity());
        assert!(kept <= 64 << 10, "{kept} bytes with frames of at most {max_frame_bytes}");
    }
}

/// Nothing else announces that its time is over.
#[test]
fn an_ask_that_waits_for_room_wakes_its_worker_at_its_deadline() {
    let mut net = Net::joined(2);
    let message = Ping { key: 1, what: REPLY, filler: vec![1; 1_000] };
    while net.cx(0, |cx| cx.tell_to(&reference(1), &message)).is_ok() {}
    let side = &mut net.sides[0];
    let deadline = side.worker.now().plus(Duration::from_millis(7));
    assert_ne!(side.worker.next_deadline(), Some(deadline));
    let _ticket = side.inject_ask(1, &ping(3), deadline, false);
    assert!(side.worker.is_holding());
    assert_eq!(side.worker.next_deadline(), Some(deadline));
}
