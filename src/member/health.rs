//! How far this node trusts its own doubts about others: the local health of Lifeguard (Dadgar,
//! Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure Detection",
//! 2018). A node that is itself late finds everybody else silent. So each sign that the fault is
//! here makes it wait longer before it suspects and before it gives up, and each probe that ran as
//! it should makes it wait less again.

use std::time::Duration;

use crate::base::NodeRef;

/// The score at which waiting is longest: nine times as long as with a score of none.
const WORST: u32 = 8;
/// How often in a row a probe is put off for lateness. A node that is late for ever must still
/// come to a verdict, slowly.
const MOST_DELAYS: u32 = 4;

/// The score, from 0 (all is well) up to [`WORST`].
#[derive(Debug, Default)]
pub(super) struct Health {
    score: u32,
    /// Whom the last probe found silent, if it did.
    last_silent: Option<NodeRef>,
    /// How often the probe under way was put off.
    delays: u32,
}

impl Health {
    /// A time to wait, as long as the score makes it.
    pub fn stretch(&self, time: Duration) -> Duration {
        time * (1 + self.score)
    }

    /// A probe's timer fired later than its answer may take, so that the answer may wait in the
    /// socket. Returns whether the timer is put off.
    pub fn late(&mut self) -> bool {
        self.worse();
        self.delays += 1;
        self.delays <= MOST_DELAYS
    }

    /// A probe came to its end; `silent` is who did not answer.
    pub fn probed(&mut self, silent: Option<NodeRef>) {
        let late = std::mem::take(&mut self.delays) > 0;
        match (self.last_silent, silent) {
            // One silent member is down; several in a row are rather deafness.
            (Some(last), Some(now)) if last != now => self.worse(),
            // Waiting is long while the score is high, so it falls faster than it rose.
            (_, None) if !late => self.score /= 2,
            _ => {}
        }
        self.last_silent = silent;
    }

    /// Others doubted this node, or somebody it doubted was alive.
    pub fn worse(&mut self) {
        self.score = (self.score + 1).min(WORST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};

    fn member(node: u64) -> Option<NodeRef> {
        Some(NodeRef { node: NodeId(node), incarnation: Incarnation(1) })
    }

    #[test]
    fn one_silent_member_is_no_fault_of_this_node_but_several_are() {
        let mut health = Health::default();
        health.probed(member(1));
        health.probed(member(1));
        assert_eq!(health.score, 0);
        health.probed(member(2));
        health.probed(member(3));
        assert_eq!(health.score, 2);
        assert_eq!(health.stretch(Duration::from_millis(80)), Duration::from_millis(240));
        health.probed(None);
        assert_eq!(health.score, 1);
        health.probed(None);
        assert_eq!(health.score, 0);
    }

    #[test]
    fn lateness_puts_off_a_few_times_and_the_score_has_an_end() {
        let mut health = Health::default();
        let put_off: Vec<bool> = (0..20).map(|_| health.late()).collect();
        assert!(put_off[..4].iter().all(|off| *off) && !put_off[4..].iter().any(|off| *off));
        assert_eq!(health.score, WORST);
        // An answered probe that was late says nothing good.
        health.probed(None);
        assert_eq!(health.score, WORST);
        health.probed(None);
        assert_eq!(health.score, WORST / 2);
    }
}
