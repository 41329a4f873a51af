//! Takes connections from other nodes' workers: accept, handshake, hand over.
//!
//! Nothing of a stranger's bytes is parsed or stored before its handshake, a stranger that says
//! nothing is dropped after a while, and no more than so many strangers are served at a time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{prepare, random_nonce};
use crate::wire::handshake::{AcceptParams, AcceptStep, Acceptor, Established, HandshakeError};

/// Why a stranger was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection broke during the handshake.
    #[error("the connection broke during its handshake: {0}")]
    Io(#[from] io::Error),
    /// The handshake was not completed in time.
    #[error("the handshake was not completed within {0:?}")]
    TimedOut(Duration),
    /// The handshake was refused.
    #[error("the handshake was refused: {0}")]
    Handshake(HandshakeError),
}

/// Shakes hands with a stranger.
///
/// # Errors
/// An [`AcceptError`] says why the connection was dropped.
pub async fn accept(
    stream: TcpStream,
    params: AcceptParams,
    limit: Duration,
) -> Result<(std::net::TcpStream, Established), AcceptError> {
    match timeout(limit, shake(stream, params)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(AcceptError::TimedOut(limit)),
    }
}

async fn shake(
    mut stream: TcpStream,
    params: AcceptParams,
) -> Result<(std::net::TcpStream, Established), AcceptError> {
    prepare(&stream)?;
    let mut acceptor = Acceptor::new(params, random_nonce());
    loop {
        let mut bytes = vec![0; acceptor.expects()];
        stream.read_exact(&mut bytes).await?;
        match acceptor.receive(&bytes) {
            AcceptStep::More => {}
            AcceptStep::Send(answer) => stream.write_all(&answer).await?,
            AcceptStep::Done { send, established } => {
                stream.write_all(&send).await?;
                return Ok((stream.into_std()?, established));
            }
            AcceptStep::Refuse { send, error } => {
                // The stranger may be gone already; it is refused either way.
                let _ = stream.write_all(&send).await;
                // Closed in this order, what it still sends does not reset the refusal away.
                let _ = stream.shutdown().await;
                return Err(AcceptError::Handshake(error));
            }
        }
    }
}
