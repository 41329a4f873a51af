//! What a duty cycle does when, with a driver whose sockets, queues and clock are made up.

mod due;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::worker::turn::InboxRoom;

use rkyv::util::AlignedVec;

use super::io::Flow;
use super::{Line, Moved, Turn, TurnOutcome, WorkerIo};
use crate::base::fate::DeathReason;
use crate::base::{DestinationId, HandlerId, Time, View, WorkerIndex};
use crate::queue::Full;
use crate::queue::board::WayState;
use crate::queue::inject::{Injected, Injector};
use crate::route::snapshot::{Destination, Destinations, Reach, Snapshot};
use crate::wire::handshake::{Established, Purpose};
use crate::wire::{Chunk, Fields, FrameKind, WireError};
use crate::worker::core::Core;
use crate::worker::outbox::Outbox;
use crate::worker::testnet::{ArchivedPing, Net, Ping, destination, member, node, ping};
use crate::worker::{
    Command, Context, Handler, HandlerTable, Injection, LinkId, Report, Routee, RouteeFactory,
    Worker,
};

mod flows;
mod holding;
mod leaving;
mod reading_out;

const SLOW: HandlerId = HandlerId(2);
const DEAD_FLOW: Duration = Duration::from_millis(1_500);

/// Takes as many microseconds as the message's key says.
struct Slow(Arc<AtomicU64>);

impl Routee for Slow {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
}

impl Handler<Ping> for Slow {
    type Reply = u64;
    fn handle(&mut self, ping: &ArchivedPing, _: &mut Context<'_>) -> u64 {
        self.0.fetch_add(1_000 * ping.key.to_native(), Ordering::Relaxed);
        0
    }
}

/// All ends of one worker. A connection is the number of its input.
struct Hands {
    clock: Arc<AtomicU64>,
    commands: VecDeque<Command<usize>>,
    injected: Injected<Injection>,
    /// What comes in one read, and how much of it is done with.
    inputs: Vec<(AlignedVec<64>, usize, bool)>,
    /// The peers have closed their connections.
    ended: bool,
    sockets: Vec<(LinkId, usize)>,
    closed: Vec<LinkId>,
    flow: Option<Flow>,
    looked: Vec<LinkId>,
    written: Vec<LinkId>,
    shown: Vec<(DestinationId, WayState)>,
    reports: Vec<Report>,
    control_is_behind: bool,
    control_is_gone: bool,
    stalled: usize,
    unwatchable: bool,
    /// Told in the log.
    lines: usize,
    /// What peers are expelled for.
    broken_by: WireError,
}

impl Hands {
    fn input(&self, link: LinkId) -> Option<usize> {
        self.sockets.iter().find(|(of, _)| *of == link).map(|(_, input)| *input)
    }
}

impl WorkerIo for Hands {
    type Connection = usize;

