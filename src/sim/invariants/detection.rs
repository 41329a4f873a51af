//! Who has crashed, or does not run, is shown as unreachable in time by everyone who runs: also by
//! those who are cut off from the others, and where most are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{MemberState, NodeRef, Time, View};
use crate::sim::events::LifeId;
use crate::sim::process::Life;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a silent member is noticed";

/// By when, with default settings. Within 3 s but for a few seeds in a thousand, where word of
/// others, losses and pauses come together; one in some thousands took 4.06 s.
const BOUND: Duration = Duration::from_secs(5);
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
    unnoticed: BTreeMap<(LifeId, LifeId), Time>,
    by_node: BTreeMap<NodeRef, LifeId>,
    /// By life: the view that it showed when it was looked at last.
    shown: Vec<Shown>,
    /// How often a silent member was shown as reachable, and then had to be noticed.
    pub began: u64,
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
        let detection = &mut self.checks.detection;
        detection.looked_at = now;
        detection.follow(&self.lives);
        let before = std::mem::take(&mut detection.unnoticed);
        let (mut unnoticed, mut began) = (BTreeMap::new(), 0);
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
                if is_silent(&self.lives[*member]) {
                    let since = before.get(&(id, *member)).copied();
                    began += u64::from(since.is_none());
                    unnoticed.insert((id, *member), since.unwrap_or(now));
                }
            }
        }
        let lossy = self.plan.weather.loss_ppm > FEW_LOST_PPM;
        let bound = if lossy { BOUND_WITH_LOSS } else { BOUND } + STEP;
        let late = unnoticed.iter().find(|(_, since)| now.since(**since) > bound);
        let late = late.map(|((life, member), since)| {
            let member = self.lives[*member].me;
            format!("life {life} has shown {member} as reachable for {:?}", now.since(*since))
        });
        self.checks.detection.unnoticed = unnoticed;
        self.checks.detection.began += began;
        if let Some(seen) = late {
            self.blame(NAME, seen);
        }
    }
}
