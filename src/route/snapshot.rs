//! What control hands to workers and application threads whenever the cluster has changed:
//! immutable, shared, and the same for all of them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{RouteTable, RouteeSet, RouterSpec};
use crate::base::{DestinationId, NodeRef, View, WorkerIndex};

/// How far a destination can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its node is a reachable member.
    Usable,
    /// Its node does not answer; links that are open may go on.
    Unreachable,
    /// Its node leaves gracefully: it gets what was sent, and nothing more.
    Leaving,
    /// It is a worker of this node, which is no member any more. Other nodes' are taken out.
    Gone,
}

/// One worker of one life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name for as long as its node is a member.
    pub id: DestinationId,
    /// Which life of which node.
    pub node: NodeRef,
    /// Which of its workers.
    pub worker: WorkerIndex,
    /// The node's listening port.
    pub address: SocketAddr,
    /// How far it can be used.
    pub reach: Reach,
    /// Whether routers choose it: its node is up, and answers.
    pub routed: bool,
    /// Whether they do so only where nobody else answers: its node falls silent again and again.
    pub damped: bool,
}

/// The workers of all members' present lives, each in the slot that its id says.
#[derive(Clone, Debug)]
pub struct Destinations {
    slots: Vec<Option<Destination>>,
    /// Slots, sorted by who is there.
    index: Arc<[u32]>,
    newest: NonZeroU32,
}

impl Destinations {
    /// These, by slot. `newest` is the highest serial that was ever given out.
    pub fn new(slots: Vec<Option<Destination>>, newest: NonZeroU32) -> Self {
        let mut all: Vec<&Destination> = slots.iter().flatten().collect();
        all.sort_by_key(|one| (one.node, one.worker));
        let index = all.iter().map(|one| one.id.slot() as u32).collect();
        Self { slots, index, newest }
    }

    /// Brings one in line with what is true of it now. It stays who it is.
    pub fn change(&mut self, id: DestinationId, change: impl FnOnce(&mut Destination)) {
        let found = self.slots.get_mut(id.slot()).and_then(Option::as_mut);
        found.filter(|one| one.id == id).map(change);
    }

    /// The one with this id, unless it is gone.
    #[inline]
    pub fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.slots.get(id.slot())?.as_ref().filter(|one| one.id == id)
    }

    /// The one in each slot.
    pub fn slots(&self) -> &[Option<Destination>] {
        &self.slots
    }

    /// All that there are.
    pub fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.slots.iter().flatten()
    }

    /// The highest serial that was given out so far.
    pub fn newest(&self) -> NonZeroU32 {
        self.newest
    }

    /// This worker of this life of this node, if it is a member.
    pub fn find(&self, node: NodeRef, worker: WorkerIndex) -> Option<&Destination> {
        let at = |slot: &u32| self.slots[*slot as usize].as_ref().map(|one| (one.node, one.worker));
        let found = self.index.binary_search_by_key(&Some((node, worker)), at).ok()?;
        self.slots[self.index[found] as usize].as_ref()
    }
}

impl Default for Destinations {
    fn default() -> Self {
        Self::new(Vec::new(), NonZeroU32::MIN)
    }
}

/// A router with its table of the moment.
#[derive(Debug)]
pub struct RouterState {
    /// What was asked for.
    pub spec: Arc<RouterSpec>,
    /// Who can take messages, as of the members that the table was made of.
    pub table: Arc<RouteTable>,
    /// By routee of the table: its destination, which may be gone.
    pub destinations: Arc<[DestinationId]>,
    /// Who of the table takes messages now: equal on all nodes with equal views and tables.
    pub active: RouteeSet,
}

impl RouterState {
    /// A router with this table, masked by how its routees' destinations can be reached.
    pub fn new(
        spec: Arc<RouterSpec>,
        table: Arc<RouteTable>,
        destinations: Arc<[DestinationId]>,
        all: &Destinations,
    ) -> Self {
        let active = |damped| {
            table.active(|routee| {
                let destination = all.get(destinations[routee]);
                destination.is_some_and(|one| one.routed && (damped || !one.damped))
            })
        };
        // Damping spares keys a move to others. Where there are none it would only refuse them.
        let steady = active(false);
        let active = if steady.is_empty() { active(true) } else { steady };
        Self { spec, table, destinations, active }
    }
}

/// Most routers that a node can have at a time.
pub const MAX_ROUTERS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 16;