    fn now(&mut self) -> Time {
        Time(self.clock.load(Ordering::Relaxed))
    }
    fn next_command(&mut self) -> Option<Command<usize>> {
        self.commands.pop_front()
    }
    fn has_command(&self) -> bool {
        !self.commands.is_empty()
    }
    fn is_control_gone(&self) -> bool {
        self.control_is_gone
    }
    fn report(&mut self, report: Report) -> Result<(), Full<Report>> {
        if self.control_is_behind {
            return Err(Full(report));
        }
        self.reports.push(report);
        Ok(())
    }
    fn next_hand_over(&mut self) -> Option<Injection> {
        self.injected.pop()
    }
    fn has_hand_over(&self) -> bool {
        !self.injected.is_empty()
    }
    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection)) {
        self.injected.close(each);
    }
    fn next_chunk(&mut self, _: WorkerIndex) -> Option<Chunk> {
        None
    }
    fn has_chunk(&self, _: WorkerIndex) -> bool {
        false
    }
    fn push_chunk(&mut self, _: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        Err(Full(chunk))
    }
    fn close_chunks(&mut self, _: WorkerIndex, _: &mut dyn FnMut(Chunk)) {}
    fn wake(&mut self, _: WorkerIndex) {}
    fn let_go(&mut self) {}
    fn is_awaited(&self) -> bool {
        false
    }
    fn attach(&mut self, link: LinkId, input: usize) -> io::Result<()> {
        if self.unwatchable {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(self.sockets.iter().all(|(of, _)| of.slot() != link.slot()), "its place is taken");
        self.sockets.push((link, input));
        Ok(())
    }
    fn unwatched(&mut self, _: &io::Error, line: Line) {
        self.lines += usize::from(line.is_some());
    }
    fn refuse(&mut self, _: usize) {}
    fn close(&mut self, link: LinkId) {
        self.sockets.retain(|(of, _)| *of != link);
        self.closed.push(link);
    }
    fn broken(&mut self, _: LinkId, _: Option<String>, error: WireError, line: Line) {
        self.lines += usize::from(line.is_some());
        assert_eq!(error, self.broken_by);
        self.stalled += 1;
    }
    fn read(&mut self, link: LinkId) -> Moved {
        let Some(input) = self.input(link) else { return Moved::Closed };
        let (bytes, _, read) = &mut self.inputs[input];
        match std::mem::replace(read, true) {
            false => Moved::Bytes { count: bytes.len(), more: false },
            true if self.ended => Moved::Closed,
            true => Moved::Blocked,
        }
    }
    fn received(&self, link: LinkId) -> &[u8] {
        let Some(input) = self.input(link) else { return &[] };
        let (bytes, done, _) = &self.inputs[input];
        &bytes[*done..]
    }
    fn consumed(&mut self, link: LinkId, count: usize, _: usize) {
        if let Some(input) = self.input(link) {
            self.inputs[input].1 += count;
        }
    }
    fn allow(&mut self, _: LinkId, _: usize) {}
    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved {
        self.written.push(link);
        if self.ended {
            return Moved::Closed;
        }
        Moved::Bytes { count: outbox.bytes(), more: true }
    }
    fn flow(&mut self, link: LinkId) -> Option<Flow> {
        self.looked.push(link);
        self.flow
    }
    fn dead(&mut self, _: LinkId, _: Option<String>, _: Duration, line: Line) {
        self.lines += usize::from(line.is_some());
    }
    fn show(&mut self, destination: DestinationId, state: WayState) {
        self.shown.push((destination, state));
    }
    fn show_fill(&mut self) {}
}

const ROOM: InboxRoom = InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 };

struct Bench {
    worker: Worker,
    turn: Turn,
    hands: Hands,
    injector: Injector<Injection>,
    encode: Box<dyn Fn(&Ping) -> Chunk>,
}

impl Bench {
    fn new() -> Self {
        let mut side = Net::new(1).sides.pop().unwrap();
        let clock = Arc::new(AtomicU64::new(1));
        let its = Arc::clone(&clock);
        side.worker.serve(SLOW, RouteeFactory::new(move |_| Slow(Arc::clone(&its))).at("/slow"));
        side.worker.requests().for_each(drop);
        let injector = side.worker.core.injector.clone();
        let buffers = Arc::clone(&side.buffers);
        let encode = move |message: &Ping| {
            let place = crate::worker::Place { destination: destination(0), handler: SLOW };
            let head = crate::worker::send::tell_head::<Ping>(place);
            assert_eq!(head.kind, FrameKind::Tell);
            crate::worker::encode_single(&buffers, &head, message).unwrap()
        };
        let slow = Duration::from_millis(100);
        Self {
            worker: side.worker,
            turn: Turn::new(WorkerIndex(0), 1, (Duration::ZERO, slow, DEAD_FLOW), ROOM),
            hands: Hands {
                clock,
                commands: VecDeque::new(),
                injected: side.injected,
                inputs: Vec::new(),
                ended: false,
                sockets: Vec::new(),
                closed: Vec::new(),
                flow: None,
                looked: Vec::new(),
                written: Vec::new(),
                shown: Vec::new(),
                reports: Vec::new(),
                control_is_behind: false,
                control_is_gone: false,
                stalled: 0,
                unwatchable: false,
                lines: 0,
                broken_by: WireError::Stalled,
            },
            injector,
            encode: Box::new(encode),
        }
    }

    /// A link from another node on which messages come that take so many microseconds each.
    fn link(&mut self, peer: usize, takes_us: &[u64]) {
        let mut bytes = AlignedVec::new();
        for key in takes_us {
            bytes.extend_from_slice((self.encode)(&ping(*key)).bytes());
        }
        self.hands.inputs.push((bytes, 0, false));
        let established = Established {
            purpose: Purpose::Workers,
            peer: node(peer),
            peer_worker: WorkerIndex(0),
            my_worker: WorkerIndex(0),
            wire_version: 2,
            link_epoch: self.hands.inputs.len() as u64,
            authenticated: true,
            takes: None,
        };
        let connection = self.hands.inputs.len() - 1;
        self.hands.commands.push_back(Command::Accepted(connection, established));
    }

