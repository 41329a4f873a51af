//! Sockets: they move bytes and decide nothing.

pub mod dialer;
pub mod discovery;
pub mod inbox;
pub mod link;
pub mod listener;
#[cfg(test)]
mod tests;

/// How long a peer may leave written bytes unacknowledged, or its window shut, before the system
/// gives the connection up. A stopped process that comes back sooner keeps its links.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Sets a fresh connection up: small writes leave at once, and a vanished peer is noticed.
fn prepare(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(SILENCE))
}

/// Bytes that nobody can foresee, from the operating system.
fn random_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    // The system's generator cannot fail once the machine has booted; a node without it could not
    // prove anything to anybody.
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
