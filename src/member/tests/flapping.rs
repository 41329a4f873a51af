//! A member that falls silent again and again gets no keys until it is steady.

use super::*;
use crate::base::Time;
use crate::member::records::Renewal;

/// How often the mask of a member changed on a node: whether keys go to it or not.
fn mask_changes(net: &Net, on: usize, whom: NodeId) -> Vec<(Time, bool)> {
    let mut changes = Vec::new();
    let mut used = true;
    for (at, event) in &net.nodes[on].events {
        let (MemberEvent::Changed(member)
        | MemberEvent::Unreachable(member)
        | MemberEvent::Reachable(member)
        | MemberEvent::Damped(member)
        | MemberEvent::Settled(member)) = event
        else {
            continue;
        };
        if member.id == whom && member.is_usable() != used {
            used = !used;
            changes.push((*at, used));
        }
    }
    changes
}

fn used(net: &Net, on: usize, whom: NodeId) -> bool {
    net.view(on).member(whom).is_some_and(crate::base::Member::is_usable)
}

fn damped(net: &Net, on: usize, whom: NodeId) -> bool {
    net.view(on).member(whom).is_some_and(|member| member.damped_until.is_some())
}

/// Cuts one member off and mends it again, so often.
fn flap(net: &mut Net, victim: usize, times: u32, away: Duration, back: Duration) {
    let others: Vec<usize> = (0..net.nodes.len()).filter(|node| *node != victim).collect();
    for _ in 0..times {
        net.cut(&[victim], &others);
        net.run(away);
        net.heal();
        net.run(back);
    }
}

#[test]
fn a_member_that_flaps_moves_keys_a_few_times_and_comes_back_when_it_is_steady() {
    for seed in 0..20 {
        let mut net = Net::cluster(300 + seed, 5);
        net.run(S(2));
        let victim = net.me(4).node;
        flap(&mut net, 4, 10, MS(2_000), MS(1_500 + 100 * (seed % 10)));
        let all = [0, 1, 2, 3, 4];
        // Away, back for free; away, back after 1 s; away, perhaps back after 2 s, and away.
        for on in 0..4 {
            let changes = mask_changes(&net, on, victim);
            assert!((3..=7).contains(&changes.len()), "seed {seed}, node {on}: {changes:?}");
            assert!(
                net.reachable(on, victim) && damped(&net, on, victim),
                "it counts as answering"
            );
        }
        assert!(!used(&net, 4, victim), "it knows itself");
        for other in 0..4 {
            let node = net.me(other).node;
            assert_eq!(mask_changes(&net, 0, node), [], "seed {seed}: others' keys stay");
        }
        assert!(net.equal(&all), "seed {seed}");
        let took = net.until(S(62), |net| all.iter().all(|on| used(net, *on, victim)));
        assert!(took.is_some() && net.agreed(&all, 5), "seed {seed}");
        net.run(S(61));
        // As if nothing had ever been: the next silence is free.
        flap(&mut net, 4, 1, S(2), S(1));
        assert!(all.iter().all(|on| used(&net, *on, victim)), "seed {seed}");
    }
}

#[test]
fn one_relapse_waits_a_second_and_what_is_left_is_shown() {
    let mut net = Net::cluster(320, 4);
    net.run(S(2));
    let victim = net.me(3).node;
    flap(&mut net, 3, 1, S(2), S(1));
    assert!((0..4).all(|on| used(&net, on, victim)), "the first is free");
    net.cut(&[3], &[0, 1, 2]);
    net.run(S(2));
    net.heal();
    let seen = |net: &Net| (0..4).all(|on| damped(net, on, victim));
    net.until(S(1), seen).expect("all see that it is damped");
    assert!(net.equal(&[0, 1, 2, 3]));
    for on in 0..4 {
        let until = net.view(on).member(victim).unwrap().damped_until.unwrap();
        assert!(until.since(net.now) <= S(1) && until.since(net.now) > MS(300), "node {on}");
    }
    let took = net.until(S(2), |net| (0..4).all(|on| used(net, on, victim))).unwrap();
    assert!(took <= MS(1_200), "{took:?}");
    let (damped, settled) = (
        |event: &MemberEvent| matches!(event, MemberEvent::Damped(_)),
        |event: &MemberEvent| matches!(event, MemberEvent::Settled(_)),
    );
    for node in &net.nodes {
        let count = |which: fn(&MemberEvent) -> bool| {
            node.events.iter().filter(|(_, event)| which(event)).count()
        };
        assert_eq!((count(damped), count(settled)), (1, 1));
    }
}

