//! A datagram from anyone. It must open exactly if it is what a node of the cluster sealed.

#![no_main]

use keyway::wire::datagram::{Opened, open, seal};
use keyway_fuzz::{A, Scene, apply, halves};
use libfuzzer_sys::fuzz_target;

const PART: u8 = 7;

fuzz_target!(|input: &[u8]| {
    let Some((&scene, input)) = input.split_first() else { return };
    let scene = Scene(scene);
    let key = scene.fresh_key(input);
    if !scene.damages_good_bytes() {
        assert!(open(&key, input).is_err(), "opened what nobody sealed");
        return;
    }
    let (damage, payload) = halves(input);
    let mut datagram = Vec::new();
    if let Err(error) = seal(&key, A, PART, payload, &mut datagram) {
        return assert!(datagram.is_empty(), "{error}");
    }
    let changed = apply(damage, &mut datagram);
    match open(&key, &datagram) {
        Ok(opened) => {
            assert!(!changed, "opened a changed datagram");
            assert_eq!(opened, Opened { sender: A, part: PART, payload });
        }
        Err(error) => assert!(changed, "{error}"),
    }
});
