//! Nodes that come one after another to one address, under names of their own. What the incarnations
//! of one name are says nothing about those of another.

use super::*;

/// How the one that was there before has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Left,
    Crashed,
    Removed,
}

const ENDS: [End; 3] = [End::Left, End::Crashed, End::Removed];

fn config() -> MemberConfig {
    let mut config = seeded(&[0, 1]);
    config.settings.tombstone_ms = 10_000;
    config
}

/// Three members, and one whose clock is ahead by far.
fn cluster(seed: u64) -> Net {
    let mut net = Net::new(seed);
    for (index, incarnation) in [1_000, 1_001, 1_002, 9_000_000].into_iter().enumerate() {
        net.add(config(), local(&format!("n{index}"), address(index), incarnation));
    }
    net.until(S(20), |net| net.agreed(&[0, 1, 2, 3], 4)).expect("a cluster forms");
    net.run(S(2));
    net
}

fn end(net: &mut Net, node: usize, how: End) {
    let life = net.me(node);
    if how == End::Left {
        net.call(node, |membership, now, sink| membership.leave(now, sink));
        net.call(node, |membership, now, sink| membership.left(now, sink));
        net.run(MS(500));
    }
    net.kill(node);
    if how != End::Left {
        net.until(S(10), |net| !net.reachable(0, life.node)).expect("it is found silent");
        net.run(S(3));
    }
    if how == End::Removed {
        net.call(0, |membership, now, sink| membership.down(now, life.node, sink)).unwrap();
        net.run(S(1));
    }
}

/// Whether these and nobody else are reachable for each of them, and there is nothing to compare.
fn settled(net: &Net, nodes: &[usize]) -> bool {
    let reachable =
        |on: usize| net.view(on).members.iter().filter(|member| member.reachable).count();
    let digest = |on: usize| net.nodes[on].membership.digest();
    let lives = nodes.iter().map(|node| net.me(*node).node).collect::<Vec<_>>();
    net.equal(nodes)
        && nodes.iter().all(|on| {
            reachable(*on) == nodes.len()
                && lives.iter().all(|life| net.reachable(*on, *life))
                && digest(*on) == digest(nodes[0])
        })
}

#[test]
fn another_name_takes_an_address_over_with_an_earlier_incarnation() {
    for (seed, how) in (900..).zip(ENDS) {
        let mut net = cluster(seed);
        let before = net.me(3);
        end(&mut net, 3, how);
        let heir = net.add(config(), local("heir", address(3), 5));
        let all = [0, 1, 2, heir];
        net.until(S(5), |net| settled(net, &all))
            .unwrap_or_else(|| panic!("{how:?}: it is no member"));
        let sent = net.sent;
        net.run(S(30));
        assert!(settled(&net, &all), "{how:?}");
        assert_eq!(
            net.nodes[heir].membership.stats().renewals,
            0,
            "{how:?}: nobody takes it for dead"
        );
        assert!(net.sent - sent < 4_000, "{how:?}: {} datagrams", net.sent - sent);
        // Whoever has left is forgotten in its time, also by the failure detector.
        for on in [0, 1, 2] {
            let node = &net.nodes[on].membership;
            assert_eq!(node.directory.get(before.node).is_none(), how == End::Left, "{how:?}");
            assert_eq!(node.swim.identities(), if how == End::Left { 3 } else { 4 }, "{how:?}");
        }
    }
}

/// Whoever missed both the end of the one and the beginning of the other has the one alive.
#[test]
fn who_missed_that_an_address_is_anothers_learns_it() {
    for (seed, how) in (910..).zip(ENDS) {
        let mut net = cluster(seed);
        net.pause(2);
        end(&mut net, 3, how);
        let heir = net.add(config(), local("heir", address(3), 5));
        net.until(S(5), |net| settled(net, &[0, 1, heir])).expect("it is a member");
        net.run(S(20));
        net.resume(2);
        let all = [0, 1, 2, heir];
        net.until(S(15), |net| settled(net, &all)).unwrap_or_else(|| panic!("{how:?}"));
        net.run(S(5));
        assert!(settled(&net, &all), "{how:?}");
    }
}

/// One whose seed has heard of nobody meets the others, who have, only then.
#[test]
fn a_seed_that_never_heard_of_the_one_before_lets_the_next_one_in() {
    for (seed, how) in (920..).zip(ENDS) {
        let mut net = cluster(seed);
        end(&mut net, 3, how);
        net.cut(&[0, 1, 2], &[3, 4]);
        net.add(seeded(&[4]), local("fresh", address(4), 2_000));
        let heir = net.add(seeded(&[4, 0]), local("heir", address(3), 5));
        net.until(S(5), |net| settled(net, &[4, heir])).expect("two of them form a cluster");
        net.run(S(2));
        net.heal();
        let all = [0, 1, 2, 4, heir];
        net.until(S(15), |net| settled(net, &all)).unwrap_or_else(|| panic!("{how:?}"));
        net.run(S(10));
        assert!(settled(&net, &all), "{how:?}");
    }
}
