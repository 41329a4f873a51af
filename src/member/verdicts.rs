//! Whom this node has given up, it tells everybody, and the accused. Those of one moment are told
//! together: where half a cluster is gone each who is left finds that out about each who is not.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::pace::{Pace, Turn};
use crate::base::{NodeRef, Time};

use super::belief::Belief;
use super::messages;
use super::sync::summary_entry;
use super::timer::TimerKind;
use super::{MemberSink, Membership, schedule};

/// How closely a verdict follows on another to be told with it, at first and at the most.
const GAPS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// Verdicts that are not told yet.
#[derive(Debug)]
pub(super) struct Verdicts {
    accused: BTreeSet<NodeRef>,
    pace: Pace,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { accused: BTreeSet::new(), pace: Pace::new(GAPS.0, GAPS.1) }
    }
}

impl Membership {
    /// This node has given a member up.
    pub(super) fn spread_verdict(
        &mut self,
        now: Time,
        accused: NodeRef,
        sink: &mut dyn MemberSink,
    ) {
        self.stats.verdicts += 1;
        self.verdicts.accused.insert(accused);
        match self.verdicts.pace.wanted(now) {
            Turn::Now => self.tell_verdicts(now, sink),
            Turn::At(at) => schedule(now, at.since(now), TimerKind::Verdicts, sink),
            Turn::Waits => {}
        }
    }

    pub(super) fn tell_verdicts(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.verdicts.pace.done(now);
        let (mut all, mut addresses) = (Vec::new(), BTreeSet::new());
        let beliefs = self.swim.beliefs();
        for accused in std::mem::take(&mut self.verdicts.accused) {
            let Some(entry) = self.current(accused) else { continue };
            let address = entry.record.member.address;
            // It may have come back meanwhile.
            let belief = beliefs.of(&entry.record.member);
            if matches!(belief, Belief::Down { .. }) {
                self.remark(entry, belief, &[address], sink);
                all.push(summary_entry(entry, belief));
                addresses.insert(address);
            }
        }
        let mut to = self.reachable_addresses();
        to.retain(|address| !addresses.contains(address));
        let emit = |datagram: &[u8]| to.iter().for_each(|to| sink.send(*to, datagram));
        messages::remarks(self.sender(), &all, emit);
    }
}
