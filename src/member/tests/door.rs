//! Who is let in: only who answers at the address that it advertises.

use super::*;
use crate::base::Incarnation;
use crate::member::messages::Numbers;
use crate::member::messages::{self, Body, Message};
use crate::member::testnet::{Effect, Recorder};

/// A node that advertises one address and is at another.
fn misled(net: &mut Net, name: &str, advertised: usize, at: usize, seeds: &[usize]) -> usize {
    net.add_at(seeded(seeds), local(name, address(advertised), 9_000), address(at))
}

fn joins(net: &Net, on: usize, whom: usize) -> usize {
    let node = net.me(whom).node;
    let joined = |event: &MemberEvent| matches!(event, MemberEvent::Joined(m) if m.id == node);
    net.nodes[on].events.iter().filter(|(_, event)| joined(event)).count()
}

#[test]
fn a_node_whose_address_leads_nowhere_is_let_in_nowhere_and_told_why() {
    for seed in 0..10 {
        let mut net = Net::cluster(80 + seed, 4);
        if seed % 2 == 1 {
            net.loss = 0.2;
        }
        let lost = misled(&mut net, "lost", 200, 9, &[0, 1]);
        net.run(S(20));
        for on in 0..4 {
            assert_eq!(joins(&net, on, lost), 0, "seed {seed}, node {on}");
        }
        assert_eq!(net.view(lost).members.len(), 1, "it knows nobody by name");
        let told = MemberError::NotReached { address: address(200) };
        assert_eq!(net.nodes[lost].told.first(), Some(&told), "seed {seed}");
        assert_eq!(net.view(lost).members[0].state, MemberState::Joining);
    }
}

#[test]
fn who_joins_through_a_node_that_cannot_be_reached_waits_for_a_better_seed() {
    let mut net = Net::cluster(90, 3);
    let lost = misled(&mut net, "lost", 200, 9, &[9]);
    let joiner = net.add(seeded(&[9]), local("joiner", address(10), 1));
    net.run(S(10));
    assert_eq!(joins(&net, joiner, lost), 0);
    let told = MemberError::NotReached { address: address(200) };
    assert_eq!(net.nodes[lost].told.first(), Some(&told));
    net.call(joiner, |membership, now, sink| membership.set_seeds(now, vec![address(1)], sink));
    net.until(S(2), |net| net.agreed(&[0, 1, 2, joiner], 4)).expect("it is in");
    net.run(S(10));
    assert!(net.agreed(&[0, 1, 2, joiner], 4) && joins(&net, 0, lost) == 0);
    assert!([0, 1, 2, joiner].iter().all(|on| renewals(&net, *on) == 0));
}

fn renewals(net: &Net, on: usize) -> u64 {
    net.nodes[on].membership.stats().renewals
}

#[test]
fn the_verdicts_of_who_was_not_let_in_have_nobody_renew_itself() {
    for seed in 0..10 {
        let mut net = Net::cluster(93 + seed, 3);
        if seed % 2 == 1 {
            net.loss = 0.1;
        }
        // Both that call and that are called: a member may have such a one among its seeds.
        let lost = misled(&mut net, "lost", 200, 9, &[9, 1]);
        let member = net.add(seeded(&[0, 9]), local("member", address(10), 1));
        net.until(S(3), |net| net.agreed(&[0, 1, 2, member], 4)).expect("it is in");
        // Two that have met each other are established members, to each other.
        net.block(&[0, 1, 2, 10], &[20, 21]);
        let moved = net.add(seeded(&[20]), local("a", address(20), 9_000));
        net.add(seeded(&[20, 0, 9]), local("b", address(21), 9_001));
        net.run(S(3));
        net.nodes[moved].address = address(12);
        net.call(0, |membership, now, sink| {
            membership.set_seeds(now, vec![address(1), address(9), address(12)], sink);
        });
        net.run(S(30));
        for on in [0, 1, 2, member] {
            assert_eq!(renewals(&net, on), 0, "seed {seed}, node {on}");
            assert_eq!(joins(&net, on, lost), 0, "seed {seed}, node {on}");
        }
        assert!(net.agreed(&[0, 1, 2, member], 4), "seed {seed}");
    }
}

#[test]
fn what_a_stranger_believes_of_a_node_has_it_not_renew_itself() {
    let mut net = Net::cluster(94, 2);
    let stranger = local("stranger", address(9), 77).into_record().unwrap();
    let sender = Sender { member: stranger.member.node_ref(), renewal: 0 };
    let own = net.nodes[0].membership.directory.own().clone();
    let down = Belief::Down { renewal: 0, doubted: FINAL };
    let mut said = Vec::new();
    let flags = messages::FLAG_ESTABLISHED;
    let mut packer =
        messages::Packer::records(flags, Numbers::default(), sender, |out| said.push(out.to_vec()));
    packer.record(&own, down);
    packer.finish();
    let about = messages::SummaryEntry {
        member: own.member.node_ref(),
        version: own.version,
        state: own.member.state,
        belief: down,
    };
    messages::remarks(sender, &[about], |out| said.push(out.to_vec()));
    assert_eq!(said.len(), 2);
    for datagram in &said {
        net.call(0, |membership, now, sink| {
            membership.handle_datagram(now, address(9), datagram, sink).unwrap();
        });
        assert_eq!(renewals(&net, 0), 0, "kind {}", datagram[0]);
    }
    // Of a member it counts.
    let member = net.nodes[1].membership.sender();
    messages::remarks(member, &[about], |out| {
        net.call(0, |membership, now, sink| {
            membership.handle_datagram(now, address(1), out, sink).unwrap();
        });
    });
    assert_eq!(renewals(&net, 0), 1);
}

