//! A node that is not run in time blames nobody for it.

use super::*;

fn verdicts(net: &Net) -> Vec<u64> {
    net.nodes.iter().map(|node| node.membership.stats().verdicts).collect()
}

/// Lets these nodes run only now and then, out of step, as on a machine with too few cores.
fn starve(net: &mut Net, nodes: &[usize], rounds: usize, away: (u64, u64)) {
    use rand::RngExt;
    for _ in 0..rounds {
        let node = nodes[net.rng.random_range(0..nodes.len())];
        let paused = net.nodes[node].paused;
        if paused {
            net.resume(node)
        } else {
            net.pause(node)
        }
        let step = net.rng.random_range(away.0..=away.1);
        net.run(MS(step));
    }
    for node in nodes {
        if net.nodes[*node].paused {
            net.resume(*node);
        }
    }
}

#[test]
fn a_node_that_is_late_accuses_nobody() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 10);
        net.run(S(2));
        for _ in 0..200 {
            net.pause(3);
            net.run(MS(240));
            net.resume(3);
            net.run(MS(5));
        }
        net.run(S(2));
        assert_eq!(verdicts(&net)[3], 0, "seed {seed}");
        let lost = |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Unreachable(_));
        assert!(!net.nodes.iter().any(|node| node.events.iter().any(lost)), "seed {seed}");
    }
}

/// The answer to its probe waits in the socket, behind the timer that ends the probe.
#[test]
fn a_probe_whose_timer_is_late_is_not_over_before_what_has_come_is_read() {
    let mut ended_late = 0;
    for seed in 0..5 {
        let mut net = Net::cluster(seed, 5);
        net.delay_us = (20_000, 40_000);
        net.run(S(3));
        for round in 0..60 {
            net.run(MS(700 + 17 * round));
            net.pause(3);
            net.run(MS(1_100));
            net.resume(3);
            let swim = &net.nodes[3].membership.swim;
            let suspects = (0..5).any(|other| swim.suspects(address(other)));
            assert!(!suspects, "seed {seed}, round {round}");
            ended_late += 1;
        }
        assert_eq!(verdicts(&net)[3], 0, "seed {seed}");
    }
    assert!(ended_late > 100);
}

#[test]
fn members_that_take_turns_on_too_few_cores_stay_reachable() {
    for seed in 0..5 {
        let count = 40;
        let all: Vec<usize> = (0..count).collect();
        let mut net = Net::cluster(seed, count);
        net.run(S(2));
        starve(&mut net, &all, 2_000, (1, 10));
        net.run(S(3));
        let accused: u64 = verdicts(&net).iter().sum();
        assert_eq!(accused, 0, "seed {seed}");
        assert!(net.agreed(&all, count), "seed {seed}");
    }
}

/// Among many that start at once it is chance who learns of whom first.
#[test]
fn who_does_not_know_yet_who_probes_it_answers_all_the_same() {
    let mut net = Net::new(1);
    let (member, newcomer) = (add(&mut net, 0, &[]), add(&mut net, 1, &[]));
    // Nothing but probes gets through.
    net.lost_kinds = (2..=12).collect();
    let record = net.nodes[newcomer].membership.directory.own().clone();
    let whom = record.member.node_ref();
    net.call(member, |membership, now, sink| {
        let alive = Belief::Active { renewal: 0, refuted: 0 };
        membership.directory.merge(now, record, true);
        membership.swim.believe(now, address(newcomer), whom, alive, true, sink);
        membership.settle(now, sink);
    });
    net.run(MS(50));
    assert!(net.reachable(member, whom.node));
    for _ in 0..10 {
        net.run(S(2));
        net.pause(newcomer);
        net.run(MS(900));
        net.resume(newcomer);
    }
    let newcomer = &net.nodes[newcomer].membership;
    assert_eq!(newcomer.view().members.len(), 1, "it knows only itself");
    assert!(newcomer.swim.was_doubted(), "the pauses are long enough");
    assert_eq!(verdicts(&net), [0, 0]);
    assert!(net.reachable(member, whom.node), "{:?}", net.nodes[member].events);
}
