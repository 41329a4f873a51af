//! Machines whose processes come back under another name, with a clock that went back: what was known
//! of the address before must not keep the next one out.

use super::events::SlotId;
use super::plan::Plan;
use super::world::World;

/// How far each name's clock is behind that of the one before it.
pub const BACK_US: u64 = 3_600_000_000;

impl World {
    /// The name of the process that starts on a machine now, and how far its clock is behind. It is
    /// another one once nobody has the last one among its members: who came back under another name
    /// from a crash would leave a silent member behind for good.
    pub(super) fn name(&mut self, slot: SlotId) -> (String, u64) {
        let last = self.lives.iter().rposition(|life| life.slot == slot);
        if let Some(last) = last.filter(|_| self.plan.renames)
            && (self.lives[last].leaving || self.lives[last].downed)
        {
            let node = self.lives[last].me.node;
            let knows = |life: usize| {
                let body = self.lives[life].body.as_deref();
                body.is_some_and(|body| body.control.view().member(node).is_some())
            };
            if !self.living().into_iter().any(knows) {
                self.renamed[slot] += 1;
                self.net.trace.say(|| format!("machine {slot} takes another name"));
            }
        }
        // A namesake has the name that is another machine's.
        let namesake = self.plan.strange.namesake.filter(|(rival, _)| *rival == slot);
        let slot = namesake.map_or(slot, |(_, of)| of);
        let count = self.renamed[slot];
        let first = Plan::name(slot);
        let name = if count == 0 { first } else { format!("{first}-{count}") };
        (name, u64::from(count) * BACK_US)
    }
}
