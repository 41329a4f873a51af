//! Everything at once: faults at random, then peace. During the faults nobody who lives is
//! removed; afterwards all agree.

use rand::RngExt;

use super::*;

/// Returns how long agreement took after the last fault ended.
fn survive(seed: u64) -> Duration {
    let count = 3 + (seed % 4) as usize;
    let mut net = Net::cluster(seed, count);
    // By address: which process runs there now.
    let mut running: Vec<usize> = (0..count).collect();
    let mut incarnation = 10_000;
    for _ in 0..40 {
        let pause = net.rng.random_range(50..1_500);
        net.run(MS(pause));
        let victim = net.rng.random_range(0..count);
        let node = running[victim];
        match net.rng.random_range(0..10) {
            0 => {
                let side = |net: &mut Net| (0..count).partition(|_| net.rng.random_bool(0.5));
                let (left, right): (Vec<usize>, Vec<usize>) = side(&mut net);
                net.cut(&left, &right);
            }
            1 => {
                let others: Vec<usize> = (0..count).filter(|index| *index != victim).collect();
                net.block(&others, &[victim]);
            }
            2 => {
                let others: Vec<usize> = (0..count).filter(|index| *index != victim).collect();
                net.block(&[victim], &others);
            }
            3 | 4 => net.heal(),
            5 => net.pause(node),
            6 => net.resume(node),
            7 => {
                net.kill(node);
                incarnation += 1;
                let local = local(&format!("n{victim}"), address(victim), incarnation);
                let seeds: Vec<usize> = (0..count.min(3)).collect();
                running[victim] = net.add(seeded(&seeds), local);
            }
            8 => {
                let weight = net.rng.random_range(1..=1_000);
                let set = |membership: &mut Membership, now, sink: &mut dyn MemberSink| {
                    membership.change_own(now, sink, |own| own.member_mut().weight = weight)
                };
                net.call(node, set).unwrap();
            }
            _ => {
                let accused = running[net.rng.random_range(0..count)];
                let peer = net.me(accused);
                net.call(node, |membership, now, sink| membership.peer_refused(now, peer, sink));
                (net.loss, net.duplication) = (net.rng.random_range(0.0..0.3), 0.1);
                net.delay_us.1 = net.rng.random_range(100..100_000);
            }
        }
    }
    net.heal();
    (net.loss, net.duplication, net.delay_us) = (0.0, 0.0, (50, 400));
    running.iter().for_each(|node| net.resume(*node));
    let took = net.until(S(10), |net| net.agreed(&running, count));
    for node in &running {
        let faults = &net.nodes[*node].faults;
        assert!(faults.is_empty(), "seed {seed}: {faults:?}");
    }
    for (on, node) in net.nodes.iter().enumerate() {
        for (at, event) in &node.events {
            if let MemberEvent::Removed(member) = event {
                let alive = running.iter().any(|node| net.me(*node) == member.node_ref());
                assert!(!alive, "seed {seed}: {} was removed on {on} at {at:?}", member.name);
            }
        }
    }
    took.unwrap_or_else(|| panic!("seed {seed}: views differ 10 s after the last fault"))
}

#[test]
fn all_agree_after_random_faults() {
    let took = (0..60).map(survive).collect();
    figures::held("agreement after random faults", took, S(10));
}
