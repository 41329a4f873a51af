//! What has come on a link is read to its end before what was written there is judged, however long
//! this worker had no time to look.

use super::*;
use crate::base::MessageTypeId;
use crate::wire::encode_empty;

/// A worker has sent one message to a peer, whose acknowledgement lies in its socket.
fn acknowledged() -> (Bench, LinkId) {
    let mut bench = Bench::new();
    bench.hands.commands.push_back(snapshot(1, 1, Reach::Usable));
    bench.hands.inputs.push((AlignedVec::new(), 0, true));
    bench.run();
    let frames = (bench.encode)(&ping(1));
    bench.worker.inject(Injection::Frames { destination: destination(1), frames });
    bench.hands.commands.push_back(Command::Dialed(destination(1), 0, None));
    bench.run();
    let (link, _) = bench.hands.sockets[0];
    assert_eq!((bench.worker.counts().in_flight(), &bench.hands.written[..]), (1, &[link][..]));
    let mut chunk = Chunk::with_capacity(64);
    let counts = [1_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let (kind, fields) = (FrameKind::Ack, Fields::default());
    encode_empty(&mut chunk, kind, &fields, MessageTypeId(0), HandlerId(0), &counts).unwrap();
    bench.hands.inputs[0].0.extend_from_slice(chunk.bytes());
    bench.hands.inputs[0].2 = false;
    (bench, link)
}

fn all_is_delivered(bench: &mut Bench, link: LinkId) {
    while bench.run().0 == TurnOutcome::Again {}
    let counts = bench.worker.counts();
    assert_eq!((counts.delivered, counts.unknown, counts.in_flight()), (1, 0, 0));
    assert_eq!(bench.hands.closed, [link]);
}

#[test]
fn a_peer_whose_end_is_shown_may_have_acknowledged_before() {
    let (mut bench, link) = acknowledged();
    bench.hands.commands.push_back(snapshot(2, 0, Reach::Usable));
    all_is_delivered(&mut bench, link);
}

#[test]
fn a_peer_that_could_not_be_reached_meanwhile_may_have_acknowledged() {
    let (mut bench, link) = acknowledged();
    bench.hands.commands.push_back(snapshot(2, 1, Reach::Unreachable));
    bench.hands.commands.push_back(snapshot(3, 1, Reach::Usable));
    all_is_delivered(&mut bench, link);
    // It is dialed anew, and nobody looks whether the peer still listens.
    let dials = bench.hands.reports.iter().filter(|it| matches!(it, Report::Dial { .. }));
    let suspects = |it: &Report| matches!(it, Report::Suspect(_));
    assert_eq!((dials.count(), bench.hands.reports.iter().any(suspects)), (2, false));
}

#[test]
fn a_peer_that_takes_no_more_may_have_acknowledged_before() {
    let (mut bench, link) = acknowledged();
    bench.hands.ended = true;
    bench.worker.finish_all();
    all_is_delivered(&mut bench, link);
}

#[test]
fn nothing_more_is_written_where_the_rest_is_read() {
    let (mut bench, link) = acknowledged();
    bench.hands.written.clear();
    bench.turn.read_out(link);
    bench.worker.finish_all();
    bench.run();
    assert_eq!(bench.hands.written, []);
    all_is_delivered(&mut bench, link);
}
