//! What a node's bounded parts may take at most.

use std::fmt;

use super::NodeConfig;

/// What is reckoned for one item in a queue, without the frames it points to.
pub const QUEUE_ITEM_BYTES: u64 = 128;
/// The frames of a hand-over or reply up to this size count with its place, larger ones by their
/// bytes.
const SMALL_HAND_OVER_BYTES: u64 = 1_024;
/// What is reckoned for one ask in flight on each worker: two places in its table, and two timers.
const ASK_BYTES: u64 = 320;
/// What is reckoned for one place where an application waits: its slot and deadline.
const REPLY_SLOT_BYTES: u64 = 176;
/// What is reckoned for a connection that has not proved itself yet.
const HANDSHAKE_BYTES: u64 = 4_096;
/// What is reckoned for a link beside its buffers.
const LINK_BYTES: u64 = 1_024;
/// What a receive buffer has in any case.
const FIRST_INBOX_BYTES: u64 = 4_096;
/// What is reckoned for a watch: one that is kept here for this worker's own, one for another
/// node's worker, and what is told when it ends.
const WATCH_BYTES: u64 = 1_024;
/// An ordinary chunk of frames.
const CHUNK_BYTES: u64 = 64 << 10;
/// The share of a link's outbox that no other link can take.
const SHARE_BYTES: u64 = CHUNK_BYTES / 4;
/// Free chunks that a worker keeps.
const KEPT_CHUNKS: u64 = 64;

impl NodeConfig {
    /// The most memory the node's bounded parts take with this many other nodes, when everything
    /// is full at once.
    ///
    /// It assumes that the others have as many workers as this one. Not in it: what handlers and
    /// entities hold, routing tables and member records, and what a process takes without doing
    /// anything.
    pub fn memory_bound(&self, peers: usize) -> MemoryBound {
        let (workers, links) = (&self.workers, &self.links);
        let count = workers.count as u64;
        let each = |bytes: u64| count.saturating_mul(bytes);
        let frame = (links.max_frame_bytes as u64).max(CHUNK_BYTES);

        // Twice as much as waits in a worker's queue may wait behind it for room on its links, and
        // one of each may be larger than all.
        let places = 3 * workers.inject_capacity as u64;
        let hand_overs = places * (QUEUE_ITEM_BYTES + SMALL_HAND_OVER_BYTES)
            + 3 * (workers.inject_bytes as u64 + frame);

        // Between siblings, and the chunk of each that is being handled.
        let siblings = count - 1;
        let on_the_way = (workers.ring_bytes as u64).max(siblings.saturating_mul(frame));
        let rings = (siblings + 1)
            .saturating_mul(workers.ring_capacity as u64 * QUEUE_ITEM_BYTES)
            .saturating_add(on_the_way)
            .saturating_add(siblings.saturating_mul(frame));

        // On each worker, as others' asks may all be there; and where applications wait.
        let asks = workers.max_asks as u64;
        let asking = each(asks * ASK_BYTES + workers.retry_bytes as u64 + frame);
        let replies = asks * (REPLY_SLOT_BYTES + SMALL_HAND_OVER_BYTES)
            + workers.replies_bytes as u64
            + frame;

        // Links to itself and siblings, and dialed ones; accepted ones of members, and of others.
        let members = (peers as u64).saturating_mul(count);
        let dialed = count.saturating_add(members);
        let accepted = links.max_accepted as u64;
        let outboxes = (links.outboxes_bytes as u64 / 4 * 7)
            .saturating_add(
                dialed.saturating_add(members.min(accepted)).saturating_mul(SHARE_BYTES + frame),
            )
            // One message with which the account of clients is passed, and small frames of the
            // protocol itself.
            .saturating_add(frame + accepted * SMALL_HAND_OVER_BYTES);
        let inboxes = links.inboxes_bytes as u64 + 2 * frame;
        let fixed = members.saturating_add(accepted).saturating_mul(LINK_BYTES + FIRST_INBOX_BYTES);

        let free_large = (4 * links.outbox_bytes as u64 / CHUNK_BYTES).clamp(64, 4_096);
        let free_small = each(workers.inject_capacity as u64).min(16_384);
        let free = free_large * CHUNK_BYTES
            + free_small * SMALL_HAND_OVER_BYTES
            + each(KEPT_CHUNKS * CHUNK_BYTES);

        MemoryBound {
            hand_overs_bytes: each(hand_overs),
            rings_bytes: each(rings),
            asks_bytes: asking.saturating_add(replies),
            links_bytes: each(outboxes.saturating_add(inboxes).saturating_add(fixed)),
            handshakes_bytes: links.max_pending_handshakes as u64 * HANDSHAKE_BYTES,
            watches_bytes: each(self.watch.max_watches as u64 * WATCH_BYTES),
            free_bytes: free,
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
    /// What application threads handed over, in queues and behind them.
    pub hand_overs_bytes: u64,
    /// What is on its way between the node's own threads.
    pub rings_bytes: u64,
    /// Asks in flight, their frames that may be sent again, and replies that nobody has taken yet.
    pub asks_bytes: u64,
    /// Outboxes and inboxes of all links, of both directions.
    pub links_bytes: u64,
    /// Connections that have not proved themselves yet.
    pub handshakes_bytes: u64,
    /// Watches, and what is told when they end.
    pub watches_bytes: u64,
    /// Free buffers that are kept.
    pub free_bytes: u64,
}

impl MemoryBound {
    /// The sum.
    pub fn total_bytes(&self) -> u64 {
        [
            self.hand_overs_bytes,
            self.rings_bytes,
            self.asks_bytes,
            self.links_bytes,
            self.handshakes_bytes,
            self.watches_bytes,
            self.free_bytes,
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
            "at most {} MiB: links {}, hand-overs {}, between workers {}, asks and replies {}, \
             watches {}, handshakes {}, free buffers {}",
            mib(self.total_bytes()),
            mib(self.links_bytes),
            mib(self.hand_overs_bytes),
            mib(self.rings_bytes),
            mib(self.asks_bytes),
            mib(self.watches_bytes),
            mib(self.handshakes_bytes),
            mib(self.free_bytes),
        )
    }
}
