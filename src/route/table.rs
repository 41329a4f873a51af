//! Route tables: a view and a router's options, turned into the list of routees that the router
//! sends to.
//!
//! Pure: equal views and specs give equal tables on every node, whatever table was there before
//! (an earlier one only makes it faster). A table follows who is a member, and not who answers:
//! reachability is a mask over it, so that a node that falls silent costs nothing but the keys it
//! owned, which go to the next routee in the same order ([`RouteTable::owner`]). Only
//! [`LocalPreference::Exclude`](super::LocalPreference::Exclude) makes a table depend on who computes
//! it. It is built in `build.rs`.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::accepted::Accepted;
use super::collisions::NameCollision;
use super::set::RouteeSet;
use crate::base::{HandlerId, InstanceId, NodeId, NodeRef, Path, RouteeId, WorkerIndex};
use crate::hash::{NO_OWNER, SlotTable};

/// One place where messages of a router can go: the routee of one worker that runs the service. Packed, since picks read it;
/// [`Routee::id`] says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routee {
    /// The node's current life.
    pub node: NodeRef,
    /// The worker on that node.
    pub worker: WorkerIndex,
    /// The handler's registration on that node.
    pub handler: HandlerId,
    /// Its member's weight: each worker of a member counts with it.
    pub weight: u32,
    /// Whether it is on the node that made the table.
    pub local: bool,
}

impl Routee {
    /// Who it is. A table does not know which life of it runs.
    pub fn id(&self) -> RouteeId {
        let Self { node, worker, handler, .. } = *self;
        RouteeId { node, worker, instance: InstanceId::running(handler) }
    }
}

/// Routees that a table leaves out because of a message type of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRoutees {
    /// Whose they are.
    pub node: NodeRef,
    /// How many.
    pub count: u16,
    /// Why.
    pub collision: NameCollision,
}

/// The identity by which a routee owns keys: of the node and the worker, but not of the life, so
/// that a restarted node gets its keys back.
pub fn routee_identity(node: NodeId, worker: WorkerIndex) -> u64 {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&node.0.to_le_bytes());
    bytes[8..].copy_from_slice(&worker.0.to_le_bytes());
    xxh3_64(&bytes)
}

/// The routees of one router under one view. Immutable; share it in an `Arc`.
///
/// Routees are sorted by identity (see [`routee_identity`]), which mixes nodes and workers. Their
/// indices mean something only within one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    pub(super) path: Path,
    pub(super) roster_digest: u64,
    pub(super) routees: Vec<Routee>,
    pub(super) identities: Vec<u64>,
    pub(super) slots: Option<SlotTable>,
    pub(super) local: Vec<u16>,
    pub(super) prefer_local: bool,
    /// Sums of weights up to and including each routee; empty if all weigh the same.
    pub(super) cumulative_weights: Vec<u64>,
    pub(super) max_weight: u32,
    pub(super) refused: Vec<RefusedRoutees>,
    pub(super) over_limit: u32,
    /// Beyond the router's limit, in the order in which they stand in for those within.
    pub(super) reserves: Vec<u16>,
    pub(super) accepted: Accepted,
    pub(super) digest: u64,
}

