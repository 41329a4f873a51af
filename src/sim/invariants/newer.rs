//! What a newer member says that this version does not know is skipped and counted, and costs
//! nothing else: no link, no channel, and nobody is called unreachable for it.

use std::collections::BTreeMap;

use crate::base::MemberEvent;
use crate::control::links::JobEvent;
use crate::sim::events::LifeId;
use crate::sim::network::Owner;
use crate::sim::newer::{Heard, is_unknown_refusal};
use crate::sim::process::Life;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "what a newer member says is skipped, counted and costs nothing";

/// What has been said and heard.
#[derive(Default)]
pub struct Newer {
    /// What each life has heard, by what came to it.
    heard: BTreeMap<LifeId, Heard>,
    /// What all have.
    pub all: Heard,
}

impl World {
    /// How many datagrams a process has skipped, as it counts them.
    pub(in crate::sim) fn skipped_datagrams(&self, life: LifeId) -> Option<u64> {
        let mine = self.outsider(self.lives[life].slot).is_none();
        running(&self.lives[life]).filter(|_| mine).map(|control| control.datagrams().skipped)
    }

    /// A datagram for an unknown part came to a process, which had skipped so many before.
    pub(in crate::sim) fn check_skipped_datagram(&mut self, life: LifeId, before: Option<u64>) {
        let (Some(before), Some(after)) = (before, self.skipped_datagrams(life)) else { return };
        self.checks.newer.all.datagrams += 1;
        if after != before + 1 {
            let seen = format!("life {life} did not count an unknown datagram: {before}, {after}");
            self.blame(NAME, seen);
        }
    }

    /// So many unknown frames came to a process's control on a channel.
    pub(in crate::sim) fn check_skipped_letters(&mut self, life: LifeId, came: u64) {
        let Some(control) = running(&self.lives[life]) else { return };
        let heard = self.checks.newer.heard.entry(life).or_default();
        heard.letters += came;
        self.checks.newer.all.letters += came;
        let (came, skipped) = (heard.letters, control.frames_skipped());
        if came != skipped {
            let seen = format!("of {came} unknown letters life {life} has skipped {skipped}");
            self.blame(NAME, seen);
        }
    }

    /// Something came of a handshake.
    pub(in crate::sim) fn heard_refusal(&mut self, event: &JobEvent) {
        self.checks.newer.all.refusals += u64::from(is_unknown_refusal(event));
    }

    /// An ask has failed for a reason that its node does not know.
    pub(in crate::sim) fn check_unknown_reasons(&mut self) {
        let reasons = self.ledger.lock().unknown_reasons;
        self.checks.newer.all.reasons = reasons;
        if reasons > 0 && self.plan.newer.is_none() {
            self.blame(NAME, format!("{reasons} asks failed for reasons that nobody gives"));
        }
    }

    /// Nothing goes wrong in this run.
    fn is_calm(&self) -> bool {
        self.plan.calm && self.plan.flaps.is_empty()
    }

    /// A process saw a change of membership; where nothing goes wrong, nobody falls silent.
    pub(super) fn check_calm(&mut self, life: LifeId, event: &MemberEvent) {
        if let (true, MemberEvent::Unreachable(member)) = (self.is_calm(), event) {
            let seen = format!("life {life} called {} unreachable", member.node_ref());
            self.blame(NAME, seen);
        }
    }

    /// In the end each worker has skipped what came on its connections, and no more.
    pub(super) fn check_skipped_frames(&mut self, life: LifeId) {
        let counts = self.total_counts(life);
        let (skipped, lost) = (counts.skipped_frames, counts.unknown);
        let (mut least, mut most) = (0, 0);
        for ((conn, side), count) in &self.net.said_more {
            let (dialer, listener) = self.net.slots(*conn);
            if [dialer, listener][*side] == self.lives[life].slot {
                most += count;
                let open = |side| matches!(self.net.owner(*conn, side), Owner::Worker(..));
                let mine =
                    matches!(self.net.owner(*conn, *side), Owner::Worker(by, ..) if by == life);
                least += if mine && open(1 - *side) { *count } else { 0 };
            }
        }
        self.checks.newer.all.frames += skipped;
        if !(least..=most).contains(&skipped) {
            let seen = format!(
                "life {life} skipped {skipped} frames, of {least} on open links and {most} in all"
            );
            self.blame(NAME, seen);
        }
        if self.is_calm() && lost > 0 {
            self.blame(NAME, format!("life {life} lost links with {lost} messages"));
        }
    }
}

/// The control of a process that does not stop.
fn running(life: &Life) -> Option<&crate::control::Control> {
    life.body.as_deref().filter(|body| body.left.is_none()).map(|body| &body.control)
}
