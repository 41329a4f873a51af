//! Nobody is shown as unreachable without a reason: who runs, and can speak with everybody, is reached
//! by everybody else of whom this is true as well, whatever happens to others.

use std::time::Duration;

use super::disturbed::is_silent;
use crate::base::MemberEvent;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "nobody is called unreachable without a reason";

/// For how long what a machine went through explains what is shown of it, or by it.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// Where more datagrams than this are lost that is a reason.
const FEW_LOST_PPM: u32 = 10_000;

impl World {
    /// A process saw a change of membership.
    pub(super) fn check_alarm(&mut self, by: LifeId, event: &MemberEvent) {
        let MemberEvent::Unreachable(member) = event else { return };
        self.checks.alarms += 1;
        let lossy = self.plan.weather.loss_ppm > FEW_LOST_PPM || self.plan.work.is_some();
        let of = self.lives.iter().rfind(|life| life.me == member.node_ref());
        let Some(of) = of else { return };
        // Who is gone by now is not there, whatever it is called.
        let ended = is_silent(of) || of.is_gone();
        if lossy || self.is_out_of_time() || of.misled || self.lives[by].misled || ended {
            return;
        }
        let (now, disturbed) = (self.net.now, &self.checks.disturbed);
        let quiet = |slot| disturbed.quiet_for(slot, now);
        let least = quiet(of.slot).min(quiet(self.lives[by].slot));
        if least > AFTERWARDS && self.net.deaf.is_none() {
            let seen = format!(
                "life {by} calls {} unreachable, and both were undisturbed for {least:?}",
                of.me
            );
            self.blame(NAME, seen);
        }
    }
}
