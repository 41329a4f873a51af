//! Route tables: a view and a router's options, turned into the list of routees that the router
//! sends to.
//!
//! Pure: equal views and specs give equal tables on every node, whatever table was there before
//! (an earlier one only makes it faster). A table follows who is a member, and not who answers:
//! reachability is a mask over it, so that a node that falls silent costs nothing but the keys it
//! owned, which go to the next routee in the same order ([`RouteTable::owner`]). Only [`LocalPreference::Exclude`] makes a table depend on
//! who computes it.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::accepted::Accepted;
use super::collisions::{NameCollision, NameCollisions};
use super::job::SharedSlots;
use super::set::RouteeSet;
use super::spec::{LocalPreference, MAX_WORKERS_PER_NODE, RouterSpec};
use crate::base::placement::first_worker;
use crate::base::{
    HandlerId, InstanceId, Member, MessageType, NodeId, NodeRef, Path, RouteeId, View, WorkerIndex,
};
use crate::hash::{Candidate, MAX_CANDIDATES, NO_OWNER, SlotTable};

/// The range of a member's weight; what lies outside counts as the nearer end.
const WEIGHTS: (u32, u32) = (1, 1_000);

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
    path: Path,
    roster_digest: u64,
    routees: Vec<Routee>,
    identities: Vec<u64>,
    slots: Option<SlotTable>,
    local: Vec<u16>,
    prefer_local: bool,
    /// Sums of weights up to and including each routee; empty if all weigh the same.
    cumulative_weights: Vec<u64>,
    max_weight: u32,
    refused: Vec<RefusedRoutees>,
    over_limit: u32,
    /// Beyond the router's limit, in the order in which they stand in for those within.
    reserves: Vec<u16>,
    accepted: Accepted,
    digest: u64,
}

impl RouteTable {
    /// The table for a view. `previous` may be any earlier table of the same router: if slots can
    /// be taken over from it they are, with the same result.
    ///
    /// # Panics
    /// If the spec's slot bits are out of range: see [`RouterSpec::validate`].
    pub fn build(view: &View, spec: &RouterSpec, previous: Option<&Self>) -> Self {
        let mut slots = SharedSlots::default();
        Self::build_with(view, &NameCollisions::of(view), spec, previous, &mut slots)
    }

    /// [`RouteTable::build`] with the view's collisions already known, and slots shared with other
    /// tables.
    pub fn build_with(
        view: &View,
        collisions: &NameCollisions,
        spec: &RouterSpec,
        previous: Option<&Self>,
        slots: &mut SharedSlots,
    ) -> Self {
        let mut found = Found::default();
        for member in view.members.iter().filter(|member| member.is_routed()) {
            let local = member.id == view.me.node;
            let excluded = local && spec.local == LocalPreference::Exclude;
            if !excluded && spec.roles.is_subset(&member.roles) {
                found.add(member, local, collisions, spec);
            }
        }
        found.limit(spec);
        Self::from_found(found, view.roster_digest, spec, previous, slots)
    }

    fn from_found(
        found: Found<'_>,
        roster_digest: u64,
        spec: &RouterSpec,
        previous: Option<&Self>,
        shared: &mut SharedSlots,
    ) -> Self {
        let identities: Vec<_> = found.entries.iter().map(|entry| entry.identity).collect();
        let routees: Vec<_> = found.entries.iter().map(|entry| entry.routee).collect();

        let slots = spec.strategy.is_keyed().then(|| {
            let candidates: Vec<_> = found
                .entries
                .iter()
                .map(|entry| Candidate {
                    id: entry.identity,
                    weight: if entry.reserve.is_none() { entry.routee.weight } else { 0 },
                })
                .collect();
            let previous = previous.and_then(|table| table.slots.as_ref());
            shared.of(spec.slot_bits, spec.seed, &candidates, previous)
        });

        let max_weight = routees.iter().map(|routee| routee.weight).max().unwrap_or(0);
        let mut cumulative_weights = Vec::new();
        if routees.iter().any(|routee| routee.weight != max_weight) {
            let mut sum = 0;
            cumulative_weights.extend(routees.iter().map(|routee| {
                sum += u64::from(routee.weight);
                sum
            }));
        }

        let mut reserves: Vec<_> = found
            .entries
            .iter()
            .zip(0..)
            .filter_map(|(entry, index)| Some((entry.reserve?, index)))
            .collect();
        reserves.sort_unstable();

        let mut table = Self {
            path: spec.path.clone(),
            roster_digest,
            local: routees
                .iter()
                .zip(0..)
                .filter(|(r, _)| r.local)
                .map(|(_, index)| index)
                .collect(),
            routees,
            identities,
            slots,
            prefer_local: spec.local == LocalPreference::Prefer,
            cumulative_weights,
            max_weight,
            refused: found.refused,
            over_limit: found.over_limit,
            reserves: reserves.into_iter().map(|(_, index)| index).collect(),
            accepted: Accepted::new(found.entries.iter().map(|entry| entry.messages)),
            digest: 0,
        };
        table.digest = table.compute_digest();
        table
    }

