//! Seeds: whom their addresses lead to, and what is called again.

use super::*;

/// A restart at another address frees the old one, and another node's clusters begin there.
#[test]
fn who_starts_where_a_member_was_before_is_found() {
    let mut net = Net::new(81);
    for index in 0..3 {
        add(&mut net, index, &[0]);
    }
    net.until(S(5), |net| net.agreed(&[0, 1, 2], 3)).expect("a cluster forms");
    net.kill(0);
    let moved = net.add(seeded(&[1]), local("n0", address(5), 9_000));
    net.until(S(20), |net| net.agreed(&[1, 2, moved], 3)).expect("it is back, elsewhere");
    let other = net.add(seeded(&[0]), local("other", address(0), 10_000));
    assert!(net.agreed(&[other], 1), "it is a seed itself, and calls nobody");
    net.until(S(20), |net| net.agreed(&[1, 2, moved, other], 4)).expect("they meet");
}
