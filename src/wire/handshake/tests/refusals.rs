//! What either side refuses, and by which name.

use super::*;

/// A dialer and an acceptor that do not fit, what the acceptor says, and what either side calls it.
type Refused = (DialParams, AcceptParams, Vec<u8>, HandshakeError, HandshakeError);

fn turned_away() -> [Refused; 3] {
    let dial = || dial_params(SECRET);
    let accept = || accept_params(SECRET);
    let supported = VersionRange::SUPPORTED;
    [
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
            DialParams { to: NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION }, ..dial() },
            AcceptParams { turn_away: Some(TurnAway::Leaving), ..accept() },
            refusal(supported, 11, 0, NOBODY),
            HandshakeError::ShuttingDown,
            HandshakeError::ShuttingDown,
        ),
    ]
}

fn refusals_of_a_hello() -> [Refused; 7] {
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
    [
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
            DialParams { me: b_reborn, ..dial() },
            accept(),
            refusal(supported, 12, 0, B),
            self_dial(b_reborn, B),
            self_dial(b_reborn, B),
        ),
    ]
}

#[test]
fn every_refusal_of_a_hello_is_named_on_both_sides() {
    for (dial, accept, bytes, acceptor_error, dialer_error) in
        refusals_of_a_hello().into_iter().chain(turned_away())
    {
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

/// Only the link that found none a moment ago, and for members as for others after their proof.
#[test]
fn a_link_that_found_no_place_is_refused_once_the_secret_is_proven() {
    let params = dial_params(SECRET);
    let link = (params.me, params.from_worker, params.to_worker);
    let other = (params.me, WorkerIndex(params.from_worker.0 + 1), params.to_worker);
    for (no_place, refused) in [(other, false), (link, true)] {
        let no_place = std::sync::Arc::new([no_place].into());
        let accept = AcceptParams { no_place, ..accept_params(SECRET) };
        let (mut dialer, hello) = Dialer::new(dial_params(SECRET), DIALER_NONCE);
        let mut acceptor = Acceptor::new(accept, ACCEPTOR_NONCE);
        let welcome = acceptor_says(&mut acceptor, &hello);
        let proof = dialer_says(&mut dialer, &welcome);
        let steps = feed_acceptor(&mut acceptor, &proof, false);
        let error = HandshakeError::NoPlace { wanted: params.to_worker };
        match &steps[1] {
            AcceptStep::Refuse { send, error: why } if refused => {
                assert_eq!(*why, error);
                assert_eq!(feed_dialer(&mut dialer, send, false)[1], Err(error));
            }
            AcceptStep::Done { .. } if !refused => {}
            step => panic!("{step:?}"),
        }
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
        (14, HandshakeError::NoPlace { wanted: WorkerIndex(1) }),
        (15, HandshakeError::UnknownRefusal { code: 15 }),
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
fn an_error_shows_foreign_text_escaped() {
    let error = HandshakeError::WrongCluster {
        ours: "shop".to_owned(),
        theirs: Some("ba\nnk\u{1b}[2J".to_owned()),
    };
    assert!(error.to_string().contains(r#""ba\nnk\u{1b}[2J""#), "{error}");
}
