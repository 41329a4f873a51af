//! The capacities of a worker, as the settings say.

use crate::config::NodeConfig;

/// The capacities of a worker; all memory it can use follows from them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most exact bytes of one frame.
    pub max_frame_bytes: u32,
    /// Bytes that may wait for one peer.
    pub outbox_bytes: usize,
    /// What the outboxes of all links take together for requests; see [`purse`](super::purse).
    pub outboxes_bytes: usize,
    /// Links that others may open.
    pub max_accepted: usize,
    /// Asks that may be open at a time.
    pub max_asks: usize,
    /// What frames may take that are kept to be sent again.
    pub retry_bytes: usize,
    /// Work that routees may have under way elsewhere at a time.
    pub max_work: usize,
    /// How long a request waits for its acknowledgement at most.
    pub ack_interval_ms: u64,
    /// The pause before the first re-dial on demand; doubles up to the next.
    pub redial_min_ms: u64,
    /// The longest pause between re-dials.
    pub redial_max_ms: u64,
}

impl Limits {
    /// What the settings say.
    pub fn new(config: &NodeConfig) -> Self {
        let NodeConfig { workers, links, .. } = config;
        Self {
            max_frame_bytes: links.max_frame_bytes as u32,
            outbox_bytes: links.outbox_bytes,
            outboxes_bytes: links.outboxes_bytes,
            max_accepted: links.max_accepted,
            max_asks: workers.max_asks,
            retry_bytes: workers.retry_bytes,
            max_work: workers.max_work,
            ack_interval_ms: links.ack_interval_ms,
            redial_min_ms: links.redial_min_ms,
            redial_max_ms: links.redial_max_ms,
        }
    }
}