/// Parts these from those for a while, and gives how long after the healing everyone used everyone.
fn part(net: &mut Net, left: &[usize], right: &[usize]) -> Option<Duration> {
    let all: Vec<usize> = (0..net.nodes.len()).collect();
    net.cut(left, right);
    net.run(S(3));
    net.heal();
    let free = |net: &Net, on: usize| net.view(on).members.iter().all(|m| m.is_usable());
    net.until(S(70), |net| net.agreed(&all, all.len()) && all.iter().all(|on| free(net, *on)))
}

fn times_damped(net: &Net) -> usize {
    let damped = |(_, event): &&(Time, MemberEvent)| matches!(event, MemberEvent::Damped(_));
    net.nodes.iter().map(|node| node.events.iter().filter(damped).count()).sum()
}

#[test]
fn a_healed_partition_damps_nobody() {
    for seed in 0..20 {
        let mut net = Net::cluster(330 + seed, 5);
        net.run(S(2));
        let took = part(&mut net, &[0, 1], &[2, 3, 4]).unwrap();
        assert!(took < MS(1_600), "seed {seed}: {took:?}");
        assert_eq!(times_damped(&net), 0, "seed {seed}");
    }
}

#[test]
fn a_partition_that_comes_again_is_nobodys_relapse() {
    for seed in 0..20 {
        let mut net = Net::cluster(340 + seed, 6);
        let left = [0, 1, 2].get(seed as usize % 2..).unwrap();
        let right: Vec<usize> = (0..6).filter(|node| !left.contains(node)).collect();
        net.run(S(2));
        for round in 0..6 {
            let took = part(&mut net, left, &right);
            assert!(took.is_some_and(|took| took < S(2)), "{left:?}, {seed}, {round}: {took:?}");
            net.run(S(1));
        }
    }
}

#[test]
fn where_everyone_would_be_damped_nobody_is() {
    let mut net = Net::cluster(360, 3);
    net.run(S(2));
    let nodes: Vec<NodeId> = (0..3).map(|node| net.me(node).node).collect();
    // One after the other, each on its own, so often that each has relapsed.
    for _ in 0..8 {
        for victim in 0..3 {
            flap(&mut net, victim, 1, S(2), MS(600));
        }
    }
    let (mut damped_at_once, mut relapsed) = (0, 0);
    for on in 0..3 {
        let here = nodes.iter().filter(|node| damped(&net, on, **node)).count();
        damped_at_once = damped_at_once.max(here);
        relapsed += net.nodes[on]
            .events
            .iter()
            .filter(|(_, e)| matches!(e, MemberEvent::Damped(_)))
            .count();
        assert!(nodes.iter().any(|node| used(&net, on, *node)), "somebody takes messages");
    }
    assert!(damped_at_once <= 1 && relapsed > 0, "{damped_at_once} {relapsed}");
}

