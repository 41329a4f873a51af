//! What all faces of one node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::keeper::Keeper;
use super::places::Places;
use super::times::AskTimes;
use crate::base::fate::{Counts, Refusal};
use crate::base::{MemberEvent, NodeRef, WorkerIndex};
use crate::control::joining::JoinState;
use crate::hash::HashSeed;
use crate::part::load::Loads;
use crate::queue::board::{Board, CountsBoard};
use crate::queue::inject::Injector;
use crate::queue::reply::ReplySlots;
use crate::queue::stream::StreamSender;
use crate::route::snapshot::Snapshot;
use crate::runtime::clock::Clock;
use crate::runtime::proxies::{DeadLetter, Order};
use crate::runtime::published::{Ended, Strangers};
use crate::worker::{AppReply, Buffers, Injection, RouteeRef, Sender};

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
    pub clock: Clock,
    pub seed: HashSeed,
    pub orders: mpsc::Sender<Order>,
    /// Routers that one holder less needs. Never blocks, and never holds more than there are
    /// routers.
    pub unroute: mpsc::UnboundedSender<u32>,
    /// What applications may watch at a time.
    pub watches: Places,
    /// Watches that are dropped. Never blocks, and never holds more than there are places.
    pub unwatch: mpsc::UnboundedSender<u64>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub changes: watch::Receiver<Arc<Snapshot>>,
    pub events: StreamSender<MemberEvent>,
    pub dead_letters: StreamSender<DeadLetter>,
    pub ended: watch::Receiver<Option<Ended>>,
    pub strangers: watch::Receiver<Strangers>,
    pub join: watch::Receiver<JoinState>,
    /// As the part last showed them.
    pub loads: Arc<ArcSwap<Loads>>,
    /// Whether the node takes nothing more.
    pub closing: Arc<AtomicBool>,
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
    /// The node's counts. How messages ended is read before how many were sent, of all workers: so
    /// one that has not ended is never missing, whatever moves meanwhile.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for door in &self.doors {
            counts += door.counts.tally.ended();
        }
        for (count, refused) in counts.refused.iter_mut().zip(&self.refused) {
            let refused = refused.load(Ordering::Relaxed);
            *count += refused;
            counts.sent += refused;
        }
        for Door { injector, counts: worker, .. } in &self.doors {
            let sent = worker.tally.sent.get().wrapping_add(injector.handed_over());
            counts.sent += sent;
        }
        counts
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
            closing: &self.closing,
            refused: &self.refused,
        }
    }
}
