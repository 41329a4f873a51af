//! Both sides of the handshake against each other, against damage and against attackers.

mod attacks;
mod documented;
mod refusals;

use super::messages::{PREFIX_LEN, Role, Transcript};
use super::*;
use crate::wire::{ClusterKey, VersionRange};

const SECRET: Option<&[u8]> = Some(b"sixteen bytes ok");
const A: NodeRef = NodeRef { node: NodeId(0xaaaa), incarnation: Incarnation(11) };
const B: NodeRef = NodeRef { node: NodeId(0xbbbb), incarnation: Incarnation(22) };
const DIALER_NONCE: [u8; 32] = [0xd1; 32];
const ACCEPTOR_NONCE: [u8; 32] = [0xac; 32];
const HELLO_LEN: usize = 96 + "shop".len();

fn key(cluster: &str, secret: Option<&[u8]>) -> ClusterKey {
    ClusterKey::new(cluster, secret).unwrap()
}

fn versions(min: u8, max: u8) -> VersionRange {
    VersionRange::new(min, max).unwrap()
}

fn dial_params(secret: Option<&[u8]>) -> DialParams {
    DialParams {
        key: key("shop", secret),
        purpose: Purpose::Workers,
        me: A,
        from_worker: WorkerIndex(3),
        to: B,
        to_worker: WorkerIndex(1),
        link_epoch: 7,
        versions: VersionRange::SUPPORTED,
    }
}

fn accept_params(secret: Option<&[u8]>) -> AcceptParams {
    AcceptParams {
        key: key("shop", secret),
        me: B,
        workers: 2,
        versions: VersionRange::SUPPORTED,
        turn_away: None,
        no_place: Default::default(),
        takes: 0,
    }
}

fn dialer(secret: Option<&[u8]>) -> (Dialer, Vec<u8>) {
    Dialer::new(dial_params(secret), DIALER_NONCE)
}

fn acceptor(secret: Option<&[u8]>) -> Acceptor {
    Acceptor::new(accept_params(secret), ACCEPTOR_NONCE)
}

/// Feeds an acceptor the way a driver does, until it is over or wants more than there is; what is
/// left then goes in as a cut-off read, if the connection is said to end.
fn feed_acceptor(acceptor: &mut Acceptor, mut bytes: &[u8], ends: bool) -> Vec<AcceptStep> {
    let mut steps = Vec::new();
    while acceptor.expects() > 0 {
        if bytes.len() < acceptor.expects() && !ends {
            break;
        }
        let now = bytes.split_off(..acceptor.expects().min(bytes.len())).unwrap();
        steps.push(acceptor.receive(now));
    }
    steps
}

/// As [`feed_acceptor`], for a dialer.
fn feed_dialer(
    dialer: &mut Dialer,
    mut bytes: &[u8],
    ends: bool,
) -> Vec<Result<DialStep, HandshakeError>> {
    let mut steps = Vec::new();
    while dialer.expects() > 0 {
        if bytes.len() < dialer.expects() && !ends {
            break;
        }
        let now = bytes.split_off(..dialer.expects().min(bytes.len())).unwrap();
        steps.push(dialer.receive(now));
    }
    steps
}

fn established_by_acceptor(steps: &[AcceptStep]) -> bool {
    steps.iter().any(|step| matches!(step, AcceptStep::Done { .. }))
}

fn established_by_dialer(steps: &[Result<DialStep, HandshakeError>]) -> bool {
    steps.iter().any(|step| matches!(step, Ok(DialStep::Done(_))))
}

/// What an acceptor sends after a message that it takes.
fn acceptor_says(acceptor: &mut Acceptor, message: &[u8]) -> Vec<u8> {
    match feed_acceptor(acceptor, message, false).pop() {
        Some(AcceptStep::Send(send) | AcceptStep::Done { send, .. }) => send,
        other => panic!("not taken: {other:?}"),
    }
}

