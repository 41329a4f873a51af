//! Who has crashed, does not run, or is kept apart, so that none of its words can arrive, is shown as
//! unreachable in time by everyone who runs: also by those who are cut off from the others, and where
//! most are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Checks;
use super::disturbed::is_silent;
use crate::base::{MemberState, NodeRef, Time, View};
use crate::sim::clocks;
use crate::sim::events::LifeId;
use crate::sim::plan::Plan;
use crate::sim::process::Life;
use crate::sim::timings;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a silent member is noticed";

/// And that it is so within 3 s where nothing else went wrong.
pub const SOON: &str = "a silent member is noticed within 3 s by who was undisturbed";

/// By when, with default settings, by who was undisturbed before for some time.
const BOUND: Duration = Duration::from_secs(3);
const SOME_TIME: Duration = Duration::from_secs(10);
/// Where more datagrams than this are lost, news of it may come later by a fifth.
const FEW_LOST_PPM: u32 = 10_000;
/// How often it is looked.
const STEP: Duration = Duration::from_millis(50);

/// What is known of silent members.
#[derive(Default)]
pub struct Detection {
    looked_at: Time,
    /// Since when this life has run and shown that silent one as reachable, and for how long it was
    /// undisturbed before.
    unnoticed: BTreeMap<(LifeId, LifeId), (Time, Duration)>,
    by_node: BTreeMap<NodeRef, LifeId>,
    /// By life: the view that it showed when it was looked at last.
    shown: Vec<Shown>,
    /// How often a silent member was shown as reachable, and then had to be noticed.
    pub began: u64,
    /// How often it had to be within 3 s.
    pub soon: u64,
}

/// Of one view: whom it shows as reachable.
#[derive(Default)]
struct Shown {
    view: Option<Arc<View>>,
    reachable: Vec<LifeId>,
}

impl Detection {
    /// There are more lives.
    fn follow(&mut self, lives: &[Life]) {
        for (id, life) in lives.iter().enumerate().skip(self.shown.len()) {
            self.by_node.insert(life.me, id);
            self.shown.push(Shown::default());
        }
    }

    /// Whom a life shows as reachable.
    fn reachable(&mut self, life: LifeId, view: &Arc<View>) -> &[LifeId] {
        let Self { by_node, shown, .. } = self;
        let shown = &mut shown[life];
        if !shown.view.as_ref().is_some_and(|before| Arc::ptr_eq(before, view)) {
            let members = view.members.iter();
            let usable = members.filter(|it| it.reachable && it.state <= MemberState::Up);
            shown.reachable.clear();
            shown.reachable.extend(usable.filter_map(|it| by_node.get(&it.node_ref())));
            shown.view = Some(Arc::clone(view));
        }
        &shown.reachable
    }
}

impl World {
    /// By when a silent member has to be noticed by who was undisturbed before for so long.
    fn noticed_within(&self, quiet: Duration) -> Duration {
        let Plan { weather, work, slow, member, .. } = &self.plan;
        let under_strain = timings::noticed_within(&member.settings);
        if weather.loss_ppm > FEW_LOST_PPM {
            under_strain * 6 / 5
        } else if quiet < SOME_TIME || work.is_some() || !slow.is_empty() || self.is_out_of_time() {
            under_strain
        } else {
            BOUND
        }
    }

    /// Whether members wait otherwise than by default, or by clocks that are far off.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.plan.clocks_off_ppm > clocks::USUAL_OFF_PPM
            || !timings::are_usual(&self.plan.member.settings)
    }

    /// Looks whether everybody who is silent is known to be.
    pub(in crate::sim) fn check_detection(&mut self) {
        let now = self.net.now;
        if now.since(self.checks.detection.looked_at) < STEP {
            return;
        }
        let detection = &mut self.checks.detection;
        detection.looked_at = now;
        self.look_at_machines();
        let Checks { detection, disturbed, .. } = &mut self.checks;
        detection.follow(&self.lives);
        let before = std::mem::take(&mut detection.unnoticed);
        let mut unnoticed = BTreeMap::new();
        for (id, life) in self.lives.iter().enumerate() {
            // Who is late itself may be late with this.
            if is_silent(life) || self.plan.slow.contains(&life.slot) {
                continue;
            }
            // Who has left is told nothing more: its process only waits for its workers.
            let Some(body) = life.body.as_ref().filter(|body| body.left.is_none()) else {
                continue;
            };
            for member in detection.reachable(id, &body.snapshot.view) {
                let silent = &self.lives[*member];
                if is_silent(silent) || !disturbed.can_hear(life.slot, silent.slot) {
                    let since = before.get(&(id, *member)).copied();
                    let new = || (now, disturbed.was_quiet_for(life.slot, now));
                    unnoticed.insert((id, *member), since.unwrap_or_else(new));
                }
            }
        }
        // Who hears others again, or other ones, gives those that are silent still their time anew.
        let hears_since = |by: LifeId| self.checks.disturbed.hears_since(self.lives[by].slot);
        let late = unnoticed.iter().find(|((by, _), (since, quiet))| {
            let since = hears_since(*by).max(*since);
            now.since(since) > self.noticed_within(*quiet) + STEP
        });
        let late = late.map(|((life, member), (since, quiet))| {
            let member = self.lives[*member].me;
            let name = if self.noticed_within(*quiet) == BOUND { SOON } else { NAME };
            let shown = now.since(*since);
            (name, format!("life {life} has shown {member} as reachable for {shown:?}"))
        });
        let new = unnoticed.values().filter(|(since, _)| *since == now);
        let (mut began, mut soon) = (0, 0);
        for (_, quiet) in new {
            began += 1;
            soon += u64::from(self.noticed_within(*quiet) == BOUND);
        }
        self.checks.detection.unnoticed = unnoticed;
        self.checks.detection.began += began;
        self.checks.detection.soon += soon;
        if let Some((name, seen)) = late {
            self.blame(name, seen);
        }
    }
}
