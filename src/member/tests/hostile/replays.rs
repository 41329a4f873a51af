//! What a stranger can do that has recorded datagrams and plays them again, from any address.

use crate::base::Incarnation;
use crate::member::messages::Numbers;
use crate::member::messages::{Body, Packer};
use crate::member::testnet::{Effect, Recorder};
use crate::member::tests::answers::swell;
use crate::member::tests::*;
use crate::wire::datagram::sent_bytes;

/// Plays everything again to a node, as if it came from there.
fn play(net: &mut Net, recorded: &[Vec<u8>], to: usize, from: SocketAddr) {
    for payload in recorded {
        net.call(to, |node, now, sink| {
            let _ = node.handle_datagram(now, from, payload, sink);
        });
    }
}

/// What everybody says while somebody joins, is there and leaves; and who that was.
fn recorded(net: &mut Net) -> (Vec<Vec<u8>>, NodeRef) {
    net.tapped = Some(Vec::new());
    let gone = add(net, 9, &[0, 1]);
    let all: Vec<usize> = (0..net.nodes.len()).collect();
    net.until(S(5), |net| net.agreed(&all, all.len())).expect("it joins");
    net.run(S(3));
    let life = net.me(gone);
    net.call(gone, |node, now, sink| {
        node.leave(now, sink);
        node.left(now, sink);
    });
    net.run(S(1));
    net.kill(gone);
    (net.tapped.take().unwrap(), life)
}

fn short(seeds: &[usize]) -> MemberConfig {
    let mut config = seeded(seeds);
    config.settings.tombstone_ms = 10_000;
    config
}

fn forgetful(seed: u64) -> Net {
    let mut net = Net::new(seed);
    for index in 0..3 {
        let local = local(&format!("n{index}"), address(index), 1_000 + index as u64);
        net.add(short(&[0, 1]), local);
    }
    net.until(S(5), |net| net.agreed(&[0, 1, 2], 3)).expect("they meet");
    net
}

fn came(net: &Net, on: usize, life: NodeRef) -> bool {
    let joined = |event: &MemberEvent| matches!(event, MemberEvent::Joined(member) if member.node_ref() == life);
    net.nodes[on].events.iter().any(|(at, event)| *at > Time::ZERO && joined(event))
}

#[test]
fn who_has_left_and_is_forgotten_is_not_brought_back_by_what_is_played_again() {
    for seed in 0..4 {
        let mut net = forgetful(800 + seed);
        let (recorded, life) = recorded(&mut net);
        net.run(S(15));
        for on in 0..3 {
            assert!(net.nodes[on].membership.directory.get(life.node).is_none(), "forgotten");
            net.nodes[on].events.clear();
        }
        // From where they came, and where who left was.
        for from in [0, 1, 9, 77] {
            for to in 0..3 {
                play(&mut net, &recorded, to, address(from));
            }
            net.run(S(2));
        }
        net.run(S(5));
        for on in 0..3 {
            assert!(!came(&net, on, life), "seed {seed}, on {on}");
        }
        assert!(net.agreed(&[0, 1, 2], 3), "seed {seed}");
    }
}

/// A node that starts has forgotten everything, and its seeds may be gone.
#[test]
fn a_newcomer_takes_no_welcome_that_is_played_again() {
    let mut net = forgetful(810);
    let (recorded, life) = recorded(&mut net);
    let old: Vec<NodeRef> = (0..3).map(|on| net.me(on)).collect();
    (0..3).for_each(|on| net.kill(on));
    net.run(S(11));
    let newcomer = net.add(short(&[0, 1]), local("new", address(20), 9_000));
    for _ in 0..5 {
        for from in [0, 1] {
            play(&mut net, &recorded, newcomer, address(from));
        }
        net.run(S(1));
    }
    assert!(old.iter().chain([&life]).all(|life| !came(&net, newcomer, *life)));
    assert_eq!(net.view(newcomer).members.len(), 1);
}

