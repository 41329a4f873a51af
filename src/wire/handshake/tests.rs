//! Both sides of the handshake against each other, against damage and against attackers.

use proptest::prelude::*;

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

// ---- refusals

#[test]
fn every_refusal_of_a_hello_is_named_on_both_sides() {
    let dial = || dial_params(SECRET);
    let accept = || accept_params(SECRET);
    let without = |secret| key("shop", secret);
    let supported = VersionRange::SUPPORTED;
    let wrong_cluster = |ours: &str, theirs: Option<&str>| HandshakeError::WrongCluster {
        ours: ours.to_owned(),
        theirs: theirs.map(str::to_owned),
    };
    let b_reborn = NodeRef { incarnation: Incarnation(23), ..B };
    let wrong_node = |wanted, found| HandshakeError::WrongNode { wanted, found };
    let self_dial = |dialer, acceptor| HandshakeError::SelfDial { dialer, acceptor };
    // dialer, acceptor, the bytes between them, the acceptor's error, the dialer's error
    let cases = [
        (
            DialParams { versions: versions(4, 6), ..dial() },
            AcceptParams { versions: versions(2, 3), ..accept() },
            refusal(versions(2, 3), 3, 0, NOBODY),
            HandshakeError::UnknownVersion { theirs: versions(4, 6), ours: versions(2, 3) },
            HandshakeError::UnknownVersion { theirs: versions(2, 3), ours: versions(4, 6) },
        ),
        (
            DialParams { key: key("bank", SECRET), ..dial() },
            accept(),
            refusal(supported, 4, 0, NOBODY),
            wrong_cluster("shop", Some("bank")),
            wrong_cluster("bank", None),
        ),
        (
            DialParams { key: without(None), ..dial() },
            accept(),
            refusal(supported, 5, 0, NOBODY),
            HandshakeError::SecretOnlyHere,
            HandshakeError::SecretOnlyThere,
        ),
        (
            dial(),
            AcceptParams { key: without(None), ..accept() },
            refusal(supported, 6, 0, NOBODY),
            HandshakeError::SecretOnlyThere,
            HandshakeError::SecretOnlyHere,
        ),
        (
            DialParams { to: b_reborn, ..dial() },
            accept(),
            refusal(supported, 8, 0, B),
            wrong_node(b_reborn, B),
            wrong_node(b_reborn, B),
        ),
        (
            DialParams { to: NodeRef { node: NodeId(5), incarnation: ANY_INCARNATION }, ..dial() },
            accept(),
            refusal(supported, 8, 0, B),
            wrong_node(NodeRef { node: NodeId(5), incarnation: ANY_INCARNATION }, B),
            wrong_node(NodeRef { node: NodeId(5), incarnation: ANY_INCARNATION }, B),
        ),
        (
            dial(),
            AcceptParams { turn_away: Some(TurnAway::Busy), ..accept() },
            refusal(supported, 10, 0, NOBODY),
            HandshakeError::Busy,
            HandshakeError::Busy,
        ),
        (
            dial(),
            AcceptParams { turn_away: Some(TurnAway::ShuttingDown), ..accept() },
            refusal(supported, 11, 0, NOBODY),
            HandshakeError::ShuttingDown,
            HandshakeError::ShuttingDown,
        ),
        (
            DialParams { me: b_reborn, ..dial() },
            accept(),
            refusal(supported, 12, 0, B),
            self_dial(b_reborn, B),
            self_dial(b_reborn, B),
        ),
    ];
    for (dial, accept, bytes, acceptor_error, dialer_error) in cases {
        let (mut dialer, hello) = Dialer::new(dial, DIALER_NONCE);
        let mut acceptor = Acceptor::new(accept, ACCEPTOR_NONCE);
        assert_eq!(
            feed_acceptor(&mut acceptor, &hello, false),
            [AcceptStep::More, AcceptStep::Refuse { send: bytes.clone(), error: acceptor_error }]
        );
        assert_eq!(
            feed_dialer(&mut dialer, &bytes, false),
            [Ok(DialStep::More), Err(dialer_error)]
        );
        assert_eq!((dialer.expects(), acceptor.expects()), (0, 0));
    }
}

