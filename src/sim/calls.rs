//! Calls of a process's control: with what hands, and what is looked at afterwards.

use super::control::Hands;
use super::events::LifeId;
use super::process::{Body, Life};
use super::world::World;
use crate::base::Time;
use crate::control::Control;

impl World {
    /// Calls a process's control.
    pub(super) fn control<T>(
        &mut self,
        life: LifeId,
        call: impl FnOnce(&mut Control, Time, &mut Hands<'_>) -> T,
    ) -> Option<T> {
        let now = self.lives[life].local(self.net.now);
        let Life { slot, born, .. } = self.lives[life];
        let Body { control, workers, jobs, snapshot, .. } = self.lives[life].body.as_deref_mut()?;
        let (net, seen) = (&mut self.net, Vec::new());
        let mut hands = Hands { life, slot, born, net, workers, jobs, snapshot, seen };
        let outcome = call(control, now, &mut hands);
        for seen in hands.seen {
            self.see(life, seen);
        }
        Some(outcome)
    }
}
