//! Who hears this node. Others may take it for dead although they are wrong: one of them hears
//! next to nothing itself, or the way between the two is bad. Whose fault a silence was this node
//! tells by its own probes: who answered one of the last ones, at once and without help, hears it
//! and is heard, and held it for alive. While it really was silent hardly anybody did.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{NodeId, Time};

use super::identity::SwimId;

/// With fewer answers than this it is chance that this node heard any.
const ENOUGH: usize = 2;
/// At most so many probes are kept, whatever the settings are.
const KEPT: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Hearers {
    under_way: Option<Probe>,
    /// The last ones, the latest at the end.
    over: VecDeque<Probe>,
}

#[derive(Debug)]
struct Probe {
    at: Time,
    whom: NodeId,
    number: u8,
    answered: bool,
}

impl Hearers {
    /// The next probe begins, and the last one is over.
    pub fn asked(&mut self, now: Time, whom: &SwimId, number: u8) {
        let whom = whom.member.node;
        let last = self.under_way.replace(Probe { at: now, whom, number, answered: false });
        self.over.extend(last);
        if self.over.len() > KEPT {
            self.over.pop_front();
        }
    }

    /// Somebody answers a probe under this number. It counts as long as the probe lasts: who was
    /// stopped, or hears late, reads answers of a time that is over.
    pub fn answered(&mut self, now: Time, by: &SwimId, number: u8, period: Duration) {
        if let Some(probe) = &mut self.under_way
            && (probe.whom, probe.number) == (by.member.node, number)
            && now.since(probe.at) <= period
        {
            probe.answered = true;
        }
    }

    /// The probe under way comes to no end.
    pub fn broken_off(&mut self) {
        self.under_way.take_if(|probe| !probe.answered);
    }

    /// Whether at least half of the members that were probed within this time answered.
    pub fn are_most(&self, now: Time, within: Duration) -> bool {
        let mut members = BTreeMap::new();
        for probe in self.within(now, within) {
            *members.entry(probe.whom).or_insert(false) |= probe.answered;
        }
        let hear = members.values().filter(|answered| **answered).count();
        self.are_some(now, within) && 2 * hear >= members.len()
    }

    /// Whether anybody answered within this time, and not just by chance.
    pub fn are_some(&self, now: Time, within: Duration) -> bool {
        self.within(now, within).filter(|probe| probe.answered).count() >= ENOUGH
    }

    fn within(&self, now: Time, within: Duration) -> impl Iterator<Item = &Probe> {
        let under_way = self.under_way.iter().filter(|probe| probe.answered);
        let probes = self.over.iter().chain(under_way);
        probes.filter(move |probe| now.since(probe.at) <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeRef};

    const PERIOD: Duration = Duration::from_millis(250);
    const WITHIN: Duration = Duration::from_millis(1_250);

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn id(node: u64) -> SwimId {
        let member = NodeRef { node: NodeId(node), incarnation: Incarnation(1) };
        SwimId { address: ([10, 0, 0, node as u8], 1).into(), member, renewal: 0 }
    }

    /// Probes these one after another, each a period after the last; who is given as true answers.
    fn probe(probed: &[(u64, bool)]) -> (Hearers, Time) {
        let mut hearers = Hearers::default();
        for (number, (node, answers)) in (0..).zip(probed) {
            let now = at(250 * u64::from(number));
            hearers.asked(now, &id(*node), number);
            if *answers {
                hearers.answered(now, &id(*node), number, PERIOD);
            }
        }
        (hearers, at(250 * probed.len() as u64 - 1))
    }

    #[test]
    fn half_of_those_that_were_probed_are_enough_but_two_answers_at_least() {
        for (probed, most) in [
            (&[(1, true), (2, true), (3, false), (4, false), (5, true)][..], true),
            (&[(1, true), (2, false), (1, true), (2, false)], true),
            (&[(1, false), (1, true), (2, false), (1, true)], true),
            (&[(1, false), (2, false), (1, true), (2, false)], false),
            (&[(1, true), (2, false), (3, false), (1, true), (1, true)], false),
            (&[(1, true), (1, true), (1, true)], true),
            (&[(1, false), (1, false)], false),
            (&[(1, true)], false),
        ] {
            let (hearers, now) = probe(probed);
            assert_eq!(hearers.are_most(now, WITHIN), most, "{probed:?}");
            assert!(!hearers.are_most(now.plus(2 * WITHIN), WITHIN), "that was long ago");
        }
        assert!(!Hearers::default().are_most(at(0), WITHIN));
    }

    #[test]
    fn an_answer_counts_for_its_own_probe_and_in_time() {
        for (by, number, after, counts) in
            [(1, 7, 250, true), (1, 7, 251, false), (2, 7, 1, false), (1, 6, 1, false)]
        {
            let mut hearers = probe(&[(1, true)]).0;
            hearers.asked(at(250), &id(1), 7);
            hearers.answered(at(250 + after), &id(by), number, PERIOD);
            let now = at(250 + after);
            assert_eq!(hearers.are_some(now, WITHIN), counts, "{by} {number} {after}");
            assert_eq!(hearers.are_most(now, WITHIN), counts, "{by} {number} {after}");
        }
    }

    #[test]
    fn a_probe_that_is_under_way_or_broken_off_is_no_silence() {
        let (mut hearers, now) = probe(&[(1, true), (1, true), (2, false)]);
        hearers.asked(now, &id(3), 3);
        assert!(hearers.are_most(now, WITHIN), "one of two");
        hearers.broken_off();
        hearers.asked(now, &id(4), 4);
        assert!(hearers.are_most(now, WITHIN), "still");
        hearers.asked(now, &id(4), 5);
        assert!(!hearers.are_most(now, WITHIN), "one of three");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (hearers, _) = probe(&[(1, true); 200]);
        assert_eq!(hearers.over.len(), KEPT);
    }
}