    /// Messages of this worker to itself.
    fn tell_itself(&mut self, messages: usize, takes_us: u64) {
        for _ in 0..messages {
            let frames = (self.encode)(&ping(takes_us));
            self.worker.inject(Injection::Frames { destination: destination(0), frames });
        }
    }

    /// One turn, and how long it took.
    fn run(&mut self) -> (TurnOutcome, Duration) {
        let began = self.hands.now();
        let outcome = self.turn.run(&mut self.worker, &mut self.hands);
        // Time passes between turns, too.
        let took = self.hands.now().since(began);
        self.hands.clock.fetch_add(10_000, Ordering::Relaxed);
        (outcome, took)
    }
}

/// What tells a worker of so many nodes beside its own, and how far these can be reached.
fn snapshot(version: u64, others: usize, reach: Reach) -> Command<usize> {
    let place = |index: usize| Destination {
        id: destination(index),
        node: node(index),
        worker: WorkerIndex(0),
        address: member(index).address,
        reach: if index == 0 { Reach::Usable } else { reach },
        routed: true,
        damped: false,
    };
    let members = (0..=others).map(member).collect();
    let view = Arc::new(View::new(node(0), version, members));
    let places = (0..=others).map(|index| Some(place(index))).collect();
    let destinations = Destinations::new(places, destination(1).serial());
    Command::Apply(Arc::new(Snapshot::new(version, view, destinations, Vec::new())))
}

const TURN: Duration = Duration::from_millis(12);

#[test]
fn a_full_inbox_of_slow_messages_leaves_time_for_everything_else() {
    let mut bench = Bench::new();
    bench.link(1, &[1_000; 2_340]);
    bench.link(2, &[1; 3]);
    bench.tell_itself(20, 100);
    let mut elapsed = Duration::ZERO;
    for turns in 1.. {
        let (outcome, took) = bench.run();
        assert!(took <= TURN, "turn {turns} took {took:?}");
        assert_eq!(outcome, TurnOutcome::Again);
        elapsed += took;
        let [first, second] = bench.hands.sockets[..] else { panic!("there are two links") };
        // Both are acknowledged, and what it told itself is handled.
        let both = [first, second].iter().all(|(link, _)| bench.hands.written.contains(link));
        if both && bench.worker.counts().delivered == 20 {
            break;
        }
        assert!(elapsed < Duration::from_millis(60), "{:?}", bench.worker.counts());
    }
    assert!(bench.worker.counts().received < 100);

    bench.hands.commands.push_back(Command::Stop);
    let (outcome, took) = bench.run();
    assert_eq!((outcome, took), (TurnOutcome::Ended, Duration::ZERO));
    assert!(matches!(bench.hands.reports.last(), Some(Report::Ended(WorkerIndex(0)))));
}

#[test]
fn slow_messages_to_itself_come_in_slices() {
    let mut bench = Bench::new();
    bench.tell_itself(64, 1_000);
    let mut turns = 0;
    while bench.worker.counts().delivered < 64 {
        let (_, took) = bench.run();
        assert!(took <= Duration::from_millis(5), "{took:?}");
        turns += 1;
    }
    assert!((16..=20).contains(&turns), "{turns} turns");
    assert_eq!(bench.worker.counts().in_flight(), 0);
    let (outcome, _) = bench.run();
    assert_eq!(outcome, TurnOutcome::Sleep);
}

#[test]
fn all_of_a_slow_inbox_is_handled_once_and_in_order() {
    let mut bench = Bench::new();
    bench.link(1, &[700; 300]);
    let mut turns = 0;
    while bench.run().0 == TurnOutcome::Again {
        turns += 1;
        assert!(turns < 200);
    }
    assert_eq!(bench.worker.counts().received, 300);
    assert!(turns > 20, "{turns} turns");
}

