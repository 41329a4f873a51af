//! Finding handlers by path, with wildcards: what the faces' selections and handlers share.

use crate::base::{InstanceId, NodeId, RouteeId};
use crate::route::snapshot::Snapshot;

use super::RouteeRef;

/// A path pattern such as `/user/*/cache` or `/user/**`, for all nodes or one.
///
/// `*` stands for one part of a path, `**` at the end for any number of them. It is looked up in the
/// view of the moment each time it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    node: Option<NodeId>,
}

impl Pattern {
    /// On all nodes.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), node: None }
    }

    /// Only on the node with this name.
    #[must_use]
    pub fn on(self, node: &str) -> Self {
        Self { node: Some(NodeId::from_name(node)), ..self }
    }

    /// The routees that are there in a snapshot.
    pub fn identify(&self, snapshot: &Snapshot) -> Vec<RouteeRef> {
        let mut found = Vec::new();
        for member in &snapshot.view.members {
            if !member.is_usable() || self.node.is_some_and(|node| node != member.id) {
                continue;
            }
            for service in member.services.iter().filter(|known| matches(&self.text, &known.path)) {
                found.extend(service.placed.iter(member.workers).map(|worker| RouteeRef {
                    id: RouteeId {
                        node: member.node_ref(),
                        worker,
                        instance: InstanceId::running(service.handler),
                    },
                    path: service.path.clone(),
                }));
            }
        }
        found
    }
}

impl AsRef<Pattern> for Pattern {
    fn as_ref(&self) -> &Pattern {
        self
    }
}

/// Whether a path fits a pattern.
fn matches(pattern: &str, path: &str) -> bool {
    let mut path = path.split('/');
    let mut pattern = pattern.split('/').peekable();
    while let Some(part) = pattern.next() {
        if part == "**" && pattern.peek().is_none() {
            return path.next().is_some();
        }
        match path.next() {
            Some(actual) if part == "*" || part == actual => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testnet::member;
    use super::*;
    use crate::base::{Placed, View, WorkerIndex};

    #[test]
    fn only_workers_that_run_a_service_are_found() {
        let mut here = member(0);
        here.workers = 4;
        here.services[0].placed =
            Placed::new(vec![WorkerIndex(1), WorkerIndex(3)], 4).expect("they are in order");
        let mut there = member(1);
        there.workers = 2;
        let (me, node, path) =
            (here.node_ref(), there.node_ref(), here.services[0].path.to_string());
        let snapshot = Snapshot::empty(Arc::new(View::new(me, 1, vec![here, there])));
        let found = Pattern::new(path).identify(&snapshot);
        let mut found: Vec<_> =
            found.iter().map(|routee| (routee.id.node, routee.id.worker.0)).collect();
        found.sort();
        let mut expected = vec![(me, 1), (me, 3), (node, 0), (node, 1)];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn wildcards_stand_for_parts() {
        for (pattern, path, fits) in [
            ("/user/carts", "/user/carts", true),
            ("/user/*", "/user/carts", true),
            ("/user/*", "/user/carts/1", false),
            ("/*/carts", "/user/carts", true),
            ("/user/**", "/user/carts/1", true),
            ("/user/**", "/user", false),
            ("/user/carts", "/user/cart", false),
            ("/user", "/user/carts", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }
}
