//! Moves the bytes of a channel between two nodes' controls: what is read and written when, and how
//! much of it, `control/links/carry` decides.

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Tried;
use crate::control::links::carry::Carry;
use crate::control::links::shake::Step;
use crate::control::links::{Failure, JobEvent, JobId};

/// What a task tells: which connection, what happened, and the connection itself once it is open.
pub type Told = (JobId, JobEvent, Option<std::net::TcpStream>);

/// Tells what comes, and writes what is given, until the peer closes or control drops it. Gives the
/// last event.
pub async fn carry(
    stream: std::net::TcpStream,
    mut writes: mpsc::UnboundedReceiver<Vec<u8>>,
    job: JobId,
    tell: &mpsc::Sender<Told>,
) -> JobEvent {
    let broken = |why: String| JobEvent::Failed(Failure::Broken, why);
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return broken(error.to_string()),
    };
    let mut carry = Carry::default();
    loop {
        loop {
            match writes.try_recv() {
                Ok(bytes) => carry.add(&bytes),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return broken("it is dropped".to_owned()),
            }
        }
        let ready = match carry.step(&mut Tried(&stream)) {
            Step::Tell(event) if event.is_last() => return event,
            Step::Tell(event) => {
                // Nobody listens any more when the node ends.
                let _ = tell.send((job, event, None)).await;
                Ok(())
            }
            Step::Write => stream.writable().await,
            Step::Read => tokio::select! {
                // What was dropped is found by the next look.
                more = writes.recv() => {
                    more.into_iter().for_each(|bytes| carry.add(&bytes));
                    Ok(())
                }
                ready = stream.readable() => ready,
            },
        };
        if let Err(error) = ready {
            return broken(error.to_string());
        }
    }
}