#[test]
fn a_worker_that_does_not_exist_is_refused_once_the_secret_is_proven() {
    let params = DialParams { to_worker: WorkerIndex(2), ..dial_params(SECRET) };
    let (mut dialer, hello) = Dialer::new(params, DIALER_NONCE);
    let mut acceptor = acceptor(SECRET);
    let welcome = acceptor_says(&mut acceptor, &hello);
    let proof = dialer_says(&mut dialer, &welcome);
    let bytes = refusal(VersionRange::SUPPORTED, 9, 2, NOBODY);
    let error = HandshakeError::NoSuchWorker { wanted: WorkerIndex(2), workers: 2 };
    assert_eq!(
        feed_acceptor(&mut acceptor, &proof, false),
        [AcceptStep::More, AcceptStep::Refuse { send: bytes.clone(), error: error.clone() }]
    );
    assert_eq!(feed_dialer(&mut dialer, &bytes, false), [Ok(DialStep::More), Err(error)]);
}

#[test]
fn a_channel_between_controls_says_what_it_is() {
    let params = DialParams { purpose: Purpose::Control, ..dial_params(SECRET) };
    let (dialed, accepted) = establish(params, accept_params(SECRET));
    assert_eq!((dialed.purpose, accepted.purpose), (Purpose::Control, Purpose::Control));
}

#[test]
fn a_purpose_that_only_a_newer_node_knows_is_refused_by_name() {
    let (_, mut hello) = dialer(SECRET);
    hello[94] = 9;
    let bytes = refusal(VersionRange::SUPPORTED, 13, 0, NOBODY);
    let error = HandshakeError::UnknownPurpose { code: 9 };
    assert_eq!(
        feed_acceptor(&mut acceptor(SECRET), &hello, false),
        [AcceptStep::More, AcceptStep::Refuse { send: bytes, error }]
    );
}

#[test]
fn another_secret_is_refused_at_the_proof_and_nothing_more_is_told() {
    let (mut dialer, hello) = dialer(Some(b"another secret, also long"));
    let mut acceptor = acceptor(SECRET);
    let welcome = acceptor_says(&mut acceptor, &hello);
    let proof = dialer_says(&mut dialer, &welcome);
    let bytes = refusal(VersionRange::SUPPORTED, 7, 0, NOBODY);
    assert_eq!(
        feed_acceptor(&mut acceptor, &proof, false),
        [
            AcceptStep::More,
            AcceptStep::Refuse { send: bytes.clone(), error: HandshakeError::WrongProof }
        ]
    );
    assert_eq!(
        feed_dialer(&mut dialer, &bytes, false),
        [Ok(DialStep::More), Err(HandshakeError::WrongProof)]
    );
}

#[test]
fn an_acceptor_with_another_secret_is_found_out_by_the_dialer() {
    // It skips its own check and answers the proof as if it were right.
    let (mut dialer, hello) = dialer(SECRET);
    let told = record(SECRET);
    let proof = dialer_says(&mut dialer, &told.welcome);
    let mut transcript = Transcript::new(&hello);
    transcript.add(&told.welcome);
    transcript.add(&proof);
    let its_key = key("shop", Some(b"another secret, also long"));
    let ready = transcript.prove(&its_key, Role::Acceptor, VersionRange::SUPPORTED);
    assert_eq!(
        feed_dialer(&mut dialer, &ready, false),
        [Ok(DialStep::More), Err(HandshakeError::WrongProof)]
    );
}