#[test]
fn a_handler_that_holds_its_worker_is_named_once_and_counted_each_time() {
    let mut bench = Bench::new();
    bench.link(1, &[150_000, 10, 120_000]);
    while bench.run().0 == TurnOutcome::Again {}
    let slow: Vec<_> = bench
        .hands
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::SlowTurn(slow) => Some(slow.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(bench.worker.counts().slow_turns, 2);
    let [slow] = &slow[..] else { panic!("{slow:?}") };
    assert_eq!(&*slow.path, "/slow");
    assert_eq!(slow.message.as_deref(), Some("tests.ping"));
    assert_eq!((slow.took.as_millis(), slow.messages), (150, 1));
}

#[test]
fn the_name_of_a_link_that_is_gone_is_nobodys() {
    let mut bench = Bench::new();
    bench.link(1, &[1]);
    bench.run();
    let (old, _) = bench.hands.sockets[0];
    // The peer dials again: the new link takes the old one's place, not its name.
    bench.link(1, &[1]);
    bench.run();
    let [(new, _)] = bench.hands.sockets[..] else { panic!("the old one is closed") };
    assert_eq!((old.slot(), bench.hands.closed.contains(&old)), (new.slot(), true));
    assert_ne!(old, new);
    assert_eq!(LinkId::from_bits(new.to_bits()), new);
    assert!(bench.worker.link(old).is_none() && bench.worker.link(new).is_some());
    // What still comes of the old socket does nothing to the new one.
    bench.turn.readable(old, true);
    bench.turn.writable(&mut bench.worker, old);
    bench.worker.link_lost(old);
    bench.run();
    assert!(bench.worker.link(new).is_some());
    assert_eq!(bench.worker.counts().received, 2);
}

#[test]
fn the_end_of_a_connection_that_came_with_its_last_bytes_is_seen() {
    let mut bench = Bench::new();
    bench.link(1, &[]);
    bench.run();
    let (link, input) = bench.hands.sockets[0];
    bench.hands.inputs[input].0.extend_from_slice((bench.encode)(&ping(1)).bytes());
    bench.hands.inputs[input].2 = false;
    bench.hands.ended = true;
    // One event tells of both, and the read that takes the bytes leaves room: no other one follows.
    bench.turn.readable(link, true);
    bench.run();
    bench.run();
    assert_eq!(bench.worker.counts().received, 1);
    assert!(bench.worker.link(link).is_none(), "it waits for an event that does not come");
}

#[test]
fn reports_wait_for_control_and_those_of_dead_messages_are_summed() {
    let mut bench = Bench::new();
    bench.hands.control_is_behind = true;
    for _ in 0..3 {
        let mut frames = (bench.encode)(&ping(1));
        frames.patch_first_target(HandlerId(77));
        bench.worker.inject(Injection::Frames { destination: destination(0), frames });
        bench.run();
        bench.run();
    }
    assert!(bench.hands.reports.is_empty());
    bench.hands.control_is_behind = false;
    bench.run();
    let [Report::DeadLetters(letter)] = &bench.hands.reports[..] else {
        panic!("{:?}", bench.hands.reports)
    };
    assert_eq!((letter.reason, letter.count), (DeathReason::UnknownHandler, 3));
}

#[test]
fn a_worker_that_stops_gives_what_was_handed_over_its_end_and_takes_nothing_more() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        let frames = (bench.encode)(&ping(1));
        bench.injector.push(Injection::Frames { destination: destination(0), frames }).unwrap();
    }
    bench.hands.commands.push_back(Command::Stop);
    assert_eq!(bench.run().0, TurnOutcome::Ended);
    let counts = bench.worker.counts();
    assert_eq!((counts.sent, counts.dead[DeathReason::Stopped as usize]), (5, 5));
    let frames = (bench.encode)(&ping(1));
    assert!(
        bench.injector.push(Injection::Frames { destination: destination(0), frames }).is_err()
    );
}

#[test]
fn application_threads_see_when_the_worker_itself_is_behind() {
    let mut bench = Bench::new();
    bench.tell_itself(320, 1_000);
    bench.run();
    assert_eq!(bench.hands.shown.last(), Some(&(destination(0), WayState::Full)));
    while bench.worker.counts().in_flight() > 0 {
        bench.run();
    }
    assert_eq!(bench.hands.shown.last(), Some(&(destination(0), WayState::Open)));
}

