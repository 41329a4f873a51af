//! How much one datagram can cause.

use super::*;
use crate::member::answers::MOST_BYTES;
use crate::member::messages::Numbers;
use crate::member::messages::{self, Packer, SummaryEntry};
use crate::member::records::MAX_RECORD_BYTES;
use crate::member::sync::{ANSWER_BYTES, summary_entry};
use crate::member::testnet::{Effect, Recorder};

const MEMBERS: usize = 30;

/// Makes the record of a member nearly as large as one may be.
pub(super) fn swell(net: &mut Net, node: usize) {
    let metadata = BTreeMap::from([("blob".into(), "x".repeat(8_000).into())]);
    net.call(node, |membership, now, sink| {
        membership.change_own(now, sink, |own| own.member_mut().metadata = metadata)
    })
    .unwrap();
}

/// A cluster with records that are as large as they may be.
fn large() -> Net {
    let mut net = Net::cluster(41, MEMBERS);
    (0..MEMBERS).for_each(|node| swell(&mut net, node));
    let all: Vec<usize> = (0..MEMBERS).collect();
    net.until(S(20), |net| net.equal(&all) && blobs(net, 0) == MEMBERS).expect("all know all");
    net
}

fn blobs(net: &Net, on: usize) -> usize {
    net.view(on).members.iter().filter(|member| member.metadata.contains_key("blob")).count()
}

/// What the first member sends when the second says this to it.
fn caused(net: &mut Net, said: &[u8]) -> Result<usize, MemberError> {
    let (now, mut sink) = (net.now, Recorder::default());
    net.nodes[0].membership.handle_datagram(now, address(1), said, &mut sink)?;
    let sent = sink.0.iter().map(|effect| match effect {
        Effect::Send(_, bytes) => bytes.len(),
        _ => 0,
    });
    Ok(sent.sum())
}

fn one(pack: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut all = Vec::new();
    pack(&mut |bytes: &[u8]| all.push(bytes.to_vec()));
    assert_eq!(all.len(), 1, "it fits one datagram");
    all.remove(0)
}

/// One of each kind that names nodes: a request, a summary that says that nothing else is known, and
/// old records.
fn naming(net: &Net, nodes: &[NodeId]) -> [Vec<u8>; 3] {
    let sender = net.nodes[1].membership.sender();
    let held = |node: &NodeId| net.nodes[0].membership.directory.get(*node).unwrap().clone();
    let request = one(|emit| {
        let mut packer = Packer::requests(sender, 9, emit);
        nodes.iter().for_each(|node| packer.request(*node));
        packer.finish();
    });
    let summary = one(|emit| {
        let old = |node: &NodeId| SummaryEntry {
            version: 0,
            ..summary_entry(&held(node), Belief::Unknown)
        };
        let entries: Vec<_> = nodes.iter().map(old).collect();
        messages::complete(sender, &entries, emit);
    });
    let records = nodes.iter().map(|node| {
        let mut record = held(node).record;
        (record.version, record.member_mut().metadata) = (0, BTreeMap::new());
        record
    });
    let old = one(|emit| {
        let mut packer = Packer::records(0, Numbers::default(), sender, emit);
        records.for_each(|record| _ = packer.record(&record, Belief::Unknown));
        packer.finish();
    });
    [request, summary, old]
}

#[test]
fn a_datagram_that_names_a_node_twice_is_refused() {
    let mut net = large();
    let node = net.me(2).node;
    for said in naming(&net, &[node]) {
        assert!(caused(&mut net, &said).unwrap() > 8_000, "it is answered");
    }
    for said in naming(&net, &[node; 12]) {
        let reason = "it names a node twice";
        let kind = said[0];
        assert_eq!(caused(&mut net, &said), Err(MemberError::Malformed { kind, reason }));
    }
}

#[test]
fn one_datagram_is_answered_with_a_bounded_amount() {
    let mut net = large();
    let mut nodes: Vec<_> = net.view(0).members.iter().map(|member| member.id).collect();
    nodes.retain(|node| *node != net.me(0).node && *node != net.me(1).node);
    nodes.sort();
    nodes.truncate(14);
    for said in naming(&net, &nodes) {
        let caused = caused(&mut net, &said).unwrap();
        let most = ANSWER_BYTES + MAX_RECORD_BYTES + 2_000;
        assert!((ANSWER_BYTES..most).contains(&caused), "{caused} bytes");
    }
}

/// What a member's life has said may be played again for as long as it lasts.
#[test]
fn what_a_member_said_has_only_so_much_sent_to_it_however_often_it_comes() {
    let mut net = large();
    let mut nodes: Vec<_> = net.view(0).members.iter().map(|member| member.id).collect();
    nodes.retain(|node| *node != net.me(0).node && *node != net.me(1).node);
    nodes.sort();
    nodes.truncate(14);
    let sender = net.nodes[1].membership.sender();
    let request = |number| {
        one(|emit| {
            let mut packer = Packer::requests(sender, number, emit);
            nodes.iter().for_each(|node| packer.request(*node));
            packer.finish();
        })
    };
    let [_, summary, old] = naming(&net, &nodes);
    for said in [(0..100).map(request).collect(), vec![summary; 100], vec![old; 100]] {
        net.run(MS(500));
        let sum: usize = said.iter().map(|said| caused(&mut net, said).unwrap()).sum();
        let most = MOST_BYTES + ANSWER_BYTES + MAX_RECORD_BYTES + 10_000;
        assert!((MOST_BYTES..most).contains(&sum), "{sum} bytes for kind {}", said[0][0]);
    }
}

/// Of what is left out of an answer more is asked for in each round.
#[test]
fn who_lacks_more_than_one_answer_holds_gets_it_in_some_rounds() {
    let mut net = Net::cluster(42, MEMBERS);
    let (late, others) = (MEMBERS - 1, (0..MEMBERS - 1).collect::<Vec<_>>());
    net.cut(&[late], &others);
    others.iter().for_each(|node| swell(&mut net, *node));
    net.until(MS(300), |net| blobs(net, 0) == others.len()).expect("all but one know");
    net.heal();
    assert_eq!(blobs(&net, late), 0);
    net.until(S(20), |net| blobs(net, late) == others.len()).expect("it knows too");
    assert!(net.nodes.iter().all(|node| node.faults.is_empty()));
}
