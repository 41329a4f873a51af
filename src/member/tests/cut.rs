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
