//! What a worker of a node that leaves says when it is asked whether it is drained, when one is
//! done with a node that leaves, and with its own.

use super::*;

/// In answer to one question: how many messages it has handled, and whether it is drained.
fn drained(bench: &mut Bench) -> (u64, bool) {
    bench.hands.commands.push_back(Command::AskDrained(5));
    bench.run();
    let mut answers = bench.hands.reports.drain(..).filter_map(|report| match report {
        Report::Drained(WorkerIndex(0), answer) => Some(answer),
        _ => None,
    });
    let (answer, further) = (answers.next().unwrap(), answers.next());
    assert_eq!((answer.round, further), (5, None));
    (answer.handled, answer.undrained.is_none())
}

#[test]
fn a_hand_over_that_waits_for_its_turn_is_not_drained() {
    let mut bench = Bench::new();
    assert_eq!(drained(&mut bench), (0, true));
    let frames = (bench.encode)(&ping(1));
    let waits = Injection::Frames { destination: destination(0), frames };
    assert!(bench.injector.push(waits).is_ok());
    // Commands are taken first: it still lies in the queue.
    assert_eq!(drained(&mut bench), (0, false));
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(bench.worker.counts().delivered, 1);
    assert_eq!(drained(&mut bench), (1, true));
}

/// The time for what was on its way to the worker begins when threads can see that the peer leaves.
#[test]
fn a_handler_that_takes_long_takes_nothing_of_the_time_for_what_was_accepted() {
    let mut bench = Bench::new();
    bench.hands.commands.push_back(snapshot(1, 1, Reach::Leaving));
    bench.tell_itself(1, 300_000);
    let (_, took) = bench.run();
    assert!(took >= Duration::from_millis(300));
    assert!(bench.hands.shown.contains(&(destination(1), WayState::Finished)));
    bench.run();
    // It looked a moment before, and was held up.
    let late = Injection::Frames { destination: destination(1), frames: (bench.encode)(&ping(1)) };
    assert!(bench.injector.push(late).is_ok());
    bench.run();
    let dials = bench.hands.reports.iter().filter(|it| matches!(it, Report::Dial { .. }));
    assert_eq!((dials.count(), bench.worker.counts().dead_total()), (1, 0));
}

#[test]
fn a_worker_whose_control_goes_between_two_turns_does_not_sleep_over_it() {
    let mut bench = Bench::new();
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(bench.turn.may_sleep(&bench.worker, &mut bench.hands), None);
    bench.hands.control_is_gone = true;
    assert_eq!(bench.turn.may_sleep(&bench.worker, &mut bench.hands), Some(Duration::ZERO));
    assert_eq!(bench.run().0, TurnOutcome::Ended);
}
