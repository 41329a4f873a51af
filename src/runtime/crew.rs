//! What the workers of a node are made of before their threads start: their polls, the queues
//! between them, and the ends of these that others hold.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use mio::{Poll, Waker as PollWaker};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::proxies::{Command, Report};
use super::worker::{SiblingRings, WAKE, WorkerEnds, WorkerThread};
use crate::base::{NodeRef, WorkerIndex};
use crate::config::{NodeConfig, WorkersConfig};
use crate::part::PartSettings;
use crate::queue::board::{Board, CountsBoard};
use crate::queue::inject::{Injector, Room, injector};
use crate::queue::reply::ReplySlots;
use crate::queue::ring::{RingSender, ring};
use crate::queue::wake::{Sleeper, Waker, sleeper};
use crate::queue::weighed::{WeighedReceiver, WeighedSender, weighed_ring};
use crate::wire::{CHUNK_BYTES, Chunk};
use crate::worker::inject::Injection;
use crate::worker::turn::{InboxRoom, Turn};
use crate::worker::{AppReply, Buffers, Limits, Worker, WorkerParts};

/// Free buffers of 1 KiB that are kept.
const MOST_FREE_SMALL: usize = 16_384;

/// A worker's way in, how its links stand, its counts.
pub type Door = (Injector<Injection>, Arc<Board>, Arc<CountsBoard>);

/// The workers of a node, and what others need to reach them.
pub struct Crew {
    /// By worker.
    pub recruits: Vec<Recruit>,
    /// By worker: the way from control.
    pub commands: Vec<RingSender<Command>>,
    /// What all of them report to control.
    pub reports: mpsc::Receiver<Report>,
    /// By worker: the way from application threads.
    pub doors: Vec<Door>,
    /// Free buffers.
    pub buffers: Arc<Buffers>,
    /// Where applications wait for replies.
    pub replies: ReplySlots<AppReply>,
}

/// A worker whose thread has not started yet.
pub struct Recruit {
    core: Option<usize>,
    parts: WorkerParts,
    limits: Limits,
    /// How long it spins, what counts as a slow turn, and as a dead flow.
    times: (Duration, Duration, Duration),
    inboxes: InboxRoom,
    sleeper: Sleeper,
    ends: WorkerEnds,
}

impl Crew {
    /// Makes everything that may fail or that more than one thread holds an end of.
    ///
    /// # Errors
    /// When the system gives no poll.
    pub fn muster(config: &NodeConfig, me: NodeRef, clock: Clock, seed: u64) -> io::Result<Self> {
        let workers = &config.workers;
        let room = Room { items: workers.inject_capacity, bytes: workers.inject_bytes };
        let cores = cores(workers);
        let buffers = Arc::new(buffers(config));
        let replies = ReplySlots::new(workers.max_asks);
        let (to_control, reports) = mpsc::channel(workers.ring_capacity);
        // Each worker's poll exists before its thread, because others must be able to wake it.
        let beds: Vec<Bed> = (0..workers.count).map(|_| Bed::make()).collect::<io::Result<_>>()?;
        let wakers: Vec<Waker> = beds.iter().map(|bed| bed.waker.clone()).collect();
        let siblings = sibling_rings(workers.count, sibling_room(workers), &wakers);
        let running = Arc::default();
        let (mut recruits, mut commands, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (bed, siblings)) in beds.into_iter().zip(siblings).enumerate() {
            let (to_worker, from_control) = ring(workers.ring_capacity, bed.waker.clone());
            let (injector, injected) = injector(room, bed.waker);
            let board = Arc::new(Board::new());
            let counts = Arc::new(CountsBoard::new());
            commands.push(to_worker);
            doors.push((injector.clone(), Arc::clone(&board), Arc::clone(&counts)));
            recruits.push(Recruit {
                core: cores.get(index).copied(),
                parts: WorkerParts {
                    me,
                    index: WorkerIndex(index as u16),
                    workers: workers.count as u16,
                    buffers: Arc::clone(&buffers),
                    replies: replies.clone(),
                    injector,
                    settings: PartSettings::new(config),
                    seed: seed ^ (index as u64) << 32,
                },
                limits: Limits::new(config),
                times: times(config),
                inboxes: InboxRoom {
                    usual_bytes: config.links.inbox_bytes,
                    all_bytes: config.links.inboxes_bytes,
                },
                sleeper: bed.sleeper,
                ends: WorkerEnds {
                    poll: bed.poll,
                    commands: from_control,
                    injected,
                    siblings,
                    reports: to_control.clone(),
                    clock,
                    board,
                    counts,
                    inbox_bytes: config.links.inbox_bytes,
                    running: Arc::clone(&running),
                    awaited: Weak::new(),
                    sockets: Vec::new(),
                    received_bytes: 0,
                },
            });
        }
        Ok(Self { recruits, commands, reports, doors, buffers, replies })
    }
}

