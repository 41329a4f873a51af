//! What a node's bounded parts may take at most.

use std::fmt;

use super::NodeConfig;

/// What [`NodeConfig::memory_bound`] reckons for one item in a queue, without a body it points to.
pub const QUEUE_ITEM_BYTES: u64 = 128;
/// The frames of a hand-over up to this size count with its place, larger ones by their bytes.
pub const SMALL_HAND_OVER_BYTES: u64 = 1_024;
/// What [`NodeConfig::memory_bound`] reckons for one ask in flight: its slot, deadline and timer; and
/// for one piece of work of a routee's on another thread, without its result.
pub const ASK_BYTES: u64 = 256;
/// What [`NodeConfig::memory_bound`] reckons for a connection that has not proved itself yet.
pub const HANDSHAKE_BYTES: u64 = 4_096;

impl NodeConfig {
    /// The most memory the node's bounded parts take with this many other nodes, when everything
    /// is full at once.
    ///
    /// It assumes that the others have as many workers as this one. Not in it: what handlers and
    /// entities hold, routing tables, and code.
    pub fn memory_bound(&self, peers: usize) -> MemoryBound {
        let workers = self.workers.count as u64;
        // Rings: worker to worker, and control to worker and back.
        let rings = workers.saturating_mul(workers + 1);
        // Twice as much as waits in a worker's queue may wait behind it for room on its links.
        let handed_over = workers.saturating_mul(3 * self.workers.inject_capacity as u64);
        let in_rings = rings.saturating_mul(self.workers.ring_capacity as u64);
        let queued = handed_over.saturating_add(in_rings);
        let queued_bodies = handed_over
            .saturating_mul(SMALL_HAND_OVER_BYTES)
            .saturating_add(workers.saturating_mul(3 * self.workers.inject_bytes as u64))
            .saturating_add(in_rings.saturating_mul(self.links.max_frame_bytes as u64));
        // One link per pair of workers, and one between the control threads.
        let links = (peers as u64).saturating_mul(workers.saturating_mul(workers) + 1);
        let link_bytes = (self.links.outbox_bytes as u64) + (self.links.inbox_bytes as u64);
        MemoryBound {
            queues_bytes: queued.saturating_mul(QUEUE_ITEM_BYTES),
            queued_bodies_bytes: queued_bodies,
            asks_bytes: (self.workers.max_asks as u64)
                .saturating_add(workers.saturating_mul(self.workers.max_work as u64))
                .saturating_mul(ASK_BYTES),
            links_bytes: links.saturating_mul(link_bytes),
            handshakes_bytes: self.links.max_pending_handshakes as u64 * HANDSHAKE_BYTES,
        }
    }

    /// The sum of [`NodeConfig::memory_bound`].
    pub fn memory_bound_bytes(&self, peers: usize) -> u64 {
        self.memory_bound(peers).total_bytes()
    }
}

/// What a node's bounded parts take at most; see [`NodeConfig::memory_bound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// All places in the queues between threads.
    pub queues_bytes: u64,
    /// Message bodies those places may point to, each as long as a message may be. Far above what
    /// a node sees, unless its messages really are that long.
    pub queued_bodies_bytes: u64,
    /// All asks that can be in flight, and all work of routees.
    pub asks_bytes: u64,
    /// Outboxes and inboxes of all links.
    pub links_bytes: u64,
    /// Connections that have not proved themselves yet.
    pub handshakes_bytes: u64,
}

impl MemoryBound {
    /// The sum.
    pub fn total_bytes(&self) -> u64 {
        [
            self.queues_bytes,
            self.queued_bodies_bytes,
            self.asks_bytes,
            self.links_bytes,
            self.handshakes_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "at most {} MiB: links {}, queues {}, bodies in queues {}, asks {}, handshakes {}",
            mib(self.total_bytes()),
            mib(self.links_bytes),
            mib(self.queues_bytes),
            mib(self.queued_bodies_bytes),
            mib(self.asks_bytes),
            mib(self.handshakes_bytes),
        )
    }
}
