//! How a node is: whether it takes messages, and whether one of its workers stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::shared::Door;
use crate::base::{MemberState, Path, WorkerIndex};
use crate::control::joining::JoinState;
use crate::control::lookout::HeldWorker;
use crate::control::size::Crowding;
use crate::control::troubles::Trouble;
use crate::queue::board::{Fill, Gauge, WayState};
use crate::queue::times::Distribution;
use crate::runtime::published::Ended;

/// How long a turn may last before the node is not healthy any more: a slow handler is not yet a
/// reason to take a node out of service.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(1);

/// How a node is. See [`Node::health`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Its own state as a member; `None` before it is one, and after.
    pub state: Option<MemberState>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
    /// How far it has got with joining.
    pub join: JoinState,
    /// What is wrong between it and others, which makes it no less healthy itself: see
    /// [`Node::troubles`].
    pub troubles: Arc<[Trouble]>,
    /// Members that can be sent to, as it sees them.
    pub usable_members: usize,
    /// Set while the cluster has three quarters of the members that fit, or more: nothing is wrong
    /// yet.
    pub crowding: Option<Crowding>,
    /// Its workers, in order.
    pub workers: Vec<WorkerHealth>,
}

/// How one worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerHealth {
    /// Which one.
    pub worker: WorkerIndex,
    /// How long its present turn has lasted; zero while it sleeps.
    pub turn: Duration,
    /// Whether that is so long that something must hold it: a handler that blocks or computes for
    /// more than `workers.slow_turn_ms`, 100 ms by default, or for so long that the node is not
    /// healthy.
    pub stuck: bool,
    /// The path whose handler the turn called last, if it is stuck and the path is known.
    pub path: Option<Path>,
    /// The name of the message's type, if it is stuck with one.
    pub message: Option<Arc<str>>,
}

impl Health {
    /// Whether it takes messages: its own state is `Up`, it goes on, others can reach it and list it, and no
    /// worker has stood still for more than a second.
    pub fn is_healthy(&self) -> bool {
        let up = self.ended.is_none() && self.state == Some(MemberState::Up);
        let unreached = matches!(self.join, JoinState::Unreached { .. } | JoinState::Unlisted);
        up && !unreached && self.workers.iter().all(|worker| worker.turn < UNHEALTHY_AFTER)
    }

    /// The workers that stand still.
    pub fn stuck(&self) -> impl Iterator<Item = &WorkerHealth> {
        self.workers.iter().filter(|worker| worker.stuck)
    }
}

/// How long a turn may last before its worker counts as stuck: whatever makes a node unhealthy is
/// named.
pub(super) fn stuck_after(slow_turn: Duration) -> Duration {
    slow_turn.min(UNHEALTHY_AFTER)
}

impl Node {
    /// How the node is now. It asks no thread, so that it answers whatever they do.
    pub fn health(&self) -> Health {
        let view = self.view();
        let own = view.member(self.id().node);
        let readings = self.shared.doors.iter().map(|door| door.counts.pulse.read());
        let readings: Vec<_> = readings.collect();
        // After the readings, so that no turn seems to begin later than now.
        let now = self.now();
        let workers = readings.into_iter().zip(0..).map(|(reading, index)| {
            let held = HeldWorker::new(WorkerIndex(index), reading, now, own);
            let HeldWorker { worker, path, message, turn, .. } = held;
            let stuck = turn >= stuck_after(self.shared.slow_turn);
            let (path, message) = if stuck { (path, message) } else { (None, None) };
            WorkerHealth { worker, turn, stuck, path, message }
        });
        let ended = self.end();
        Health {
            state: own.map(|own| own.state).filter(|_| ended.is_none()),
            join: self.shared.join_state(ended.as_ref()),
            ended,
            troubles: self.troubles(),
            usable_members: view.members.iter().filter(|member| member.is_usable()).count(),
            crowding: Crowding::of(&view),
            workers: workers.collect(),
        }
    }
}

/// How busy one worker is. See [`Node::worker_use`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerUse {
    /// Which one.
    pub worker: WorkerIndex,
    /// How long it has had something to do since the node's start.
    pub awake: Duration,
    /// How long it has looked for something to do, for `workers.spin_us` each time.
    pub spinning: Duration,
    /// How long it has slept since the node's start.
    pub asleep: Duration,
    /// How long its present turn has lasted; zero while it sleeps.
    pub turn: Duration,
    /// Hand-overs of application threads that wait for it.
    pub queued: usize,
    /// How many of them there is room for.
    pub queue_capacity: usize,
    /// The workers of other nodes, by how its way there stands.
    pub ways: Ways,
    /// How full the rest of it is.
    pub fill: WorkerFill,
}