/// What rejects connections to it lets datagrams through.
#[test]
fn a_member_that_refuses_connections_and_answers_is_given_up_ever_more_seldom() {
    let mut net = Net::cluster(61, 3);
    let victim = net.me(2);
    let mut contradicted = 0;
    for _ in 0..5 * 1_200 {
        for on in [0, 1] {
            let refused =
                net.call(on, |membership, now, sink| membership.peer_refused(now, victim, sink));
            contradicted += u32::from(refused == Refused::Contradicted);
        }
        net.run(MS(200));
    }
    let renewals = net.nodes[2].membership.stats().renewals;
    assert!((2..=8).contains(&renewals), "{renewals} in 20 minutes");
    assert!(contradicted > 10_000, "{contradicted}: whoever refuses is told of");
    // Its death is noticed all the same, and another life of it is believed to be dead at once.
    net.kill(2);
    let noticed = |net: &Net| !net.reachable(0, victim.node);
    net.until(S(6), noticed).expect("the detector finds it");
    let again = net.add(seeded(&[0]), local("n2", address(2), 9_000));
    net.until(S(3), |net| net.agreed(&[0, 1, again], 3)).expect("it is back");
    let next = net.me(again);
    let refused = net.call(0, |membership, now, sink| membership.peer_refused(now, next, sink));
    assert_eq!(refused, Refused::Believed);
    assert!(!net.nodes[0].membership.directory.get(next.node).unwrap().record.member.reachable);
}

#[test]
fn damping_can_be_turned_off() {
    let mut net = Net::new(370);
    for index in 0..4 {
        let mut config = seeded(&[0, 1]);
        config.settings.damp_max_ms = 0;
        net.add(config, local(&format!("n{index}"), address(index), 1));
    }
    net.until(S(5), |net| net.agreed(&[0, 1, 2, 3], 4)).unwrap();
    net.run(S(2));
    flap(&mut net, 3, 6, S(2), S(1));
    let victim = net.me(3).node;
    assert!((0..4).all(|on| used(&net, on, victim)));
    assert_eq!(mask_changes(&net, 0, victim).len(), 12);
}

#[test]
fn who_was_deaf_makes_nobody_else_renew() {
    for seed in 0..20 {
        let mut net = Net::cluster(380 + seed, 5);
        net.run(S(2));
        let before: Vec<u64> = net.nodes.iter().map(|n| n.membership.stats().renewals).collect();
        flap(&mut net, 4, 3, S(20), S(2));
        let given_up =
            |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Unreachable(_));
        assert!(net.nodes[4].events.iter().filter(|event| given_up(event)).count() >= 12);
        assert!(net.equal(&[0, 1, 2, 3, 4]), "seed {seed}");
        for (on, before) in before.into_iter().enumerate() {
            let renewals = net.nodes[on].membership.stats().renewals - before;
            assert_eq!(renewals, if on == 4 { 3 } else { 0 }, "seed {seed}, node {on}");
        }
    }
}

#[test]
fn who_died_while_one_was_deaf_stays_dead_for_it() {
    for seed in 0..10 {
        let mut net = Net::cluster(400 + seed, 5);
        net.run(S(2));
        let victim = net.me(0).node;
        net.cut(&[4], &[0, 1, 2, 3]);
        net.run(MS(500));
        net.kill(0);
        net.run(S(5));
        net.heal();
        let before = net.nodes[4].events.len();
        net.until(S(3), |net| net.equal(&[1, 2, 3, 4])).expect("they agree");
        net.run(S(3));
        assert!(!net.reachable(4, victim));
        let back = |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Reachable(member) if member.id == victim);
        assert!(!net.nodes[4].events[before..].iter().any(back), "seed {seed}: it is called back");
    }
}

#[test]
fn only_a_minority_is_damped() {
    let mut net = Net::cluster(361, 5);
    let here = &mut net.nodes[0].membership;
    for relapsed in 0..=5 {
        for (place, entry) in here.directory.entries.values_mut().enumerate() {
            entry.record.fit = if place < relapsed { 0 } else { 9 };
            entry.renewal = Some(Renewal { number: 1, since: Time(1), risen: true });
        }
        here.refresh_damping();
        let live = here.directory.live().map(|entry| &entry.record.member);
        let damped = live.filter(|member| member.damped_until.is_some()).count();
        assert_eq!(damped, if relapsed <= 2 { relapsed } else { 0 }, "{relapsed} of 5");
    }
}
