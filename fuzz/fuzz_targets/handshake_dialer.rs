//! A dialing node hears whatever comes. It must not panic, must bound what it reads, and must
//! establish exactly if the acceptor's bytes reached it unchanged.

#![no_main]

use keyway::wire::handshake::{
    AcceptStep, Acceptor, DialStep, Dialer, HandshakeError, MAX_MESSAGE_LEN,
};
use keyway_fuzz::{Scene, apply, fresh_for, halves};
use libfuzzer_sys::fuzz_target;

/// Feeds all of `bytes` as a driver would; gives the last step.
fn feed(dialer: &mut Dialer, mut bytes: &[u8]) -> Result<DialStep, HandshakeError> {
    let mut step = Ok(DialStep::More);
    while !bytes.is_empty() && dialer.expects() > 0 {
        assert!(dialer.expects() <= MAX_MESSAGE_LEN);
        let now =
            bytes.split_off(..dialer.expects().min(bytes.len())).expect("no more than is there");
        step = dialer.receive(now);
        if let Err(error) = &step {
            assert!(!error.to_string().is_empty());
            assert_eq!(dialer.expects(), 0);
        }
    }
    step
}

/// Feeds a good prefix and body to an acceptor that is known to take them.
fn acceptor_says(acceptor: &mut Acceptor, message: &[u8]) -> Option<Vec<u8>> {
    let (prefix, body) = message.split_at(acceptor.expects());
    assert_eq!(acceptor.receive(prefix), AcceptStep::More);
    match acceptor.receive(body) {
        AcceptStep::Send(send) | AcceptStep::Done { send, .. } => Some(send),
        AcceptStep::Refuse { .. } => None,
        AcceptStep::More => panic!("a whole message was not enough"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&scene, input)) = input.split_first() else { return };
    let scene = Scene(scene);
    let (mut dialer, hello) = Dialer::new(scene.dial_params(), fresh_for(input));
    if !scene.damages_good_bytes() {
        let last = feed(&mut dialer, input);
        assert!(!matches!(last, Ok(DialStep::Done(_))), "established without an acceptor");
        return;
    }
    let mut params = scene.accept_params();
    params.turn_away = None;
    let mut acceptor = Acceptor::new(params, [0xac; 32]);
    let mut welcome = acceptor_says(&mut acceptor, &hello).expect("a good Hello is welcome");
    let (to_welcome, to_ready) = halves(input);
    let welcome_changed = apply(to_welcome, &mut welcome);
    let proof = match feed(&mut dialer, &welcome) {
        Ok(DialStep::Send(proof)) => proof,
        // A changed kind makes a shorter or longer body.
        Ok(DialStep::More) | Err(_) => return assert!(welcome_changed),
        Ok(DialStep::Done(_)) => panic!("established at a Welcome"),
    };
    let Some(mut ready) = acceptor_says(&mut acceptor, &proof) else {
        return assert!(welcome_changed, "a good proof was refused");
    };
    assert!(!welcome_changed, "a proof over a changed Welcome was taken");
    let changed = apply(to_ready, &mut ready);
    let done = matches!(feed(&mut dialer, &ready), Ok(DialStep::Done(_)));
    assert_eq!(done, !changed, "established exactly if nothing was changed");
});