/// What is told of others by one that is a member counts once that one has been asked.
#[test]
fn a_member_is_asked_about_others_before_it_is_believed() {
    for (waited, counts) in [(S(0), true), (S(10), false)] {
        let mut net = forgetful(820);
        let teller = net.nodes[1].membership.sender();
        let third = local("third", address(30), 5).into_record().unwrap();
        let node = third.member.id;
        let says = |numbers| {
            let mut said = Vec::new();
            let emit = |out: &[u8]| said = out.to_vec();
            let mut packer = Packer::records(0, numbers, teller, emit);
            packer.record(&third, Belief::Active { renewal: 0, refuted: 0 });
            packer.finish();
            said
        };
        let (now, mut sink) = (net.now, Recorder::default());
        let hears = &mut net.nodes[0].membership;
        let hearsay = says(Numbers::default());
        hears.handle_datagram(now, address(66), &hearsay, &mut sink).unwrap();
        assert!(hears.directory.get(node).is_none());
        let [Effect::Send(to, asked)] = &sink.0[..] else { panic!("{:?}", sink.0) };
        assert_eq!(*to, address(1), "where the teller is, not where this came from");
        let asked = Message::read(asked).unwrap().body;
        let Body::Request { number, nodes } = asked else { panic!("{asked:?}") };
        assert_eq!(nodes, [node]);
        let answer = says(Numbers::answer(Some(number)));
        hears.handle_datagram(now.plus(waited), address(1), &answer, &mut sink).unwrap();
        assert_eq!(hears.directory.get(node).is_some(), counts, "{waited:?} later");
    }
}

/// What a node sends because it gets this a hundred times within 10 ms.
fn caused(net: &mut Net, on: usize, payload: &[u8], from: SocketAddr) -> Vec<(SocketAddr, Body)> {
    let (now, mut sink) = (net.now.plus(S(1)), Recorder::default());
    for index in 0..100 {
        let at = now.plus(Duration::from_micros(100 * index));
        let _ = net.nodes[on].membership.handle_datagram(at, from, payload, &mut sink);
    }
    let sent = sink.0.iter().filter_map(|effect| match effect {
        Effect::Send(to, bytes) => Some((*to, Message::read(bytes).ok()?.body)),
        _ => None,
    });
    sent.collect()
}

fn one(pack: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut one = Vec::new();
    pack(&mut |out: &[u8]| one = out.to_vec());
    one
}

fn has_records(sent: &[(SocketAddr, Body)]) -> usize {
    sent.iter().filter(|(_, body)| matches!(body, Body::Records { .. })).count()
}

/// The datagrams that are answered with more than they are themselves.
#[test]
fn what_is_played_again_and_again_is_answered_once_in_a_while() {
    let mut net = forgetful(830);
    let member = &net.nodes[1].membership;
    let (teller, own) = (member.sender(), member.directory.own().clone());
    let records = |sender, record: &Record, flags| {
        one(|emit| {
            let numbers = Numbers { answers: None, asks: Some(5) };
            let mut packer = Packer::records(flags, numbers, sender, emit);
            packer.record(record, Belief::Unknown);
            packer.finish();
        })
    };
    let join = records(teller, &own, messages::FLAG_JOIN);
    let sent = caused(&mut net, 0, &join, address(66));
    assert_eq!((has_records(&sent), sent.len()), (1, 2), "one welcome, and its digest");
    assert!(sent.iter().all(|(to, _)| *to == address(1)));

    let request = one(|emit| {
        let mut packer = Packer::requests(teller, 5, emit);
        packer.request(teller.member.node);
        packer.finish();
    });
    for (said, times) in [(request, 4), (messages::digest(teller, 5), 1)] {
        let sent = caused(&mut net, 0, &said, address(66));
        assert_eq!(sent.len(), times, "{sent:?}");
        net.run(S(1));
    }

    // An earlier life of a member.
    let mut earlier = own.clone();
    earlier.member_mut().incarnation = Incarnation(1);
    let earlier_sender = Sender { member: earlier.member.node_ref(), renewal: 0 };
    for said in [records(earlier_sender, &earlier, 0), messages::digest(earlier_sender, 5)] {
        net.run(S(1));
        let sent = caused(&mut net, 0, &said, address(66));
        assert_eq!((has_records(&sent), sent.len()), (1, 1), "{sent:?}");
    }

    let me = net.me(0);
    let third = local("third", address(30), 5).into_record().unwrap().member.node_ref();
    let stranger = Sender { member: third, renewal: 0 };
    net.run(S(1));
    let sent = caused(&mut net, 0, &messages::prove(stranger, me, 7, None), address(66));
    assert_eq!(has_records(&sent), 4, "{sent:?}");
}

/// Who is no member may have its address from somebody else, to whom the answer would go.
#[test]
fn who_is_no_member_gets_no_records_of_others() {
    let mut net = forgetful(840);
    let third = local("third", address(30), 5).into_record().unwrap().member.node_ref();
    let all: Vec<NodeId> = (0..3).map(|on| net.me(on).node).collect();
    let request = one(|emit| {
        let mut packer = Packer::requests(Sender { member: third, renewal: 0 }, 5, emit);
        all.iter().for_each(|node| packer.request(*node));
        packer.finish();
    });
    let sent = caused(&mut net, 0, &request, address(66));
    assert_eq!(sent.len(), 4);
    let (_, Body::Prove { about, answers, .. }) = &sent[0] else { panic!("{sent:?}") };
    assert_eq!((*about, *answers), (third, Some(5)));
}

