//! Finding handlers by path, with wildcards: what the faces' selections and handlers share.

use super::place::RouteeRef;
use crate::base::{InstanceId, NodeId, PathPattern, PatternError, RouteeId};
use crate::route::snapshot::Snapshot;

/// A [`PathPattern`] such as `/user/*/cache` or `/user/**`, for all nodes or one. It is looked up in
/// the view of the moment each time it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    paths: PathPattern,
    node: Option<NodeId>,
}

impl Pattern {
    /// On all nodes.
    ///
    /// # Errors
    /// When the text is no pattern of paths; the error names the part that is wrong.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Ok(Self { paths: PathPattern::new(text)?, node: None })
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
            if !member.answers() || self.node.is_some_and(|node| node != member.id) {
                continue;
            }
            for service in member.services.iter().filter(|known| self.paths.fits(&known.path)) {
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
