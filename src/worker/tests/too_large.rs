//! Messages that are longer than this node or their receiver takes: they are refused by name, and it
//! is noted how long they were.

use super::*;
use crate::queue::oversize::TooLong;
use crate::worker::send::tell_head;

/// How long its frame is where there is room for it.
fn length(message: &Ping) -> u32 {
    let place = Place { destination: destination(1), handler: ECHO };
    let buffers = Buffers::new(4, 4, 1 << 20, 1 << 20);
    encode_single(&buffers, &tell_head::<Ping>(place), message).unwrap().len() as u32
}

#[test]
fn a_message_over_the_limit_is_refused_wherever_it_would_stand() {
    let message = |bytes| Ping { key: 1, what: REPLY, filler: vec![1; bytes] };
    let mut net = Net::joined(2);
    for bytes in [4_096, 5_000, 60_000, 300_000] {
        // First in its chunk, and behind another.
        for _ in 0..2 {
            let refused = net.cx(0, |cx| cx.tell_to(&reference(1), &message(bytes)));
            assert_eq!(refused, Err(Refusal::TooLarge), "{bytes} bytes");
            let noted = net.sides[0].worker.core.buffers.too_long.take();
            let (bytes, limit) = (length(&message(bytes)), LIMITS.max_frame_bytes);
            assert_eq!(noted, Some(TooLong { count: 1, bytes, limit }));
            net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
        }
        net.settle();
    }
    net.cx(0, |cx| cx.tell_to(&reference(1), &message(4_000))).unwrap();
    net.settle();
    assert_eq!(net.counts(0).refused[Refusal::TooLarge as usize], 8);
    assert_eq!(net.counts(0).delivered, 10);
}

/// The peer's own limit is lower than this node's.
#[test]
fn what_a_peer_does_not_take_is_refused_by_name_and_costs_no_link() {
    // A tell of this message fits, and an ask has fields of its own.
    let mut net = Net::new(2);
    let takes = net.sides[0].encoded(FrameKind::Tell, &ping(1)).len();
    let takes = std::num::NonZeroU32::new(takes as u32);
    let again = AskOptions::within(WITHIN).idempotent();
    let ask = |net: &mut Net, key, options: AskOptions| {
        net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(key), options, key))
    };
    let tell = |net: &mut Net, key| net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key)));
    tell(&mut net, 1).unwrap();
    ask(&mut net, 2, WITHIN.into()).unwrap();
    ask(&mut net, 3, again).unwrap();
    tell(&mut net, 4).unwrap();
    assert_eq!(net.effects(0), [Effect::Dial(1)]);
    net.open_taking(0, 1, takes);
    net.settle();
    let dead = Err(AskError::Dead(DeathReason::TooLarge));
    assert_eq!(net.outcomes(0), [(2, dead), (3, dead)], "as is known since it is open");
    // From then on it is known before.
    let noted = |net: &Net| {
        let noted = net.sides[0].worker.core.buffers.too_long_there.take();
        noted.map(|TooLong { count, bytes, limit }| (count, bytes > limit, limit))
    };
    let limit = takes.unwrap().get();
    assert_eq!(noted(&net), Some((2, true, limit)), "it is noted how long they were");
    assert_eq!(ask(&mut net, 5, WITHIN.into()), Err(Refusal::TooLarge));
    assert_eq!(noted(&net), Some((1, true, limit)));
    ask(&mut net, 6, again).unwrap();
    let deadline = net.now.plus(WITHIN);
    let tickets =
        [false, true].map(|idempotent| net.sides[0].inject_ask(1, &ping(7), deadline, idempotent));
    tell(&mut net, 8).unwrap();
    net.settle();
    let refused = Err(AskError::Refused(Refusal::TooLarge));
    assert_eq!(net.outcomes(0), [(6, refused)], "and not tried again");
    assert_eq!(noted(&net), Some((3, true, limit)));
    assert_eq!(net.counts(0).in_flight(), 0);
    assert_eq!(tickets.map(|ticket| number(ticket.wait())), [refused; 2]);
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1, 4, 8]);
    let effects = net.effects(0);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Dead(..))), "{effects:?}");
    // Of a run that another thread hands over, what fits goes on.
    let mut run = Chunk::with_capacity(256);
    for kind in [FrameKind::Tell, FrameKind::Ask, FrameKind::Tell] {
        let frame = net.sides[0].encoded(kind, &ping(9));
        assert!(run.append(frame.bytes(), 1));
    }
    let frames = Injection::Frames { destination: destination(1), frames: run };
    net.sides[0].worker.inject(frames);
    net.settle();
    assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1, 4, 8, 9, 9]);
}