/// What a dialer sends after a message that it takes.
fn dialer_says(dialer: &mut Dialer, message: &[u8]) -> Vec<u8> {
    match feed_dialer(dialer, message, false).pop() {
        Some(Ok(DialStep::Send(send))) => send,
        other => panic!("not taken: {other:?}"),
    }
}

/// All four messages of a handshake that works.
struct Recording {
    hello: Vec<u8>,
    welcome: Vec<u8>,
    proof: Vec<u8>,
    ready: Vec<u8>,
}

fn record(secret: Option<&[u8]>) -> Recording {
    let (mut dialer, hello) = dialer(secret);
    let mut acceptor = acceptor(secret);
    let welcome = acceptor_says(&mut acceptor, &hello);
    let proof = dialer_says(&mut dialer, &welcome);
    let ready = acceptor_says(&mut acceptor, &proof);
    Recording { hello, welcome, proof, ready }
}

/// A handshake that works, as both sides see it: first the dialer, then the acceptor.
fn establish(dial: DialParams, accept: AcceptParams) -> (Established, Established) {
    let (mut dialer, hello) = Dialer::new(dial, DIALER_NONCE);
    let mut acceptor = Acceptor::new(accept, ACCEPTOR_NONCE);
    let welcome = acceptor_says(&mut acceptor, &hello);
    let proof = dialer_says(&mut dialer, &welcome);
    match feed_acceptor(&mut acceptor, &proof, false).pop() {
        Some(AcceptStep::Done { send, established }) => {
            match feed_dialer(&mut dialer, &send, false).pop() {
                Some(Ok(DialStep::Done(dialed))) => (dialed, established),
                other => panic!("the dialer did not establish: {other:?}"),
            }
        }
        other => panic!("the acceptor did not establish: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refusal(acceptor_versions: VersionRange, code: u8, workers: u16, acceptor: NodeRef) -> Vec<u8> {
    let mut bytes = b"\x89KEYWAY\n\x05".to_vec();
    bytes.extend([acceptor_versions.min(), acceptor_versions.max(), 0, 24, 0, 0, 0]);
    bytes.extend([code, 0]);
    bytes.extend(workers.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(acceptor.node.0.to_le_bytes());
    bytes.extend(acceptor.incarnation.0.to_le_bytes());
    bytes
}

const NOBODY: NodeRef = NodeRef { node: NodeId(0), incarnation: Incarnation(0) };

// ---- what works

#[test]
fn both_sides_establish_the_same_link_with_and_without_a_secret() {
    for secret in [SECRET, None] {
        let authenticated = secret.is_some();
        let (mut dialer, hello) = dialer(secret);
        let mut acceptor = acceptor(secret);
        let told = record(secret);
        assert_eq!(hello, told.hello);
        assert_eq!(
            feed_acceptor(&mut acceptor, &hello, false),
            [AcceptStep::More, AcceptStep::Send(told.welcome.clone())]
        );
        assert_eq!(
            feed_dialer(&mut dialer, &told.welcome, false),
            [Ok(DialStep::More), Ok(DialStep::Send(told.proof.clone()))]
        );
        let accepted = Established {
            peer: A,
            purpose: Purpose::Workers,
            peer_worker: WorkerIndex(3),
            my_worker: WorkerIndex(1),
            wire_version: 2,
            link_epoch: 7,
            authenticated,
            takes: None,
        };
        assert_eq!(
            feed_acceptor(&mut acceptor, &told.proof, false),
            [
                AcceptStep::More,
                AcceptStep::Done { send: told.ready.clone(), established: accepted }
            ]
        );
        let dialed = Established {
            peer: B,
            peer_worker: WorkerIndex(1),
            my_worker: WorkerIndex(3),
            ..accepted
        };
        assert_eq!(
            feed_dialer(&mut dialer, &told.ready, false),
            [Ok(DialStep::More), Ok(DialStep::Done(dialed))]
        );
        assert_eq!((dialer.expects(), acceptor.expects()), (0, 0));
    }
}

#[test]
fn the_layouts_are_the_documented_ones() {
    let told = record(SECRET);
    let hello = &told.hello;
    assert_eq!(hello.len(), HELLO_LEN);
    assert_eq!(&hello[..16], b"\x89KEYWAY\n\x01\x02\x02\0\x54\0\0\0");
    assert_eq!(hello[16..48], DIALER_NONCE);
    assert_eq!(hello[48..56], A.node.0.to_le_bytes());
    assert_eq!(hello[56..64], A.incarnation.0.to_le_bytes());
    assert_eq!(hello[64..72], B.node.0.to_le_bytes());
    assert_eq!(hello[72..80], B.incarnation.0.to_le_bytes());
    assert_eq!(hello[80..88], 7_u64.to_le_bytes());
    assert_eq!(hello[88..96], [3, 0, 1, 0, 1, 4, 0, 0]);
    assert_eq!(&hello[96..], b"shop");
    let welcome = &told.welcome;
    assert_eq!(welcome.len(), 72);
    assert_eq!(&welcome[..16], b"\x89KEYWAY\n\x02\x02\x02\0\x38\0\0\0");
    assert_eq!(welcome[16..48], ACCEPTOR_NONCE);
    assert_eq!(welcome[48..56], B.node.0.to_le_bytes());
    assert_eq!(welcome[56..64], B.incarnation.0.to_le_bytes());
    assert_eq!(welcome[64..], [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!((told.proof.len(), told.ready.len()), (48, 48));
    assert_eq!(&told.proof[..16], b"\x89KEYWAY\n\x03\x02\x02\0\x20\0\0\0");
    assert_eq!(&told.ready[..16], b"\x89KEYWAY\n\x04\x02\x02\0\x20\0\0\0");
    // From another implementation, written from docs/PROTOCOL.md.
    assert_eq!(
        hex(&told.proof[16..]),
        "dddc0d3e7f628fe62d732ed42a3b408cf3b2b7628ed79ff62548c13588e0e93b"
    );
    assert_eq!(
        hex(&told.ready[16..]),
        "5c2d227fc961edd08cbaa0821d37ccdd45f1a608d1a2019ee3875f403d362993"
    );
    let without = record(None);
    assert_eq!((without.hello[92], without.welcome[65]), (0, 0), "flags");
}

#[test]
fn a_dialer_may_leave_node_and_incarnation_open() {
    let any_life = NodeRef { incarnation: ANY_INCARNATION, ..B };
    for to in [any_life, NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION }] {
        let (dialed, _) =
            establish(DialParams { to, ..dial_params(SECRET) }, accept_params(SECRET));
        assert_eq!(dialed.peer, B, "the dialer learns who it is");
    }
}

#[test]
fn the_newest_common_version_is_agreed_on() {
    for (mine, theirs, agreed) in [((1, 3), (2, 5), 3), ((2, 9), (1, 4), 4), ((5, 5), (1, 9), 5)] {
        let dial = DialParams { versions: versions(mine.0, mine.1), ..dial_params(SECRET) };
        let accept =
            AcceptParams { versions: versions(theirs.0, theirs.1), ..accept_params(SECRET) };
        let (dialed, accepted) = establish(dial, accept);
        assert_eq!((dialed.wire_version, accepted.wire_version), (agreed, agreed));
    }
}

#[test]
fn a_hello_that_a_later_version_made_longer_is_understood_and_its_tail_is_proven_too() {
    let told = record(SECRET);
    let mut hello = told.hello;
    hello[12] += 5;
    hello.extend(b"later");
    let mut acceptor = acceptor(SECRET);
    let welcome = acceptor_says(&mut acceptor, &hello);
    let mut transcript = Transcript::new(&hello);
    transcript.add(&welcome);
    let proof = transcript.prove(&key("shop", SECRET), Role::Dialer, VersionRange::SUPPORTED);
    assert!(established_by_acceptor(&feed_acceptor(&mut acceptor, &proof, false)));
}
