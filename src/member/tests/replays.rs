//! What a stranger can do that has recorded datagrams and plays them again, from any address.

use super::*;
use crate::member::messages::{Body, Packer};
use crate::member::testnet::{Effect, Recorder};

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
