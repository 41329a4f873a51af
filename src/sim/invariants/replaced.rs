//! Of two lives of a node the end of the first is told before the beginning of the second.

use std::collections::BTreeMap;

use crate::base::{Incarnation, MemberEvent, NodeId};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a life ends before the next one of its node begins";

/// What lives were told of.
#[derive(Default)]
pub struct Replaced {
    /// By who tells it: the last life of each node, and whether it has ended.
    last: BTreeMap<(LifeId, NodeId), (Incarnation, bool)>,
    /// How often a life followed another one.
    pub followed: u64,
}

impl World {
    /// A process tells a change of membership.
    pub(super) fn check_replaced(&mut self, by: LifeId, event: &MemberEvent) {
        let of = event.member().node_ref();
        let Replaced { last, followed } = &mut self.checks.replaced;
        let is_over = match event {
            MemberEvent::Joined(_) => false,
            MemberEvent::Removed(_) => true,
            _ => return,
        };
        let before = last.insert((by, of.node), (of.incarnation, is_over));
        let Some((incarnation, was_over)) = before.filter(|_| !is_over) else { return };
        *followed += 1;
        if !was_over {
            let seen =
                format!("life {by} tells that {of} joined, and not that #{incarnation} ended");
            self.blame(NAME, seen);
        }
    }
}
