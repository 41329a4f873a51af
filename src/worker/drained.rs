//! Whether a worker of a node that leaves has something left to do, and what that is.

use std::collections::BTreeSet;

use super::Worker;
use super::command::{Drained, Undrained};
use super::link::{Link, Role};

impl Worker {
    /// The answer to a question of control. `is_queued` says that something waits before the worker.
    pub fn drained(&mut self, round: u64, is_queued: bool) -> Drained {
        let mut undrained = self.undrained();
        if is_queued {
            undrained.get_or_insert_default().waiting += 1;
        }
        let counts = self.counts();
        // A handler that panicked may have sent something before.
        let dead = counts.dead.iter().chain(&counts.received_dead).sum::<u64>();
        let handled = counts.delivered + counts.received + dead;
        Drained { round, handled, undrained: undrained.map(Box::new) }
    }

    /// What keeps it from being drained; nothing when every message that came in or went out has come
    /// to its end, and every peer that sent to this worker said that it will send no more. A stranger's
    /// link on which nothing comes stays open all the same: what comes on it until the end is handled.
    pub fn undrained(&mut self) -> Option<Undrained> {
        // For what nobody waits any more, it does not wait either.
        self.core.reap();
        let core = &self.core;
        let parts = usize::from(!core.parts.is_drained());
        // A list may be empty: it stays until its link has room, or its snapshot comes.
        let held = self.held.count();
        let notes = usize::from(core.repliers.has_notes());
        let news = core.failed_asks.len() + core.notices.len();
        let mut found = Undrained {
            waiting: held + news + parts + notes,
            asks: core.asks.len(),
            work: core.works.len(),
            owes_replies: core.repliers.is_held(),
            peers: BTreeSet::new(),
        };
        let waited_for = core.asks.links().filter_map(|link| core.links.get(link));
        for link in waited_for.filter(|link| matches!(link.role, Role::Dialed { .. })) {
            found.name(link.peer.0);
        }
        let holds = |link: &Link| !link.is_settled() && !link.is_idle_of_a_stranger(core.now);
        for (_, link) in core.links.iter().filter(|(_, link)| holds(link)) {
            match link.role {
                Role::Own | Role::Sibling(_) => found.waiting += 1,
                Role::Dialed { .. } | Role::Accepted { .. } => found.name(link.peer.0),
            }
        }
        (found != Undrained::default()).then_some(found)
    }
}
