//! What is kept of names that two processes have, and of clocks that went back; how processes start
//! then, `clashes.rs` says.

use std::collections::BTreeMap;

use super::events::{LifeId, SlotId};
use crate::base::{Incarnation, NodeRef, Rng, Time};
use crate::member::Hello;

/// What comes of it.
#[derive(Default)]
pub struct Clashes {
    /// Machines on which a process asks before it starts.
    pub asking: BTreeMap<SlotId, Asking>,
    /// By machine: what its next process has to exceed, as the last one was told.
    pub above: BTreeMap<SlotId, Incarnation>,
    /// When those ended that have.
    pub ended_at: BTreeMap<LifeId, Time>,
    /// How many were told that their name is another's.
    pub told: u64,
    /// How many started above what their clock says, since they were told to.
    pub raised: u64,
    /// The chance of all this.
    pub rng: Option<Rng>,
}

/// A process that asks before it starts.
pub struct Asking {
    /// Its name.
    pub name: String,
    /// Who it is by its clock.
    pub clock: NodeRef,
    /// What it asks.
    pub hello: Hello,
}

impl Clashes {
    /// Whether a process of this machine asks before it starts.
    pub fn asks(&self, slot: SlotId) -> bool {
        self.asking.contains_key(&slot)
    }
}
