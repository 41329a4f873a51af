//! Two probes in a row that find somebody silent say that more may have happened than that one member
//! died: half a cluster is gone, or this node is cut off. Probes, one after another, would take a
//! while to find out about each, the longer the fewer are left to share the work. So all are called at
//! once, and who does not answer for a whole probe period is suspected like one that was probed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::identity::SwimId;

/// A roll call, until the probe period in which it was made is over.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// By address: who has not answered.
    unheard: BTreeMap<SocketAddr, SwimId>,
    /// What this node had missed when it called.
    missed: Duration,
}

impl RollCall {
    /// These are called.
    pub fn of(called: impl Iterator<Item = SwimId>, missed: Duration) -> Self {
        Self { unheard: called.map(|id| (id.address, id)).collect(), missed }
    }

    /// There is a sign of life.
    pub fn heard(&mut self, id: &SwimId) {
        if self.unheard.get(&id.address) == Some(id) {
            self.unheard.remove(&id.address);
        }
    }

    /// Who has not answered.
    pub fn unheard(&self) -> Vec<SwimId> {
        self.unheard.values().copied().collect()
    }

    /// It is over. Gives who has not answered, unless this node has missed some of the time.
    pub fn end(self, missed: Duration) -> Vec<SwimId> {
        if missed == self.missed { self.unheard() } else { Vec::new() }
    }
}
