//! One end of a floor that runs in two processes: what the hidden `floor-peer` command does.
//!
//! An end is first given its connection (`Listen` and `Accept`, or `Connect`) and then one
//! task. The driving end measures: it watches the other's CPU clock too, so that the serving
//! end has neither clock nor counter in its loop.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::echo::{self, Waiting};
use super::{echo_rtt, echo64, stream};
use crate::error::{Attempt, Failure, Result};
use crate::process;

/// What an end can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeerCommand {
    /// Bind a loopback port and answer its number.
    Listen,
    /// Connect to the other end.
    Connect { port: u16 },
    /// Take the connection that the other end has opened.
    Accept,
    /// Send back what comes, until the other end closes.
    EchoServe { waiting: Waiting },
    /// F1: measure round trips.
    EchoRtt { waiting: Waiting, task: Task },
    /// F7: measure cost with 64 in flight.
    Echo64 { task: Task },
    /// Write frames until the other end closes.
    StreamSend { frame_bytes: usize },
    /// F2: read frames.
    StreamReadFrames { task: Task },
    /// F6: read bytes.
    StreamReadBytes { task: Task },
}

/// What a driving end needs to know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) frame_bytes: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// The serving end, whose CPU time counts too.
    pub(super) peer_pid: u32,
}

/// Answers the commands of the parent until it closes the channel.
pub fn serve() -> Result<()> {
    let mut peer = Peer::default();
    process::serve(|command| peer.handle(command)).attempting("serve as one end of a floor")
}

#[derive(Default)]
struct Peer {
    listener: Option<TcpListener>,
    stream: Option<TcpStream>,
}

impl Peer {
    fn handle(&mut self, command: PeerCommand) -> Result<serde_json::Value> {
        match command {
            PeerCommand::Listen => {
                let attempt = "listen on a loopback port";
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).attempting(attempt)?;
                let port = listener.local_addr().attempting(attempt)?.port();
                self.listener = Some(listener);
                answer(&port)
            }
            PeerCommand::Connect { port } => {
                let attempt = format!("connect to port {port}");
                let stream =
                    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).attempting(&attempt)?;
                self.keep(stream, &attempt)
            }
            PeerCommand::Accept => {
                let attempt = "accept the connection";
                let listener =
                    self.listener.take().ok_or_else(|| Failure::new(attempt, "not listening"))?;
                let (stream, _) = listener.accept().attempting(attempt)?;
                self.keep(stream, attempt)
            }
            PeerCommand::EchoServe { waiting } => {
                answer(&echo::serve(self.take()?, waiting).attempting("serve echoes")?)
            }
            PeerCommand::EchoRtt { waiting, task } => {
                answer(&echo_rtt::drive(self.take()?, waiting, &task)?)
            }
            PeerCommand::Echo64 { task } => answer(&echo64::drive(self.take()?, &task)?),
            PeerCommand::StreamSend { frame_bytes } => {
                answer(&stream::send(self.take()?, frame_bytes).attempting("send frames")?)
            }
            PeerCommand::StreamReadFrames { task } => {
                answer(&stream::read_frames(self.take()?, &task)?)
            }
            PeerCommand::StreamReadBytes { task } => {
                answer(&stream::read_bytes(self.take()?, &task)?)
            }
        }
    }

    fn keep(&mut self, stream: TcpStream, attempt: &str) -> Result<serde_json::Value> {
        stream.set_nodelay(true).attempting(attempt)?;
        self.stream = Some(stream);
        answer(&())
    }

    fn take(&mut self) -> Result<TcpStream> {
        self.stream.take().ok_or_else(|| Failure::new("begin a floor", "there is no connection"))
    }
}

fn answer(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).attempting("write the answer")
}

/// Whether an error only says that the other end has closed.
pub(super) fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_without_a_connection_are_refused() {
        let failure = Peer::default()
            .handle(PeerCommand::EchoServe { waiting: Waiting::Blocking })
            .expect_err("nothing to serve");
        assert!(failure.to_string().contains("no connection"), "{failure}");
        let failure = Peer::default().handle(PeerCommand::Accept).expect_err("nothing to accept");
        assert!(failure.to_string().contains("not listening"), "{failure}");
    }

    #[test]
    fn two_ends_find_each_other() {
        let (mut serving, mut driving) = (Peer::default(), Peer::default());
        let port = serving.handle(PeerCommand::Listen).expect("listens");
        let port = serde_json::from_value(port).expect("a port");
        driving.handle(PeerCommand::Connect { port }).expect("connects");
        serving.handle(PeerCommand::Accept).expect("accepts");
        assert!(driving.take().expect("connected").nodelay().expect("reads"));
        assert!(serving.take().expect("connected").nodelay().expect("reads"));
    }
}