    /// Equal digests mean that two nodes agree on this router: same routees, same owners of all
    /// keys. Does not cover which routees are local to whom.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn compute_digest(&self) -> u64 {
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

    /// How many routees there are; never more than [`MAX_CANDIDATES`].
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

/// Routees while they are collected.
#[derive(Default)]
struct Found<'a> {
    entries: Vec<Entry<'a>>,
    refused: Vec<RefusedRoutees>,
    over_limit: u32,
}

struct Entry<'a> {
    /// How many routees of the same node come before it.
    rank: u16,
    identity: u64,
    routee: Routee,
    /// Its turn among those beyond the limit, if it is.
    reserve: Option<u32>,
    messages: &'a [MessageType],
}

impl<'a> Found<'a> {
    fn add(
        &mut self,
        member: &'a Member,
        local: bool,
        collisions: &NameCollisions,
        spec: &RouterSpec,
    ) {
        let Ok(service) = member.services.binary_search_by(|service| service.path.cmp(&spec.path))
        else {
            return;
        };
        let service = &member.services[service];
        let placed = &service.placed;
        let workers = placed.count(member.workers.min(MAX_WORKERS_PER_NODE));
        if let Some(collision) = collisions.refusing(service) {
            self.refused.push(RefusedRoutees {
                node: member.node_ref(),
                count: workers,
                collision: collision.clone(),
            });
            return;
        }

        let count = workers.min(spec.max_routees_per_node.unwrap_or(u16::MAX));
        self.over_limit += u32::from(placed.count(member.workers) - count);
        // Routers that are limited should not all sit on the first workers of every node.
        let first = u32::from(first_worker(&spec.path, workers));
        for rank in 0..count {
            let worker = placed.nth(((first + u32::from(rank)) % u32::from(workers)) as u16);
            self.entries.push(Entry {
                rank,
                identity: routee_identity(member.id, worker),
                routee: Routee {
                    node: member.node_ref(),
                    worker,
                    handler: service.handler,
                    weight: member.weight.clamp(WEIGHTS.0, WEIGHTS.1),
                    local,
                },
                reserve: None,
                messages: &service.messages,
            });
        }
    }

    /// Tells those beyond the limit, which only stand in for others, and sorts all by identity.
    ///
    /// First every node's first routee, then every second one, and so on; within a rank those of
    /// the lowest identity. So they spread over the nodes, and a join displaces no more routees
    /// than it brings.
    fn limit(&mut self, spec: &RouterSpec) {
        let limit = spec.max_routees.map_or(MAX_CANDIDATES, |limit| limit as usize);
        let order =
            |entry: &Entry<'_>| (entry.identity, entry.routee.node.node, entry.routee.worker);
        if self.entries.len() > limit {
            self.entries.sort_unstable_by_key(|entry| (entry.rank, order(entry)));
            self.over_limit += (self.entries.len() - limit) as u32;
            self.entries.truncate(MAX_CANDIDATES);
            for (entry, turn) in self.entries.iter_mut().skip(limit).zip(0..) {
                entry.reserve = Some(turn);
            }
        }
        self.entries.sort_unstable_by_key(order);
        // Two routees with one 64-bit identity could not both own keys. It would take billions of
        // routees to see it once; every node drops the same one.
        let before = self.entries.len();
        self.entries.dedup_by_key(|entry| entry.identity);
        self.over_limit += (before - self.entries.len()) as u32;
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
