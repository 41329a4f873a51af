//! What all faces of one node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, watch};

use crate::base::fate::{Counts, Refusal};
use crate::base::{HandlerId, MemberEvent, NodeRef, WorkerIndex};
use crate::hash::HashSeed;
use crate::queue::board::{Board, CountsBoard, LinkState};
use crate::queue::inject::Injector;
use crate::queue::reply::ReplySlots;
use crate::route::snapshot::Snapshot;
use crate::runtime::clock::Clock;
use crate::runtime::control::{Ended, Strangers};
use crate::runtime::proxies::{DeadLetter, Order};
use crate::wire::Chunk;
use crate::worker::{AppReply, Buffers, Injection};

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
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub changes: watch::Receiver<Arc<Snapshot>>,
    pub events: broadcast::Sender<MemberEvent>,
    pub dead_letters: broadcast::Sender<DeadLetter>,
    pub ended: watch::Receiver<Option<Ended>>,
    pub strangers: watch::Receiver<Strangers>,
    /// Whether the node takes nothing more.
    pub closing: Arc<AtomicBool>,
    pub doors: Vec<Door>,
    pub buffers: Arc<Buffers>,
    pub replies: ReplySlots<AppReply>,
    /// Refusals on application threads; workers count their own.
    pub refused: [AtomicU64; Refusal::ALL.len()],
    /// Gives each router handle a home worker.
    pub next_home: AtomicU64,
}

impl Shared {
    /// The node's counts, at most a few milliseconds old.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for door in &self.doors {
            counts += Counts::from_words(&door.counts.read());
        }
        for (count, refused) in counts.refused.iter_mut().zip(&self.refused) {
            let refused = refused.load(Ordering::Relaxed);
            *count += refused;
            counts.sent += refused;
        }
        counts
    }

    pub fn home(&self) -> WorkerIndex {
        let next = self.next_home.fetch_add(1, Ordering::Relaxed);
        WorkerIndex((next % self.doors.len() as u64) as u16)
    }

    /// Whether the node takes nothing more from application threads.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Counts refusals that never reached a worker.
    pub fn refuse<T>(&self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome {
            self.refused[*refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Whether a worker's link to a destination takes messages, as far as is known here.
    pub fn check(&self, home: WorkerIndex, destination: u32) -> Result<(), Refusal> {
        if self.is_closing() {
            return Err(Refusal::Stopped);
        }
        match self.doors[usize::from(home.0)].board.get(destination) {
            LinkState::Open => Ok(()),
            LinkState::Full => Err(Refusal::QueueFull),
            LinkState::Down => Err(Refusal::Unreachable),
            LinkState::Finished => Err(Refusal::Stopped),
        }
    }

    /// Hands encoded frames to a worker.
    pub fn hand_over(
        &self,
        home: WorkerIndex,
        destination: u32,
        frames: Chunk,
    ) -> Result<(), Refusal> {
        let injection = Injection::Frames { destination, frames };
        self.doors[usize::from(home.0)].injector.push(injection).map_err(|full| {
            if let Injection::Frames { frames, .. } = full.0 {
                self.buffers.give(frames);
            }
            Refusal::QueueFull
        })
    }
}

/// Where one message goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub destination: u32,
    pub handler: HandlerId,
}
