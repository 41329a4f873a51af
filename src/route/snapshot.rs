//! What control hands to workers and application threads whenever the cluster has changed:
//! immutable, shared, and the same for all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{RouteTable, RouteeSet, RouterSpec};
use crate::base::{NodeRef, View, WorkerIndex};

/// How far a destination can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its node is a reachable member.
    Usable,
    /// Its node does not answer; links that are open may go on.
    Unreachable,
    /// Its node leaves gracefully: it gets what was sent, and nothing more.
    Leaving,
    /// This incarnation of its node is no member any more.
    Gone,
}

/// One worker of one life of one node. Its place in [`Snapshot::destinations`] never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
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
}

/// A router with its table of the moment.
#[derive(Debug)]
pub struct RouterState {
    /// What was asked for.
    pub spec: Arc<RouterSpec>,
    /// Who can take messages, as of the members that the table was made of.
    pub table: Arc<RouteTable>,
    /// By routee of the table: the place of its destination.
    pub destinations: Arc<[u32]>,
    /// Who of the table takes messages now: equal on all nodes with equal views and tables.
    pub active: RouteeSet,
}

impl RouterState {
    /// A router with this table, masked by how its routees' destinations can be reached.
    pub fn new(
        spec: Arc<RouterSpec>,
        table: Arc<RouteTable>,
        destinations: Arc<[u32]>,
        all: &[Destination],
    ) -> Self {
        let active = table.active(|routee| {
            all.get(destinations[routee] as usize).is_some_and(|destination| destination.routed)
        });
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

/// The cluster at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises with every snapshot of this node.
    pub version: u64,
    /// The members.
    pub view: Arc<View>,
    /// Every destination there has been.
    pub destinations: Vec<Destination>,
    /// The routers of this node with their ids, by slot.
    routers: Vec<Option<(u32, Arc<RouterState>)>>,
    /// Places in `destinations`, sorted by what stands there.
    index: Arc<[u32]>,
}

impl Snapshot {
    /// Puts a snapshot together; the routers' ids are their places.
    pub fn new(
        version: u64,
        view: Arc<View>,
        destinations: Vec<Destination>,
        routers: Vec<Arc<RouterState>>,
    ) -> Self {
        let index = Self::index_of(&destinations);
        let routers = (0..).zip(routers).map(Some).collect();
        Self { version, view, destinations, routers, index }
    }

    /// As [`Snapshot::new`], with what [`Snapshot::index_of`] gave for these destinations at any
    /// time since the last was added, and with routers by [`router_slot`].
    pub fn indexed(
        version: u64,
        view: Arc<View>,
        destinations: Vec<Destination>,
        index: Arc<[u32]>,
        routers: Vec<Option<(u32, Arc<RouterState>)>>,
    ) -> Self {
        debug_assert_eq!(index.len(), destinations.len(), "the index is of other destinations");
        Self { version, view, destinations, routers, index }
    }

    /// The router with this id, unless it has ended.
    #[inline]
    pub fn router(&self, id: u32) -> Option<&Arc<RouterState>> {
        match self.routers.get(router_slot(id)) {
            Some(Some((known, state))) if *known == id => Some(state),
            _ => None,
        }
    }

    /// The routers by slot, with their ids.
    pub fn slots(&self) -> &[Option<(u32, Arc<RouterState>)>] {
        &self.routers
    }

    /// The routers that there are, with their ids.
    pub fn routers(&self) -> impl Iterator<Item = (u32, &Arc<RouterState>)> {
        self.routers.iter().flatten().map(|(id, state)| (*id, state))
    }

    /// Places in this list, sorted by what stands there.
    pub fn index_of(destinations: &[Destination]) -> Arc<[u32]> {
        let mut index: Vec<u32> = (0..destinations.len() as u32).collect();
        index.sort_by_key(|place| {
            let destination = &destinations[*place as usize];
            (destination.node, destination.worker)
        });
        index.into()
    }

    /// The place of a destination, if there has been such a one.
    pub fn destination_of(&self, node: NodeRef, worker: WorkerIndex) -> Option<u32> {
        let found = self.index.binary_search_by_key(&(node, worker), |place| {
            let destination = &self.destinations[*place as usize];
            (destination.node, destination.worker)
        });
        found.ok().map(|at| self.index[at])
    }
}
