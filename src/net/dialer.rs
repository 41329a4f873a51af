//! Opens connections to other nodes' workers: connect, handshake, hand over.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{prepare, random_nonce};
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
    /// No answer within `links.handshake_timeout_ms`.
    #[error("{address} did not complete the handshake within {timeout:?}")]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// How long it was waited for.
        timeout: Duration,
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

/// Connects and shakes hands.
///
/// # Errors
/// A [`DialError`] names the step that failed.
pub async fn dial(
    address: SocketAddr,
    params: DialParams,
    limit: Duration,
) -> Result<(std::net::TcpStream, Established), DialError> {
    match timeout(limit, connect_and_shake(address, params)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::TimedOut { address, timeout: limit }),
    }
}

async fn connect_and_shake(
    address: SocketAddr,
    params: DialParams,
) -> Result<(std::net::TcpStream, Established), DialError> {
    let io = |source| DialError::Io { address, source };
    let mut stream = connect(address).await?;
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

/// Pauses between the looks of a [`probe`]. A process that is being killed closes its links before
/// its listener, so the first look may still find it; the last comes when the kernel has long
/// cleaned up.
const PROBE_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
];

/// Connects only, a few times in a row, to see whether a process listens there and goes on to.
///
/// # Errors
/// As [`dial`].
pub async fn probe(address: SocketAddr, limit: Duration) -> Result<(), DialError> {
    for pause in PROBE_PAUSES {
        tokio::time::sleep(pause).await;
        match timeout(limit, connect(address)).await {
            Ok(outcome) => drop(outcome?),
            Err(_) => return Err(DialError::TimedOut { address, timeout: limit }),
        }
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
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
