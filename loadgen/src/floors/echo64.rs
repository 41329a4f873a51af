//! F7: the echo of F1 with 64 frames in flight; what counts is its cost in CPU time.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::FloorPlan;
use super::echo::{self, Waiting};
use super::pair::Pair;
use super::peer::{PeerCommand, Task};
use crate::error::{Attempt, Failure, Result};
use crate::machine::{Window, WindowReport};

/// Frames on their way at any time.
pub const IN_FLIGHT: usize = 64;

/// One measurement of F7.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Echo64Floor {
    /// Echoed frames.
    pub requests: u64,
    /// Per second of wall time.
    pub per_s: f64,
    /// Per CPU-second of both processes.
    pub per_cpu_s: f64,
    /// The driving end, then the serving end.
    pub window: WindowReport,
}

/// Measures F7; both ends block in epoll.
pub fn run(plan: &FloorPlan) -> Result<Echo64Floor> {
    let pair = Pair::connect(plan)?;
    let task = pair.task();
    pair.run(&PeerCommand::EchoServe { waiting: Waiting::Blocking }, &PeerCommand::Echo64 { task })
}

/// The driving end.
pub(super) fn drive(stream: TcpStream, task: &Task) -> Result<Echo64Floor> {
    let mut requests = 0;
    let mut window: Option<Window> = None;
    let warm_up_ends = Instant::now() + task.warm_up;
    let mut ends = warm_up_ends;
    let mut report = None;
    echo::drive(stream, Waiting::Blocking, task.frame_bytes, IN_FLIGHT, |frames| {
        // Once per read, which carries many frames.
        let now = Instant::now();
        if window.is_some() {
            requests += frames;
            if now >= ends {
                let window = window.take().ok_or(io::ErrorKind::Other)?;
                report = Some(window.close().map_err(io::Error::other)?);
                return Ok(false);
            }
        } else if now >= warm_up_ends {
            let opened =
                Window::open(&[std::process::id(), task.peer_pid]).map_err(io::Error::other)?;
            ends = opened.opened() + task.duration;
            window = Some(opened);
        }
        Ok(true)
    })
    .attempting("measure 64 echoes in flight")?;
    let window =
        report.ok_or_else(|| Failure::new("measure 64 echoes in flight", "no time passed"))?;
    Ok(Echo64Floor {
        requests,
        per_s: window.per_second(requests),
        per_cpu_s: window.per_cpu_second(requests),
        window,
    })
}
