//! Damage on the way, attackers, drivers that break the grammar, and random bytes.

use proptest::prelude::*;

use super::*;

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

/// Proofs that somebody without the secret could make up: nothing, one byte again and again, a right
/// proof of which some is missing, what the other side has said itself.
fn made_up(right: &[u8], told: &Recording) -> Vec<Vec<u8>> {
    let mut proofs: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte; right.len()]).collect();
    for kept in 0..right.len() {
        let (mut zeros_after, mut zeros_before) = (right.to_vec(), right.to_vec());
        zeros_after[kept..].fill(0);
        zeros_before[..kept + 1].fill(0);
        proofs.extend([zeros_after, zeros_before]);
    }
    for said in [&told.hello, &told.welcome, &told.proof, &told.ready] {
        proofs.extend(said.windows(right.len()).map(<[u8]>::to_vec));
    }
    proofs.retain(|proof| proof != right);
    proofs
}

#[test]
fn no_made_up_proof_lets_anybody_in() {
    for secret in [SECRET, None] {
        let told = record(secret);
        let (prefix, right) = told.proof.split_at(PREFIX_LEN);
        for proof in made_up(right, &told) {
            let mut acceptor = acceptor(secret);
            feed_acceptor(&mut acceptor, &told.hello, false);
            let steps = feed_acceptor(&mut acceptor, &[prefix, &proof].concat(), false);
            let send = refusal(VersionRange::SUPPORTED, 7, 0, NOBODY);
            let refused = AcceptStep::Refuse { send, error: HandshakeError::WrongProof };
            assert_eq!(steps.last(), Some(&refused), "{proof:?}");
        }
        let (prefix, right) = told.ready.split_at(PREFIX_LEN);
        for proof in made_up(right, &told) {
            let (mut dialer, _) = dialer(secret);
            feed_dialer(&mut dialer, &told.welcome, false);
            let steps = feed_dialer(&mut dialer, &[prefix, &proof].concat(), false);
            assert_eq!(steps.last(), Some(&Err(HandshakeError::WrongProof)), "{proof:?}");
        }
    }
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
