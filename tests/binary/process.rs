//! Runs the real binary. Whatever was started is killed when its owner goes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// No wait is longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A `keyway` process.
pub struct Process {
    pub child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts it with these arguments and nothing else in its environment.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_logging_to(Stdio::piped(), arguments, environment)
    }

    /// Starts a process whose stderr goes elsewhere.
    pub fn start_logging_to(
        stderr: Stdio,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.args(arguments);
        Self::spawn(command, stderr, environment)
    }

    /// Starts it with so many descriptors at most.
    pub fn start_limited(descriptors: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_keyway")]).args(arguments);
        Self::spawn(command, Stdio::piped(), &[])
    }

    fn spawn(mut command: Command, stderr: Stdio, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut readers = vec![collect(child.stdout.take().unwrap(), &stdout)];
        readers.extend(child.stderr.take().map(|from| collect(from, &stderr)));
        Self { child, stdout, stderr, readers }
    }

    /// Starts a small node on free ports.
    pub fn node(name: &str, arguments: &[&str]) -> Self {
        Self::start(&node_arguments(name, arguments), &[])
    }

    /// What it has said so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// What it has logged and complained of so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended; then all it said is there. Minus the signal if one ended it.
    pub fn exit_code(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return status.code().unwrap_or_else(|| -status.signal().unwrap());
            }
            assert!(Instant::now() < deadline, "it goes on after {LIMIT:?}: {}", self.stderr());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of a small node on free ports.
pub fn node_arguments<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = ["node", "--name", name, "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let small = ["--workers", "1", "--set", "workers.spin_us=0"];
    [&usual[..], &small, more].concat()
}

fn collect(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            let mut into = into.lock().unwrap();
            into.push_str(&line);
            into.push('\n');
        }
    })
}

/// Runs a command to its end: exit code, stdout, stderr.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut process = Process::start(arguments, &[]);
    (process.exit_code(), process.stdout(), process.stderr())
}

/// Runs a command that must do what it is told.
pub fn keyway(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, 0, "keyway {arguments:?}: {stdout}{stderr}");
    stdout
}

/// A node that has said that it is ready.
pub struct ReadyNode {
    pub process: Process,
    pub name: String,
    pub address: String,
    pub admin: String,
}

impl ReadyNode {
    /// Starts a node as [`Process::node`] does and waits until it is ready.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::wait(name, Process::node(name, arguments))
    }

    /// Waits until a process says that it is ready.
    pub fn wait(name: &str, mut process: Process) -> Self {
        let deadline = Instant::now() + LIMIT;
        while !process.stdout().ends_with('\n') {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "node {name} ended: {}", process.stderr());
            assert!(Instant::now() < deadline, "{name} is not ready: {}", process.stderr());
            thread::sleep(Duration::from_millis(10));
        }
        let line = process.stdout();
        assert!(line.starts_with(&format!("ready: node `{name}` at ")), "{line}");
        let word_after = |word: &str| {
            let (_, rest) =
                line.split_once(word).unwrap_or_else(|| panic!("{word} is not in {line}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let (address, admin) = (word_after(" at "), word_after(" admin "));
        Self { process, name: name.to_owned(), address, admin }
    }

    /// Runs a command at this node.
    pub fn keyway(&self, arguments: &[&str]) -> String {
        keyway(&[arguments, &["--admin", &self.admin]].concat())
    }

    /// The same, and reads the JSON it prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.keyway(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}
