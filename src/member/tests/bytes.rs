//! Every datagram of membership is the bytes that `docs/PROTOCOL.md` says, and comes back as what
//! it was.

use super::*;
use crate::base::Incarnation;
use crate::member::belief::Belief;
use crate::member::messages::Numbers;
use crate::member::messages::{self, Body, Message, Packer, Sender, SummaryEntry};

const SENDER: Sender =
    Sender { member: NodeRef { node: NodeId(1), incarnation: Incarnation(2) }, renewal: 3 };

/// Behind kind and flags: who speaks.
const SPEAKER: [u8; 20] = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0];

const FOUR: [u8; 8] = [4, 0, 0, 0, 0, 0, 0, 0];
const FIVE: [u8; 8] = [5, 0, 0, 0, 0, 0, 0, 0];

fn assert_bytes(bytes: &[u8], kind: u8, flags: u8, rest: &[&[u8]], body: Body) {
    assert_eq!(bytes, [&[kind, flags], &SPEAKER[..], &rest.concat()].concat(), "{body:?}");
    assert_eq!(Message::read(bytes), Ok(Message { sender: SENDER, body: body.clone() }));
    for cut in 0..bytes.len() {
        let read = Message::read(&bytes[..cut]);
        assert!(read.is_err() || read.unwrap().body != body, "{body:?} cut to {cut}");
    }
    let longer = Message::read(&[bytes, &[0]].concat());
    assert!(longer.is_err(), "{body:?} with a byte more");
}

#[test]
fn short_datagrams_are_these_bytes() {
    let (four, five) = (Incarnation(4), Incarnation(5));
    let by = "1.2.3.4:258".parse().unwrap();
    assert_bytes(&messages::digest(SENDER, 4), 3, 0, &[&FOUR], Body::Digest(4));
    let body = Body::NameTaken { about: four, by, established: true };
    let bytes = messages::name_taken(SENDER, four, by, true);
    assert_bytes(&bytes, 6, 16, &[&FOUR, &[4, 1, 2, 3, 4, 2, 1]], body);
    let body = Body::AddressTaken { about: four, by: "ab".into() };
    assert_bytes(
        &messages::address_taken(SENDER, four, "ab"),
        7,
        0,
        &[&FOUR, &[2, 0, b'a', b'b']],
        body,
    );
    assert_bytes(&messages::hello(SENDER, 4), 8, 0, &[&FOUR], Body::Hello { nonce: 4 });
    let body = Body::Known { nonce: 4, incarnation: five };
    assert_bytes(&messages::known(SENDER, 4, five), 9, 0, &[&FOUR, &FIVE], body);
    let body = Body::Full { about: four, limit: 6 };
    assert_bytes(&messages::full(SENDER, four, 6), 10, 0, &[&FOUR, &[6, 0, 0, 0]], body);
    let about = NodeRef { node: NodeId(4), incarnation: five };
    for (answers, flags, last) in [(None, 0, &[][..]), (Some(4), 32, &FOUR)] {
        let body = Body::Prove { about, number: 5, answers };
        let bytes = messages::prove(SENDER, about, 5, answers);
        assert_bytes(&bytes, 11, flags, &[&FOUR, &FIVE, &FIVE, last], body);
    }
    assert_bytes(
        &messages::unproven(SENDER, four),
        12,
        0,
        &[&FOUR],
        Body::Unproven { about: four },
    );
}

#[test]
fn a_request_is_these_bytes() {
    let mut found = Vec::new();
    let mut packer = Packer::requests(SENDER, 5, |bytes: &[u8]| found.push(bytes.to_vec()));
    packer.request(NodeId(4));
    packer.finish();
    let body = Body::Request { number: 5, nodes: vec![NodeId(4)] };
    assert_bytes(&found[0], 5, 0, &[&FIVE, &FOUR], body);
}

#[test]
fn a_summary_is_these_bytes() {
    let entry = SummaryEntry {
        member: NodeRef { node: NodeId(4), incarnation: Incarnation(5) },
        version: 4,
        state: MemberState::Leaving,
        belief: Belief::Active { renewal: 0x0102, refuted: 0x0304 },
    };
    let mut found = Vec::new();
    messages::complete(SENDER, &[entry], |bytes| found.push(bytes.to_vec()));
    let entry_bytes = [&FOUR[..], &FIVE, &FOUR, &[2], &[1, 2, 1, 0, 0, 4, 3]].concat();
    let (flags, low, high) = (messages::FLAG_COMPLETE, NodeId(0), NodeId(u64::MAX));
    let body = Body::Summary { flags, low, high, entries: vec![entry] };
    let rest = [&[0; 8][..], &[0xff; 8], &entry_bytes];
    assert_eq!(found.len(), 1);
    assert_bytes(&found[0], 4, 8, &rest, body);

    let found = messages::former(SENDER, messages::FLAG_AT_LARGE, &[entry]);
    let (flags, none) = (messages::FLAG_AT_LARGE, NodeId(0));
    let body = Body::Summary { flags, low: none, high: none, entries: vec![entry] };
    assert_bytes(&found, 4, 64, &[&[0; 16][..], &entry_bytes], body);
}

#[test]
fn records_are_these_bytes() {
    let mut record = local("ab", address(1), 5).into_record().unwrap();
    (record.version, record.member_mut().weight, record.member_mut().workers) = (4, 6, 7);
    (record.fit, record.hold_ms) = (9, 10);
    record.member_mut().app_version = "v".into();
    record.member_mut().roles = ["r".into()].into();
    record.member_mut().metadata = [("k".into(), "w".into())].into();
    record.member_mut().services = Vec::new();
    record.member_mut().address = "1.2.3.4:258".parse().unwrap();
    let state = record.member.state;
    assert_eq!(state, MemberState::Joining);
    let rest = [
        &FIVE[..],
        &FOUR,
        &[0],
        &[4, 1, 2, 3, 4, 2, 1],
        &[7, 0, 6, 0, 0, 0],
        &[9, 0, 0, 0, 10, 0, 0, 0],
        &[2, 0, b'a', b'b', 1, 0, b'v'],
        &[1, 0, 1, 0, b'r'],
        &[1, 0, 1, 0, b'k', 1, 0, b'w'],
        &[0, 0],
    ]
    .concat();
    let mut found = Vec::new();
    let numbers = Numbers { answers: Some(5), asks: Some(4) };
    let emit = |bytes: &[u8]| found.push(bytes.to_vec());
    let mut packer = Packer::records(1, numbers, SENDER, emit);
    packer.record(&record, Belief::Down { renewal: 8, doubted: 3 });
    packer.finish();
    let length = (rest.len() as u16).to_le_bytes();
    let head = [2, 1 | 32 | 128];
    let expected = [&head, &SPEAKER[..], &FIVE, &FOUR, &[2, 8, 0, 0, 0, 4, 0], &length, &rest];
    assert_eq!(found, [expected.concat()]);
    let Body::Records { flags: 161, numbers: read, entries } =
        Message::read(&found[0]).unwrap().body
    else {
        panic!("{found:?}")
    };
    assert_eq!(read, numbers);
    assert_eq!((entries.len(), entries[0].belief), (1, Belief::Down { renewal: 8, doubted: 3 }));
    assert_eq!((&entries[0].record.member.name, entries[0].record.version), (&"ab".into(), 4));
}
