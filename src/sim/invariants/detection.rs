//! Who has crashed, or does not run, is shown as unreachable in time by everyone who runs: also by
//! those who are cut off from the others, and where most are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{MemberState, NodeRef, Time};
use crate::sim::events::LifeId;
use crate::sim::process::Life;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a silent member is noticed";

/// By when, with default settings. Within 3 s but for a few seeds in a thousand, where word of
/// others, losses and pauses come together.
const BOUND: Duration = Duration::from_secs(4);
/// Where more datagrams than this are lost, news of it may come later.
const FEW_LOST_PPM: u32 = 10_000;
const BOUND_WITH_LOSS: Duration = Duration::from_secs(6);
/// How often it is looked.
const STEP: Duration = Duration::from_millis(50);

/// What is known of silent members.
#[derive(Default)]
pub struct Detection {
    looked_at: Time,
    /// Since when this life has run and shown that silent one as reachable.
    unnoticed: BTreeMap<(LifeId, NodeRef), Time>,
}

/// Whether it can answer.
fn is_silent(life: &Life) -> bool {
    life.body.as_ref().is_none_or(|body| body.paused)
}

impl World {
    /// Looks whether everybody who is silent is known to be.
    pub(in crate::sim) fn check_detection(&mut self) {
        let now = self.net.now;
        if now.since(self.checks.detection.looked_at) < STEP {
            return;
        }
        let before = std::mem::take(&mut self.checks.detection.unnoticed);
        let mut unnoticed = BTreeMap::new();
        let silent: BTreeMap<NodeRef, bool> =
            self.lives.iter().map(|life| (life.me, is_silent(life))).collect();
        for (id, life) in self.lives.iter().enumerate() {
            // Who is late itself may be late with this.
            if is_silent(life) || self.plan.slow.contains(&life.slot) {
                continue;
            }
            // Who has left is told nothing more: its process only waits for its workers.
            let Some(body) = life.body.as_ref().filter(|body| body.left.is_none()) else {
                continue;
            };
            let shown = body.snapshot.view.members.iter().filter(|member| {
                member.reachable
                    && member.state <= MemberState::Up
                    && silent.get(&member.node_ref()) == Some(&true)
            });
            for member in shown.map(|member| member.node_ref()) {
                let since = before.get(&(id, member)).copied().unwrap_or(now);
                unnoticed.insert((id, member), since);
            }
        }
        let lossy = self.plan.weather.loss_ppm > FEW_LOST_PPM;
        let bound = if lossy { BOUND_WITH_LOSS } else { BOUND } + STEP;
        let late = unnoticed.iter().find(|(_, since)| now.since(**since) > bound);
        let late = late.map(|((life, member), since)| {
            format!("life {life} has shown {member} as reachable for {:?}", now.since(*since))
        });
        self.checks.detection = Detection { looked_at: now, unnoticed };
        if let Some(seen) = late {
            self.blame(NAME, seen);
        }
    }
}