/// How much of one worker's room is taken, at most 100 ms ago while it is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerFill {
    /// Open asks, of handlers and of application threads.
    pub asks: u64,
    /// Work that its routees have begun elsewhere.
    pub work: u64,
    /// Hand-overs of application threads that wait for room on their links.
    pub held: u64,
    /// Links that workers of other nodes have opened to it, of those it takes.
    pub accepted_links: Room,
    /// Bytes in outboxes: requests to others.
    pub requests: Room,
    /// Bytes in outboxes: replies to members.
    pub replies: Room,
    /// Bytes in outboxes: replies to clients.
    pub client_replies: Room,
    /// Items in the rings from sibling workers and from control.
    pub rings: u64,
    /// Bytes that were received and wait to be handled.
    pub inbox_bytes: u64,
}

/// What is taken of some room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// So much.
    pub taken: u64,
    /// Of so much.
    pub most: u64,
}

impl From<&Fill> for WorkerFill {
    fn from(fill: &Fill) -> Self {
        let room = |(taken, most): &(Gauge, Gauge)| Room { taken: taken.get(), most: most.get() };
        let [requests, replies, client_replies] = fill.outboxes.each_ref().map(room);
        Self {
            asks: fill.asks.get(),
            work: fill.work.get(),
            held: fill.held.get(),
            accepted_links: room(&fill.accepted),
            requests,
            replies,
            client_replies,
            rings: fill.rings.get(),
            inbox_bytes: fill.inboxes.get(),
        }
    }
}

/// How long messages took at one path. See [`Node::path_times`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathTimes {
    /// Which path.
    pub path: Path,
    /// In the handlers of this node, from the frame to the end of the handler.
    pub handled: Distribution,
    /// Asks of this node's application threads, from sending to the reply. Those that end without
    /// one are not among them.
    pub asked: Distribution,
}

impl Node {
    /// How long messages took, by path, of up to 64 paths each way. These are samples: a worker
    /// times the first message of one in 16 turns by itself, and one in 16 asks is timed. What
    /// handlers ask is not.
    pub fn path_times(&self) -> Vec<PathTimes> {
        let mut times = BTreeMap::new();
        let view = self.view();
        let services = view.member(self.id().node).map_or(&[][..], |own| &own.services);
        for (handler, handled) in self.shared.doors.iter().flat_map(|door| door.counts.times.read())
        {
            if let Some(service) = services.iter().find(|it| it.handler.0 == handler) {
                let (sum, _) = times.entry(service.path.clone()).or_insert_with(Default::default);
                let sum: &mut Distribution = sum;
                sum.add(&handled);
            }
        }
        for (path, asked) in self.shared.ask_times.read() {
            times.entry(path).or_insert_with(Default::default).1 = asked;
        }
        let each = times.into_iter();
        each.map(|(path, (handled, asked))| PathTimes { path, handled, asked }).collect()
    }
}

/// Workers of other nodes by how the way there stands, as one worker sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Messages are taken.
    pub open: usize,
    /// The queue is nearly full, and messages are refused.
    pub full: usize,
    /// The link is down.
    pub down: usize,
    /// The peer leaves or is gone.
    pub finished: usize,
}

impl Node {
    /// How busy the workers are. It asks no thread.
    pub fn worker_use(&self) -> Vec<WorkerUse> {
        let snapshot = self.shared.snapshot.load();
        let others = || snapshot.destinations.iter().filter(|known| known.node != self.shared.me);
        let of_door = |(index, door): (usize, &Door)| {
            let spent = door.counts.time_spent(|| self.now());
            let reading = door.counts.pulse.read();
            let mut ways = Ways::default();
            for destination in others() {
                match door.board.get(destination.id) {
                    WayState::Open => ways.open += 1,
                    WayState::Full => ways.full += 1,
                    WayState::Down => ways.down += 1,
                    WayState::Finished => ways.finished += 1,
                }
            }
            WorkerUse {
                worker: WorkerIndex(index as u16),
                awake: Duration::from_nanos(spent.awake_ns),
                spinning: Duration::from_nanos(spent.spun_ns),
                asleep: Duration::from_nanos(spent.asleep_ns),
                turn: reading.turn(self.now()),
                queued: door.injector.len(),
                queue_capacity: door.injector.capacity(),
                ways,
                fill: WorkerFill::from(&door.counts.fill),
            }
        };
        self.shared.doors.iter().enumerate().map(of_door).collect()
    }
}
