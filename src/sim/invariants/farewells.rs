//! Who says that it has left well is known to have left by somebody that stays, and the operator need
//! not remove it.

use std::collections::BTreeSet;

use crate::base::{MemberEvent, MemberState, NodeRef, Time};
use crate::sim::events::LifeId;
use crate::sim::process::Fate;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "who has left well is known to have left";

/// For how long somebody may know something, and not have shown it.
const SHOWN_WITHIN_MS: u64 = 1_000;

/// Whose end somebody must show.
#[derive(Default)]
pub struct Farewells {
    /// Those that left well, had others to tell, and are not shown to have left yet.
    unshown: Vec<LifeId>,
    /// Whose end somebody has shown: that may be before their own processes have ended.
    shown: BTreeSet<NodeRef>,
    /// When a process was last killed: it may have known what it had not shown yet.
    killed_at: Option<Time>,
    /// How many left well that had others to tell.
    pub told: u64,
}

impl World {
    /// A process has left, and says that all was done.
    pub(super) fn note_farewell(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let (me, view) = (self.lives[life].me, body.control.view());
        let mut others = view.members.iter().filter(|member| member.id != me.node);
        let stays = others.any(|it| it.reachable && it.state < MemberState::Leaving);
        let farewells = &mut self.checks.farewells;
        let now = self.net.now;
        let killed = farewells.killed_at;
        let may_be_dead =
            killed.is_some_and(|at| now.since(at).as_millis() < SHOWN_WITHIN_MS.into());
        if stays && !may_be_dead {
            farewells.told += 1;
            if !farewells.shown.contains(&me) {
                farewells.unshown.push(life);
            }
        }
    }

    /// A process shows a change of membership.
    pub(super) fn note_shown_end(&mut self, by: LifeId, event: &MemberEvent) {
        let MemberEvent::Removed(member) = event else { return };
        let (lives, of) = (&self.lives, member.node_ref());
        let is_shown = |life: &LifeId| *life != by && lives[*life].me == of;
        let farewells = &mut self.checks.farewells;
        farewells.unshown.retain(|life| !is_shown(life));
        if lives[by].me != of {
            farewells.shown.insert(of);
        }
    }

    /// A process is gone.
    pub(in crate::sim) fn note_killed(&mut self, fate: Fate) {
        if fate != Fate::Left {
            let farewells = &mut self.checks.farewells;
            farewells.killed_at = Some(self.net.now);
            farewells.unshown.clear();
        }
    }

    /// The operator finds one that is gone and still shown as a member.
    pub(in crate::sim) fn check_farewell(&mut self, life: LifeId, by: LifeId) {
        if self.checks.farewells.unshown.contains(&life) {
            let seen = format!("life {life} left well, and life {by} shows it as a member still");
            self.blame(NAME, seen);
        }
    }
}