/// Lets a link take a message, which it acknowledges, and then runs for so long with these facts.
/// Gives when the link was closed, and how often it was looked at.
fn watched(flow: impl Fn(Duration) -> Option<Flow>, ms: u64) -> (Option<Duration>, usize) {
    let mut bench = Bench::new();
    bench.link(1, &[1]);
    while bench.hands.written.is_empty() {
        bench.run();
    }
    let written = bench.hands.now();
    let (link, _) = bench.hands.sockets[0];
    loop {
        let passed = bench.hands.now().since(written);
        if passed >= Duration::from_millis(ms) {
            return (None, bench.hands.looked.len());
        }
        bench.hands.flow = flow(passed);
        let (outcome, _) = bench.run();
        if bench.hands.closed.contains(&link) {
            return (Some(passed), bench.hands.looked.len());
        }
        if outcome == TurnOutcome::Sleep {
            let pause = bench.turn.may_sleep(&bench.worker, &mut bench.hands);
            let pause = pause.unwrap_or(Duration::MAX).min(Duration::from_millis(ms));
            bench.hands.clock.fetch_add(pause.as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_flow_that_vanishes_ends_its_link_and_a_shut_window_does_not() {
    let vanished =
        |passed| Some(Flow { waiting: true, unacknowledged: true, silent: passed, probes: 0 });
    let (closed, looks) = watched(vanished, 60_000);
    let closed = closed.expect("nobody noticed");
    assert!((DEAD_FLOW..DEAD_FLOW * 4 / 3).contains(&closed), "after {closed:?}");
    assert!(looks <= 7, "{looks} looks");

    let shut =
        |passed| Some(Flow { waiting: true, unacknowledged: false, silent: passed, probes: 1 });
    assert_eq!(watched(shut, 60_000).0, None);
}

/// The worker was held by a handler after much had come on a link, and has just written to it.
#[test]
fn what_was_written_a_moment_ago_is_not_as_old_as_the_first_that_was_written() {
    let mut bench = Bench::new();
    bench.link(1, &[]);
    bench.run();
    let (link, input) = bench.hands.sockets[0];
    let silent = 10 * DEAD_FLOW;
    for heard in [true, true, true, false] {
        let passed = if heard { DEAD_FLOW } else { DEAD_FLOW / 5 };
        bench.hands.clock.fetch_add(passed.as_nanos() as u64, Ordering::Relaxed);
        bench.hands.flow = Some(Flow { waiting: true, unacknowledged: true, silent, probes: 0 });
        if heard {
            bench.hands.inputs[input].0.extend_from_slice((bench.encode)(&ping(1)).bytes());
            bench.hands.inputs[input].2 = false;
            bench.turn.readable(link, false);
        }
        bench.run();
    }
    assert!(!bench.hands.looked.is_empty(), "nobody looked");
    assert_eq!(bench.hands.closed, [], "it was given up");
}

/// A handler holds the worker for long, and at the end of that turn another link is written to.
#[test]
fn what_a_long_turn_writes_at_its_end_is_not_as_old_as_the_turn() {
    let mut bench = Bench::new();
    bench.link(1, &[]);
    bench.link(2, &[]);
    let flow = |waiting| Flow { waiting, unacknowledged: waiting, silent: DEAD_FLOW, probes: 0 };
    bench.hands.flow = Some(flow(false));
    for _ in 0..2 {
        bench.run();
        bench.hands.clock.fetch_add(DEAD_FLOW.as_nanos() as u64, Ordering::Relaxed);
    }
    let [(slow, input), (other, _)] = bench.hands.sockets[..] else { panic!("two links") };
    let message = (bench.encode)(&ping(2 * DEAD_FLOW.as_micros() as u64));
    bench.hands.inputs[input].0.extend_from_slice(message.bytes());
    bench.hands.inputs[input].2 = false;
    bench.turn.readable(slow, false);
    let Core { links, encoder, .. } = &mut bench.worker.core;
    links[other].outbox.push_control(encoder, FrameKind::Fin, &Fields::default(), 0, &[]);
    bench.worker.touch(other);
    bench.run();
    assert!(bench.hands.written.contains(&other));
    bench.hands.flow = Some(flow(true));
    bench.run();
    assert_eq!(bench.hands.closed, [], "it was given up");
}

#[test]
fn a_link_that_owes_nothing_is_looked_at_once() {
    let silent = Duration::from_secs(60);
    let idle = |_| Some(Flow { waiting: false, unacknowledged: false, silent, probes: 0 });
    assert_eq!(watched(idle, 60_000), (None, 1));
}

#[test]
fn a_result_that_came_before_the_worker_said_that_it_sleeps_is_not_slept_on() {
    let mut bench = Bench::new();
    let instance = bench.worker.routees[SLOW.slot()].as_ref().unwrap().id;
    let mut cx = Context { core: &mut bench.worker.core, instance, origin: None };
    let begun = cx.begin_work(|slow: &mut Slow, took, _| {
        slow.0.fetch_add(took.unwrap(), Ordering::Relaxed);
    });
    while bench.run().0 != TurnOutcome::Sleep {}
    // Nobody wakes a worker that has not said so.
    begun.unwrap().done(1_000_000_u64);
    assert_eq!(bench.turn.may_sleep(&bench.worker, &mut bench.hands), Some(Duration::ZERO));
    let before = bench.hands.now();
    bench.run();
    assert!(bench.hands.now().since(before) >= Duration::from_millis(1));
    assert_eq!(bench.worker.counts().work_ended[0], 1);
}
