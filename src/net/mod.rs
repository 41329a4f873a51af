//! Sockets: they move bytes and decide nothing.

pub mod dialer;
pub mod inbox;
pub mod link;
pub mod listener;

/// Bytes that nobody can foresee, from the operating system.
fn random_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    // The system's generator cannot fail once the machine has booted; a node without it could not
    // prove anything to anybody.
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
