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

fn seeds(all: &[SocketAddr]) -> MemberConfig {
    MemberConfig { seeds: all.to_vec(), settings: MembershipConfig::default() }
}

/// As many machines map their own name.
fn own_name() -> SocketAddr {
    SocketAddr::from(([127, 0, 1, 1], 7_400))
}

#[test]
fn a_seed_that_leads_to_this_node_under_another_address_lets_it_form_a_cluster() {
    let mut net = Net::new(82);
    let first = net.add(seeds(&[own_name(), address(7)]), local("first", address(0), 1_000));
    net.until(S(2), |net| net.agreed(&[first], 1)).expect("it is a seed itself");
    assert!(net.nodes[first].membership.is_itself(own_name()));
    assert!(!net.nodes[first].membership.is_itself(address(0)), "nothing was sent there");
    let second = net.add(seeds(&[address(0), own_name()]), local("second", address(1), 1_001));
    net.until(S(10), |net| net.agreed(&[first, second], 2)).expect("they meet");

    // No seed is this node.
    let mut net = Net::new(83);
    let other_port = SocketAddr::from(([127, 0, 1, 1], 7_401));
    let lost = net.add(seeds(&[other_port]), local("lost", address(0), 1_000));
    net.run(S(20));
    assert_eq!(net.view(lost).members[0].state, MemberState::Joining);
}

#[test]
fn a_seed_that_is_this_node_proves_no_other_address() {
    let mut net = Net::cluster(84, 3);
    let config = seeds(&[own_name(), address(0)]);
    let rival = net.add_at(config, local("rival", address(2), 9_000), address(9));
    net.run(S(20));
    let fault = MemberFault::AddressTaken { address: address(2), by: "n2".into() };
    assert_eq!(net.nodes[rival].faults, [fault]);
    assert!(net.agreed(&[0, 1, 2], 3));
}

/// Somebody else at the seed sends back what it gets, and knows no secret of this start.
#[test]
fn what_is_echoed_leads_nowhere_but_to_where_it_was_sent() {
    let mut net = Net::new(85);
    net.tapped = Some(Vec::new());
    let node = net.add(seeds(&[address(6), address(7)]), local("here", address(0), 1_000));
    let calls: Vec<Vec<u8>> = net.tapped.take().unwrap().into_iter().take(2).collect();
    net.kill(node);
    // The same life once more, of another process: its numbers are others.
    let again = net.add(seeds(&[address(6), address(7)]), local("here", address(0), 1_000));
    let back = |net: &mut Net, datagram: &[u8]| {
        net.call(again, |member, now, sink| {
            member.handle_datagram(now, address(6), datagram, sink)
        })
        .unwrap();
        [6, 7, 0].map(|index| net.nodes[again].membership.is_itself(address(index)))
    };
    for call in &calls {
        assert_eq!(back(&mut net, call), [false; 3]);
    }
    net.tapped = Some(Vec::new());
    net.run(S(5));
    let call = net.tapped.take().unwrap().remove(0);
    assert_eq!(back(&mut net, &call), [true, false, false]);
    let others = seeds(&[address(7)]).seeds;
    net.call(again, |member, now, sink| member.set_seeds(now, others, sink));
    assert_eq!(net.nodes[again].membership.led_here.len(), 0, "who is no seed is not kept");
}

/// A forwarded port, or an address that moves from machine to machine, leads to one member, and
/// later to a node that formed a cluster of its own.
#[test]
fn a_seed_that_leads_elsewhere_later_is_looked_behind() {
    let (mut net, gate) = (Net::new(86), address(99));
    let behind = net.add(seeds(&[]), local("behind", address(0), 1_000));
    net.forwarded.insert(gate, behind);
    let member = net.add(seeds(&[gate]), local("member", address(1), 1_001));
    net.until(S(5), |net| net.agreed(&[behind, member], 2)).expect("they meet");
    let alias = |net: &Net| net.nodes[member].membership.seed_aliases.get(&gate).copied();
    net.until(S(5), |net| alias(net) == Some(net.me(behind))).expect("it answers from there");
    net.run(S(1));
    net.tapped = Some(Vec::new());
    net.run(S(20));
    let records = net.tapped.take().unwrap().into_iter().filter(|payload| payload[0] == 2).count();
    assert!((3..=5).contains(&records), "looked {records} times in 20 s");
    let apart = net.add(seeds(&[]), local("apart", address(2), 1_002));
    net.forwarded.insert(gate, apart);
    net.until(S(10), |net| net.agreed(&[behind, member, apart], 3)).expect("they meet");
    // One that led back to a node itself.
    let (mut net, gate) = (Net::new(87), address(99));
    net.forwarded.insert(gate, 0);
    let first = net.add(seeds(&[gate]), local("first", address(0), 1_000));
    net.until(S(2), |net| net.agreed(&[first], 1)).expect("it is its own seed");
    let apart = net.add(seeds(&[]), local("apart", address(2), 1_002));
    net.run(S(20));
    net.forwarded.insert(gate, apart);
    net.until(S(10), |net| net.agreed(&[first, apart], 2)).expect("they meet");
}

#[test]
fn a_seed_that_led_to_a_member_is_missing_once_that_life_is_over() {
    let (mut net, gate) = (Net::new(88), address(99));
    // Nobody looks behind it in time.
    let mut config = seeds(&[gate]);
    config.settings.seed_retry_max_ms = 600_000;
    let behind = net.add(seeds(&[]), local("behind", address(0), 1_000));
    net.forwarded.insert(gate, behind);
    let member = net.add(config, local("member", address(1), 1_001));
    net.until(S(5), |net| net.agreed(&[behind, member], 2)).expect("they meet");
    let alias = |net: &Net| net.nodes[member].membership.seed_aliases.get(&gate).copied();
    net.until(S(5), |net| alias(net) == Some(net.me(behind))).expect("it answers from there");
    net.kill(behind);
    let moved = net.add(seeds(&[address(1)]), local("behind", address(5), 9_000));
    net.until(S(20), |net| net.agreed(&[member, moved], 2)).expect("it is back, elsewhere");
    let other = net.add(seeds(&[]), local("other", address(6), 10_000));
    net.forwarded.insert(gate, other);
    net.until(S(20), |net| net.agreed(&[member, moved, other], 3)).expect("they meet");
}
