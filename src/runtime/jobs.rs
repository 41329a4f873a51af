//! Connections that control is not done with: each is a task that moves the bytes of its talk and
//! tells what happened. What is said is decided in `control/links/shake`, what is to happen next in
//! `control/links`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::control::links::shake::{Shake, Step};
use crate::control::links::{Failure, JobEvent, JobId};
use crate::net::channel::{self, Told};
use crate::net::{Tried, connect, prepare};

/// Events that may wait for control; the tasks wait behind them.
const EVENTS: usize = 1024;

/// The tasks.
pub struct Jobs {
    running: BTreeMap<JobId, AbortHandle>,
    open: BTreeMap<JobId, std::net::TcpStream>,
    /// What is to be written to connections that are kept.
    kept: BTreeMap<JobId, mpsc::UnboundedSender<Vec<u8>>>,
    tell: mpsc::Sender<Told>,
}

impl Jobs {
    /// No tasks, and where they will tell what happens.
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (tell, told) = mpsc::channel(EVENTS);
        (
            Self { running: BTreeMap::new(), open: BTreeMap::new(), kept: BTreeMap::new(), tell },
            told,
        )
    }

    /// Talks on a connection that has come in.
    pub fn accept(&mut self, job: JobId, stream: TcpStream, shake: Shake) {
        let tell = self.tell.clone();
        self.spawn(job, async move { talk(job, stream, shake, &tell).await });
    }

    /// Connects, and talks then.
    pub fn connect(
        &mut self,
        job: JobId,
        address: SocketAddr,
        segment_bytes: Option<u32>,
        shake: Shake,
    ) {
        let tell = self.tell.clone();
        self.spawn(job, async move {
            match connect(address, segment_bytes).await {
                Ok(stream) => talk(job, stream, shake, &tell).await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let why =
                        format!("connecting to {address} was refused: no process listens there");
                    (JobEvent::Failed(Failure::Refused, why), None)
                }
                Err(error) => {
                    let why = format!("connecting to {address} failed: {error}");
                    (JobEvent::Failed(Failure::Unmade, why), None)
                }
            }
        });
    }

    /// Moves the bytes of an open connection from now on, both ways.
    pub fn keep(&mut self, job: JobId) {
        let Some(stream) = self.open.remove(&job) else { return };
        let (write, writes) = mpsc::unbounded_channel();
        self.kept.insert(job, write);
        let tell = self.tell.clone();
        self.spawn(job, async move { (channel::carry(stream, writes, job, &tell).await, None) });
    }

    /// Writes to a connection that is kept. How much may wait is decided by whoever says so.
    pub fn write(&mut self, job: JobId, bytes: Vec<u8>) {
        if let Some(kept) = self.kept.get(&job) {
            // Its task has ended: that is being told.
            let _ = kept.send(bytes);
        }
    }

    fn spawn<F>(&mut self, job: JobId, task: F)
    where
        F: Future<Output = (JobEvent, Option<std::net::TcpStream>)> + Send + 'static,
    {
        let tell = self.tell.clone();
        let task = tokio::spawn(async move {
            let (last, stream) = task.await;
            // Nobody listens any more when the node ends.
            let _ = tell.send((job, last, stream)).await;
        });
        self.running.insert(job, task.abort_handle());
    }

    /// Keeps the connection that a task told of, until control has heard of it.
    pub fn note(&mut self, job: JobId, event: &JobEvent, stream: Option<std::net::TcpStream>) {
        if let Some(stream) = stream {
            self.open.insert(job, stream);
        }
        if event.is_last() {
            self.running.remove(&job);
            self.kept.remove(&job);
        }
    }

    /// Closes a connection that control heard of and gave to nobody.
    pub fn forget(&mut self, job: JobId) {
        self.open.remove(&job);
    }

    /// Gives an open connection away.
    pub fn take(&mut self, job: JobId) -> Option<std::net::TcpStream> {
        self.open.remove(&job)
    }

    /// Ends a task and closes its connection.
    pub fn abort(&mut self, job: JobId) {
        self.open.remove(&job);
        self.kept.remove(&job);
        if let Some(task) = self.running.remove(&job) {
            task.abort();
        }
    }
}

/// Tells all but the last of what happens; gives that, with the connection if it is still open.
async fn talk(
    job: JobId,
    stream: TcpStream,
    mut shake: Shake,
    tell: &mpsc::Sender<Told>,
) -> (JobEvent, Option<std::net::TcpStream>) {
    let broken = |error: io::Error| (JobEvent::Failed(Failure::Broken, error.to_string()), None);
    if let Err(error) = prepare(&stream) {
        return broken(error);
    }
    loop {
        let ready = match shake.step(&mut Tried(&stream)) {
            Step::Read => stream.readable().await,
            Step::Write => stream.writable().await,
            Step::Tell(event) if !event.is_last() => {
                let _ = tell.send((job, event, None)).await;
                Ok(())
            }
            Step::Tell(last @ JobEvent::Failed(..)) => return (last, None),
            Step::Tell(last) => match stream.into_std() {
                Ok(stream) => return (last, Some(stream)),
                Err(error) => return broken(error),
            },
        };
        if let Err(error) = ready {
            return broken(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Whoever is looked at closes before anybody has called the look off. It must not be tried
    /// without end: it runs on the thread that answers heartbeats.
    #[test]
    fn a_look_at_a_listener_that_closes_at_once_comes_to_an_end() {
        let (done, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let events = runtime.unwrap().block_on(async {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                thread::spawn(move || drop(listener.accept()));
                let (mut jobs, mut told) = Jobs::new();
                jobs.connect(JobId::default(), address, None, Shake::probe());
                [told.recv().await.unwrap().1, told.recv().await.unwrap().1]
            });
            done.send(events).unwrap();
        });
        let [first, last] = ended.recv_timeout(Duration::from_secs(20)).expect("it does not end");
        assert_eq!(first, JobEvent::Connected);
        assert!(last.is_last(), "{last:?}");
    }
}
