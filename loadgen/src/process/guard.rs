//! Sees to it that no child outlives this program.
//!
//! Three nets, from the fine one to the coarse one: `Drop` of `Spawned`; a signal handler
//! that kills every registered group; and the parent-death signal, which the kernel sends
//! when *the thread* that started a child ends. Therefore all children are started by one
//! thread that lives as long as the program.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Process groups to kill; a group leaves before its leader's id can be used again.
static LIVE: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Locks the list of live groups, also after a panic elsewhere.
pub(super) fn live() -> MutexGuard<'static, Vec<Pid>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be undone at the end, also when this program is interrupted.
type Undo = Box<dyn FnOnce() + Send>;

static CLEANUPS: Mutex<(u64, BTreeMap<u64, Undo>)> = Mutex::new((0, BTreeMap::new()));

/// Undoes something exactly once: when it is dropped, also by a panic, or when this program is
/// interrupted.
#[derive(Debug)]
#[must_use = "dropping it undoes at once"]
pub struct Cleanup(u64);

impl Cleanup {
    /// Registers what is to be undone.
    pub fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        handle_signals();
        let mut cleanups = cleanups();
        cleanups.0 += 1;
        let number = cleanups.0;
        cleanups.1.insert(number, Box::new(undo));
        Self(number)
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let undo = cleanups().1.remove(&self.0);
        if let Some(undo) = undo {
            undo();
        }
    }
}

fn cleanups() -> MutexGuard<'static, (u64, BTreeMap<u64, Undo>)> {
    CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exit code of a program that was interrupted, as shells use it.
const INTERRUPTED: i32 = 130;

struct Job {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

/// Starts `command` from the long-lived thread and registers its process group.
///
/// The command must put the child into a process group of its own.
pub(super) fn start(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        handle_signals();
        let (jobs, inbox) = channel::<Job>();
        std::thread::Builder::new()
            .name("process-starter".to_owned())
            .spawn(move || {
                while let Ok(mut job) = inbox.recv() {
                    let started = job.command.spawn();
                    if let Ok(child) = &started {
                        live().push(group_of(child));
                    }
                    // The caller waits for this answer, so that it cannot be gone.
                    let _ = job.reply.send(started);
                }
            })
            .expect("a thread at the start of the program");
        Mutex::new(jobs)
    });
    let (reply, answer) = channel();
    let job = Job { command, reply };
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    starter.lock().unwrap_or_else(PoisonError::into_inner).send(job).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?
}

/// The group that `child` leads.
pub(super) fn group_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).expect("a process id is not zero")
}

fn handle_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(install_handler);
}

fn install_handler() {
    let installed = ctrlc::set_handler(|| {
        for group in live().drain(..) {
            // A group that is already gone is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Newest first: what was made last may lie within what was made before.
        let undo = std::mem::take(&mut cleanups().1);
        undo.into_values().rev().for_each(|undo| undo());
        eprintln!("interrupted: helper processes were ended, nothing was written");
        std::process::exit(INTERRUPTED);
    });
    if let Err(cause) = installed {
        // Somebody else handles signals; the parent-death signal still ends the children.
        eprintln!("warning: could not handle interrupts: {cause}");
    }
}