#[test]
fn a_stranger_is_told_apart_from_a_faulty_node() {
    let supported = VersionRange::SUPPORTED;
    let http = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let error = HandshakeError::WrongMagic { found: *b"GET / HT" };
    assert_eq!(
        feed_acceptor(&mut acceptor(SECRET), http, false),
        [AcceptStep::Refuse { send: refusal(supported, 1, 0, NOBODY), error: error.clone() }]
    );
    assert!(error.to_string().contains("begins with \"GET / HT\""), "{error}");
    let (mut dialer, _) = dialer(SECRET);
    assert_eq!(
        feed_dialer(&mut dialer, b"HTTP/1.1 400 Bad Request\r\n", false),
        [Err(HandshakeError::WrongMagic { found: *b"HTTP/1.1" })]
    );
}

#[test]
fn malformed_hellos_are_refused_with_what_is_wrong() {
    let change = |changes: &[(usize, u8)]| {
        let mut hello = record(SECRET).hello;
        for &(at, byte) in changes {
            hello[at] = byte;
        }
        hello
    };
    let cases = [
        (change(&[(8, 2)]), "another message came in its place"),
        (change(&[(8, 99)]), "another message came in its place"),
        (change(&[(9, 3)]), "its oldest wire version lies above its newest"),
        (change(&[(12, 80)]), "the length it declares is not one it can have"),
        (change(&[(12, 1), (13, 2)]), "the length it declares is not one it can have"),
        (change(&[(12, 255), (13, 255)]), "the length it declares is not one it can have"),
        (change(&[(93, 0)]), "its cluster name is empty or too long"),
        (change(&[(93, 65)]), "its cluster name is empty or too long"),
        (change(&[(93, 5)]), "it ends inside its cluster name"),
        (change(&[(96, 0xff)]), "its cluster name is not UTF-8"),
    ];
    for (hello, why) in cases {
        let steps = feed_acceptor(&mut acceptor(SECRET), &hello, false);
        let send = refusal(VersionRange::SUPPORTED, 2, 0, NOBODY);
        let error = HandshakeError::Malformed { message: "Hello", why };
        assert_eq!(steps.last(), Some(&AcceptStep::Refuse { send, error }));
    }
}

#[test]
fn a_dialer_takes_no_welcome_that_it_could_not_have_asked_for() {
    let change = |changes: &[(usize, u8)]| {
        let mut welcome = record(SECRET).welcome;
        for &(at, byte) in changes {
            welcome[at] = byte;
        }
        welcome
    };
    let malformed = |why| HandshakeError::Malformed { message: "Welcome", why };
    let c = NodeRef { node: NodeId(0xbbcc), ..B };
    let mut as_a = vec![(48, 0xaa), (49, 0xaa)];
    as_a.extend((50..56).map(|at| (at, 0)));
    let cases = [
        (change(&[(8, 1)]), malformed("another message came in its place")),
        (change(&[(12, 57)]), malformed("the length it declares is not one it can have")),
        (
            change(&[(64, 3)]),
            malformed("it did not choose the newest wire version that both sides speak"),
        ),
        (change(&[(65, 0)]), HandshakeError::SecretOnlyHere),
        (change(&[(48, 0xcc)]), HandshakeError::WrongNode { wanted: B, found: c }),
        (
            change(&as_a),
            HandshakeError::SelfDial { dialer: A, acceptor: NodeRef { node: A.node, ..B } },
        ),
    ];
    for (welcome, error) in cases {
        let (mut dialer, _) = dialer(SECRET);
        assert_eq!(feed_dialer(&mut dialer, &welcome, false).last(), Some(&Err(error)));
    }
    let (mut without, _) = dialer(None);
    let steps = feed_dialer(&mut without, &record(SECRET).welcome, false);
    assert_eq!(steps.last(), Some(&Err(HandshakeError::SecretOnlyThere)));
}

