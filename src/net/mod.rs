//! Sockets: they move bytes and decide nothing.

pub mod discovery;
pub mod inbox;
pub mod link;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// How long written bytes may stay unacknowledged, or a peer's window shut, before the system gives
/// the connection up: a flow that a firewall or a cut has swallowed is noticed by then. A worker
/// whose handler blocks for long is no dead flow, since its system acknowledges for it. But once so
/// much was sent that its window is shut, the system counts that time too, and has no option that
/// tells the two apart. So this is as long as a dead flow may go unnoticed, less a second for the
/// keepalive's grain and the new connection.
const SILENCE: Duration = Duration::from_secs(4);

/// When a silent connection is asked whether its other end is still there, and how often again:
/// someone may be waiting for nothing but a reply.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Sets a fresh connection up: small writes leave at once, and a vanished peer is noticed.
///
/// # Errors
/// When the system refuses one of the options.
pub fn prepare(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_retries(2))?;
    // It also ends what the keepalive has found silent.
    socket.set_tcp_user_timeout(Some(SILENCE))
}

/// Bytes that nobody can foresee, from the operating system.
pub fn random_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    // The system's generator cannot fail once the machine has booted; a node without it could not
    // prove anything to anybody.
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
