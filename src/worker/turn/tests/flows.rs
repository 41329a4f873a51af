//! From when on a connection is looked at, and what threads are told of one that is gone.

use super::*;
use crate::route::snapshot::Reach;

const VANISHES: Flow =
    Flow { waiting: true, unacknowledged: true, silent: Duration::from_secs(60), probes: 0 };
const QUIET: Flow =
    Flow { waiting: false, unacknowledged: false, silent: Duration::from_secs(60), probes: 0 };

/// Lets time pass until the link is given up. Gives how long that took.
fn given_up(bench: &mut Bench, link: LinkId) -> Option<Duration> {
    let began = bench.hands.now();
    for _ in 0..100 {
        bench.run();
        let passed = bench.hands.now().since(began);
        if bench.hands.closed.contains(&link) {
            return Some(passed);
        }
        let pause = bench.turn.may_sleep(&bench.worker, &mut bench.hands)?;
        bench.hands.clock.fetch_add(pause.as_nanos() as u64, Ordering::Relaxed);
    }
    None
}

fn in_time(closed: Option<Duration>) {
    let closed = closed.expect("nobody noticed");
    assert!(closed >= DEAD_FLOW && closed < DEAD_FLOW * 4 / 3, "after {closed:?}");
}

/// What the handshake said last is the first that may vanish.
#[test]
fn a_connection_that_vanishes_before_anything_is_written_on_it_is_noticed() {
    let mut bench = Bench::new();
    bench.link(1, &[]);
    bench.hands.flow = Some(VANISHES);
    bench.run();
    assert_eq!(bench.hands.written, []);
    let (link, _) = bench.hands.sockets[0];
    in_time(given_up(&mut bench, link));
}

#[test]
fn what_is_written_after_a_long_rest_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.link(1, &[1]);
    bench.hands.flow = Some(QUIET);
    bench.run();
    let (link, input) = bench.hands.sockets[0];
    assert_eq!(given_up(&mut bench, link), None, "it owes nothing");
    bench.hands.inputs[input].0.extend_from_slice((bench.encode)(&ping(1)).bytes());
    bench.hands.inputs[input].2 = false;
    bench.turn.readable(link, false);
    bench.hands.flow = Some(VANISHES);
    let before = bench.hands.written.len();
    while bench.hands.written.len() == before {
        bench.run();
        bench.hands.clock.fetch_add(1_000_000, Ordering::Relaxed);
    }
    in_time(given_up(&mut bench, link));
}

#[test]
fn threads_are_told_once_that_a_destination_is_gone() {
    let mut bench = Bench::new();
    let apply = |bench: &mut Bench, version: u64, others: usize| {
        bench.hands.commands.push_back(snapshot(version, others, Reach::Usable));
        bench.run();
        bench.hands.shown.drain(..).filter(|(of, _)| *of == destination(1)).collect::<Vec<_>>()
    };
    let shown = apply(&mut bench, 1, 1);
    assert_eq!(shown.last(), Some(&(destination(1), WayState::Open)));
    assert_eq!(apply(&mut bench, 2, 0), [(destination(1), WayState::Finished)]);
    assert_eq!(apply(&mut bench, 3, 0), []);
}
