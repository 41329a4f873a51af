//! The decider over a network in memory: how members meet, lose and find each other again.

mod accuser;
mod answers;
mod bytes;
mod chaos;
mod crowd;
mod cut;
mod directory;
mod door;
mod effects;
mod farewell;
mod figures;
mod flapping;
mod heirs;
mod hostile;
mod identity;
mod renewals;
mod seeds;
mod starved;
mod tombstones;

use std::time::Duration;

use super::belief::FINAL;
use super::testnet::{Net, address, local};
use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

fn seeded(seeds: &[usize]) -> MemberConfig {
    MemberConfig {
        seeds: seeds.iter().map(|index| address(*index)).collect(),
        settings: MembershipConfig::default(),
    }
}

fn add(net: &mut Net, index: usize, seeds: &[usize]) -> usize {
    net.add(seeded(seeds), local(&format!("n{index}"), address(index), 1_000 + index as u64))
}

#[test]
fn a_node_without_seeds_is_up_alone_at_once() {
    for seeds in [&[][..], &[0], &[1, 0]] {
        let mut net = Net::new(1);
        add(&mut net, 0, seeds);
        assert!(net.agreed(&[0], 1), "with seeds {seeds:?}");
    }
    let mut net = Net::new(1);
    add(&mut net, 0, &[1]);
    net.run(S(20));
    assert_eq!(net.view(0).members[0].state, MemberState::Joining, "it waits for its seed");
}

#[test]
fn members_meet_through_any_seed_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (seed, order) in orders.into_iter().enumerate() {
        // Seeds 7 and 8 never come up; node 0 alone may form the cluster.
        let mut net = Net::new(seed as u64);
        for index in order {
            add(&mut net, index, if index == 2 { &[7, 1, 8] } else { &[8, 0, 7] });
            net.run(MS(700));
        }
        let took = net.until(S(10), |net| net.agreed(&[0, 1, 2], 3));
        assert!(took.is_some(), "order {order:?}");
    }
}

#[test]
fn clusters_that_formed_apart_merge() {
    let mut net = Net::new(3);
    net.cut(&[0, 1, 2], &[3, 4]);
    for (index, seeds) in [(0, &[0, 3][..]), (1, &[0]), (2, &[0]), (3, &[3, 0]), (4, &[3])] {
        add(&mut net, index, seeds);
    }
    net.run(S(30));
    assert!(net.agreed(&[0, 1, 2], 3) && net.agreed(&[3, 4], 2));
    net.heal();
    let took = net.until(S(10), |net| net.agreed(&[0, 1, 2, 3, 4], 5)).unwrap();
    assert!(took < S(7), "one pause between calls at seeds, then at once; it took {took:?}");
}

#[test]
fn a_cluster_opens_at_its_minimum_size() {
    let config = |role: &str| MemberConfig {
        settings: MembershipConfig {
            min_members: 3,
            min_members_per_role: BTreeMap::from([(role.into(), 2)]),
            ..MembershipConfig::default()
        },
        ..seeded(&[0])
    };
    let mut net = Net::new(4);
    for index in 0..4 {
        let mut local = local(&format!("n{index}"), address(index), 1);
        if index >= 2 {
            local.roles = ["store".into()].into();
        }
        net.add(config("store"), local);
        net.run(S(3));
        let all: Vec<usize> = (0..=index).collect();
        let states: Vec<_> = net.view(0).members.iter().map(|member| member.state).collect();
        let expected = if index < 3 { MemberState::Joining } else { MemberState::Up };
        assert!(net.equal(&all) && states == vec![expected; index + 1], "{index}: {states:?}");
    }
}

#[test]
fn a_new_node_is_seen_by_all_within_300_ms() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 20);
        net.run(S(2));
        let joiner = add(&mut net, 20, &[0, 1]);
        let all: Vec<usize> = (0..=joiner).collect();
        let took = net.until(S(3), |net| net.agreed(&all, 21)).unwrap();
        assert!(took <= MS(300), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_crash_is_noticed_and_nobody_is_removed() {
    let mut worst = Duration::ZERO;
    for seed in 0..50 {
        let mut net = Net::cluster(seed, 5);
        net.run(S(3));
        let victim = net.me(4).node;
        net.kill(4);
        let took = net.until(S(5), |net| (0..4).all(|on| !net.reachable(on, victim))).unwrap();
        worst = worst.max(took);
        net.run(S(30));
        assert!(net.equal(&[0, 1, 2, 3]) && net.view(0).members.len() == 5);
    }
    assert!(worst < S(3), "{worst:?}");
}

#[test]
fn a_paused_node_returns_in_the_same_incarnation() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 5);
        net.run(S(3));
        let paused = net.me(2);
        net.pause(2);
        net.until(S(5), |net| [0, 1, 3, 4].iter().all(|on| !net.reachable(*on, paused.node)))
            .expect("a pause is noticed");
        net.run(S(10));
        net.resume(2);
        let took = net.until(S(10), |net| net.agreed(&[0, 1, 2, 3, 4], 5)).unwrap();
        assert!(took < S(3), "seed {seed}: {took:?}");
        assert_eq!(net.view(0).member(paused.node).unwrap().node_ref(), paused);
        let returned = |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Reachable(member) if member.node_ref() == paused);
        assert!(net.nodes[0].events.iter().any(returned));
        assert!(net.nodes.iter().all(|node| node.faults.is_empty()));
    }
}

