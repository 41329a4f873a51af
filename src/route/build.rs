//! Builds a table from a view and a router's options.

use super::accepted::Accepted;
use super::collisions::NameCollisions;
use super::spec::{LocalPreference, MAX_WORKERS_PER_NODE, RouterSpec};
use super::table::{RefusedRoutees, RouteTable, Routee, routee_identity};
use crate::base::placement::first_worker;
use crate::base::{Member, MessageType, View};
use crate::hash::{Candidate, HashSeed, MAX_CANDIDATES, SlotTable};

/// The range of a member's weight; what lies outside counts as the nearer end.
const WEIGHTS: (u32, u32) = (1, 1_000);

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

/// Slot tables that routers share.
#[derive(Debug, Default)]
pub struct SharedSlots {
    known: Vec<SlotTable>,
}

impl SharedSlots {
    /// With slots that may be taken over.
    pub(super) fn knowing(known: Vec<SlotTable>) -> Self {
        Self { known }
    }

    pub(super) fn add(&mut self, slots: SlotTable) {
        if !self.known.iter().any(|known| known.is_same(&slots)) {
            self.known.push(slots);
        }
    }

    /// The slots of these candidates, which are sorted by identity: known ones, or made from the
    /// nearest.
    fn of(
        &mut self,
        bits: u8,
        seed: HashSeed,
        candidates: &[Candidate],
        previous: Option<&SlotTable>,
    ) -> SlotTable {
        let fits = |slots: &&SlotTable| slots.bits() == bits && slots.seed() == seed;
        let known = || self.known.iter().filter(fits);
        if let Some(known) = known().find(|known| known.candidates() == candidates) {
            return known.clone();
        }
        // What has nearly as many candidates is likely to have nearly the same.
        let near = |slots: &&SlotTable| slots.candidates().len().abs_diff(candidates.len());
        let made = match previous.filter(fits).or_else(|| known().min_by_key(near)) {
            Some(before) => before.update(candidates),
            None => SlotTable::build(bits, seed, candidates),
        };
        self.known.push(made.clone());
        made
    }
}
