//! A node that is called dead whatever it says.

use super::*;
use crate::member::identity::{SwimCodec, SwimId};
use crate::member::messages::SummaryEntry;

/// How one says so.
#[derive(Clone, Copy, Debug)]
enum Way {
    Undead,
    Gossip(foca::State, u16),
    Belief,
}

const WAYS: [Way; 4] = [
    Way::Undead,
    Way::Gossip(foca::State::Down, 0),
    Way::Gossip(foca::State::Suspect, u16::MAX),
    Way::Belief,
];

/// What the member `by` says to the node `to`.
fn dead(net: &Net, by: usize, to: usize, way: Way) -> Vec<u8> {
    use foca::Codec;
    let (src, dst) = (net.nodes[by].membership.swim.id(), net.nodes[to].membership.swim.id());
    let (mut codec, mut payload) = (SwimCodec::default(), vec![KIND_SWIM]);
    let mut swim = |message, update: Option<foca::Member<SwimId>>| {
        let header = foca::Header { src, src_incarnation: 0, dst, message };
        codec.encode_header(&header, &mut payload).unwrap();
        if let Some(update) = update {
            payload.extend_from_slice(&1_u16.to_be_bytes());
            codec.encode_member(&update, &mut payload).unwrap();
        }
    };
    match way {
        Way::Undead => swim(foca::Message::TurnUndead, None),
        Way::Gossip(state, count) => {
            swim(foca::Message::Gossip, Some(foca::Member::new(dst, count, state)));
        }
        Way::Belief => {
            let belief = Belief::Down { renewal: dst.renewal, doubted: FINAL };
            // All else that it says of it is so, and needs no answer.
            let version = net.nodes[to].membership.directory.own().version;
            let (member, state) = (dst.member, MemberState::Up);
            let about = SummaryEntry { member, version, state, belief };
            let sender = net.nodes[by].membership.sender();
            messages::remarks(sender, &[about], |out| payload = out.to_vec());
        }
    }
    payload
}

#[test]
fn a_node_that_is_called_dead_again_and_again_rests_in_between() {
    for (seed, way) in (930..).zip(WAYS) {
        let mut net = Net::cluster(seed, 5);
        net.run(S(2));
        let (began, sent) = (net.now, net.sent);
        // As soon as it has said that it is not.
        for _ in 0..20_000 {
            let payload = dead(&net, 1, 0, way);
            let from = address(1);
            net.call(0, |node, now, sink| node.handle_datagram(now, from, &payload, sink)).unwrap();
            net.run(MS(1));
        }
        let seconds = net.now.since(began).as_secs();
        let renewals = net.nodes[0].membership.stats().renewals;
        assert!(renewals >= 32, "{way:?}: {renewals}, and a few follow at once");
        assert!(renewals <= 2 * (32 + seconds), "{way:?}: {renewals} in {seconds} s");
        let sent = net.sent - sent;
        assert!(sent < 200 * seconds + 4_000, "{way:?}: {sent} datagrams in {seconds} s");
        let took =
            net.until(S(5), |net| net.equal(&[0, 1, 2, 3, 4]) && net.reachable(2, net.me(0).node));
        assert!(took.is_some(), "{way:?}: it is back");
    }
}
