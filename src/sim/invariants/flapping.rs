//! The keys of a member that falls silent again and again move a few times and then stay elsewhere,
//! those of others do not move, all who can hear each other agree on it, and once the member is
//! steady it is used again in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{NodeId, Time, View};
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "a flapping member is damped";

/// Away, back for free, away, back after 1 s, away, back after 2 s, away: it never answers for the
/// 4 s that come next. And back in the end.
const MOST_MOVES: u32 = 8;
/// By when a change has come to everyone.
const AGREEMENT: Duration = Duration::from_millis(500);
/// From the end of a cut until the member knows that it was taken for dead.
const NOTICED: Duration = Duration::from_secs(2);

/// What is known of the flapping member, by who looks at it.
#[derive(Default)]
pub struct Flapping {
    shown: BTreeMap<LifeId, Shown>,
    /// Since when some send to it and others do not.
    apart_since: Option<Time>,
    /// Others that had keys.
    steady: BTreeSet<(LifeId, NodeId)>,
    /// How often somebody saw it damped.
    pub damped: u64,
    /// When the last cut ends.
    mended_at: Time,
    cuts: usize,
}

#[derive(Default)]
struct Shown {
    used: bool,
    damped: bool,
    moves: u32,
}

impl Flapping {
    /// The next cut begins; gives which it is.
    pub fn cut(&mut self) -> usize {
        self.cuts += 1;
        self.cuts - 1
    }

    /// Until then it lasts.
    pub fn until(&mut self, at: Time) {
        self.mended_at = at;
    }

    fn see(&mut self, life: LifeId, view: &View, victim: NodeId) -> Result<(), String> {
        for other in view.members.iter().filter(|member| member.id != victim) {
            if other.is_usable() {
                self.steady.insert((life, other.id));
            } else if self.steady.contains(&(life, other.id)) {
                return Err(format!("keys of {} moved, and it was there all along", other.id));
            }
        }
        let Some(member) = view.member(victim) else { return Ok(()) };
        let (used, damped) = (member.is_usable(), member.damped_until.is_some());
        if !used && !self.shown.contains_key(&life) {
            return Ok(()); // It has not come up yet.
        }
        let shown = self.shown.entry(life).or_insert(Shown { used, damped, moves: 0 });
        self.damped += u64::from(damped && !shown.damped);
        shown.damped = damped;
        shown.moves += u32::from(shown.used != used);
        shown.used = used;
        if shown.moves > MOST_MOVES {
            return Err(format!("its keys have moved {} times", shown.moves));
        }
        Ok(())
    }

    fn agree(&mut self, now: Time) -> Result<(), String> {
        if let Some(since) = self.apart_since.filter(|since| now.since(*since) > AGREEMENT) {
            return Err(format!("for {:?} some used it and others did not", now.since(since)));
        }
        let used = self.shown.values().filter(|shown| shown.used).count();
        let apart = used > 0 && used < self.shown.len();
        self.apart_since = apart.then(|| self.apart_since.unwrap_or(now));
        Ok(())
    }
}

impl World {
    /// A process is about to publish this view.
    pub(in crate::sim) fn check_flapping(&mut self, life: LifeId, view: &View) {
        let Some(victim) = self.plan.flapping() else { return };
        // The flapping node itself is cut off.
        if self.lives[life].slot == victim {
            return;
        }
        let flapping = &mut self.checks.flapping;
        let node = NodeId::from_name(&crate::sim::plan::Plan::name(victim));
        let outcome = flapping.see(life, view, node).and_then(|()| flapping.agree(self.net.now));
        if let Err(seen) = outcome {
            self.blame(NAME, format!("life {life}: {seen}"));
        }
    }

    /// All faults have ended, the last cut long ago.
    pub(in crate::sim) fn check_settled(&mut self) {
        if self.plan.flapping().is_none() {
            return;
        }
        let now = self.net.now;
        let most = Duration::from_millis(self.plan.member.settings.damp_max_ms) + NOTICED;
        let flapping = &mut self.checks.flapping;
        let steady = now.since(flapping.mended_at);
        let mut outcome = flapping.agree(now);
        if steady < most || flapping.cuts != self.plan.flaps.len() {
            outcome = Err(format!("the last cut of {} was {steady:?} ago", flapping.cuts));
        } else if flapping.shown.values().any(|shown| !shown.used) {
            outcome = Err(format!("it has been steady for {steady:?} and is not used"));
        }
        if let Err(seen) = outcome {
            self.blame(NAME, seen);
        }
    }
}
