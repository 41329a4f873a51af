//! A member that hears next to nothing accuses others, which everybody else hears well.

use super::*;
use crate::member::messages::SummaryEntry;
use crate::member::testnet::{Effect, Recorder};

/// How much does not come in, and how much later the rest does, in microseconds.
type Illness = (f64, (u64, u64));

const LOSES_MOST: Illness = (0.95, (0, 0));
const IS_LATE: Illness = (0.0, (1_300_000, 1_300_000));
const IS_NOW_AND_THEN_LATE: Illness = (0.0, (500_000, 2_500_000));

/// What happened to the others in a minute in which the last of so many members was ill.
#[derive(Debug, Default)]
struct Suffered {
    /// How often one of them was unreachable or damped, as one of them saw it.
    unused: usize,
    renewals: u64,
    /// How often the ill one was unreachable, as one of them saw it.
    missed: usize,
}

fn suffered(seed: u64, count: usize, illness: Illness) -> Suffered {
    let mut net = Net::cluster(seed, count);
    net.run(S(2));
    let ill = count - 1;
    let whom = net.me(ill).node;
    let before: Vec<usize> = net.nodes.iter().map(|node| node.events.len()).collect();
    net.ill.insert(ill, illness);
    net.run(S(60));
    let mut suffered = Suffered::default();
    for (node, before) in net.nodes[..ill].iter().zip(before) {
        for (_, event) in &node.events[before..] {
            match event {
                MemberEvent::Unreachable(member) if member.id == whom => suffered.missed += 1,
                MemberEvent::Damped(member) if member.id == whom => {}
                MemberEvent::Unreachable(_) | MemberEvent::Damped(_) => suffered.unused += 1,
                _ => {}
            }
        }
        suffered.renewals += node.membership.stats().renewals;
    }
    suffered
}

#[test]
fn one_that_hears_next_to_nothing_takes_no_keys_from_others() {
    for illness in [LOSES_MOST, IS_LATE, IS_NOW_AND_THEN_LATE] {
        let (mut renewals, mut missed) = (0, 0);
        for (seed, count) in [(500, 3), (501, 4), (502, 4), (503, 7), (504, 7), (505, 12)] {
            let suffered = suffered(seed, count, illness);
            assert_eq!(suffered.unused, 0, "{illness:?} of {count}, seed {seed}");
            (renewals, missed) = (renewals + suffered.renewals, missed + suffered.missed);
        }
        assert!(renewals > 10, "{illness:?}: they had to contradict, {renewals} times");
        assert!(missed > 10, "{illness:?}: the ill one itself was seen to be, {missed} times");
    }
}

/// That the others renew themselves because of it does not make its silence that of all.
#[test]
fn one_that_hears_next_to_nothing_is_damped_for_longer_and_longer() {
    for seed in 510..514 {
        let mut net = Net::cluster(seed, 5);
        net.run(S(2));
        net.ill.insert(4, LOSES_MOST);
        let (mut damped, mut longest) = (0, 0);
        for _ in 0..60 {
            net.run(S(1));
            let own = net.nodes[4].membership.directory.own();
            damped += u32::from(own.hold_ms > 0);
            longest = longest.max(own.hold_ms);
        }
        assert_eq!(longest, net.nodes[4].membership.config.damp_max_ms as u32, "seed {seed}");
        assert!(damped >= 40, "for {damped} s of 60, seed {seed}");
    }
}

/// Whoever holds the verdict goes on to hold it, and perhaps cannot tell the accused.
#[test]
fn a_verdict_that_was_refuted_is_told_to_the_accused() {
    for (doubted, taken) in [(4, false), (5, true), (FINAL, true)] {
        let mut net = Net::cluster(530, 3);
        net.run(S(2));
        let (accused, accuser) = (net.me(1), net.nodes[2].membership.sender());
        let renewal = net.nodes[1].membership.swim.id().renewal;
        let version = net.nodes[1].membership.directory.own().version;
        let belief = Belief::Down { renewal, doubted };
        let about = SummaryEntry { member: accused, version, state: MemberState::Up, belief };
        let mut said = Vec::new();
        messages::remarks(accuser, &[about], |out| said = out.to_vec());
        let (here, mut sink) = (&mut net.nodes[0].membership, Recorder::default());
        let alive = Belief::Active { renewal, refuted: 5 };
        here.swim.believe(net.now, address(1), accused, alive, false, &mut sink);
        let mut sink = Recorder::default();
        here.handle_datagram(net.now, address(2), &said, &mut sink).unwrap();
        assert_eq!(here.swim.belief(address(1), accused).is_active(), !taken, "{doubted}");
        let told = |effect: &&Effect| matches!(effect, Effect::Send(to, bytes) if *to == address(1) && bytes[0] == said[0]);
        assert_eq!(sink.0.iter().filter(told).count(), usize::from(!taken), "{doubted}");
    }
}
