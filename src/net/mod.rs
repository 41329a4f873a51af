//! Sockets: they move bytes and decide nothing.

pub mod channel;
pub mod discovery;
mod flow;
pub mod inbox;
pub mod link;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::control::links::shake::Wire;

/// When a connection on which nothing is under way is asked whether its other end is still there,
/// and how often again: someone may be waiting for nothing but a reply. Where something is under
/// way, `worker/turn/flow` decides.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Connects. If it is said how much a packet may carry, the peer is told so too; a system that cannot
/// do that sends as it does.
///
/// # Errors
/// When the connection cannot be made.
pub async fn connect(address: SocketAddr, segment_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(bytes) = segment_bytes {
        let _ = socket2::SockRef::from(&socket).set_tcp_mss(bytes);
    }
    socket.connect(address).await
}

/// Sets a fresh connection up: small writes leave at once, and a vanished peer is noticed.
///
/// # Errors
/// When the system refuses one of the options.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_retries(2))
}

/// A connection whose reads and writes are tried.
pub struct Tried<'a>(pub &'a TcpStream);

impl Wire for Tried<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn finish(&mut self) {
        // A connection that is gone needs no end.
        let _ = socket2::SockRef::from(self.0).shutdown(std::net::Shutdown::Write);
    }
}

/// Bytes that nobody can foresee, from the operating system.
pub fn random_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    // The system's generator cannot fail once the machine has booted; a node without it could not
    // prove anything to anybody.
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
