//! The command channel, our end: one JSON line there, one JSON line back.
//!
//! Both pipe ends are non-blocking and waited for with a deadline, so that a child that hangs
//! can never hang us. Calls are numbered: the answer to a call that timed out is recognised
//! and dropped when it comes after all.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// The longest line that is accepted; a full histogram takes about 1 MiB.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;
/// How long a child may take to read a command off its pipe.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a command or an answer goes into an error.
const EXCERPT_CHARS: usize = 120;

/// What we write.
#[derive(Serialize, Deserialize)]
pub(super) struct Request<C> {
    pub(super) id: u64,
    pub(super) command: C,
}

/// What the child writes.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer<A> {
    pub(super) id: u64,
    pub(super) outcome: Outcome<A>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome<A> {
    Ok(A),
    Error(String),
}

/// A call whose answer has not been fetched.
#[derive(Debug)]
#[must_use = "an answer that is not fetched is lost"]
pub struct Pending<A> {
    id: u64,
    command: String,
    answer: PhantomData<fn() -> A>,
}

/// What went wrong, before the child's name is known.
#[derive(Debug)]
pub(super) enum Trouble {
    TimedOut { command: String, after: Duration },
    Closed { command: String },
    Garbled { command: String, line: String, cause: String },
    Refused { command: String, reason: String },
    System { command: String, cause: io::Error },
}

#[derive(Debug)]
pub(super) struct Channel {
    input: ChildStdin,
    output: ChildStdout,
    next_id: u64,
    received: Vec<u8>,
    /// Bytes of `received` that are known to hold no line end.
    searched: usize,
}

impl Channel {
    pub(super) fn new(input: ChildStdin, output: ChildStdout) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&input, true)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Self { input, output, next_id: 1, received: Vec::new(), searched: 0 })
    }

    pub(super) fn start<A>(&mut self, command: &impl Serialize) -> Result<Pending<A>, Trouble> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Request { id, command }).map_err(|cause| {
            Trouble::System { command: "a command".to_owned(), cause: io::Error::other(cause) }
        })?;
        line.push(b'\n');
        let excerpt = serde_json::to_string(command).unwrap_or_default();
        let pending = Pending { id, command: shorten(&excerpt), answer: PhantomData };
        self.write(&line, &pending.command)?;
        Ok(pending)
    }

    fn write(&mut self, mut line: &[u8], command: &str) -> Result<(), Trouble> {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        while !line.is_empty() {
            match self.input.write(line) {
                Ok(written) => line = &line[written..],
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&self.input, PollFlags::OUT, deadline) {
                        return Err(Trouble::TimedOut {
                            command: command.to_owned(),
                            after: WRITE_TIMEOUT,
                        });
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Trouble::Closed { command: command.to_owned() });
                }
                Err(cause) => return Err(Trouble::System { command: command.to_owned(), cause }),
            }
        }
        Ok(())
    }

    pub(super) fn finish<A: DeserializeOwned>(
        &mut self,
        pending: Pending<A>,
        timeout: Duration,
    ) -> Result<A, Trouble> {
        let Pending { id, command, .. } = pending;
        let deadline = Instant::now() + timeout;
        loop {
            let line = self.read_line(&command, deadline, timeout)?;
            let garbled = |command: String, cause: String| Trouble::Garbled {
                command,
                line: shorten(&String::from_utf8_lossy(&line)),
                cause,
            };
            let answered = match serde_json::from_slice::<Answer<IgnoredAny>>(&line) {
                Ok(answer) => answer.id,
                Err(cause) => return Err(garbled(command, cause.to_string())),
            };
            if answered < id {
                continue;
            }
            if answered > id {
                let cause = format!("it answers call {answered}, not {id}");
                return Err(garbled(command, cause));
            }
            return match serde_json::from_slice::<Answer<A>>(&line) {
                Ok(Answer { outcome: Outcome::Ok(answer), .. }) => Ok(answer),
                Ok(Answer { outcome: Outcome::Error(reason), .. }) => {
                    Err(Trouble::Refused { command, reason })
                }
                Err(cause) => Err(garbled(command, cause.to_string())),
            };
        }
    }

    fn read_line(
        &mut self,
        command: &str,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(end) = self.received[self.searched..].iter().position(|byte| *byte == b'\n')
            {
                let end = self.searched + end;
                let mut line: Vec<u8> = self.received.drain(..=end).collect();
                line.pop();
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.received.len();
            if self.received.len() > MAX_LINE_BYTES {
                let line = shorten(&String::from_utf8_lossy(&self.received[..EXCERPT_CHARS]));
                let cause = format!("the line is longer than {MAX_LINE_BYTES} bytes");
                return Err(Trouble::Garbled { command: command.to_owned(), line, cause });
            }
            match self.output.read(&mut chunk) {
                Ok(0) => return Err(Trouble::Closed { command: command.to_owned() }),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&self.output, PollFlags::IN, deadline) {
                        return Err(Trouble::TimedOut {
                            command: command.to_owned(),
                            after: timeout,
                        });
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(Trouble::System { command: command.to_owned(), cause }),
            }
        }
    }
}

/// Waits until `pipe` is worth trying again; `false` when the deadline came first.
fn wait_for(pipe: &impl AsFd, flags: PollFlags, deadline: Instant) -> bool {
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
        // A duration that is too long for the kernel's type means: no limit.
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(pipe, flags)], left.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            // The read or write that follows will tell what is wrong.
            Err(_) => return true,
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
