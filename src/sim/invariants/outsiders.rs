//! A node of another cluster, or with another secret, gets to know nobody and is told why. That
//! nobody shows it is looked at as of whoever cannot be reached: see [`door`](super::door).

use std::net::SocketAddr;

use crate::base::View;
use crate::control::joining::{JoinState, SeedState};
use crate::sim::events::LifeId;
use crate::sim::network::address;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "who is of another cluster meets nobody and is told why";

impl World {
    /// A process is about to show a view.
    pub(super) fn check_outsider(&mut self, life: LifeId, view: &View) {
        if self.plan.strange.outsider.is_none() || self.outsider(self.lives[life].slot).is_none() {
            return;
        }
        if view.members.iter().any(|member| member.id != view.me.node) {
            self.blame(NAME, format!("life {life} is of another cluster, and shows others"));
        }
    }

    /// In the end it has called at all that are there, and each has said why.
    pub(super) fn check_told_outsiders(&mut self) {
        for life in self.living() {
            let Some(kind) = self.outsider(self.lives[life].slot) else { continue };
            let Some(body) = self.lives[life].body.as_deref().filter(|body| body.left.is_none())
            else {
                continue;
            };
            let staying = self.staying();
            let at = |life: &LifeId| address(self.lives[*life].slot);
            let there: Vec<SocketAddr> = staying.iter().map(at).collect();
            let state = body.control.join_state();
            let JoinState::Joining { seeds } = &state else {
                let seen = format!("life {life} is of another cluster, and is {state:?}");
                return self.blame(NAME, seen);
            };
            let seeds = seeds.iter().filter(|(seed, _)| there.contains(seed));
            let (told, other): (Vec<&(SocketAddr, SeedState)>, Vec<_>) =
                seeds.partition(|(_, state)| *state == kind.told());
            self.checks.outsiders += told.len() as u64;
            if !other.is_empty() {
                self.blame(NAME, format!("life {life} ({kind:?}) was told by seeds: {other:?}"));
            }
        }
    }
}