/// Where a router stands in lists. A slot is used again, under another id, long after its router
/// has ended: an old id finds nothing.
#[inline]
pub fn router_slot(id: u32) -> usize {
    id as usize & (MAX_ROUTERS - 1)
}

/// The id of the router that is the `serial`th in its slot.
pub fn router_id(slot: u16, serial: u16) -> u32 {
    u32::from(serial) << SLOT_BITS | u32::from(slot)
}

/// The number that [`router_id`] was given.
#[inline]
pub fn router_serial(id: u32) -> u16 {
    (id >> SLOT_BITS) as u16
}

/// The cluster at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises with every snapshot of this node.
    pub version: u64,
    /// The members.
    pub view: Arc<View>,
    /// Whom messages can go to.
    pub destinations: Destinations,
    /// The routers of this node with their ids, by slot.
    routers: Vec<Option<(u32, Arc<RouterState>)>>,
    /// By slot: the id of the last router there that has ended.
    ended_routers: Arc<[Option<u32>]>,
    /// The last lives of members that are over, oldest first. A worker that was behind may never
    /// have seen them as members.
    pub ended: Arc<[NodeRef]>,
}

impl Snapshot {
    /// Puts a snapshot together, with the routers by [`router_slot`].
    pub fn new(
        version: u64,
        view: Arc<View>,
        destinations: Destinations,
        routers: Vec<Option<(u32, Arc<RouterState>)>>,
    ) -> Self {
        let (ended_routers, ended) = Default::default();
        Self { version, view, destinations, routers, ended_routers, ended }
    }

    /// The same, with the last router of each slot that has ended.
    pub fn with_ended_routers(self, ended_routers: Arc<[Option<u32>]>) -> Self {
        Self { ended_routers, ..self }
    }

    /// The same, with the last lives that are over.
    pub fn with_ended(self, ended: Arc<[NodeRef]>) -> Self {
        Self { ended, ..self }
    }

    /// Before anything is known but this node itself.
    pub fn empty(view: Arc<View>) -> Self {
        Self::new(0, view, Destinations::default(), Vec::new())
    }

    /// Whether one of the destinations does not answer, or is gone. One that leaves still answers,
    /// until the view says otherwise.
    pub fn is_silent(&self, destination: &Destination) -> bool {
        match destination.reach {
            Reach::Usable => false,
            Reach::Unreachable | Reach::Gone => true,
            Reach::Leaving => {
                let member = self.view.member(destination.node.node);
                member.is_some_and(|member| !member.reachable)
            }
        }
    }

    /// The router with this id, unless it has ended.
    #[inline]
    pub fn router(&self, id: u32) -> Option<&Arc<RouterState>> {
        match self.routers.get(router_slot(id)) {
            Some(Some((known, state))) if *known == id => Some(state),
            _ => None,
        }
    }

    /// Whether the router with this id has ended. One that is not there need not have: it may be in
    /// a later snapshot.
    pub fn has_ended(&self, id: u32) -> bool {
        let last = self.ended_routers.get(router_slot(id)).copied().flatten();
        // Serials go round.
        last.is_some_and(|last| {
            let behind = router_serial(last).wrapping_sub(router_serial(id));
            behind <= u16::MAX / 2
        })
    }

    /// The routers by slot, with their ids.
    pub fn slots(&self) -> &[Option<(u32, Arc<RouterState>)>] {
        &self.routers
    }

    /// The routers that there are, with their ids.
    pub fn routers(&self) -> impl Iterator<Item = (u32, &Arc<RouterState>)> {
        self.routers.iter().flatten().map(|(id, state)| (*id, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, Member, NodeId};

    #[test]
    fn what_has_ended_is_told_from_what_is_still_to_come() {
        let me = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let ended = |last: Option<u32>| {
            let snapshot = Snapshot::empty(Arc::new(View::new(me, 0, Vec::<Member>::new())));
            snapshot.with_ended_routers([None, last].into())
        };
        let of = |last: u16, serials: [u16; 5]| {
            let snapshot = ended(Some(router_id(1, last)));
            assert!(!snapshot.has_ended(router_id(0, last)) && !snapshot.has_ended(2));
            serials.map(|serial| snapshot.has_ended(router_id(1, serial)))
        };
        assert_eq!(of(5, [0, 4, 5, 6, 7]), [true, true, true, false, false]);
        assert_eq!(of(1, [65_535, 0, 1, 2, 30_000]), [true, true, true, false, false]);
        assert!(!ended(None).has_ended(router_id(1, 0)));
    }
}
