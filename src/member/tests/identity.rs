//! Names, addresses and incarnations that are claimed twice.

use super::*;
use crate::base::Incarnation;
use crate::member::messages::{self, Body, Message, Numbers};
use crate::member::testnet::{Effect, Recorder};

#[test]
fn a_second_node_with_a_members_address_ends_and_the_first_goes_on() {
    let mut net = Net::cluster(70, 4);
    net.run(S(2));
    // It sends from its own socket and advertises another's address.
    let rival = net.add(seeded(&[0]), local("copy", address(2), 9_000));
    net.nodes[rival].address = address(9);
    for _ in 0..60 {
        net.run(MS(200));
        for on in [0, 1, 3] {
            assert!(net.reachable(on, net.me(2).node));
        }
    }
    let by = "n2".into();
    let fault = MemberFault::AddressTaken { address: address(2), by };
    assert_eq!(net.nodes[rival].faults, [fault]);
    assert!(net.agreed(&[0, 1, 2, 3], 4) && net.nodes[2].faults.is_empty());
}

#[test]
fn an_address_is_free_once_its_holder_is_dead() {
    let mut net = Net::cluster(71, 4);
    net.run(S(2));
    net.kill(3);
    let heir = net.add(seeded(&[0]), local("heir", address(3), 9_000));
    let node = net.me(heir).node;
    let taken = |net: &Net| (0..3).all(|on| net.reachable(on, node));
    net.until(S(10), taken).expect("the heir is taken up");
    assert!(net.nodes[heir].faults.is_empty());
}

#[test]
fn a_clock_that_went_back_keeps_no_node_out() {
    use crate::member::Hello;
    let mut net = Net::cluster(72, 3);
    let before = net.me(2);
    net.call(2, |membership, now, sink| membership.left(now, sink));
    net.run(S(1));
    let clock = NodeRef { node: before.node, incarnation: Incarnation(5) };
    let mut hello = Hello::new(Time(0), clock, address(2), &[address(0), address(2)], 77);
    assert_eq!(hello.seeds(), [address(0)]);
    let asked = hello.to_send(Time(0)).expect("it asks at once");
    assert_eq!(hello.to_send(Time(1)), None);
    let mut sink = Recorder::default();
    let now = net.now;
    net.nodes[0].membership.handle_datagram(now, address(2), &asked, &mut sink).unwrap();
    let [Effect::Send(to, answer)] = &sink.0[..] else { panic!("{sink:?}") };
    assert_eq!(*to, address(2));
    hello.take(address(0), answer);
    assert_eq!(hello.wait(Time(1)), None);
    assert_eq!(hello.me().incarnation, before.incarnation.above(77));
    let again = net.add(seeded(&[0]), local("n2", address(2), hello.me().incarnation.0));
    net.until(S(5), |net| net.agreed(&[0, 1, again], 3)).expect("it is back");
    assert!(net.nodes[again].faults.is_empty());

    // Seeds that do not answer hold nobody up for long.
    let mut alone = Hello::new(Time(0), clock, address(9), &[address(0)], 78);
    assert!(alone.to_send(Time(0)).is_some());
    alone.take(address(0), answer);
    assert!(alone.wait(Time(1)).is_some(), "an answer to another hello");
    assert!(alone.to_send(Time(50_000_000)).is_some());
    assert_eq!(alone.wait(Time(120_000_000)), None);
    assert_eq!(alone.me(), clock);
}

/// Seeds that a partition has kept from hearing of a life tell the next one what they told that.
#[test]
fn two_lives_that_are_told_the_same_are_not_the_same() {
    use crate::member::Hello;
    let me = NodeRef { node: NodeId(7), incarnation: Incarnation(5) };
    let known =
        |nonce| messages::known(Sender { member: me, renewal: 0 }, nonce, Incarnation(1_000));
    let [one, other] = [77, 78].map(|nonce| {
        let mut hello = Hello::new(Time(0), me, address(9), &[address(0)], nonce);
        hello.take(address(0), &known(nonce));
        hello.me().incarnation
    });
    assert!(one > Incarnation(1_000) && other > Incarnation(1_000) && one != other);
}