#[test]
fn a_refused_link_is_known_to_all_at_once() {
    let mut net = Net::cluster(6, 10);
    net.run(S(2));
    let victim = net.me(9);
    net.kill(9);
    net.call(0, |membership, now, sink| membership.peer_refused(now, victim, sink));
    assert!(!net.reachable(0, victim.node));
    let took = net.until(S(1), |net| (0..9).all(|on| !net.reachable(on, victim.node)));
    assert!(took.unwrap() < MS(50), "{took:?}");
}

#[test]
fn a_refusal_in_error_is_refuted_at_once() {
    let mut net = Net::cluster(7, 10);
    net.run(S(2));
    let accused = net.me(9);
    net.call(0, |membership, now, sink| membership.peer_refused(now, accused, sink));
    let all: Vec<usize> = (0..10).collect();
    let took = net.until(S(1), |net| net.agreed(&all, 10));
    assert!(took.unwrap() < MS(50), "{took:?}");
    assert_eq!(net.nodes[9].membership.stats().renewals, 1);
}

#[test]
fn a_restart_on_the_same_address_is_a_new_incarnation() {
    for away in [MS(100), S(5)] {
        let mut net = Net::cluster(8, 4);
        let before = net.me(3);
        net.kill(3);
        net.run(away);
        let restarted = net.add(seeded(&[0, 1]), local("n3", address(3), 5_000));
        let all = [0, 1, 2, restarted];
        let took = net.until(S(5), |net| net.agreed(&all, 4)).unwrap();
        assert!(took < S(1), "{took:?}");
        let after = net.me(restarted);
        assert!(after.node == before.node && after.incarnation > before.incarnation);
        let events = &net.nodes[0].events;
        let [.., (_, MemberEvent::Removed(old)), (_, MemberEvent::Joined(new))] = &events[..]
        else {
            // The new life may have joined before it was up.
            let tail = &events[events.len() - 3..];
            assert!(matches!(
                tail,
                [
                    (_, MemberEvent::Removed(_)),
                    (_, MemberEvent::Joined(_)),
                    (_, MemberEvent::Changed(_))
                ]
            ));
            continue;
        };
        assert!(old.state == MemberState::Down && old.node_ref() == before);
        assert_eq!(new.node_ref(), after);
    }
}

#[test]
fn leaving_is_told_apart_from_failing() {
    let mut net = Net::cluster(9, 5);
    let leaver = net.me(4);
    net.call(4, |membership, now, sink| membership.leave(now, sink));
    net.run(MS(50));
    for on in 0..5 {
        let member = net.view(on).member(leaver.node).unwrap();
        assert!(member.state == MemberState::Leaving && member.reachable);
    }
    net.call(4, |membership, now, sink| membership.left(now, sink));
    net.run(MS(300));
    for on in 0..5 {
        assert!(net.view(on).member(leaver.node).is_none());
        let (_, last) = net.nodes[on].events.last().unwrap();
        let MemberEvent::Removed(member) = last else { panic!("{last:?}") };
        assert!(member.state == MemberState::Left && member.node_ref() == leaver);
    }
    net.run(S(60));
    assert!(net.agreed(&[0, 1, 2, 3], 4) && net.nodes[4].faults.is_empty());
}

#[test]
fn a_removed_member_learns_of_it_and_stays_removed() {
    let mut net = Net::cluster(10, 5);
    let removed = net.me(4);
    net.cut(&[4], &[0, 1, 2, 3]);
    net.run(S(5));
    net.call(1, |membership, now, sink| membership.down(now, removed.node, sink)).unwrap();
    net.run(MS(100));
    assert!(net.agreed(&[0, 1, 2, 3], 4));
    net.heal();
    net.until(S(10), |net| net.nodes[4].faults == [MemberFault::Removed]).expect("it is told");
    net.run(S(10));
    assert!(net.agreed(&[0, 1, 2, 3], 4));
    let back = net.add(seeded(&[0]), local("n4", address(4), 9_000));
    net.until(S(5), |net| net.agreed(&[0, 1, 2, 3, back], 5)).expect("a new life may join");
}

