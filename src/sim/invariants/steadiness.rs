//! When the faults are over, keys move at most once per member: in each view a member that has none
//! gets them, and keeps them. Only what began before may still take keys away in the first moment,
//! as a verdict that comes in with what refutes it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{NodeRef, View};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "after the faults keys move once per member";

/// By when everyone has heard of what was said before the faults ended, and of what refutes it; and
/// who was about to be damped (`DAMP_MAX_MS` is 2 s here), is.
pub const HEARD: Duration = Duration::from_secs(4);

/// What is known of keys since the faults ended.
#[derive(Default)]
pub struct Steadiness {
    /// Whose keys have moved to it, as whom sees it.
    moved: BTreeSet<(LifeId, NodeRef)>,
    /// How often keys moved to a member, for the first time.
    pub moves: u64,
}

impl World {
    /// A process is about to publish this view.
    pub(in crate::sim) fn check_steadiness(
        &mut self,
        life: LifeId,
        before: &Arc<View>,
        view: &Arc<View>,
    ) {
        let Some(healed_at) = self.healed_at.filter(|_| !Arc::ptr_eq(before, view)) else { return };
        let since = self.net.now.since(healed_at);
        for member in &view.members {
            let of = member.node_ref();
            let was = before.member(of.node).filter(|was| was.node_ref() == of);
            let had = was.is_some_and(|was| was.is_usable());
            if had == member.is_usable() {
                continue;
            }
            let stays = self.lives.iter().any(|it| it.me == of && !it.leaving && !it.downed);
            if had && stays && since > HEARD {
                let seen = format!("life {life} takes its keys from {of}, {since:?} after them");
                self.blame(NAME, seen);
            }
            let steadiness = &mut self.checks.steadiness;
            let is_first = !had && steadiness.moved.insert((life, of));
            steadiness.moves += u64::from(is_first);
        }
    }
}