/// A name and an address, or two names, may lead to one seed.
#[test]
fn a_seed_that_is_listed_twice_is_asked_once_and_answers_once() {
    use crate::config::MAX_SEEDS;
    use crate::member::Hello;
    use std::net::SocketAddrV6;
    let v6 = |label| SocketAddr::from(SocketAddrV6::new("fd00::1".parse().unwrap(), 1, label, 0));
    let me = NodeRef { node: NodeId(7), incarnation: Incarnation(5) };
    let listed = [vec![address(0); MAX_SEEDS], vec![v6(3), v6(0), address(9), address(0)]].concat();
    let mut hello = Hello::new(Time(0), me, address(9), &listed, 77);
    assert_eq!(hello.seeds(), [address(0), v6(0)]);
    let answer = messages::known(Sender { member: me, renewal: 0 }, 77, Incarnation(0));
    hello.take(address(0), &answer);
    assert!(hello.wait(Time(1)).is_some());
    hello.take(v6(0), &answer);
    assert_eq!(hello.wait(Time(1)), None, "all of them have answered");
}

/// One that has just started knows nothing, and answers first.
#[test]
fn an_answer_of_a_seed_that_has_not_heard_of_this_node_is_not_the_last_word() {
    use crate::member::Hello;
    let mut net = Net::cluster(72, 3);
    let before = net.me(2);
    net.call(2, |membership, now, sink| membership.left(now, sink));
    net.run(S(1));
    let fresh = net.add(seeded(&[7]), local("fresh", address(6), 1_000));
    let clock = NodeRef { node: before.node, incarnation: Incarnation(5) };
    let seeds = [address(6), address(0)];
    let mut hello = Hello::new(Time(0), clock, address(2), &seeds, 77);
    let asked = hello.to_send(Time(0)).unwrap();
    let answer_of = |net: &mut Net, on: usize| {
        let (now, mut sink) = (net.now, Recorder::default());
        net.nodes[on].membership.handle_datagram(now, address(2), &asked, &mut sink).unwrap();
        let [Effect::Send(_, answer)] = &sink.0[..] else { panic!("{sink:?}") };
        answer.clone()
    };
    let (unknown, known) = (answer_of(&mut net, fresh), answer_of(&mut net, 0));
    hello.take(address(6), &unknown);
    hello.take(address(6), &unknown);
    assert!(hello.wait(Time(1)).is_some(), "the other seed may know more");
    let mut new = Hello::new(Time(0), clock, address(2), &seeds[..1], 77);
    new.take(address(6), &unknown);
    assert_eq!(new.wait(Time(1)), None, "nobody is left to ask");
    hello.take(address(0), &known);
    assert_eq!(hello.wait(Time(1)), None);
    assert_eq!(hello.me().incarnation, before.incarnation.above(77));
}

#[test]
fn a_name_taken_datagram_of_another_life_ends_nobody() {
    let mut net = Net::cluster(73, 2);
    let holder = net.nodes[1].membership.sender();
    let said_to_another = messages::name_taken(holder, Incarnation(1), address(1), true);
    assert!(matches!(
        Message::read(&said_to_another).unwrap().body,
        Body::NameTaken { about: Incarnation(1), .. }
    ));
    let late = net.add(seeded(&[7]), local("n1", address(9), 50));
    net.call(late, |membership, now, sink| {
        membership.handle_datagram(now, address(1), &said_to_another, sink)
    })
    .unwrap();
    assert!(net.nodes[late].faults.is_empty());
}

#[test]
fn whoever_is_at_an_address_keeps_it_although_nobody_knows_it_yet() {
    for seed in 0..10 {
        let mut net = Net::new(seed);
        net.loss = if seed % 2 == 1 { 0.2 } else { 0.0 };
        let holder = net.add(seeded(&[]), local("holder", address(0), 1_000));
        net.run(MS(300));
        // It takes itself for its seed, which is the holder.
        let rival = net.add_at(seeded(&[0]), local("rival", address(0), 2_000), address(9));
        let before = net.sent;
        net.run(S(40));
        assert!(net.sent - before < 500, "{} datagrams", net.sent - before);
        let fault = MemberFault::AddressTaken { address: address(0), by: "holder".into() };
        assert_eq!(net.nodes[rival].faults, [fault], "seed {seed}");
        assert_eq!(net.nodes[holder].faults, [], "seed {seed}");
        assert_eq!(net.view(holder).members.len(), 1);
    }
}

#[test]
fn a_claim_to_an_address_ends_only_who_is_not_there() {
    let mut net = Net::new(1);
    let there = net.add(seeded(&[]), local("there", address(0), 1_000));
    let elsewhere = net.add_at(seeded(&[]), local("elsewhere", address(5), 1_001), address(6));
    let claimant = NodeRef { node: NodeId(99), ..net.me(there) };
    for node in [there, elsewhere] {
        let about = net.me(node).incarnation;
        let claim = messages::address_taken(Sender { member: claimant, renewal: 0 }, about, "x");
        for _ in 0..40 {
            let from = address(9);
            net.call(node, |member, now, sink| member.handle_datagram(now, from, &claim, sink))
                .unwrap();
            net.run(MS(100));
        }
    }
    assert_eq!(net.nodes[there].faults, []);
    let fault = MemberFault::AddressTaken { address: address(5), by: "x".into() };
    assert_eq!(net.nodes[elsewhere].faults, [fault]);
}

