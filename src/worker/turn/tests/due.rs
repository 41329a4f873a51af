//! What is due besides messages shares a worker's time with everything else.

use super::*;
use crate::base::fate::AskError;
use crate::base::{InstanceId, RouteeId};
use crate::worker::inject::ReplyTo;
use crate::worker::{AskOptions, OnReply, RouteeRef};

const BUSY: HandlerId = HandlerId(3);
const MILLISECOND: u64 = 1_000_000;

/// Waits for much at once, and takes a millisecond for each thing that comes.
struct Busy {
    clock: Arc<AtomicU64>,
    woken: Arc<[AtomicU64; 3]>,
}

impl Busy {
    fn take(&self, kind: usize) {
        self.clock.fetch_add(MILLISECOND, Ordering::Relaxed);
        self.woken[kind].fetch_add(1, Ordering::Relaxed);
    }
}

impl Routee for Busy {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
    fn wake(&mut self, kind: u64, _: &mut Context<'_>) {
        self.take(kind as usize);
    }
}

impl Handler<Ping> for Busy {
    type Reply = u64;
    fn handle(&mut self, ping: &ArchivedPing, cx: &mut Context<'_>) -> u64 {
        let instance = InstanceId::running(SLOW);
        let id = RouteeId { node: node(0), worker: WorkerIndex(0), instance };
        let itself = RouteeRef { id, path: "/slow".parse().unwrap() };
        for _ in 0..ping.key.to_native() {
            cx.wake_after(Duration::from_millis(1), 0);
            cx.wake_soon(1);
            let options = AskOptions::within(Duration::from_millis(2));
            cx.ask_to::<Self, _>(&itself, &super::ping(0), options, 2).unwrap();
        }
        self.clock.fetch_add(5 * MILLISECOND, Ordering::Relaxed);
        0
    }
}

impl OnReply<Ping> for Busy {
    fn on_reply(
        &mut self,
        kind: u64,
        reply: Result<&rkyv::rend::u64_le, AskError>,
        _: &mut Context<'_>,
    ) {
        assert_eq!(reply, Err(AskError::Timeout));
        self.take(kind as usize);
    }
}

fn busy(bench: &mut Bench) -> Arc<[AtomicU64; 3]> {
    let woken = Arc::<[AtomicU64; 3]>::default();
    let (clock, its) = (Arc::clone(&bench.hands.clock), Arc::clone(&woken));
    let make = move |_: WorkerIndex| Busy { clock: Arc::clone(&clock), woken: Arc::clone(&its) };
    bench.worker.serve(BUSY, RouteeFactory::new(make));
    bench.worker.requests().for_each(drop);
    woken
}

fn seen(woken: &[AtomicU64; 3]) -> [u64; 3] {
    std::array::from_fn(|kind| woken[kind].load(Ordering::Relaxed))
}

#[test]
fn all_that_is_due_at_once_comes_in_slices_and_messages_come_between() {
    let mut bench = Bench::new();
    let woken = busy(&mut bench);
    let begin = crate::worker::send::tell_head::<Ping>(crate::worker::Place {
        destination: destination(0),
        handler: BUSY,
    });
    let frames =
        crate::worker::encode_single(&bench.worker.core.buffers, &begin, &ping(8)).unwrap();
    bench.worker.inject(Injection::Frames { destination: destination(0), frames });
    bench.run();
    let mut turns = 0;
    while seen(&woken) != [8; 3] {
        bench.tell_itself(1, 10);
        let before = bench.worker.counts().delivered;
        let (_, took) = bench.run();
        assert!(took <= TURN, "{took:?}");
        assert!(bench.worker.counts().delivered > before, "a message waits for all that is due");
        let [wakes, soon, asks] = seen(&woken);
        if turns == 1 {
            assert!(wakes > 0 && soon > 0 && asks > 0, "one kind waits for all of another");
        }
        turns += 1;
        assert!(turns < 200, "{:?}", seen(&woken));
    }
    assert!(turns >= 3, "{turns} turns");
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(bench.worker.counts().in_flight(), 0);
    assert!(bench.worker.is_drained());
}

