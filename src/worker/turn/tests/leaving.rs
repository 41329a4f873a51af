//! What a worker of a node that leaves says when it is asked whether it is drained.

use super::*;

fn drained(bench: &mut Bench) -> Vec<bool> {
    bench.hands.commands.push_back(Command::AskDrained);
    bench.run();
    let reports = bench.hands.reports.drain(..).filter_map(|report| match report {
        Report::Drained(WorkerIndex(0), drained) => Some(drained),
        _ => None,
    });
    reports.collect()
}

#[test]
fn a_hand_over_that_waits_for_its_turn_is_not_drained() {
    let mut bench = Bench::new();
    assert_eq!(drained(&mut bench), [true]);
    let frames = (bench.encode)(&ping(1));
    let waits = Injection::Frames { destination: destination(0), frames };
    assert!(bench.injector.push(waits).is_ok());
    // Commands are taken first: it still lies in the queue.
    assert_eq!(drained(&mut bench), [false]);
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(bench.worker.counts().delivered, 1);
    assert_eq!(drained(&mut bench), [true]);
}
