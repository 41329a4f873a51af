//! Who has ended stays gone, however long somebody missed it: nobody shows a life again of which it
//! has shown the end.

use std::collections::BTreeSet;

use crate::base::{MemberEvent, NodeRef};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "who has ended stays gone";

/// What ends were shown.
#[derive(Default)]
pub struct Ghosts {
    /// By whom, and of whom.
    ended: BTreeSet<(LifeId, NodeRef)>,
    /// How many while somebody else showed a member still that could bring it back.
    pub missed: u64,
}

impl World {
    /// A process shows a change of membership.
    pub(super) fn check_ghost(&mut self, by: LifeId, event: &MemberEvent) {
        let of = event.member().node_ref();
        match event {
            MemberEvent::Removed(_) => {
                let shows = |life: LifeId| {
                    let body = self.lives[life].body.as_deref();
                    let member = body.and_then(|body| body.control.view().member(of.node));
                    life != by && member.is_some_and(|member| member.node_ref() == of)
                };
                let missed = self.living().into_iter().any(shows);
                self.checks.ghosts.missed += u64::from(missed);
                self.checks.ghosts.ended.insert((by, of));
            }
            MemberEvent::Joined(_) if self.checks.ghosts.ended.contains(&(by, of)) => {
                let seen = format!("life {by} shows {of} again, of which it had shown the end");
                self.blame(NAME, seen);
            }
            _ => {}
        }
    }
}