#[test]
fn removing_needs_another_member() {
    let mut net = Net::cluster(11, 2);
    let (me, stranger) = (net.me(0).node, NodeId::from_name("stranger"));
    let mut down = |node| net.call(0, |membership, now, sink| membership.down(now, node, sink));
    assert_eq!(down(me), Err(MemberError::DownSelf(me)));
    assert_eq!(down(stranger), Err(MemberError::NotAMember(stranger)));
}

#[test]
fn a_full_partition_heals() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 5);
        net.run(S(2));
        net.cut(&[0, 1], &[2, 3, 4]);
        net.run(S(10));
        for (on, other) in [(0, 2), (1, 4), (3, 0)] {
            assert!(!net.reachable(on, net.me(other).node));
        }
        net.heal();
        let took = net.until(S(10), |net| net.agreed(&[0, 1, 2, 3, 4], 5)).unwrap();
        assert!(took < S(3), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_lasting_loss_is_survived() {
    for seed in 0..10 {
        let mut net = Net::cluster(seed, 5);
        (net.loss, net.duplication, net.delay_us) = (0.05, 0.05, (50, 20_000));
        net.call(2, |membership, now, sink| {
            membership.change_own(now, sink, |own| own.member_mut().weight = 300)
        })
        .unwrap();
        let heavy = net.me(2).node;
        let spread = |net: &Net| {
            (0..5).all(|on| net.view(on).member(heavy).is_some_and(|member| member.weight == 300))
        };
        assert!(net.until(S(5), spread).is_some(), "seed {seed}");
        net.run(S(60));
        let lost = |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Unreachable(_));
        assert!(!net.nodes.iter().any(|node| node.events.iter().any(lost)), "seed {seed}");
        (net.loss, net.duplication) = (0.0, 0.0);
        assert!(net.until(S(3), |net| net.agreed(&[0, 1, 2, 3, 4], 5)).is_some(), "seed {seed}");
    }
}

#[test]
fn one_name_is_held_by_one_node() {
    let mut net = Net::cluster(12, 4);
    let taken = net.add(seeded(&[0, 9]), local("n2", address(9), 9_000));
    net.run(S(5));
    assert_eq!(net.nodes[taken].faults, [MemberFault::NameTaken { by: address(2) }]);
    assert!(net.agreed(&[0, 1, 2, 3], 4) && net.nodes[2].faults.is_empty());
    // Once the holder is dead the name is free, wherever it is claimed.
    net.kill(2);
    let heir = net.add(seeded(&[0]), local("n2", address(9), 10_000));
    let took = net.until(S(10), |net| net.agreed(&[0, 1, 3, heir], 4));
    assert!(took.unwrap() < S(4), "{took:?}");
}

#[test]
fn a_node_that_was_replaced_while_away_stops() {
    let mut net = Net::cluster(13, 4);
    net.pause(3);
    net.run(S(5));
    let heir = net.add(seeded(&[0]), local("n3", address(9), 10_000));
    net.until(S(10), |net| net.agreed(&[0, 1, 2, heir], 4)).expect("the heir joins");
    net.resume(3);
    net.run(S(5));
    let fault =
        MemberFault::Superseded { by: address(9), incarnation: crate::base::Incarnation(10_000) };
    assert_eq!(net.nodes[3].faults, [fault]);
    assert!(net.agreed(&[0, 1, 2, heir], 4) && net.nodes[heir].faults.is_empty());
}

#[test]
fn equal_seeds_give_equal_traces() {
    let run = |seed| {
        let mut net = Net::cluster(seed, 5);
        (net.loss, net.duplication) = (0.1, 0.1);
        net.cut(&[0], &[1, 2, 3, 4]);
        net.run(S(5));
        net.heal();
        net.run(S(5));
        net.trace
    };
    assert_eq!(run(14), run(14));
    assert_ne!(run(14), run(15));
}

#[test]
fn a_short_pause_goes_unnoticed() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 4);
        net.run(S(2));
        for _ in 0..5 {
            net.pause(1);
            net.run(MS(600));
            net.resume(1);
            net.run(S(2));
        }
        let lost = |(_, event): &(Time, MemberEvent)| matches!(event, MemberEvent::Unreachable(_));
        assert!(!net.nodes.iter().any(|node| node.events.iter().any(lost)), "seed {seed}");
    }
}

#[test]
fn two_that_cannot_talk_hear_of_each_other_through_a_third() {
    let mut net = Net::cluster(16, 3);
    net.run(S(2));
    net.cut(&[0], &[1]);
    for _ in 0..30 {
        net.run(S(1));
        assert!(net.agreed(&[0, 1, 2], 3));
    }
}

