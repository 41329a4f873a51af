//! Finding handlers by path, with wildcards, anywhere in the cluster.

use std::sync::Arc;

use super::shared::Shared;
use crate::base::WorkerIndex;
use crate::base::fate::Refusal;
use crate::wire::Message;
use crate::worker::place::place_of;
use crate::worker::{Pattern, RouteeRef};

/// The handlers that fit a [`Pattern`], as application threads reach them. Handlers use the pattern
/// with their own [`Context`](crate::Context).
pub struct Selection {
    pub(super) shared: Arc<Shared>,
    pub(super) pattern: Pattern,
}

impl AsRef<Pattern> for Selection {
    fn as_ref(&self) -> &Pattern {
        &self.pattern
    }
}

impl Selection {
    /// Only handlers on the node with this name.
    #[must_use]
    pub fn on(self, node: &str) -> Self {
        Self { pattern: self.pattern.on(node), ..self }
    }

    /// Turns the pattern into references to the routees that are there now. Empty
    /// when nothing is there.
    pub fn identify(&self) -> Vec<RouteeRef> {
        self.pattern.identify(&self.shared.snapshot.load())
    }

    /// Sends a message to each handler that fits, and says to how many.
    ///
    /// # Errors
    /// The first refusal after all were tried. When nothing fits, [`Refusal::NoRoutee`], or what a node
    /// says that is no member yet or any more, or is leaving.
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

/// Sends a message to one routee.
pub(super) fn tell_to<M: Message>(
    shared: &Shared,
    to: &RouteeRef,
    message: &M,
) -> Result<(), Refusal> {
    let snapshot = shared.snapshot.load();
    let sender = shared.sender(shared.home_of(to), &snapshot);
    sender.tell(place_of(&snapshot, to, M::TYPE), message)
}
