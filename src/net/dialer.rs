//! Opens connections to other nodes' workers: connect, handshake, hand over.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Teller, prepare, random_nonce};
use crate::control::links::JobEvent;
use crate::wire::handshake::{DialParams, DialStep, Dialer, Established, HandshakeError};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing listens there: the strongest evidence that the process is gone.
    #[error("connecting to {address} was refused: no process listens there")]
    Refused {
        /// Where.
        address: SocketAddr,
    },
    /// The connection could not be made or broke during the handshake.
    #[error("connecting to {address} failed: {source}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The peer did not accept the handshake, or this side not the peer's.
    #[error("the handshake with {address} failed: {source}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: HandshakeError,
    },
}

/// Connects and shakes hands; says in between that it is connected.
///
/// # Errors
/// A [`DialError`] names the step that failed.
pub async fn dial(
    address: SocketAddr,
    params: DialParams,
    teller: &Teller,
) -> Result<(std::net::TcpStream, Established), DialError> {
    let io = |source| DialError::Io { address, source };
    let mut stream = connect(address).await?;
    teller.tell(JobEvent::Connected, None).await;
    let (mut dialer, hello) = Dialer::new(params, random_nonce());
    stream.write_all(&hello).await.map_err(io)?;
    loop {
        // Exactly what the handshake expects: frames that follow belong to the worker.
        let mut bytes = vec![0; dialer.expects()];
        stream.read_exact(&mut bytes).await.map_err(io)?;
        let step =
            dialer.receive(&bytes).map_err(|source| DialError::Handshake { address, source })?;
        match step {
            DialStep::More => {}
            DialStep::Send(answer) => stream.write_all(&answer).await.map_err(io)?,
            DialStep::Done(established) => {
                let stream = stream.into_std().map_err(io)?;
                return Ok((stream, established));
            }
        }
    }
}

/// Connects only.
///
/// # Errors
/// As [`dial`].
pub async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    match TcpStream::connect(address).await {
        Ok(stream) => {
            prepare(&stream).map_err(|source| DialError::Io { address, source })?;
            Ok(stream)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(DialError::Refused { address })
        }
        Err(source) => Err(DialError::Io { address, source }),
    }
}