impl RouteTable {
    /// Equal digests mean that two nodes agree on this router: same routees, same owners of all
    /// keys. Does not cover which routees are local to whom.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn compute_digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&(self.path.len() as u64).to_le_bytes());
        hash.update(self.path.as_bytes());
        hash.update(&(self.routees.len() as u64).to_le_bytes());
        for routee in &self.routees {
            hash.update(&routee.node.node.0.to_le_bytes());
            hash.update(&routee.node.incarnation.0.to_le_bytes());
            hash.update(&routee.worker.0.to_le_bytes());
            hash.update(&routee.handler.0.to_le_bytes());
            hash.update(&routee.weight.to_le_bytes());
        }
        for reserve in &self.reserves {
            hash.update(&reserve.to_le_bytes());
        }
        if let Some(slots) = &self.slots {
            hash.update(&slots.digest().to_le_bytes());
        }
        hash.digest()
    }

    /// The routees, sorted by identity: all that members have, reachable or not, also those beyond
    /// the router's limit. [`RouteTable::active`] tells which of them take messages.
    #[inline]
    pub fn routees(&self) -> &[Routee] {
        &self.routees
    }

    /// How many routees there are; never more than [`MAX_CANDIDATES`](crate::hash::MAX_CANDIDATES).
    #[inline]
    pub fn len(&self) -> usize {
        self.routees.len()
    }

    /// Which message types the routees take.
    #[inline]
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Whether there is no routee.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.routees.is_empty()
    }

    /// Which routees take messages when those for which `reachable` says yes do: all of them, but
    /// no more than the router's limit. Equal on all nodes with equal views.
    pub fn active(&self, mut reachable: impl FnMut(usize) -> bool) -> RouteeSet {
        let mut active = RouteeSet::from_fn(self.len(), &mut reachable);
        if !self.reserves.is_empty() {
            for reserve in &self.reserves {
                active.set(*reserve, false);
            }
            let limit = self.len() - self.reserves.len();
            for reserve in &self.reserves {
                if active.count() == limit {
                    break;
                }
                active.set(*reserve, reachable(usize::from(*reserve)));
            }
        }
        active
    }

    /// Whether the same routees of it stand in for others, in the same order.
    pub(crate) fn has_reserves_of(&self, other: &Self) -> bool {
        self.reserves == other.reserves
    }

    /// The owner of a key while only these routees take messages: its owner by the slots, or, if
    /// that is not among them, the one that would own it if the others were not there. `None` if
    /// nobody is there, or the strategy follows no keys.
    #[inline]
    pub fn owner(&self, key_hash: u64, active: &RouteeSet) -> Option<u16> {
        let owner = self.slots.as_ref()?.lookup(key_hash);
        if active.is_full() || active.contains(owner) {
            return (owner != NO_OWNER).then_some(owner);
        }
        self.heir(key_hash, active)
    }

    #[cold]
    fn heir(&self, key_hash: u64, active: &RouteeSet) -> Option<u16> {
        let among = active.iter().map(|index| (index, self.routees[usize::from(index)].weight));
        self.slots.as_ref()?.owner_among(key_hash, among)
    }

    /// Who owns which key; only strategies that follow keys have it. Its owners are routee indices.
    #[inline]
    pub fn slots(&self) -> Option<&SlotTable> {
        self.slots.as_ref()
    }

    /// Where a routee is in this table, if it is.
    pub fn index_of(&self, node: NodeId, worker: WorkerIndex) -> Option<u16> {
        let index = self.identities.binary_search(&routee_identity(node, worker)).ok()?;
        let routee = &self.routees[index];
        (routee.node.node == node && routee.worker == worker).then_some(index as u16)
    }

    /// Indices of the routees on the node that made the table.
    #[inline]
    pub fn local_routees(&self) -> &[u16] {
        &self.local
    }

    /// Whether strategies that do not follow keys try local routees first.
    #[inline]
    pub fn prefers_local(&self) -> bool {
        self.prefer_local
    }

    /// The largest weight of a routee.
    #[inline]
    pub fn max_weight(&self) -> u32 {
        self.max_weight
    }

    /// For each routee the sum of the weights up to and including its own, unless all weights are
    /// equal.
    #[inline]
    pub fn cumulative_weights(&self) -> Option<&[u64]> {
        (!self.cumulative_weights.is_empty()).then_some(&self.cumulative_weights)
    }

    /// The path that all routees serve.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `roster_digest` of the view that the table was made from.
    pub fn roster_digest(&self) -> u64 {
        self.roster_digest
    }

    /// Routees left out because a message type of theirs collides with a more common one.
    pub fn refused(&self) -> &[RefusedRoutees] {
        &self.refused
    }

    /// How many routees are beyond a limit.
    pub fn over_limit(&self) -> u32 {
        self.over_limit
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
