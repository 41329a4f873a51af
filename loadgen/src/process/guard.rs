//! Sees to it that no child outlives this program.
//!
//! Three nets, from the fine one to the coarse one: `Drop` of `Spawned`; a signal handler
//! that kills every registered group; and the parent-death signal, which the kernel sends
//! when *the thread* that started a child ends. Therefore all children are started by one
//! thread that lives as long as the program.

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
    let installed = ctrlc::set_handler(|| {
        for group in live().drain(..) {
            // A group that is already gone is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
        eprintln!("interrupted: helper processes were ended, nothing was written");
        std::process::exit(INTERRUPTED);
    });
    if let Err(cause) = installed {
        // Somebody else handles signals; the parent-death signal still ends the children.
        eprintln!("warning: could not handle interrupts: {cause}");
    }
}
