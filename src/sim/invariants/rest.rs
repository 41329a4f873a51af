//! A worker that has nothing to do sleeps: it does not look again and again whether that is still
//! so, for as long as a sibling is held up or a peer takes nothing.

use super::super::events::LifeId;
use super::super::world::World;

/// What it is called.
pub const NAME: &str = "a worker with nothing to do sleeps";

/// Turns behind one another in which a worker moves nothing and wants the next one at once. Some
/// are right: it does what it told itself.
const MOST: u32 = 500;

impl World {
    /// After a turn: whether something was moved, or the worker rests.
    pub(in crate::sim) fn check_rest(&mut self, (life, index): (LifeId, usize), well: bool) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let core = &mut body.workers[index];
        core.idle_turns = if well { 0 } else { core.idle_turns + 1 };
        self.checks.idle_turns += u64::from(!well);
        if core.idle_turns > MOST {
            self.blame(NAME, format!("worker {index} of life {life} had {MOST} turns for nothing"));
        }
    }
}
