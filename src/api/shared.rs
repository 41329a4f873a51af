//! What all faces of one node share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::keeper::Keeper;
use super::times::AskTimes;
use crate::base::fate::{Counts, Refusal};
use crate::base::{MemberEvent, NodeRef, WorkerIndex};
use crate::control::given_up::GivenUp;
use crate::control::joining::JoinState;
use crate::control::leaving::LeaveWaits;
use crate::control::troubles::Trouble;
use crate::hash::HashSeed;
use crate::part::{COUNTERS, ControlOrder, Faces};
use crate::queue::board::{Board, CountsBoard};
use crate::queue::gate::Gate;
use crate::queue::inject::Injector;
use crate::queue::reply::ReplySlots;
use crate::queue::stream::StreamSender;
use crate::route::snapshot::Snapshot;
use crate::runtime::clock::Clock;
use crate::runtime::last::counted;
use crate::runtime::proxies::{DeadLetter, Order};
use crate::runtime::published::{Ended, Strangers};
use crate::worker::{AppReply, Buffers, Injection, RouteeRef, Sender};

/// What the parts beside routing, as watch, have counted on all workers of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartCount {
    /// The part's name, as in its settings.
    pub part: &'static str,
    /// What is counted.
    pub event: &'static str,
    /// How often it happened since the node's start.
    pub count: u64,
}

/// One worker as application threads see it.
pub(crate) struct Door {
    pub injector: Injector<Injection>,
    pub board: Arc<Board>,
    pub counts: Arc<CountsBoard>,
}

/// What all faces of one node share.
pub(crate) struct Shared {
    pub me: NodeRef,
    pub name: Arc<str>,
    pub address: std::net::SocketAddr,
    pub bound: std::net::SocketAddr,
    pub clock: Clock,
    pub seed: HashSeed,
    pub orders: mpsc::Sender<Order>,
    /// Routers that one holder less needs. Never blocks, and never holds more than there are
    /// routers.
    pub unroute: mpsc::UnboundedSender<u32>,
    /// What the faces of parts share.
    pub parts: Faces,
    /// What handles of parts say when they are dropped. Never blocks, and never holds more than there
    /// are handles, of which each part has a bound.
    pub dropped: mpsc::UnboundedSender<ControlOrder>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub changes: watch::Receiver<Arc<Snapshot>>,
    pub events: StreamSender<MemberEvent>,
    pub dead_letters: StreamSender<DeadLetter>,
    pub ended: watch::Receiver<Option<Ended>>,
    pub strangers: watch::Receiver<Strangers>,
    pub join: watch::Receiver<JoinState>,
    pub leave: watch::Receiver<Option<Arc<LeaveWaits>>>,
    pub troubles: watch::Receiver<Arc<[Trouble]>>,
    /// What was given up at the node's end.
    pub given_up: Arc<OnceLock<GivenUp>>,
    /// How long a turn may last before it counts as slow.
    pub slow_turn: Duration,
    /// Whether the node takes messages.
    pub gate: Arc<Gate>,
    pub doors: Vec<Door>,
    pub buffers: Arc<Buffers>,
    pub replies: ReplySlots<AppReply>,
    /// Keeps the deadlines of futures.
    pub keeper: Keeper,
    /// How long asks take.
    pub ask_times: AskTimes,
    /// Refusals on application threads; workers count their own.
    pub refused: [AtomicU64; Refusal::ALL.len()],
    /// Gives each router handle a home worker.
    pub next_home: AtomicU64,
}

impl Shared {
    /// The node's counts. Each only rises, over all of the node's life.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counted();
        for (count, refused) in counts.refused.iter_mut().zip(&self.refused) {
            let refused = refused.load(Ordering::Relaxed);
            *count += refused;
            counts.sent += refused;
        }
        counts
    }

    pub fn part_counts(&self) -> Vec<PartCount> {
        let of = |(place, &(part, event)): (usize, &(&'static str, &'static str))| {
            let counts = self.doors.iter().map(|door| door.counts.parts[place].get());
            PartCount { part, event, count: counts.sum() }
        };
        COUNTERS.iter().enumerate().map(of).collect()
    }

    fn counted(&self) -> Counts {
        let workers = self.doors.iter().map(|door| (&door.injector, &*door.counts));
        let now = (self.clock.now(), self.slow_turn);
        counted(workers, now, &self.given_up, || self.ended.borrow().is_some())
    }

    /// How far the node has got with joining, where it has ended so, or has not.
    pub fn join_state(&self, ended: Option<&Ended>) -> JoinState {
        // Whatever was told last is over then, however it ended.
        ended.map_or_else(|| self.join.borrow().clone(), |_| JoinState::Ended)
    }

    pub fn home(&self) -> WorkerIndex {
        let next = self.next_home.fetch_add(1, Ordering::Relaxed);
        WorkerIndex((next % self.doors.len() as u64) as u16)
    }

    /// The worker that serves a reference: always the same, so that order is kept.
    pub fn home_of(&self, to: &RouteeRef) -> WorkerIndex {
        WorkerIndex((usize::from(to.id.worker.0) % self.doors.len()) as u16)
    }

    /// Counts a message that was refused before there was a sender for it.
    pub fn count_refusal(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A sender through one worker, by a snapshot.
    #[inline]
    pub fn sender<'a>(&'a self, home: WorkerIndex, snapshot: &'a Snapshot) -> Sender<'a> {
        let door = &self.doors[usize::from(home.0)];
        Sender {
            snapshot,
            injector: &door.injector,
            board: &door.board,
            buffers: &self.buffers,
            replies: &self.replies,
            gate: &self.gate,
            refused: &self.refused,
        }
    }
}