/// Nobody waits for the next event when an asker is to be told that there is no reply.
#[test]
fn a_worker_does_not_sleep_on_a_reply_that_found_no_room() {
    let mut bench = Bench::new();
    while bench.run().0 == TurnOutcome::Again {}
    assert_ne!(bench.turn.may_sleep(&bench.worker, &mut bench.hands), Some(Duration::ZERO));
    let to = ReplyTo { link: bench.worker.own_link(), correlation: 1 };
    bench.worker.core.repliers.holder().leave((to, DeathReason::RepliesFull));
    assert_eq!(bench.turn.may_sleep(&bench.worker, &mut bench.hands), Some(Duration::ZERO));
    bench.run();
    assert_eq!(bench.worker.counts().lost_replies, 1);
}

/// Takes 150 ms as it is started.
struct SlowStart(Arc<AtomicU64>);

impl Routee for SlowStart {
    fn register(_: &mut HandlerTable<Self>) {}
    fn started(&mut self, _: &mut Context<'_>) {
        self.0.fetch_add(150_000_000, Ordering::Relaxed);
    }
}

#[test]
fn a_routee_that_holds_its_worker_as_it_is_started_is_named_by_its_path() {
    let mut bench = Bench::new();
    let clock = Arc::clone(&bench.hands.clock);
    let factory = RouteeFactory::new(move |_| SlowStart(Arc::clone(&clock))).at("/starts");
    bench.hands.commands.push_back(Command::Serve(HandlerId(3), factory));
    while bench.run().0 == TurnOutcome::Again {}
    let mut slow = bench.hands.reports.iter().filter_map(|report| match report {
        Report::SlowTurn(slow) => Some((&*slow.path, slow.hook, slow.messages)),
        _ => None,
    });
    assert_eq!(slow.next(), Some(("/starts", Some("started"), 0)), "no member record names it");
}

/// A type of message, a hook, how many calls for messages and for hooks there were and how many panicked,
/// and whether it is certain.
type Named<'a> = (Option<&'a str>, Option<&'a str>, [u32; 3], bool);

/// What the reports of slow turns say.
fn named(bench: &Bench) -> Vec<Named<'_>> {
    let slow = bench.hands.reports.iter().filter_map(|report| match report {
        Report::SlowTurn(slow) => Some(slow),
        _ => None,
    });
    slow.map(|slow| {
        let calls = [slow.messages, slow.hooks, slow.panics];
        (slow.message.as_deref(), slow.hook, calls, slow.is_certain())
    })
    .collect()
}

#[test]
fn a_slow_handler_among_quick_ones_is_not_said_to_be_the_last_of_them_until_it_was_alone() {
    let mut bench = Bench::new();
    bench.link(1, &[1; 60]);
    while bench.run().0 == TurnOutcome::Again {}
    bench.link(2, &[1, 1, 1, 1, 1, 400_000, 1, 1, 1, 1, 1, 300_000]);
    while bench.run().0 == TurnOutcome::Again {}
    let ping = Some("tests.ping");
    let told = [(ping, None, [12, 0, 0], false)];
    assert_eq!(named(&bench), told);
    bench.link(3, &[300_000]);
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(named(&bench), [told[0], (ping, None, [1, 0, 0], true)]);
}

/// Takes 150 ms to panic.
struct Panicking(Arc<AtomicU64>);

impl Routee for Panicking {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
}

impl Handler<Ping> for Panicking {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedPing, _: &mut Context<'_>) -> u64 {
        self.0.fetch_add(150_000_000, Ordering::Relaxed);
        panic!("told to");
    }
}

#[test]
fn a_panic_that_took_long_is_not_put_down_to_the_start_of_the_next_routee() {
    let mut bench = Bench::new();
    let clock = Arc::clone(&bench.hands.clock);
    bench.worker.serve(SLOW, RouteeFactory::new(move |_| Panicking(Arc::clone(&clock))));
    bench.link(1, &[1]);
    while bench.run().0 == TurnOutcome::Again {}
    assert_eq!(named(&bench), [(None, Some("started"), [1, 1, 1], false)]);
}
