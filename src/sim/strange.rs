//! What a seed may have beside the nodes of its cluster.

use rand::RngExt;

use super::streams::stream;

/// What there is; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Strange {
    /// Somebody who is no node tries to get in.
    pub forger: bool,
}

impl Strange {
    /// What a seed has.
    pub fn draw(seed: u64) -> Self {
        Self { forger: stream(seed, "forger").random_range(0..8) == 0 }
    }
}