#[test]
fn a_member_that_can_no_longer_be_reached_does_not_come_back_by_speaking() {
    let mut net = Net::cluster(91, 4);
    net.run(S(2));
    // What it sends still gets through, from elsewhere, and so would answers to there.
    let victim = net.me(3).node;
    net.nodes[3].address = address(9);
    net.until(S(5), |net| (0..3).all(|on| !net.reachable(on, victim))).expect("it is noticed");
    net.run(S(1));
    let before: Vec<usize> = (0..3).map(|on| net.nodes[on].events.len()).collect();
    net.run(S(30));
    for (node, before) in net.nodes.iter().zip(before) {
        let later = &node.events[before..];
        assert!(later.is_empty(), "it flapped: {later:?}");
    }
}

#[test]
fn newcomers_are_let_in_although_datagrams_are_lost() {
    let mut worst = Duration::ZERO;
    for seed in 0..30 {
        let mut net = Net::cluster(seed, 5);
        net.run(S(2));
        net.loss = 0.3;
        let joiner = add(&mut net, 5, &[0, 1, 2]);
        let node = net.me(joiner).node;
        let seen = |net: &Net| (0..5).all(|on| net.view(on).member(node).is_some());
        worst = worst.max(net.until(S(20), seen).expect("it is let in"));
    }
    assert!(worst < S(3), "{worst:?} at a loss of 30 %");
}

#[test]
fn the_answer_of_another_life_or_of_long_ago_proves_nothing() {
    let mut net = Net::cluster(92, 2);
    let newcomer = local("new", address(9), 77);
    let join = |incarnation: u64, number: Option<u64>| {
        let local = LocalMember { incarnation: Incarnation(incarnation), ..newcomer.clone() };
        let record = local.into_record().unwrap();
        let sender = Sender { member: record.member.node_ref(), renewal: 0 };
        let mut out = Vec::new();
        let emit = |datagram: &[u8]| out = datagram.to_vec();
        let mut packer = messages::Packer::records(1, Numbers::answer(number), sender, emit);
        packer.record(&record, Belief::Active { renewal: 0, refuted: 0 });
        packer.finish();
        out
    };
    let hand_in = |net: &mut Net, datagram: &[u8]| {
        let (now, mut sink) = (net.now, Recorder::default());
        net.nodes[0].membership.handle_datagram(now, address(9), datagram, &mut sink).unwrap();
        let in_view = net.view(0).members.len() == 3;
        let asked = sink.0.into_iter().find_map(|effect| match effect {
            Effect::Send(to, payload) if to == address(9) => match Message::read(&payload) {
                Ok(Message { body: Body::Prove { number, .. }, .. }) => Some(number),
                _ => None,
            },
            _ => None,
        });
        (in_view, asked)
    };
    let (in_view, asked) = hand_in(&mut net, &join(77, None));
    let number = asked.expect("it is asked at its address");
    assert!(!in_view);
    let (in_view, other) = hand_in(&mut net, &join(78, Some(number)));
    assert!(!in_view && other != Some(number), "another life needs another answer");
    assert!(!hand_in(&mut net, &join(77, Some(number ^ 1))).0);
    net.run(S(21));
    assert!(!hand_in(&mut net, &join(77, Some(number))).0, "that was long ago");
    let (_, asked) = hand_in(&mut net, &join(77, None));
    net.run(S(5));
    assert!(hand_in(&mut net, &join(77, asked)).0, "a proven newcomer is let in");
}

#[test]
fn two_that_only_each_other_can_reach_are_let_in_nowhere_else() {
    for seed in 0..10 {
        let mut net = Net::cluster(100 + seed, 3);
        // They advertise addresses that lead to them on their own machine alone.
        net.block(&[0, 1, 2], &[20, 21]);
        net.add(seeded(&[20, 21]), local("a", address(20), 9_000));
        net.add(seeded(&[20, 0, 1]), local("b", address(21), 9_001));
        let (a, b) = (3, 4);
        net.until(S(5), |net| net.view(a).members.len() == 2 && net.view(b).members.len() == 2)
            .expect("they have met, so that each is known to another");
        net.run(S(20));
        for on in 0..3 {
            assert_eq!((joins(&net, on, a), joins(&net, on, b)), (0, 0), "seed {seed}, node {on}");
        }
        assert!(net.agreed(&[0, 1, 2], 3));
    }
}
