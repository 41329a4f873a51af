//! Finding handlers by path, with wildcards, anywhere in the cluster.

use std::sync::Arc;

use super::shared::Shared;
use crate::base::fate::Refusal;
use crate::base::{NodeId, WorkerIndex};
use crate::wire::Message;
use crate::worker::RouteeRef;
use crate::worker::send::place_of;

/// A path pattern such as `/user/*/cache` or `/user/**`, for all nodes or one.
///
/// `*` stands for one part of a path, `**` at the end for any number of them. A selection is looked
/// up in the view of the moment each time it is used.
pub struct Selection {
    pub(super) shared: Arc<Shared>,
    pub(super) pattern: String,
    pub(super) node: Option<NodeId>,
}

impl Selection {
    /// Only handlers on the node with this name.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(NodeId::from_name(node));
        self
    }

    /// Turns the pattern into references to the incarnations of handlers that are there now. Empty
    /// when nothing is there.
    pub fn identify(&self) -> Vec<RouteeRef> {
        let snapshot = self.shared.snapshot.load();
        let mut found = Vec::new();
        for member in &snapshot.view.members {
            if !member.is_usable() || self.node.is_some_and(|node| node != member.id) {
                continue;
            }
            for service in
                member.services.iter().filter(|known| matches(&self.pattern, &known.path))
            {
                found.extend((0..member.workers).map(|worker| RouteeRef {
                    node: member.node_ref(),
                    worker: WorkerIndex(worker),
                    handler: service.handler,
                    path: service.path.clone(),
                }));
            }
        }
        found
    }

    /// Sends a message to each handler that fits, and says to how many.
    ///
    /// # Errors
    /// The first refusal after all were tried; [`Refusal::NoRoutee`] when nothing fits.
    pub fn tell<M: Message>(&self, message: &M) -> Result<usize, Refusal> {
        let snapshot = self.shared.snapshot.load();
        let found = self.identify();
        if found.is_empty() {
            return self
                .shared
                .sender(WorkerIndex(0), &snapshot)
                .tell_each([].into_iter(), message);
        }
        let mut outcome = Ok(found.len());
        for to in &found {
            if let Err(refusal) = tell_to(&self.shared, to, message) {
                outcome = outcome.and(Err(refusal));
            }
        }
        outcome
    }
}

/// Sends a message to one incarnation of a handler.
pub(super) fn tell_to<M: Message>(
    shared: &Shared,
    to: &RouteeRef,
    message: &M,
) -> Result<(), Refusal> {
    let snapshot = shared.snapshot.load();
    let sender = shared.sender(shared.home_of(to), &snapshot);
    sender.tell(place_of(&snapshot, to, M::TYPE), message)
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
    use super::matches;

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