#[test]
fn a_lower_version_than_the_newest_common_one_is_not_taken() {
    let params = DialParams { versions: versions(1, 3), ..dial_params(SECRET) };
    let (mut dialer, _) = Dialer::new(params, DIALER_NONCE);
    let mut welcome = record(SECRET).welcome;
    (welcome[9], welcome[10], welcome[64]) = (1, 3, 2);
    let why = "it did not choose the newest wire version that both sides speak";
    assert_eq!(
        feed_dialer(&mut dialer, &welcome, false),
        [Ok(DialStep::More), Err(HandshakeError::Malformed { message: "Welcome", why })]
    );
}

#[test]
fn refusals_about_unreadable_bytes_or_from_the_future_are_named() {
    let supported = VersionRange::SUPPORTED;
    for (code, error) in [
        (1, HandshakeError::NotUnderstood { message: "Hello" }),
        (2, HandshakeError::NotUnderstood { message: "Hello" }),
        (0, HandshakeError::UnknownRefusal { code: 0 }),
        (13, HandshakeError::UnknownPurpose { code: 0 }),
        (14, HandshakeError::UnknownRefusal { code: 14 }),
    ] {
        let (mut dialer, _) = dialer(SECRET);
        let steps = feed_dialer(&mut dialer, &refusal(supported, code, 0, NOBODY), false);
        assert_eq!(steps, [Ok(DialStep::More), Err(error)]);
    }
    let (mut dialer, _) = dialer(SECRET);
    feed_dialer(&mut dialer, &record(SECRET).welcome, false);
    let steps = feed_dialer(&mut dialer, &refusal(supported, 2, 0, NOBODY), false);
    let error = HandshakeError::NotUnderstood { message: "Proof" };
    assert_eq!(steps, [Ok(DialStep::More), Err(error)]);
}

#[test]
fn a_driver_without_room_can_turn_a_dialer_away_unheard() {
    for (reason, error) in [
        (TurnAway::Busy, HandshakeError::Busy),
        (TurnAway::ShuttingDown, HandshakeError::ShuttingDown),
    ] {
        let (mut dialer, _) = dialer(SECRET);
        let steps = feed_dialer(&mut dialer, &reason.refusal(), false);
        assert_eq!(steps, [Ok(DialStep::More), Err(error)]);
    }
}