#[test]
fn an_opened_link_brings_a_member_back_at_once() {
    let mut net = Net::cluster(17, 3);
    let away = net.me(2);
    net.pause(2);
    net.run(S(5));
    net.resume(2);
    net.cut(&[2], &[0, 1]);
    net.run(S(5));
    assert!(!net.reachable(0, away.node) && !net.reachable(1, away.node));
    net.heal();
    net.call(0, |membership, now, sink| membership.peer_link_opened(now, away, sink));
    let took = net.until(S(1), |net| net.agreed(&[0, 1, 2], 3)).unwrap();
    assert!(took < MS(50), "{took:?}");
}

#[test]
fn a_policy_removes_whom_it_names() {
    let mut net = Net::cluster(18, 4);
    let victim = net.me(3).node;
    let policy = Box::new(RemoveAfter(S(3)));
    let patient = net.add_with(seeded(&[0]), local("n4", address(4), 1), policy);
    net.until(S(5), |net| net.agreed(&[0, 1, 2, 3, patient], 5)).expect("it joins");
    net.kill(3);
    let noticed = |net: &Net| !net.reachable(0, victim);
    net.until(S(5), noticed).expect("a crash is noticed");
    net.run(MS(2_500));
    assert!(net.view(0).member(victim).is_some());
    net.run(S(3));
    assert!(net.agreed(&[0, 1, 2, patient], 4));
}

#[test]
fn changes_in_a_row_travel_together() {
    let mut net = Net::cluster(19, 3);
    net.run(S(1));
    let before = net.sent;
    for weight in 1..=100 {
        net.call(1, |membership, now, sink| {
            membership.change_own(now, sink, |own| own.member_mut().weight = weight)
        })
        .unwrap();
    }
    assert_eq!(net.sent - before, 2, "the first is pushed at once to both others");
    net.run(MS(20));
    let me = net.me(1).node;
    assert!((0..3).all(|on| net.view(on).member(me).unwrap().weight == 100));
}

#[test]
fn a_record_of_the_largest_size_spreads_and_a_larger_one_is_refused() {
    let mut net = Net::cluster(20, 5);
    let me = net.me(0).node;
    let mut put = |bytes: usize| {
        let metadata = BTreeMap::from([("blob".into(), "x".repeat(bytes).into())]);
        net.call(0, |membership, now, sink| {
            membership.change_own(now, sink, |own| own.member_mut().metadata = metadata)
        })
    };
    let room = (0..MAX_RECORD_BYTES).rev().find(|bytes| put(*bytes).is_ok()).unwrap();
    assert!(room > 8_000, "{room}");
    let limit = MAX_RECORD_BYTES;
    let bytes = limit + 1;
    let refused = MemberConfigError::RecordTooLarge { bytes, limit };
    assert_eq!(put(room + 1), Err(MemberError::Refused(refused)));
    net.run(MS(50));
    let blob = |on| net.view(on).member(me).unwrap().metadata["blob"].len();
    assert!((0..5).all(|on| blob(on) == room));
}

#[test]
fn seeds_in_another_order_are_no_others() {
    let mut net = Net::new(8);
    let node = add(&mut net, 0, &[7, 8]);
    net.run(S(20));
    let before = net.sent;
    for order in [[8, 7], [7, 8]] {
        let seeds = order.map(address).to_vec();
        net.call(node, |membership, now, sink| membership.set_seeds(now, seeds, sink));
    }
    assert_eq!(net.sent, before, "they are called when it is time");
}

#[test]
fn seeds_can_be_found_later() {
    let mut net = Net::cluster(21, 2);
    let late = add(&mut net, 5, &[7]);
    net.run(S(3));
    assert_eq!(net.view(late).members[0].state, MemberState::Joining);
    let seeds = vec![address(1)];
    net.call(late, |membership, now, sink| membership.set_seeds(now, seeds, sink));
    net.run(MS(50));
    assert!(net.agreed(&[0, 1, late], 3));
}

#[test]
fn former_members_are_forgotten_in_the_end() {
    let mut net = Net::new(22);
    for index in 0..3 {
        let mut config = seeded(&[0]);
        config.settings.tombstone_ms = 20_000;
        net.add(config, local(&format!("n{index}"), address(index), 1));
    }
    net.run(S(2));
    net.call(2, |membership, now, sink| membership.left(now, sink));
    net.run(S(10));
    assert_eq!(net.nodes[0].membership.directory.entries.len(), 3);
    net.run(S(12));
    assert_eq!(net.nodes[0].membership.directory.entries.len(), 2);
    assert!(net.agreed(&[0, 1], 2));
}
