//! How fast: measured over many seeds on simulated time, printed with `--nocapture`, and held to
//! the figures that membership promises.

use super::*;
use crate::base::{HandlerId, Placed};

/// The median, the 99th percentile and the maximum.
fn spread(mut took: Vec<Duration>) -> (Duration, Duration, Duration) {
    took.sort();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    (at(50), at(99), at(100))
}

pub fn held(what: &str, took: Vec<Duration>, limit: Duration) {
    let (median, p99, max) = spread(took);
    println!("{what}: p50 {median:?}, p99 {p99:?}, max {max:?}");
    assert!(max <= limit, "{what}: {max:?}");
}

#[test]
fn five_nodes_over_fifty_seeds() {
    let all = [0, 1, 2, 3, 4];
    let others = &all[..4];
    let mut halves = Vec::new();
    let mut deaf = Vec::new();
    let mut mute = Vec::new();
    let mut isolated = Vec::new();
    let mut lossy = Vec::new();
    let mut crash = Vec::new();
    for seed in 100..150 {
        let mut net = Net::cluster(seed, 5);
        let healed = |net: &mut Net| {
            net.heal();
            let took = net.until(S(10), |net| net.agreed(&all, 5));
            net.run(S(3));
            took.expect("views are equal within 10 s of a heal")
        };
        net.run(S(3));

        net.cut(&[0, 1], &[2, 3, 4]);
        net.run(S(8));
        halves.push(healed(&mut net));

        let events = |net: &Net| others.iter().map(|on| net.nodes[*on].events.len()).sum();
        let before: usize = events(&net);
        net.block(others, &[4]);
        net.run(S(8));
        // A node that hears nobody gives everybody up, but does not make the others doubt each
        // other: each of them sees one event, that node becoming unreachable.
        assert_eq!(events(&net) - before, 4, "seed {seed}");
        deaf.push(healed(&mut net));

        net.block(&[4], others);
        net.run(S(8));
        mute.push(healed(&mut net));

        net.cut(&[4], others);
        net.run(S(8));
        isolated.push(healed(&mut net));

        (net.loss, net.duplication, net.delay_us) = (0.2, 0.1, (50, 50_000));
        net.cut(&[0, 1], &[2, 3, 4]);
        net.run(S(8));
        lossy.push(healed(&mut net));
        (net.loss, net.duplication, net.delay_us) = (0.0, 0.0, (50, 400));
        net.until(S(10), |net| net.agreed(&all, 5)).expect("views are equal after losses");
        net.run(S(3));

        let victim = net.me(4).node;
        net.kill(4);
        let noticed = |net: &Net| others.iter().all(|on| !net.reachable(*on, victim));
        crash.push(net.until(S(5), noticed).expect("a crash is noticed within 5 s"));
    }
    held("heal of 2 | 3", halves, S(3));
    held("heal of one that heard nobody", deaf, S(3));
    held("heal of one whom nobody heard", mute, S(3));
    held("heal of one cut off", isolated, S(3));
    held("heal of 2 | 3 with 20 % loss and 50 ms of reordering", lossy, S(10));
    held("crash until known to all", crash, MS(2_500));
}

#[test]
fn small_clusters_over_fifty_seeds() {
    for count in [2, 3] {
        let all: Vec<usize> = (0..count).collect();
        let (mut heal, mut crash) = (Vec::new(), Vec::new());
        for seed in 200..250 {
            let mut net = Net::cluster(seed, count);
            net.run(S(3));
            net.cut(&all[..1], &all[1..]);
            net.run(S(8));
            net.heal();
            heal.push(net.until(S(10), |net| net.agreed(&all, count)).expect("a heal"));
            net.run(S(3));
            let victim = net.me(0).node;
            net.kill(0);
            let noticed = |net: &Net| all[1..].iter().all(|on| !net.reachable(*on, victim));
            crash.push(net.until(S(5), noticed).expect("a crash is noticed within 5 s"));
        }
        held(&format!("heal of {count}"), heal, S(3));
        held(&format!("crash in {count} until known to all"), crash, MS(2_500));
    }
}