impl Recruit {
    /// Starts the worker's thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self) -> io::Result<()> {
        let index = self.parts.index;
        let reports = self.ends.reports.clone();
        thread::Builder::new().name(format!("keyway-worker-{index}")).spawn(move || {
            let mut thread = None;
            guard(index, &reports, || {
                if let Some(core) = self.core {
                    pin(core);
                }
                thread.insert(self.made()).run()
            });
            // What it holds of users' may panic as it goes, and there is nobody left to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(thread)));
        })?;
        Ok(())
    }

    /// Handlers live and die on their worker's thread, so the worker is made there.
    fn made(self) -> WorkerThread {
        let Self { parts, limits, times, inboxes, sleeper, ends, .. } = self;
        let turn = Turn::new(parts.index, parts.workers, times, inboxes);
        let worker = Worker::new(parts, limits, ends.clock.now());
        let worker = worker.published_on(Arc::clone(&ends.counts));
        WorkerThread { worker, turn, sleeper, ends }
    }
}

/// Runs a worker to its end. Control is told of one that nobody told to stop: the others would wait
/// for it for ever, and so would whoever sent something through it.
fn guard(index: WorkerIndex, reports: &mpsc::Sender<Report>, run: impl FnOnce() -> io::Result<()>) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!(%index, %error, "a worker's poll failed"),
        Err(_) => tracing::error!(%index, "a worker's thread has panicked: the node stops"),
    }
    // Nobody is there to need it, if control is gone.
    let _ = reports.blocking_send(Report::Lost(index));
}

/// Where a worker sleeps, and how it is woken.
struct Bed {
    poll: Poll,
    sleeper: Sleeper,
    waker: Waker,
}

impl Bed {
    fn make() -> io::Result<Self> {
        let poll = Poll::new()?;
        let wake = PollWaker::new(poll.registry(), WAKE)?;
        let (sleeper, waker) = sleeper(move || {
            // The poll lives as long as its thread; after that nobody needs to be woken.
            let _ = wake.wake();
        });
        Ok(Self { poll, sleeper, waker })
    }
}

fn times(config: &NodeConfig) -> (Duration, Duration, Duration) {
    (
        Duration::from_micros(config.workers.spin_us),
        Duration::from_millis(config.workers.slow_turn_ms),
        Duration::from_millis(config.links.dead_flow_ms),
    )
}

/// As many free buffers as all injection queues could hold at a time, within reason.
fn buffers(config: &NodeConfig) -> Buffers {
    let small = (config.workers.inject_capacity * config.workers.count).min(MOST_FREE_SMALL);
    let large = (4 * config.links.outbox_bytes / CHUNK_BYTES).clamp(64, 4096);
    Buffers::new(large, small, config.links.max_frame_bytes, config.workers.replies_bytes)
}

/// By worker: the core it is pinned to; empty for none.
fn cores(workers: &WorkersConfig) -> Vec<usize> {
    match &workers.cores {
        Some(cores) => cores.clone(),
        None if workers.pin => (workers.first_core..).take(workers.count).collect(),
        None => Vec::new(),
    }
}

/// What waits for one sibling: its part of what waits for all.
fn sibling_room(workers: &WorkersConfig) -> Room {
    let siblings = (workers.count - 1).max(1);
    Room { items: workers.ring_capacity, bytes: workers.ring_bytes / siblings }
}

