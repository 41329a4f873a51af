//! Starting a child, and the handle that ends it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, Pending};
use super::{ProcessError, guard};
use crate::machine::core_set;

/// How often a child that should end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How much of a log goes into an error.
const LOG_TAIL_BYTES: usize = 600;

/// The program to run instead of this one; see [`use_program`].
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Makes [`SpawnPlan::helper`] run `program` from now on.
///
/// For tests, whose own executable is not the load generator. Only the first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = PROGRAM.set(program.into());
}

/// What to start and where.
#[derive(Debug, Clone)]
pub struct SpawnPlan {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    cores: Vec<usize>,
    log: Option<PathBuf>,
    channel: bool,
}

impl SpawnPlan {
    /// This very program with other arguments, as a child that answers commands.
    pub fn helper<S: Into<OsString>>(
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        // The link leads to the running program even when its file was replaced meanwhile.
        let program = PROGRAM.get().cloned().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        Self::program(name, program, arguments)
    }

    /// Any program, as a child that answers commands; see [`SpawnPlan::without_channel`].
    pub fn program<S: Into<OsString>>(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            cores: Vec::new(),
            log: None,
            channel: true,
        }
    }

    /// Binds all threads of the child to these cores from its first instruction on.
    pub fn on_cores(mut self, cores: &[usize]) -> Self {
        self.cores = cores.to_vec();
        self
    }

    /// Sends the child's standard error to a new file instead of ours.
    pub fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Sets one variable of the child's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// For programs that do not speak our lines: no standard input, and standard output goes
    /// where standard error goes.
    pub fn without_channel(mut self) -> Self {
        self.channel = false;
        self
    }

    /// Starts the child.
    pub fn spawn(self) -> Result<Spawned, ProcessError> {
        let not_started = |cause: String| ProcessError::NotStarted {
            name: self.name.clone(),
            program: self.program.display().to_string(),
            cause,
        };
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        match &self.log {
            Some(path) => {
                let create = |file: std::io::Result<File>| {
                    file.map_err(|cause| not_started(format!("log {}: {cause}", path.display())))
                };
                let log = create(File::create(path))?;
                if !self.channel {
                    command.stdout(create(log.try_clone())?);
                }
                command.stderr(log);
            }
            None if !self.channel => {
                command.stdout(Stdio::null());
            }
            None => {}
        }
        if self.channel {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        // A group of its own: a Ctrl-C of the terminal reaches only us, who then end the
        // children in order; and what a child starts can be ended with it.
        command.process_group(0);

        let pin = match &self.cores[..] {
            [] => None,
            cores => Some(core_set(cores).map_err(|failure| not_started(failure.to_string()))?),
        };
        let parent = rustix::process::getpid();
        let before_exec = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // Had we died before the line above, no signal would ever come.
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::Error::other("the parent has ended"));
            }
            if let Some(cores) = &pin {
                rustix::thread::sched_setaffinity(None, cores)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe work may run: the closure makes
        // plain system calls on values prepared beforehand; it takes no lock and allocates
        // only on the path where it gives up.
        unsafe {
            command.pre_exec(before_exec);
        }

        let mut child = guard::start(command).map_err(|cause| not_started(cause.to_string()))?;
        let channel = match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                Some(Channel::new(input, output).map_err(|cause| not_started(cause.to_string()))?)
            }
            _ => None,
        };
        Ok(Spawned { name: self.name, child, channel, log: self.log, ended: None })
    }
}

/// A running child; dropping it kills it and everything it started.
#[derive(Debug)]
pub struct Spawned {
    name: String,
    child: Child,
    channel: Option<Channel>,
    log: Option<PathBuf>,
    ended: Option<ExitStatus>,
}

