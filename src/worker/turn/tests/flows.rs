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

/// A link waits for room; when it has some, it is read what had come before the connection died.
#[test]
fn what_came_long_before_it_is_read_is_no_sign_of_life() {
    let (mut bench, links) = sockets::three_long_messages();
    let [first, _, waiting] = links[..] else { panic!("three links") };
    // A look, since which they owe something and were not heard.
    bench.hands.clock.fetch_add(DEAD_FLOW.as_nanos() as u64 / 5, Ordering::Relaxed);
    bench.run();
    bench.hands.flow = Some(VANISHES);
    bench.hands.inputs[2].2 = false;
    bench.turn.readable(waiting, false);
    bench.run();
    assert!(!bench.hands.inputs[2].2, "it is read although it waits");

    bench.hands.clock.fetch_add(DEAD_FLOW.as_nanos() as u64 / 2, Ordering::Relaxed);
    bench.hands.ended = true;
    bench.turn.readable(first, true);
    bench.run();
    bench.hands.ended = false;
    bench.run();
    assert!(bench.hands.inputs[2].2 && bench.hands.closed == [first]);
    let closed = given_up(&mut bench, waiting).expect("nobody noticed");
    assert!(closed + DEAD_FLOW / 2 < DEAD_FLOW * 4 / 3, "after {closed:?} more");
}

#[test]
fn flows_that_vanish_together_are_one_line() {
    let mut bench = Bench::new();
    for peer in 1..=40 {
        bench.link(peer, &[]);
    }
    bench.hands.flow = Some(VANISHES);
    bench.run();
    let (last, _) = *bench.hands.sockets.last().unwrap();
    in_time(given_up(&mut bench, last));
    assert_eq!((bench.hands.closed.len(), bench.hands.lines), (40, 1));
    // Control is told of each, and since when it was open.
    let opened = |report: &Report| match report {
        Report::Vanished(peer, opened) => Some((*peer, *opened)),
        _ => None,
    };
    let told: Vec<_> = bench.hands.reports.iter().filter_map(opened).collect();
    assert_eq!(told, (1..=40).map(|peer| (node(peer), Time(1))).collect::<Vec<_>>());
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

/// What control was told of messages that are not taken: for how long, and how many.
fn untaken(bench: &mut Bench) -> Vec<(Duration, u64)> {
    let told = bench.hands.reports.drain(..).filter_map(|report| match report {
        Report::Untaken(WorkerIndex(0), (peer, WorkerIndex(0)), silent, waits) => {
            assert_eq!(peer, node(1));
            Some((silent, waits))
        }
        _ => None,
    });
    told.collect()
}

/// Its system acknowledges all that is sent, and its process says nothing of it.
#[test]
fn a_peer_that_takes_nothing_for_five_seconds_is_told_of_while_it_lasts() {
    let mut bench = Bench::new();
    bench.hands.commands.push_back(snapshot(1, 1, Reach::Usable));
    bench.hands.inputs.push((AlignedVec::new(), 0, true));
    bench.hands.flow = Some(QUIET);
    bench.run();
    let send = |bench: &mut Bench| {
        let frames = (bench.encode)(&ping(1));
        bench.worker.inject(Injection::Frames { destination: destination(1), frames });
    };
    send(&mut bench);
    bench.hands.commands.push_back(Command::Dialed(destination(1), 0, None));
    let pass = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 10 {
            bench.run();
            bench.hands.clock.fetch_add(9_990_000, Ordering::Relaxed);
        }
        untaken(bench)
    };
    assert_eq!(pass(&mut bench, 4_900), []);
    // Something comes: whatever it is, its worker is not held.
    let (link, _) = bench.hands.sockets[0];
    let (bytes, _, read) = &mut bench.hands.inputs[0];
    bytes.extend_from_slice(&(bench.encode)(&ping(1)).bytes()[..8]);
    *read = false;
    bench.turn.readable(link, false);
    assert_eq!(pass(&mut bench, 5_000), []);
    send(&mut bench);
    let seconds = Duration::from_secs;
    assert_eq!(pass(&mut bench, 5_500), [(seconds(5), 2)]);
    assert_eq!(pass(&mut bench, 5_000), [(seconds(10), 2)]);
    // This worker was held itself: it knows nothing of the time meanwhile.
    bench.hands.clock.fetch_add(60_000_000_000, Ordering::Relaxed);
    assert_eq!(pass(&mut bench, 4_000), []);
    assert_eq!(pass(&mut bench, 1_500), [(seconds(15), 2)]);
    bench.turn.lose(&mut bench.worker, &mut bench.hands, link);
    assert_eq!(pass(&mut bench, 20_000), []);
}

/// Takes two seconds when it is woken.
struct Sleepy(Arc<AtomicU64>);

impl Routee for Sleepy {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
    fn wake(&mut self, _: u64, _: &mut Context<'_>) {
        self.0.fetch_add(2_000_000_000, Ordering::Relaxed);
    }
}

impl Handler<Ping> for Sleepy {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedPing, cx: &mut Context<'_>) -> u64 {
        cx.wake_after(Duration::from_millis(20), 0);
        0
    }
}

/// What is written behind code that took long was written then, and not as its turn began.
#[test]
fn a_connection_has_its_time_after_a_routee_was_woken_for_long() {
    let mut bench = Bench::new();
    let clock = Arc::clone(&bench.hands.clock);
    bench.worker.withdraw(SLOW);
    bench.worker.serve(SLOW, RouteeFactory::new(move |_| Sleepy(Arc::clone(&clock))));
    let bound = Duration::from_millis(60);
    let times = (Duration::ZERO, Duration::from_millis(100), bound);
    bench.turn = Turn::new(WorkerIndex(0), 1, times, ROOM);
    bench.link(1, &[1]);
    bench.hands.flow = Some(QUIET);
    bench.run();
    let (link, _) = bench.hands.sockets[0];
    // A look, after which it owes nothing; then the acknowledgement, and the wake-up.
    let mut took = Duration::ZERO;
    for _ in 0..2 {
        bench.hands.clock.fetch_add(12_000_000, Ordering::Relaxed);
        took = bench.run().1;
    }
    assert!(took >= Duration::from_secs(2) && bench.hands.written.contains(&link));
    bench.hands.flow = Some(VANISHES);
    let closed = given_up(&mut bench, link).expect("nobody noticed");
    assert!(closed >= bound && closed < 2 * bound, "after {closed:?}");
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
