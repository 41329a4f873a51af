//! Sockets: they move bytes and decide nothing.

pub mod dialer;
pub mod discovery;
pub mod inbox;
pub mod link;
pub mod listener;
#[cfg(test)]
mod tests;

use crate::control::links::{JobEvent, JobId};

/// How long a peer may leave written bytes unacknowledged, or its window shut, before the system
/// gives the connection up. A stopped process that comes back sooner keeps its links.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a connection's task tells: which, what happened, and the connection once it is open.
pub type Told = (JobId, JobEvent, Option<std::net::TcpStream>);

/// How a connection's task tells what happens to it.
pub struct Teller {
    /// Which connection.
    pub job: JobId,
    /// To whom.
    pub to: tokio::sync::mpsc::Sender<Told>,
}

impl Teller {
    /// Tells it, and waits while too much is waiting already.
    pub async fn tell(&self, event: JobEvent, stream: Option<std::net::TcpStream>) {
        // Nobody listens any more when the node ends.
        let _ = self.to.send((self.job, event, stream)).await;
    }
}

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
