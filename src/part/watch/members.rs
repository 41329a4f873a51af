//! What is known of the nodes whose routees are watched.

use super::{GoneReason, Target};
use crate::base::NodeRef;

/// What control publishes: who is a member, and how those ended that are not any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The lives of nodes in the view, in its order, each with how many workers it has.
    pub nodes: Vec<(NodeRef, u16)>,
    /// The last ends, oldest first.
    pub ends: Vec<Ended>,
}

/// How a life of a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which life of which node.
    pub node: NodeRef,
    /// Left, or removed.
    pub reason: GoneReason,
}

/// What is known of a node, or of one of its workers.
pub(super) enum Known {
    Member,
    Gone(GoneReason),
    /// Not, or not yet.
    Not,
}

impl Members {
    pub(super) fn know(&self, target: Target) -> Known {
        let node = target.node();
        if let Ok(at) = self.nodes.binary_search_by_key(&node.node, |(known, _)| known.node) {
            let (NodeRef { incarnation: life, .. }, workers) = self.nodes[at];
            if life == node.incarnation {
                return match target {
                    // Nobody is there to be asked, and never will be.
                    Target::Routee(routee) if routee.worker.0 >= workers => {
                        Known::Gone(GoneReason::Withdrawn)
                    }
                    Target::Routee(_) | Target::Node(_) => Known::Member,
                };
            } else if life > node.incarnation {
                return Known::Gone(GoneReason::NodeRestarted);
            }
        }
        let ends = || self.ends.iter().rev().filter(|end| end.node.node == node.node);
        if let Some(end) = ends().find(|end| end.node == node) {
            return Known::Gone(end.reason);
        }
        // A later life of it is over as well.
        match ends().any(|end| end.node.incarnation > node.incarnation) {
            true => Known::Gone(GoneReason::NodeRestarted),
            false => Known::Not,
        }
    }
}
