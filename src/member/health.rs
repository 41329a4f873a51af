//! How far this node trusts its own doubts about others, after the local health of Lifeguard (Dadgar,
//! Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure Detection",
//! 2018). What counts are signs that the fault is here:
//!
//! - The time in which this node should have run and did not is not the others' silence. A suspect
//!   has that much longer to be heard, and a probe whose answer may still wait is put off.
//! - Where that happens again and again there are too few cores, and others may want for them as
//!   well: this node waits several times as long, until it has run in time for a while.
//! - Somebody it suspected was alive, or others doubted this node: it waits a little longer until a
//!   probe runs as it should.
//!
//! That many are silent is no such sign. They may all be gone, and who is left must see it in time.

use std::time::Duration;

use crate::base::{NodeRef, Time};

/// At most so many errors count.
const MOST_ERRORS: u32 = 2;
/// Each makes a suspicion last longer by one such part.
const PART_PER_ERROR: u32 = 4;
/// How often in a row a probe is put off for lateness. A node that is late for ever must still
/// come to a verdict, slowly.
const MOST_DELAYS: u32 = 4;
/// How much strain each time that was missed adds, to be taken off by as many probes in time.
const STRAIN: u32 = 2;
/// The strain at which waiting is longest: nine times as long as without.
const MOST_STRAIN: u32 = 8;

/// What this node knows of itself.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// For how long in all it should have run and did not.
    missed: Duration,
    /// Up to when that is counted.
    counted: Time,
    /// By so many times its own length a suspicion lasts longer.
    strain: u32,
    errors: u32,
    /// Whom the last probe found silent, if it did.
    last_silent: Option<NodeRef>,
    /// How often the probe under way was put off.
    delays: u32,
}

impl Health {
    /// Something was due then, and is done only now.
    pub fn ran(&mut self, now: Time, due: Time) {
        if due >= self.counted {
            self.strain = (self.strain + STRAIN).min(MOST_STRAIN);
        }
        self.missed += now.since(due.max(self.counted));
        self.counted = now;
    }

    /// For how long in all it should have run and did not.
    pub fn missed(&self) -> Duration {
        self.missed
    }

    /// How long a suspicion lasts that began when so much had been missed.
    pub fn patience(&self, suspect: Duration, missed: Duration) -> Duration {
        let errors = suspect / PART_PER_ERROR * self.errors;
        suspect + errors + suspect * self.strain + (self.missed - missed)
    }

    /// A probe's timer fired later than its answer may take, so that the answer may wait in the
    /// socket. Returns whether the timer is put off.
    pub fn late(&mut self) -> bool {
        self.delays += 1;
        self.delays <= MOST_DELAYS
    }

    /// A probe came to its end; `silent` is who did not answer. Returns whether this is the second in
    /// a row that found somebody silent, at a time when this node ran as it should.
    pub fn probed(&mut self, silent: Option<NodeRef>) -> bool {
        let late = std::mem::take(&mut self.delays) > 0;
        if !late {
            self.strain = self.strain.saturating_sub(1);
            self.errors = if silent.is_none() { self.errors / 2 } else { self.errors };
        }
        let last = std::mem::replace(&mut self.last_silent, silent);
        !late && last.is_some() && silent.is_some() && last != silent
    }

    /// Others doubted this node, or somebody it doubted was alive.
    pub fn erred(&mut self) {
        self.errors = (self.errors + 1).min(MOST_ERRORS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const SUSPECT: Duration = Duration::from_secs(1);

    fn member(node: u64) -> Option<NodeRef> {
        Some(NodeRef { node: NodeId(node), incarnation: Incarnation(1) })
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn that_others_are_silent_makes_nobody_wait_longer() {
        let mut health = Health::default();
        let in_a_row = [1, 1, 2, 3].map(|node| health.probed(member(node)));
        assert_eq!(in_a_row, [false, false, true, true]);
        assert_eq!(health.patience(SUSPECT, MS(0)), SUSPECT);
        assert!(!health.probed(None) && !health.probed(member(4)));
        health.late();
        assert!(!health.probed(member(5)), "it may be this node's own lateness");
    }

    #[test]
    fn what_was_missed_is_counted_once_and_added() {
        let mut health = Health::default();
        health.ran(at(1_000), at(700));
        // Due within what is counted already, in part and as a whole.
        health.ran(at(1_100), at(900));
        health.ran(at(1_100), at(800));
        assert_eq!(health.missed(), MS(400));
        // Two probes in time take the strain off, whatever they found.
        health.probed(member(1));
        assert_eq!(health.patience(SUSPECT, MS(300)), MS(2_100));
        health.probed(None);
        assert_eq!(health.patience(SUSPECT, MS(300)), MS(1_100));
        health.ran(at(100_000), at(2_000));
        assert_eq!(health.patience(SUSPECT, MS(0)), MS(1_000 + 2_000 + 98_400));
    }

    #[test]
    fn who_is_late_again_and_again_waits_nine_times_as_long() {
        let mut health = Health::default();
        let late = |health: &mut Health, at_ms| health.ran(at(at_ms + 30), at(at_ms));
        (1..=3).for_each(|round| late(&mut health, round * 100));
        assert_eq!(health.patience(SUSPECT, health.missed()), MS(7_000));
        (4..=9).for_each(|round| late(&mut health, round * 100));
        assert_eq!(health.patience(SUSPECT, health.missed()), MS(9_000));
        (0..8).for_each(|_| assert!(!health.probed(None)));
        assert_eq!(health.patience(SUSPECT, health.missed()), SUSPECT);
    }

    #[test]
    fn errors_make_it_wait_half_as_long_again_at_most() {
        let mut health = Health::default();
        let waits = [1, 2, 3].map(|_| {
            health.erred();
            health.patience(SUSPECT, MS(0))
        });
        assert_eq!(waits, [MS(1_250), MS(1_500), MS(1_500)]);
        // An answered probe that was late says nothing good.
        health.late();
        health.probed(None);
        assert_eq!(health.patience(SUSPECT, MS(0)), MS(1_500));
        health.probed(None);
        health.probed(None);
        assert_eq!(health.patience(SUSPECT, MS(0)), SUSPECT);
    }

    #[test]
    fn lateness_puts_off_a_few_times() {
        let mut health = Health::default();
        let put_off: Vec<bool> = (0..20).map(|_| health.late()).collect();
        assert!(put_off[..4].iter().all(|off| *off) && !put_off[4..].iter().any(|off| *off));
    }
}
