//! Sockets: they move bytes and decide nothing.

pub mod channel;
pub mod discovery;
mod flow;
pub mod inbox;
pub mod link;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// When a connection on which nothing is under way is asked whether its other end is still there,
/// and how often again: someone may be waiting for nothing but a reply. Where something is under
/// way, `worker/turn/flow` decides.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Sets a fresh connection up: small writes leave at once, and a vanished peer is noticed.
///
/// # Errors
/// When the system refuses one of the options.
pub fn prepare(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_retries(2))
}

/// Bytes that nobody can foresee, from the operating system.
pub fn random_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    // The system's generator cannot fail once the machine has booted; a node without it could not
    // prove anything to anybody.
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
