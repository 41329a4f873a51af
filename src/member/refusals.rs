//! Members that refuse this node's connections. Mostly their process is gone, and a refusal is the
//! fastest evidence of it. But something on the way may refuse connections to a member that is well
//! and answers datagrams: its verdict would have it renew itself in front of everybody, again and
//! again. So a verdict that was refuted is remembered, and refusals by that life count for nothing
//! for a time, longer after each: whether it answers is for the failure detector to find out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, NodeRef, Time};

use super::belief::Belief;
use super::{MemberSink, Membership, Stage};

/// How long refusals count for nothing, the first time and at the most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// What a refusal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The peer counts as unreachable now, or does so already, or is no member.
    Believed,
    /// The peer has shown before that it lives although it refuses: nothing follows from it.
    Contradicted,
}

/// Verdicts that refusals led to, by member: no more than there are members.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<NodeId, Verdict>);

#[derive(Debug)]
struct Verdict {
    life: NodeRef,
    /// The identity that was given up.
    renewal: u32,
    /// For how long it counts once it is refuted.
    pause: Duration,
}

impl Membership {
    /// A link to this peer was reset and dialling it again was refused: no process listens there.
    /// It counts as unreachable at once, here and wherever this can be told. A peer that is alive
    /// after all answers by coming back, and is not given up again for the same reason for a while.
    pub fn peer_refused(&mut self, now: Time, peer: NodeRef, sink: &mut dyn MemberSink) -> Refused {
        if self.stage != Stage::Running {
            return Refused::Believed;
        }
        let answering = self.current(peer).filter(|entry| entry.record.member.reachable);
        if let Some(entry) = answering {
            let address = entry.record.member.address;
            let since = entry.renewal.map_or(Time::ZERO, |renewal| renewal.since);
            let Belief::Active { renewal, .. } = self.swim.belief(address, peer) else {
                return Refused::Believed;
            };
            let pause = match self.refusals.0.get(&peer.node).filter(|known| known.life == peer) {
                Some(known) if known.renewal >= renewal => known.pause,
                Some(known) if now < since.plus(known.pause) => return Refused::Contradicted,
                Some(known) => (known.pause * 2).min(PAUSES.1),
                None => PAUSES.0,
            };
            self.forget_refusals();
            self.refusals.0.insert(peer.node, Verdict { life: peer, renewal, pause });
            self.swim.give_up(now, address, peer, true, sink);
            self.spread_verdict(now, peer, sink);
        }
        self.settle(now, sink);
        Refused::Believed
    }

    /// Lives that are over refuse nothing.
    fn forget_refusals(&mut self) {
        let mut refusals = std::mem::take(&mut self.refusals.0);
        refusals.retain(|_, known| self.current(known.life).is_some());
        self.refusals.0 = refusals;
    }
}