/// What a node sends to who is no member, in bytes, when it gets this once.
fn strays(net: &mut Net, on: usize, payload: &[u8], from: SocketAddr) -> usize {
    let (now, mut sink) = (net.now, Recorder::default());
    let member = &mut net.nodes[on].membership;
    let _ = member.handle_datagram(now, from, payload, &mut sink);
    let listed =
        |at: &SocketAddr| member.directory.live().any(|it| it.record.member.address == *at);
    let stray = sink.0.iter().filter_map(|effect| match effect {
        Effect::Send(to, bytes) if !listed(to) => Some(sent_bytes(bytes.len())),
        _ => None,
    });
    stray.sum()
}

/// As many ports as a host has do not make more of it, nor does a number that differs each time.
#[test]
fn where_nobody_was_seen_to_be_goes_at_most_three_times_what_comes_from_there() {
    let mut net = Net::cluster(850, 4);
    net.tapped = Some(Vec::new());
    add(&mut net, 4, &[0]);
    net.add_at(seeded(&[0]), local("lost", address(200), 1), address(10));
    net.add(seeded(&[0]), local("n1", address(9), 9_000));
    net.cut(&[3], &[0, 1, 2, 4]);
    net.run(S(4));
    net.heal();
    net.run(S(3));
    let mut recorded = net.tapped.take().unwrap();
    let kinds: BTreeSet<u8> = recorded.iter().map(|payload| payload[0]).collect();
    assert_eq!(kinds, (1..=6).chain(11..=12).collect());
    // All but the first have other lives since then, and records that are as long as may be.
    (1..net.nodes.len()).for_each(|node| net.kill(node));
    net.run(S(3));
    let again = |index: usize| local(&format!("n{index}"), address(index), 20_000);
    let mut all = vec![0];
    all.extend((1..5).map(|index| net.add(seeded(&[0]), again(index))));
    net.until(S(10), |net| net.agreed(&all, 5)).expect("they are back");
    all.iter().for_each(|node| swell(&mut net, *node));
    net.until(S(10), |net| net.equal(&all)).expect("they agree");
    let third = local("third", address(30), 5).into_record().unwrap().member.node_ref();
    let stranger = Sender { member: third, renewal: 0 };
    for on in [0, all[1]] {
        let me = net.me(on);
        recorded.extend((0..50).map(|number| messages::prove(stranger, me, number, None)));
        recorded.extend((0..50).map(|number| messages::prove(stranger, me, 5, Some(number))));
        recorded.extend((0..50).map(|number| {
            one(|emit| {
                let mut packer = Packer::requests(stranger, number, emit);
                packer.request(me.node);
                packer.finish();
            })
        }));
    }
    let mut most: BTreeMap<u8, f64> = BTreeMap::new();
    for on in [0, all[1]] {
        for (port, payload) in (1_000..).zip(&recorded) {
            let victim = SocketAddr::from(([10, 9, 9, 9], port));
            let (sent, came) = (strays(&mut net, on, payload, victim), sent_bytes(payload.len()));
            assert!(sent <= 3 * came, "{sent} bytes for {came} of kind {}", payload[0]);
            let most = most.entry(payload[0]).or_default();
            *most = most.max(sent as f64 / came as f64);
        }
    }
    assert!(most.values().filter(|most| **most > 0.5).count() > 4, "they are answered: {most:?}");
}

/// Whoever has a record that is longer than that is met, and told, all the same.
#[test]
fn long_records_keep_nobody_apart_and_nobody_from_its_end() {
    let mut net = Net::cluster(860, 2);
    [0, 1].into_iter().for_each(|node| swell(&mut net, node));
    net.run(S(1));
    net.pause(1);
    // Its successor finds nobody where its seeds are, but is found.
    let heir = net.add(seeded(&[50, 1]), local("n1", address(1), 9_000));
    swell(&mut net, heir);
    net.until(S(20), |net| net.agreed(&[0, heir], 2)).expect("they meet");
    net.nodes[1].address = address(3);
    net.resume(1);
    net.run(S(5));
    let fault = MemberFault::Superseded { by: address(1), incarnation: net.me(heir).incarnation };
    assert_eq!(net.nodes[1].faults, [fault]);
    assert!(net.agreed(&[0, heir], 2));
}