/// A newcomer with a held name that knows the members before any of them lists it: they show
/// themselves to it, and it asks whether they are where they say.
fn known_early(net: &mut Net, seeds: &[usize]) -> usize {
    let heir = net.add(seeded(seeds), local("c", address(9), 10_000));
    for seed in seeds {
        let shown = net.nodes[*seed].membership.own_datagram(0, Numbers::default());
        let from = address(*seed);
        net.call(heir, |it, now, sink| it.handle_datagram(now, from, &shown, sink)).unwrap();
    }
    heir
}

#[test]
fn a_node_that_was_paused_ends_and_not_the_one_that_has_its_name_now() {
    for (seed, paused) in (0..40).zip([0, 1, 5, 20].into_iter().cycle()) {
        let mut net = Net::cluster(seed, 2);
        let old = net.add(seeded(&[0]), local("c", address(5), 1_005));
        net.run(S(2));
        net.pause(old);
        let heir = known_early(&mut net, &[1, 0]);
        net.until(S(10), |net| net.agreed(&[0, 1, heir], 3)).expect("the heir joins");
        net.run(S(paused));
        net.resume(old);
        net.run(S(5));
        let fault =
            MemberFault::Superseded { by: address(9), incarnation: net.me(heir).incarnation };
        assert_eq!(net.nodes[heir].faults, [], "seed {seed}");
        assert_eq!(net.nodes[old].faults, [fault], "seed {seed}");
        assert!(net.agreed(&[0, 1, heir], 3), "seed {seed}");
    }
}

/// Whoever has the name says so to a newcomer that knows the members already: once, and falls silent,
/// or again and again.
#[test]
fn a_newcomer_ends_only_if_it_is_told_still_that_its_name_is_taken() {
    for (seed, silent) in (0..20).zip([true, false].into_iter().cycle()) {
        let mut net = Net::cluster(seed, 2);
        let old = net.add(seeded(&[0]), local("c", address(5), 1_005));
        net.run(S(2));
        net.pause(old);
        let heir = known_early(&mut net, &[1, 0]);
        net.until(S(1), |net| net.view(heir).members.len() > 1).expect("it knows them early");
        if silent {
            let (holder, about) = (net.nodes[old].membership.sender(), net.me(heir).incarnation);
            let taken = messages::name_taken(holder, about, address(5), true);
            let from = address(5);
            net.call(heir, |it, now, sink| it.handle_datagram(now, from, &taken, sink)).unwrap();
            net.until(S(10), |net| net.agreed(&[0, 1, heir], 3)).expect("the heir joins");
            assert_eq!(net.nodes[heir].faults, [], "seed {seed}");
        } else {
            net.resume(old);
            net.run(S(3));
            let fault = MemberFault::NameTaken { by: address(5) };
            assert_eq!(net.nodes[heir].faults, [fault], "seed {seed}");
            assert!(net.agreed(&[0, 1, old], 3), "seed {seed}");
        }
    }
}

#[test]
fn a_newcomer_that_knew_the_members_first_is_told_at_once_that_it_is_listed() {
    for seed in 0..20 {
        let mut net = Net::cluster(seed, 2);
        let old = net.add(seeded(&[0]), local("c", address(5), 1_005));
        net.run(S(2));
        net.pause(old);
        net.lost_kinds.insert(messages::digest(net.nodes[0].membership.sender(), 0)[0]);
        let heir = known_early(&mut net, &[1, 0]);
        net.until(S(10), |net| net.agreed(&[0, 1, heir], 3)).expect("the heir joins");
        net.run(MS(5));
        assert!(net.nodes[heir].membership.is_listed(), "seed {seed}");
    }
}

#[test]
fn who_is_a_member_learns_it_from_whoever_holds_the_same() {
    let mut net = Net::cluster(1, 2);
    let (other, from) = (&net.nodes[1].membership, address(1));
    let digests = [0, other.digest()].map(|digest| messages::digest(other.sender(), digest));
    net.nodes[0].membership.established = false;
    for (digest, listed) in digests.iter().zip([false, true]) {
        net.call(0, |it, now, sink| it.handle_datagram(now, from, digest, sink)).unwrap();
        assert_eq!(net.nodes[0].membership.is_listed(), listed);
    }
}
