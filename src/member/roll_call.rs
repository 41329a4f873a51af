//! Two probes in a row that find somebody silent say that more may have happened than that one member
//! died: half a cluster is gone, or this node is cut off. Probes, one after another, would take a
//! while to find out about each, the longer the fewer are left to share the work. So many are called
//! at once, and who does not answer for a whole probe period is suspected like one that was probed.
//!
//! In a cluster of hundreds the others do the same, and tell what they find: each calls no more than
//! [`MOST_CALLED`] in one period, the next ones in the next, so that what all send together, and
//! what becomes of it here, does not grow with the square of their number.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::identity::{Home, SwimId};

/// How many members are called in one probe period.
pub(super) const MOST_CALLED: usize = 256;

/// Who is called, until the probe period in which that was is over.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// Who has not answered.
    unheard: BTreeMap<Home, SwimId>,
    /// What this node had missed when it called.
    missed: Duration,
    /// Who was called last: the next call begins behind it.
    last: Option<Home>,
}

impl RollCall {
    /// Of those that may be called the next ones are.
    pub fn begin(&mut self, may_be: &BTreeMap<Home, SwimId>, missed: Duration) {
        let behind = self.last.map_or(Unbounded, Excluded);
        let next = may_be.range((behind, Unbounded)).chain(may_be);
        let next = next.take(MOST_CALLED.min(may_be.len()));
        let called: Vec<SwimId> = next.map(|(_, id)| *id).collect();
        self.last = called.last().map(SwimId::home);
        self.unheard = called.into_iter().map(|id| (id.home(), id)).collect();
        self.missed = missed;
    }

    /// There is a sign of life.
    pub fn heard(&mut self, id: &SwimId) {
        if self.unheard.get(&id.home()) == Some(id) {
            self.unheard.remove(&id.home());
        }
    }

    /// Who has not answered.
    pub fn unheard(&self) -> Vec<SwimId> {
        self.unheard.values().copied().collect()
    }

    /// It is over. Gives who has not answered, unless this node has missed some of the time.
    pub fn end(&mut self, missed: Duration) -> BTreeMap<Home, SwimId> {
        let unheard = std::mem::take(&mut self.unheard);
        if missed == self.missed { unheard } else { BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::base::{Incarnation, NodeId, NodeRef};

    #[test]
    fn each_comes_to_its_turn_whoever_comes_and_goes() {
        let id = |index: usize| SwimId {
            address: SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 1)),
            member: NodeRef { node: NodeId(index as u64), incarnation: Incarnation(1) },
            renewal: 0,
        };
        let all = |count: usize| -> BTreeMap<Home, SwimId> {
            (0..count).map(id).map(|id| (id.home(), id)).collect()
        };
        let mut call = RollCall::default();
        let mut called = |may_be: &BTreeMap<Home, SwimId>| {
            call.begin(may_be, Duration::ZERO);
            let unheard = call.unheard();
            assert_eq!(call.end(Duration::ZERO).len(), unheard.len());
            unheard.iter().map(|id| id.member.node.0).collect::<Vec<_>>()
        };
        assert_eq!(called(&all(600)), (0..256).collect::<Vec<_>>());
        assert_eq!(called(&all(600)), (256..512).collect::<Vec<_>>());
        assert_eq!(called(&all(520)), (0..248).chain(512..520).collect::<Vec<_>>());
        assert_eq!(called(&all(200)), (0..200).collect::<Vec<_>>(), "nobody twice");
        assert!(called(&all(0)).is_empty());
        call.begin(&all(3), Duration::ZERO);
        call.heard(&id(1));
        assert_eq!(call.unheard(), [id(0), id(2)]);
        assert_eq!(call.end(Duration::from_millis(1)).len(), 0, "it may have missed the answers");
    }
}
