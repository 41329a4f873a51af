//! What control hands to workers and application threads whenever the cluster has changed:
//! immutable, shared, and the same for all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{RouteTable, RouterSpec};
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
}

/// A router with its table of the moment.
#[derive(Debug)]
pub struct RouterState {
    /// What was asked for.
    pub spec: Arc<RouterSpec>,
    /// Who takes messages now.
    pub table: RouteTable,
    /// By routee of the table: the place of its destination.
    pub destinations: Vec<u32>,
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
    /// The routers of this node, by their id.
    pub routers: Vec<Arc<RouterState>>,
    /// Places in `destinations`, sorted by what stands there.
    index: Vec<u32>,
}

impl Snapshot {
    /// Puts a snapshot together.
    pub fn new(
        version: u64,
        view: Arc<View>,
        destinations: Vec<Destination>,
        routers: Vec<Arc<RouterState>>,
    ) -> Self {
        let mut index: Vec<u32> = (0..destinations.len() as u32).collect();
        index.sort_by_key(|place| {
            let destination = &destinations[*place as usize];
            (destination.node, destination.worker)
        });
        Self { version, view, destinations, routers, index }
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
