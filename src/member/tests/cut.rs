//! Who is cut off for good, at whatever moment.

use super::*;

/// A node that was given up renews itself when it hears of it. If it hears nobody from then on, it
/// must still find out.
#[test]
fn who_is_cut_off_just_after_it_was_told_that_it_was_given_up_sees_nobody() {
    for seed in 0..40 {
        let mut net = Net::cluster(400 + seed, 4);
        net.run(S(2));
        net.cut(&[0], &[1, 2, 3]);
        net.run(S(4));
        net.heal();
        let renewals = |net: &Net| net.nodes[0].membership.stats().renewals;
        let before = renewals(&net);
        // In that very moment.
        let mut steps = 0..100_000;
        while renewals(&net) == before {
            steps.next().expect("it hears of it");
            net.run(Duration::from_micros(20));
        }
        net.cut(&[0], &[1, 2, 3]);
        net.run(S(4));
        for other in 1..4 {
            let (id, me) = (net.me(other).node, net.me(0).node);
            assert!(!net.reachable(0, id), "seed {seed}: member {other} is shown as reachable");
            assert!(!net.reachable(other, me), "seed {seed}: on member {other}");
        }
    }
}

/// Whom a node suspects when it renews itself it must decide about all the same, at whatever moment
/// of the suspicion that is.
#[test]
fn who_is_suspected_when_a_node_renews_itself_is_given_up_in_time() {
    for moment_ms in (0..1_000).step_by(50) {
        let mut net = Net::cluster(500 + moment_ms, 2);
        net.run(S(2));
        let (own, other) = (net.me(0), net.me(1));
        net.kill(1);
        let suspects = |net: &Net| net.nodes[0].membership.swim.suspects(address(1));
        net.until(S(3), suspects).expect("it is suspected");
        net.run(MS(moment_ms));
        let renewals = net.nodes[0].membership.stats().renewals;
        net.call(0, |membership, now, sink| {
            let down = Belief::Down { renewal: membership.swim.id().renewal, doubted: FINAL };
            membership.swim.believe(now, address(0), own, down, true, sink);
            membership.settle(now, sink);
        });
        assert_eq!(net.nodes[0].membership.stats().renewals, renewals + 1);
        // What a suspicion lasts, and half as long again for an error.
        let given_up = |net: &Net| !net.reachable(0, other.node);
        assert!(net.until(MS(1_600), given_up).is_some(), "renewed after {moment_ms} ms");
    }
}

/// Who was not there to hear of an end holds the member for one still. Those who know better must
/// know it for as long, or it would come back as one that has crashed.
#[test]
fn who_left_while_others_were_cut_off_stays_gone_however_long_that_was() {
    for (seed, left) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut net = Net::new(600 + seed);
        for index in 0..4 {
            let mut config = seeded(&[0, 1]);
            config.settings.tombstone_ms = 10_000;
            net.add(config, local(&format!("n{index}"), address(index), 1));
        }
        net.until(S(10), |net| net.agreed(&[0, 1, 2, 3], 4)).expect("a cluster forms");
        let gone = net.me(2);
        net.cut(&[3], &[0, 1, 2]);
        net.run(S(5));
        let expected = if left {
            net.call(2, |membership, now, sink| membership.left(now, sink));
            MemberState::Left
        } else {
            net.kill(2);
            net.call(0, |membership, now, sink| membership.down(now, gone.node, sink)).unwrap();
            MemberState::Down
        };
        net.run(S(60));
        net.heal();
        net.until(S(20), |net| net.agreed(&[0, 1, 3], 3)).expect("those who are left agree");
        for on in [0, 1, 3] {
            let ends: Vec<_> = net.nodes[on]
                .events
                .iter()
                .filter_map(|(_, event)| match event {
                    MemberEvent::Removed(member) if member.node_ref() == gone => Some(member.state),
                    _ => None,
                })
                .collect();
            assert_eq!(ends, [expected], "seed {seed}, on n{on}");
        }
        net.run(S(20));
        // Whoever left is forgotten then. Who was removed may run still, and is not.
        let kept = if left { 3 } else { 4 };
        for on in [0, 1, 3] {
            assert_eq!(net.nodes[on].membership.directory.entries.len(), kept, "seed {seed}");
        }
    }
}
