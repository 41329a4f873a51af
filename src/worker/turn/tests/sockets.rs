//! What becomes of connections.

use super::*;

#[test]
fn connections_that_cannot_be_watched_are_lost_and_told_of_a_few_times() {
    let mut bench = Bench::new();
    bench.hands.unwatchable = true;
    let before = bench.worker.usage().links;
    for _ in 0..200 {
        bench.link(1, &[1]);
        bench.run();
    }
    assert_eq!(bench.worker.usage().links, before);
    assert!((1..50).contains(&bench.hands.lines), "{} lines", bench.hands.lines);
    assert!(bench.hands.sockets.is_empty());

    bench.hands.unwatchable = false;
    bench.link(1, &[1]);
    bench.run();
    assert_eq!((bench.hands.sockets.len(), bench.worker.counts().received), (1, 1));
}

#[test]
fn peers_that_break_the_protocol_are_one_line_a_second() {
    let mut bench = Bench::new();
    let garbage = [0xff; 64];
    bench.hands.broken_by = crate::wire::deframe(&garbage, u32::MAX).unwrap_err();
    for seconds in 1..=3 {
        for _ in 0..200 {
            bench.link(1, &[]);
            bench.hands.inputs.last_mut().unwrap().0.extend_from_slice(&garbage);
            bench.run();
        }
        assert_eq!((bench.hands.stalled, bench.hands.lines), (200 * seconds, seconds));
        bench.hands.clock.fetch_add(1_000_000_000, Ordering::Relaxed);
    }
    assert!(bench.hands.sockets.is_empty());
}

/// Three clients begin to send long messages, one after the other; there is room for two.
pub(super) fn three_long_messages() -> (Bench, Vec<LinkId>) {
    const LONG: usize = 100 << 10;
    let mut bench = Bench::new();
    bench.worker.core.limits.max_frame_bytes = 1 << 20;
    let ping = (bench.encode)(&ping(0));
    for peer in 1..=3 {
        bench.link(peer, &[]);
        let mut head = AlignedVec::new();
        head.extend_from_slice(&ping.bytes()[..16]);
        head[..4].copy_from_slice(&(LONG as u32).to_le_bytes());
        bench.hands.inputs.last_mut().unwrap().0 = head;
        bench.run();
        bench.hands.clock.fetch_add(1_000_000, Ordering::Relaxed);
    }
    let links: Vec<_> = bench.hands.sockets.iter().map(|(link, _)| *link).collect();
    assert_eq!(bench.turn.inboxes.waiting, [links[2]]);
    (bench, links)
}

/// Two clients have room for long messages and say nothing more, a third one finds none: the older
/// of the two loses its link, once others have waited for it for as long as they have to.
#[test]
fn who_has_room_for_a_long_message_and_does_not_send_it_gives_way_in_time() {
    let (mut bench, links) = three_long_messages();
    let pass = |bench: &mut Bench, time: Duration| {
        bench.hands.clock.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        bench.run();
    };
    let patience = crate::worker::turn::inboxes::PATIENCE;
    for _ in 1..patience.as_secs() {
        pass(&mut bench, Duration::from_secs(1));
    }
    // Nobody could send anything that is read while a handler holds the worker.
    pass(&mut bench, Duration::from_secs(3_600));
    assert_eq!(bench.hands.closed, [], "the worker has run for less");
    pass(&mut bench, Duration::from_millis(1));
    assert_eq!(
        bench.hands.closed,
        [links[0]],
        "the second has had its room for as long, and comes next"
    );
    assert_eq!(bench.hands.stalled, 1);
    assert!(bench.turn.inboxes.waiting.is_empty(), "the third has its room");
    pass(&mut bench, 2 * patience);
    assert_eq!(bench.hands.closed, [links[0]], "nobody waits");
}
