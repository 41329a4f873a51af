//! Moves the bytes of a channel between two nodes' controls.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::control::links::{JobEvent, JobId};

/// How much is read in one go, and so how much of one channel may wait for control.
const READ_BYTES: usize = 4 << 10;

/// Tells what comes, and writes what is given, until the peer closes. While it waits for the peer
/// to take something it reads nothing: whoever takes no acknowledgement gets no more of them.
///
/// # Errors
/// When the connection breaks.
pub async fn carry(
    stream: std::net::TcpStream,
    mut writes: mpsc::UnboundedReceiver<Vec<u8>>,
    job: JobId,
    tell: &mpsc::Sender<(JobId, JobEvent, Option<std::net::TcpStream>)>,
) -> io::Result<()> {
    let mut stream = TcpStream::from_std(stream)?;
    let mut buffer = [0; READ_BYTES];
    loop {
        tokio::select! {
            biased;
            bytes = writes.recv() => match bytes {
                Some(mut bytes) => {
                    while let Ok(more) = writes.try_recv() {
                        bytes.extend_from_slice(&more);
                    }
                    stream.write_all(&bytes).await?;
                }
                // Control has dropped it.
                None => return Ok(()),
            },
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                count => {
                    let event = JobEvent::Bytes(buffer[..count].to_vec());
                    // Nobody listens any more when the node ends.
                    let _ = tell.send((job, event, None)).await;
                }
            },
        }
    }
}
