//! Numbers the workers of all nodes, so that a routee's link is found by an index.

use std::collections::BTreeMap;

use crate::base::{MemberState, NodeRef, View, WorkerIndex};
use crate::route::RouteTable;
use crate::route::snapshot::{Destination, Reach};

/// Every worker of every life of every node that was ever a member here. A number is never used
/// again: workers and application threads hold it.
#[derive(Default)]
pub(super) struct Destinations {
    all: Vec<Destination>,
    places: BTreeMap<(NodeRef, WorkerIndex), u32>,
}

impl Destinations {
    pub fn all(&self) -> &[Destination] {
        &self.all
    }

    /// Adds the workers of new members and brings the others' reach in line with the view.
    pub fn follow(&mut self, view: &View) {
        for destination in &mut self.all {
            destination.reach = Reach::Gone;
        }
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
            for worker in (0..member.workers).map(WorkerIndex) {
                let address = member.address;
                let place = *self.places.entry((node, worker)).or_insert_with(|| {
                    self.all.push(Destination { node, worker, address, reach });
                    self.all.len() as u32 - 1
                });
                let destination = &mut self.all[place as usize];
                destination.reach = reach;
                destination.address = address;
            }
        }
    }

    /// The places of a table's routees.
    pub fn of(&self, table: &RouteTable) -> Vec<u32> {
        table
            .routees()
            .iter()
            .map(|routee| {
                let place = self.places.get(&(routee.node, routee.worker));
                *place.expect("a routee's node is a member, and all members were added")
            })
            .collect()
    }
}
