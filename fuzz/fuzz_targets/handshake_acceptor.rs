//! An accepting node hears whatever comes. It must not panic, must bound what it reads, and must
//! establish exactly if the dialer's bytes reached it unchanged.

#![no_main]

use keyway::wire::handshake::{
    AcceptStep, Acceptor, DialStep, Dialer, HandshakeError, MAX_MESSAGE_LEN,
};
use keyway_fuzz::{Scene, apply, fresh_for, halves};
use libfuzzer_sys::fuzz_target;

/// Feeds all of `bytes` as a driver would; gives the last step.
fn feed(acceptor: &mut Acceptor, mut bytes: &[u8]) -> AcceptStep {
    let mut step = AcceptStep::More;
    while !bytes.is_empty() && acceptor.expects() > 0 {
        assert!(acceptor.expects() <= MAX_MESSAGE_LEN);
        let now =
            bytes.split_off(..acceptor.expects().min(bytes.len())).expect("no more than is there");
        step = acceptor.receive(now);
        if let AcceptStep::Refuse { send, error } = &step {
            assert_eq!(send.len(), 40);
            assert!(!error.to_string().is_empty());
            assert_eq!(acceptor.expects(), 0);
        }
    }
    step
}

fuzz_target!(|input: &[u8]| {
    let Some((&scene, input)) = input.split_first() else { return };
    let scene = Scene(scene);
    let params = scene.accept_params();
    let turns_away = params.turn_away.is_some();
    let mut acceptor = Acceptor::new(params, fresh_for(input));
    if !scene.damages_good_bytes() {
        let last = feed(&mut acceptor, input);
        assert!(!matches!(last, AcceptStep::Done { .. }), "established without a dialer");
        return;
    }
    let (mut dialer, mut hello) = Dialer::new(scene.dial_params(), [0xd1; 32]);
    let (to_hello, to_proof) = halves(input);
    let hello_changed = apply(to_hello, &mut hello);
    let welcome = match feed(&mut acceptor, &hello) {
        AcceptStep::Send(welcome) => welcome,
        AcceptStep::Refuse { error, .. } => {
            assert!(hello_changed || turns_away && error == HandshakeError::Busy, "{error}");
            return;
        }
        // A changed length makes it wait for more.
        AcceptStep::More => return assert!(hello_changed),
        AcceptStep::Done { .. } => panic!("established at a Hello"),
    };
    let (prefix, body) = welcome.split_at(dialer.expects());
    assert_eq!(dialer.receive(prefix), Ok(DialStep::More));
    let mut proof = match dialer.receive(body) {
        Ok(DialStep::Send(proof)) => proof,
        other => panic!("an unchanged Welcome gave {other:?}"),
    };
    let changed = apply(to_proof, &mut proof) | hello_changed;
    let done = matches!(feed(&mut acceptor, &proof), AcceptStep::Done { .. });
    assert_eq!(done, !changed, "established exactly if nothing was changed");
});