#[test]
fn sixty_nodes() {
    let count = 60;
    let all: Vec<usize> = (0..count).collect();
    let mut net = Net::new(5);
    for index in 0..count {
        add(&mut net, index, &[0, 1, 2]);
    }
    let formed = net.until(S(10), |net| net.agreed(&all, count)).expect("a cluster forms");
    println!("formed in {formed:?} with {} datagrams", net.sent);
    assert!(net.sent < 1_000 * count as u64);

    net.run(S(5));
    let before = (net.sent, net.sent_bytes);
    net.run(S(10));
    let per_node_and_s = |total: u64| total / 10 / count as u64;
    let datagrams = per_node_and_s(net.sent - before.0);
    println!("idle: {datagrams} datagrams/s per node");
    println!("idle: {} B/s per node", per_node_and_s(net.sent_bytes - before.1));
    assert!(datagrams < 30);

    net.cut(&all[..30], &all[30..]);
    net.run(S(12));
    assert!(net.equal(&all[..30]) && net.equal(&all[30..]));
    net.heal();
    let healed = net.until(S(10), |net| net.agreed(&all, count)).expect("a heal");
    println!("heal of 30 | 30: {healed:?}");
    assert!(healed < S(3));

    net.run(S(3));
    let victim = net.me(count - 1).node;
    net.kill(count - 1);
    let noticed = |net: &Net| all[..count - 1].iter().all(|on| !net.reachable(*on, victim));
    let crash = net.until(S(5), noticed).expect("a crash is noticed within 5 s");
    println!("crash until known to all: {crash:?}");
    assert!(crash < MS(2_500));
}

/// Started at once, and each serves something as soon as it runs.
#[test]
fn a_hundred_nodes_started_at_once() {
    let count = 100;
    let all: Vec<usize> = (0..count).collect();
    let mut net = Net::new(6);
    for index in 0..count {
        add(&mut net, index, &[0]);
    }
    let began = net.now;
    for index in 0..count {
        net.run(MS(2));
        let service = Service {
            path: "/sink".parse().unwrap(),
            handler: HandlerId::first(0).unwrap(),
            placed: Placed::default(),
            messages: Vec::new(),
        };
        net.call(index, |membership, now, sink| {
            membership.set_services(now, vec![service], sink).unwrap();
        });
    }
    net.until(S(10), |net| net.agreed(&all, count)).expect("a cluster forms");
    let formed = net.now.since(began);
    let per_node = |total: u64| total / count as u64;
    let (datagrams, bytes) = (per_node(net.sent), per_node(net.sent_bytes));
    let views = per_node(net.views);
    println!("formed in {formed:?}: {datagrams} datagrams, {bytes} bytes, {views} views per node");
    assert!(formed < S(1));
    assert!(datagrams < 500 && views < 20);
}

/// Most of a cluster falls silent at once, and the others are well: each sees who is gone in time,
/// and takes nobody else for gone.
#[test]
fn a_silent_majority_is_seen_in_time() {
    let mut took = Vec::new();
    for (count, gone) in [(3, 2), (4, 2), (5, 3), (5, 4), (10, 6), (10, 9), (20, 18), (40, 39)] {
        for seed in 300..320 {
            let mut net = Net::cluster(seed, count);
            net.run(S(3) + MS(seed * 7 % 250));
            let others: Vec<usize> = (gone..count).collect();
            (0..gone).for_each(|node| net.kill(node));
            let dead: Vec<NodeId> = (0..gone).map(|node| net.me(node).node).collect();
            let noticed = |net: &Net| {
                others.iter().all(|on| dead.iter().all(|node| !net.reachable(*on, *node)))
            };
            took.push(net.until(S(5), noticed).expect("a silent majority is noticed"));
            for (on, other) in others.iter().flat_map(|on| others.iter().map(move |to| (on, to))) {
                let (whom, called) = (net.me(*other), &net.nodes[*on].events);
                let called = called.iter().any(|(_, event)| {
                    matches!(event, MemberEvent::Unreachable(member) if member.node_ref() == whom)
                });
                assert!(!called, "seed {seed}: {on} of {count} took {other} for gone");
            }
        }
    }
    held("a silent majority until all who are left know", took, S(3));
}