#[test]
fn an_error_shows_foreign_text_escaped_and_tells_whose_fault_it_is() {
    let error = HandshakeError::WrongCluster {
        ours: "shop".to_owned(),
        theirs: Some("ba\nnk\u{1b}[2J".to_owned()),
    };
    assert!(error.to_string().contains(r#""ba\nnk\u{1b}[2J""#), "{error}");
    assert_eq!(error.fault(), Fault::Configuration);
    assert_eq!(HandshakeError::WrongMagic { found: [0; 8] }.fault(), Fault::Peer);
    assert_eq!(HandshakeError::Busy.fault(), Fault::Passing);
}

// ---- damage

#[test]
fn a_connection_that_ends_at_any_byte_is_named_and_never_establishes() {
    let told = record(SECRET);
    let truncated = |message, at: usize, length: usize| {
        let (expected, got) =
            if at < PREFIX_LEN { (PREFIX_LEN, at) } else { (length - PREFIX_LEN, at - PREFIX_LEN) };
        HandshakeError::Truncated { message, expected, got }
    };
    let refuse =
        |error| AcceptStep::Refuse { send: refusal(VersionRange::SUPPORTED, 2, 0, NOBODY), error };
    for at in 0..told.hello.len() {
        let steps = feed_acceptor(&mut acceptor(SECRET), &told.hello[..at], true);
        let error = truncated("Hello", at, told.hello.len());
        assert_eq!(steps.len(), 1 + usize::from(at >= PREFIX_LEN));
        assert_eq!(steps.last(), Some(&refuse(error)), "Hello cut at {at}");
    }
    for at in 0..told.proof.len() {
        let mut acceptor = acceptor(SECRET);
        feed_acceptor(&mut acceptor, &told.hello, false);
        let steps = feed_acceptor(&mut acceptor, &told.proof[..at], true);
        let error = truncated("Proof", at, told.proof.len());
        assert_eq!(steps.last(), Some(&refuse(error)), "Proof cut at {at}");
    }
    for at in 0..told.welcome.len() {
        let (mut dialer, _) = dialer(SECRET);
        let steps = feed_dialer(&mut dialer, &told.welcome[..at], true);
        let error = truncated("Welcome", at, told.welcome.len());
        assert_eq!(steps.last(), Some(&Err(error)), "Welcome cut at {at}");
    }
    for at in 0..told.ready.len() {
        let (mut dialer, _) = dialer(SECRET);
        feed_dialer(&mut dialer, &told.welcome, false);
        let steps = feed_dialer(&mut dialer, &told.ready[..at], true);
        let error = truncated("Ready", at, told.ready.len());
        assert_eq!(steps.last(), Some(&Err(error)), "Ready cut at {at}");
    }
}

/// One bit is changed on the way, in the given message; both sides go on as far as they do.
fn establishes_with_flipped_bit(secret: Option<&[u8]>, message: usize, bit: usize) -> bool {
    let flip = |which: usize, bytes: &mut Vec<u8>| {
        if which == message {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    };
    let (mut dialer, mut hello) = dialer(secret);
    let mut acceptor = acceptor(secret);
    flip(0, &mut hello);
    let Some(AcceptStep::Send(mut welcome)) = feed_acceptor(&mut acceptor, &hello, false).pop()
    else {
        return false;
    };
    flip(1, &mut welcome);
    let Some(Ok(DialStep::Send(mut proof))) = feed_dialer(&mut dialer, &welcome, false).pop()
    else {
        return false;
    };
    flip(2, &mut proof);
    let Some(AcceptStep::Done { send: mut ready, .. }) =
        feed_acceptor(&mut acceptor, &proof, false).pop()
    else {
        return false;
    };
    assert_eq!(message, 3, "the acceptor established after a change in message {message}");
    flip(3, &mut ready);
    established_by_dialer(&feed_dialer(&mut dialer, &ready, false))
}

#[test]
fn no_flipped_bit_anywhere_lets_the_two_sides_establish() {
    for secret in [SECRET, None] {
        for (message, length) in [HELLO_LEN, 72, 48, 48].into_iter().enumerate() {
            for bit in 0..length * 8 {
                assert!(
                    !establishes_with_flipped_bit(secret, message, bit),
                    "bit {bit} of message {message} is not covered"
                );
            }
        }
    }
}

// ---- attacks

#[test]
fn what_was_recorded_is_of_no_use_under_another_nonce() {
    let told = record(SECRET);
    let mut acceptor = Acceptor::new(accept_params(SECRET), [0x5c; 32]);
    feed_acceptor(&mut acceptor, &told.hello, false);
    let steps = feed_acceptor(&mut acceptor, &told.proof, false);
    let send = refusal(VersionRange::SUPPORTED, 7, 0, NOBODY);
    let error = HandshakeError::WrongProof;
    assert_eq!(steps, [AcceptStep::More, AcceptStep::Refuse { send, error }]);

    let (mut dialer, _) = Dialer::new(dial_params(SECRET), [0x1d; 32]);
    feed_dialer(&mut dialer, &told.welcome, false);
    let steps = feed_dialer(&mut dialer, &told.ready, false);
    assert_eq!(steps, [Ok(DialStep::More), Err(HandshakeError::WrongProof)]);
}

#[test]
fn a_dialer_is_not_fooled_by_its_own_words() {
    // Everything it says comes straight back.
    let (mut mirrored, hello) = dialer(SECRET);
    let why = "another message came in its place";
    assert_eq!(
        feed_dialer(&mut mirrored, &hello, false),
        [Err(HandshakeError::Malformed { message: "Welcome", why })]
    );
    // Its proof comes back, dressed up as the acceptor's.
    let (mut dialer, _) = dialer(SECRET);
    let told = record(SECRET);
    let mut proof = dialer_says(&mut dialer, &told.welcome);
    proof[8] = told.ready[8];
    assert_eq!(
        feed_dialer(&mut dialer, &proof, false),
        [Ok(DialStep::More), Err(HandshakeError::WrongProof)]
    );
}

#[test]
fn a_proof_of_one_role_does_not_stand_for_the_other() {
    let transcript = || Transcript::new(b"the same bytes");
    let versions = VersionRange::SUPPORTED;
    let key = key("shop", SECRET);
    let by_acceptor = transcript().prove(&key, Role::Acceptor, versions);
    let by_dialer = transcript().prove(&key, Role::Dialer, versions);
    assert_ne!(by_acceptor[PREFIX_LEN..], by_dialer[PREFIX_LEN..]);
}

#[test]
fn an_attacker_gets_no_proof_from_a_node_by_connecting_to_it() {
    // It plays the part of A towards B, with B's own words from a link that B itself dials.
    let (_, hello_of_b) = Dialer::new(
        DialParams { me: B, to: A, to_worker: WorkerIndex(0), ..dial_params(SECRET) },
        DIALER_NONCE,
    );
    let steps = feed_acceptor(&mut acceptor(SECRET), &hello_of_b, false);
    let send = refusal(VersionRange::SUPPORTED, 12, 0, B);
    let error = HandshakeError::SelfDial { dialer: B, acceptor: B };
    assert_eq!(steps, [AcceptStep::More, AcceptStep::Refuse { send, error }]);
    // Without a proof of its own it hears nothing that depends on the secret: what B sends up to
    // then is the same under every secret.
    let with = record(SECRET);
    let other = record(Some(b"another secret, also long"));
    assert_eq!((with.hello, with.welcome), (other.hello, other.welcome));
}

// ---- drivers that break the grammar

#[test]
#[should_panic(expected = "the driver read 17 of 16 bytes")]
fn reading_past_what_is_expected_is_a_bug_in_the_driver() {
    acceptor(SECRET).receive(&record(SECRET).hello[..17]);
}

#[test]
#[should_panic(expected = "the handshake is over")]
fn going_on_after_the_end_is_a_bug_in_the_driver() {
    let mut acceptor = acceptor(SECRET);
    feed_acceptor(&mut acceptor, b"GET / HTTP/1.1\r\n", false);
    acceptor.receive(b"");
}

// ---- random input

fn any_secret() -> impl Strategy<Value = Option<&'static [u8]>> {
    prop_oneof![Just(SECRET), Just(None)]
}

proptest! {
    #[test]
    fn random_bytes_never_establish(
        secret in any_secret(),
        bytes in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        prop_assert!(!established_by_acceptor(&feed_acceptor(&mut acceptor(secret), &bytes, true)));
        let (mut dialer, _) = dialer(secret);
        prop_assert!(!established_by_dialer(&feed_dialer(&mut dialer, &bytes, true)));
    }

    #[test]
    fn random_bytes_after_a_good_beginning_never_establish(
        secret in any_secret(),
        kept in 0_usize..160,
        bytes in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let told = record(secret);
        let begin_then_noise = |good: [&[u8]; 2]| {
            let mut said: Vec<u8> = good.concat();
            said.truncate(kept.min(said.len() - 1));
            said.extend(&bytes);
            said
        };
        let said = begin_then_noise([&told.hello, &told.proof]);
        if !said.starts_with(&[told.hello, told.proof].concat()) {
            let steps = feed_acceptor(&mut acceptor(secret), &said, true);
            prop_assert!(!established_by_acceptor(&steps));
        }
        let said = begin_then_noise([&told.welcome, &told.ready]);
        if !said.starts_with(&[told.welcome, told.ready].concat()) {
            let (mut dialer, _) = dialer(secret);
            prop_assert!(!established_by_dialer(&feed_dialer(&mut dialer, &said, true)));
        }
    }
}
