//! A member that hears next to nothing takes others for dead. That is its own trouble: in everybody
//! else's view the others keep their keys, however often they have to contradict.

use std::collections::BTreeSet;

use crate::base::{NodeId, View};
use crate::sim::events::LifeId;
use crate::sim::plan::Plan;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "who hears next to nothing takes no keys from others";

/// What is known of the others, by who looks at them.
#[derive(Default)]
pub struct Deaf {
    /// Who had keys.
    steady: BTreeSet<(LifeId, NodeId)>,
    /// Whom the deaf member holds for dead.
    accused: BTreeSet<NodeId>,
    /// How often it came to that.
    pub accusals: u64,
}

impl World {
    /// A process is about to publish this view.
    pub(in crate::sim) fn check_deaf(&mut self, life: LifeId, view: &View) {
        let Some((deaf, _)) = self.plan.deaf else { return };
        let checks = &mut self.checks.deaf;
        if self.lives[life].slot == deaf {
            let silent = view.members.iter().filter(|member| !member.reachable);
            let accused: BTreeSet<NodeId> = silent.map(|member| member.id).collect();
            checks.accusals += accused.difference(&checks.accused).count() as u64;
            checks.accused = accused;
            return;
        }
        let node = NodeId::from_name(&Plan::name(deaf));
        let mut moved = None;
        for other in view.members.iter().filter(|member| member.id != node) {
            if other.is_usable() {
                checks.steady.insert((life, other.id));
            } else if checks.steady.contains(&(life, other.id)) {
                moved = Some(other.id);
            }
        }
        if let Some(other) = moved {
            let seen = format!("life {life}: keys of {other} moved, and it was there all along");
            self.blame(NAME, seen);
        }
    }
}
