//! Numbers the workers of all nodes, so that a routee's link is found by an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{MemberState, NodeRef, View, WorkerIndex};
use crate::route::RouteTable;
use crate::route::snapshot::{Destination, Reach, Snapshot};

/// Every worker of every life of every node that was ever a member here. A number is never used
/// again: workers and application threads hold it.
#[derive(Default)]
pub struct Destinations {
    all: Vec<Destination>,
    /// By worker.
    places: BTreeMap<NodeRef, Vec<u32>>,
    index: Arc<[u32]>,
}

impl Destinations {
    /// By number.
    pub fn all(&self) -> &[Destination] {
        &self.all
    }

    /// See [`Snapshot::indexed`].
    pub fn index(&self) -> &Arc<[u32]> {
        &self.index
    }

    /// Adds the workers of new members and brings the others' reach in line with the view.
    pub fn follow(&mut self, view: &View) {
        for destination in &mut self.all {
            (destination.reach, destination.routed) = (Reach::Gone, false);
        }
        let before = self.all.len();
        for member in &view.members {
            let node = member.node_ref();
            let reach = match member.state {
                MemberState::Leaving => Reach::Leaving,
                MemberState::Left | MemberState::Down => Reach::Gone,
                MemberState::Joining | MemberState::Up if member.reachable => Reach::Usable,
                MemberState::Joining | MemberState::Up => Reach::Unreachable,
            };
            // A node's own leave does not part it from itself.
            let reach = if node == view.me { Reach::Usable } else { reach };
            let (address, routed) = (member.address, member.is_usable());
            let places = self.places.entry(node).or_default();
            for worker in (places.len() as u16..member.workers).map(WorkerIndex) {
                places.push(self.all.len() as u32);
                self.all.push(Destination { node, worker, address, reach, routed });
            }
            for place in places.iter().take(usize::from(member.workers)) {
                let destination = &mut self.all[*place as usize];
                *destination = Destination { address, reach, routed, ..*destination };
            }
        }
        if self.all.len() != before {
            self.index = Snapshot::index_of(&self.all);
        }
    }

    /// The places of a table's routees.
    pub fn of(&self, table: &RouteTable) -> Arc<[u32]> {
        let place = |node, worker: WorkerIndex| {
            let places = self.places.get(node)?;
            places.get(usize::from(worker.0)).copied()
        };
        table
            .routees()
            .iter()
            .map(|routee| {
                place(&routee.node, routee.worker)
                    .expect("a routee's node was a member, and all members were added")
            })
            .collect()
    }
}
