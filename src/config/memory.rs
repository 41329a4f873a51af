//! What a node's bounded parts may take at most.

use std::fmt;

use super::NodeConfig;
use super::field::Field;
use super::sizes::{
    CHANNEL_BYTES, CHUNK_BYTES, HEARD_BYTES, Kind, QUEUE_ITEM_BYTES, STREAMS_BYTES, Sizes, WAITING,
    WORDS_BYTES,
};
use super::table::{Section, Setting};

/// With so many other nodes.
fn sizes(config: &NodeConfig, peers: usize) -> Sizes {
    let workers = config.workers.count as u64;
    Sizes {
        workers,
        members: workers.saturating_mul(peers as u64),
        frame: (config.links.max_frame_bytes as u64).max(CHUNK_BYTES),
        accepted: config.links.max_accepted as u64,
    }
}

/// What this setting may take.
fn taken(setting: &Setting<'_>, sizes: &Sizes) -> MemoryBound {
    let mut bound = MemoryBound::default();
    if let Field::Number(slot, ..) = &setting.field {
        for (kind, bytes) in setting.takes {
            bound.add(*kind, bytes(slot.get(), sizes));
        }
    }
    bound
}

impl NodeConfig {
    /// The most memory the node's bounded parts take with this many other nodes, when everything
    /// is full at once.
    ///
    /// It assumes that the others have as many workers as this one. What is not in it is named by
    /// [`MemoryBound::OUTSIDE`].
    pub fn memory_bound(&self, peers: usize) -> MemoryBound {
        let sizes = sizes(self, peers);
        let waiting = sizes.each(WAITING * QUEUE_ITEM_BYTES);
        let channels = (peers as u64).saturating_mul(CHANNEL_BYTES).saturating_add(HEARD_BYTES);
        let mut bound = MemoryBound {
            channels_bytes: channels.saturating_add(waiting),
            gossip_bytes: (peers as u64).saturating_add(1).saturating_mul(WORDS_BYTES),
            events_bytes: STREAMS_BYTES,
            ..MemoryBound::default()
        };
        for setting in self.clone().settings() {
            bound = bound.plus(&taken(&setting, &sizes));
        }
        bound
    }

    /// What each setting that takes memory adds to [`NodeConfig::memory_bound`], by its path. With
    /// channels, gossip and events, which no setting bounds, it is the sum.
    pub fn memory_by_setting(&self, peers: usize) -> Vec<(&'static str, MemoryBound)> {
        let sizes = sizes(self, peers);
        let mut config = self.clone();
        let settings = config.settings().into_iter().filter(|setting| !setting.takes.is_empty());
        settings.map(|setting| (setting.path, taken(&setting, &sizes))).collect()
    }

    /// The sum of [`NodeConfig::memory_bound`].
    pub fn memory_bound_bytes(&self, peers: usize) -> u64 {
        self.memory_bound(peers).total_bytes()
    }
}

/// What a node's bounded parts take at most; see [`NodeConfig::memory_bound`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBound {
    /// What application threads handed over, in queues and behind them.
    pub hand_overs_bytes: u64,
    /// What is on its way between the node's own threads, control included.
    pub rings_bytes: u64,
    /// Asks in flight, their frames that may be sent again, and replies that nobody has taken yet.
    pub asks_bytes: u64,
    /// Outboxes and inboxes of all links, of both directions.
    pub links_bytes: u64,
    /// Connections that have not proved themselves yet.
    pub handshakes_bytes: u64,
    /// Watches, and what is told when they end.
    pub watches_bytes: u64,
    /// Work of routees under way on other threads, without what it captured and its results.
    pub work_bytes: u64,
    /// What parts of this node and of others say to each other.
    pub channels_bytes: u64,
    /// Words that parts of all members gossip.
    pub gossip_bytes: u64,
    /// Changes of membership and dead letters that applications have not read.
    pub events_bytes: u64,
    /// Free buffers that are kept.
    pub free_bytes: u64,
}

impl MemoryBound {
    /// What a node takes beside this, in words that complete «not in it are ...».
    pub const OUTSIDE: &str = "what handlers hold, the times that they have set, and what work on \
                               other threads captured and brings back; batches of applications, \
                               64 KiB for each worker that one sends to; route tables (of keyed \
                               routers over the same routees together 1 MiB, at the default \
                               `slot_bits`, and as much again while it changes); member records (up \
                               to some 400 KiB a member that describes itself in many short texts); \
                               connections to the admin port; buffers of the system's sockets; and \
                               what a process takes without doing anything";

    fn parts(&self) -> [(&'static str, u64); 11] {
        [
            ("links", self.links_bytes),
            ("hand-overs", self.hand_overs_bytes),
            ("between threads", self.rings_bytes),
            ("asks and replies", self.asks_bytes),
            ("watches", self.watches_bytes),
            ("handshakes", self.handshakes_bytes),
            ("work", self.work_bytes),
            ("channels", self.channels_bytes),
            ("gossip", self.gossip_bytes),
            ("events", self.events_bytes),
            ("free buffers", self.free_bytes),
        ]
    }

    /// The sum.
    pub fn total_bytes(&self) -> u64 {
        self.parts().into_iter().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    fn add(&mut self, kind: Kind, bytes: u64) {
        let part = match kind {
            Kind::HandOvers => &mut self.hand_overs_bytes,
            Kind::Rings => &mut self.rings_bytes,
            Kind::Asks => &mut self.asks_bytes,
            Kind::Links => &mut self.links_bytes,
            Kind::Handshakes => &mut self.handshakes_bytes,
            Kind::Watches => &mut self.watches_bytes,
            Kind::Work => &mut self.work_bytes,
            Kind::Free => &mut self.free_bytes,
        };
        *part = part.saturating_add(bytes);
    }

    fn plus(&self, other: &Self) -> Self {
        let sum = |one: u64, other: u64| one.saturating_add(other);
        Self {
            hand_overs_bytes: sum(self.hand_overs_bytes, other.hand_overs_bytes),
            rings_bytes: sum(self.rings_bytes, other.rings_bytes),
            asks_bytes: sum(self.asks_bytes, other.asks_bytes),
            links_bytes: sum(self.links_bytes, other.links_bytes),
            handshakes_bytes: sum(self.handshakes_bytes, other.handshakes_bytes),
            watches_bytes: sum(self.watches_bytes, other.watches_bytes),
            work_bytes: sum(self.work_bytes, other.work_bytes),
            channels_bytes: sum(self.channels_bytes, other.channels_bytes),
            gossip_bytes: sum(self.gossip_bytes, other.gossip_bytes),
            events_bytes: sum(self.events_bytes, other.events_bytes),
            free_bytes: sum(self.free_bytes, other.free_bytes),
        }
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(f, "at most {} MiB", mib(self.total_bytes()))?;
        let parts = self.parts().into_iter().filter(|(_, bytes)| *bytes > 0);
        for (place, (name, bytes)) in parts.enumerate() {
            write!(f, "{} {name} {}", if place == 0 { ":" } else { "," }, mib(bytes))?;
        }
        Ok(())
    }
}