impl Spawned {
    /// The child's name in this run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the child's standard error goes, if not to ours.
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// Tells the child `command` and waits for the answer.
    pub fn call<A: DeserializeOwned>(
        &mut self,
        command: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, ProcessError> {
        let pending = self.start(command)?;
        self.finish(pending, timeout)
    }

    /// Tells the child `command` without waiting, so that others can be told at the same time.
    ///
    /// One call is under way per child: a new one abandons the one before.
    pub fn start<A>(&mut self, command: &impl Serialize) -> Result<Pending<A>, ProcessError> {
        let outcome = match &mut self.channel {
            Some(channel) => channel.start(command),
            None => return Err(self.no_channel()),
        };
        outcome.map_err(|trouble| self.explain(trouble))
    }

    /// Waits for the answer to a started call.
    pub fn finish<A: DeserializeOwned>(
        &mut self,
        pending: Pending<A>,
        timeout: Duration,
    ) -> Result<A, ProcessError> {
        let outcome = match &mut self.channel {
            Some(channel) => channel.finish(pending, timeout),
            None => return Err(self.no_channel()),
        };
        outcome.map_err(|trouble| self.explain(trouble))
    }

    /// Sends a signal to the child alone, for example to pause it.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if self.poll_end().is_some() {
            return Err(self.system("signal", "it has ended"));
        }
        kill_process(guard::group_of(&self.child), signal)
            .map_err(|cause| self.system("signal", cause))
    }

    /// Kills the child as `kill -9` does, with everything it started, and waits for its end.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        // Under the lock, so that the signal handler cannot kill an id that is free again.
        let mut live = guard::live();
        let group = guard::group_of(&self.child);
        // Already gone is what we want.
        let _ = kill_process_group(group, Signal::KILL);
        let status = self.child.wait();
        live.retain(|other| *other != group);
        drop(live);
        let status = status.map_err(|cause| self.system("wait for", cause))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Closes the command channel, on which a helper ends by itself, and waits for that.
    ///
    /// A child that has not ended after `timeout` is killed, and that is an error.
    pub fn close(&mut self, timeout: Duration) -> Result<ExitStatus, ProcessError> {
        self.channel = None;
        self.wait(timeout)
    }

    /// Waits for the child to end by itself; kills it after `timeout`, which is an error.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.poll_end() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill()?;
                return Err(ProcessError::TimedOut {
                    name: self.name.clone(),
                    command: "the request to end".to_owned(),
                    after: timeout,
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether the child has ended, and how.
    pub fn poll_end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // Only look: while it is not reaped its id stays taken, so that what it may have
            // left behind in its group can be killed without hitting anybody else.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let child = WaitId::Pid(guard::group_of(&self.child));
            if let Ok(Some(_)) = waitid(child, look) {
                // A failure shows again at the next look.
                let _ = self.kill();
            }
        }
        self.ended
    }

    fn no_channel(&self) -> ProcessError {
        self.system("tell anything to", "it was started without a channel, or that is closed")
    }

    fn system(&self, attempted: &str, cause: impl ToString) -> ProcessError {
        ProcessError::System {
            name: self.name.clone(),
            attempted: attempted.to_owned(),
            cause: cause.to_string(),
        }
    }

    fn explain(&mut self, trouble: super::channel::Trouble) -> ProcessError {
        use super::channel::Trouble;
        let name = self.name.clone();
        match trouble {
            Trouble::TimedOut { command, after } => ProcessError::TimedOut { name, command, after },
            Trouble::Refused { command, reason } => ProcessError::Refused { name, command, reason },
            Trouble::Garbled { command, line, cause } => {
                ProcessError::Garbled { name, command, line, cause }
            }
            Trouble::System { command, cause } => ProcessError::System {
                name,
                attempted: format!("send {command} to"),
                cause: cause.to_string(),
            },
            Trouble::Closed { command } => {
                // It closed its output: it ends, or it is broken and shall end.
                let grace = Duration::from_millis(500);
                let status = match self.wait(grace) {
                    Ok(status) => status.to_string(),
                    Err(_) => "closed its output and was killed".to_owned(),
                };
                ProcessError::Ended { name, command, status, log_tail: self.log_tail() }
            }
        }
    }

    fn log_tail(&self) -> String {
        let Some(text) = self.log.as_ref().and_then(|path| std::fs::read(path).ok()) else {
            return String::new();
        };
        let tail = &text[text.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the other nets remain.
        let _ = self.kill();
    }
}