fn sibling_rings(count: usize, room: Room, wakers: &[Waker]) -> Vec<Vec<Option<SiblingRings>>> {
    type Ends = Option<(WeighedSender<Chunk>, WeighedReceiver<Chunk>)>;
    // ends[a][b]: the ring from a to b.
    let mut ends: Vec<Vec<Ends>> = (0..count)
        .map(|from| {
            (0..count)
                .map(|to| (from != to).then(|| weighed_ring(room, wakers[to].clone())))
                .collect()
        })
        .collect();
    let mut receivers: Vec<Vec<Option<WeighedReceiver<Chunk>>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    let mut senders: Vec<Vec<Option<WeighedSender<Chunk>>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    for from in 0..count {
        for to in 0..count {
            if let Some((sender, receiver)) = ends[from][to].take() {
                senders[from][to] = Some(sender);
                receivers[to][from] = Some(receiver);
            }
        }
    }
    senders
        .into_iter()
        .zip(receivers)
        .map(|(senders, receivers)| {
            senders
                .into_iter()
                .zip(receivers)
                .map(|(to, from)| Some(SiblingRings { to: to?, from: from? }))
                .collect()
        })
        .collect()
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "a worker could not be pinned to its core and runs unpinned");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
    use crate::wire::{Fields, FrameKind, encode_empty};
    use crate::worker::turn::{TurnOutcome, WorkerIo};

    fn run_until_it_ends(thread: &mut WorkerThread) {
        while thread.turn.run(&mut thread.worker, &mut thread.ends) != TurnOutcome::Ended {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn tell() -> Chunk {
        let mut chunk = Chunk::with_capacity(64);
        let (message, target, none) = (MessageTypeId(1), HandlerId(1), Fields::default());
        encode_empty(&mut chunk, FrameKind::Tell, &none, message, target, &[]).unwrap();
        chunk
    }

    /// It was in a handler, and its sibling has waited for it no longer.
    #[test]
    fn what_a_held_worker_hands_to_a_sibling_that_has_stopped_meanwhile_is_dead() {
        let mut config = NodeConfig::default();
        config.workers.count = 2;
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let mut crew = Crew::muster(&config, me, Clock::start(), 1).unwrap();
        for commands in &mut crew.commands {
            commands.push(Command::Stop).unwrap();
        }
        let mut threads: Vec<_> = crew.recruits.into_iter().map(Recruit::made).collect();
        run_until_it_ends(&mut threads[1]);
        let refused = threads[0].ends.push_chunk(WorkerIndex(1), tell());
        assert!(refused.is_err(), "it is with the one that counts it");
        // As when the sibling stops right after it was asked whether it has.
        let rings = threads[0].ends.siblings[1].as_mut().unwrap();
        rings.to.push_quiet(tell()).unwrap();
        run_until_it_ends(&mut threads[0]);
        let dead: u64 = threads.iter().map(|thread| thread.worker.counts().dead_total()).sum();
        assert_eq!(dead, 1);
    }

    #[test]
    fn control_is_told_of_a_worker_that_nobody_told_to_stop() {
        let told = |run: fn() -> io::Result<()>| {
            let (reports, mut heard) = mpsc::channel(1);
            guard(WorkerIndex(3), &reports, run);
            matches!(heard.try_recv(), Ok(Report::Lost(WorkerIndex(3))))
        };
        assert!(!told(|| Ok(())));
        assert!(told(|| Err(io::ErrorKind::OutOfMemory.into())));
        assert!(told(|| panic!("told to")));
    }

    #[test]
    fn what_waits_for_all_siblings_together_is_bounded() {
        let room = |count| {
            let bytes = WorkersConfig { count, ring_bytes: 12 << 20, ..Default::default() };
            sibling_room(&bytes).bytes
        };
        assert_eq!([1, 2, 4, 5].map(room), [12 << 20, 12 << 20, 4 << 20, 3 << 20]);
    }

    #[test]
    fn workers_do_not_walk_their_routees_in_step() {
        let mut config = NodeConfig::default();
        config.workers.count = 3;
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let crew = Crew::muster(&config, me, Clock::start(), 1).unwrap();
        let seeds: std::collections::BTreeSet<_> =
            crew.recruits.iter().map(|recruit| recruit.parts.seed).collect();
        assert_eq!(seeds.len(), 3);
    }

    #[test]
    fn what_control_said_last_is_done_before_it_counts_as_gone() {
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let mut crew = Crew::muster(&NodeConfig::default(), me, Clock::start(), 1).unwrap();
        crew.commands[0].push(Command::Finish).unwrap();
        crew.commands.clear();
        let ends = &mut crew.recruits[0].ends;
        assert!(!ends.is_control_gone() && matches!(ends.next_command(), Some(Command::Finish)));
        assert!(ends.is_control_gone());
    }
}
