//! What a node's bounded parts may take at most.

use super::NodeConfig;
use super::bound::MemoryBound;
use super::field::Field;
use super::sizes::{
    CHANNEL_BYTES, CHUNK_BYTES, HEARD_BYTES, QUEUE_ITEM_BYTES, STREAMS_BYTES, Sizes, WAITING,
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
