//! Takes connections from other nodes' workers: accept, handshake, hand over.
//!
//! Nothing of a stranger's bytes is parsed or stored before its handshake. How long it may take,
//! and how many may be at it, is decided in `control/links`.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Teller, prepare, random_nonce};
use crate::control::links::JobEvent;
use crate::wire::handshake::{AcceptParams, AcceptStep, Acceptor, Established, HandshakeError};

/// Why a stranger was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection broke during the handshake.
    #[error("the connection broke during its handshake: {0}")]
    Io(#[from] io::Error),
    /// The handshake was refused.
    #[error("the handshake was refused: {0}")]
    Handshake(HandshakeError),
}

/// Shakes hands with a stranger, and tells on the way how far it has got.
///
/// # Errors
/// An [`AcceptError`] says why the connection was dropped.
pub async fn accept(
    mut stream: TcpStream,
    params: AcceptParams,
    teller: &Teller,
) -> Result<(std::net::TcpStream, Established), AcceptError> {
    prepare(&stream)?;
    stream.readable().await?;
    teller.tell(JobEvent::Began, None).await;
    let mut acceptor = Acceptor::new(params, random_nonce());
    loop {
        let mut bytes = vec![0; acceptor.expects()];
        stream.read_exact(&mut bytes).await?;
        match acceptor.receive(&bytes) {
            AcceptStep::More => {}
            AcceptStep::Send(answer) => {
                teller.tell(JobEvent::Asked, None).await;
                stream.write_all(&answer).await?;
            }
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
