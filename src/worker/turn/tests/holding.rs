//! How often a worker looks at hand-overs that wait for a link which has no room.

use super::*;

/// Hand-overs wait for a peer that cannot be reached. Gives the pauses between the looks at them, of
/// so many seconds.
fn pauses(seconds: u64) -> Vec<Duration> {
    let mut bench = Bench::new();
    bench.hands.commands.push_back(snapshot(1, 1, Reach::Usable));
    while bench.run().0 == TurnOutcome::Again {}
    while !bench.worker.is_holding() {
        let frames = (bench.encode)(&ping(1));
        bench.worker.inject(Injection::Frames { destination: destination(1), frames });
    }
    while bench.run().0 == TurnOutcome::Again {}
    let end = bench.hands.now().plus(Duration::from_secs(seconds));
    let mut pauses = Vec::new();
    while bench.hands.now() < end {
        let pause = bench.turn.may_sleep(&bench.worker, &mut bench.hands).expect("some wait");
        bench.hands.clock.fetch_add(pause.as_nanos() as u64, Ordering::Relaxed);
        bench.run();
        pauses.push(pause);
    }
    assert!(bench.worker.is_holding());
    pauses
}

#[test]
fn what_waits_for_long_is_looked_at_less_and_less_often() {
    let pauses = pauses(2);
    assert_eq!(pauses[..4], [Duration::from_millis(1); 4]);
    assert!(pauses[..28].is_sorted(), "{pauses:?}");
    assert_eq!(pauses.iter().max(), Some(&Duration::from_millis(10)));
    assert!(pauses.len() < 260, "{} looks", pauses.len());
}
