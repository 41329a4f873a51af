//! Connections that control is not done with: each is a task that moves a handshake's bytes and
//! tells what happened. What is to happen next is decided in `control/links`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::control::links::{Failure, JobEvent, JobId};
use crate::net::dialer::{self, DialError};
use crate::net::listener::{self, AcceptError};
use crate::net::{Teller, Told};
use crate::wire::handshake::{AcceptParams, DialParams};

/// Events that may wait for control; the tasks wait behind them.
const EVENTS: usize = 1024;

/// The tasks.
pub struct Jobs {
    running: BTreeMap<JobId, AbortHandle>,
    open: BTreeMap<JobId, std::net::TcpStream>,
    tell: mpsc::Sender<Told>,
}

impl Jobs {
    /// No tasks, and where they will tell what happens.
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (tell, told) = mpsc::channel(EVENTS);
        (Self { running: BTreeMap::new(), open: BTreeMap::new(), tell }, told)
    }

    /// Shakes hands with whoever has connected.
    pub fn accept(&mut self, job: JobId, stream: TcpStream, params: AcceptParams) {
        self.spawn(job, move |teller| async move {
            match listener::accept(stream, params, &teller).await {
                Ok((stream, established)) => {
                    teller.tell(JobEvent::Accepted(established), Some(stream)).await;
                }
                Err(error) => {
                    let why = error.to_string();
                    let how = match error {
                        AcceptError::Io(_) => Failure::Broken,
                        AcceptError::Handshake(error) => Failure::Handshake(error),
                    };
                    let event = JobEvent::Failed(how, why);
                    teller.tell(event, None).await;
                }
            }
        });
    }

    /// Connects and shakes hands.
    pub fn dial(&mut self, job: JobId, address: SocketAddr, params: DialParams) {
        self.spawn(job, move |teller| async move {
            match dialer::dial(address, params, &teller).await {
                Ok((stream, _)) => teller.tell(JobEvent::Dialed, Some(stream)).await,
                Err(error) => teller.tell(failed(error), None).await,
            }
        });
    }

    /// Connects only.
    pub fn probe(&mut self, job: JobId, address: SocketAddr) {
        self.spawn(job, move |teller| async move {
            let event = match dialer::connect(address).await {
                Ok(_) => JobEvent::Connected,
                Err(error) => failed(error),
            };
            teller.tell(event, None).await;
        });
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        job: JobId,
        task: impl FnOnce(Teller) -> F,
    ) {
        let task = task(Teller { job, to: self.tell.clone() });
        self.running.insert(job, tokio::spawn(task).abort_handle());
    }

    /// Keeps the connection that a task told of, until control has heard of it.
    pub fn note(&mut self, job: JobId, event: &JobEvent, stream: Option<std::net::TcpStream>) {
        if let Some(stream) = stream {
            self.open.insert(job, stream);
        }
        if matches!(event, JobEvent::Accepted(_) | JobEvent::Dialed | JobEvent::Failed(..)) {
            self.running.remove(&job);
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
        if let Some(task) = self.running.remove(&job) {
            task.abort();
        }
    }
}

fn failed(error: DialError) -> JobEvent {
    let why = error.to_string();
    let how = match error {
        DialError::Refused { .. } => Failure::Refused,
        DialError::Io { .. } => Failure::Broken,
        DialError::Handshake { source, .. } => Failure::Handshake(source),
    };
    JobEvent::Failed(how, why)
}
